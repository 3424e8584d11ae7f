//! A window over the input: bytes are read into memory that is wiped, and are digested as they are used up.
//!
//! Must never copy them anywhere else. Tests: `tests.rs`.

use ring::digest::{Context, SHA256};
use std::io::{self, Read};
use zeroize::Zeroizing;

pub(crate) struct Window<R: Read> {
    input: R,
    buffer: Zeroizing<Vec<u8>>,
    start: usize,
    end: usize,
    offset: u64,
    digest: Context,
}

impl<R: Read> Window<R> {
    /// A window on the first bytes.
    pub(crate) fn new(input: R) -> io::Result<Self> {
        let buffer = Zeroizing::new(vec![0; SIZE]);
        let mut window = Self { input, buffer, start: 0, end: 0, offset: 0, digest: Context::new(&SHA256) };
        while window.end < LONGEST_ROW && window.fill()? {}
        Ok(window)
    }

    /// What was read and not used up.
    pub(crate) fn available(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Reads on. `false` at the end of the input, or when the window is full.
    pub(crate) fn fill(&mut self) -> io::Result<bool> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end = self.end.saturating_sub(self.start);
            self.start = 0;
        }
        let Some(room) = self.buffer.get_mut(self.end..).filter(|room| !room.is_empty()) else {
            return Ok(false);
        };
        let read = loop {
            match self.input.read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.end = self.end.saturating_add(read);
        Ok(read > 0)
    }

    /// Uses up the first `length` bytes.
    pub(crate) fn consume(&mut self, length: usize) {
        let length = length.min(self.available().len());
        if let Some(used) = self.buffer.get(self.start..self.start.saturating_add(length)) {
            self.digest.update(used);
        }
        self.start = self.start.saturating_add(length);
        self.offset = self.offset.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
    }

    /// Uses up `length` bytes from the input. `false` if there are fewer.
    pub(crate) fn skip(&mut self, mut length: u64) -> io::Result<bool> {
        while length > 0 {
            if self.available().is_empty() && !self.fill()? {
                return Ok(false);
            }
            let step = usize::try_from(length).unwrap_or(usize::MAX).min(self.available().len());
            self.consume(step);
            length = length.saturating_sub(u64::try_from(step).unwrap_or(u64::MAX));
        }
        Ok(true)
    }

    /// Bytes used up.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// SHA-256 of them.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut digest = [0; 32];
        for (to, from) in digest.iter_mut().zip(self.digest.clone().finish().as_ref()) {
            *to = *from;
        }
        digest
    }
}

/// Most bytes of one row.
pub(crate) const LONGEST_ROW: usize = 64 * 1024;
const SIZE: usize = 1024 * 1024;
