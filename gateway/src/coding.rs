//! Content codings (RFC 9110 section 8.4.1): undone before anything is looked at, within bounds.
//!
//! A body goes on as identity: what was scanned is byte for byte what the next reader gets, and no second coder has to
//! agree with ours. Must never give more than the route's limit or [`MOST_RATIO`] times what came (threat B35), nor
//! pass over bytes that stand behind the end of a coded body. Tests: `coding/tests.rs`; fuzz target `coding`.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use cordon_daemon::body::WipedBytes;
use flate2::bufread::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use ruzstd::decoding::StreamingDecoder;
use std::io::Read;
use zeroize::Zeroizing;

/// One coding that this gateway undoes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// `gzip`, also called `x-gzip` (RFC 1952).
    Gzip,
    /// `deflate`: the zlib format (RFC 1950). Without its frame, as some send it, it is refused: it has no check sum.
    Deflate,
    /// `br` (RFC 7932).
    Brotli,
    /// `zstd` (RFC 8878), with a window of at most 8 MiB (RFC 9659).
    Zstd,
}

/// The codings of a body, in the order in which they were applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Codings(Vec<Coding>);

/// Why a body could not be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodingError {
    /// A coding that is not known, or too many of them.
    #[error("the content coding can't be undone")]
    Unknown,
    /// Not of the coding it says it is, cut off, or with more behind its end.
    #[error("the body is not of its content coding")]
    Malformed,
    /// More comes out of it than may.
    #[error("the decoded body is too large")]
    TooLarge,
}

impl Codings {
    /// Reads `Content-Encoding`, whichever way its list is divided into lines.
    ///
    /// # Errors
    /// [`CodingError::Unknown`] for anything but known names and `identity`, and for more than [`MOST_LAYERS`].
    pub fn of(headers: &HeaderMap) -> Result<Self, CodingError> {
        let mut codings = Vec::new();
        for line in headers.get_all(CONTENT_ENCODING) {
            for name in line.as_bytes().split(|byte| *byte == b',') {
                codings.extend(coding(name.trim_ascii())?);
            }
        }
        if codings.len() > MOST_LAYERS { Err(CodingError::Unknown) } else { Ok(Self(codings)) }
    }

    /// Whether the body is as it is.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.0.is_empty()
    }

    /// Undoes them, the last one first. A body without any is given back as it is.
    ///
    /// # Errors
    /// [`CodingError::Malformed`] or [`CodingError::TooLarge`], as soon as it is known.
    pub fn undo(&self, body: WipedBytes, limit: usize) -> Result<WipedBytes, CodingError> {
        let limit = limit.min(body.len().saturating_mul(MOST_RATIO).max(RATIO_FREE));
        self.0.iter().rev().try_fold(body, |body, coding| coding.undo(&body, limit))
    }
}

fn coding(name: &[u8]) -> Result<Option<Coding>, CodingError> {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    if is("identity") {
        return Ok(None);
    }
    let known = [
        ("gzip", Coding::Gzip),
        ("x-gzip", Coding::Gzip),
        ("deflate", Coding::Deflate),
        ("br", Coding::Brotli),
        ("zstd", Coding::Zstd),
    ];
    let found = known.into_iter().find(|(name, _)| is(name));
    found.map(|(_, coding)| Some(coding)).ok_or(CodingError::Unknown)
}

impl Coding {
    fn undo(self, coded: &[u8], limit: usize) -> Result<WipedBytes, CodingError> {
        match self {
            Self::Gzip => gzip(coded, limit),
            Self::Deflate => zlib(coded, limit),
            Self::Brotli => brotli(coded, limit),
            Self::Zstd => zstd(coded, limit),
        }
    }
}

fn gzip(coded: &[u8], limit: usize) -> Result<WipedBytes, CodingError> {
    let mut rest = coded;
    let mut decoder = GzDecoder::new(&mut rest);
    let mut decoded = Decoded::new(limit);
    while decoded.take(|piece| decoder.read(piece).map_err(|_detail| CodingError::Malformed))? > 0 {}
    drop(decoder);
    decoded.ending_at(rest.is_empty())
}

