//! Offline verification of a log directory against its checkpoint and one kept elsewhere.
//!
//! It must never need, or be able, to write. Tests: `tests/verify.rs`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::checkpoint::Checkpoint;
use crate::line::Line;
use crate::merkle::{Frontier, TreeHash};
use crate::note::{NoteError, VerifierKey};
use crate::segment::{self, Segment};
use crate::walk::{self, Flaw, Stopped, Tail, Walk};

/// What a verified log consists of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Verified {
    /// Whole lines.
    pub lines: u64,
    /// Root over them.
    pub root: TreeHash,
    /// The checkpoint found in the directory.
    pub signed: Checkpoint,
    /// Bytes at the end that never became a line (a crash while writing; never acknowledged).
    pub torn_bytes: u64,
    /// Segment files.
    pub segments: usize,
    /// Time of the first line.
    pub first_at: Option<Timestamp>,
    /// Time of the last line.
    pub last_at: Option<Timestamp>,
}

/// Why a log does not verify. All but `Io` mean that the log is not what was written, or the wrong key was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory has lines, yet no checkpoint.
    #[error("the checkpoint is missing")]
    CheckpointMissing,
    /// The checkpoint is not one, or not signed by the key.
    #[error("the checkpoint does not hold")]
    Checkpoint(#[source] NoteError),
    /// The checkpoint that was kept is of another log.
    #[error("the kept checkpoint is of another log")]
    OtherLog,
    /// The first bad line.
    #[error("line {index} of {}: {flaw}", path.display())]
    Line {
        /// Its index.
        index: u64,
        /// The segment it stands, or should stand, in.
        path: PathBuf,
        /// What is wrong.
        flaw: Flaw,
    },
    /// The log is shorter than a checkpoint says: line `have` is the first that is gone.
    #[error("the log ends before line {have}, but {signed} lines were signed")]
    Truncated {
        /// Lines found.
        have: u64,
        /// Lines signed.
        signed: u64,
    },
    /// Every line fits the one before, but they are not the lines that were signed: the log was written anew from a line
    /// at or after `from` and before `to`.
    #[error("the log was written anew from a line between {from} and {to}")]
    Rewritten {
        /// Lines that are known to be the signed ones.
        from: u64,
        /// Size of the checkpoint that differs.
        to: u64,
    },
}

/// Checks every line of the log in `directory`, its checkpoint, and `kept` if one was kept elsewhere.
///
/// # Errors
/// [`VerifyError`], which names the first bad line.
pub fn verify(
    directory: &Path,
    verifier: &VerifierKey,
    kept: Option<&Checkpoint>,
) -> Result<Verified, VerifyError> {
    if kept.is_some_and(|kept| kept.origin() != verifier.name()) {
        return Err(VerifyError::OtherLog);
    }
    // The checkpoint first: a log that grows meanwhile is then longer than it, never shorter.
    let signed = read_checkpoint(directory, verifier)?.ok_or(VerifyError::CheckpointMissing)?;
    let segments = list(directory)?;
    let mut times = (None, None);
    let heads: Vec<&Checkpoint> = [Some(&signed), kept].into_iter().flatten().collect();
    let (walk, tail) = recompute(&segments, &heads, &mut |line| {
        let line = Line::parse(line).map_err(|_detail| Flaw::NotALine)?;
        times = (times.0.or(Some(line.at)), Some(line.at));
        Ok(())
    })?;
    Ok(Verified {
        lines: walk.tree.size(),
        root: walk.tree.root(),
        signed,
        torn_bytes: tail.torn,
        segments: segments.len(),
        first_at: times.0,
        last_at: times.1,
    })
}

/// The checkpoint in a log directory, if there is a file of that name.
pub(crate) fn read_checkpoint(
    directory: &Path,
    verifier: &VerifierKey,
) -> Result<Option<Checkpoint>, VerifyError> {
    let path = directory.join(CHECKPOINT);
    match fs::read_to_string(&path) {
        Ok(note) => Checkpoint::open(&note, verifier).map(Some).map_err(VerifyError::Checkpoint),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(VerifyError::Io { path, source }),
    }
}

pub(crate) fn list(directory: &Path) -> Result<Vec<Segment>, VerifyError> {
    segment::list(directory).map_err(|source| VerifyError::Io { path: directory.to_owned(), source })
}

/// Goes over all lines and compares the tree with each head; `each` sees every line.
pub(crate) fn recompute(
    segments: &[Segment],
    heads: &[&Checkpoint],
    each: &mut dyn FnMut(&[u8]) -> Result<(), Flaw>,
) -> Result<(Walk, Tail), VerifyError> {
    let mut agreed = 0;
    let mut differing: Option<u64> = None;
    let mut compare = |tree: &Frontier| {
        for head in heads.iter().filter(|head| head.size() == tree.size()) {
            if *head.root() == tree.root() {
                agreed = agreed.max(head.size());
            } else {
                differing = Some(differing.map_or(head.size(), |size| size.min(head.size())));
            }
        }
    };
    compare(&Frontier::default());
    let (walk, tail) = walk::over(segments, &mut |line, walk| {
        compare(&walk.tree);
        each(line)
    })
    .map_err(|stopped| match stopped {
        Stopped::Io(path, source) => VerifyError::Io { path, source },
        Stopped::Line(index, path, flaw) => VerifyError::Line { index, path, flaw },
    })?;
    if let Some(to) = differing {
        return Err(VerifyError::Rewritten { from: if agreed < to { agreed } else { 0 }, to });
    }
    let have = walk.tree.size();
    match heads.iter().map(|head| head.size()).max() {
        Some(signed) if signed > have => Err(VerifyError::Truncated { have, signed }),
        _ => Ok((walk, tail)),
    }
}

/// File name of the newest checkpoint.
pub(crate) const CHECKPOINT: &str = "checkpoint";
