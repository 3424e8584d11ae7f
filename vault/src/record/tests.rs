//! Records: each opens in its own row, under its own key, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use cordon_card::{CardId, Environment, Expiry, Pan, Token, Truncation};
use jiff::Timestamp;
use proptest::prelude::*;

use super::{
    Binding, CardData, ChangeError, Masked, Metadata, Refresh, Refreshed, Refused, SealError, Sealed,
    confirm, inspect_covered, layout, open_covered, refresh, rewrap, seal, verify,
};
use crate::keyring::{KeyState, Unfit, Unlocked};
use crate::keys::RootKey;
use crate::store::CollectionId;

const ONE: CollectionId = CollectionId(1);
const TWO: CollectionId = CollectionId(2);

/// Stands for a proof that covers every row: these tests are about what the cipher alone tells apart. What a proof covers
/// is tested in `proof`.
struct AnyRow;
const PROOF: AnyRow = AnyRow;
const INSPECTION: AnyRow = AnyRow;

fn open(keys: &Unlocked, row: &Binding<'_>, sealed: &Sealed, _any: &AnyRow) -> Result<CardData, Refused> {
    open_covered(keys, row, sealed)
}

fn inspect(
    keys: &Unlocked,
    row: &Binding<'_>,
    sealed: &Sealed,
    keep: Truncation,
    _any: &AnyRow,
) -> Result<Masked, Refused> {
    inspect_covered(keys, row, sealed, keep)
}

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

pub(super) fn keys() -> Unlocked {
    let now = now();
    let keyring = Unlocked::create(&RootKey::generate().unwrap(), Environment::Dev, now).unwrap();
    keyring.add_collection(ONE, now).unwrap().add_collection(TWO, now).unwrap()
}

fn rotated(keys: &Unlocked) -> Unlocked {
    keys.rotate_data(ONE, Timestamp::from_second(1_800_000_001).unwrap()).unwrap()
}

pub(super) fn token(n: u8) -> Token {
    Token::opaque(Environment::Dev, &[n; 17])
}

pub(super) fn binding(token: &Token) -> Binding<'_> {
    let card_id = CardId::from_bytes([5; 16]);
    Binding {
        environment: Environment::Dev,
        collection: ONE,
        token,
        card_id,
        expires_at: Some(1_900_000_000),
        created_at: 1_800_000_000,
    }
}

fn card(pan: &str, expiry: Option<&str>, metadata: &[(&str, &str)]) -> CardData {
    let pairs: BTreeMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    CardData {
        pan: Pan::parse(pan).unwrap(),
        expiry: expiry.map(|text| Expiry::parse(text).unwrap()),
        metadata: Metadata::from_pairs(&pairs).unwrap(),
        created_at: 1_800_000_000,
    }
}

pub(super) fn usual() -> CardData {
    card("4242424242424242", Some("12/31"), &[("order", "17")])
}

pub(super) fn sealed(keys: &Unlocked, binding: &Binding<'_>, card: &CardData) -> Sealed {
    seal(keys.active_data_key(binding.collection).unwrap(), binding, card, now()).unwrap()
}

#[test]
fn a_record_does_not_open_in_any_other_row() {
    let keys = keys();
    let (token, other_token) = (token(1), token(2));
    let row = binding(&token);
    let record = sealed(&keys, &row, &usual());
    assert!(open(&keys, &row, &record, &PROOF).is_ok());
    let others = [
        Binding { environment: Environment::Live, ..row },
        Binding { environment: Environment::Test, ..row },
        Binding { collection: TWO, ..row },
        Binding { collection: CollectionId(3), ..row },
        Binding { token: &other_token, ..row },
        Binding { card_id: CardId::from_bytes([6; 16]), ..row },
        Binding { expires_at: None, ..row },
        Binding { expires_at: Some(1_900_000_001), ..row },
        Binding { expires_at: Some(0), ..row },
        Binding { created_at: 1_799_999_999, ..row },
        Binding { created_at: 0, ..row },
    ];
    for other in others {
        assert_eq!(open(&keys, &other, &record, &PROOF).unwrap_err(), Refused);
        assert_eq!(inspect(&keys, &other, &record, Truncation::LastFour, &INSPECTION).unwrap_err(), Refused);
        assert_eq!(confirm(&keys, &other, &record), Err(Refused));
        assert!(matches!(rewrap(&keys, &other, &record, now()), Err(ChangeError::Refused(Refused))));
        let pan = Pan::parse("4242424242424242").unwrap();
        let brought = Refresh { pan: &pan, expiry: None, metadata: None };
        assert!(matches!(
            refresh(&keys, &other, &record, brought, now()),
            Err(ChangeError::Refused(Refused))
        ));
    }
    let never_expires = Binding { expires_at: None, ..row };
    let record = sealed(&keys, &never_expires, &usual());
    assert!(open(&keys, &never_expires, &record, &PROOF).is_ok());
    assert_eq!(open(&keys, &row, &record, &PROOF).unwrap_err(), Refused);
}

