//! Budgets, cryptoperiods and states: each limit one before, at and one after it, and every change of state.

use std::sync::Arc;
use std::thread;

use jiff::{SignedDuration, Timestamp};

use super::{ONE, TWO, now, open_changed, row_of, two_collections};
use crate::keyring::{
    BLOCK, DATA_BUDGET, GRACE, KEK_BUDGET, KeyState, KeyringError, Purpose, Unfit, Unlocked,
};
use crate::store::CollectionId;

fn spend(keys: &Unlocked, collection: CollectionId) -> Result<(), Unfit> {
    keys.active_data_key(collection).unwrap().spend(now())
}

fn uses(keys: &Unlocked, purpose: Purpose, version: u32) -> u64 {
    let is_meant = |key: &&crate::keyring::KeyInfo| (key.purpose, key.version) == (purpose, version);
    keys.list().iter().find(is_meant).unwrap().uses
}

/// A stored keyring in which the first collection's data key has been used so often.
fn used(uses: u64) -> Unlocked {
    open_changed(|rows| row_of(rows, Purpose::Data, Some(1)).uses = uses).unwrap()
}

#[test]
fn a_new_key_has_its_first_block_and_not_one_use_more() {
    let (_root, keys) = two_collections();
    let keys = Arc::new(keys);
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let keys = Arc::clone(&keys);
            thread::spawn(move || (0..BLOCK / 4).all(|_| spend(&keys, ONE).is_ok()))
        })
        .collect();
    assert!(callers.into_iter().all(|caller| caller.join().unwrap()));
    assert_eq!(spend(&keys, ONE), Err(Unfit::Spent));
    assert_eq!(spend(&keys, TWO), Ok(()), "each key has a budget of its own");
}

#[test]
fn a_reservation_counts_once_it_is_durable_and_a_crash_loses_uses_and_never_finds_any() {
    let (root, keys) = two_collections();
    let stored = keys.to_bytes().unwrap();
    let after_crash = Unlocked::open(&stored, &root, keys.environment(), 0).unwrap();
    assert_eq!(spend(&after_crash, ONE), Err(Unfit::Spent), "the block of the process before is gone");
    let next = after_crash.reserve(1, now()).unwrap().unwrap();
    assert_eq!(spend(&after_crash, ONE), Err(Unfit::Spent), "not durable yet");
    let bytes = next.to_bytes().unwrap();
    let next = next.made_durable();
    assert_eq!(spend(&next, ONE), Ok(()));
    assert_eq!(spend(&after_crash, ONE), Ok(()), "an earlier view draws from the same block");
    assert!(next.reserve(1, now()).unwrap().is_none(), "enough is left");
    // Crash between reservation and use: the block counts as used.
    let again = Unlocked::open(&bytes, &root, keys.environment(), 0).unwrap();
    assert_eq!(uses(&again, Purpose::Data, 1), 2 * BLOCK);
    assert_eq!(spend(&again, ONE), Err(Unfit::Spent));
}

#[test]
fn two_processes_share_one_budget() {
    let (root, keys) = two_collections();
    let open = |bytes: &[u8]| Unlocked::open(bytes, &root, keys.environment(), 0).unwrap();
    let stored = keys.to_bytes().unwrap();
    let (one, two) = (open(&stored), open(&stored));
    let one = one.reserve(1, now()).unwrap().unwrap();
    // The second finds the store changed, reads it again, and reserves after the first.
    let two = two.reopen(&one.to_bytes().unwrap()).unwrap();
    assert_eq!(spend(&two, ONE), Err(Unfit::Spent), "a block is its reserver's");
    let two = two.reserve(1, now()).unwrap().unwrap();
    assert_eq!(uses(&two, Purpose::Data, 1), 3 * BLOCK);
}

#[test]
fn the_last_use_of_a_data_key_is_the_last() {
    let keys = used(DATA_BUDGET - 1);
    let keys = keys.reserve(1, now()).unwrap().unwrap().made_durable();
    assert_eq!(uses(&keys, Purpose::Data, 1), DATA_BUDGET);
    assert_eq!(spend(&keys, ONE), Ok(()));
    assert_eq!(spend(&keys, ONE), Err(Unfit::Spent));
    // The other collection's key still gets its block, this one none.
    assert!(keys.has_fewer_uses_than(1));
    assert!(keys.reserve(1, now()).unwrap().is_none());
    let rotated = keys.rotate_data(ONE, now()).unwrap();
    assert_eq!(spend(&rotated, ONE), Ok(()));
    let over = open_changed(|rows| row_of(rows, Purpose::Data, Some(1)).uses = DATA_BUDGET + 1);
    assert!(matches!(over, Err(KeyringError::Corrupt(_))));
}

#[test]
fn wrapping_counts_uses_of_the_key_encryption_key_and_ends_with_its_budget() {
    let (_root, keys) = two_collections();
    assert_eq!(uses(&keys, Purpose::Kek, 1), 4);
    assert_eq!(uses(&keys.rotate_kek(now()).unwrap(), Purpose::Kek, 2), 4);
    let keys = open_changed(|rows| row_of(rows, Purpose::Kek, None).uses = KEK_BUDGET - 1).unwrap();
    let keys = keys.rotate_data(ONE, now()).unwrap();
    assert!(matches!(keys.rotate_data(ONE, now()), Err(KeyringError::Kek(Unfit::Spent))));
    let keys = keys.rotate_kek(now()).unwrap();
    assert!(keys.rotate_data(ONE, now()).is_ok());
}

