//! Content types and charsets: what this gateway can inspect, and nothing else.
//!
//! Must never guess: a missing, doubled or unknown type or charset is not inspectable (threat B36, B43).
//! Tests: here.

pub mod parameters;

use crate::body::Format;
use crate::body::multipart::Boundary;
use cordon_policy::Content;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use parameters::{Parameters, is_token};

/// A body that cannot be inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the content type, encoding or charset can't be inspected")]
pub struct Uninspectable;

/// How a request's body is to be parsed on a route that takes these types.
///
/// # Errors
/// [`Uninspectable`] for anything but one of them, in UTF-8.
pub fn of_request(headers: &HeaderMap, taken: &[Content]) -> Result<Format, Uninspectable> {
    let media = Media::parse(only(headers, &CONTENT_TYPE)?.ok_or(Uninspectable)?)?;
    if !media.is_utf8() {
        return Err(Uninspectable);
    }
    let content = media.content(taken).filter(|content| taken.contains(content)).ok_or(Uninspectable)?;
    media.format(content)
}

/// The format of a part of a form, if it has a parser of its own; `None` for any other text.
///
/// # Errors
/// [`Uninspectable`] for a part of parts, and for another charset than UTF-8.
pub fn of_part(content_type: &str) -> Result<Option<Format>, Uninspectable> {
    let media = Media::parse(content_type)?;
    if !media.is_utf8() || media.essence().starts_with("multipart/") {
        return Err(Uninspectable);
    }
    let parsed = [Content::Json, Content::Ndjson, Content::Form, Content::Xml];
    media
        .content(&[])
        .filter(|content| parsed.contains(content))
        .map(|content| media.format(content))
        .transpose()
}

/// How an answer is to be scanned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// By its strings as well as by its bytes.
    Structured(Format),
    /// By its bytes.
    Text,
    /// Not at all: pictures, sound, fonts, archives. Digits in them mean nothing.
    Opaque,
}

/// How an upstream's answer is to be scanned. Of an unknown type its bytes are. A type whose parser only finds
/// fields is structured if `declared` asks for it.
///
/// # Errors
/// [`Uninspectable`] for a charset in which digits are not ASCII.
pub fn of_answer(headers: &HeaderMap, declared: &[Content]) -> Result<Answer, Uninspectable> {
    let Some(value) = only(headers, &CONTENT_TYPE)? else { return Ok(Answer::Text) };
    let media = Media::parse(value)?;
    let essence = media.essence();
    if OPAQUE.iter().any(|prefix| essence.starts_with(prefix)) && essence != "image/svg+xml" {
        return Ok(Answer::Opaque);
    }
    // The digits of these are ASCII's; a parser of its own takes nothing but UTF-8 all the same.
    let known = ["utf-8", "us-ascii", "iso-8859-1", "windows-1252"];
    if media.charset().is_some_and(|charset| !known.contains(&charset.as_str())) {
        return Err(Uninspectable);
    }
    let structured = |content: &Content| match content {
        Content::Json | Content::Ndjson | Content::Form => true,
        Content::Xml => !matches!(essence, "application/xhtml+xml" | "image/svg+xml"),
        Content::Multipart | Content::Csv | Content::Fixed | Content::Text => declared.contains(content),
    };
    let content = media.content(declared).filter(structured);
    content.map_or(Ok(Answer::Text), |content| media.format(content).map(Answer::Structured))
}

struct Media<'h>(Parameters<'h>);

impl<'h> Media<'h> {
    fn parse(value: &'h str) -> Result<Self, Uninspectable> {
        let media = Parameters::parse(value).ok_or(Uninspectable)?;
        let (kind, subtype) = media.value.split_once('/').ok_or(Uninspectable)?;
        if is_token(kind) && is_token(subtype) { Ok(Self(media)) } else { Err(Uninspectable) }
    }

    fn essence(&self) -> &str {
        &self.0.value
    }

    fn charset(&self) -> Option<String> {
        self.0.get("charset").map(str::to_ascii_lowercase)
    }

    fn is_utf8(&self) -> bool {
        matches!(self.charset().as_deref(), None | Some("utf-8"))
    }

    /// What it is called in a bundle. Two kinds of plain text are told apart by what is wanted.
    fn content(&self, wanted: &[Content]) -> Option<Content> {
        // Structured syntax suffixes (RFC 6839 section 3.1, RFC 7303 section 4.2).
        let of =
            |suffix: &str| self.essence().starts_with("application/") && self.essence().ends_with(suffix);
        match self.essence() {
            "application/json" => Some(Content::Json),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Some(Content::Ndjson),
            "application/x-www-form-urlencoded" => Some(Content::Form),
            "multipart/form-data" => Some(Content::Multipart),
            "application/xml" | "text/xml" => Some(Content::Xml),
            // Without a row of names the columns have none.
            "text/csv" if self.0.get("header").is_none_or(|header| header == "present") => Some(Content::Csv),
            "text/plain" if wanted.contains(&Content::Fixed) => Some(Content::Fixed),
            "text/plain" => Some(Content::Text),
            _ if of("+json") => Some(Content::Json),
            _ if of("+xml") => Some(Content::Xml),
            _ => None,
        }
    }

    fn format(&self, content: Content) -> Result<Format, Uninspectable> {
        Ok(match content {
            Content::Json => Format::Json,
            Content::Ndjson => Format::Ndjson,
            Content::Form => Format::Form,
            Content::Multipart => {
                let boundary = self.0.get("boundary").and_then(Boundary::parse);
                Format::Multipart(boundary.ok_or(Uninspectable)?)
            }
            Content::Xml => Format::Xml,
            Content::Csv => Format::Csv,
            Content::Fixed => Format::Fixed,
            Content::Text => Format::Text,
        })
    }
}

