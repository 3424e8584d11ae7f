//! Reserving uses of data keys, and telling the operator which keys are near or past a limit (PCI DSS 3.7.4).
//!
//! Must never let a reserved block be used before its keyring is durable, and never stop a key without having warned.
//! Tests: `keyring/tests/limits.rs`, `tests/tests/key_states.rs`.

use super::administer::{KEYRING, keyring_error};
use super::{Caller, Vault};
use crate::error::VaultError;
use crate::keyring::{BLOCK, KeyState, KeyringError, Unlocked};
use crate::store::Store;
use cordon_audit::{Action, Event, Outcome};
use cordon_wire::ProblemCode;
use jiff::SignedDuration;
use std::sync::atomic::Ordering;

impl<S: Store> Vault<S> {
    /// Reserves what data keys need before a keyring that was just opened is used. What an earlier process reserved and
    /// did not use is lost to the budget.
    pub(super) async fn reserve_uses(&self, keys: Unlocked) -> Result<Unlocked, VaultError> {
        self.latest.fetch_max(keys.as_of().as_microsecond(), Ordering::AcqRel);
        let next = keys.reserve(1, self.wall()).map_err(|error| keyring_error(&error))?;
        let Some(next) = next else { return Ok(keys) };
        self.store_reserved(&next).await?;
        Ok(next.made_durable())
    }

    /// Reserves another block for each data key that has used up half of one. An error is logged and tried again.
    pub async fn tend_keys(&self) {
        if let Err(error) = self.tend().await {
            tracing::error!(%error, "reserving uses of data keys");
        }
    }

    async fn tend(&self) -> Result<(), VaultError> {
        let is_low = |keys: &Unlocked| keys.has_fewer_uses_than(BLOCK / 2);
        if !self.keys().is_ok_and(|keys| is_low(&keys)) {
            return Ok(());
        }
        let _one_change = self.changing.lock().await;
        let Ok(keys) = self.keys() else { return Ok(()) };
        let next = keys.reserve(BLOCK / 2, self.wall()).map_err(|error| keyring_error(&error))?;
        let Some(next) = next else { return Ok(()) };
        self.store_reserved(&next).await?;
        self.replace_keys(next.made_durable());
        Ok(())
    }

    async fn store_reserved(&self, next: &Unlocked) -> Result<(), VaultError> {
        let bytes = next.to_bytes().map_err(|error| keyring_error(&error))?;
        let stored = self.store.document(KEYRING)?.ok_or(VaultError::Integrity("the keyring is gone"))?;
        let committed = self.store.put_document(KEYRING, Some(stored.version), bytes).await?;
        self.epoch.fetch_max(next.epoch(), Ordering::AcqRel);
        let event = Event::new(Action::KeyReserve, Outcome::Allowed).keyring_epoch(next.epoch());
        self.note(event.store_sequence(committed.sequence)).await
    }

    /// Records that a stored keyring was refused, and gives what the custodian is told (PCI DSS 3.7.7).
    pub(super) async fn report_keyring(
        &self,
        caller: &Caller,
        error: &KeyringError,
    ) -> Result<VaultError, VaultError> {
        let reason = match error {
            KeyringError::RolledBack { .. } => "keyring-rolled-back",
            KeyringError::Malformed
            | KeyringError::NotAuthentic
            | KeyringError::Corrupt(_)
            | KeyringError::WrongEnvironment { .. }
            | KeyringError::Unwrap(_)
            | KeyringError::Commitment(_) => "keyring-substituted",
            other => return Ok(keyring_error(other)),
        };
        self.metrics.integrity_failures(1);
        self.note(caller.event(Action::Unseal, Outcome::Failed).reason(reason)).await?;
        Ok(VaultError::Explained(ProblemCode::Conflict, error.to_string()))
    }

    /// How many active keys are near or past a limit.
    pub(super) fn keys_to_rotate(&self) -> i64 {
        let now = self.wall();
        let list = self.keys().map(|keys| keys.list()).unwrap_or_default();
        let due = list.iter().filter(|key| key.state == KeyState::Active && key.is_near_a_limit(now)).count();
        i64::try_from(due).unwrap_or(i64::MAX)
    }

    /// What an operator should do about keys.
    pub(super) fn key_warnings(&self) -> Vec<String> {
        let now = self.wall();
        let list = self.keys().map(|keys| keys.list()).unwrap_or_default();
        let mut warnings: Vec<String> = list.iter().filter_map(|key| key.warning(now)).collect();
        let clock = self.clock.now();
        if now.duration_since(clock) > CLOCK_SLACK {
            warnings.push(format!("the clock was set back: it says {clock}, and {now} was seen before"));
        }
        warnings
    }
}

/// How far the clock may be behind what was seen before it is said.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_secs(5);
