//! Reads the tables of a TOML file key by key, so that one pass finds every fault, each at its place.
//!
//! Must never ignore a key it was not asked about, and never stop at the first fault (serde would).
//! Tests: here, and `crates/policy/tests/bundle/faults.rs`.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::fault::{Faults, Source, nearest, nearest_or_all};

/// Parses a file; syntax errors become faults and leave no table.
pub(crate) fn document<'t>(source: &Source<'t>, faults: &mut Faults) -> Option<Spanned<DeTable<'t>>> {
    let (table, errors) = DeTable::parse_recoverable(source.text);
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        faults.at(source, &span, message, None);
    }
    errors.is_empty().then_some(table)
}

/// One table while it is read. Every key asked for is remembered; `finish` reports the others.
pub(crate) struct Row<'t, 's, 'f> {
    what: &'static str,
    span: Range<usize>,
    table: &'t DeTable<'t>,
    asked: BTreeSet<&'static str>,
    source: &'s Source<'s>,
    faults: &'f mut Faults,
}

impl<'t, 's, 'f> Row<'t, 's, 'f> {
    /// Starts reading the table of one `what`.
    pub(crate) fn new(
        what: &'static str,
        table: &'t DeTable<'t>,
        span: Range<usize>,
        source: &'s Source<'s>,
        faults: &'f mut Faults,
    ) -> Self {
        Self { what, span, table, asked: BTreeSet::new(), source, faults }
    }

    /// Where the table stands.
    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Notes a fault in this file.
    pub(crate) fn fault(&mut self, span: &Range<usize>, message: impl Into<String>, help: Option<String>) {
        self.faults.at(self.source, span, message, help);
    }

    fn get(&mut self, key: &'static str) -> Option<(Range<usize>, &'t DeValue<'t>)> {
        self.asked.insert(key);
        self.table.get(key).map(|value| (value.span(), value.get_ref()))
    }

    fn missing(&mut self, key: &'static str) {
        let (what, span) = (self.what, self.span.clone());
        self.fault(&span, format!("this {what} has no `{key}`"), required_reason(key));
    }

    fn wrong_type(&mut self, key: &str, span: &Range<usize>, wanted: &str, found: &DeValue<'_>) {
        self.fault(span, format!("`{key}` must be {wanted}, not {}", found.type_str()), None);
    }

    /// Text of a key that may be absent.
    pub(crate) fn optional(&mut self, key: &'static str) -> Option<Spanned<String>> {
        let (span, value) = self.get(key)?;
        let Some(text) = value.as_str() else {
            self.wrong_type(key, &span, "a string", value);
            return None;
        };
        if text.trim().is_empty() {
            self.fault(&span, format!("`{key}` is empty"), required_reason(key));
            return None;
        }
        Some(Spanned::new(span, text.to_owned()))
    }