/// The one value of a header, if it is there; doubled or non-ASCII is refused.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Uninspectable> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Uninspectable);
    }
    value.to_str().map(Some).map_err(|_not_ascii| Uninspectable)
}

/// Types in whose bytes a run of digits is no card number.
const OPAQUE: &[&str] = &["image/", "audio/", "video/", "font/", "application/zip", "application/wasm"];

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    const ALL: [Content; 7] = [
        Content::Json,
        Content::Ndjson,
        Content::Form,
        Content::Multipart,
        Content::Xml,
        Content::Csv,
        Content::Text,
    ];

    fn request(content_type: &str) -> Result<Format, Uninspectable> {
        of_request(&headers(&[("content-type", content_type)]), &ALL)
    }

    #[test]
    fn what_cannot_be_inspected_is_refused() {
        for content_type in [
            "",
            "application/octet-stream",
            "application/json; charset=utf-16",
            "application/json; charset=utf-7",
            "application/json;charset=cp037",
            "text/xml; charset=utf-32",
            "text/csv; charset=iso-8859-1",
            "text/csv; header=absent",
            "application/json; charset=utf-8; charset=utf-16",
            "application/json; charset",
            "application/jsonp",
            "text/json",
            "application/json, text/plain",
            "json",
            "text/html",
            "application/graphql",
            "multipart/form-data",
            "multipart/form-data; boundary=\"\"",
            "multipart/form-data; boundary=a; boundary=b",
            "multipart/mixed; boundary=a",
            "application/grpc",
            "application/x-protobuf",
            "application/msgpack",
        ] {
            assert_eq!(request(content_type), Err(Uninspectable), "{content_type}");
        }
        assert_eq!(of_request(&HeaderMap::new(), &ALL), Err(Uninspectable));
        let twice = headers(&[("content-type", "application/json"), ("content-type", "application/json")]);
        assert_eq!(of_request(&twice, &ALL), Err(Uninspectable));
    }

    #[test]
    fn the_declared_types_choose_their_parser_and_others_are_refused() {
        for (content_type, format) in [
            ("application/json", Format::Json),
            ("Application/JSON; charset=UTF-8", Format::Json),
            ("application/json;charset=\"utf-8\"; version=1", Format::Json),
            ("application/vnd.api+json", Format::Json),
            ("application/json;", Format::Json),
            ("application/x-ndjson", Format::Ndjson),
            ("application/x-www-form-urlencoded; charset=utf-8", Format::Form),
            ("multipart/form-data; boundary=ab", Format::Multipart(Boundary::parse("ab").unwrap())),
            ("text/xml", Format::Xml),
            ("application/soap+xml; charset=utf-8; action=\"x\"", Format::Xml),
            ("text/csv; header=present", Format::Csv),
            ("text/plain", Format::Text),
        ] {
            assert_eq!(request(content_type), Ok(format), "{content_type}");
            let none_taken = of_request(&headers(&[("content-type", content_type)]), &[Content::Fixed]);
            assert_eq!(none_taken.is_ok(), content_type == "text/plain", "{content_type}");
        }
        let fixed = of_request(&headers(&[("content-type", "text/plain")]), &[Content::Fixed]);
        assert_eq!(fixed, Ok(Format::Fixed));
    }

    #[test]
    fn parts_of_a_form_have_a_parser_or_are_text() {
        assert_eq!(of_part("application/json"), Ok(Some(Format::Json)));
        assert_eq!(of_part("image/png"), Ok(None));
        assert_eq!(of_part("text/csv"), Ok(None));
        for content_type in ["multipart/mixed; boundary=x", "text/plain; charset=utf-16", "nonsense", ""] {
            assert_eq!(of_part(content_type), Err(Uninspectable), "{content_type}");
        }
    }

    #[test]
    fn answers_are_scanned_unless_they_are_pictures() {
        let answer = |content_type: &str| of_answer(&headers(&[("content-type", content_type)]), &[]);
        assert_eq!(answer("application/json"), Ok(Answer::Structured(Format::Json)));
        assert_eq!(answer("application/problem+json; charset=utf-8"), Ok(Answer::Structured(Format::Json)));
        assert_eq!(answer("text/xml"), Ok(Answer::Structured(Format::Xml)));
        assert_eq!(answer("text/html; charset=ISO-8859-1"), Ok(Answer::Text));
        assert_eq!(answer("application/xhtml+xml"), Ok(Answer::Text));
        assert_eq!(answer("application/x-unknown"), Ok(Answer::Text));
        assert_eq!(answer("text/csv"), Ok(Answer::Text));
        assert_eq!(answer("image/svg+xml"), Ok(Answer::Text));
        assert_eq!(answer("image/png"), Ok(Answer::Opaque));
        assert_eq!(answer("text/html; charset=utf-16le"), Err(Uninspectable));
        assert_eq!(of_answer(&HeaderMap::new(), &[]), Ok(Answer::Text));
        let csv = headers(&[("content-type", "text/csv")]);
        assert_eq!(of_answer(&csv, &[Content::Csv]), Ok(Answer::Structured(Format::Csv)));
        let page = headers(&[("content-type", "text/html; charset=iso-8859-1")]);
        assert_eq!(of_answer(&page, &[Content::Json]), Ok(Answer::Text));
    }
}
