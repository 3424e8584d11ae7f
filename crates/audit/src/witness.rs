//! Cosignatures (C2SP tlog-cosignature v1, Ed25519) and the witness that makes them (the rules of C2SP tlog-witness).
//!
//! It must never cosign a checkpoint that is not a continuation of the last one it cosigned for that log, nor answer
//! before that one is replaced on its disk. Tests: `witness/tests.rs`, and `tests/proofs.rs` on real logs.

use std::fmt;
use std::io;
use std::path::Path;

use data_encoding::BASE32_NOPAD;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::checkpoint::{Checkpoint, read_hash, read_number};
use crate::directory::Directory;
use crate::merkle::TreeHash;
use crate::name::Name;
use crate::note::{ID, KEY, Note, NoteError, VerifierKey, key_id, read_key, signature_line, write_key};
use crate::path;

/// The public half of a witness's key, as `name+hash+key` text.
#[derive(Clone, PartialEq, Eq)]
pub struct WitnessKey {
    name: Name,
    id: [u8; ID],
    key: [u8; KEY],
}

impl WitnessKey {
    /// Reads the text form.
    ///
    /// # Errors
    /// [`NoteError::Key`] if it is not a verifier key for Ed25519 cosignatures.
    pub fn parse(text: &str) -> Result<WitnessKey, NoteError> {
        let (name, key) = read_key(text, ALGORITHM)?;
        Ok(WitnessKey::new(name, key))
    }

    /// The witness's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    fn new(name: Name, key: [u8; KEY]) -> WitnessKey {
        WitnessKey { id: key_id(&name, ALGORITHM, &key), name, key }
    }

    /// When this witness cosigned `note`: the line that says so, and its time in seconds since 1970. `None` without
    /// such a line; a line of this key that does not verify is an error.
    pub(crate) fn cosigned<'n>(&self, note: &Note<'n>) -> Result<Option<(&'n str, u64)>, NoteError> {
        for signature in &note.signatures {
            let Some(timestamped) = signature.of(&self.name, self.id) else { continue };
            let (time, bare) = timestamped.split_first_chunk::<8>().ok_or(NoteError::Signature)?;
            let time = u64::from_be_bytes(*time);
            UnparsedPublicKey::new(&ED25519, &self.key)
                .verify(message(time, note.text).as_bytes(), bare)
                .map_err(|_detail| NoteError::Signature)?;
            return Ok(Some((signature.line, time)));
        }
        Ok(None)
    }
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_key(out, &self.name, ALGORITHM, &self.key)
    }
}

impl fmt::Debug for WitnessKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "WitnessKey({self})")
    }
}

/// What a log submits to a witness: the body of `add-checkpoint` of tlog-witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Lines of the last checkpoint that the witness cosigned.
    pub old: u64,
    /// That it is the beginning of the new one.
    pub proof: Vec<TreeHash>,
    /// The new checkpoint as a signed note.
    pub note: String,
}

impl Submission {
    /// Reads the text form.
    ///
    /// # Errors
    /// [`WitnessError::Request`].
    pub fn parse(text: &str) -> Result<Submission, WitnessError> {
        let (head, note) = text.split_once("\n\n").ok_or(WitnessError::Request)?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(read_number);
        let proof: Option<Vec<TreeHash>> = lines.map(read_hash).collect();
        let (Some(old), Some(proof)) = (old, proof) else { return Err(WitnessError::Request) };
        if proof.len() > LONGEST_PROOF {
            return Err(WitnessError::Request);
        }
        Ok(Submission { old, proof, note: note.to_owned() })
    }
}

impl fmt::Display for Submission {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "old {}", self.old)?;
        for hash in &self.proof {
            writeln!(out, "{hash}")?;
        }
        write!(out, "\n{}", self.note)
    }
}

/// A witness: its key, and the last checkpoint it cosigned for each log.
#[derive(Debug)]
pub struct Witness {
    key: CosigningKey,
    files: Directory,
}

