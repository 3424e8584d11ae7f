//! Where a field stands: a place for each content type, or one in the head of a request.
//!
//! Must never accept a place that two readers could find differently: it is an error that says what to write instead.
//! Tests: `place/tests.rs` and `routes/tests.rs`; fuzz target `fuzz/fuzz_targets/bundle.rs`.

mod overlap;

use std::fmt;
use std::ops::Range;

use regex::{Regex, RegexBuilder};

use crate::routes::Content;
use crate::selector::{JsonSelector, Pick, SelectorError, Step};

/// Every place of one field: one for each body type it may come in, or one in the head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// In a JSON body, or in each line of a body of JSON lines.
    pub json: Option<JsonSelector>,
    /// The name of a form's field, decoded; in `multipart/form-data`, of a part.
    pub form: Option<String>,
    /// In an XML body.
    pub xml: Option<XmlSelector>,
    /// The column of this name, in every row of a CSV body.
    pub csv: Option<String>,
    /// Columns of every line of a body of fixed columns.
    pub fixed: Option<FixedColumns>,
    /// What an expression finds in a plain text.
    pub text: Option<TextSelector>,
    /// Outside the body.
    pub head: Option<HeadPlace>,
}

impl Places {
    /// Whether one of them is in bodies of this type.
    #[must_use]
    pub fn stand_in(&self, content: Content) -> bool {
        match content {
            Content::Json | Content::Ndjson => self.json.is_some(),
            Content::Form | Content::Multipart => self.form.is_some(),
            Content::Xml => self.xml.is_some(),
            Content::Csv => self.csv.is_some(),
            Content::Fixed => self.fixed.is_some(),
            Content::Text => self.text.is_some(),
        }
    }

    /// The place as the bundle writes it, for refusals; the first one if there are several.
    #[must_use]
    pub fn label(&self) -> String {
        self.labels().next().map(|(_, label)| label).unwrap_or_default()
    }

    /// Each of the places as the bundle writes it, with its key; one in the head says itself where it is.
    pub fn labels(&self) -> impl Iterator<Item = (&'static str, String)> {
        let Self { json, form, xml, csv, fixed, text, head } = self;
        let all = [
            ("json", json.as_ref().map(ToString::to_string)),
            ("form", form.clone()),
            ("xml", xml.as_ref().map(ToString::to_string)),
            ("csv", csv.clone()),
            ("fixed", fixed.as_ref().map(ToString::to_string)),
            ("text", text.as_ref().map(ToString::to_string)),
            ("head", head.as_ref().map(ToString::to_string)),
        ];
        all.into_iter().filter_map(|(key, label)| Some((key, label?)))
    }
}

/// A place in the head of a request or answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadPlace {
    /// The value of the header of this name, in lower case.
    Header(String),
    /// The value of the cookie of this name.
    Cookie(String),
    /// The value of the query's parameter of this name, decoded.
    Query(String),
    /// One segment of the path.
    Path(PathTemplate),
    /// One half of the credentials of `Authorization: Basic` (RFC 7617).
    Basic(Half),
}

impl fmt::Display for HeadPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header {name}"),
            Self::Cookie(name) => write!(f, "cookie {name}"),
            Self::Query(name) => write!(f, "query {name}"),
            Self::Path(template) => write!(f, "path {template}"),
            Self::Basic(Half::User) => f.write_str("basic user"),
            Self::Basic(Half::Password) => f.write_str("basic password"),
        }
    }
}

/// Half of a pair of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Before the first colon.
    User,
    /// After it.
    Password,
}

/// A path in which one segment is the field: `/cards/{}/refunds`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    before: Vec<String>,
    after: Vec<String>,
}

impl PathTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// Anything but segments that stand for themselves and one `{}`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let wrong = || {
            SelectorError::new(
                format!("the path template \"{text}\" cannot be matched"),
                "write the whole path, decoded, with {} for the one segment that is the field, like /cards/{}/refunds",
            )
        };
        let segments: Vec<_> = text.strip_prefix('/').ok_or_else(wrong)?.split('/').collect();
        let plain = |segment: &&str| {
            !segment.is_empty()
                && segment
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()+,;=:@".contains(&byte))
        };
        let (before, after) = segments
            .split_at_checked(segments.iter().position(|part| *part == "{}").ok_or_else(wrong)?)
            .ok_or_else(wrong)?;
        let after = after.get(1..).unwrap_or_default();
        if !before.iter().chain(after).all(plain) {
            return Err(wrong());
        }
        let owned = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect();
        Ok(Self { before: owned(before), after: owned(after) })
    }

    /// The number of the field's segment, from 0, if a decoded path is of this form.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<usize> {
        let segments: Vec<_> = path.strip_prefix('/')?.split('/').collect();
        let (before, rest) = segments.split_at_checked(self.before.len())?;
        let (field, after) = rest.split_first()?;
        (before == self.before.as_slice() && after == self.after.as_slice() && !field.is_empty())
            .then_some(before.len())
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let segments = self.before.iter().map(String::as_str).chain(["{}"]);
        segments.chain(self.after.iter().map(String::as_str)).try_for_each(|segment| write!(f, "/{segment}"))
    }
}

/// A path to elements or attributes of an XML document: `/order/card/number`, `//pan`, `/order/card/@number`.
///
/// Names are local names: `/order` also finds `<x:order>`, whatever `x` stands for, since a reader that knows
/// namespaces takes both for the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct XmlSelector {
    text: String,
    steps: Vec<Step>,
}

