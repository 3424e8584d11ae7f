//! Walks one moment of a store: counts rows and compares them with the tally, and sees that rows and index entries lead to
//! each other.
//!
//! Must never open a record, and never call a store whole that has a row, an index entry or a tally which no commit of the
//! vault left so. Tests: `verify/tests.rs`, `tests/tests/tally.rs`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use cordon_card::Token;

use super::book::sum_of;
use super::rows::{self, StoredClaim, StoredRow};
use super::tally::{Entry, Tally, TallyMac};
use super::{Claim, CollectionId, Snapshot, StoreError};

/// What was found in one collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Rows that are there.
    pub rows: u64,
    /// Rows that the tally says; none if there is no tally of this collection.
    pub expected: Option<u64>,
    /// Whether they are the rows of the tally: as many, and each as it was committed.
    pub as_committed: bool,
}

/// A row or an index entry that is not as the vault leaves them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A row whose index entry is gone or leads elsewhere: its card would be taken for a new one.
    Unfindable(CollectionId, Token),
    /// An index entry that leads to a row which is gone, or does not know it.
    LeadsNowhere(CollectionId, Token),
    /// Index entries of cards with many tokens count other rows than there are.
    Miscounted(CollectionId),
    /// A pair that can't be read.
    Unreadable(&'static str),
    /// The tally is gone, edited, or not that of the last commit.
    Tally(&'static str),
}

/// What a walk found.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// The store's last commit.
    pub sequence: u64,
    /// By number of the collection.
    pub collections: BTreeMap<u32, Counted>,
    /// The first faults.
    pub faults: Vec<Fault>,
    /// How many there are.
    pub fault_count: u64,
}

impl Verification {
    /// Whether everything is as it was committed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.fault_count == 0 && self.collections.values().all(|counted| counted.as_committed)
    }

    fn fault(&mut self, fault: Fault) {
        self.fault_count = self.fault_count.saturating_add(1);
        if self.faults.len() < MOST_NAMED {
            self.faults.push(fault);
        }
    }
}

/// Walks a snapshot; `seen` counts the rows on the way.
///
/// # Errors
/// The engine can't be read. What it holds is no error here: that is what the walk finds out.
pub fn verify(mut snapshot: Snapshot, mac: &TallyMac, seen: &AtomicU64) -> Result<Verification, StoreError> {
    let mut walk = Walk { snapshot_sequence: snapshot.sequence(), ..Walk::default() };
    while let Some((key, value)) = snapshot.next().transpose()? {
        let taken = match rows::kind(&key) {
            rows::Kind::Row => {
                seen.fetch_add(1, Ordering::Relaxed);
                walk.row(&snapshot, mac, &key, &value)
            }
            rows::Kind::Claim => walk.claim(&snapshot, &key, &value),
            rows::Kind::Tally => walk.tally(mac, &key, &value),
            rows::Kind::Before => Err(StoreError::Corrupt("a change of a restore that was not counted")),
            rows::Kind::Other => Ok(()),
        };
        match taken {
            Err(StoreError::Corrupt(what)) => walk.found.fault(Fault::Unreadable(what)),
            other => other?,
        }
    }
    Ok(walk.end(mac))
}

#[derive(Default)]
struct Walk {
    snapshot_sequence: u64,
    found: Verification,
    /// The rows that are there.
    rows: BTreeMap<u32, Tally>,
    /// The rows of the last commit.
    committed: BTreeMap<u32, Tally>,
    total: Option<Entry>,
    /// Rows that list an index entry of a card with many tokens, and what these entries count.
    listed: BTreeMap<u32, (u64, u64)>,
}

impl Walk {
    fn row(
        &mut self,
        snapshot: &Snapshot,
        mac: &TallyMac,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), StoreError> {
        let (collection, token) = rows::row_token(key)?;
        let row = rows::decode_row(value)?;
        let CollectionId(number) = collection;
        self.rows.entry(number).or_default().add(mac.row(key, rows::clear_of(value)?));
        for entry in &row.index {
            let claim = snapshot.get(&rows::claim_key(collection, entry))?;
            let claim = claim.and_then(|value| rows::decode_claim(&value).ok());
            match claim {
                Some(claim) if owns(&row, &token, &claim) => {}
                Some(_) | None => self.found.fault(Fault::Unfindable(collection, token.clone())),
            }
            if row.claim == Claim::Single {
                let (listed, _) = self.listed.entry(number).or_default();
                *listed = listed.saturating_add(1);
            }
        }
        Ok(())
    }

    fn claim(&mut self, snapshot: &Snapshot, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let (collection, version) = rows::claim_place(key)?;
        match rows::decode_claim(value)? {
            StoredClaim::Multi { token, .. } => {
                let row = snapshot.get(&rows::row_key(collection, &token))?;
                let row = row.as_deref().and_then(|value| rows::decode_row(value).ok());
                let lists = |row: StoredRow<'_>| {
                    row.index
                        .iter()
                        .any(|entry| entry.version == version && rows::claim_key(collection, entry) == key)
                };
                if !row.is_some_and(lists) {
                    self.found.fault(Fault::LeadsNowhere(collection, token));
                }
            }
            StoredClaim::Single { count, .. } => {
                let CollectionId(number) = collection;
                let (_, counted) = self.listed.entry(number).or_default();
                *counted = counted.saturating_add(count);
            }
        }
        Ok(())
    }

    fn tally(&mut self, mac: &TallyMac, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let entry = Entry::decode(value)?;
        match rows::tally_collection(key)? {
            None => self.total = Some(entry),
            Some(of @ CollectionId(number)) => {
                self.committed.insert(number, mac.uncover(Some(of), &entry));
            }
        }
        Ok(())
    }

    fn end(mut self, mac: &TallyMac) -> Verification {
        for (number, (listed, counted)) in &self.listed {
            if listed != counted {
                self.found.fault(Fault::Miscounted(CollectionId(*number)));
            }
        }
        match &self.total {
            None => self.found.fault(Fault::Tally("it is gone")),
            Some(entry) if sum_of(&self.committed) != mac.uncover(None, entry) => {
                self.found.fault(Fault::Tally("it was edited or put back"));
            }
            Some(entry) if entry.sequence != self.snapshot_sequence => {
                self.found.fault(Fault::Tally("it is not that of the last commit"));
            }
            Some(_) => {}
        }
        self.found.sequence = self.snapshot_sequence;
        for number in self.rows.keys().chain(self.committed.keys()) {
            let there = self.rows.get(number).copied().unwrap_or_default();
            let committed = self.committed.get(number);
            let counted = Counted {
                rows: there.count,
                expected: committed.map(|tally| tally.count),
                as_committed: committed == Some(&there),
            };
            self.found.collections.insert(*number, counted);
        }
        self.found
    }
}

fn owns(row: &StoredRow<'_>, token: &Token, claim: &StoredClaim) -> bool {
    match claim {
        StoredClaim::Multi { card_id, token: of } => {
            row.claim == Claim::Multi && *card_id == row.card_id && of == token
        }
        StoredClaim::Single { card_id, .. } => row.claim == Claim::Single && *card_id == row.card_id,
    }
}

/// Faults that are named one by one.
const MOST_NAMED: usize = 100;

#[cfg(test)]
mod tests;
