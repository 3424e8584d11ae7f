//! The embedded store's files behind the vault's back: what somebody with access to the disk can read and write.
//!
//! Must never be used while a vault has them open: the engine's lock refuses it. Tests: `substitution.rs`, `retention.rs`.

#![expect(dead_code, reason = "each test uses its part")]

use anyhow::{Context, Result};
use cordon_card::Token;
use cordon_vault::store::{CollectionId, rows};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;

/// The collection that every stack has.
pub(crate) const CARDS: CollectionId = CollectionId(1);

/// The store's files, opened behind the vault's back.
pub(crate) struct Files {
    database: Database,
    keyspace: Keyspace,
}

impl Files {
    pub(crate) fn open(data: &Path) -> Result<Self> {
        let database = Database::builder(data.join("store")).open()?;
        let keyspace = database.keyspace("cordon", KeyspaceCreateOptions::default)?;
        Ok(Self { database, keyspace })
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Vec<u8>> {
        Ok(self.keyspace.get(key)?.context("a value")?.to_vec())
    }

    pub(crate) fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.keyspace.insert(key, value)?;
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }

    pub(crate) fn sealed(&self, collection: CollectionId, token: &Token) -> Result<Vec<u8>> {
        Ok(rows::decode_row(&self.get(&rows::row_key(collection, token))?)?.sealed.to_vec())
    }

    /// Puts a record into another row and leaves the rest of that row as it is.
    pub(crate) fn plant(&self, token: &Token, sealed: &[u8]) -> Result<()> {
        let key = rows::row_key(CARDS, token);
        let value = self.get(&key)?;
        let mut row = rows::decode_row(&value)?;
        row.sealed = sealed;
        self.put(&key, &rows::encode_row(&row)?)
    }

    /// Puts the time at which a token was made so many days back.
    pub(crate) fn age(&self, token: &Token, days: u64) -> Result<()> {
        let key = rows::row_key(CARDS, token);
        let value = self.get(&key)?;
        let mut row = rows::decode_row(&value)?;
        row.created_at -= days * 86_400;
        self.put(&key, &rows::encode_row(&row)?)
    }

    /// A card's row and index entry as they stand: what an older copy of the store holds.
    pub(crate) fn copy(&self, token: &Token) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let keys = [rows::row_key(CARDS, token), self.entry(token)?];
        keys.into_iter().map(|key| Ok((key.clone(), self.get(&key)?))).collect()
    }

    /// Whether anything of a card's row is there.
    pub(crate) fn has(&self, token: &Token) -> Result<bool> {
        Ok(self.keyspace.get(rows::row_key(CARDS, token))?.is_some())
    }

    /// The key of the index entry that leads to a card.
    pub(crate) fn entry(&self, token: &Token) -> Result<Vec<u8>> {
        let value = self.get(&rows::row_key(CARDS, token))?;
        let row = rows::decode_row(&value)?;
        Ok(rows::claim_key(CARDS, row.index.first().context("an index entry")?))
    }
}
