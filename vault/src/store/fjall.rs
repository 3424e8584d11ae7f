//! The embedded engine: fjall, a log-structured tree with a journal.
//!
//! Must never let a change be read before its journal entry was synced, and never rely on a sync in the
//! background. Tests: `vault/tests/store_suite` (conformance, durability, recovery).
//!
//! A commit is one journal batch and one `fdatasync` (`PersistMode::SyncData`: the data and what is needed to read
//! it back); fjall applies it to memory only after that. The directory is locked against a second process by
//! fjall (an advisory lock on its file `lock`). Fjall accepts a journal that lost its tail, so the commit marks and the audit log's anchor decide
//! whether a directory is whole (see [`Embedded::start`]).

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cordon_daemon::process::give_way;
use fjall::config::CompressionPolicy;
use fjall::{
    CompressionType, Database, Guard, Keyspace, KeyspaceCreateOptions, LsmError, OwnedWriteBatch,
    PersistMode, Readable,
};

mod torn;

use self::torn::Torn;
use super::StoreError;
use super::embedded::{Change, Embedded, Engine, Pair, View, check_anchor};
use super::rows::KeyRange;

/// The default store: one directory, one process.
pub type FjallStore = Embedded<Fjall>;

/// Memory and disk bounds of the engine.
#[derive(Clone, Copy, Debug)]
pub struct FjallOptions {
    /// Bytes of stored blocks kept in memory. A fifth of the machine's memory is a good start; warm reads
    /// want the whole index to fit.
    pub cache_bytes: u64,
    /// Bytes of recent writes kept in memory before they are sorted into a table. Up to five times as much is
    /// held while tables are being written, and the journal on disk may grow to four times as much. Commits
    /// stall while a table is taken over, so that rare, large tables keep the slowest ones rare. Fixed when the
    /// directory is created.
    pub memtable_bytes: u64,
}

impl Default for FjallOptions {
    fn default() -> Self {
        Self { cache_bytes: 256 << 20, memtable_bytes: 128 << 20 }
    }
}

impl Embedded<Fjall> {
    /// Opens or creates a store with the default bounds. `anchor` is the highest store sequence that the
    /// audit log has seen; give `None` only if there is no audit log yet.
    ///
    /// # Errors
    /// [`StoreError::Behind`], [`StoreError::Locked`], [`StoreError::Corrupt`], [`StoreError::Io`],
    /// [`StoreError::Full`].
    pub fn open(dir: &Path, anchor: Option<u64>) -> Result<Self, StoreError> {
        Self::open_with(dir, anchor, &FjallOptions::default())
    }

    /// [`FjallStore::open`] with other bounds.
    ///
    /// # Errors
    /// As [`FjallStore::open`].
    pub fn open_with(dir: &Path, anchor: Option<u64>, options: &FjallOptions) -> Result<Self, StoreError> {
        if is_blank(dir)? {
            // Refused before anything is created: this may be the bare mount point of a missing volume.
            check_anchor(0, anchor)?;
        }
        Self::start(Fjall::open(dir, options)?, anchor)
    }

    /// Makes a store in an empty directory from the pairs of a [`super::Snapshot`], and opens it. What `next` gives is
    /// checked pair by pair. Rows can be used up and deleted in it, and none can come. A directory that was not filled to the end must not be used.
    ///
    /// # Errors
    /// Those of `next`; [`StoreError::Corrupt`] for pairs that no store wrote; else as [`FjallStore::open`].
    pub fn fill<E: From<StoreError>>(
        dir: &Path,
        options: &FjallOptions,
        next: impl FnMut() -> Result<Option<Pair>, E>,
    ) -> Result<Self, E> {
        if !is_blank(dir)? {
            return Err(StoreError::Invalid("a directory that is not empty").into());
        }
        let engine = Fjall::open(dir, options)?;
        super::snapshot::fill(&engine, next)?;
        Ok(Self::start_for(engine, None, true)?)
    }
}

