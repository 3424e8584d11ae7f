//! What another implementation of the present format wrote, kept for ever: a keyring, a record and a fingerprint that
//! every later version opens.
//!
//! Must never be written again: a change here means that stored cards are lost. The root key is 32 times `B`,
//! and the card is a published test number.

use cordon_card::{CardId, Environment, Expiry, Pan, Token};
use data_encoding::{BASE64, HEXLOWER};
use serde::Deserialize;

use super::{Binding, Sealed, open_covered};
use crate::fingerprint::fingerprint;
use crate::keyring::Unlocked;
use crate::keys::{KEY_LENGTH, KeyError, RootKey};
use crate::store::CollectionId;

#[derive(Deserialize)]
struct Pinned {
    keyring: String,
    token: Token,
    card_id: CardId,
    record: String,
    fingerprint: String,
}

fn root() -> RootKey {
    RootKey::fill_with(|out| {
        *out = [b'B'; KEY_LENGTH];
        Ok::<(), KeyError>(())
    })
    .unwrap()
}

#[test]
fn the_format_opens_for_ever() {
    let pinned: Pinned = serde_json::from_str(include_str!("../../tests/data/format-2.json")).unwrap();
    let keys = Unlocked::open(pinned.keyring.as_bytes(), &root(), Environment::Dev, 2).unwrap();
    let (environment, collection) = (Environment::Dev, CollectionId(7));
    let Pinned { token, card_id, .. } = pinned;
    let expires_at = Some(1_900_000_000);
    let binding =
        Binding { environment, collection, token: &token, card_id, expires_at, created_at: 1_800_000_000 };
    let record = Sealed::from_stored(&BASE64.decode(pinned.record.as_bytes()).unwrap()).unwrap();
    let card = open_covered(&keys, &binding, &record).unwrap();
    assert_eq!(card.pan.expose(), "4242424242424242");
    assert_eq!(card.expiry, Expiry::new(2031, 12).ok());
    assert_eq!(card.metadata.pairs().collect::<Vec<_>>(), [("order", "17")]);
    assert_eq!(card.created_at, 1_800_000_000);
    let pan = Pan::parse("4242424242424242").unwrap();
    let print = fingerprint(keys.active_index_key(collection).unwrap(), environment, collection, &pan);
    assert_eq!(HEXLOWER.encode(print.as_bytes()), pinned.fingerprint);
}
