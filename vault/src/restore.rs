//! Putting a backup back into an empty directory, offline, before the vault is started.
//!
//! Must never touch a store that is there, put one in place that was not read to its proven end, or let one pass as the
//! newest that is behind the audit log or has none: its line says that it waits for custodians (`vault/acceptance.rs`).
//! Cut short anywhere, the same command does it again; once the line is written, so does the start of the vault. Tests:
//! `tests/tests/backup.rs`, `tests/tests/acceptance.rs`, `tests/tests/restore_kill.rs`.

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

/// What a restore finished that was cut short before.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Finished {
    /// The backup's name.
    pub finished: String,
    /// The store's last commit.
    pub sequence: u64,
    /// Whether two custodians have to accept it before anything is served.
    pub awaits_acceptance: bool,
}

/// What a request came to.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(untagged)]
pub enum Ended {
    /// The backup was put back.
    Restored(Box<Restored>),
    /// It had been, but for the last step.
    Finished(Finished),
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
pub fn restore(config: &Config, request: &Request<'_>) -> Result<Ended, RestoreError> {
    let place = config.data_dir.join(STORE);
    if !is_blank(&place)? {
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
    let staged = staged(&config.data_dir, &header.id).ok_or(RestoreError::Name)?;
    let beside = match beside(&log)? {
        Some(Beside { audit, recovered }) => {
            if let Some(finished) = finish(&config.data_dir, &recovered)? {
                audit.close()?;
                return if finished.finished == header.id {
                    Ok(Ended::Finished(finished))
                } else {
                    Err(RestoreError::OtherFinished { backup: finished.finished, place })
                };
            }
            let waits = judge(&audit, &recovered, &header, &log)?.then_some(RESTORED_STALE);
            Some((audit, waits, recovered.tally_began))
        }
        None => None,
    };
    let audit_kept = beside.is_some();
    let tally_began = beside.as_ref().and_then(|(.., began)| *began);
    clear(&config.data_dir)?;
    let scratch = config.data_dir.join(SCRATCH);
    let store =
        FjallStore::fill(&scratch, &store_options(config), || reader.next_row().map_err(RestoreError::from))?;
    if store.sequence() != header.sequence {
        return Err(StoreError::Corrupt("the backup's last commit is not the one it names").into());
    }
    // Without its tally nobody could tell that rows were left out: the first unseal would count those that are there.
    if tally_began.is_some_and(|began| header.sequence >= began) && !store.has_tally()? {
        return Err(RestoreError::NoTally);
    }
    let done =
        if audit_kept { replay::again(&store, &log, header.audit.size)? } else { replay::Done::default() };
    let sequence = store.sequence();
    drop(store);
    // Under this name it is whole.
    rename(&config.data_dir, &scratch, &staged)?;
    let (audit, waits) = match beside {
        Some((audit, waits, _)) => (audit, waits),
        // Made only now: a log without a line would look like another vault's.
        None => (Log::open(&log, ORIGIN)?.0, Some(RESTORED_WITHOUT_LOG)),
    };
    // The line comes first: a store in place without it would look like one that somebody put there.
    record(&audit, &header, sequence, reader.summary(), waits)?;
    rename(&config.data_dir, &staged, &place)?;
    audit.close()?;
    Ok(Ended::Restored(Box::new(Restored {
        rows: reader.summary(),
        header,
        erased: done.erased,
        used: done.used,
        sequence,
        audit_kept,
        awaits_acceptance: waits.is_some(),
    })))
}

/// Puts the store in place whose restore was cut short after its line: the line names the backup, the directory too.
///
/// # Errors
/// [`RestoreError::Directory`].
pub(crate) fn finish(data_dir: &Path, recovered: &Recovered) -> Result<Option<Finished>, RestoreError> {
    let Some(restored) = &recovered.unstarted else { return Ok(None) };
    let Some(staged) = staged(data_dir, restored.backup.as_str()) else { return Ok(None) };
    let place = data_dir.join(STORE);
    if is_blank(&staged)? || !is_blank(&place)? {
        return Ok(None);
    }
    rename(data_dir, &staged, &place)?;
    tracing::warn!(backup = %restored.backup, "a restore that was cut short is finished");
    Ok(Some(Finished {
        finished: restored.backup.as_str().to_owned(),
        sequence: restored.sequence,
        awaits_acceptance: recovered.awaiting.is_some(),
    }))
}

/// The audit log beside which a backup is put back.
struct Beside {
    audit: Log,
    recovered: Recovered,
}

/// The log that is there. One without a line, left by a restore that was cut short, is as good as none.
fn beside(log: &Path) -> Result<Option<Beside>, RestoreError> {
    if is_blank(log)? {
        return Ok(None);
    }
    let (audit, recovered) = Log::open(log, ORIGIN)?;
    if recovered.size == 0 {
        audit.close()?;
        return Ok(None);
    }
    Ok(Some(Beside { audit, recovered }))
}

/// Where the whole store of a backup lies until its line is written; none for a name that is no file name.
fn staged(data_dir: &Path, backup: &str) -> Option<PathBuf> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_plain = backup.len() <= LONGEST_NAME && backup.bytes().all(plain);
    is_plain.then(|| data_dir.join(format!("{STAGED}{backup}")))
}

/// Removes what restores that were cut short left behind.
fn clear(data_dir: &Path) -> Result<(), RestoreError> {
    for entry in fs::read_dir(data_dir).map_err(RestoreError::Directory)? {
        let entry = entry.map_err(RestoreError::Directory)?;
        let name = entry.file_name();
        if name == SCRATCH || name.to_string_lossy().starts_with(STAGED) {
            fs::remove_dir_all(entry.path()).map_err(RestoreError::Directory)?;
        }
    }
    Ok(())
}

fn rename(data_dir: &Path, from: &Path, to: &Path) -> Result<(), RestoreError> {
    fs::rename(from, to)
        .and_then(|()| File::open(data_dir))
        .and_then(|directory| directory.sync_all())
        .map_err(RestoreError::Directory)
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
    let (commit, epoch) =
        (recovered.known.store_sequence.unwrap_or(0), recovered.known.keyring_epoch.unwrap_or(0));
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

fn is_blank(directory: &Path) -> Result<bool, RestoreError> {
    match fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(RestoreError::Directory(error)),
    }
}

/// Why a backup is not put back. The operator's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// There is a store already.
    #[error("{} is not empty; a backup is restored into an empty directory only, so move the old store away", .0.display())]
    NotEmpty(PathBuf),
    /// Another backup's restore had been cut short.
    #[error(
        "the restore of {backup} had been cut short and is finished now; start the vault, or move {} away to restore \
         another backup", .place.display()
    )]
    OtherFinished {
        /// The other backup.
        backup: String,
        /// Its store.
        place: PathBuf,
    },
    /// Its name is none.
    #[error("the backup's name is not one that a vault gives")]
    Name,
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
    /// The store had a tally of its rows when it was taken, and it has none.
    #[error(
        "the backup has no tally of its rows, and by the audit log its store had one: it is not what the vault wrote; \
         restore another backup"
    )]
    NoTally,
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

/// Where a store grows.
const SCRATCH: &str = "store.restoring";
/// What the name begins with under which it waits for its line; the backup's name follows.
const STAGED: &str = "store.restored-";
const LONGEST_NAME: usize = 64;
