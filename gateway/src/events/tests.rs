//! Tests of events: what each line of a real log becomes, and which settings are refused.

use super::config::EventsConfig;
use super::*;
use cordon_audit::{Event, Feed, FeedTo, Log, Settings};
use cordon_card::Pan;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// The events of these lines, in a file written by a real log.
fn events(kinds: &[Kind], lines: Vec<Event>) -> Vec<Value> {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("events");
    let form = Box::new(Events::of(kinds));
    let to = FeedTo::File(path.clone());
    let feed = Feed { kind: "events-file", name: "a".to_owned(), backlog: 1, form, to };
    let settings = Settings { reserve_mib: 0, ..Settings::default() };
    let log = Log::open_feeding(&scratch.path().join("audit"), "cordon-gateway", &settings, vec![feed]);
    let log = log.unwrap().0;
    for line in lines {
        log.append_blocking(line).unwrap();
    }
    log.close().unwrap();
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn token() -> Token {
    Token::opaque(cordon_card::Environment::Dev, &[7; 17])
}

#[test]
fn every_kind_comes_of_its_lines_and_no_other_line_is_an_event() {
    use Outcome::{Allowed, Denied, Failed};
    let on = |event: Event| event.route(&name("signup")).acting_for(&name("signup"));
    let iin = Pan::parse("4111111111111111").unwrap().iin();
    let lines = vec![
        Event::new(Action::AuditOpen, Allowed),
        Event::new(Action::PolicyLoad, Allowed),
        on(Event::new(Action::Forward, Allowed)),
        on(Event::new(Action::Forward, Allowed).tokens([token()])),
        on(Event::new(Action::Forward, Allowed).count(970)),
        on(Event::new(Action::Tokenize, Allowed).reason("piece").tokens([token(), token()])),
        on(Event::new(Action::Forward, Denied).reason("malformed")),
        on(Event::new(Action::Forward, Denied).reason("too-many-attempts")),
        on(Event::new(Action::Forward, Failed).reason("upstream-timeout")),
        on(Event::new(Action::LeakFound, Denied).reason("leak-blocked.body")),
        on(Event::new(Action::LeakFound, Allowed).reason("leak.masked")),
        on(Event::new(Action::Abuse, Denied).reason("abuse.denied").statements([name("abuse.address")])),
        Event::new(Action::Authenticate, Denied).reason("no-certificate"),
        Event::new(Action::Send, Allowed).tokens([token()]).destination(&name("processor")),
        Event::new(Action::Send, Allowed).tokens([token()]).reason("dry-run"),
        Event::new(Action::Send, Allowed).reason("replayed"),
        Event::new(Action::Send, Denied).reason("denied"),
        Event::new(Action::Send, Failed).reason("upstream-unavailable.connection-refused"),
        Event::new(Action::Outcome, Allowed).reason("declined").destination(&name("processor")).iins([iin]),
        Event::new(Action::Stop, Allowed),
    ];
    let all = events(&[], lines);
    let found: Vec<_> = all
        .iter()
        .map(|event| {
            (event["id"].as_str().unwrap().parse::<usize>().unwrap(), event["type"].as_str().unwrap())
        })
        .collect();
    let wanted = [
        (3, Kind::Tokenized),
        (5, Kind::Tokenized),
        (6, Kind::Denied),
        (7, Kind::Abused),
        (8, Kind::Failed),
        (9, Kind::Leaked),
        (10, Kind::Leaked),
        (11, Kind::Abused),
        (12, Kind::Denied),
        (13, Kind::Revealed),
        (16, Kind::Denied),
        (17, Kind::Failed),
        (18, Kind::Outcome),
    ];
    assert_eq!(found, wanted.map(|(index, kind)| (index, kind.as_str())));
    assert_eq!(all[12]["data"]["iins"], json!([iin.to_string()]));
    assert_eq!(all[12]["data"]["reason"], "declined");
    assert_eq!(all[5]["data"]["stopped"], true);
    assert_eq!(all[6]["data"]["stopped"], false);
    assert_eq!(all[0]["data"]["stopped"], Value::Null);
}

#[test]
fn an_event_has_the_attributes_of_cloudevents_and_nothing_that_its_line_has_not() {
    let line = Event::new(Action::Outcome, Outcome::Allowed)
        .who(&name("billing"))
        .from("10.0.0.7".parse().unwrap())
        .request_id(&name("req_1"))
        .route(&name("charge"))
        .destination(&name("processor"))
        .purpose(&name("charge"))
        .reason("approved");
    let [event] =
        events(&[Kind::Outcome], vec![Event::new(Action::Start, Outcome::Allowed), line]).try_into().unwrap();
    let mut event = event;
    let time = event["time"].take();
    assert!(time.as_str().unwrap().parse::<Timestamp>().is_ok());
    let source = event["source"].take();
    let id = source.as_str().unwrap().strip_prefix("urn:cordon:cordon-gateway:").unwrap();
    assert!(id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{source}");
    let wanted = json!({
        "specversion": "1.0", "id": "1", "source": null, "type": "cordon.payment.outcome", "subject": "charge",
        "time": null, "datacontenttype": "application/json",
        "data": {
            "request": "req_1", "who": "billing", "address": "10.0.0.7", "route": "charge",
            "destination": "processor", "purpose": "charge", "reason": "approved",
        },
    });
    assert_eq!(event, wanted);
}

#[test]
fn only_the_kinds_asked_for_are_written() {
    let lines = || {
        vec![
            Event::new(Action::Forward, Outcome::Denied).reason("malformed"),
            Event::new(Action::Forward, Outcome::Failed).reason("upstream-timeout"),
        ]
    };
    assert_eq!(events(&[Kind::Failed], lines()).len(), 1);
    assert_eq!(events(&[], lines()).len(), 2);
    assert_eq!(events(&[Kind::Outcome], lines()).len(), 0);
}

#[test]
fn what_each_kind_is_called_is_read_back() {
    for kind in Kind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        assert_eq!(serde_json::from_value::<Kind>(json!(kind.as_str())).unwrap(), kind);
    }
}

fn config(text: &str) -> Result<EventsConfig, toml::de::Error> {
    toml::from_str(text)
}

#[test]
fn settings_that_would_lose_or_show_events_are_refused() {
    let nats = |server: &str, more: &str| {
        format!(
            "kind = \"nats\"\nserver = \"{server}\"\nsubject = \"cordon.events\"\nstream = \"cards\"\n{more}"
        )
    };
    for (text, wanted) in [
        (nats("nats://10.0.0.1:4222", ""), "over tls:// only"),
        (nats("nats://nats.example:4222", ""), "over tls:// only"),
        (nats("tls://nats.example:4222", ""), "needs `roots`"),
        (nats("nats://127.0.0.1:4222", "roots = \"ca.pem\""), "roots are for tls"),
        (nats("tls://user:secret@nats.example:4222", "roots = \"ca.pem\""), "without a user"),
        (nats("nats://127.0.0.1:4222", "identity = { cert = \"a\", key = \"b\" }"), "an identity is for tls"),
        (nats("nats://127.0.0.1", ""), "is written like"),
        (nats("ws://127.0.0.1:4222", ""), "is written like"),
        (nats("nats://127.0.0.1:4222", "").replace("cordon.events", "cordon..events"), "`subject` is words"),
        (nats("nats://127.0.0.1:4222", "").replace("cordon.events", "cordon.*"), "`subject` is words"),
        (nats("nats://127.0.0.1:4222", "").replace("\"cards\"", "\"a.b\""), "`stream` is the name"),
        (nats("nats://127.0.0.1:4222", "backlog = 0"), "at least 1"),
    ] {
        let refused = config(&text).unwrap().feed().unwrap_err().to_string();
        assert!(refused.contains(wanted), "{text}: {refused}");
        assert!(!refused.contains("secret"), "{refused}");
    }
    for text in [
        "kind = \"kafka\"",
        "kind = \"file\"",
        "kind = \"file\"\npath = \"a\"\nserver = \"x\"",
        "kind = \"stdout\"\npath = \"a\"",
        "kind = \"stdout\"\ntypes = [\"cordon.card\"]",
        &nats("nats://127.0.0.1:4222", "password = \"x\""),
    ] {
        assert!(config(text).is_err(), "{text}");
    }
}

#[test]
fn what_a_confined_gateway_needs_is_told() {
    let mut file = config("kind = \"file\"\npath = \"events/all.jsonl\"").unwrap();
    file.resolve(Path::new("/var/lib"));
    assert_eq!(file.folder().as_deref(), Some(Path::new("/var/lib/events")));
    let text = "kind = \"nats\"\nserver = \"nats://[::1]:4333\"\nsubject = \"a\"\nstream = \"s\"";
    let nats = config(text).unwrap();
    assert_eq!((nats.port(), nats.folder()), (Some(4333), None));
    assert_eq!(nats.feed().unwrap().kind, "events-nats");
}
