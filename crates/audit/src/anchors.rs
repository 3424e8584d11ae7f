//! How far the log says the store, the keyring and the tally of rows came, across backups that were put back.
//!
//! It must never take a backup that waits for acceptance for an accepted one, nor forget that one waits, nor let go of a
//! tally that a store had, but for a store that was put back. Tests: below.

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

/// How far a store came, by the lines since it was made or put back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Floor {
    /// The highest store sequence: a store behind it has lost data.
    pub store_sequence: Option<u64>,
    /// The highest keyring epoch: a keyring before it was put back.
    pub keyring_epoch: Option<u64>,
    /// The highest store sequence of a change of rows, once the store has a tally: one that ends before it was put back.
    pub tally_sequence: Option<u64>,
}

impl Floor {
    /// Takes a line that is not of a restore.
    fn raise(&mut self, outline: &Outline<'_>) {
        self.store_sequence = self.store_sequence.max(outline.commit);
        self.keyring_epoch = self.keyring_epoch.max(outline.epoch);
        if outline.begins_tally() || (self.tally_sequence.is_some() && outline.is_of_rows()) {
            self.tally_sequence = self.tally_sequence.max(outline.commit);
        }
    }
}

/// A restore that custodians have to accept before anything is served from it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AwaitingRestore {
    /// What was put back.
    pub restored: RestoredBackup,
    /// How far it came since.
    pub floor: Floor,
}

