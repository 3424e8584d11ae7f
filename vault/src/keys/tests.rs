//! Keys: derivations differ, commitments bind, nothing prints.

use data_encoding::HEXLOWER;

use super::usage::{Document, Wrap};
use super::{Commitment, DataKey, IndexKey, KEY_LENGTH, Key, KeyError, KeyId, PreparedMac, RootKey};

fn root(byte: u8) -> RootKey {
    RootKey::fill_with(|out| {
        *out = [byte; KEY_LENGTH];
        Ok::<(), KeyError>(())
    })
    .unwrap()
}

fn id(text: &str) -> KeyId {
    KeyId::try_from(text.to_owned()).unwrap()
}

#[test]
fn generated_keys_differ() {
    let (one, two) = (DataKey::generate().unwrap(), DataKey::generate().unwrap());
    assert_ne!(one.expose_for_crypto(), two.expose_for_crypto());
    assert_ne!(one.expose_for_crypto(), &[0; KEY_LENGTH]);
}

#[test]
fn a_failing_source_gives_no_key() {
    assert!(DataKey::fill_with(|_out| Err(KeyError::Random)).is_err());
}

#[test]
fn no_two_derivations_share_an_output() {
    let parent = root(1);
    let mut seen = vec![parent.expose_for_crypto().to_vec()];
    for label in ["a", "b", "ab"] {
        for context in [&[][..], &[&b"b"[..]], &[&b"b"[..], &b""[..]]] {
            let wrap: Key<Wrap> = parent.derive(label, context).unwrap();
            let document: Key<Document> = parent.derive(label, context).unwrap();
            seen.push(wrap.expose_for_crypto().to_vec());
            seen.push(document.expose_for_crypto().to_vec());
        }
    }
    let other: Key<Wrap> = root(2).derive("a", &[]).unwrap();
    seen.push(other.expose_for_crypto().to_vec());
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), count);
}

/// Computed independently: HKDF-SHA256 of RFC 5869 written out with the HMAC of another implementation.
#[test]
fn derivation_gives_the_known_answer() {
    let derived: Key<Wrap> = root(1).derive("cordon/v1/test", &[b"context"]).unwrap();
    assert_eq!(
        HEXLOWER.encode(derived.expose_for_crypto()),
        "49af01946427d86519f7b4436d1b20c816ee0f147c6d3f58863115a2840b850f"
    );
}

#[test]
fn a_commitment_binds_key_name_and_purpose() {
    let commitment = root(1).commitment(&id("root-a")).unwrap();
    assert!(commitment.matches(&root(1).commitment(&id("root-a")).unwrap()));
    assert!(!commitment.matches(&root(2).commitment(&id("root-a")).unwrap()));
    assert!(!commitment.matches(&root(1).commitment(&id("root-b")).unwrap()));
    let index = IndexKey::fill_with(|out| {
        *out = [1; KEY_LENGTH];
        Ok::<(), KeyError>(())
    });
    assert!(!commitment.matches(&index.unwrap().commitment(&id("root-a")).unwrap()));
}

#[test]
fn a_commitment_survives_text_and_refuses_other_text() {
    let commitment = root(1).commitment(&id("root-a")).unwrap();
    let text = String::from(commitment.clone());
    assert!(text.starts_with(&commitment.prefix()));
    assert!(Commitment::try_from(text.clone()).unwrap().matches(&commitment));
    for wrong in ["", "00", text.strip_suffix(|_: char| true).unwrap(), "zz"] {
        assert!(Commitment::try_from(wrong.to_owned()).is_err());
    }
}

#[test]
fn key_names_are_drawn_apart_and_parsed_strictly() {
    let (one, two) = (KeyId::draw("data").unwrap(), KeyId::draw("data").unwrap());
    assert_ne!(one, two);
    assert_eq!(one.as_str().len(), "data-".len() + 16);
    assert_eq!(KeyId::try_from(one.to_string()).unwrap(), one);
    for wrong in ["", "Data-a", "data a", "data/../a", &"a".repeat(65)] {
        assert!(KeyId::try_from(wrong.to_owned()).is_err());
    }
}

#[test]
fn debug_shows_the_purpose_and_no_byte() {
    assert_eq!(format!("{:?}", root(0xAB)), "Key<root>(..)");
    assert_eq!(format!("{:?}", PreparedMac::new(&root(0xAB))), "PreparedMac(..)");
}

#[test]
fn a_prepared_mac_accepts_its_own_tag_only() {
    let mac = PreparedMac::new(&root(1));
    let tag = mac.sign("label", &[b"a", b"b"]);
    assert!(mac.verify("label", &[b"a", b"b"], &tag));
    assert!(!mac.verify("label", &[b"ab", b""], &tag));
    assert!(!mac.verify("other", &[b"a", b"b"], &tag));
    assert!(!mac.verify("label", &[b"a", b"b"], &tag[..31]));
    assert!(!mac.verify("label", &[b"a", b"b"], &[]));
    assert!(!PreparedMac::new(&root(2)).verify("label", &[b"a", b"b"], &tag));
}
