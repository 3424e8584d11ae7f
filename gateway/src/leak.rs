//! The leak scan: is there a card number where none is declared?
//!
//! Must never report what it found, only where; and never pass what it could not look at. Works on decoded forms as
//! well as on raw bytes (threat B37 to B44). Tests: `leak/tests.rs`.

pub mod budget;
pub mod echo;
pub mod exception;
pub mod finding;
pub mod inside;
pub mod loose;
pub mod suspects;

use crate::body::{self, Format};
use crate::flow::head_fields::HeadLeaf;
use cordon_card::{Pan, Truncation};
use cordon_daemon::body::WipedBytes;
use cordon_policy::{Day, LookInside};
use exception::Exceptions;
use http::HeaderMap;
use loose::Loose;
use memchr::memchr;
use percent_encoding::percent_decode;
use std::ops::Range;
use suspects::Suspects;
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
pub struct Search<'p> {
    rule: LookInside,
    open: Option<Place>,
    inside: bool,
    /// Something could not be looked at.
    blind: Option<Place>,
    spared: Option<Place>,
    /// Numbers that may stand anywhere.
    cleared: &'p [Pan],
    /// Numbers that stand open, noted where they will not stop the message: then the search goes on to its end.
    suspects: Option<Suspects>,
}

impl<'p> Search<'p> {
    /// A search that has found nothing.
    #[must_use]
    pub const fn new(rule: LookInside) -> Self {
        let (open, blind, spared) = (None, None, None);
        Self { rule, open, inside: false, blind, spared, cleared: &[], suspects: None }
    }

    /// The same, but these numbers may stand anywhere.
    #[must_use]
    pub fn clearing(self, cleared: &'p [Pan]) -> Self {
        Self { cleared, ..self }
    }

    /// The same, to its end whatever stands open, and notes each such number.
    #[must_use]
    pub fn suspecting(self) -> Self {
        Self { suspects: Some(Suspects::default()), ..self }
    }

    /// The place of a number that may not be passed on, if there is one.
    #[must_use]
    pub fn found(&self) -> Option<Place> {
        self.open.or(self.denied())
    }

    /// The same, but for numbers that stand open.
    #[must_use]
    pub fn denied(&self) -> Option<Place> {
        let inside = self.inside && self.rule == LookInside::Deny;
        self.blind.or(inside.then_some(Place::Inside))
    }

    /// Whether there is a number that is only to be reported.
    #[must_use]
    pub fn reports(&self) -> bool {
        self.inside && self.rule == LookInside::Report
    }

    /// Where a number stands that an exception lets stand, if there is one.
    #[must_use]
    pub const fn spared(&self) -> Option<Place> {
        self.spared
    }

    /// The numbers that were noted.
    #[must_use]
    pub fn suspects(self) -> Suspects {
        self.suspects.unwrap_or_default()
    }

    /// Looks at bytes of no known structure: as they are, below percent-encoding, and as deep as the rule says.
    pub fn look(&mut self, place: Place, bytes: &[u8]) {
        if self.open.is_some() && self.suspects.is_none() {
            return;
        }
        if self.is_found(bytes) {
            self.open.get_or_insert(place);
            if self.suspects.is_none() {
                return;
            }
        }
        self.look_inside(bytes);
    }

    /// Looks at bytes in which a number may stand open.
    fn spare(&mut self, place: Place, bytes: &[u8]) {
        if in_bytes(bytes) {
            self.spared.get_or_insert(place);
        }
        self.look_inside(bytes);
    }

    /// What stands open besides is no finding of its own: undoing the escapes of a text shows all of the text.
    fn look_inside(&mut self, bytes: &[u8]) {
        if self.rule != LookInside::Off && !self.inside {
            let open = self.suspects.as_ref().map_or(self.cleared, Suspects::pans);
            self.inside = inside::holds(bytes, open);
        }
    }

    fn is_found(&mut self, bytes: &[u8]) -> bool {
        let found = uncleared(bytes, self.cleared);
        if let Some(suspects) = self.suspects.as_mut().filter(|_| found) {
            let mut note = |layer: &[u8]| {
                suspects.note(layer, &cordon_scan::scan(layer));
                false
            };
            in_layers(bytes, PERCENT_LAYERS, &mut note);
        }
        found
    }

