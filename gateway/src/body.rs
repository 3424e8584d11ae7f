//! Bodies as bytes with places in them: where the declared fields stand, and how another text is written there.
//!
//! One parser per type, each in a file of its own, with one contract: it reads the body to its end or refuses it, gives
//! each declared field as a [`Leaf`], and says aloud every text that a scan of the raw bytes would miss. Must never change
//! a byte outside the edited spans, and never pass on a body it did not understand to its end.
//! Tests: beside each parser; fuzz targets `json_body`, `form_body`, `multipart_body`, `xml_body`, `table_body`.

pub mod csv;
pub mod edit;
pub mod fixed;
pub mod form;
pub mod json;
pub mod multipart;
pub mod ndjson;
pub mod path;
pub mod text;
pub mod xml;

use cordon_policy::{FixedColumns, Places, TextSelector};
use edit::Writing;
use memchr::memchr;
use multipart::Boundary;
use path::Selectors;
use std::fmt;
use std::ops::Range;
use zeroize::Zeroizing;

/// A type of body, with what its parser has to know besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// One JSON document.
    Json,
    /// One JSON document a line.
    Ndjson,
    /// Pairs of names and values, percent-encoded.
    Form,
    /// Parts between lines of this boundary.
    Multipart(Boundary),
    /// One XML document.
    Xml,
    /// Rows of cells below a row of names.
    Csv,
    /// Lines of fixed columns.
    Fixed,
    /// Plain text.
    Text,
}

/// The declared fields of a route in the forms in which the parsers look for them.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    json: Selectors,
    xml: Selectors,
    form: Vec<(usize, String)>,
    csv: Vec<(usize, String)>,
    fixed: Vec<(usize, FixedColumns)>,
    text: Vec<(usize, TextSelector)>,
}

impl Declared {
    /// Takes the fields of a route in their order; a leaf names its field by its number in it.
    pub fn new<'f>(fields: impl IntoIterator<Item = &'f Places>) -> Self {
        let fields: Vec<_> = fields.into_iter().enumerate().collect();
        Self {
            json: Selectors::new(numbered(&fields, |places| Some(places.json.as_ref()?.segments().to_vec()))),
            xml: Selectors::new(numbered(&fields, |places| Some(places.xml.as_ref()?.steps().to_vec()))),
            form: numbered(&fields, |places| places.form.clone()).collect(),
            csv: numbered(&fields, |places| places.csv.clone()).collect(),
            fixed: numbered(&fields, |places| places.fixed.clone()).collect(),
            text: numbered(&fields, |places| places.text.clone()).collect(),
        }
    }

    /// The same, but JSON values and XML elements that are no text are passed over as undeclared: for answers, which are
    /// not ours to correct.
    #[must_use]
    pub fn lenient(self) -> Self {
        Self { json: self.json.lenient(), xml: self.xml.lenient(), ..self }
    }
}

/// Those of the fields that have a place of one kind, with their numbers.
fn numbered<'f, T>(
    fields: &'f [(usize, &'f Places)],
    place: impl Fn(&Places) -> Option<T> + 'f,
) -> impl Iterator<Item = (usize, T)> + 'f {
    fields.iter().filter_map(move |(field, places)| Some((*field, place(places)?)))
}

/// A field found in a body.
#[derive(Debug)]
pub struct Leaf<'b> {
    /// The field's number in its route.
    pub field: usize,
    /// The bytes to replace, such as a whole JSON value with its quotes or a form value without its `=`.
    pub span: Range<usize>,
    /// The value, decoded.
    pub text: Text<'b>,
    /// How another text is written there.
    pub writing: Writing,
}

/// The decoded text of a field: cardholder data until proven otherwise. Wiped if it had to be copied.
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

    /// Whether a scan of the raw bytes reads it as it is: it does for plain ASCII.
    fn is_hidden(&self) -> bool {
        match self {
            Self::Plain(text) => !text.is_ascii(),
            Self::Decoded(_) => true,
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
    /// Something in it says that it is of a type, charset or encoding that is not read here.
    #[error("a part of the body can't be inspected")]
    Uninspectable,
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
    format: &Format,
    body: &'b [u8],
    declared: &Declared,
    heard: Heard<'_>,
) -> Result<Vec<Leaf<'b>>, BodyError> {
    let body = utf8(body)?;
    match format {
        Format::Json => json::locate(body, &declared.json, heard),
        Format::Ndjson => ndjson::locate(body, &declared.json, heard),
        Format::Form => form::locate(body, &declared.form, heard),
        Format::Multipart(boundary) => multipart::locate(body, boundary, &declared.form, heard),
        Format::Xml => xml::locate(body, &declared.xml, heard),
        Format::Csv => csv::locate(body, &declared.csv, heard),
        Format::Fixed => fixed::locate(body, &declared.fixed),
        Format::Text => text::locate(body, &declared.text),
    }
}

/// Every value (no name, key or comment) of a body that [`locate`] has accepted, in order. The fields' numbers mean
/// nothing here.
///
/// # Errors
/// [`BodyError`] when it has not.
pub fn values<'b>(format: &Format, body: &'b [u8]) -> Result<Vec<Leaf<'b>>, BodyError> {
    let body = utf8(body)?;
    match format {
        Format::Json => json::values(body),
        Format::Ndjson => ndjson::values(body),
        Format::Form => form::values(body),
        Format::Multipart(boundary) => multipart::values(body, boundary),
        Format::Xml => xml::values(body),
        Format::Csv => csv::values(body),
        Format::Fixed => Ok(fixed::values(body)),
        Format::Text => Ok(text::values(body)),
    }
}

/// A body as text. A byte order mark or a NUL is a sign of another encoding (UTF-16 in which every second byte is
/// one), and readers differ in what they make of either.
fn utf8(body: &[u8]) -> Result<&str, BodyError> {
    if body.starts_with(BYTE_ORDER_MARK) || memchr(0, body).is_some() {
        return Err(BodyError::Malformed);
    }
    std::str::from_utf8(body).map_err(|_not_utf8| BodyError::Malformed)
}

/// A value that no field declares.
const UNDECLARED: usize = usize::MAX;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

#[cfg(test)]
mod tests;
