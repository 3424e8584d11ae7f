//! Hexadecimal ids: UUIDs, trace contexts, object ids and digests.
//!
//! Must never hide track 2 data written in hexadecimal. Tests: at the end of this file.

/// Lengths of ids and digests in hexadecimal digits: object ids, MD5 and bare UUIDs, SHA-1, and the longer ones.
const WORD_LENGTHS: [usize; 8] = [24, 32, 40, 48, 56, 64, 96, 128];
const LONGEST_WORD: usize = 128;

/// Group lengths of ids with hyphens: a UUID, and the trace id and span id of a trace context.
const UUID: &[usize] = &[8, 4, 4, 4, 12];
const TRACE: &[usize] = &[32, 16];

pub(super) fn explains(view: &[u8], start: usize, end: usize) -> bool {
    in_hyphenated(view, start, end, UUID)
        || in_hyphenated(view, start, end, TRACE)
        || in_word(view, start, end)
}

fn in_word(view: &[u8], start: usize, end: usize) -> bool {
    let (Some(before), Some(after)) = (view.get(..start), view.get(end..)) else { return false };
    let is_word = |byte: &&u8| byte.is_ascii_alphanumeric();
    // Two more than the longest word: room for 0x.
    let back = before.iter().rev().take(LONGEST_WORD + 3).take_while(is_word).count();
    let ahead = after.iter().take(LONGEST_WORD + 1).take_while(is_word).count();
    let Some(word) = view.get(start - back..end + ahead) else { return false };
    let word = word.strip_prefix(b"0x").unwrap_or(word);
    WORD_LENGTHS.contains(&word.len()) && is_hex_in_one_case(word) && !(back == 0 && is_track(after))
}

fn is_hex_in_one_case(word: &[u8]) -> bool {
    let lower = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let upper = |byte: &u8| matches!(byte, b'0'..=b'9' | b'A'..=b'F');
    word.iter().all(lower) || word.iter().all(upper)
}

/// The field separator of track 2 and a year and month (ISO/IEC 7813), as a decoder of EMV data prints them.
fn is_track(after: &[u8]) -> bool {
    let [b'D' | b'd', year_tens, year_ones, month @ ..] = after else { return false };
    let month_is_real = matches!(month, [b'0', b'1'..=b'9', ..] | [b'1', b'0'..=b'2', ..]);
    year_tens.is_ascii_digit() && year_ones.is_ascii_digit() && month_is_real
}

/// Says whether `start..end` lies within groups of hexadecimal digits of these lengths, with hyphens between and no
/// letter or digit on either side.
fn in_hyphenated(view: &[u8], start: usize, end: usize, lengths: &[usize]) -> bool {
    let whole = lengths.iter().sum::<usize>() + lengths.len() - 1;
    (end.saturating_sub(whole)..=start).any(|first| {
        let Some(rest) = view.get(first..) else { return false };
        let is_bounded_before = first.checked_sub(1).and_then(|last| view.get(last)).is_none_or(is_edge);
        rest.len() >= whole
            && is_bounded_before
            && rest.get(whole).is_none_or(is_edge)
            && has_shape(rest, lengths)
    })
}

fn is_edge(byte: &u8) -> bool {
    !byte.is_ascii_alphanumeric()
}

fn has_shape(bytes: &[u8], lengths: &[usize]) -> bool {
    let mut rest = bytes;
    for (place, length) in lengths.iter().enumerate() {
        if place > 0 {
            let Some(after) = rest.strip_prefix(b"-") else { return false };
            rest = after;
        }
        let Some((group, after)) = rest.split_at_checked(*length) else { return false };
        if !group.iter().all(u8::is_ascii_hexdigit) {
            return false;
        }
        rest = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::explains;

    const PAN: &str = "4111111111111111";

    fn is_hidden(text: &str) -> bool {
        let start = text.find(PAN).unwrap();
        explains(text.as_bytes(), start, start + PAN.len())
    }

    #[test]
    fn letters_that_make_no_id_hide_nothing() {
        for text in [
            "4111111111111111",
            "cc4111111111111111",
            "cafe4111111111111111",
            "pan4111111111111111",
            "4111111111111111abc",
            "deadbeef4111111111111111f",
            "DEADbeef4111111111111111",
            "deadbeeg4111111111111111",
            "x0xdeadbeef4111111111111111",
        ] {
            assert!(!is_hidden(text), "{text}");
        }
    }

    #[test]
    fn track_data_in_hexadecimal_is_not_hidden() {
        assert!(!is_hidden("4111111111111111D261220112345678"));
        assert!(!is_hidden("4111111111111111d261210112345678"));
        assert!(is_hidden("4111111111111111D261301112345678"), "there is no month 13");
        assert!(is_hidden("4111111111111111E261220112345678"));
    }

    #[test]
    fn ids_and_digests_are_recognised() {
        for length in super::WORD_LENGTHS {
            let fill = length - PAN.len();
            let text = format!("{}{PAN}{}", "ab".repeat(fill / 2), "c".repeat(fill % 2));
            assert!(is_hidden(&text), "{text}");
            assert!(is_hidden(&text.to_ascii_uppercase()), "{text}");
            assert!(is_hidden(&format!("id=0x{text};")), "{text}");
            assert!(!is_hidden(&format!("{text}0a")) || length == 96, "{text}");
        }
    }

    #[test]
    fn trace_contexts_are_recognised() {
        assert!(is_hidden("00-4bf92f3577b34da6a3ce929d0e0e4736-4111111111111111-01"));
        assert!(is_hidden("4bf92f3577b34da6a3ce929d0e0e4736-4111111111111111"));
        assert!(!is_hidden("4bf92f3577b34da6a3ce929d0e0e47-4111111111111111"));
        assert!(!is_hidden("4bf92f3577b34da6a3ce929d0e0e4736-4111111111111111a"));
    }

    #[test]
    fn uuids_are_recognised_whole_and_bounded() {
        let hidden = |text: &str, digits: &str| {
            let start = text.find(digits).unwrap();
            explains(text.as_bytes(), start, start + digits.len())
        };
        assert!(hidden("6f9619ff-8b86-4011-b42d-676774000004", "676774000004"));
        assert!(hidden("{6F9619FF-8B86-4011-B42D-676774000004}", "676774000004"));
        assert!(hidden("6f9619ff-4111-4111-8111-00c04fc964ff", "4111-4111-8111"));
        assert!(!hidden("6f9619ff-8b86-4011-b42d-6767740000045", "676774000004"));
        assert!(!hidden("6f9619ff-8b86-4011-b42-676774000004", "676774000004"));
        assert!(!hidden("a6f9619ff-8b86-4011-b42d-676774000004", "676774000004"));
        assert!(!hidden("xf9619ff-8b86-4011-b42d-676774000004", "676774000004"));
    }
}
