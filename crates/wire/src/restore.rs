//! A backup that was put back and that nothing is served from until two custodians have accepted it.
//! Must never leave out what tells one restore from another. Tests: `tests/tests/acceptance.rs`.

use serde::{Deserialize, Serialize};

/// Body of `POST /v1/restore/accept`, and what custodians approve: exactly one restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptRestore {
    /// The backup's name.
    pub backup: String,
    /// The store's sequence as it was put back.
    pub sequence: u64,
    /// The keyring's epoch as it was put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Index of the audit line of the restore: a backup that is put back again needs new approvals.
    pub line: u64,
}

/// A restore that waits for acceptance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitingRestore {
    /// What is to be accepted.
    pub restore: AcceptRestore,
    /// The last commit that the audit log knows of; none if the log was lost. What came after `sequence` is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_sequence: Option<u64>,
    /// The newest epoch of the keyring that the audit log knows of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_epoch: Option<u64>,
}

/// Answer of `POST /v1/restore/accept`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreAccepted {
    /// What was accepted.
    pub restore: AcceptRestore,
    /// The custodians who approved it.
    pub approved_by: Vec<String>,
}