impl XmlSelector {
    /// Reads a path.
    ///
    /// # Errors
    /// Anything but names and `*` after `/` or `//`, with an attribute's `@name` at most at the end.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let wrong = |what: &str| {
            SelectorError::new(
                format!("the XML path \"{text}\" {what}"),
                "write it like /order/card/number, //pan, /order/*/number or /order/card/@number",
            )
        };
        if text.len() > MOST_BYTES {
            return Err(wrong("is too long"));
        }
        let mut rest = text;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (deep, after) = match (rest.strip_prefix("//"), rest.strip_prefix('/')) {
                (Some(after), _) => (true, after),
                (None, Some(after)) => (false, after),
                (None, None) => return Err(wrong("does not begin with /")),
            };
            let end = after.find('/').unwrap_or(after.len());
            let (name, left) = after.split_at_checked(end).ok_or_else(|| wrong("cannot be read"))?;
            let bare = name.strip_prefix('@').unwrap_or(name);
            if name != "*" && !is_local_name(bare) {
                return Err(wrong("has a part that is no name without prefix"));
            }
            if bare != name && (!left.is_empty() || steps.is_empty() && !deep) {
                return Err(wrong("has an attribute that is not the last part, or of no element"));
            }
            let picks = vec![if name == "*" { Pick::Any } else { Pick::Name(name.to_owned()) }];
            steps.push(if deep { Step::Descendant(picks) } else { Step::Child(picks) });
            rest = left;
        }
        if steps.is_empty() || steps.len() > MOST_STEPS {
            return Err(wrong("has no part, or too many"));
        }
        Ok(Self { text: text.to_owned(), steps })
    }

    /// Its parts, from the document inwards. The name of an attribute begins with `@`.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

impl fmt::Display for XmlSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_local_name(name: &str) -> bool {
    let starts = name.chars().next().is_some_and(|first| first.is_alphabetic() || first == '_');
    starts && name.chars().all(|character| character.is_alphanumeric() || "-._".contains(character))
}

/// Columns of a line, counted in bytes from 1: `11-29`, or `D:11-29` for lines that begin with `D`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedColumns {
    lines: String,
    columns: Range<usize>,
}

impl FixedColumns {
    /// Reads the columns.
    ///
    /// # Errors
    /// Anything but two numbers in order, with the beginning of a line in front at most.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let wrong = || {
            SelectorError::new(
                format!("the columns \"{text}\" cannot be read"),
                "write first and last, counted from 1, like 11-29; or D:11-29 for lines that begin with D",
            )
        };
        let (lines, columns) = text.rsplit_once(':').unwrap_or(("", text));
        let (first, last) = columns.split_once('-').ok_or_else(wrong)?;
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<usize>().ok().filter(|number| digits && (1..=MOST_COLUMNS).contains(number))
        };
        let (first, last) = number(first).zip(number(last)).ok_or_else(wrong)?;
        let plain = lines.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if first > last || !plain || first <= lines.len() {
            return Err(wrong());
        }
        Ok(Self { lines: lines.to_owned(), columns: first.saturating_sub(1)..last })
    }

    /// Whether the field stands in a line at all: a line may be of another kind, or end before it.
    #[must_use]
    pub fn apply_to(&self, line: &str) -> bool {
        line.starts_with(&self.lines) && line.len() > self.columns.start
    }

    /// The bytes of the line, from 0.
    #[must_use]
    pub fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }
}

impl fmt::Display for FixedColumns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.lines.is_empty() {
            write!(f, "{}:", self.lines)?;
        }
        write!(f, "{}-{}", self.columns.start.saturating_add(1), self.columns.end)
    }
}

/// A regular expression with one named group, which is the field. It runs in time linear in the text.
#[derive(Debug, Clone)]
pub struct TextSelector {
    group: String,
    expression: Regex,
}

impl TextSelector {
    /// Reads an expression.
    ///
    /// # Errors
    /// One that the `regex` crate does not read, that is too large, or that has not exactly one named group.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let expression =
            RegexBuilder::new(text).size_limit(EXPRESSION_BYTES).build().map_err(|_unreadable| {
                SelectorError::new(
                    "this is no regular expression, or one that is too large",
                    "write it like (?m)^PAN: *(?<pan>.+)$, without look-around and back-references",
                )
            })?;
        let mut groups = expression.capture_names().flatten().map(str::to_owned);
        match (groups.next(), groups.next()) {
            (Some(group), None) => Ok(Self { group, expression }),
            (None | Some(_), _) => Err(SelectorError::new(
                "the expression has not exactly one named group",
                "name the part that is the field, like (?<pan>[0-9 -]+)",
            )),
        }
    }

    /// Where the field stands, each time it does.
    pub fn find<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
        let matches = self.expression.captures_iter(text);
        matches.filter_map(|found| found.name(&self.group).map(|part| part.range()))
    }
}

/// Two expressions of one text are the same.
impl PartialEq for TextSelector {
    fn eq(&self, other: &Self) -> bool {
        self.expression.as_str() == other.expression.as_str()
    }
}

impl Eq for TextSelector {}

impl fmt::Display for TextSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expression.as_str())
    }
}

/// Longest XML path accepted, in bytes.
const MOST_BYTES: usize = 1_024;
/// Most parts of an XML path.
const MOST_STEPS: usize = 32;
/// Last column that can be named.
const MOST_COLUMNS: usize = 65_536;
/// Memory of one compiled expression, in bytes.
const EXPRESSION_BYTES: usize = 1_024 * 1_024;

#[cfg(test)]
mod tests;
