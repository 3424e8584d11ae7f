//! Asking for approvals, giving them, and using them up.
//!
//! Must never let an effect run without two custodians, or twice for one approval: the keyring remembers which requests
//! are over, and it is durable before the effect begins. Tests: `tests/tests/approvals.rs`.

use super::administer::keyring_error;
use super::{Caller, Vault, statements};
use crate::approvals::{ApprovalError, Approvals, DOCUMENT};
use crate::error::VaultError;
use crate::keyring::Unlocked;
use crate::keys::KeyId;
use crate::store::Store;
use cordon_audit::{Action, Event, Name, Outcome};
use cordon_policy::{Administer, Approve, Observe, Permit};
use cordon_wire::{Approval, ApprovalList, Operation, ProblemCode};
use jiff::Timestamp;

/// Two custodians' approval of one operation, used up. The effect takes it by value; there is no other way to get one than
/// [`Vault::approve_use`].
#[derive(Debug)]
pub(super) struct Approved {
    operation: Operation,
    by: Vec<Name>,
}

impl Approved {
    /// What was approved, for the effect to do once.
    pub(super) fn into_operation(self) -> Operation {
        self.operation
    }

    /// Who approved it.
    pub(super) fn into_custodians(self) -> Vec<Name> {
        self.by
    }
}

/// What a custodian answers.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// Yes; two of these are needed.
    Approve,
    /// No; one is enough.
    Reject,
}

impl<S: Store> Vault<S> {
    /// Asks custodians to approve an operation. If somebody asked before and that is still open, it is that request.
    ///
    /// # Errors
    /// The vault is sealed; [`ProblemCode::Busy`] while too many requests are open.
    pub async fn request_approval(
        &self,
        caller: &Caller,
        permit: Permit<Administer>,
        operation: Operation,
    ) -> Result<Approval, VaultError> {
        let _one_change = self.changing.lock().await;
        let keys = self.opened()?;
        let now = self.clock.now();
        let (mut approvals, version) = self.approvals(caller, &keys).await?;
        let (id, new) = approvals.ask(operation, caller.who.clone(), now).map_err(refused)?;
        let shown = shown(&approvals, &id, now)?;
        if new {
            let line = self.change(caller, Action::ApprovalRequest, &permit);
            self.note(about(line, &id, &shown.operation)).await?;
            self.keep_approvals(caller, &keys, &approvals, version, Action::ApprovalRequest).await?;
        }
        Ok(shown)
    }

    /// A custodian's answer to a request.
    ///
    /// # Errors
    /// The vault is sealed; the request is unknown or over; the custodian approved it before, asked for it, is none any
    /// more ([`ProblemCode::NotACustodian`]), or has not acknowledged the duties ([`ProblemCode::NotAcknowledged`]).
    pub async fn answer_approval(
        &self,
        caller: &Caller,
        permit: Permit<Approve>,
        id: &str,
        answer: Answer,
    ) -> Result<Approval, VaultError> {
        let _one_change = self.changing.lock().await;
        let keys = self.opened()?;
        self.check_custodian(&caller.who)?;
        let now = self.clock.now();
        let (mut approvals, version) = self.approvals(caller, &keys).await?;
        let action = match answer {
            Answer::Approve => {
                approvals.approve(id, &caller.who, now).map_err(refused)?;
                Action::ApprovalGrant
            }
            Answer::Reject => {
                approvals.reject(id, &caller.who, now).map_err(refused)?;
                Action::ApprovalReject
            }
        };
        let request = approvals.find(id).ok_or_else(|| refused(ApprovalError::Unknown))?;
        let line = caller.event(action, Outcome::Allowed).statements(statements(permit.statements()));
        self.note(about(line, request.id(), request.operation())).await?;
        let (id, until) = (request.id().clone(), request.expires_at());
        if matches!(answer, Answer::Reject) {
            self.close_approval(&keys, &id, until, now).await?;
        }
        self.keep_approvals(caller, &keys, &approvals, version, action).await?;
        shown(&approvals, &id, now)
    }

    /// All requests, newest first.
    ///
    /// # Errors
    /// The vault is sealed, or the audit line can't be written.
    pub async fn list_approvals(
        &self,
        caller: &Caller,
        permit: Permit<Observe>,
    ) -> Result<ApprovalList, VaultError> {
        let keys = self.opened()?;
        self.observed(caller, &permit, DOCUMENT).await?;
        let (approvals, _version) = self.approvals(caller, &keys).await?;
        let now = self.clock.now();
        Ok(ApprovalList { approvals: approvals.iter().map(|request| request.shown(now)).collect() })
    }

