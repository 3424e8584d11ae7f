//! How much one caller may ask, and how many card numbers of one range anybody may: counted in memory, for a window.
//!
//! Must never count a known card in another way than a new one, nor keep a card number: a range is a slot of a table under
//! a key of this process, a number is one bit in it. Time is monotonic and passed in. `docs/oracles.md` says what each
//! limit is against. Tests: at the end of this file and `tests/tests/limits.rs`.
//!
//! No rate-limiting crate: telling distinct numbers apart without keeping them needs a table of its own, and beside it
//! the rest is one counter.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use cordon_card::Pan;
use serde::Deserialize;

use crate::fingerprint::Fingerprint;
use crate::store::CollectionId;

/// The bounds, as `vault.toml` has them under `[limits]`. 0 turns a limit off.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Cards that one client may tokenize in a second.
    pub cards_per_second: u64,
    /// Cards that one client may look up in a minute; also the most that one call may hold.
    pub lookups_per_minute: u64,
    /// Card numbers that one gateway may ask about in a minute, to tell leaks from look-alikes.
    pub recognitions_per_minute: u64,
    /// Different card numbers with one issuer number and one last four that a collection takes in a window.
    pub cards_per_range: u64,
    /// That window, in seconds.
    pub range_window_s: u64,
    /// Memory for telling them apart, in MiB.
    pub range_memory_mib: usize,
    /// Tokens that do not exist that one client, or one service it acts for, may name in a window.
    pub misses: u64,
    /// That window, in seconds.
    pub miss_window_s: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            cards_per_second: 100_000,
            lookups_per_minute: 300,
            recognitions_per_minute: 3_000,
            cards_per_range: 100,
            range_window_s: 24 * 60 * 60,
            range_memory_mib: 16,
            misses: 100,
            miss_window_s: 5 * 60,
        }
    }
}

impl LimitsConfig {
    /// What cannot be as it is written, one line each.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.cards_per_range > MOST_PER_RANGE {
            faults.push(format!(
                "limits.cards_per_range must be at most {MOST_PER_RANGE}: more can't be told apart"
            ));
        }
        for (name, seconds) in
            [("range_window_s", self.range_window_s), ("miss_window_s", self.miss_window_s)]
        {
            if !(1..=LONGEST_WINDOW_S).contains(&seconds) {
                faults.push(format!("limits.{name} must be from 1 to {LONGEST_WINDOW_S}"));
            }
        }
        if !(1..=MOST_MEMORY_MIB).contains(&self.range_memory_mib) {
            faults.push(format!("limits.range_memory_mib must be from 1 to {MOST_MEMORY_MIB}"));
        }
        faults
    }
}

/// What a client's calls are counted under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Cards tokenized.
    Cards,
    /// Cards looked up.
    Lookups,
    /// Numbers asked about by a gateway.
    Recognitions,
    /// Tokens named that do not exist.
    Misses,
    /// Card numbers of one range.
    Range,
}

impl Kind {
    /// Its name in audit lines and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cards => "limit-reached.cards",
            Self::Lookups => "limit-reached.lookups",
            Self::Recognitions => "limit-reached.recognitions",
            Self::Misses => "limit-reached.misses",
            Self::Range => "limit-reached.range",
        }
    }
}

/// A limit is reached: which, and after what time it is not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Which one.
    pub kind: Kind,
    /// What is left of its window.
    pub wait: Duration,
}

/// The counters.
pub struct Limits {
    config: LimitsConfig,
    /// Names come from the policy bundle, so there are few.
    clients: BTreeMap<(Kind, String), Window>,
    ranges: Ranges,
}

impl Limits {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(config: LimitsConfig) -> Self {
        let ranges = Ranges::new(&config);
        Self { config, clients: BTreeMap::new(), ranges }
    }

