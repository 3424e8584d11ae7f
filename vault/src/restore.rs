//! Putting a backup back into an empty directory, offline, before the vault is started.
//!
//! Must never touch a store that is there, put one in place that was not read to its proven end, or let one pass as the
//! newest that is behind the audit log or has none: its line says that it waits for custodians (`vault/acceptance.rs`).
//! Tests: `tests/tests/backup.rs`, `tests/tests/acceptance.rs`.

use crate::config::Config;
use crate::run::{AUDIT, ORIGIN, STORE, store_options};
use crate::store::{FjallStore, Store, StoreError};
use cordon_archive::{BackupError, BackupHeader, BackupReader, Identities, SealError, Summary};
use cordon_audit::{
    Action, AuditError, Checkpoint, Code, Event, Log, Name, Outcome, RESTORED_STALE, RESTORED_WITHOUT_LOG,
    Recovered,
};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

mod replay;

/// What a restore did.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Restored {
    /// What the backup said of itself.
    pub header: BackupHeader,
    /// What was in it.
    pub rows: Summary,
    /// Deletions of the audit log that were done again.
    pub erased: u64,
    /// Single-use tokens that the audit log says were given out, and are used again.
    pub used: u64,
    /// The store's last commit now.
    pub sequence: u64,
    /// Whether the audit log had been there.
    pub audit_kept: bool,
    /// Whether two custodians have to accept it before anything is served.
    pub awaits_acceptance: bool,
}

/// What to restore.
#[derive(Debug)]
pub struct Request<'a> {
    /// The backup.
    pub from: &'a Path,
    /// Identity file of the custodian who opens it.
    pub identity: &'a Path,
}

/// Restores a backup into the data directory of `config`.
///
/// # Errors
/// [`RestoreError`]; the data directory then has no store, as before.
pub fn restore(config: &Config, request: &Request<'_>) -> Result<Restored, RestoreError> {
    let place = config.data_dir.join(STORE);
    if !is_blank(&place).map_err(RestoreError::Directory)? {
        return Err(RestoreError::NotEmpty(place));
    }
    let log = config.data_dir.join(AUDIT);
    DirBuilder::new().recursive(true).mode(0o700).create(&log).map_err(RestoreError::Directory)?;
    let identities = Identities::load(request.identity)?;
    let mut reader = BackupReader::new(identities.open(open(request.from)?)?)?;
    let header = reader.header().clone();
    if header.environment != config.environment {
        return Err(RestoreError::Environment {
            backup: header.environment.as_str(),
            here: config.environment.as_str(),
        });
    }
    // A new log is made only when everything else is done: one without a line would look like another vault's.
    let (kept, waits) = if is_blank(&log).map_err(RestoreError::Directory)? {
        (None, Some(RESTORED_WITHOUT_LOG))
    } else {
        let (audit, recovered) = Log::open(&log, ORIGIN)?;
        let is_behind = judge(&audit, &recovered, &header, &log)?;
        (Some(audit), is_behind.then_some(RESTORED_STALE))
    };
    let audit_kept = kept.is_some();
    let scratch = config.data_dir.join(SCRATCH);
    match fs::remove_dir_all(&scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(RestoreError::Directory(error)),
        _removed_or_absent => {}
    }
    let store =
        FjallStore::fill(&scratch, &store_options(config), || reader.next_row().map_err(RestoreError::from))?;
    if store.sequence() != header.sequence {
        return Err(StoreError::Corrupt("the backup's last commit is not the one it names").into());
    }
    let done =
        if audit_kept { replay::again(&store, &log, header.audit.size)? } else { replay::Done::default() };
    let sequence = store.sequence();
    drop(store);
    let audit = match kept {
        Some(audit) => audit,
        None => Log::open(&log, ORIGIN)?.0,
    };
    // The line comes first: a store in place without it would look like one that somebody put there.
    record(&audit, &header, sequence, reader.summary(), waits)?;
    fs::rename(&scratch, &place).map_err(RestoreError::Directory)?;
    File::open(&config.data_dir)
        .and_then(|directory| directory.sync_all())
        .map_err(RestoreError::Directory)?;
    audit.close()?;
    Ok(Restored {
        rows: reader.summary(),
        header,
        erased: done.erased,
        used: done.used,
        sequence,
        audit_kept,
        awaits_acceptance: waits.is_some(),
    })
}

/// Refuses a backup of another audit log, and says whether it is behind this one.
fn judge(
    audit: &Log,
    recovered: &Recovered,
    header: &BackupHeader,
    directory: &Path,
) -> Result<bool, RestoreError> {
    let kept = Checkpoint::open(&header.audit.checkpoint, audit.verifier())
        .map_err(|_other| RestoreError::OtherLog)?;
    cordon_audit::verify(directory, audit.verifier(), Some(&kept))
        .map_err(|_other| RestoreError::OtherLog)?;
    let (commit, epoch) = (recovered.store_sequence.unwrap_or(0), recovered.keyring_epoch.unwrap_or(0));
    Ok(commit > header.sequence || epoch > header.keyring_epoch.unwrap_or(0))
}

fn open(path: &Path) -> Result<File, RestoreError> {
    File::open(path).map_err(|source| RestoreError::File { path: path.to_owned(), source })
}

fn record(
    audit: &Log,
    header: &BackupHeader,
    sequence: u64,
    rows: Summary,
    waits: Option<Code>,
) -> Result<(), RestoreError> {
    let mut event = Event::new(Action::Restore, Outcome::Allowed)
        .on(&Name::parse_or_withhold(&header.id))
        .count(rows.rows)
        .store_sequence(sequence);
    if let Some(epoch) = header.keyring_epoch {
        event = event.keyring_epoch(epoch);
    }
    if let Some(reason) = waits {
        event = event.reason(reason);
    }
    let _line = audit.append_blocking(event)?;
    Ok(())
}

fn is_blank(directory: &Path) -> io::Result<bool> {
    match fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Why a backup is not put back. The operator's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// There is a store already.
    #[error("{} is not empty; a backup is restored into an empty directory only, so move the old store away", .0.display())]
    NotEmpty(PathBuf),
    /// The data directory can't be used.
    #[error("the data directory can't be used: {0}")]
    Directory(#[source] io::Error),
    /// The file can't be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not open.
    #[error("{0}")]
    Seal(#[from] SealError),
    /// It is not whole.
    #[error("{0}")]
    Backup(#[from] BackupError),
    /// Keys and tokens of another environment.
    #[error("the backup is of environment {backup}, and this configuration of {here}")]
    Environment {
        /// The backup's.
        backup: &'static str,
        /// The configuration's.
        here: &'static str,
    },
    /// The audit log that is there is not the one that the backup belongs to.
    #[error(
        "the audit log in the data directory is not the one this backup was taken with; restore beside its own log, or \
         move the log away to begin a new one"
    )]
    OtherLog,
    /// The audit log.
    #[error("the audit log can't be used: {0}")]
    Audit(#[from] AuditError),
    /// A line of the audit log.
    #[error("the audit log can't be read: {0}")]
    Line(#[from] cordon_audit::ReadError),
    /// The store.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// Where a store grows before it is put in place.
const SCRATCH: &str = "store.restoring";
