//! The segment that is written: lines go where zeros were written ahead, so that a sync has no metadata to commit.
//!
//! It must never leave zeros behind a segment that is ended. Tests: `log/tests.rs`, `tests/log.rs`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::directory::{Directory, Medium, Publish};
use crate::room::Room;
use crate::segment::Segment;

/// A log directory whose last segment is open for writing.
#[derive(Debug)]
pub(crate) struct Appending {
    // Dropped first: its thread ends before the directory's lock does.
    room: Room,
    segment: File,
    /// Bytes of lines.
    length: u64,
    directory: Arc<Directory>,
}

impl Appending {
    /// Goes on with the last segment, which holds nothing but whole lines, or begins the first.
    pub(crate) fn start(directory: Directory, last: Option<&Segment>, first: u64) -> io::Result<Appending> {
        let mut room = Room::start("audit-room")?;
        let (segment, path) = match last {
            Some(last) => (File::options().write(true).open(&last.path)?, last.path.clone()),
            None => directory.new_segment(first)?,
        };
        let length = segment.metadata()?.len();
        room.enter(&path, length)?;
        Ok(Appending { room, segment, length, directory: Arc::new(directory) })
    }
}

impl Medium for Appending {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let end = self.length.saturating_add(u64::try_from(lines.len()).unwrap_or(u64::MAX));
        self.room.reach(end);
        self.segment.write_all_at(lines, self.length)?;
        self.length = end;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.segment.sync_data()?;
        self.room.make(self.length);
        Ok(())
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn rotate(&mut self, first: u64) -> io::Result<()> {
        self.end()?;
        let (segment, path) = self.directory.new_segment(first)?;
        self.room.enter(&path, 0)?;
        self.segment = segment;
        self.length = 0;
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.room.settle();
        self.segment.set_len(self.length)?;
        self.segment.sync_all()
    }

    fn publisher(&self) -> Publish {
        let directory = Arc::clone(&self.directory);
        Box::new(move |note| directory.publish(note))
    }
}
