//! The environments a token belongs to.
//!
//! A token of one environment must never be taken in another. Tests: at the end of this file.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::text_form::from_text;

/// Where a vault and its tokens live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Environment {
    /// A developer's machine.
    Dev,
    /// Shared test systems, with published test numbers only (PCI DSS 6.5.5).
    Test,
    /// Real cards.
    Live,
}

/// The text names no environment. At fault: whoever wrote the configuration or sent the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an environment is dev, test or live")]
pub struct EnvironmentError;

impl Environment {
    /// All environments.
    pub const ALL: [Self; 3] = [Self::Dev, Self::Test, Self::Live];

    /// The name: `dev`, `test` or `live`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Test => "test",
            Self::Live => "live",
        }
    }
}

impl FromStr for Environment {
    type Err = EnvironmentError;

    fn from_str(text: &str) -> Result<Self, EnvironmentError> {
        Self::ALL.into_iter().find(|environment| environment.as_str() == text).ok_or(EnvironmentError)
    }
}

impl Display for Environment {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Serialize for Environment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Environment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::Environment;

    #[test]
    fn other_names_are_refused() {
        for text in ["", "Live", "prod", "dev ", "l"] {
            assert!(text.parse::<Environment>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_survive_a_round_trip() {
        for environment in Environment::ALL {
            assert_eq!(environment.to_string().parse(), Ok(environment));
            let json = serde_json::to_string(&environment).unwrap();
            assert_eq!(serde_json::from_str::<Environment>(&json).unwrap(), environment);
        }
    }
}
