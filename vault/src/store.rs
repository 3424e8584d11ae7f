//! The store: what the vault asks of a storage engine, and the rows it hands over.
//!
//! Must never see a card: a row carries [`Sealed`] bytes, a keyed [`Fingerprint`] and random names, nothing
//! else. Tests: `store/*/tests`, and `vault/tests/store_suite` (one conformance suite for every engine).
//!
//! An engine keeps three promises: what it acknowledged is on the disk, one fingerprint has one card however
//! many callers race for it, and a commit has a number that only grows (the audit log repeats it, see
//! [`StoreError::Behind`]). Byte layout: `docs/store-format.md`.

mod book;
mod embedded;
mod error;
mod fjall;
mod resolve;
pub mod rows;
mod snapshot;
mod tally;
mod verify;
mod writer;

#[cfg(test)]
mod memory;

use std::fmt;
use std::sync::Arc;

use cordon_card::{CardId, Environment, Token};

use crate::fingerprint::Fingerprint;
use crate::record::{Binding, Sealed};

pub use self::fjall::{Fjall, FjallOptions, FjallStore};
pub use book::Followed;
pub use embedded::{Change, Embedded, Engine, Lookup, Pair, Pairs, View};
pub use error::{Fault, StoreError};
pub use snapshot::Snapshot;
pub use tally::TallyMac;
pub use verify::{Counted, Fault as RowFault, Verification, verify};

/// The number of a collection inside the store. Names are mapped to numbers by the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionId(pub u32);

/// One way to find a card by its number: the keyed fingerprint and the version of the index key that made it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// Version of the collection's index key.
    pub version: u32,
    /// Fingerprint of the card number under that key.
    pub fingerprint: Fingerprint,
}

/// How many tokens a card may have in its collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// One token per card: a second insert finds the first one's token.
    Multi,
    /// Many tokens per card, which share one card id.
    Single,
}

/// A card to insert.
#[derive(Debug)]
pub struct NewCard {
    /// Where it goes.
    pub collection: CollectionId,
    /// What it is found by: one entry, or two while the index key rotates. At most [`MAX_INDEX_ENTRIES`].
    pub index: Vec<IndexEntry>,
    /// Whether the card has one token or many.
    pub claim: Claim,
    /// The drawn token.
    pub token: Token,
    /// The drawn card id; for [`Claim::Single`] the id found before, if the card was known.
    pub card_id: CardId,
    /// When the token ends, in seconds since the Unix epoch. The store keeps it and does not act on it.
    pub expires_at: Option<u64>,
    /// When the token was made, in seconds since the Unix epoch.
    pub created_at: u64,
    /// The record. At most [`MAX_SEALED`] bytes.
    pub sealed: Sealed,
}

/// What became of one [`NewCard`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The row was written.
    Won,
    /// The fingerprint belongs to another card already; nothing was written.
    Known(KnownCard),
    /// The token exists in this collection; nothing was written. Draw another.
    TokenTaken,
}

/// What a fingerprint leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownCard {
    /// The card's id in its collection.
    pub card_id: CardId,
    /// Its token, for [`Claim::Multi`] only.
    pub token: Option<Token>,
}

/// A stored card.
#[derive(Debug)]
pub struct Row {
    /// Where it lives.
    pub collection: CollectionId,
    /// Its token.
    pub token: Token,
    /// The card's id.
    pub card_id: CardId,
    /// The index entries that lead to it.
    pub index: Vec<IndexEntry>,
    /// Whether the card has one token or many.
    pub claim: Claim,
    /// Set once by [`Store::consume`].
    pub used: bool,
    /// When the token ends, in seconds since the Unix epoch.
    pub expires_at: Option<u64>,
    /// When the token was made, in seconds since the Unix epoch.
    pub created_at: u64,
    /// The record.
    pub sealed: Sealed,
}

impl Row {
    /// What its record is bound to in a vault of this environment.
    pub(crate) fn binding(&self, environment: Environment) -> Binding<'_> {
        Binding {
            environment,
            collection: self.collection,
            token: &self.token,
            card_id: self.card_id,
            expires_at: self.expires_at,
            created_at: self.created_at,
        }
    }
}

