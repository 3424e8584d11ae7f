//! What the writer knows of the tally of rows: whether there is one, whether its key is there, and how it stands.
//!
//! Must never go on from a tally that is not authentic or was put back, and never let rows change while the key is away:
//! what was not counted could not be told from what was done behind the vault's back. Tests: `verify/tests.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::embedded::Engine;
use super::resolve::Tallies;
use super::tally::{Entry, Nonce, Tally, TallyMac};
use super::{CollectionId, StoreError, rows};

/// The tally, as far as the writer has it.
pub(super) enum Book {
    /// The store has none yet, or one that can't be trusted: rows are not counted.
    None,
    /// It has one, and its key is away: rows do not change.
    Locked,
    /// A restore, which has no key: what it changes is kept beside, to be counted when the key is there.
    Restoring,
    /// Every change is counted.
    Kept(Box<Kept>),
}

/// A tally with its key.
pub(super) struct Kept {
    mac: Arc<TallyMac>,
    nonce: Nonce,
    total: Tally,
    collections: BTreeMap<u32, Tally>,
}

/// What became of a tally that was to be taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// There was none: all rows were counted, as they are now.
    Begun {
        /// How many.
        rows: u64,
    },
    /// It goes on.
    Resumed {
        /// How many rows there should be.
        rows: u64,
        /// Of them and of those that are gone, how many a restore changed.
        restored: u64,
    },
    /// It is not the one that the vault left. Rows are not counted until a backup is restored.
    Refused(&'static str),
}

impl Book {
    /// How a store stands when it is opened.
    pub(super) fn of<E: Engine>(engine: &E, restores: bool) -> Result<Book, StoreError> {
        Ok(match engine.get(&rows::tally_key(None))? {
            None => Book::None,
            Some(_) if restores => Book::Restoring,
            Some(_) => Book::Locked,
        })
    }

    /// Takes up the stored tally with its key, or begins it. `anchor`: the highest commit known to have changed rows since
    /// there is a tally; none if there was none yet, or a backup was restored.
    pub(super) fn follow<E: Engine>(
        engine: &E,
        mac: Arc<TallyMac>,
        nonce: Nonce,
        anchor: Option<u64>,
    ) -> Result<(Book, Followed), StoreError> {
        let refused = |why| Ok((Book::None, Followed::Refused(why)));
        let restored = engine.range(rows::before_range(), usize::MAX)?;
        let mut collections = BTreeMap::new();
        match (engine.get(&rows::tally_key(None))?, anchor) {
            (None, Some(_)) => return refused("tally-gone"),
            (None, None) if !restored.is_empty() => return refused("tally-gone"),
            (None, None) => {
                count_all(engine, &mac, &mut collections)?;
            }
            (Some(_), Some(_)) if !restored.is_empty() => return refused("rows-changed-outside"),
            (Some(total), anchor) => {
                let Ok(entry) = Entry::decode(&total) else { return refused("tally-substituted") };
                if anchor.is_some_and(|anchor| entry.sequence < anchor) {
                    return refused("tally-put-back");
                }
                for (key, value) in engine.range(rows::tally_range(), usize::MAX)? {
                    let Ok(entry) = Entry::decode(&value) else { return refused("tally-substituted") };
                    if let Some(CollectionId(number)) = rows::tally_collection(&key)? {
                        collections.insert(number, mac.uncover(Some(CollectionId(number)), &entry));
                    }
                }
                if sum_of(&collections) != mac.uncover(None, &entry) {
                    return refused("tally-substituted");
                }
                for (key, before) in &restored {
                    apply(engine, &mac, &rows::row_key_of(key), before, &mut collections)?;
                }
            }
        }
        let (total, begun) = (sum_of(&collections), engine.get(&rows::tally_key(None))?.is_none());
        let followed = if begun {
            Followed::Begun { rows: total.count }
        } else {
            let restored = u64::try_from(restored.len()).unwrap_or(u64::MAX);
            Followed::Resumed { rows: total.count, restored }
        };
        Ok((Book::Kept(Box::new(Kept { mac, nonce, total, collections })), followed))
    }

    /// The collections that have a tally.
    pub(super) fn collections(&self) -> Vec<u32> {
        match self {
            Book::Kept(kept) => kept.collections.keys().copied().collect(),
            Book::None | Book::Locked | Book::Restoring => Vec::new(),
        }
    }

    /// Takes the changes of a commit. Gives the tallies to write with it.
    pub(super) fn keep(&mut self, changes: &Tallies, sequence: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
        let Book::Kept(kept) = self else { return Vec::new() };
        let Kept { mac, nonce, total, collections } = kept.as_mut();
        let mut entries = Vec::with_capacity(changes.len().saturating_add(1));
        for (number, change) in changes {
            let (of, tally) = (Some(CollectionId(*number)), collections.entry(*number).or_default());
            *tally = tally.plus(*change);
            *total = total.plus(*change);
            entries.push((rows::tally_key(of), mac.hide(of, sequence, *nonce, *tally)));
        }
        entries.push((rows::tally_key(None), mac.hide(None, sequence, *nonce, *total)));
        entries
    }

    /// Puts the key away.
    pub(super) fn forget(self) -> Book {
        match self {
            Book::Kept(_) => Book::Locked,
            other => other,
        }
    }

    /// Refuses new rows where they would not be counted.
    pub(super) fn check_rows_may_come(&self) -> Result<(), StoreError> {
        match self {
            Book::None | Book::Kept(_) => Ok(()),
            Book::Locked | Book::Restoring => Err(StoreError::Uncounted),
        }
    }

    /// Refuses changes of rows that would not be counted.
    pub(super) fn check_rows_may_change(&self) -> Result<(), StoreError> {
        match self {
            Book::None | Book::Kept(_) | Book::Restoring => Ok(()),
            Book::Locked => Err(StoreError::Uncounted),
        }
    }
}

impl Kept {
    pub(super) fn mac(&self) -> &TallyMac {
        &self.mac
    }
}

/// What collections have together.
pub(super) fn sum_of(collections: &BTreeMap<u32, Tally>) -> Tally {
    collections.values().fold(Tally::default(), |sum, tally| sum.plus(*tally))
}

/// Counts all rows.
fn count_all<E: Engine>(
    engine: &E,
    mac: &TallyMac,
    collections: &mut BTreeMap<u32, Tally>,
) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let page = engine.range(rows::all_rows(after), PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(last.clone());
        for (key, value) in &page {
            let (CollectionId(number), _token) = rows::row_token(key)?;
            collections.entry(number).or_default().add(mac.row(key, rows::clear_of(value)?));
        }
    }
}

/// Counts a change that a restore made: what the row said before goes, what it says now comes.
fn apply<E: Engine>(
    engine: &E,
    mac: &TallyMac,
    key: &[u8],
    before: &[u8],
    collections: &mut BTreeMap<u32, Tally>,
) -> Result<(), StoreError> {
    let (CollectionId(number), _token) = rows::row_token(key)?;
    let tally = collections.entry(number).or_default();
    tally.remove(mac.row(key, rows::clear_of(before)?));
    if let Some(now) = engine.get(key)? {
        tally.add(mac.row(key, rows::clear_of(&now)?));
    }
    Ok(())
}

const PAGE: usize = 4_096;
