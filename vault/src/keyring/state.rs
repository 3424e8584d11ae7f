//! The states of a key and what each allows (NIST SP 800-57 part 1, section 7).
//!
//! Must never let a key that is not active protect anything new (PCI DSS 3.7.5).
//! Tests: at the end of this file, the whole matrix.

use serde::{Deserialize, Serialize};

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// Made, not in use yet.
    PreActive,
    /// Protects new data and opens old data. One version of a key at a time.
    Active,
    /// Set aside while something is looked into: does nothing.
    Suspended,
    /// Retired: opens what it protected, protects nothing new.
    Deactivated,
    /// Known or feared to be in other hands: only moved away from.
    Compromised,
    /// The bytes are gone; the metadata is kept.
    Destroyed,
}

impl KeyState {
    /// Every state, in the order of a key's life.
    pub const ALL: [KeyState; 6] = [
        KeyState::PreActive,
        KeyState::Active,
        KeyState::Suspended,
        KeyState::Deactivated,
        KeyState::Compromised,
        KeyState::Destroyed,
    ];

    /// Whether a key in this state may encrypt or authenticate something new.
    #[must_use]
    pub fn may_protect(self) -> bool {
        matches!(self, KeyState::Active)
    }

    /// Whether a key in this state may open or look up in the ordinary course of requests.
    #[must_use]
    pub fn may_open(self) -> bool {
        matches!(self, KeyState::Active | KeyState::Deactivated)
    }

    /// Whether cards are looked up under an index key in this state. Also a compromised one: a card entered under it
    /// must be found until it is entered under a newer key, or it would get a second token.
    #[must_use]
    pub fn may_look_up(self) -> bool {
        matches!(self, KeyState::Active | KeyState::Deactivated | KeyState::Compromised)
    }

    /// Whether new cards are entered under an index key in this state beside the active one, while it is replaced.
    #[must_use]
    pub fn may_enter_beside(self) -> bool {
        matches!(self, KeyState::Active | KeyState::Deactivated)
    }

    /// Whether what a key in this state protects may be moved to a newer key.
    #[must_use]
    pub fn may_rewrap_from(self) -> bool {
        matches!(self, KeyState::Active | KeyState::Deactivated | KeyState::Compromised)
    }

    /// Whether `next` may follow this state.
    #[must_use]
    pub fn may_become(self, next: KeyState) -> bool {
        use KeyState::{Active, Compromised, Deactivated, Destroyed, PreActive, Suspended};
        match self {
            PreActive => matches!(next, Active | Destroyed),
            Active => matches!(next, Suspended | Deactivated | Compromised),
            Suspended => matches!(next, Active | Deactivated | Compromised),
            Deactivated => matches!(next, Compromised | Destroyed),
            Compromised => matches!(next, Destroyed),
            Destroyed => false,
        }
    }
}

/// The state of a key keeps what it protects from being used now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key is out of use")]
pub struct Withheld;

#[cfg(test)]
mod tests {
    use super::KeyState;

    /// One row per state: protect, open, rewrap from, look up, enter beside; then the states that may follow.
    const MATRIX: [(KeyState, [bool; 5], &[KeyState]); 6] = [
        (KeyState::PreActive, [false, false, false, false, false], &[KeyState::Active, KeyState::Destroyed]),
        (
            KeyState::Active,
            [true, true, true, true, true],
            &[KeyState::Suspended, KeyState::Deactivated, KeyState::Compromised],
        ),
        (
            KeyState::Suspended,
            [false, false, false, false, false],
            &[KeyState::Active, KeyState::Deactivated, KeyState::Compromised],
        ),
        (
            KeyState::Deactivated,
            [false, true, true, true, true],
            &[KeyState::Compromised, KeyState::Destroyed],
        ),
        (KeyState::Compromised, [false, false, true, true, false], &[KeyState::Destroyed]),
        (KeyState::Destroyed, [false, false, false, false, false], &[]),
    ];

    #[test]
    fn each_state_allows_what_the_matrix_says_and_no_more() {
        for (state, [protect, open, rewrap, look_up, enter], next) in MATRIX {
            assert_eq!(state.may_protect(), protect, "{state:?}");
            assert_eq!(state.may_open(), open, "{state:?}");
            assert_eq!(state.may_rewrap_from(), rewrap, "{state:?}");
            assert_eq!(state.may_look_up(), look_up, "{state:?}");
            assert_eq!(state.may_enter_beside(), enter, "{state:?}");
            for other in KeyState::ALL {
                assert_eq!(state.may_become(other), next.contains(&other), "{state:?} to {other:?}");
            }
        }
    }
}
