//! Sealing and unsealing: every quorum opens, nothing less does, and a wrong share is named.

use cordon_audit::Name;
use cordon_card::Environment;
use jiff::Timestamp;
use std::path::Path;
use std::time::Duration;
use zeroize::Zeroizing;

use super::{
    Devices, Given, Holder, Initialised, Register, SealDocument, SealError, SealSettings, Sealing, ShareText,
    Submitted, UnsealProgress, initialise, seal_root, unseal_alone,
};
use crate::keys::RootKey;

const DEV: Environment = Environment::Dev;
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// No device but the development file.
fn keeping(dev_file: &Path) -> Devices {
    Devices::load(&SealSettings::default(), dev_file).unwrap()
}

fn custodian(number: u8) -> Name {
    Name::parse(&format!("custodian-{number}")).unwrap()
}

fn shamir(threshold: u8, shares: u8) -> Sealing {
    let holder = |number| Holder { number, custodian: custodian(number), recipient: None };
    Sealing::Shamir { threshold, holders: (1..=shares).map(holder).collect() }
}

fn sealed(threshold: u8, shares: u8) -> Initialised {
    let directory = tempfile::tempdir().unwrap();
    initialise(&shamir(threshold, shares), DEV, &keeping(&directory.path().join("unused")), NOW).unwrap()
}

fn copy(share: &ShareText) -> ShareText {
    ShareText::parse(&share.expose()).unwrap()
}

/// Gives a share as the custodian it belongs to, who acknowledges with it.
fn give(
    progress: &mut UnsealProgress,
    document: &SealDocument,
    share: ShareText,
) -> Result<Submitted, SealError> {
    let by = custodian(share.index);
    progress.submit(document, Given { share, by: &by, acknowledges: true, at: Duration::ZERO })
}

/// Gives shares in an order; the root key if the last one brings it back.
fn submit_all(document: &SealDocument, shares: &[&ShareText]) -> Option<RootKey> {
    let mut progress = UnsealProgress::new(document).unwrap();
    let mut outcome = None;
    for share in shares {
        outcome = Some(give(&mut progress, document, copy(share)).unwrap());
    }
    match outcome? {
        Submitted::Unsealed { root, .. } => Some(root),
        Submitted::Waiting { .. } => None,
    }
}

#[test]
fn one_or_two_of_five_never_open() {
    let Initialised { document, shares, .. } = sealed(3, 5);
    for a in 0..5 {
        assert!(submit_all(&document, &[&shares[a]]).is_none());
        for b in (0..5).filter(|b| *b != a) {
            assert!(submit_all(&document, &[&shares[a], &shares[b]]).is_none());
        }
    }
}

#[test]
fn any_three_of_five_open_in_any_order() {
    let Initialised { document, root, shares } = sealed(3, 5);
    let mut count = 0;
    for a in 0..5 {
        for b in (0..5).filter(|b| *b != a) {
            for c in (0..5).filter(|c| *c != a && *c != b) {
                let opened = submit_all(&document, &[&shares[a], &shares[b], &shares[c]]).unwrap();
                assert_eq!(opened.expose_for_crypto(), root.expose_for_crypto());
                count += 1;
            }
        }
    }
    assert_eq!(count, 60);
}

#[test]
fn a_wrong_share_is_named_and_the_right_ones_stay() {
    let Initialised { document, root, shares } = sealed(3, 5);
    let mut progress = UnsealProgress::new(&document).unwrap();
    give(&mut progress, &document, copy(&shares[0])).unwrap();
    for at in [0, 31] {
        let mut wrong = copy(&shares[1]);
        wrong.secret[at] ^= 1;
        assert!(matches!(give(&mut progress, &document, wrong), Err(SealError::WrongShare(2, Some(_)))));
    }
    let mut renumbered = copy(&shares[1]);
    renumbered.index = 4;
    assert!(matches!(give(&mut progress, &document, renumbered), Err(SealError::WrongShare(4, Some(_)))));
    let mut beyond = copy(&shares[1]);
    beyond.index = 6;
    assert!(matches!(give(&mut progress, &document, beyond), Err(SealError::WrongShare(6, None))));
    assert_eq!(progress.given(), 1);
    give(&mut progress, &document, copy(&shares[1])).unwrap();
    let Submitted::Unsealed { root: opened, .. } = give(&mut progress, &document, copy(&shares[2])).unwrap()
    else {
        panic!()
    };
    assert_eq!(opened.expose_for_crypto(), root.expose_for_crypto());
    assert_eq!(progress.given(), 0);
}

