//! Made-up cards for the store tests: a number decides a fingerprint, another one the token, id and record.

use cordon_card::{CardId, Environment, Token};
use cordon_vault::fingerprint::Fingerprint;
use cordon_vault::record::Sealed;
use cordon_vault::store::{Claim, CollectionId, IndexEntry, NewCard};

/// The collection that most tests use.
pub(crate) const CARDS: CollectionId = CollectionId(1);

/// A number's token.
pub(crate) fn token(number: u64) -> Token {
    let mut entropy = [0x33; 17];
    entropy[..8].copy_from_slice(&spread(number).to_be_bytes());
    Token::opaque(Environment::Test, &entropy)
}

/// A number's card id.
pub(crate) fn card_id(number: u64) -> CardId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&spread(number).to_be_bytes());
    CardId::from_bytes(bytes)
}

/// A card's index entry under one key version.
pub(crate) fn entry(version: u32, card: u64) -> IndexEntry {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&spread(card).to_be_bytes());
    bytes[8..12].copy_from_slice(&version.to_be_bytes());
    IndexEntry { version, fingerprint: Fingerprint::from_bytes(bytes) }
}

/// The shortest bytes that pass for an envelope, filled with a number.
pub(crate) fn record(number: u64) -> Sealed {
    let fill = number.to_be_bytes();
    let envelope = |words: usize| [&[2, 0, 0, 0, 1][..], &fill.repeat(words)].concat();
    let cut = |length: usize| Sealed::from_stored(&envelope(128)[..length]).ok();
    (5..512).find_map(cut).unwrap()
}

/// A card with one token and one index entry.
pub(crate) fn card(card: u64, number: u64) -> NewCard {
    NewCard {
        collection: CARDS,
        index: vec![entry(1, card)],
        claim: Claim::Multi,
        token: token(number),
        card_id: card_id(number),
        expires_at: None,
        created_at: 1_700_000_000,
        sealed: record(number),
    }
}

/// A card with many tokens: `owner` decides the card id.
pub(crate) fn single(of: u64, owner: u64, number: u64) -> NewCard {
    NewCard { claim: Claim::Single, card_id: card_id(owner), ..card(of, number) }
}

/// Tokens and fingerprints are random in life, so neighbours in number must not be neighbours in key order.
fn spread(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31)
}
