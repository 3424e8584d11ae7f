//! The scanner over a stream that comes in chunks.
//!
//! Findings and their offsets do not depend on how the stream is cut: a chunk is decided up to where the last
//! decision can still see all it looks at, and the rest is held until more has come.
//! Must never hold more than [`CAPACITY`] bytes, and wipes them. Tests: `tests/chunks.rs`.

use std::fmt::{self, Debug, Formatter};

use zeroize::{Zeroize, Zeroizing};

use crate::Finding;
use crate::candidate::{LOOK_AHEAD, LOOK_BEHIND, next_in};

/// A scanner for one stream. Feed it the chunks in order, then finish it: the last findings may come only then.
pub struct Scanner {
    /// The end of what was fed: what is not decided yet, and [`LOOK_BEHIND`] bytes before it.
    held: Zeroizing<Vec<u8>>,
    /// Offset of the first held byte in the stream.
    base: u64,
    /// All findings that start before this offset were reported.
    decided: u64,
}

/// Most bytes held. Allocated once, so that growing leaves no copies behind.
const CAPACITY: usize = 4096;

/// How much of a chunk joins what is held, so that the rest can be scanned in place: enough to decide all that is
/// held and to look behind from there.
const JOINT: usize = LOOK_BEHIND + LOOK_AHEAD;
const _: () = assert!(CAPACITY >= 4 * JOINT, "held bytes are trimmed when less than a joint is free");

impl Default for Scanner {
    fn default() -> Self {
        Self { held: Zeroizing::new(Vec::with_capacity(CAPACITY)), base: 0, decided: 0 }
    }
}

impl Scanner {
    /// Scans the next chunk of the stream. `found` is called for each finding that is certain by now, in order.
    pub fn feed(&mut self, chunk: &[u8], found: &mut impl FnMut(Finding)) {
        if !self.held.is_empty() || chunk.len() <= JOINT {
            let (joint, beyond) = chunk.split_at_checked(JOINT).unwrap_or((chunk, &[]));
            self.held.extend_from_slice(joint);
            let limit = self.held.len().saturating_sub(LOOK_AHEAD);
            self.decided = decide(&self.held, self.base, self.decided, limit, found);
            if beyond.is_empty() {
                self.trim();
                return;
            }
            // What is held is decided, and the start of the chunk far enough to look behind within the chunk.
            self.base = self.base.saturating_add(offset(self.held.len() - joint.len()));
        }
        let limit = chunk.len().saturating_sub(LOOK_AHEAD);
        self.decided = decide(chunk, self.base, self.decided, limit, found);
        self.hold_end_of(chunk);
    }

    /// Up to where the stream is settled: no finding that is reported later starts before this offset. A proxy that
    /// must not let a number out may pass on the bytes before it, and has to keep those after it.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.decided
    }

    /// Ends the stream and reports what is left.
    pub fn finish(mut self, found: &mut impl FnMut(Finding)) {
        let limit = self.held.len();
        self.decided = decide(&self.held, self.base, self.decided, limit, found);
    }

    /// Forgets held bytes that no decision will look at any more, once there are many.
    fn trim(&mut self) {
        if self.held.len() + JOINT <= CAPACITY {
            return;
        }
        let needless = self.needless(self.held.len());
        let kept = self.held.len() - needless;
        self.held.copy_within(needless.., 0);
        if let Some(stale) = self.held.get_mut(kept..) {
            stale.zeroize();
        }
        self.held.truncate(kept);
        self.base = self.base.saturating_add(offset(needless));
    }

    fn hold_end_of(&mut self, window: &[u8]) {
        let needless = self.needless(window.len());
        self.held.as_mut_slice().zeroize();
        self.held.clear();
        self.held.extend_from_slice(window.get(needless..).unwrap_or_default());
        self.base = self.base.saturating_add(offset(needless));
    }

    /// How many bytes at the start of a window at `base` lie further back than any decision looks.
    fn needless(&self, length: usize) -> usize {
        let decided = usize::try_from(self.decided.saturating_sub(self.base)).unwrap_or(length);
        decided.saturating_sub(LOOK_BEHIND).min(length)
    }
}

impl Debug for Scanner {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("Scanner")
    }
}

/// Reports what starts in a window before `limit` and was not decided before; gives how far is decided now.
fn decide(window: &[u8], base: u64, decided: u64, limit: usize, found: &mut impl FnMut(Finding)) -> u64 {
    let mut from = usize::try_from(decided.saturating_sub(base)).unwrap_or(window.len());
    while let Some(hit) = next_in(window, from, limit) {
        from = hit.end;
        found(hit.into_finding(base));
    }
    base.saturating_add(offset(from.max(limit))).max(decided)
}

fn offset(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
