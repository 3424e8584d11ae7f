//! Moving records to newer keys, and destroying the older ones.
//! Must never carry key bytes. Tests: `tests/tests/rewrap.rs`.

use crate::KeyPurpose;
use cordon_card::CollectionName;
use serde::{Deserialize, Serialize};

/// Body of `POST /v1/keys/rewrap`: starts a run, changes the rate of a running one, pauses or resumes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewrapRequest {
    /// Whose records.
    pub collection: CollectionName,
    /// Stop after the records at hand. Asking again without it resumes.
    #[serde(default)]
    pub pause: bool,
    /// Records moved in a second, at most.
    #[serde(default = "default_rate")]
    pub rate_per_s: u32,
}

/// Records moved in a second when nothing else is said.
pub const DEFAULT_REWRAP_RATE: u32 = 5_000;

const fn default_rate() -> u32 {
    DEFAULT_REWRAP_RATE
}

/// Where a run stands. Every run counts, moves, and counts again until there is nothing left to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RewrapState {
    /// Finding out how many records there are, and under which keys.
    Counting,
    /// Sealing records under the active key.
    Moving,
    /// Counting again, with no request left that could still write under an older key.
    Verifying,
    /// Waiting to be resumed.
    Paused,
    /// Nothing is left that could be moved.
    Finished,
}

/// Records that still need a key version that is no longer active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionNeed {
    /// Data or index key.
    pub purpose: KeyPurpose,
    /// Its version.
    pub version: u32,
    /// Records that need it, by the last count.
    pub records: u64,
    /// Whether a finished run proved that nothing needs it.
    pub safe_to_destroy: bool,
}

/// Progress of one collection's run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewrapStatus {
    /// The collection.
    pub collection: CollectionName,
    /// Where the run stands.
    pub state: RewrapState,
    /// Records moved in a second, at most.
    pub rate_per_s: u32,
    /// Records looked at in the present pass.
    pub seen: u64,
    /// Records the pass before found; 0 until one has ended.
    pub total: u64,
    /// Records moved since the run began.
    pub moved: u64,
    /// Records of the last moving pass that do not open. Each keeps its key from being destroyed.
    pub failed: u64,
    /// When the run began (RFC 3339, UTC).
    pub started_at: String,
    /// When it finished (RFC 3339, UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// Older key versions, and what still needs them.
    pub older: Vec<VersionNeed>,
}

/// Answer of `GET /v1/keys/rewrap`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RewrapList {
    /// By collection number.
    pub runs: Vec<RewrapStatus>,
}

/// Body of `POST /v1/keys/destroy`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DestroyRequest {
    /// What the key is for.
    pub purpose: KeyPurpose,
    /// Its collection; none for the key-encryption key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<CollectionName>,
    /// Its version.
    pub version: u32,
}

/// What is kept of a destroyed key (SP 800-57 part 2, key destruction record): line `audit_index` of the audit log says
/// the same, and `checkpoint` is the log's signature over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestructionRecord {
    /// Stable id of the key.
    pub id: String,
    /// What it was for.
    pub purpose: KeyPurpose,
    /// Its collection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<CollectionName>,
    /// Its version.
    pub version: u32,
    /// First 16 hex digits of the key's commitment.
    pub commitment: String,
    /// When it was made (RFC 3339, UTC).
    pub created_at: String,
    /// When its bytes were destroyed (RFC 3339, UTC).
    pub destroyed_at: String,
    /// Index of the audit line of the destruction.
    pub audit_index: u64,
    /// A signed checkpoint of the log that covers that line (C2SP tlog-checkpoint). Missing if none was signed within
    /// three seconds: `cordon audit verify` shows the line all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
}
