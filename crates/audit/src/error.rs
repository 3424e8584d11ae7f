//! Why the log cannot be opened, or an event not be recorded.
//!
//! It must never repeat what an event holds. Tests: where each error is made.

use std::io;
use std::path::PathBuf;

use crate::name::NameError;
use crate::sink::SinkError;
use crate::verify::VerifyError;

/// Why the log cannot be opened, or an event not be recorded. None is the client's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// A file of the log cannot be used. Operator.
    #[error("audit log {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The name of the log is not one. Operator.
    #[error("the audit log's name is not valid")]
    Origin(#[source] NameError),
    /// Another process has the log open. Operator.
    #[error("another process has the audit log open")]
    InUse,
    /// Others than the owner may write to the directory, or read the signing key. Operator.
    #[error("{} must be accessible to its owner only", path.display())]
    OpenToOthers {
        /// The directory or key file.
        path: PathBuf,
    },
    /// The signing key is unusable, or missing although there are lines. Operator.
    #[error("the audit log's signing key is missing or unusable")]
    Key,
    /// The log is not what was signed: shorter, edited, reordered, or written anew. Operator; do not start.
    #[error("the audit log was tampered with or lost data")]
    Tampered(#[source] VerifyError),
    /// The writer thread could not be started. Operator.
    #[error("the audit writer cannot start")]
    Thread(#[source] io::Error),
    /// A write or sync failed; everything is refused until a restart. Operator (disk).
    #[error("the audit log cannot be written; refused until restart")]
    Poisoned,
    /// More events wait than the queue holds. Operator (disk too slow).
    #[error("the audit queue is full")]
    Full,
    /// Lines do not become durable in time. Operator (disk stuck).
    #[error("the audit log does not become durable in time")]
    Stalled,
    /// Less free space than is reserved for what must still be recorded. Operator.
    #[error("the audit log's reserved space is touched")]
    Space,
    /// A required sink is behind by more than its backlog. Operator.
    #[error("a required audit sink is behind")]
    SinkBehind,
    /// A sink cannot be used. Operator.
    #[error("audit sink: {0}")]
    Sink(#[from] SinkError),
    /// A witness's key cannot be used. Operator.
    #[error("{0}")]
    Witness(String),
    /// The log was closed.
    #[error("the audit log is closed")]
    Closed,
    /// More tokens or ids than one line holds. Bug.
    #[error("the event is longer than an audit line")]
    TooLong,
    /// The event could not be rendered. Bug.
    #[error("the event cannot be written as a line")]
    Render(#[source] serde_json::Error),
}
