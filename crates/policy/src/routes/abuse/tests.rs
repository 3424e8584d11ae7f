//! Tests of abuse rules as routes declare them.

use super::*;
use crate::fault::{Faults, Source};
use crate::rows::document;

/// The rules of a route that takes cards and tells outcomes, or all faults.
fn parse(text: &str) -> Result<Vec<AbuseRule>, String> {
    parse_for(text, true, true)
}

fn parse_for(text: &str, has_cards: bool, has_outcome: bool) -> Result<Vec<AbuseRule>, String> {
    let source = Source { file: "routes.toml", text };
    let mut faults = Faults::default();
    let mut found = Vec::new();
    if let Some(table) = document(&source, &mut faults) {
        let mut row = Row::new("route", table.get_ref(), table.span(), &source, &mut faults);
        found = read(&mut row, has_cards, has_outcome);
        row.finish();
    }
    if faults.is_empty() { Ok(found) } else { Err(faults.to_string()) }
}

const CARDS: &str = "[[abuse]]\nname = \"many\"\nper = \"address\"\ncount = \"cards\"\nover = 20\n\
                     within = \"10m\"\naction = \"deny\"\n";
const RATIO: &str = "[[abuse]]\nname = \"declined\"\nper = \"header:X-Session-Id\"\ncount = \"decline-ratio\"\n\
                     over = 60\nof = 40\nwithin = \"24h\"\naction = \"challenge\"\nkey = \"captcha\"\n\
                     header = \"x-challenge-proof\"\npasses = 5\n";

#[test]
fn what_is_declared_is_read_in_order() {
    let delay = CARDS
        .replace("many", "slow")
        .replace("address", "cookie:sid")
        .replace("\"deny\"", "\"delay\"\ndelay = \"1500ms\"");
    let [cards, ratio, slow] = parse(&format!("{CARDS}{RATIO}{delay}")).unwrap().try_into().unwrap();
    let wanted = AbuseRule {
        name: "many".to_owned(),
        per: AbuseKey::Address,
        limit: AbuseLimit::Cards(20),
        within: Duration::from_secs(600),
        action: AbuseAction::Deny,
    };
    assert_eq!(cards, wanted);
    assert_eq!(ratio.per, AbuseKey::Header("x-session-id".to_owned()));
    assert_eq!(ratio.limit, AbuseLimit::DeclineRatio { percent: 60, of: 40 });
    let (key, header) = ("captcha".to_owned(), "x-challenge-proof".to_owned());
    assert_eq!(ratio.action, AbuseAction::Challenge { key, header, passes: 5 });
    assert_eq!((ratio.within, ratio.limit.needs_outcome()), (Duration::from_secs(86_400), true));
    assert_eq!(slow.action, AbuseAction::Delay(Duration::from_millis(1_500)));
    assert_eq!(parse(""), Ok(Vec::new()));
}

#[test]
fn whose_attempts_count_together_is_said_as_it_is_written() {
    for label in ["address", "network", "iin", "iin6", "header:x-session", "cookie:sid"] {
        let rules = parse(&CARDS.replace("address", label)).unwrap();
        assert_eq!(rules.first().unwrap().per.label(), label);
    }
}

#[test]
fn slips_are_found() {
    for (text, told) in [
        (
            CARDS.replace("\"address\"", "\"adress\""),
            "3:7: `per` cannot be \"adress\" (help: did you mean \"address\"?",
        ),
        (CARDS.replace("\"address\"", "\"planet\""), "iin6, card, header:NAME, cookie:NAME"),
        (CARDS.replace("\"address\"", "\"header:host\""), "belongs to the gateway"),
        (CARDS.replace("\"address\"", "\"header:\""), "is no name of a header"),
        (CARDS.replace("\"address\"", "\"cookie:a b\""), "is no name of a cookie"),
        (CARDS.replace("\"cards\"", "\"card\""), "did you mean \"cards\"?"),
        (CARDS.replace("20", "0"), "5:8: `over` must be a whole number in range (help: write 1 to 1000)"),
        (CARDS.replace("20", "1001"), "write 1 to 1000"),
        (CARDS.replace("20", "\"20\""), "write 1 to 1000"),
        (CARDS.replace("over = 20\n", ""), "has no `over`"),
        (CARDS.replace("10m", "10d"), "\"10d\" is no window (help: write it like 30s, 10m or 24h"),
        (CARDS.replace("10m", "25h"), "is no window"),
        (CARDS.replace("10m", "0s"), "is no window"),
        (CARDS.replace("\"deny\"", "\"delay\""), "has no `delay`"),
        (CARDS.replace("\"deny\"", "\"delay\"\ndelay = \"31s\""), "\"31s\" is no delay"),
        (CARDS.replace("\"deny\"", "\"deny\"\ndelay = \"2s\""), "unknown key `delay`"),
        (CARDS.replace("\"deny\"", "\"refuse\""), "write one of report, delay, challenge, deny"),
        (CARDS.replace("\"deny\"", "\"challenge\""), "has no `key`"),
        (CARDS.replace("over = 20", "over = 20\nof = 10"), "unknown key `of`"),
        (RATIO.replace("60", "100"), "write 1 to 99"),
        (RATIO.replace("40", "9"), "write 10 to 1000"),
        (RATIO.replace("of = 40\n", ""), "has no `of`"),
        (RATIO.replace("passes", "pases"), "did you mean \"passes\"?"),
        (format!("{CARDS}{CARDS}"), "9:8: another abuse rule of this route is called \"many\""),
        (CARDS.replace("\"address\"", "\"card\""), "of one card there is never more than one"),
    ] {
        let said = parse(&text).unwrap_err();
        assert!(said.contains(told), "{told}: {said}");
    }
}

#[test]
fn a_rule_counts_nothing_that_its_route_does_not_know() {
    let said = parse_for(RATIO, true, false).unwrap_err();
    assert!(said.contains("4:9: this rule counts declines, and the route has no outcome"), "{said}");
    let said = parse_for(CARDS, false, true).unwrap_err();
    assert!(said.contains("4:9: this rule counts cards, and the route takes none"), "{said}");
    assert!(parse_for(&CARDS.replace("\"cards\"", "\"requests\""), false, false).is_ok());
    let per_card = CARDS.replace("\"cards\"", "\"requests\"").replace("\"address\"", "\"card\"");
    assert!(parse_for(&per_card, true, false).is_ok());
    assert!(parse_for(&per_card, false, false).is_err());
}
