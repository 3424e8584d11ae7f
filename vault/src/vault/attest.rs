//! The audit log towards witnesses and operators: submissions, cosigned checkpoints, how it stands.
//!
//! Must never keep a cosignature that does not verify. Tests: `tests/tests/witness.rs`.

use super::{Caller, Vault, statements};
use crate::error::VaultError;
use crate::store::Store;
use cordon_audit::{Action, CosignError, Outcome, ProofError};
use cordon_policy::{Administer, Observe, Permit};
use cordon_wire::{AuditCosigned, AuditSink, AuditStatus, AuditSubmission, CosignedStatus, ProblemCode};
use jiff::Timestamp;

impl<S: Store> Vault<S> {
    /// The newest checkpoint with the proof that it continues the one of `from` lines.
    ///
    /// # Errors
    /// [`ProblemCode::BadField`] if the log is shorter; the line about this reading can't be written (PCI DSS 10.2.1.3).
    pub async fn audit_submission(
        &self,
        caller: &Caller,
        permit: Permit<Observe>,
        from: u64,
    ) -> Result<AuditSubmission, VaultError> {
        let event = caller.event(Action::AuditRead, Outcome::Allowed);
        self.note(event.statements(statements(permit.statements()))).await?;
        let directory = self.data_dir.join(crate::run::AUDIT);
        let verifier = self.audit.verifier().clone();
        // Without tiles it is a pass over all lines, which no other request should wait for.
        let made =
            tokio::task::spawn_blocking(move || cordon_audit::submission(&directory, &verifier, from)).await;
        match made.map_err(|_panicked| VaultError::Integrity("a proof can't be made"))? {
            Ok(submission) => Ok(AuditSubmission { submission: submission.to_string() }),
            Err(error @ ProofError::Shorter { .. }) => {
                Err(VaultError::Explained(ProblemCode::BadField, error.to_string()))
            }
            Err(error) => {
                tracing::error!(%error, "a proof can't be made");
                Err(VaultError::Integrity("a proof can't be made"))
            }
        }
    }

    /// Keeps a checkpoint that witnesses cosigned.
    ///
    /// # Errors
    /// [`ProblemCode::BadField`] if it is not of this log or not of a configured witness, [`ProblemCode::Conflict`] if a
    /// newer one is kept.
    pub async fn keep_cosigned(
        &self,
        caller: &Caller,
        permit: Permit<Administer>,
        cosigned: AuditCosigned,
    ) -> Result<AuditStatus, VaultError> {
        let event = caller.event(Action::AuditCosign, Outcome::Allowed);
        self.note(event.statements(statements(permit.statements()))).await?;
        let log = self.audit.clone();
        let kept = tokio::task::spawn_blocking(move || log.keep_cosigned(&cosigned.note)).await;
        match kept.map_err(|_panicked| VaultError::Integrity("a cosigned checkpoint can't be kept"))? {
            Ok(_) => Ok(self.audit_status()),
            Err(CosignError::Io(error)) => {
                tracing::error!(%error, "a cosigned checkpoint can't be kept");
                Err(VaultError::Integrity("a cosigned checkpoint can't be kept"))
            }
            Err(error @ CosignError::Older { .. }) => {
                Err(VaultError::Explained(ProblemCode::Conflict, error.to_string()))
            }
            Err(error) => {
                tracing::error!(%error, "a cosigned checkpoint was refused");
                Err(VaultError::Explained(ProblemCode::BadField, error.to_string()))
            }
        }
    }

    /// How the audit log stands.
    pub(super) fn audit_status(&self) -> AuditStatus {
        let cosigned = self.audit.cosigned().map(|cosigned| CosignedStatus {
            lines: cosigned.checkpoint.size(),
            witnesses: u64::try_from(cosigned.witnesses).unwrap_or(u64::MAX),
            at: moment(cosigned.at).to_string(),
        });
        let sinks = self.audit.sinks().into_iter().map(|sink| AuditSink {
            kind: sink.kind.to_owned(),
            behind: sink.behind,
            late: sink.late,
            required: sink.required,
        });
        AuditStatus { signed: self.audit.statistics().signed, cosigned, sinks: sinks.collect() }
    }

    /// Sets the gauges about the audit log.
    pub(super) fn observe_audit(&self) {
        let gauges = self.metrics.gauges();
        let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        gauges.audit_lines.set(count(self.audit.size()));
        gauges.audit_syncs.set(count(self.audit.statistics().syncs));
        gauges.audit_degraded.set(i64::from(!self.audit.degraded().is_empty()));
        gauges
            .audit_sink_behind
            .set(count(self.audit.sinks().iter().map(|sink| sink.behind).max().unwrap_or(0)));
        if let Some(cosigned) = self.audit.cosigned() {
            gauges.audit_cosigned_lines.set(count(cosigned.checkpoint.size()));
            gauges.audit_cosigned_age.set(count(self.now().saturating_sub(cosigned.at)));
        }
    }
}

fn moment(seconds: u64) -> Timestamp {
    let at = i64::try_from(seconds).ok().and_then(|at| Timestamp::from_second(at).ok());
    at.unwrap_or(Timestamp::MAX)
}
