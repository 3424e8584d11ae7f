//! How fast a run moves records just now: as fast as it may while commits are quick, and slower while they are not, so that
//! whoever waits for the same disk and the same writer does not wait for the run.
//!
//! Must never stop a run: under any load it goes on at its floor. No I/O and no clock. Tests: below.

use std::time::Duration;

/// The pace of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Records a second that an operator allowed.
    most: u32,
    /// Records a second now.
    rate: u32,
    /// How long a commit takes when nobody else wants the disk.
    quick: Duration,
}

impl Pace {
    /// The pace at the beginning of a run: half of what is allowed, until commits were seen.
    #[must_use]
    pub fn new(most: u32) -> Pace {
        Pace { most: most.max(1), rate: (most / 2).max(1), quick: Duration::MAX }
    }

    /// The pace of a run for which another rate was set.
    #[must_use]
    pub fn up_to(self, most: u32) -> Pace {
        if most == self.most { self } else { Pace::new(most) }
    }

    /// Takes note of how long the commit of a page took.
    pub fn committed(&mut self, took: Duration) {
        // A disk that is slower for good becomes the usual one, in minutes.
        self.quick = took.min(self.quick.saturating_add(self.quick / FORGET));
        if took > self.quick.saturating_mul(SLOW) {
            self.rate = (self.rate / 2).max(self.floor());
        } else {
            self.rate = self.rate.saturating_add((self.most / STEPS).max(1)).min(self.most);
        }
    }

    /// Records of one page: what is moved in a hundredth of a second, so that a page is no burst.
    #[must_use]
    pub fn page(&self) -> usize {
        usize::try_from(self.rate / 100).unwrap_or(LARGEST_PAGE).clamp(1, LARGEST_PAGE)
    }

    /// How long a page of so many records should take with the pause after it.
    #[must_use]
    pub fn due(&self, records: usize) -> Duration {
        Duration::from_secs(u64::try_from(records).unwrap_or(u64::MAX)) / self.rate.max(1)
    }

    /// What a run never goes below.
    fn floor(&self) -> u32 {
        (self.most / FLOOR).max(1)
    }
}

/// A commit that takes more than so many quick ones has others to wait for.
const SLOW: u32 = 3;
/// An eighth of what is allowed: a run takes eight times as long at worst.
const FLOOR: u32 = 8;
/// Commits until a run that gave way is fast again.
const STEPS: u32 = 32;
/// The part by which the quickest commit known gets longer with each one.
const FORGET: u32 = 2_048;
/// More rows in one commit would hold up the writer.
const LARGEST_PAGE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUICK: Duration = Duration::from_micros(400);

    fn after(mut pace: Pace, took: Duration, commits: u32) -> Pace {
        (0..commits).for_each(|_| pace.committed(took));
        pace
    }

    #[test]
    fn it_is_as_fast_as_allowed_while_commits_are_quick() {
        let pace = after(Pace::new(5_000), QUICK, 17);
        assert_eq!((pace.rate, pace.page(), pace.due(50)), (5_000, 50, Duration::from_millis(10)));
    }

    #[test]
    fn it_gives_way_at_once_and_comes_back_slowly() {
        let full = after(Pace::new(5_000), QUICK, 32);
        let slow = after(full, QUICK * 4, 3);
        assert_eq!(slow.rate, 625, "half, a quarter, an eighth");
        assert!(after(slow, QUICK, 20).rate < 5_000);
        assert_eq!(after(slow, QUICK, 32).rate, 5_000);
        assert_eq!(after(full, QUICK * 2, 100).rate, 5_000, "no more than usual");
    }

    #[test]
    fn under_constant_load_it_goes_on_at_its_floor() {
        let slow = after(after(Pace::new(5_000), QUICK, 8), QUICK * 20, 500);
        assert_eq!((slow.rate, slow.page()), (625, 6));
        assert_eq!(after(after(Pace::new(1), QUICK, 8), QUICK * 20, 500).rate, 1);
    }

    #[test]
    fn a_disk_that_is_slower_for_good_becomes_the_usual_one() {
        assert_eq!(after(after(Pace::new(5_000), QUICK, 8), QUICK * 4, 10_000).rate, 5_000);
    }

    #[test]
    fn another_rate_begins_anew() {
        let pace = after(Pace::new(5_000), QUICK, 32);
        assert_eq!(pace.up_to(5_000), pace);
        assert_eq!(pace.up_to(100).rate, 50);
    }

    proptest! {
        #[test]
        fn it_stays_between_its_floor_and_what_is_allowed(
            most in 1_u32..1_000_000,
            commits in proptest::collection::vec(0_u64..10_000_000, 0..200),
        ) {
            let mut pace = Pace::new(most);
            for took in commits {
                pace.committed(Duration::from_micros(took));
                prop_assert!(pace.rate >= pace.floor() && pace.rate <= most);
                prop_assert!(pace.page() >= 1 && pace.page() <= LARGEST_PAGE);
                prop_assert!(pace.due(1) <= Duration::from_secs(1));
            }
        }
    }
}
