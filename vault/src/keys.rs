//! Key types: 256-bit secrets, one type for each use, drawn at random or derived under a label.
//!
//! Must never print, clone, serialize, compare or log key bytes, and never use one key for two purposes.
//! Bytes live on the heap from birth to wipe, so that moving a key copies a pointer and not the secret.
//! Tests: `keys/tests.rs`.
//!
//! ```compile_fail
//! fn needs_clone<T: Clone>() {}
//! needs_clone::<cordon_vault::keys::RootKey>();
//! ```
//! ```compile_fail
//! fn needs_serialize<T: serde::Serialize>() {}
//! needs_serialize::<cordon_vault::keys::RootKey>();
//! ```

use std::fmt;
use std::marker::PhantomData;

use data_encoding::{BASE32_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{hkdf, hmac};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

pub(crate) mod frame;

use frame::framed;

/// Length in bytes of every key: 256 bits (PCI DSS 3.6.1 asks for at least 128, and no key weaker than what
/// it wraps).
pub const KEY_LENGTH: usize = 32;

/// The root of the hierarchy: sealed by custodians, in memory only while the vault is being unsealed.
pub type RootKey = Key<usage::Root>;
/// A key-encryption key: wraps data and index keys, never touches card data.
pub type Kek = Key<usage::KeyEncryption>;
/// Encrypts the records of one collection.
pub type DataKey = Key<usage::Data>;
/// Fingerprints the PANs of one collection (PCI DSS 3.5.1.1).
pub type IndexKey = Key<usage::Index>;
/// Encrypts held card verification codes; lives and dies with the process.
pub type SadKey = Key<usage::Sad>;
/// Wraps other keys; always derived from a root key or a key-encryption key.
pub type WrapKey = Key<usage::Wrap>;
/// Authenticates the keyring and seal documents; always derived from the root key.
pub type DocumentKey = Key<usage::Document>;
/// Hashes the rows of the store for its tally.
pub type TallyKey = Key<usage::Tally>;
/// Commits records to the data key that seals them; always derived from that data key.
pub type CommitKey = Key<usage::Commit>;

/// What a key may be used for, as a type: a function that needs an index key cannot be handed a data key.
pub mod usage {
    /// A purpose a key can have. Sealed: the list below is complete.
    pub trait Usage: sealed::Sealed {
        /// The name bound into derivations and wrappings.
        const NAME: &'static str;
    }
    /// Purposes that encrypt with XAES-256-GCM.
    pub trait Encrypts: Usage {}
    /// Purposes whose keys are drawn at random and kept, as opposed to derived on the way.
    pub trait Stored: Usage {}

    mod sealed {
        #[expect(unnameable_types, reason = "nobody outside may name it: that is what seals `Usage`")]
        pub trait Sealed {}
    }

    /// Marker of [`super::RootKey`].
    #[derive(Debug)]
    pub enum Root {}
    /// Marker of [`super::Kek`].
    #[derive(Debug)]
    pub enum KeyEncryption {}
    /// Marker of [`super::DataKey`].
    #[derive(Debug)]
    pub enum Data {}
    /// Marker of [`super::IndexKey`].
    #[derive(Debug)]
    pub enum Index {}
    /// Marker of [`super::SadKey`].
    #[derive(Debug)]
    pub enum Sad {}
    /// Marker of [`super::WrapKey`].
    #[derive(Debug)]
    pub enum Wrap {}
    /// Marker of [`super::DocumentKey`].
    #[derive(Debug)]
    pub enum Document {}
    /// Marker of [`super::CommitKey`].
    #[derive(Debug)]
    pub enum Commit {}
    /// Marker of [`super::TallyKey`].
    #[derive(Debug)]
    pub enum Tally {}
    /// Marker of a static key around the root key.
    #[derive(Debug)]
    pub enum Seal {}

    impl sealed::Sealed for Root {}
    impl sealed::Sealed for KeyEncryption {}
    impl sealed::Sealed for Data {}
    impl sealed::Sealed for Index {}
    impl sealed::Sealed for Sad {}
    impl sealed::Sealed for Wrap {}
    impl sealed::Sealed for Document {}
    impl sealed::Sealed for Commit {}
    impl sealed::Sealed for Tally {}
    impl sealed::Sealed for Seal {}

    impl Usage for Root {
        const NAME: &'static str = "root";
    }
    impl Usage for KeyEncryption {
        const NAME: &'static str = "kek";
    }
    impl Usage for Data {
        const NAME: &'static str = "data";
    }
    impl Usage for Index {
        const NAME: &'static str = "index";
    }
    impl Usage for Sad {
        const NAME: &'static str = "sad";
    }
    impl Usage for Wrap {
        const NAME: &'static str = "wrap";
    }
    impl Usage for Document {
        const NAME: &'static str = "document";
    }
    impl Usage for Commit {
        const NAME: &'static str = "commit";
    }
    impl Usage for Tally {
        const NAME: &'static str = "tally";
    }
    impl Usage for Seal {
        const NAME: &'static str = "seal";
    }

    impl Stored for Root {}
    impl Stored for KeyEncryption {}
    impl Stored for Data {}
    impl Stored for Index {}
    impl Stored for Sad {}
    impl Stored for Tally {}
    impl Stored for Seal {}

    impl Encrypts for Data {}
    impl Encrypts for Sad {}
    impl Encrypts for Seal {}
    impl Encrypts for Wrap {}
}

use usage::{Stored, Usage};

/// A 256-bit secret with one purpose `U`. Wiped on drop; has no `Clone`, `PartialEq`, `Serialize` or telling
/// `Debug`.
pub struct Key<U: Usage> {
    bytes: Box<Zeroizing<[u8; KEY_LENGTH]>>,
    usage: PhantomData<fn() -> U>,
}

impl<U: Stored> Key<U> {
    /// Draws a key from the operating system, in the place where it will stay (PCI DSS 3.7.1).
    ///
    /// # Errors
    /// [`KeyError::Random`] when the operating system refuses; there is no second source to fall back to.
    pub fn generate() -> Result<Key<U>, KeyError> {
        Self::fill_with(|out| fill_random(out))
    }

    /// A key whose bytes `fill` writes in place: from an unwrapping or from combined shares.
    pub(crate) fn fill_with<E>(
        fill: impl FnOnce(&mut [u8; KEY_LENGTH]) -> Result<(), E>,
    ) -> Result<Key<U>, E> {
        let mut key = Key { bytes: Box::new(Zeroizing::new([0; KEY_LENGTH])), usage: PhantomData };
        fill(&mut key.bytes)?;
        Ok(key)
    }
}

impl<U: Usage> Key<U> {
    /// The bytes, for handing to a cipher or MAC. Greppable on purpose.
    pub(crate) fn expose_for_crypto(&self) -> &[u8; KEY_LENGTH] {
        &self.bytes
    }

    /// Derives a key for another purpose with HKDF-SHA256 (RFC 5869). The info string holds `label`, the
    /// purpose of the derived key and `context`, each with its length, so that no two derivations share
    /// an output.
    pub(crate) fn derive<D: Usage>(&self, label: &str, context: &[&[u8]]) -> Result<Key<D>, KeyError> {
        let mut derived = Key { bytes: Box::new(Zeroizing::new([0; KEY_LENGTH])), usage: PhantomData };
        let mut fields = vec![D::NAME.as_bytes()];
        fields.extend_from_slice(context);
        self.expand(&framed(label, &fields), &mut derived.bytes)?;
        Ok(derived)
    }

    /// Commits to this key under the name `id`: 32 bytes of HKDF output that only this key gives, and that
    /// tell nothing about it. Checked whenever a key is unwrapped, because AES-GCM alone does not commit
    /// to its key.
    pub(crate) fn commitment(&self, id: &KeyId) -> Result<Commitment, KeyError> {
        let mut commitment = [0; KEY_LENGTH];
        self.expand(&framed(COMMIT_LABEL, &[U::NAME.as_bytes(), id.as_str().as_bytes()]), &mut commitment)?;
        Ok(Commitment(commitment))
    }

    fn expand(&self, info: &[u8], out: &mut [u8; KEY_LENGTH]) -> Result<(), KeyError> {
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, HKDF_SALT).extract(self.expose_for_crypto());
        let info = [info];
        let expanded = extracted.expand(&info, OutputLength).map_err(|_too_long| KeyError::Derivation)?;
        expanded.fill(out).map_err(|_wrong_length| KeyError::Derivation)
    }
}

