//! A store over any engine that has one ordered key space and an atomic, durable batch.
//!
//! Must never acknowledge what is not durable, and never start on a directory that lost commits the audit log
//! has seen. Tests: `embedded/tests.rs` (an engine in memory that fails on demand),
//! `vault/tests/store_suite`.
//!
//! Reads go to the engine from the caller's thread. Writes go through one writer thread (`writer.rs`), which
//! decides them in the order they came (`resolve.rs`). Uniqueness rests on that and on the engine's exclusive
//! lock of its directory, never on a lock that callers take.

use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use cordon_card::Token;

use super::book::Book;
use super::rows::{self, KeyRange};
use super::tally::TallyMac;
use super::writer::Writer;
use super::{
    CardWrite, CollectionId, Committed, Document, Followed, IndexEntry, Inserted, KnownCard, MAX_DOCUMENT,
    MAX_SEALED, NewCard, Replacement, Row, Snapshot, Store, StoreError, StoreStatistics, resolve,
};
use crate::record::Sealed;

/// What a store needs from an embedded engine. Bytes only: what they mean is in [`rows`].
pub trait Engine: Send + Sync + 'static {
    /// Reads one value.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Corrupt`].
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Reads at most `limit` pairs of a range in key order, as of one moment.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Corrupt`].
    fn range(&self, range: KeyRange, limit: usize) -> Result<Vec<Pair>, StoreError>;

    /// All of it as of the moment of this call.
    fn view(&self) -> View;

    /// Applies all changes or none, and returns once they would survive a power cut. Nothing of it is
    /// readable before. Called from one thread at a time; after an error it isn't called again.
    ///
    /// # Errors
    /// Any; it is told to everyone whose change was in the batch.
    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError>;

    /// How often [`Engine::commit`] told the operating system to sync.
    fn syncs(&self) -> u64;

    /// Approximate size on the disk in bytes.
    fn bytes_on_disk(&self) -> u64;
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Pairs one by one.
pub type Pairs = Box<dyn Iterator<Item = Result<Pair, StoreError>> + Send>;

/// Reads one value.
pub type Lookup = Box<dyn Fn(&[u8]) -> Result<Option<Vec<u8>>, StoreError> + Send>;

/// An engine's content as of one moment.
pub struct View {
    /// All pairs in key order.
    pub pairs: Pairs,
    /// One value at a time.
    pub lookup: Lookup,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("View(..)")
    }
}

/// One change of a batch, in key order: rows come before the index entries that lead to them.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Vec<u8>,
    /// The new value, or `None` to remove the key.
    pub value: Option<Vec<u8>>,
}

/// A [`Store`] over an [`Engine`]. Dropping it writes what was submitted, then closes the engine.
#[derive(Debug)]
pub struct Embedded<E: Engine> {
    // Dropped first: the writer thread ends before the engine closes.
    writer: Writer<E>,
    engine: Arc<E>,
}

impl<E: Engine> Embedded<E> {
    /// Checks the engine's content against itself and the audit log, then starts the writer. `anchor` is the
    /// highest store sequence in the audit log, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Behind`] if the content ends before the anchor; [`StoreError::Corrupt`] if a commit is
    /// missing from the middle or the layout is another version's; [`StoreError::Io`], [`StoreError::Full`].
    pub fn start(engine: E, anchor: Option<u64>) -> Result<Self, StoreError> {
        Self::start_for(engine, anchor, false)
    }

    /// Whether its rows are counted in a tally.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Corrupt`].
    pub fn has_tally(&self) -> Result<bool, StoreError> {
        Ok(self.engine.get(&rows::tally_key(None))?.is_some())
    }

    /// [`Embedded::start`], or for a restore, which has no key for the tally of rows.
    pub(super) fn start_for(engine: E, anchor: Option<u64>, restores: bool) -> Result<Self, StoreError> {
        let header = engine.get(&rows::header_key())?;
        match &header {
            Some(value) => rows::check_header(value)?,
            None if engine.range((Bound::Unbounded, Bound::Unbounded), 1)?.is_empty() => {}
            None => return Err(StoreError::Corrupt("the header is missing")),
        }
        let sequence = last_commit(&engine)?;
        check_anchor(sequence, anchor)?;
        if header.is_none() {
            engine
                .commit(vec![Change { key: rows::header_key(), value: Some(rows::encode_header(false)) }])?;
        }
        let book = Book::of(&engine, restores)?;
        let engine = Arc::new(engine);
        Ok(Self { writer: Writer::start(Arc::clone(&engine), sequence, book)?, engine })
    }
}

/// Refuses a store that lost commits which the audit log has seen.
pub(super) fn check_anchor(store: u64, anchor: Option<u64>) -> Result<(), StoreError> {
    match anchor {
        Some(audit) if store < audit => Err(StoreError::Behind { store, audit }),
        Some(_) | None => Ok(()),
    }
}

/// The last commit, after proving that none of the marked ones before it is missing.
fn last_commit<E: Engine>(engine: &E) -> Result<u64, StoreError> {
    last_marked(&engine.range(rows::commit_range(), usize::MAX)?)
}

/// The last of these commits, after proving that none is missing.
pub(super) fn last_marked(stored: &[Pair]) -> Result<u64, StoreError> {
    let mut marks = 0_u64;
    let (mut first, mut last) = (u64::MAX, 0);
    for (key, value) in stored {
        let sequence = rows::decode_commit(key, value)?;
        marks = marks.saturating_add(1);
        first = first.min(sequence);
        last = last.max(sequence);
    }
    // Each mark has a slot of its own, so as many marks as numbers between first and last leave no gap.
    let expected = last.min(rows::COMMIT_MARKS);
    if marks != expected || (marks > 0 && last.saturating_sub(first).saturating_add(1) != expected) {
        return Err(StoreError::Corrupt("commits are missing from the middle"));
    }
    Ok(last)
}

