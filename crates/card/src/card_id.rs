//! The id of a card within a collection.
//!
//! Random, never derived from the number, so that it cannot be found by trying numbers. Tests: at the end of this
//! file.

use std::fmt::{self, Debug, Display, Formatter};
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::text_form::from_text;

/// Sixteen random bytes that stand for one card in one collection, whatever its tokens; written `card_` and 26
/// lower-case base32 characters (RFC 4648).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CardId([u8; 16]);

/// The text is no card id. At fault: whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a card id is card_ and 26 lower-case base32 characters")]
pub struct CardIdError;

const PREFIX: &str = "card_";

impl CardId {
    /// Makes an id from random bytes, which the caller draws.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes of the id.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads the text form; each id has exactly one.
    ///
    /// # Errors
    /// [`CardIdError`] for any other text.
    pub fn parse(text: &str) -> Result<Self, CardIdError> {
        let body = text.strip_prefix(PREFIX).ok_or(CardIdError)?;
        if body.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(CardIdError);
        }
        let bytes = BASE32_NOPAD.decode(body.to_ascii_uppercase().as_bytes()).or(Err(CardIdError))?;
        bytes.try_into().map(Self).or(Err(CardIdError))
    }
}

impl FromStr for CardId {
    type Err = CardIdError;

    fn from_str(text: &str) -> Result<Self, CardIdError> {
        Self::parse(text)
    }
}

impl Display for CardId {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(PREFIX)?;
        formatter.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl Debug for CardId {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "CardId({self})")
    }
}

impl Serialize for CardId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CardId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::CardId;
    use proptest::prelude::*;

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "card_",
            "card_aaaaaaaaaaaaaaaaaaaaaaaaa",
            "card_aaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "card_AAAAAAAAAAAAAAAAAAAAAAAAAA",
            "card_aaaaaaaaaaaaaaaaaaaaaaaaab",
            "card_aaaaaaaaaaaaaaaaaaaaaaaa1a",
            "tok_aaaaaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            assert!(CardId::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_text_form_is_fixed() {
        assert_eq!(CardId::from_bytes([0; 16]).to_string(), "card_aaaaaaaaaaaaaaaaaaaaaaaaaa");
        assert_eq!(CardId::from_bytes([0xff; 16]).to_string(), "card_77777777777777777777777774");
    }

    proptest! {
        #[test]
        fn ids_survive_a_round_trip(bytes: [u8; 16]) {
            let id = CardId::from_bytes(bytes);
            prop_assert_eq!(CardId::parse(&id.to_string()), Ok(id));
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(serde_json::from_str::<CardId>(&json).unwrap(), id);
        }
    }
}
