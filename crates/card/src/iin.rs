//! The issuer's number: how a card number begins, and to whom it belongs.
//!
//! Must never hold more than eight digits: with the last four, more would show too much (PCI SSC FAQ 1091).
//! Tests: at the end of this file.

use std::fmt::{self, Debug, Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::text_form::from_text;

/// The issuer identification number (ISO/IEC 7812-1), or BIN: the first six or eight digits. No cardholder data by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Iin {
    // INVARIANT(iin): ASCII digits; of six, the last two are NUL.
    digits: [u8; LONG],
}

/// The text is not six or eight digits. At fault: whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an issuer's number is six or eight digits")]
pub struct IinError;

impl Iin {
    /// Reads six or eight ASCII digits.
    ///
    /// # Errors
    /// [`IinError`] for anything else.
    pub fn parse(text: &str) -> Result<Self, IinError> {
        let sound = matches!(text.len(), SHORT | LONG) && text.bytes().all(|byte| byte.is_ascii_digit());
        if !sound {
            return Err(IinError);
        }
        let mut digits = [0; LONG];
        for (place, digit) in digits.iter_mut().zip(text.bytes()) {
            *place = digit;
        }
        Ok(Self { digits })
    }

    /// Of a number that was checked before: eight digits where a truncated number may show as many, else six.
    pub(crate) fn of(number: &[u8], eight: bool) -> Self {
        let length = if eight { LONG } else { SHORT };
        let mut digits = [0; LONG];
        for (place, digit) in digits.iter_mut().zip(number.iter().take(length)) {
            *place = *digit;
        }
        Self { digits }
    }

    /// The digits, in ASCII.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits).unwrap_or_default().trim_end_matches('\0')
    }
}

impl Display for Iin {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Debug for Iin {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "Iin({self})")
    }
}

impl FromStr for Iin {
    type Err = IinError;

    fn from_str(text: &str) -> Result<Self, IinError> {
        Self::parse(text)
    }
}

impl Serialize for Iin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Iin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

const SHORT: usize = 6;
const LONG: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pan;

    #[test]
    fn a_number_begins_with_eight_digits_where_as_many_may_be_shown() {
        for (number, iin) in [
            ("4111111111111111", "41111111"),
            ("5555555555554444", "55555555"),
            ("378282246310005", "378282"),
            ("30569309025904", "305693"),
        ] {
            assert_eq!(Pan::parse(number).unwrap().iin().as_str(), iin);
        }
    }

    #[test]
    fn six_or_eight_digits_read_and_write_the_same_and_nothing_else_is_read() {
        for text in ["411111", "41111111"] {
            let iin = Iin::parse(text).unwrap();
            assert_eq!((iin.as_str(), iin.to_string()), (text, text.to_owned()));
            assert_eq!(serde_json::to_string(&iin).unwrap(), format!("\"{text}\""));
        }
        for text in ["", "41111", "4111111", "411111111", "4111111111111111", "41111a", "\u{661}11"] {
            assert_eq!(Iin::parse(text), Err(IinError), "{text}");
        }
    }
}
