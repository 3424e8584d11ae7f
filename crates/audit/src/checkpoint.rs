//! Checkpoints: the signed head of the tree (C2SP tlog-checkpoint).
//!
//! It must never exist without a signature that verified, or that this process just made. Tests: at the end of this file.

use std::fmt;

use crate::merkle::{Frontier, TreeHash};
use crate::name::Name;
use crate::note::{NoteError, Signer, VerifierKey, base64};

/// A signed statement: the first `size` lines of the log `origin` have the root `root`.
#[derive(Clone, PartialEq, Eq)]
pub struct Checkpoint {
    origin: Name,
    size: u64,
    root: TreeHash,
    note: String,
}

impl Checkpoint {
    /// Reads a checkpoint and checks its signature.
    ///
    /// # Errors
    /// [`NoteError`]: not signed by this key, not a checkpoint, or of another log.
    pub fn open(note: &str, verifier: &VerifierKey) -> Result<Checkpoint, NoteError> {
        let text = verifier.open(note)?;
        let body = text.strip_suffix('\n').ok_or(NoteError::Text)?;
        let mut lines = body.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(NoteError::Text);
        };
        if lines.any(str::is_empty) {
            return Err(NoteError::Text);
        }
        if origin != verifier.name().as_str() {
            return Err(NoteError::Origin);
        }
        Ok(Checkpoint {
            origin: verifier.name().clone(),
            size: read_number(size).ok_or(NoteError::Text)?,
            root: read_hash(root).ok_or(NoteError::Text)?,
            note: note.to_owned(),
        })
    }

    /// Signs the head of a tree.
    pub(crate) fn sign(signer: &Signer, tree: &Frontier) -> Checkpoint {
        let origin = signer.verifier().name().clone();
        let (size, root) = (tree.size(), tree.root());
        let note = signer.sign(&format!("{origin}\n{size}\n{root}\n"));
        Checkpoint { origin, size, root, note }
    }

    /// The log's name.
    pub fn origin(&self) -> &Name {
        &self.origin
    }

    /// Lines it covers.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over those lines.
    pub fn root(&self) -> &TreeHash {
        &self.root
    }

    /// The signed note, to keep elsewhere.
    pub fn note(&self) -> &str {
        &self.note
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Checkpoint({} {} {})", self.origin, self.size, self.root)
    }
}

/// Decimal without sign or leading zero.
pub(crate) fn read_number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// Base64 of 32 bytes.
pub(crate) fn read_hash(text: &str) -> Option<TreeHash> {
    let bytes = base64(text)?;
    Some(TreeHash::from_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";

    fn signer() -> Signer {
        Signer::from_pkcs8(Name::parse("cordon.test/vault").unwrap(), &Signer::generate().unwrap()).unwrap()
    }

    #[test]
    fn a_signed_head_opens_to_the_same_head() {
        let signer = signer();
        let mut tree = Frontier::default();
        for line in ["a", "b", "c"] {
            tree.push(TreeHash::of_leaf(line.as_bytes()));
        }
        let checkpoint = Checkpoint::sign(&signer, &tree);
        let opened = Checkpoint::open(checkpoint.note(), signer.verifier()).unwrap();
        assert_eq!(opened, checkpoint);
        assert_eq!((opened.size(), *opened.root()), (3, tree.root()));
    }

    #[test]
    fn extension_lines_are_allowed_and_ignored() {
        let signer = signer();
        let note = signer.sign(&format!("cordon.test/vault\n20852163\n{ROOT}\nmore\n"));
        assert_eq!(Checkpoint::open(&note, signer.verifier()).unwrap().size(), 20_852_163);
    }

    #[test]
    fn signed_text_that_is_not_a_checkpoint_is_refused() {
        let signer = signer();
        for text in [
            "cordon.test/vault\n".to_owned(),
            "cordon.test/vault\n1\n".to_owned(),
            format!("cordon.test/vault\n01\n{ROOT}\n"),
            format!("cordon.test/vault\n+1\n{ROOT}\n"),
            format!("cordon.test/vault\n\n{ROOT}\n"),
            format!("cordon.test/vault\n99999999999999999999999\n{ROOT}\n"),
            "cordon.test/vault\n1\nCsUYapGGPo4=\n".to_owned(),
            "cordon.test/vault\n1\nnot base64\n".to_owned(),
        ] {
            assert_eq!(
                Checkpoint::open(&signer.sign(&text), signer.verifier()),
                Err(NoteError::Text),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_checkpoint_of_another_log_is_refused() {
        let signer = signer();
        let note = signer.sign(&format!("cordon.test/gateway\n1\n{ROOT}\n"));
        assert_eq!(Checkpoint::open(&note, signer.verifier()), Err(NoteError::Origin));
    }
}
