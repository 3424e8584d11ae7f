//! Room ahead of the engine's journal, so that the sync of a commit has no metadata to wait for.
//!
//! Must never write where the engine may write, and never let a commit be acknowledged that the engine put behind the room
//! instead of into it. Tests: below, `vault/tests/store_suite` (every test there runs with it).
//!
//! What it relies on, of the version in Cargo.lock: journals are `<number>.jnl`; a new one is written from its beginning by
//! the thread that commits; one that was there when the database was opened is appended to, so it gets no room; recovery
//! ends a journal at zeros. The engine may begin the next journal at any time: zeros in the one before do no harm.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use cordon_prewrite::Room;
use rustix::fs::SeekFrom;

use crate::store::StoreError;
use crate::store::embedded::Change;

/// The journal that gets room.
#[derive(Debug)]
pub(super) struct Journal {
    room: Room,
    directory: PathBuf,
    /// The newest journal that was seen.
    number: u64,
    /// The same, opened to look at; `None` while it is one that is appended to.
    file: Option<File>,
    /// Bytes that the engine has written at most.
    length: u64,
}

impl Journal {
    /// Looks for the journals of a database that was just opened; `created` if it was made now.
    pub(super) fn start(directory: &Path, created: bool) -> io::Result<Journal> {
        let number = newest(directory)?;
        let room = Room::start("store-room")?;
        let mut journal = Journal { room, directory: directory.to_owned(), number, file: None, length: 0 };
        if created {
            journal.enter(number)?;
        }
        Ok(journal)
    }

    /// Runs one commit of at most so many bytes. Called by the one thread that commits.
    pub(super) fn around(
        &mut self,
        bytes: u64,
        commit: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let failed = |error| StoreError::from_io("making room in the journal", error);
        let next = self.number.saturating_add(1);
        if path(&self.directory, next).exists() {
            self.enter(next).map_err(failed)?;
        }
        let Some(file) = &self.file else { return commit() };
        let end = self.length.saturating_add(bytes);
        let fits = end <= self.room.end() && self.room.is_idle();
        self.room.reach(end);
        let before = file.metadata().map_err(failed)?.len();
        commit()?;
        self.length = end;
        if fits && file.metadata().map_err(failed)?.len() > before {
            return Err(StoreError::Corrupt("the engine does not write where its journal has room"));
        }
        self.room.make(end);
        Ok(())
    }

    /// Turns to a journal that was begun since the database was opened. Nobody writes to it now.
    fn enter(&mut self, number: u64) -> io::Result<()> {
        let path = path(&self.directory, number);
        let file = File::open(&path)?;
        // All that was written lies before the first hole.
        let length = rustix::fs::seek(&file, SeekFrom::Hole(0))?;
        self.room.enter(&path, length)?;
        self.number = number;
        self.file = Some(file);
        self.length = length;
        Ok(())
    }
}

/// The last commit of the newest journal, taken away to see whether the engine opens without it.
///
/// Bytes written over others need not reach the disk in order, so a power cut can leave a commit that was never acknowledged with
/// a hole in its middle, which the engine refuses. Whether it was acknowledged all the same, and damaged later, the audit log's
/// anchor tells once the store is open.
#[derive(Debug)]
pub(super) struct Torn {
    journal: PathBuf,
    /// The journal as it was, kept for whoever looks into it.
    whole: PathBuf,
}

impl Torn {
    /// Takes it away; `None` if there is none.
    pub(super) fn cut(directory: &Path) -> io::Result<Option<Torn>> {
        let journal = path(directory, newest(directory)?);
        let bytes = std::fs::read(&journal)?;
        let end = |bytes: &[u8]| {
            let start = bytes.windows(TRAILER.len()).rposition(|window| window == TRAILER);
            start.map(|start| start.saturating_add(TRAILER.len()))
        };
        let Some(last) = end(&bytes) else { return Ok(None) };
        let has_trailer = bytes.get(last..).is_some_and(|rest| rest.iter().all(|byte| *byte == 0));
        let before = bytes.get(..last.saturating_sub(TRAILER.len())).and_then(end).unwrap_or(0);
        let cut_at = if has_trailer { before } else { last };
        let whole = journal.with_extension("torn");
        std::fs::copy(&journal, &whole)?;
        File::open(&whole)?.sync_all()?;
        let cut = File::options().write(true).open(&journal)?;
        cut.set_len(u64::try_from(cut_at).unwrap_or(u64::MAX))?;
        cut.sync_all()?;
        Ok(Some(Torn { journal, whole }))
    }

