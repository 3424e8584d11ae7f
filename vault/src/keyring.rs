//! The keyring: every key of the vault below the root, with versions, states and dates, and its opened view.
//!
//! Must never give out key bytes, protect anything with a key that is not active, or open a document whose
//! tag, commitments, environment or epoch is not as expected. A change makes a successor with the next epoch;
//! the caller stores it by compare-and-set and only then uses it. Tests: `keyring/tests.rs`,
//! `keyring/state.rs`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use cordon_card::Environment;
use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;

pub use document::{Document, Purpose};
pub use state::KeyState;

use crate::keys::{DataKey, DocumentKey, IndexKey, Kek, KeyError, KeyId, PreparedMac, RootKey};
use crate::record::xaes::XaesKey;
use crate::store::CollectionId;
use change::Slot;
use document::KeyRow;

mod change;
mod document;
mod state;
mod wrap;

/// A keyring with its keys opened in memory. Sharing is by `Arc`; every key is wiped when the last view goes.
pub struct Unlocked {
    document: Document,
    authority: Arc<Authority>,
    collections: BTreeMap<u32, CollectionKeys>,
}

/// What stays of the root key after unsealing: the keys of the document tags and the key around the KEKs.
struct Authority {
    mac: PreparedMac,
    approvals: PreparedMac,
    seal: PreparedMac,
    wrapper: XaesKey,
}

#[derive(Default)]
struct CollectionKeys {
    data: BTreeMap<u32, DataKeyVersion>,
    index: BTreeMap<u32, IndexKeyVersion>,
}

/// One version of a collection's data key, ready for use within what its state allows.
#[derive(Debug)]
pub struct DataKeyVersion {
    pub(crate) version: u32,
    pub(crate) state: KeyState,
    pub(crate) cipher: XaesKey,
}

/// One version of a collection's index key, ready for fingerprinting.
#[derive(Debug)]
pub struct IndexKeyVersion {
    pub(crate) version: u32,
    pub(crate) state: KeyState,
    pub(crate) mac: PreparedMac,
}

/// One line of a key listing. Holds no key bytes.
#[derive(Clone, Debug, Serialize)]
pub struct KeyInfo {
    /// The key's name.
    pub id: KeyId,
    /// What it is for.
    pub purpose: Purpose,
    /// The number of its collection; none for a key-encryption key.
    pub collection: Option<u32>,
    /// Its version, counted from one within its purpose and collection.
    pub version: u32,
    /// Where it is in its life.
    pub state: KeyState,
    /// When it was made.
    pub created: Timestamp,
    /// When it began to protect data.
    pub activated: Option<Timestamp>,
    /// When it stopped protecting new data.
    pub deactivated: Option<Timestamp>,
    /// When it should be replaced at the latest.
    pub cryptoperiod_end: Timestamp,
    /// The first 16 hex digits of its commitment.
    pub commitment_prefix: String,
}

impl Unlocked {
    /// A new keyring: one active key-encryption key, no collection, epoch 1.
    ///
    /// # Errors
    /// [`KeyringError::Key`] without randomness.
    pub fn create(
        root: &RootKey,
        environment: Environment,
        now: Timestamp,
    ) -> Result<Unlocked, KeyringError> {
        let authority = Arc::new(Authority::of(root)?);
        let mut document = Document {
            format: document::FORMAT,
            environment,
            epoch: 1,
            keys: Vec::new(),
            closed: BTreeMap::new(),
            seal_generation: 1,
        };
        let slot = Slot { purpose: Purpose::Kek, collection: None, version: 1, wrapped_by: None };
        change::add_key(&mut document, slot, &Kek::generate()?, &authority.wrapper, now)?;
        Unlocked::assemble(document, authority)
    }

    /// Opens a stored keyring: checks the tag, then the environment, then the epoch, then every key's
    /// commitment. `at_least_epoch` is the highest epoch known from elsewhere, 0 if none is.
    ///
    /// # Errors
    /// [`KeyringError`], by the first check that fails; nothing of the keyring is then usable.
    pub fn open(
        bytes: &[u8],
        root: &RootKey,
        environment: Environment,
        at_least_epoch: u64,
    ) -> Result<Unlocked, KeyringError> {
        Unlocked::open_by(bytes, Arc::new(Authority::of(root)?), environment, at_least_epoch)
    }

    /// Opens a newer stored version of this keyring, written by another process, without the root key.
    ///
    /// # Errors
    /// As [`Unlocked::open`]; an epoch below this one's is a rollback.
    pub fn reopen(&self, bytes: &[u8]) -> Result<Unlocked, KeyringError> {
        Unlocked::open_by(bytes, Arc::clone(&self.authority), self.document.environment, self.document.epoch)
    }

    /// The document to store, with its tag.
    ///
    /// # Errors
    /// [`KeyringError::Malformed`] if it cannot be written as JSON, which would be a bug.
    pub fn to_bytes(&self) -> Result<Vec<u8>, KeyringError> {
        self.document.to_bytes(&self.authority.mac)
    }