    /// Looks at bytes outside the spans, a list in order.
    pub fn look_outside(&mut self, place: Place, bytes: &[u8], spans: &[Range<usize>]) {
        for gap in gaps(bytes, spans) {
            match gap {
                Some(gap) => self.look(place, gap),
                None => self.blind = Some(place),
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

    /// Looks at the names of headers, and at the values but those of `spared`.
    pub fn look_at_headers(&mut self, headers: &HeaderMap, spared: &[HeadLeaf]) {
        for (name, value) in headers {
            self.look(Place::Header, name.as_str().as_bytes());
            if !spared.iter().any(|leaf| leaf.is_value_of(name)) {
                self.look(Place::Header, value.as_bytes());
            }
        }
    }
}

/// What lies between the spans, a list in order; `None` for a gap beside a span that does not fit.
fn gaps<'b>(bytes: &'b [u8], spans: &[Range<usize>]) -> impl Iterator<Item = Option<&'b [u8]>> {
    let starts = std::iter::once(0).chain(spans.iter().map(|span| span.end));
    let ends = spans.iter().map(|span| span.start).chain(std::iter::once(bytes.len()));
    starts.zip(ends).map(|(start, end)| bytes.get(start..end))
}

/// Proof that a scan of `T` found nothing, or nothing that stops it. Made by scans alone.
#[derive(Debug)]
pub struct Clean<T>(T);

impl<T> Clean<T> {
    /// What was scanned.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// What was scanned with a finding that the route wants passed on.
    pub const fn but_reported(found: T) -> Self {
        Self(found)
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
    in_layers(bytes, PERCENT_LAYERS, &mut |layer| cordon_scan::first(layer).is_some())
}

/// The same, for numbers that are none of the cleared ones.
fn uncleared(bytes: &[u8], cleared: &[Pan]) -> bool {
    let mut is = |layer: &[u8]| !suspects::are_cleared(layer, cleared);
    in_bytes(bytes) && (cleared.is_empty() || in_layers(bytes, PERCENT_LAYERS, &mut is))
}

/// Whether one of the layers is of the kind asked for.
fn in_layers(bytes: &[u8], left: usize, is: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    if is(bytes) || without_nuls(bytes).is_some_and(|squeezed| is(&squeezed)) {
        return true;
    }
    if left == 0 || memchr(b'%', bytes).is_none() {
        return false;
    }
    // With room for all of it: a growing buffer would leave copies behind that are not wiped.
    let mut decoded = Zeroizing::new(Vec::with_capacity(bytes.len()));
    decoded.extend(percent_decode(bytes));
    in_layers(&decoded, left.saturating_sub(1), is)
}

/// In UTF-16 and UTF-32 every digit has NULs beside it.
fn without_nuls(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    memchr(0, bytes)?;
    Some(Zeroizing::new(bytes.iter().copied().filter(|byte| *byte != 0).collect()))
}

/// A card number stands where it cannot be masked: in a key, in a JSON number, or across values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the card number cannot be masked")]
pub struct Unmaskable;

/// How what was cut is read again.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'p> {
    /// How deep.
    pub inside: LookInside,
    /// What is left alone.
    pub exceptions: &'p Exceptions,
    /// The day on which it is.
    pub today: Day,
    /// Numbers that may stand anywhere.
    pub cleared: &'p [Pan],
}

/// Replaces card numbers in the values of a body by their masked form, and reads the outcome again from the start.
///
/// # Errors
/// [`Unmaskable`] when a card number is left.
pub fn mask(format: &Format, bytes: &[u8], sight: Sight<'_>) -> Result<Clean<WipedBytes>, Unmaskable> {
    let spared = sight.exceptions.spans(sight.today, format, bytes).map_err(|_not_read| Unmaskable)?;
    let loose = Loose::find(format, bytes, &spared)?;
    let stays = |pan: &Pan| sight.cleared.iter().any(|known| known.expose() == pan.expose());
    let edits =
        loose.edits(|number| (!number.pan.as_ref().is_some_and(stays)).then(|| number.masked.clone()))?;
    reread(format, body::edit::apply(bytes, &edits).map_err(|_misfit| Unmaskable)?.bytes, sight)
}

/// Reads a body from its start to its end, keys, values and bytes.
///
/// # Errors
/// [`Unmaskable`] when there is a card number.
pub fn reread(format: &Format, body: WipedBytes, sight: Sight<'_>) -> Result<Clean<WipedBytes>, Unmaskable> {
    let mut search = Search::new(sight.inside).clearing(sight.cleared);
    let read = sight.exceptions.look_through(sight.today, &mut search, (format, &body), &mut |_| ());
    read.map_err(|_not_read| Unmaskable)?;
    if search.found().is_some() { Err(Unmaskable) } else { Ok(Clean(body)) }
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
