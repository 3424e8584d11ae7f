//! Each coding as a reader of what it codes, over a reader of the coded bytes.
//!
//! Must never end well before the coded body does: bytes behind its end, and a body that is cut off, are errors.
//! Tests: `coding/tests.rs`; fuzz target `coding`.

use super::Coding;
use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::bufread::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use std::io::{self, BufRead, ErrorKind, Read};

impl Coding {
    /// A reader of what the coded bytes stand for.
    pub(super) fn reader<'r>(self, coded: impl BufRead + Send + 'r) -> Box<dyn Read + Send + 'r> {
        match self {
            Self::Gzip => Box::new(Gzip(GzDecoder::new(coded))),
            Self::Deflate => Box::new(Zlib { coded, decoder: Decompress::new(true), done: false }),
            Self::Brotli => {
                let alloc = StandardAlloc::default;
                // Strict: windows of more than 16 MiB are no part of RFC 7932.
                let state = Box::new(BrotliState::new_strict(alloc(), alloc(), alloc()));
                Box::new(Brotli { coded, state, total: 0, done: false })
            }
            Self::Zstd => Box::new(Zstd::Unread(Some(coded))),
        }
    }
}

struct Gzip<R>(GzDecoder<R>);

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(room)?;
        if read == 0 {
            end_of(self.0.get_mut())?;
        }
        Ok(read)
    }
}

/// By hand, since the reader of flate2 takes a cut zlib body for a whole one.
struct Zlib<R> {
    coded: R,
    decoder: Decompress,
    done: bool,
}

impl<R: BufRead> Read for Zlib<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        while !self.done {
            let coded = self.coded.fill_buf()?;
            let before = (self.decoder.total_in(), self.decoder.total_out());
            let status = self.decoder.decompress(coded, room, FlushDecompress::None);
            let status = status.map_err(|_detail| ErrorKind::InvalidData)?;
            let used = length(self.decoder.total_in().saturating_sub(before.0));
            let written = length(self.decoder.total_out().saturating_sub(before.1));
            self.coded.consume(used);
            match status {
                Status::StreamEnd => {
                    self.done = true;
                    end_of(&mut self.coded)?;
                    return Ok(written);
                }
                Status::Ok | Status::BufError if written > 0 => return Ok(written),
                // It wants more, and there is nothing more.
                Status::Ok | Status::BufError if used == 0 => return Err(ErrorKind::UnexpectedEof.into()),
                Status::Ok | Status::BufError => {}
            }
        }
        Ok(0)
    }
}

struct Brotli<R> {
    coded: R,
    state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>,
    total: usize,
    done: bool,
}

impl<R: BufRead> Read for Brotli<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        while !self.done {
            let coded = self.coded.fill_buf()?;
            let (mut left, mut used) = (coded.len(), 0);
            let (mut free, mut written) = (room.len(), 0);
            let outcome = BrotliDecompressStream(
                &mut left,
                &mut used,
                coded,
                &mut free,
                &mut written,
                room,
                &mut self.total,
                &mut self.state,
            );
            let at_end = coded.is_empty();
            self.coded.consume(used);
            match outcome {
                BrotliResult::ResultSuccess => {
                    self.done = true;
                    end_of(&mut self.coded)?;
                    return Ok(written);
                }
                BrotliResult::ResultFailure => return Err(ErrorKind::InvalidData.into()),
                BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput if written > 0 => {
                    return Ok(written);
                }
                BrotliResult::NeedsMoreInput if at_end => return Err(ErrorKind::UnexpectedEof.into()),
                // With nothing written there was room, so that this cannot be; nothing read is the end to a reader.
                BrotliResult::NeedsMoreOutput => return Err(ErrorKind::InvalidData.into()),
                BrotliResult::NeedsMoreInput => {}
            }
        }
        Ok(0)
    }
}

/// Its frame's head is read with the first bytes.
enum Zstd<R: Read> {
    Unread(Option<R>),
    Frame(Box<StreamingDecoder<R, FrameDecoder>>),
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let frame = match self {
            Self::Frame(frame) => frame,
            Self::Unread(coded) => {
                let coded = coded.take().ok_or(ErrorKind::InvalidData)?;
                let frame = StreamingDecoder::new_with_max_window_size(coded, ZSTD_WINDOW);
                *self = Self::Frame(Box::new(frame.map_err(|_detail| ErrorKind::InvalidData)?));
                return self.read(room);
            }
        };
        let read = frame.read(room)?;
        if read == 0 {
            let told = frame.decoder.get_checksum_from_data();
            if told.is_some() && told != frame.decoder.get_calculated_checksum() {
                return Err(ErrorKind::InvalidData.into());
            }
            end_of(frame.get_mut())?;
        }
        Ok(read)
    }
}

/// Refuses bytes behind the end.
fn end_of(coded: &mut impl BufRead) -> io::Result<()> {
    if coded.fill_buf()?.is_empty() { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

const ZSTD_WINDOW: u64 = 8 * 1024 * 1024;
