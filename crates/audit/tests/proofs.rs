//! Proofs, witnesses and tiles on real logs: what is proven holds, and what was tampered with is not proven or cosigned.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use cordon_audit::{
        Action, Against, AuditError, Checkpoint, CosignError, Event, InclusionProof, Log, Name, Outcome,
        ProofError, Submission, VerifierKey, VerifyError, Witness, WitnessError, WitnessKey, keep_cosigned,
        prove, submission, verify, verify_against,
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

    /// A log that somebody with the stolen key writes anew.
    fn restamped(log: &Path, lines: usize) -> TempDir {
        let scratch = tempfile::tempdir().unwrap();
        fs::copy(log.join("signer.pk8"), scratch.path().join("signer.pk8")).unwrap();
        append(scratch.path(), lines);
        scratch
    }

    fn key(directory: &Path) -> VerifierKey {
        VerifierKey::parse(&fs::read_to_string(directory.join("verifier.txt")).unwrap()).unwrap()
    }

    struct Other {
        directory: TempDir,
        key: WitnessKey,
    }

    fn witness(name: &str) -> Other {
        let directory = tempfile::tempdir().unwrap();
        let key = Witness::create(directory.path(), &Name::parse(name).unwrap()).unwrap();
        Other { directory, key }
    }

    impl Other {
        fn cosign(&self, log: &Path, old: u64) -> Result<String, WitnessError> {
            let submitted = submission(log, &key(log), old).unwrap();
            // As it travels between two machines.
            let submitted = Submission::parse(&submitted.to_string()).unwrap();
            let witness = Witness::open(self.directory.path())?;
            witness.add_checkpoint(&submitted, &key(log), jiff::Timestamp::now())
        }

        fn demanded(&self, log: &Path) -> Result<u64, VerifyError> {
            let witnesses = [self.key.clone()];
            let key = key(log);
            let against = Against { verifier: &key, kept: None, witnesses: &witnesses };
            verify_against(log, &against).map(|verified| verified.lines)
        }
    }

    #[test]
    fn any_line_is_proven_to_somebody_without_the_log() {
        let log = log_of(300);
        let (key, path) = (key(log.path()), log.path());
        for index in [0, 1, 255, 256, 299] {
            let text = prove(path, &key, index).unwrap().to_string();
            let proof = InclusionProof::parse(&text).unwrap();
            assert_eq!(proof.to_string(), text);
            let proven = proof.check(&key, &[]).unwrap();
            assert_eq!((proven.line.index, proven.checkpoint.size()), (index, 300));
        }
        assert!(matches!(prove(path, &key, 300), Err(ProofError::NotCovered { index: 300, size: 300 })));
    }

    #[test]
    fn a_proof_is_the_same_without_tiles_and_with_wrong_ones() {
        let log = log_of(600);
        let (key, path) = (key(log.path()), log.path());
        let with_tiles = prove(path, &key, 400).unwrap();
        fs::write(path.join("tile/0/000"), vec![7; 8192]).unwrap();
        assert_eq!(prove(path, &key, 400).unwrap(), with_tiles);
        match verify(path, &key, None) {
            Err(VerifyError::Tile { path: tile }) => assert_eq!(tile, path.join("tile/0/000")),
            other => panic!("{other:?}"),
        }
        // The next start makes it again.
        append(path, 0);
        verify(path, &key, None).unwrap();
        fs::remove_dir_all(path.join("tile")).unwrap();
        assert_eq!(prove(path, &key, 400).unwrap(), with_tiles);
    }

    #[test]
    fn a_proof_with_anything_changed_does_not_hold() {
        let log = log_of(20);
        let key = key(log.path());
        let text = prove(log.path(), &key, 7).unwrap().to_string();
        let other = prove(log.path(), &key, 8).unwrap().to_string();
        let extra = |text: &str| text.lines().nth(1).unwrap().to_owned();
        let hash = |text: &str| text.lines().nth(3).unwrap().to_owned();
        for changed in [
            text.replacen("index 7", "index 8", 1),
            text.replacen(&extra(&text), &extra(&other), 1),
            text.replacen(&hash(&text), &hash(&other), 1),
            text.replacen(&format!("{}\n", hash(&text)), "", 1),
            text.replacen("\n20\n", "\n21\n", 1),
        ] {
            assert_ne!(changed, text);
            assert!(InclusionProof::parse(&changed).unwrap().check(&key, &[]).is_err(), "{changed}");
        }
        let stranger = log_of(1);
        let proof = InclusionProof::parse(&text).unwrap();
        assert!(matches!(proof.check(&self::key(stranger.path()), &[]), Err(ProofError::Checkpoint(_))));
        for bad in [
            "",
            "c2sp.org/tlog-proof@v1\n\n",
            &text.replacen("@v1", "@v2", 1),
            &text.replacen("extra", "x", 1),
        ] {
            assert!(matches!(InclusionProof::parse(bad), Err(ProofError::Form)), "{bad}");
        }
    }

    #[test]
    fn lines_that_are_not_those_that_were_signed_are_not_proven() {
        let log = log_of(20);
        let key = key(log.path());
        let segment = log.path().join("audit-00000000000000000000.jsonl");
        let text = fs::read_to_string(&segment).unwrap();
        fs::write(&segment, text.replacen("allowed", "denied_", 1)).unwrap();
        fs::remove_dir_all(log.path().join("tile")).unwrap();
        assert!(matches!(prove(log.path(), &key, 0), Err(ProofError::Rewritten)));
        assert!(matches!(prove(log.path(), &key, 5), Err(ProofError::Rewritten)));
    }

    #[test]
    fn a_witness_follows_a_log_and_its_word_is_demanded() {
        let (log, witness) = (log_of(300), witness("witness.test/w1"));
        let (key, path) = (key(log.path()), log.path());
        assert!(matches!(witness.demanded(path), Err(VerifyError::NotCosigned(_))));
        let note = witness.cosign(path, 0).unwrap();
        keep_cosigned(path, &key, vec![witness.key.clone()], &note).unwrap();
        append(path, 50);
        assert_eq!(witness.demanded(path).unwrap(), 350);
        // Lines under it are proven with it, newer ones with the log's word alone.
        let proof = prove(path, &key, 299).unwrap();
        assert_eq!(proof.check(&key, std::slice::from_ref(&witness.key)).unwrap().cosigned.len(), 1);
        let newer = prove(path, &key, 300).unwrap();
        assert!(matches!(
            newer.check(&key, std::slice::from_ref(&witness.key)),
            Err(ProofError::NotCosigned(_))
        ));
        let note = witness.cosign(path, 300).unwrap();
        keep_cosigned(path, &key, vec![witness.key.clone()], &note).unwrap();
        assert_eq!(Checkpoint::open(&note, &key).unwrap().size(), 350);
    }

    #[test]
    fn a_log_restamped_with_the_stolen_key_is_found_by_the_witness_alone() {
        let (log, witness) = (log_of(40), witness("witness.test/w1"));
        let key = key(log.path());
        let note = witness.cosign(log.path(), 0).unwrap();
        keep_cosigned(log.path(), &key, vec![witness.key.clone()], &note).unwrap();
        for lines in [30, 40, 60] {
            let forged = restamped(log.path(), lines);
            // Everything verifies, the signature included.
            verify(forged.path(), &key, None).unwrap();
            // With the cosigned checkpoint gone, its word is missing; with the old one kept, the lines are not those.
            assert!(matches!(witness.demanded(forged.path()), Err(VerifyError::NotCosigned(_))));
            fs::copy(log.path().join("cosigned"), forged.path().join("cosigned")).unwrap();
            let found = witness.demanded(forged.path());
            assert!(
                matches!(found, Err(VerifyError::Truncated { .. } | VerifyError::Rewritten { .. })),
                "{found:?}"
            );
            let start = Log::open(forged.path(), ORIGIN);
            assert!(
                matches!(start, Err(AuditError::Tampered(_))),
                "a log that is not the cosigned one starts"
            );
        }
        // And the witness does not cosign it, from whatever size it is asked.
        let longer = restamped(log.path(), 60);
        assert!(matches!(
            witness.cosign(longer.path(), 40),
            Err(WitnessError::Inconsistent { old: 40, new: 60 })
        ));
        assert!(matches!(witness.cosign(longer.path(), 0), Err(WitnessError::Behind { have: 40, .. })));
        let as_long = restamped(log.path(), 40);
        assert!(matches!(witness.cosign(as_long.path(), 40), Err(WitnessError::Fork { size: 40 })));
        let shorter = submission(restamped(log.path(), 30).path(), &key, 40);
        assert!(matches!(shorter, Err(ProofError::Shorter { old: 40, size: 30 })));
    }

    #[test]
    fn only_cosignatures_of_known_witnesses_over_our_lines_are_kept() {
        let (log, first, second) = (log_of(20), witness("witness.test/w1"), witness("witness.test/w2"));
        let (key, path) = (key(log.path()), log.path());
        let both = vec![first.key.clone(), second.key.clone()];
        let keep = |note: &str| keep_cosigned(path, &key, both.clone(), note);
        let stranger = witness("witness.test/w1").cosign(path, 0).unwrap();
        assert!(matches!(keep(&stranger), Err(CosignError::Stranger)));
        let one = first.cosign(path, 0).unwrap();
        let mut edited: Vec<char> = one.chars().collect();
        let place = edited.len() - 10;
        edited[place] = if edited[place] == 'A' { 'B' } else { 'A' };
        let edited = keep(&edited.into_iter().collect::<String>());
        assert!(matches!(edited, Err(CosignError::Cosignature(_))), "{edited:?}");
        assert_eq!(keep(&one).unwrap().witnesses, 1);
        // The second witness's word on the same checkpoint is added to it.
        let two = second.cosign(path, 0).unwrap();
        let kept = keep(&two).unwrap();
        assert_eq!(kept.witnesses, 2);
        let against = Against { verifier: &key, kept: None, witnesses: &both };
        assert_eq!(verify_against(path, &against).unwrap().cosigned_at.len(), 2);
        append(path, 5);
        keep(&first.cosign(path, 20).unwrap()).unwrap();
        assert!(matches!(keep(&one), Err(CosignError::Older { have: 25 })));
        // Signed with our key and cosigned, but over other lines: the key was stolen and the witness was new.
        let forged = restamped(path, 22);
        let fresh = witness("witness.test/w3");
        let note = fresh.cosign(forged.path(), 0).unwrap();
        let kept = keep_cosigned(path, &key, vec![fresh.key.clone()], &note);
        assert!(matches!(kept, Err(CosignError::OtherLines)), "{kept:?}");
    }
}
