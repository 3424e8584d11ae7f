//! Retention as data: a run over all records, what it counted, and the days on which records were erased.
//!
//! Must never forget a day on which something was erased while a key of that time exists. No I/O: `vault/retention.rs`
//! reads, erases and writes. Tests: below, `tests/tests/retention.rs`; fuzzed by `fuzz/fuzz_targets/keyring.rs`.

use crate::collections::Collection;
use crate::store::Row;
use cordon_card::Token;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Name of the document that keeps the last verification.
pub const VERIFIED: &str = "retention";
/// Name of the document that keeps when records were erased.
pub const ERASURES: &str = "erasures";

/// What a verification found of one collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// Records.
    pub records: u64,
    /// Records whose time is over.
    pub over_age: u64,
    /// Records without an end, in a collection without a reason.
    pub without_reason: u64,
    /// Records that are not those of their rows: their dates can't be believed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub broken: u64,
    /// When the oldest token was made, in Unix seconds.
    pub oldest: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Counted {
    fn add(&mut self, collection: &Collection, row: &Row, now: u64) {
        bump(&mut self.records);
        if collection.is_over(row, now) {
            bump(&mut self.over_age);
        }
        if collection.end_of(row).is_none() && collection.retention.is_none() {
            bump(&mut self.without_reason);
        }
        self.oldest = Some(self.oldest.unwrap_or(u64::MAX).min(row.created_at));
    }

    /// Whether every record may be there.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.over_age == 0 && self.without_reason == 0 && self.broken == 0
    }
}

/// The last verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verified {
    /// When it ended.
    pub at: Timestamp,
    /// By collection number.
    pub collections: BTreeMap<u32, Counted>,
}

/// What is to be done about a page.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// To erase: their time is over.
    pub over: Vec<Token>,
    /// To report, and to leave where they are.
    pub broken: Vec<Token>,
}

/// One run: it erases what is over, collection by collection, and a verification then counts all anew.
#[derive(Debug)]
pub struct Run {
    /// Whether it also counts.
    pub verifies: bool,
    /// Whether it counts now.
    counting: bool,
    /// Records whose time is over by then are erased, and later ones left.
    now: u64,
    /// Collections of the present pass, the next one last.
    left: Vec<u32>,
    all: Vec<u32>,
    after: Option<Token>,
    counted: BTreeMap<u32, Counted>,
}

impl Run {
    /// A run over these collections.
    #[must_use]
    pub fn new(mut collections: Vec<u32>, verifies: bool, now: u64) -> Run {
        collections.reverse();
        let counted = BTreeMap::new();
        Run {
            verifies,
            counting: false,
            now,
            left: collections.clone(),
            all: collections,
            after: None,
            counted,
        }
    }

    /// The collection to go on with, and the row to go on behind; none once the run has ended.
    #[must_use]
    pub fn place(&self) -> Option<(u32, Option<&Token>)> {
        self.left.last().map(|number| (*number, self.after.as_ref()))
    }

    /// Takes a page of the present collection. `is_own` says whether a row's record is its own, with the dates of the row:
    /// it is asked for every row that is to be erased or counted.
    pub fn page(&mut self, collection: &Collection, rows: &[Row], is_own: impl Fn(&Row) -> bool) -> Page {
        if let Some(last) = rows.last() {
            self.after = Some(last.token.clone());
        }
        let mut page = Page::default();
        for row in rows {
            let is_over = collection.is_over(row, self.now);
            if !self.counting && !is_over {
                continue;
            }
            let is_own = is_own(row);
            if !is_own {
                page.broken.push(row.token.clone());
            } else if !self.counting {
                page.over.push(row.token.clone());
            }
            if self.counting {
                let counted = self.counted.entry(collection.id).or_default();
                counted.add(collection, row, self.now);
                counted.broken = counted.broken.saturating_add(u64::from(!is_own));
            }
        }
        page
    }

    /// There are no more rows in this collection.
    pub fn end_collection(&mut self) {
        self.after = None;
        if let (Some(number), true) = (self.left.pop(), self.counting) {
            self.counted.entry(number).or_default();
        }
        if self.left.is_empty() && self.verifies && !self.counting {
            self.counting = true;
            self.left.clone_from(&self.all);
        }
    }

    /// What a verification counted.
    #[must_use]
    pub fn into_verified(self, at: Timestamp) -> Verified {
        Verified { at, collections: self.counted }
    }
}

/// What was erased on one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erased {
    /// How many records, at least: a crash may lose the last few from this number, and never the day.
    pub records: u64,
    /// When the last of them was.
    pub last: Timestamp,
}

/// When records were erased, by collection number and day since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasures(pub BTreeMap<u32, BTreeMap<i64, Erased>>);

/// Erased records that a copy of the store can still show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exposed {
    /// How many.
    pub records: u64,
    /// The day of the first.
    pub since: Timestamp,
}

impl Exposed {
    /// Whether the keys of that time should be gone by now.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        now.duration_since(self.since) > SHRED_WITHIN
    }
}

impl Erasures {
    /// Reads the stored document.
    ///
    /// # Errors
    /// It is not one.
    pub fn parse(bytes: &[u8]) -> Result<Erasures, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Takes note of erasures that are about to happen. Whether it must be stored before they do: the first of a day
    /// must, later ones of a day are covered by it until the keys change.
    pub fn note(&mut self, collection: u32, records: u64, at: Timestamp, newest_key: Timestamp) -> bool {
        let days = self.0.entry(collection).or_default();
        let day = at.as_second().div_euclid(DAY);
        let covered = days.get(&day).is_some_and(|known| known.last > newest_key);
        let erased = days.entry(day).or_insert(Erased { records: 0, last: at });
        erased.records = erased.records.saturating_add(records);
        erased.last = erased.last.max(at);
        !covered
    }

