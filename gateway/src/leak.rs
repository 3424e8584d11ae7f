//! The leak scan: is there a card number where none is declared?
//!
//! Must never report what it found, only where; and never pass what it could not look at. Works on decoded forms as
//! well as on raw bytes (threat B37 to B44). Tests: `leak/tests.rs`.

pub mod echo;

use crate::body::{self, Text};
use cordon_daemon::body::WipedBytes;
use cordon_policy::Content;
use http::HeaderMap;
use percent_encoding::percent_decode;
use std::ops::Range;
use zeroize::Zeroizing;

/// The part of a message in which a card number was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The body, outside the declared fields.
    Body,
    /// A header's value.
    Header,
    /// The path.
    Path,
    /// The query.
    Query,
}

impl Place {
    /// As problem documents and metrics name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Header => "header",
            Self::Path => "path",
            Self::Query => "query",
        }
    }
}

/// Proof that a scan of `T` found nothing. Made here alone.
#[derive(Debug)]
pub struct Clean<T>(T);

impl<T> Clean<T> {
    /// What was scanned.
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// Passes on a body in which no card number stands outside `declared`, a list of spans in order.
///
/// # Errors
/// [`Place::Body`] when there is one.
pub fn outside(body: WipedBytes, declared: &[Range<usize>]) -> Result<Clean<WipedBytes>, Place> {
    if stands_outside(&body, declared) { Err(Place::Body) } else { Ok(Clean(body)) }
}

/// True when a card number stands in the body, read as it is, outside the spans.
#[must_use]
pub fn stands_outside(body: &[u8], spans: &[Range<usize>]) -> bool {
    let starts = std::iter::once(0).chain(spans.iter().map(|span| span.end));
    let ends = spans.iter().map(|span| span.start).chain(std::iter::once(body.len()));
    // A span that does not fit makes its gap unreadable, which counts as a finding.
    starts
        .zip(ends)
        .any(|(start, end)| body.get(start..end).is_none_or(|gap| cordon_scan::first(gap).is_some()))
}

/// Where in a request's head a card number stands, if anywhere.
#[must_use]
pub fn in_head(path: &str, query: Option<&str>, headers: &HeaderMap) -> Option<Place> {
    if in_url_part(path.as_bytes()) {
        return Some(Place::Path);
    }
    if query.is_some_and(|query| in_url_part(query.as_bytes())) {
        return Some(Place::Query);
    }
    in_headers(headers).then_some(Place::Header)
}

/// True when a card number stands in a header's name or value, as it is or percent-encoded.
#[must_use]
pub fn in_headers(headers: &HeaderMap) -> bool {
    headers.iter().any(|(name, value)| in_bytes(value.as_bytes()) || in_bytes(name.as_str().as_bytes()))
}

/// True when a card number stands in a decoded text, or in what it decodes to once more.
#[must_use]
pub fn in_text(text: &str) -> bool {
    in_bytes(text.as_bytes())
}

fn in_url_part(part: &[u8]) -> bool {
    if !part.contains(&b'+') {
        return in_bytes(part);
    }
    let spaced =
        Zeroizing::new(part.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect::<Vec<_>>());
    in_bytes(&spaced) || in_bytes(part)
}

/// True when a card number stands in bytes of no known structure, as they are or after undoing percent-encoding once
/// and twice.
#[must_use]
pub fn in_bytes(bytes: &[u8]) -> bool {
    in_layers(bytes, PERCENT_LAYERS)
}

fn in_layers(bytes: &[u8], left: usize) -> bool {
    if cordon_scan::first(bytes).is_some() {
        return true;
    }
    if left == 0 || !bytes.contains(&b'%') {
        return false;
    }
    // With room for all of it: a growing buffer would leave copies behind that are not wiped.
    let mut decoded = Zeroizing::new(Vec::with_capacity(bytes.len()));
    decoded.extend(percent_decode(bytes));
    in_layers(&decoded, left.saturating_sub(1))
}

/// A card number stands where it cannot be masked: in a key, in a JSON number, or across values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the card number cannot be masked")]
pub struct Unmaskable;

/// Replaces card numbers in the values of a body by their masked form, and reads the outcome again from the start.
///
/// # Errors
/// [`Unmaskable`] when a card number is left.
pub fn mask(content: Content, bytes: &[u8]) -> Result<Clean<WipedBytes>, Unmaskable> {
    let values = match content {
        Content::Json => body::json::values(bytes),
        Content::Form => body::form::values(bytes),
    };
    let values = values.map_err(|_not_read| Unmaskable)?;
    let edits: Vec<_> = values
        .into_iter()
        .filter_map(|(span, text)| masked_text(&text).map(|text| body::edit::Edit { span, text }))
        .collect();
    let masked = body::edit::apply(content, bytes, &edits).map_err(|_misfit| Unmaskable)?.bytes;
    if in_structure(content, &masked) || stands_outside(&masked, &[]) {
        Err(Unmaskable)
    } else {
        Ok(Clean(masked))
    }
}

/// True when a card number stands in the decoded keys and values of a body, or when it cannot be read.
#[must_use]
pub fn in_structure(content: Content, bytes: &[u8]) -> bool {
    let mut found = false;
    let read = body::locate(content, bytes, &body::Declared::default(), &mut |text| found |= in_text(text));
    found || read.is_err()
}

/// The text with every card number in it masked; `None` when there is none.
fn masked_text(text: &Text<'_>) -> Option<Zeroizing<String>> {
    let text = text.expose();
    let mut findings = cordon_scan::scan(text.as_bytes());
    findings.sort_by_key(|finding| finding.start);
    let mut masked = Zeroizing::new(String::with_capacity(text.len()));
    let mut copied = 0;
    for finding in &findings {
        let start = usize::try_from(finding.start).ok()?;
        masked.push_str(text.get(copied..start)?);
        masked.push_str(&finding.masked.to_string());
        copied = usize::try_from(finding.end).ok()?;
    }
    masked.push_str(text.get(copied..)?);
    (!findings.is_empty()).then_some(masked)
}

/// How many layers of percent-encoding are undone. A path or form value with a third is not forwarded by its parser.
const PERCENT_LAYERS: usize = 2;

#[cfg(test)]
mod tests;
