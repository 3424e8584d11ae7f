//! Asking once more: which requests may be, and how often.
//!
//! Must never repeat what may have had an effect, nor add more than a tenth to what a target in trouble gets.
//! Tests: here, and `upstream/tests.rs`.

use http::Method;
use std::sync::atomic::{AtomicU32, Ordering};

/// Whether a request may be sent twice without an effect of its own (RFC 9110 section 9.2.2).
pub(crate) fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE].contains(method)
}

/// What a target has left of repeated requests, in tenths of one.
#[derive(Debug)]
pub(super) struct Budget(AtomicU32);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicU32::new(MOST))
    }
}

impl Budget {
    /// A request was sent for the first time.
    pub(super) fn earn(&self) {
        let _full = self.0.try_update(Ordering::Relaxed, Ordering::Relaxed, |tenths| {
            (tenths < MOST).then(|| tenths.saturating_add(1))
        });
    }

    /// Takes one repeated request, if there is one left.
    pub(super) fn spend(&self) -> bool {
        self.0.try_update(Ordering::Relaxed, Ordering::Relaxed, |tenths| tenths.checked_sub(ONE)).is_ok()
    }
}

const ONE: u32 = 10;
/// Ten requests: a connection pool that went stale must not exhaust it.
const MOST: u32 = 10 * ONE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_without_an_effect_of_their_own_are_repeated() {
        for (method, may) in [
            ("GET", true),
            ("PUT", true),
            ("DELETE", true),
            ("POST", false),
            ("PATCH", false),
            ("get", false),
        ] {
            assert_eq!(is_idempotent(&Method::from_bytes(method.as_bytes()).unwrap()), may, "{method}");
        }
    }

    #[test]
    fn no_more_than_a_tenth_is_repeated() {
        let budget = Budget::default();
        assert_eq!((0..50).filter(|_| budget.spend()).count(), 10);
        let mut repeated = 0;
        for _ in 0..1000 {
            budget.earn();
            repeated += u32::from(budget.spend());
        }
        assert_eq!(repeated, 100);
    }
}
