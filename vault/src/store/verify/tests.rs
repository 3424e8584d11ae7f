//! The tally through every kind of change, and what a walk finds of changes behind the store's back.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use cordon_card::{CardId, Environment, Token};

use super::super::embedded::Embedded;
use super::super::memory::Memory;
use super::*;
use crate::fingerprint::Fingerprint;
use crate::keys::TallyKey;
use crate::record::Sealed;
use crate::store::{
    CardWrite, Claim, Followed, IndexEntry, NewCard, Refresh, Replacement, Store, StoreError,
};

const CARDS: CollectionId = CollectionId(1);

fn token(number: u8) -> Token {
    Token::opaque(Environment::Test, &[number; 17])
}

fn record(fill: u8) -> Sealed {
    let envelope = |length| [&[2, 0, 0, 0, 1][..], &vec![fill; length]].concat();
    (0..512).find_map(|length| Sealed::from_stored(&envelope(length)).ok()).unwrap()
}

fn entry(version: u32, card: u8) -> IndexEntry {
    IndexEntry { version, fingerprint: Fingerprint::from_bytes([card; 32]) }
}

fn card(number: u8, claim: Claim) -> NewCard {
    // Cards with many tokens share fingerprint and id.
    let of = if claim == Claim::Single { 200 } else { number };
    NewCard {
        collection: CARDS,
        index: vec![entry(1, of)],
        claim,
        token: token(number),
        card_id: CardId::from_bytes([of; 16]),
        expires_at: None,
        created_at: 1,
        sealed: record(number),
    }
}

/// A store whose rows are counted: three cards with one token each, and one with two.
async fn counted() -> (Memory, Embedded<Memory>, Arc<TallyMac>) {
    let memory = Memory::default();
    let mac = Arc::new(TallyMac::new(&TallyKey::generate().unwrap()));
    let store = Embedded::start(memory.clone(), None).unwrap();
    let begun = store.follow_tally(Arc::clone(&mac), None).await.unwrap();
    assert_eq!(begun.value, Followed::Begun { rows: 0 });
    let mut cards: Vec<NewCard> = (1..=3).map(|number| card(number, Claim::Multi)).collect();
    cards.extend((11..=12).map(|number| card(number, Claim::Single)));
    store.insert(cards).await.unwrap();
    (memory, store, mac)
}

fn walk(store: &Embedded<Memory>, mac: &TallyMac) -> Verification {
    verify(store.snapshot().unwrap(), mac, &AtomicU64::new(0)).unwrap()
}

#[track_caller]
fn assert_whole(store: &Embedded<Memory>, mac: &TallyMac, rows: u64) {
    let found = walk(store, mac);
    assert!(found.is_good(), "{found:?}");
    let counted = found.collections[&1];
    assert_eq!((counted.rows, counted.expected), (rows, Some(rows)));
}

/// Walks, and asserts that the walk finds something.
#[track_caller]
fn found(store: &Embedded<Memory>, mac: &TallyMac) -> (Counted, Vec<Fault>) {
    let found = walk(store, mac);
    assert!(!found.is_good(), "{found:?}");
    (found.collections.get(&1).copied().unwrap_or_default(), found.faults)
}

#[tokio::test]
async fn every_change_of_the_vault_keeps_the_tally() {
    let (_memory, store, mac) = counted().await;
    assert_whole(&store, &mac, 5);
    store.consume(CARDS, vec![token(11)]).await.unwrap();
    assert_whole(&store, &mac, 5);
    store.put_document("keyring", None, vec![1]).await.unwrap();
    assert_whole(&store, &mac, 5);
    let replace = |sealed, add_index, drop_index_version, expected| Replacement {
        collection: CARDS,
        token: token(1),
        expected: record(expected),
        sealed: record(sealed),
        add_index,
        drop_index_version,
    };
    for change in
        [replace(9, None, None, 1), replace(9, Some(entry(2, 1)), None, 9), replace(9, None, Some(1), 9)]
    {
        assert_eq!(store.replace(vec![change]).await.unwrap().value, [true]);
        assert_whole(&store, &mac, 5);
    }
    store.delete(CARDS, vec![token(1), token(12), token(99)]).await.unwrap();
    assert_whole(&store, &mac, 3);
    // A call that fails as a whole leaves nothing of it behind.
    let last_entry = Replacement { token: token(2), ..replace(9, None, Some(1), 2) };
    let changes = vec![Replacement { token: token(3), ..replace(8, Some(entry(5, 3)), None, 3) }, last_entry];
    assert!(store.replace(changes).await.is_err());
    assert_whole(&store, &mac, 3);
    store.delete(CARDS, vec![token(2), token(3), token(11)]).await.unwrap();
    assert_whole(&store, &mac, 0);
}

