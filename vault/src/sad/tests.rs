//! Held verification codes: given out once, in time, and never more than fit.

use std::time::Duration;

use cordon_card::{Cvv, Environment, Token};
use cordon_daemon::clock::{Clock, ManualClock};
use jiff::Timestamp;

use super::{Absent, DEFAULT_HOLD, HoldError, Holds, MAX_HOLD};
use crate::store::CollectionId;

const C: CollectionId = CollectionId(1);
const START: Duration = Duration::from_secs(1_000);

fn token(n: u8) -> Token {
    Token::opaque(Environment::Dev, &[n; 17])
}

fn cvv(text: &str) -> Cvv {
    Cvv::parse(text).unwrap()
}

fn holds(capacity: usize) -> Holds {
    Holds::new(DEFAULT_HOLD, capacity).unwrap()
}

#[test]
fn a_code_is_never_given_out_twice() {
    let mut holds = holds(10);
    holds.hold(C, &token(1), &cvv("123"), START).unwrap();
    assert_eq!(holds.take(C, &token(1), START).unwrap().expose(), "123");
    assert_eq!(holds.take(C, &token(1), START).unwrap_err(), Absent::Gone);
    assert!(holds.is_empty());
}

#[test]
fn a_code_is_not_given_out_at_its_deadline_or_after() {
    for late in [DEFAULT_HOLD, DEFAULT_HOLD * 2] {
        let mut holds = holds(10);
        holds.hold(C, &token(1), &cvv("123"), START).unwrap();
        assert_eq!(holds.take(C, &token(1), START + late).unwrap_err(), Absent::Expired);
        assert_eq!(holds.take(C, &token(1), START + late).unwrap_err(), Absent::NeverHeld);
    }
    let mut holds = holds(10);
    holds.hold(C, &token(1), &cvv("123"), START).unwrap();
    assert!(holds.take(C, &token(1), START + DEFAULT_HOLD - Duration::from_nanos(1)).is_ok());
}

#[test]
fn another_token_or_collection_gets_nothing() {
    let mut holds = holds(10);
    holds.hold(C, &token(1), &cvv("123"), START).unwrap();
    assert_eq!(holds.take(C, &token(2), START).unwrap_err(), Absent::NeverHeld);
    assert_eq!(holds.take(CollectionId(2), &token(1), START).unwrap_err(), Absent::NeverHeld);
    assert_eq!(holds.len(), 1);
}

#[test]
fn holding_is_refused_when_full_and_possible_again_after_expiry() {
    let mut holds = holds(2);
    holds.hold(C, &token(1), &cvv("123"), START).unwrap();
    holds.hold(C, &token(2), &cvv("123"), START).unwrap();
    assert!(matches!(holds.hold(C, &token(3), &cvv("123"), START), Err(HoldError::Full)));
    holds.hold(C, &token(2), &cvv("456"), START).unwrap();
    holds.hold(C, &token(3), &cvv("123"), START + DEFAULT_HOLD).unwrap();
    assert_eq!(holds.len(), 1);
}

#[test]
fn a_holding_time_of_nothing_or_over_an_hour_is_refused() {
    for hold in [Duration::ZERO, Duration::from_millis(999), MAX_HOLD + Duration::from_nanos(1)] {
        assert!(matches!(Holds::new(hold, 1), Err(HoldError::Hold)));
    }
    assert!(Holds::new(MAX_HOLD, 1).is_ok());
}

#[test]
fn a_second_code_for_a_token_replaces_the_first_and_its_deadline() {
    let mut holds = holds(10);
    holds.hold(C, &token(1), &cvv("123"), START).unwrap();
    let later = START + Duration::from_secs(60);
    holds.hold(C, &token(1), &cvv("4567"), later).unwrap();
    assert_eq!(holds.len(), 1);
    assert_eq!(holds.sweep(START + DEFAULT_HOLD), 0);
    assert_eq!(holds.take(C, &token(1), START + DEFAULT_HOLD).unwrap().expose(), "4567");
}

#[test]
fn a_code_held_after_one_was_taken_can_be_taken() {
    let mut holds = holds(10);
    holds.hold(C, &token(1), &cvv("123"), START).unwrap();
    assert!(holds.take(C, &token(1), START).is_ok());
    holds.hold(C, &token(1), &cvv("456"), START).unwrap();
    assert_eq!(holds.take(C, &token(1), START).unwrap().expose(), "456");
}

#[test]
fn sweeping_wipes_what_is_due_and_leaves_the_rest() {
    let mut holds = holds(10);
    for n in 0..4 {
        holds.hold(C, &token(n), &cvv("123"), START + Duration::from_secs(u64::from(n))).unwrap();
    }
    assert_eq!(holds.sweep(START + DEFAULT_HOLD + Duration::from_secs(1)), 2);
    assert_eq!(holds.len(), 2);
    assert_eq!(holds.take(C, &token(0), START).unwrap_err(), Absent::NeverHeld);
    assert!(holds.take(C, &token(3), START).is_ok());
}

