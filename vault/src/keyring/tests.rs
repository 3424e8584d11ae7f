//! The keyring: what must not open does not, what changes makes a proper successor.

use cordon_card::{Environment, Pan};
use jiff::Timestamp;

use super::document::KeyRow;
use super::wrap::{self, Place};
use super::{Document, KEK_WRAP_LABEL, KeyState, KeyringError, Purpose, Unlocked};
use crate::fingerprint::{Fingerprint, fingerprint};
use crate::keys::{DataKey, Kek, KeyId, RootKey};
use crate::store::CollectionId;

mod limits;

const ONE: CollectionId = CollectionId(1);
const TWO: CollectionId = CollectionId(2);

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn root() -> RootKey {
    RootKey::generate().unwrap()
}

/// A keyring with two collections, and the root key it is under.
fn two_collections() -> (RootKey, Unlocked) {
    let root = root();
    let keyring = Unlocked::create(&root, Environment::Dev, now()).unwrap();
    let keyring = keyring.add_collection(ONE, now()).unwrap().add_collection(TWO, now()).unwrap();
    (root, keyring)
}

/// Opens what `change` makes of the keyring, with a right tag: what an attacker with the document key could
/// store.
fn open_changed(change: impl FnOnce(&mut Vec<KeyRow>)) -> Result<Unlocked, KeyringError> {
    let (root, keyring) = two_collections();
    let mut document = keyring.document.clone();
    change(&mut document.keys);
    let bytes = document.to_bytes(&keyring.authority.mac).unwrap();
    Unlocked::open(&bytes, &root, Environment::Dev, 0)
}

fn row_of(rows: &mut [KeyRow], purpose: Purpose, collection: Option<u32>) -> &mut KeyRow {
    rows.iter_mut().find(|row| row.purpose == purpose && row.collection == collection).unwrap()
}

fn print_of(keyring: &Unlocked, collection: CollectionId) -> Fingerprint {
    let pan = Pan::parse("4242424242424242").unwrap();
    fingerprint(keyring.active_index_key(collection).unwrap(), keyring.environment(), collection, &pan)
}

#[test]
fn another_root_key_does_not_open_it() {
    let (_root, keyring) = two_collections();
    let opened = Unlocked::open(&keyring.to_bytes().unwrap(), &root(), Environment::Dev, 0);
    assert!(matches!(opened, Err(KeyringError::NotAuthentic)));
}

#[test]
fn a_change_of_any_byte_is_refused() {
    let root = root();
    let keyring = Unlocked::create(&root, Environment::Dev, now()).unwrap();
    let bytes = keyring.to_bytes().unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let opened = Unlocked::open(&changed, &root, Environment::Dev, 0);
        assert!(matches!(opened, Err(KeyringError::NotAuthentic | KeyringError::Malformed)), "byte {at}");
    }
    for length in 0..bytes.len() {
        assert!(Unlocked::open(&bytes[..length], &root, Environment::Dev, 0).is_err());
    }
}

#[test]
fn another_environment_does_not_open_it() {
    let (root, keyring) = two_collections();
    let opened = Unlocked::open(&keyring.to_bytes().unwrap(), &root, Environment::Live, 0);
    assert!(matches!(opened, Err(KeyringError::WrongEnvironment { .. })));
}

#[test]
fn keys_of_another_environment_do_not_unwrap_even_under_a_right_tag() {
    let (root, keyring) = two_collections();
    let mut document = keyring.document.clone();
    document.environment = Environment::Live;
    let bytes = document.to_bytes(&keyring.authority.mac).unwrap();
    let opened = Unlocked::open(&bytes, &root, Environment::Live, 0);
    assert!(matches!(opened, Err(KeyringError::Unwrap(_))));
}

#[test]
fn an_older_keyring_is_refused() {
    let (root, keyring) = two_collections();
    let old = keyring.to_bytes().unwrap();
    let new = keyring.rotate_data(ONE, now()).unwrap();
    let rolled_back = Unlocked::open(&old, &root, Environment::Dev, new.epoch());
    assert!(matches!(rolled_back, Err(KeyringError::RolledBack { found: 3, at_least: 4 })));
    assert!(matches!(new.reopen(&old), Err(KeyringError::RolledBack { .. })));
    assert_eq!(keyring.reopen(&new.to_bytes().unwrap()).unwrap().epoch(), 4);
}

#[test]
fn wrapped_keys_swapped_between_rows_do_not_unwrap() {
    for (purpose, other) in [(Purpose::Data, Purpose::Data), (Purpose::Index, Purpose::Data)] {
        let opened = open_changed(|rows| {
            let theirs = row_of(rows, other, Some(2)).wrapped.clone();
            row_of(rows, purpose, Some(1)).wrapped = theirs;
        });
        assert!(matches!(opened, Err(KeyringError::Unwrap(_))));
    }
}

