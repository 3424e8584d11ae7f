//! The embedded store's files behind the vault's back: what somebody with access to the disk can read and write.
//!
//! Must never be used while a vault has them open: the engine's lock refuses it. Tests: `substitution.rs`, `retention.rs`.

#![expect(dead_code, reason = "each test uses its part")]

use anyhow::{Context, Result};
use cordon_audit::Name;
use cordon_card::{Environment, Pan, Token};
use cordon_tests::stack::Stack;
use cordon_vault::keyring::Unlocked;
use cordon_vault::keys::RootKey;
use cordon_vault::record::{self, Binding, CardData, Metadata};
use cordon_vault::seal::{
    Devices, Given, SealDocument, SealSettings, ShareText, Submitted, UnsealProgress, unseal_alone,
};
use cordon_vault::store::{CollectionId, rows};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;
use std::time::Duration;

pub(crate) const DAY: u64 = 86_400;

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

    /// All rows, index entries and tallies.
    pub(crate) fn rows(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut pairs = Vec::new();
        for pair in self.keyspace.iter() {
            let (key, value) = pair.into_inner()?;
            if rows::kind(&key) != rows::Kind::Other {
                pairs.push((key.to_vec(), value.to_vec()));
            }
        }
        Ok(pairs)
    }

    pub(crate) fn remove(&self, key: &[u8]) -> Result<()> {
        self.keyspace.remove(key)?;
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

    /// Changes what a row says in clear, and leaves its record as it is.
    pub(crate) fn edit(&self, token: &Token, edit: impl FnOnce(&mut rows::StoredRow<'_>)) -> Result<()> {
        let key = rows::row_key(CARDS, token);
        let value = self.get(&key)?;
        let mut row = rows::decode_row(&value)?;
        edit(&mut row);
        self.put(&key, &rows::encode_row(&row)?)
    }

    /// Makes a record that is so many days old, as a vault with an older clock would have: sealed with its keys.
    pub(crate) fn age(&self, stack: &Stack, token: &Token, pan: Pan, days: u64) -> Result<()> {
        let keys = self.keys(stack)?;
        let key = rows::row_key(CARDS, token);
        let value = self.get(&key)?;
        let mut row = rows::decode_row(&value)?;
        row.created_at -= days * DAY;
        let binding = Binding {
            environment: Environment::Dev,
            collection: CARDS,
            token,
            card_id: row.card_id,
            expires_at: row.expires_at,
            created_at: row.created_at,
        };
        let card = CardData { pan, expiry: None, metadata: Metadata::none(), created_at: row.created_at };
        let active = keys.active_data_key(CARDS).context("an active key")?;
        let sealed = record::seal(active, &binding, &card, keys.as_of())?;
        row.sealed = sealed.as_bytes();
        self.put(&key, &rows::encode_row(&row)?)
    }

    /// The keys of a vault, with its shares or its development seal.
    fn keys(&self, stack: &Stack) -> Result<Unlocked> {
        let document = |name| -> Result<Vec<u8>> {
            Ok(rows::decode_document(&self.get(&rows::document_key(name)?)?)?.bytes)
        };
        let seal = SealDocument::parse(&document("seal")?, Environment::Dev)?;
        let root = if stack.shares().is_empty() {
            let file = stack.vault_data().join("development-root-key.json");
            unseal_alone(&seal, &Devices::load(&SealSettings::default(), &file)?)?
        } else {
            combine(&seal, stack.shares())?
        };
        let keys = Unlocked::open(&document("keyring")?, &root, Environment::Dev, 0)?;
        let reserved = keys.reserve(1, keys.as_of())?.context("uses of the key")?;
        Ok(reserved.made_durable())
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

/// The root key of a seal whose custodians came together.
fn combine(seal: &SealDocument, shares: &[(String, cordon_wire::ShareText)]) -> Result<RootKey> {
    let mut progress = UnsealProgress::new(seal)?;
    for (custodian, share) in shares {
        let (share, by) = (ShareText::parse(share.expose())?, Name::parse_or_withhold(custodian));
        let given = Given { share, by: &by, acknowledges: true, at: Duration::ZERO };
        if let Submitted::Unsealed { root, .. } = progress.submit(seal, given)? {
            return Ok(root);
        }
    }
    anyhow::bail!("not enough shares")
}
