//! Where calls meet their limits: before anything is read, and after misses are known.
//!
//! Must never look at whether a card is known before it counts it. Tests: `tests/tests/limits.rs`.

use super::{Caller, Vault};
use crate::error::VaultError;
use crate::fingerprint::Fingerprint;
use crate::limits::{Kind, Limits};
use crate::store::{CollectionId, Store};
use cordon_card::Pan;
use cordon_wire::{ItemResult, ProblemCode};
use std::sync::{MutexGuard, PoisonError};

impl<S: Store> Vault<S> {
    /// Counts what a caller asks for.
    ///
    /// # Errors
    /// [`VaultError::Limited`].
    pub(super) fn spend(&self, kind: Kind, caller: &Caller, count: usize) -> Result<(), VaultError> {
        let now = self.clock.monotonic();
        self.limits().spend(kind, caller.who.as_str(), count, now).map_err(VaultError::Limited)
    }

    /// Counts a card number in its range.
    ///
    /// # Errors
    /// [`ProblemCode::LimitReached`] for the item.
    pub(super) fn admit(
        &self,
        collection: CollectionId,
        pan: &Pan,
        fingerprint: &Fingerprint,
    ) -> Result<(), ProblemCode> {
        let now = self.clock.monotonic();
        let admitted = self.limits().admit(collection, pan, fingerprint, now);
        admitted.map_err(|reached| {
            self.metrics.limited(reached.kind, 1);
            ProblemCode::LimitReached
        })
    }

    /// Refuses who named too many tokens that do not exist.
    ///
    /// # Errors
    /// [`VaultError::Limited`].
    pub(super) fn check_misses(&self, who: &str) -> Result<(), VaultError> {
        let now = self.clock.monotonic();
        self.limits().check_misses(who, now).map_err(VaultError::Limited)
    }

    /// Counts the tokens of an answer that do not exist for this caller.
    pub(super) fn count_misses<T>(&self, who: &str, answers: &[ItemResult<T>]) {
        let missed = |answer: &&ItemResult<T>| matches!(answer, ItemResult::Error(problem) if problem.code == ProblemCode::TokenNotFound);
        let misses = answers.iter().filter(missed).count();
        if misses > 0 {
            let now = self.clock.monotonic();
            self.limits().add_misses(who, misses, now);
        }
    }

    fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
