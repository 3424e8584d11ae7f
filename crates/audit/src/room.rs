//! Room made ahead of the lines: zeros, written and synced where the writer will write next.
//!
//! On a journaling file system the `fdatasync` of a growing file waits for a thread of the kernel to commit metadata;
//! that of bytes written over others does not (docs/performance.md has the figures). It must never write where the writer
//! may be writing: what lies before `end` is the writer's, who asks with [`Room::reach`] before going further. Tests:
//! below, `log/tests.rs`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// The room in one file at a time, and the thread that makes it. Dropping it waits for the thread.
#[derive(Debug)]
pub(crate) struct Room {
    /// The file of the zeros: a description of its own, so that an error of writing lines is not reported to the
    /// thread that writes zeros instead of the one that answers for the lines.
    file: Option<Arc<File>>,
    /// Bytes that are there or belong to the writer.
    end: u64,
    /// Whether zeros are being written behind `end`.
    making: bool,
    /// `None` only while it is dropped.
    orders: Option<Sender<Stretch>>,
    made: Receiver<io::Result<u64>>,
    thread: Option<JoinHandle<()>>,
}

impl Room {
    /// Starts the thread under this name. There is no file yet.
    ///
    /// # Errors
    /// The thread can't be started.
    pub(crate) fn start(name: &str) -> io::Result<Room> {
        let (orders, work) = channel::<Stretch>();
        let (tell, made) = channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            for stretch in work {
                if tell.send(stretch.fill()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Room { file: None, end: 0, making: false, orders: Some(orders), made, thread: Some(thread) })
    }

    /// Goes on with another file, in which the writer will write from `end` on or later.
    ///
    /// # Errors
    /// The file can't be opened.
    pub(crate) fn enter(&mut self, path: &Path, end: u64) -> io::Result<()> {
        self.settle();
        self.file = Some(Arc::new(File::options().write(true).open(path)?));
        self.end = end;
        Ok(())
    }

    /// Before a write that ends at `end`: waits for the zeros that are being written if it goes beyond them.
    pub(crate) fn reach(&mut self, end: u64) {
        if end > self.end {
            self.settle();
            self.end = self.end.max(end);
        }
    }

    /// After a write that ended at `length`: has zeros written once less than half a stretch of them is left. A stretch is as
    /// long as what was written so far, so a small file stays small.
    pub(crate) fn make(&mut self, length: u64) {
        if self.making {
            if let Ok(made) = self.made.try_recv() {
                self.take(made);
            }
            return;
        }
        let stretch = length.min(LONGEST_STRETCH);
        if stretch < SHORTEST_STRETCH || self.end.saturating_sub(length) > stretch / 2 {
            return;
        }
        if let (Some(file), Some(orders)) = (&self.file, &self.orders) {
            let to = self.end.saturating_add(stretch);
            self.making = orders.send(Stretch { file: Arc::clone(file), from: self.end, to }).is_ok();
        }
    }

    /// Waits for the zeros that are being written, if any.
    pub(crate) fn settle(&mut self) {
        if self.making
            && let Ok(made) = self.made.recv()
        {
            self.take(made);
        }
        self.making = false;
    }

    fn take(&mut self, made: io::Result<u64>) {
        self.making = false;
        match made {
            Ok(end) => self.end = self.end.max(end),
            // A full disk, for one. The writer meets it as well, with its own bytes, and answers for them.
            Err(_failed) => self.file = None,
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // A panic was reported where it happened; there is nothing to clean up.
            drop(thread.join());
        }
    }
}

/// A part of a file to fill with zeros.
struct Stretch {
    file: Arc<File>,
    from: u64,
    to: u64,
}

impl Stretch {
    /// Writes the zeros and makes them durable, in steps, so that the disk serves others in between.
    fn fill(&self) -> io::Result<u64> {
        let mut at = self.from;
        while at < self.to {
            let step = usize::try_from(self.to.saturating_sub(at)).unwrap_or(usize::MAX).min(ZEROS.len());
            self.file.write_all_at(ZEROS.get(..step).unwrap_or_default(), at)?;
            self.file.sync_data()?;
            at = at.saturating_add(u64::try_from(step).unwrap_or(u64::MAX));
        }
        Ok(self.to)
    }
}

static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];
/// No room is made in a file before it has so many bytes.
const SHORTEST_STRETCH: u64 = 256 * 1024;
/// Most zeros at once: seconds of writing at the highest rates.
const LONGEST_STRETCH: u64 = 32 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes `total` bytes in pieces, as a log does, and gives what the file holds then.
    fn written(total: u64, piece: usize) -> (Vec<u8>, u64) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("log");
        let file = File::create_new(&path).unwrap();
        let mut room = Room::start("ahead").unwrap();
        room.enter(&path, 0).unwrap();
        let mut length = 0;
        while length < total {
            let end = length + piece as u64;
            room.reach(end);
            file.write_all_at(&vec![b'x'; piece], length).unwrap();
            length = end;
            room.make(length);
        }
        drop(room);
        (std::fs::read(&path).unwrap(), length)
    }

    #[test]
    fn zeros_never_meet_what_was_written() {
        for piece in [1, 7_000, 100_000, 3_000_000] {
            let (bytes, length) = written(if piece == 1 { 300_000 } else { 9_000_000 }, piece);
            let length = usize::try_from(length).unwrap();
            assert!(bytes[..length].iter().all(|byte| *byte == b'x'), "pieces of {piece}");
            assert!(bytes[length..].iter().all(|byte| *byte == 0), "pieces of {piece}");
            assert!(bytes.len() > length, "no room was made for pieces of {piece}");
            assert!(bytes.len() <= 3 * length, "{} bytes of zeros for {length}", bytes.len() - length);
        }
    }

    #[test]
    fn a_small_file_gets_no_room() {
        let (bytes, length) = written(SHORTEST_STRETCH - 1_000, 1_000);
        assert_eq!(bytes.len() as u64, length);
    }

    #[test]
    fn another_file_starts_anew() {
        let scratch = tempfile::tempdir().unwrap();
        let paths = [scratch.path().join("one"), scratch.path().join("two")];
        let mut room = Room::start("ahead").unwrap();
        for path in &paths {
            File::create_new(path).unwrap();
            room.enter(path, 0).unwrap();
            assert_eq!(room.end, 0);
            room.reach(SHORTEST_STRETCH);
            room.make(SHORTEST_STRETCH);
            room.settle();
            assert_eq!(room.end, 2 * SHORTEST_STRETCH);
        }
        for path in &paths {
            assert_eq!(std::fs::metadata(path).unwrap().len(), 2 * SHORTEST_STRETCH);
        }
    }
}
