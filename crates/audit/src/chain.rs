//! The bytes of a line: index first, the rendered event, and a running sum over this line and all before it.
//!
//! The sum is unkeyed and proves nothing by itself: it names the first line that was edited. The proof is the tree.
//! It must never end a line anywhere but in [`seal`]. Tests: at the end of this file.

use data_encoding::BASE32_NOPAD;
use ring::digest::{Context, SHA256};

/// The running sum after some line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum([u8; LENGTH]);

impl Sum {
    /// The sum after a line whose bytes before its sum field are `body`: `SHA-256(0x02 || before || body)`, 16 bytes.
    fn after(&self, body: &[u8]) -> Sum {
        let mut context = Context::new(&SHA256);
        // 0x00 and 0x01 are taken by the leaves and nodes of the tree.
        context.update(&[0x02]);
        context.update(&self.0);
        context.update(body);
        let mut bytes = [0; LENGTH];
        for (to, from) in bytes.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Sum(bytes)
    }
}

/// Appends the finished line (without its newline) to `out` and returns the sum after it.
///
/// `rendered` is the event as a JSON object, `{...}`; the index goes before its first field, the sum after its last.
pub(crate) fn seal(out: &mut Vec<u8>, index: u64, rendered: &[u8], before: Sum) -> Sum {
    let start = out.len();
    let fields = rendered.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}")).unwrap_or(rendered);
    out.extend_from_slice(b"{\"n\":");
    push_decimal(out, index);
    out.push(b',');
    out.extend_from_slice(fields);
    let sum = before.after(out.get(start..).unwrap_or_default());
    out.extend_from_slice(OPEN);
    let at = out.len();
    out.resize(at.saturating_add(TEXT), 0);
    if let Some(place) = out.get_mut(at..) {
        BASE32_NOPAD.encode_mut(&sum.0, place);
    }
    out.extend_from_slice(CLOSE);
    sum
}

/// The sum after `line` if the line carries the right one, given the sum before it.
pub(crate) fn check(line: &[u8], before: Sum) -> Option<Sum> {
    let body_and_sum = line.strip_suffix(CLOSE)?;
    let (rest, text) = body_and_sum.split_at_checked(body_and_sum.len().checked_sub(TEXT)?)?;
    let body = rest.strip_suffix(OPEN)?;
    let sum = before.after(body);
    let mut expected = [0; TEXT];
    BASE32_NOPAD.encode_mut(&sum.0, &mut expected);
    (expected == text).then_some(sum)
}

/// Bytes that [`seal`] adds to a rendered event, at most, and the newline.
pub(crate) const OVERHEAD: usize = 5 + 20 + 1 + OPEN.len() + TEXT + CLOSE.len() + 1;

fn push_decimal(out: &mut Vec<u8>, value: u64) {
    let mut digits = [0_u8; 20];
    let mut rest = value;
    let mut used = 0_usize;
    for place in digits.iter_mut().rev() {
        // INVARIANT(digit): a remainder by ten fits a byte, so the fallback is never taken.
        *place = b'0'.saturating_add(u8::try_from(rest % 10).unwrap_or_default());
        rest /= 10;
        used = used.saturating_add(1);
        if rest == 0 {
            break;
        }
    }
    let skip = digits.len().saturating_sub(used);
    out.extend_from_slice(digits.get(skip..).unwrap_or_default());
}

const LENGTH: usize = 16;
/// Base32 characters of a sum.
const TEXT: usize = 26;
const OPEN: &[u8] = b",\"sum\":\"";
const CLOSE: &[u8] = b"\"}";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_that_was_edited_anywhere_does_not_check() {
        let mut line = Vec::new();
        let sum = seal(&mut line, 41, br#"{"what":"start"}"#, Sum::default());
        assert_eq!(check(&line, Sum::default()), Some(sum));
        for place in 0..line.len() {
            let mut edited = line.clone();
            edited[place] ^= 1;
            assert_eq!(check(&edited, Sum::default()), None, "byte {place}");
        }
    }

    #[test]
    fn a_line_does_not_check_after_another_predecessor() {
        let mut first = Vec::new();
        let before = seal(&mut first, 0, br#"{"what":"start"}"#, Sum::default());
        let mut second = Vec::new();
        seal(&mut second, 1, br#"{"what":"stop"}"#, before);
        assert!(check(&second, before).is_some());
        assert_eq!(check(&second, Sum::default()), None);
    }

    #[test]
    fn a_line_shorter_than_its_sum_does_not_check() {
        for text in ["", "}", "\"}", "{}", ",\"sum\":\"\"}"] {
            assert_eq!(check(text.as_bytes(), Sum::default()), None);
        }
    }

    #[test]
    fn the_line_reads_as_one_json_object() {
        let mut line = Vec::new();
        seal(&mut line, 7, br#"{"what":"start"}"#, Sum::default());
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["n"], 7);
        assert_eq!(value["what"], "start");
        assert!(line.len() < br#"{"what":"start"}"#.len() + OVERHEAD);
    }

    proptest! {
        #[test]
        fn decimals_are_decimals(value: u64) {
            let mut out = Vec::new();
            push_decimal(&mut out, value);
            prop_assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}
