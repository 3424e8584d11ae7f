//! Keys and values as bytes: every byte that an embedded engine keeps is written and read here.
//!
//! Must never index or slice unchecked, and never guess: a value that is not exactly what this version writes
//! is [`StoreError::Corrupt`]. Tests: `rows/tests.rs`; fuzzed by `fuzz/fuzz_targets/rows.rs`.
//!
//! One key space with a prefix byte per kind. One, not several: an engine flushes a key space at a time, so
//! the commit number and the rows that it vouches for must be in the same one, or a lost log tail could take
//! the rows and leave the number. Numbers are big-endian. The layout is documented in `docs/store-format.md`.

use std::fmt;
use std::ops::Bound;

use cordon_card::{CardId, Token};

use super::{
    Claim, CollectionId, Document, IndexEntry, KnownCard, MAX_DOCUMENT, MAX_DOCUMENT_NAME, MAX_INDEX_ENTRIES,
    MAX_SEALED, StoreError,
};
use crate::fingerprint::Fingerprint;

mod counted;

pub use counted::{
    Kind, all_rows, before_key, before_range, clear_of, kind, row_key_of, tally_collection, tally_key,
    tally_range, without_record,
};

/// A row's value, borrowed from the stored bytes.
pub struct StoredRow<'a> {
    /// The card's id.
    pub card_id: CardId,
    /// Whether the card has one token or many.
    pub claim: Claim,
    /// Whether the token was used.
    pub used: bool,
    /// When the token ends, in Unix seconds.
    pub expires_at: Option<u64>,
    /// When the token was made, in Unix seconds.
    pub created_at: u64,
    /// The index entries that lead to the row.
    pub index: Vec<IndexEntry>,
    /// The sealed record.
    pub sealed: &'a [u8],
}

impl fmt::Debug for StoredRow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredRow").field("card_id", &self.card_id).finish_non_exhaustive()
    }
}

/// An index entry's value: who owns the fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredClaim {
    /// A card with one token.
    Multi {
        /// The card.
        card_id: CardId,
        /// Its token.
        token: Token,
    },
    /// A card with many tokens.
    Single {
        /// The card.
        card_id: CardId,
        /// How many rows list this index entry. Never 0.
        count: u64,
    },
}

impl StoredClaim {
    /// What a finder is told.
    pub fn known(&self) -> KnownCard {
        match self {
            Self::Multi { card_id, token } => KnownCard { card_id: *card_id, token: Some(token.clone()) },
            Self::Single { card_id, .. } => KnownCard { card_id: *card_id, token: None },
        }
    }
}

/// The key of the store's header.
pub fn header_key() -> Vec<u8> {
    vec![KIND_HEADER]
}

/// The key of a commit's mark. Marks are a ring: a commit overwrites the mark of the one [`COMMIT_MARKS`]
/// before.
pub fn commit_key(sequence: u64) -> Vec<u8> {
    let [.., high, low] = (sequence % COMMIT_MARKS).to_be_bytes();
    vec![KIND_COMMIT, high, low]
}

/// All keys of commit marks.
pub fn commit_range() -> KeyRange {
    (Bound::Included(vec![KIND_COMMIT]), Bound::Excluded(vec![KIND_ROW]))
}

/// Whether a key is that of a commit's mark.
pub fn is_commit(key: &[u8]) -> bool {
    key.first() == Some(&KIND_COMMIT)
}

/// The key of a row.
pub fn row_key(collection: CollectionId, token: &Token) -> Vec<u8> {
    let mut key = row_prefix(collection);
    key.extend_from_slice(token.as_str().as_bytes());
    key
}

/// Whether a key is that of a row of the collection.
pub fn is_row_of(key: &[u8], collection: CollectionId) -> bool {
    key.starts_with(&row_prefix(collection))
}

