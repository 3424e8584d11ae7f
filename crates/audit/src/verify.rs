//! Offline verification of a log directory against its checkpoint and one kept elsewhere.
//!
//! It must never need, or be able, to write. Tests: `tests/verify.rs`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::checkpoint::Checkpoint;
use crate::cosigned;
use crate::line::Line;
use crate::merkle::{Frontier, TreeHash};
use crate::name::Name;
use crate::note::{NoteError, VerifierKey};
use crate::proof::ProofError;
use crate::segment::{self, Segment};
use crate::tiles::{Builder, Tile};
use crate::walk::{self, Flaw, Stopped, Tail, Walk};
use crate::witness::WitnessKey;

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
    /// Tiles found that agree with the lines.
    pub tiles: u64,
    /// The checkpoint that witnesses cosigned, if there is one in the directory.
    pub cosigned: Option<Checkpoint>,
    /// When the witnesses that were asked for cosigned it, in seconds since 1970.
    pub cosigned_at: Vec<u64>,
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
    /// A witness that was asked for has not cosigned, or the cosigned checkpoint is gone.
    #[error("no checkpoint in the directory is cosigned by {0}")]
    NotCosigned(Name),
    /// The lines verify, and a tile made from them says something else.
    #[error("every line is as it was signed, but the tile {} is not", path.display())]
    Tile {
        /// Its file.
        path: PathBuf,
    },
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

/// What a log is verified against.
#[derive(Debug, Clone, Copy)]
pub struct Against<'a> {
    /// The log's public key.
    pub verifier: &'a VerifierKey,
    /// A checkpoint that was kept elsewhere.
    pub kept: Option<&'a Checkpoint>,
    /// Witnesses that must have cosigned.
    pub witnesses: &'a [WitnessKey],
}

/// [`verify_against`] without witnesses.
///
/// # Errors
/// [`VerifyError`], which names the first bad line.
pub fn verify(
    directory: &Path,
    verifier: &VerifierKey,
    kept: Option<&Checkpoint>,
) -> Result<Verified, VerifyError> {
    verify_against(directory, &Against { verifier, kept, witnesses: &[] })
}

/// Checks every line of the log in `directory`, its checkpoint, the one its witnesses cosigned, one that was kept
/// elsewhere, and the tiles.
///
/// # Errors
/// [`VerifyError`], which names the first bad line.
pub fn verify_against(directory: &Path, against: &Against<'_>) -> Result<Verified, VerifyError> {
    let Against { verifier, kept, witnesses } = *against;
    if kept.is_some_and(|kept| kept.origin() != verifier.name()) {
        return Err(VerifyError::OtherLog);
    }
    // The checkpoints first: a log that grows meanwhile is then longer than them, never shorter.
    let signed = read_checkpoint(directory, verifier)?.ok_or(VerifyError::CheckpointMissing)?;
    let cosigned = cosigned::read(directory, verifier)?;
    let cosigned_at = times(cosigned.as_ref(), witnesses)?;
    let segments = list(directory)?;
    let mut times = (None, None);
    let heads: Vec<&Checkpoint> = [Some(&signed), kept, cosigned.as_ref()].into_iter().flatten().collect();
    let mut tiles = Builder::default();
    let mut seen = SeenTiles { directory, agree: 0, fault: None };
    let (walk, tail) = recompute(&segments, &heads, &mut |line, leaf| {
        let line = Line::parse(line).map_err(|_detail| Flaw::NotALine)?;
        times = (times.0.or(Some(line.at)), Some(line.at));
        tiles.push(leaf, &mut |tile| seen.look_at(tile));
        Ok(())
    })?;
    for tile in tiles.partial() {
        seen.look_at(&tile);
    }
    if let Some(fault) = seen.fault {
        return Err(fault);
    }
    Ok(Verified {
        lines: walk.tree.size(),
        root: walk.tree.root(),
        signed,
        torn_bytes: tail.torn,
        segments: segments.len(),
        first_at: times.0,
        last_at: times.1,
        tiles: seen.agree,
        cosigned,
        cosigned_at,
    })
}

/// When each witness cosigned; all must have.
fn times(cosigned: Option<&Checkpoint>, witnesses: &[WitnessKey]) -> Result<Vec<u64>, VerifyError> {
    let Some(first) = witnesses.first() else { return Ok(Vec::new()) };
    let cosigned = cosigned.ok_or_else(|| VerifyError::NotCosigned(first.name().clone()))?;
    cosigned::times(cosigned.note(), witnesses).map_err(|error| match error {
        ProofError::NotCosigned(name) => VerifyError::NotCosigned(name),
        _ => VerifyError::NotCosigned(first.name().clone()),
    })
}

/// The tiles of a directory, compared with those the lines make. One that is missing is no fault: tiles come after lines.
struct SeenTiles<'a> {
    directory: &'a Path,
    agree: u64,
    fault: Option<VerifyError>,
}

impl SeenTiles<'_> {
    fn look_at(&mut self, tile: &Tile<'_>) {
        let path = tile.path(self.directory);
        match tile.is_stored(self.directory) {
            Ok(Some(true)) => self.agree = self.agree.saturating_add(1),
            Ok(None) => {}
            Ok(Some(false)) => {
                self.fault.get_or_insert(VerifyError::Tile { path });
            }
            Err(source) => {
                self.fault.get_or_insert(VerifyError::Io { path, source });
            }
        }
    }
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

/// Sees every line and its hash, after it was taken.
type EachLeaf<'a> = dyn FnMut(&[u8], TreeHash) -> Result<(), Flaw> + 'a;

/// Goes over all lines and compares the tree with each head; `each` sees every line and its hash.
pub(crate) fn recompute(
    segments: &[Segment],
    heads: &[&Checkpoint],
    each: &mut EachLeaf<'_>,
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
        each(line, walk.leaf)
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
