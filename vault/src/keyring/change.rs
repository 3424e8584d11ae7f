//! Changes of a keyring: each makes a successor with the next epoch and leaves the present one as it is.
//!
//! Must never leave two versions of a key active, or an active key without bytes. Tests: `keyring/tests.rs`.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::budget::{BLOCK, DATA_BUDGET, KEK_BUDGET};
use super::document::{KeyRow, TallyRow};
use super::wrap::{self, Place};
use super::{Authority, Document, KEK_WRAP_LABEL, KeyState, KeyringError, Origin, Purpose, Unfit, Unlocked};
use crate::keys::usage::Tally;
use crate::keys::usage::{Stored, Usage};
use crate::keys::{DataKey, IndexKey, Kek, Key, KeyId, RootKey, TallyKey};
use crate::record::xaes::XaesKey;
use crate::store::CollectionId;

impl Unlocked {
    /// The successor with one data key and one index key, both active, for a new collection.
    ///
    /// # Errors
    /// [`KeyringError::CollectionExists`]; [`KeyringError::Key`] without randomness.
    pub fn add_collection(&self, collection: CollectionId, now: Timestamp) -> Result<Unlocked, KeyringError> {
        let CollectionId(number) = collection;
        if self.collections.contains_key(&number) {
            return Err(KeyringError::CollectionExists(number));
        }
        let mut document = self.successor(now)?;
        let (kek, wrapper) = self.active_kek(now)?;
        let data =
            Slot { purpose: Purpose::Data, collection: Some(number), version: 1, wrapped_by: Some(kek) };
        add_key(&mut document, data, &DataKey::generate()?, &wrapper, now)?;
        let index = Slot { purpose: Purpose::Index, ..data };
        add_key(&mut document, index, &IndexKey::generate()?, &wrapper, now)?;
        self.succeed(document)
    }

    /// The successor in which a new data key of the collection is active and the one before it only opens.
    ///
    /// # Errors
    /// [`KeyringError::UnknownCollection`]; [`KeyringError::Key`] without randomness.
    pub fn rotate_data(&self, collection: CollectionId, now: Timestamp) -> Result<Unlocked, KeyringError> {
        self.rotate_of::<crate::keys::usage::Data>(Purpose::Data, collection, now)
    }

    /// The successor in which a new index key of the collection is active. Cards are looked up and entered under
    /// it and the one before it, until that is destroyed.
    ///
    /// # Errors
    /// [`KeyringError::WindowOpen`] while an earlier rotation is not finished: a card has two index entries at most;
    /// [`KeyringError::Suspended`]; [`KeyringError::UnknownCollection`]; [`KeyringError::Key`] without randomness.
    pub fn rotate_index(&self, collection: CollectionId, now: Timestamp) -> Result<Unlocked, KeyringError> {
        if let Some(suspended) = self.index_keys(collection).find(|key| key.state() == KeyState::Suspended) {
            return Err(KeyringError::Suspended(suspended.version()));
        }
        if let Some(older) = self.index_keys(collection).nth(1) {
            return Err(KeyringError::WindowOpen(older.version()));
        }
        self.rotate_of::<crate::keys::usage::Index>(Purpose::Index, collection, now)
    }

    fn rotate_of<U: Stored>(
        &self,
        purpose: Purpose,
        CollectionId(number): CollectionId,
        now: Timestamp,
    ) -> Result<Unlocked, KeyringError> {
        if !self.collections.contains_key(&number) {
            return Err(KeyringError::UnknownCollection(number));
        }
        let collection = Some(number);
        let mut document = self.successor(now)?;
        let version = retire_active(&mut document, purpose, collection, now)?;
        let (kek, wrapper) = self.active_kek(now)?;
        let slot = Slot { purpose, collection, version, wrapped_by: Some(kek) };
        add_key(&mut document, slot, &Key::<U>::generate()?, &wrapper, now)?;
        self.succeed(document)
    }

