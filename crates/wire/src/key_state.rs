//! Suspending and resuming key versions, and calling them compromised.
//! Must never carry key bytes. Tests: `tests/tests/key_states.rs`.

use crate::{KeyInfo, KeyPurpose};
use cordon_card::CollectionName;
use serde::{Deserialize, Serialize};

/// Body of `POST /v1/keys/state`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyStateRequest {
    /// What the key is for.
    pub purpose: KeyPurpose,
    /// Its collection; none for the key-encryption key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<CollectionName>,
    /// Its version.
    pub version: u32,
    /// What becomes of it.
    pub change: KeyChange,
}

/// What becomes of a key version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyChange {
    /// It does nothing until it is resumed.
    Suspend,
    /// A suspended key goes on: active if no newer version is, else it only opens.
    Resume,
    /// It is known or feared to be in other hands: it protects and reveals nothing, and its records move away.
    Compromise,
}

/// Answer to a change of state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeyStateResponse {
    /// The key as it is now.
    pub key: KeyInfo,
    /// Whether a run that moves its records was begun.
    pub moving: bool,
}