/// The keys of a collection's rows, from the beginning or after a token.
pub fn row_range(collection: CollectionId, after: Option<&Token>) -> KeyRange {
    let start = match after {
        Some(token) => Bound::Excluded(row_key(collection, token)),
        None => Bound::Included(row_prefix(collection)),
    };
    let end = match collection.0.checked_add(1) {
        Some(next) => row_prefix(CollectionId(next)),
        None => vec![KIND_CLAIM],
    };
    (start, Bound::Excluded(end))
}

/// The token in a row's key.
///
/// # Errors
/// [`StoreError::Corrupt`] if it isn't the key of a row.
pub fn row_token(key: &[u8]) -> Result<(CollectionId, Token), StoreError> {
    let mut reader = Reader(key);
    if reader.array(BAD_ROW_KEY)? != [KIND_ROW] {
        return Err(StoreError::Corrupt(BAD_ROW_KEY));
    }
    let collection = CollectionId(u32::from_be_bytes(reader.array(BAD_ROW_KEY)?));
    Ok((collection, token(reader.0, BAD_ROW_KEY)?))
}

/// The key of an index entry.
pub fn claim_key(collection: CollectionId, entry: &IndexEntry) -> Vec<u8> {
    let mut key = Vec::with_capacity(CLAIM_KEY);
    key.push(KIND_CLAIM);
    key.extend_from_slice(&collection.0.to_be_bytes());
    key.extend_from_slice(&entry.version.to_be_bytes());
    key.extend_from_slice(entry.fingerprint.as_bytes());
    key
}

/// The collection and the index-key version in the key of an index entry.
///
/// # Errors
/// [`StoreError::Corrupt`] if it isn't one.
pub fn claim_place(key: &[u8]) -> Result<(CollectionId, u32), StoreError> {
    let mut reader = Reader(key);
    if key.len() != CLAIM_KEY || reader.array(BAD_CLAIM)? != [KIND_CLAIM] {
        return Err(StoreError::Corrupt(BAD_CLAIM));
    }
    let collection = CollectionId(u32::from_be_bytes(reader.array(BAD_CLAIM)?));
    Ok((collection, u32::from_be_bytes(reader.array(BAD_CLAIM)?)))
}

/// The key of a document.
///
/// # Errors
/// [`StoreError::Invalid`] if the name is empty or too long.
pub fn document_key(name: &str) -> Result<Vec<u8>, StoreError> {
    if name.is_empty() || name.len() > MAX_DOCUMENT_NAME {
        return Err(StoreError::Invalid("the length of a document's name"));
    }
    let mut key = Vec::with_capacity(name.len().saturating_add(1));
    key.push(KIND_DOCUMENT);
    key.extend_from_slice(name.as_bytes());
    Ok(key)
}

/// The header of a store without a tally of its rows, and of one with it, which older versions must not write.
pub fn encode_header(has_tally: bool) -> Vec<u8> {
    vec![if has_tally { FORMAT_WITH_TALLY } else { FORMAT }]
}

/// Checks a header.
///
/// # Errors
/// [`StoreError::Corrupt`] if another version wrote it.
pub fn check_header(value: &[u8]) -> Result<(), StoreError> {
    match value {
        [FORMAT | FORMAT_WITH_TALLY] => Ok(()),
        _other => Err(StoreError::Corrupt(BAD_HEADER)),
    }
}

/// A commit's mark.
pub fn encode_commit(sequence: u64) -> Vec<u8> {
    let mut value = Vec::with_capacity(9);
    value.push(FORMAT);
    value.extend_from_slice(&sequence.to_be_bytes());
    value
}

/// Reads a commit's mark, which must be under its own key.
///
/// # Errors
/// [`StoreError::Corrupt`] if it isn't one, or is a mark of another commit.
pub fn decode_commit(key: &[u8], value: &[u8]) -> Result<u64, StoreError> {
    let mut reader = Reader::versioned(value, BAD_COMMIT)?;
    let sequence = u64::from_be_bytes(reader.array(BAD_COMMIT)?);
    reader.end(BAD_COMMIT)?;
    if sequence == 0 || commit_key(sequence) != key {
        return Err(StoreError::Corrupt(BAD_COMMIT));
    }
    Ok(sequence)
}

