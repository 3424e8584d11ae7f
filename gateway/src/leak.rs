//! The leak scan: is there a card number where none is declared?
//!
//! Must never report what it found, only where; and never pass what it could not look at. Works on decoded forms as
//! well as on raw bytes (threat B37 to B44). Tests: `leak/tests.rs`.

pub mod echo;
pub mod inside;

use crate::body::{self, BodyError, Declared, Format};
use cordon_card::{Pan, Truncation};
use cordon_daemon::body::WipedBytes;
use cordon_policy::LookInside;
use http::HeaderMap;
use memchr::memchr;
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
    /// In any of them, below an encoding that its type does not ask for.
    Inside,
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
            Self::Inside => "inside",
        }
    }
}

/// A search in one message, by one route's rule of how deep to look.
#[derive(Debug)]
pub struct Search {
    rule: LookInside,
    open: Option<Place>,
    inside: bool,
}

impl Search {
    /// A search that has found nothing.
    #[must_use]
    pub const fn new(rule: LookInside) -> Self {
        Self { rule, open: None, inside: false }
    }

    /// The place of a number that may not be passed on, if there is one.
    #[must_use]
    pub fn found(&self) -> Option<Place> {
        let denied = self.inside && self.rule == LookInside::Deny;
        self.open.or(denied.then_some(Place::Inside))
    }

    /// Whether there is a number that is only to be reported.
    #[must_use]
    pub fn reports(&self) -> bool {
        self.inside && self.rule == LookInside::Report
    }

    /// Looks at bytes of no known structure: as they are, below percent-encoding, and as deep as the rule says.
    pub fn look(&mut self, place: Place, bytes: &[u8]) {
        if self.open.is_some() {
            return;
        }
        if in_bytes(bytes) {
            self.open = Some(place);
        } else if self.rule != LookInside::Off && !self.inside {
            self.inside = inside::holds(bytes);
        }
    }

    /// Looks at bytes outside the spans, a list in order.
    pub fn look_outside(&mut self, place: Place, bytes: &[u8], spans: &[Range<usize>]) {
        for gap in gaps(bytes, spans) {
            match gap {
                Some(gap) => self.look(place, gap),
                None => self.open = Some(place),
            }
        }
    }

    /// The same for a part of a URL, in which a `+` may stand for a space.
    pub fn look_at_url(&mut self, place: Place, part: &[u8], spans: &[Range<usize>]) {
        self.look_outside(place, part, spans);
        if part.contains(&b'+') {
            let blank = |byte: &u8| if *byte == b'+' { b' ' } else { *byte };
            self.look_outside(place, &Zeroizing::new(part.iter().map(blank).collect::<Vec<_>>()), spans);
        }
    }

    /// Looks through a body: its decoded keys and values, and its bytes.
    ///
    /// # Errors
    /// [`BodyError`] for a body that cannot be read; it must not be passed on.
    pub fn look_through(&mut self, format: &Format, body: &[u8]) -> Result<(), BodyError> {
        let mut heard = |text: &str| self.look(Place::Body, text.as_bytes());
        body::locate(format, body, &Declared::default(), &mut heard)?;
        self.look(Place::Body, body);
        Ok(())
    }

    /// Looks at the names and values of headers.
    pub fn look_at_headers(&mut self, headers: &HeaderMap) {
        for (name, value) in headers {
            self.look(Place::Header, name.as_str().as_bytes());
            self.look(Place::Header, value.as_bytes());
        }
    }
}

/// What lies between the spans, a list in order; `None` for a gap beside a span that does not fit.
fn gaps<'b>(bytes: &'b [u8], spans: &[Range<usize>]) -> impl Iterator<Item = Option<&'b [u8]>> {
    let starts = std::iter::once(0).chain(spans.iter().map(|span| span.end));
    let ends = spans.iter().map(|span| span.start).chain(std::iter::once(bytes.len()));
    starts.zip(ends).map(|(start, end)| bytes.get(start..end))
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
    // A span that does not fit makes its gap unreadable, which counts as a finding.
    gaps(body, spans).any(|gap| gap.is_none_or(|gap| cordon_scan::first(gap).is_some()))
}

/// True when a card number stands in bytes of no known structure, as they are or after undoing percent-encoding up
/// to three times.
#[must_use]
pub fn in_bytes(bytes: &[u8]) -> bool {
    in_layers(bytes, PERCENT_LAYERS)
}

fn in_layers(bytes: &[u8], left: usize) -> bool {
    if cordon_scan::first(bytes).is_some() || stands_between_nuls(bytes) {
        return true;
    }
    if left == 0 || memchr(b'%', bytes).is_none() {
        return false;
    }
    // With room for all of it: a growing buffer would leave copies behind that are not wiped.
    let mut decoded = Zeroizing::new(Vec::with_capacity(bytes.len()));
    decoded.extend(percent_decode(bytes));
    in_layers(&decoded, left.saturating_sub(1))
}

/// In UTF-16 and UTF-32 every digit has NULs beside it.
fn stands_between_nuls(bytes: &[u8]) -> bool {
    if memchr(0, bytes).is_none() {
        return false;
    }
    let squeezed = Zeroizing::new(bytes.iter().copied().filter(|byte| *byte != 0).collect::<Vec<_>>());
    cordon_scan::first(&squeezed).is_some()
}

/// A card number stands where it cannot be masked: in a key, in a JSON number, or across values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the card number cannot be masked")]
pub struct Unmaskable;

/// Replaces card numbers in the values of a body by their masked form, and reads the outcome again from the start.
///
/// # Errors
/// [`Unmaskable`] when a card number is left.
pub fn mask(format: &Format, bytes: &[u8], rule: LookInside) -> Result<Clean<WipedBytes>, Unmaskable> {
    let values = body::values(format, bytes).map_err(|_not_read| Unmaskable)?;
    let edits: Vec<_> = values
        .into_iter()
        .filter_map(|leaf| {
            let text = masked_text(leaf.text.expose(), Truncation::LastFour)?;
            Some(body::edit::Edit { span: leaf.span, text: Some(text), writing: leaf.writing })
        })
        .collect();
    let masked = body::edit::apply(bytes, &edits).map_err(|_misfit| Unmaskable)?.bytes;
    let mut search = Search::new(rule);
    search.look_through(format, &masked).map_err(|_not_read| Unmaskable)?;
    if search.found().is_some() { Err(Unmaskable) } else { Ok(Clean(masked)) }
}

/// The text with every card number in it masked; `None` when there is none. A text that is a card number as a whole
/// keeps the digits asked for, as far as its brand allows; one inside a longer text keeps its last four.
#[must_use]
pub fn masked_text(text: &str, keep: Truncation) -> Option<Zeroizing<String>> {
    if let Ok(whole) = Pan::parse(text) {
        return Some(Zeroizing::new(whole.truncated(keep).to_string()));
    }
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

/// How many layers of percent-encoding are undone: the one that a URL's reader undoes, and two more.
const PERCENT_LAYERS: usize = 3;

#[cfg(test)]
mod tests;
