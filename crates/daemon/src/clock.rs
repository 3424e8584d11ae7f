//! The clock: wall time for records, monotonic time for lifetimes.
//!
//! It must never derive a lifetime from wall time, which an operator or an attacker can move (PCI DSS 10.6). Tests: at the
//! end of this file.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// Wall time, UTC.
    fn now(&self) -> Timestamp;
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
}

/// The system's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    pub fn new() -> SystemClock {
        SystemClock { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that is moved by hand: for tests and for simulations.
#[derive(Debug)]
pub struct ManualClock {
    time: Mutex<(Timestamp, Duration)>,
}

impl ManualClock {
    /// A clock that stands at `now`, with its monotonic time at zero.
    pub fn at(now: Timestamp) -> ManualClock {
        ManualClock { time: Mutex::new((now, Duration::ZERO)) }
    }

    /// Lets time pass on both clocks. Wall time stops at the end of what a timestamp can say.
    pub fn advance(&self, by: Duration) {
        let mut time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        let step = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
        *time = (time.0.saturating_add(step).unwrap_or(Timestamp::MAX), time.1.saturating_add(by));
    }

    /// Moves the wall clock alone, as an operator or a bad time source does.
    pub fn step_wall(&self, to: Timestamp) {
        self.time.lock().unwrap_or_else(PoisonError::into_inner).0 = to;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.time.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn monotonic(&self) -> Duration {
        self.time.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_does_not_go_back() {
        let clock = SystemClock::new();
        let first = clock.monotonic();
        assert!(clock.monotonic() >= first);
    }

    #[test]
    fn a_step_of_the_wall_clock_leaves_monotonic_time_alone() {
        let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
        clock.advance(Duration::from_secs(5));
        assert_eq!(clock.now().as_second(), 5);
        clock.step_wall(Timestamp::UNIX_EPOCH);
        assert_eq!((clock.now().as_second(), clock.monotonic()), (0, Duration::from_secs(5)));
    }
}