    /// Counts what a client asks for, all of it or nothing.
    ///
    /// # Errors
    /// [`Reached`]: the call is to be refused.
    pub fn spend(&mut self, kind: Kind, client: &str, count: usize, now: Duration) -> Result<(), Reached> {
        let (limit, length) = self.bound(kind);
        let window = self.window(kind, client, length, now);
        let used = window.used.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        if limit > 0 && used > limit {
            return Err(Reached { kind, wait: window.left(length, now) });
        }
        window.used = used;
        Ok(())
    }

    /// Refuses a client that has used up its misses.
    ///
    /// # Errors
    /// [`Reached`]: the call is to be refused.
    pub fn check_misses(&mut self, client: &str, now: Duration) -> Result<(), Reached> {
        let (limit, length) = self.bound(Kind::Misses);
        let window = self.window(Kind::Misses, client, length, now);
        if limit > 0 && window.used >= limit {
            return Err(Reached { kind: Kind::Misses, wait: window.left(length, now) });
        }
        Ok(())
    }

    /// Counts misses of a call that was answered.
    pub fn add_misses(&mut self, client: &str, count: usize, now: Duration) {
        let (_limit, length) = self.bound(Kind::Misses);
        let window = self.window(Kind::Misses, client, length, now);
        window.used = window.used.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Counts a card number in its range. Once the range is used up every number of it is refused, those that were
    /// counted before too: who is refused and who is not would tell them apart.
    ///
    /// # Errors
    /// [`Reached`]: the item is to be refused.
    pub fn admit(
        &mut self,
        collection: CollectionId,
        pan: &Pan,
        fingerprint: &Fingerprint,
        now: Duration,
    ) -> Result<(), Reached> {
        if self.config.cards_per_range == 0 {
            return Ok(());
        }
        self.ranges.admit(collection, pan, fingerprint, now)
    }

    const fn bound(&self, kind: Kind) -> (u64, Duration) {
        match kind {
            Kind::Cards => (self.config.cards_per_second, Duration::from_secs(1)),
            Kind::Lookups => (self.config.lookups_per_minute, Duration::from_secs(60)),
            Kind::Recognitions => (self.config.recognitions_per_minute, Duration::from_secs(60)),
            Kind::Misses => (self.config.misses, Duration::from_secs(self.config.miss_window_s)),
            Kind::Range => (self.config.cards_per_range, Duration::from_secs(self.config.range_window_s)),
        }
    }

    fn window(&mut self, kind: Kind, client: &str, length: Duration, now: Duration) -> &mut Window {
        let window = self.clients.entry((kind, client.to_owned())).or_insert(Window { since: now, used: 0 });
        if now.saturating_sub(window.since) >= length {
            *window = Window { since: now, used: 0 };
        }
        window
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").field("config", &self.config).finish_non_exhaustive()
    }
}

struct Window {
    since: Duration,
    used: u64,
}

impl Window {
    fn left(&self, length: Duration, now: Duration) -> Duration {
        self.since.saturating_add(length).saturating_sub(now)
    }
}

/// Counts different numbers per range by linear counting: each number sets one of 128 bits of its range's slot, and the
/// number of bits tells how many there were, to about a tenth. Ranges that share a slot are counted together, so that the
/// memory is fixed and the error is on the safe side.
struct Ranges {
    slots: Vec<u128>,
    /// Bits of a slot at which its range is used up.
    full: u32,
    since: Duration,
    length: Duration,
    /// Keys that die with the process: who sees the table cannot look a number up in it.
    hash: RandomState,
}

impl Ranges {
    fn new(config: &LimitsConfig) -> Self {
        let memory = config.range_memory_mib.clamp(1, MOST_MEMORY_MIB).saturating_mul(1024 * 1024);
        Self {
            slots: vec![0; memory / size_of::<u128>()],
            full: bits_after(config.cards_per_range.min(MOST_PER_RANGE)),
            since: Duration::ZERO,
            length: Duration::from_secs(config.range_window_s),
            hash: RandomState::new(),
        }
    }

