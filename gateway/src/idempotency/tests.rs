//! Tests of the outcomes that are kept.

use super::*;
use crate::answer::{Rules, screen};
use crate::leak::echo::Echoes;
use crate::leak::exception::Exceptions;
use crate::upstream::Answer;
use cordon_daemon::body::WipedBytes;
use cordon_policy::{Day, LookInside, OnLeak};
use http::{HeaderValue, StatusCode};

const TTL: Duration = Duration::from_secs(100);
const START: Duration = Duration::from_secs(1000);

fn outcomes(room: usize) -> Arc<Outcomes> {
    Outcomes::new(TTL, room).unwrap()
}

fn claim<'r>(outcomes: &Outcomes, key: &'r str, request: &[&[u8]]) -> Claim<'r> {
    let request = outcomes.fingerprint(request);
    Claim { service: "shop", route: "charge", key: key.as_bytes(), request, known_there: false }
}

const REQUEST: &[&[u8]] = &[b"POST", b"/v1/charges", b"{}"];

fn first(claimed: Result<Claimed, Fault>) -> Hold {
    match claimed {
        Ok(Claimed::First(hold)) => hold,
        other => panic!("not the first: {other:?}"),
    }
}

fn screened(body: &str) -> Result<Screened, Fault> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("text/plain"));
    let answer = Answer { status: StatusCode::OK, headers, body: WipedBytes::from(body.as_bytes().to_vec()) };
    screen(
        answer,
        &Rules {
            on_leak: OnLeak::Deny,
            inside: LookInside::Deny,
            echoes: &Echoes::default(),
            from_outside: true,
            declared: &[],
            exceptions: &Exceptions::default(),
            today: Day::at(0),
        },
    )
}

fn refusal(claimed: Result<Claimed, Fault>) -> Fault {
    claimed.expect_err("it is refused")
}

#[test]
fn the_second_waits_then_gets_the_first_one_s_answer() {
    let outcomes = outcomes(10_000);
    let mut hold = first(outcomes.claim(&claim(&outcomes, "k", REQUEST), START));
    assert_eq!(refusal(outcomes.claim(&claim(&outcomes, "k", REQUEST), START)), Fault::InFlight);
    hold.sends();
    assert_eq!(refusal(outcomes.claim(&claim(&outcomes, "k", REQUEST), START)), Fault::InFlight);
    hold.answered(&screened("approved"));
    for _ in 0..2 {
        let Ok(Claimed::Before(Ok(answer))) = outcomes.claim(&claim(&outcomes, "k", REQUEST), START) else {
            panic!("it is kept")
        };
        assert_eq!(answer.size(), screened("approved").unwrap().size());
    }
}

#[test]
fn a_key_is_for_one_request_of_one_caller_on_one_route() {
    let outcomes = outcomes(10_000);
    let _hold = first(outcomes.claim(&claim(&outcomes, "k", REQUEST), START));
    for request in [&[&b"POST"[..], b"/v1/charges", b"{ }"][..], &[b"POST/", b"v1/charges", b"{}"], &[]] {
        assert_eq!(refusal(outcomes.claim(&claim(&outcomes, "k", request), START)), Fault::KeyReused);
    }
    drop(first(outcomes.claim(&Claim { service: "other", ..claim(&outcomes, "k", REQUEST) }, START)));
    drop(first(outcomes.claim(&Claim { route: "other", ..claim(&outcomes, "k", REQUEST) }, START)));
    drop(first(
        outcomes.claim(&Claim { service: "shopc", route: "harge", ..claim(&outcomes, "k", REQUEST) }, START),
    ));
}

