//! The newest checkpoint that witnesses cosigned, kept beside the log.
//!
//! It must never take a cosignature of a witness that is not configured, nor one over lines that this log does not have.
//! Tests: `tests/proofs.rs`.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::checkpoint::Checkpoint;
use crate::directory::Directory;
use crate::note::{Note, NoteError, VerifierKey};
use crate::proof::{self, ProofError};
use crate::verify::VerifyError;
use crate::witness::WitnessKey;

/// A checkpoint with cosignatures of configured witnesses.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Cosigned {
    /// Its note holds the cosignatures.
    pub checkpoint: Checkpoint,
    /// How many witnesses cosigned it.
    pub witnesses: usize,
    /// When the last of them did, in seconds since 1970.
    pub at: u64,
}

/// The cosigned checkpoint of an open log.
#[derive(Debug)]
pub(crate) struct Shelf {
    witnesses: Vec<WitnessKey>,
    held: Mutex<Option<Arc<Cosigned>>>,
}

impl Shelf {
    /// Reads what the directory holds. Cosignatures of witnesses that are no longer configured do not count.
    pub(crate) fn open(
        directory: &Path,
        log: &VerifierKey,
        witnesses: Vec<WitnessKey>,
    ) -> Result<Shelf, VerifyError> {
        let held = read(directory, log)?.and_then(|checkpoint| {
            let found = cosignatures(checkpoint.note(), &witnesses).ok()?;
            let at = found.iter().map(|(_, time)| *time).max()?;
            Some(Arc::new(Cosigned { witnesses: found.len(), at, checkpoint }))
        });
        Ok(Shelf { witnesses, held: Mutex::new(held) })
    }

    /// Whether there is anybody whose cosignatures count.
    pub(crate) fn has_witnesses(&self) -> bool {
        !self.witnesses.is_empty()
    }

    pub(crate) fn latest(&self) -> Option<Arc<Cosigned>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps a cosigned note, durably. `signed` is the newest checkpoint of the log.
    pub(crate) fn put(
        &self,
        directory: &Path,
        log: &VerifierKey,
        signed: &Checkpoint,
        note: &str,
    ) -> Result<Arc<Cosigned>, CosignError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let new = Checkpoint::open(note, log).map_err(CosignError::Checkpoint)?;
        let mut found = cosignatures(note, &self.witnesses).map_err(CosignError::Cosignature)?;
        if found.is_empty() {
            return Err(CosignError::Stranger);
        }
        if new.size() > signed.size() || !proof::is_root(directory, &new)? {
            return Err(CosignError::OtherLines);
        }
        if let Some(before) = held.as_ref() {
            let have = before.checkpoint.size();
            if new.size() < have {
                return Err(CosignError::Older { have });
            }
            if new.size() == have {
                let older = cosignatures(before.checkpoint.note(), &self.witnesses).unwrap_or_default();
                let fresh: Vec<_> = found.iter().filter_map(|(line, _)| line.split(' ').nth(1)).collect();
                let kept: Vec<_> = older
                    .into_iter()
                    .filter(|(line, _)| line.split(' ').nth(1).is_some_and(|name| !fresh.contains(&name)))
                    .collect();
                found.extend(kept);
            }
        }
        let at = found.iter().map(|(_, time)| *time).max().unwrap_or(0);
        // Only what was verified is kept: the log's own signature and these cosignatures.
        let mut kept = signature_of(note, log)?;
        for (line, _) in &found {
            kept.push_str(line);
            kept.push('\n');
        }
        let checkpoint = Checkpoint::open(&kept, log).map_err(CosignError::Checkpoint)?;
        Directory::unlocked(directory)?.replace(COSIGNED, kept.as_bytes())?;
        let cosigned = Arc::new(Cosigned { witnesses: found.len(), at, checkpoint });
        *held = Some(Arc::clone(&cosigned));
        Ok(cosigned)
    }
}

/// Puts a cosigned checkpoint beside the log in `directory`, for a log that has no API to bring it to.
///
/// # Errors
/// [`CosignError`].
pub fn keep_cosigned(
    directory: &Path,
    log: &VerifierKey,
    witnesses: Vec<WitnessKey>,
    note: &str,
) -> Result<Arc<Cosigned>, CosignError> {
    let signed = crate::verify::read_checkpoint(directory, log)?.ok_or(CosignError::OtherLines)?;
    Shelf::open(directory, log, witnesses)?.put(directory, log, &signed, note)
}

/// The note with the signature of the log alone.
fn signature_of(note: &str, log: &VerifierKey) -> Result<String, CosignError> {
    let parsed = Note::parse(note).map_err(CosignError::Checkpoint)?;
    let own = parsed.signatures.iter().find(|signature| log.is_named_by(signature));
    let own = own.ok_or(CosignError::Checkpoint(NoteError::Unsigned))?;
    Ok(format!("{}\n{}\n", parsed.text, own.line))
}

/// The valid cosignatures of these witnesses: each line and its time.
fn cosignatures(note: &str, witnesses: &[WitnessKey]) -> Result<Vec<(String, u64)>, NoteError> {
    let note = Note::parse(note)?;
    let mut found = Vec::new();
    for witness in witnesses {
        found.extend(witness.cosigned(&note)?.map(|(line, time)| (line.to_owned(), time)));
    }
    Ok(found)
}

/// When each witness cosigned the note; all must have.
pub(crate) fn times(note: &str, witnesses: &[WitnessKey]) -> Result<Vec<u64>, ProofError> {
    let parsed = Note::parse(note).map_err(ProofError::Checkpoint)?;
    let time = |witness: &WitnessKey| match witness.cosigned(&parsed) {
        Ok(Some((_, time))) => Ok(time),
        Ok(None) | Err(_) => Err(ProofError::NotCosigned(witness.name().clone())),
    };
    witnesses.iter().map(time).collect()
}

/// The cosigned checkpoint in a log directory, if there is one. Its cosignatures are not verified here.
pub(crate) fn read(directory: &Path, log: &VerifierKey) -> Result<Option<Checkpoint>, VerifyError> {
    let path = directory.join(COSIGNED);
    match fs::read_to_string(&path) {
        Ok(note) => Checkpoint::open(&note, log).map(Some).map_err(VerifyError::Checkpoint),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(VerifyError::Io { path, source }),
    }
}

/// Why a cosigned checkpoint is not kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CosignError {
    /// Not a checkpoint of this log.
    #[error("the checkpoint is not one of this log")]
    Checkpoint(#[source] NoteError),
    /// A cosignature of a configured witness that does not verify.
    #[error("a cosignature does not verify")]
    Cosignature(#[source] NoteError),
    /// No configured witness cosigned it.
    #[error("no configured witness cosigned it")]
    Stranger,
    /// Signed with the log's key, but not over the lines of this log: somebody else has the key.
    #[error("the checkpoint is signed, but its lines are not those of this log")]
    OtherLines,
    /// A newer one is kept already.
    #[error("a cosigned checkpoint of {have} lines is kept already")]
    Older {
        /// Its lines.
        have: u64,
    },
    /// What the directory holds does not hold. Operator.
    #[error("the log's own checkpoint does not hold")]
    Log(#[from] VerifyError),
    /// A file. Operator.
    #[error("the cosigned checkpoint cannot be kept")]
    Io(#[from] io::Error),
}

/// File name of the newest cosigned checkpoint.
pub(crate) const COSIGNED: &str = "cosigned";
