//! The log's handle: opening with recovery, appending, closing.
//!
//! It must never open a log that is behind its checkpoint or different from it, nor accept an event while the disk is in
//! doubt. Tests: `tests/log.rs`, `writer/tests.rs`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::appending::Appending;
use crate::checkpoint::Checkpoint;
use crate::directory::{Directory, Medium};
use crate::event::Event;
use crate::merkle::TreeHash;
use crate::name::{Name, NameError};
use crate::note::{Signer, VerifierKey};
use crate::segment::Segment;
use crate::verify::{self, CHECKPOINT, VerifyError};
use crate::walk::{LONGEST_EVENT, Tail, Walk};
use crate::writer::{Command, Shared, Waiter, Writer};

/// A handle to the open log. Cheap to clone; one thread writes for all of them.
#[derive(Debug, Clone)]
pub struct Log {
    origin: Name,
    verifier: VerifierKey,
    queue: SyncSender<Command>,
    shared: Arc<Shared>,
    thread: Arc<Mutex<Option<JoinHandle<io::Result<()>>>>>,
}

/// What was found when a log was opened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Recovered {
    /// Whole lines.
    pub size: u64,
    /// Root over them.
    pub root: TreeHash,
    /// Bytes of an unfinished last line that were cut (never acknowledged).
    pub torn_bytes: u64,
    /// The highest store sequence in any line since the last accepted restore: a store behind it has lost data.
    pub store_sequence: Option<u64>,
    /// The highest keyring epoch in any line since then: a keyring before it was put back.
    pub keyring_epoch: Option<u64>,
    /// Whether the log was made now.
    pub created: bool,
}

/// Proof that a line is durable. Only the writer makes one.
#[derive(Debug, PartialEq, Eq)]
pub struct Receipt {
    index: u64,
}

impl Receipt {
    pub(crate) fn new(index: u64) -> Receipt {
        Receipt { index }
    }

    /// The line's place in the log.
    pub fn index(&self) -> u64 {
        self.index
    }
}

/// Counters since the log was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Statistics {
    /// Durable lines in the log, from its beginning.
    pub size: u64,
    /// Groups of lines written.
    pub groups: u64,
    /// Times the disk was asked to make a group durable.
    pub syncs: u64,
    /// Checkpoints signed.
    pub checkpoints: u64,
    /// Lines covered by the newest checkpoint.
    pub signed: u64,
    /// Bytes waiting to be written.
    pub queued_bytes: usize,
    /// Whether the log refuses everything until a restart.
    pub poisoned: bool,
}

impl Log {
    /// Opens the log in `directory`, making it if there is none, under the name `origin` (a [`Name`]).
    ///
    /// Reads every line: the sums, the tree and the checkpoint must agree. An unfinished last line is cut. The caller
    /// records [`crate::Action::AuditOpen`] with what was recovered.
    ///
    /// # Errors
    /// [`AuditError::Tampered`] if the log is not what was signed; other kinds if it cannot be used.
    pub fn open(directory: &Path, origin: &str) -> Result<(Log, Recovered), AuditError> {
        Log::open_with(directory, origin, SEGMENT_BYTES)
    }

    /// [`Log::open`] with another size of segments.
    pub(crate) fn open_with(
        directory: &Path,
        origin: &str,
        segment_limit: u64,
    ) -> Result<(Log, Recovered), AuditError> {
        let origin = Name::parse(origin).map_err(AuditError::Origin)?;
        let files = lock(directory)?;
        let found = verify::list(directory).map_err(AuditError::Tampered)?;
        let created = found.is_empty() && !directory.join(CHECKPOINT).exists();
        let signer = signer(&files, origin, created)?;
        let (walk, tail) = recover(directory, &found, signer.verifier(), created)?;
        let at = |source: io::Error| AuditError::Io { path: directory.to_owned(), source };
        if let Some(last) = found.last().filter(|_| tail.torn > 0 || tail.zeros > 0) {
            files.cut(last, tail.whole).map_err(at)?;
        }
        let checkpoint = Checkpoint::sign(&signer, &walk.tree);
        files.replace(VERIFIER, format!("{}\n", signer.verifier()).as_bytes()).map_err(at)?;
        files.replace(CHECKPOINT, checkpoint.note().as_bytes()).map_err(at)?;
        let recovered = Recovered {
            size: walk.tree.size(),
            root: walk.tree.root(),
            torn_bytes: tail.torn,
            store_sequence: walk.commit,
            keyring_epoch: walk.epoch,
            created,
        };
        let medium = Appending::start(files, found.last(), recovered.size).map_err(at)?;
        Ok((Log::start(medium, signer, walk, checkpoint, segment_limit)?, recovered))
    }