#[test]
fn purging_forgets_codes_and_what_was_taken() {
    let mut holds = holds(10);
    holds.hold(C, &token(1), &cvv("123"), START).unwrap();
    holds.hold(C, &token(2), &cvv("123"), START).unwrap();
    assert!(holds.take(C, &token(1), START).is_ok());
    holds.purge();
    assert!(holds.is_empty());
    assert_eq!(holds.take(C, &token(1), START).unwrap_err(), Absent::NeverHeld);
    assert_eq!(holds.take(C, &token(2), START).unwrap_err(), Absent::NeverHeld);
}

#[test]
fn what_was_taken_is_remembered_for_as_many_as_may_be_held() {
    let mut holds = holds(2);
    for n in 0..3 {
        holds.hold(C, &token(n), &cvv("123"), START + Duration::from_secs(u64::from(n))).unwrap();
        assert!(holds.take(C, &token(n), START).is_ok());
    }
    assert_eq!(holds.take(C, &token(0), START).unwrap_err(), Absent::NeverHeld);
    assert_eq!(holds.take(C, &token(1), START).unwrap_err(), Absent::Gone);
    assert_eq!(holds.take(C, &token(2), START).unwrap_err(), Absent::Gone);
}

#[test]
fn the_codes_in_memory_are_ciphertext_of_one_length_bound_to_their_place() {
    let mut holds = holds(10);
    holds.hold(C, &token(1), &cvv("123"), START).unwrap();
    holds.hold(C, &token(2), &cvv("1234"), START).unwrap();
    let sealed: Vec<_> = holds.held.values.values().map(|(_deadline, held)| held.sealed.to_vec()).collect();
    assert_eq!(sealed[0].len(), sealed[1].len());
    assert!(!sealed.iter().any(|bytes| bytes.windows(3).any(|window| window == b"123")));
    let place = (1, token(1));
    assert!(holds.open(&place, &sealed[0]).is_some() != holds.open(&place, &sealed[1]).is_some());
}

#[test]
fn debug_shows_how_many_and_no_code() {
    let mut holds = holds(10);
    holds.hold(C, &token(1), &cvv("123"), START).unwrap();
    assert_eq!(format!("{holds:?}"), "Holds(1 of 10)");
}

#[test]
fn the_first_answer_wipes_the_code_that_the_card_was_revealed_without() {
    let mut holds = holds(10);
    holds.hold(C, &token(1), &cvv("123"), START).unwrap();
    assert!(!holds.settle(C, &token(1)), "nothing was revealed, so nothing was answered");
    assert!(holds.pass_over(C, &token(1), START));
    assert!(!holds.settle(CollectionId(2), &token(1)) && !holds.settle(C, &token(2)));
    assert!(holds.settle(C, &token(1)));
    assert_eq!(holds.take(C, &token(1), START).unwrap_err(), Absent::NeverHeld);
    assert!(!holds.settle(C, &token(1)));
}

#[test]
fn an_answer_leaves_a_code_that_came_since_alone() {
    let mut holds = holds(10);
    holds.hold(C, &token(1), &cvv("123"), START).unwrap();
    assert!(holds.pass_over(C, &token(1), START));
    holds.hold(C, &token(1), &cvv("456"), START).unwrap();
    assert!(!holds.settle(C, &token(1)));
    assert_eq!(holds.take(C, &token(1), START).unwrap().expose(), "456");
}

#[test]
fn a_reveal_does_not_lengthen_the_time_of_a_code_and_an_expired_one_is_not_held() {
    let mut holds = holds(10);
    holds.hold(C, &token(1), &cvv("123"), START).unwrap();
    assert!(holds.pass_over(C, &token(1), START + DEFAULT_HOLD - Duration::from_secs(1)));
    assert!(!holds.pass_over(C, &token(1), START + DEFAULT_HOLD));
    assert_eq!(holds.sweep(START + DEFAULT_HOLD), 1);
}

#[test]
fn a_wall_clock_that_is_moved_back_or_on_changes_nothing() {
    let noon = Timestamp::from_second(1_900_000_000).unwrap();
    for step in [Timestamp::UNIX_EPOCH, Timestamp::MAX] {
        let clock = ManualClock::at(noon);
        let mut holds = holds(10);
        holds.hold(C, &token(1), &cvv("123"), clock.monotonic()).unwrap();
        holds.hold(C, &token(2), &cvv("123"), clock.monotonic()).unwrap();
        clock.step_wall(step);
        clock.advance(DEFAULT_HOLD - Duration::from_secs(1));
        clock.step_wall(step);
        assert!(holds.take(C, &token(1), clock.monotonic()).is_ok());
        clock.advance(Duration::from_secs(1));
        clock.step_wall(step);
        assert_eq!(holds.take(C, &token(2), clock.monotonic()).unwrap_err(), Absent::Expired);
    }
}
