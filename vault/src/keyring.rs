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

pub use budget::{BLOCK, DATA_BUDGET, GRACE, KEK_BUDGET, Unfit};
pub use document::{Document, Purpose};
pub use error::KeyringError;
pub use info::KeyInfo;
pub use state::{KeyState, Withheld};

use crate::keys::{CommitKey, DataKey, DocumentKey, IndexKey, Kek, KeyError, KeyId, PreparedMac, RootKey};
use crate::record::xaes::XaesKey;
use crate::store::{CollectionId, TallyMac};
use budget::Budget;
use change::Slot;
use document::KeyRow;

mod budget;
mod change;
mod document;
mod error;
mod info;
mod state;
mod wrap;

/// A keyring with its keys opened in memory. Sharing is by `Arc`; every key is wiped when the last view goes.
pub struct Unlocked {
    document: Document,
    authority: Arc<Authority>,
    collections: BTreeMap<u32, CollectionKeys>,
    /// What the store's rows are hashed with.
    tally: Option<Arc<TallyMac>>,
    /// Blocks of uses that this keyring reserves and that count once it is durable.
    reserved: Vec<(Arc<Budget>, u64)>,
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
    pub(crate) commit: PreparedMac,
    protects_until: Timestamp,
    budget: Arc<Budget>,
}