impl Witness {
    /// Makes a new witness in `directory`.
    ///
    /// # Errors
    /// [`WitnessError::Io`]; there is one already.
    pub fn create(directory: &Path, name: &Name) -> Result<WitnessKey, WitnessError> {
        let files = Directory::lock(directory)?;
        let pkcs8 =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_detail| WitnessError::Key)?;
        let pkcs8 = Zeroizing::new(pkcs8.as_ref().to_vec());
        let key = CosigningKey::from_pkcs8(name.clone(), &pkcs8)?;
        files.create(SIGNER, &pkcs8)?;
        files.replace(PUBLIC, format!("{}\n", key.public).as_bytes())?;
        Ok(key.public)
    }

    /// Opens the witness in `directory`.
    ///
    /// # Errors
    /// [`WitnessError`] if there is none, another process uses it or others may read its key.
    pub fn open(directory: &Path) -> Result<Witness, WitnessError> {
        let files = Directory::lock(directory)?;
        let public = std::fs::read_to_string(directory.join(PUBLIC))?;
        let public = WitnessKey::parse(public.trim_end()).map_err(|_detail| WitnessError::Key)?;
        let pkcs8 = files.read_private(SIGNER)?.ok_or(WitnessError::Key)?;
        let key = CosigningKey::from_pkcs8(public.name.clone(), &pkcs8)?;
        if key.public == public { Ok(Witness { key, files }) } else { Err(WitnessError::Key) }
    }

    /// Its public key.
    pub fn key(&self) -> &WitnessKey {
        &self.key.public
    }

    /// The last checkpoint it cosigned for the log that signs with `log`.
    ///
    /// # Errors
    /// [`WitnessError::State`] if its file is not what it wrote.
    pub fn last(&self, log: &VerifierKey) -> Result<Option<Checkpoint>, WitnessError> {
        match std::fs::read_to_string(self.files.path().join(state_file(log.name()))) {
            Ok(note) => {
                let parsed = Note::parse(&note).map_err(WitnessError::State)?;
                if self.key.public.cosigned(&parsed).map_err(WitnessError::State)?.is_none() {
                    return Err(WitnessError::State(NoteError::Unsigned));
                }
                Checkpoint::open(&note, log).map(Some).map_err(WitnessError::State)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Cosigns the checkpoint of `submission` and keeps it, if it continues the last one; returns the cosigned note.
    ///
    /// # Errors
    /// [`WitnessError`]; nothing is cosigned then.
    pub fn add_checkpoint(
        &self,
        submission: &Submission,
        log: &VerifierKey,
        now: Timestamp,
    ) -> Result<String, WitnessError> {
        let new = Checkpoint::open(&submission.note, log).map_err(WitnessError::Checkpoint)?;
        if submission.old > new.size() {
            return Err(WitnessError::Request);
        }
        let last = self.last(log)?;
        let have = last.as_ref().map_or(0, Checkpoint::size);
        if submission.old != have {
            return Err(WitnessError::Behind { have, claimed: submission.old });
        }
        let nothing = TreeHash::of_nothing();
        let root = last.as_ref().map_or(&nothing, Checkpoint::root);
        if !path::is_consistent((have, root), (new.size(), new.root()), &submission.proof) {
            return Err(if have == new.size() {
                WitnessError::Fork { size: have }
            } else {
                WitnessError::Inconsistent { old: have, new: new.size() }
            });
        }
        let parsed = Note::parse(&submission.note).map_err(WitnessError::Checkpoint)?;
        let cosignature = self.key.cosign(parsed.text, u64::try_from(now.as_second()).unwrap_or(0));
        let note = format!("{}{cosignature}\n", submission.note);
        self.files.replace(&state_file(log.name()), note.as_bytes())?;
        Ok(note)
    }
}

/// Why a witness does not cosign. The status is the one of tlog-witness over HTTP.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// 400: not a submission.
    #[error("not a submission of a checkpoint (`old`, proof, empty line, checkpoint)")]
    Request,
    /// 403: not a checkpoint of this log.
    #[error("the submitted checkpoint does not hold")]
    Checkpoint(#[source] NoteError),
    /// 409: the submission starts from another size than the last one cosigned.
    #[error("the last checkpoint cosigned has {have} lines, and the submission starts from {claimed}")]
    Behind {
        /// Lines of the last checkpoint cosigned.
        have: u64,
        /// Where the submission starts.
        claimed: u64,
    },
    /// 409: as long as the last one, and different.
    #[error("the log shows another history of its first {size} lines than it did before")]
    Fork {
        /// Lines of both.
        size: u64,
    },
    /// 422: the proof does not lead from the last one to this one.
    #[error("the checkpoint of {new} lines is not a continuation of the one of {old} lines")]
    Inconsistent {
        /// Lines of the last checkpoint cosigned.
        old: u64,
        /// Lines of the submitted one.
        new: u64,
    },
    /// The witness's own record does not hold. Operator of the witness.
    #[error("the witness's record of the last checkpoint does not hold")]
    State(#[source] NoteError),
    /// No usable key. Operator of the witness.
    #[error("the witness's key is missing or unusable")]
    Key,
    /// A file. Operator of the witness.
    #[error("the witness's directory cannot be used")]
    Io(#[from] io::Error),
}

/// A witness's signing key.
struct CosigningKey {
    pair: Ed25519KeyPair,
    public: WitnessKey,
}

impl CosigningKey {
    fn from_pkcs8(name: Name, pkcs8: &[u8]) -> Result<CosigningKey, WitnessError> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_detail| WitnessError::Key)?;
        let key = pair.public_key().as_ref().try_into().map_err(|_detail| WitnessError::Key)?;
        Ok(CosigningKey { pair, public: WitnessKey::new(name, key) })
    }

    /// The signature line over the text of a checkpoint.
    fn cosign(&self, text: &str, time: u64) -> String {
        let signature = self.pair.sign(message(time, text).as_bytes());
        let timestamped = [time.to_be_bytes().as_slice(), signature.as_ref()].concat();
        signature_line(&self.public.name, self.public.id, &timestamped)
    }
}

impl fmt::Debug for CosigningKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "CosigningKey({})", self.public)
    }
}

/// What a cosignature signs.
fn message(time: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// The file that keeps the last checkpoint of a log; its name tells nothing but which one.
fn state_file(origin: &Name) -> String {
    let hash = digest(&SHA256, origin.as_str().as_bytes());
    format!("log-{}", BASE32_NOPAD.encode(hash.as_ref()))
}

/// The signature type of an Ed25519 cosignature with a time.
const ALGORITHM: u8 = 0x04;
/// Hashes in a proof, at most (tlog-witness).
const LONGEST_PROOF: usize = 63;
const SIGNER: &str = "witness.pk8";
const PUBLIC: &str = "witness.txt";

#[cfg(test)]
mod tests;