    /// How many changes this keyring has seen.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.document.epoch
    }

    /// The environment all its keys belong to.
    #[must_use]
    pub fn environment(&self) -> Environment {
        self.document.environment
    }

    /// The data key that seals new records of a collection.
    #[must_use]
    pub fn active_data_key(&self, collection: CollectionId) -> Option<&DataKeyVersion> {
        self.keys_of(collection)?.data.values().rev().find(|key| key.state.may_protect())
    }

    /// The data key of one version, in whatever state it is. What it may do is checked where it is used.
    #[must_use]
    pub fn data_key(&self, collection: CollectionId, version: u32) -> Option<&DataKeyVersion> {
        self.keys_of(collection)?.data.get(&version)
    }

    /// The index key that fingerprints new cards of a collection.
    #[must_use]
    pub fn active_index_key(&self, collection: CollectionId) -> Option<&IndexKeyVersion> {
        self.keys_of(collection)?.index.values().rev().find(|key| key.state.may_protect())
    }

    /// The index keys a known card is looked up under, newest first.
    pub fn index_keys(&self, collection: CollectionId) -> impl Iterator<Item = &IndexKeyVersion> {
        let keys = self.keys_of(collection).into_iter().flat_map(|keys| keys.index.values().rev());
        keys.filter(|key| key.state.may_open())
    }

    /// Every key of the keyring, without its bytes.
    #[must_use]
    pub fn list(&self) -> Vec<KeyInfo> {
        self.document.keys.iter().map(KeyRow::info).collect()
    }

    /// What authenticates requests for approval.
    pub(crate) fn approvals_mac(&self) -> &PreparedMac {
        &self.authority.approvals
    }

    /// What authenticates the seal document.
    pub(crate) fn seal_mac(&self) -> &PreparedMac {
        &self.authority.seal
    }

    /// The ceremony whose shares unseal.
    #[must_use]
    pub fn seal_generation(&self) -> u32 {
        self.document.seal_generation
    }

    /// Whether a request for approval was used or rejected. Known until its time is over, and not longer.
    #[must_use]
    pub fn is_closed(&self, approval: &KeyId) -> bool {
        self.document.closed.contains_key(approval)
    }

    /// Puts a data key into a state that no operation leads to yet.
    #[cfg(test)]
    pub(crate) fn set_state_for_test(
        &mut self,
        CollectionId(number): CollectionId,
        version: u32,
        state: KeyState,
    ) {
        let keys = self.collections.get_mut(&number).and_then(|keys| keys.data.get_mut(&version));
        keys.unwrap().state = state;
    }

    fn keys_of(&self, CollectionId(number): CollectionId) -> Option<&CollectionKeys> {
        self.collections.get(&number)
    }

    fn open_by(
        bytes: &[u8],
        authority: Arc<Authority>,
        environment: Environment,
        at_least_epoch: u64,
    ) -> Result<Unlocked, KeyringError> {
        let document = Document::authenticate(bytes, &authority.mac)?;
        if document.environment != environment {
            return Err(KeyringError::WrongEnvironment {
                found: document.environment,
                expected: environment,
            });
        }
        if document.epoch < at_least_epoch {
            return Err(KeyringError::RolledBack { found: document.epoch, at_least: at_least_epoch });
        }
        Unlocked::assemble(document, authority)
    }

    /// Opens every key that its state lets be used for anything.
    fn assemble(document: Document, authority: Arc<Authority>) -> Result<Unlocked, KeyringError> {
        let mut unlocked = Unlocked { document, authority, collections: BTreeMap::new() };
        let wrappers = unlocked.kek_wrappers()?;
        let environment = unlocked.document.environment;
        for row in &unlocked.document.keys {
            let (Some(number), Some(_bytes)) = (row.collection, &row.wrapped) else { continue };
            let wrapper = row.wrapped_by.and_then(|version| wrappers.get(&version));
            let wrapper = wrapper.ok_or_else(|| KeyringError::Unwrap(row.id.clone()))?;
            let keys = unlocked.collections.entry(number).or_default();
            let (version, state) = (row.version, row.state);
            match row.purpose {
                Purpose::Kek => {}
                Purpose::Data => {
                    let key: DataKey = wrap::unwrap(row, wrapper, environment)?;
                    keys.data.insert(version, DataKeyVersion { version, state, cipher: XaesKey::new(&key) });
                }
                Purpose::Index => {
                    let key: IndexKey = wrap::unwrap(row, wrapper, environment)?;
                    keys.index
                        .insert(version, IndexKeyVersion { version, state, mac: PreparedMac::new(&key) });
                }
            }
        }
        Ok(unlocked)
    }

    /// The wrapping key of every key-encryption key there is, by version; checks each commitment.
    fn kek_wrappers(&self) -> Result<BTreeMap<u32, XaesKey>, KeyringError> {
        let rows = self.document.versions(Purpose::Kek, None).filter(|row| row.wrapped.is_some());
        rows.map(|row| Ok((row.version, self.kek_wrapper(row)?))).collect()
    }

    fn kek_wrapper(&self, row: &KeyRow) -> Result<XaesKey, KeyringError> {
        let kek: Kek = wrap::unwrap(row, &self.authority.wrapper, self.document.environment)?;
        Ok(wrap::wrapper_of(&kek, KEK_WRAP_LABEL)?)
    }

    fn active_kek(&self) -> Result<(u32, XaesKey), KeyringError> {
        let row = self.document.active(Purpose::Kek, None);
        let row = row.ok_or(KeyringError::Corrupt("no key-encryption key is active"))?;
        Ok((row.version, self.kek_wrapper(row)?))
    }

    fn succeed(&self, document: Document) -> Result<Unlocked, KeyringError> {
        Unlocked::assemble(document, Arc::clone(&self.authority))
    }
}

