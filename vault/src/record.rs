//! Sealed card records: the only form in which a card reaches a store, and the few ways to open one.
//!
//! Must never open a record without a proof of decision and audit line, never try one key after another, and
//! never say why a record was refused. On disk, all integers big-endian:
//!
//! ```text
//! format (1) | data key version (4) | nonce (24) | ciphertext of the plaintext below | tag (16) | commitment (32)
//! ```
//!
//! Associated data: label, format, environment, collection, token, card id, key version and token expiry,
//! each with its length, so that a record opens in its own row only (threat B12). When the token was made is in the
//! plaintext, and must be what the row says: retention erases by it. The commitment is HMAC-SHA-256 over
//! associated data and nonce, under a key derived from the data key: AES-GCM alone lets one ciphertext be made that
//! opens under two keys, and whoever could make it could show two cards behind one token (threat B11). It is checked
//! before anything is decrypted. The plaintext is laid out in `layout`. Tests: `record/tests.rs`,
//! `record/two_keys.rs`; fuzzed by `fuzz/fuzz_targets/record.rs`.
//!
//! ```compile_fail
//! // A proof is made of a permit and a receipt, and of nothing else.
//! use cordon_vault::record::OpenProof;
//! fn forge(receipt: &cordon_audit::Receipt<cordon_audit::Reveal>) -> OpenProof<'_> {
//!     OpenProof { receipt, collection: cordon_vault::store::CollectionId(1) }
//! }
//! ```
//! ```compile_fail,E0308
//! // The receipt of another line, here a tokenization's, makes no proof.
//! use cordon_vault::{collections::Collection, record::OpenProof};
//! fn reveal(
//!     permit: &cordon_policy::Permit<cordon_policy::Detokenize>,
//!     receipt: &cordon_audit::Receipt,
//!     collection: &Collection,
//! ) {
//!     let _proof = OpenProof::for_detokenize(permit, receipt, collection);
//! }
//! ```
//!
//! A record has no place for a security code, and a code cannot be made into anything that has one (PCI DSS 3.3.1):
//!
//! ```compile_fail,E0560
//! fn smuggle(pan: cordon_card::Pan, cvv: cordon_card::Cvv) -> cordon_vault::record::CardData {
//!     let metadata = cordon_vault::record::Metadata::none();
//!     cordon_vault::record::CardData { pan, expiry: None, metadata, created_at: 0, cvv }
//! }
//! ```
//!
//! ```compile_fail,E0599
//! fn smuggle(cvv: cordon_card::Cvv) -> cordon_vault::record::Metadata {
//!     let pairs = std::collections::BTreeMap::from([("note".to_owned(), cvv.to_string())]);
//!     cordon_vault::record::Metadata::from_pairs(&pairs).unwrap()
//! }
//! ```

use std::fmt;

use cordon_card::{Brand, CardId, Environment, Expiry, Pan, Token, Truncated, Truncation};
use jiff::Timestamp;
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

pub use metadata::{Metadata, MetadataError};
pub use proof::{InspectProof, OpenProof, Proof};

use crate::fingerprint::fingerprint;
use crate::keyring::{DataKeyVersion, IndexKeyVersion, Unfit, Unlocked};
use crate::keys::KeyError;
use crate::keys::frame::framed;
use crate::store::{CollectionId, IndexEntry};

pub mod layout;
mod metadata;
mod proof;
pub mod xaes;

/// What is kept of a card. Wiped on drop; `Debug` shows the type only.
pub struct CardData {
    /// The number.
    pub pan: Pan,
    /// The expiry, if one was given.
    pub expiry: Option<Expiry>,
    /// Free key-value pairs that came with the card.
    pub metadata: Metadata,
    /// When the token was made, in seconds since 1970.
    pub created_at: u64,
}

impl fmt::Debug for CardData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CardData(..)")
    }
}

/// The row a record belongs to. Bound into the record: in any other row it does not open.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    /// The vault's environment.
    pub environment: Environment,
    /// The collection.
    pub collection: CollectionId,
    /// The token, which is the row's key.
    pub token: &'a Token,
    /// The card's id.
    pub card_id: CardId,
    /// When the token expires, in seconds since 1970.
    pub expires_at: Option<u64>,
    /// When the token was made, in seconds since 1970. Compared with what is sealed.
    pub created_at: u64,
}

