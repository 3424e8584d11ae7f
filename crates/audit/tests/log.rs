//! The log on a real directory: modes, locks, recovery after a crash, refusal of a log that is not what was signed.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    use cordon_audit::{
        Action, AuditError, Event, Log, Name, Outcome, Recovered, VerifierKey, VerifyError, read, verify,
    };

    const ORIGIN: &str = "cordon.test/vault";

    fn event() -> Event {
        Event::new(Action::Tokenize, Outcome::Allowed)
            .who(&Name::parse("gateway-ingress").unwrap())
            .from("10.0.0.7".parse().unwrap())
    }

    /// A closed log of `lines` lines.
    fn written(directory: &Path, lines: u64) {
        let (log, _) = Log::open(directory, ORIGIN).unwrap();
        for sequence in 0..lines {
            log.append_blocking(event().store_sequence(sequence)).unwrap();
        }
        log.close().unwrap();
    }

    fn reopen(directory: &Path) -> Result<Recovered, AuditError> {
        let (log, recovered) = Log::open(directory, ORIGIN)?;
        log.close()?;
        Ok(recovered)
    }

    fn segment(directory: &Path) -> PathBuf {
        directory.join("audit-00000000000000000000.jsonl")
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn append_raw(directory: &Path, bytes: &[u8]) {
        fs::OpenOptions::new().append(true).open(segment(directory)).unwrap().write_all(bytes).unwrap();
    }

    #[test]
    fn a_new_log_is_private_and_recovers_empty() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("deep/audit");
        let (log, recovered) = Log::open(&directory, ORIGIN).unwrap();
        assert_eq!((recovered.size, recovered.torn_bytes, recovered.floor.store_sequence), (0, 0, None));
        assert!(recovered.created);
        assert_eq!(mode(&directory), 0o700);
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
        drop(log);
    }

    #[test]
    fn what_was_acknowledged_is_there_after_reopening() {
        let scratch = tempfile::tempdir().unwrap();
        written(scratch.path(), 10);
        let recovered = reopen(scratch.path()).unwrap();
        assert_eq!((recovered.size, recovered.floor.store_sequence, recovered.created), (10, Some(9), false));
        let lines: Vec<_> = read(scratch.path()).unwrap().map(Result::unwrap).collect();
        assert_eq!(lines.len(), 10);
        assert!(lines.iter().all(|line| line.who.as_str() == "gateway-ingress"));
    }

    #[test]
    fn an_accepted_restore_begins_the_anchors_anew_and_a_refused_one_does_not() {
        let scratch = tempfile::tempdir().unwrap();
        written(scratch.path(), 10);
        let restore = |outcome, sequence, epoch| {
            let (log, _) = Log::open(scratch.path(), ORIGIN).unwrap();
            let line = Event::new(Action::Restore, outcome).store_sequence(sequence).keyring_epoch(epoch);
            log.append_blocking(line).unwrap();
            log.close().unwrap();
            let recovered = reopen(scratch.path()).unwrap();
            (recovered.floor.store_sequence, recovered.floor.keyring_epoch)
        };
        assert_eq!(restore(Outcome::Denied, 4, 2), (Some(9), Some(2)));
        assert_eq!(restore(Outcome::Allowed, 4, 1), (Some(4), Some(1)));
        let (log, _) = Log::open(scratch.path(), ORIGIN).unwrap();
        log.append_blocking(event().store_sequence(5)).unwrap();
        log.close().unwrap();
        assert_eq!(reopen(scratch.path()).unwrap().floor.store_sequence, Some(5));
    }

    #[test]
    fn changes_of_rows_are_an_anchor_from_the_first_tally_to_the_next_restore() {
        let scratch = tempfile::tempdir().unwrap();
        let after = |action, outcome, sequence| {
            let (log, _) = Log::open(scratch.path(), ORIGIN).unwrap();
            log.append_blocking(Event::new(action, outcome).store_sequence(sequence)).unwrap();
            log.close().unwrap();
            reopen(scratch.path()).unwrap().floor.tally_sequence
        };
        use Action::{Delete, KeyReserve, Restore, StoreVerify, Tokenize};
        assert_eq!(after(Tokenize, Outcome::Allowed, 1), None, "there is no tally yet");
        assert_eq!(after(StoreVerify, Outcome::Failed, 2), None);
        assert_eq!(after(StoreVerify, Outcome::Allowed, 3), Some(3));
        assert_eq!(after(Delete, Outcome::Allowed, 5), Some(5));
        assert_eq!(after(KeyReserve, Outcome::Allowed, 7), Some(5), "a document is no row");
        assert_eq!(after(Restore, Outcome::Allowed, 4), None);
        assert_eq!(after(Tokenize, Outcome::Allowed, 6), None, "not until the tally is taken up again");
    }

    #[test]
    fn appends_of_many_tasks_share_syncs_on_a_real_disk() {
        let scratch = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(scratch.path(), ORIGIN).unwrap();
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..64 {
                let log = log.clone();
                tasks.spawn(async move {
                    for _ in 0..50 {
                        log.append(event()).await.unwrap();
                    }
                });
            }
            tasks.join_all().await;
        });
        let statistics = log.statistics();
        assert_eq!(statistics.size, 3200);
        assert!(statistics.syncs < 800, "{statistics:?}");
        let verifier = log.verifier().clone();
        log.close().unwrap();
        assert_eq!(verify(scratch.path(), &verifier, None).unwrap().signed.size(), 3200);
    }

    #[test]
    fn a_log_that_is_open_cannot_be_opened_again() {
        let scratch = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(scratch.path(), ORIGIN).unwrap();
        assert!(matches!(Log::open(scratch.path(), ORIGIN), Err(AuditError::InUse)));
        log.close().unwrap();
        reopen(scratch.path()).unwrap();
    }

    #[test]
    fn a_torn_last_line_is_cut_and_reported() {
        let scratch = tempfile::tempdir().unwrap();
        written(scratch.path(), 3);
        append_raw(scratch.path(), b"{\"n\":3,\"at\":\"2026");
        let recovered = reopen(scratch.path()).unwrap();
        assert_eq!((recovered.size, recovered.torn_bytes), (3, 17));
        assert_eq!(reopen(scratch.path()).unwrap().torn_bytes, 0);
    }

    #[test]
    fn pages_that_never_reached_the_disk_are_cut_and_reported() {
        let scratch = tempfile::tempdir().unwrap();
        written(scratch.path(), 3);
        append_raw(scratch.path(), &[b"{\"n\":3,".as_slice(), &[0; 500], b"\"}\n{\"n\":4}\n"].concat());
        let recovered = reopen(scratch.path()).unwrap();
        assert_eq!((recovered.size, recovered.torn_bytes), (3, 518));
        let (log, _) = Log::open(scratch.path(), ORIGIN).unwrap();
        assert_eq!(log.append_blocking(event()).unwrap().index(), 3);
    }

    #[test]
    fn a_signed_line_that_is_torn_is_tampering() {
        let scratch = tempfile::tempdir().unwrap();
        written(scratch.path(), 3);
        let length = fs::metadata(segment(scratch.path())).unwrap().len();
        fs::OpenOptions::new()
            .write(true)
            .open(segment(scratch.path()))
            .unwrap()
            .set_len(length - 1)
            .unwrap();
        let error = reopen(scratch.path()).unwrap_err();
        assert!(
            matches!(error, AuditError::Tampered(VerifyError::Truncated { have: 2, signed: 3 })),
            "{error:?}"
        );
    }

    #[test]
    fn an_edited_line_is_refused_at_opening_and_left_as_it_is() {
        let scratch = tempfile::tempdir().unwrap();
        written(scratch.path(), 3);
        let edited = fs::read_to_string(segment(scratch.path())).unwrap().replacen("allowed", "denied", 1);
        fs::write(segment(scratch.path()), &edited).unwrap();
        let error = reopen(scratch.path()).unwrap_err();
        assert!(matches!(error, AuditError::Tampered(VerifyError::Line { index: 0, .. })), "{error:?}");
        assert_eq!(fs::read_to_string(segment(scratch.path())).unwrap(), edited);
    }

    #[test]
    fn a_complete_but_foreign_line_after_the_checkpoint_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        written(scratch.path(), 3);
        append_raw(scratch.path(), b"{\"n\":3,\"what\":\"stop\",\"sum\":\"AAAAAAAAAAAAAAAAAAAAAAAAAA\"}\n");
        assert!(matches!(
            reopen(scratch.path()),
            Err(AuditError::Tampered(VerifyError::Line { index: 3, .. }))
        ));
    }

    #[test]
    fn lines_without_checkpoint_or_key_are_refused() {
        let scratch = tempfile::tempdir().unwrap();
        written(scratch.path(), 3);
        fs::rename(scratch.path().join("signer.pk8"), scratch.path().join("away")).unwrap();
        assert!(matches!(reopen(scratch.path()), Err(AuditError::Key)));
        fs::rename(scratch.path().join("away"), scratch.path().join("signer.pk8")).unwrap();
        fs::remove_file(scratch.path().join("checkpoint")).unwrap();
        assert!(matches!(reopen(scratch.path()), Err(AuditError::Tampered(VerifyError::CheckpointMissing))));
    }

    #[test]
    fn a_log_that_lost_all_its_lines_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        written(scratch.path(), 3);
        fs::remove_file(segment(scratch.path())).unwrap();
        assert!(matches!(
            reopen(scratch.path()),
            Err(AuditError::Tampered(VerifyError::Truncated { have: 0, signed: 3 }))
        ));
    }

    #[test]
    fn a_log_opened_under_another_name_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        written(scratch.path(), 3);
        assert!(matches!(
            Log::open(scratch.path(), "cordon.test/other"),
            Err(AuditError::Tampered(VerifyError::Checkpoint(_)))
        ));
        let key = fs::read_to_string(scratch.path().join("verifier.txt")).unwrap();
        assert_eq!(VerifierKey::parse(&key).unwrap().name().as_str(), ORIGIN);
        assert!(matches!(Log::open(scratch.path(), "a b"), Err(AuditError::Origin(_))));
    }

    #[test]
    fn a_directory_or_key_open_to_others_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        written(scratch.path(), 1);
        let key = scratch.path().join("signer.pk8");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(reopen(scratch.path()), Err(AuditError::OpenToOthers { path }) if path == key));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(reopen(scratch.path()), Err(AuditError::OpenToOthers { .. })));
    }

    #[test]
    fn a_creation_that_was_interrupted_after_the_key_goes_on() {
        let scratch = tempfile::tempdir().unwrap();
        written(scratch.path(), 0);
        let key = fs::read(scratch.path().join("signer.pk8")).unwrap();
        fs::remove_file(scratch.path().join("checkpoint")).unwrap();
        fs::remove_file(segment(scratch.path())).unwrap();
        assert!(reopen(scratch.path()).unwrap().created);
        assert_eq!(fs::read(scratch.path().join("signer.pk8")).unwrap(), key);
    }
}
