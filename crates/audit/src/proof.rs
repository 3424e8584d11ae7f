//! Proofs that leave the log: that one line is in it (C2SP tlog-proof), and that it continues an older checkpoint.
//!
//! It must never write a proof that does not verify, whatever the tiles say. Tests: `tests/proofs.rs`, and the fuzz target
//! `audit_proof`.

use std::fmt;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

use data_encoding::BASE64;

use crate::checkpoint::{Checkpoint, read_hash, read_number};
use crate::cosigned;
use crate::follow::Follower;
use crate::line::{Line, LineError};
use crate::merkle::{Frontier, TreeHash};
use crate::note::{NoteError, VerifierKey, base64};
use crate::path;
use crate::tiles::Reader;
use crate::verify::{CHECKPOINT, VerifyError};
use crate::witness::{Submission, WitnessKey};

/// That one line is in the log a checkpoint is of. Reads and writes as C2SP tlog-proof; the line is its extra data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    line: Vec<u8>,
    index: u64,
    path: Vec<TreeHash>,
    note: String,
}

/// What a proof that holds says.
#[derive(Debug, Clone)]
pub struct Proven {
    /// The line.
    pub line: Line,
    /// The checkpoint that covers it.
    pub checkpoint: Checkpoint,
    /// Seconds since 1970 at which each witness asked for cosigned it, in their order.
    pub cosigned: Vec<u64>,
}

impl InclusionProof {
    /// Reads the text form.
    ///
    /// # Errors
    /// [`ProofError::Form`].
    pub fn parse(text: &str) -> Result<InclusionProof, ProofError> {
        let (head, note) = text.split_once("\n\n").ok_or(ProofError::Form)?;
        let mut lines = head.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(ProofError::Form);
        }
        let line = lines.next().and_then(|line| line.strip_prefix("extra ")).ok_or(ProofError::Form)?;
        let line = base64(line).ok_or(ProofError::Form)?;
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(read_number);
        let path: Option<Vec<TreeHash>> = lines.map(read_hash).collect();
        let (Some(index), Some(path)) = (index, path) else { return Err(ProofError::Form) };
        if path.len() > LONGEST_PATH {
            return Err(ProofError::Form);
        }
        Ok(InclusionProof { line, index, path, note: note.to_owned() })
    }

    /// Checks everything: the log's signature, a cosignature of each of `witnesses`, the path, and that the line is the
    /// one with this index.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn check(&self, log: &VerifierKey, witnesses: &[WitnessKey]) -> Result<Proven, ProofError> {
        let checkpoint = Checkpoint::open(&self.note, log).map_err(ProofError::Checkpoint)?;
        let cosigned = cosigned::times(&self.note, witnesses)?;
        let leaf = TreeHash::of_leaf(&self.line);
        if path::root_of(leaf, self.index, checkpoint.size(), &self.path) != Some(*checkpoint.root()) {
            return Err(ProofError::Path);
        }
        let line = Line::parse(&self.line).map_err(ProofError::Line)?;
        if line.index != self.index {
            return Err(ProofError::Path);
        }
        Ok(Proven { line, checkpoint, cosigned })
    }
}

impl fmt::Display for InclusionProof {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{HEADER}\nextra {}\nindex {}", BASE64.encode(&self.line), self.index)?;
        for hash in &self.path {
            writeln!(out, "{hash}")?;
        }
        write!(out, "\n{}", self.note)
    }
}

/// Proves that line `index` of the log in `directory` is in it: under its cosigned checkpoint if that covers the line,
/// else under the newest.
///
/// # Errors
/// [`ProofError`]: no checkpoint covers the line yet, or the lines are not those that were signed.
pub fn prove(directory: &Path, log: &VerifierKey, index: u64) -> Result<InclusionProof, ProofError> {
    let cosigned = cosigned::read(directory, log)?.filter(|cosigned| cosigned.size() > index);
    let checkpoint = match cosigned {
        Some(checkpoint) => checkpoint,
        None => newest(directory, log)?,
    };
    if checkpoint.size() <= index {
        return Err(ProofError::NotCovered { index, size: checkpoint.size() });
    }
    let mut line = Vec::new();
    let mut follower = Follower::new(directory.to_owned(), index);
    follower.read(index.saturating_add(1), &mut |_, found| {
        line = found.to_vec();
        Ok(())
    })?;
    let leaf = TreeHash::of_leaf(&line);
    let ranges = path::inclusion(index, checkpoint.size());
    let path = hashes(directory, &ranges, &|proof| {
        path::root_of(leaf, index, checkpoint.size(), proof) == Some(*checkpoint.root())
    })?;
    Ok(InclusionProof { line, index, path, note: checkpoint.note().to_owned() })
}

