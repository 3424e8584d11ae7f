//! Stored records and their plaintext from any bytes: no panic, one encoding for each card, nothing forged
//! opens.
#![no_main]

use std::sync::OnceLock;

use cordon_card::{CardId, Environment, Token};
use cordon_vault::keyring::Unlocked;
use cordon_vault::keys::RootKey;
use cordon_vault::record::{Binding, ChangeError, Sealed, layout, rewrap};
use cordon_vault::store::CollectionId;
use libfuzzer_sys::fuzz_target;

const COLLECTION: CollectionId = CollectionId(1);

fn keys() -> &'static Unlocked {
    static KEYS: OnceLock<Unlocked> = OnceLock::new();
    KEYS.get_or_init(|| {
        let root = RootKey::generate().expect("there is randomness");
        let keys = Unlocked::create(&root, Environment::Dev, Default::default()).expect("a keyring is made");
        keys.add_collection(COLLECTION, Default::default()).expect("a collection is added")
    })
}

fuzz_target!(|data: &[u8]| {
    if let Ok(card) = layout::decode(data) {
        assert_eq!(*layout::encode(&card), data);
        assert!(card.metadata.pairs().all(|(key, _value)| !key.is_empty()));
    }
    if let Ok(sealed) = Sealed::from_stored(data) {
        assert_eq!(sealed.as_bytes(), data);
        let token = Token::opaque(Environment::Dev, &[1; 17]);
        let card_id = CardId::from_bytes([2; 16]);
        let environment = Environment::Dev;
        let (collection, token) = (COLLECTION, &token);
        let binding =
            Binding { environment, collection, token, card_id, expires_at: None, created_at: 0 };
        assert!(matches!(rewrap(keys(), &binding, &sealed, Default::default()), Err(ChangeError::Refused(_))));
    }
});
