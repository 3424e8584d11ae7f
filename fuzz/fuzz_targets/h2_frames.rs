//! A peer's HTTP/2 bytes in any pieces: no panic, the same tracking however they are cut, every byte passed as it came, and
//! frames of our own only where one of the peer's could begin.
#![no_main]

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use cordon_daemon::server::wiping::{Frames, Wiping};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, ReadBuf};

/// Gives a piece, then has nothing, then gives the next.
struct Peer<'a> {
    bytes: &'a [u8],
    piece: usize,
    rests: bool,
    /// How many bytes it gave.
    given: &'a Cell<usize>,
}

impl AsyncRead for Peer<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.rests = !self.rests;
        if self.rests || self.bytes.is_empty() {
            return Poll::Pending;
        }
        let (piece, rest) = self.bytes.split_at(self.piece.min(self.bytes.len()).min(into.remaining()));
        into.put_slice(piece);
        self.bytes = rest;
        self.given.set(self.given.get() + piece.len());
        Poll::Ready(Ok(()))
    }
}

/// Whether a frame may stand behind these bytes, read in one go.
fn between(mut bytes: &[u8]) -> bool {
    let mut block = false;
    let Some(after_preface) = bytes.get(24..) else { return false };
    bytes = after_preface;
    while let Some(([high, middle, low, kind, flags, ..], payload)) = bytes.split_first_chunk::<9>() {
        let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        if [1, 5, 9].contains(kind) {
            block = flags & 4 == 0;
        }
        let Some(rest) = payload.get(length..) else { return false };
        bytes = rest;
    }
    bytes.is_empty() && !block
}

fn tracking(bytes: &[u8], piece: usize) -> String {
    let mut frames = Frames::default();
    bytes.chunks(piece).for_each(|chunk| frames.pass(chunk));
    assert_eq!(frames.between(), between(bytes));
    format!("{frames:?}")
}

fuzz_target!(|data: &[u8]| {
    let Some(([piece, room], bytes)) = data.split_first_chunk::<2>() else { return };
    let (piece, room) = (usize::from(*piece) + 1, usize::from(*room) + 1);
    assert_eq!(tracking(bytes, piece), tracking(bytes, bytes.len().max(1)));

    let given = Cell::new(0);
    let mut stream = Wiping::http2(Peer { bytes, piece, rests: true, given: &given });
    let mut context = Context::from_waker(Waker::noop());
    let (mut passed, mut idle) = (0, 0);
    while idle < 3 {
        let mut kept = vec![0xaa; room + 2];
        let mut buffer = ReadBuf::new(&mut kept);
        buffer.put_slice(b"ok");
        let came = match Pin::new(&mut stream).poll_read(&mut context, &mut buffer) {
            Poll::Pending => false,
            Poll::Ready(result) => result.map(|()| true).expect("this stream has no errors"),
        };
        let (taken, read) = buffer.filled().split_at(2);
        assert_eq!(taken, b"ok", "what was read before is the reader's");
        assert_eq!(came, !read.is_empty());
        idle = if came { 0 } else { idle + 1 };
        if given.get() > passed {
            assert_eq!(bytes.get(passed..given.get()), Some(read));
            passed = given.get();
        } else if came {
            assert!(between(bytes.get(..passed).expect("no more than there is")), "a frame inside another");
            let (header, payload) = read.split_first_chunk::<9>().expect("a whole frame");
            let [_, high, middle, low] = u32::try_from(payload.len()).expect("it fits").to_be_bytes();
            assert_eq!(*header, [high, middle, low, 0x0b, 0, 0, 0, 0, 0]);
            assert!(payload.iter().all(|byte| *byte == 0));
        }
    }
    assert_eq!(passed, bytes.len(), "every byte was passed");
});
