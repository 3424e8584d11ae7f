//! Whether the log takes a line now: not while the disk is stuck, nearly full, or a required copy elsewhere is behind.
//!
//! It must never let a data call through while one of these is unknown to be over. Tests: at the end of this file,
//! `writer/tests.rs`, and `tests/tests/audit_limits.rs`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::AuditError;
use crate::event::Action;

/// What stands in the way, as the keeper last saw it.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Lines queued since the log was opened.
    pub(crate) submitted: AtomicU64,
    /// Queued lines do not become durable.
    pub(crate) stalled: AtomicBool,
    /// The reserved space is touched.
    pub(crate) low_on_space: AtomicBool,
    /// A required sink is late.
    pub(crate) sink_behind: AtomicBool,
    /// Tiles cannot be written; proofs are made of lines meanwhile.
    pub(crate) tiles_failed: AtomicBool,
}

impl Gate {
    pub(crate) fn admits(&self, action: Action) -> Result<(), AuditError> {
        if self.stalled.load(Ordering::Relaxed) {
            return Err(AuditError::Stalled);
        }
        if self.low_on_space.load(Ordering::Relaxed) && action.is_a_data_call() {
            return Err(AuditError::Space);
        }
        if self.sink_behind.load(Ordering::Relaxed) && !action.is_of_the_process() {
            return Err(AuditError::SinkBehind);
        }
        Ok(())
    }
}

/// Whether queued lines become durable.
#[derive(Debug)]
pub(crate) struct Progress {
    base: u64,
    size: u64,
    since: Instant,
}

impl Progress {
    /// From a log of `size` lines on.
    pub(crate) fn new(size: u64, now: Instant) -> Progress {
        Progress { base: size, size, since: now }
    }

    /// Whether lines have waited for [`PATIENCE`] without one becoming durable.
    pub(crate) fn is_stuck(&mut self, submitted: u64, size: u64, now: Instant) -> bool {
        let durable = size.saturating_sub(self.base);
        if size != self.size || submitted <= durable {
            self.size = size;
            self.since = now;
        }
        now.saturating_duration_since(self.since) >= PATIENCE
    }
}

/// How long a caller waits for its line; then it is refused, whatever becomes of the line.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_stuck_when_lines_wait_and_none_becomes_durable() {
        let start = Instant::now();
        let mut progress = Progress::new(100, start);
        assert!(!progress.is_stuck(0, 100, start + PATIENCE * 9), "nothing waits");
        let began = start + PATIENCE * 9;
        assert!(!progress.is_stuck(3, 100, began + PATIENCE / 2));
        assert!(!progress.is_stuck(9, 101, began + PATIENCE), "it moves");
        assert!(progress.is_stuck(9, 101, began + PATIENCE * 2));
        assert!(!progress.is_stuck(9, 109, began + PATIENCE * 3), "it has caught up");
    }

    #[test]
    fn little_space_refuses_data_calls_and_leaves_room_for_the_rest() {
        let gate = Gate::default();
        gate.low_on_space.store(true, Ordering::Relaxed);
        for action in [Action::Detokenize, Action::Tokenize, Action::Send, Action::Forward, Action::Lookup] {
            assert!(matches!(gate.admits(action), Err(AuditError::Space)), "{action:?}");
        }
        for action in
            [Action::Seal, Action::KeyRotate, Action::KeyDestroy, Action::Authenticate, Action::Stop]
        {
            assert!(gate.admits(action).is_ok(), "{action:?}");
        }
    }

    #[test]
    fn a_stuck_disk_refuses_everything_at_once() {
        let gate = Gate::default();
        gate.stalled.store(true, Ordering::Relaxed);
        assert!(matches!(gate.admits(Action::Stop), Err(AuditError::Stalled)));
    }
}
