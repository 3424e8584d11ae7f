//! Tests of cosignatures and of the witness's rules.

use std::fs;

use super::*;
use crate::merkle::Frontier;
use crate::note::Signer;
use crate::path::tests::{leaf, root};

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn signer(origin: &str) -> Signer {
    Signer::from_pkcs8(name(origin), &Signer::generate().unwrap()).unwrap()
}

/// A checkpoint over the first leaves of the test tree.
fn checkpoint(signer: &Signer, size: u64) -> String {
    let mut tree = Frontier::default();
    for number in 0..size {
        tree.push(leaf(number));
    }
    Checkpoint::sign(signer, &tree).note().to_owned()
}

fn submission(signer: &Signer, old: u64, new: u64) -> Submission {
    let proof = path::consistency(old, new).into_iter().map(root).collect();
    Submission { old, proof, note: checkpoint(signer, new) }
}

fn witness(directory: &Path) -> Witness {
    Witness::create(directory, &name("witness.test/w1")).unwrap();
    Witness::open(directory).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn a_cosignature_is_the_one_of_the_format() {
    let scratch = tempfile::tempdir().unwrap();
    let (log, witness) = (signer("cordon.test/vault"), witness(scratch.path()));
    let note = witness.add_checkpoint(&submission(&log, 0, 3), log.verifier(), at(1_679_315_147)).unwrap();
    let line = note.lines().last().unwrap();
    let encoded = line.strip_prefix("\u{2014} witness.test/w1 ").unwrap();
    let bytes = data_encoding::BASE64.decode(encoded.as_bytes()).unwrap();
    // Key id: SHA-256(name, newline, 0x04, key), four bytes; then the time; then the signature.
    let text = witness.key().to_string();
    let typed = data_encoding::BASE64.decode(text.splitn(3, '+').nth(2).unwrap().as_bytes()).unwrap();
    let id = digest(&SHA256, &[b"witness.test/w1\n", typed.as_slice()].concat());
    assert_eq!((typed[0], typed.len()), (0x04, 33));
    assert_eq!(bytes[..4], id.as_ref()[..4]);
    assert_eq!(bytes[4..12], 1_679_315_147_u64.to_be_bytes());
    let body = note.split_once("\n\n").unwrap().0;
    let message = format!("cosignature/v1\ntime 1679315147\n{body}\n");
    UnparsedPublicKey::new(&ED25519, &typed[1..]).verify(message.as_bytes(), &bytes[12..]).unwrap();
    // The log's own signature still stands in it.
    assert_eq!(Checkpoint::open(&note, log.verifier()).unwrap().size(), 3);
}

#[test]
fn a_witness_follows_a_log_that_grows() {
    let scratch = tempfile::tempdir().unwrap();
    let (log, first) = (signer("cordon.test/vault"), witness(scratch.path()));
    for (old, new) in [(0, 3), (3, 3), (3, 8), (8, 200)] {
        let note = first.add_checkpoint(&submission(&log, old, new), log.verifier(), at(1)).unwrap();
        let cosigned = first.key().cosigned(&Note::parse(&note).unwrap()).unwrap();
        assert_eq!(cosigned.map(|(_, time)| time), Some(1));
    }
    // It remembers over a restart, and each log apart.
    drop(first);
    let again = Witness::open(scratch.path()).unwrap();
    assert_eq!(again.last(log.verifier()).unwrap().unwrap().size(), 200);
    let other = signer("cordon.test/gateway");
    assert!(again.last(other.verifier()).unwrap().is_none());
    again.add_checkpoint(&submission(&other, 0, 5), other.verifier(), at(2)).unwrap();
    assert_eq!(again.last(log.verifier()).unwrap().unwrap().size(), 200);
}

#[test]
fn a_log_that_goes_back_or_forks_is_not_cosigned() {
    let scratch = tempfile::tempdir().unwrap();
    let (log, witness) = (signer("cordon.test/vault"), witness(scratch.path()));
    witness.add_checkpoint(&submission(&log, 0, 8), log.verifier(), at(1)).unwrap();
    let add = |submission: &Submission| witness.add_checkpoint(submission, log.verifier(), at(2));
    // Shorter than before, from whatever size it claims.
    assert!(matches!(add(&submission(&log, 0, 5)), Err(WitnessError::Behind { have: 8, claimed: 0 })));
    assert!(matches!(add(&submission(&log, 8, 5)), Err(WitnessError::Request)));
    // Other leaves under the same key: as long, longer, with any proof.
    let mut tree = Frontier::default();
    for number in 100..120 {
        tree.push(leaf(number));
        if tree.size() == 8 {
            let note = Checkpoint::sign(&log, &tree).note().to_owned();
            let fork = Submission { old: 8, proof: Vec::new(), note };
            assert!(matches!(add(&fork), Err(WitnessError::Fork { size: 8 })));
        }
    }
    let note = Checkpoint::sign(&log, &tree).note().to_owned();
    let restamped = Submission { note, ..submission(&log, 8, 20) };
    assert!(matches!(add(&restamped), Err(WitnessError::Inconsistent { old: 8, new: 20 })));
    let mut wrong = submission(&log, 8, 20);
    wrong.proof.pop();
    assert!(matches!(add(&wrong), Err(WitnessError::Inconsistent { .. })));
    // Nothing of it was remembered.
    assert_eq!(witness.last(log.verifier()).unwrap().unwrap().size(), 8);
    add(&submission(&log, 8, 20)).unwrap();
}

#[test]
fn a_checkpoint_of_another_key_or_log_is_not_cosigned() {
    let scratch = tempfile::tempdir().unwrap();
    let (log, witness) = (signer("cordon.test/vault"), witness(scratch.path()));
    for stranger in [signer("cordon.test/vault"), signer("cordon.test/gateway")] {
        let refused = witness.add_checkpoint(&submission(&stranger, 0, 3), log.verifier(), at(1));
        assert!(matches!(refused, Err(WitnessError::Checkpoint(NoteError::Unsigned))));
    }
    assert!(witness.last(log.verifier()).unwrap().is_none());
}

#[test]
fn a_memory_that_was_edited_or_put_in_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let (log, witness) = (signer("cordon.test/vault"), witness(scratch.path()));
    witness.add_checkpoint(&submission(&log, 0, 8), log.verifier(), at(1)).unwrap();
    let file = scratch.path().join(state_file(log.verifier().name()));
    // A checkpoint that the log signed, but this witness never did.
    fs::write(&file, checkpoint(&log, 3)).unwrap();
    assert!(matches!(witness.last(log.verifier()), Err(WitnessError::State(NoteError::Unsigned))));
    let refused = witness.add_checkpoint(&submission(&log, 3, 8), log.verifier(), at(2));
    assert!(matches!(refused, Err(WitnessError::State(_))));
}