impl<E: Engine> Store for Embedded<E> {
    async fn insert(&self, cards: Vec<NewCard>) -> Result<Committed<Vec<Inserted>>, StoreError> {
        for card in &cards {
            resolve::check_index(&card.index)?;
            check_sealed(&card.sealed)?;
        }
        self.writer.submit(cards.len(), move |group| group.insert(cards)).await
    }

    async fn write_cards(&self, cards: Vec<CardWrite>) -> Result<Committed<Vec<bool>>, StoreError> {
        for card in &cards {
            match card {
                CardWrite::Insert(card) => {
                    resolve::check_index(&card.index)?;
                    check_sealed(&card.sealed)?;
                }
                CardWrite::Refresh(refresh) => check_sealed(&refresh.sealed)?,
            }
        }
        self.writer.submit(cards.len(), move |group| group.write_cards(cards)).await
    }

    fn find(
        &self,
        collection: CollectionId,
        entries: &[Vec<IndexEntry>],
    ) -> Result<Vec<Option<KnownCard>>, StoreError> {
        entries
            .iter()
            .map(|card| {
                for entry in card {
                    if let Some(value) = self.engine.get(&rows::claim_key(collection, entry))? {
                        return Ok(Some(rows::decode_claim(&value)?.known()));
                    }
                }
                Ok(None)
            })
            .collect()
    }

    fn get(&self, collection: CollectionId, tokens: &[Token]) -> Result<Vec<Option<Row>>, StoreError> {
        tokens
            .iter()
            .map(|token| match self.engine.get(&rows::row_key(collection, token))? {
                Some(value) => read_row(collection, token.clone(), &value).map(Some),
                None => Ok(None),
            })
            .collect()
    }

    async fn replace(&self, changes: Vec<Replacement>) -> Result<Committed<Vec<bool>>, StoreError> {
        for change in &changes {
            check_sealed(&change.sealed)?;
        }
        self.writer.submit(changes.len(), move |group| group.replace(&changes)).await
    }

    async fn consume(
        &self,
        collection: CollectionId,
        tokens: Vec<Token>,
    ) -> Result<Committed<Vec<bool>>, StoreError> {
        self.writer.submit(tokens.len(), move |group| group.consume(collection, &tokens)).await
    }

    async fn delete(
        &self,
        collection: CollectionId,
        tokens: Vec<Token>,
    ) -> Result<Committed<Vec<bool>>, StoreError> {
        self.writer.submit(tokens.len(), move |group| group.delete(collection, &tokens)).await
    }

    fn scan(
        &self,
        collection: CollectionId,
        after: Option<&Token>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let stored = self.engine.range(rows::row_range(collection, after), limit)?;
        stored
            .iter()
            .map(|(key, value)| {
                let (_collection, token) = rows::row_token(key)?;
                read_row(collection, token, value)
            })
            .collect()
    }

    fn document(&self, name: &str) -> Result<Option<Document>, StoreError> {
        self.engine.get(&rows::document_key(name)?)?.map(|value| rows::decode_document(&value)).transpose()
    }

    async fn put_document(
        &self,
        name: &str,
        expected: Option<u64>,
        bytes: Vec<u8>,
    ) -> Result<Committed<u64>, StoreError> {
        let key = rows::document_key(name)?;
        if bytes.len() > MAX_DOCUMENT {
            return Err(StoreError::Invalid("the length of a document"));
        }
        self.writer.submit(1, move |group| group.put_document(key, expected, &bytes)).await
    }

    fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Snapshot::of(self.engine.view())
    }

    async fn follow_tally(
        &self,
        mac: Arc<TallyMac>,
        anchor: Option<u64>,
    ) -> Result<Committed<Followed>, StoreError> {
        let mut nonce = [0; 16];
        crate::keys::fill_random(&mut nonce)
            .map_err(|_random| StoreError::from_io("drawing a nonce", io::ErrorKind::Other.into()))?;
        self.writer.submit(1, move |group| group.follow(mac, nonce, anchor)).await
    }

    async fn forget_tally(&self) -> Result<(), StoreError> {
        let forget = |group: &mut resolve::Group<E>| {
            group.forget();
            Ok(())
        };
        self.writer.submit(1, forget).await.map(drop)
    }

    fn sequence(&self) -> u64 {
        self.writer.sequence()
    }

    fn statistics(&self) -> StoreStatistics {
        StoreStatistics {
            fsyncs: self.engine.syncs(),
            bytes_on_disk: self.engine.bytes_on_disk(),
            ..self.writer.statistics()
        }
    }
}

fn check_sealed(sealed: &Sealed) -> Result<(), StoreError> {
    if sealed.as_bytes().len() > MAX_SEALED {
        return Err(StoreError::Invalid("the length of a sealed record"));
    }
    Ok(())
}

pub(super) fn read_row(collection: CollectionId, token: Token, value: &[u8]) -> Result<Row, StoreError> {
    let row = rows::decode_row(value)?;
    let sealed = Sealed::from_stored(row.sealed)
        .map_err(|_not_an_envelope| StoreError::Corrupt("not a sealed record"))?;
    Ok(Row {
        collection,
        token,
        card_id: row.card_id,
        index: row.index,
        claim: row.claim,
        used: row.used,
        expires_at: row.expires_at,
        created_at: row.created_at,
        sealed,
    })
}

#[cfg(test)]
mod tests;