/// Writes a row.
///
/// # Errors
/// [`StoreError::Invalid`] if it has no or too many index entries, or too long a record.
pub fn encode_row(row: &StoredRow<'_>) -> Result<Vec<u8>, StoreError> {
    let entries = u8::try_from(row.index.len()).map_err(|_too_many| StoreError::Invalid(INDEX_COUNT))?;
    if entries == 0 || row.index.len() > MAX_INDEX_ENTRIES {
        return Err(StoreError::Invalid(INDEX_COUNT));
    }
    let length = sealed_length(row.sealed)?;
    let mut value = Vec::with_capacity(row.sealed.len().saturating_add(192));
    value.push(FORMAT);
    value.push(
        if row.claim == Claim::Single { FLAG_SINGLE } else { 0 }
            | if row.used { FLAG_USED } else { 0 }
            | if row.expires_at.is_some() { FLAG_EXPIRES } else { 0 },
    );
    value.extend_from_slice(row.card_id.as_bytes());
    value.extend_from_slice(&row.created_at.to_be_bytes());
    value.extend_from_slice(&row.expires_at.unwrap_or(0).to_be_bytes());
    value.push(entries);
    for entry in &row.index {
        value.extend_from_slice(&entry.version.to_be_bytes());
        value.extend_from_slice(entry.fingerprint.as_bytes());
    }
    value.extend_from_slice(&length.to_be_bytes());
    value.extend_from_slice(row.sealed);
    Ok(value)
}

/// Reads a row.
///
/// # Errors
/// [`StoreError::Corrupt`] if it isn't exactly what [`encode_row`] writes.
pub fn decode_row(value: &[u8]) -> Result<StoredRow<'_>, StoreError> {
    let mut reader = Reader::versioned(value, BAD_ROW)?;
    let [flags] = reader.array(BAD_ROW)?;
    if flags & !(FLAG_SINGLE | FLAG_USED | FLAG_EXPIRES) != 0 {
        return Err(StoreError::Corrupt(BAD_ROW));
    }
    let card_id = CardId::from_bytes(reader.array(BAD_ROW)?);
    let created_at = u64::from_be_bytes(reader.array(BAD_ROW)?);
    let ends = u64::from_be_bytes(reader.array(BAD_ROW)?);
    let expires_at = match (flags & FLAG_EXPIRES != 0, ends) {
        (true, at) => Some(at),
        (false, 0) => None,
        (false, _) => return Err(StoreError::Corrupt(BAD_ROW)),
    };
    let [entries] = reader.array(BAD_ROW)?;
    if entries == 0 || usize::from(entries) > MAX_INDEX_ENTRIES {
        return Err(StoreError::Corrupt(BAD_ROW));
    }
    let mut index = Vec::with_capacity(usize::from(entries));
    for _ in 0..entries {
        let version = u32::from_be_bytes(reader.array(BAD_ROW)?);
        index.push(IndexEntry { version, fingerprint: Fingerprint::from_bytes(reader.array(BAD_ROW)?) });
    }
    let length = u32::from_be_bytes(reader.array(BAD_ROW)?);
    let sealed = reader.0;
    if sealed_length(sealed).ok() != Some(length) {
        return Err(StoreError::Corrupt(BAD_ROW));
    }
    let claim = if flags & FLAG_SINGLE != 0 { Claim::Single } else { Claim::Multi };
    Ok(StoredRow { card_id, claim, used: flags & FLAG_USED != 0, expires_at, created_at, index, sealed })
}

