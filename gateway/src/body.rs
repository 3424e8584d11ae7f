//! Request and response bodies as bytes with places in them: where the declared fields stand, and how to edit them.
//!
//! Must never change a byte outside the edited spans, and never pass on a body it did not understand to its end.
//! Tests: `body/json/tests.rs`, `body/form.rs`, `body/edit.rs`; fuzz targets `json_body` and `form_body`.

pub mod edit;
pub mod form;
pub mod json;
pub mod path;

use cordon_policy::{Content, JsonSelector};
use path::Selectors;
use std::fmt;
use std::ops::Range;
use zeroize::Zeroizing;

/// The declared fields of a route in the forms in which the parsers look for them.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    json: Selectors,
    form: Vec<(usize, String)>,
}

impl Declared {
    /// Takes the fields of a route in their order; a leaf names its field by its number in it.
    pub fn new<'f>(fields: impl IntoIterator<Item = (Option<&'f JsonSelector>, Option<&'f str>)>) -> Self {
        let fields: Vec<_> = fields.into_iter().enumerate().collect();
        let json = fields.iter().filter_map(|(field, (json, _))| json.map(|json| (*field, json)));
        let form = fields.iter().filter_map(|(field, (_, form))| form.map(|form| (*field, form.to_owned())));
        Self { json: Selectors::new(json), form: form.collect() }
    }
}

/// A declared field found in a body.
#[derive(Debug)]
pub struct Leaf<'b> {
    /// The field's number in its route.
    pub field: usize,
    /// The bytes to replace: a whole JSON value with its quotes, or a form value without its `=`.
    pub span: Range<usize>,
    /// The value, decoded.
    pub text: Text<'b>,
}

/// The decoded text of a declared field: cardholder data until proven otherwise. Wiped if it had to be copied.
pub enum Text<'b> {
    /// Stands in the body as it is.
    Plain(&'b str),
    /// Had escapes.
    Decoded(Zeroizing<String>),
}

impl Text<'_> {
    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Decoded(text) => text,
        }
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text(***)")
    }
}

/// Why a body was not understood. Names a field by its number, never shows a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not well formed: syntax, UTF-8, a key twice in one object, nested too deep, or more after the end.
    #[error("the body is not well formed")]
    Malformed,
    /// A declared field that stands twice, is contested by two fields, or is not text or digits.
    #[error("declared field number {0} can't be read")]
    Field(usize),
}

/// Takes each decoded text of a body that a scan of the raw bytes would miss: escaped or non-ASCII keys and
/// values, and numbers written with a point or an exponent (as plain digits).
pub type Heard<'h> = &'h mut dyn FnMut(&str);

/// Reads a body to its end and finds the declared fields in it, in the order in which they stand.
///
/// # Errors
/// [`BodyError`]: nothing of such a body may be passed on.
pub fn locate<'b>(
    content: Content,
    body: &'b [u8],
    declared: &Declared,
    heard: Heard<'_>,
) -> Result<Vec<Leaf<'b>>, BodyError> {
    match content {
        Content::Json => json::locate(body, &declared.json, heard),
        Content::Form => form::locate(body, &declared.form, heard),
    }
}
