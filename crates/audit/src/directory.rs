//! The files of a log: segments that are appended to, the checkpoint that is replaced, the signing key.
//!
//! It must never leave a file readable by others, nor report a write as done before the disk has it. Tests: `tests/log.rs`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::segment::{self, Segment};
use crate::verify::CHECKPOINT;

/// What the writer needs of a disk. A trait for one reason: tests put a failing one in its place.
pub(crate) trait Medium: Send {
    /// Appends to the current segment.
    fn write(&mut self, lines: &[u8]) -> io::Result<()>;
    /// Makes what was written durable (`fdatasync`).
    fn sync(&mut self) -> io::Result<()>;
    /// Bytes of lines in the current segment.
    fn length(&self) -> u64;
    /// Begins a new segment with line `first`.
    fn rotate(&mut self, first: u64) -> io::Result<()>;
    /// Ends the current segment after its last line.
    fn end(&mut self) -> io::Result<()>;
    /// What replaces the checkpoint, atomically and durably; for another thread.
    fn publisher(&self) -> Publish;
}

/// Replaces the checkpoint by a note.
pub(crate) type Publish = Box<dyn FnMut(&str) -> io::Result<()> + Send>;

/// A locked log directory.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Holds the lock, and is synced when entries change.
    handle: File,
}

impl Directory {
    /// Opens, or makes, the directory and takes its lock.
    pub(crate) fn lock(path: &Path) -> io::Result<Directory> {
        if !path.exists() {
            DirBuilder::new().recursive(true).mode(PRIVATE_DIRECTORY).create(path)?;
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                File::open(parent)?.sync_all()?;
            }
        }
        let handle = File::open(path)?;
        match handle.try_lock() {
            Ok(()) => Ok(Directory { path: path.to_owned(), handle }),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::ResourceBusy.into()),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// For replacing a file that the writer does not touch, while it holds the lock.
    pub(crate) fn unlocked(path: &Path) -> io::Result<Directory> {
        Ok(Directory { path: path.to_owned(), handle: File::open(path)? })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether others than the owner may write here, and so replace any file.
    pub(crate) fn is_open_to_others(&self) -> io::Result<bool> {
        Ok(self.handle.metadata()?.mode() & 0o022 != 0)
    }

    /// Makes a new private file with this content, whole or not at all; fails if there is one. The caller holds the lock.
    pub(crate) fn create(&self, name: &str, content: &[u8]) -> io::Result<()> {
        if self.path.join(name).try_exists()? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.replace(name, content)
    }

    /// Puts a file in place of the one of this name, so that a crash leaves the old or the new.
    pub(crate) fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let next = self.path.join(format!("{name}.next"));
        let mut file = private().create(true).truncate(true).write(true).open(&next)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&next, self.path.join(name))?;
        self.handle.sync_all()
    }

    /// Reads a file that only its owner may read; `Ok(None)` if there is none.
    pub(crate) fn read_private(&self, name: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let path = self.path.join(name);
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if metadata.mode() & 0o077 != 0 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        fs::read(&path).map(|bytes| Some(Zeroizing::new(bytes)))
    }

    /// Cuts a segment after its whole lines.
    pub(crate) fn cut(&self, segment: &Segment, whole: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&segment.path)?;
        file.set_len(whole)?;
        file.sync_all()
    }

    /// Makes the segment that begins with line `first`.
    pub(crate) fn new_segment(&self, first: u64) -> io::Result<(File, PathBuf)> {
        let path = self.path.join(segment::file_name(first));
        let file = private().create_new(true).write(true).open(&path)?;
        file.sync_all()?;
        self.handle.sync_all()?;
        Ok((file, path))
    }

    /// Replaces the checkpoint.
    pub(crate) fn publish(&self, note: &str) -> io::Result<()> {
        self.replace(CHECKPOINT, note.as_bytes())
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(PRIVATE_FILE);
    options
}

const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_DIRECTORY: u32 = 0o700;
