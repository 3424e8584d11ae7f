//! Segments: the files that hold the lines, in order, and reading them line by line.
//!
//! It must never read a line of unbounded length. Tests: `walk.rs`, `tests/log.rs`.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// One segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Index of its first line, as its name says.
    pub(crate) first: u64,
    pub(crate) path: PathBuf,
}

impl Segment {
    /// How many bytes come after the first `whole` ones: up to the last that is not zero, and the zeros behind it.
    pub(crate) fn after(&self, whole: u64) -> io::Result<(u64, u64)> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(whole))?;
        let mut buffer = vec![0; BUFFER];
        let (mut length, mut torn) = (0_u64, 0_u64);
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok((torn, length.saturating_sub(torn)));
            }
            let bytes = buffer.get(..read).unwrap_or_default();
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                torn = length.saturating_add(u64::try_from(last).unwrap_or(u64::MAX)).saturating_add(1);
            }
            length = length.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        }
    }
}

/// The segments of a log, the oldest first.
pub(crate) fn list(directory: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if let Some(first) = path.file_name().and_then(|name| name.to_str()).and_then(first_index) {
            segments.push(Segment { first, path });
        }
    }
    segments.sort_by_key(|segment| segment.first);
    Ok(segments)
}

/// The name of the segment that begins with line `first`: twenty digits, so that names sort as numbers.
pub(crate) fn file_name(first: u64) -> String {
    format!("audit-{first:020}.jsonl")
}

fn first_index(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("audit-")?.strip_suffix(".jsonl")?;
    if digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        digits.parse().ok()
    } else {
        None
    }
}

/// The lines of one segment, as bytes.
#[derive(Debug)]
pub(crate) struct RawLines {
    reader: BufReader<File>,
    line: Vec<u8>,
    /// Bytes of the lines given out so far, newlines included.
    consumed: u64,
}

/// What [`RawLines::next`] found.
pub(crate) enum Raw<'a> {
    /// A whole line, without its newline.
    Line(&'a [u8]),
    /// Bytes that never became a line: the last ones, without a newline, or a page that never reached the disk (zeros).
    Torn,
    /// More bytes than any line has.
    TooLong,
    /// Nothing more.
    End,
}

impl RawLines {
    pub(crate) fn open(path: &Path) -> io::Result<RawLines> {
        let reader = BufReader::with_capacity(BUFFER, File::open(path)?);
        Ok(RawLines { reader, line: Vec::new(), consumed: 0 })
    }

    /// From this byte on, which begins a line.
    pub(crate) fn open_at(path: &Path, offset: u64) -> io::Result<RawLines> {
        let mut lines = RawLines::open(path)?;
        lines.reader.seek(SeekFrom::Start(offset))?;
        Ok(lines)
    }

    /// Bytes of whole lines so far.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    pub(crate) fn next(&mut self) -> io::Result<Raw<'_>> {
        self.line.clear();
        let limit = u64::try_from(LONGEST_LINE).unwrap_or(u64::MAX).saturating_add(1);
        let read = self.reader.by_ref().take(limit).read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(Raw::End);
        }
        if self.line.contains(&0) {
            return Ok(Raw::Torn);
        }
        if self.line.pop_if(|last| *last == b'\n').is_none() {
            return Ok(if read > LONGEST_LINE { Raw::TooLong } else { Raw::Torn });
        }
        self.consumed = self.consumed.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        Ok(Raw::Line(&self.line))
    }
}

/// Bytes in one line with its newline, at most: a thousand tokens and card ids fit three times.
pub(crate) const LONGEST_LINE: usize = 256 * 1024;
const BUFFER: usize = 128 * 1024;
