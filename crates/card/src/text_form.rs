//! Deserializing a type from its text without ever repeating the text.
//!
//! The default visitor of serde prints the value it did not want (a number, a character, an unknown variant), and
//! that value may be a card number in the wrong field: every such method is replaced here.
//! Must never put input into an error. Tests: at the end of this file.

use std::fmt::{self, Display, Formatter};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::Deserializer;
use serde::de::{Error, Visitor};

/// Reads a string and parses it with [`FromStr`]; anything else is refused without being quoted.
pub(crate) fn from_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    // Asked for a string, serde_json words the refusal of a number by itself, and quotes it. Binary formats do not
    // know what comes next, so they have to be asked for a string.
    if deserializer.is_human_readable() {
        deserializer.deserialize_any(TextVisitor(PhantomData))
    } else {
        deserializer.deserialize_str(TextVisitor(PhantomData))
    }
}

struct TextVisitor<T>(PhantomData<T>);

const WRONG_TYPE: &str = "a string is expected";

impl<T: FromStr<Err: Display>> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(WRONG_TYPE)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_char<E: Error>(self, _: char) -> Result<T, E> {
        Err(E::custom(WRONG_TYPE))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<T, E> {
        Err(E::custom(WRONG_TYPE))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<T, E> {
        Err(E::custom(WRONG_TYPE))
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<T, E> {
        Err(E::custom(WRONG_TYPE))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<T, E> {
        Err(E::custom(WRONG_TYPE))
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<T, E> {
        Err(E::custom(WRONG_TYPE))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<T, E> {
        Err(E::custom(WRONG_TYPE))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Brand, CardId, CollectionName, Environment, Expiry, Iin, LastFour, Token, Truncated};
    use serde::de::DeserializeOwned;

    fn error_of<T: DeserializeOwned>(json: &str) -> String {
        serde_json::from_str::<T>(json).err().map(|error| error.to_string()).unwrap_or_default()
    }

    fn assert_silent<T: DeserializeOwned>() {
        for json in [
            "4111111111111111",
            "\"4111111111111111\"",
            "4111111111111111.0",
            "-4111111111111111",
            "\"MARKED\"",
            "[4111111111111111]",
            "{\"4111111111111111\":1}",
        ] {
            let text = error_of::<T>(json);
            assert!(!text.is_empty(), "{json} was accepted");
            assert!(!text.contains("4111") && !text.contains("MARKED"), "{text}");
        }
    }

    #[test]
    fn no_error_repeats_the_input() {
        assert_silent::<Brand>();
        assert_silent::<CardId>();
        assert_silent::<CollectionName>();
        assert_silent::<Environment>();
        assert_silent::<Expiry>();
        assert_silent::<Iin>();
        assert_silent::<LastFour>();
        assert_silent::<Token>();
        assert_silent::<Truncated>();
    }
}