/// The engine behind [`FjallStore`].
pub struct Fjall {
    database: Database,
    keyspace: Keyspace,
    syncs: AtomicU64,
}

impl Fjall {
    fn open(dir: &Path, options: &FjallOptions) -> Result<Self, StoreError> {
        let during = "opening the directory";
        if !dir.join("version").exists() && dir.join("0.jnl").exists() {
            // Fjall writes the marker last when it creates a directory, and would not create one here again.
            return Err(StoreError::Corrupt(
                "its creation was cut short, or the engine's version marker is gone",
            ));
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| StoreError::from_io(during, error))?;
        let (database, keyspace) = match open_database(dir, options) {
            Err(StoreError::Corrupt(_)) => open_without_torn_commit(dir, options)?,
            opened => opened?,
        };
        // Fjall syncs its files and their directories, but not every parent that got a new entry.
        for created in [Some(dir.join("keyspaces").as_path()), Some(dir), dir.parent()] {
            sync_directory(created).map_err(|error| StoreError::from_io(during, error))?;
        }
        Ok(Self { database, keyspace, syncs: AtomicU64::new(0) })
    }
}

impl Fjall {
    /// Waits while the engine is behind with writing tables. Fjall would wait inside the commit, but without
    /// noticing that its workers have died of a full disk; this notices.
    fn wait_for_tables(&self) -> Result<(), StoreError> {
        while self.keyspace.sealed_memtable_count() >= MOST_SEALED_MEMTABLES
            || self.keyspace.l0_table_count() >= MOST_LOOSE_TABLES
        {
            // Syncs nothing; fails once a worker has failed.
            self.database
                .persist(PersistMode::Buffer)
                .map_err(|error| sort_error("writing tables", error))?;
            std::thread::sleep(TABLE_WAIT);
        }
        Ok(())
    }
}

impl Engine for Fjall {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.keyspace.get(key).map_err(|error| sort_error("reading", error))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn range(&self, range: KeyRange, limit: usize) -> Result<Vec<Pair>, StoreError> {
        self.database
            .snapshot()
            .range(&self.keyspace, range)
            .take(limit)
            .map(Guard::into_inner)
            .map(|pair| match pair {
                Ok((key, value)) => Ok((key.to_vec(), value.to_vec())),
                Err(error) => Err(sort_error("reading", error)),
            })
            .collect()
    }

    fn view(&self) -> View {
        let (snapshot, keyspace) = (self.database.snapshot(), self.keyspace.clone());
        let pairs = Box::new(snapshot.iter(&keyspace).map(|guard| match guard.into_inner() {
            Ok((key, value)) => Ok((key.to_vec(), value.to_vec())),
            Err(error) => Err(sort_error("reading", error)),
        }));
        let lookup = Box::new(move |key: &[u8]| {
            let value = snapshot.get(&keyspace, key).map_err(|error| sort_error("reading", error))?;
            Ok(value.map(|value| value.to_vec()))
        });
        View { pairs, lookup }
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.wait_for_tables()?;
        let mut batch = OwnedWriteBatch::with_capacity(self.database.clone(), changes.len())
            .durability(Some(PersistMode::SyncData));
        for change in changes {
            match change.value {
                Some(value) => batch.insert(&self.keyspace, change.key, value),
                None => batch.remove(&self.keyspace, change.key),
            }
        }
        self.syncs.fetch_add(1, Ordering::Relaxed);
        batch.commit().map_err(|error| sort_error("writing", error))
    }

    fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    fn bytes_on_disk(&self) -> u64 {
        self.database.disk_space().unwrap_or(0)
    }
}

impl fmt::Debug for Fjall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fjall").finish_non_exhaustive()
    }
}

/// One below the number at which fjall stops writers.
const MOST_SEALED_MEMTABLES: usize = 3;

/// Just below the number at which fjall stops writers.
const MOST_LOOSE_TABLES: usize = 28;

