//! A restore that waits: nothing is served from it until two custodians have accepted exactly it.
//!
//! Must never give the keys to a data call before the line that says who accepted is durable. That a restore waits is read
//! from the audit log at each start, and nowhere else. Tests: `tests/tests/acceptance.rs`, `crates/audit/src/anchors.rs`.

use super::{Caller, Vault};
use crate::error::VaultError;
use crate::store::Store;
use cordon_audit::{Action, Name, Outcome, RESTORE_ACCEPTED, Recovered};
use cordon_policy::{Administer, Permit};
use cordon_wire::{AcceptRestore, AwaitingRestore, Operation, ProblemCode, RestoreAccepted};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// The restore that waits, as the audit log tells it.
pub(crate) fn awaiting(recovered: &Recovered) -> Option<AwaitingRestore> {
    let restored = &recovered.awaiting.as_ref()?.restored;
    Some(AwaitingRestore {
        restore: AcceptRestore {
            backup: restored.backup.as_str().to_owned(),
            sequence: restored.sequence,
            epoch: restored.epoch,
            line: restored.line,
        },
        known_sequence: recovered.known.store_sequence,
        known_epoch: recovered.known.keyring_epoch,
    })
}

impl<S: Store> Vault<S> {
    /// Serves from the restored backup from now on. Approvals that came with the backup end: what became of them since is
    /// not known.
    ///
    /// # Errors
    /// [`ProblemCode::Conflict`] if no restore waits, or another one; [`ProblemCode::ApprovalRequired`] without two
    /// custodians' approval of exactly this one; the vault is sealed.
    pub async fn accept_restore(
        &self,
        caller: &Caller,
        _permit: Permit<Administer>,
        request: AcceptRestore,
    ) -> Result<RestoreAccepted, VaultError> {
        let _one_change = self.changing.lock().await;
        let _unsealed = self.opened()?;
        let words = match self.awaiting_restore() {
            Some(awaiting) if awaiting.restore == request => None,
            Some(_) => Some("another restore waits for acceptance; `cordon status` shows which"),
            None => Some("no restore waits for acceptance"),
        };
        if let Some(words) = words {
            return Err(VaultError::Explained(ProblemCode::Conflict, words.to_owned()));
        }
        let operation = Operation::AcceptRestore(request.clone());
        let by = self.approve_use(caller, &operation).await?.into_custodians();
        self.forget_open_approvals(caller).await?;
        let mut line = caller
            .event(Action::Restore, Outcome::Allowed)
            .on(&Name::parse_or_withhold(&request.backup))
            .reason(RESTORE_ACCEPTED)
            .statements(by.iter().cloned())
            .store_sequence(self.store.sequence());
        let epoch = self.epoch.load(Ordering::Acquire);
        if epoch > 0 {
            line = line.keyring_epoch(epoch);
        }
        self.note(line).await?;
        *self.awaiting.write().unwrap_or_else(PoisonError::into_inner) = None;
        tracing::info!(backup = request.backup, "the restore is accepted");
        let approved_by = by.iter().map(|name| name.as_str().to_owned()).collect();
        Ok(RestoreAccepted { restore: request, approved_by })
    }

    /// Refuses while a restore waits for acceptance.
    ///
    /// # Errors
    /// [`ProblemCode::RestoreNotAccepted`].
    pub(super) fn check_accepted(&self) -> Result<(), VaultError> {
        match &*self.awaiting.read().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(_) => Err(VaultError::NotUnsealed(ProblemCode::RestoreNotAccepted)),
        }
    }

    /// The restore that waits for acceptance.
    pub(super) fn awaiting_restore(&self) -> Option<AwaitingRestore> {
        self.awaiting.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What an operator should do about a restore that waits.
    pub(super) fn restore_warning(&self) -> Option<String> {
        let AwaitingRestore { restore, known_sequence, .. } = self.awaiting_restore()?;
        let AcceptRestore { backup, sequence, .. } = restore;
        let known = known_sequence.map_or_else(
            || "its audit log was lost, so nobody can tell what is missing".to_owned(),
            |known| format!("the audit log knows of {known}: cards and changes since are gone"),
        );
        Some(format!(
            "nothing is served until two custodians accept the restored {backup}: it ends at commit {sequence}, and \
             {known}. `cordon restore accept {backup}`"
        ))
    }
}