/// What is known after some of the lines.
#[derive(Debug, Clone, Default)]
pub(crate) struct Anchors {
    /// Since the last restore that counts.
    pub(crate) known: Floor,
    /// The restore that waits for acceptance. What it is measured by is kept apart: what is known stays what was lost.
    pub(crate) awaiting: Option<AwaitingRestore>,
    /// The last restore, until a line says that the vault ran with its store.
    pub(crate) unstarted: Option<RestoredBackup>,
    /// The lowest store sequence at which a tally was begun or taken up, of any store: none that came so far is without.
    pub(crate) tally_began: Option<u64>,
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
        let backup = on.unwrap_or_else(|| Name::parse_or_withhold(""));
        let restored = RestoredBackup { line: outline.index, backup, sequence, epoch: outline.epoch };
        // The store is the one that was put back. Its first unseal takes up its tally.
        let floor =
            Floor { store_sequence: Some(sequence), keyring_epoch: outline.epoch, tally_sequence: None };
        match reason.as_ref().map(Name::as_str) {
            // What was known of the store before ends.
            None => {
                (self.known, self.awaiting) = (floor, None);
                self.unstarted = Some(restored);
            }
            // The same, with the tally that was taken up while it waited: without it the next start would count whatever
            // rows there are.
            Some(reason) if reason == RESTORE_ACCEPTED.as_str() => {
                let tally_sequence = self.awaiting.take().and_then(|awaiting| awaiting.floor.tally_sequence);
                self.known = Floor { tally_sequence, ..floor };
                self.unstarted = None;
            }
            Some(reason) if AWAITING.iter().any(|code| code.as_str() == reason) => {
                self.unstarted = Some(restored.clone());
                self.awaiting = Some(AwaitingRestore { restored, floor });
            }
            Some(_) => self.raise(outline),
        }
        Some(())
    }

    /// What the store in place must have reached.
    pub(crate) fn floor(&self) -> Floor {
        self.awaiting.as_ref().map_or(self.known, |awaiting| awaiting.floor)
    }

    fn raise(&mut self, outline: &Outline<'_>) {
        if outline.begins_tally() {
            self.tally_began = self.tally_began.into_iter().chain(outline.commit).min();
        }
        self.awaiting.as_mut().map_or(&mut self.known, |awaiting| &mut awaiting.floor).raise(outline);
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

    fn known(anchors: &Anchors) -> (Option<u64>, Option<u64>) {
        (anchors.known.store_sequence, anchors.known.keyring_epoch)
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
            assert_eq!(known(&anchors), (Some(50), Some(5)));
            let awaiting = anchors.awaiting.unwrap();
            assert_eq!((awaiting.floor.store_sequence, awaiting.floor.keyring_epoch), (Some(30), Some(3)));
            assert_eq!((awaiting.restored.line, awaiting.restored.backup.as_str()), (1, "backup-x"));
            let later = r#""what":"approval-grant","commit":31,"epoch":4"#;
            let anchors = after(&[BEFORE, &stale, later]);
            assert_eq!(known(&anchors), (Some(50), Some(5)));
            let awaiting = anchors.awaiting.unwrap();
            assert_eq!((awaiting.floor.store_sequence, awaiting.floor.keyring_epoch), (Some(31), Some(4)));
            assert_eq!((awaiting.restored.sequence, awaiting.restored.epoch), (30, Some(3)));
            let accepted = restore(RESTORE_ACCEPTED.as_str(), 32, 4);
            let anchors = after(&[BEFORE, &stale, later, &accepted]);
            assert_eq!((known(&anchors), anchors.awaiting), ((Some(32), Some(4)), None));
        }
    }

    #[test]
    fn another_restore_takes_the_place_of_the_one_that_waits() {
        let stale = restore(RESTORED_STALE.as_str(), 30, 3);
        let again = after(&[BEFORE, &stale, &stale]);
        assert_eq!(again.awaiting.unwrap().restored.line, 2);
        let newer = after(&[BEFORE, &stale, r#""what":"restore","on":"backup-y","commit":50,"epoch":5"#]);
        assert_eq!((known(&newer), newer.awaiting), ((Some(50), Some(5)), None));
    }

    #[test]
    fn a_refused_or_failed_acceptance_changes_nothing() {
        let stale = restore(RESTORED_STALE.as_str(), 30, 3);
        let mut anchors = after(&[BEFORE, &stale]);
        for outcome in ["denied", "failed"] {
            let line = format!(r#"{{"n":2,"outcome":"{outcome}",{}}}"#, restore("stale-accepted", 30, 3));
            anchors.take(&serde_json::from_str(&line).unwrap(), line.as_bytes()).unwrap();
            assert!(anchors.awaiting.is_some() && known(&anchors).0 == Some(50), "{outcome}");
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
        assert_eq!((known(&anchors).0, anchors.awaiting.is_some()), (Some(50), true));
    }

    fn tallied(reason: &str, commit: u64) -> String {
        format!(r#""what":"store-verify","commit":{commit},"reason":"{reason}""#)
    }

    #[test]
    fn the_tally_of_before_stays_known_until_the_restore_is_accepted() {
        let (begun, deleted) = (tallied("tally-begun", 40), r#""what":"delete","commit":45"#);
        let stale = restore(RESTORED_STALE.as_str(), 30, 3);
        let waits = after(&[&begun, deleted, &stale]);
        assert_eq!((waits.known.tally_sequence, waits.floor().tally_sequence), (Some(45), None));
        // The first unseal takes up the tally of what was put back; that is no line about the store of before.
        let resumed = tallied("tally-resumed", 32);
        let unsealed = after(&[&begun, deleted, &stale, &resumed]);
        assert_eq!((unsealed.known.tally_sequence, unsealed.floor().tally_sequence), (Some(45), Some(32)));
        // A document is no change of rows.
        let approved = r#""what":"approval-grant","commit":33"#;
        let accepted = restore(RESTORE_ACCEPTED.as_str(), 34, 4);
        let accepted = after(&[&begun, deleted, &stale, &resumed, approved, &accepted]);
        assert_eq!(accepted.known.tally_sequence, Some(32), "as an accepted restore began it, not anew");
        assert_eq!(accepted.floor(), accepted.known);
    }

    #[test]
    fn each_restore_begins_without_a_tally_and_a_later_one_takes_nothing_from_one_that_waited() {
        let (begun, resumed) = (tallied("tally-begun", 40), tallied("tally-resumed", 32));
        let stale = restore(RESTORED_STALE.as_str(), 30, 3);
        assert_eq!(after(&[&begun, WHOLE]).floor().tally_sequence, None);
        assert_eq!(after(&[&begun, &stale, &resumed, WHOLE]).floor().tally_sequence, None);
        let again = after(&[&begun, &stale, &resumed, &stale]);
        assert_eq!((again.known.tally_sequence, again.floor().tally_sequence), (Some(40), None));
        // Accepted offline, as an older version did it: one line put back and accepted.
        let offline = restore(RESTORE_ACCEPTED.as_str(), 30, 3);
        assert_eq!(after(&[&begun, &offline]).floor().tally_sequence, None);
    }

    #[test]
    fn the_earliest_tally_stays_known_over_every_restore() {
        let (begun, resumed) = (tallied("tally-begun", 40), tallied("tally-resumed", 60));
        assert_eq!(after(&[BEFORE]).tally_began, None);
        assert_eq!(after(&[BEFORE, &begun, &resumed, WHOLE]).tally_began, Some(40));
        let stale = restore(RESTORED_STALE.as_str(), 30, 3);
        assert_eq!(after(&[&begun, &stale, &tallied("tally-begun", 31)]).tally_began, Some(31));
    }

    #[test]
    fn a_tally_that_was_refused_moves_nothing() {
        let stale = restore(RESTORED_STALE.as_str(), 30, 3);
        let mut anchors = after(&[&stale, &tallied("tally-resumed", 32)]);
        let line = format!(r#"{{"n":2,"outcome":"failed",{}}}"#, tallied("tally-gone", 36));
        anchors.take(&serde_json::from_str(&line).unwrap(), line.as_bytes()).unwrap();
        let line = format!(r#"{{"n":3,"outcome":"allowed",{}}}"#, restore("stale-accepted", 37, 3));
        anchors.take(&serde_json::from_str(&line).unwrap(), line.as_bytes()).unwrap();
        assert_eq!(anchors.floor().tally_sequence, Some(32), "it is still missed after the acceptance");
    }
}
