//! What every engine must do, whatever it is made of. Each case gets a store of its own, empty.

use cordon_card::Token;
use cordon_vault::store::{
    Claim, CollectionId, IndexEntry, Inserted, KnownCard, MAX_DOCUMENT, MAX_DOCUMENT_NAME, NewCard,
    Replacement, Store, StoreError,
};

use crate::cards::{CARDS, card, card_id, entry, record, single, token};

/// Runs all cases.
pub(crate) async fn every_case<S: Store>(fresh: &impl Fn() -> S) {
    an_empty_store_has_nothing(&fresh()).await;
    a_new_card_is_read_back_as_it_was(&fresh()).await;
    a_known_card_is_answered_with_the_token_that_won(&fresh()).await;
    answers_keep_the_order_of_the_batch(&fresh()).await;
    a_card_is_known_by_any_of_its_index_entries(&fresh()).await;
    collections_do_not_see_each_other(&fresh()).await;
    a_taken_token_is_refused_and_claims_nothing(&fresh()).await;
    many_tokens_share_one_card_id(&fresh()).await;
    a_claim_of_the_other_kind_is_known(&fresh()).await;
    the_last_token_of_a_card_takes_its_claim_with_it(&fresh()).await;
    a_deleted_card_is_gone_and_may_come_again(&fresh()).await;
    a_token_is_consumed_once(&fresh()).await;
    a_record_is_replaced_only_if_it_is_the_expected_one(&fresh()).await;
    an_index_entry_moves_to_a_new_key_version(&fresh()).await;
    single_claims_are_counted_through_an_index_rotation(&fresh()).await;
    an_index_entry_of_another_card_is_not_taken_over(&fresh()).await;
    a_row_never_loses_its_last_index_entry(&fresh()).await;
    a_scan_goes_through_the_tokens_in_order(&fresh()).await;
    a_document_changes_only_from_the_expected_version(&fresh()).await;
    documents_have_bounds(&fresh()).await;
    sequences_grow_and_stay_when_nothing_is_written(&fresh()).await;
    a_damaged_batch_is_refused_as_a_whole(&fresh()).await;
}

async fn insert<S: Store>(store: &S, cards: Vec<NewCard>) -> Vec<Inserted> {
    store.insert(cards).await.unwrap().value
}

async fn an_empty_store_has_nothing<S: Store>(store: &S) {
    assert_eq!(store.sequence(), 0);
    assert_eq!(store.find(CARDS, &[vec![entry(1, 1)], vec![]]).unwrap(), [None, None]);
    assert!(store.get(CARDS, &[token(1)]).unwrap()[0].is_none());
    assert!(store.scan(CARDS, None, 10).unwrap().is_empty());
    assert!(store.document("keyring").unwrap().is_none());
    assert_eq!(store.consume(CARDS, vec![token(1)]).await.unwrap().value, [false]);
    assert_eq!(store.delete(CARDS, vec![token(1)]).await.unwrap().value, [false]);
    assert_eq!(insert(store, Vec::new()).await, []);
    assert_eq!(store.sequence(), 0);
}

async fn a_new_card_is_read_back_as_it_was<S: Store>(store: &S) {
    let new = NewCard { index: vec![entry(1, 7), entry(2, 7)], expires_at: Some(42), ..card(7, 7) };
    assert_eq!(insert(store, vec![new]).await, [Inserted::Won]);
    let rows = store.get(CARDS, &[token(8), token(7)]).unwrap();
    assert!(rows[0].is_none());
    let row = rows[1].as_ref().unwrap();
    assert_eq!((row.collection, &row.token, row.card_id), (CARDS, &token(7), card_id(7)));
    assert!(row.index == [entry(1, 7), entry(2, 7)]);
    assert_eq!((row.claim, row.used), (Claim::Multi, false));
    assert_eq!((row.expires_at, row.created_at), (Some(42), 1_700_000_000));
    assert_eq!(row.sealed.as_bytes(), record(7).as_bytes());
}

async fn a_known_card_is_answered_with_the_token_that_won<S: Store>(store: &S) {
    assert_eq!(insert(store, vec![card(1, 1)]).await, [Inserted::Won]);
    let known = KnownCard { card_id: card_id(1), token: Some(token(1)) };
    assert_eq!(insert(store, vec![card(1, 2)]).await, [Inserted::Known(known.clone())]);
    assert!(store.get(CARDS, &[token(2)]).unwrap()[0].is_none());
    assert_eq!(store.find(CARDS, &[vec![entry(1, 1)]]).unwrap(), [Some(known)]);
}

