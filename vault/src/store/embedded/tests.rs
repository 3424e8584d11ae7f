//! Tests of the writer and of what is checked at start, on an engine in memory that can be held and made to
//! fail.

use std::io;

use cordon_card::{CardId, Environment};

use super::super::memory::{Failure, Memory};
use super::*;
use crate::fingerprint::Fingerprint;
use crate::store::Claim;

const CARDS: CollectionId = CollectionId(1);

fn a_token(number: u8) -> Token {
    Token::opaque(Environment::Test, &[number; 17])
}

/// The shortest bytes that pass for an envelope.
fn a_record(fill: u8) -> Sealed {
    let envelope = |length| [&[2, 0, 0, 0, 1][..], &vec![fill; length]].concat();
    (0..512).find_map(|length| Sealed::from_stored(&envelope(length)).ok()).unwrap()
}

/// A card with one token. `card` decides the fingerprint, `token` everything else.
fn a_card(card: u8, token: u8) -> NewCard {
    NewCard {
        collection: CARDS,
        index: vec![IndexEntry { version: 1, fingerprint: Fingerprint::from_bytes([card; 32]) }],
        claim: Claim::Multi,
        token: a_token(token),
        card_id: CardId::from_bytes([token; 16]),
        expires_at: None,
        created_at: 1,
        sealed: a_record(token),
    }
}

fn a_store() -> (Memory, Arc<Embedded<Memory>>) {
    let memory = Memory::default();
    let store = Embedded::start(memory.clone(), None).unwrap();
    (memory, Arc::new(store))
}

type Inserting = tokio::task::JoinHandle<Result<Committed<Vec<Inserted>>, StoreError>>;

/// Submits cards without waiting for the answer.
async fn submit(store: &Arc<Embedded<Memory>>, cards: Vec<NewCard>) -> Inserting {
    let store = Arc::clone(store);
    let inserting = tokio::spawn(async move { store.insert(cards).await });
    // The test runtime has one thread: the task runs until it waits for its answer.
    tokio::task::yield_now().await;
    inserting
}

#[tokio::test]
async fn what_is_queued_during_a_commit_shares_the_next_one() {
    let (memory, store) = a_store();
    let syncs = memory.syncs();
    let (entered, let_go) = memory.hold();
    let first = submit(&store, vec![a_card(1, 1)]).await;
    entered.recv().unwrap();
    let mut others = Vec::new();
    for number in 2..=9 {
        others.push(submit(&store, vec![a_card(number, number)]).await);
    }
    assert_eq!(store.statistics().queued, 9);
    let_go.send(()).unwrap();
    assert_eq!(first.await.unwrap().unwrap(), Committed { value: vec![Inserted::Won], sequence: 1 });
    for other in others {
        assert_eq!(other.await.unwrap().unwrap(), Committed { value: vec![Inserted::Won], sequence: 2 });
    }
    assert_eq!(memory.syncs() - syncs, 2);
    let counted = store.statistics();
    assert_eq!((counted.commits, counted.operations, counted.items, counted.largest_group), (2, 9, 9, 8));
}

#[tokio::test]
async fn of_two_cards_with_one_fingerprint_in_one_group_the_first_submitted_wins() {
    let (memory, store) = a_store();
    let (entered, let_go) = memory.hold();
    let holding = submit(&store, vec![a_card(1, 1)]).await;
    entered.recv().unwrap();
    let winner = submit(&store, vec![a_card(7, 2)]).await;
    let loser = submit(&store, vec![a_card(7, 3)]).await;
    let_go.send(()).unwrap();
    holding.await.unwrap().unwrap();
    let (winner, loser) = (winner.await.unwrap().unwrap(), loser.await.unwrap().unwrap());
    assert_eq!(winner.value, [Inserted::Won]);
    let known = KnownCard { card_id: CardId::from_bytes([2; 16]), token: Some(a_token(2)) };
    assert_eq!(loser.value, [Inserted::Known(known)]);
    assert_eq!(winner.sequence, loser.sequence);
    assert!(store.get(CARDS, &[a_token(3)]).unwrap()[0].is_none());
}

#[tokio::test]
async fn a_failed_commit_is_told_to_everyone_in_it_and_closes_the_store() {
    let (memory, store) = a_store();
    let (entered, let_go) = memory.hold();
    let before = submit(&store, vec![a_card(1, 1)]).await;
    entered.recv().unwrap();
    let group = [submit(&store, vec![a_card(2, 2)]).await, submit(&store, vec![a_card(3, 3)]).await];
    let (next_entered, next_let_go) = memory.hold();
    let_go.send(()).unwrap();
    before.await.unwrap().unwrap();
    next_entered.recv().unwrap();
    let too_late = submit(&store, vec![a_card(4, 4)]).await;
    *memory.failure.lock().unwrap() = Some(Failure::Error(io::ErrorKind::Other));
    next_let_go.send(()).unwrap();
    for refused in group {
        assert!(matches!(refused.await.unwrap(), Err(StoreError::Io { during: "writing", .. })));
    }
    assert!(matches!(too_late.await.unwrap(), Err(StoreError::Closed)));
    assert!(matches!(store.insert(vec![a_card(5, 5)]).await, Err(StoreError::Closed)));
    assert!(matches!(store.put_document("seal", None, vec![1]).await, Err(StoreError::Closed)));
    assert_eq!((store.sequence(), memory.syncs()), (1, 2), "the header and the first card");
}