#[test]
fn a_share_given_twice_counts_once() {
    let Initialised { document, shares, .. } = sealed(2, 3);
    let mut progress = UnsealProgress::new(&document).unwrap();
    give(&mut progress, &document, copy(&shares[1])).unwrap();
    assert!(matches!(give(&mut progress, &document, copy(&shares[1])), Err(SealError::GivenAlready(2))));
    assert_eq!((progress.given(), progress.threshold()), (1, 2));
    assert_eq!(format!("{progress:?}"), "UnsealProgress(1 of 2)");
    progress.reset();
    assert!(matches!(
        give(&mut progress, &document, copy(&shares[1])),
        Ok(Submitted::Waiting { given: 1, threshold: 2 })
    ));
}

#[test]
fn a_share_counts_from_its_own_custodian_alone() {
    let Initialised { document, shares, .. } = sealed(2, 3);
    let mut progress = UnsealProgress::new(&document).unwrap();
    for other in [custodian(1), custodian(3), Name::parse("operator").unwrap()] {
        let given = Given { share: copy(&shares[1]), by: &other, acknowledges: true, at: Duration::ZERO };
        let refused = progress.submit(&document, given).unwrap_err();
        assert!(
            matches!(&refused, SealError::NotTheHolder(2, holder) if *holder == custodian(2)),
            "{refused}"
        );
    }
    assert_eq!(progress.given(), 0);
}

#[test]
fn who_has_not_acknowledged_takes_no_part() {
    let Initialised { document, root, shares } = sealed(2, 3);
    let mut progress = UnsealProgress::new(&document).unwrap();
    let (one, two) = (custodian(1), custodian(2));
    let by_one = |acknowledges| Given { share: copy(&shares[0]), by: &one, acknowledges, at: Duration::ZERO };
    assert!(matches!(progress.submit(&document, by_one(false)), Err(SealError::NotAcknowledged(_))));
    assert_eq!(progress.given(), 0);
    progress.submit(&document, by_one(true)).unwrap();
    let given = Given { share: copy(&shares[1]), by: &two, acknowledges: true, at: Duration::ZERO };
    let Submitted::Unsealed { acknowledged, .. } = progress.submit(&document, given).unwrap() else {
        panic!()
    };
    assert_eq!(acknowledged.into_iter().collect::<Vec<_>>(), [custodian(1), custodian(2)]);
    // Remembered, it need not be said again; and the document is still authentic.
    let register = document.register().acknowledging([&one], NOW);
    let next = document.with_register(register, &super::mac_of(&root).unwrap()).unwrap();
    next.verify(&root).unwrap();
    progress.submit(&next, by_one(false)).unwrap();
}

#[test]
fn shares_wait_for_a_quarter_of_an_hour() {
    let Initialised { document, shares, .. } = sealed(2, 3);
    let mut progress = UnsealProgress::new(&document).unwrap();
    let mut at = |share: &ShareText, seconds: u64| {
        let by = custodian(share.index);
        let given =
            Given { share: copy(share), by: &by, acknowledges: true, at: Duration::from_secs(seconds) };
        progress.submit(&document, given).unwrap()
    };
    assert!(matches!(at(&shares[0], 100), Submitted::Waiting { given: 1, .. }));
    assert!(
        matches!(at(&shares[1], 100 + 900), Submitted::Waiting { given: 1, .. }),
        "the first is forgotten"
    );
    assert!(matches!(at(&shares[0], 100 + 900 + 899), Submitted::Unsealed { .. }));
    give(&mut progress, &document, copy(&shares[2])).unwrap();
    progress.expire(Duration::from_secs(899));
    assert_eq!(progress.given(), 1);
    progress.expire(Duration::from_secs(900));
    assert_eq!(progress.given(), 0);
}

