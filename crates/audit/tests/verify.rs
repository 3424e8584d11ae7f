//! Offline verification: every way to tamper with a log is found, and the first bad line is named.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use cordon_audit::{
        Action, Checkpoint, Event, Flaw, Log, NoteError, Outcome, VerifierKey, VerifyError, verify,
    };
    use tempfile::TempDir;

    const ORIGIN: &str = "cordon.test/vault";

    fn append(directory: &Path, lines: usize) {
        let (log, _) = Log::open(directory, ORIGIN).unwrap();
        for _ in 0..lines {
            log.append_blocking(Event::new(Action::Tokenize, Outcome::Allowed)).unwrap();
        }
        log.close().unwrap();
    }

    fn log_of(lines: usize) -> TempDir {
        let scratch = tempfile::tempdir().unwrap();
        append(scratch.path(), lines);
        scratch
    }

    fn segment(directory: &Path) -> PathBuf {
        directory.join("audit-00000000000000000000.jsonl")
    }

    fn key(directory: &Path) -> VerifierKey {
        VerifierKey::parse(&fs::read_to_string(directory.join("verifier.txt")).unwrap()).unwrap()
    }

    fn checkpoint(directory: &Path) -> Checkpoint {
        Checkpoint::open(&fs::read_to_string(directory.join("checkpoint")).unwrap(), &key(directory)).unwrap()
    }

    fn edit(directory: &Path, change: impl FnOnce(&mut Vec<String>)) {
        let text = fs::read_to_string(segment(directory)).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        change(&mut lines);
        fs::write(segment(directory), lines.iter().map(|line| format!("{line}\n")).collect::<String>())
            .unwrap();
    }

    fn flaw(directory: &Path) -> (u64, Flaw) {
        match verify(directory, &key(directory), None) {
            Err(VerifyError::Line { index, flaw, .. }) => (index, flaw),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_untouched_log_verifies() {
        let log = log_of(9);
        let verified = verify(log.path(), &key(log.path()), Some(&checkpoint(log.path()))).unwrap();
        assert_eq!((verified.lines, verified.signed.size(), verified.torn_bytes), (9, 9, 0));
        assert_eq!(verified.root, *checkpoint(log.path()).root());
        assert!(verified.first_at <= verified.last_at);
    }

    #[test]
    fn any_changed_line_is_named() {
        for place in 0..5 {
            let log = log_of(5);
            edit(log.path(), |lines| lines[place] = lines[place].replace("allowed", "denied"));
            assert_eq!(flaw(log.path()), (place as u64, Flaw::Edited));
        }
    }

    #[test]
    fn any_removed_line_is_named() {
        for place in 0..4 {
            let log = log_of(5);
            edit(log.path(), |lines| drop(lines.remove(place)));
            let place = place as u64;
            assert_eq!(flaw(log.path()), (place, Flaw::Missing { found: place + 1 }));
        }
    }

    #[test]
    fn the_first_of_two_exchanged_lines_is_named() {
        let log = log_of(5);
        edit(log.path(), |lines| lines.swap(1, 3));
        assert_eq!(flaw(log.path()), (1, Flaw::Missing { found: 3 }));
    }

    #[test]
    fn a_repeated_line_is_named() {
        let log = log_of(5);
        edit(log.path(), |lines| lines.insert(2, lines[1].clone()));
        assert_eq!(flaw(log.path()), (2, Flaw::Repeated { found: 1 }));
    }

    #[test]
    fn a_line_that_is_no_longer_one_is_named() {
        let log = log_of(5);
        edit(log.path(), |lines| lines[3] = "hello".to_owned());
        assert_eq!(flaw(log.path()), (3, Flaw::NotALine));
    }

    #[test]
    fn a_cut_end_is_found_by_the_checkpoint() {
        let log = log_of(5);
        edit(log.path(), |lines| lines.truncate(3));
        let error = verify(log.path(), &key(log.path()), None).unwrap_err();
        assert!(matches!(error, VerifyError::Truncated { have: 3, signed: 5 }), "{error:?}");
        assert_eq!(error.to_string(), "the log ends before line 3, but 5 lines were signed");
    }

    #[test]
    fn a_log_cut_and_written_on_is_found_by_the_checkpoint() {
        // The lines of another log of the same length fit each other, but not the signature.
        let (log, other) = (log_of(5), log_of(5));
        fs::copy(segment(other.path()), segment(log.path())).unwrap();
        let error = verify(log.path(), &key(log.path()), None).unwrap_err();
        assert!(matches!(error, VerifyError::Rewritten { from: 0, to: 5 }), "{error:?}");
    }

    #[test]
    fn a_log_signed_anew_with_another_key_is_found_by_the_key() {
        let (log, other) = (log_of(5), log_of(5));
        let expected = key(log.path());
        for file in ["checkpoint", "signer.pk8", "verifier.txt", "audit-00000000000000000000.jsonl"] {
            fs::copy(other.path().join(file), log.path().join(file)).unwrap();
        }
        let error = verify(log.path(), &expected, None).unwrap_err();
        assert!(matches!(error, VerifyError::Checkpoint(NoteError::Unsigned)), "{error:?}");
    }

    /// A log with the same key as `log`, which someone on the host could make.
    fn forged(log: &Path, lines: usize) -> TempDir {
        let scratch = tempfile::tempdir().unwrap();
        fs::copy(log.join("signer.pk8"), scratch.path().join("signer.pk8")).unwrap();
        append(scratch.path(), lines);
        scratch
    }

    #[test]
    fn a_log_restamped_with_the_stolen_key_is_found_by_a_kept_checkpoint() {
        let log = log_of(5);
        let kept = checkpoint(log.path());
        let forged = forged(log.path(), 8);
        assert!(verify(forged.path(), &key(log.path()), None).is_ok());
        let error = verify(forged.path(), &key(log.path()), Some(&kept)).unwrap_err();
        assert!(matches!(error, VerifyError::Rewritten { from: 0, to: 5 }), "{error:?}");
    }

    #[test]
    fn a_restamped_and_shortened_log_is_found_by_a_kept_checkpoint() {
        let log = log_of(5);
        let kept = checkpoint(log.path());
        let forged = forged(log.path(), 3);
        let error = verify(forged.path(), &key(log.path()), Some(&kept)).unwrap_err();
        assert!(matches!(error, VerifyError::Truncated { have: 3, signed: 5 }), "{error:?}");
    }

    #[test]
    fn a_log_that_grew_agrees_with_a_kept_checkpoint() {
        let log = log_of(5);
        let kept = checkpoint(log.path());
        append(log.path(), 7);
        let verified = verify(log.path(), &key(log.path()), Some(&kept)).unwrap();
        assert_eq!(verified.lines, 12);
    }

    #[test]
    fn lines_changed_after_a_kept_checkpoint_are_placed_after_it() {
        let log = log_of(5);
        let kept = checkpoint(log.path());
        let forged = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(log.path()).unwrap() {
            let path = entry.unwrap().path();
            // All but the tiles, which are made again.
            if path.is_file() {
                fs::copy(&path, forged.path().join(path.file_name().unwrap())).unwrap();
            }
        }
        append(log.path(), 4);
        append(forged.path(), 4);
        fs::copy(segment(forged.path()), segment(log.path())).unwrap();
        let error = verify(log.path(), &key(log.path()), Some(&kept)).unwrap_err();
        assert!(matches!(error, VerifyError::Rewritten { from: 5, to: 9 }), "{error:?}");
    }

    #[test]
    fn a_checkpoint_that_is_gone_edited_or_of_another_log_does_not_hold() {
        let log = log_of(5);
        let path = log.path().join("checkpoint");
        let note = fs::read_to_string(&path).unwrap();
        fs::write(&path, note.replacen("\n5\n", "\n3\n", 1)).unwrap();
        let expected = key(log.path());
        assert!(matches!(
            verify(log.path(), &expected, None),
            Err(VerifyError::Checkpoint(NoteError::Signature))
        ));
        fs::remove_file(&path).unwrap();
        assert!(matches!(verify(log.path(), &expected, None), Err(VerifyError::CheckpointMissing)));
        fs::write(&path, note).unwrap();
        let foreign = tempfile::tempdir().unwrap();
        Log::open(foreign.path(), "cordon.test/other").unwrap().0.close().unwrap();
        let kept = checkpoint(foreign.path());
        assert!(matches!(verify(log.path(), &expected, Some(&kept)), Err(VerifyError::OtherLog)));
    }

    #[test]
    fn a_torn_end_is_reported_and_is_no_tampering() {
        let log = log_of(2);
        let mut bytes = fs::read(segment(log.path())).unwrap();
        bytes.extend_from_slice(b"{\"n\":2");
        fs::write(segment(log.path()), bytes).unwrap();
        assert_eq!(verify(log.path(), &key(log.path()), None).unwrap().torn_bytes, 6);
    }
}