impl<U: Usage> fmt::Debug for Key<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key<{}>(..)", U::NAME)
    }
}

/// The name of one key: its purpose and 80 random bits, such as `data-mzxw6ytboi3dimrr`.
///
/// Random and not counted, so that keys of two installations never share a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(String);

impl KeyId {
    /// Draws a new name for a key of the given purpose.
    ///
    /// # Errors
    /// [`KeyError::Random`] when the operating system refuses randomness.
    pub fn draw(purpose: &str) -> Result<KeyId, KeyError> {
        let mut random = [0; KEY_ID_RANDOM];
        fill_random(&mut random)?;
        let mut name = BASE32_NOPAD.encode(&random);
        name.make_ascii_lowercase();
        Ok(KeyId(format!("{purpose}-{name}")))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for KeyId {
    type Error = KeyError;

    fn try_from(text: String) -> Result<KeyId, KeyError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if text.is_empty() || text.len() > KEY_ID_MAX || !text.bytes().all(plain) {
            return Err(KeyError::Name);
        }
        Ok(KeyId(text))
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> String {
        id.0
    }
}

/// A binding, public fingerprint of one key under one name. Safe to show: it takes the key to compute it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Commitment([u8; KEY_LENGTH]);

impl Commitment {
    /// Whether two commitments are the same, in constant time.
    #[must_use]
    pub fn matches(&self, other: &Commitment) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// The first 16 hex digits, for listings.
    #[must_use]
    pub fn prefix(&self) -> String {
        self.0.first_chunk::<8>().map(|head| HEXLOWER.encode(head)).unwrap_or_default()
    }
}

impl TryFrom<String> for Commitment {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Commitment, KeyError> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_not_hex| KeyError::Name)?;
        bytes.try_into().map(Commitment).map_err(|_wrong_length| KeyError::Name)
    }
}