#[test]
fn a_cryptoperiod_ends_after_its_grace_to_the_second() {
    let (_root, keys) = two_collections();
    let second = SignedDuration::from_secs(1);
    for (days, is_index) in [(365, false), (700, true)] {
        let end = now() + SignedDuration::from_hours(24 * days);
        let fit = |at: Timestamp| match is_index {
            true => keys.active_index_key(ONE).unwrap().may_enter(at),
            false => keys.active_data_key(ONE).unwrap().spend(at),
        };
        for at in [end - second, end, end + second, end + GRACE - second, end + GRACE] {
            assert_eq!(fit(at), Ok(()), "{at}");
        }
        assert_eq!(fit(end + GRACE + second), Err(Unfit::PeriodOver));
        assert!(end + GRACE <= now() + SignedDuration::from_hours(24 * 730), "two years at most");
    }
    let over = now() + SignedDuration::from_hours(24 * 365) + GRACE + second;
    assert!(matches!(keys.rotate_data(ONE, over), Err(KeyringError::Kek(Unfit::PeriodOver))));
    assert!(keys.rotate_kek(over).unwrap().rotate_data(ONE, over).is_ok());
    assert!(keys.lookup_keys(ONE).is_ok(), "known cards are found for as long as the key is there");
}

#[test]
fn a_key_is_near_a_limit_from_80_percent_on() {
    let (_root, keys) = two_collections();
    let data = keys.list().into_iter().find(|key| key.purpose == Purpose::Data).unwrap();
    let from = now() + SignedDuration::from_hours(24 * 365 * 4 / 5);
    assert!(!data.is_near_a_limit(from - SignedDuration::from_secs(1)));
    assert!(data.is_near_a_limit(from));
    for (uses, near) in [(DATA_BUDGET / 5 * 4 - 1, false), (DATA_BUDGET / 5 * 4, true)] {
        let key = crate::keyring::KeyInfo { uses, ..data.clone() };
        assert_eq!(key.is_near_a_limit(now()), near);
    }
    assert_eq!(data.refused_after(), data.cryptoperiod_end + GRACE);
}

#[test]
fn a_keyring_is_never_older_than_the_one_before() {
    let (_root, keys) = two_collections();
    let back = now() - SignedDuration::from_hours(1);
    assert_eq!(keys.rotate_data(ONE, back).unwrap().as_of(), now());
    let on = now() + SignedDuration::from_hours(1);
    assert_eq!(keys.rotate_data(ONE, on).unwrap().as_of(), on);
}

#[test]
fn every_change_of_state_is_made_or_refused_as_the_matrix_says() {
    for from in KeyState::ALL {
        let keys = open_changed(|rows| {
            let row = row_of(rows, Purpose::Data, Some(1));
            row.state = from;
            if from == KeyState::Destroyed {
                row.wrapped = None;
            }
        })
        .unwrap();
        for to in KeyState::ALL {
            let changed = match to {
                KeyState::Destroyed => keys.destroy(Purpose::Data, Some(ONE), 1, now()),
                _ => keys.change_state(Purpose::Data, Some(ONE), 1, to, now()),
            };
            assert_eq!(changed.is_ok(), from.may_become(to), "{from:?} to {to:?}");
            if let Ok(changed) = changed {
                let key = changed.list().into_iter().find(|key| key.purpose == Purpose::Data).unwrap();
                assert_eq!((key.state, key.since), (to, now()));
            }
        }
    }
}

#[test]
fn two_versions_are_never_active_and_the_kek_never_missing() {
    let (_root, keys) = two_collections();
    let suspended = keys.change_state(Purpose::Data, Some(ONE), 1, KeyState::Suspended, now()).unwrap();
    assert!(suspended.active_data_key(ONE).is_none());
    let rotated = suspended.rotate_data(ONE, now()).unwrap();
    assert_eq!(rotated.active_data_key(ONE).unwrap().version(), 2);
    let resumed = rotated.change_state(Purpose::Data, Some(ONE), 1, KeyState::Active, now());
    assert!(matches!(resumed, Err(KeyringError::InUse)));
    assert!(rotated.change_state(Purpose::Data, Some(ONE), 1, KeyState::Deactivated, now()).is_ok());
    for to in [KeyState::Suspended, KeyState::Compromised] {
        let changed = keys.change_state(Purpose::Kek, None, 1, to, now());
        assert!(matches!(changed, Err(KeyringError::InUse)));
    }
    let rotated = keys.rotate_kek(now()).unwrap();
    assert!(rotated.change_state(Purpose::Kek, None, 1, KeyState::Compromised, now()).is_ok());
    let missing = keys.change_state(Purpose::Data, Some(ONE), 9, KeyState::Suspended, now());
    assert!(matches!(missing, Err(KeyringError::NoSuchKey)));
}

#[test]
fn cards_are_looked_up_under_every_index_key_or_under_none() {
    let (_root, keys) = two_collections();
    let suspended = keys.change_state(Purpose::Index, Some(ONE), 1, KeyState::Suspended, now()).unwrap();
    assert!(suspended.lookup_keys(ONE).is_err());
    assert!(matches!(suspended.rotate_index(ONE, now()), Err(KeyringError::Suspended(1))));
    let rotated = keys.rotate_index(ONE, now()).unwrap();
    for (state, count) in [(KeyState::Deactivated, Some(2)), (KeyState::Compromised, Some(2))] {
        let keys = match state {
            KeyState::Compromised => {
                rotated.change_state(Purpose::Index, Some(ONE), 1, state, now()).unwrap()
            }
            _ => rotated.reopen(&rotated.to_bytes().unwrap()).unwrap(),
        };
        assert_eq!(keys.lookup_keys(ONE).ok().map(Iterator::count), count, "{state:?}");
    }
    let suspended = rotated.change_state(Purpose::Index, Some(ONE), 2, KeyState::Suspended, now()).unwrap();
    assert!(suspended.lookup_keys(ONE).is_err(), "a new card would be entered under the older key only");
}
