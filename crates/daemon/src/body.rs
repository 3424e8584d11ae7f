//! Bodies: reading a request's within a size and a time, and answering with bytes that are wiped when sent.
//!
//! It must never copy a body into memory that is not wiped. Tests: at the end of this file, and `tests/server.rs`.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use zeroize::Zeroizing;

/// An error of any kind, as HTTP libraries pass it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of every response.
pub type Body = BoxBody<Bytes, BoxError>;

/// A body of these bytes. They are not wiped; see [`wiped`].
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A body of nothing.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// A body of bytes that are wiped once the last of them was handed to the connection.
pub fn wiped(bytes: WipedBytes) -> Body {
    full(Bytes::from_owner(bytes))
}

/// A body whose chunks come one by one, as fast as the peer takes them. An error among them cuts the response off, so
/// that it can't be taken for a whole one. Chunks are not wiped: send only what may be seen.
pub fn streamed(chunks: tokio::sync::mpsc::Receiver<Result<Bytes, BoxError>>) -> Body {
    Chunks(chunks).boxed()
}

struct Chunks(tokio::sync::mpsc::Receiver<Result<Bytes, BoxError>>);

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| chunk.map(hyper::body::Frame::data)))
    }
}

/// Bytes that are overwritten when dropped, their spare capacity included.
#[derive(Default)]
pub struct WipedBytes(Zeroizing<Vec<u8>>);

impl WipedBytes {
    /// Room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> WipedBytes {
        WipedBytes(Zeroizing::new(Vec::with_capacity(capacity)))
    }

    /// Appends. When the room is used up, the bytes move to twice the room and the old place is wiped.
    pub fn extend_from_slice(&mut self, more: &[u8]) {
        let needed = self.0.len().saturating_add(more.len());
        if needed > self.0.capacity() {
            // Vec would grow by copying and leave the old copy behind.
            let mut larger = Vec::with_capacity(needed.max(self.0.capacity().saturating_mul(2)));
            larger.extend_from_slice(&self.0);
            self.0 = Zeroizing::new(larger);
        }
        self.0.extend_from_slice(more);
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl AsRef<[u8]> for WipedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::ops::Deref for WipedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for WipedBytes {
    fn from(bytes: Vec<u8>) -> WipedBytes {
        WipedBytes(Zeroizing::new(bytes))
    }
}

/// So that a serializer can write straight into memory that is wiped.
impl std::io::Write for WipedBytes {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Only the length: the bytes may be a card.
impl fmt::Debug for WipedBytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "WipedBytes({} bytes)", self.0.len())
    }
}

/// Reads a whole body of at most `limit` bytes within `within`.
///
/// What hyper itself read from the connection stays in its buffers until they are reused.
///
/// # Errors
/// [`BodyError`]: too large (before reading, if the length was announced), too slow, or broken off.
pub async fn read_body<B>(body: B, limit: usize, within: Duration) -> Result<WipedBytes, BodyError>
where
    B: hyper::body::Body<Data = Bytes>,
{
    let announced = body.size_hint();
    let least = usize::try_from(announced.lower()).unwrap_or(usize::MAX);
    if least > limit {
        return Err(BodyError::TooLarge);
    }
    let room = announced.exact().map_or(FIRST_ROOM.min(limit), |_| least);
    tokio::time::timeout(within, collect(body, limit, room)).await.unwrap_or(Err(BodyError::TimedOut))
}

/// Reads on, a bounded amount for a bounded time, what a refused request still sends. Otherwise the connection would
/// be reset under the caller's hands, and the refusal with it.
pub async fn discard<B>(body: &mut B)
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
{
    let rest = async {
        let mut left = DISCARD_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    let _in_time = tokio::time::timeout(DISCARD_WITHIN, rest).await.is_ok();
}

/// Why a body could not be read. Each is the client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// More bytes than allowed.
    #[error("the body is larger than allowed")]
    TooLarge,
    /// Not all bytes in time.
    #[error("the body did not arrive in time")]
    TimedOut,
    /// The connection or the framing broke.
    #[error("the body broke off")]
    Broken,
}

