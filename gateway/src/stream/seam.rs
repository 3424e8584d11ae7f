//! Looks at the places where a body was cut: what stands across one is in no piece.
//!
//! Must never let a number through that a search of the whole body would find. Tests: `stream/tests.rs`.

use super::piece::copy;
use crate::leak::{Place, Search};
use crate::problem::Fault;
use cordon_daemon::body::WipedBytes;
use cordon_policy::LookInside;
use cordon_scan::Scanner;
use memchr::{memchr, memrchr};
use std::fmt;

/// What was sent of a body so far, as far as a search still needs it.
pub struct Seams {
    rule: LookInside,
    /// Reads all that is sent as one stream, however it was cut.
    scanner: Scanner,
    length: u64,
    /// Where cuts are about which nothing is decided yet.
    cuts: Vec<u64>,
    /// The end of the piece before.
    end: WipedBytes,
}

impl fmt::Debug for Seams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seams").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Seams {
    /// Nothing sent so far, with the route's rule of how deep to look.
    #[must_use]
    pub fn new(rule: LookInside) -> Self {
        Self { rule, scanner: Scanner::default(), length: 0, cuts: Vec::new(), end: WipedBytes::default() }
    }

    /// Looks at the place between what was sent before and this. True for a number there that is only to be reported.
    ///
    /// # Errors
    /// [`Fault::Leak`] for any other.
    pub fn join(&mut self, next: &[u8]) -> Result<bool, Fault> {
        let mut reports = false;
        if self.length > 0 {
            self.cuts.push(self.length);
            reports = self.look(next)?;
        }
        let (cuts, mut crossed) = (&self.cuts, false);
        self.scanner.feed(next, &mut |found| crossed |= crosses(cuts, found.start, found.end));
        if crossed {
            return Err(LEAK);
        }
        let settled = self.scanner.settled();
        self.cuts.retain(|cut| *cut > settled);
        self.length = self.length.saturating_add(u64::try_from(next.len()).unwrap_or(u64::MAX));
        self.end = copy(last_lines(next));
        Ok(reports)
    }

    /// Ends the body.
    ///
    /// # Errors
    /// [`Fault::Leak`] for a number across the last cut.
    pub fn finish(self) -> Result<(), Fault> {
        let (cuts, mut crossed) = (self.cuts, false);
        self.scanner.finish(&mut |found| crossed |= crosses(&cuts, found.start, found.end));
        if crossed { Err(LEAK) } else { Ok(()) }
    }

    /// Below encodings: lines before and after a cut, which hold what neither holds alone.
    fn look(&self, next: &[u8]) -> Result<bool, Fault> {
        let start = first_lines(next);
        let mut both = WipedBytes::with_capacity(self.end.len().saturating_add(start.len()));
        both.extend_from_slice(&self.end);
        both.extend_from_slice(start);
        let seen = self.search(&both);
        if seen.found().is_none() && !seen.reports() {
            return Ok(false);
        }
        let (before, after) = (self.search(&self.end), self.search(start));
        if seen.found().is_some() && before.found().is_none() && after.found().is_none() {
            return Err(LEAK);
        }
        Ok(seen.reports() && !before.reports() && !after.reports())
    }

    fn search(&self, bytes: &[u8]) -> Search<'static> {
        let mut search = Search::new(self.rule);
        search.look(Place::Body, bytes);
        search
    }
}

fn crosses(cuts: &[u64], start: u64, end: u64) -> bool {
    cuts.iter().any(|cut| start < *cut && *cut < end)
}

/// Whole lines, at least [`WINDOW`] bytes of them if there are, so that a coded text is cut where its lines are.
fn last_lines(bytes: &[u8]) -> &[u8] {
    let from = bytes.len().saturating_sub(WINDOW);
    let line = bytes.get(..from).and_then(|before| memrchr(b'\n', before));
    let start = line.map_or(0, |line| line.saturating_add(1)).max(bytes.len().saturating_sub(WIDEST));
    bytes.get(start..).unwrap_or_default()
}

fn first_lines(bytes: &[u8]) -> &[u8] {
    let line = bytes.get(WINDOW..).and_then(|after| memchr(b'\n', after));
    let end = line.map_or(bytes.len(), |line| line.saturating_add(WINDOW)).min(WIDEST);
    bytes.get(..end).unwrap_or(bytes)
}

const LEAK: Fault = Fault::Leak(Place::Body);
/// Three times percent-encoded, a number of nineteen digits has less.
const WINDOW: usize = 1024;
const WIDEST: usize = 64 * 1024;
