//! What is wrong with a bundle: every fault with its file, line and column, and what to write instead.
//!
//! Must never hold anything but bundle text (a bundle has no card data), and never stop at the first fault.
//! Tests: here, and `crates/policy/tests/bundle/faults.rs`.

use std::fmt;
use std::ops::Range;

/// One thing wrong with a bundle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// File name relative to the bundle.
    pub file: String,
    /// Line, from 1; 0 when the fault is about the whole file.
    pub line: usize,
    /// Column in characters, from 1; 0 when the fault is about the whole file.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        match &self.help {
            Some(help) => write!(f, " (help: {help})"),
            None => Ok(()),
        }
    }
}

/// Everything wrong with a bundle, in file order; never empty when it is returned as an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// The faults, by file, line and column.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True while nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes a fault at a place in a source.
    pub(crate) fn at(
        &mut self,
        source: &Source<'_>,
        span: &Range<usize>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        let (line, column) = source.position(span.start);
        let file = source.file.to_owned();
        self.0.push(Fault { file, line, column, message: message.into(), help });
    }

    /// Notes a fault of a whole file.
    pub(crate) fn of_file(&mut self, file: &str, message: impl Into<String>, help: Option<String>) {
        let file = file.to_owned();
        self.0.push(Fault { file, line: 0, column: 0, message: message.into(), help });
    }

    /// Notes a fault that has its place already.
    pub(crate) fn push(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// `value` when nothing was found, all faults in order otherwise.
    pub(crate) fn into_result<T>(mut self, value: Option<T>) -> Result<T, Self> {
        self.0.sort();
        self.0.dedup();
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            Some(_) => Err(self),
            None => {
                if self.0.is_empty() {
                    self.of_file(".", "the bundle could not be read", None);
                }
                Err(self)
            }
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// A file of the bundle, and where its lines begin.
#[derive(Debug)]
pub(crate) struct Source<'t> {
    /// Name relative to the bundle.
    pub(crate) file: &'t str,
    /// What it says.
    pub(crate) text: &'t str,
}

impl Source<'_> {
    /// Line and column (in characters, both from 1) of a byte offset; an offset past the end is the end.
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        let before = self.text.get(..end).unwrap_or_default();
        let line = before.bytes().filter(|byte| *byte == b'\n').count().saturating_add(1);
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count().saturating_add(1);
        (line, column)
    }
}

/// The candidate most like `wanted`, phrased as a suggestion, when one is near enough to be a slip.
pub(crate) fn nearest<'c>(wanted: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    closest(wanted, candidates).map(|name| format!("did you mean \"{name}\"?"))
}

/// The suggestion, or the list of what exists when nothing is near.
pub(crate) fn nearest_or_all<'c>(
    wanted: &str,
    candidates: impl IntoIterator<Item = &'c str>,
    what: &str,
) -> Option<String> {
    let all: Vec<&str> = candidates.into_iter().collect();
    if let Some(help) = nearest(wanted, all.iter().copied()) {
        return Some(help);
    }
    if all.is_empty() {
        return Some(format!("no {what} is declared"));
    }
    let listed = all.iter().take(MAX_LISTED).map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let more = if all.len() > MAX_LISTED { ", ..." } else { "" };
    Some(format!("known: {listed}{more}"))
}

fn closest<'c>(wanted: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // A third of the length may differ: "procesor" finds "processor", "billing" does not find "signup".
    let allowed = wanted.chars().count().div_ceil(3);
    candidates
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(wanted, name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name)
}

/// Names shown when no candidate is near.
const MAX_LISTED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_not_bytes() {
        let source = Source { file: "a.toml", text: "one\n\u{e9}\u{e9}x = 1\n" };
        let x = source.text.find('x').unwrap();
        assert_eq!(source.position(x), (2, 3));
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(usize::MAX), (3, 1));
        assert_eq!(source.position(5), (2, 1), "inside a character is its start");
    }

    #[test]
    fn a_slip_is_suggested_and_a_different_word_is_not() {
        assert_eq!(nearest("procesor", ["signup", "processor"]).unwrap(), "did you mean \"processor\"?");
        assert_eq!(nearest("billing", ["signup", "processor"]), None);
        assert_eq!(nearest_or_all("x", [], "segment").unwrap(), "no segment is declared");
        assert_eq!(nearest_or_all("billing", ["cde"], "segment").unwrap(), "known: \"cde\"");
    }

    #[test]
    fn faults_print_one_per_line_in_file_order_and_without_doubles() {
        let source = Source { file: "b.toml", text: "x\ny\n" };
        let mut faults = Faults::default();
        faults.at(&source, &(2..3), "second", None);
        faults.at(&source, &(0..1), "first", Some("do this".to_owned()));
        faults.at(&source, &(0..1), "first", Some("do this".to_owned()));
        let faults = faults.into_result(Some(())).unwrap_err();
        assert_eq!(faults.to_string(), "b.toml:1:1: first (help: do this)\nb.toml:2:1: second");
    }
}
