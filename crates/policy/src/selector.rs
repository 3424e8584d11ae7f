//! JSONPath selectors (RFC 9535), restricted to what can be decided while a body streams past.
//!
//! Must never evaluate anything, and never accept a query it can only half honour: such a query is an error that
//! says what to write instead.
//! Tests: `selector/tests.rs`; fuzz target `fuzz/fuzz_targets/bundle.rs`.

use std::fmt;

use jsonpath_rust::parser::model::{Segment, Selector};
use jsonpath_rust::parser::parse_json_path;

/// A query that names fields of a JSON document and can be matched without holding the document.
///
/// ```
/// use cordon_policy::{JsonSelector, Pick, Step};
/// let selector = JsonSelector::parse("$.cards[*]..number").unwrap();
/// assert_eq!(selector.segments().len(), 3);
/// assert_eq!(selector.segments()[1], Step::Child(vec![Pick::Any]));
/// assert!(JsonSelector::parse("$.cards[?@.number]").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JsonSelector {
    text: String,
    steps: Vec<Step>,
}

/// One segment of a query: to the children, or to every descendant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// `.name`, `[...]`: children of the current value.
    Child(Vec<Pick>),
    /// `..name`, `..[...]`: children of the current value and of everything inside it.
    Descendant(Vec<Pick>),
}

/// Which children a step takes; several in one step are a union.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pick {
    /// The member of an object with exactly this (unescaped) name.
    Name(String),
    /// Every member or element.
    Any,
    /// The element of an array at this position, from 0.
    Index(u64),
}

/// Why a selector was refused, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({help})")]
pub struct SelectorError {
    message: String,
    help: String,
}

impl SelectorError {
    pub(crate) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }

    /// What is wrong with it.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to write instead.
    #[must_use]
    pub fn help(&self) -> &str {
        &self.help
    }
}

impl JsonSelector {
    /// Reads a query.
    ///
    /// # Errors
    /// Anything that is not RFC 9535, and the parts of it that a streaming match cannot honour: filters, slices,
    /// negative indices, the bare `$`; also a query over 1,024 bytes or 32 segments.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.len() > MAX_BYTES {
            return Err(SelectorError::new(
                format!("the selector is longer than {MAX_BYTES} bytes"),
                "name the field directly",
            ));
        }
        if !text.starts_with('$') {
            return Err(SelectorError::new(
                "a JSONPath selector begins with `$`, the document",
                "write it like $.card.number",
            ));
        }
        if blank_between_names(text) {
            return Err(SelectorError::new(
                "the selector has a blank outside of brackets and quotes",
                "leave it out, or quote a name that has one, like $['card number']",
            ));
        }
        let query = parse_json_path(text).map_err(|_unreadable| {
            // The parser's own text spans several lines and shows its grammar's rule names: of no use to an operator.
            SelectorError::new(
                "this is not a JSONPath query (RFC 9535)",
                "write it like $.card.number, $['card-number'], $.items[*].pan or $..pan",
            )
        })?;
        let steps = query.segments.iter().map(step).collect::<Result<Vec<_>, _>>()?;
        if steps.is_empty() {
            return Err(SelectorError::new(
                "`$` alone names the whole document",
                "name the field, like $.card.number",
            ));
        }
        if steps.len() > MAX_STEPS {
            return Err(SelectorError::new(
                format!("the selector has more than {MAX_STEPS} segments"),
                "use $..name for a field that lies deep",
            ));
        }
        Ok(Self { text: text.to_owned(), steps })
    }

    /// The query as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its segments, from the document inwards; never empty.
    #[must_use]
    pub fn segments(&self) -> &[Step] {
        &self.steps
    }
}

impl fmt::Display for JsonSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// True for a blank outside of brackets and quotes. The RFC allows some and the parser takes more: it reads `$.a b` as
/// one name, which would then match nothing.
fn blank_between_names(text: &str) -> bool {
    let mut quote = None;
    let mut depth = 0_usize;
    let mut escaped = false;
    for character in text.chars() {
        if escaped {
            escaped = false;
            continue;
        }
        match (quote, character) {
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(character),
            (None, '[') => depth = depth.saturating_add(1),
            (None, ']') => depth = depth.saturating_sub(1),
            (None, _) if depth == 0 && character.is_whitespace() => return true,
            (None, _) => {}
        }
    }
    false
}

fn step(segment: &Segment) -> Result<Step, SelectorError> {
    match segment {
        Segment::Descendant(inner) => match step(inner)? {
            Step::Child(picks) => Ok(Step::Descendant(picks)),
            Step::Descendant(_) => Err(SelectorError::new("`..` cannot be doubled", "write one `..`")),
        },
        Segment::Selector(selector) => Ok(Step::Child(vec![pick(selector)?])),
        Segment::Selectors(selectors) => {
            Ok(Step::Child(selectors.iter().map(pick).collect::<Result<Vec<_>, _>>()?))
        }
    }
}

fn pick(selector: &Selector) -> Result<Pick, SelectorError> {
    match selector {
        Selector::Name(name) => Ok(Pick::Name(name.clone())),
        Selector::Wildcard => Ok(Pick::Any),
        Selector::Index(index) => u64::try_from(*index).map(Pick::Index).map_err(|_negative| {
            SelectorError::new(
                format!("index {index} counts from the end, which is unknown while the body streams past"),
                "write an index from 0, or [*] for every element",
            )
        }),
        Selector::Slice(..) => Err(SelectorError::new(
            "a slice cannot be matched while the body streams past",
            "list the indices, like [0,1,2], or write [*] for every element",
        )),
        Selector::Filter(_) => Err(SelectorError::new(
            "a filter depends on values that may come after the field it protects",
            "drop the `?...` and write [*] for every element, or list the names, like ['a','b']",
        )),
    }
}

/// Longest selector accepted.
const MAX_BYTES: usize = 1_024;
/// Most segments accepted.
const MAX_STEPS: usize = 32;

#[cfg(test)]
mod tests;