#[tokio::test]
async fn a_known_card_changes_as_many_pairs_and_bytes_as_a_new_one() {
    let (memory, store, _mac) = counted().await;
    let mut written = Vec::new();
    let (expected, sealed) = (record(1), record(7));
    for write in [
        CardWrite::Insert(card(4, Claim::Multi)),
        CardWrite::Refresh(Refresh { collection: CARDS, token: token(1), expected, sealed, changed: true }),
        CardWrite::Insert(card(5, Claim::Multi)),
    ] {
        memory.writes.lock().unwrap().clear();
        assert_eq!(store.write_cards(vec![write]).await.unwrap().value, [true]);
        written.push(memory.writes.lock().unwrap().clone());
    }
    assert_eq!(written[0].len(), 5, "row, index entry, mark, and both tallies");
    assert!(written.iter().all(|lengths| *lengths == written[0]), "{written:?}");
}

#[tokio::test]
async fn the_tally_goes_on_after_the_store_was_closed_and_its_key_put_away() {
    let (memory, store, mac) = counted().await;
    store.forget_tally().await.unwrap();
    assert!(matches!(store.insert(vec![card(4, Claim::Multi)]).await, Err(StoreError::Uncounted)));
    assert!(matches!(store.delete(CARDS, vec![token(1)]).await, Err(StoreError::Uncounted)));
    store.put_document("seal", None, vec![1]).await.unwrap();
    let resumed = store.follow_tally(Arc::clone(&mac), Some(1)).await.unwrap();
    assert_eq!(resumed.value, Followed::Resumed { rows: 5, restored: 0 });
    store.insert(vec![card(4, Claim::Multi)]).await.unwrap();
    assert_whole(&store, &mac, 6);
    let last = store.sequence();
    drop(store);
    let store = Embedded::start(memory, Some(last)).unwrap();
    assert!(matches!(store.delete(CARDS, vec![token(1)]).await, Err(StoreError::Uncounted)));
    store.follow_tally(Arc::clone(&mac), Some(last)).await.unwrap();
    store.delete(CARDS, vec![token(1)]).await.unwrap();
    assert_whole(&store, &mac, 5);
}

#[tokio::test]
async fn rows_of_a_store_without_a_tally_are_counted_at_first() {
    let memory = Memory::default();
    let store = Embedded::start(memory.clone(), None).unwrap();
    store.insert(vec![card(1, Claim::Multi), card(11, Claim::Single)]).await.unwrap();
    assert_eq!(memory.content.lock().unwrap()[&rows::header_key()], rows::encode_header(false));
    let mac = Arc::new(TallyMac::new(&TallyKey::generate().unwrap()));
    let begun = store.follow_tally(Arc::clone(&mac), None).await.unwrap();
    assert_eq!(begun.value, Followed::Begun { rows: 2 });
    assert_eq!(memory.content.lock().unwrap()[&rows::header_key()], rows::encode_header(true));
    assert_whole(&store, &mac, 2);
}

#[tokio::test]
async fn what_a_restore_changes_without_the_key_is_counted_with_it() {
    let (memory, store, mac) = counted().await;
    drop(store);
    let store = Embedded::start_for(memory.clone(), None, true).unwrap();
    assert!(matches!(store.insert(vec![card(4, Claim::Multi)]).await, Err(StoreError::Uncounted)));
    store.consume(CARDS, vec![token(11), token(12)]).await.unwrap();
    store.delete(CARDS, vec![token(1), token(11)]).await.unwrap();
    drop(store);
    let store = Embedded::start(memory.clone(), None).unwrap();
    assert!(!walk(&store, &mac).is_good());
    // A restore is the last thing that the audit log knows: changes beside it are somebody else's.
    let copy = Memory::default();
    *copy.content.lock().unwrap() = memory.content.lock().unwrap().clone();
    let other = Embedded::start(copy, None).unwrap();
    let refused = other.follow_tally(Arc::clone(&mac), Some(1)).await.unwrap().value;
    assert_eq!(refused, Followed::Refused("rows-changed-outside"));
    let resumed = store.follow_tally(Arc::clone(&mac), None).await.unwrap();
    assert_eq!(resumed.value, Followed::Resumed { rows: 3, restored: 3 });
    assert_whole(&store, &mac, 3);
}