impl Binding<'_> {
    fn aad(&self, key_version: u32) -> Vec<u8> {
        let CollectionId(collection) = self.collection;
        let expires_at = self.expires_at.map(u64::to_be_bytes);
        framed(
            RECORD_LABEL,
            &[
                &[FORMAT],
                self.environment.as_str().as_bytes(),
                &collection.to_be_bytes(),
                self.token.as_str().as_bytes(),
                self.card_id.as_bytes(),
                &key_version.to_be_bytes(),
                // No expiry is an empty field, which no expiry time encodes to.
                expires_at.as_ref().map_or(&[], <[u8; 8]>::as_slice),
            ],
        )
    }
}

/// A sealed record. Made by sealing, or from the bytes a store kept: a store can be given no plaintext.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    // INVARIANT(envelope): starts with FORMAT and `key_version`, and has one of the lengths sealing
    // produces.
    bytes: Box<[u8]>,
    key_version: u32,
}

impl Sealed {
    /// Takes back what a store kept.
    ///
    /// # Errors
    /// [`Refused`] if the format is unknown or the length is none that sealing produces.
    pub fn from_stored(stored: &[u8]) -> Result<Sealed, Refused> {
        let (format, rest) = stored.split_first().ok_or(Refused)?;
        let (version, body) = rest.split_first_chunk::<4>().ok_or(Refused)?;
        let plaintext = body.len().checked_sub(xaes::OVERHEAD + COMMITMENT_LENGTH).ok_or(Refused)?;
        if *format != FORMAT || !layout::is_length(plaintext) {
            return Err(Refused);
        }
        Ok(Sealed { bytes: stored.into(), key_version: u32::from_be_bytes(*version) })
    }

    /// The bytes to store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The version of the data key that sealed it.
    #[must_use]
    pub fn key_version(&self) -> u32 {
        self.key_version
    }

    /// Nonce, ciphertext and tag; then the commitment.
    fn parts(&self) -> Result<(&[u8], &[u8; COMMITMENT_LENGTH]), Refused> {
        self.bytes.get(HEADER_LENGTH..).and_then(<[u8]>::split_last_chunk).ok_or(Refused)
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed(key version {}, {} bytes)", self.key_version, self.bytes.len())
    }
}

/// What an inspection shows of a card.
#[derive(Debug)]
pub struct Masked {
    /// The brand.
    pub brand: Brand,
    /// The number with digits hidden.
    pub masked: Truncated,
    /// The expiry, if one is kept.
    pub expiry: Option<Expiry>,
    /// The pairs kept with the card.
    pub metadata: Metadata,
    /// When the token was made, in seconds since 1970.
    pub created_at: u64,
    /// The version of the data key that seals the record.
    pub key_version: u32,
}

/// What a repeated tokenization brings that the stored record may not have yet.
#[derive(Debug)]
pub struct Refresh<'a> {
    /// The number that was submitted: only who already has it may touch the record.
    pub pan: &'a Pan,
    /// Replaces the kept expiry, if given.
    pub expiry: Option<Expiry>,
    /// Replaces the kept pairs, if given. Not merged with them: a merge could grow past the limit, and that
    /// error would tell the caller that the card was known (threat B6).
    pub metadata: Option<Metadata>,
}

/// Seals a card for its row.
///
/// # Errors
/// [`SealError::Unfit`] for a key in any state but active (PCI DSS 3.7.5), past its cryptoperiod or without uses left
/// (3.7.4); [`SealError::Key`] without randomness.
pub fn seal(
    key: &DataKeyVersion,
    binding: &Binding<'_>,
    card: &CardData,
    now: Timestamp,
) -> Result<Sealed, SealError> {
    key.spend(now)?;
    let plaintext = layout::encode(card);
    let room = HEADER_LENGTH + xaes::OVERHEAD + plaintext.len() + COMMITMENT_LENGTH;
    let mut bytes = Vec::with_capacity(room);
    bytes.push(FORMAT);
    bytes.extend_from_slice(&key.version.to_be_bytes());
    let aad = binding.aad(key.version);
    key.cipher.seal_onto(&aad, &plaintext, &mut bytes)?;
    let nonce = bytes.get(HEADER_LENGTH..HEADER_LENGTH + xaes::NONCE_LENGTH).unwrap_or_default();
    let commitment = key.commit.sign(COMMIT_LABEL, &[&aad, nonce]);
    bytes.extend_from_slice(&commitment);
    Ok(Sealed { bytes: bytes.into_boxed_slice(), key_version: key.version })
}

