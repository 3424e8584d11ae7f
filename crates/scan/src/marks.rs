//! Reading characters out of bytes, forwards and backwards.
//!
//! A byte that belongs to no UTF-8 character counts as one character that ends a number. Must never look further
//! than four bytes. Tests: at the end of this file.

use cordon_card::digits::{Mark, Separator, classify};

/// The character that starts at `at`, and how many bytes it takes. Nothing at the end of the bytes.
pub(crate) fn mark_at(bytes: &[u8], at: usize) -> Option<(Mark, usize)> {
    let first = *bytes.get(at)?;
    if first.is_ascii() {
        return Some((ascii(first), 1));
    }
    // Decoded by hand: this is where text in other scripts spends its time.
    let rest = bytes.get(at + 1..).unwrap_or_default();
    let (lead, width, least) = match first {
        0xc2..=0xdf => (first & 0x1f, 2, 0x80),
        0xe0..=0xef => (first & 0x0f, 3, 0x800),
        0xf0..=0xf4 => (first & 0x07, 4, 0x1_0000),
        _ => return Some((Mark::Other, 1)),
    };
    let tail = rest.get(..width - 1).filter(|tail| tail.iter().all(|byte| byte & 0xc0 == 0x80));
    let code =
        tail.map(|tail| tail.iter().fold(u32::from(lead), |code, byte| code << 6 | u32::from(byte & 0x3f)));
    let character = code.filter(|code| *code >= least).and_then(char::from_u32);
    Some(character.map_or((Mark::Other, 1), |character| (classify(character), width)))
}

/// The character that ends before `end`, and how many bytes it takes. Nothing at the start of the bytes.
pub(crate) fn mark_before(bytes: &[u8], end: usize) -> Option<(Mark, usize)> {
    let last = *bytes.get(end.checked_sub(1)?)?;
    if last.is_ascii() {
        return Some((ascii(last), 1));
    }
    let whole = (2..=4).find_map(|width| {
        let start = end.checked_sub(width)?;
        mark_at(bytes, start).filter(|(_, taken)| *taken == width)
    });
    Some(whole.unwrap_or((Mark::Other, 1)))
}

fn ascii(byte: u8) -> Mark {
    match byte {
        b'0'..=b'9' => Mark::Digit(byte.wrapping_sub(b'0')),
        b' ' => Mark::Separator(Separator::Space),
        b'-' => Mark::Separator(Separator::Dash),
        b'.' => Mark::Separator(Separator::Dot),
        _ => Mark::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::{ascii, mark_at, mark_before};
    use cordon_card::digits::{Mark, classify};
    use proptest::prelude::*;

    #[test]
    fn the_ascii_shortcut_agrees_with_the_table() {
        for byte in 0..=0x7f_u8 {
            assert_eq!(ascii(byte), classify(char::from(byte)));
        }
    }

    #[test]
    fn every_character_is_read_alike_from_both_sides() {
        let mut buffer = [0; 4];
        for character in '\0'..=char::MAX {
            let bytes = character.encode_utf8(&mut buffer).as_bytes();
            let wanted = Some((classify(character), bytes.len()));
            assert_eq!(mark_at(bytes, 0), wanted);
            assert_eq!(mark_before(bytes, bytes.len()), wanted);
        }
    }

    #[test]
    fn broken_characters_end_a_number() {
        for bytes in
            [&b"\xd9"[..], b"\xff", b"\xa0", b"\xe0\xa5", b"\xed\xa0\x80", b"\xf0\x9d\x9f", b"\xe0\x80\xb0"]
        {
            assert_eq!(mark_at(bytes, 0), Some((Mark::Other, 1)));
            assert_eq!(mark_before(bytes, bytes.len()), Some((Mark::Other, 1)));
        }
        assert_eq!(mark_at(b"1", 1), None);
        assert_eq!(mark_before(b"1", 0), None);
    }

    proptest! {
        #[test]
        fn what_is_no_text_is_told_from_text(bytes in prop::collection::vec(0x70_u8..=0xff, 1..5)) {
            let (mark, width) = mark_at(&bytes, 0).unwrap();
            let valid = (1..=4).find_map(|width| std::str::from_utf8(bytes.get(..width)?).ok());
            let wanted = valid.and_then(|text| text.chars().next());
            prop_assert_eq!(mark, wanted.map_or(Mark::Other, classify));
            prop_assert_eq!(width, wanted.map_or(1, char::len_utf8));
        }

        #[test]
        fn walking_backwards_visits_the_same_characters(text in any::<String>()) {
            let bytes = text.as_bytes();
            let mut forwards = Vec::new();
            let mut at = 0;
            while let Some((mark, width)) = mark_at(bytes, at) {
                forwards.push(mark);
                at += width;
            }
            let mut backwards = Vec::new();
            let mut end = bytes.len();
            while let Some((mark, width)) = mark_before(bytes, end) {
                backwards.push(mark);
                end -= width;
            }
            backwards.reverse();
            prop_assert_eq!(forwards, backwards);
        }
    }
}