#[test]
fn a_record_opens_under_the_version_it_names_and_no_other() {
    let before = keys();
    let after = rotated(&before);
    let token = token(1);
    let row = binding(&token);
    let old = sealed(&before, &row, &usual());
    assert_eq!(old.key_version(), 1);
    assert!(open(&after, &row, &old, &PROOF).is_ok());
    for version in [0_u32, 2, 3, u32::MAX] {
        let mut bytes = old.as_bytes().to_vec();
        bytes[1..5].copy_from_slice(&version.to_be_bytes());
        let renamed = Sealed::from_stored(&bytes).unwrap();
        assert_eq!(open(&after, &row, &renamed, &PROOF).unwrap_err(), Refused, "version {version}");
    }
}

#[test]
fn a_record_of_another_keyring_does_not_open() {
    let token = token(1);
    let row = binding(&token);
    assert_eq!(open(&keys(), &row, &sealed(&keys(), &row, &usual()), &PROOF).unwrap_err(), Refused);
}

#[test]
fn a_record_cut_at_any_length_is_refused() {
    let keys = keys();
    let token = token(1);
    let row = binding(&token);
    let record = sealed(&keys, &row, &usual());
    for length in 0..record.as_bytes().len() {
        let refused = Sealed::from_stored(&record.as_bytes()[..length])
            .and_then(|cut| open(&keys, &row, &cut, &PROOF).map(|_card| ()));
        assert_eq!(refused, Err(Refused), "length {length}");
    }
    let mut longer = record.as_bytes().to_vec();
    longer.extend_from_slice(&[0; layout::METADATA_STEP]);
    let longer = Sealed::from_stored(&longer).unwrap();
    assert_eq!(open(&keys, &row, &longer, &PROOF).unwrap_err(), Refused);
}

