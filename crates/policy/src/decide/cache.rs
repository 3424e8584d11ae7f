//! Decisions already taken. They depend on declared names and two booleans only, and live as long as their bundle.
//!
//! Must never grow past its bound, and never answer for a decision that looked at anything else.
//! Tests: here and `crates/policy/tests/bundle/decisions.rs`.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use super::{Evaluated, RefusalKind};
use crate::action::ActionKind;

/// All that a cached decision depends on; numbers are places in the bundle's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(super) kind: ActionKind,
    pub(super) principal: usize,
    pub(super) collection: Option<usize>,
    pub(super) destination: Option<usize>,
    pub(super) acted_for: Option<usize>,
    pub(super) route: Option<usize>,
    pub(super) purpose: Option<usize>,
    pub(super) mtls: bool,
    pub(super) from_own_segment: bool,
}

/// A decision.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    Allowed(Arc<[Arc<str>]>),
    Refused(RefusalKind),
}

impl From<Evaluated> for Verdict {
    fn from(evaluated: Evaluated) -> Self {
        match evaluated {
            Evaluated::Allowed(statements) => Self::Allowed(statements.into()),
            Evaluated::Denied(statements) if statements.is_empty() => Self::Refused(RefusalKind::NoStatement),
            Evaluated::Denied(statements) => Self::Refused(RefusalKind::Forbidden { statements }),
            Evaluated::Broken(statements) => Self::Refused(RefusalKind::EvaluationError { statements }),
        }
    }
}

/// A bounded map. When it is full, further decisions are taken anew each time.
#[derive(Debug, Default)]
pub(super) struct Cache(RwLock<HashMap<Key, Verdict>>);

impl Cache {
    /// The decision, if it was taken before.
    pub(super) fn get(&self, key: &Key) -> Option<Verdict> {
        // A poisoned lock is a miss: the decision is taken anew.
        self.0.read().ok()?.get(key).cloned()
    }

    /// Keeps a decision while there is room.
    pub(super) fn insert(&self, key: Key, verdict: &Verdict) {
        if let Ok(mut map) = self.0.write()
            && map.len() < MAX_ENTRIES
        {
            map.insert(key, verdict.clone());
        }
    }
}

/// Decisions kept. An entry is about 200 bytes, so a full cache is about 2 MB.
const MAX_ENTRIES: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(principal: usize) -> Key {
        Key {
            kind: ActionKind::Send,
            principal,
            collection: None,
            destination: None,
            acted_for: None,
            route: None,
            purpose: None,
            mtls: true,
            from_own_segment: true,
        }
    }

    #[test]
    fn a_full_cache_takes_no_more_and_keeps_what_it_has() {
        let cache = Cache::default();
        for principal in 0..MAX_ENTRIES + 5 {
            cache.insert(key(principal), &Verdict::Refused(RefusalKind::NoStatement));
        }
        assert_eq!(cache.0.read().unwrap().len(), MAX_ENTRIES);
        assert!(cache.get(&key(0)).is_some());
        assert!(cache.get(&key(MAX_ENTRIES)).is_none());
    }

    #[test]
    fn a_decision_for_one_caller_answers_for_no_other() {
        let cache = Cache::default();
        cache.insert(key(1), &Verdict::Allowed(Arc::from([Arc::from("id")])));
        assert!(cache.get(&key(2)).is_none());
        assert!(cache.get(&Key { mtls: false, ..key(1) }).is_none());
        assert!(cache.get(&Key { from_own_segment: false, ..key(1) }).is_none());
        assert!(matches!(cache.get(&key(1)), Some(Verdict::Allowed(_))));
    }
}