#[test]
fn what_was_not_sent_gives_its_key_back_and_what_was_does_not() {
    let outcomes = outcomes(10_000);
    drop(first(outcomes.claim(&claim(&outcomes, "k", REQUEST), START)));
    let mut hold = first(outcomes.claim(&claim(&outcomes, "k", REQUEST), START));
    hold.sends();
    hold.was_not_sent();
    drop(hold);
    let mut hold = first(outcomes.claim(&claim(&outcomes, "k", REQUEST), START));
    hold.sends();
    drop(hold);
    assert_eq!(refusal(outcomes.claim(&claim(&outcomes, "k", REQUEST), START)), Fault::OutcomeUnknown);
    let known_there = Claim { known_there: true, ..claim(&outcomes, "l", REQUEST) };
    let mut hold = first(outcomes.claim(&known_there, START));
    hold.sends();
    drop(hold);
    drop(first(outcomes.claim(&known_there, START)));
}

#[test]
fn an_answer_that_may_not_be_passed_on_stays_the_answer() {
    let outcomes = outcomes(10_000);
    let mut hold = first(outcomes.claim(&claim(&outcomes, "k", REQUEST), START));
    hold.sends();
    hold.answered(&Err(Fault::AnswerLeak));
    let Ok(Claimed::Before(Err(Fault::AnswerLeak))) = outcomes.claim(&claim(&outcomes, "k", REQUEST), START)
    else {
        panic!("it is kept")
    };
}

#[test]
fn an_outcome_ends_with_its_time_and_a_key_in_use_again_does_not() {
    let outcomes = outcomes(10_000);
    drop(first(outcomes.claim(&claim(&outcomes, "k", REQUEST), START)));
    let later = START + TTL / 2;
    let hold = first(outcomes.claim(&claim(&outcomes, "k", REQUEST), later));
    hold.answered(&screened("approved"));
    assert!(matches!(
        outcomes.claim(&claim(&outcomes, "k", REQUEST), START + TTL),
        Ok(Claimed::Before(Ok(_)))
    ));
    drop(first(outcomes.claim(&claim(&outcomes, "k", REQUEST), later + TTL)));
    assert_eq!(outcomes.lock().used.get("shop"), Some(&0), "its room is free again");
}

#[test]
fn a_service_has_its_room_and_no_more() {
    let outcomes = outcomes(2 * ENTRY);
    let one = first(outcomes.claim(&claim(&outcomes, "1", REQUEST), START));
    let _two = first(outcomes.claim(&claim(&outcomes, "2", REQUEST), START));
    assert_eq!(refusal(outcomes.claim(&claim(&outcomes, "3", REQUEST), START)), Fault::Busy);
    let _other = first(outcomes.claim(&Claim { service: "other", ..claim(&outcomes, "3", REQUEST) }, START));
    drop(one);
    let three = first(outcomes.claim(&claim(&outcomes, "3", REQUEST), START));
    three.answered(&screened(&"x".repeat(ENTRY)));
    assert_eq!(refusal(outcomes.claim(&claim(&outcomes, "4", REQUEST), START)), Fault::Busy);
    assert!(matches!(outcomes.claim(&claim(&outcomes, "3", REQUEST), START), Ok(Claimed::Before(Ok(_)))));
}

#[test]
fn a_key_is_one_visible_word() {
    let headers = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_str(value).unwrap());
        }
        headers
    };
    assert_eq!(key_of(&headers(&[])), Ok(None));
    assert_eq!(key_of(&headers(&["\"8e03978e-40d5\""])), Ok(Some(&b"\"8e03978e-40d5\""[..])));
    let long = "x".repeat(256);
    for values in [&[""][..], &["a", "a"], &["a b"], &["\u{e9}"], &[long.as_str()]] {
        assert_eq!(key_of(&headers(values)), Err(Fault::Malformed(IDEMPOTENCY_KEY)), "{values:?}");
    }
}

#[test]
fn nothing_of_a_request_shows() {
    let outcomes = outcomes(10_000);
    let claim = claim(&outcomes, "secret-key", &[b"secret-body"]);
    let hold = first(outcomes.claim(&claim, START));
    let shown = format!("{outcomes:?} {claim:?} {hold:?}");
    assert!(!shown.contains("secret"), "{shown}");
}
