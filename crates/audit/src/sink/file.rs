//! A file that gets every line, byte for byte as in the log.
//!
//! It must never go on after a line that is not whole: what a crash left unfinished is cut, and written again. Tests:
//! `sink/tests.rs`.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{Outlet, SinkError};
use crate::segment::LONGEST_LINE;

/// The copy, open for appending.
#[derive(Debug)]
pub(super) struct Copy {
    file: File,
    /// A line and its newline, for one write.
    buffer: Vec<u8>,
    /// Bytes of whole lines in the file.
    whole: u64,
}

impl Copy {
    /// Opens or makes it; also says which line comes next, by the `index` that its last line tells.
    pub(super) fn open(path: &Path, index: &dyn Fn(&[u8]) -> Option<u64>) -> Result<(Copy, u64), SinkError> {
        let at = |source: io::Error| SinkError::Io { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        let file = options.mode(0o600).create(true).read(true).append(true).open(path).map_err(at)?;
        let mut copy = Copy { file, buffer: Vec::new(), whole: 0 };
        if !copy.file.metadata().map_err(at)?.is_file() {
            // A pipe or device has nothing to go on from.
            return Err(SinkError::Foreign { path: path.to_owned() });
        }
        let last = copy.last_line().map_err(at)?;
        copy.file.set_len(copy.whole).map_err(at)?;
        let Some(last) = last else { return Ok((copy, 0)) };
        let last = index(&last).ok_or_else(|| SinkError::Foreign { path: path.to_owned() })?;
        Ok((copy, last.saturating_add(1)))
    }

    /// The last whole line; `whole` is set to where it ends.
    fn last_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let length = self.file.metadata()?.len();
        // Two longest lines: a whole one, and one that is not.
        let window = u64::try_from(LONGEST_LINE).unwrap_or(u64::MAX).saturating_mul(2);
        let start = length.saturating_sub(window);
        self.file.seek(SeekFrom::Start(start))?;
        let mut reader = BufReader::new(&self.file);
        let mut at = start;
        let mut last = None;
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            if line.pop_if(|byte| *byte == b'\n').is_none() {
                break;
            }
            at = at.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
            self.whole = at;
            last = Some(std::mem::take(&mut line));
        }
        Ok(last)
    }

    /// Writes what is buffered. After a failure the file is cut back, so that the lines can come again.
    fn flush(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.buffer);
        if written.is_ok() {
            self.whole = self.whole.saturating_add(u64::try_from(self.buffer.len()).unwrap_or(u64::MAX));
        } else {
            self.file.set_len(self.whole)?;
        }
        self.buffer.clear();
        written
    }
}

impl Outlet for Copy {
    fn take(&mut self, _index: u64, line: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(line);
        self.buffer.push(b'\n');
        self.flush()
    }
}
