//! Replaces spans of a body by other text, each written as its place in the body's format asks for.
//!
//! Must never touch a byte outside the spans, nor build the new body in memory that is not wiped.
//! Tests: here, and beside each parser.

use cordon_daemon::body::WipedBytes;
use data_encoding::BASE64;
use std::fmt;
use std::ops::Range;
use zeroize::Zeroizing;

/// How a text is written where a field stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// As a JSON string; nothing is `null`.
    Json,
    /// As a JSON number: digits, without a leading zero.
    Number,
    /// Percent-encoded with `+` for a space, as in forms and queries.
    Form,
    /// As it is.
    Plain,
    /// With XML's references for what would be markup.
    Xml,
    /// As a cell of CSV, in quotes where it needs them.
    Cell,
    /// In so many columns, filled up with spaces.
    Columns(usize),
    /// In base64.
    Base64,
    /// In quoted-printable.
    QuotedPrintable,
}

/// What takes the place of a span.
pub struct Edit {
    /// The bytes to replace.
    pub span: Range<usize>,
    /// The text, not yet encoded; `None` takes the value out.
    pub text: Option<Zeroizing<String>>,
    /// How it is written.
    pub writing: Writing,
}

impl fmt::Debug for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edit")
            .field("span", &self.span)
            .field("writing", &self.writing)
            .finish_non_exhaustive()
    }
}

/// A body after its edits.
#[derive(Debug)]
pub struct Edited {
    /// The bytes.
    pub bytes: WipedBytes,
    /// Where the new texts stand, in order.
    pub spans: Vec<Range<usize>>,
}

/// Why a body was not edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The spans overlap, are out of order or lie outside the body: a defect of the caller.
    #[error("the edits do not fit the body")]
    Misfit,
    /// The text at this place, of those in order, is longer than its columns, or no text of them.
    #[error("text number {0} does not fit its columns")]
    TooLong(usize),
}

/// Copies the body with the edits made. The edits stand in the order of their spans.
///
/// # Errors
/// [`EditError`].
pub fn apply(body: &[u8], edits: &[Edit]) -> Result<Edited, EditError> {
    let length = |edit: &Edit| edit.text.as_ref().map_or(0, |text| text.len()).saturating_add(ROOM_PER_EDIT);
    let growth: usize = edits.iter().map(length).sum();
    let mut bytes = WipedBytes::with_capacity(body.len().saturating_add(growth));
    let mut spans = Vec::with_capacity(edits.len());
    let mut copied = 0;
    for (number, edit) in edits.iter().enumerate() {
        bytes.extend_from_slice(body.get(copied..edit.span.start).ok_or(EditError::Misfit)?);
        let start = bytes.len();
        write(edit, &mut bytes, number)?;
        spans.push(start..bytes.len());
        copied = edit.span.end;
        if edit.span.end < edit.span.start {
            return Err(EditError::Misfit);
        }
    }
    bytes.extend_from_slice(body.get(copied..).ok_or(EditError::Misfit)?);
    Ok(Edited { bytes, spans })
}

