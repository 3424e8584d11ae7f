//! Runs that move a collection's records to its active keys: where each stands, and what a count has proven.
//!
//! Must never call a key unneeded unless a whole pass, begun when nobody could still write under it, found no record
//! that needs it. No I/O: `vault/rewrap.rs` reads and writes. Tests: below, `tests/tests/rewrap.rs`; fuzzed by
//! `fuzz/fuzz_targets/keyring.rs`.
//!
//! A run goes over the rows in order of their tokens. Rows written behind its back carry the active keys, so one pass
//! that finds nothing is proof for as long as the same keys are active.

use crate::keyring::Purpose;
use crate::store::Row;
use cordon_card::Token;
use cordon_wire::RewrapState;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub mod pace;

/// Name of the document that keeps all runs.
pub const DOCUMENT: &str = "rewrap";

/// The versions that protect now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// Data key.
    pub data: u32,
    /// Index key.
    pub index: u32,
}

/// Records by the older key version they need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// Sealed under another data key than the active one.
    data: BTreeMap<u32, u64>,
    /// Not found by the active index key, so by this one only.
    index: BTreeMap<u32, u64>,
    /// Index entries of keys that are gone: harmless, and taken away on the next run.
    leftover_entries: u64,
}

impl Census {
    fn count(&mut self, row: &Row, active: Active, known_index: &[u32]) {
        if row.sealed.key_version() != active.data {
            bump(self.data.entry(row.sealed.key_version()).or_default());
        }
        if row.index.iter().all(|entry| entry.version != active.index) {
            for entry in &row.index {
                bump(self.index.entry(entry.version).or_default());
            }
        }
        if row.index.iter().any(|entry| !known_index.contains(&entry.version)) {
            bump(&mut self.leftover_entries);
        }
    }

    /// Records that need one version.
    #[must_use]
    pub fn needs(&self, purpose: Purpose, version: u32) -> u64 {
        let versions = match purpose {
            Purpose::Data => &self.data,
            Purpose::Index => &self.index,
            Purpose::Kek => return 0,
        };
        versions.get(&version).copied().unwrap_or(0)
    }

    fn is_clear(&self) -> bool {
        self.data.is_empty() && self.index.is_empty() && self.leftover_entries == 0
    }
}

/// What a pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Phase {
    Counting,
    Moving,
    Verifying,
    Finished,
}

/// One collection's run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    phase: Phase,
    paused: bool,
    /// Records a second.
    pub rate_per_s: u32,
    active: Active,
    /// The last row of the present pass that is done with.
    after: Option<Token>,
    seen: u64,
    total: u64,
    moved: u64,
    moved_in_pass: u64,
    failed: u64,
    /// Of the present pass, or of the last one that counted.
    census: Census,
    started: Timestamp,
    finished: Option<Timestamp>,
}

impl Job {
    /// A run that has not looked at anything yet.
    #[must_use]
    pub fn new(active: Active, rate_per_s: u32, now: Timestamp) -> Job {
        Job {
            phase: Phase::Counting,
            paused: false,
            rate_per_s: rate_per_s.max(1),
            active,
            after: None,
            seen: 0,
            total: 0,
            moved: 0,
            moved_in_pass: 0,
            failed: 0,
            census: Census::default(),
            started: now,
            finished: None,
        }
    }

    /// Pauses, or goes on.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Whether there is something to do.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.paused && self.phase != Phase::Finished
    }

    /// Whether the run has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.phase == Phase::Finished
    }

    /// Begins again if other keys are active than those the run moves to.
    pub fn follow(&mut self, active: Active) {
        if self.active != active {
            self.active = active;
            self.finished = None;
            self.failed = 0;
            self.begin(Phase::Counting);
        }
    }

    /// Whether the next page is the first of the pass whose count is proof.
    #[must_use]
    pub fn begins_proof(&self) -> bool {
        self.phase == Phase::Verifying && self.after.is_none()
    }

    /// Whether rows of the present pass are moved, and not only counted.
    #[must_use]
    pub fn moves(&self) -> bool {
        self.phase == Phase::Moving
    }

    /// The row to go on behind.
    #[must_use]
    pub fn after(&self) -> Option<&Token> {
        self.after.as_ref()
    }

    /// Takes note of rows that were looked at, in their order; `known_index` are the index keys that exist.
    pub fn count(&mut self, rows: &[Row], known_index: &[u32]) {
        for row in rows {
            self.census.count(row, self.active, known_index);
        }
        self.pass(rows);
    }

    /// Takes note of rows of which some were moved and some do not open.
    pub fn moved(&mut self, rows: &[Row], moved: u64, failed: u64) {
        self.moved = self.moved.saturating_add(moved);
        self.moved_in_pass = self.moved_in_pass.saturating_add(moved);
        self.failed = self.failed.saturating_add(failed);
        self.pass(rows);
    }

    fn pass(&mut self, rows: &[Row]) {
        self.seen = self.seen.saturating_add(u64::try_from(rows.len()).unwrap_or(u64::MAX));
        if let Some(last) = rows.last() {
            self.after = Some(last.token.clone());
        }
    }

    /// There are no more rows in this pass.
    pub fn end_pass(&mut self, now: Timestamp) {
        self.total = self.seen;
        match self.phase {
            Phase::Counting if self.census.is_clear() => self.begin(Phase::Verifying),
            Phase::Counting => {
                self.failed = 0;
                self.keep_census(Phase::Moving);
            }
            Phase::Moving => self.begin(Phase::Verifying),
            // What is left does not open, or every try lost a race: without progress there is no further pass.
            Phase::Verifying if !self.census.is_clear() && self.moved_in_pass > 0 => {
                self.failed = 0;
                self.moved_in_pass = 0;
                self.keep_census(Phase::Moving);
            }
            Phase::Verifying | Phase::Finished => {
                self.phase = Phase::Finished;
                self.finished = Some(now);
            }
        }
    }

    fn begin(&mut self, phase: Phase) {
        self.census = Census::default();
        self.keep_census(phase);
    }

    fn keep_census(&mut self, phase: Phase) {
        self.phase = phase;
        self.after = None;
        self.seen = 0;
    }

    /// Records that need a version, if a finished run has proven the number and `active` are still the keys it moved to.
    #[must_use]
    pub fn proven_needs(&self, purpose: Purpose, version: u32, active: Active) -> Option<u64> {
        (self.is_finished() && self.active == active).then(|| self.census.needs(purpose, version))
    }

    /// Records that need a version, by the last count.
    #[must_use]
    pub fn needs(&self, purpose: Purpose, version: u32) -> u64 {
        self.census.needs(purpose, version)
    }

    /// Where it stands, for the status.
    #[must_use]
    pub fn state(&self) -> RewrapState {
        match self.phase {
            Phase::Finished => RewrapState::Finished,
            _ if self.paused => RewrapState::Paused,
            Phase::Counting => RewrapState::Counting,
            Phase::Moving => RewrapState::Moving,
            Phase::Verifying => RewrapState::Verifying,
        }
    }

    /// Figures for the status: seen, total, moved, failed.
    #[must_use]
    pub fn figures(&self) -> [u64; 4] {
        [self.seen, self.total, self.moved, self.failed]
    }

    /// When it began, and when it finished.
    #[must_use]
    pub fn times(&self) -> (Timestamp, Option<Timestamp>) {
        (self.started, self.finished)
    }
}