#[test]
fn a_wrapped_key_opens_under_its_own_name_version_purpose_and_collection_only() {
    type Change = fn(&mut KeyRow);
    let changes: [Change; 4] = [
        |row| row.id = KeyId::try_from("data-other".to_owned()).unwrap(),
        |row| row.version = 9,
        |row| row.purpose = Purpose::Index,
        |row| row.collection = Some(3),
    ];
    for change in changes {
        let opened = open_changed(|rows| {
            // The other data and index keys go, so that nothing but the wrapping can object.
            rows.retain(|row| row.purpose != Purpose::Index && row.collection != Some(2));
            change(row_of(rows, Purpose::Data, Some(1)));
        });
        assert!(matches!(opened, Err(KeyringError::Unwrap(_))));
    }
}

#[test]
fn a_key_planted_by_someone_who_holds_the_wrapping_key_is_found_by_its_commitment() {
    let (root, keyring) = two_collections();
    let mut document = keyring.document.clone();
    let kek = document.active(Purpose::Kek, None).unwrap();
    let kek: Kek = wrap::unwrap(kek, &keyring.authority.wrapper, Environment::Dev).unwrap();
    let row = row_of(&mut document.keys, Purpose::Data, Some(1));
    let wrapper = wrap::wrapper_of(&kek, KEK_WRAP_LABEL).unwrap();
    let planted = DataKey::generate().unwrap();
    let (wrapped, _commitment) = wrap::wrap(&Place::of(row, Environment::Dev), &planted, &wrapper).unwrap();
    row.wrapped = Some(wrapped);
    let bytes = document.to_bytes(&keyring.authority.mac).unwrap();
    let opened = Unlocked::open(&bytes, &root, Environment::Dev, 0);
    assert!(matches!(opened, Err(KeyringError::Commitment(_))));
}