async fn answers_keep_the_order_of_the_batch<S: Store>(store: &S) {
    insert(store, vec![card(5, 5)]).await;
    let answers = insert(store, vec![card(1, 1), card(5, 2), card(1, 3), card(3, 4), card(6, 5)]).await;
    let known = |number| Inserted::Known(KnownCard { card_id: card_id(number), token: Some(token(number)) });
    assert_eq!(answers, [Inserted::Won, known(5), known(1), Inserted::Won, Inserted::TokenTaken]);
    let found = store.find(CARDS, &[vec![entry(1, 3)], vec![entry(1, 9)], vec![entry(1, 1)]]).unwrap();
    let cards: Vec<_> = found.into_iter().map(|known| known.map(|known| known.card_id)).collect();
    assert_eq!(cards, [Some(card_id(4)), None, Some(card_id(1))]);
}

async fn a_card_is_known_by_any_of_its_index_entries<S: Store>(store: &S) {
    // Inserted before a rotation of the index key, seen again during it.
    insert(store, vec![card(1, 1)]).await;
    let during = NewCard { index: vec![entry(2, 1), entry(1, 1)], ..card(1, 2) };
    assert!(matches!(insert(store, vec![during]).await[..], [Inserted::Known(_)]));
    assert_eq!(store.find(CARDS, &[vec![entry(2, 1)]]).unwrap(), [None], "nothing was written");
    assert!(store.find(CARDS, &[vec![entry(2, 1), entry(1, 1)]]).unwrap()[0].is_some());
    // Inserted during the rotation, seen with either version.
    let during = NewCard { index: vec![entry(2, 3), entry(1, 3)], ..card(3, 3) };
    assert_eq!(insert(store, vec![during]).await, [Inserted::Won]);
    for version in [1, 2] {
        assert!(store.find(CARDS, &[vec![entry(version, 3)]]).unwrap()[0].is_some());
        let again = NewCard { index: vec![entry(version, 3)], ..card(3, 4) };
        assert!(matches!(insert(store, vec![again]).await[..], [Inserted::Known(_)]));
    }
}

async fn collections_do_not_see_each_other<S: Store>(store: &S) {
    let elsewhere = |number| NewCard { collection: CollectionId(2), ..card(1, number) };
    assert_eq!(insert(store, vec![card(1, 1), elsewhere(1)]).await, [Inserted::Won, Inserted::Won]);
    assert_eq!(store.delete(CollectionId(2), vec![token(1)]).await.unwrap().value, [true]);
    assert!(store.get(CARDS, &[token(1)]).unwrap()[0].is_some());
    assert!(store.find(CARDS, &[vec![entry(1, 1)]]).unwrap()[0].is_some());
    assert!(store.find(CollectionId(2), &[vec![entry(1, 1)]]).unwrap()[0].is_none());
    assert!(store.scan(CollectionId(2), None, 10).unwrap().is_empty());
}

async fn a_taken_token_is_refused_and_claims_nothing<S: Store>(store: &S) {
    insert(store, vec![card(1, 1)]).await;
    assert_eq!(insert(store, vec![card(2, 1)]).await, [Inserted::TokenTaken]);
    assert_eq!(store.find(CARDS, &[vec![entry(1, 2)]]).unwrap(), [None]);
    let row = store.get(CARDS, &[token(1)]).unwrap().remove(0).unwrap();
    assert!(row.index == [entry(1, 1)]);
    assert_eq!(insert(store, vec![single(3, 3, 1)]).await, [Inserted::TokenTaken]);
    assert_eq!(store.find(CARDS, &[vec![entry(1, 3)]]).unwrap(), [None]);
}

async fn many_tokens_share_one_card_id<S: Store>(store: &S) {
    assert_eq!(insert(store, vec![single(1, 50, 1)]).await, [Inserted::Won]);
    let known = KnownCard { card_id: card_id(50), token: None };
    assert_eq!(store.find(CARDS, &[vec![entry(1, 1)]]).unwrap(), [Some(known.clone())]);
    // A caller that did not know the card yet is told its id, and joins with it.
    assert_eq!(insert(store, vec![single(1, 51, 2)]).await, [Inserted::Known(known)]);
    assert!(store.get(CARDS, &[token(2)]).unwrap()[0].is_none());
    assert_eq!(insert(store, vec![single(1, 50, 2), single(1, 50, 3)]).await, [Inserted::Won, Inserted::Won]);
    let rows = store.get(CARDS, &[token(1), token(2), token(3)]).unwrap();
    assert!(rows.iter().flatten().all(|row| row.card_id == card_id(50) && row.claim == Claim::Single));
    assert_eq!(rows.iter().flatten().count(), 3);
}

