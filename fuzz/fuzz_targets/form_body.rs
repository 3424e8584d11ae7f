//! Fuzz target: any bytes as a form body are read to their end or refused; what is read is rewritten in place.
//!
//! Checks: as `cordon_fuzz::check`. Must never do I/O.

#![no_main]

use cordon_gateway::body::Format;
use cordon_policy::Places;
use libfuzzer_sys::fuzz_target;

const NAMES: &[&str] = &["pan", "card[number]", "a b", "", "\u{e9}"];

fuzz_target!(|bytes: &[u8]| {
    let place = |name: &&str| Places { form: Some((*name).to_owned()), ..Places::default() };
    let places: Vec<_> = NAMES.iter().map(place).collect();
    cordon_fuzz::check(&Format::Form, &places, bytes, "tok_+&=%\u{e9}");
});
