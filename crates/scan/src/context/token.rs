//! Opaque tokens of ours: whoever has one may log it.
//!
//! Must never accept a token whose checksum is wrong. Tests: at the end of this file, `tests/lookalikes.rs`.

use cordon_card::Token;

const PREFIX: &[u8] = b"tok_";

/// Lengths of an opaque token: `dev`, then `test` and `live`.
const LENGTHS: [usize; 2] = [36, 37];
const LONGEST: usize = 37;

pub(super) fn explains(view: &[u8], start: usize, end: usize) -> bool {
    (end.saturating_sub(LONGEST)..start).any(|first| {
        let rest = view.get(first..).unwrap_or_default();
        rest.starts_with(PREFIX)
            && LENGTHS.iter().any(|length| {
                first + length >= end
                    && rest
                        .get(..*length)
                        .is_some_and(|text| std::str::from_utf8(text).is_ok_and(Token::recognise))
            })
    })
}

#[cfg(test)]
mod tests {
    use super::explains;
    use cordon_card::{Environment, Token};

    // Sixteen base32 characters that are digits: 4242424242424242 inside a token, by choice of the entropy.
    fn token_with_digits(environment: Environment) -> String {
        let mut entropy = [0; 17];
        for (place, byte) in
            [0xe6, 0xb9, 0xae, 0x6b, 0x9a, 0xe6, 0xb9, 0xae, 0x6b, 0x9a].into_iter().enumerate()
        {
            entropy[place] = byte;
        }
        Token::opaque(environment, &entropy).as_str().to_owned()
    }

    #[test]
    fn digits_in_a_whole_token_are_recognised_and_in_a_broken_one_not() {
        let token = token_with_digits(Environment::Live);
        let start = token.find("42424242").unwrap();
        assert!(explains(token.as_bytes(), start, start + 16));
        let broken = token.replace("live", "test");
        assert!(!explains(broken.as_bytes(), start, start + 16));
        let short = format!("{}4", token_with_digits(Environment::Dev));
        assert!(explains(short.as_bytes(), start - 1, short.len() - 1));
        assert!(!explains(short.as_bytes(), start - 1, short.len()));
    }
}
