//! What can be asked for: one marker type per action, so that a permit for one cannot pass for another.
//!
//! Must never gain an action that the schema does not declare.
//! Tests: here and `crates/policy/tests/bundle/decisions.rs`.

use std::fmt;
use std::str::FromStr;

/// An action, as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActionKind {
    /// Vault: card in, token out.
    Tokenize,
    /// Vault: token in, card out.
    Detokenize,
    /// Vault: the destination answered, wipe what is held for the token.
    Settle,
    /// Vault: is this card known?
    Lookup,
    /// Vault: which of these numbers are cards that it has; no more of them than that.
    Recognize,
    /// Vault: masked view of a card.
    Inspect,
    /// Vault: erase a card.
    Delete,
    /// Vault: all cards of a collection, encrypted to somebody.
    Export,
    /// Vault: seal, keys, collections, audit, backup.
    Administer,
    /// Vault: agree, as a custodian, to an operation that takes two.
    Approve,
    /// Status and metrics.
    Observe,
    /// Gateway: pass a rewritten request on to a service.
    Forward,
    /// Gateway: let a service use a way out.
    Send,
}

impl ActionKind {
    /// Every action.
    pub const ALL: [Self; 13] = [
        Self::Tokenize,
        Self::Detokenize,
        Self::Settle,
        Self::Lookup,
        Self::Recognize,
        Self::Inspect,
        Self::Delete,
        Self::Export,
        Self::Administer,
        Self::Approve,
        Self::Observe,
        Self::Forward,
        Self::Send,
    ];

    /// Its name in the schema.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tokenize => "tokenize",
            Self::Detokenize => "detokenize",
            Self::Settle => "settle",
            Self::Lookup => "lookup",
            Self::Recognize => "recognize",
            Self::Inspect => "inspect",
            Self::Delete => "delete",
            Self::Export => "export",
            Self::Administer => "administer",
            Self::Approve => "approve",
            Self::Observe => "observe",
            Self::Forward => "forward",
            Self::Send => "send",
        }
    }
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ActionKind {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownAction)
    }
}

/// There is no such action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no such action")]
pub struct UnknownAction;

mod sealed {
    #[expect(unnameable_types, reason = "what cannot be named cannot be implemented elsewhere")]
    pub trait Sealed {}
}

/// An action, as a type. Sealed: the list is the schema's.
pub trait Action: sealed::Sealed + 'static {
    /// The same as a value.
    const KIND: ActionKind;
}

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident)*) => { $(
        $(#[$doc])* #[derive(Debug)] pub enum $name {}
        impl sealed::Sealed for $name {}
        impl Action for $name { const KIND: ActionKind = ActionKind::$name; }
    )* };
}

actions! {
    /// See [`ActionKind::Tokenize`].
    Tokenize
    /// See [`ActionKind::Detokenize`].
    Detokenize
    /// See [`ActionKind::Settle`].
    Settle
    /// See [`ActionKind::Lookup`].
    Lookup
    /// See [`ActionKind::Recognize`].
    Recognize
    /// See [`ActionKind::Inspect`].
    Inspect
    /// See [`ActionKind::Delete`].
    Delete
    /// See [`ActionKind::Export`].
    Export
    /// See [`ActionKind::Administer`].
    Administer
    /// See [`ActionKind::Approve`].
    Approve
    /// See [`ActionKind::Observe`].
    Observe
    /// See [`ActionKind::Forward`].
    Forward
    /// See [`ActionKind::Send`].
    Send
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_read_from_its_name_and_no_other() {
        for kind in ActionKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!("Tokenize".parse::<ActionKind>(), Err(UnknownAction));
        assert_eq!("".parse::<ActionKind>(), Err(UnknownAction));
    }
}
