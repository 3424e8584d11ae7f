//! Places of tokens in a JSON document that has already been read to its end without a fault.
//!
//! Must never be used on anything else: it relies on the document being well formed (INVARIANT(read-before)).
//! Tests: here and `body/json/tests.rs`.

use std::ops::Range;

/// The texts of the number tokens.
pub(super) fn numbers(document: &str) -> impl Iterator<Item = &str> {
    Tokens { document, at: 0 }.filter_map(|(kind, span)| match kind {
        Kind::Number => document.get(span),
        Kind::Text => None,
    })
}

/// The places of the string values, with their quotes; keys are left out.
pub(super) fn string_values(document: &str) -> impl Iterator<Item = Range<usize>> {
    Tokens { document, at: 0 }.filter_map(|(kind, span)| match kind {
        Kind::Text => {
            let after = document.get(span.end..).unwrap_or_default().trim_ascii_start();
            (!after.starts_with(':')).then_some(span)
        }
        Kind::Number => None,
    })
}

/// The integer part of a number token as plain digits, if it has as many as a card number can have.
pub(crate) fn whole_digits(number: &str) -> Option<String> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = whole.trim_start_matches('-');
    if !mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9')) {
        return None; // Zero: no exponent makes more of it, and skipping its padding could take for ever.
    }
    let point = i64::try_from(whole.len()).ok()?.checked_add(exponent.parse().ok()?)?;
    let padded = whole.bytes().chain(fraction.bytes()).chain(std::iter::repeat(b'0'));
    let mut digits =
        padded.take(usize::try_from(point).ok()?).skip_while(|digit| *digit == b'0').map(char::from);
    let found: String = digits.by_ref().take(LONGEST).collect();
    (found.len() >= SHORTEST && digits.next().is_none()).then_some(found)
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
}

struct Tokens<'d> {
    document: &'d str,
    at: usize,
}

impl Iterator for Tokens<'_> {
    type Item = (Kind, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.document.as_bytes();
        let rest = bytes.get(self.at..)?;
        // INVARIANT(read-before): outside strings, a quote, digit or minus begins a token.
        let skipped = rest.iter().position(|byte| matches!(byte, b'"' | b'-' | b'0'..=b'9'))?;
        let start = self.at.saturating_add(skipped);
        let token = bytes.get(start..)?;
        let (kind, length) = if token.starts_with(b"\"") {
            (Kind::Text, text_length(token))
        } else {
            let numeric = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
            (Kind::Number, token.iter().take_while(|byte| numeric(byte)).count())
        };
        self.at = start.saturating_add(length);
        Some((kind, start..self.at))
    }
}

/// Length of a string token from its opening to its closing quote.
fn text_length(token: &[u8]) -> usize {
    let mut escaped = false;
    let inner = token.iter().skip(1).take_while(|byte| {
        let ends = **byte == b'"' && !escaped;
        escaped = **byte == b'\\' && !escaped;
        !ends
    });
    inner.count().saturating_add(2)
}

/// Digits of the shortest and of the longest card number.
const SHORTEST: usize = 12;
const LONGEST: usize = 19;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_card_number_as_a_number_gives_its_digits() {
        for number in [
            "4111111111111111",
            "-4111111111111111",
            "4.111111111111111e15",
            "4.111111111111111E+15",
            "41111111111111110e-1",
            "4111111111111111.0",
            "4111111111111111.25",
            "0.0004111111111111111e19",
            "411111111111111.1e1",
            "4111111111111111e0",
            "4111111111111111e-0",
        ] {
            assert_eq!(whole_digits(number).unwrap(), "4111111111111111", "{number}");
        }
        assert_eq!(whole_digits("6304e14").unwrap(), "630400000000000000");
        assert_eq!(whole_digits("6.304000000000000001e18").unwrap(), "6304000000000000001");
    }

    #[test]
    fn other_numbers_give_nothing() {
        for number in
            ["0", "1.5", "-1e3", "4.1e30", "1e-400", "0e99999999999", "0.4111111111111111", "1e99999999999"]
        {
            assert_eq!(whole_digits(number), None, "{number}");
        }
    }

    #[test]
    fn a_huge_exponent_costs_nothing() {
        assert_eq!(whole_digits("1e9223372036854775806"), None);
        assert_eq!(whole_digits("0e9223372036854775806"), None);
        assert_eq!(whole_digits("0.00e9223372036854775800"), None);
    }

    #[test]
    fn values_and_numbers_are_found_and_keys_are_not() {
        let document = r#" {"a\"1" : "x\\", "b":[-1.5e3,"","\"2"], "c":{"d":true,"e":null}} "#;
        let values: Vec<_> = string_values(document).map(|span| document.get(span).unwrap()).collect();
        assert_eq!(values, [r#""x\\""#, r#""""#, r#""\"2""#]);
        assert_eq!(numbers(document).collect::<Vec<_>>(), ["-1.5e3"]);
    }
}