async fn a_claim_of_the_other_kind_is_known<S: Store>(store: &S) {
    insert(store, vec![card(1, 1), single(2, 2, 2)]).await;
    let multi = KnownCard { card_id: card_id(1), token: Some(token(1)) };
    assert_eq!(insert(store, vec![single(1, 1, 3)]).await, [Inserted::Known(multi)]);
    let single = KnownCard { card_id: card_id(2), token: None };
    assert_eq!(insert(store, vec![card(2, 4)]).await, [Inserted::Known(single)]);
}

async fn the_last_token_of_a_card_takes_its_claim_with_it<S: Store>(store: &S) {
    insert(store, vec![single(1, 50, 1), single(1, 50, 2), single(1, 50, 3)]).await;
    // Twice the same token in one call counts once.
    assert_eq!(
        store.delete(CARDS, vec![token(2), token(2), token(1)]).await.unwrap().value,
        [true, false, true]
    );
    let known = KnownCard { card_id: card_id(50), token: None };
    assert_eq!(store.find(CARDS, &[vec![entry(1, 1)]]).unwrap(), [Some(known)]);
    assert_eq!(store.delete(CARDS, vec![token(3)]).await.unwrap().value, [true]);
    assert_eq!(store.find(CARDS, &[vec![entry(1, 1)]]).unwrap(), [None]);
    assert_eq!(insert(store, vec![single(1, 51, 4)]).await, [Inserted::Won]);
}

async fn a_deleted_card_is_gone_and_may_come_again<S: Store>(store: &S) {
    let new = || NewCard { index: vec![entry(1, 1), entry(2, 1)], ..card(1, 1) };
    insert(store, vec![new(), card(2, 2)]).await;
    let deleted = store.delete(CARDS, vec![token(9), token(1), token(1)]).await.unwrap();
    assert_eq!(deleted.value, [false, true, false]);
    assert!(store.get(CARDS, &[token(1)]).unwrap()[0].is_none());
    assert_eq!(store.find(CARDS, &[vec![entry(1, 1)], vec![entry(2, 1)]]).unwrap(), [None, None]);
    assert_eq!(store.scan(CARDS, None, 10).unwrap().len(), 1);
    assert_eq!(insert(store, vec![new()]).await, [Inserted::Won]);
    assert!(store.get(CARDS, &[token(1)]).unwrap()[0].is_some());
}

async fn a_token_is_consumed_once<S: Store>(store: &S) {
    insert(store, vec![single(1, 1, 1), card(2, 2)]).await;
    let tokens = vec![token(1), token(9), token(2), token(1)];
    assert_eq!(store.consume(CARDS, tokens).await.unwrap().value, [true, false, true, false]);
    assert_eq!(store.consume(CARDS, vec![token(1)]).await.unwrap().value, [false]);
    let row = store.get(CARDS, &[token(1)]).unwrap().remove(0).unwrap();
    assert!(row.used);
    assert_eq!(row.sealed.as_bytes(), record(1).as_bytes());
}

fn replacement(number: u64, expected: u64, sealed: u64) -> Replacement {
    Replacement {
        collection: CARDS,
        token: token(number),
        expected: record(expected),
        sealed: record(sealed),
        add_index: None,
        drop_index_version: None,
    }
}

async fn a_record_is_replaced_only_if_it_is_the_expected_one<S: Store>(store: &S) {
    insert(store, vec![card(1, 1), card(2, 2)]).await;
    store.consume(CARDS, vec![token(1)]).await.unwrap();
    let changes =
        vec![replacement(1, 1, 10), replacement(2, 9, 20), replacement(3, 3, 30), replacement(1, 1, 40)];
    assert_eq!(store.replace(changes).await.unwrap().value, [true, false, false, false]);
    let rows = store.get(CARDS, &[token(1), token(2), token(3)]).unwrap();
    let row = rows[0].as_ref().unwrap();
    assert_eq!(row.sealed.as_bytes(), record(10).as_bytes());
    assert!(row.used, "the rest of the row stays");
    assert!(row.index == [entry(1, 1)]);
    assert_eq!(rows[1].as_ref().unwrap().sealed.as_bytes(), record(2).as_bytes());
    assert!(rows[2].is_none());
}