/// A compare-and-replace of one row's record, for refresh and rewrap.
#[derive(Debug)]
pub struct Replacement {
    /// Where the row lives.
    pub collection: CollectionId,
    /// Its token.
    pub token: Token,
    /// The record as it was read. Compared byte for byte.
    pub expected: Sealed,
    /// The record to put in its place. At most [`MAX_SEALED`] bytes.
    pub sealed: Sealed,
    /// An index entry to add (index-key rotation). An entry the row has already is left alone.
    pub add_index: Option<IndexEntry>,
    /// An index-key version whose entry goes. Applied after `add_index`.
    pub drop_index_version: Option<u32>,
}

/// One card of a tokenization: new, or known before.
#[derive(Debug)]
pub enum CardWrite {
    /// A card that was not found.
    Insert(NewCard),
    /// A card that was found: its record, sealed anew.
    Refresh(Refresh),
}

/// The new record of a known card. Its row is written whatever is in it, with its index entries, so that a known card
/// costs the writer and the disk what a new one does (threat B45).
#[derive(Debug)]
pub struct Refresh {
    /// Where the row lives.
    pub collection: CollectionId,
    /// Its token.
    pub token: Token,
    /// The record as it was read. Compared byte for byte.
    pub expected: Sealed,
    /// The record to put in its place. At most [`MAX_SEALED`] bytes.
    pub sealed: Sealed,
    /// Whether the new record says something else. If not, another writer's record is as good, and stays.
    pub changed: bool,
}

/// A small named blob with a version: keyring, collections, seal.
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    /// 1 at first, one more with each change.
    pub version: u64,
    /// The content.
    pub bytes: Vec<u8>,
}

/// An answer about something that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed<T> {
    /// The answer.
    pub value: T,
    /// A commit at or after which the answer holds: the one that wrote it, or the last durable one if nothing
    /// had to be written. Write it to the audit log.
    pub sequence: u64,
}

/// What an engine counts. Totals are since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStatistics {
    /// Group commits.
    pub commits: u64,
    /// Times the engine was told to sync for a commit; equals `commits` as long as nothing failed.
    pub fsyncs: u64,
    /// Calls that were answered by the writer (inserts, replacements, consumptions, deletions, documents).
    pub operations: u64,
    /// Cards, tokens and documents in these calls.
    pub items: u64,
    /// Most items that one commit held.
    pub largest_group: u64,
    /// Items that wait for the writer now.
    pub queued: u64,
    /// Approximate size on the disk in bytes; 0 if it is not known.
    pub bytes_on_disk: u64,
}