fn bump(count: &mut u64) {
    *count = count.saturating_add(1);
}

/// All runs, by the number of their collection.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Jobs(pub BTreeMap<u32, Job>);

impl Jobs {
    /// Reads the stored document.
    ///
    /// # Errors
    /// It is not one.
    pub fn parse(bytes: &[u8]) -> Result<Jobs, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The document to store.
    ///
    /// # Errors
    /// None known: every field has a JSON form.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// The first run with something to do.
    #[must_use]
    pub fn running(&self) -> Option<u32> {
        self.0.iter().find(|(_, job)| job.is_running()).map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Active = Active { data: 1, index: 1 };
    const SECOND: Active = Active { data: 2, index: 1 };

    fn job() -> Job {
        Job::new(SECOND, 10, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_collection_with_nothing_to_move_is_counted_twice_and_proven() {
        let mut job = job();
        job.end_pass(Timestamp::UNIX_EPOCH);
        assert!(job.begins_proof());
        assert_eq!(job.proven_needs(Purpose::Data, 1, SECOND), None);
        job.end_pass(Timestamp::UNIX_EPOCH);
        assert_eq!(job.proven_needs(Purpose::Data, 1, SECOND), Some(0));
    }

    #[test]
    fn a_proof_ends_with_the_keys_it_was_made_for() {
        let mut job = Job::new(FIRST, 10, Timestamp::UNIX_EPOCH);
        job.end_pass(Timestamp::UNIX_EPOCH);
        job.end_pass(Timestamp::UNIX_EPOCH);
        assert!(job.is_finished());
        assert_eq!(job.proven_needs(Purpose::Data, 1, SECOND), None);
        job.follow(SECOND);
        assert_eq!(job.state(), RewrapState::Counting);
    }

    #[test]
    fn records_that_do_not_move_end_the_run_and_keep_their_key() {
        let mut job = job();
        job.census.data.insert(1, 3);
        job.end_pass(Timestamp::UNIX_EPOCH);
        assert!(job.moves());
        job.moved(&[], 0, 3);
        job.end_pass(Timestamp::UNIX_EPOCH);
        job.census.data.insert(1, 3);
        job.end_pass(Timestamp::UNIX_EPOCH);
        assert_eq!(job.state(), RewrapState::Finished);
        assert_eq!(job.proven_needs(Purpose::Data, 1, SECOND), Some(3));
    }

    #[test]
    fn what_races_left_behind_is_moved_in_another_pass() {
        let mut job = job();
        job.census.data.insert(1, 3);
        job.end_pass(Timestamp::UNIX_EPOCH);
        job.moved(&[], 2, 0);
        job.end_pass(Timestamp::UNIX_EPOCH);
        job.census.data.insert(1, 1);
        job.end_pass(Timestamp::UNIX_EPOCH);
        assert!(job.moves());
    }

    #[test]
    fn a_paused_run_does_nothing_until_it_is_resumed() {
        let mut jobs = Jobs::default();
        jobs.0.insert(4, job());
        assert_eq!(jobs.running(), Some(4));
        jobs.0.get_mut(&4).unwrap().pause(true);
        assert_eq!(jobs.running(), None);
        let again = Jobs::parse(&jobs.to_bytes().unwrap()).unwrap();
        assert_eq!(again.0[&4].state(), RewrapState::Paused);
    }

    #[test]
    fn the_fuzzed_sample_is_a_run() {
        let sample = include_bytes!("../../fuzz/corpus/keyring/stored-rewrap");
        assert_eq!(Jobs::parse(sample).unwrap().running(), Some(7));
    }
}
