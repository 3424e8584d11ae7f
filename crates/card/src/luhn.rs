//! The Luhn check (ISO/IEC 7812-1 annex B).
//!
//! Never copies the digits it looks at.
//! Tests: at the end of this file, and `tests/published_numbers.rs`.

/// Says whether the digits end in a right check digit. False for an empty slice and for anything that is not an
/// ASCII digit.
#[must_use]
pub fn luhn_is_valid(ascii_digits: &[u8]) -> bool {
    let mut sum: u32 = 0;
    for pair in ascii_digits.rchunks(2) {
        let (doubled, plain) = match pair {
            [doubled, plain] => (*doubled, *plain),
            [plain] => (b'0', *plain),
            _ => return false,
        };
        if !doubled.is_ascii_digit() || !plain.is_ascii_digit() {
            return false;
        }
        let twice = u32::from(doubled.wrapping_sub(b'0')) * 2;
        let nines = if twice > 9 { 9 } else { 0 };
        sum = sum.wrapping_add(twice - nines + u32::from(plain.wrapping_sub(b'0')));
    }
    sum.is_multiple_of(10) && !ascii_digits.is_empty()
}

#[cfg(test)]
mod tests {
    use super::luhn_is_valid;

    #[test]
    fn nothing_and_non_digits_are_invalid() {
        assert!(!luhn_is_valid(b""));
        assert!(!luhn_is_valid(b"4111 1111 1111 1111"));
        assert!(!luhn_is_valid(b"411111111111111\xff"));
    }

    #[test]
    fn a_published_number_is_valid_and_each_single_change_is_not() {
        let good = *b"4111111111111111";
        assert!(luhn_is_valid(&good));
        for place in 0..good.len() {
            for digit in b'0'..=b'9' {
                let mut changed = good;
                changed[place] = digit;
                assert_eq!(luhn_is_valid(&changed), changed == good);
            }
        }
    }

    #[test]
    fn an_odd_number_of_digits_doubles_from_the_right() {
        assert!(luhn_is_valid(b"378282246310005"));
        assert!(luhn_is_valid(b"4222222222222"));
    }
}
