//! A circuit breaker for a target that does not answer: requests to it are refused at once, before the vault is asked.
//!
//! Must never stay open for good: after a while one request is let through, and its end decides. Tests: here.

use serde::Deserialize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// `[breaker]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// Failures in a row that open it: no connection, no answer in time, an answer that broke off.
    pub failures: u32,
    /// Seconds until one request is let through.
    pub open_s: u64,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures: 5, open_s: 10 }
    }
}

impl BreakerConfig {
    /// Whether it can open, and close again within an hour.
    #[must_use]
    pub fn is_sound(self) -> bool {
        self.failures >= 1 && (1..=3600).contains(&self.open_s)
    }

    const fn open(self) -> Duration {
        Duration::from_secs(self.open_s)
    }
}

/// How a target has answered.
#[derive(Debug, Default)]
pub struct Breaker(Mutex<State>);

#[derive(Debug, Clone, Copy)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Duration,
    },
    /// One request is out. If its end is not heard of by then, the next is let through.
    HalfOpen {
        until: Duration,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Breaker {
    /// Whether a request may be sent at `now`; else how long to wait.
    ///
    /// # Errors
    /// The time until one is let through.
    pub fn admit(&self, now: Duration, config: BreakerConfig) -> Result<(), Duration> {
        let mut state = self.state();
        match *state {
            State::Closed { .. } => Ok(()),
            State::Open { until } | State::HalfOpen { until } if now >= until => {
                *state = State::HalfOpen { until: now.saturating_add(config.open()) };
                Ok(())
            }
            State::Open { until } | State::HalfOpen { until } => Err(until.saturating_sub(now)),
        }
    }

    /// A request that was let through ended: with an answer, or with none.
    pub fn ended(&self, now: Duration, answered: bool, config: BreakerConfig) {
        let mut state = self.state();
        let failures = match *state {
            State::Closed { failures } => failures,
            State::HalfOpen { .. } => config.failures,
            // It was sent before the breaker opened, and says nothing about now.
            State::Open { .. } => return,
        };
        *state = if answered {
            State::Closed { failures: 0 }
        } else if failures.saturating_add(1) >= config.failures {
            State::Open { until: now.saturating_add(config.open()) }
        } else {
            State::Closed { failures: failures.saturating_add(1) }
        };
    }

    /// A request that was let through was not sent after all: another may be tried in its place. Or a client could keep it open by
    /// requests that are refused.
    pub fn unsent(&self, now: Duration) {
        let mut state = self.state();
        if matches!(*state, State::HalfOpen { .. }) {
            *state = State::Open { until: now };
        }
    }

    /// `closed`, `open` or `half-open`.
    pub fn as_str(&self) -> &'static str {
        match *self.state() {
            State::Closed { .. } => "closed",
            State::Open { .. } => "open",
            State::HalfOpen { .. } => "half-open",
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: BreakerConfig = BreakerConfig { failures: 3, open_s: 10 };

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_with_an_answer() {
        let breaker = Breaker::default();
        for answered in [false, false, true, false, false] {
            breaker.ended(at(0), answered, CONFIG);
        }
        assert_eq!(breaker.admit(at(0), CONFIG), Ok(()), "three, but not in a row");
        breaker.ended(at(0), false, CONFIG);
        assert_eq!((breaker.admit(at(4), CONFIG), breaker.as_str()), (Err(at(6)), "open"));
        assert_eq!((breaker.admit(at(10), CONFIG), breaker.as_str()), (Ok(()), "half-open"));
        assert_eq!(breaker.admit(at(11), CONFIG), Err(at(9)), "one only");
        breaker.ended(at(12), false, CONFIG);
        assert_eq!(breaker.admit(at(13), CONFIG), Err(at(9)), "open again at the first failure");
        assert_eq!(breaker.admit(at(22), CONFIG), Ok(()));
        breaker.ended(at(23), true, CONFIG);
        assert_eq!((breaker.admit(at(23), CONFIG), breaker.as_str()), (Ok(()), "closed"));
    }

    #[test]
    fn what_was_sent_before_it_opened_does_not_close_it() {
        let breaker = Breaker::default();
        for _ in 0..3 {
            breaker.ended(at(0), false, CONFIG);
        }
        breaker.ended(at(1), true, CONFIG);
        assert!(breaker.admit(at(2), CONFIG).is_err());
    }

    #[test]
    fn a_trial_that_was_not_sent_leaves_its_turn_to_the_next() {
        let breaker = Breaker::default();
        for _ in 0..3 {
            breaker.ended(at(0), false, CONFIG);
        }
        assert_eq!(breaker.admit(at(10), CONFIG), Ok(()));
        breaker.unsent(at(11));
        assert_eq!(breaker.admit(at(11), CONFIG), Ok(()));
        breaker.ended(at(12), true, CONFIG);
        breaker.unsent(at(12));
        assert_eq!((breaker.admit(at(12), CONFIG), breaker.as_str()), (Ok(()), "closed"));
    }

    #[test]
    fn a_trial_that_is_never_heard_of_again_does_not_keep_it_open() {
        let breaker = Breaker::default();
        for _ in 0..3 {
            breaker.ended(at(0), false, CONFIG);
        }
        assert_eq!(breaker.admit(at(10), CONFIG), Ok(()));
        assert_eq!(breaker.admit(at(20), CONFIG), Ok(()));
    }
}
