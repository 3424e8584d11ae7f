//! Signed notes with Ed25519 (C2SP signed-note): the signing key, the verifier key and the envelope.
//!
//! It must never accept a note whose signature does not verify, nor sign text with a blank line in it. Tests: at the end of
//! this file, with the published example of the format.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use ring::digest::{Context, SHA256};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::name::Name;

/// The public half of a log's signing key, as `name+hash+key` text.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: Name,
    id: [u8; ID],
    key: [u8; KEY],
}

impl VerifierKey {
    /// Reads the text form.
    ///
    /// # Errors
    /// [`NoteError::Key`] if it is not a verifier key for Ed25519, or its hash does not fit its name and key.
    pub fn parse(text: &str) -> Result<VerifierKey, NoteError> {
        let (name, key) = read_key(text, ALGORITHM)?;
        Ok(VerifierKey::new(name, key))
    }

    /// The name of the log that signs with this key.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What tells this log from others of its name: the hash in its text form, in lower case.
    pub fn id(&self) -> String {
        HEXLOWER.encode(&self.id)
    }

    fn new(name: Name, key: [u8; KEY]) -> VerifierKey {
        VerifierKey { id: key_id(&name, ALGORITHM, &key), name, key }
    }

    /// Whether a signature line says that it is of this key.
    pub(crate) fn is_named_by(&self, signature: &Signature<'_>) -> bool {
        signature.of(&self.name, self.id).is_some()
    }

    /// The signed text of `note`, newline included, if this key signed it. Lines of other signers are passed over.
    pub(crate) fn open<'n>(&self, note: &'n str) -> Result<&'n str, NoteError> {
        let note = Note::parse(note)?;
        let mut good = false;
        for signature in &note.signatures {
            let Some(bare) = signature.of(&self.name, self.id) else { continue };
            UnparsedPublicKey::new(&ED25519, &self.key)
                .verify(note.text.as_bytes(), bare)
                .map_err(|_detail| NoteError::Signature)?;
            good = true;
        }
        if good { Ok(note.text) } else { Err(NoteError::Unsigned) }
    }
}

/// A note taken apart; nothing of it is verified.
#[derive(Debug)]
pub(crate) struct Note<'n> {
    /// What is signed, newline included.
    pub(crate) text: &'n str,
    pub(crate) signatures: Vec<Signature<'n>>,
}

impl<'n> Note<'n> {
    pub(crate) fn parse(note: &'n str) -> Result<Note<'n>, NoteError> {
        if note.len() > LONGEST || note.chars().any(|c| c.is_control() && c != '\n') {
            return Err(NoteError::Form);
        }
        let split = note.rfind("\n\n").ok_or(NoteError::Form)?;
        let (text, signatures) = note.split_at_checked(split.saturating_add(1)).ok_or(NoteError::Form)?;
        let signatures = signatures.strip_prefix('\n').and_then(|rest| rest.strip_suffix('\n'));
        let signatures = signatures.ok_or(NoteError::Form)?.split('\n').map(Signature::parse);
        Ok(Note { text, signatures: signatures.collect::<Result<_, _>>()? })
    }
}

/// One signature line of a note.
#[derive(Debug)]
pub(crate) struct Signature<'n> {
    /// The whole line, without its newline.
    pub(crate) line: &'n str,
    name: &'n str,
    /// Key id and signature.
    bytes: Vec<u8>,
}

