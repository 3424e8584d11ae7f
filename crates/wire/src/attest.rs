//! The audit log as others see it: what a witness gets and gives, and how the log stands.
//! Must never carry anything but signed heads and hashes. Tests: `tests/tests/witness.rs`.

use serde::{Deserialize, Serialize};

/// Answer of `GET /v1/audit/submission?from=N`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditSubmission {
    /// Body of `add-checkpoint` of C2SP tlog-witness: the newest checkpoint, and that it continues the one of N lines.
    pub submission: String,
}

/// Body of `POST /v1/audit/cosigned`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditCosigned {
    /// The checkpoint with the cosignatures of witnesses, as a signed note.
    pub note: String,
}

/// How the audit log stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditStatus {
    /// Lines of the newest checkpoint.
    pub signed: u64,
    /// The newest cosigned checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cosigned: Option<CosignedStatus>,
    /// Where lines are also sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<AuditSink>,
}

/// A checkpoint that witnesses cosigned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CosignedStatus {
    /// Lines it covers.
    pub lines: u64,
    /// Witnesses that did.
    pub witnesses: u64,
    /// When the last of them did (RFC 3339, UTC).
    pub at: String,
}

/// A sink of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditSink {
    /// `file`, `syslog` or `stdout`; of events `events-file`, `events-stdout` or `events-nats`.
    pub kind: String,
    /// Lines it has not taken yet.
    pub behind: u64,
    /// Whether that is more than it may be.
    pub late: bool,
    /// Whether calls are refused while it is late.
    pub required: bool,
}
