//! Names of collections.
//!
//! Must never hold a character that needs quoting in a path, a file name or a log. Tests: at the end of this file.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::text_form::from_text;

/// The name of a collection: a lower-case letter, then up to 62 lower-case letters, digits or hyphens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionName(Box<str>);

/// The text is no collection name. At fault: whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a collection name is a lower-case letter, then up to 62 lower-case letters, digits or hyphens")]
pub struct CollectionNameError;

impl CollectionName {
    /// Most characters of a name.
    pub const MAX_LENGTH: usize = 63;

    /// Reads a name.
    ///
    /// # Errors
    /// [`CollectionNameError`] when the text has another form.
    pub fn parse(text: &str) -> Result<Self, CollectionNameError> {
        let starts_well = text.starts_with(|first: char| first.is_ascii_lowercase());
        let goes_on_well =
            text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if starts_well && goes_on_well && text.len() <= Self::MAX_LENGTH {
            Ok(Self(text.into()))
        } else {
            Err(CollectionNameError)
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CollectionName {
    type Err = CollectionNameError;

    fn from_str(text: &str) -> Result<Self, CollectionNameError> {
        Self::parse(text)
    }
}

impl AsRef<str> for CollectionName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Display for CollectionName {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Serialize for CollectionName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for CollectionName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::CollectionName;

    #[test]
    fn other_texts_are_refused() {
        let long = "a".repeat(64);
        for text in ["", "1cards", "-cards", "Cards", "my_cards", "my cards", "caf\u{e9}", "a/b", "..", &long]
        {
            assert!(CollectionName::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_survive_a_round_trip() {
        let longest = "a".repeat(63);
        for text in ["a", "cards", "eu-cards-2", "a-", &longest] {
            let name = CollectionName::parse(text).unwrap();
            assert_eq!(name.as_str(), text);
            let json = serde_json::to_string(&name).unwrap();
            assert_eq!(serde_json::from_str::<CollectionName>(&json).unwrap(), name);
        }
    }
}
