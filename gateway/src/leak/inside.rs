//! Looks below encodings that a text's type does not ask for: base64, base64url (so also the parts of a JWT),
//! hexadecimal, escapes of JSON and XML, numbers with an exponent. Two levels deep (threat B42).
//!
//! What is decoded is judged by the same rules as any text, so a false alarm takes a real run of digits: of random bytes
//! in base64 or hexadecimal, one in 10^17 begins thirteen digits. That is why routes deny by default.
//! Must never grow what it looks at: no decoding here makes more bytes than it reads. Tests: `leak/inside/tests.rs`.

use super::{PERCENT_LAYERS, uncleared};
use crate::body::json::whole_digits;
use cordon_card::{MIN_LENGTH, Pan};
use data_encoding::{Encoding, Specification};
use memchr::memmem;
use percent_encoding::percent_decode;
use std::sync::LazyLock;
use zeroize::Zeroizing;

/// True when a card number that is none of the cleared ones stands below one or two such encodings.
#[must_use]
pub fn holds(bytes: &[u8], cleared: &[Pan]) -> bool {
    below(bytes, LEVELS, cleared) || below_percent(bytes, PERCENT_LAYERS, cleared)
}

/// Percent signs are no level of their own: whoever reads a URL or a form undoes them.
fn below_percent(bytes: &[u8], layers: usize, cleared: &[Pan]) -> bool {
    if layers == 0 || memchr::memchr(b'%', bytes).is_none() {
        return false;
    }
    let mut decoded = Zeroizing::new(Vec::with_capacity(bytes.len()));
    decoded.extend(percent_decode(bytes));
    // What did not shrink had nothing to undo.
    decoded.len() < bytes.len()
        && (below(&decoded, LEVELS, cleared) || below_percent(&decoded, layers.saturating_sub(1), cleared))
}

fn below(bytes: &[u8], levels: usize, cleared: &[Pan]) -> bool {
    if levels == 0 {
        return false;
    }
    let levels = levels.saturating_sub(1);
    let mut judge = |decoded: &[u8]| uncleared(decoded, cleared) || below(decoded, levels, cleared);
    runs(bytes).any(|run| in_base64(run, &mut judge) || in_hexadecimal(run, &mut judge))
        || unescaped(bytes).is_some_and(|decoded| judge(&decoded))
        || exponents(bytes, cleared)
}

/// Runs of characters of base64 and base64url that are long enough to hold the shortest number, with the line ends
/// that mail puts between them.
fn runs(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let run = rest.get(next_run(rest)?..)?;
        let (run, after) = run.split_at_checked(run_end(run))?;
        rest = after;
        Some(run)
    })
}

/// Where the next run of [`SHORTEST_RUN`] characters begins. Read backwards, a window that holds another character shows how far
/// to go on: of most texts two bytes in five are looked at.
fn next_run(bytes: &[u8]) -> Option<usize> {
    let mut start = 0_usize;
    loop {
        let window = bytes.get(start..)?.first_chunk::<SHORTEST_RUN>()?;
        let Some(other) = window.iter().rposition(|byte| !is_coded(*byte)) else { return Some(start) };
        start = start.saturating_add(other).saturating_add(1);
    }
}

/// Where the run at the start ends: at the first byte that is neither of the alphabet nor a line end within it.
fn run_end(bytes: &[u8]) -> usize {
    let mut end = 0_usize;
    loop {
        let line = bytes.get(end..).unwrap_or_default();
        let length = line.iter().take_while(|byte| is_coded(**byte)).count();
        end = end.saturating_add(length);
        let after = bytes.get(end..).unwrap_or_default();
        let broken =
            [&b"\\r\\n"[..], b"\\n", b"\r\n", b"\n"].into_iter().find(|line_end| after.starts_with(line_end));
        let next = broken.and_then(|line_end| after.get(line_end.len()));
        match broken {
            // Lines of base64 are whole groups of four.
            Some(line_end)
                if length >= SHORTEST_RUN && length % 4 == 0 && next.is_some_and(|byte| is_coded(*byte)) =>
            {
                end = end.saturating_add(line_end.len());
            }
            Some(_) | None => return end,
        }
    }
}

fn is_coded(byte: u8) -> bool {
    CODED.get(usize::from(byte)).copied().unwrap_or_default()
}

/// A run may begin before what was coded, so each of the four ways to divide it is tried.
fn in_base64(run: &[u8], judge: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    // Without its line ends; of one that is escaped, the letter goes as well.
    let mut after_escape = false;
    let kept = run.iter().filter(|byte| {
        let escaped = std::mem::replace(&mut after_escape, **byte == b'\\');
        !escaped && is_coded(**byte)
    });
    let joined = Zeroizing::new(kept.copied().collect::<Vec<_>>());
    let mut decoded = Zeroizing::new(vec![0; joined.len()]);
    (0..4).any(|skipped| {
        let part = joined.get(skipped..).unwrap_or_default();
        // One character alone is no byte.
        let odd = usize::from(part.len() % 4 == 1);
        let part = part.get(..part.len().saturating_sub(odd)).unwrap_or_default();
        let room = BASE64.decode_len(part.len()).ok().and_then(|length| decoded.get_mut(..length));
        room.is_some_and(|room| {
            let length = BASE64.decode_mut(part, room);
            length.is_ok_and(|length| judge(room.get(..length).unwrap_or_default()))
        })
    })
}

