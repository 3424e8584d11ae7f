//! A value as a caller submitted it: valid, or why not. It keeps one bad item from failing the whole batch.
//! Must never keep the text of an invalid value. Tests: `crates/wire/tests/golden.rs`.

use crate::ProblemCode;
use cordon_card::{Cvv, Expiry, Pan, Token};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;

/// A field that parsed into `T`, or the code of why it did not.
pub enum Submitted<T> {
    /// The value.
    Valid(T),
    /// Why there is none; the text itself was dropped.
    Invalid(ProblemCode),
}

impl<T> Submitted<T> {
    /// The value, or the problem to answer for this item.
    ///
    /// # Errors
    /// The code that parsing gave.
    pub fn into_result(self) -> Result<T, ProblemCode> {
        match self {
            Self::Valid(value) => Ok(value),
            Self::Invalid(code) => Err(code),
        }
    }
}

impl<T> From<T> for Submitted<T> {
    fn from(value: T) -> Self {
        Self::Valid(value)
    }
}

impl<T: fmt::Debug> fmt::Debug for Submitted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid(value) => f.debug_tuple("Valid").field(value).finish(),
            Self::Invalid(code) => f.debug_tuple("Invalid").field(code).finish(),
        }
    }
}

/// What a field can be parsed from and, for the sender, written as.
///
/// Sealed by construction: only the four card types implement it.
pub trait SubmittedSecret: Sized {
    /// Parses the text or says why not.
    ///
    /// # Errors
    /// The item's problem code.
    fn submitted(text: &str) -> Result<Self, ProblemCode>;

    /// The text to send. For a PAN or CVV this is the secret itself.
    fn text(&self) -> std::borrow::Cow<'_, str>;

    /// Code for a value of another JSON type (a PAN as a number loses digits: threat B24).
    const WRONG_TYPE: ProblemCode;
}

impl SubmittedSecret for Pan {
    fn submitted(text: &str) -> Result<Self, ProblemCode> {
        Self::parse(text).map_err(|_not_a_pan| ProblemCode::BadPan)
    }
    fn text(&self) -> std::borrow::Cow<'_, str> {
        self.expose().into()
    }
    const WRONG_TYPE: ProblemCode = ProblemCode::BadPan;
}

impl SubmittedSecret for Cvv {
    fn submitted(text: &str) -> Result<Self, ProblemCode> {
        Self::parse(text).map_err(|_not_a_cvv| ProblemCode::BadCvv)
    }
    fn text(&self) -> std::borrow::Cow<'_, str> {
        self.expose().into()
    }
    const WRONG_TYPE: ProblemCode = ProblemCode::BadCvv;
}

impl SubmittedSecret for Expiry {
    fn submitted(text: &str) -> Result<Self, ProblemCode> {
        Self::parse(text).map_err(|_not_a_month| ProblemCode::BadExpiry)
    }
    fn text(&self) -> std::borrow::Cow<'_, str> {
        format!("{:04}-{:02}", self.year(), self.month()).into()
    }
    const WRONG_TYPE: ProblemCode = ProblemCode::BadExpiry;
}

impl SubmittedSecret for Token {
    fn submitted(text: &str) -> Result<Self, ProblemCode> {
        Self::parse(text).map_err(|_not_a_token| ProblemCode::BadToken)
    }
    fn text(&self) -> std::borrow::Cow<'_, str> {
        self.as_str().into()
    }
    const WRONG_TYPE: ProblemCode = ProblemCode::BadToken;
}

impl<T: SubmittedSecret> Serialize for Submitted<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Valid(value) => serializer.serialize_str(&value.text()),
            Self::Invalid(_) => Err(serde::ser::Error::custom("an invalid value is never sent")),
        }
    }
}

impl<'de, T: SubmittedSecret> Deserialize<'de> for Submitted<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SubmittedVisitor(PhantomData))
    }
}

struct SubmittedVisitor<T>(PhantomData<T>);

impl<'de, T: SubmittedSecret> Visitor<'de> for SubmittedVisitor<T> {
    type Value = Submitted<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(T::submitted(text).map_or_else(Submitted::Invalid, Submitted::Valid))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Submitted::Invalid(T::WRONG_TYPE))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Submitted::Invalid(T::WRONG_TYPE))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Submitted::Invalid(T::WRONG_TYPE))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Submitted::Invalid(T::WRONG_TYPE))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Submitted::Invalid(T::WRONG_TYPE))
    }
}
