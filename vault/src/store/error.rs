//! What can go wrong in a store, and whose fault it is.
//!
//! Must never carry stored content: only what was being done, a count or the operating system's own error.
//! Tests: at the end of this file.

use std::io;
use std::sync::Arc;

/// Why a store refused. Cheap to clone, because one failed commit is told to everyone who waits for it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk or the file system failed. After a failed write the store takes no more writes until it is
    /// opened again.
    #[error("the store failed while {during}")]
    Io {
        /// What was being done.
        during: &'static str,
        /// The operating system's error.
        #[source]
        source: Arc<io::Error>,
    },
    /// No space or quota is left. Nothing of the refused call was acknowledged.
    #[error("the store's disk is full: free space, then restart the vault")]
    Full,
    /// Stored bytes are not what was written.
    #[error("the store is damaged ({0}): restore a backup")]
    Corrupt(&'static str),
    /// The document has another version than expected. Read it again.
    #[error("the document was changed by someone else")]
    Conflict,
    /// The store lost commits that the audit log has seen: it was truncated, restored, replaced or emptied.
    #[error(
        "the store ends at commit {store}, but the audit log has seen commit {audit}: acknowledged cards are \
         missing from this directory. Do not start with it; mount the right volume, or restore the newest \
         backup of the store together with its audit log"
    )]
    Behind {
        /// Last commit in the store.
        store: u64,
        /// Highest commit in the audit log.
        audit: u64,
    },
    /// Another process has the directory open.
    #[error("another process has the store open: one vault may run on one directory")]
    Locked,
    /// The store was closed, or closed itself after a failed write.
    #[error("the store takes no writes: an earlier write failed or it is shutting down; restart the vault")]
    Closed,
    /// The vault was sealed: a change of rows would not be counted in their tally.
    #[error("rows can't change while the vault is sealed")]
    Uncounted,
    /// The caller broke a bound of the store's interface.
    #[error("the store was asked for something out of its bounds: {0}")]
    Invalid(&'static str),
}

/// Who has to act on an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Whoever runs the machine: disk, mounts, backups, a second process.
    Operator,
    /// Whoever wrote the program.
    Bug,
}

impl StoreError {
    /// Who has to act. A [`StoreError::Conflict`] is for the caller to retry; one that escapes is a bug.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Io { .. }
            | Self::Full
            | Self::Corrupt(_)
            | Self::Behind { .. }
            | Self::Locked
            | Self::Uncounted
            | Self::Closed => Fault::Operator,
            Self::Conflict | Self::Invalid(_) => Fault::Bug,
        }
    }

    /// Sorts an operating-system error: a full disk has its own variant.
    pub(crate) fn from_io(during: &'static str, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full
            }
            _ => Self::Io { during, source: Arc::new(error) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_from_a_broken_one() {
        let full = StoreError::from_io("writing", io::Error::from(io::ErrorKind::StorageFull));
        let broken = StoreError::from_io("writing", io::Error::other("x"));
        assert!(matches!(full, StoreError::Full));
        assert!(matches!(broken, StoreError::Io { .. }));
    }

    #[test]
    fn a_store_behind_its_audit_log_says_what_to_do() {
        let text = StoreError::Behind { store: 7, audit: 9 }.to_string();
        for part in ["commit 7", "commit 9", "Do not start", "restore"] {
            assert!(text.contains(part), "{part} is missing from: {text}");
        }
    }

    #[test]
    fn a_broken_bound_is_a_bug_and_a_broken_disk_is_the_operators() {
        assert_eq!(StoreError::Invalid("x").fault(), Fault::Bug);
        assert_eq!(StoreError::Corrupt("x").fault(), Fault::Operator);
    }
}
