//! The card number.
//!
//! The type keeps the digits in place, wipes them on drop, and gives them out only through [`Pan::expose`] and
//! [`Pan::duplicate`], so that both can be searched for. It must never implement `Clone`, `Copy`, `Display`,
//! `PartialEq`, `Hash`, `Serialize` or `Deserialize`.
//! Tests: `tests/published_numbers.rs`, `tests/spellings.rs`, and the two refusals to compile below.
//!
//! ```compile_fail
//! fn needs_clone<T: Clone>() {}
//! needs_clone::<cordon_card::Pan>();
//! ```
//! ```compile_fail
//! fn needs_serialize<T: serde::Serialize>() {}
//! needs_serialize::<cordon_card::Pan>();
//! ```

use std::fmt::{self, Debug, Formatter};

use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;
use zeroize::ZeroizeOnDrop;

use crate::digits::{Mark, classify};
use crate::truncation::{LastFour, Truncated, Truncation};
use crate::{Brand, Iin, MAX_LENGTH, MIN_LENGTH, luhn_is_valid};

/// A card number: 12 to 19 digits with a right Luhn digit.
///
/// The digits are wiped when the value is dropped. A move copies bytes (as any move in Rust does), so keep a
/// `Pan` where it was parsed and pass it by reference.
#[derive(ZeroizeOnDrop)]
pub struct Pan {
    // INVARIANT(pan): the first `length` bytes are ASCII digits, 12 to 19 of them, Luhn-valid; the rest is zero.
    digits: [u8; MAX_LENGTH],
    length: usize,
}

/// Why a text is no card number. Says nothing about the text. At fault: whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PanError {
    /// Fewer than 12 digits.
    #[error("a card number has at least 12 digits")]
    TooShort,
    /// More than 19 digits.
    #[error("a card number has at most 19 digits")]
    TooLong,
    /// A character that is no digit, or a separator that does not stand between digits.
    #[error("a card number has digits and separators between them only")]
    Character,
    /// The last digit does not check (ISO/IEC 7812-1 annex B).
    #[error("the check digit of the card number is wrong")]
    CheckDigit,
}

impl Pan {
    /// Reads a number as people write it: digits of any script, with spaces, dashes or dots between them in any
    /// grouping, invisible characters skipped, white space around it skipped.
    ///
    /// # Errors
    /// [`PanError`] when something else stands in the text, when there are not 12 to 19 digits, or when the Luhn
    /// check fails. What was read by then is wiped.
    pub fn parse(text: &str) -> Result<Self, PanError> {
        let mut scratch = Scratch::default();
        let mut after_digit = false;
        for character in text.trim().chars() {
            match classify(character) {
                Mark::Digit(value) => {
                    scratch.push(value)?;
                    after_digit = true;
                }
                Mark::Separator(_) if scratch.length > 0 => after_digit = false,
                Mark::Ignorable => {}
                Mark::Separator(_) | Mark::Other => return Err(PanError::Character),
            }
        }
        if !after_digit && scratch.length > 0 {
            return Err(PanError::Character);
        }
        scratch.checked()
    }

    /// Reads plain ASCII digits and nothing else.
    ///
    /// # Errors
    /// [`PanError`], as for [`Pan::parse`]; any byte but `0` to `9` is refused.
    pub fn from_ascii_digits(ascii_digits: &[u8]) -> Result<Self, PanError> {
        let mut scratch = Scratch::default();
        for byte in ascii_digits {
            if !byte.is_ascii_digit() {
                return Err(PanError::Character);
            }
            scratch.push(byte.wrapping_sub(b'0'))?;
        }
        scratch.checked()
    }

    /// The digits, in ASCII. Each call is an exposure: search for the name.
    #[must_use]
    pub fn expose(&self) -> &str {
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }

