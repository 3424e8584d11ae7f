//! The opaque shape: `tok_<environment>_`, 26 base32 characters, two checksum characters.
//!
//! The checksum is CRC-10/ATM over everything before it. It is no secret: it tells a mistyped or cut token from a
//! whole one. As one character is a burst of at most eight bits, each change of a single character is noticed.
//! Must never accept upper case or a second spelling. Tests: `token/tests.rs`.

use crc::{CRC_10_ATM, Crc};
use data_encoding::BASE32_NOPAD;

use super::TokenError;
use crate::Environment;

const PREFIX: &str = "tok_";
const BODY_LENGTH: usize = 26;
const CHECKSUM_LENGTH: usize = 2;

static CHECKSUM: Crc<u16> = Crc::<u16>::new(&CRC_10_ATM);

pub(super) fn draw(environment: Environment, entropy: &[u8; 17]) -> String {
    let mut text = String::with_capacity(PREFIX.len() + 5 + BODY_LENGTH + CHECKSUM_LENGTH);
    text.push_str(PREFIX);
    text.push_str(environment.as_str());
    text.push('_');
    text.extend(lower_base32(entropy).chars().take(BODY_LENGTH));
    let checksum = checksum_of(&text);
    text.push_str(&checksum);
    text
}

pub(super) fn check(text: &str) -> Result<Environment, TokenError> {
    let (environment, body) =
        text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).ok_or(TokenError::Form)?;
    let environment = environment.parse().or(Err(TokenError::Form))?;
    let alphabet_is_kept = body.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'));
    if body.len() != BODY_LENGTH + CHECKSUM_LENGTH || !alphabet_is_kept {
        return Err(TokenError::Form);
    }
    let (covered, given) = text.split_at_checked(text.len() - CHECKSUM_LENGTH).ok_or(TokenError::Form)?;
    if checksum_of(covered) == given { Ok(environment) } else { Err(TokenError::Checksum) }
}

/// Ten bits as two base32 characters: they are moved to the top of 16 bits, whose first two characters they are.
fn checksum_of(covered: &str) -> String {
    let bits = CHECKSUM.checksum(covered.as_bytes()) << 6;
    lower_base32(&bits.to_be_bytes()).chars().take(CHECKSUM_LENGTH).collect()
}

fn lower_base32(bytes: &[u8]) -> String {
    let mut text = BASE32_NOPAD.encode(bytes);
    text.make_ascii_lowercase();
    text
}

#[cfg(test)]
mod tests {
    use super::CHECKSUM;

    #[test]
    fn the_checksum_gives_the_published_check_value() {
        // CRC catalogue: CRC-10/ATM over "123456789" is 0x199.
        assert_eq!(CHECKSUM.checksum(b"123456789"), 0x199);
    }
}
