//! `cordon backup`: take a backup of the running vault, and verify one offline.
//!
//! Must never leave a file under its name that is not whole, nor see a key or a card: rows stay sealed inside.
//! Tests: `tests/tests/backup.rs`.

use crate::configuration::Settings;
use crate::download;
use crate::exit::{Failure, Verdict};
use crate::layout;
use clap::{Args, Subcommand};
use cordon_archive::{BackupHeader, BackupReader, Identities, Summary};
use serde::Serialize;
use std::fs::File;
use std::path::PathBuf;

/// `cordon backup ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum Backups {
    /// Take a backup of this moment, encrypted to the custodians, while the vault serves
    Create(Create),
    /// Open a backup and check that it is whole; needs no vault
    Verify(Verify),
}

/// `cordon backup create`.
#[derive(Debug, Args)]
#[command(
    after_help = "The vault encrypts to the keys in [backup] recipients of its configuration. A backup is restored
with `cordon-vault restore`; docs/backup.md has a timer to take one every night.

Examples:
  cordon backup create --out vault-2026-01-31.backup
  cordon backup create --out vault.backup --json | jq .bytes"
)]
pub(crate) struct Create {
    /// Where it goes; an existing file is not overwritten
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// `cordon backup verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Reads the whole file: encryption, count and digest of the rows, their order. Exits 1 when it is
not whole.

Examples:
  cordon backup verify vault.backup --identity custodian.key"
)]
pub(crate) struct Verify {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// age identity file of a custodian
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
}

#[derive(Debug, Serialize)]
struct Created {
    file: PathBuf,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Verified {
    header: BackupHeader,
    contents: Summary,
}

impl Backups {
    /// Does what was asked.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        match self {
            Self::Create(create) => create.run(settings),
            Self::Verify(verify) => verify.run(settings),
        }
    }
}

impl Create {
    fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let administrator = settings.administrator()?;
        let bytes =
            download::whole(settings.console(), &self.out, async |take| administrator.backup(take).await)??;
        let answer = Created { file: self.out.clone(), bytes };
        settings.console().answer(&answer, |answer| {
            format!(
                "{} bytes in {}. Check it with `cordon backup verify` where a custodian's key is.",
                answer.bytes,
                answer.file.display()
            )
        })?;
        Ok(Verdict::Fine)
    }
}

impl Verify {
    fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let bad = |error: &dyn std::fmt::Display| {
            Failure::refused("backup", format!("{}: {error}", self.file.display()))
        };
        let identities = Identities::load(&self.identity).map_err(|error| bad(&error))?;
        let file = File::open(&self.file).map_err(|error| Failure::file(&self.file, &error))?;
        let bar = settings.console().bytes_bar(file.metadata().ok().map(|metadata| metadata.len()));
        let opened = identities.open(bar.wrap_read(file)).map_err(|error| bad(&error))?;
        let mut reader = BackupReader::new(opened).map_err(|error| bad(&error))?;
        while reader.next_row().map_err(|error| bad(&error))?.is_some() {}
        bar.finish_and_clear();
        let answer = Verified { header: reader.header().clone(), contents: reader.summary() };
        settings.console().answer(&answer, described)?;
        Ok(Verdict::Fine)
    }
}

fn described(verified: &Verified) -> String {
    let header = &verified.header;
    let unsealed = match header.shares {
        Some((threshold, shares)) => format!("by {threshold} of {shares} custodians"),
        None => "by its development file, which is not in the backup".to_owned(),
    };
    let epoch = header.keyring_epoch.map_or_else(|| "not known".to_owned(), |epoch| epoch.to_string());
    layout::rows(&[
        ("backup", format!("{}, whole", header.id)),
        ("taken", header.created_at.clone()),
        ("environment", header.environment.as_str().to_owned()),
        ("rows", format!("{}, {} bytes", verified.contents.rows, verified.contents.bytes)),
        ("last commit", header.sequence.to_string()),
        ("keyring epoch", epoch),
        ("audit log", format!("{} lines", header.audit.size)),
        ("unsealed", unsealed),
    ])
}
