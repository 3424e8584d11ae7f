//! Content codings (RFC 9110 section 8.4.1): undone before anything is looked at, within bounds.
//!
//! A body goes on as identity: what was scanned is byte for byte what the next reader gets, and no second coder has to
//! agree with ours. Must never give more than the route's limit or [`MOST_RATIO`] times what came (threat B35), nor
//! pass over bytes that stand behind the end of a coded body. Tests: `coding/tests.rs`; fuzz target `coding`.

mod readers;

use cordon_daemon::body::WipedBytes;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use std::io::{BufRead, BufReader};

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
        if self.is_identity() {
            return Ok(body);
        }
        let limit = limit.min(most_of(body.len()));
        let mut decoded = WipedBytes::with_capacity(PIECE.min(limit));
        self.decode(&body[..], &mut |piece| {
            if decoded.len().saturating_add(piece.len()) > limit {
                return Err(CodingError::TooLarge);
            }
            decoded.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(decoded)
    }

    /// Undoes them as the body is read, and gives what comes out piece by piece.
    ///
    /// # Errors
    /// [`CodingError::Malformed`], or what `take` says.
    pub fn decode<'r>(
        &self,
        body: impl BufRead + Send + 'r,
        take: &mut dyn FnMut(&[u8]) -> Result<(), CodingError>,
    ) -> Result<(), CodingError> {
        let first: Box<dyn BufRead + Send + 'r> = Box::new(body);
        let mut reader = self
            .0
            .iter()
            .rev()
            .fold(first, |coded, coding| Box::new(BufReader::with_capacity(PIECE, coding.reader(coded))));
        loop {
            let piece = reader.fill_buf().map_err(|_detail| CodingError::Malformed)?;
            let length = piece.len();
            if length == 0 {
                return Ok(());
            }
            take(piece)?;
            reader.consume(length);
        }
    }
}

/// How much may come out of so many bytes.
#[must_use]
pub fn most_of(coded: usize) -> usize {
    coded.saturating_mul(MOST_RATIO).max(RATIO_FREE)
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

/// Most codings on one body.
pub const MOST_LAYERS: usize = 2;
/// A body may grow to so many times what came over the wire. Text seldom exceeds twenty; a bomb of deflate has 1,032.
pub const MOST_RATIO: usize = 100;
/// Below this, the ratio does not matter: small bodies of one repeated field compress well.
pub const RATIO_FREE: usize = 64 * 1024;
const PIECE: usize = 16 * 1024;

#[cfg(test)]
mod tests;
