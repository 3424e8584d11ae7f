//! Tests of the byte layout: known bytes, properties, and each way to be damaged.

use cordon_card::Environment;
use proptest::prelude::*;

use super::*;

fn a_token() -> Token {
    Token::opaque(Environment::Test, &[0x5a; 17])
}

fn an_entry(version: u32, fill: u8) -> IndexEntry {
    IndexEntry { version, fingerprint: Fingerprint::from_bytes([fill; 32]) }
}

fn a_row(sealed: &[u8]) -> StoredRow<'_> {
    StoredRow {
        card_id: CardId::from_bytes([0xcc; 16]),
        claim: Claim::Single,
        used: false,
        expires_at: Some(0x0102_0304_0506_0708),
        created_at: 9,
        index: vec![an_entry(7, 0xaa), an_entry(8, 0xbb)],
        sealed,
    }
}

fn same(a: &StoredRow<'_>, b: &StoredRow<'_>) -> bool {
    (a.card_id, a.claim, a.used, a.expires_at, a.created_at, &a.index, a.sealed)
        == (b.card_id, b.claim, b.used, b.expires_at, b.created_at, &b.index, b.sealed)
}

/// Asserts that no cut and no longer version of a value is read.
fn assert_exact<T>(value: &[u8], decode: impl Fn(&[u8]) -> Result<T, StoreError>) {
    assert!(decode(value).is_ok());
    for end in 0..value.len() {
        assert!(matches!(decode(&value[..end]), Err(StoreError::Corrupt(_))), "cut at {end}");
    }
    let longer = [value, &[0]].concat();
    assert!(matches!(decode(&longer), Err(StoreError::Corrupt(_))), "one byte too many");
    let mut other_format = value.to_vec();
    other_format[0] ^= 6;
    assert!(matches!(decode(&other_format), Err(StoreError::Corrupt(_))), "another format version");
}

#[test]
fn a_row_has_the_documented_bytes() {
    let expected = [
        vec![1, 0b101],
        vec![0xcc; 16],
        vec![0, 0, 0, 0, 0, 0, 0, 9],
        vec![1, 2, 3, 4, 5, 6, 7, 8],
        vec![2],
        vec![0, 0, 0, 7],
        vec![0xaa; 32],
        vec![0, 0, 0, 8],
        vec![0xbb; 32],
        vec![0, 0, 0, 3],
        b"xyz".to_vec(),
    ]
    .concat();
    assert_eq!(encode_row(&a_row(b"xyz")).unwrap(), expected);
    assert!(same(&decode_row(&expected).unwrap(), &a_row(b"xyz")));
}

#[test]
fn an_index_entry_has_the_documented_bytes() {
    let card_id = CardId::from_bytes([0xcc; 16]);
    let token = a_token();
    let text = token.as_str().as_bytes();
    let multi = encode_claim(&StoredClaim::Multi { card_id, token: token.clone() }).unwrap();
    let length = u8::try_from(text.len()).unwrap();
    assert_eq!(multi, [&[1, 0][..], &[0xcc; 16], &[length], text].concat());
    let single = encode_claim(&StoredClaim::Single { card_id, count: 258 }).unwrap();
    assert_eq!(single, [&[1, 1][..], &[0xcc; 16], &[0, 0, 0, 0, 0, 0, 1, 2]].concat());
}