async fn collect<B>(body: B, limit: usize, room: usize) -> Result<WipedBytes, BodyError>
where
    B: hyper::body::Body<Data = Bytes>,
{
    let mut body = std::pin::pin!(body);
    let mut bytes = WipedBytes::with_capacity(room);
    while let Some(frame) = body.frame().await {
        // Trailers are read and dropped: nothing here has a use for them.
        let Ok(data) = frame.map_err(|_detail| BodyError::Broken)?.into_data() else { continue };
        if bytes.len().saturating_add(data.len()) > limit {
            return Err(BodyError::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Room for a body whose length was not announced.
const FIRST_ROOM: usize = 4096;
/// What is still read of a refused request: enough for a caller to send its body and then see the answer.
const DISCARD_BYTES: usize = 16 * 1024 * 1024;
const DISCARD_WITHIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::Frame;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// A body of unannounced length, in pieces; `None` never arrives.
    struct Pieces(Vec<Option<&'static [u8]>>);

    impl hyper::body::Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.first().copied() {
                Some(Some(piece)) => {
                    self.0.remove(0);
                    Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece)))))
                }
                Some(None) => Poll::Pending,
                None => Poll::Ready(None),
            }
        }
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn a_body_that_announces_too_much_is_refused_unread() {
        assert_eq!(run(read_body(full("12345"), 4, LONG)).unwrap_err(), BodyError::TooLarge);
    }

    #[test]
    fn a_body_that_turns_out_too_large_is_refused() {
        let pieces = Pieces(vec![Some(b"123"), Some(b"45")]);
        assert_eq!(run(read_body(pieces, 4, LONG)).unwrap_err(), BodyError::TooLarge);
    }

    #[test]
    fn a_body_that_does_not_end_is_refused_in_time() {
        let pieces = Pieces(vec![Some(b"123"), None]);
        assert_eq!(run(read_body(pieces, 4, Duration::from_millis(1))).unwrap_err(), BodyError::TimedOut);
    }

    #[test]
    fn a_body_within_its_limits_is_read_whole() {
        assert_eq!(run(read_body(full("1234"), 4, LONG)).unwrap().as_slice(), b"1234");
        let pieces = Pieces(vec![Some(b"12"), Some(b""), Some(b"34")]);
        assert_eq!(run(read_body(pieces, 4, LONG)).unwrap().as_slice(), b"1234");
        assert!(run(read_body(empty(), 0, LONG)).unwrap().is_empty());
    }

    #[test]
    fn a_streamed_body_gives_its_chunks_and_is_cut_off_by_an_error() {
        let (sender, chunks) = tokio::sync::mpsc::channel(4);
        for chunk in ["12", "34"] {
            sender.try_send(Ok(Bytes::from(chunk))).unwrap();
        }
        drop(sender);
        assert_eq!(run(read_body(streamed(chunks), 4, LONG)).unwrap().as_slice(), b"1234");
        let (sender, chunks) = tokio::sync::mpsc::channel(4);
        sender.try_send(Ok(Bytes::from("12"))).unwrap();
        sender.try_send(Err("cut".into())).unwrap();
        drop(sender);
        assert_eq!(run(read_body(streamed(chunks), 4, LONG)).unwrap_err(), BodyError::Broken);
    }

    #[test]
    fn bytes_grow_without_losing_any() {
        let mut bytes = WipedBytes::with_capacity(1);
        let all: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        for piece in all.chunks(7) {
            bytes.extend_from_slice(piece);
        }
        assert_eq!(bytes.as_slice(), all);
    }

    #[test]
    fn the_debug_form_shows_no_byte() {
        assert_eq!(format!("{:?}", WipedBytes::from(b"4111111111111111".to_vec())), "WipedBytes(16 bytes)");
    }
}
