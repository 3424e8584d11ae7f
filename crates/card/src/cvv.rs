//! The card verification value.
//!
//! Sensitive authentication data: lives in memory only (PCI DSS 3.3.1), wiped on drop. The type must never
//! implement `Clone`, `Copy`, `Display`, `PartialEq`, `Hash` or `Serialize`, and has nothing that writes it.
//! Tests: at the end of this file.
//!
//! ```compile_fail
//! fn needs_serialize<T: serde::Serialize>() {}
//! needs_serialize::<cordon_card::Cvv>();
//! ```

use std::fmt::{self, Debug, Formatter};

use thiserror::Error;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::digits::{Mark, classify};

/// A card verification value: three or four digits.
#[derive(ZeroizeOnDrop)]
pub struct Cvv {
    // INVARIANT(cvv): the first `length` bytes are ASCII digits, three or four of them; the rest is zero.
    digits: [u8; 4],
    length: usize,
}

/// Why a text is no verification value. Says nothing about the text. At fault: whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CvvError {
    /// Not three or four digits.
    #[error("a card verification value has three or four digits")]
    Length,
    /// A character that is no digit.
    #[error("a card verification value has digits only")]
    Character,
}

impl Cvv {
    /// Reads three or four digits of any script; white space around them and invisible characters are skipped.
    ///
    /// # Errors
    /// [`CvvError`]; what was read by then is wiped.
    pub fn parse(text: &str) -> Result<Self, CvvError> {
        // Copied from and then wiped: a local Cvv would be moved into the result and leave its bytes behind.
        let mut digits = Zeroizing::new([0; 4]);
        let mut length = 0;
        for character in text.trim().chars() {
            match classify(character) {
                Mark::Digit(value) => {
                    let place = digits.get_mut(length).ok_or(CvvError::Length)?;
                    *place = b'0'.wrapping_add(value);
                    length += 1;
                }
                Mark::Ignorable => {}
                Mark::Separator(_) | Mark::Other => return Err(CvvError::Character),
            }
        }
        if length < 3 { Err(CvvError::Length) } else { Ok(Self { digits: *digits, length }) }
    }

    /// The digits, in ASCII. Each call is an exposure: search for the name.
    #[must_use]
    pub fn expose(&self) -> &str {
        std::str::from_utf8(self.digits.get(..self.length).unwrap_or_default()).unwrap_or_default()
    }
}

impl Debug for Cvv {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("Cvv(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::{Cvv, CvvError};

    #[test]
    fn wrong_lengths_and_characters_are_refused() {
        for (text, wanted) in [
            ("", CvvError::Length),
            ("12", CvvError::Length),
            ("12345", CvvError::Length),
            ("12a", CvvError::Character),
            ("1 23", CvvError::Character),
            ("-123", CvvError::Character),
        ] {
            assert_eq!(Cvv::parse(text).err(), Some(wanted), "{text}");
        }
    }

    #[test]
    fn three_and_four_digits_are_read_in_any_script() {
        assert_eq!(Cvv::parse("123").unwrap().expose(), "123");
        assert_eq!(Cvv::parse(" 1234\n").unwrap().expose(), "1234");
        assert_eq!(Cvv::parse("\u{ff11}\u{662}\u{969}").unwrap().expose(), "123");
    }

    #[test]
    fn debug_hides_value_and_length() {
        assert_eq!(format!("{:?}", Cvv::parse("123").unwrap()), "Cvv(***)");
        assert_eq!(format!("{:?}", Cvv::parse("1234").unwrap()), "Cvv(***)");
        assert!(std::mem::needs_drop::<Cvv>());
    }
}
