//! One pass over a whole log: index, sum and tree of every line.
//!
//! It must never change a file. Tests: `tests/verify.rs`, `tests/log.rs`.

use std::io;
use std::path::PathBuf;

use crate::anchors::Anchors;
use crate::chain::{self, Sum};
use crate::line::Outline;
use crate::merkle::{Frontier, TreeHash};
use crate::segment::{LONGEST_LINE, Raw, RawLines, Segment};

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// Not a JSON object with an index, or (in [`crate::verify()`]) not exactly an audit line.
    #[error("it is not an audit line")]
    NotALine,
    /// The line found in its place has a higher index: lines were removed or moved.
    #[error("it is missing, line {found} stands in its place")]
    Missing {
        /// The index found.
        found: u64,
    },
    /// The line found in its place has a lower index: lines were repeated or moved.
    #[error("line {found} is repeated in its place")]
    Repeated {
        /// The index found.
        found: u64,
    },
    /// Its running sum does not fit its bytes and the line before.
    #[error("it was edited, or the line before it was exchanged")]
    Edited,
    /// Longer than a line can be.
    #[error("it is longer than a line can be")]
    TooLong,
    /// It ends without a newline, or holds zeros, and is not the end of the log.
    #[error("it is cut off, and more segments follow")]
    CutOff,
}

/// The state of a log after some of its lines.
#[derive(Debug, Clone)]
pub(crate) struct Walk {
    pub(crate) tree: Frontier,
    pub(crate) sum: Sum,
    /// Hash of the last line.
    pub(crate) leaf: TreeHash,
    /// What store and keyring are measured by.
    pub(crate) anchors: Anchors,
}

impl Default for Walk {
    fn default() -> Walk {
        Walk {
            tree: Frontier::default(),
            sum: Sum::default(),
            leaf: TreeHash::of_nothing(),
            anchors: Anchors::default(),
        }
    }
}

impl Walk {
    /// Takes the next line, without its newline.
    pub(crate) fn take(&mut self, line: &[u8]) -> Result<(), Flaw> {
        let outline: Outline<'_> = serde_json::from_slice(line).map_err(|_detail| Flaw::NotALine)?;
        expect_index(self.tree.size(), outline.index)?;
        self.sum = chain::check(line, self.sum).ok_or(Flaw::Edited)?;
        self.leaf = TreeHash::of_leaf(line);
        self.tree.push(self.leaf);
        self.anchors.take(&outline, line).ok_or(Flaw::NotALine)
    }
}

/// Sees every line, after it was taken.
pub(crate) type Each<'a> = dyn FnMut(&[u8], &Walk) -> Result<(), Flaw> + 'a;

/// How a log ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail {
    /// Bytes of whole lines in the last segment.
    pub(crate) whole: u64,
    /// Bytes after them that never became a line.
    pub(crate) torn: u64,
    /// Zeros after that, which were written ahead of lines.
    pub(crate) zeros: u64,
}

/// Why a pass ended early.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// A file could not be read.
    Io(PathBuf, io::Error),
    /// A line is not what it should be.
    Line(u64, PathBuf, Flaw),
}

/// Goes over all segments; `each` sees every line after it was taken.
pub(crate) fn over(segments: &[Segment], each: &mut Each<'_>) -> Result<(Walk, Tail), Stopped> {
    let mut walk = Walk::default();
    let mut tail = Tail::default();
    let last = segments.len().saturating_sub(1);
    for (number, segment) in segments.iter().enumerate() {
        let stop = |index: u64, flaw: Flaw| Stopped::Line(index, segment.path.clone(), flaw);
        let io_stop = |error: io::Error| Stopped::Io(segment.path.clone(), error);
        expect_index(walk.tree.size(), segment.first).map_err(|flaw| stop(walk.tree.size(), flaw))?;
        let mut lines = RawLines::open(&segment.path).map_err(io_stop)?;
        let torn = loop {
            let index = walk.tree.size();
            match lines.next().map_err(io_stop)? {
                Raw::Line(line) => {
                    walk.take(line).and_then(|()| each(line, &walk)).map_err(|flaw| stop(index, flaw))?;
                }
                Raw::End => break false,
                Raw::Torn if number == last => break true,
                Raw::Torn => return Err(stop(index, Flaw::CutOff)),
                Raw::TooLong => return Err(stop(index, Flaw::TooLong)),
            }
        };
        let whole = lines.consumed();
        let (torn, zeros) = if torn { segment.after(whole).map_err(io_stop)? } else { (0, 0) };
        tail = Tail { whole, torn, zeros };
    }
    Ok((walk, tail))
}

fn expect_index(expected: u64, found: u64) -> Result<(), Flaw> {
    match found.cmp(&expected) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(Flaw::Missing { found }),
        std::cmp::Ordering::Less => Err(Flaw::Repeated { found }),
    }
}

/// Bytes of a rendered event, at most.
pub(crate) const LONGEST_EVENT: usize = LONGEST_LINE - chain::OVERHEAD;