/// By hand, since the reader of flate2 takes a cut zlib body for a whole one.
fn zlib(coded: &[u8], limit: usize) -> Result<WipedBytes, CodingError> {
    let mut decoder = Decompress::new(true);
    let mut decoded = Decoded::new(limit);
    loop {
        let used = usize::try_from(decoder.total_in()).unwrap_or(usize::MAX);
        let rest = coded.get(used..).unwrap_or_default();
        let mut status = Status::BufError;
        let written = decoded.take(|piece| {
            let before = decoder.total_out();
            status = decoder
                .decompress(rest, piece, FlushDecompress::None)
                .map_err(|_detail| CodingError::Malformed)?;
            Ok(usize::try_from(decoder.total_out().saturating_sub(before)).unwrap_or(usize::MAX))
        })?;
        let now = usize::try_from(decoder.total_in()).unwrap_or(usize::MAX);
        match status {
            Status::StreamEnd => return decoded.ending_at(now == coded.len()),
            Status::Ok | Status::BufError if written == 0 && now == used => {
                return Err(CodingError::Malformed);
            }
            Status::Ok | Status::BufError => {}
        }
    }
}

fn brotli(coded: &[u8], limit: usize) -> Result<WipedBytes, CodingError> {
    let alloc = StandardAlloc::default;
    // Strict: windows of more than 16 MiB are no part of RFC 7932.
    let mut state = BrotliState::new_strict(alloc(), alloc(), alloc());
    let mut decoded = Decoded::new(limit);
    let (mut left, mut used, mut total) = (coded.len(), 0, 0);
    loop {
        let mut outcome = BrotliResult::ResultFailure;
        decoded.take(|piece| {
            let (mut room, mut written) = (piece.len(), 0);
            outcome = BrotliDecompressStream(
                &mut left,
                &mut used,
                coded,
                &mut room,
                &mut written,
                piece,
                &mut total,
                &mut state,
            );
            Ok(written)
        })?;
        match outcome {
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultSuccess => return decoded.ending_at(left == 0),
            BrotliResult::NeedsMoreInput | BrotliResult::ResultFailure => return Err(CodingError::Malformed),
        }
    }
}

fn zstd(coded: &[u8], limit: usize) -> Result<WipedBytes, CodingError> {
    let mut rest = coded;
    let mut decoder = StreamingDecoder::new_with_max_window_size(&mut rest, ZSTD_WINDOW)
        .map_err(|_detail| CodingError::Malformed)?;
    let mut decoded = Decoded::new(limit);
    while decoded.take(|piece| decoder.read(piece).map_err(|_detail| CodingError::Malformed))? > 0 {}
    let told = decoder.decoder.get_checksum_from_data();
    let right = told.is_none() || told == decoder.decoder.get_calculated_checksum();
    drop(decoder);
    decoded.ending_at(right && rest.is_empty())
}

/// What came out so far, in memory that is wiped, and how much may.
struct Decoded {
    bytes: WipedBytes,
    piece: Zeroizing<Vec<u8>>,
    limit: usize,
}

impl Decoded {
    fn new(limit: usize) -> Self {
        Self {
            bytes: WipedBytes::with_capacity(PIECE.min(limit)),
            piece: Zeroizing::new(vec![0; PIECE]),
            limit,
        }
    }

    /// Takes the next piece; gives how long it was.
    fn take(
        &mut self,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, CodingError>,
    ) -> Result<usize, CodingError> {
        let filled = fill(&mut self.piece)?;
        if self.bytes.len().saturating_add(filled) > self.limit {
            return Err(CodingError::TooLarge);
        }
        self.bytes.extend_from_slice(self.piece.get(..filled).ok_or(CodingError::Malformed)?);
        Ok(filled)
    }

    /// All of it, if the coded body ended where it should.
    fn ending_at(self, the_end: bool) -> Result<WipedBytes, CodingError> {
        if the_end { Ok(self.bytes) } else { Err(CodingError::Malformed) }
    }
}

/// Most codings on one body.
pub const MOST_LAYERS: usize = 2;
/// A body may grow to so many times what came over the wire. Text seldom exceeds twenty; a bomb of deflate has 1,032.
pub const MOST_RATIO: usize = 100;
/// Below this, the ratio does not matter: small bodies of one repeated field compress well.
pub const RATIO_FREE: usize = 64 * 1024;
const PIECE: usize = 16 * 1024;
const ZSTD_WINDOW: u64 = 8 * 1024 * 1024;

#[cfg(test)]
mod tests;
