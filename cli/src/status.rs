//! `cordon status`: how the vault stands, in 100 columns.
//!
//! Must never ask for more than one answer: what is shown is one moment. Tests: below.

use crate::configuration::{Settings, block_on};
use crate::custody;
use crate::exit::{Failure, Verdict};
use crate::layout;
use clap::Args;
use cordon_wire::{AwaitingRestore, HardeningItem, SealKind, SealState, SealStatus, Status};

/// `cordon status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exits 1 while the vault is not unsealed or a restored backup waits for acceptance, so that a
script can wait for it.

Examples:
  cordon status
  cordon status --json | jq .seal.state
  until cordon status > /dev/null 2>&1; do sleep 1; done"
)]
pub(crate) struct Show {}

impl Show {
    /// Prints the status.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let administrator = settings.administrator()?;
        let status = block_on(async { Ok(administrator.status().await?) })?;
        settings.console().answer(&status, describe)?;
        let serves = status.seal.state == SealState::Unsealed && status.awaiting_restore.is_none();
        Ok(if serves { Verdict::Fine } else { Verdict::Refused })
    }
}

fn describe(status: &Status) -> String {
    let state = match status.seal.state {
        SealState::Uninitialized => "not initialised",
        SealState::Sealed => "sealed",
        SealState::Unsealed => "unsealed",
    };
    let vault = format!(
        "{state}, environment {}, version {}, up {}",
        status.seal.environment.as_str(),
        status.version,
        layout::duration(status.uptime_s)
    );
    let store = format!(
        "{}, {} on disk, sequence {}, {} since start",
        status.store.engine,
        layout::bytes(status.store.disk_bytes),
        layout::count(status.store.sequence),
        layout::counted(status.store.commits, "commit")
    );
    let mut rows = vec![
        ("Vault", vault),
        ("Seal", seal(&status.seal)),
        ("Collections", layout::count(status.collections)),
        ("Held codes", format!("{} in memory", layout::counted(status.held_cvvs, "security code"))),
        ("Store", store),
        ("Audit", audit(status)),
        ("Backup", status.last_backup.as_deref().map_or("none since start".to_owned(), layout::moment)),
        ("Policy", format!("sha-256 {}", status.policy_digest)),
        ("Hardening", hardening(&status.hardening)),
    ];
    if let Some(awaiting) = &status.awaiting_restore {
        rows.push(("Restore", restore(awaiting)));
    }
    for warning in &status.warnings {
        rows.push(("Warning", warning.clone()));
    }
    if status.warnings.is_empty() {
        rows.push(("Warnings", "none".to_owned()));
    }
    let mut out = layout::rows(&rows);
    if status.seal.state != SealState::Unsealed {
        out.push('\n');
        out.push_str(&custody::describe(&status.seal));
        out.push('\n');
    } else if let Some(awaiting) = &status.awaiting_restore {
        out.push_str(&format!("\nNext: cordon restore accept {}\n", awaiting.restore.backup));
    }
    out
}

fn restore(AwaitingRestore { restore, known_sequence, .. }: &AwaitingRestore) -> String {
    let ends = layout::count(restore.sequence);
    let known =
        known_sequence.map_or("lost".to_owned(), |known| format!("at commit {}", layout::count(known)));
    format!("{} WAITS for two custodians\nit ends at commit {ends}, the audit log is {known}", restore.backup)
}

fn audit(status: &Status) -> String {
    let mut lines = vec![layout::counted(status.audit_size, "line")];
    if let Some(cosigned) = &status.audit.cosigned {
        let at = layout::moment(&cosigned.at);
        lines.push(format!("{} cosigned at {at}", layout::count(cosigned.lines)));
    }
    for sink in &status.audit.sinks {
        let late = if sink.late { ", LATE" } else { "" };
        lines.push(format!("{} sink {} behind{late}", sink.kind, layout::count(sink.behind)));
    }
    lines.join("\n")
}

fn seal(seal: &SealStatus) -> String {
    match (seal.seal, seal.threshold, seal.shares) {
        (None, _, _) => "none yet".to_owned(),
        (Some(SealKind::DevFile), _, _) => "key file, for development only".to_owned(),
        (Some(SealKind::Static), _, _) => format!("static key {}", seal.key.as_deref().unwrap_or("unknown")),
        (Some(SealKind::Pkcs11), _, _) => format!("HSM key {}", seal.key.as_deref().unwrap_or("unknown")),
        (Some(SealKind::Shamir), Some(threshold), Some(shares)) => {
            let progress = match seal.state {
                SealState::Sealed => format!(", {} given", seal.progress),
                SealState::Uninitialized | SealState::Unsealed => String::new(),
            };
            format!("{threshold} of {shares} custodians' shares{progress}")
        }
        (Some(SealKind::Shamir), _, _) => "custodians' shares".to_owned(),
    }
}

