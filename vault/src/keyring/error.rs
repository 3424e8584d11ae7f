//! Why a keyring cannot be opened or changed.
//!
//! Must never hold a byte of a key. Tests: `keyring/tests.rs`, which want each of these for its cause.

use cordon_card::Environment;
use thiserror::Error;

use super::{KeyState, Unfit};
use crate::keys::{KeyError, KeyId};

/// Why a keyring cannot be opened or changed. Names keys, never shows one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// Not a keyring document. Operator's fault: wrong or damaged store.
    #[error("the stored keyring is not well formed")]
    Malformed,
    /// The tag is wrong: another root key, or a changed document. Operator's fault, or an attack.
    #[error("the stored keyring is not authentic under this root key")]
    NotAuthentic,
    /// An authentic keyring contradicts itself. A bug.
    #[error("the keyring contradicts itself: {0}")]
    Corrupt(&'static str),
    /// A keyring of another environment. Operator's fault.
    #[error("the keyring belongs to environment {found:?}, this vault to {expected:?}")]
    WrongEnvironment {
        /// The environment in the document.
        found: Environment,
        /// The environment of this vault.
        expected: Environment,
    },
    /// An older keyring than one already seen. Operator's fault (a restored backup), or an attack.
    #[error("the keyring has epoch {found}, but epoch {at_least} was already in use")]
    RolledBack {
        /// The epoch in the document.
        found: u64,
        /// The highest epoch known.
        at_least: u64,
    },
    /// A wrapped key does not open in its place. An attack or a bug: the document itself was authentic.
    #[error("key {0} does not unwrap")]
    Unwrap(KeyId),
    /// A key opens but is not the one committed to. An attack by someone who holds the wrapping key.
    #[error("key {0} is not the key its commitment names")]
    Commitment(KeyId),
    /// The collection already has keys. Client's fault.
    #[error("collection {0} already has keys")]
    CollectionExists(u32),
    /// The collection has no keys. Client's fault.
    #[error("collection {0} has no keys")]
    UnknownCollection(u32),
    /// An index rotation is not finished. Client's fault: destroy the older version first.
    #[error("index key version {0} is still in use beside the active one")]
    WindowOpen(u32),
    /// An index key is suspended. Client's fault: a rotation would hide what is entered under it.
    #[error("index key version {0} is suspended")]
    Suspended(u32),
    /// The key-encryption key may wrap nothing more. Operator's fault: rotate it.
    #[error("the key-encryption key has to be rotated first: {0}")]
    Kek(Unfit),
    /// The state of the key does not allow this change. Client's fault.
    #[error("a key that is {from:?} can't become {to:?}")]
    NoSuchChange {
        /// Where it is.
        from: KeyState,
        /// Where it was to go.
        to: KeyState,
    },
    /// There is no such key version. Client's fault.
    #[error("there is no such key version")]
    NoSuchKey,
    /// The key version is active, destroyed, or wraps other keys. Client's fault.
    #[error("the key version is in use, or was destroyed before")]
    InUse,
    /// A key could not be made.
    #[error("a key could not be made")]
    Key(#[from] KeyError),
}
