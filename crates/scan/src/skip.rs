//! Skipping clean text fast: finding the next run of bytes that is long enough to hold a card number.
//!
//! All bytes of a number, its separators and its invisible characters included, are in a small set (the space,
//! 0x2d to 0x39, and everything from 0x80), and there are at least twelve of them in a row. Sixty-four bytes are
//! tested at a time, without branches, so that the compiler can use vector instructions.
//! Must never skip a byte of a number: a run may be reported in vain, but not be missed.
//! Tests: at the end of this file.

use cordon_card::MIN_LENGTH;
use cordon_card::digits::Mark;

use crate::marks::mark_at;

/// A maximal run of characters that may belong to a number, cut at where the search began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// The next run, from `from` on, that has as many digits as the shortest number.
pub(crate) fn next_run(bytes: &[u8], from: usize) -> Option<Run> {
    let mut from = from;
    loop {
        let inside = next_long_run(bytes, from)?;
        let before = bytes.get(from..inside).unwrap_or_default();
        let back = before.iter().rev().take_while(|byte| may_belong(**byte)).count();
        match read_run(bytes, inside - back) {
            Reading::Enough(run) => return Some(run),
            Reading::TooFew { end } => from = end,
        }
    }
}

enum Reading {
    /// A run with enough digits.
    Enough(Run),
    /// None before this place.
    TooFew { end: usize },
}

/// Reads what the fast search pointed at, character by character, until a byte outside of the set.
fn read_run(bytes: &[u8], from: usize) -> Reading {
    let (mut start, mut at, mut digits) = (from, from, 0);
    while let Some(byte) = bytes.get(at).copied().filter(|byte| may_belong(*byte)) {
        let (mark, width) = match byte {
            b'0'..=b'9' => (Mark::Digit(0), 1),
            _ => mark_at(bytes, at).unwrap_or((Mark::Other, 1)),
        };
        match mark {
            Mark::Digit(_) => digits += 1,
            Mark::Separator(_) | Mark::Ignorable => {}
            Mark::Other if digits >= MIN_LENGTH => break,
            Mark::Other => (start, digits) = (at + width, 0),
        }
        at += width;
    }
    if digits >= MIN_LENGTH { Reading::Enough(Run { start, end: at }) } else { Reading::TooFew { end: at } }
}

const BLOCK: usize = 64;

/// A position within the next run of at least [`MIN_LENGTH`] bytes of the set.
fn next_long_run(bytes: &[u8], from: usize) -> Option<usize> {
    let (blocks, tail) = bytes.get(from..)?.as_chunks::<BLOCK>();
    let mut open = 0;
    for (number, block) in blocks.iter().enumerate() {
        if let Some(place) = long_run_in(mask_of(block), &mut open) {
            return Some(from + number * BLOCK + place);
        }
    }
    // Byte by byte: filling up a block would leave a copy of the text on the stack.
    let last = tail.iter().rev().fold(0, |mask, byte| (mask << 1) | u64::from(may_belong(*byte)));
    long_run_in(last, &mut open).map(|place| from + blocks.len() * BLOCK + place)
}

/// Looks for a long run in the mask of one block. `open` is the length of the run that reaches the block from
/// before, and becomes that of the run that leaves it.
#[inline]
fn long_run_in(mask: u64, open: &mut u32) -> Option<usize> {
    // Bit k of `twelve` is set when bits k-11 to k of the mask are.
    let two = mask & (mask << 1);
    let four = two & (two << 2);
    let eight = four & (four << 4);
    let twelve = eight & (four << 8);
    if *open > 0 && *open + mask.trailing_ones() >= SHORTEST {
        // The first byte of the block, or the last of the one before, is in the run; a caller walks from here.
        return Some(0);
    }
    if twelve != 0 {
        return usize::try_from(twelve.trailing_zeros()).ok();
    }
    *open = mask.leading_ones();
    None
}

const SHORTEST: u32 = 12;
const _: () = assert!(MIN_LENGTH == 12, "the shifts above are made for runs of twelve");

/// One bit per byte of the block: is it in the set?
#[inline]
fn mask_of(block: &[u8; BLOCK]) -> u64 {
    let mut flags = [0_u8; BLOCK];
    for (flag, byte) in flags.iter_mut().zip(block) {
        *flag = u8::from(may_belong(*byte));
    }
    let (words, _) = flags.as_chunks::<8>();
    words.iter().rev().fold(0, |mask, word| {
        // Moves bit 0 of each byte, in order, into the top byte.
        let bits = u64::from_le_bytes(*word).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        (mask << 8) | bits
    })
}

/// The set: a space, `-` to `9` (the slash between them does no harm), or a byte of a longer character.
#[inline]
fn may_belong(byte: u8) -> bool {
    (byte.wrapping_sub(b'-') <= b'9' - b'-') | (byte == b' ') | (byte >= 0x80)
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Run, may_belong, next_run};
    use crate::marks::mark_at;
    use cordon_card::digits::{Mark, classify};
    use proptest::prelude::*;

    #[test]
    fn every_character_of_a_number_is_in_the_set() {
        let mut buffer = [0; 4];
        for character in '\0'..=char::MAX {
            let bytes = character.encode_utf8(&mut buffer).as_bytes();
            match classify(character) {
                Mark::Digit(_) | Mark::Separator(_) | Mark::Ignorable => {
                    assert!(bytes.iter().all(|byte| may_belong(*byte)), "U+{:04X}", u32::from(character));
                }
                Mark::Other => {}
            }
        }
    }

    #[test]
    fn a_run_is_found_at_every_place_of_a_block() {
        for before in 0..3 * BLOCK {
            for length in 11..15 {
                let text = ["x".repeat(before), "1".repeat(length), "x".repeat(70)].concat();
                let wanted = (length >= 12).then_some(Run { start: before, end: before + length });
                assert_eq!(next_run(text.as_bytes(), 0), wanted, "{before} {length}");
            }
        }
    }

    #[test]
    fn runs_with_too_few_digits_are_skipped() {
        assert_eq!(next_run("\u{4e00}".repeat(100).as_bytes(), 0), None);
        assert_eq!(next_run(b"2026-11-22 20:39:00", 0), None);
        assert_eq!(next_run(&[b' '; 1000], 0), None);
    }

    fn slow(bytes: &[u8]) -> Option<Run> {
        let (mut start, mut at, mut digits) = (0, 0, 0);
        while at < bytes.len() {
            let (mark, width) = mark_at(bytes, at).unwrap();
            match mark {
                Mark::Digit(_) => digits += 1,
                Mark::Other if digits >= 12 => break,
                Mark::Other => (start, digits) = (at + width, 0),
                Mark::Separator(_) | Mark::Ignorable => {}
            }
            at += width;
        }
        (digits >= 12).then_some(Run { start, end: at })
    }

    proptest! {
        #[test]
        fn the_fast_search_agrees_with_the_slow_one(bytes in prop::collection::vec(
            prop_oneof![20 => Just(b'7'), 2 => Just(b' '), 1 => Just(b'x'), 1 => Just(b'/'), 1 => any::<u8>()], 0..400
        )) {
            prop_assert_eq!(next_run(&bytes, 0), slow(&bytes));
        }
    }
}
