//! A stream that, whenever nothing more has arrived, empties the buffers that its reader keeps.
//!
//! TLS and HTTP libraries keep a buffer for as long as a connection is open, and the last requests in it. Both ask for more
//! once they have taken all there is. Below TLS the room they offer is the very buffer in which records were decrypted: it is
//! wiped. Above TLS it is what is left of HTTP's buffer, behind the requests; over HTTP/2 a frame of a type that nobody
//! knows, which a reader must ignore (RFC 9113 section 5.5), fills that room, so that the reader gives the buffer up and the
//! allocator wipes it. The frame exists between two layers of this process and is never sent. It must never touch bytes that
//! were read and not yet taken. Tests: at the end of this file, fuzz target `h2_frames`,
//! `tests/tests/memory.rs` for the effect.

mod frames;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use super::through::writes_through;

pub use frames::Frames;
use frames::{HEADER, LONGEST};

/// Wraps a stream; writes pass through.
#[derive(Debug)]
pub struct Wiping<S> {
    stream: S,
    /// Something was read that may still lie in the reader's buffer.
    dirty: bool,
    /// Where HTTP/2's frames begin and end, if it is spoken.
    frames: Option<Frames>,
}

impl<S> Wiping<S> {
    /// Wipes the room that is offered.
    pub fn new(stream: S) -> Wiping<S> {
        Wiping { stream, dirty: false, frames: None }
    }

    /// Also makes a reader of HTTP/2 give up the buffer it has read into.
    pub fn http2(stream: S) -> Wiping<S> {
        Wiping { stream, dirty: false, frames: Some(Frames::default()) }
    }

    /// Nothing has arrived: whatever was read before has been taken out of this room. True if a frame was put into it.
    fn empty(&mut self, room: &mut ReadBuf<'_>) -> bool {
        let fill = room.remaining().min(LONGEST);
        match &self.frames {
            Some(frames) if frames.between() && fill >= HEADER => {
                room.put_slice(&frames::ignored(fill));
                room.initialize_unfilled_to(fill - HEADER).fill(0);
                room.advance(fill - HEADER);
                // A room larger than a frame takes another one.
                self.dirty = room.remaining() > 0;
                true
            }
            // Within a frame, or before the first: its rest will come.
            Some(_) => {
                room.initialize_unfilled().fill(0);
                false
            }
            None => {
                room.initialize_unfilled().fill(0);
                self.dirty = false;
                false
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wiping<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(context, into);
        let read = into.filled().get(before..).unwrap_or_default();
        if !read.is_empty() {
            if let Some(frames) = &mut this.frames {
                frames.pass(read);
            }
            this.dirty = true;
        } else if this.dirty && result.is_pending() {
            // The stream itself wakes the reader for what comes next.
            return if this.empty(into) { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        result
    }
}

writes_through!(Wiping<S>);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn poll(stream: &mut Wiping<DuplexStream>, room: &mut [u8]) -> Option<usize> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut buffer = ReadBuf::new(room);
        match Pin::new(stream).poll_read(&mut context, &mut buffer) {
            Poll::Ready(result) => {
                result.unwrap();
                Some(buffer.filled().len())
            }
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn room_is_wiped_once_all_was_read_and_never_before() {
        let (mut far, near) = duplex(64);
        let mut stream = Wiping::new(near);
        let mut room = *b"earlier request";
        assert_eq!(poll(&mut stream, &mut room), None);
        assert_eq!(&room, b"earlier request", "nothing was read through this stream yet");
        far.write_all(b"4111").await.unwrap();
        assert_eq!(poll(&mut stream, &mut room), Some(4));
        assert_eq!(&room, b"4111ier request", "what was read is the reader's");
        // The reader has kept two bytes and offers the rest.
        assert_eq!(poll(&mut stream, &mut room[2..]), None);
        assert_eq!(&room, b"41\0\0\0\0\0\0\0\0\0\0\0\0\0");
        drop(far);
        assert_eq!(poll(&mut stream, &mut room), Some(0));
    }

    #[tokio::test]
    async fn http2_gets_one_ignored_frame_between_two_of_its_own() {
        let (mut far, near) = duplex(1024);
        let mut stream = Wiping::http2(near);
        far.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let data = b"\x00\x00\x04\x00\x01\x00\x00\x00\x014111";
        far.write_all(&data[..10]).await.unwrap();
        let mut room = [0xaa; 100];
        assert_eq!(poll(&mut stream, &mut room), Some(34));
        assert_eq!(poll(&mut stream, &mut room[34..]), None, "within a frame, only the room is wiped");
        assert_eq!(room[34..], [0; 66]);
        far.write_all(&data[10..]).await.unwrap();
        assert_eq!(poll(&mut stream, &mut room[34..]), Some(3));
        let mut rest = [0xaa; 63];
        assert_eq!(poll(&mut stream, &mut rest), Some(63), "the room is filled");
        assert_eq!(rest[..9], [0, 0, 54, 0x0b, 0, 0, 0, 0, 0], "a frame of 54 bytes on stream 0");
        assert_eq!(rest[9..], [0; 54]);
        assert_eq!(poll(&mut stream, &mut rest), None, "only once");
    }

    #[tokio::test]
    async fn room_for_more_than_a_frame_takes_two() {
        let (mut far, near) = duplex(1024);
        let mut stream = Wiping::http2(near);
        far.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").await.unwrap();
        let mut room = vec![0xaa; 33 + LONGEST + 100];
        assert_eq!(poll(&mut stream, &mut room), Some(33));
        assert_eq!(poll(&mut stream, &mut room[33..]), Some(LONGEST));
        assert_eq!(poll(&mut stream, &mut room[33 + LONGEST..]), Some(100));
        assert_eq!(poll(&mut stream, &mut room), None);
    }
}