#[tokio::test]
async fn a_row_that_was_taken_away_with_its_index_entry_is_missed() {
    let (memory, store, mac) = counted().await;
    let index = rows::claim_key(CARDS, &entry(1, 2));
    let row = memory.content.lock().unwrap().remove(&rows::row_key(CARDS, &token(2))).unwrap();
    let (_, faults) = found(&store, &mac);
    assert_eq!(faults, [Fault::LeadsNowhere(CARDS, token(2))]);
    let claim = memory.content.lock().unwrap().remove(&index).unwrap();
    let (counted, faults) = found(&store, &mac);
    assert_eq!((counted.rows, counted.expected, faults), (4, Some(5), Vec::new()));
    // One fewer in both tallies, without the key.
    let content = memory.content.lock().unwrap().clone();
    for of in [None, Some(CARDS)] {
        let key = rows::tally_key(of);
        let mut value = content[&key].clone();
        assert_eq!(value[16], 5);
        value[16] = 4;
        memory.content.lock().unwrap().insert(key, value);
    }
    let (counted, faults) = found(&store, &mac);
    assert_eq!((counted.rows, counted.expected, counted.as_committed), (4, Some(4), false));
    assert!(matches!(faults[..], [Fault::Tally(_)]));
    *memory.content.lock().unwrap() = content;
    memory.content.lock().unwrap().insert(rows::row_key(CARDS, &token(2)), row);
    let (_, faults) = found(&store, &mac);
    assert_eq!(faults, [Fault::Unfindable(CARDS, token(2))]);
    memory.content.lock().unwrap().insert(index, claim);
    assert_whole(&store, &mac, 5);
}

#[tokio::test]
async fn a_row_that_says_something_else_is_noticed_whatever_it_is() {
    let (memory, store, mac) = counted().await;
    store.consume(CARDS, vec![token(11)]).await.unwrap();
    let key = rows::row_key(CARDS, &token(11));
    let kept = memory.content.lock().unwrap()[&key].clone();
    let edits: [fn(&mut StoredRow<'_>); 4] = [
        |row| row.used = false,
        |row| row.created_at = 2,
        |row| row.expires_at = Some(9),
        |row| row.index[0].version = 3,
    ];
    for edit in edits {
        let mut row = rows::decode_row(&kept).unwrap();
        edit(&mut row);
        memory.content.lock().unwrap().insert(key.clone(), rows::encode_row(&row).unwrap());
        let (counted, _) = found(&store, &mac);
        assert_eq!((counted.rows, counted.expected, counted.as_committed), (5, Some(5), false));
    }
    memory.content.lock().unwrap().insert(key, kept);
    assert_whole(&store, &mac, 5);
}

#[tokio::test]
async fn an_older_tally_with_its_rows_is_not_taken_up() {
    let (memory, store, mac) = counted().await;
    let older = memory.content.lock().unwrap().clone();
    store.delete(CARDS, vec![token(1)]).await.unwrap();
    let last = store.sequence();
    drop(store);
    // Everything as it was before the deletion, and the marks of the commits since.
    for sequence in 1..=last {
        let mark = (rows::commit_key(sequence), rows::encode_commit(sequence));
        memory.content.lock().unwrap().extend([mark]);
    }
    let marks = memory.content.lock().unwrap().clone();
    let forged = older.into_iter().chain(marks.into_iter().filter(|(key, _)| rows::is_commit(key))).collect();
    *memory.content.lock().unwrap() = forged;
    let store = Embedded::start(memory.clone(), Some(last)).unwrap();
    let refused = store.follow_tally(Arc::clone(&mac), Some(last)).await.unwrap().value;
    assert_eq!(refused, Followed::Refused("tally-put-back"));
    let (_, faults) = found(&store, &mac);
    assert!(faults.contains(&Fault::Tally("it is not that of the last commit")), "{faults:?}");
    let content = memory.content.lock().unwrap().clone();
    memory.content.lock().unwrap().remove(&rows::tally_key(None));
    let gone = store.follow_tally(Arc::clone(&mac), Some(last)).await.unwrap().value;
    assert_eq!(gone, Followed::Refused("tally-gone"));
    *memory.content.lock().unwrap() = content;
    memory.content.lock().unwrap().get_mut(&rows::tally_key(Some(CARDS))).unwrap()[40] ^= 1;
    let edited = store.follow_tally(mac, None).await.unwrap().value;
    assert_eq!(edited, Followed::Refused("tally-substituted"));
}
