//! Keys without their bytes: what a listing shows, and what an operator is told about them.
//!
//! Must never hold key bytes. Tests: `keyring/tests.rs`, `keyring/tests/limits.rs`.

use jiff::Timestamp;
use serde::Serialize;

use super::document::KeyRow;
use super::{GRACE, KeyState, Purpose};
use crate::keys::KeyId;

/// One line of a key listing. Holds no key bytes.
#[derive(Clone, Debug, Serialize)]
pub struct KeyInfo {
    /// The key's name.
    pub id: KeyId,
    /// What it is for.
    pub purpose: Purpose,
    /// The number of its collection; none for a key-encryption key.
    pub collection: Option<u32>,
    /// Its version, counted from one within its purpose and collection.
    pub version: u32,
    /// Where it is in its life.
    pub state: KeyState,
    /// When it was made.
    pub created: Timestamp,
    /// When it began to protect data.
    pub activated: Option<Timestamp>,
    /// When it stopped protecting new data.
    pub deactivated: Option<Timestamp>,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// When it should be replaced at the latest: the end of its originator usage period.
    pub cryptoperiod_end: Timestamp,
    /// When nothing should be left under it: the end of its recipient usage period. Warned about, never enforced.
    pub opens_until: Timestamp,
    /// How often it was used at most: uses that are reserved count.
    pub uses: u64,
    /// How often it may be used.
    pub budget: Option<u64>,
    /// The first 16 hex digits of its commitment.
    pub commitment_prefix: String,
}

impl KeyInfo {
    /// From when on an active key protects nothing.
    #[must_use]
    pub fn refused_after(&self) -> Timestamp {
        self.cryptoperiod_end.saturating_add(GRACE).unwrap_or(Timestamp::MAX)
    }

    /// Whether 80 % of its originator usage period or of its uses are over.
    #[must_use]
    pub fn is_near_a_limit(&self, now: Timestamp) -> bool {
        let period = self.cryptoperiod_end.duration_since(self.created).as_secs();
        let age = now.duration_since(self.created).as_secs();
        let spent = self.budget.is_some_and(|budget| self.uses >= budget / 5 * 4);
        spent || age.saturating_mul(5) >= period.saturating_mul(4)
    }

    /// What an operator should do about it, if anything.
    #[must_use]
    pub fn warning(&self, now: Timestamp) -> Option<String> {
        let id = &self.id;
        let words = match self.state {
            KeyState::Active if now > self.refused_after() => {
                format!(
                    "its cryptoperiod ended at {}: it protects nothing more; rotate it",
                    self.cryptoperiod_end
                )
            }
            KeyState::Active if now > self.cryptoperiod_end => format!(
                "its cryptoperiod ended at {}; from {} on it is refused: rotate it",
                self.cryptoperiod_end,
                self.refused_after()
            ),
            KeyState::Active if self.is_near_a_limit(now) => {
                "over 80 % of its cryptoperiod or uses are over; rotate it".to_owned()
            }
            KeyState::Suspended => "it is suspended: what it protects can't be used".to_owned(),
            KeyState::Compromised => "it is compromised: move its records, then destroy it".to_owned(),
            KeyState::Deactivated if now > self.opens_until => {
                format!("its time to open ended at {}: move its records, then destroy it", self.opens_until)
            }
            KeyState::PreActive | KeyState::Active | KeyState::Deactivated | KeyState::Destroyed => {
                return None;
            }
        };
        Some(format!("key {id}: {words}"))
    }
}

impl KeyRow {
    pub(super) fn info(&self) -> KeyInfo {
        KeyInfo {
            id: self.id.clone(),
            purpose: self.purpose,
            collection: self.collection,
            version: self.version,
            state: self.state,
            created: self.created,
            activated: self.activated,
            deactivated: self.deactivated,
            since: self.since,
            cryptoperiod_end: self.cryptoperiod_end,
            opens_until: self.opens_until,
            uses: self.uses,
            budget: super::budget::limit(self.purpose),
            commitment_prefix: self.commitment.prefix(),
        }
    }
}
