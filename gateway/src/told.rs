//! What a caller is told beside the answer: the upstream's status, whether the answer is the gateway's own, and where
//! the time went.
//!
//! Must never tell a client outside how long the vault took, unless its route says so: from many such figures it could
//! be read what the vault did. Tests: here, and `tests/tests/told.rs`.

use crate::ledger::Way;
use cordon_wire::UPSTREAM_STATUS;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

/// What is known of one request so far.
#[derive(Debug, Default)]
pub struct Told {
    /// The upstream's status; 0 while there is none.
    status: AtomicU16,
    /// Microseconds.
    vault: AtomicU64,
    /// Microseconds.
    upstream: AtomicU64,
}

impl Told {
    /// The head of an upstream's answer is there, or one that was kept is given again.
    pub fn answered(&self, status: u16) {
        self.status.store(status, Ordering::Release);
    }

    /// Whether it is.
    #[must_use]
    pub fn was_answered(&self) -> bool {
        self.status.load(Ordering::Acquire) != 0
    }

    /// A call to the vault took so long.
    pub fn vault_took(&self, time: Duration) {
        self.vault.fetch_add(micros(time), Ordering::Relaxed);
    }

    /// So did the upstream, from the connection to the end of its answer.
    pub fn upstream_took(&self, time: Duration) {
        self.upstream.fetch_add(micros(time), Ordering::Relaxed);
    }

    /// Adds what this caller may know to the headers of its answer.
    pub fn tell(&self, way: Way<'_>, total: Duration, headers: &mut HeaderMap) {
        let (to_service, timings) = match way {
            Way::In(plan) => (false, plan.route.timings),
            Way::UnknownIn => (false, false),
            Way::Out(_) | Way::UnknownOut => (true, true),
        };
        if to_service && self.was_answered() {
            let status = self.status.load(Ordering::Acquire);
            headers.insert(UPSTREAM_STATUS, HeaderValue::from(status));
        }
        if timings && let Ok(value) = HeaderValue::try_from(self.timings(total)) {
            headers.insert(SERVER_TIMING, value);
        }
    }

    /// Parts that took no time did not happen.
    fn timings(&self, total: Duration) -> String {
        let parts = [
            ("vault", self.vault.load(Ordering::Relaxed)),
            ("upstream", self.upstream.load(Ordering::Relaxed)),
            ("total", micros(total).max(1)),
        ];
        let happened = parts.into_iter().filter(|(_, micros)| *micros > 0);
        let written =
            happened.map(|(name, micros)| format!("{name};dur={}.{:03}", micros / 1000, micros % 1000));
        written.collect::<Vec<_>>().join(", ")
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// W3C Server Timing; durations in milliseconds.
pub const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

#[cfg(test)]
mod tests {
    use super::*;

    fn told(way: Way<'_>) -> HeaderMap {
        let told = Told::default();
        told.answered(402);
        told.vault_took(Duration::from_micros(1_500));
        told.vault_took(Duration::from_micros(42));
        let mut headers = HeaderMap::new();
        told.tell(way, Duration::from_millis(12), &mut headers);
        headers
    }

    #[test]
    fn a_service_is_told_status_and_times() {
        let headers = told(Way::UnknownOut);
        assert_eq!(headers.get("cordon-upstream-status").unwrap(), "402");
        assert_eq!(headers.get("server-timing").unwrap(), "vault;dur=1.542, total;dur=12.000");
    }

    #[test]
    fn a_client_outside_is_told_neither() {
        assert_eq!(told(Way::UnknownIn), HeaderMap::new());
    }

    #[test]
    fn without_an_answer_there_is_no_status() {
        let mut headers = HeaderMap::new();
        Told::default().tell(Way::UnknownOut, Duration::ZERO, &mut headers);
        assert_eq!(headers.get("cordon-upstream-status"), None);
        assert_eq!(headers.get("server-timing").unwrap(), "total;dur=0.001");
    }
}