fn reindex(number: u64, add: Option<IndexEntry>, drop: Option<u32>) -> Replacement {
    Replacement { add_index: add, drop_index_version: drop, ..replacement(number, number, number) }
}

async fn an_index_entry_moves_to_a_new_key_version<S: Store>(store: &S) {
    insert(store, vec![card(1, 1)]).await;
    let add = || reindex(1, Some(entry(2, 1)), None);
    assert_eq!(
        store.replace(vec![add(), add()]).await.unwrap().value,
        [true, true],
        "adding twice is harmless"
    );
    let known = KnownCard { card_id: card_id(1), token: Some(token(1)) };
    for version in [1, 2] {
        assert_eq!(store.find(CARDS, &[vec![entry(version, 1)]]).unwrap(), [Some(known.clone())]);
    }
    assert_eq!(store.replace(vec![reindex(1, None, Some(1))]).await.unwrap().value, [true]);
    assert_eq!(store.find(CARDS, &[vec![entry(1, 1)], vec![entry(2, 1)]]).unwrap(), [None, Some(known)]);
    // In one step, and for a version that isn't there.
    let both = reindex(1, Some(entry(3, 1)), Some(2));
    assert_eq!(store.replace(vec![both, reindex(1, None, Some(9))]).await.unwrap().value, [true, true]);
    let row = store.get(CARDS, &[token(1)]).unwrap().remove(0).unwrap();
    assert!(row.index == [entry(3, 1)]);
    // Deleting the row takes the entry it has now.
    store.delete(CARDS, vec![token(1)]).await.unwrap();
    for version in 1..=3 {
        assert_eq!(store.find(CARDS, &[vec![entry(version, 1)]]).unwrap(), [None]);
    }
}

async fn single_claims_are_counted_through_an_index_rotation<S: Store>(store: &S) {
    insert(store, vec![single(1, 50, 1), single(1, 50, 2)]).await;
    // One token comes in during the rotation, one is moved, one is not.
    let during = NewCard { index: vec![entry(2, 1), entry(1, 1)], ..single(1, 50, 3) };
    assert_eq!(insert(store, vec![during]).await, [Inserted::Won]);
    let move_one = reindex(1, Some(entry(2, 1)), Some(1));
    assert_eq!(store.replace(vec![move_one]).await.unwrap().value, [true]);
    let found = |version| store.find(CARDS, &[vec![entry(version, 1)]]).unwrap()[0].is_some();
    store.delete(CARDS, vec![token(1)]).await.unwrap();
    assert!(found(1) && found(2));
    store.delete(CARDS, vec![token(3)]).await.unwrap();
    assert!(found(1) && !found(2), "version 2 held the moved and the new token");
    store.delete(CARDS, vec![token(2)]).await.unwrap();
    assert!(!found(1) && !found(2));
}

async fn an_index_entry_of_another_card_is_not_taken_over<S: Store>(store: &S) {
    let other = NewCard { index: vec![entry(2, 1)], ..card(1, 2) };
    insert(store, vec![card(1, 1), other, single(3, 30, 3)]).await;
    for (number, add) in [(1, entry(2, 1)), (3, entry(2, 1)), (1, entry(3, 3))] {
        let taken = number == 1 && add == entry(3, 3);
        let changed = store.replace(vec![reindex(number, Some(add), Some(1))]).await.unwrap().value;
        assert_eq!(changed, [taken]);
    }
    let owner = store.find(CARDS, &[vec![entry(2, 1)]]).unwrap().remove(0).unwrap();
    assert_eq!(owner.token, Some(token(2)));
}

async fn a_row_never_loses_its_last_index_entry<S: Store>(store: &S) {
    insert(store, vec![card(1, 1)]).await;
    let refused = store.replace(vec![reindex(1, None, Some(1))]).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))));
    let conflicting = store.replace(vec![reindex(1, Some(entry(1, 2)), None)]).await;
    assert!(matches!(conflicting, Err(StoreError::Invalid(_))), "two entries of one key version");
    assert!(store.find(CARDS, &[vec![entry(1, 1)]]).unwrap()[0].is_some());
    assert!(store.find(CARDS, &[vec![entry(1, 2)]]).unwrap()[0].is_none());
}