/// Opens a record for a reveal.
///
/// # Errors
/// [`Refused`], whatever the reason.
pub fn open(
    keys: &Unlocked,
    binding: &Binding<'_>,
    sealed: &Sealed,
    proof: &OpenProof<'_>,
) -> Result<CardData, Refused> {
    if proof.covers(binding) { open_covered(keys, binding, sealed) } else { Err(Refused) }
}

/// Opens a record whose audit line names it.
fn open_covered(keys: &Unlocked, binding: &Binding<'_>, sealed: &Sealed) -> Result<CardData, Refused> {
    let key = keys.data_key(binding.collection, sealed.key_version).ok_or(Refused)?;
    if !key.state.may_open() {
        return Err(Refused);
    }
    decrypt(key, binding, sealed)
}

/// Opens a record and shows its masked view.
///
/// # Errors
/// [`Refused`], whatever the reason.
pub fn inspect(
    keys: &Unlocked,
    binding: &Binding<'_>,
    sealed: &Sealed,
    keep: Truncation,
    proof: &InspectProof<'_>,
) -> Result<Masked, Refused> {
    if proof.covers(binding) { inspect_covered(keys, binding, sealed, keep) } else { Err(Refused) }
}

/// Shows the masked view of a record whose audit line names it.
fn inspect_covered(
    keys: &Unlocked,
    binding: &Binding<'_>,
    sealed: &Sealed,
    keep: Truncation,
) -> Result<Masked, Refused> {
    let card = open_covered(keys, binding, sealed)?;
    Ok(Masked {
        brand: card.pan.brand(),
        masked: card.pan.truncated(keep),
        expiry: card.expiry,
        metadata: card.metadata,
        created_at: card.created_at,
        key_version: sealed.key_version,
    })
}

/// Seals a record again under the active data key, without giving out what is in it.
///
/// # Errors
/// [`ChangeError::Refused`] if it does not open; [`ChangeError::Seal`] if it cannot be sealed.
pub fn rewrap(
    keys: &Unlocked,
    binding: &Binding<'_>,
    sealed: &Sealed,
    now: Timestamp,
) -> Result<Sealed, ChangeError> {
    let from = keys.data_key(binding.collection, sealed.key_version).ok_or(Refused)?;
    if !from.state.may_rewrap_from() {
        return Err(Refused.into());
    }
    let card = decrypt(from, binding, sealed)?;
    let to = keys.active_data_key(binding.collection).ok_or(SealError::Unfit(Unfit::NotActive))?;
    Ok(seal(to, binding, &card, now)?)
}

/// The index entry of a stored card under a newer index key, without giving out what is in the record.
///
/// # Errors
/// [`Refused`] if the record does not open.
pub fn reindex(
    keys: &Unlocked,
    binding: &Binding<'_>,
    sealed: &Sealed,
    to: &IndexKeyVersion,
) -> Result<IndexEntry, Refused> {
    let from = keys.data_key(binding.collection, sealed.key_version).ok_or(Refused)?;
    if !from.state.may_rewrap_from() {
        return Err(Refused);
    }
    let card = decrypt(from, binding, sealed)?;
    let fingerprint = fingerprint(to, binding.environment, binding.collection, &card.pan);
    Ok(IndexEntry { version: to.version(), fingerprint })
}

/// A record sealed anew for a known card.
#[derive(Debug)]
pub struct Refreshed {
    /// The new record.
    pub sealed: Sealed,
    /// Whether it says something that the stored one did not, or is under a newer key.
    pub changed: bool,
}