fn write(edit: &Edit, out: &mut WipedBytes, number: usize) -> Result<(), EditError> {
    let text = match (&edit.text, edit.writing) {
        (Some(text), _) => text.as_str(),
        (None, Writing::Json | Writing::Number) => {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        (None, _) => "",
    };
    match edit.writing {
        // Writing to memory cannot fail; the type of serde_json's writer says otherwise.
        Writing::Json => serde_json::to_writer(out, text).map_err(|_never| EditError::Misfit)?,
        Writing::Form => {
            form_urlencoded::byte_serialize(text.as_bytes())
                .for_each(|part| out.extend_from_slice(part.as_bytes()));
        }
        Writing::Number => match text.parse::<u32>() {
            Ok(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Err(_no_number) => return Err(EditError::Misfit),
        },
        Writing::Plain => out.extend_from_slice(text.as_bytes()),
        Writing::Xml => out.extend_from_slice(quick_xml::escape::escape(text).as_bytes()),
        Writing::Cell => write_cell(text, out),
        Writing::Columns(width) => {
            let filler = width.checked_sub(text.len()).filter(|_| !text.contains(['\r', '\n']));
            let filler = filler.filter(|_| text.is_ascii()).ok_or(EditError::TooLong(number))?;
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(" ".repeat(filler).as_bytes());
        }
        Writing::Base64 => out.extend_from_slice(Zeroizing::new(BASE64.encode(text.as_bytes())).as_bytes()),
        Writing::QuotedPrintable => {
            out.extend_from_slice(&Zeroizing::new(quoted_printable::encode(text.as_bytes())));
        }
    }
    Ok(())
}

/// RFC 4180 section 2.
fn write_cell(text: &str, out: &mut WipedBytes) {
    if !text.contains(['"', ',', '\r', '\n']) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.extend_from_slice(b"\"");
    let mut parts = text.split('"');
    out.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        out.extend_from_slice(b"\"\"");
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(b"\"");
}

/// Quotes and an escape or two.
const ROOM_PER_EDIT: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(span: Range<usize>, text: &str, writing: Writing) -> Edit {
        Edit { span, text: Some(Zeroizing::new(text.to_owned())), writing }
    }

    fn written(text: Option<&str>, writing: Writing) -> Result<String, EditError> {
        let text = text.map(|text| Zeroizing::new(text.to_owned()));
        let edited = apply(b"[?]", &[Edit { span: 1..2, text, writing }])?;
        assert_eq!(edited.spans, vec![Range { start: 1, end: edited.bytes.len() - 1 }]);
        Ok(String::from_utf8(edited.bytes.get(edited.spans[0].clone()).unwrap().to_vec()).unwrap())
    }

    #[test]
    fn each_writing_is_read_back_by_its_format() {
        for (text, writing, wanted) in [
            ("x\"y", Writing::Json, r#""x\"y""#),
            ("07", Writing::Number, "7"),
            ("2031", Writing::Number, "2031"),
            ("a b/\u{e9}", Writing::Form, "a+b%2F%C3%A9"),
            ("a b", Writing::Plain, "a b"),
            ("<a>&'\"", Writing::Xml, "&lt;a&gt;&amp;&apos;&quot;"),
            ("12/30", Writing::Cell, "12/30"),
            ("a,\"b\"", Writing::Cell, "\"a,\"\"b\"\"\""),
            ("\n", Writing::Cell, "\"\n\""),
            ("1230", Writing::Columns(6), "1230  "),
            ("held", Writing::Base64, "aGVsZA=="),
            ("a=b", Writing::QuotedPrintable, "a=3Db"),
        ] {
            assert_eq!(written(Some(text), writing).unwrap(), wanted);
        }
    }

    #[test]
    fn what_is_taken_out_leaves_an_empty_value() {
        assert_eq!(written(None, Writing::Json).unwrap(), "null");
        assert_eq!(written(None, Writing::Columns(3)).unwrap(), "   ");
        for writing in [Writing::Form, Writing::Plain, Writing::Xml, Writing::Cell, Writing::Base64] {
            assert_eq!(written(None, writing).unwrap(), "", "{writing:?}");
        }
    }

    #[test]
    fn what_does_not_fit_its_columns_is_refused() {
        for text in ["1234", "a\nb", "\u{e9}"] {
            assert_eq!(written(Some(text), Writing::Columns(3)), Err(EditError::TooLong(0)), "{text}");
        }
    }

    #[test]
    fn spans_and_all_around_them_stay_in_place() {
        let edits = [edit(5..6, "x", Writing::Json), edit(12..13, "03/27", Writing::Json)];
        let json = apply(br#"{"a":1,"b": 2 }"#, &edits).unwrap();
        assert_eq!(json.bytes.as_slice(), br#"{"a":"x","b": "03/27" }"#);
        assert_eq!(json.bytes.get(json.spans[1].clone()).unwrap(), br#""03/27""#);
        assert_eq!(apply(b"{ }", &[]).unwrap().bytes.as_slice(), b"{ }");
    }

    #[test]
    fn edits_that_overlap_or_run_over_are_refused() {
        let plain = |span, text| edit(span, text, Writing::Plain);
        for edits in [
            vec![plain(0..3, "x"), plain(2..4, "y")],
            vec![plain(4..5, "x"), plain(0..1, "y")],
            vec![plain(0..99, "x")],
            vec![plain(Range { start: 3, end: 1 }, "x")],
        ] {
            assert_eq!(apply(b"abcdef", &edits).err(), Some(EditError::Misfit));
        }
    }
}