#[tokio::test]
async fn a_closed_store_still_reads_what_was_durable_and_nothing_else() {
    let (memory, store) = a_store();
    store.insert(vec![a_card(1, 1)]).await.unwrap();
    *memory.failure.lock().unwrap() = Some(Failure::Error(io::ErrorKind::StorageFull));
    assert!(matches!(store.insert(vec![a_card(2, 2)]).await, Err(StoreError::Full)));
    let rows = store.get(CARDS, &[a_token(1), a_token(2)]).unwrap();
    assert!(rows[0].is_some() && rows[1].is_none());
    drop(store);
    let again = Embedded::start(memory, Some(1)).unwrap();
    assert_eq!(again.insert(vec![a_card(2, 2)]).await.unwrap().value, [Inserted::Won]);
}

#[tokio::test]
async fn a_panic_in_the_engine_acknowledges_nothing_and_closes_the_store() {
    let (memory, store) = a_store();
    *memory.failure.lock().unwrap() = Some(Failure::Panic);
    assert!(matches!(store.insert(vec![a_card(1, 1)]).await, Err(StoreError::Closed)));
    assert!(matches!(store.insert(vec![a_card(2, 2)]).await, Err(StoreError::Closed)));
    assert_eq!(store.sequence(), 0);
}

#[tokio::test]
async fn a_group_that_changes_nothing_needs_no_commit() {
    let (memory, store) = a_store();
    let won = store.insert(vec![a_card(1, 1)]).await.unwrap();
    let syncs = memory.syncs();
    let known = store.insert(vec![a_card(1, 2)]).await.unwrap();
    assert!(matches!(known.value[..], [Inserted::Known(_)]));
    assert_eq!(known.sequence, won.sequence);
    assert_eq!(store.delete(CARDS, vec![a_token(9)]).await.unwrap().value, [false]);
    assert_eq!(store.insert(Vec::new()).await.unwrap().value, []);
    assert_eq!(memory.syncs(), syncs);
}

#[tokio::test]
async fn a_refused_submission_leaves_nothing_staged_and_its_neighbours_unharmed() {
    let (memory, store) = a_store();
    store.insert(vec![a_card(1, 1), a_card(2, 2)]).await.unwrap();
    let (entered, let_go) = memory.hold();
    let before = submit(&store, vec![a_card(3, 3)]).await;
    entered.recv().unwrap();
    // The second replacement would leave its row without an index entry, so the first must not be kept
    // either.
    let replacing = {
        let store = Arc::clone(&store);
        let change = |token: u8, drop_index_version| Replacement {
            collection: CARDS,
            token: a_token(token),
            expected: a_record(token),
            sealed: a_record(0x77),
            add_index: None,
            drop_index_version,
        };
        tokio::spawn(async move { store.replace(vec![change(1, None), change(2, Some(1))]).await })
    };
    tokio::task::yield_now().await;
    let neighbour = submit(&store, vec![a_card(4, 4)]).await;
    let_go.send(()).unwrap();
    before.await.unwrap().unwrap();
    assert!(matches!(replacing.await.unwrap(), Err(StoreError::Invalid(_))));
    assert_eq!(neighbour.await.unwrap().unwrap().value, [Inserted::Won]);
    let rows = store.get(CARDS, &[a_token(1), a_token(2)]).unwrap();
    for (row, number) in rows.iter().zip(1..) {
        assert_eq!(row.as_ref().unwrap().sealed.as_bytes(), a_record(number).as_bytes());
    }
    let entry = a_card(2, 2).index;
    assert!(store.find(CARDS, &[entry]).unwrap()[0].is_some());
}

#[tokio::test]
async fn a_caller_that_stops_waiting_does_not_disturb_the_others() {
    let (memory, store) = a_store();
    let (entered, let_go) = memory.hold();
    let before = submit(&store, vec![a_card(1, 1)]).await;
    entered.recv().unwrap();
    let gone = submit(&store, vec![a_card(2, 2)]).await;
    let there = submit(&store, vec![a_card(3, 3)]).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    let_go.send(()).unwrap();
    before.await.unwrap().unwrap();
    assert_eq!(there.await.unwrap().unwrap().value, [Inserted::Won]);
    assert_eq!(store.statistics().queued, 0);
}

#[tokio::test]
async fn dropping_the_store_writes_what_was_submitted() {
    let (memory, store) = a_store();
    let (entered, let_go) = memory.hold();
    let first = submit(&store, vec![a_card(1, 1)]).await;
    entered.recv().unwrap();
    let second = submit(&store, vec![a_card(2, 2)]).await;
    // Aborting drops the tasks' handles of the store, so that the last one is ours.
    for task in [first, second] {
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }
    let_go.send(()).unwrap();
    drop(Arc::into_inner(store).unwrap());
    let again = Embedded::start(memory, Some(2)).unwrap();
    assert!(again.get(CARDS, &[a_token(1), a_token(2)]).unwrap().iter().all(Option::is_some));
}