impl From<Commitment> for String {
    fn from(commitment: Commitment) -> String {
        HEXLOWER.encode(&commitment.0)
    }
}

/// Why a key could not be made. Says nothing about any key.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The operating system gave no randomness. Operator's fault; nothing may go on without it.
    #[error("the operating system refused to give randomness")]
    Random,
    /// HKDF refused the requested length. A bug: every length here is fixed.
    #[error("key derivation failed")]
    Derivation,
    /// A stored key name or commitment is not well formed.
    #[error("a key name or commitment is not well formed")]
    Name,
}

/// HMAC-SHA-256 under one key, with the key schedule computed once. Wiped on drop.
pub(crate) struct PreparedMac(Box<hmac::Key>);

impl PreparedMac {
    pub(crate) fn new<U: Usage>(key: &Key<U>) -> PreparedMac {
        PreparedMac(Box::new(hmac::Key::new(hmac::HMAC_SHA256, key.expose_for_crypto())))
    }

    /// The tag over `fields`, each preceded by its length, after `label`.
    pub(crate) fn sign(&self, label: &str, fields: &[&[u8]]) -> [u8; KEY_LENGTH] {
        let mut context = hmac::Context::with_key(&self.0);
        frame::feed(label, fields, |part| context.update(part));
        let tag = context.sign();
        let mut out = [0; KEY_LENGTH];
        for (to, from) in out.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        out
    }

    /// Checks a tag in constant time.
    pub(crate) fn verify(&self, label: &str, fields: &[&[u8]], tag: &[u8]) -> bool {
        self.sign(label, fields).ct_eq(tag).into()
    }
}

impl Drop for PreparedMac {
    fn drop(&mut self) {
        // ring's HMAC key has no wipe of its own: overwrite its inner and outer states with those of a null
        // key, and keep the optimizer from dropping a store to memory that is freed next.
        *self.0 = hmac::Key::new(hmac::HMAC_SHA256, &[0; KEY_LENGTH]);
        std::hint::black_box(&self.0);
    }
}

impl fmt::Debug for PreparedMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PreparedMac(..)")
    }
}

/// Fills `out` from the operating system: the one place of this crate where randomness comes from.
pub(crate) fn fill_random(out: &mut [u8]) -> Result<(), KeyError> {
    SystemRandom::new().fill(out).map_err(|_unspecified| KeyError::Random)
}

struct OutputLength;

impl hkdf::KeyType for OutputLength {
    fn len(&self) -> usize {
        KEY_LENGTH
    }
}

const HKDF_SALT: &[u8] = b"cordon/v1/hkdf";
const COMMIT_LABEL: &str = "cordon/v1/commit";
const KEY_ID_RANDOM: usize = 10;
const KEY_ID_MAX: usize = 64;

#[cfg(test)]
mod tests;
