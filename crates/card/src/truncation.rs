//! Card numbers with digits hidden: what may be shown, logged and stored outside the vault.
//!
//! A [`Truncated`] can never hold a whole number, whatever text it is read from (PCI DSS 3.4.1 and 3.5.1, PCI SSC
//! FAQ 1091). Must never keep more digits than the brand and the length allow.
//! Tests: `truncation/tests.rs`.

use std::fmt::{self, Debug, Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::text_form::from_text;
use crate::{Brand, MAX_LENGTH, MIN_LENGTH};

/// Which digits of a number to keep. One collection uses one choice for ever: two choices side by side give away
/// more than either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Truncation {
    /// The last four only. The default.
    #[default]
    LastFour,
    /// The first six and the last four; from 14 digits on.
    SixAndFour,
    /// The first eight and the last four; 16 digits of Visa, Mastercard, Discover, JCB or UnionPay only.
    EightAndFour,
}

/// The last four digits of a number. No secret by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LastFour([u8; 4]);

/// A number with digits hidden: the kept digits and one `*` for each hidden one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Truncated(Box<str>);

/// The text is not four digits. At fault: whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the last four are four digits")]
pub struct LastFourError;

/// The text is no truncated number, or shows too much. At fault: whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "a truncated number shows the last four digits, with the first six or eight where allowed, and * between"
)]
pub struct TruncatedError;

const KEPT_AT_END: usize = 4;

impl LastFour {
    /// Reads four ASCII digits.
    ///
    /// # Errors
    /// [`LastFourError`] for anything else.
    pub fn parse(text: &str) -> Result<Self, LastFourError> {
        let digits: [u8; KEPT_AT_END] = text.as_bytes().try_into().or(Err(LastFourError))?;
        if digits.iter().all(u8::is_ascii_digit) { Ok(Self(digits)) } else { Err(LastFourError) }
    }

    /// The four digits, in ASCII.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The end of a number that was checked before. Fewer than four digits give zeros; no caller has them.
    pub(crate) fn of(digits: &[u8]) -> Self {
        Self(digits.last_chunk().copied().unwrap_or([b'0'; KEPT_AT_END]))
    }
}

impl Truncated {
    /// The number with only its last four digits shown, when no more than those are at hand. Nothing when the
    /// length is not 12 to 19.
    #[must_use]
    pub fn from_last_four(length: usize, last_four: LastFour) -> Option<Self> {
        if !(MIN_LENGTH..=MAX_LENGTH).contains(&length) {
            return None;
        }
        Some(Self(format!("{:*>length$}", last_four.as_str()).into()))
    }

    /// Reads a truncated number; what [`Truncated`] writes, and nothing that shows more.
    ///
    /// # Errors
    /// [`TruncatedError`] for any other text.
    pub fn parse(text: &str) -> Result<Self, TruncatedError> {
        let bytes = text.as_bytes();
        let shown = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let end_is_shown =
            bytes.last_chunk::<KEPT_AT_END>().is_some_and(|end| end.iter().all(u8::is_ascii_digit));
        let hidden = bytes.iter().filter(|byte| **byte == b'*').count();
        let length_fits = match shown {
            0 => (MIN_LENGTH..=MAX_LENGTH).contains(&bytes.len()),
            6 => (SHORTEST_WITH_SIX..=MAX_LENGTH).contains(&bytes.len()),
            8 => bytes.len() == LENGTH_WITH_EIGHT,
            _ => false,
        };
        if end_is_shown && length_fits && shown + hidden + KEPT_AT_END == bytes.len() {
            Ok(Self(text.into()))
        } else {
            Err(TruncatedError)
        }
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last four digits.
    #[must_use]
    pub fn last_four(&self) -> LastFour {
        LastFour::of(self.0.as_bytes())
    }

    pub(crate) fn of(digits: &[u8], brand: Brand, keep: Truncation) -> Self {
        let shown = shown_at_start(digits.len(), brand, keep);
        let hidden_end = digits.len().saturating_sub(KEPT_AT_END);
        let text = digits.iter().enumerate().map(|(place, digit)| {
            if place < shown || place >= hidden_end { char::from(*digit) } else { '*' }
        });
        Self(text.collect::<String>().into())
    }
}

/// Fewest digits with which six and four may be shown: of 13, three hidden digits would be left.
const SHORTEST_WITH_SIX: usize = 14;

/// The only length with which eight and four may be shown.
const LENGTH_WITH_EIGHT: usize = 16;

fn shown_at_start(length: usize, brand: Brand, keep: Truncation) -> usize {
    let eight_is_allowed = length == LENGTH_WITH_EIGHT
        && matches!(brand, Brand::Visa | Brand::Mastercard | Brand::Discover | Brand::Jcb | Brand::Unionpay);
    match keep {
        Truncation::EightAndFour if eight_is_allowed => 8,
        Truncation::EightAndFour | Truncation::SixAndFour if length >= SHORTEST_WITH_SIX => 6,
        Truncation::EightAndFour | Truncation::SixAndFour | Truncation::LastFour => 0,
    }
}

impl FromStr for LastFour {
    type Err = LastFourError;

    fn from_str(text: &str) -> Result<Self, LastFourError> {
        Self::parse(text)
    }
}

impl FromStr for Truncated {
    type Err = TruncatedError;

    fn from_str(text: &str) -> Result<Self, TruncatedError> {
        Self::parse(text)
    }
}

impl Display for LastFour {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Display for Truncated {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Debug for LastFour {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "LastFour({self})")
    }
}

impl Debug for Truncated {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "Truncated({self})")
    }
}

impl Serialize for LastFour {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Serialize for Truncated {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for LastFour {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

impl<'de> Deserialize<'de> for Truncated {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

#[cfg(test)]
mod tests;
