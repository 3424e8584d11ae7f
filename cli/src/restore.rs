//! `cordon restore accept`: serve from a backup that was put back and is not known to be the newest.
//!
//! Must never accept another restore than the one that was named: what custodians are asked for is what the vault says of
//! itself. Tests: below, and `tests/tests/acceptance.rs`.

use crate::approvals;
use crate::configuration::{Settings, block_on};
use crate::exit::{Failure, Verdict};
use clap::{Args, Subcommand};
use cordon_wire::{AcceptRestore, AwaitingRestore, Operation, RestoreAccepted};

/// `cordon restore ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum Restores {
    /// Serve from a restored backup that is behind the audit log; two custodians must approve
    Accept(Accept),
}

/// `cordon restore accept`.
#[derive(Debug, Args)]
#[command(
    after_help = "A backup is put back with `cordon-vault restore`. One that is behind the audit log, or whose log
was lost, serves nobody until it is accepted here: what came after it is gone. Two custodians,
neither of whom asked, must approve exactly this restore: the first run asks for that and ends with
75, the same command does it afterwards. `cordon status` names the backup and says what is missing.

Examples:
  cordon restore accept backup-mzxw6ytboi3dimrrgezdgnbvgy
  cordon status --json | jq .awaiting_restore"
)]
pub(crate) struct Accept {
    /// Name of the backup, as `cordon status` and the restore gave it
    #[arg(value_name = "BACKUP")]
    backup: String,
}

impl Restores {
    /// Does what was asked.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let Self::Accept(Accept { backup }) = self;
        let administrator = settings.administrator()?;
        let awaiting = block_on(async { Ok(administrator.status().await?) })?.awaiting_restore;
        let restore = named(awaiting, backup)?;
        let accepted = block_on(async { Ok(administrator.accept_restore(&restore).await) })?;
        let operation = Operation::AcceptRestore(restore);
        approvals::answer_or_ask(settings, &administrator, &operation, accepted, describe)
    }
}

/// The restore that waits, if it is of the backup that was named.
fn named(awaiting: Option<AwaitingRestore>, backup: &str) -> Result<AcceptRestore, Failure> {
    match awaiting {
        Some(AwaitingRestore { restore, .. }) if restore.backup == backup => Ok(restore),
        Some(AwaitingRestore { restore, .. }) => Err(Failure::refused(
            "other-restore",
            format!("the restore that waits for acceptance is of {}", restore.backup),
        )
        .next("name it, if that is the one you mean")),
        None => Err(Failure::refused("none-waits", "no restore waits for acceptance")
            .next("nothing: `cordon status` shows how the vault stands")),
    }
}

fn describe(accepted: &RestoreAccepted) -> String {
    format!(
        "The restored {} is accepted, as {} approved. The vault serves from it.",
        accepted.restore.backup,
        accepted.approved_by.join(" and ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_backup_that_was_named_is_accepted() {
        let restore = AcceptRestore { backup: "backup-x".into(), sequence: 30, epoch: Some(3), line: 7 };
        let awaiting =
            AwaitingRestore { restore: restore.clone(), known_sequence: Some(50), known_epoch: Some(5) };
        assert_eq!(named(Some(awaiting.clone()), "backup-x").unwrap(), restore);
        let other = named(Some(awaiting), "backup-y").unwrap_err();
        assert!(other.code() == "other-restore" && other.message().contains("backup-x"));
        assert_eq!(named(None, "backup-x").unwrap_err().code(), "none-waits");
    }
}