/// Writes an index entry's value.
///
/// # Errors
/// [`StoreError::Invalid`] if the token is too long.
pub fn encode_claim(claim: &StoredClaim) -> Result<Vec<u8>, StoreError> {
    let (kind, card_id) = match claim {
        StoredClaim::Multi { card_id, .. } => (0, card_id),
        StoredClaim::Single { card_id, .. } => (1, card_id),
    };
    let mut value = Vec::with_capacity(80);
    value.extend_from_slice(&[FORMAT, kind]);
    value.extend_from_slice(card_id.as_bytes());
    match claim {
        StoredClaim::Multi { token, .. } => {
            let text = token.as_str().as_bytes();
            value.push(
                u8::try_from(text.len()).map_err(|_long| StoreError::Invalid("the length of a token"))?,
            );
            value.extend_from_slice(text);
        }
        StoredClaim::Single { count, .. } => value.extend_from_slice(&count.to_be_bytes()),
    }
    Ok(value)
}

/// Reads an index entry's value.
///
/// # Errors
/// [`StoreError::Corrupt`] if it isn't exactly what [`encode_claim`] writes.
pub fn decode_claim(value: &[u8]) -> Result<StoredClaim, StoreError> {
    let mut reader = Reader::versioned(value, BAD_CLAIM)?;
    let [kind] = reader.array(BAD_CLAIM)?;
    let card_id = CardId::from_bytes(reader.array(BAD_CLAIM)?);
    match kind {
        0 => {
            let [length] = reader.array(BAD_CLAIM)?;
            if reader.0.len() != usize::from(length) {
                return Err(StoreError::Corrupt(BAD_CLAIM));
            }
            Ok(StoredClaim::Multi { card_id, token: token(reader.0, BAD_CLAIM)? })
        }
        1 => {
            let count = u64::from_be_bytes(reader.array(BAD_CLAIM)?);
            reader.end(BAD_CLAIM)?;
            if count == 0 {
                return Err(StoreError::Corrupt(BAD_CLAIM));
            }
            Ok(StoredClaim::Single { card_id, count })
        }
        _ => Err(StoreError::Corrupt(BAD_CLAIM)),
    }
}

/// Writes a document.
///
/// # Errors
/// [`StoreError::Invalid`] if it is too long.
pub fn encode_document(version: u64, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    let length = u32::try_from(bytes.len()).map_err(|_long| StoreError::Invalid(DOCUMENT_LENGTH))?;
    if bytes.len() > MAX_DOCUMENT {
        return Err(StoreError::Invalid(DOCUMENT_LENGTH));
    }
    let mut value = Vec::with_capacity(bytes.len().saturating_add(13));
    value.push(FORMAT);
    value.extend_from_slice(&version.to_be_bytes());
    value.extend_from_slice(&length.to_be_bytes());
    value.extend_from_slice(bytes);
    Ok(value)
}

/// Reads a document.
///
/// # Errors
/// [`StoreError::Corrupt`] if it isn't exactly what [`encode_document`] writes.
pub fn decode_document(value: &[u8]) -> Result<Document, StoreError> {
    let mut reader = Reader::versioned(value, BAD_DOCUMENT)?;
    let version = u64::from_be_bytes(reader.array(BAD_DOCUMENT)?);
    let length = u32::from_be_bytes(reader.array(BAD_DOCUMENT)?);
    let bytes = reader.0;
    if version == 0 || bytes.len() > MAX_DOCUMENT || u32::try_from(bytes.len()).ok() != Some(length) {
        return Err(StoreError::Corrupt(BAD_DOCUMENT));
    }
    Ok(Document { version, bytes: bytes.to_vec() })
}

