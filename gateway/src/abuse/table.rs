//! The tallies of all rules, in bounded memory.
//!
//! Who is seen once comes and goes in the order of arrival, in a tenth of the room; who is seen again moves to the rest
//! of it and leaves last. So whoever comes under ever new addresses or sessions pushes out other newcomers, but not those
//! that are near a limit or beyond one (the idea of S3-FIFO, Yang et al., SOSP 2023).
//!
//! Must never grow beyond its room, whatever comes; nor keep a key in clear. Tests: `abuse/tests.rs`.

use super::tally::{Tally, Tick};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A rule and whose attempts it counts, as a digest under the key of the process.
pub(super) type Key = [u8; 16];

/// All tallies.
pub(super) struct Table {
    shards: Vec<Mutex<Shard>>,
    /// Bytes that each shard may take.
    room: usize,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("keys", &self.len()).finish_non_exhaustive()
    }
}

/// What is kept of one key.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// What it was seen with.
    pub(super) tally: Tally,
    /// When it last was said to be beyond its limit.
    pub(super) noted: Option<Tick>,
    /// Whether it was beyond its limit when last seen.
    pub(super) hot: bool,
    last: Tick,
    within: Tick,
    size: usize,
    kept: bool,
    /// How often it is passed over when room is needed.
    credit: u8,
}

#[derive(Debug, Default)]
struct Shard {
    rows: HashMap<Key, Row>,
    /// Keys that were seen once, in the order in which they came. Each key stands in one of the two queues, once.
    fresh: VecDeque<Key>,
    /// Keys that were seen again.
    kept: VecDeque<Key>,
    used: usize,
    used_fresh: usize,
    forgotten: u64,
}

impl Table {
    /// A table that takes at most so many bytes.
    pub(super) fn new(room: usize) -> Self {
        let shards = std::iter::repeat_with(Mutex::default).take(SHARDS).collect();
        Self { shards, room: room.checked_div(SHARDS).unwrap_or_default() }
    }

    /// Works on the row of a key, which is made if it is not there. What is older than `within` is forgotten first.
    pub(super) fn with<T>(&self, key: Key, within: Tick, now: Tick, work: impl FnOnce(&mut Row) -> T) -> T {
        let mut shard = self.shard(key);
        let done = shard.touch(key, within, now, |row| {
            row.credit = if row.hot { MOST_CREDIT } else { row.credit.saturating_add(1).min(MOST_CREDIT) };
            work(row)
        });
        shard.fit(self.room, now);
        done
    }

    /// Adds to the row of a key what became of an attempt, unless it had to be forgotten meanwhile.
    pub(super) fn amend(&self, key: Key, within: Tick, now: Tick, work: impl FnOnce(&mut Row)) {
        let mut shard = self.shard(key);
        if shard.rows.contains_key(&key) {
            shard.touch(key, within, now, work);
            shard.fit(self.room, now);
        }
    }

    /// Looks at the row of a key, without having seen it.
    pub(super) fn look<T>(&self, key: Key, within: Tick, now: Tick, look: impl FnOnce(&Tally) -> T) -> T {
        match self.shard(key).rows.get_mut(&key) {
            Some(row) => {
                row.tally.forget(now, within);
                look(&row.tally)
            }
            None => look(&Tally::default()),
        }
    }

    /// How many keys are known.
    pub(super) fn len(&self) -> usize {
        self.locked().map(|shard| shard.rows.len()).sum()
    }

    /// How many keys were forgotten before their time, for want of room.
    pub(super) fn forgotten(&self) -> u64 {
        self.locked().map(|shard| shard.forgotten).sum()
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.locked()
            .map(|shard| {
                let counted: usize = shard.rows.values().map(|row| row.tally.size() + ROW).sum();
                let fresh = shard.rows.values().filter(|row| !row.kept).count();
                assert_eq!(counted, shard.used, "what is counted is what is there");
                assert_eq!(fresh, shard.fresh.len());
                assert_eq!(shard.rows.len(), shard.fresh.len() + shard.kept.len());
                counted
            })
            .sum()
    }

    fn locked(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn shard(&self, key: Key) -> MutexGuard<'_, Shard> {
        let at = usize::from(key[0]).checked_rem(self.shards.len()).unwrap_or_default();
        let shard = self.shards.get(at).or(self.shards.first());
        #[expect(clippy::expect_used, reason = "a table is made with its shards")]
        shard.expect("a shard").lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn touch<T>(&mut self, key: Key, within: Tick, now: Tick, work: impl FnOnce(&mut Row) -> T) -> T {
        let row = self.rows.entry(key).or_insert_with(|| {
            self.fresh.push_back(key);
            Row::default()
        });
        row.tally.forget(now, within);
        let done = work(row);
        (row.last, row.within) = (now, within);
        let size = row.tally.size().saturating_add(ROW);
        let before = std::mem::replace(&mut row.size, size);
        self.used = self.used.saturating_sub(before).saturating_add(size);
        if !row.kept {
            self.used_fresh = self.used_fresh.saturating_sub(before).saturating_add(size);
        }
        done
    }

    /// Makes room: newcomers first, then the oldest of those that were seen again and have no credit left.
    fn fit(&mut self, room: usize, now: Tick) {
        let mut patience = PATIENCE;
        while self.used > room {
            let share = room.checked_div(FRESH_SHARE).unwrap_or_default();
            let newcomer = self.used_fresh > share || self.kept.is_empty();
            let queue = if newcomer { &mut self.fresh } else { &mut self.kept };
            let Some(key) = queue.pop_front() else { return };
            let Some(row) = self.rows.get_mut(&key) else { continue };
            let over = now.saturating_sub(row.last) > row.within;
            let stays = !over && row.credit > u8::from(newcomer) && patience > 0;
            patience = patience.saturating_sub(1);
            if newcomer {
                self.used_fresh = self.used_fresh.saturating_sub(row.size);
            }
            if stays {
                row.credit = row.credit.saturating_sub(1);
                row.kept = true;
                self.kept.push_back(key);
            } else {
                self.used = self.used.saturating_sub(row.size);
                self.forgotten = self.forgotten.saturating_add(u64::from(!over));
                self.rows.remove(&key);
            }
        }
    }
}

/// Locks, so that workers seldom wait for each other.
const SHARDS: usize = 16;
/// Bytes of a row without its tally: the row, its key twice, and what a map and a queue keep free.
const ROW: usize = 224;
/// The part of the room that newcomers have to themselves: one in so many.
const FRESH_SHARE: usize = 10;
/// How often a key that was seen again and again is passed over.
const MOST_CREDIT: u8 = 3;
/// How many rows are passed over at most for one request.
const PATIENCE: u32 = 64;
