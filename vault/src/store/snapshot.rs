//! The content of a store as of one moment, for a backup, and a store made of it again.
//!
//! Must never mix two moments: keyring, seal, rows and commit marks come from one view of the engine. Tests: below,
//! `vault/tests/store_suite`, `tests/tests/backup.rs`.

use super::embedded::{Change, Engine, Lookup, Pair, Pairs, View, last_marked, read_row};
use super::{CollectionId, Row, StoreError, rows};
use std::fmt;

/// A store's content, as opaque pairs in the order of their keys.
pub struct Snapshot {
    sequence: u64,
    pairs: Pairs,
    lookup: Lookup,
}

impl Snapshot {
    /// Reads as far as the commit marks, which stand first.
    pub(super) fn of(view: View) -> Result<Self, StoreError> {
        let View { mut pairs, lookup } = view;
        let header = pairs.next().transpose()?;
        let mut first: Vec<Pair> = header.into_iter().collect();
        let mut marks: Vec<Pair> = Vec::new();
        let after = loop {
            match pairs.next().transpose()? {
                Some(pair) if rows::is_commit(&pair.0) => marks.push(pair),
                other => break other,
            }
        };
        let sequence = last_marked(&marks)?;
        first.append(&mut marks);
        first.extend(after);
        Ok(Self { sequence, pairs: Box::new(first.into_iter().map(Ok).chain(pairs)), lookup })
    }

    /// The next row of a collection, in the order of the tokens; everything before it is passed over.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Corrupt`].
    pub fn next_row(&mut self, collection: CollectionId) -> Result<Option<Row>, StoreError> {
        for pair in self.pairs.by_ref() {
            let (key, value) = pair?;
            if rows::is_row_of(&key, collection) {
                let (_collection, token) = rows::row_token(&key)?;
                return read_row(collection, token, &value).map(Some);
            }
        }
        Ok(None)
    }

    /// One value of it.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Corrupt`].
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        (self.lookup)(key)
    }

    /// The last commit in it.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl Iterator for Snapshot {
    type Item = Result<Pair, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pairs.next()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

/// Writes pairs into an empty engine, each one checked.
pub(super) fn fill<G: Engine, E: From<StoreError>>(
    engine: &G,
    mut next: impl FnMut() -> Result<Option<Pair>, E>,
) -> Result<(), E> {
    let mut ended = false;
    while !ended {
        let (mut changes, mut bytes) = (Vec::new(), 0_usize);
        while bytes < BATCH_BYTES {
            let Some((key, value)) = next()? else {
                ended = true;
                break;
            };
            rows::check_pair(&key, &value)?;
            bytes = bytes.saturating_add(key.len()).saturating_add(value.len());
            changes.push(Change { key, value: Some(value) });
        }
        if !changes.is_empty() {
            engine.commit(changes)?;
        }
    }
    Ok(())
}

/// What one commit of a restore holds: few syncs, little memory.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::super::embedded::Embedded;
    use super::super::memory::Memory;
    use super::super::{Store, StoreError};
    use super::fill;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn a_snapshot_is_of_one_moment_and_makes_the_same_store() {
        let memory = Memory::default();
        let store = Embedded::start(memory.clone(), None).unwrap();
        for round in 0..3_u64 {
            let expected = (round > 0).then_some(round);
            run(store.put_document("keyring", expected, vec![7; 9])).unwrap();
        }
        let mut snapshot = store.snapshot().unwrap();
        assert_eq!(snapshot.sequence(), 3);
        run(store.put_document("seal", None, vec![1])).unwrap();
        let copy = Memory::default();
        fill(&copy, || snapshot.next().transpose()).unwrap();
        let copy = Embedded::start(copy, None).unwrap();
        assert_eq!(copy.sequence(), 3);
        assert_eq!(copy.document("keyring").unwrap().unwrap().version, 3);
        assert!(copy.document("seal").unwrap().is_none());
    }

    #[test]
    fn pairs_that_no_store_wrote_are_refused() {
        for (key, value) in [(vec![9], vec![1]), (vec![], vec![]), (vec![0, 0], vec![1]), (vec![4], vec![1])]
        {
            let mut pairs = vec![(key, value)].into_iter();
            let filled = fill(&Memory::default(), || Ok::<_, StoreError>(pairs.next()));
            assert!(matches!(filled, Err(StoreError::Corrupt(_))), "{filled:?}");
        }
    }
}
