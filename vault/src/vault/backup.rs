//! Taking a backup: one moment of the store, encrypted to the custodians, streamed while everybody is served.
//!
//! Must never send a byte before the audit line that names it is durable, nor one that is not encrypted to the
//! recipients. Tests: `tests/tests/backup.rs`.

use super::stream::{CHUNK, CHUNKS, Chunks};
use super::{Caller, Vault};
use crate::error::VaultError;
use crate::store::{Snapshot, Store};
use bytes::Bytes;
use cordon_archive::{AuditMark, BackupError, BackupHeader, BackupWriter, Recipients, SealError, Summary};
use cordon_audit::{Action, Event, Log, Name, Outcome};
use cordon_daemon::body::{Body, BoxError, streamed};
use cordon_policy::{Administer, Permit};
use cordon_wire::{ProblemCode, SealState};
use prometheus_client::metrics::gauge::Gauge;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc::{Sender, channel};

impl<S: Store> Vault<S> {
    /// Streams a backup of this moment. A sealed vault can be backed up, too: no key is needed for it.
    ///
    /// # Errors
    /// [`ProblemCode::Conflict`] without recipients or initialisation; [`ProblemCode::Busy`] while one is being taken;
    /// [`ProblemCode::RestoreNotAccepted`].
    pub async fn backup(&self, caller: &Caller, permit: Permit<Administer>) -> Result<Body, VaultError> {
        self.check_accepted()?;
        let Some(recipients) = self.recipients.clone() else {
            return Err(VaultError::Explained(
                ProblemCode::Conflict,
                "no custodian key is configured: set [backup] recipients in the vault's configuration"
                    .to_owned(),
            ));
        };
        let turn = Turn::take(&self.backing_up).ok_or(ProblemCode::Busy)?;
        let (snapshot, header) = self.moment().await?;
        let name = Name::parse_or_withhold(&header.id);
        let line = self.change(caller, Action::Backup, &permit).on(&name);
        self.note(line.store_sequence(header.sequence)).await?;
        let (sender, body) = channel(CHUNKS);
        let work = Work {
            snapshot,
            recipients,
            header,
            ended: caller.event(Action::Backup, Outcome::Allowed).on(&name).reason("complete"),
            failed: caller.event(Action::Backup, Outcome::Failed).on(&name).reason("cut-short"),
            audit: self.audit.clone(),
            last: self.metrics.gauges().last_backup.clone(),
            now: i64::try_from(self.now()).unwrap_or(0),
            _turn: turn,
        };
        let thread = std::thread::Builder::new().name("backup".to_owned());
        thread.spawn(move || work.run(sender)).map_err(|_error| VaultError::Refused(ProblemCode::Busy))?;
        Ok(streamed(body))
    }

    /// A snapshot and what is said of it. No keyring or seal is half way through a change.
    async fn moment(&self) -> Result<(Snapshot, BackupHeader), VaultError> {
        let _one_change = self.changing.lock().await;
        let seal = self.seal_status();
        if seal.state == SealState::Uninitialized {
            return Err(VaultError::NotUnsealed(ProblemCode::NotInitialized));
        }
        // Before the snapshot: lines that are in it and behind the mark are repeated by a restore, which harms nothing.
        let audit =
            AuditMark { size: self.audit.size(), checkpoint: self.audit.checkpoint().note().to_owned() };
        let epoch = self.epoch.load(Ordering::Acquire);
        let snapshot = self.store.snapshot()?;
        let mut id = [0; 16];
        crate::keys::fill_random(&mut id).map_err(|_error| VaultError::Randomness)?;
        let header = BackupHeader {
            // Base32: in hexadecimal, twelve digits in a row would not be too rare for a name in the audit log.
            id: format!("backup-{}", data_encoding::BASE32_NOPAD.encode(&id).to_ascii_lowercase()),
            environment: self.environment,
            created_at: self.clock.now().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sequence: snapshot.sequence(),
            keyring_epoch: (epoch > 0).then_some(epoch),
            shares: seal.threshold.zip(seal.shares),
            audit,
        };
        Ok((snapshot, header))
    }
}

/// One backup at a time: each holds older rows in the store for as long as it is read.
struct Turn(Arc<AtomicBool>);

impl Turn {
    fn take(flag: &Arc<AtomicBool>) -> Option<Self> {
        let was = flag.swap(true, Ordering::AcqRel);
        (!was).then(|| Self(Arc::clone(flag)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// What the thread of a backup needs.
struct Work {
    snapshot: Snapshot,
    recipients: Recipients,
    header: BackupHeader,
    ended: Event,
    failed: Event,
    audit: Log,
    last: Gauge,
    now: i64,
    _turn: Turn,
}

impl Work {
    fn run(self, sender: Sender<Result<Bytes, BoxError>>) {
        let output = BufWriter::with_capacity(CHUNK, Chunks(sender.clone()));
        match write(output, &self.recipients, &self.header, self.snapshot) {
            Ok((mut rest, summary)) => {
                let line = self.ended.count(summary.rows).store_sequence(self.header.sequence);
                // The last chunk goes out only when the log says that the backup is whole.
                let sent = self.audit.append_blocking(line).is_ok() && rest.flush().is_ok();
                if sent {
                    self.last.set(self.now);
                    return;
                }
                drop(rest.into_parts());
                drop(sender.blocking_send(Err("the end of the backup can't be recorded".into())));
            }
            Err(error) => {
                tracing::error!(%error, "a backup was cut short");
                drop(sender.blocking_send(Err("the backup was cut short".into())));
                if let Err(error) = self.audit.append_blocking(self.failed) {
                    tracing::error!(%error, "a backup that was cut short could not be recorded");
                }
            }
        }
    }
}

/// Gives back the output with its last chunk still in it.
fn write<W: Write>(
    output: BufWriter<W>,
    recipients: &Recipients,
    header: &BackupHeader,
    snapshot: Snapshot,
) -> Result<(BufWriter<W>, Summary), CutShort> {
    let sealing = recipients.seal(output)?;
    let mut writer = BackupWriter::new(sealing, header)?;
    for pair in snapshot {
        let (key, value) = pair?;
        writer.row(&key, &value)?;
    }
    let (sealing, summary) = writer.finish()?;
    Ok((sealing.finish()?, summary))
}

#[derive(Debug, thiserror::Error)]
enum CutShort {
    #[error("encrypting: {0}")]
    Seal(#[from] SealError),
    #[error("writing: {0}")]
    Backup(#[from] BackupError),
    #[error("reading the store: {0}")]
    Store(#[from] crate::store::StoreError),
    #[error("sending: {0}")]
    Send(#[from] io::Error),
}