    /// Starts the writer thread.
    pub(crate) fn start(
        medium: impl Medium + 'static,
        signer: Signer,
        walk: Walk,
        checkpoint: Checkpoint,
        segment_limit: u64,
    ) -> Result<Log, AuditError> {
        let (queue, commands) = sync_channel(QUEUE_LINES);
        let verifier = signer.verifier().clone();
        let shared = Arc::new(Shared::new(walk.tree.size(), checkpoint));
        let writer = Writer::new(medium, signer, walk, Arc::clone(&shared), segment_limit)
            .map_err(AuditError::Thread)?;
        let thread = std::thread::Builder::new()
            .name("cordon-audit".to_owned())
            .spawn(move || writer.run(&commands))
            .map_err(AuditError::Thread)?;
        let thread = Arc::new(Mutex::new(Some(thread)));
        Ok(Log { origin: verifier.name().clone(), verifier, queue, shared, thread })
    }

    /// Appends an event and waits until its line is durable. If the wait is cancelled, the line is still written.
    ///
    /// # Errors
    /// [`AuditError::Full`], [`AuditError::Poisoned`], [`AuditError::Closed`] or [`AuditError::TooLong`]; in each case
    /// what the event reports must not be done.
    pub async fn append(&self, event: Event) -> Result<Receipt, AuditError> {
        let (answer, receipt) = oneshot::channel();
        self.submit(event, Waiter::Task(answer))?;
        receipt.await.map_err(|_detail| AuditError::Poisoned)
    }

    /// [`Log::append`] for a thread that may block; not for a task.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn append_blocking(&self, event: Event) -> Result<Receipt, AuditError> {
        let (answer, receipt) = sync_channel(1);
        self.submit(event, Waiter::Thread(answer))?;
        receipt.recv().map_err(|_detail| AuditError::Poisoned)
    }

    /// Durable lines.
    pub fn size(&self) -> u64 {
        self.shared.size.load(Ordering::Acquire)
    }

    /// The log's name.
    pub fn origin(&self) -> &Name {
        &self.origin
    }

    /// The key that verifies its checkpoints.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The newest checkpoint, to keep elsewhere.
    pub fn checkpoint(&self) -> Arc<Checkpoint> {
        self.shared.latest()
    }

    /// Counters.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            size: self.size(),
            groups: self.shared.groups.load(Ordering::Relaxed),
            syncs: self.shared.syncs.load(Ordering::Relaxed),
            checkpoints: self.shared.checkpoints.load(Ordering::Relaxed),
            signed: self.shared.latest().size(),
            queued_bytes: self.shared.queued_bytes.load(Ordering::Relaxed),
            poisoned: self.shared.poisoned.load(Ordering::Acquire),
        }
    }

    /// Writes what is queued, signs a last checkpoint and releases the directory. Other handles are refused from then on.
    ///
    /// # Errors
    /// [`AuditError::Poisoned`] if the disk failed at any time.
    pub fn close(self) -> Result<(), AuditError> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return Err(AuditError::Closed) };
        // A writer that has already ended says why below.
        let _ended = self.queue.send(Command::Close).is_err();
        match thread.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(AuditError::Poisoned),
        }
    }

    fn submit(&self, event: Event, waiter: Waiter) -> Result<(), AuditError> {
        if self.shared.poisoned.load(Ordering::Acquire) {
            return Err(AuditError::Poisoned);
        }
        let rendered = event.render(&self.origin).map_err(AuditError::Render)?;
        let length = rendered.len();
        if length > LONGEST_EVENT {
            return Err(AuditError::TooLong);
        }
        let queued = &self.shared.queued_bytes;
        if queued.fetch_add(length, Ordering::Relaxed).saturating_add(length) > QUEUE_BYTES {
            queued.fetch_sub(length, Ordering::Relaxed);
            return Err(AuditError::Full);
        }
        self.queue.try_send(Command::Append(rendered, waiter)).map_err(|error| {
            queued.fetch_sub(length, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => AuditError::Full,
                TrySendError::Disconnected(_) => AuditError::Closed,
            }
        })
    }
}