    /// Puts it back.
    pub(super) fn restore(self) -> io::Result<()> {
        std::fs::rename(self.whole, self.journal)
    }
}

fn newest(directory: &Path) -> io::Result<u64> {
    let mut number = 0;
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let journal = name.to_str().and_then(|name| name.strip_suffix(".jnl")?.parse().ok());
        number = number.max(journal.unwrap_or(0));
    }
    Ok(number)
}

fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number}.jnl"))
}

/// What the engine writes at the end of every commit.
const TRAILER: &[u8] = b"FJL\x03";

/// Bytes of a commit in the journal, at most.
pub(super) fn bytes(changes: &[Change]) -> u64 {
    let sum = changes.iter().fold(FRAME, |sum, change| {
        let value = change.value.as_ref().map_or(0, Vec::len);
        sum.saturating_add(change.key.len()).saturating_add(value).saturating_add(FRAME)
    });
    u64::try_from(sum).unwrap_or(u64::MAX)
}

/// What the engine adds to a change, and to a batch, at most; it is less than half of this.
const FRAME: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::Engine;
    use crate::store::fjall::{Fjall, FjallOptions};

    fn change(number: u32) -> Change {
        Change { key: number.to_be_bytes().to_vec(), value: Some(vec![7; 40_000]) }
    }

    fn open(dir: &Path) -> Fjall {
        Fjall::open(dir, &FjallOptions { memtable_bytes: 1 << 20, ..FjallOptions::default() }).unwrap()
    }

    fn journals(dir: &Path) -> Vec<Vec<u8>> {
        let mut found: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "jnl"))
            .collect();
        found.sort();
        found.iter().map(|path| std::fs::read(path).unwrap()).collect()
    }

    /// Bytes that are on the disk as such, not as a hole.
    fn allocated(dir: &Path, journal: &str) -> u64 {
        rustix::fs::seek(File::open(dir.join(journal)).unwrap(), SeekFrom::Hole(0)).unwrap()
    }

    #[test]
    fn commits_are_read_back_from_a_journal_with_room() {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path());
        for number in 0..20 {
            engine.commit(vec![change(number)]).unwrap();
        }
        engine.journal.lock().unwrap().room.settle();
        let written = 20 * 40_000;
        let bytes = journals(dir.path()).remove(0);
        assert!(bytes[..written].iter().filter(|byte| **byte == 7).count() > written * 9 / 10);
        assert!(allocated(dir.path(), "0.jnl") > written as u64 + 100_000, "no room was made");
        drop(engine);
        let engine = open(dir.path());
        for number in 0..20_u32 {
            assert_eq!(engine.get(&number.to_be_bytes()).unwrap(), change(number).value);
        }
    }

    #[test]
    fn a_journal_that_is_appended_to_gets_no_room() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).commit(vec![change(0)]).unwrap();
        let engine = open(dir.path());
        for number in 1..20 {
            engine.commit(vec![change(number)]).unwrap();
        }
        engine.journal.lock().unwrap().room.settle();
        let bytes = journals(dir.path()).pop().unwrap();
        assert_ne!(bytes.last(), Some(&0), "zeros stand where the engine appends");
        drop(engine);
        let engine = open(dir.path());
        assert!((0..20_u32).all(|number| engine.get(&number.to_be_bytes()).unwrap().is_some()));
    }

    #[test]
    fn the_next_journal_gets_room_and_nothing_is_lost_over_it() {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path());
        // Enough for the engine to begin a second journal, at 64 MB.
        for number in 0..2_400 {
            engine.commit(vec![change(number)]).unwrap();
        }
        let number = engine.journal.lock().unwrap().number;
        assert!(number >= 1, "the engine began no second journal");
        drop(engine);
        let engine = open(dir.path());
        for number in 0..2_400_u32 {
            assert_eq!(engine.get(&number.to_be_bytes()).unwrap(), change(number).value);
        }
    }

    #[test]
    fn an_engine_that_appends_behind_the_room_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.jnl");
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        let mut journal = Journal::start(dir.path(), true).unwrap();
        let commit = || {
            use std::io::Write;
            let mut file = File::options().append(true).open(&path).unwrap();
            file.write_all(&[1; 40_000]).map_err(|error| StoreError::from_io("writing", error))
        };
        let outcomes: Vec<_> = (0..40)
            .map(|number| {
                let outcome = journal.around(bytes(&[change(number)]), commit);
                journal.room.settle();
                outcome
            })
            .collect();
        assert!(
            outcomes.iter().any(|outcome| matches!(outcome, Err(StoreError::Corrupt(_)))),
            "{outcomes:?}"
        );
    }
}
