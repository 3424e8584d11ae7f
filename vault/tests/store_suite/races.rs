//! Many callers at once.

use std::sync::{Arc, Barrier, Mutex};

use cordon_vault::store::{FjallStore, Inserted, Store};
use tokio::task::JoinSet;

use crate::cards::{CARDS, card, card_id, token};

/// Runs `tasks` tasks on `threads` runtimes; each gets its number.
fn on_threads<F: Future<Output = ()> + Send + 'static>(
    threads: u64,
    tasks: u64,
    task: impl Fn(u64) -> F + Send + Sync,
) {
    let barrier = Barrier::new(usize::try_from(threads).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (task, barrier) = (&task, &barrier);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    let mut running = JoinSet::new();
                    for number in (thread..tasks).step_by(usize::try_from(threads).unwrap()) {
                        running.spawn(task(number));
                    }
                    barrier.wait();
                    while let Some(done) = running.join_next().await {
                        done.unwrap();
                    }
                });
            });
        }
    });
}

#[test]
fn of_64_racing_callers_exactly_one_wins_in_each_of_1000_rounds() {
    const CALLERS: u64 = 64;
    const ROUNDS: u64 = 1000;
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(FjallStore::open(dir.path(), None).unwrap());
    // What each round's callers were told: who won, and whom the others were pointed to.
    let told = Arc::new(Mutex::new(vec![(Vec::new(), Vec::new()); usize::try_from(ROUNDS).unwrap()]));
    on_threads(4, CALLERS, |caller| {
        let (store, told) = (Arc::clone(&store), Arc::clone(&told));
        async move {
            for round in 0..ROUNDS {
                let number = round * CALLERS + caller;
                let answer = store.insert(vec![card(round, number)]).await.unwrap().value.remove(0);
                let mut told = told.lock().unwrap();
                let (winners, others) = &mut told[usize::try_from(round).unwrap()];
                match answer {
                    Inserted::Won => winners.push((card_id(number), token(number))),
                    Inserted::Known(known) => others.push((known.card_id, known.token.unwrap())),
                    Inserted::TokenTaken => panic!("all tokens differ"),
                }
            }
        }
    });
    for (winners, others) in told.lock().unwrap().iter() {
        assert_eq!((winners.len(), others.len()), (1, 63));
        assert!(others.iter().all(|other| *other == winners[0]));
    }
    assert_eq!(store.scan(CARDS, None, 2000).unwrap().len(), 1000);
}

#[test]
fn a_token_is_consumed_and_a_document_changed_by_one_of_32_racing_callers() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(FjallStore::open(dir.path(), None).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for round in 0..20 {
        runtime.block_on(store.insert(vec![card(round, round)])).unwrap();
        let wins = Arc::new(Mutex::new((0, 0)));
        on_threads(2, 32, |_caller| {
            let (store, wins) = (Arc::clone(&store), Arc::clone(&wins));
            async move {
                let consumed = store.consume(CARDS, vec![token(round)]).await.unwrap().value == [true];
                let expected = if round == 0 { None } else { Some(round) };
                let changed = store.put_document("keyring", expected, vec![1]).await.is_ok();
                let mut wins = wins.lock().unwrap();
                wins.0 += u32::from(consumed);
                wins.1 += u32::from(changed);
            }
        });
        assert_eq!(*wins.lock().unwrap(), (1, 1));
    }
}
