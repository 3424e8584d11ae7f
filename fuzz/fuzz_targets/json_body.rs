//! Fuzz target: any bytes as a JSON body are read to their end or refused; what is read is rewritten in place.
//!
//! Checks: an accepted body is JSON to another reader too, found fields lie in order, a rewrite changes nothing outside
//! them and reads the same again, and masking leaves no card number. Must never do I/O.

#![no_main]

use cordon_gateway::body::edit::{Edit, apply};
use cordon_gateway::body::{Declared, locate};
use cordon_gateway::leak;
use cordon_policy::{Content, JsonSelector};
use libfuzzer_sys::fuzz_target;

const SELECTORS: &[&str] = &["$.card.number", "$..pan", "$.items[*].cvc", "$.a[1]", "$..b..c", "$['x y']"];
const TOKEN: &str = "tok_\"\u{e9}\n";

fuzz_target!(|bytes: &[u8]| {
    let selectors: Vec<_> =
        SELECTORS.iter().map(|text| JsonSelector::parse(text).expect("a selector")).collect();
    let declared = Declared::new(selectors.iter().map(|selector| (Some(selector), None)));
    let Ok(leaves) = locate(Content::Json, bytes, &declared, &mut |_| ()) else { return };
    assert!(serde_json::from_slice::<serde_json::Value>(bytes).is_ok(), "another reader accepts it too");

    let fields: Vec<_> = leaves.iter().map(|leaf| leaf.field).collect();
    let edits: Vec<_> =
        leaves.iter().map(|leaf| Edit { span: leaf.span.clone(), text: TOKEN.to_owned().into() }).collect();
    let edited = apply(Content::Json, bytes, &edits).expect("found fields lie in order");
    let (mut before, mut after) = (0, 0);
    for (edit, span) in edits.iter().zip(&edited.spans) {
        assert_eq!(&bytes[before..edit.span.start], &edited.bytes[after..span.start]);
        (before, after) = (edit.span.end, span.end);
    }
    assert_eq!(&bytes[before..], &edited.bytes[after..]);

    let again = locate(Content::Json, &edited.bytes, &declared, &mut |_| ()).expect("the rewrite reads");
    assert_eq!(again.iter().map(|leaf| leaf.field).collect::<Vec<_>>(), fields);
    assert!(again.iter().all(|leaf| leaf.text.expose() == TOKEN));

    if let Ok(clean) = leak::mask(Content::Json, bytes) {
        let masked = clean.into_inner();
        assert!(!leak::stands_outside(&masked, &[]) && !leak::in_structure(Content::Json, &masked));
    }
});
