//! Fuzz target: any bytes as a JSON body, and as JSON lines, are read to their end or refused and rewritten in place.
//!
//! Checks: as `cordon_fuzz::check`, and an accepted body is JSON to another reader too. Must never do I/O.

#![no_main]

use cordon_gateway::body::Format;
use cordon_policy::{JsonSelector, Places};
use libfuzzer_sys::fuzz_target;

const SELECTORS: &[&str] = &["$.card.number", "$..pan", "$.items[*].cvc", "$.a[1]", "$..b..c", "$['x y']"];

fuzz_target!(|bytes: &[u8]| {
    let place = |text: &&str| Places {
        json: Some(JsonSelector::parse(text).expect("a selector")),
        ..Places::default()
    };
    let places: Vec<_> = SELECTORS.iter().map(place).collect();
    if cordon_fuzz::check(&Format::Json, &places, bytes, "tok_\"\u{e9}\n") {
        assert!(serde_json::from_slice::<serde_json::Value>(bytes).is_ok(), "another reader accepts it too");
    }
    cordon_fuzz::check(&Format::Ndjson, &places, bytes, "tok_\"\u{e9}\n");
});
