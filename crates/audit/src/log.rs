//! The log's handle: opening with recovery, appending, closing.
//!
//! It must never open a log that is behind its checkpoint or different from it, nor accept an event while the disk is in
//! doubt. Tests: `tests/log.rs`, `writer/tests.rs`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::anchors::{AwaitingRestore, Floor, RestoredBackup};
use crate::appending::Appending;
use crate::checkpoint::Checkpoint;
use crate::cosigned::{self, CosignError, Cosigned, Shelf};
use crate::directory::{Directory, Medium};
use crate::error::AuditError;
use crate::event::{Action, Event};
use crate::flood::Flood;
use crate::gate::PATIENCE;
use crate::inlet::{Inlet, QUEUE_LINES};
use crate::keeper::{Duties, Keeper};
use crate::merkle::TreeHash;
use crate::name::Name;
use crate::note::{Signer, VerifierKey};
use crate::receipt::Kind;
use crate::segment::Segment;
use crate::settings::Settings;
use crate::sink::{Feed, SinkStatus, Sinks, View};
use crate::tiles::Builder;
use crate::verify::{self, CHECKPOINT, VerifyError};
use crate::walk::{Tail, Walk};
use crate::writer::{Command, Shared, Waiter, Writer};

pub(crate) use crate::receipt::Receipt;

/// A handle to the open log. Cheap to clone; one thread writes for all of them.
#[derive(Debug, Clone)]
pub struct Log {
    verifier: VerifierKey,
    inlet: Inlet,
    flood: Arc<Flood>,
    thread: Arc<Mutex<Option<JoinHandle<io::Result<()>>>>>,
    aides: Option<Arc<Aides>>,
}

/// What a log on a disk has beside its writer.
#[derive(Debug)]
struct Aides {
    directory: PathBuf,
    shelf: Shelf,
    sinks: Arc<[View]>,
    announced: Arc<AtomicBool>,
    running: Mutex<Option<(Keeper, Sinks)>>,
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
    /// What is known since the last restore that counts. A restore that waits for acceptance does not.
    pub known: Floor,
    /// What the store in place must have reached to be opened: since the restore that waits, or the same.
    pub floor: Floor,
    /// A restore that waits for acceptance.
    pub awaiting: Option<AwaitingRestore>,
    /// The last restore, if the vault did not run with its store yet.
    pub unstarted: Option<RestoredBackup>,
    /// The lowest store sequence at which a tally of rows was begun or taken up: no store that came so far is without one.
    pub tally_began: Option<u64>,
    /// Whether the log was made now.
    pub created: bool,
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
    /// Reads every line: the sums, the tree and the checkpoints must agree. An unfinished last line is cut; tiles that are
    /// missing or wrong are made again. The caller records [`crate::Action::AuditOpen`] with what was recovered.
    ///
    /// # Errors
    /// [`AuditError::Tampered`] if the log is not what was signed; other kinds if it cannot be used.
    pub fn open(directory: &Path, origin: &str) -> Result<(Log, Recovered), AuditError> {
        Log::open_with(directory, origin, SEGMENT_BYTES)
    }

    /// [`Log::open`] with sinks, witnesses and reserved space.
    ///
    /// # Errors
    /// As [`Log::open`], and for a sink that cannot be used.
    pub fn open_as(
        directory: &Path,
        origin: &str,
        settings: &Settings,
    ) -> Result<(Log, Recovered), AuditError> {
        Log::open_feeding(directory, origin, settings, Vec::new())
    }

    /// The same, and copies of it in other forms.
    ///
    /// # Errors
    /// As [`Log::open_as`], and for a feed that cannot be used.
    pub fn open_feeding(
        directory: &Path,
        origin: &str,
        settings: &Settings,
        feeds: Vec<Feed>,
    ) -> Result<(Log, Recovered), AuditError> {
        Log::open_all(directory, origin, SEGMENT_BYTES, (settings, feeds))
    }

    /// [`Log::open`] with another size of segments.
    pub(crate) fn open_with(
        directory: &Path,
        origin: &str,
        segment_limit: u64,
    ) -> Result<(Log, Recovered), AuditError> {
        let settings = Settings { reserve_mib: 0, ..Settings::default() };
        Log::open_all(directory, origin, segment_limit, (&settings, Vec::new()))
    }

