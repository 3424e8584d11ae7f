//! A known card is written as a new one is: as many reads, changes and bytes, in as many commits (threat B45).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use cordon_vault::store::rows::KeyRange;
use cordon_vault::store::{CardWrite, Change, Embedded, Engine, Pair, Refresh, Store, StoreError, View};

use crate::cards::{CARDS, card, entry, record, token};

/// What the engine was asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Work {
    reads: usize,
    commits: usize,
    changes: usize,
    bytes: usize,
}

/// An engine in memory that counts. Clones share everything.
#[derive(Clone, Default)]
struct Counting {
    content: Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>,
    work: Arc<Mutex<Work>>,
}

impl Engine for Counting {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.work.lock().unwrap().reads += 1;
        Ok(self.content.lock().unwrap().get(key).cloned())
    }

    fn range(&self, range: KeyRange, limit: usize) -> Result<Vec<Pair>, StoreError> {
        let content = self.content.lock().unwrap();
        Ok(content.range(range).take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn view(&self) -> View {
        let content = self.content.lock().unwrap().clone();
        let copy = content.clone();
        View {
            pairs: Box::new(content.into_iter().map(Ok)),
            lookup: Box::new(move |key| Ok(copy.get(key).cloned())),
        }
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut work = self.work.lock().unwrap();
        work.commits += 1;
        let mut content = self.content.lock().unwrap();
        for Change { key, value } in changes {
            work.changes += 1;
            work.bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            match value {
                Some(value) => content.insert(key, value),
                None => content.remove(&key),
            };
        }
        Ok(())
    }

    fn syncs(&self) -> u64 {
        0
    }

    fn bytes_on_disk(&self) -> u64 {
        0
    }
}

fn refresh(number: u64, expected: u64, sealed: u64, changed: bool) -> CardWrite {
    let (expected, sealed) = (record(expected), record(sealed));
    CardWrite::Refresh(Refresh { collection: CARDS, token: token(number), expected, sealed, changed })
}

#[tokio::test]
async fn a_known_card_costs_the_engine_what_a_new_one_does() {
    let engine = Counting::default();
    let store = Embedded::start(engine.clone(), None).unwrap();
    let mut done = Vec::new();
    for write in [
        CardWrite::Insert(card(1, 1)),
        refresh(1, 1, 1, false),
        refresh(1, 1, 2, true),
        // Another writer's record stays where this one says nothing new.
        refresh(1, 9, 3, false),
        CardWrite::Insert(card(2, 2)),
    ] {
        *engine.work.lock().unwrap() = Work::default();
        assert_eq!(store.write_cards(vec![write]).await.unwrap().value, [true]);
        done.push(*engine.work.lock().unwrap());
    }
    assert!(done.iter().all(|work| *work == done[0]), "{done:?}");
    assert_eq!((done[0].commits, done[0].changes), (1, 3), "row, index entry and the commit's mark");
    let row = store.get(CARDS, &[token(1)]).unwrap().remove(0).unwrap();
    assert_eq!(row.sealed.as_bytes(), record(2).as_bytes());
}

#[tokio::test]
async fn one_call_writes_new_and_known_cards_in_one_commit() {
    let store = Embedded::start(Counting::default(), None).unwrap();
    store.write_cards(vec![CardWrite::Insert(card(1, 1))]).await.unwrap();
    let before = store.sequence();
    let writes = vec![
        refresh(1, 1, 7, true),
        CardWrite::Insert(card(2, 2)),
        // Known by now, a taken token, a record that another writer changed, a row that is not there.
        CardWrite::Insert(card(1, 3)),
        CardWrite::Insert(card(4, 2)),
        refresh(1, 1, 8, true),
        refresh(5, 5, 5, false),
    ];
    let committed = store.write_cards(writes).await.unwrap();
    assert_eq!(committed.value, [true, true, false, false, false, false]);
    assert_eq!(committed.sequence, before + 1);
    let rows = store.get(CARDS, &[token(1), token(2), token(3)]).unwrap();
    assert_eq!(rows[0].as_ref().unwrap().sealed.as_bytes(), record(7).as_bytes());
    assert!(rows[1].is_some() && rows[2].is_none());
    assert!(store.find(CARDS, &[vec![entry(1, 1)]]).unwrap()[0].is_some());
    // A refreshed row can be found, deleted and inserted like any other.
    assert_eq!(store.delete(CARDS, vec![token(1)]).await.unwrap().value, [true]);
    assert_eq!(store.write_cards(vec![CardWrite::Insert(card(1, 9))]).await.unwrap().value, [true]);
}
