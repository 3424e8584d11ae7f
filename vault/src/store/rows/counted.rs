//! The keys of tallies and of what a restore keeps, and the part of a row that a tally counts.
//!
//! Must never take a key or a row apart in another way than [`super`] puts it together. Tests: `rows/tests.rs`.

use std::ops::Bound;

use super::{
    BAD_ROW, BAD_TALLY, INDEX_ENTRY, KIND_BEFORE, KIND_CLAIM, KIND_ROW, KIND_TALLY, KeyRange, Reader,
};
use crate::store::{CollectionId, StoreError};

/// The key of the tally of a collection's rows, or of all rows.
pub fn tally_key(collection: Option<CollectionId>) -> Vec<u8> {
    let mut key = vec![KIND_TALLY];
    key.extend(collection.into_iter().flat_map(|CollectionId(number)| number.to_be_bytes()));
    key
}

/// The collection in the key of a tally; none for that of all rows.
///
/// # Errors
/// [`StoreError::Corrupt`] if it isn't the key of a tally.
pub fn tally_collection(key: &[u8]) -> Result<Option<CollectionId>, StoreError> {
    let mut reader = Reader(key);
    if reader.array(BAD_TALLY)? != [KIND_TALLY] {
        return Err(StoreError::Corrupt(BAD_TALLY));
    }
    if reader.0.is_empty() {
        return Ok(None);
    }
    let collection = CollectionId(u32::from_be_bytes(reader.array(BAD_TALLY)?));
    reader.end(BAD_TALLY)?;
    Ok(Some(collection))
}

/// The keys of all tallies.
pub fn tally_range() -> KeyRange {
    (Bound::Included(vec![KIND_TALLY]), Bound::Excluded(vec![KIND_BEFORE]))
}

/// The key under which a restore keeps what a row said before it changed the row.
pub fn before_key(row_key: &[u8]) -> Vec<u8> {
    let mut key = vec![KIND_BEFORE];
    key.extend_from_slice(row_key.get(1..).unwrap_or_default());
    key
}

/// The key of the row that such a key is about.
pub fn row_key_of(before_key: &[u8]) -> Vec<u8> {
    let mut key = vec![KIND_ROW];
    key.extend_from_slice(before_key.get(1..).unwrap_or_default());
    key
}

/// All keys under which a restore keeps something.
pub fn before_range() -> KeyRange {
    (Bound::Included(vec![KIND_BEFORE]), Bound::Unbounded)
}

/// The keys of all rows, behind one of them or from the beginning.
pub fn all_rows(after: Option<Vec<u8>>) -> KeyRange {
    let start = after.map_or(Bound::Included(vec![KIND_ROW]), Bound::Excluded);
    (start, Bound::Excluded(vec![KIND_CLAIM]))
}

/// What kind of pair a key is of.
pub fn kind(key: &[u8]) -> Kind {
    match key.first() {
        Some(&KIND_ROW) => Kind::Row,
        Some(&KIND_CLAIM) => Kind::Claim,
        Some(&KIND_TALLY) => Kind::Tally,
        Some(&KIND_BEFORE) => Kind::Before,
        Some(_) | None => Kind::Other,
    }
}

/// Kinds of pairs that a verification tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A row.
    Row,
    /// An index entry.
    Claim,
    /// A tally.
    Tally,
    /// What a row said before a restore changed it.
    Before,
    /// Header, commit mark or document.
    Other,
}

/// What a row says in clear: all of it but the sealed record.
///
/// # Errors
/// [`StoreError::Corrupt`] if it is too short for one.
pub fn clear_of(row: &[u8]) -> Result<&[u8], StoreError> {
    let entries = row.get(CLEAR_HEAD - 1).copied().ok_or(StoreError::Corrupt(BAD_ROW))?;
    let length = CLEAR_HEAD.saturating_add(usize::from(entries).saturating_mul(INDEX_ENTRY));
    row.get(..length).ok_or(StoreError::Corrupt(BAD_ROW))
}

/// A row's value without its record: what is kept under [`before_key`].
///
/// # Errors
/// As [`clear_of`].
pub fn without_record(row: &[u8]) -> Result<Vec<u8>, StoreError> {
    Ok([clear_of(row)?, &0_u32.to_be_bytes()].concat())
}

/// Format, flags, card id, times, number of index entries.
const CLEAR_HEAD: usize = 1 + 1 + 16 + 8 + 8 + 1;