    /// The successor in which the bytes of one key version are gone; its dates and commitment stay (SP 800-57
    /// part 1, section 8.3.4). Whether anything still needs it is for the caller to know; of key-encryption keys
    /// it is checked here.
    ///
    /// # Errors
    /// [`KeyringError::NoSuchKey`]; [`KeyringError::InUse`] for a key in a state that may not end, or one that
    /// still wraps others.
    pub fn destroy(
        &self,
        purpose: Purpose,
        collection: Option<CollectionId>,
        version: u32,
        now: Timestamp,
    ) -> Result<Unlocked, KeyringError> {
        let collection = collection.map(|CollectionId(number)| number);
        let mut document = self.successor(now)?;
        let wraps = |row: &KeyRow| row.wrapped.is_some() && row.wrapped_by == Some(version);
        if purpose == Purpose::Kek && document.keys.iter().any(wraps) {
            return Err(KeyringError::InUse);
        }
        let row = find(&mut document, purpose, collection, version)?;
        if !row.state.may_become(KeyState::Destroyed) {
            return Err(KeyringError::InUse);
        }
        row.state = KeyState::Destroyed;
        row.since = now;
        row.wrapped = None;
        self.succeed(document)
    }

    /// The successor in which one key version is in another state: suspended, resumed or called compromised.
    ///
    /// # Errors
    /// [`KeyringError::NoSuchKey`]; [`KeyringError::NoSuchChange`] if its state does not allow it;
    /// [`KeyringError::InUse`] if it would leave the keyring without an active key-encryption key, or with two active
    /// versions of a key.
    pub fn change_state(
        &self,
        purpose: Purpose,
        collection: Option<CollectionId>,
        version: u32,
        to: KeyState,
        now: Timestamp,
    ) -> Result<Unlocked, KeyringError> {
        let collection = collection.map(|CollectionId(number)| number);
        let mut document = self.successor(now)?;
        let other_active = document.active(purpose, collection).is_some_and(|row| row.version != version);
        let row = find(&mut document, purpose, collection, version)?;
        let from = row.state;
        if !from.may_become(to) {
            return Err(KeyringError::NoSuchChange { from, to });
        }
        if (to == KeyState::Active && other_active) || (purpose == Purpose::Kek && from == KeyState::Active) {
            return Err(KeyringError::InUse);
        }
        row.state = to;
        row.since = now;
        match to {
            KeyState::Active => row.activated = row.activated.or(Some(now)),
            KeyState::Deactivated => row.deactivated = Some(now),
            KeyState::PreActive | KeyState::Suspended | KeyState::Compromised | KeyState::Destroyed => {}
        }
        self.succeed(document)
    }

    /// The successor that reserves a block of uses for every active data key with fewer than `below` left, and has a key
    /// for the store's tally; none if nothing of that is missing. The uses count from [`Unlocked::made_durable`] on.
    ///
    /// # Errors
    /// [`KeyringError::Corrupt`] if the epoch is exhausted; [`KeyringError::Key`] without randomness.
    pub fn reserve(&self, below: u64, now: Timestamp) -> Result<Option<Unlocked>, KeyringError> {
        let mut document = self.successor(now)?;
        let mut reserved = Vec::new();
        for row in &mut document.keys {
            let (Purpose::Data, KeyState::Active, Some(number)) = (row.purpose, row.state, row.collection)
            else {
                continue;
            };
            let Some(key) = self.data_key(CollectionId(number), row.version) else { continue };
            let uses = BLOCK.min(DATA_BUDGET.saturating_sub(row.uses));
            if uses == 0 || key.budget.left() >= below {
                continue;
            }
            row.uses = row.uses.saturating_add(uses);
            reserved.push((Arc::clone(&key.budget), uses));
        }
        if reserved.is_empty() && document.tally.is_some() {
            return Ok(None);
        }
        if document.tally.is_none() {
            add_tally_key(&mut document, &self.authority.wrapper, now)?;
        }
        let mut next = self.succeed(document)?;
        next.reserved = reserved;
        Ok(Some(next))
    }

