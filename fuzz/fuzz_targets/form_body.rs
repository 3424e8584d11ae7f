//! Fuzz target: any bytes as a form body are read to their end or refused; what is read is rewritten in place.
//!
//! Checks: found values lie in order, a rewrite changes nothing outside them and reads the same again, and masking
//! leaves no card number. Must never do I/O.

#![no_main]

use cordon_gateway::body::edit::{Edit, apply};
use cordon_gateway::body::{Declared, locate};
use cordon_gateway::leak;
use cordon_policy::Content;
use libfuzzer_sys::fuzz_target;

const NAMES: &[&str] = &["pan", "card[number]", "a b", "", "\u{e9}"];
const TOKEN: &str = "tok_+&=%\u{e9} ";

fuzz_target!(|bytes: &[u8]| {
    let declared = Declared::new(NAMES.iter().map(|name| (None, Some(*name))));
    let Ok(leaves) = locate(Content::Form, bytes, &declared, &mut |_| ()) else { return };
    let fields: Vec<_> = leaves.iter().map(|leaf| leaf.field).collect();
    let edits: Vec<_> =
        leaves.iter().map(|leaf| Edit { span: leaf.span.clone(), text: TOKEN.to_owned().into() }).collect();
    let edited = apply(Content::Form, bytes, &edits).expect("found values lie in order");
    let (mut before, mut after) = (0, 0);
    for (edit, span) in edits.iter().zip(&edited.spans) {
        assert_eq!(&bytes[before..edit.span.start], &edited.bytes[after..span.start]);
        (before, after) = (edit.span.end, span.end);
    }
    assert_eq!(&bytes[before..], &edited.bytes[after..]);

    let again = locate(Content::Form, &edited.bytes, &declared, &mut |_| ()).expect("the rewrite reads");
    assert_eq!(again.iter().map(|leaf| leaf.field).collect::<Vec<_>>(), fields);
    assert!(again.iter().all(|leaf| leaf.text.expose() == TOKEN));

    if let Ok(clean) = leak::mask(Content::Form, bytes) {
        let masked = clean.into_inner();
        assert!(!leak::stands_outside(&masked, &[]) && !leak::in_structure(Content::Form, &masked));
    }
});
