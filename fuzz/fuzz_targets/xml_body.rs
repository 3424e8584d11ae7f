//! Fuzz target: any bytes as an XML body are read to their end or refused; what is read is rewritten in place.
//!
//! Checks: as `cordon_fuzz::check`. Must never do I/O.

#![no_main]

use cordon_gateway::body::Format;
use cordon_policy::{Places, XmlSelector};
use libfuzzer_sys::fuzz_target;

const PATHS: &[&str] = &["//pan", "//@no", "/a/b/c", "/a/*/@x"];

fuzz_target!(|bytes: &[u8]| {
    let place =
        |text: &&str| Places { xml: Some(XmlSelector::parse(text).expect("a path")), ..Places::default() };
    let places: Vec<_> = PATHS.iter().map(place).collect();
    cordon_fuzz::check(&Format::Xml, &places, bytes, "<tok_\"&'\u{e9}>");
});