/// One version of a collection's index key, ready for fingerprinting.
#[derive(Debug)]
pub struct IndexKeyVersion {
    pub(crate) version: u32,
    pub(crate) state: KeyState,
    pub(crate) mac: PreparedMac,
    pub(crate) protects_until: Timestamp,
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
            as_of: now,
            keys: Vec::new(),
            tally: None,
            closed: BTreeMap::new(),
            seal_generation: 1,
        };
        let slot = Slot { purpose: Purpose::Kek, collection: None, version: 1, wrapped_by: None };
        change::add_key(&mut document, slot, &Kek::generate()?, &authority.wrapper, now)?;
        change::add_tally_key(&mut document, &authority.wrapper, now)?;
        Unlocked::assemble(document, authority, &BTreeMap::new(), Origin::Made)
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
        Unlocked::open_by(
            bytes,
            Arc::new(Authority::of(root)?),
            environment,
            at_least_epoch,
            &BTreeMap::new(),
        )
    }

    /// Opens a newer stored version of this keyring, written by another process, without the root key.
    ///
    /// # Errors
    /// As [`Unlocked::open`]; an epoch below this one's is a rollback.
    pub fn reopen(&self, bytes: &[u8]) -> Result<Unlocked, KeyringError> {
        let Document { environment, epoch, .. } = self.document;
        Unlocked::open_by(bytes, Arc::clone(&self.authority), environment, epoch, &self.collections)
    }

    /// The document to store, with its tag.
    ///
    /// # Errors
    /// [`KeyringError::Malformed`] if it cannot be written as JSON, which would be a bug.
    pub fn to_bytes(&self) -> Result<Vec<u8>, KeyringError> {
        self.document.to_bytes(&self.authority.mac)
    }

    /// How many changes it has seen.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.document.epoch
    }

    /// When this keyring was written. A clock that is behind it was set back.
    #[must_use]
    pub fn as_of(&self) -> Timestamp {
        self.document.as_of
    }

    /// Says that the keyring is durable: what it reserves may be used from now on.
    #[must_use]
    pub fn made_durable(mut self) -> Unlocked {
        for (budget, uses) in self.reserved.drain(..) {
            budget.grant(uses);
        }
        self
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

    /// Whether an active data key has fewer uses reserved for this process than `below`.
    #[must_use]
    pub fn has_fewer_uses_than(&self, below: u64) -> bool {
        let keys = self.collections.values().flat_map(|keys| keys.data.values());
        keys.filter(|key| key.state.may_protect()).any(|key| key.budget.left() < below)
    }

    /// The index key that fingerprints new cards of a collection.
    #[must_use]
    pub fn active_index_key(&self, collection: CollectionId) -> Option<&IndexKeyVersion> {
        self.keys_of(collection)?.index.values().rev().find(|key| key.state.may_protect())
    }

    /// The index keys that exist, newest first, in whatever state they are.
    pub fn index_keys(&self, collection: CollectionId) -> impl Iterator<Item = &IndexKeyVersion> {
        self.keys_of(collection).into_iter().flat_map(|keys| keys.index.values().rev())
    }

    /// The index keys a known card is looked up under, newest first. All of them or none: a card that is not looked
    /// up under each would get a second token.
    ///
    /// # Errors
    /// [`Withheld`] while none is active or one is suspended.
    pub fn lookup_keys(
        &self,
        collection: CollectionId,
    ) -> Result<impl Iterator<Item = &IndexKeyVersion>, Withheld> {
        let all = || self.index_keys(collection).filter(|key| key.state != KeyState::PreActive);
        if self.active_index_key(collection).is_none() || !all().all(|key| key.state.may_look_up()) {
            return Err(Withheld);
        }
        Ok(all())
    }

    /// Whether the state of a record's key lets it be shown. A key that is not there is no matter of state.
    ///
    /// # Errors
    /// [`Withheld`] for a record of a suspended or compromised key.
    pub fn may_show(&self, collection: CollectionId, version: u32) -> Result<(), Withheld> {
        match self.data_key(collection, version) {
            Some(key) if !key.state.may_open() => Err(Withheld),
            Some(_) | None => Ok(()),
        }
    }

    /// What the store's rows are hashed with; none in a keyring of an older version that has reserved nothing yet.
    #[must_use]
    pub fn tally(&self) -> Option<&Arc<TallyMac>> {
        self.tally.as_ref()
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
        present: &BTreeMap<u32, CollectionKeys>,
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
        Unlocked::assemble(document, authority, present, Origin::Stored)
    }

    /// Opens every key that its state lets be used for anything. Keys that `present` has keep its budgets.
    fn assemble(
        document: Document,
        authority: Arc<Authority>,
        present: &BTreeMap<u32, CollectionKeys>,
        origin: Origin,
    ) -> Result<Unlocked, KeyringError> {
        let tally = wrap::tally_of(&document, &authority.wrapper)?;
        let mut unlocked =
            Unlocked { document, authority, collections: BTreeMap::new(), tally, reserved: Vec::new() };
        let wrappers = unlocked.kek_wrappers()?;
        let environment = unlocked.document.environment;
        for row in &unlocked.document.keys {
            let (Some(number), Some(_bytes)) = (row.collection, &row.wrapped) else { continue };
            let wrapper = row.wrapped_by.and_then(|version| wrappers.get(&version));
            let wrapper = wrapper.ok_or_else(|| KeyringError::Unwrap(row.id.clone()))?;
            let keys = unlocked.collections.entry(number).or_default();
            let KeyRow { version, state, cryptoperiod_end: protects_until, .. } = *row;
            match row.purpose {
                Purpose::Kek => {}
                Purpose::Data => {
                    let key: DataKey = wrap::unwrap(row, wrapper, environment)?;
                    let commit: CommitKey = key.derive(COMMIT_LABEL, &[])?;
                    let known = present.get(&number).and_then(|keys| keys.data.get(&version));
                    let budget = match (known, origin) {
                        (Some(known), _) => Arc::clone(&known.budget),
                        // Nobody has a key that was just made before its keyring is durable, and the first block
                        // with it.
                        (None, Origin::Made) => Arc::new(Budget::of(row.uses)),
                        // What others reserved is theirs, or was lost in a crash.
                        (None, Origin::Stored) => Arc::new(Budget::of(0)),
                    };
                    let (cipher, commit) = (XaesKey::new(&key), PreparedMac::new(&commit));
                    keys.data.insert(
                        version,
                        DataKeyVersion { version, state, cipher, commit, protects_until, budget },
                    );
                }
                Purpose::Index => {
                    let key: IndexKey = wrap::unwrap(row, wrapper, environment)?;
                    let mac = PreparedMac::new(&key);
                    keys.index.insert(version, IndexKeyVersion { version, state, mac, protects_until });
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

    fn active_kek(&self, now: Timestamp) -> Result<(u32, XaesKey), KeyringError> {
        let row = self.document.active(Purpose::Kek, None);
        let row = row.ok_or(KeyringError::Corrupt("no key-encryption key is active"))?;
        budget::check_period(row.state, row.cryptoperiod_end, now).map_err(KeyringError::Kek)?;
        Ok((row.version, self.kek_wrapper(row)?))
    }

    fn succeed(&self, document: Document) -> Result<Unlocked, KeyringError> {
        Unlocked::assemble(document, Arc::clone(&self.authority), &self.collections, Origin::Made)
    }
}

/// Where a keyring comes from.
#[derive(Clone, Copy)]
enum Origin {
    /// A successor that is not stored yet.
    Made,
    /// Read from the store.
    Stored,
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

const ROOT_KEYRING_LABEL: &str = "cordon/v1/root/keyring";
const ROOT_APPROVALS_LABEL: &str = "cordon/v1/root/approvals";
const ROOT_WRAP_LABEL: &str = "cordon/v1/root/wrap";
const KEK_WRAP_LABEL: &str = "cordon/v1/kek/wrap";
const COMMIT_LABEL: &str = "cordon/v1/data/commit";

#[cfg(test)]
mod tests;
