//! A check in front of HTTP/1.1: where one request ends and the next begins must read in one way only.
//!
//! Hyper is forgiving where RFC 9112 lets it be: it drops `Content-Length` beside `Transfer-Encoding`, folds equal lengths
//! into one, ends lines at a bare LF and skips chunk extensions. What lies before or behind it may read the same bytes in
//! another way, which is how a second request is smuggled in (threat B31). So bytes pass through here first, and at the
//! first that is not plain the reader gets bytes that no HTTP parser takes instead: it answers 400 and closes. Parsing is
//! left to the parsers: heads are read with `httparse`, as hyper does; only lengths, lines and chunk sizes are followed here.
//! It must never change bytes that it lets pass, nor let one pass behind a fault. Tests: `framing/tests.rs`, and
//! `tests/tests/framing.rs` for the effect.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use super::Limits;
use super::through::writes_through;
use crate::body::WipedBytes;

/// Wraps the stream that HTTP/1.1 is read from; writes pass through.
pub(super) struct Strict<S, F> {
    stream: S,
    framing: Framing,
    /// What is left of the bytes that end the connection, once there was a fault.
    end: Option<&'static [u8]>,
    on_fault: F,
}

impl<S, F: Fn()> Strict<S, F> {
    /// Follows a connection from its start. `on_fault` is called once, at the fault that ends it.
    pub(super) fn new(stream: S, limits: &Limits, on_fault: F) -> Strict<S, F> {
        Strict { stream, framing: Framing::new(limits.headers), end: None, on_fault }
    }

    /// Takes back what was read behind the fault.
    fn cut(&mut self, into: &mut ReadBuf<'_>, keep: usize) {
        into.set_filled(keep);
        // What is taken back may be a card number.
        into.initialize_unfilled().fill(0);
        self.end = Some(NO_HTTP);
        (self.on_fault)();
    }
}

impl<S: AsyncRead + Unpin, F: Fn() + Unpin> AsyncRead for Strict<S, F> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.end.is_none() {
            let before = into.filled().len();
            let result = Pin::new(&mut this.stream).poll_read(context, into);
            let read = into.filled().get(before..).unwrap_or_default();
            let Err(good) = this.framing.pass(read) else { return result };
            this.cut(into, before.saturating_add(good));
        }
        if let Some(end) = &mut this.end {
            let (now, later) = end.split_at_checked(into.remaining()).unwrap_or((end, &[]));
            into.put_slice(now);
            *end = later;
        }
        Poll::Ready(Ok(()))
    }
}

writes_through!(Strict<S, F>);

/// Where in a connection's requests the next byte stands.
struct Framing {
    place: Place,
    /// The head that has begun, until it is whole.
    head: WipedBytes,
    most_headers: usize,
}

enum Place {
    /// In a request's head.
    Head(Lines),
    /// In a body with this much to come.
    Body(u64),
    /// In the line before a chunk, with its digits so far.
    Size { digits: u8, size: u64 },
    /// Between CR and LF of that line.
    SizeEnd { size: u64 },
    /// In a chunk with this much to come.
    Chunk(u64),
    /// Behind a chunk, before the CR or the LF of its end.
    ChunkEnd { after_cr: bool },
    /// Behind the last chunk. Trailers are dropped later; here only their end counts.
    Trailers(Lines),
}

/// A byte that does not belong there.
struct Fault;

impl Framing {
    fn new(most_headers: usize) -> Framing {
        Framing { place: Place::Head(Lines::default()), head: WipedBytes::default(), most_headers }
    }