#[test]
fn numbers_that_nobody_has_are_left_out_and_the_rest_still_opens() {
    let root = RootKey::generate().unwrap();
    let holder = |number| Holder { number, custodian: custodian(number), recipient: None };
    let sealing = Sealing::Shamir { threshold: 2, holders: [2, 5, 16].map(holder).into() };
    let (document, shares) =
        seal_root(&root, &sealing, DEV, &Register::default(), &keeping(Path::new("unused")), NOW).unwrap();
    assert_eq!(shares.iter().map(|share| share.index).collect::<Vec<_>>(), [2, 5, 16]);
    let again = SealDocument::parse(&document.to_bytes().unwrap(), DEV).unwrap();
    let opened = submit_all(&again, &[&shares[2], &shares[0]]).unwrap();
    assert_eq!(opened.expose_for_crypto(), root.expose_for_crypto());
}

#[test]
fn shares_of_another_ceremony_or_environment_are_refused_even_for_the_same_root() {
    let Initialised { document, root, .. } = sealed(3, 5);
    let mut progress = UnsealProgress::new(&document).unwrap();
    let again = shamir(3, 5);
    let (_document, mut others) =
        seal_root(&root, &again, DEV, &Register::default(), &keeping(Path::new("unused")), NOW).unwrap();
    assert!(matches!(give(&mut progress, &document, others.remove(0)), Err(SealError::OtherCeremony(1))));
    let (_document, mut others) =
        seal_root(&root, &again, Environment::Live, &Register::default(), &keeping(Path::new("unused")), NOW)
            .unwrap();
    assert!(matches!(
        give(&mut progress, &document, others.remove(0)),
        Err(SealError::WrongEnvironment { .. })
    ));
}

#[test]
fn a_root_key_the_seal_does_not_commit_to_is_refused_and_the_shares_forgotten() {
    // The document's share digests are replaced by those of another root key, as an attacker with the store
    // could.
    let ours = sealed(2, 2);
    let theirs = sealed(2, 2);
    let value = |document: &SealDocument| -> serde_json::Value {
        serde_json::from_slice(&document.to_bytes().unwrap()).unwrap()
    };
    let mut mixed = value(&ours.document);
    let foreign = value(&theirs.document);
    mixed["seal"]["by"] = foreign["seal"]["by"].clone();
    mixed["seal"]["ceremony"] = foreign["seal"]["ceremony"].clone();
    mixed["seal"]["register"] = foreign["seal"]["register"].clone();
    let document = SealDocument::parse(&serde_json::to_vec(&mixed).unwrap(), DEV).unwrap();
    let mut progress = UnsealProgress::new(&document).unwrap();
    give(&mut progress, &document, copy(&theirs.shares[0])).unwrap();
    assert!(matches!(give(&mut progress, &document, copy(&theirs.shares[1])), Err(SealError::Root)));
    assert_eq!(progress.given(), 0);
}

#[test]
fn a_document_changed_in_any_value_never_unseals() {
    let Initialised { document, shares, .. } = sealed(2, 3);
    let bytes = document.to_bytes().unwrap();
    let unseals = |stored: &[u8]| {
        let Ok(document) = SealDocument::parse(stored, DEV) else { return false };
        let Ok(mut progress) = UnsealProgress::new(&document) else { return false };
        let _waiting = give(&mut progress, &document, copy(&shares[0]));
        matches!(give(&mut progress, &document, copy(&shares[1])), Ok(Submitted::Unsealed { .. }))
    };
    assert!(unseals(&bytes));
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(!unseals(&changed), "byte {at}");
    }
}

