//! Decides what each write does, against the engine and the writes decided before it in the same commit.
//!
//! Must never wait or sync: it reads, decides and stages; `writer.rs` commits. Tests: `embedded/tests.rs` and
//! the conformance suite, `vault/tests/store_suite/conformance.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use cordon_card::{CardId, Token};

use super::book::Book;
use super::embedded::{Change, Engine};
use super::rows::{self, StoredClaim, StoredRow};
use super::tally::{Nonce, Tally, TallyMac};
use super::{
    CardWrite, Claim, CollectionId, Followed, IndexEntry, Inserted, MAX_INDEX_ENTRIES, NewCard, Refresh,
    Replacement, StoreError,
};

/// The writes that one commit will hold.
pub(super) struct Group<E> {
    engine: Arc<E>,
    /// What the commit will change, on top of the engine. `None` removes. Ordered, so that a reader who sees
    /// an index entry of a commit that is just being published also sees the row.
    changes: Changes,
    /// What the current attempt staged over, newest last.
    undo: Vec<(Vec<u8>, Option<Staged>)>,
    /// The tally of rows before this commit.
    book: Book,
    /// What it changes, by collection.
    tallies: Tallies,
    /// The key of the tally is to be forgotten after this commit.
    forgets: bool,
}

impl<E: Engine> Group<E> {
    pub(super) fn new(engine: Arc<E>, book: Book) -> Self {
        let (changes, tallies) = (Changes::new(), Tallies::new());
        Self { engine, changes, undo: Vec::new(), book, tallies, forgets: false }
    }

