//! How far the log says the store and the keyring came, across backups that were put back.
//!
//! It must never take a backup that waits for acceptance for an accepted one, nor forget that one waits. Tests: below.

use serde::Deserialize;

use crate::event::Code;
use crate::line::Outline;
use crate::name::Name;

/// A backup that was put back, by its line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoredBackup {
    /// Index of the line: one backup put back twice is two restores.
    pub line: u64,
    /// The backup's name.
    pub backup: Name,
    /// The store's sequence as it was put back.
    pub sequence: u64,
    /// The keyring's epoch as it was put back.
    pub epoch: Option<u64>,
}

/// A restore that custodians have to accept before anything is served from it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AwaitingRestore {
    /// What was put back.
    pub restored: RestoredBackup,
    /// The highest store sequence since: the store must not be behind it.
    pub store_sequence: u64,
    /// The highest keyring epoch since.
    pub keyring_epoch: Option<u64>,
}

/// What is known after some of the lines.
#[derive(Debug, Clone, Default)]
pub(crate) struct Anchors {
    /// The highest store sequence since the last restore that counts.
    pub(crate) commit: Option<u64>,
    /// The highest keyring epoch since then.
    pub(crate) epoch: Option<u64>,
    /// The restore that waits for acceptance. What it is measured by is kept apart: the two above stay what was lost.
    pub(crate) awaiting: Option<AwaitingRestore>,
    /// The last restore, until a line says that the vault ran with its store.
    pub(crate) unstarted: Option<RestoredBackup>,
}

/// What a line of a restore adds to an [`Outline`].
#[derive(Deserialize)]
struct Details {
    on: Option<Name>,
    reason: Option<Name>,
}

impl Anchors {
    /// Takes the next line; `None` if it is a restore that can't be read.
    pub(crate) fn take(&mut self, outline: &Outline<'_>, line: &[u8]) -> Option<()> {
        let Some(sequence) = outline.restored_commit() else {
            self.raise(outline);
            return Some(());
        };
        let Details { on, reason } = serde_json::from_slice(line).ok()?;
        let epoch = outline.epoch;
        let backup = on.unwrap_or_else(|| Name::parse_or_withhold(""));
        let restored = RestoredBackup { line: outline.index, backup, sequence, epoch };
        match reason.as_ref().map(Name::as_str) {
            // From here on the store is the one that was put back: what was known of the one before ends.
            None => {
                (self.commit, self.epoch, self.awaiting) = (Some(sequence), epoch, None);
                self.unstarted = Some(restored);
            }
            Some(reason) if reason == RESTORE_ACCEPTED.as_str() => {
                (self.commit, self.epoch, self.awaiting) = (Some(sequence), epoch, None);
                self.unstarted = None;
            }
            Some(reason) if AWAITING.iter().any(|code| code.as_str() == reason) => {
                self.unstarted = Some(restored.clone());
                self.awaiting =
                    Some(AwaitingRestore { restored, store_sequence: sequence, keyring_epoch: epoch });
            }
            Some(_) => self.raise(outline),
        }
        Some(())
    }

    fn raise(&mut self, outline: &Outline<'_>) {
        if let Some(awaiting) = &mut self.awaiting {
            awaiting.store_sequence = awaiting.store_sequence.max(outline.commit.unwrap_or(0));
            awaiting.keyring_epoch = awaiting.keyring_epoch.max(outline.epoch);
        } else {
            self.commit = self.commit.max(outline.commit);
            self.epoch = self.epoch.max(outline.epoch);
        }
        if outline.commit.is_some() {
            self.unstarted = None;
        }
    }
}