    /// A second copy of the number, for the few places that need one; each wipes its own.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self { digits: self.digits, length: self.length }
    }

    /// The brand by prefix and length, or [`Brand::Unknown`].
    #[must_use]
    pub fn brand(&self) -> Brand {
        Brand::of(self.bytes())
    }

    /// The last four digits.
    #[must_use]
    pub fn last_four(&self) -> LastFour {
        LastFour::of(self.bytes())
    }

    /// The number with digits hidden. Where the brand or the length does not allow what is asked (PCI SSC FAQ
    /// 1091), less is kept: eight and four becomes six and four, and six and four becomes the last four.
    #[must_use]
    pub fn truncated(&self, keep: Truncation) -> Truncated {
        Truncated::of(self.bytes(), self.brand(), keep)
    }

    /// The issuer's number: the first eight digits where [`Truncation::EightAndFour`] shows them, else the first six.
    #[must_use]
    pub fn iin(&self) -> Iin {
        let shown = self.truncated(Truncation::EightAndFour);
        Iin::of(self.bytes(), shown.as_str().bytes().take_while(u8::is_ascii_digit).count() == 8)
    }

    /// How many digits the number has, 12 to 19.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a card number is never empty")]
    pub fn len(&self) -> usize {
        self.length
    }

    fn bytes(&self) -> &[u8] {
        self.digits.get(..self.length).unwrap_or_default()
    }
}

/// The digits while they are read. A local [`Pan`] would be moved into the result and leave its bytes behind on the
/// stack; this is copied from and then wiped, on success as on failure.
#[derive(Default, ZeroizeOnDrop)]
struct Scratch {
    digits: [u8; MAX_LENGTH],
    length: usize,
}

impl Scratch {
    fn push(&mut self, value: u8) -> Result<(), PanError> {
        let place = self.digits.get_mut(self.length).ok_or(PanError::TooLong)?;
        *place = b'0'.wrapping_add(value);
        self.length += 1;
        Ok(())
    }

    fn checked(&self) -> Result<Pan, PanError> {
        let digits = self.digits.get(..self.length).unwrap_or_default();
        if digits.len() < MIN_LENGTH {
            return Err(PanError::TooShort);
        }
        if !luhn_is_valid(digits) {
            return Err(PanError::CheckDigit);
        }
        Ok(Pan { digits: self.digits, length: self.length })
    }
}

impl Debug for Pan {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "Pan({})", self.truncated(Truncation::LastFour))
    }
}

impl ConstantTimeEq for Pan {
    /// Compares all places, whatever the first difference.
    fn ct_eq(&self, other: &Self) -> Choice {
        self.digits.ct_eq(&other.digits)
    }
}

#[cfg(test)]
mod tests {
    use super::{Pan, PanError};
    use subtle::ConstantTimeEq;
    use zeroize::Zeroize;

    #[test]
    fn a_wrong_check_digit_is_refused() {
        assert!(matches!(Pan::parse("4242424242424241"), Err(PanError::CheckDigit)));
    }

    #[test]
    fn eleven_digits_are_too_few_and_twenty_too_many() {
        assert!(matches!(Pan::parse("42424242424"), Err(PanError::TooShort)));
        assert!(matches!(Pan::parse("42424242424242424242"), Err(PanError::TooLong)));
        assert!(matches!(Pan::from_ascii_digits(&[b'0'; 20]), Err(PanError::TooLong)));
        assert!(matches!(Pan::parse(""), Err(PanError::TooShort)));
    }

    #[test]
    fn letters_and_stray_separators_are_refused() {
        for text in [
            "4242x424242424242",
            "-4242424242424242",
            "4242424242424242-",
            "4242\n424242424242",
            "4242,4242,4242,4242",
            "+4242424242424242",
        ] {
            assert!(matches!(Pan::parse(text), Err(PanError::Character)), "{text}");
        }
        assert!(matches!(Pan::from_ascii_digits(b"4242 4242 4242 4242"), Err(PanError::Character)));
    }

    #[test]
    fn debug_shows_the_last_four_only() {
        let pan = Pan::parse("4111-1111-1111-1111").unwrap();
        assert_eq!(format!("{pan:?}"), "Pan(************1111)");
    }

    #[test]
    fn equality_is_by_value_and_in_constant_time() {
        let pan = Pan::parse("4242424242424242").unwrap();
        assert!(bool::from(pan.ct_eq(&pan.duplicate())));
        assert!(!bool::from(pan.ct_eq(&Pan::parse("4000056655665556").unwrap())));
    }

    #[test]
    fn the_buffer_is_all_the_type_holds_and_it_wipes() {
        let mut pan = Pan::parse("4242424242424242").unwrap();
        pan.digits.zeroize();
        assert_eq!(pan.digits, [0; 19]);
        assert!(std::mem::needs_drop::<Pan>());
    }
}