    /// The successor in which a new key-encryption key is active and wraps every key of every collection. The
    /// one before it stays, deactivated, for backups that still need it. No record is touched.
    ///
    /// # Errors
    /// [`KeyringError::Key`] without randomness.
    pub fn rotate_kek(&self, now: Timestamp) -> Result<Unlocked, KeyringError> {
        let mut document = self.successor(now)?;
        let version = retire_active(&mut document, Purpose::Kek, None, now)?;
        let kek = Kek::generate()?;
        let slot = Slot { purpose: Purpose::Kek, collection: None, version, wrapped_by: None };
        add_key(&mut document, slot, &kek, &self.authority.wrapper, now)?;
        let new = wrap::wrapper_of(&kek, KEK_WRAP_LABEL)?;
        let old = self.kek_wrappers()?;
        let mut wrapped: u64 = 0;
        for row in document.keys.iter_mut().filter(|row| row.wrapped.is_some()) {
            let Some(wrapped_by) = row.wrapped_by else { continue };
            let old = old.get(&wrapped_by).ok_or_else(|| KeyringError::Unwrap(row.id.clone()))?;
            match row.purpose {
                Purpose::Kek => {}
                Purpose::Data => self.rewrap::<crate::keys::usage::Data>(row, old, &new, version)?,
                Purpose::Index => self.rewrap::<crate::keys::usage::Index>(row, old, &new, version)?,
            }
            wrapped = wrapped.saturating_add(1);
        }
        spend_kek(&mut document, version, wrapped)?;
        self.succeed(document)
    }

    /// The successor that knows a request for approval to be over; forgotten a week after the time at which it could not be
    /// used anyway.
    ///
    /// # Errors
    /// [`KeyringError::Corrupt`] if the epoch is exhausted.
    pub fn close(
        &self,
        approval: &KeyId,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Unlocked, KeyringError> {
        let mut document = self.successor(now)?;
        let forgotten = now.saturating_sub(KEEP_CLOSED).map_err(|_range| CLOCK)?;
        document.closed.retain(|_approval, until| *until > forgotten);
        document.closed.insert(approval.clone(), until);
        self.succeed(document)
    }

    /// The successor that knows the shares of an earlier ceremony to be over.
    ///
    /// # Errors
    /// [`KeyringError::Corrupt`] if the epoch is exhausted.
    pub fn sealed_by(&self, generation: u32, now: Timestamp) -> Result<Unlocked, KeyringError> {
        let mut document = self.successor(now)?;
        document.seal_generation = generation;
        self.succeed(document)
    }

    /// The successor under a new root key: key-encryption keys and the key of the tally wrapped by it, documents authenticated under it. No other
    /// key and no record is touched.
    ///
    /// # Errors
    /// [`KeyringError::Unwrap`] or [`KeyringError::Commitment`] for a key that does not open; [`KeyringError::Key`].
    pub fn rotate_root(
        &self,
        root: &RootKey,
        generation: u32,
        now: Timestamp,
    ) -> Result<Unlocked, KeyringError> {
        let authority = Arc::new(Authority::of(root)?);
        let mut document = self.successor(now)?;
        document.seal_generation = generation;
        for row in document.keys.iter_mut().filter(|row| row.purpose == Purpose::Kek && row.wrapped.is_some())
        {
            let kek: Kek = wrap::unwrap(row, &self.authority.wrapper, self.environment())?;
            let (wrapped, commitment) =
                wrap::wrap(&Place::of(row, self.environment()), &kek, &authority.wrapper)?;
            row.wrapped = Some(wrapped);
            row.commitment = commitment;
        }
        if let Some(row) = document.tally.take() {
            let environment = self.environment();
            let key = wrap::unwrap_tally(&row, &self.authority.wrapper, environment)?;
            let TallyRow { id, created, .. } = row;
            document.tally = Some(wrap::wrap_tally(id, created, &key, &authority.wrapper, environment)?);
        }
        Unlocked::assemble(document, authority, &self.collections, Origin::Made)
    }

    fn rewrap<U: Stored>(
        &self,
        row: &mut KeyRow,
        old: &XaesKey,
        new: &XaesKey,
        kek: u32,
    ) -> Result<(), KeyringError> {
        let environment = self.environment();
        let key: Key<U> = wrap::unwrap(row, old, environment)?;
        row.wrapped_by = Some(kek);
        let (wrapped, commitment) = wrap::wrap(&Place::of(row, environment), &key, new)?;
        row.wrapped = Some(wrapped);
        row.commitment = commitment;
        Ok(())
    }

    fn successor(&self, now: Timestamp) -> Result<Document, KeyringError> {
        let mut document = self.document.clone();
        document.as_of = document.as_of.max(now);
        document.epoch =
            document.epoch.checked_add(1).ok_or(KeyringError::Corrupt("the epoch is exhausted"))?;
        Ok(document)
    }
}

/// Where a new key goes.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) purpose: Purpose,
    pub(super) collection: Option<u32>,
    pub(super) version: u32,
    pub(super) wrapped_by: Option<u32>,
}