    /// What copies can still show of a collection whose oldest key was made at `oldest_key`: every record that was
    /// erased after that may have been under it.
    #[must_use]
    pub fn exposed(&self, collection: u32, oldest_key: Timestamp) -> Option<Exposed> {
        let days = self.0.get(&collection)?;
        let mut exposed = days.iter().filter(|(_, erased)| erased.last >= oldest_key);
        let (first, erased) = exposed.next()?;
        let records = exposed.fold(erased.records, |sum, (_, erased)| sum.saturating_add(erased.records));
        let since = Timestamp::from_second(first.saturating_mul(DAY)).unwrap_or(Timestamp::UNIX_EPOCH);
        Some(Exposed { records, since })
    }

    /// Drops the days whose keys are all gone.
    pub fn forget(&mut self, collection: u32, oldest_key: Timestamp) {
        if let Some(days) = self.0.get_mut(&collection) {
            days.retain(|_, erased| erased.last >= oldest_key);
        }
    }
}

/// How far the wall clock moved ahead of the monotonic one between two moments, if that is more than a correction: by it
/// everything would look over age.
#[must_use]
pub fn clock_jump(from: (Timestamp, Duration), to: (Timestamp, Duration)) -> Option<SignedDuration> {
    let passed = SignedDuration::try_from(to.1.saturating_sub(from.1)).unwrap_or(SignedDuration::MAX);
    let ahead = to.0.duration_since(from.0).saturating_sub(passed);
    (ahead > LARGEST_JUMP).then_some(ahead)
}

fn bump(count: &mut u64) {
    *count = count.saturating_add(1);
}

/// Keys that erased records were under must be destroyed within this time: the quarter in which PCI DSS 3.2.1 wants
/// stored data checked.
pub const SHRED_WITHIN: SignedDuration = SignedDuration::from_hours(24 * 92);
/// A clock that is set right by an hour, or by a summer time that should not be there, is no jump.
const LARGEST_JUMP: SignedDuration = SignedDuration::from_hours(2);
const DAY: i64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_daemon::clock::{Clock, ManualClock};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_erased_record_is_exposed_until_every_key_of_its_time_is_gone() {
        let mut erasures = Erasures::default();
        assert!(erasures.note(1, 3, at(DAY + 10), at(5)), "the first of a day is stored first");
        assert!(!erasures.note(1, 2, at(DAY + 20), at(5)));
        assert!(erasures.note(1, 1, at(3 * DAY), at(5)));
        let all = erasures.exposed(1, at(5)).unwrap();
        assert_eq!((all.records, all.since), (6, at(DAY)));
        // A key made after the first day's erasures says nothing about them.
        let rest = erasures.exposed(1, at(DAY + 21)).unwrap();
        assert_eq!((rest.records, rest.since), (1, at(3 * DAY)));
        assert_eq!(erasures.exposed(1, at(3 * DAY + 1)), None);
        assert_eq!(erasures.exposed(2, at(5)), None);
        erasures.forget(1, at(DAY + 21));
        assert_eq!(erasures.0[&1].len(), 1);
    }

    #[test]
    fn the_first_erasure_under_a_new_key_is_stored_first_even_on_the_same_day() {
        let mut erasures = Erasures::default();
        assert!(erasures.note(1, 1, at(10), at(5)));
        assert!(erasures.note(1, 1, at(30), at(20)), "stored with an earlier time, it would not be exposed");
        assert!(!erasures.note(1, 1, at(40), at(20)));
    }

    #[test]
    fn a_clock_that_jumps_ahead_is_noticed_and_one_that_runs_is_not() {
        let clock = ManualClock::at(at(1_000));
        let now = |clock: &ManualClock| (clock.now(), clock.monotonic());
        let started = now(&clock);
        clock.advance(Duration::from_secs(400 * 86_400));
        assert_eq!(clock_jump(started, now(&clock)), None);
        clock.step_wall(clock.now() + SignedDuration::from_hours(2));
        assert_eq!(clock_jump(started, now(&clock)), None, "a correction");
        clock.step_wall(clock.now() + SignedDuration::from_secs(1));
        assert!(clock_jump(started, now(&clock)).is_some());
        clock.step_wall(at(0));
        assert_eq!(clock_jump(started, now(&clock)), None, "back erases nothing early");
    }

    #[test]
    fn shredding_is_overdue_after_92_days() {
        let exposed = Exposed { records: 1, since: at(0) };
        assert!(!exposed.is_overdue(at(92 * DAY)));
        assert!(exposed.is_overdue(at(92 * DAY + 1)));
    }

    #[test]
    fn a_run_erases_every_collection_before_it_counts_any() {
        let mut run = Run::new(vec![1, 2], true, 0);
        let mut order = Vec::new();
        while let Some((number, _)) = run.place() {
            order.push((number, run.counting));
            run.end_collection();
        }
        assert_eq!(order, [(1, false), (2, false), (1, true), (2, true)]);
        assert_eq!(run.into_verified(at(9)).collections.len(), 2);
        let mut run = Run::new(vec![1], false, 0);
        run.end_collection();
        assert_eq!(run.place(), None);
    }

    #[test]
    fn the_fuzzed_sample_is_a_list_of_erasures() {
        let sample = include_bytes!("../../fuzz/corpus/keyring/stored-erasures");
        assert_eq!(Erasures::parse(sample).unwrap().0[&7].len(), 2);
    }
}