/// Why the log cannot be opened, or an event not be recorded. None is the client's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// A file of the log cannot be used. Operator.
    #[error("audit log {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The name of the log is not one. Operator.
    #[error("the audit log's name is not valid")]
    Origin(#[source] NameError),
    /// Another process has the log open. Operator.
    #[error("another process has the audit log open")]
    InUse,
    /// Others than the owner may write to the directory, or read the signing key. Operator.
    #[error("{} must be accessible to its owner only", path.display())]
    OpenToOthers {
        /// The directory or key file.
        path: PathBuf,
    },
    /// The signing key is unusable, or missing although there are lines. Operator.
    #[error("the audit log's signing key is missing or unusable")]
    Key,
    /// The log is not what was signed: shorter, edited, reordered, or written anew. Operator; do not start.
    #[error("the audit log was tampered with or lost data")]
    Tampered(#[source] VerifyError),
    /// The writer thread could not be started. Operator.
    #[error("the audit writer cannot start")]
    Thread(#[source] io::Error),
    /// A write or sync failed; everything is refused until a restart. Operator (disk).
    #[error("the audit log cannot be written; refused until restart")]
    Poisoned,
    /// More events wait than the queue holds. Operator (disk too slow).
    #[error("the audit queue is full")]
    Full,
    /// The log was closed.
    #[error("the audit log is closed")]
    Closed,
    /// More tokens or ids than one line holds. Bug.
    #[error("the event is longer than an audit line")]
    TooLong,
    /// The event could not be rendered. Bug.
    #[error("the event cannot be written as a line")]
    Render(#[source] serde_json::Error),
}

fn lock(directory: &Path) -> Result<Directory, AuditError> {
    let at = |source: io::Error| AuditError::Io { path: directory.to_owned(), source };
    let files = Directory::lock(directory).map_err(|error| match error.kind() {
        io::ErrorKind::ResourceBusy => AuditError::InUse,
        _ => at(error),
    })?;
    if files.is_open_to_others().map_err(at)? {
        return Err(AuditError::OpenToOthers { path: directory.to_owned() });
    }
    Ok(files)
}

/// The log's signing key: read, or made for a new log.
fn signer(files: &Directory, origin: Name, created: bool) -> Result<Signer, AuditError> {
    let path = files.path().join(SIGNER);
    let pkcs8 = match files.read_private(SIGNER) {
        Ok(Some(pkcs8)) => pkcs8,
        Ok(None) if created => {
            let pkcs8 = Signer::generate().map_err(|_detail| AuditError::Key)?;
            files.create(SIGNER, &pkcs8).map_err(|source| AuditError::Io { path, source })?;
            pkcs8
        }
        Ok(None) => return Err(AuditError::Key),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(AuditError::OpenToOthers { path });
        }
        Err(source) => return Err(AuditError::Io { path, source }),
    };
    Signer::from_pkcs8(origin, &pkcs8).map_err(|_detail| AuditError::Key)
}

fn recover(
    directory: &Path,
    found: &[Segment],
    verifier: &VerifierKey,
    created: bool,
) -> Result<(Walk, Tail), AuditError> {
    let signed = verify::read_checkpoint(directory, verifier).map_err(AuditError::Tampered)?;
    // A checkpoint is written before the first segment, so segments without one have lost it.
    if signed.is_none() && !created {
        return Err(AuditError::Tampered(VerifyError::CheckpointMissing));
    }
    let heads: Vec<&Checkpoint> = signed.iter().collect();
    verify::recompute(found, &heads, &mut |_| Ok(())).map_err(AuditError::Tampered)
}

/// Lines that wait to be written, at most.
const QUEUE_LINES: usize = 65_536;
/// Bytes that wait to be written, at most: a queue of long lines must not eat the memory.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// A segment is ended before it grows beyond this.
const SEGMENT_BYTES: u64 = 256 * 1024 * 1024;
const SIGNER: &str = "signer.pk8";
const VERIFIER: &str = "verifier.txt";

#[cfg(test)]
mod tests;