#[tokio::test]
async fn a_card_out_of_bounds_is_refused_before_it_is_queued() {
    let (memory, store) = a_store();
    let syncs = memory.syncs();
    let mut none = a_card(1, 1);
    none.index.clear();
    let mut twice = a_card(1, 1);
    twice.index = vec![twice.index[0]; 2];
    let mut many = a_card(1, 1);
    many.index = (0..5).map(|version| IndexEntry { version, ..many.index[0] }).collect();
    for card in [none, twice, many] {
        let refused = store.insert(vec![a_card(2, 2), card]).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))));
    }
    assert_eq!((store.sequence(), memory.syncs()), (0, syncs));
}

#[test]
fn a_store_behind_the_audit_log_is_refused_and_left_as_it_is() {
    let memory = Memory::default();
    let refused = Embedded::start(memory.clone(), Some(3)).unwrap_err();
    assert!(matches!(refused, StoreError::Behind { store: 0, audit: 3 }));
    assert!(memory.content.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_missing_commit_in_the_middle_is_refused() {
    let (memory, store) = a_store();
    for number in 1..=5 {
        store.insert(vec![a_card(number, number)]).await.unwrap();
    }
    drop(store);
    Embedded::start(memory.clone(), Some(5)).unwrap();
    memory.content.lock().unwrap().remove(&rows::commit_key(3)).unwrap();
    let refused = Embedded::start(memory, Some(5)).unwrap_err();
    assert!(matches!(refused, StoreError::Corrupt("commits are missing from the middle")));
}

#[tokio::test]
async fn the_ring_of_commit_marks_goes_around() {
    let memory = Memory::default();
    let last = rows::COMMIT_MARKS * 2 + 5;
    let fill = |missing: Option<u64>| {
        let mut content = memory.content.lock().unwrap();
        content.clear();
        content.insert(rows::header_key(), rows::encode_header(false));
        for sequence in (1..=last).filter(|sequence| Some(*sequence) != missing) {
            content.insert(rows::commit_key(sequence), rows::encode_commit(sequence));
        }
    };
    fill(None);
    let store = Embedded::start(memory.clone(), Some(last)).unwrap();
    assert_eq!(store.insert(vec![a_card(1, 1)]).await.unwrap().sequence, last + 1);
    drop(store);
    assert_eq!(Embedded::start(memory.clone(), Some(last + 1)).unwrap().sequence(), last + 1);
    // A lost commit leaves the mark of the one a whole ring before it.
    fill(Some(last - 9));
    let refused = Embedded::start(memory.clone(), Some(last)).unwrap_err();
    assert!(matches!(refused, StoreError::Corrupt(_)));
}

#[tokio::test]
async fn a_store_of_another_layout_or_without_a_header_is_refused() {
    let (memory, store) = a_store();
    store.insert(vec![a_card(1, 1)]).await.unwrap();
    drop(store);
    memory.content.lock().unwrap().insert(rows::header_key(), vec![3]);
    assert!(matches!(Embedded::start(memory.clone(), None), Err(StoreError::Corrupt(_))));
    memory.content.lock().unwrap().remove(&rows::header_key());
    assert!(matches!(Embedded::start(memory, None), Err(StoreError::Corrupt(_))));
}

#[tokio::test]
async fn a_damaged_row_fails_its_readers_only() {
    let (memory, store) = a_store();
    store.insert(vec![a_card(1, 1), a_card(2, 2)]).await.unwrap();
    let key = rows::row_key(CARDS, &a_token(1));
    memory.content.lock().unwrap().get_mut(&key).unwrap().pop();
    assert!(matches!(store.get(CARDS, &[a_token(1)]), Err(StoreError::Corrupt(_))));
    assert!(matches!(store.consume(CARDS, vec![a_token(1)]).await, Err(StoreError::Corrupt(_))));
    assert_eq!(store.consume(CARDS, vec![a_token(2)]).await.unwrap().value, [true]);
    // A stored record that is no envelope.
    let mut content = memory.content.lock().unwrap();
    let value = content.get_mut(&key).unwrap();
    let row = rows::encode_row(&rows::StoredRow {
        card_id: CardId::from_bytes([1; 16]),
        claim: Claim::Multi,
        used: false,
        expires_at: None,
        created_at: 1,
        index: a_card(1, 1).index,
        sealed: b"plain",
    });
    *value = row.unwrap();
    drop(content);
    assert!(matches!(store.get(CARDS, &[a_token(1)]), Err(StoreError::Corrupt(_))));
}

#[tokio::test]
async fn a_call_larger_than_the_queue_is_still_served() {
    let (_memory, store) = a_store();
    let tokens = vec![a_token(1); 40_000];
    assert_eq!(store.consume(CARDS, tokens).await.unwrap().value.len(), 40_000);
    assert_eq!(store.writer.statistics().queued, 0);
}
