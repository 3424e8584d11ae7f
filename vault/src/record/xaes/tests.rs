//! Published vectors of XAES-256-GCM (C2SP), and refusals.

use aes::Aes256;
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use cmac::{Cmac, KeyInit, Mac};
use data_encoding::HEXLOWER;
use proptest::prelude::*;
use sha3::Shake128;
use sha3::digest::{ExtendableOutput, Update, XofReader};

use super::{NONCE_LENGTH, OVERHEAD, Unauthentic, XaesKey};
use crate::keys::{DataKey, KEY_LENGTH};

fn key_of(bytes: [u8; KEY_LENGTH]) -> XaesKey {
    let key = DataKey::fill_with(|out| {
        *out = bytes;
        Ok::<(), Unauthentic>(())
    });
    XaesKey::new(&key.unwrap())
}

fn seal(key: &XaesKey, nonce: &[u8; NONCE_LENGTH], plaintext: &[u8], aad: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    key.seal_with(nonce, aad, plaintext, &mut out).unwrap();
    out
}

fn published(key_byte: u8, aad: &[u8], expected: &str) {
    let nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX";
    let key = key_of([key_byte; KEY_LENGTH]);
    let sealed = seal(&key, nonce, b"XAES-256-GCM", aad);
    assert_eq!(sealed[..NONCE_LENGTH], nonce[..]);
    assert_eq!(HEXLOWER.encode(&sealed[NONCE_LENGTH..]), expected);
    assert_eq!(key.open(aad, &sealed).unwrap().as_slice(), b"XAES-256-GCM");
}

#[test]
fn the_published_vector_with_the_top_bit_of_l_clear_holds() {
    published(0x01, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271");
}

#[test]
fn the_published_vector_with_the_top_bit_of_l_set_holds() {
    published(0x03, b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d");
}

/// The accumulated test of the specification: every input is squeezed from one SHAKE-128 of nothing, every
/// ciphertext is absorbed by another.
#[test]
fn the_accumulated_vector_of_ten_thousand_messages_holds() {
    let mut source = Shake128::default().finalize_xof();
    let mut digest = Shake128::default();
    for _ in 0..10_000 {
        let mut key = [0; KEY_LENGTH];
        source.read(&mut key);
        let mut nonce = [0; NONCE_LENGTH];
        source.read(&mut nonce);
        let plaintext = counted(&mut source);
        let aad = counted(&mut source);
        let key = key_of(key);
        let sealed = seal(&key, &nonce, &plaintext, &aad);
        assert_eq!(*key.open(&aad, &sealed).unwrap(), plaintext);
        digest.update(&sealed[NONCE_LENGTH..]);
    }
    let mut accumulated = [0; 32];
    digest.finalize_xof().read(&mut accumulated);
    assert_eq!(
        HEXLOWER.encode(&accumulated),
        "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
    );
}

/// One byte of length, then that many bytes.
fn counted(source: &mut impl XofReader) -> Vec<u8> {
    let mut length = [0; 1];
    source.read(&mut length);
    let mut out = vec![0; usize::from(length[0])];
    source.read(&mut out);
    out
}

#[test]
fn every_truncation_is_refused() {
    let key = key_of([7; KEY_LENGTH]);
    let sealed = seal(&key, &[9; NONCE_LENGTH], b"plaintext", b"aad");
    for length in 0..sealed.len() {
        assert_eq!(key.open(b"aad", &sealed[..length]).unwrap_err(), Unauthentic);
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let key = key_of([7; KEY_LENGTH]);
    let sealed = seal(&key, &[9; NONCE_LENGTH], b"plaintext", b"aad");
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut changed = sealed.clone();
            changed[at] ^= 1 << bit;
            assert_eq!(key.open(b"aad", &changed).unwrap_err(), Unauthentic);
        }
    }
}

#[test]
fn another_key_or_other_associated_data_is_refused() {
    let key = key_of([7; KEY_LENGTH]);
    let sealed = seal(&key, &[9; NONCE_LENGTH], b"plaintext", b"aad");
    assert_eq!(key_of([8; KEY_LENGTH]).open(b"aad", &sealed).unwrap_err(), Unauthentic);
    assert_eq!(key.open(b"aaD", &sealed).unwrap_err(), Unauthentic);
    assert_eq!(key.open(b"", &sealed).unwrap_err(), Unauthentic);
}

#[test]
fn two_sealings_of_one_plaintext_share_neither_nonce_nor_ciphertext() {
    let key = key_of([7; KEY_LENGTH]);
    let (mut one, mut two) = (Vec::new(), Vec::new());
    key.seal_onto(b"", b"same", &mut one).unwrap();
    key.seal_onto(b"", b"same", &mut two).unwrap();
    assert_ne!(one[..NONCE_LENGTH], two[..NONCE_LENGTH]);
    assert_ne!(one[NONCE_LENGTH..], two[NONCE_LENGTH..]);
}

proptest! {
    #[test]
    fn what_is_sealed_opens_and_is_longer_by_the_overhead(
        plaintext in proptest::collection::vec(any::<u8>(), 0..300),
        aad in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let key = key_of([1; KEY_LENGTH]);
        let mut sealed = b"header".to_vec();
        key.seal_onto(&aad, &plaintext, &mut sealed).unwrap();
        prop_assert_eq!(sealed.len(), 6 + OVERHEAD + plaintext.len());
        prop_assert_eq!(&*key.open(&aad, &sealed[6..]).unwrap(), &plaintext);
    }

    #[test]
    fn it_is_gcm_under_the_cmac_of_two_blocks(
        key in any::<[u8; KEY_LENGTH]>(),
        nonce in any::<[u8; NONCE_LENGTH]>(),
        plaintext in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let mut derived = Vec::new();
        for counter in [1, 2] {
            let mut mac = <Cmac<Aes256> as KeyInit>::new(&key.into());
            mac.update(&[0, counter, b'X', 0]);
            mac.update(&nonce[..12]);
            derived.extend_from_slice(&mac.finalize().into_bytes());
        }
        let gcm = Aes256Gcm::new_from_slice(&derived).unwrap();
        let tail: [u8; 12] = nonce[12..].try_into().unwrap();
        let expected = gcm.encrypt(&Nonce::from(tail), Payload { msg: &plaintext, aad: b"aad" }).unwrap();
        prop_assert_eq!(&seal(&key_of(key), &nonce, &plaintext, b"aad")[NONCE_LENGTH..], expected);
    }

    #[test]
    fn arbitrary_bytes_never_open(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(key_of([1; KEY_LENGTH]).open(b"", &bytes).is_err());
    }
}