impl fmt::Debug for Unlocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Document { environment, epoch, keys, .. } = &self.document;
        write!(f, "Unlocked({environment:?}, epoch {epoch}, {} keys)", keys.len())
    }
}

impl Authority {
    fn of(root: &RootKey) -> Result<Authority, KeyringError> {
        let document: DocumentKey = root.derive(ROOT_KEYRING_LABEL, &[])?;
        let approvals: DocumentKey = root.derive(ROOT_APPROVALS_LABEL, &[])?;
        Ok(Authority {
            mac: PreparedMac::new(&document),
            approvals: PreparedMac::new(&approvals),
            seal: crate::seal::mac_of(root).map_err(|_error| KeyError::Derivation)?,
            wrapper: wrap::wrapper_of(root, ROOT_WRAP_LABEL)?,
        })
    }
}

impl DataKeyVersion {
    /// The version that records sealed with this key carry.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Where the key is in its life.
    #[must_use]
    pub fn state(&self) -> KeyState {
        self.state
    }
}

impl IndexKeyVersion {
    /// The version that index rows made with this key carry.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Where the key is in its life.
    #[must_use]
    pub fn state(&self) -> KeyState {
        self.state
    }
}

impl KeyRow {
    fn info(&self) -> KeyInfo {
        KeyInfo {
            id: self.id.clone(),
            purpose: self.purpose,
            collection: self.collection,
            version: self.version,
            state: self.state,
            created: self.created,
            activated: self.activated,
            deactivated: self.deactivated,
            cryptoperiod_end: self.cryptoperiod_end,
            commitment_prefix: self.commitment.prefix(),
        }
    }
}

/// Why a keyring cannot be opened or changed. Names keys, never shows one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// Not a keyring document. Operator's fault: wrong or damaged store.
    #[error("the stored keyring is not well formed")]
    Malformed,
    /// The tag is wrong: another root key, or a changed document. Operator's fault, or an attack.
    #[error("the stored keyring is not authentic under this root key")]
    NotAuthentic,
    /// An authentic keyring contradicts itself. A bug.
    #[error("the keyring contradicts itself: {0}")]
    Corrupt(&'static str),
    /// A keyring of another environment. Operator's fault.
    #[error("the keyring belongs to environment {found:?}, this vault to {expected:?}")]
    WrongEnvironment {
        /// The environment in the document.
        found: Environment,
        /// The environment of this vault.
        expected: Environment,
    },
    /// An older keyring than one already seen. Operator's fault (a restored backup), or an attack.
    #[error("the keyring has epoch {found}, but epoch {at_least} was already in use")]
    RolledBack {
        /// The epoch in the document.
        found: u64,
        /// The highest epoch known.
        at_least: u64,
    },
    /// A wrapped key does not open in its place. An attack or a bug: the document itself was authentic.
    #[error("key {0} does not unwrap")]
    Unwrap(KeyId),
    /// A key opens but is not the one committed to. An attack by someone who holds the wrapping key.
    #[error("key {0} is not the key its commitment names")]
    Commitment(KeyId),
    /// The collection already has keys. Client's fault.
    #[error("collection {0} already has keys")]
    CollectionExists(u32),
    /// The collection has no keys. Client's fault.
    #[error("collection {0} has no keys")]
    UnknownCollection(u32),
    /// An index rotation is not finished. Client's fault: destroy the older version first.
    #[error("index key version {0} is still in use beside the active one")]
    WindowOpen(u32),
    /// There is no such key version. Client's fault.
    #[error("there is no such key version")]
    NoSuchKey,
    /// The key version is active, destroyed, or wraps other keys. Client's fault.
    #[error("the key version is in use, or was destroyed before")]
    InUse,
    /// A key could not be made.
    #[error("a key could not be made")]
    Key(#[from] KeyError),
}

const ROOT_KEYRING_LABEL: &str = "cordon/v1/root/keyring";
const ROOT_APPROVALS_LABEL: &str = "cordon/v1/root/approvals";
const ROOT_WRAP_LABEL: &str = "cordon/v1/root/wrap";
const KEK_WRAP_LABEL: &str = "cordon/v1/kek/wrap";

#[cfg(test)]
mod tests;