const TABLE_WAIT: Duration = Duration::from_millis(1);

/// The smallest journal bound that fjall takes.
const SMALLEST_JOURNAL: u64 = 64 << 20;

/// The smallest table buffer that makes sense.
const SMALLEST_MEMTABLE: u64 = 1 << 20;

/// Damaged files can make fjall panic; where it holds a lock then, its destructors panic too and the process aborts, which
/// nothing here can prevent.
fn open_database(dir: &Path, options: &FjallOptions) -> Result<(Database, Keyspace), StoreError> {
    std::thread::scope(|scope| {
        // The engine's workers write tables for seconds at a time. They have the priority of the thread that starts them.
        let opener = std::thread::Builder::new().name("store-opener".to_owned()).spawn_scoped(scope, || {
            give_way();
            std::panic::catch_unwind(AssertUnwindSafe(|| try_open(dir, options)))
        });
        let opener = opener.map_err(|error| StoreError::from_io("starting a thread", error))?;
        opener
            .join()
            .flatten()
            .map_err(|_panic| StoreError::Corrupt("the engine could not make sense of its files"))?
            .map_err(|error| sort_error("opening the directory", error))
    })
}

/// Opens a directory whose last commit was cut by a power failure. Any other is left as it was.
fn open_without_torn_commit(dir: &Path, options: &FjallOptions) -> Result<(Database, Keyspace), StoreError> {
    let failed = |error| StoreError::from_io("opening the directory", error);
    let damaged = StoreError::Corrupt("a checksum or length in the engine's journal");
    let torn = Torn::cut(dir).map_err(failed)?.ok_or(damaged)?;
    match open_database(dir, options) {
        Ok(opened) => Ok(opened),
        Err(error) => {
            torn.restore().map_err(failed)?;
            Err(error)
        }
    }
}

fn try_open(dir: &Path, options: &FjallOptions) -> fjall::Result<(Database, Keyspace)> {
    let database = Database::builder(dir)
        .cache_size(options.cache_bytes)
        .max_journaling_size(options.memtable_bytes.saturating_mul(4).max(SMALLEST_JOURNAL))
        // Every commit names its own durability.
        .manual_journal_persist(true)
        // Ciphertext, fingerprints and random tokens do not compress.
        .journal_compression(CompressionType::None)
        // One flushes while the other compacts.
        .worker_threads(2)
        .open()?;
    let keyspace = database.keyspace("cordon", || {
        KeyspaceCreateOptions::default()
            .manual_journal_persist(true)
            .max_memtable_size(options.memtable_bytes.max(SMALLEST_MEMTABLE))
            .data_block_compression_policy(CompressionPolicy::disabled())
    })?;
    Ok((database, keyspace))
}

/// Whether a directory is missing or empty.
fn is_blank(dir: &Path) -> Result<bool, StoreError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(StoreError::from_io("opening the directory", error)),
    }
}

fn sync_directory(dir: Option<&Path>) -> io::Result<()> {
    match dir {
        Some(dir) if !dir.as_os_str().is_empty() => File::open(dir)?.sync_all(),
        Some(_) | None => Ok(()),
    }
}

/// Fjall's errors hold no keys or values, but they hold paths and checksums; only the operating system's part
/// is kept.
fn sort_error(during: &'static str, error: fjall::Error) -> StoreError {
    match error {
        fjall::Error::Locked => StoreError::Locked,
        fjall::Error::Poisoned => StoreError::Closed,
        fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error)) => match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
                StoreError::Corrupt("a file of the engine ends too early")
            }
            _ => StoreError::from_io(during, error),
        },
        fjall::Error::JournalRecovery(_) => {
            StoreError::Corrupt("a checksum or length in the engine's journal")
        }
        fjall::Error::InvalidVersion(_) => StoreError::Corrupt("the engine's files are of another version"),
        _ => StoreError::Corrupt("a checksum or tag in the engine's files"),
    }
}
