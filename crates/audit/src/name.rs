//! `Name`: the only text an audit line takes from outside.
//!
//! It must never hold something a card number could hide in: a small alphabet, a bounded length, and fewer than twelve
//! digits in a row even when separators are skipped. Tests: at the end of this file.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of a service, a route, a destination, a request or another thing the policy or the process names.
///
/// 1 to 200 characters of `A-Z a-z 0-9 . _ : / -`, with no run of 12 or more digits (separators do not end a run), so
/// that no primary account number of 12 to 19 digits fits. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`NameError`], which never repeats the text.
    pub fn parse(text: &str) -> Result<Name, NameError> {
        if text.is_empty() || text.len() > LONGEST {
            return Err(NameError::Length);
        }
        let mut run = 0_usize;
        for byte in text.bytes() {
            match byte {
                b'0'..=b'9' => run = run.saturating_add(1),
                b'A'..=b'Z' | b'a'..=b'z' => run = 0,
                b'.' | b'_' | b':' | b'/' | b'-' => {}
                _ => return Err(NameError::Character),
            }
            if run >= SHORTEST_PAN {
                return Err(NameError::Digits);
            }
        }
        Ok(Name(Arc::from(text)))
    }

    /// Takes a name that must not stop the request it belongs to: what [`Name::parse`] refuses becomes `withheld`.
    pub fn parse_or_withhold(text: &str) -> Name {
        Name::parse(text).unwrap_or_else(|_| Name(Arc::from(WITHHELD)))
    }

    /// A name for a digest or another random value: base32, in which digit runs are too rare to matter.
    ///
    /// At most 64 bytes are shown.
    pub fn of_bytes(bytes: &[u8]) -> Name {
        let shown = bytes.get(..bytes.len().min(64)).unwrap_or_default();
        Name::parse_or_withhold(&data_encoding::BASE32_NOPAD.encode(shown))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Name({})", self.0)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Name::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Empty, or longer than 200 characters.
    #[error("a name has 1 to 200 characters")]
    Length,
    /// A character outside the alphabet.
    #[error("a name is made of letters, digits and . _ : / -")]
    Character,
    /// Twelve digits or more, which could be a card number.
    #[error("a name has fewer than 12 digits in a row, separators not counted")]
    Digits,
}

const LONGEST: usize = 200;
/// The shortest account number of any brand.
const SHORTEST_PAN: usize = 12;
const WITHHELD: &str = "withheld";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_card_number_is_not_a_name() {
        for text in
            ["4111111111111111", "4111-1111-1111-1111", "a/4111.1111.1111.1111", "x:411111:1111111111"]
        {
            assert_eq!(Name::parse(text), Err(NameError::Digits), "{text}");
        }
    }

    #[test]
    fn text_outside_the_alphabet_is_not_a_name() {
        for text in ["a b", "a\"b", "a\nb", "a,b", "caf\u{e9}", "\u{ff14}111", "a{b}"] {
            assert_eq!(Name::parse(text), Err(NameError::Character), "{text}");
        }
        assert_eq!(Name::parse(""), Err(NameError::Length));
        assert_eq!(Name::parse(&"a".repeat(201)), Err(NameError::Length));
    }

    #[test]
    fn ordinary_names_are_names() {
        for text in ["signup", "spiffe://cordon.test/signup", "vault.data", "req_7KQ2", "12345678901"] {
            assert_eq!(Name::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_refused_text_is_withheld_and_not_repeated() {
        assert_eq!(Name::parse_or_withhold("5555555555554444").as_str(), "withheld");
        assert!(!format!("{:?}", Name::parse("5555555555554444")).contains("5555"));
    }

    #[test]
    fn a_refused_name_in_json_is_not_repeated_by_the_error() {
        let error = serde_json::from_str::<Name>("\"4111111111111111\"").unwrap_err().to_string();
        assert!(!error.contains("4111"), "{error}");
    }

    proptest! {
        #[test]
        fn no_name_holds_twelve_digits(text in "[0-9A-Za-z._:/-]{1,40}") {
            if let Ok(name) = Name::parse(&text) {
                let bare: String = name.as_str().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
                let longest = bare.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0);
                prop_assert!(longest < 12);
            }
        }

        #[test]
        fn a_digest_always_has_a_name(bytes in proptest::collection::vec(any::<u8>(), 1..80)) {
            prop_assert!(Name::parse(Name::of_bytes(&bytes).as_str()).is_ok());
        }
    }
}