    fn open_all(
        directory: &Path,
        origin: &str,
        segment_limit: u64,
        copies: (&Settings, Vec<Feed>),
    ) -> Result<(Log, Recovered), AuditError> {
        let origin = Name::parse(origin).map_err(AuditError::Origin)?;
        let files = lock(directory)?;
        let found = verify::list(directory).map_err(AuditError::Tampered)?;
        let created = found.is_empty() && !directory.join(CHECKPOINT).exists();
        let signer = signer(&files, origin, created)?;
        let mut tiles = Builder::default();
        let (walk, tail) = recover(directory, &found, signer.verifier(), created, &mut tiles)?;
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
            known: walk.anchors.known,
            floor: walk.anchors.floor(),
            awaiting: walk.anchors.awaiting.clone(),
            unstarted: walk.anchors.unstarted.clone(),
            tally_began: walk.anchors.tally_began,
            created,
        };
        let medium = Appending::start(files, found.last(), recovered.size).map_err(at)?;
        let mut log = Log::start(medium, signer, walk, checkpoint, segment_limit)?;
        match log.start_aides(directory, tiles, copies) {
            Ok(aides) => log.aides = Some(Arc::new(aides)),
            Err(error) => {
                // Whoever is refused finds the directory free.
                log.close()?;
                return Err(error);
            }
        }
        Ok((log, recovered))
    }

    /// Starts what a log on a disk has beside its writer.
    fn start_aides(
        &self,
        directory: &Path,
        tiles: Builder,
        (settings, feeds): (&Settings, Vec<Feed>),
    ) -> Result<Aides, AuditError> {
        let witnesses = settings.witness_keys().map_err(|faults| AuditError::Witness(faults.join("; ")))?;
        let shelf = Shelf::open(directory, &self.verifier, witnesses).map_err(AuditError::Tampered)?;
        let sinks = Sinks::start(
            directory,
            &self.verifier,
            tiles.size(),
            &self.inlet.shared,
            (&settings.sinks, feeds),
        )?;
        let keeper = Keeper::start(Duties {
            directory: directory.to_owned(),
            tiles,
            inlet: self.inlet.clone(),
            gate: Arc::clone(&self.inlet.gate),
            flood: Arc::clone(&self.flood),
            sinks: Arc::clone(&sinks.views),
            reserve: settings.reserve_mib.saturating_mul(1024 * 1024),
        })
        .map_err(AuditError::Thread)?;
        Ok(Aides {
            directory: directory.to_owned(),
            shelf,
            sinks: Arc::clone(&sinks.views),
            announced: Arc::clone(&sinks.announced),
            running: Mutex::new(Some((keeper, sinks))),
        })
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
        let inlet = Inlet { origin: verifier.name().clone(), queue, shared, gate: Arc::default() };
        let flood = Arc::new(Flood::new(Instant::now()));
        Ok(Log { verifier, inlet, flood, thread, aides: None })
    }

    /// Appends an event and waits until its line is durable, for five seconds at most: then the caller is refused, whatever
    /// becomes of the line. A line that is written after all says more than was done, never less; the same holds when the
    /// wait is cancelled. Needs a runtime with time.
    ///
    /// # Errors
    /// [`AuditError`]; in each case what the event reports must not be done.
    pub async fn append<K: Kind>(&self, mut event: Event<K>) -> Result<Receipt<K>, AuditError> {
        let (answer, receipt) = oneshot::channel();
        self.inlet.submit(&mut event, Waiter::Task(answer))?;
        let receipt = tokio::time::timeout(PATIENCE, receipt).await.map_err(|_late| AuditError::Stalled)?;
        Ok(receipt.map_err(|_detail| AuditError::Poisoned)?.covering(event))
    }

    /// [`Log::append`] for a thread that may block; not for a task.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn append_blocking<K: Kind>(&self, mut event: Event<K>) -> Result<Receipt<K>, AuditError> {
        let (answer, receipt) = sync_channel(1);
        self.inlet.submit(&mut event, Waiter::Thread(answer))?;
        let receipt = receipt.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => AuditError::Stalled,
            RecvTimeoutError::Disconnected => AuditError::Poisoned,
        })?;
        Ok(receipt.covering(event))
    }

    /// Appends a refusal that anybody can provoke, unless there were so many like it that it is only counted: the count
    /// becomes a line once a minute (threat B16). `None` for one that was counted.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn append_refusal(&self, event: Event) -> Result<Option<Receipt>, AuditError> {
        self.inlet.admits(event.action())?;
        let admitted = event.refusal().is_none_or(|refusal| self.flood.admits(refusal, event.time()));
        if admitted { self.append(event).await.map(Some) } else { Ok(None) }
    }

    /// Durable lines.
    pub fn size(&self) -> u64 {
        self.inlet.size()
    }

    /// The log's name.
    pub fn origin(&self) -> &Name {
        &self.inlet.origin
    }

    /// The key that verifies its checkpoints.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The newest checkpoint, to keep elsewhere.
    pub fn checkpoint(&self) -> Arc<Checkpoint> {
        self.inlet.shared.latest()
    }

    /// The newest checkpoint that a configured witness cosigned.
    pub fn cosigned(&self) -> Option<Arc<Cosigned>> {
        self.aides.as_ref()?.shelf.latest()
    }

    /// Keeps a cosigned checkpoint, as a witness returns it.
    ///
    /// # Errors
    /// [`CosignError`]: not of this log, of a stranger, or older than the one that is kept.
    pub fn keep_cosigned(&self, note: &str) -> Result<Arc<Cosigned>, CosignError> {
        let aides = self.aides.as_ref().ok_or(CosignError::Stranger)?;
        aides.shelf.put(&aides.directory, &self.verifier, &self.checkpoint(), note)
    }

    /// The daemon has said on standard output what it says there: from now on a sink may write to it.
    pub fn announced(&self) {
        if let Some(aides) = &self.aides {
            aides.announced.store(true, Ordering::Release);
        }
    }

    /// How the sinks stand, in the order of the configuration; after them the feeds.
    pub fn sinks(&self) -> Vec<SinkStatus> {
        let size = self.size();
        self.aides.iter().flat_map(|aides| aides.sinks.iter()).map(|sink| sink.status(size)).collect()
    }

    /// What an operator should look at, in words.
    pub fn degraded(&self) -> Vec<&'static str> {
        let gate = &self.inlet.gate;
        let mut words = Vec::new();
        if self.inlet.shared.poisoned.load(Ordering::Acquire) {
            words.push("the audit log failed; every call is refused until a restart");
        }
        if gate.stalled.load(Ordering::Relaxed) {
            words.push("the audit log's disk is stuck; every call is refused");
        }
        if gate.low_on_space.load(Ordering::Relaxed) {
            words.push("the audit log's disk has less free space than is reserved; data calls are refused");
        }
        if gate.sink_behind.load(Ordering::Relaxed) {
            words.push("a required audit sink is behind by more than its backlog; calls are refused");
        }
        if self.sinks().iter().any(|sink| sink.late && !sink.required) {
            words.push("an audit sink is behind by more than its backlog");
        }
        if gate.tiles_failed.load(Ordering::Relaxed) {
            words.push("tiles of the audit log cannot be written");
        }
        if self.aides.as_ref().is_some_and(|aides| aides.shelf.has_witnesses()) && self.cosigned().is_none() {
            words.push("no witness has cosigned the audit log yet");
        }
        words
    }

    /// Whether data calls are refused because of the log.
    pub fn is_refusing(&self) -> bool {
        self.inlet.shared.poisoned.load(Ordering::Acquire)
            || self.inlet.gate.admits(Action::Detokenize).is_err()
    }

    /// Counters.
    pub fn statistics(&self) -> Statistics {
        let shared = &self.inlet.shared;
        Statistics {
            size: self.size(),
            groups: shared.groups.load(Ordering::Relaxed),
            syncs: shared.syncs.load(Ordering::Relaxed),
            checkpoints: shared.checkpoints.load(Ordering::Relaxed),
            signed: shared.latest().size(),
            queued_bytes: shared.queued_bytes.load(Ordering::Relaxed),
            poisoned: shared.poisoned.load(Ordering::Acquire),
        }
    }

    /// Writes what is queued and the counts of refusals, signs a last checkpoint, brings tiles and sinks up to it and
    /// releases the directory. Other handles are refused from then on.
    ///
    /// # Errors
    /// [`AuditError::Poisoned`] if the disk failed at any time.
    pub fn close(self) -> Result<(), AuditError> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return Err(AuditError::Closed) };
        for mut counted in self.flood.rest() {
            // A log that takes no lines any more says so below.
            let _refused = self.inlet.put(&mut counted).is_err();
        }
        // A writer that has already ended says why below.
        let _ended = self.inlet.queue.send(Command::Close).is_err();
        let ended = thread.join();
        let running = self
            .aides
            .as_ref()
            .and_then(|aides| aides.running.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some((keeper, sinks)) = running {
            keeper.close();
            sinks.close();
        }
        match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(AuditError::Poisoned),
        }
    }
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
    tiles: &mut Builder,
) -> Result<(Walk, Tail), AuditError> {
    let signed = verify::read_checkpoint(directory, verifier).map_err(AuditError::Tampered)?;
    // A checkpoint is written before the first segment, so segments without one have lost it.
    if signed.is_none() && !created {
        return Err(AuditError::Tampered(VerifyError::CheckpointMissing));
    }
    let cosigned = cosigned::read(directory, verifier).map_err(AuditError::Tampered)?;
    let heads: Vec<&Checkpoint> = signed.iter().chain(&cosigned).collect();
    let mut unwritable = None;
    let recovered = verify::recompute(found, &heads, &mut |_, leaf| {
        tiles.push(leaf, &mut |tile| unwritable = tile.store(directory).err().or(unwritable.take()));
        Ok(())
    })
    .map_err(AuditError::Tampered)?;
    match unwritable {
        Some(source) => Err(AuditError::Io { path: directory.to_owned(), source }),
        None => Ok(recovered),
    }
}

/// A segment is ended before it grows beyond this.
const SEGMENT_BYTES: u64 = 256 * 1024 * 1024;
const SIGNER: &str = "signer.pk8";
const VERIFIER: &str = "verifier.txt";

#[cfg(test)]
mod tests;
