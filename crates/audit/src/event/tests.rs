//! Tests of events and of the lines they become.

use cordon_card::{Environment, Iin};
use proptest::prelude::*;

use super::*;
use crate::chain::{self, Sum};
use crate::line::Line;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn line(mut event: Event) -> (String, Line) {
    let mut bytes = Vec::new();
    chain::seal(&mut bytes, 5, &event.render(&name("cordon.test/vault")).unwrap(), Sum::default());
    let line = Line::parse(&bytes).unwrap();
    (String::from_utf8(bytes).unwrap(), line)
}

#[test]
fn an_event_without_setters_still_has_all_six_fields() {
    let (_, line) = line(Event::new(Action::Seal, Outcome::Failed));
    assert_eq!(
        (line.who.as_str(), line.what, line.outcome),
        ("cordon.test/vault", Action::Seal, Outcome::Failed)
    );
    assert_eq!((line.from, line.on), (Source::Local, Some(name("cordon.test/vault"))));
}

#[test]
fn a_full_event_reads_back_as_it_was_set() {
    let token = Token::opaque(Environment::Test, &[7; 17]);
    let card = CardId::from_bytes([9; 16]);
    let event = Event::new(Action::Detokenize, Outcome::Allowed)
        .at("2026-01-02T03:04:05.678901234Z".parse().unwrap())
        .who(&name("gateway-egress"))
        .from("10.1.2.3".parse().unwrap())
        .request_id(&name("req_ABC"))
        .acting_for(&name("signup"))
        .on(&name("key/3"))
        .collection(&CollectionName::parse("cards").unwrap())
        .tokens([token.clone()])
        .cards([card])
        .iins([Iin::parse("41111111").unwrap()])
        .destination(&name("processor"))
        .route(&name("charge"))
        .purpose(&name("charge"))
        .statements([name("egress-may-detokenize")])
        .count(1)
        .reason("ok")
        .store_sequence(77);
    let (text, line) = line(event);
    assert!(
        text.starts_with("{\"n\":5,\"at\":\"2026-01-02T03:04:05.678901Z\",\"who\":\"gateway-egress\","),
        "{text}"
    );
    assert_eq!((line.tokens, line.cards), (vec![token], vec![card]));
    assert_eq!(line.iins, [Iin::parse("41111111").unwrap()]);
    assert_eq!((line.items, line.commit, line.acting_for), (Some(1), Some(77), Some(name("signup"))));
    assert_eq!((line.by, line.reason), (vec![name("egress-may-detokenize")], Some(name("ok"))));
    assert_eq!(line.on, Some(name("key/3")));
}

#[test]
fn an_event_with_a_target_gets_no_other() {
    let (_, line) = line(Event::new(Action::Forward, Outcome::Denied).route(&name("signup")));
    assert_eq!(line.on, None);
}

#[test]
fn text_that_is_no_code_is_not_printed() {
    for text in ["", "Has Space", "UPPER", "caf\u{e9}", "4111 1111"] {
        assert_eq!(Code::new(text).as_str(), "not-a-code", "{text}");
    }
    assert_eq!(Code::new("no-statement.v2").as_str(), "no-statement.v2");
}

proptest! {
    #[test]
    fn any_event_becomes_a_line_that_reads_and_writes_the_same(
        seconds in -30_000_000_000_i64..200_000_000_000, micros in 0..1_000_000_i32,
        who in "[a-z][a-z-]{0,30}", address: [u8; 4], entropy in proptest::collection::vec(any::<[u8; 16]>(), 0..20),
        items: Option<u64>, commit: Option<u64>,
    ) {
        let mut event = Event::new(Action::Tokenize, Outcome::Allowed)
            .at(Timestamp::new(seconds, micros * 1000).unwrap())
            .who(&name(&who))
            .from(address.into())
            .cards(entropy.into_iter().map(CardId::from_bytes));
        if let Some(items) = items { event = event.count(items); }
        if let Some(commit) = commit { event = event.store_sequence(commit); }
        let (text, line) = line(event);
        prop_assert_eq!(line.to_json().unwrap(), text);
        prop_assert_eq!((line.items, line.commit), (items, commit));
    }

    #[test]
    fn a_line_with_any_bytes_changed_reads_and_writes_the_same_or_is_refused(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let (text, _) = line(Event::new(Action::Send, Outcome::Denied).reason("no-statement").count(3));
        let mut bytes = text.into_bytes();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(line) = Line::parse(&bytes) {
            prop_assert_eq!(Line::parse(line.to_json().unwrap().as_bytes()), Ok(line));
        }
    }
}
