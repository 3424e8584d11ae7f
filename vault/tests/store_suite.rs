//! The stores from outside: one conformance suite for every engine, then what only a real disk can show.
//!
//! A new engine adds one line to `every_engine_keeps_the_contract` and its own `durability` and `recovery`
//! cases.

#[cfg(test)]
#[path = "store_suite/cards.rs"]
mod cards;

#[cfg(test)]
#[path = "store_suite/conformance.rs"]
mod conformance;

#[cfg(test)]
#[path = "store_suite/durability.rs"]
mod durability;

#[cfg(test)]
#[path = "store_suite/equal_work.rs"]
mod equal_work;

#[cfg(test)]
#[path = "store_suite/races.rs"]
mod races;

#[cfg(test)]
#[path = "store_suite/recovery.rs"]
mod recovery;

#[cfg(test)]
mod engines {
    use std::cell::RefCell;

    use cordon_vault::store::FjallStore;

    use crate::conformance;

    #[tokio::test]
    async fn every_engine_keeps_the_contract() {
        let kept = RefCell::new(Vec::new());
        conformance::every_case(&|| {
            let dir = tempfile::tempdir().unwrap();
            let store = FjallStore::open(dir.path(), None).unwrap();
            kept.borrow_mut().push(dir);
            store
        })
        .await;
    }
}
