//! Content types and encodings: what this gateway can inspect, and nothing else.
//!
//! Must never guess: a missing, doubled or unknown type, charset or encoding is not inspectable (threat B35, B36, B43).
//! Tests: here.

use cordon_policy::Content;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};

/// A body that cannot be inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the content type, encoding or charset can't be inspected")]
pub struct Uninspectable;

/// How a request's body is to be parsed.
///
/// # Errors
/// [`Uninspectable`] for anything but one content type of a known parser, in UTF-8 and without content coding.
pub fn of_request(headers: &HeaderMap) -> Result<Content, Uninspectable> {
    if is_encoded(headers) {
        return Err(Uninspectable);
    }
    let media = Media::parse(only(headers, &CONTENT_TYPE)?.ok_or(Uninspectable)?)?;
    match media.charset.as_deref() {
        None | Some("utf-8") => media.parser().ok_or(Uninspectable),
        Some(_) => Err(Uninspectable),
    }
}

/// How an answer is to be scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// By its strings as well as by its bytes.
    Structured(Content),
    /// By its bytes.
    Text,
    /// Not at all: pictures, sound, fonts, archives. Digits in them mean nothing.
    Opaque,
}

/// How an upstream's answer is to be scanned. Of an unknown type its bytes are.
///
/// # Errors
/// [`Uninspectable`] for a content coding (we asked for none), or a charset in which digits are not ASCII.
pub fn of_answer(headers: &HeaderMap) -> Result<Answer, Uninspectable> {
    if is_encoded(headers) {
        return Err(Uninspectable);
    }
    let Some(value) = only(headers, &CONTENT_TYPE)? else { return Ok(Answer::Text) };
    let media = Media::parse(value)?;
    if OPAQUE.iter().any(|prefix| media.essence.starts_with(prefix)) && media.essence != "image/svg+xml" {
        return Ok(Answer::Opaque);
    }
    match media.charset.as_deref() {
        None | Some("utf-8" | "us-ascii" | "iso-8859-1" | "windows-1252") => {
            Ok(media.parser().map_or(Answer::Text, Answer::Structured))
        }
        Some(_) => Err(Uninspectable),
    }
}

struct Media {
    essence: String,
    charset: Option<String>,
}

impl Media {
    fn parse(value: &str) -> Result<Self, Uninspectable> {
        let mut parts = value.split(';');
        let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/').ok_or(Uninspectable)?;
        if !is_token(kind) || !is_token(subtype) {
            return Err(Uninspectable);
        }
        let mut charset = None;
        for part in parts.map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or(Uninspectable)?;
            if name.eq_ignore_ascii_case("charset") {
                let bare = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
                if charset.replace(bare.to_ascii_lowercase()).is_some() {
                    return Err(Uninspectable);
                }
            }
        }
        Ok(Self { essence, charset })
    }

    fn parser(&self) -> Option<Content> {
        match self.essence.as_str() {
            "application/json" => Some(Content::Json),
            // Structured syntax suffix (RFC 6839 section 3.1).
            other if other.starts_with("application/") && other.ends_with("+json") => Some(Content::Json),
            "application/x-www-form-urlencoded" => Some(Content::Form),
            _ => None,
        }
    }
}

fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

fn is_encoded(headers: &HeaderMap) -> bool {
    let identity =
        |value: &http::HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    !headers.get_all(CONTENT_ENCODING).iter().all(identity)
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

    fn request(content_type: &str) -> Result<Content, Uninspectable> {
        of_request(&headers(&[("content-type", content_type)]))
    }

    #[test]
    fn what_cannot_be_inspected_is_refused() {
        for content_type in [
            "",
            "text/plain",
            "application/xml",
            "multipart/form-data; boundary=x",
            "application/octet-stream",
            "application/json; charset=utf-16",
            "application/json; charset=utf-7",
            "application/json;charset=cp037",
            "application/json; charset=utf-8; charset=utf-16",
            "application/json; charset",
            "application/jsonp",
            "text/json",
            "application/json, text/plain",
            "json",
            "application/x-ndjson",
        ] {
            assert_eq!(request(content_type), Err(Uninspectable), "{content_type}");
        }
        assert_eq!(of_request(&HeaderMap::new()), Err(Uninspectable));
        assert_eq!(
            of_request(&headers(&[
                ("content-type", "application/json"),
                ("content-type", "application/json")
            ])),
            Err(Uninspectable)
        );
    }

    #[test]
    fn a_content_coding_is_refused_wherever_it_stands() {
        for coding in ["gzip", "br", "identity, gzip", "x-gzip", "", "identity;q=0"] {
            let coded = headers(&[("content-type", "application/json"), ("content-encoding", coding)]);
            assert_eq!(of_request(&coded), Err(Uninspectable), "{coding}");
            assert_eq!(of_answer(&coded), Err(Uninspectable), "{coding}");
        }
        let twice = [
            ("content-type", "application/json"),
            ("content-encoding", "identity"),
            ("content-encoding", "gzip"),
        ];
        assert_eq!(of_request(&headers(&twice)), Err(Uninspectable));
        let identity = headers(&[("content-type", "application/json"), ("content-encoding", "Identity")]);
        assert_eq!(of_request(&identity), Ok(Content::Json));
    }

    #[test]
    fn the_declared_types_choose_their_parser() {
        for content_type in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"; version=1",
            "application/vnd.api+json",
            "application/json;",
        ] {
            assert_eq!(request(content_type), Ok(Content::Json), "{content_type}");
        }
        assert_eq!(request("application/x-www-form-urlencoded; charset=utf-8"), Ok(Content::Form));
    }

    #[test]
    fn answers_are_scanned_unless_they_are_pictures() {
        let answer = |content_type: &str| of_answer(&headers(&[("content-type", content_type)]));
        assert_eq!(answer("application/json"), Ok(Answer::Structured(Content::Json)));
        assert_eq!(answer("application/problem+json; charset=utf-8"), Ok(Answer::Structured(Content::Json)));
        assert_eq!(answer("text/html; charset=ISO-8859-1"), Ok(Answer::Text));
        assert_eq!(answer("application/x-unknown"), Ok(Answer::Text));
        assert_eq!(answer("image/svg+xml"), Ok(Answer::Text));
        assert_eq!(answer("image/png"), Ok(Answer::Opaque));
        assert_eq!(answer("text/html; charset=utf-16le"), Err(Uninspectable));
        assert_eq!(of_answer(&HeaderMap::new()), Ok(Answer::Text));
    }
}