/// The digits of hexadecimal within a run, divided in either way.
fn in_hexadecimal(run: &[u8], judge: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    run.split(|byte| !byte.is_ascii_hexdigit()).filter(|digits| digits.len() >= SHORTEST_HEXADECIMAL).any(
        |digits| {
            (0..2).any(|skipped| {
                let pairs = digits.get(skipped..).unwrap_or_default().as_chunks::<2>().0;
                let byte = |pair: &[u8; 2]| {
                    let value =
                        |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
                    let [high, low] = pair.map(value);
                    (high.unwrap_or_default() << 4) | low.unwrap_or_default()
                };
                judge(&Zeroizing::new(pairs.iter().map(byte).collect::<Vec<_>>()))
            })
        },
    )
}

/// The text with `\u0034`, `&#52;` and `&#x34;` resolved; `None` when there are none.
fn unescaped(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    memchr::memchr2(b'\\', b'&', bytes)?;
    if memmem::find(bytes, b"\\u").is_none() && memmem::find(bytes, b"&#").is_none() {
        return None;
    }
    // With room for all of it: each of these is longer than its character.
    let mut decoded = Zeroizing::new(Vec::with_capacity(bytes.len()));
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        if let Some((character, length)) = escape(rest) {
            decoded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            rest = rest.get(length..).unwrap_or_default();
        } else {
            decoded.push(*first);
            rest = after;
        }
    }
    Some(decoded)
}

/// The character that an escape at the start stands for, and how long the escape is.
fn escape(bytes: &[u8]) -> Option<(char, usize)> {
    let text = |range: std::ops::Range<usize>| std::str::from_utf8(bytes.get(range)?).ok();
    if bytes.starts_with(b"\\u") {
        return Some((char::from_u32(u32::from_str_radix(text(2..6)?, 16).ok()?)?, 6));
    }
    let inner = bytes.strip_prefix(b"&#")?;
    let length = inner.iter().take(LONGEST_REFERENCE).position(|byte| *byte == b';')?;
    let number = text(2..length.saturating_add(2))?;
    let code = match number.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => number.parse(),
    };
    Some((char::from_u32(code.ok()?)?, length.saturating_add(3)))
}

/// Whether a number with an exponent is a card number: `4.111111111111111e15`. In hexadecimal an `e` is a digit, so
/// the number has to stand alone, and to have a point or the digits of a card number.
fn exponents(bytes: &[u8], cleared: &[Pan]) -> bool {
    let in_mantissa = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    let in_exponent = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-');
    memchr::memchr2_iter(b'e', b'E', bytes).any(|at| {
        let (before, after) = bytes.split_at_checked(at).unwrap_or_default();
        let mantissa =
            before.iter().rev().take(LONGEST_MANTISSA).take_while(|byte| in_mantissa(byte)).count();
        if mantissa == 0 {
            return false;
        }
        let start = at.saturating_sub(mantissa);
        let exponent =
            after.iter().skip(1).take(LONGEST_EXPONENT).take_while(|byte| in_exponent(byte)).count();
        let end = at.saturating_add(exponent).saturating_add(1);
        let outside =
            start.checked_sub(1).and_then(|before| bytes.get(before)).into_iter().chain(bytes.get(end));
        let alone = outside.into_iter().all(|byte| !byte.is_ascii_alphanumeric());
        let token = bytes.get(start..end).and_then(|token| std::str::from_utf8(token).ok());
        let token = token.filter(|token| alone && (mantissa >= MIN_LENGTH || token.contains('.')));
        token.and_then(whole_digits).is_some_and(|digits| uncleared(digits.as_bytes(), cleared))
    })
}

/// Both alphabets in one, without padding, whatever the last bits are.
static BASE64: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    specification.translate.from.push_str("-_");
    specification.translate.to.push_str("+/");
    specification.check_trailing_bits = false;
    specification.encoding().unwrap_or(data_encoding::BASE64_NOPAD)
});

/// The characters of both alphabets.
#[expect(
    clippy::indexing_slicing,
    reason = "in a constant a panic is an error of the build, and a byte fits"
)]
const CODED: [bool; 256] = {
    let mut coded = [false; 256];
    let mut rest = ALPHABET.as_bytes();
    while let [first, after @ ..] = rest {
        coded[*first as usize] = true;
        rest = after;
    }
    coded
};
const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_";

/// How deep to look.
pub const LEVELS: usize = 2;
/// Twelve digits make sixteen characters of base64.
const SHORTEST_RUN: usize = 16;
/// And twenty-four of hexadecimal.
const SHORTEST_HEXADECIMAL: usize = 24;
const LONGEST_REFERENCE: usize = 10;
const LONGEST_MANTISSA: usize = 64;
const LONGEST_EXPONENT: usize = 8;

#[cfg(test)]
mod tests;
