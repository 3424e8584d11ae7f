//! Keyrings, seals, shares, approvals and rewrap runs from any bytes: no panic, what parses is written back the same, nothing forged
//! opens.
#![no_main]

use std::sync::OnceLock;

use cordon_card::Environment;
use cordon_vault::approvals::Approvals;
use cordon_vault::keyring::{Document, Unlocked};
use cordon_vault::keys::RootKey;
use cordon_vault::retention::Erasures;
use cordon_vault::rewrap::Jobs;
use cordon_vault::seal::{SealDocument, ShareText};
use libfuzzer_sys::fuzz_target;

fn root() -> &'static RootKey {
    static ROOT: OnceLock<RootKey> = OnceLock::new();
    ROOT.get_or_init(|| RootKey::generate().expect("there is randomness"))
}

fuzz_target!(|data: &[u8]| {
    if let Ok(document) = Document::parse(data) {
        let written = serde_json::to_vec(&document).expect("a keyring can be written");
        let again = Document::parse(&written).expect("what was written is read");
        assert_eq!(serde_json::to_vec(&again).expect("a keyring can be written"), written);
    }
    assert!(Unlocked::open(data, root(), Environment::Dev, 0).is_err());
    if let Ok(seal) = SealDocument::parse(data, Environment::Dev) {
        let written = seal.to_bytes().expect("a seal can be written");
        assert!(SealDocument::parse(&written, Environment::Dev).is_ok());
    }
    if let Ok(approvals) = Approvals::parse(data) {
        let written = serde_json::to_vec(&approvals).expect("approvals can be written");
        let again = Approvals::parse(&written).expect("what was written is read");
        assert_eq!(serde_json::to_vec(&again).expect("approvals can be written"), written);
    }
    if let Ok(jobs) = Jobs::parse(data) {
        let written = jobs.to_bytes().expect("runs can be written");
        let again = Jobs::parse(&written).expect("what was written is read");
        assert_eq!(again.to_bytes().expect("runs can be written"), written);
    }
    if let Ok(erasures) = Erasures::parse(data) {
        let written = serde_json::to_vec(&erasures).expect("erasures can be written");
        assert_eq!(Erasures::parse(&written).expect("what was written is read"), erasures);
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(share) = ShareText::parse(text)
    {
        assert_eq!(*share.expose(), text.trim().to_ascii_lowercase());
    }
});