/// Reason of a restore that is behind the log.
pub const RESTORED_STALE: Code = Code::new("stale-awaiting-acceptance");
/// Reason of a restore whose log was lost: nobody can tell whether it is behind.
pub const RESTORED_WITHOUT_LOG: Code = Code::new("log-lost-awaiting-acceptance");
/// Reason of the line with which two custodians have accepted a restore.
pub const RESTORE_ACCEPTED: Code = Code::new("stale-accepted");
const AWAITING: [Code; 2] = [RESTORED_STALE, RESTORED_WITHOUT_LOG];

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lines: &[&str]) -> Anchors {
        let mut anchors = Anchors::default();
        for (index, fields) in lines.iter().enumerate() {
            let line = format!(r#"{{"n":{index},"outcome":"allowed",{fields}}}"#);
            anchors.take(&serde_json::from_str(&line).unwrap(), line.as_bytes()).unwrap();
        }
        anchors
    }

    const WHOLE: &str = r#""what":"restore","on":"backup-x","commit":30,"epoch":3"#;

    fn restore(reason: &str, commit: u64, epoch: u64) -> String {
        format!(r#""what":"restore","on":"backup-x","commit":{commit},"epoch":{epoch},"reason":"{reason}""#)
    }

    const BEFORE: &str = r#""what":"key-rotate","commit":50,"epoch":5"#;

    #[test]
    fn what_was_lost_stays_known_until_the_restore_is_accepted() {
        for reason in [RESTORED_STALE, RESTORED_WITHOUT_LOG] {
            let stale = restore(reason.as_str(), 30, 3);
            let anchors = after(&[BEFORE, &stale]);
            assert_eq!((anchors.commit, anchors.epoch), (Some(50), Some(5)));
            let awaiting = anchors.awaiting.unwrap();
            assert_eq!((awaiting.store_sequence, awaiting.keyring_epoch), (30, Some(3)));
            assert_eq!((awaiting.restored.line, awaiting.restored.backup.as_str()), (1, "backup-x"));
            let later = r#""what":"approval-grant","commit":31,"epoch":4"#;
            let anchors = after(&[BEFORE, &stale, later]);
            assert_eq!((anchors.commit, anchors.epoch), (Some(50), Some(5)));
            let awaiting = anchors.awaiting.unwrap();
            assert_eq!((awaiting.store_sequence, awaiting.keyring_epoch), (31, Some(4)));
            assert_eq!((awaiting.restored.sequence, awaiting.restored.epoch), (30, Some(3)));
            let accepted = restore(RESTORE_ACCEPTED.as_str(), 32, 4);
            let anchors = after(&[BEFORE, &stale, later, &accepted]);
            assert_eq!((anchors.commit, anchors.epoch, anchors.awaiting), (Some(32), Some(4), None));
        }
    }

    #[test]
    fn another_restore_takes_the_place_of_the_one_that_waits() {
        let stale = restore(RESTORED_STALE.as_str(), 30, 3);
        let again = after(&[BEFORE, &stale, &stale]);
        assert_eq!(again.awaiting.unwrap().restored.line, 2);
        let newer = after(&[BEFORE, &stale, r#""what":"restore","on":"backup-y","commit":50,"epoch":5"#]);
        assert_eq!((newer.commit, newer.epoch, newer.awaiting), (Some(50), Some(5), None));
    }

    #[test]
    fn a_refused_or_failed_acceptance_changes_nothing() {
        let stale = restore(RESTORED_STALE.as_str(), 30, 3);
        let mut anchors = after(&[BEFORE, &stale]);
        for outcome in ["denied", "failed"] {
            let line = format!(r#"{{"n":2,"outcome":"{outcome}",{}}}"#, restore("stale-accepted", 30, 3));
            anchors.take(&serde_json::from_str(&line).unwrap(), line.as_bytes()).unwrap();
            assert!(anchors.awaiting.is_some() && anchors.commit == Some(50), "{outcome}");
        }
    }

    #[test]
    fn a_restore_is_unstarted_until_a_line_carries_a_commit() {
        assert!(after(&[WHOLE]).unstarted.is_some());
        assert!(after(&[WHOLE, r#""what":"audit-open""#]).unstarted.is_some());
        assert!(after(&[WHOLE, r#""what":"start","commit":30"#]).unstarted.is_none());
    }

    #[test]
    fn a_restore_for_a_reason_of_no_meaning_here_is_a_line_like_any_other() {
        let anchors = after(&[BEFORE, &restore(RESTORED_STALE.as_str(), 30, 3), &restore("durable", 31, 3)]);
        assert_eq!((anchors.commit, anchors.awaiting.is_some()), (Some(50), true));
    }
}