/// Puts what a repeated tokenization brought into a stored record, without giving out what is in it. It is sealed anew
/// also when that is nothing: a known card must cost what a new one costs (threat B45). A record under a
/// compromised key is moved by it.
///
/// # Errors
/// [`ChangeError::Refused`] if the record does not open or holds another number; [`ChangeError::Seal`] if the
/// new one cannot be sealed.
pub fn refresh(
    keys: &Unlocked,
    binding: &Binding<'_>,
    sealed: &Sealed,
    brought: Refresh<'_>,
    now: Timestamp,
) -> Result<Refreshed, ChangeError> {
    let from = keys.data_key(binding.collection, sealed.key_version).ok_or(Refused)?;
    if !from.state.may_rewrap_from() {
        return Err(Refused.into());
    }
    let mut card = decrypt(from, binding, sealed)?;
    if !bool::from(card.pan.ct_eq(brought.pan)) {
        return Err(Refused.into());
    }
    let expiry = brought.expiry.or(card.expiry);
    let mut changed = expiry != card.expiry;
    card.expiry = expiry;
    if let Some(metadata) = brought.metadata {
        changed |= !metadata.same_as(&card.metadata);
        card.metadata = metadata;
    }
    let to = keys.active_data_key(binding.collection).ok_or(SealError::Unfit(Unfit::NotActive))?;
    changed |= to.version != sealed.key_version;
    Ok(Refreshed { sealed: seal(to, binding, &card, now)?, changed })
}

/// Opens a record that was just sealed and compares the number, before anybody gets a token for it. It costs what a
/// refresh spends on opening the stored record.
///
/// # Errors
/// [`Refused`]: a defect, or memory that lost a bit.
pub fn verify(keys: &Unlocked, binding: &Binding<'_>, sealed: &Sealed, pan: &Pan) -> Result<(), Refused> {
    let key = keys.data_key(binding.collection, sealed.key_version).ok_or(Refused)?;
    let card = decrypt(key, binding, sealed)?;
    if bool::from(card.pan.ct_eq(pan)) { Ok(()) } else { Err(Refused) }
}

/// Checks that a record is that of its row, dates included, whatever the state of its key: nothing of it is given out.
///
/// # Errors
/// [`Refused`] if it is not, or if there is no key to tell.
pub fn confirm(keys: &Unlocked, binding: &Binding<'_>, sealed: &Sealed) -> Result<(), Refused> {
    let key = keys.data_key(binding.collection, sealed.key_version).ok_or(Refused)?;
    decrypt(key, binding, sealed).map(drop)
}

fn decrypt(key: &DataKeyVersion, binding: &Binding<'_>, sealed: &Sealed) -> Result<CardData, Refused> {
    let card = layout::decode(&unseal(key, binding, sealed)?)?;
    if card.created_at == binding.created_at { Ok(card) } else { Err(Refused) }
}

/// Checks the commitment, then decrypts.
fn unseal(
    key: &DataKeyVersion,
    binding: &Binding<'_>,
    sealed: &Sealed,
) -> Result<Zeroizing<Vec<u8>>, Refused> {
    let aad = binding.aad(sealed.key_version);
    let (body, commitment) = sealed.parts()?;
    let (nonce, _rest) = body.split_first_chunk::<{ xaes::NONCE_LENGTH }>().ok_or(Refused)?;
    if !key.commit.verify(COMMIT_LABEL, &[&aad, nonce], commitment) {
        return Err(Refused);
    }
    key.cipher.open(&aad, body).map_err(|xaes::Unauthentic| Refused)
}

/// The record does not open. One error for every reason: wrong row, wrong key, changed, short, unknown
/// format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the record does not open")]
pub struct Refused;

/// Why a card could not be sealed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SealError {
    /// The key may not protect anything now. Operator's fault: rotate it, or resume it.
    #[error("the data key: {0}")]
    Unfit(#[from] Unfit),
    /// No randomness for a nonce. Operator's fault.
    #[error("the card could not be encrypted")]
    Key(#[from] KeyError),
}

/// Why a record could not be changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The stored record does not open.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The new record could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// The one envelope format there is.
const FORMAT: u8 = 2;
const HEADER_LENGTH: usize = 5;
const COMMITMENT_LENGTH: usize = 32;
const RECORD_LABEL: &str = "cordon/record";
const COMMIT_LABEL: &str = "cordon/record/commitment";

#[cfg(test)]
mod pinned;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod two_keys;