async fn a_scan_goes_through_the_tokens_in_order<S: Store>(store: &S) {
    let mut cards: Vec<_> = (0..25).map(|number| card(number, number)).collect();
    for collection in [0, 2, u32::MAX] {
        cards.push(NewCard { collection: CollectionId(collection), ..card(1, 1) });
    }
    insert(store, cards).await;
    let mut expected: Vec<_> = (0..25).map(token).collect();
    expected.sort_by(|a, b| a.as_str().as_bytes().cmp(b.as_str().as_bytes()));
    let mut seen: Vec<Token> = Vec::new();
    loop {
        let page = store.scan(CARDS, seen.last(), 10).unwrap();
        let end = page.len() < 10;
        seen.extend(page.into_iter().map(|row| row.token));
        if end {
            break;
        }
    }
    assert_eq!(seen, expected);
    assert!(store.scan(CARDS, expected.last(), 10).unwrap().is_empty());
    assert!(store.scan(CARDS, None, 0).unwrap().is_empty());
    assert_eq!(store.scan(CollectionId(u32::MAX), None, 10).unwrap().len(), 1);
    // A cursor need not be there any more.
    store.delete(CARDS, vec![expected[3].clone()]).await.unwrap();
    assert_eq!(store.scan(CARDS, Some(&expected[3]), 1).unwrap()[0].token, expected[4]);
}

async fn a_document_changes_only_from_the_expected_version<S: Store>(store: &S) {
    let conflict = |outcome| matches!(outcome, Err(StoreError::Conflict));
    assert!(conflict(store.put_document("seal", Some(1), b"a".to_vec()).await));
    assert_eq!(store.put_document("seal", None, b"a".to_vec()).await.unwrap().value, 1);
    assert!(conflict(store.put_document("seal", None, b"b".to_vec()).await));
    assert_eq!(store.put_document("seal", Some(1), b"b".to_vec()).await.unwrap().value, 2);
    assert!(conflict(store.put_document("seal", Some(1), b"c".to_vec()).await));
    let document = store.document("seal").unwrap().unwrap();
    assert_eq!((document.version, document.bytes), (2, b"b".to_vec()));
    assert!(store.document("sea").unwrap().is_none() && store.document("seals").unwrap().is_none());
    assert_eq!(store.put_document("empty", None, Vec::new()).await.unwrap().value, 1);
    assert_eq!(store.document("empty").unwrap().unwrap().bytes, b"");
}

async fn documents_have_bounds<S: Store>(store: &S) {
    let invalid = |outcome| matches!(outcome, Err(StoreError::Invalid(_)));
    assert!(invalid(store.put_document("", None, Vec::new()).await));
    assert!(invalid(store.put_document(&"n".repeat(MAX_DOCUMENT_NAME + 1), None, Vec::new()).await));
    assert!(invalid(store.put_document("large", None, vec![0; MAX_DOCUMENT + 1]).await));
    assert!(matches!(store.document(""), Err(StoreError::Invalid(_))));
    let large = vec![7; 1 << 20];
    store.put_document("large", None, large.clone()).await.unwrap();
    assert_eq!(store.document("large").unwrap().unwrap().bytes, large);
}

async fn sequences_grow_and_stay_when_nothing_is_written<S: Store>(store: &S) {
    let first = store.insert(vec![card(1, 1)]).await.unwrap();
    assert!(first.sequence > 0);
    assert_eq!(store.sequence(), first.sequence);
    let second = store.put_document("keyring", None, b"k".to_vec()).await.unwrap();
    assert!(second.sequence > first.sequence);
    let nothing = store.delete(CARDS, vec![token(9)]).await.unwrap();
    assert_eq!((nothing.sequence, store.sequence()), (second.sequence, second.sequence));
    let third = store.consume(CARDS, vec![token(1)]).await.unwrap();
    assert!(third.sequence > second.sequence);
}

async fn a_damaged_batch_is_refused_as_a_whole<S: Store>(store: &S) {
    let nameless = NewCard { index: Vec::new(), ..card(2, 2) };
    let refused = store.insert(vec![card(1, 1), nameless]).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))));
    assert!(store.get(CARDS, &[token(1)]).unwrap()[0].is_none());
    assert_eq!(store.sequence(), 0);
}