    /// Text of a key that must be there.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<Spanned<String>> {
        if !self.table.contains_key(key) {
            self.asked.insert(key);
            self.missing(key);
            return None;
        }
        self.optional(key)
    }

    /// A key parsed by `read`, whose error is the fault's message and help.
    pub(crate) fn parsed<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, Mistake>,
    ) -> Option<Spanned<T>> {
        let text = self.text(key)?;
        self.apply(&text, read)
    }

    /// As `parsed`, for a key that may be absent: the outer option is `None` when it is there and wrong.
    pub(crate) fn parsed_or_absent<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, Mistake>,
    ) -> Option<Option<Spanned<T>>> {
        if !self.table.contains_key(key) {
            self.asked.insert(key);
            return Some(None);
        }
        let text = self.optional(key)?;
        self.apply(&text, read).map(Some)
    }

    fn apply<T>(
        &mut self,
        text: &Spanned<String>,
        read: impl FnOnce(&str) -> Result<T, Mistake>,
    ) -> Option<Spanned<T>> {
        match read(text.get_ref()) {
            Ok(value) => Some(Spanned::new(text.span(), value)),
            Err(mistake) => {
                self.fault(&text.span(), mistake.message, mistake.help);
                None
            }
        }
    }

    /// One of a fixed set of words.
    pub(crate) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<Spanned<T>> {
        self.parsed(key, |text| choose(key, text, words))
    }

    /// One of a fixed set of words, or `absent` when the key is not there.
    pub(crate) fn word_or<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
        absent: T,
    ) -> Option<T> {
        let found = self.parsed_or_absent(key, |text| choose(key, text, words))?;
        Some(found.map_or(absent, Spanned::into_inner))
    }

    /// A list of words; absent is empty. Wrong elements and doubles are faults, the right ones are returned.
    pub(crate) fn list<T: PartialEq>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, Mistake>,
    ) -> Vec<Spanned<T>> {
        let Some((span, value)) = self.get(key) else { return Vec::new() };
        let Some(array) = value.as_array() else {
            self.wrong_type(key, &span, "a list of strings", value);
            return Vec::new();
        };
        let mut found: Vec<Spanned<T>> = Vec::new();
        for element in array.iter() {
            let Some(text) = element.get_ref().as_str() else {
                self.wrong_type(key, &element.span(), "a list of strings", element.get_ref());
                continue;
            };
            let Some(value) = self.apply(&Spanned::new(element.span(), text.to_owned()), &read) else {
                continue;
            };
            if found.contains(&value) {
                self.fault(&element.span(), format!("\"{text}\" stands twice in `{key}`"), None);
            } else {
                found.push(value);
            }
        }
        found
    }

    /// As `list`, but absent or empty is a fault.
    pub(crate) fn list_of_some<T: PartialEq>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, Mistake>,
    ) -> Vec<Spanned<T>> {
        match self.get(key) {
            None => {
                self.missing(key);
                Vec::new()
            }
            Some((span, value)) => {
                if value.as_array().is_some_and(|array| array.is_empty()) {
                    self.fault(&span, format!("`{key}` is empty"), required_reason(key));
                }
                self.list(key, read)
            }
        }
    }

    /// True or false; absent is false.
    pub(crate) fn flag(&mut self, key: &'static str) -> bool {
        let Some((span, value)) = self.get(key) else { return false };
        value.as_bool().unwrap_or_else(|| {
            self.wrong_type(key, &span, "true or false", value);
            false
        })
    }

    /// A whole number from `least` to `most` that must be there.
    pub(crate) fn whole(&mut self, key: &'static str, least: usize, most: usize) -> Option<usize> {
        let Some((span, value)) = self.get(key) else {
            self.missing(key);
            return None;
        };
        let number = value
            .as_integer()
            .and_then(|integer| usize::from_str_radix(integer.as_str(), integer.radix()).ok())
            .filter(|number| (least..=most).contains(number));
        if number.is_none() {
            let help = format!("write {least} to {most}");
            self.fault(&span, format!("`{key}` must be a whole number in range"), Some(help));
        }
        number
    }

    /// A TCP port that must be there.
    pub(crate) fn port(&mut self, key: &'static str) -> Option<u16> {
        if self.table.get(key).is_none() {
            self.missing(key);
        }
        self.port_or_absent(key)
    }

    /// A TCP port that may be absent.
    pub(crate) fn port_or_absent(&mut self, key: &'static str) -> Option<u16> {
        let (span, value) = self.get(key)?;
        let port = value
            .as_integer()
            .and_then(|integer| u16::from_str_radix(integer.as_str(), integer.radix()).ok())
            .filter(|port| *port != 0);
        if port.is_none() {
            self.fault(&span, format!("`{key}` must be a port number"), Some("write 1 to 65535".to_owned()));
        }
        port
    }

    /// The tables of an array of tables; absent is empty.
    pub(crate) fn tables(&mut self, key: &'static str) -> Vec<(Range<usize>, &'t DeTable<'t>)> {
        let Some((span, value)) = self.get(key) else { return Vec::new() };
        let Some(array) = value.as_array() else {
            self.wrong_type(key, &span, &format!("an array of tables (`[[{key}]]`)"), value);
            return Vec::new();
        };
        let mut found = Vec::new();
        for element in array.iter() {
            match element.get_ref().as_table() {
                Some(table) => found.push((element.span(), table)),
                None => self.wrong_type(key, &element.span(), "a table", element.get_ref()),
            }
        }
        found
    }

    /// A table that may be absent.
    pub(crate) fn table(&mut self, key: &'static str) -> Option<(Range<usize>, &'t DeTable<'t>)> {
        let (span, value) = self.get(key)?;
        let table = value.as_table();
        if table.is_none() {
            self.wrong_type(key, &span, &format!("a table (`[{key}]`)"), value);
        }
        table.map(|table| (span, table))
    }

    /// A row of one of this row's tables.
    pub(crate) fn inner<'r>(
        &'r mut self,
        what: &'static str,
        span: Range<usize>,
        table: &'t DeTable<'t>,
    ) -> Row<'t, 's, 'r> {
        Row::new(what, table, span, self.source, self.faults)
    }

    /// Reports every key nobody asked about, and ends.
    pub(crate) fn finish(mut self) {
        self.close();
    }

    /// Reports every key nobody asked about; faults may still be added.
    pub(crate) fn close(&mut self) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if !self.asked.contains(name) {
                let help = nearest_or_all(name, self.asked.iter().copied(), "key");
                self.faults.at(
                    self.source,
                    &key.span(),
                    format!("unknown key `{name}` in this {}", self.what),
                    help,
                );
            }
        }
    }
}