    /// Follows more bytes. An error is the number of those before the first that does not belong.
    fn pass(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.step(rest) {
                Ok(taken) => rest = rest.get(taken..).unwrap_or_default(),
                Err(Fault) => return Err(bytes.len().saturating_sub(rest.len())),
            }
        }
        Ok(())
    }

    /// Takes at least one byte, unless it is a fault.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let first = bytes.first().copied().ok_or(Fault)?;
        match &mut self.place {
            Place::Head(_) => return self.head(bytes),
            Place::Body(left) => {
                let taken = most(*left, bytes.len());
                *left = left.saturating_sub(wide(taken));
                if *left == 0 {
                    self.place = Place::Head(Lines::default());
                }
                return Ok(taken);
            }
            Place::Chunk(left) => {
                let taken = most(*left, bytes.len());
                *left = left.saturating_sub(wide(taken));
                if *left == 0 {
                    self.place = Place::ChunkEnd { after_cr: false };
                }
                return Ok(taken);
            }
            Place::Size { digits, size } => match (first, char::from(first).to_digit(16)) {
                (b'\r', _) if *digits > 0 => self.place = Place::SizeEnd { size: *size },
                // Sixteen digits are all that fit; a longer row of zeros is nobody's honest size.
                (_, Some(digit)) if *digits < 16 => {
                    *size = (*size << 4) | u64::from(digit);
                    *digits = digits.saturating_add(1);
                }
                _ => return Err(Fault),
            },
            Place::SizeEnd { size } => {
                let after = if *size == 0 { Place::Trailers(Lines::default()) } else { Place::Chunk(*size) };
                self.place = if first == b'\n' { after } else { return Err(Fault) };
            }
            Place::ChunkEnd { after_cr } => match (first, *after_cr) {
                (b'\r', false) => *after_cr = true,
                (b'\n', true) => self.place = Place::Size { digits: 0, size: 0 },
                _ => return Err(Fault),
            },
            Place::Trailers(lines) => {
                if lines.follow(first)? {
                    self.place = Place::Head(Lines::default());
                }
            }
        }
        Ok(1)
    }

    fn head(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let Place::Head(lines) = &mut self.place else { return Err(Fault) };
        // An empty line before a request is let pass by RFC 9112 section 2.2; two readers may count it differently.
        if self.head.is_empty() && bytes.starts_with(b"\r") {
            return Err(Fault);
        }
        for (index, byte) in bytes.iter().enumerate() {
            if lines.follow(*byte)? {
                let end = index.saturating_add(1);
                self.head.extend_from_slice(bytes.get(..end).unwrap_or_default());
                let head = std::mem::take(&mut self.head);
                self.place = after_head(&head, self.most_headers)?;
                return Ok(end);
            }
        }
        self.head.extend_from_slice(bytes);
        Ok(bytes.len())
    }
}

/// Lines that end in CRLF each, up to an empty one.
#[derive(Default)]
struct Lines {
    after_cr: bool,
    /// Bytes of the present line, without its end.
    length: usize,
    total: usize,
}

impl Lines {
    /// True at the end of the empty line.
    fn follow(&mut self, byte: u8) -> Result<bool, Fault> {
        self.total = self.total.saturating_add(1);
        // A CR that is not followed by LF, an LF that does not follow CR, or no end in sight. Hyper gives up earlier.
        if (byte == b'\n') != self.after_cr || self.total > LONGEST {
            return Err(Fault);
        }
        self.after_cr = byte == b'\r';
        match byte {
            b'\r' => {}
            b'\n' if self.length == 0 => return Ok(true),
            b'\n' => self.length = 0,
            _ => self.length = self.length.saturating_add(1),
        }
        Ok(false)
    }
}

/// What follows a head: a body of some length, chunks, or the next head.
fn after_head(head: &[u8], most_headers: usize) -> Result<Place, Fault> {
    let mut headers = vec![httparse::EMPTY_HEADER; most_headers];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        // Hyper counts them too, and has an answer of its own for it (431).
        Err(httparse::Error::TooManyHeaders) => return Ok(Place::Head(Lines::default())),
        Ok(_) | Err(_) => return Err(Fault),
    }
    let values = |name: &'static str| {
        request
            .headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    };
    let one = |name: &'static str| {
        let mut values = values(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(Fault),
        }
    };
    match (one("content-length")?, one("transfer-encoding")?) {
        (None, None) => Ok(Place::Head(Lines::default())),
        (Some(length), None) => match decimal(length)? {
            0 => Ok(Place::Head(Lines::default())),
            length => Ok(Place::Body(length)),
        },
        // HTTP/1.0 has no transfer codings (RFC 9112 section 6.1). Of the codings only the one that frames is taken.
        (None, Some(coding)) if request.version == Some(1) && coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Place::Size { digits: 0, size: 0 })
        }
        (_, Some(_)) => Err(Fault),
    }
}

fn decimal(text: &[u8]) -> Result<u64, Fault> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| digits).ok_or(Fault)?;
    text.parse().map_err(|_too_large| Fault)
}

/// As many of `available` bytes as `left` allows.
fn most(left: u64, available: usize) -> usize {
    usize::try_from(left).map_or(available, |left| left.min(available))
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Bytes that belong into no request: NUL is wrong in every place of one, and the empty line makes hyper look.
const NO_HTTP: &[u8] = b"\0\r\n\r\n";
/// The longest head or trailer section, in bytes; beyond what hyper reads of either.
const LONGEST: usize = 256 * 1024;

#[cfg(test)]
mod tests;
