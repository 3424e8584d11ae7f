//! Whether the store has the records that were committed to it, by a walk over all of them.
//! Must never carry a card. Tests: `tests/tests/tally.rs`.

use cordon_card::{CollectionName, Token};
use serde::{Deserialize, Serialize};

/// Answer of `GET /v1/store/verify`, and of `POST /v1/store/verify`, which begins a walk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreReport {
    /// Whether a walk is under way.
    pub running: bool,
    /// Records that it has seen.
    pub seen: u64,
    /// Records that there were at the last unseal: about how many it will see.
    pub rows: u64,
    /// Walks that ended since the vault started.
    pub ended: u64,
    /// When the last one began (RFC 3339, UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<String>,
    /// The store's commit whose records it walked over.
    pub commit: u64,
    /// Whether it found every collection as committed, and no fault.
    pub good: bool,
    /// Why the tally was not taken up at the last unseal; rows are not counted then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// By collection.
    pub collections: Vec<StoreCount>,
    /// The first faults, by name where they have one.
    pub faults: Vec<StoreFault>,
    /// How many there are.
    pub fault_count: u64,
}

/// One collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreCount {
    /// Its name, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<CollectionName>,
    /// Its number.
    pub number: u32,
    /// Records that are there.
    pub records: u64,
    /// Records that were committed.
    pub expected: u64,
    /// `as-committed`, `rows-missing`, `rows-added` or `rows-changed`, as in the audit log.
    pub verdict: String,
}

/// A record or index entry that is not as the vault leaves them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreFault {
    /// What is wrong.
    pub kind: StoreFaultKind,
    /// In which collection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<CollectionName>,
    /// The token of the record, or the one that the index entry leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// What there is to say where there is no token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreFaultKind {
    /// A record without its index entry: its card would be taken for a new one.
    Unfindable,
    /// An index entry without its record.
    LeadsNowhere,
    /// Index entries of cards with many tokens count other records than there are.
    Miscounted,
    /// Something that can't be read.
    Unreadable,
    /// The tally itself is gone, edited or put back.
    Tally,
}

impl StoreFaultKind {
    /// What is wrong, in words for a line of its own.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Unfindable => "a record without its index entry",
            Self::LeadsNowhere => "an index entry without its record",
            Self::Miscounted => "index entries that count other records than there are",
            Self::Unreadable => "it can't be read",
            Self::Tally => "the tally",
        }
    }
}
