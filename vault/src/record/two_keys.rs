//! A ciphertext made to open under two keys does open under both in XAES-256-GCM, and not as a record (threat B11).
//!
//! Nothing here is a way to attack Cordon: it takes both data keys. The arithmetic is that of the `ghash` crate.

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes::{Aes256, Block};
use cordon_card::{CardId, Environment, Token};
use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use jiff::Timestamp;

use super::{Binding, COMMIT_LABEL, FORMAT, Refused, Sealed, layout, unseal, xaes};
use crate::keyring::{DataKeyVersion, Unlocked};
use crate::keys::RootKey;
use crate::store::CollectionId;

const ONE: CollectionId = CollectionId(1);
const NONCE: [u8; xaes::NONCE_LENGTH] = [7; xaes::NONCE_LENGTH];
type Element = [u8; 16];

/// A product in the field of GHASH: its hash of one block under a key is block times key.
fn times(one: Element, other: Element) -> Element {
    let mut hash = GHash::new(&other.into());
    hash.update(&[one.into()]);
    hash.finalize().into()
}

fn plus(one: Element, other: Element) -> Element {
    std::array::from_fn(|at| one[at] ^ other[at])
}

/// `of` to the power of 2^128 - 2, which is its inverse.
fn inverse(of: Element) -> Element {
    let mut square = times(of, of);
    let mut product = square;
    for _ in 2..128 {
        square = times(square, square);
        product = times(product, square);
    }
    product
}

/// What GCM needs of one message's key.
struct Side {
    hash_key: Element,
    mask: Element,
    aad: Vec<u8>,
}

impl Side {
    fn of(key: &DataKeyVersion, binding: &Binding<'_>) -> Side {
        let (message_key, tail) = key.cipher.message_key(&NONCE);
        let cipher = Aes256::new((&*message_key).into());
        let encrypt = |input: Element| {
            let mut block = Block::from(input);
            cipher.encrypt_block(&mut block);
            Element::from(block)
        };
        let mut counter = [0; 16];
        counter[..12].copy_from_slice(&tail);
        counter[15] = 1;
        Side { hash_key: encrypt([0; 16]), mask: encrypt(counter), aad: binding.aad(key.version()) }
    }

    fn tag(&self, ciphertext: &[u8]) -> Element {
        let mut hash = GHash::new(&self.hash_key.into());
        hash.update_padded(&self.aad);
        hash.update_padded(ciphertext);
        let bits = |bytes: &[u8]| (bytes.len() as u64 * 8).to_be_bytes();
        let lengths: Element = [bits(&self.aad), bits(ciphertext)].concat().try_into().unwrap();
        hash.update(&[lengths.into()]);
        plus(hash.finalize().into(), self.mask)
    }

    /// The hash key to the power of the first ciphertext block: one for each block, one for the lengths.
    fn weight(&self, blocks: usize) -> Element {
        (0..blocks).fold(self.hash_key, |power, _block| times(power, self.hash_key))
    }
}

/// Nonce, ciphertext and tag that open under both keys in the given row.
fn crafted(keys: [&DataKeyVersion; 2], binding: &Binding<'_>) -> Vec<u8> {
    let [one, two] = keys.map(|key| Side::of(key, binding));
    let mut ciphertext = vec![0; layout::BASE_LENGTH];
    let blocks = ciphertext.len() / 16;
    let gap = plus(one.tag(&ciphertext), two.tag(&ciphertext));
    let first = times(gap, inverse(plus(one.weight(blocks), two.weight(blocks))));
    ciphertext[..16].copy_from_slice(&first);
    let tag = one.tag(&ciphertext);
    assert_eq!(tag, two.tag(&ciphertext), "the equation was solved");
    [&NONCE[..], &ciphertext, &tag].concat()
}

#[test]
fn inverses_and_products_are_those_of_the_field() {
    let (a, b) = ([3; 16], [0xe1; 16]);
    assert_eq!(times(a, b), times(b, a));
    assert_eq!(times(times(a, b), inverse(b)), a);
}

#[test]
fn no_ciphertext_opens_under_two_keys() {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let keys = Unlocked::create(&RootKey::generate().unwrap(), Environment::Dev, now).unwrap();
    let keys = keys.add_collection(ONE, now).unwrap().rotate_data(ONE, now).unwrap();
    let token = Token::opaque(Environment::Dev, &[1; 17]);
    let card_id = CardId::from_bytes([5; 16]);
    let environment = Environment::Dev;
    let binding =
        Binding { environment, collection: ONE, token: &token, card_id, expires_at: None, created_at: 0 };
    let both = [keys.data_key(ONE, 1).unwrap(), keys.data_key(ONE, 2).unwrap()];
    let body = crafted(both, &binding);
    for key in both {
        assert!(key.cipher.open(&binding.aad(key.version()), &body).is_ok(), "XAES-256-GCM alone takes it");
    }
    for named in both {
        for committed in both {
            let aad = binding.aad(committed.version());
            let commitment = committed.commit.sign(COMMIT_LABEL, &[&aad, &NONCE]);
            let bytes = [&[FORMAT][..], &named.version().to_be_bytes(), &body, &commitment].concat();
            let sealed = Sealed::from_stored(&bytes).unwrap();
            let opened = unseal(named, &binding, &sealed);
            assert_eq!(opened.is_ok(), named.version() == committed.version());
            assert_eq!(super::decrypt(named, &binding, &sealed).unwrap_err(), Refused);
        }
    }
}