/// Checks that a pair is one that this version writes.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub fn check_pair(key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    let (kind, rest) = key.split_first().ok_or(StoreError::Corrupt(BAD_KIND))?;
    match *kind {
        KIND_HEADER if rest.is_empty() => check_header(value),
        KIND_COMMIT => decode_commit(key, value).map(drop),
        KIND_ROW => row_token(key).and_then(|_of| decode_row(value)).map(drop),
        KIND_CLAIM if key.len() == CLAIM_KEY => decode_claim(value).map(drop),
        KIND_DOCUMENT => {
            let name = std::str::from_utf8(rest).map_err(|_not_text| StoreError::Corrupt(BAD_DOCUMENT))?;
            document_key(name).map_err(|_length| StoreError::Corrupt(BAD_DOCUMENT))?;
            decode_document(value).map(drop)
        }
        KIND_TALLY => tally_collection(key).and_then(|_of| super::tally::check(value)),
        KIND_BEFORE => row_token(&row_key_of(key)).and_then(|_of| decode_row(value)).map(drop),
        _ => Err(StoreError::Corrupt(BAD_KIND)),
    }
}

/// A range of keys.
pub type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// How many commits leave a mark: an opened store proves that none of the last so many is missing. The
/// engine's unflushed log, the only place where one could be lost, holds fewer in all but contrived cases.
pub const COMMIT_MARKS: u64 = 1 << 16;

/// A reader that cannot read past the end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Starts behind the format version, which must be ours.
    fn versioned(value: &'a [u8], what: &'static str) -> Result<Self, StoreError> {
        let mut reader = Self(value);
        if reader.array(what)? != [FORMAT] {
            return Err(StoreError::Corrupt(what));
        }
        Ok(reader)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], StoreError> {
        let (head, tail) = self.0.split_first_chunk().ok_or(StoreError::Corrupt(what))?;
        self.0 = tail;
        Ok(*head)
    }

    fn end(self, what: &'static str) -> Result<(), StoreError> {
        if self.0.is_empty() { Ok(()) } else { Err(StoreError::Corrupt(what)) }
    }
}

fn row_prefix(collection: CollectionId) -> Vec<u8> {
    let mut key = Vec::with_capacity(48);
    key.push(KIND_ROW);
    key.extend_from_slice(&collection.0.to_be_bytes());
    key
}

fn token(text: &[u8], what: &'static str) -> Result<Token, StoreError> {
    let text = std::str::from_utf8(text).map_err(|_not_text| StoreError::Corrupt(what))?;
    Token::parse(text).map_err(|_not_a_token| StoreError::Corrupt(what))
}

fn sealed_length(sealed: &[u8]) -> Result<u32, StoreError> {
    let bound = StoreError::Invalid("the length of a sealed record");
    if sealed.len() > MAX_SEALED {
        return Err(bound);
    }
    u32::try_from(sealed.len()).map_err(|_long| bound)
}

/// Version of every value's layout; the first byte of each.
const FORMAT: u8 = 1;
/// The header of a store that keeps a tally.
const FORMAT_WITH_TALLY: u8 = 2;

const KIND_HEADER: u8 = 0;
const KIND_COMMIT: u8 = 1;
const KIND_ROW: u8 = 2;
const KIND_CLAIM: u8 = 3;
const KIND_DOCUMENT: u8 = 4;
const KIND_TALLY: u8 = 5;
const KIND_BEFORE: u8 = 6;

/// Index-key version, fingerprint.
const INDEX_ENTRY: usize = 4 + 32;

const FLAG_SINGLE: u8 = 1;
const FLAG_USED: u8 = 2;
const FLAG_EXPIRES: u8 = 4;

const INDEX_COUNT: &str = "the number of index entries";
const DOCUMENT_LENGTH: &str = "the length of a document";
/// Kind, collection, index-key version, fingerprint.
const CLAIM_KEY: usize = 1 + 4 + 4 + 32;
const BAD_KIND: &str = "a pair of no known kind";
const BAD_HEADER: &str = "not a header of this version";
const BAD_COMMIT: &str = "not a commit mark";
const BAD_ROW_KEY: &str = "not the key of a row";
const BAD_ROW: &str = "not a row";
const BAD_CLAIM: &str = "not an index entry";
const BAD_DOCUMENT: &str = "not a document";
const BAD_TALLY: &str = "not a tally";

#[cfg(test)]
mod tests;