/// What a witness that has cosigned `old` lines needs to cosign the newest checkpoint.
///
/// # Errors
/// [`ProofError`]: the log is shorter than that, or the lines are not those that were signed.
pub fn submission(directory: &Path, log: &VerifierKey, old: u64) -> Result<Submission, ProofError> {
    let checkpoint = newest(directory, log)?;
    let size = checkpoint.size();
    if old > size {
        return Err(ProofError::Shorter { old, size });
    }
    if old == 0 || old == size {
        return Ok(Submission { old, proof: Vec::new(), note: checkpoint.note().to_owned() });
    }
    let mut both = path::consistency(old, size);
    both.push(0..old);
    // The old root is not in a proof, but it is what the proof must lead from.
    let mut proof = hashes(directory, &both, &|found| {
        found
            .split_last()
            .is_some_and(|(root, proof)| path::is_consistent((old, root), (size, checkpoint.root()), proof))
    })?;
    proof.pop();
    Ok(Submission { old, proof, note: checkpoint.note().to_owned() })
}

/// The lines of a request, in a pass over the log.
///
/// # Errors
/// [`crate::ReadError`].
pub fn lines_of_request(directory: &Path, request: &str) -> Result<Vec<u64>, crate::ReadError> {
    let mut found = Vec::new();
    for line in crate::read(directory)? {
        let line = line?;
        if line.request.is_some_and(|name| name.as_str() == request) {
            found.push(line.index);
        }
    }
    Ok(found)
}

fn newest(directory: &Path, log: &VerifierKey) -> Result<Checkpoint, ProofError> {
    let note = fs::read_to_string(directory.join(CHECKPOINT))?;
    Checkpoint::open(&note, log).map_err(ProofError::Checkpoint)
}

/// Whether the checkpoint is over the lines in `directory`.
pub(crate) fn is_root(directory: &Path, checkpoint: &Checkpoint) -> io::Result<bool> {
    let whole = 0..checkpoint.size();
    match hashes(directory, &[whole], &|found| found == [*checkpoint.root()]) {
        Ok(_) => Ok(true),
        Err(ProofError::Io(error)) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        Err(_) => Ok(false),
    }
}

/// The hashes over the ranges: out of tiles, or of the lines themselves where tiles are missing or wrong.
fn hashes(
    directory: &Path,
    ranges: &[Range<u64>],
    holds: &dyn Fn(&[TreeHash]) -> bool,
) -> Result<Vec<TreeHash>, ProofError> {
    if let Ok(found) = Reader::new(directory).hashes(ranges)
        && holds(&found)
    {
        return Ok(found);
    }
    let mut trees = vec![Frontier::default(); ranges.len()];
    let end = ranges.iter().map(|range| range.end).max().unwrap_or(0);
    Follower::new(directory.to_owned(), 0).read(end, &mut |index, line| {
        for (_, tree) in ranges.iter().zip(&mut trees).filter(|(range, _)| range.contains(&index)) {
            tree.push(TreeHash::of_leaf(line));
        }
        Ok(())
    })?;
    let found: Vec<TreeHash> = trees.iter().map(Frontier::root).collect();
    if holds(&found) { Ok(found) } else { Err(ProofError::Rewritten) }
}

/// Why there is no proof, or it does not hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// Not the text of a proof with a line.
    #[error("not an audit proof (c2sp.org/tlog-proof@v1 with the line as extra data)")]
    Form,
    /// The checkpoint is not one of this log.
    #[error("the checkpoint does not hold")]
    Checkpoint(#[source] NoteError),
    /// A witness has not cosigned the checkpoint.
    #[error("the checkpoint is not cosigned by {0}")]
    NotCosigned(crate::Name),
    /// The path does not lead from the line to the checkpoint.
    #[error("the line is not in the log that was signed")]
    Path,
    /// The proven bytes are no audit line.
    #[error("what is proven is no audit line")]
    Line(#[source] LineError),
    /// The line is newer than every checkpoint, or not there.
    #[error("line {index} is not covered: the checkpoint is of {size} lines")]
    NotCovered {
        /// The line.
        index: u64,
        /// Lines of the checkpoint.
        size: u64,
    },
    /// The log was longer once.
    #[error(
        "the checkpoint is of {size} lines, fewer than {old}: the log was cut, or the other one is of another log"
    )]
    Shorter {
        /// Lines asked for.
        old: u64,
        /// Lines of the checkpoint.
        size: u64,
    },
    /// The lines are not those of the checkpoint.
    #[error("the lines are not those that were signed; `cordon audit verify` names the first")]
    Rewritten,
    /// The cosigned checkpoint in the directory.
    #[error("the cosigned checkpoint does not hold")]
    Cosigned(#[from] VerifyError),
    /// A file.
    #[error("the log cannot be read")]
    Io(#[from] io::Error),
}

const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// No tree of 2^64 leaves has a longer path.
const LONGEST_PATH: usize = 64;
