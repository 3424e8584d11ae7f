//! Reading lines back, for `audit tail` and the audit API.
//!
//! It must never vouch for what it reads: that is [`crate::verify()`]. Tests: `tests/log.rs`.

use std::io;
use std::path::{Path, PathBuf};

use crate::line::{Line, LineError};
use crate::segment::{self, Raw, RawLines, Segment};

/// All lines of a log directory, oldest first.
///
/// # Errors
/// [`ReadError::Io`] if the directory cannot be listed.
pub fn read(directory: &Path) -> Result<Lines, ReadError> {
    read_from(directory, 0)
}

/// The lines of a log directory from index `first` on. Whole segments before it are not read.
///
/// # Errors
/// [`ReadError::Io`] if the directory cannot be listed.
pub fn read_from(directory: &Path, first: u64) -> Result<Lines, ReadError> {
    let mut segments = segment::list(directory).map_err(|source| ReadError::io(directory, source))?;
    let skip = segments.iter().rposition(|segment| segment.first <= first).unwrap_or(0);
    segments.drain(..skip);
    segments.reverse();
    Ok(Lines { left: segments, open: None, first })
}

/// Iterator over lines. Ends at the end of the log, or at bytes that never became a line.
#[derive(Debug)]
pub struct Lines {
    /// Segments not opened yet, the oldest last.
    left: Vec<Segment>,
    open: Option<(PathBuf, RawLines)>,
    first: u64,
}

impl Iterator for Lines {
    type Item = Result<Line, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((path, lines)) = &mut self.open else {
                let segment = self.left.pop()?;
                match RawLines::open(&segment.path) {
                    Ok(lines) => self.open = Some((segment.path, lines)),
                    Err(source) => return Some(Err(ReadError::Io { path: segment.path, source })),
                }
                continue;
            };
            let parsed = match lines.next() {
                Ok(Raw::Line(bytes)) => Line::parse(bytes),
                Ok(Raw::End | Raw::Torn) => {
                    self.open = None;
                    continue;
                }
                Ok(Raw::TooLong) => Err(LineError::too_long()),
                Err(source) => {
                    let error = ReadError::io(path, source);
                    self.open = None;
                    return Some(Err(error));
                }
            };
            match parsed {
                Ok(line) if line.index < self.first => {}
                Ok(line) => return Some(Ok(line)),
                Err(source) => return Some(Err(ReadError::Line { path: path.clone(), source })),
            }
        }
    }
}

/// Why reading failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line that is not one.
    #[error("{}: {source}", path.display())]
    Line {
        /// The segment.
        path: PathBuf,
        /// What is wrong.
        source: LineError,
    },
}

impl ReadError {
    fn io(path: &Path, source: io::Error) -> ReadError {
        ReadError::Io { path: path.to_owned(), source }
    }
}