impl<'n> Signature<'n> {
    pub(crate) fn parse(line: &'n str) -> Result<Signature<'n>, NoteError> {
        let rest = line.strip_prefix(DASH).ok_or(NoteError::Form)?;
        let (name, signature) = rest.split_once(' ').ok_or(NoteError::Form)?;
        let bytes = base64(signature).ok_or(NoteError::Form)?;
        if name.is_empty() || name.contains('+') || bytes.len() <= ID {
            return Err(NoteError::Form);
        }
        Ok(Signature { line, name, bytes })
    }

    /// The bare signature, if the line is of this key.
    pub(crate) fn of(&self, name: &Name, id: [u8; ID]) -> Option<&[u8]> {
        self.bytes.strip_prefix(&id).filter(|_| self.name == name.as_str())
    }
}

/// A signature line, without its newline.
pub(crate) fn signature_line(name: &Name, id: [u8; ID], bare: &[u8]) -> String {
    let bytes = [id.as_slice(), bare].concat();
    format!("{DASH}{name} {}", BASE64.encode(&bytes))
}

/// The text form of a verifier key of this algorithm: `name+hash+key`.
pub(crate) fn read_key(text: &str, algorithm: u8) -> Result<(Name, [u8; KEY]), NoteError> {
    let mut parts = text.trim_end_matches('\n').splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(NoteError::Key);
    };
    let name = Name::parse(name).map_err(|_detail| NoteError::Key)?;
    let bytes = base64(key).ok_or(NoteError::Key)?;
    let key = bytes.strip_prefix(&[algorithm]).ok_or(NoteError::Key)?;
    let key = key.try_into().map_err(|_detail| NoteError::Key)?;
    if HEXLOWER.encode(&key_id(&name, algorithm, &key)) == id { Ok((name, key)) } else { Err(NoteError::Key) }
}

/// Writes what [`read_key`] reads.
pub(crate) fn write_key(
    out: &mut fmt::Formatter<'_>,
    name: &Name,
    algorithm: u8,
    key: &[u8; KEY],
) -> fmt::Result {
    let typed = [[algorithm].as_slice(), key].concat();
    write!(out, "{name}+{}+{}", HEXLOWER.encode(&key_id(name, algorithm, key)), BASE64.encode(&typed))
}

/// The four bytes by which a signature line names its key: the start of `SHA-256(name || newline || algorithm || key)`.
pub(crate) fn key_id(name: &Name, algorithm: u8, key: &[u8; KEY]) -> [u8; ID] {
    let mut context = Context::new(&SHA256);
    context.update(name.as_str().as_bytes());
    context.update(&[b'\n', algorithm]);
    context.update(key);
    let mut id = [0; ID];
    for (to, from) in id.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    id
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_key(out, &self.name, ALGORITHM, &self.key)
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "VerifierKey({self})")
    }
}

/// Why a note or a verifier key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Not the text of an Ed25519 verifier key.
    #[error("not an Ed25519 verifier key (name+hash+key)")]
    Key,
    /// Not a signed note.
    #[error("not a signed note")]
    Form,
    /// No line of this key's log.
    #[error("the note carries no signature of this log's key")]
    Unsigned,
    /// A line of this key's log that does not verify.
    #[error("the signature does not verify")]
    Signature,
    /// Signed, but the text is not a checkpoint.
    #[error("the signed text is not a checkpoint")]
    Text,
    /// A checkpoint of another log.
    #[error("the checkpoint is of another log")]
    Origin,
}

/// The signing key of a log.
pub(crate) struct Signer {
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
}

impl Signer {
    /// A new key, as PKCS #8.
    pub(crate) fn generate() -> Result<Zeroizing<Vec<u8>>, ring::error::Unspecified> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// Takes a key from PKCS #8.
    pub(crate) fn from_pkcs8(name: Name, pkcs8: &[u8]) -> Result<Signer, NoteError> {
        Ed25519KeyPair::from_pkcs8(pkcs8)
            .map_err(|_detail| NoteError::Key)
            .and_then(|pair| Signer::new(name, pair))
    }

    fn new(name: Name, pair: Ed25519KeyPair) -> Result<Signer, NoteError> {
        let key = pair.public_key().as_ref().try_into().map_err(|_detail| NoteError::Key)?;
        Ok(Signer { pair, verifier: VerifierKey::new(name, key) })
    }

    /// The public half.
    pub(crate) fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The note over `text`, which ends in a newline.
    pub(crate) fn sign(&self, text: &str) -> String {
        let bare = self.pair.sign(text.as_bytes());
        format!("{text}\n{}\n", signature_line(&self.verifier.name, self.verifier.id, bare.as_ref()))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Signer({})", self.verifier)
    }
}