#[test]
fn documents_marks_and_the_header_have_the_documented_bytes() {
    let document = encode_document(3, b"ab").unwrap();
    assert_eq!(document, [&[1][..], &[0, 0, 0, 0, 0, 0, 0, 3], &[0, 0, 0, 2], b"ab"].concat());
    assert_eq!(encode_commit(258), [1, 0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!((encode_header(false), encode_header(true)), (vec![1], vec![2]));
}

#[test]
fn keys_have_the_documented_bytes() {
    let token = a_token();
    let collection = CollectionId(0x0102_0304);
    assert_eq!(header_key(), [0]);
    assert_eq!(commit_key(0x0001_0203), [1, 2, 3]);
    assert_eq!(row_key(collection, &token), [&[2, 1, 2, 3, 4][..], token.as_str().as_bytes()].concat());
    let claim = claim_key(collection, &an_entry(5, 0xaa));
    assert_eq!(claim, [&[3, 1, 2, 3, 4, 0, 0, 0, 5][..], &[0xaa; 32]].concat());
    assert_eq!(document_key("seal").unwrap(), b"\x04seal");
}

#[test]
fn a_cut_or_longer_value_is_corrupt_whatever_its_kind() {
    let card_id = CardId::from_bytes([1; 16]);
    assert_exact(&encode_row(&a_row(&[9; 40])).unwrap(), |value| decode_row(value).map(|_| ()));
    let multi = StoredClaim::Multi { card_id, token: a_token() };
    assert_exact(&encode_claim(&multi).unwrap(), decode_claim);
    assert_exact(&encode_claim(&StoredClaim::Single { card_id, count: 2 }).unwrap(), decode_claim);
    assert_exact(&encode_document(1, b"content").unwrap(), decode_document);
    assert_exact(&encode_commit(77), |value| decode_commit(&commit_key(77), value));
    assert_exact(&encode_header(false), check_header);
}

#[test]
fn unknown_flags_and_a_hidden_expiry_are_corrupt() {
    let mut row = encode_row(&a_row(b"x")).unwrap();
    row[1] |= 8;
    assert!(decode_row(&row).is_err());
    row[1] = 1; // Says that there is no expiry, but the field is not zero.
    assert!(decode_row(&row).is_err());
}

#[test]
fn a_row_without_an_index_entry_is_neither_written_nor_read() {
    let mut none = a_row(b"x");
    none.index.clear();
    assert!(matches!(encode_row(&none), Err(StoreError::Invalid(_))));
    let mut row = encode_row(&a_row(b"x")).unwrap();
    row[34] = 0;
    assert!(matches!(decode_row(&row), Err(StoreError::Corrupt(_))));
}

#[test]
fn too_long_a_record_or_document_is_not_written() {
    let long = vec![0; MAX_SEALED + 1];
    assert!(matches!(encode_row(&a_row(&long)), Err(StoreError::Invalid(_))));
    assert!(encode_row(&a_row(&long[1..])).is_ok());
    let long = vec![0; MAX_DOCUMENT + 1];
    assert!(matches!(encode_document(1, &long), Err(StoreError::Invalid(_))));
    assert!(encode_document(1, &long[1..]).is_ok());
}

#[test]
fn a_document_name_has_bounds() {
    assert!(matches!(document_key(""), Err(StoreError::Invalid(_))));
    assert!(matches!(document_key(&"n".repeat(MAX_DOCUMENT_NAME + 1)), Err(StoreError::Invalid(_))));
    assert!(document_key(&"n".repeat(MAX_DOCUMENT_NAME)).is_ok());
}

#[test]
fn a_claim_of_no_rows_and_a_document_of_version_zero_are_corrupt() {
    let nobody = StoredClaim::Single { card_id: CardId::from_bytes([1; 16]), count: 0 };
    assert!(decode_claim(&encode_claim(&nobody).unwrap()).is_err());
    assert!(decode_document(&encode_document(0, b"x").unwrap()).is_err());
}

#[test]
fn a_commit_mark_under_another_commits_key_is_corrupt() {
    assert!(decode_commit(&commit_key(5), &encode_commit(5)).is_ok());
    assert!(decode_commit(&commit_key(5), &encode_commit(5 + COMMIT_MARKS)).is_ok());
    assert!(decode_commit(&commit_key(5), &encode_commit(6)).is_err());
    assert!(decode_commit(&commit_key(0), &encode_commit(0)).is_err());
}

#[test]
fn a_collections_range_holds_its_rows_and_nothing_else() {
    use std::ops::RangeBounds;
    let token = a_token();
    for collection in [CollectionId(0), CollectionId(255), CollectionId(u32::MAX)] {
        let range = row_range(collection, None);
        assert!(range.contains(&row_key(collection, &token)));
        assert!(!range.contains(&claim_key(collection, &an_entry(1, 1))));
        assert!(!range.contains(&row_key(CollectionId(collection.0.wrapping_add(1)), &token)));
        assert!(!row_range(collection, Some(&token)).contains(&row_key(collection, &token)));
    }
}

#[test]
fn debug_shows_neither_a_record_nor_a_fingerprint() {
    let text = format!("{:?} {:?}", a_row(b"sealed-bytes"), an_entry(1, 0xaa));
    assert!(!text.contains("sealed-bytes") && !text.contains("170"), "{text}");
}

fn entries() -> impl Strategy<Value = Vec<IndexEntry>> {
    let entry = (any::<u32>(), any::<[u8; 32]>());
    prop::collection::vec(entry, 1..=MAX_INDEX_ENTRIES).prop_map(|entries| {
        let entry = |(version, bytes)| IndexEntry { version, fingerprint: Fingerprint::from_bytes(bytes) };
        entries.into_iter().map(entry).collect()
    })
}

proptest! {
    #[test]
    fn any_row_is_read_back_as_it_was(
        (card_id, single, used) in any::<([u8; 16], bool, bool)>(),
        (expires_at, created_at) in any::<(Option<u64>, u64)>(),
        index in entries(),
        sealed in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let row = StoredRow {
            card_id: CardId::from_bytes(card_id),
            claim: if single { Claim::Single } else { Claim::Multi },
            used, expires_at, created_at, index,
            sealed: &sealed,
        };
        let bytes = encode_row(&row).unwrap();
        prop_assert!(same(&decode_row(&bytes).unwrap(), &row));
        for end in 0..bytes.len() {
            prop_assert!(decode_row(&bytes[..end]).is_err(), "cut at {}", end);
        }
    }

    #[test]
    fn any_index_entry_is_read_back_as_it_was(
        (card_id, entropy, count) in any::<([u8; 16], [u8; 17], u64)>(),
    ) {
        let card_id = CardId::from_bytes(card_id);
        let token = Token::opaque(Environment::Live, &entropy);
        let single = StoredClaim::Single { card_id, count: count.max(1) };
        for claim in [StoredClaim::Multi { card_id, token }, single] {
            prop_assert_eq!(decode_claim(&encode_claim(&claim).unwrap()).unwrap(), claim);
        }
    }

    #[test]
    fn any_row_key_gives_its_token_back((collection, entropy) in any::<(u32, [u8; 17])>()) {
        let token = Token::opaque(Environment::Dev, &entropy);
        let read = row_token(&row_key(CollectionId(collection), &token)).unwrap();
        prop_assert_eq!(read, (CollectionId(collection), token));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic_or_read_what_was_not_written(
        bytes in prop::collection::vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..200),
    ) {
        if let Ok(row) = decode_row(&bytes) {
            prop_assert_eq!(&encode_row(&row).unwrap(), &bytes);
        }
        if let Ok(claim) = decode_claim(&bytes) {
            prop_assert_eq!(&encode_claim(&claim).unwrap(), &bytes);
        }
        if let Ok(document) = decode_document(&bytes) {
            prop_assert_eq!(&encode_document(document.version, &document.bytes).unwrap(), &bytes);
        }
    }
}
