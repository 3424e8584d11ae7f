//! Replaces spans of a body by other text, encoded for the body's format.
//!
//! Must never touch a byte outside the spans, nor build the new body in memory that is not wiped.
//! Tests: here, `body/json/tests.rs` and `body/form.rs`.

use cordon_daemon::body::WipedBytes;
use cordon_policy::Content;
use std::fmt;
use std::ops::Range;
use zeroize::Zeroizing;

/// What takes the place of a span.
pub struct Edit {
    /// The bytes to replace.
    pub span: Range<usize>,
    /// The text, not yet encoded.
    pub text: Zeroizing<String>,
}

impl fmt::Debug for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edit").field("span", &self.span).finish_non_exhaustive()
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

/// The spans overlap, are out of order or lie outside the body: a defect of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the edits do not fit the body")]
pub struct Misfit;

/// Copies the body with the edits made. The edits stand in the order of their spans.
///
/// # Errors
/// [`Misfit`] when they do not.
pub fn apply(content: Content, body: &[u8], edits: &[Edit]) -> Result<Edited, Misfit> {
    let growth: usize = edits.iter().map(|edit| edit.text.len().saturating_add(ROOM_PER_EDIT)).sum();
    let mut bytes = WipedBytes::with_capacity(body.len().saturating_add(growth));
    let mut spans = Vec::with_capacity(edits.len());
    let mut copied = 0;
    for edit in edits {
        bytes.extend_from_slice(body.get(copied..edit.span.start).ok_or(Misfit)?);
        let start = bytes.len();
        encode(content, &edit.text, &mut bytes)?;
        spans.push(start..bytes.len());
        copied = edit.span.end;
        if edit.span.end < edit.span.start {
            return Err(Misfit);
        }
    }
    bytes.extend_from_slice(body.get(copied..).ok_or(Misfit)?);
    Ok(Edited { bytes, spans })
}

fn encode(content: Content, text: &str, out: &mut WipedBytes) -> Result<(), Misfit> {
    match content {
        // Writing to memory cannot fail; the type of serde_json's writer says otherwise.
        Content::Json => serde_json::to_writer(out, text).map_err(|_never| Misfit),
        Content::Form => {
            for part in form_urlencoded::byte_serialize(text.as_bytes()) {
                out.extend_from_slice(part.as_bytes());
            }
            Ok(())
        }
    }
}

/// Quotes and an escape or two.
const ROOM_PER_EDIT: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(span: Range<usize>, text: &str) -> Edit {
        Edit { span, text: Zeroizing::new(text.to_owned()) }
    }

    #[test]
    fn texts_are_encoded_for_their_format() {
        let json = apply(Content::Json, br#"{"a":1,"b": 2 }"#, &[edit(5..6, "x\"y"), edit(12..13, "03/27")])
            .unwrap();
        assert_eq!(json.bytes.as_slice(), br#"{"a":"x\"y","b": "03/27" }"#);
        assert_eq!(json.bytes.get(json.spans[1].clone()).unwrap(), br#""03/27""#);
        let form = apply(Content::Form, b"a=1&b=", &[edit(2..3, "03/27"), edit(6..6, "a b")]).unwrap();
        assert_eq!(form.bytes.as_slice(), b"a=03%2F27&b=a+b");
    }

    #[test]
    fn without_edits_the_body_is_the_same() {
        assert_eq!(apply(Content::Json, b"{ }", &[]).unwrap().bytes.as_slice(), b"{ }");
    }

    #[test]
    fn edits_that_overlap_or_run_over_are_refused() {
        for edits in [
            vec![edit(0..3, "x"), edit(2..4, "y")],
            vec![edit(4..5, "x"), edit(0..1, "y")],
            vec![edit(0..99, "x")],
            vec![edit(Range { start: 3, end: 1 }, "x")],
        ] {
            assert!(apply(Content::Form, b"abcdef", &edits).is_err());
        }
    }
}