/// A storage engine. Batch-shaped; writes wait for the disk, reads may block for a short time.
///
/// A future that is dropped before it is done may or may not have written.
pub trait Store: Send + Sync + 'static {
    /// Inserts each card unless its fingerprint is claimed. Answers in order; each card is atomic.
    ///
    /// [`Claim::Multi`]: if any index entry is claimed the card is [`Inserted::Known`], else the row and all
    /// its index entries are written. [`Claim::Single`]: joins a claim that has the same card id, else as
    /// above. A fingerprint claimed in the other way is [`Inserted::Known`]. Of two cards with one
    /// fingerprint, in one call or in two, the first to be submitted wins.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a card out of bounds; [`StoreError::Io`], [`StoreError::Full`],
    /// [`StoreError::Corrupt`] or [`StoreError::Closed`], and then nothing is acknowledged.
    fn insert(
        &self,
        cards: Vec<NewCard>,
    ) -> impl Future<Output = Result<Committed<Vec<Inserted>>, StoreError>> + Send;

    /// Inserts new cards and refreshes known ones, all in one commit. `true`: it was written. `false`: another writer was
    /// first (the card has a token or lost it, the drawn token exists, the record is another one): find it again.
    ///
    /// # Errors
    /// As [`Store::insert`].
    fn write_cards(
        &self,
        cards: Vec<CardWrite>,
    ) -> impl Future<Output = Result<Committed<Vec<bool>>, StoreError>> + Send;

    /// Finds each card by the first of its index entries that is claimed.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Corrupt`].
    fn find(
        &self,
        collection: CollectionId,
        entries: &[Vec<IndexEntry>],
    ) -> Result<Vec<Option<KnownCard>>, StoreError>;

    /// Reads rows, in the order of the tokens.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Corrupt`].
    fn get(&self, collection: CollectionId, tokens: &[Token]) -> Result<Vec<Option<Row>>, StoreError>;

    /// Replaces records that are still as expected. `false`: the row is gone, its record is another one, or
    /// the added index entry belongs to another card; nothing was written for it.
    ///
    /// # Errors
    /// As [`Store::insert`]; [`StoreError::Invalid`] also if a row would be left without an index entry.
    fn replace(
        &self,
        changes: Vec<Replacement>,
    ) -> impl Future<Output = Result<Committed<Vec<bool>>, StoreError>> + Send;

    /// Marks tokens as used. `true` to exactly one caller per token; `false` if it was used or is not there.
    ///
    /// # Errors
    /// As [`Store::insert`].
    fn consume(
        &self,
        collection: CollectionId,
        tokens: Vec<Token>,
    ) -> impl Future<Output = Result<Committed<Vec<bool>>, StoreError>> + Send;

    /// Deletes rows and their index entries; the claim on a card with many tokens goes with its last one.
    /// `false`: there was no such row.
    ///
    /// # Errors
    /// As [`Store::insert`].
    fn delete(
        &self,
        collection: CollectionId,
        tokens: Vec<Token>,
    ) -> impl Future<Output = Result<Committed<Vec<bool>>, StoreError>> + Send;

    /// Reads at most `limit` rows after a token, in the byte order of the tokens. Fewer than `limit`: that
    /// was the end.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Corrupt`].
    fn scan(
        &self,
        collection: CollectionId,
        after: Option<&Token>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError>;

    /// Reads a document.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Corrupt`], or [`StoreError::Invalid`] for a name out of bounds.
    fn document(&self, name: &str) -> Result<Option<Document>, StoreError>;

    /// Writes a document if its version is still `expected` (`None`: if there is none) and answers the new
    /// version. Names have 1 to [`MAX_DOCUMENT_NAME`] bytes, documents at most [`MAX_DOCUMENT`].
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it isn't; else as [`Store::insert`].
    fn put_document(
        &self,
        name: &str,
        expected: Option<u64>,
        bytes: Vec<u8>,
    ) -> impl Future<Output = Result<Committed<u64>, StoreError>> + Send;

    /// Everything the store holds, as of one moment. Writes go on meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Corrupt`].
    fn snapshot(&self) -> Result<Snapshot, StoreError>;

    /// Takes up the tally of rows with its key, or begins it by counting them; from then on every commit keeps it. `anchor`
    /// is the highest commit known to have changed rows since there is a tally: one that ends before it is refused, and
    /// rows are then not counted.
    ///
    /// # Errors
    /// As [`Store::insert`].
    fn follow_tally(
        &self,
        mac: Arc<TallyMac>,
        anchor: Option<u64>,
    ) -> impl Future<Output = Result<Committed<Followed>, StoreError>> + Send;

    /// Forgets the key of the tally. Rows do not change until it is taken up again.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    fn forget_tally(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The last durable commit. 0: none yet.
    fn sequence(&self) -> u64;

    /// What the engine counted.
    fn statistics(&self) -> StoreStatistics;
}

/// Most index entries of one row: two while an index key rotates, and room for a pass that was interrupted.
pub const MAX_INDEX_ENTRIES: usize = 4;
/// Most bytes of one sealed record.
pub const MAX_SEALED: usize = 64 * 1024;
/// Most bytes of one document.
pub const MAX_DOCUMENT: usize = 16 * 1024 * 1024;
/// Most bytes of a document's name.
pub const MAX_DOCUMENT_NAME: usize = 128;

impl fmt::Debug for IndexEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexEntry").field("version", &self.version).finish_non_exhaustive()
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("version", &self.version).finish_non_exhaustive()
    }
}