    /// Uses up the approval of exactly this operation. It is over before this returns, in the keyring and on disk: what
    /// happens afterwards, a crash included, never uses it again. Callers hold `changing`, check everything else first, and
    /// read the keys anew afterwards.
    ///
    /// # Errors
    /// [`ProblemCode::ApprovalRequired`] without one.
    pub(super) async fn approve_use(
        &self,
        caller: &Caller,
        operation: &Operation,
    ) -> Result<Approved, VaultError> {
        let keys = self.opened()?;
        let now = self.clock.now();
        let (mut approvals, version) = self.approvals(caller, &keys).await?;
        let Some(request) = approvals.granted(operation, now) else {
            return Err(ProblemCode::ApprovalRequired.into());
        };
        let (id, until) = (request.id().clone(), request.expires_at());
        let by = request.approved_by().to_vec();
        let line = caller.event(Action::ApprovalUse, Outcome::Allowed);
        self.note(about(line, &id, operation)).await?;
        self.close_approval(&keys, &id, until, now).await?;
        approvals.mark_used(&id);
        self.keep_approvals(caller, &keys, &approvals, version, Action::ApprovalUse).await?;
        Ok(Approved { operation: operation.clone(), by })
    }

    /// Forgets every request that is open.
    pub(super) async fn forget_open_approvals(&self, caller: &Caller) -> Result<(), VaultError> {
        let keys = self.opened()?;
        let (mut approvals, version) = self.approvals(caller, &keys).await?;
        approvals.forget_open(self.clock.now());
        self.keep_approvals(caller, &keys, &approvals, version, Action::ApprovalUse).await
    }

    /// Makes the end of a request durable where an older document can't be put back.
    async fn close_approval(
        &self,
        keys: &Unlocked,
        id: &KeyId,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), VaultError> {
        let next = keys.close(id, until, now).map_err(|error| keyring_error(&error))?;
        self.install(next).await
    }

    /// The stored requests and the version of their document, with the answers of present custodians only. Those that are
    /// not authentic count for nothing: the log says so, and the custodians are asked again.
    pub(super) async fn approvals(
        &self,
        caller: &Caller,
        keys: &Unlocked,
    ) -> Result<(Approvals, Option<u64>), VaultError> {
        let Some(stored) = self.store.document(DOCUMENT)? else {
            return Ok((Approvals::new(self.environment), None));
        };
        let read = Approvals::authenticate(&stored.bytes, self.environment, keys.approvals_mac());
        let mut approvals = match read {
            Ok(approvals) => approvals,
            Err(error) => {
                tracing::error!(%error, "approvals");
                let line =
                    caller.event(Action::ApprovalUse, Outcome::Failed).reason("approvals-not-authentic");
                self.note(line).await?;
                Approvals::new(self.environment)
            }
        };
        approvals.close(|id| keys.is_closed(id));
        let (seal, _version) = self.stored_seal()?;
        approvals.keep_answers_of(|name| seal.register().is_custodian(name));
        Ok((approvals, Some(stored.version)))
    }

    pub(super) async fn keep_approvals(
        &self,
        caller: &Caller,
        keys: &Unlocked,
        approvals: &Approvals,
        version: Option<u64>,
        action: Action,
    ) -> Result<(), VaultError> {
        let bytes = approvals.to_bytes(keys.approvals_mac()).map_err(refused)?;
        let committed = self.store.put_document(DOCUMENT, version, bytes).await?;
        self.anchor(caller, action, committed.sequence).await
    }
}

/// A line that says which request it is about, and for what.
fn about(line: Event, id: &KeyId, operation: &Operation) -> Event {
    let line = line.on(&Name::parse_or_withhold(&format!("{}/{}", id.as_str(), operation.kind())));
    match operation.collection() {
        Some(collection) => line.collection(collection),
        None => line,
    }
}

fn shown(approvals: &Approvals, id: &KeyId, now: Timestamp) -> Result<Approval, VaultError> {
    let request = approvals.find(id.as_str());
    request.map(|request| request.shown(now)).ok_or(VaultError::Integrity("a request for approval is gone"))
}

/// Errors of approvals hold no request text.
fn refused(error: ApprovalError) -> VaultError {
    match error {
        ApprovalError::TooMany => VaultError::Explained(ProblemCode::Busy, error.to_string()),
        ApprovalError::Unknown => VaultError::Explained(ProblemCode::BadField, error.to_string()),
        ApprovalError::Over | ApprovalError::Own | ApprovalError::Twice => {
            VaultError::Explained(ProblemCode::Conflict, error.to_string())
        }
        ApprovalError::Random(_) => VaultError::Randomness,
        ApprovalError::Malformed | ApprovalError::NotAuthentic | ApprovalError::Clock => {
            VaultError::Integrity("the approvals")
        }
    }
}