    fn admit(
        &mut self,
        collection: CollectionId,
        pan: &Pan,
        fingerprint: &Fingerprint,
        now: Duration,
    ) -> Result<(), Reached> {
        if now.saturating_sub(self.since) >= self.length {
            self.slots.fill(0);
            self.since = now;
        }
        let slots = u64::try_from(self.slots.len()).unwrap_or(1).max(1);
        let range = self.hash.hash_one((collection, issuer(pan), pan.last_four().as_str()));
        let bit = 1_u128 << (self.hash.hash_one(fingerprint) % BITS);
        let Some(slot) =
            usize::try_from(range % slots).ok().and_then(|position| self.slots.get_mut(position))
        else {
            return Ok(());
        };
        if slot.count_ones() >= self.full {
            let wait = self.since.saturating_add(self.length).saturating_sub(now);
            return Err(Reached { kind: Kind::Range, wait });
        }
        *slot |= bit;
        Ok(())
    }
}

/// The digits that may be known beside the last four (PCI DSS FAQ 1091): eight, and six of a shorter number, so that
/// what is left to guess is far more than a range may take.
fn issuer(pan: &Pan) -> &str {
    let digits = pan.expose();
    let known = if digits.len() >= 16 { 8 } else { 6 };
    digits.get(..known).unwrap_or(digits)
}

/// How many of 128 bits are set, on average, after so many different numbers. In 32-bit fixed point.
fn bits_after(numbers: u64) -> u32 {
    let full = BITS << 32;
    let filled = (0..numbers).fold(0_u64, |filled, _| filled + (full - filled) / BITS);
    u32::try_from((filled + (1 << 31)) >> 32).unwrap_or(u32::MAX).max(1)
}

const BITS: u64 = 128;
/// With more, the count of 128 bits says little.
const MOST_PER_RANGE: u64 = 400;
const MOST_MEMORY_MIB: usize = 1024;
/// Thirty days.
const LONGEST_WINDOW_S: u64 = 30 * 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    const C: CollectionId = CollectionId(1);
    const NOON: Duration = Duration::from_secs(43_200);

    fn limits(change: impl FnOnce(&mut LimitsConfig)) -> Limits {
        let mut config = LimitsConfig { range_memory_mib: 1, ..LimitsConfig::default() };
        change(&mut config);
        Limits::new(config)
    }

    /// Sale-day numbers: few issuers, every last four, each range a few times.
    fn of_a_sale_day() -> impl Iterator<Item = Pan> {
        (0..200_000_u32)
            .map(|n| format!("42424{:03}{:05}00", n % 1_000, n / 1_000))
            .flat_map(|body| (0..10).map(move |check| format!("{body}{check}")))
            .filter_map(|text| Pan::parse(&text).ok())
    }

    fn fingerprint(n: u64) -> Fingerprint {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        Fingerprint::from_bytes(bytes)
    }

    fn visa(text: &str) -> Pan {
        Pan::parse(text).unwrap()
    }

    #[test]
    fn a_client_is_refused_over_its_limit_until_the_window_ends() {
        let mut limits = limits(|config| config.lookups_per_minute = 10);
        assert_eq!(limits.spend(Kind::Lookups, "a", 7, NOON), Ok(()));
        let refused = limits.spend(Kind::Lookups, "a", 4, NOON + Duration::from_secs(20)).unwrap_err();
        assert_eq!(refused, Reached { kind: Kind::Lookups, wait: Duration::from_secs(40) });
        assert_eq!(limits.spend(Kind::Lookups, "a", 3, NOON), Ok(()), "a refused call uses nothing up");
        assert_eq!(limits.spend(Kind::Lookups, "b", 10, NOON), Ok(()), "others are not affected");
        assert_eq!(limits.spend(Kind::Cards, "a", 10, NOON), Ok(()));
        assert_eq!(limits.spend(Kind::Lookups, "a", 10, NOON + Duration::from_secs(60)), Ok(()));
    }