#[test]
fn a_witness_has_one_user_and_a_private_key() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = tempfile::tempdir().unwrap();
    let first = witness(scratch.path());
    assert!(matches!(Witness::open(scratch.path()), Err(WitnessError::Io(_))));
    drop(first);
    let key = scratch.path().join(SIGNER);
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(Witness::open(scratch.path()).is_err());
    assert!(
        Witness::create(scratch.path(), &name("witness.test/w2")).is_err(),
        "a witness is never replaced"
    );
}

#[test]
fn keys_of_logs_and_witnesses_are_not_taken_for_each_other() {
    let scratch = tempfile::tempdir().unwrap();
    let (log, witness) = (signer("cordon.test/vault"), witness(scratch.path()));
    let text = witness.key().to_string();
    assert_eq!(WitnessKey::parse(&text).as_ref(), Ok(witness.key()));
    assert_eq!(VerifierKey::parse(&text), Err(NoteError::Key));
    assert_eq!(WitnessKey::parse(&log.verifier().to_string()), Err(NoteError::Key));
}

#[test]
fn a_submission_reads_and_writes_the_same_and_nothing_else_is_one() {
    let log = signer("cordon.test/vault");
    let good = submission(&log, 5, 20);
    assert_eq!(Submission::parse(&good.to_string()).unwrap(), good);
    let text = good.to_string();
    let long = text.replacen('\n', &format!("\n{}", format!("{}\n", good.proof[0]).repeat(64)), 1);
    for bad in [
        "",
        "old 5",
        &text.replacen("old 5", "old 05", 1),
        &text.replacen("old 5", "old +5", 1),
        &text.replacen("old 5\n", "old 5\nnot base64\n", 1),
        &text.replacen("old 5\n", "", 1),
        &long,
    ] {
        assert!(matches!(Submission::parse(bad), Err(WitnessError::Request)), "{bad}");
    }
}