#[test]
fn a_record_with_any_bit_changed_is_refused() {
    let keys = keys();
    let token = token(1);
    let row = binding(&token);
    let record = sealed(&keys, &row, &usual());
    for at in 0..record.as_bytes().len() {
        for bit in 0..8 {
            let mut bytes = record.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            let refused = Sealed::from_stored(&bytes)
                .and_then(|changed| open(&keys, &row, &changed, &PROOF).map(|_card| ()));
            assert_eq!(refused, Err(Refused), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn every_key_state_but_active_refuses_to_seal_and_only_two_open() {
    let token = token(1);
    let row = binding(&token);
    let mut keys = keys();
    let record = sealed(&keys, &row, &usual());
    for state in KeyState::ALL {
        keys.set_state_for_test(ONE, 1, state);
        let key = keys.data_key(ONE, 1).unwrap();
        let sealing = seal(key, &row, &usual(), now());
        assert_eq!(sealing.is_ok(), state == KeyState::Active, "{state:?}");
        if let Err(error) = sealing {
            assert!(matches!(error, SealError::Unfit(Unfit::NotActive)));
        }
        assert_eq!(open(&keys, &row, &record, &PROOF).is_ok(), state.may_open(), "{state:?}");
        let shown = inspect(&keys, &row, &record, Truncation::LastFour, &INSPECTION);
        assert_eq!(shown.is_ok(), state.may_open(), "{state:?}");
        // With no active key to move to, a rewrap fails even from a state that allows it.
        assert_eq!(rewrap(&keys, &row, &record, now()).is_ok(), state == KeyState::Active, "{state:?}");
        let rotated_keys = {
            keys.set_state_for_test(ONE, 1, KeyState::Active);
            let mut rotated_keys = rotated(&keys);
            rotated_keys.set_state_for_test(ONE, 1, state);
            rotated_keys
        };
        assert_eq!(rewrap(&rotated_keys, &row, &record, now()).is_ok(), state.may_rewrap_from(), "{state:?}");
    }
}

#[test]
fn a_refresh_by_someone_with_another_number_is_refused() {
    let keys = keys();
    let token = token(1);
    let row = binding(&token);
    let record = sealed(&keys, &row, &usual());
    let other = Pan::parse("4000056655665556").unwrap();
    let brought = Refresh { pan: &other, expiry: None, metadata: None };
    assert!(matches!(refresh(&keys, &row, &record, brought, now()), Err(ChangeError::Refused(Refused))));
}

#[test]
fn what_is_sealed_opens() {
    let keys = keys();
    let token = token(1);
    let row = binding(&token);
    let opened = open(&keys, &row, &sealed(&keys, &row, &usual()), &PROOF).unwrap();
    assert_eq!(opened.pan.expose(), "4242424242424242");
    assert_eq!(opened.expiry, Expiry::new(2031, 12).ok());
    assert_eq!(opened.metadata.pairs().collect::<Vec<_>>(), [("order", "17")]);
    assert_eq!(opened.created_at, 1_800_000_000);
}

#[test]
fn the_envelope_starts_with_format_and_version_and_never_repeats() {
    let keys = rotated(&keys());
    let token = token(1);
    let row = binding(&token);
    let (one, two) = (sealed(&keys, &row, &usual()), sealed(&keys, &row, &usual()));
    assert_eq!(one.as_bytes()[..5], [2, 0, 0, 0, 2]);
    assert_ne!(one.as_bytes()[5..29], two.as_bytes()[5..29]);
    assert_ne!(one.as_bytes()[29..], two.as_bytes()[29..]);
    assert_eq!(Sealed::from_stored(one.as_bytes()).unwrap(), one);
    assert_eq!(format!("{one:?}"), "Sealed(key version 2, 189 bytes)");
}

#[test]
fn without_metadata_every_card_takes_the_same_room_and_with_it_steps_of_64() {
    let keys = keys();
    let token = token(1);
    let row = binding(&token);
    let length = |card: &CardData| sealed(&keys, &row, card).as_bytes().len();
    let lengths: BTreeSet<usize> =
        ["4222222222222", "36227206271667", "378282246310005", "4242424242424242", "6205500000000000004"]
            .into_iter()
            .flat_map(|pan| [card(pan, None, &[]), card(pan, Some("01/29"), &[])])
            .map(|card| length(&card))
            .collect();
    assert_eq!(lengths, BTreeSet::from([125]));
    let with = |size: usize| length(&card("4242424242424242", None, &[("k", &"v".repeat(size))]));
    assert_eq!([with(0), with(59), with(60), with(1023)], [125 + 64, 125 + 64, 125 + 128, 125 + 1088]);
}

#[test]
fn nothing_of_a_card_is_legible_in_a_record() {
    let keys = keys();
    let token = token(1);
    let row = binding(&token);
    let record = sealed(&keys, &row, &card("4242424242424242", Some("12/31"), &[("name", "Legible Person")]));
    for legible in [&b"4242"[..], b"Legible", b"name"] {
        assert!(!record.as_bytes().windows(legible.len()).any(|window| window == legible));
    }
    assert_eq!(format!("{:?}", usual()), "CardData(..)");
}

#[test]
fn an_inspection_shows_the_masked_number_only() {
    let keys = keys();
    let token = token(1);
    let row = binding(&token);
    let record = sealed(&keys, &row, &usual());
    let shown = inspect(&keys, &row, &record, Truncation::LastFour, &INSPECTION).unwrap();
    assert_eq!(shown.masked.last_four().as_str(), "4242");
    assert!(!shown.masked.as_str().contains("42424242"));
    assert_eq!((shown.key_version, shown.created_at), (1, 1_800_000_000));
    assert_eq!(shown.expiry, Expiry::new(2031, 12).ok());
}

#[test]
fn a_rewrap_moves_to_the_active_key_and_keeps_the_card() {
    let keys = keys();
    let token = token(1);
    let row = binding(&token);
    let record = sealed(&keys, &row, &usual());
    let keys = rotated(&keys);
    let moved = rewrap(&keys, &row, &record, now()).unwrap();
    assert_eq!(moved.key_version(), 2);
    assert_eq!(open(&keys, &row, &moved, &PROOF).unwrap().pan.expose(), "4242424242424242");
}

#[test]
fn a_refresh_replaces_what_was_brought_and_keeps_the_rest() {
    let keys = keys();
    let token = token(1);
    let row = binding(&token);
    let record = sealed(&keys, &row, &usual());
    let pan = Pan::parse("4242424242424242").unwrap();
    let none = Refresh { pan: &pan, expiry: None, metadata: None };
    assert!(!refresh(&keys, &row, &record, none, now()).unwrap().changed);
    let same = Refresh { pan: &pan, expiry: usual().expiry, metadata: Some(usual().metadata) };
    assert!(!refresh(&keys, &row, &record, same, now()).unwrap().changed);

    let expiry = Refresh { pan: &pan, expiry: Expiry::new(2035, 1).ok(), metadata: None };
    let Refreshed { sealed: changed, changed: says_more } =
        refresh(&keys, &row, &record, expiry, now()).unwrap();
    assert!(says_more);
    let opened = open(&keys, &row, &changed, &PROOF).unwrap();
    assert_eq!(opened.expiry, Expiry::new(2035, 1).ok());
    assert_eq!(opened.metadata.pairs().count(), 1);
    assert_eq!(opened.created_at, 1_800_000_000);

    let metadata = Refresh { pan: &pan, expiry: None, metadata: Some(Metadata::none()) };
    let Refreshed { sealed: changed, changed: says_more } =
        refresh(&keys, &row, &changed, metadata, now()).unwrap();
    assert!(says_more);
    let opened = open(&keys, &row, &changed, &PROOF).unwrap();
    assert!(opened.metadata.is_empty());
    assert_eq!(opened.expiry, Expiry::new(2035, 1).ok());

    // A record under an older key moves to the active one when it is touched.
    let keys = rotated(&keys);
    let none = Refresh { pan: &pan, expiry: None, metadata: None };
    let moved = refresh(&keys, &row, &changed, none, now()).unwrap();
    assert_eq!((moved.sealed.key_version(), moved.changed), (2, true));
}

#[test]
fn a_sealed_record_is_verified_in_its_row_and_against_its_number() {
    let keys = keys();
    let (token, other) = (token(1), token(2));
    let row = binding(&token);
    let record = sealed(&keys, &row, &usual());
    let pan = usual().pan;
    assert_eq!(verify(&keys, &row, &record, &pan), Ok(()));
    assert_eq!(verify(&keys, &Binding { token: &other, ..row }, &record, &pan), Err(Refused));
    let another = Pan::parse("4000056655665556").unwrap();
    assert_eq!(verify(&keys, &row, &record, &another), Err(Refused));
}

#[test]
fn plaintexts_that_are_not_written_are_refused() {
    let good = layout::encode(&usual());
    assert!(layout::decode(&good).is_ok());
    let changes: [(usize, u8); 9] =
        [(0, 15), (0, 17), (0, 20), (1, b'5'), (17, 1), (22, 13), (22, 0), (40, 1), (111, 1)];
    for (at, value) in changes {
        let mut changed = good.to_vec();
        changed[at] = value;
        assert_eq!(layout::decode(&changed).unwrap_err(), Refused, "{value} at {at}");
    }
    for length in (0..good.len()).chain([good.len() + 1, good.len() + 64]) {
        let mut changed = good.to_vec();
        changed.resize(length, 0);
        assert_eq!(layout::decode(&changed).unwrap_err(), Refused, "length {length}");
    }
}

proptest! {
    #[test]
    fn whatever_decodes_encodes_to_the_same_bytes(
        mut bytes in proptest::collection::vec(any::<u8>(), 48..=48),
        digits in "[0-9]{15}",
        keep_random in any::<bool>(),
    ) {
        if !keep_random {
            // Mostly right places, so that some inputs get past the first checks.
            bytes.fill(0);
            bytes[0] = 16;
            bytes[1..16].copy_from_slice(digits.as_bytes());
            bytes[16] = b'0';
        }
        if let Ok(card) = layout::decode(&bytes) {
            prop_assert_eq!(&*layout::encode(&card), &bytes);
        }
    }

    /// Threat B47: whatever the card, two records without metadata have one length, a refreshed one too; with metadata
    /// the length tells the number of 64-byte steps and nothing else.
    #[test]
    fn the_length_of_a_record_tells_nothing_of_the_card(
        digits in "[1-9][0-9]{11,17}",
        month in proptest::option::of(1_u8..=12),
        value in ".{0,60}",
    ) {
        let check = (0..10_u8).map(|check| format!("{digits}{check}")).find_map(|text| Pan::parse(&text).ok());
        let Some(pan) = check else { return Ok(()) };
        let keys = keys();
        let token = token(1);
        let row = binding(&token);
        let expiry = month.and_then(|month| Expiry::new(2031, month).ok());
        let bare = CardData {
            pan: pan.duplicate(), expiry, metadata: Metadata::none(), created_at: 1_800_000_000,
        };
        let record = sealed(&keys, &row, &bare);
        prop_assert_eq!(record.as_bytes().len(), 125);
        let brought = Refresh { pan: &pan, expiry: Expiry::new(2035, 1).ok(), metadata: None };
        prop_assert_eq!(refresh(&keys, &row, &record, brought, now()).unwrap().sealed.as_bytes().len(), 125);
        let pairs = BTreeMap::from([("k".to_owned(), value.clone())]);
        let full = CardData { metadata: Metadata::from_pairs(&pairs).unwrap(), ..bare };
        let steps = (5 + value.len()).div_ceil(64);
        prop_assert_eq!(sealed(&keys, &row, &full).as_bytes().len(), 125 + 64 * steps);
    }

    #[test]
    fn arbitrary_stored_bytes_never_open(bytes in proptest::collection::vec(any::<u8>(), 0..220)) {
        let keys = keys();
        let token = token(1);
        if let Ok(record) = Sealed::from_stored(&bytes) {
            prop_assert!(open(&keys, &binding(&token), &record, &PROOF).is_err());
        }
    }
}