/// Adds a new, active version of a key, wrapped by `wrapper`.
pub(super) fn add_key<U: Stored>(
    document: &mut Document,
    slot: Slot,
    key: &Key<U>,
    wrapper: &XaesKey,
    now: Timestamp,
) -> Result<(), KeyringError> {
    let Slot { purpose, collection, version, wrapped_by } = slot;
    let days = match purpose {
        Purpose::Kek => KEK_DAYS,
        Purpose::Data => DATA_DAYS,
        Purpose::Index => INDEX_DAYS,
    };
    let until = |days: i64| {
        let end = now.checked_add(SignedDuration::from_hours(24 * days));
        end.map_err(|_range| KeyringError::Corrupt("the clock is out of range"))
    };
    if let Some(kek) = wrapped_by {
        spend_kek(document, kek, 1)?;
    }
    let id = KeyId::draw(U::NAME)?;
    let place = Place { environment: document.environment, id: &id, collection, version, wrapped_by };
    let (wrapped, commitment) = wrap::wrap(&place, key, wrapper)?;
    document.keys.push(KeyRow {
        id,
        purpose,
        collection,
        version,
        state: KeyState::Active,
        created: now,
        activated: Some(now),
        deactivated: None,
        since: now,
        cryptoperiod_end: until(days)?,
        opens_until: until(days.saturating_add(RECIPIENT_DAYS))?,
        uses: if purpose == Purpose::Data { BLOCK } else { 0 },
        wrapped_by,
        wrapped: Some(wrapped),
        commitment,
    });
    Ok(())
}

/// Gives a keyring its key of the tally.
pub(super) fn add_tally_key(
    document: &mut Document,
    wrapper: &XaesKey,
    now: Timestamp,
) -> Result<(), KeyringError> {
    let (id, key) = (KeyId::draw(Tally::NAME)?, TallyKey::generate()?);
    document.tally = Some(wrap::wrap_tally(id, now, &key, wrapper, document.environment)?);
    Ok(())
}

/// Deactivates the active version of a key, if there is one, and gives the number of the version to follow.
fn retire_active(
    document: &mut Document,
    purpose: Purpose,
    collection: Option<u32>,
    now: Timestamp,
) -> Result<u32, KeyringError> {
    let mut highest: u32 = 0;
    for row in document.keys.iter_mut().filter(|row| row.purpose == purpose && row.collection == collection) {
        highest = highest.max(row.version);
        if row.state == KeyState::Active {
            row.state = KeyState::Deactivated;
            row.deactivated = Some(now);
            row.since = now;
        }
    }
    highest.checked_add(1).ok_or(KeyringError::Corrupt("the versions are exhausted"))
}

const CLOCK: KeyringError = KeyringError::Corrupt("the clock is out of range");
/// Longer than a clock may be set back by.
const KEEP_CLOSED: SignedDuration = SignedDuration::from_hours(7 * 24);

fn find(
    document: &mut Document,
    purpose: Purpose,
    collection: Option<u32>,
    version: u32,
) -> Result<&mut KeyRow, KeyringError> {
    let is_meant =
        |row: &&mut KeyRow| (row.purpose, row.collection, row.version) == (purpose, collection, version);
    document.keys.iter_mut().find(is_meant).ok_or(KeyringError::NoSuchKey)
}

/// Counts uses of a key-encryption key. They become durable with what they wrap.
fn spend_kek(document: &mut Document, version: u32, uses: u64) -> Result<(), KeyringError> {
    let row = find(document, Purpose::Kek, None, version)?;
    row.uses = row.uses.saturating_add(uses);
    if row.uses > KEK_BUDGET { Err(KeyringError::Kek(Unfit::Spent)) } else { Ok(()) }
}

/// Originator usage periods in days (SP 800-57 part 1 table 1: at most two years, the grace included).
const KEK_DAYS: i64 = 365;
const DATA_DAYS: i64 = 365;
const INDEX_DAYS: i64 = 700;
/// Recipient usage goes on for at most three years more.
const RECIPIENT_DAYS: i64 = 3 * 365;