/// The signature type of Ed25519 in a signed note.
const ALGORITHM: u8 = 0x01;
/// Bytes of a key id.
pub(crate) const ID: usize = 4;
/// Bytes of an Ed25519 public key.
pub(crate) const KEY: usize = 32;
/// An em dash and a space open a signature line.
const DASH: &str = "\u{2014} ";
/// A checkpoint with many witnesses is far below this.
const LONGEST: usize = 64 * 1024;

/// The bytes that standard base64 stands for, if it is what encoding them gives. The decoder alone would also take pieces that
/// were padded one by one, so that one value had many texts.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.as_bytes()).ok().filter(|bytes| BASE64.encode(bytes) == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_has_one_text_for_each_value() {
        assert_eq!(base64("YQ==").as_deref(), Some(&b"a"[..]));
        for other in ["YQ==YQ==", "YR==", "YQ", "YQ==\n", " YQ=="] {
            assert_eq!(base64(other), None, "{other}");
        }
    }

    /// The example key and note of the Go implementation that the format comes from.
    const SEED: &str = "gQoUAtUUbI2E8kQzMPVAgOv5juF9nHT2JS/F1ccoMXM=";
    const VERIFIER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const TEXT: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    const SIGNATURE: &str =
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";

    fn example() -> String {
        format!("{TEXT}\n\u{2014} PeterNeumann {SIGNATURE}\n")
    }

    fn signer(name: &str) -> Signer {
        Signer::from_pkcs8(Name::parse(name).unwrap(), &Signer::generate().unwrap()).unwrap()
    }

    #[test]
    fn the_published_note_verifies_under_the_published_key() {
        let key = VerifierKey::parse(VERIFIER).unwrap();
        assert_eq!(key.to_string(), VERIFIER);
        assert_eq!(key.open(&example()), Ok(TEXT));
    }

    #[test]
    fn the_published_seed_gives_the_published_signature() {
        let seed = BASE64.decode(SEED.as_bytes()).unwrap();
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let signer = Signer::new(Name::parse("PeterNeumann").unwrap(), pair).unwrap();
        assert_eq!(signer.sign(TEXT), example());
    }

    #[test]
    fn the_public_go_checksum_database_key_reads() {
        let text = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
        assert_eq!(VerifierKey::parse(text).unwrap().to_string(), text);
    }

    #[test]
    fn changed_text_does_not_verify() {
        let key = VerifierKey::parse(VERIFIER).unwrap();
        assert_eq!(key.open(&example().replace("answer", "solution")), Err(NoteError::Signature));
    }

    #[test]
    fn a_note_of_another_key_is_unsigned_for_this_one() {
        let note = signer("cordon.test/vault").sign("a\n");
        assert_eq!(signer("cordon.test/vault").verifier().open(&note), Err(NoteError::Unsigned));
        assert_eq!(signer("cordon.test/other").verifier().open(&note), Err(NoteError::Unsigned));
    }

    #[test]
    fn a_witness_line_is_passed_over() {
        let log = signer("cordon.test/vault");
        let note = log.sign("a\n");
        let witness = signer("witness.test").sign("a\n");
        let both = format!("{note}{}\n", witness.lines().last().unwrap());
        assert_eq!(log.verifier().open(&both), Ok("a\n"));
    }

    #[test]
    fn what_is_not_a_note_is_refused() {
        let key = VerifierKey::parse(VERIFIER).unwrap();
        for note in [
            "",
            "\n",
            "\n\n",
            "a\n\n",
            "a\n\nb\n",
            "a\n\n\u{2014} PeterNeumann \n",
            "a\n\n\u{2014} x AAAA\n",
            "a\r\n\n",
        ] {
            assert_eq!(key.open(note), Err(NoteError::Form), "{note:?}");
        }
    }

    #[test]
    fn a_key_whose_hash_does_not_fit_is_refused() {
        for text in [
            "",
            "a",
            "a+b",
            "a+b+c",
            &VERIFIER.replace("c74f20a3", "c74f20a4"),
            &VERIFIER.replace("Peter", "Petra"),
        ] {
            assert_eq!(VerifierKey::parse(text), Err(NoteError::Key), "{text}");
        }
    }
}
