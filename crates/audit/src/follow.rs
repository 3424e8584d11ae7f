//! Reading the durable lines of an open log behind its writer, for whatever is made from lines: tiles, copies elsewhere.
//!
//! It must never read a line that is not durable yet, nor make the writer wait: it reads the segments, and what it has
//! not read yet is kept nowhere else. Tests: at the end of this file.

use std::io;
use std::path::PathBuf;

use crate::segment::{self, Raw, RawLines};

/// A place in the log from which lines are read on.
#[derive(Debug)]
pub(crate) struct Follower {
    directory: PathBuf,
    /// Index of the line to read next.
    next: u64,
    place: Option<Place>,
}

/// A line's segment and offset.
#[derive(Debug, Clone)]
struct Place {
    first: u64,
    path: PathBuf,
    index: u64,
    offset: u64,
}

impl Follower {
    /// From line `next` on.
    pub(crate) fn new(directory: PathBuf, next: u64) -> Follower {
        Follower { directory, next, place: None }
    }

    /// Index of the line that is read next.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Gives the lines before `until`, which must be durable. A line whose taking fails is given again next time.
    pub(crate) fn read(
        &mut self,
        until: u64,
        take: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while self.next < until {
            let mut place = match self.place.take() {
                Some(place) => place,
                None => self.find()?,
            };
            // Opened each time: a buffer could hold what the file said before these lines were written.
            let mut lines = RawLines::open_at(&place.path, place.offset)?;
            let start = place.offset;
            while place.index < until
                && let Raw::Line(line) = lines.next()?
            {
                if place.index >= self.next {
                    let taken = take(place.index, line);
                    if taken.is_err() {
                        self.place = Some(place);
                        return taken;
                    }
                    self.next = place.index.saturating_add(1);
                }
                place.index = place.index.saturating_add(1);
                place.offset = start.saturating_add(lines.consumed());
            }
            if place.index >= until {
                self.place = Some(place);
            } else {
                self.place = Some(self.after(&place)?);
            }
        }
        Ok(())
    }

    fn find(&self) -> io::Result<Place> {
        let segments = segment::list(&self.directory)?;
        let segment = segments.into_iter().rfind(|segment| segment.first <= self.next);
        let segment = segment.ok_or(io::ErrorKind::NotFound)?;
        Ok(Place { first: segment.first, path: segment.path, index: segment.first, offset: 0 })
    }

    /// The segment that begins where this one ended.
    fn after(&self, ended: &Place) -> io::Result<Place> {
        let segments = segment::list(&self.directory)?;
        let next = segments.into_iter().find(|segment| segment.first == ended.index);
        let next = next.filter(|next| next.first > ended.first).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Place { first: next.first, path: next.path, index: next.first, offset: 0 })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn write(directory: &Path, first: u64, text: &str) {
        fs::write(directory.join(segment::file_name(first)), text).unwrap();
    }

    fn read(follower: &mut Follower, until: u64) -> Vec<String> {
        let mut lines = Vec::new();
        follower
            .read(until, &mut |index, line| {
                lines.push(format!("{index}{}", String::from_utf8_lossy(line)));
                Ok(())
            })
            .unwrap();
        lines
    }

    #[test]
    fn lines_come_once_each_over_segments_and_calls() {
        let scratch = tempfile::tempdir().unwrap();
        write(scratch.path(), 0, "a\nb\nc\n\0\0\0\0");
        let mut follower = Follower::new(scratch.path().to_owned(), 1);
        assert_eq!(read(&mut follower, 2), ["1b"]);
        assert_eq!(read(&mut follower, 2), Vec::<String>::new());
        write(scratch.path(), 3, "d\ne");
        assert_eq!(read(&mut follower, 4), ["2c", "3d"]);
        // A line that was not whole before is read whole.
        write(scratch.path(), 3, "d\nef\n");
        assert_eq!(read(&mut follower, 5), ["4ef"]);
    }

    #[test]
    fn a_line_that_was_not_taken_comes_again() {
        let scratch = tempfile::tempdir().unwrap();
        write(scratch.path(), 0, "a\nb\nc\n");
        let mut follower = Follower::new(scratch.path().to_owned(), 0);
        let refuse = follower.read(3, &mut |index, _| {
            if index == 1 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        assert_eq!(refuse.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(follower.next(), 1);
        assert_eq!(read(&mut follower, 3), ["1b", "2c"]);
    }

    #[test]
    fn lines_that_are_gone_are_an_error_and_not_skipped() {
        let scratch = tempfile::tempdir().unwrap();
        write(scratch.path(), 0, "a\n");
        write(scratch.path(), 2, "c\n");
        let mut follower = Follower::new(scratch.path().to_owned(), 0);
        assert!(follower.read(3, &mut |_, _| Ok(())).is_err());
        assert_eq!(follower.next(), 1);
    }
}