    #[test]
    fn misses_lock_their_client_alone_and_for_a_time() {
        let mut limits = limits(|config| config.misses = 20);
        limits.add_misses("a", 19, NOON);
        assert_eq!(limits.check_misses("a", NOON), Ok(()));
        limits.add_misses("a", 1, NOON);
        assert_eq!(limits.check_misses("a", NOON).unwrap_err().wait, Duration::from_secs(300));
        assert_eq!(limits.check_misses("b", NOON), Ok(()));
        assert_eq!(limits.check_misses("a", NOON + Duration::from_secs(300)), Ok(()));
    }

    #[test]
    fn about_as_many_numbers_of_a_range_pass_as_are_allowed_and_then_none() {
        let pan = visa("4242424242424242");
        for wanted in [20_u64, 100, 400] {
            let mut limits = limits(|config| config.cards_per_range = wanted);
            let passed = (0..2_000).filter(|n| limits.admit(C, &pan, &fingerprint(*n), NOON).is_ok()).count();
            let allowed = u64::try_from(passed).unwrap();
            assert!((wanted * 6 / 10..=wanted * 15 / 10).contains(&allowed), "{allowed} of {wanted}");
            // Those that passed are refused too now.
            assert!((0..2_000).all(|n| limits.admit(C, &pan, &fingerprint(n), NOON).is_err()));
            // Other ranges and collections are not affected, and a new window begins from nothing.
            assert!(limits.admit(C, &visa("4000056655665556"), &fingerprint(1), NOON).is_ok());
            assert!(limits.admit(CollectionId(2), &pan, &fingerprint(1), NOON).is_ok());
            let tomorrow = NOON + Duration::from_secs(24 * 60 * 60);
            assert!(limits.admit(C, &pan, &fingerprint(1), tomorrow).is_ok());
        }
    }

    #[test]
    fn one_number_again_and_again_uses_nothing_up() {
        let mut limits = limits(|config| config.cards_per_range = 20);
        let pan = visa("4242424242424242");
        assert!((0..10_000).all(|_| limits.admit(C, &pan, &fingerprint(7), NOON).is_ok()));
    }

    #[test]
    fn a_range_is_issuer_and_last_four() {
        assert_eq!(issuer(&visa("4242424242424242")), "42424242");
        assert_eq!(issuer(&visa("378282246310005")), "378282");
        assert_eq!(issuer(&visa("4222222222222")), "422222");
    }

    #[test]
    fn numbers_spread_over_many_ranges_are_not_refused() {
        let mut limits = limits(|_| {});
        let mut fingerprints = 0..;
        let refused = of_a_sale_day()
            .filter(|pan| {
                let n = fingerprints.next().unwrap_or_default();
                limits.admit(C, pan, &fingerprint(n), NOON).is_err()
            })
            .count();
        assert_eq!(refused, 0);
    }

    #[test]
    fn a_limit_of_nothing_is_no_limit() {
        let mut limits = limits(|config| {
            (config.cards_per_range, config.misses, config.lookups_per_minute) = (0, 0, 0);
        });
        limits.add_misses("a", 1_000, NOON);
        assert!(limits.check_misses("a", NOON).is_ok());
        assert!(limits.spend(Kind::Lookups, "a", 1_000_000, NOON).is_ok());
        let pan = visa("4242424242424242");
        assert!((0..10_000).all(|n| limits.admit(C, &pan, &fingerprint(n), NOON).is_ok()));
    }

    #[test]
    fn bounds_that_cannot_be_kept_are_faults() {
        let config = LimitsConfig {
            cards_per_range: 401,
            range_window_s: 0,
            miss_window_s: LONGEST_WINDOW_S + 1,
            range_memory_mib: 0,
            ..LimitsConfig::default()
        };
        assert_eq!(config.faults().len(), 4);
        assert!(LimitsConfig::default().faults().is_empty());
        assert_eq!((bits_after(0), bits_after(100), bits_after(400)), (1, 70, 122));
    }
}