fn hardening(items: &[HardeningItem]) -> String {
    let on: Vec<&str> = items.iter().filter(|item| item.in_force).map(|item| item.name.as_str()).collect();
    let unexplained = |item: &&HardeningItem| !item.in_force && item.without.is_none();
    let off: Vec<&str> = items.iter().filter(unexplained).map(|item| item.name.as_str()).collect();
    let mut lines = Vec::new();
    if !on.is_empty() {
        lines.push(format!("in force: {}", on.join(", ")));
    }
    if !off.is_empty() {
        lines.push(format!("NOT in force: {}", off.join(", ")));
    }
    for item in items.iter().filter(|item| !item.in_force) {
        if let Some(reason) = &item.without {
            lines.push(format!("done without {}: {reason}", item.name));
        }
    }
    if lines.is_empty() { "not reported".to_owned() } else { lines.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_card::Environment;
    use cordon_wire::{AcceptRestore, AuditStatus, StoreStatus};

    fn sample(state: SealState) -> Status {
        let item = |name: &str, in_force| HardeningItem { name: name.to_owned(), in_force, without: None };
        Status {
            version: "0.1.0".into(),
            uptime_s: 11_520,
            seal: SealStatus {
                state,
                environment: Environment::Test,
                seal: Some(SealKind::Shamir),
                key: None,
                threshold: Some(3),
                shares: Some(5),
                progress: 1,
            },
            collections: 2,
            held_cvvs: 1,
            audit_size: 12_345,
            audit: AuditStatus::default(),
            store: StoreStatus {
                engine: "fjall".into(),
                sequence: 9_001,
                commits: 77,
                disk_bytes: 1_300_000,
            },
            hardening: vec![
                item("core_dumps_off", true),
                item("not_dumpable", true),
                item("no_new_privileges", true),
                item("memory_locked", false),
            ],
            policy_digest: "a".repeat(64),
            awaiting_restore: None,
            last_backup: Some("2026-05-06T07:08:09Z".into()),
            warnings: vec!["key data/cards/1 reaches the end of its cryptoperiod ".repeat(3)],
        }
    }

    #[test]
    fn it_fits_in_100_columns() {
        for state in [SealState::Uninitialized, SealState::Sealed, SealState::Unsealed] {
            let text = describe(&sample(state));
            assert!(text.lines().all(|line| line.chars().count() <= layout::WIDTH), "{text}");
        }
    }

    #[test]
    fn a_missing_hardening_knob_stands_out() {
        let text = describe(&sample(SealState::Unsealed));
        assert!(text.contains("NOT in force: memory_locked"), "{text}");
        assert!(text.contains("3 of 5 custodians' shares\n"), "{text}");
        assert!(text.contains("12,345 lines"), "{text}");
    }

    #[test]
    fn a_restore_that_waits_says_what_is_missing_and_what_to_do_next() {
        let restore = AcceptRestore { backup: "backup-x".into(), sequence: 3_000, epoch: Some(3), line: 7 };
        let awaiting = AwaitingRestore { restore, known_sequence: Some(5_000), known_epoch: Some(5) };
        let mut status = sample(SealState::Unsealed);
        status.awaiting_restore = Some(awaiting.clone());
        let text = describe(&status);
        assert!(text.ends_with("\nNext: cordon restore accept backup-x\n"), "{text}");
        assert!(text.contains("ends at commit 3,000, the audit log is at commit 5,000"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= layout::WIDTH), "{text}");
        status.seal.state = SealState::Sealed;
        assert!(describe(&status).contains("Next: cordon unseal"), "one thing after the other");
        let lost = super::restore(&AwaitingRestore { known_sequence: None, ..awaiting });
        assert!(lost.ends_with("the audit log is lost"), "{lost}");
    }

    #[test]
    fn a_knob_done_without_shows_its_reason() {
        let without = Some("no swap here".to_owned());
        let text = hardening(&[HardeningItem { name: "memory_locked".into(), in_force: false, without }]);
        assert_eq!(text, "done without memory_locked: no swap here");
    }

    #[test]
    fn a_sealed_vault_says_what_to_do_next() {
        assert!(describe(&sample(SealState::Sealed)).contains("Next: cordon unseal"));
        assert!(describe(&sample(SealState::Uninitialized)).contains("Next: cordon init"));
    }
}