#[test]
fn a_lowered_threshold_is_noticed() {
    let Initialised { document, shares, .. } = sealed(3, 5);
    let text = String::from_utf8(document.to_bytes().unwrap()).unwrap();
    let lowered = text.replace(r#""threshold":3"#, r#""threshold":2"#);
    let document = SealDocument::parse(lowered.as_bytes(), DEV).unwrap();
    let mut progress = UnsealProgress::new(&document).unwrap();
    give(&mut progress, &document, copy(&shares[0])).unwrap();
    assert!(matches!(give(&mut progress, &document, copy(&shares[1])), Err(SealError::Root)));
}

#[test]
fn the_environment_is_part_of_the_seal() {
    let Initialised { document, root, .. } = sealed(2, 3);
    let bytes = document.to_bytes().unwrap();
    assert!(matches!(
        SealDocument::parse(&bytes, Environment::Live),
        Err(SealError::WrongEnvironment { found: Environment::Dev, expected: Environment::Live })
    ));
    let text = String::from_utf8(bytes).unwrap().replace(r#""environment":"dev""#, r#""environment":"live""#);
    let restamped = SealDocument::parse(text.as_bytes(), Environment::Live).unwrap();
    assert!(matches!(restamped.verify(&root), Err(SealError::NotAuthentic)));
}

#[test]
fn limits_are_held() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("unused");
    for (threshold, shares) in [(0, 0), (1, 1), (1, 5), (6, 5), (2, 1), (3, 17), (17, 17)] {
        let refused = initialise(&shamir(threshold, shares), DEV, &keeping(&path), NOW);
        assert!(matches!(refused, Err(SealError::Limits { .. })), "{threshold} of {shares}");
    }
    for (threshold, shares) in [(2, 2), (16, 16), (2, 16)] {
        assert!(initialise(&shamir(threshold, shares), DEV, &keeping(&path), NOW).is_ok());
    }
    assert!(!path.exists());
}

#[test]
fn the_development_seal_is_refused_in_live_and_opens_in_dev() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("root.json");
    let live = initialise(&Sealing::DevFile, Environment::Live, &keeping(&path), NOW);
    assert!(matches!(live, Err(SealError::DevelopmentInLive)));
    assert!(!path.exists());

    let Initialised { document, root, shares } =
        initialise(&Sealing::DevFile, DEV, &keeping(&path), NOW).unwrap();
    assert!(shares.is_empty());
    let opened = unseal_alone(&document, &keeping(&path)).unwrap();
    assert_eq!(opened.expose_for_crypto(), root.expose_for_crypto());
    assert!(matches!(UnsealProgress::new(&document), Err(SealError::NotThisSeal)));
    assert!(matches!(unseal_alone(&sealed(2, 3).document, &keeping(&path)), Err(SealError::NotThisSeal)));

    // A seal document restamped to live is refused before any file is read.
    let text = String::from_utf8(document.to_bytes().unwrap()).unwrap();
    let live = text.replace(r#""environment":"dev""#, r#""environment":"live""#);
    let refused = SealDocument::parse(live.as_bytes(), Environment::Live);
    assert!(matches!(refused, Err(SealError::DevelopmentInLive)));
}

#[test]
fn the_key_file_of_another_vault_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("one"), directory.path().join("two"));
    let ours = initialise(&Sealing::DevFile, DEV, &keeping(&one), NOW).unwrap();
    initialise(&Sealing::DevFile, DEV, &keeping(&two), NOW).unwrap();
    assert!(matches!(unseal_alone(&ours.document, &keeping(&two)), Err(SealError::Root)));
}

/// A seal and two of its three shares as the second format wrote them. Must never be written again: vaults
/// sealed by it would stay shut. The root key is 32 times `B`.
#[test]
fn the_second_format_unseals_for_ever() {
    let pinned: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/data/seal-2.json")).unwrap();
    let document = SealDocument::parse(pinned["seal"].as_str().unwrap().as_bytes(), DEV).unwrap();
    let mut progress = UnsealProgress::new(&document).unwrap();
    let mut submit = |at: usize| {
        let share = ShareText::parse(pinned["shares"][at].as_str().unwrap()).unwrap();
        give(&mut progress, &document, share).unwrap()
    };
    assert!(matches!(submit(0), Submitted::Waiting { given: 1, threshold: 2 }));
    let Submitted::Unsealed { root, .. } = submit(1) else { panic!() };
    assert_eq!(root.expose_for_crypto(), &[b'B'; 32]);
}

#[test]
fn the_document_holds_no_share_and_no_key() {
    let Initialised { document, root, shares } = sealed(3, 5);
    let text = String::from_utf8(document.to_bytes().unwrap()).unwrap();
    let secrets = shares.iter().map(|share| share.secret.to_vec()).chain([root.expose_for_crypto().to_vec()]);
    for secret in secrets.map(Zeroizing::new) {
        assert!(!text.contains(&data_encoding::BASE64.encode(&secret)));
        assert!(!text.contains(&data_encoding::HEXLOWER.encode(&secret)));
    }
    assert_eq!(format!("{document:?}"), "SealDocument(dev, Shamir { threshold: 3, shares: 5 })");
}