/// What a value's reader says when the value is wrong.
#[derive(Debug)]
pub(crate) struct Mistake {
    /// What is wrong.
    pub(crate) message: String,
    /// What to write.
    pub(crate) help: Option<String>,
}

impl Mistake {
    /// A mistake and what to write instead.
    pub(crate) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: Some(help.into()) }
    }
}

/// The meaning of one of a fixed set of words.
pub(crate) fn choose<T: Copy>(key: &str, text: &str, words: &[(&str, T)]) -> Result<T, Mistake> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let names = || words.iter().map(|(word, _)| *word);
    let help = nearest(text, names())
        .unwrap_or_else(|| format!("write one of {}", names().collect::<Vec<_>>().join(", ")));
    Err(Mistake::new(format!("`{key}` cannot be \"{text}\""), help))
}

fn required_reason(key: &str) -> Option<String> {
    match key {
        "owner" => Some("PCI DSS 1.2.5: name who answers for it".to_owned()),
        "reason" | "on_leak_reason" => {
            Some("write down why it is needed, for whoever looks at it next".to_owned())
        }
        "approved_by" => Some("name who answers for it".to_owned()),
        "until" | "on_leak_until" => Some("write the last day it is needed, like 2027-03-31".to_owned()),
        "need" => Some("PCI DSS 1.2.5: write down the business need".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(text: &str, read: impl FnOnce(&mut Row<'_, '_, '_>)) -> String {
        let source = Source { file: "t.toml", text };
        let mut faults = Faults::default();
        if let Some(table) = document(&source, &mut faults) {
            let mut row = Row::new("thing", table.get_ref(), table.span(), &source, &mut faults);
            read(&mut row);
            row.finish();
        }
        faults.to_string()
    }

    #[test]
    fn a_key_nobody_asked_about_is_a_fault_with_a_suggestion() {
        let shown = faults_of("nmae = 1\nname = \"x\"\n", |row| {
            row.text("name");
        });
        assert_eq!(shown, "t.toml:1:1: unknown key `nmae` in this thing (help: did you mean \"name\"?)");
    }

    #[test]
    fn every_syntax_error_is_reported() {
        let shown = faults_of("a = \nb = ]\n", |_| {});
        assert_eq!(shown.lines().count(), 2, "{shown}");
    }

    #[test]
    fn wrong_types_and_doubles_are_faults() {
        let shown = faults_of("name = 1\nlist = [\"a\", \"a\", 2]\nport = 70000\nflag = 1\n", |row| {
            row.text("name");
            row.list("list", |text| Ok(text.to_owned()));
            row.port("port");
            row.flag("flag");
        });
        assert_eq!(shown.lines().count(), 5, "{shown}");
        assert!(shown.contains("t.toml:2:14: \"a\" stands twice in `list`"), "{shown}");
    }

    #[test]
    fn a_missing_owner_names_the_requirement() {
        let shown = faults_of("need = \" \"\n", |row| {
            row.text("owner");
            row.text("need");
        });
        assert!(shown.contains("has no `owner` (help: PCI DSS 1.2.5"), "{shown}");
        assert!(shown.contains("`need` is empty (help: PCI DSS 1.2.5"), "{shown}");
    }
}
