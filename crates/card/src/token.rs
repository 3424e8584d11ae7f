//! Tokens as text: three shapes, one type.
//!
//! A token is drawn from entropy that the caller passes in, and takes nothing from a card number but, on request,
//! its last four digits. Must never produce or accept a text that a scanner would take for a card.
//! Tests: `token/tests.rs` and, against the scanner, `crates/scan/tests/lookalikes.rs`.

mod card;
mod opaque;
mod uuid;

use std::fmt::{self, Debug, Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::text_form::from_text;
use crate::{Environment, LastFour};

/// A stand-in for a card number. Worth nothing without the vault, so it may be cloned, shown and logged.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    // INVARIANT(token): parse accepts `text`, and `shape` is what it says about it.
    text: Box<str>,
    shape: TokenShape,
}

/// The shape of a token, chosen per collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenShape {
    /// `tok_`, environment, 130 random bits in base32, checksum: can be recognised without the vault.
    Opaque,
    /// Digits, the first one 0, never Luhn-valid: for columns that take digits only.
    Card,
    /// A version 4 UUID in lower case.
    Uuid,
}

/// Why there is no token. Says nothing about the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The text has none of the shapes. At fault: whoever sent it.
    #[error("not a token")]
    Form,
    /// The text looks like an opaque token, but a character was changed. At fault: whoever sent it.
    #[error("the checksum of the token is wrong")]
    Checksum,
    /// A token of card shape was asked for with a length other than 12 to 19. At fault: the caller.
    #[error("a token of card shape has 12 to 19 digits")]
    Length,
    /// Rejection sampling used up the entropy. Draw again; expected less than once in 10^10 draws.
    #[error("the entropy is used up, draw again")]
    EntropyExhausted,
}

impl Token {
    /// Reads a token of any shape. Each token has exactly one text form.
    ///
    /// # Errors
    /// [`TokenError::Form`] or [`TokenError::Checksum`].
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let shape = match text.as_bytes() {
            [b't', ..] => opaque::check(text).map(|_| TokenShape::Opaque)?,
            digits if card::is_card_shaped(digits) => TokenShape::Card,
            _ if uuid::is_token(text) => TokenShape::Uuid,
            _ => return Err(TokenError::Form),
        };
        Ok(Self { text: text.into(), shape })
    }

    /// The shape.
    #[must_use]
    pub fn shape(&self) -> TokenShape {
        self.shape
    }

    /// The environment, which only opaque tokens carry.
    #[must_use]
    pub fn environment(&self) -> Option<Environment> {
        match self.shape {
            TokenShape::Opaque => opaque::check(&self.text).ok(),
            TokenShape::Card | TokenShape::Uuid => None,
        }
    }

    /// The token as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Draws an opaque token. Uses the first 130 of the 136 bits.
    #[must_use]
    pub fn opaque(environment: Environment, entropy: &[u8; 17]) -> Self {
        Self { text: opaque::draw(environment, entropy).into(), shape: TokenShape::Opaque }
    }

    /// Draws a token of card shape, uniformly from all digit strings of this length that start with 0, end with the
    /// given last four, and fail the Luhn check.
    ///
    /// # Errors
    /// [`TokenError::Length`] for a length other than 12 to 19, [`TokenError::EntropyExhausted`] when the caller
    /// has to draw again.
    pub fn card(length: usize, last_four: Option<LastFour>, entropy: &[u8; 32]) -> Result<Self, TokenError> {
        Ok(Self { text: card::draw(length, last_four, entropy)?.into(), shape: TokenShape::Card })
    }

    /// Draws a UUID token (version 4, RFC 9562). Nothing when a scanner could take a part of it for a card; draw
    /// again then.
    #[must_use]
    pub fn uuid(entropy: &[u8; 16]) -> Option<Self> {
        uuid::draw(entropy).map(|text| Self { text: text.into(), shape: TokenShape::Uuid })
    }

    /// Says whether a text is an opaque token with a right checksum: no lookup needed.
    #[must_use]
    pub fn recognise(text: &str) -> bool {
        opaque::check(text).is_ok()
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        Self::parse(text)
    }
}

impl AsRef<str> for Token {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Display for Token {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Debug for Token {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "Token({self})")
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

#[cfg(test)]
mod tests;