    /// Runs one submission. If it fails, nothing of it stays staged.
    pub(super) fn attempt<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.undo.clear();
        let tallies = self.tallies.clone();
        let outcome = work(self);
        if outcome.is_err() {
            self.tallies = tallies;
            while let Some((key, before)) = self.undo.pop() {
                match before {
                    Some(value) => self.changes.insert(key, value),
                    None => self.changes.remove(&key),
                };
            }
        }
        outcome
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.tallies.is_empty()
    }

    /// The staged changes, with the mark of the commit they are in and the tallies after it.
    pub(super) fn into_changes(mut self, sequence: u64) -> (Vec<Change>, Book) {
        self.changes.insert(rows::commit_key(sequence), Some(rows::encode_commit(sequence)));
        for (key, value) in self.book.keep(&self.tallies, sequence) {
            self.changes.insert(key, Some(value));
        }
        let changes = self.changes.into_iter().map(|(key, value)| Change { key, value }).collect();
        (changes, if self.forgets { self.book.forget() } else { self.book })
    }

    /// The tally, where nothing is to be committed.
    pub(super) fn into_book(self) -> Book {
        if self.forgets { self.book.forget() } else { self.book }
    }

    /// Takes up the tally, or begins it where there was none. `anchor` is the highest commit known to have changed rows
    /// since there is one.
    pub(super) fn follow(
        &mut self,
        mac: Arc<TallyMac>,
        nonce: Nonce,
        anchor: Option<u64>,
    ) -> Result<Followed, StoreError> {
        let (book, followed) = Book::follow(self.engine.as_ref(), mac, nonce, anchor)?;
        let changed = match &followed {
            Followed::Begun { .. } => {
                self.stage(rows::header_key(), Some(rows::encode_header(true)));
                book.collections()
            }
            Followed::Resumed { .. } => {
                for (key, _before) in self.engine.range(rows::before_range(), usize::MAX)? {
                    self.stage(key, None);
                }
                book.collections()
            }
            Followed::Refused(_) => Vec::new(),
        };
        for number in changed {
            self.tallies.entry(number).or_default();
        }
        self.book = book;
        Ok(followed)
    }

    /// Forgets the key of the tally with this commit.
    pub(super) fn forget(&mut self) {
        self.forgets = true;
    }

    pub(super) fn insert(&mut self, cards: Vec<NewCard>) -> Result<Vec<Inserted>, StoreError> {
        self.book.check_rows_may_come()?;
        cards.into_iter().map(|card| self.insert_one(card)).collect()
    }

    pub(super) fn write_cards(&mut self, cards: Vec<CardWrite>) -> Result<Vec<bool>, StoreError> {
        self.book.check_rows_may_come()?;
        cards
            .into_iter()
            .map(|card| match card {
                CardWrite::Insert(card) => Ok(self.insert_one(card)? == Inserted::Won),
                CardWrite::Refresh(refresh) => self.refresh_one(&refresh),
            })
            .collect()
    }

    pub(super) fn replace(&mut self, changes: &[Replacement]) -> Result<Vec<bool>, StoreError> {
        self.book.check_rows_may_change()?;
        changes.iter().map(|change| self.replace_one(change)).collect()
    }

    pub(super) fn consume(
        &mut self,
        collection: CollectionId,
        tokens: &[Token],
    ) -> Result<Vec<bool>, StoreError> {
        self.book.check_rows_may_change()?;
        tokens.iter().map(|token| self.consume_one(collection, token)).collect()
    }

    pub(super) fn delete(
        &mut self,
        collection: CollectionId,
        tokens: &[Token],
    ) -> Result<Vec<bool>, StoreError> {
        self.book.check_rows_may_change()?;
        tokens.iter().map(|token| self.delete_one(collection, token)).collect()
    }

    pub(super) fn put_document(
        &mut self,
        key: Vec<u8>,
        expected: Option<u64>,
        bytes: &[u8],
    ) -> Result<u64, StoreError> {
        let found = match self.get(&key)? {
            Some(value) => Some(rows::decode_document(&value)?.version),
            None => None,
        };
        if found != expected {
            return Err(StoreError::Conflict);
        }
        let version = found.unwrap_or(0).saturating_add(1);
        let value = rows::encode_document(version, bytes)?;
        self.stage(key, Some(value));
        Ok(version)
    }

    fn insert_one(&mut self, card: NewCard) -> Result<Inserted, StoreError> {
        let owner = Owner { card_id: card.card_id, claim: card.claim, token: &card.token };
        let mut claims = Vec::with_capacity(card.index.len());
        for entry in &card.index {
            let key = rows::claim_key(card.collection, entry);
            let claim = match (self.claim(&key)?, card.claim) {
                (None, _) => owner.first_claim(),
                (Some(StoredClaim::Single { card_id, count }), Claim::Single) if card_id == card.card_id => {
                    StoredClaim::Single { card_id, count: count.saturating_add(1) }
                }
                (Some(other), _) => return Ok(Inserted::Known(other.known())),
            };
            claims.push((key, claim));
        }
        let row_key = rows::row_key(card.collection, &card.token);
        if self.get(&row_key)?.is_some() {
            return Ok(Inserted::TokenTaken);
        }
        let row = rows::encode_row(&StoredRow {
            card_id: card.card_id,
            claim: card.claim,
            used: false,
            expires_at: card.expires_at,
            created_at: card.created_at,
            index: card.index,
            sealed: card.sealed.as_bytes(),
        })?;
        self.stage_row(card.collection, row_key, None, Some(row))?;
        for (key, claim) in claims {
            self.stage(key, Some(rows::encode_claim(&claim)?));
        }
        Ok(Inserted::Won)
    }

    fn replace_one(&mut self, change: &Replacement) -> Result<bool, StoreError> {
        let row_key = rows::row_key(change.collection, &change.token);
        let Some(value) = self.get(&row_key)? else { return Ok(false) };
        let mut row = rows::decode_row(&value)?;
        if row.sealed != change.expected.as_bytes() {
            return Ok(false);
        }
        let owner = Owner { card_id: row.card_id, claim: row.claim, token: &change.token };
        if let Some(entry) = &change.add_index
            && !row.index.contains(entry)
        {
            if !self.add_claim(change.collection, entry, &owner)? {
                return Ok(false);
            }
            row.index.push(*entry);
        }
        if let Some(version) = change.drop_index_version {
            for entry in row.index.iter().filter(|entry| entry.version == version) {
                self.release_claim(change.collection, entry, &owner)?;
            }
            row.index.retain(|entry| entry.version != version);
        }
        check_index(&row.index)?;
        row.sealed = change.sealed.as_bytes();
        let after = rows::encode_row(&row)?;
        self.stage_row(change.collection, row_key, Some(&value), Some(after))?;
        Ok(true)
    }

    /// Reads and writes what an insertion of the same card does: row and index entries, changed or not.
    fn refresh_one(&mut self, refresh: &Refresh) -> Result<bool, StoreError> {
        let row_key = rows::row_key(refresh.collection, &refresh.token);
        let Some(value) = self.get(&row_key)? else { return Ok(false) };
        let mut row = rows::decode_row(&value)?;
        let as_read = row.sealed == refresh.expected.as_bytes();
        if !as_read && refresh.changed {
            return Ok(false);
        }
        for entry in &row.index {
            let key = rows::claim_key(refresh.collection, entry);
            if let Some(claim) = self.claim(&key)? {
                self.stage(key, Some(rows::encode_claim(&claim)?));
            }
        }
        if as_read {
            row.sealed = refresh.sealed.as_bytes();
        }
        let after = rows::encode_row(&row)?;
        self.stage_row(refresh.collection, row_key, Some(&value), Some(after))?;
        Ok(true)
    }

    fn consume_one(&mut self, collection: CollectionId, token: &Token) -> Result<bool, StoreError> {
        let row_key = rows::row_key(collection, token);
        let Some(value) = self.get(&row_key)? else { return Ok(false) };
        let mut row = rows::decode_row(&value)?;
        if row.used {
            return Ok(false);
        }
        row.used = true;
        let after = rows::encode_row(&row)?;
        self.stage_row(collection, row_key, Some(&value), Some(after))?;
        Ok(true)
    }

    fn delete_one(&mut self, collection: CollectionId, token: &Token) -> Result<bool, StoreError> {
        let row_key = rows::row_key(collection, token);
        let Some(value) = self.get(&row_key)? else { return Ok(false) };
        let row = rows::decode_row(&value)?;
        let owner = Owner { card_id: row.card_id, claim: row.claim, token };
        for entry in &row.index {
            self.release_claim(collection, entry, &owner)?;
        }
        self.stage_row(collection, row_key, Some(&value), None)?;
        Ok(true)
    }

    /// Puts one more index entry on a row. `false` if it belongs to someone else.
    fn add_claim(
        &mut self,
        collection: CollectionId,
        entry: &IndexEntry,
        owner: &Owner<'_>,
    ) -> Result<bool, StoreError> {
        let key = rows::claim_key(collection, entry);
        let claim = match self.claim(&key)? {
            None => owner.first_claim(),
            Some(claim) if !owner.owns(&claim) => return Ok(false),
            Some(StoredClaim::Single { card_id, count }) => {
                StoredClaim::Single { card_id, count: count.saturating_add(1) }
            }
            Some(claim @ StoredClaim::Multi { .. }) => claim,
        };
        self.stage(key, Some(rows::encode_claim(&claim)?));
        Ok(true)
    }

    /// Takes one row's hold off an index entry. Someone else's entry is left alone.
    fn release_claim(
        &mut self,
        collection: CollectionId,
        entry: &IndexEntry,
        owner: &Owner<'_>,
    ) -> Result<(), StoreError> {
        let key = rows::claim_key(collection, entry);
        match self.claim(&key)? {
            Some(claim) if !owner.owns(&claim) => {}
            None => {}
            Some(StoredClaim::Single { card_id, count: count @ 2.. }) => {
                let rest = StoredClaim::Single { card_id, count: count.saturating_sub(1) };
                self.stage(key, Some(rows::encode_claim(&rest)?));
            }
            Some(StoredClaim::Single { .. } | StoredClaim::Multi { .. }) => self.stage(key, None),
        }
        Ok(())
    }

    fn claim(&self, key: &[u8]) -> Result<Option<StoredClaim>, StoreError> {
        self.get(key)?.map(|value| rows::decode_claim(&value)).transpose()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.changes.get(key) {
            Some(staged) => Ok(staged.clone()),
            None => self.engine.get(key),
        }
    }

    /// Stages a row, and what that changes in the tally. A row that says the same in clear costs what a new one does, and
    /// changes nothing in it (threat B45).
    fn stage_row(
        &mut self,
        CollectionId(number): CollectionId,
        key: Vec<u8>,
        before: Option<&[u8]>,
        after: Staged,
    ) -> Result<(), StoreError> {
        let clear =
            |row: Option<&[u8]>| row.map(rows::clear_of).transpose().map(|row| row.map(<[u8]>::to_vec));
        match &self.book {
            Book::Kept(kept) => {
                let (gone, come) = (clear(before)?, clear(after.as_deref())?);
                let tally = self.tallies.entry(number).or_default();
                let hash = |row: &[u8]| kept.mac().row(&key, row);
                match (gone, come) {
                    (Some(gone), Some(come)) if gone == come => {
                        let row = hash(&come);
                        tally.add(row);
                        tally.remove(row);
                    }
                    (gone, come) => {
                        come.iter().for_each(|row| tally.add(hash(row)));
                        gone.iter().for_each(|row| tally.remove(hash(row)));
                    }
                }
            }
            Book::Restoring => {
                let kept = rows::before_key(&key);
                if let (Some(before), None) = (before, self.get(&kept)?) {
                    self.stage(kept, Some(rows::without_record(before)?));
                }
            }
            Book::Locked | Book::None => {}
        }
        self.stage(key, after);
        Ok(())
    }

    fn stage(&mut self, key: Vec<u8>, value: Staged) {
        let before = self.changes.insert(key.clone(), value);
        self.undo.push((key, before));
    }
}

