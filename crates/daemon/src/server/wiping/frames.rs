//! Where the frames of an HTTP/2 connection begin and end (RFC 9113 section 4.1).
//!
//! It must never look into one: what frames mean is the HTTP library's business, which also refuses malformed ones. Tests: at
//! the end of this file, fuzz target `h2_frames`.

/// Follows the bytes of one direction of a connection.
#[derive(Debug)]
pub struct Frames {
    /// Bytes of the preface or of a payload that are still to come.
    left: usize,
    header: [u8; HEADER],
    /// How much of `header` has come.
    seen: usize,
    /// A header block is open: only its continuation may follow (section 4.3).
    block: bool,
}

impl Default for Frames {
    /// Before the client's preface (section 3.4).
    fn default() -> Frames {
        Frames { left: PREFACE, header: [0; HEADER], seen: 0, block: false }
    }
}

impl Frames {
    /// These bytes come next.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let step = self.left.min(bytes.len());
                self.left -= step;
                bytes = bytes.get(step..).unwrap_or_default();
                continue;
            }
            let step = (HEADER - self.seen).min(bytes.len());
            let (part, rest) = bytes.split_at(step);
            if let Some(room) = self.header.get_mut(self.seen..self.seen + step) {
                room.copy_from_slice(part);
            }
            self.seen += step;
            bytes = rest;
            if self.seen == HEADER {
                self.begin();
            }
        }
    }

    /// A header is whole.
    fn begin(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.seen = 0;
        self.block = match kind {
            HEADERS | PUSH_PROMISE | CONTINUATION => flags & END_HEADERS == 0,
            _ => self.block,
        };
    }

    /// Between two frames, where one of an unknown type may stand.
    #[must_use]
    pub fn between(&self) -> bool {
        self.left == 0 && self.seen == 0 && !self.block
    }
}

/// The header of a frame that fills `room` bytes, at least [`HEADER`] and at most [`LONGEST`], and that every reader ignores.
pub(super) fn ignored(room: usize) -> [u8; HEADER] {
    let length = u32::try_from(room.saturating_sub(HEADER)).unwrap_or_default();
    let [_, high, middle, low] = length.to_be_bytes();
    // No flags, stream 0: it belongs to the connection.
    [high, middle, low, IGNORED, 0, 0, 0, 0, 0]
}

/// Bytes of a frame's header.
pub(super) const HEADER: usize = 9;
/// A frame of the largest size that every reader takes (section 4.2).
pub(super) const LONGEST: usize = HEADER + 16_384;
const PREFACE: usize = 24;
const HEADERS: u8 = 0x01;
const PUSH_PROMISE: u8 = 0x05;
const CONTINUATION: u8 = 0x09;
const END_HEADERS: u8 = 0x04;
/// Types 0x0b + 0x1f * n are kept free so that readers get used to ignoring what they don't know.
const IGNORED: u8 = 0x0b;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut bytes = ignored(HEADER + payload).to_vec();
        bytes[3] = kind;
        bytes[4] = flags;
        bytes.resize(HEADER + payload, 0xff);
        bytes
    }

    #[test]
    fn only_the_places_between_frames_are_between() {
        let frames = [frame(4, 0, 12), frame(1, 4, 30), frame(0, 1, 300), frame(6, 0, 8), frame(0, 0, 0)];
        let mut bytes = vec![b'x'; PREFACE];
        let mut ends = vec![bytes.len()];
        for frame in &frames {
            bytes.extend(frame);
            ends.push(bytes.len());
        }
        for piece in [1, 2, 7, 9, 64, 1000] {
            let mut tracked = Frames::default();
            assert!(!tracked.between(), "before the preface");
            let mut passed = 0;
            for chunk in bytes.chunks(piece) {
                tracked.pass(chunk);
                passed += chunk.len();
                assert_eq!(tracked.between(), ends.contains(&passed), "after {passed} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn nothing_may_stand_inside_a_header_block() {
        let mut tracked = Frames::default();
        tracked.pass(&[b'x'; PREFACE]);
        for (kind, flags, between) in
            [(1, 0, false), (9, 0, false), (9, 4, true), (5, 0, false), (9, 4, true)]
        {
            tracked.pass(&frame(kind, flags, 5));
            assert_eq!(tracked.between(), between, "{kind} {flags}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_of_a_peer_bring_it_down(bytes: Vec<u8>, piece in 1_usize..40) {
            let mut tracked = Frames::default();
            for chunk in bytes.chunks(piece) {
                tracked.pass(chunk);
            }
            let mut whole = Frames::default();
            whole.pass(&bytes);
            proptest::prop_assert_eq!(format!("{tracked:?}"), format!("{whole:?}"));
        }
    }
}