#[test]
fn documents_that_contradict_themselves_are_refused() {
    type Change = fn(&mut Vec<KeyRow>);
    let changes: [Change; 12] = [
        |rows| rows.clear(),
        |rows| row_of(rows, Purpose::Kek, None).state = KeyState::Deactivated,
        |rows| row_of(rows, Purpose::Kek, None).collection = Some(1),
        |rows| row_of(rows, Purpose::Kek, None).wrapped_by = Some(1),
        |rows| row_of(rows, Purpose::Data, Some(1)).collection = None,
        |rows| row_of(rows, Purpose::Data, Some(1)).wrapped_by = None,
        |rows| row_of(rows, Purpose::Data, Some(1)).wrapped_by = Some(7),
        |rows| row_of(rows, Purpose::Data, Some(1)).version = 0,
        |rows| row_of(rows, Purpose::Data, Some(1)).wrapped = None,
        |rows| row_of(rows, Purpose::Data, Some(1)).state = KeyState::Destroyed,
        |rows| row_of(rows, Purpose::Data, Some(1)).activated = None,
        |rows| {
            let twin = row_of(rows, Purpose::Data, Some(1)).clone();
            rows.push(twin);
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        assert!(matches!(open_changed(change), Err(KeyringError::Corrupt(_))), "change {number}");
    }
    let two_active = open_changed(|rows| {
        let mut twin = row_of(rows, Purpose::Data, Some(1)).clone();
        twin.id = KeyId::try_from("data-twin".to_owned()).unwrap();
        twin.version = 2;
        rows.push(twin);
    });
    assert!(matches!(two_active, Err(KeyringError::Corrupt(_))));
}

#[test]
fn an_unknown_format_or_field_is_refused() {
    let (_root, keyring) = two_collections();
    let mut document = keyring.document.clone();
    document.format = 1;
    let bytes = document.to_bytes(&keyring.authority.mac).unwrap();
    assert!(matches!(keyring.reopen(&bytes), Err(KeyringError::Corrupt(_))));
    let text = serde_json::to_string(&keyring.document).unwrap();
    assert!(Document::parse(text.as_bytes()).is_ok());
    let more = text.replacen('{', r#"{"note":1,"#, 1);
    assert!(matches!(Document::parse(more.as_bytes()), Err(KeyringError::Malformed)));
}

#[test]
fn a_collection_is_added_once_and_rotated_only_if_there() {
    let (_root, keyring) = two_collections();
    assert!(matches!(keyring.add_collection(ONE, now()), Err(KeyringError::CollectionExists(1))));
    let unknown = CollectionId(3);
    assert!(matches!(keyring.rotate_data(unknown, now()), Err(KeyringError::UnknownCollection(3))));
    assert!(keyring.active_data_key(unknown).is_none());
    assert!(keyring.active_index_key(unknown).is_none());
    assert_eq!(keyring.index_keys(unknown).count(), 0);
    assert!(keyring.data_key(ONE, 2).is_none());
}

#[test]
fn a_destroyed_key_leaves_its_row_and_is_not_opened() {
    let opened = open_changed(|rows| {
        let row = row_of(rows, Purpose::Data, Some(1));
        row.state = KeyState::Destroyed;
        row.wrapped = None;
    });
    let opened = opened.unwrap();
    assert!(opened.data_key(ONE, 1).is_none());
    assert!(opened.list().iter().any(|key| key.state == KeyState::Destroyed));
}

#[test]
fn only_states_that_may_open_are_looked_up_under() {
    for state in KeyState::ALL.into_iter().filter(|state| *state != KeyState::Destroyed) {
        let opened = open_changed(|rows| row_of(rows, Purpose::Index, Some(1)).state = state).unwrap();
        assert_eq!(opened.index_keys(ONE).count(), 1);
        // Looked up all keys or none; with this one alone only its active state has something to enter under.
        assert_eq!(opened.lookup_keys(ONE).is_ok(), state.may_protect(), "{state:?}");
        assert_eq!(opened.active_index_key(ONE).is_some(), state.may_protect(), "{state:?}");
    }
}

#[test]
fn a_stored_keyring_opens_with_the_same_keys() {
    let (root, keyring) = two_collections();
    let again = Unlocked::open(&keyring.to_bytes().unwrap(), &root, Environment::Dev, 3).unwrap();
    assert_eq!((again.epoch(), again.environment()), (3, Environment::Dev));
    assert_eq!(print_of(&again, ONE), print_of(&keyring, ONE));
    let mut sealed = Vec::new();
    keyring.active_data_key(ONE).unwrap().cipher.seal_onto(b"", b"text", &mut sealed).unwrap();
    assert!(again.active_data_key(ONE).unwrap().cipher.open(b"", &sealed).is_ok());
    assert!(again.active_data_key(TWO).unwrap().cipher.open(b"", &sealed).is_err());
}

#[test]
fn two_collections_share_no_fingerprint_of_one_card() {
    let (_root, keyring) = two_collections();
    assert_ne!(print_of(&keyring, ONE), print_of(&keyring, TWO));
}

#[test]
fn rotating_a_data_key_leaves_the_old_one_for_opening() {
    let (root, keyring) = two_collections();
    let rotated = keyring.rotate_data(ONE, now()).unwrap();
    assert_eq!(rotated.active_data_key(ONE).unwrap().version(), 2);
    assert_eq!(rotated.data_key(ONE, 1).unwrap().state(), KeyState::Deactivated);
    assert_eq!(rotated.active_data_key(TWO).unwrap().version(), 1);
    assert_eq!(rotated.epoch(), keyring.epoch() + 1);
    // The keyring it was made from is as it was: the change holds once it is stored.
    assert_eq!(keyring.active_data_key(ONE).unwrap().version(), 1);
    let again = Unlocked::open(&rotated.to_bytes().unwrap(), &root, Environment::Dev, 4).unwrap();
    assert_eq!(again.rotate_data(ONE, now()).unwrap().active_data_key(ONE).unwrap().version(), 3);
    let retired = again.list().into_iter().find(|key| key.state == KeyState::Deactivated).unwrap();
    assert_eq!((retired.version, retired.deactivated), (1, Some(now())));
}

#[test]
fn rotating_the_kek_wraps_every_key_anew_and_changes_none() {
    let (root, keyring) = two_collections();
    let keyring = keyring.rotate_data(ONE, now()).unwrap();
    let rotated = keyring.rotate_kek(now()).unwrap();
    let rotated = Unlocked::open(&rotated.to_bytes().unwrap(), &root, Environment::Dev, 5).unwrap();
    assert_eq!(print_of(&rotated, ONE), print_of(&keyring, ONE));
    let below = rotated.document.keys.iter().filter(|row| row.purpose != Purpose::Kek);
    for (row, before) in below.zip(keyring.document.keys.iter().filter(|row| row.purpose != Purpose::Kek)) {
        assert_eq!(row.wrapped_by, Some(2));
        assert_ne!(row.wrapped, before.wrapped);
        assert!(row.commitment.matches(&before.commitment));
    }
    let keks: Vec<_> = rotated.document.versions(Purpose::Kek, None).map(|row| row.state).collect();
    assert_eq!(keks, [KeyState::Deactivated, KeyState::Active]);
    assert!(rotated.add_collection(CollectionId(3), now()).is_ok());
}

#[test]
fn a_new_root_key_wraps_the_keks_anew_and_changes_no_other_key() {
    let (old, keyring) = two_collections();
    let keyring = keyring.rotate_kek(now()).unwrap();
    let new = root();
    let rotated = keyring.rotate_root(&new, 7, now()).unwrap();
    assert_eq!((rotated.epoch(), rotated.seal_generation()), (keyring.epoch() + 1, 7));
    let bytes = rotated.to_bytes().unwrap();
    assert!(matches!(Unlocked::open(&bytes, &old, Environment::Dev, 0), Err(KeyringError::NotAuthentic)));
    let opened = Unlocked::open(&bytes, &new, Environment::Dev, rotated.epoch()).unwrap();
    assert_eq!(print_of(&opened, ONE), print_of(&keyring, ONE));
    for (one, other) in keyring.document.keys.iter().zip(&opened.document.keys) {
        assert_eq!(one.id, other.id);
        assert_eq!(one.wrapped == other.wrapped, one.purpose != Purpose::Kek, "{}", one.id);
    }
    let tally = |keys: &Unlocked| keys.document.tally.clone().unwrap();
    let (before, after) = (tally(&keyring), tally(&opened));
    assert!(after.id == before.id && after.commitment.matches(&before.commitment), "the tally goes on");
    assert_ne!(after.wrapped, before.wrapped);
    // The old root key can not be made to open a key that was wrapped anew.
    let mut mixed = opened.document.clone();
    mixed.epoch += 1;
    let forged = mixed.to_bytes(&keyring.authority.mac).unwrap();
    assert!(matches!(Unlocked::open(&forged, &old, Environment::Dev, 0), Err(KeyringError::Unwrap(_))));
}

#[test]
fn a_keyring_of_an_older_version_gets_a_key_for_the_tally_once() {
    let (root, keyring) = two_collections();
    let mut older = keyring.document.clone();
    older.tally = None;
    let bytes = older.to_bytes(&keyring.authority.mac).unwrap();
    let opened = Unlocked::open(&bytes, &root, Environment::Dev, 0).unwrap();
    assert!(opened.tally().is_none());
    let next = opened.reserve(0, now()).unwrap().unwrap();
    assert!(next.tally().is_some() && next.epoch() == opened.epoch() + 1);
    assert!(next.reserve(0, now()).unwrap().is_none());
    let again = Unlocked::open(&next.to_bytes().unwrap(), &root, Environment::Dev, 0).unwrap();
    let id = |keys: &Unlocked| keys.document.tally.clone().unwrap().id;
    assert_eq!(id(&again), id(&next));
}

#[test]
fn what_is_over_stays_known_for_a_week_and_a_ceremony_for_ever() {
    let (root, keyring) = two_collections();
    let id = KeyId::draw("approval").unwrap();
    let later = |hours: i64| now() + jiff::SignedDuration::from_hours(hours);
    let closed = keyring.close(&id, later(1), now()).unwrap().sealed_by(3, now()).unwrap();
    assert!(closed.is_closed(&id) && !keyring.is_closed(&id));
    let opened = Unlocked::open(&closed.to_bytes().unwrap(), &root, Environment::Dev, 0).unwrap();
    assert!(opened.is_closed(&id) && opened.seal_generation() == 3);
    let other = KeyId::draw("approval").unwrap();
    assert!(opened.close(&other, later(100), later(168)).unwrap().is_closed(&id));
    let after = opened.close(&other, later(200), later(170)).unwrap();
    assert!(!after.is_closed(&id) && after.is_closed(&other) && after.seal_generation() == 3);
}

#[test]
fn the_listing_has_dates_and_commitments_and_no_bytes() {
    let (_root, keyring) = two_collections();
    let list = keyring.list();
    assert_eq!(list.len(), 5);
    let days = |key: &super::KeyInfo| key.cryptoperiod_end.duration_since(key.created).as_hours() / 24;
    let expected = |purpose| if purpose == Purpose::Index { 700 } else { 365 };
    for key in &list {
        assert_eq!(days(key), expected(key.purpose));
        assert_eq!(key.commitment_prefix.len(), 16);
    }
    let json = serde_json::to_string(&list).unwrap();
    for row in &keyring.document.keys {
        assert!(!json.contains(row.wrapped.as_deref().unwrap()));
    }
    assert_eq!(format!("{keyring:?}"), "Unlocked(Dev, epoch 3, 5 keys)");
}
