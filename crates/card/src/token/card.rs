//! The card shape: digits only, for columns and forms that take nothing else.
//!
//! First digit 0 (no brand's industry digit), never Luhn-valid, so that neither a scanner nor a checkout takes it
//! for a card. Must never let a modulus bias the digits. Tests: at the end of this file, `token/tests.rs`.

use super::TokenError;
use crate::{LastFour, MAX_LENGTH, MIN_LENGTH, luhn_is_valid};

const KEPT: usize = 4;

pub(super) fn is_card_shaped(text: &[u8]) -> bool {
    (MIN_LENGTH..=MAX_LENGTH).contains(&text.len())
        && text.first() == Some(&b'0')
        && text.iter().all(u8::is_ascii_digit)
        && !luhn_is_valid(text)
}

pub(super) fn draw(
    length: usize,
    last_four: Option<LastFour>,
    entropy: &[u8; 32],
) -> Result<String, TokenError> {
    if !(MIN_LENGTH..=MAX_LENGTH).contains(&length) {
        return Err(TokenError::Length);
    }
    let kept = last_four.map_or(0, |_| KEPT);
    let mut drawn = entropy.iter().filter_map(|byte| uniform_digit(*byte));
    let mut head = String::with_capacity(length);
    head.push('0');
    for _ in 2..length.saturating_sub(kept) {
        head.push(drawn.next().ok_or(TokenError::EntropyExhausted)?);
    }
    // Of the ten values of the last free digit exactly one is Luhn-valid, whatever the others are. Rejecting that
    // one and drawing this digit again therefore leaves all remaining tokens equally likely.
    for last in drawn {
        let mut text = head.clone();
        text.push(last);
        text.push_str(last_four.as_ref().map_or("", LastFour::as_str));
        if !luhn_is_valid(text.as_bytes()) {
            return Ok(text);
        }
    }
    Err(TokenError::EntropyExhausted)
}

/// One of ten digits, each from 25 byte values; the six values left over are rejected.
fn uniform_digit(byte: u8) -> Option<char> {
    (byte < 250).then(|| char::from(b'0'.wrapping_add(byte % 10)))
}

#[cfg(test)]
mod tests {
    use super::uniform_digit;

    #[test]
    fn every_digit_comes_from_as_many_bytes() {
        for digit in '0'..='9' {
            let sources = (0..=u8::MAX).filter(|byte| uniform_digit(*byte) == Some(digit)).count();
            assert_eq!(sources, 25);
        }
    }
}