/// Refuses a row without index entries, with too many, or with two of one key version.
pub(super) fn check_index(index: &[IndexEntry]) -> Result<(), StoreError> {
    if index.is_empty() || index.len() > MAX_INDEX_ENTRIES {
        return Err(StoreError::Invalid("the number of index entries"));
    }
    let mut rest = index;
    while let Some((entry, after)) = rest.split_first() {
        if after.iter().any(|other| other.version == entry.version) {
            return Err(StoreError::Invalid("two index entries of one key version"));
        }
        rest = after;
    }
    Ok(())
}

/// The row in whose name index entries are claimed and released.
struct Owner<'a> {
    card_id: CardId,
    claim: Claim,
    token: &'a Token,
}

impl Owner<'_> {
    fn first_claim(&self) -> StoredClaim {
        match self.claim {
            Claim::Multi => StoredClaim::Multi { card_id: self.card_id, token: self.token.clone() },
            Claim::Single => StoredClaim::Single { card_id: self.card_id, count: 1 },
        }
    }

    fn owns(&self, claim: &StoredClaim) -> bool {
        match claim {
            StoredClaim::Multi { token, .. } => self.claim == Claim::Multi && token == self.token,
            StoredClaim::Single { card_id, .. } => self.claim == Claim::Single && *card_id == self.card_id,
        }
    }
}

type Changes = BTreeMap<Vec<u8>, Staged>;

/// What changes in the tallies, by collection; also those that are only to be written anew.
pub(super) type Tallies = BTreeMap<u32, Tally>;

/// A value to write, or `None` to remove the key.
type Staged = Option<Vec<u8>>;
