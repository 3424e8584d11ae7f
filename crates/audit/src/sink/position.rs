//! The index of the line that a sink takes next, kept over a crash for a sink that cannot say itself what it has.
//!
//! It must never say more than was taken: what cannot be read means from the beginning. Tests: `sink/tests.rs`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// A file of one number.
#[derive(Debug)]
pub(super) struct Position {
    file: File,
    next: u64,
}

impl Position {
    /// Opens it. A new one begins at `size`, and is durable before the first line that comes after.
    pub(super) fn open(path: &Path, size: u64) -> io::Result<Position> {
        let new = !path.exists();
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut text = String::new();
        // Bytes that are no text are as good as none.
        let _unreadable = (&mut file).take(WIDTH).read_to_string(&mut text).is_err();
        let next = if new { size } else { text.trim_end().parse().unwrap_or(0) };
        let mut position = Position { file, next };
        if new {
            position.keep(size)?;
            position.file.sync_all()?;
            if let Some(directory) = path.parent() {
                File::open(directory)?.sync_all()?;
            }
        }
        Ok(position)
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Writes over the number in place, always as many bytes: a crash leaves the one before or this one. Lost with the
    /// disk's cache, it costs lines sent twice, never one not sent.
    pub(super) fn keep(&mut self, next: u64) -> io::Result<()> {
        self.file.write_all_at(format!("{next:020}\n").as_bytes(), 0)?;
        self.next = next;
        Ok(())
    }
}

const WIDTH: u64 = 21;
