//! Fuzz target: any bytes as CSV, fixed columns and plain text are read or refused; what is read is rewritten in place.
//!
//! Checks: as `cordon_fuzz::check`. Must never do I/O.

#![no_main]

use cordon_gateway::body::Format;
use cordon_policy::{FixedColumns, Places, TextSelector};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

/// Compiled once: that costs more than a body.
static EXPRESSION: LazyLock<[Places; 1]> = LazyLock::new(|| {
    let text = TextSelector::parse("(?m)^PAN: (?<pan>[^\n]+)$").expect("an expression");
    [Places { text: Some(text), ..Places::default() }]
});

fuzz_target!(|bytes: &[u8]| {
    let csv = |name: &&str| Places { csv: Some((*name).to_owned()), ..Places::default() };
    cordon_fuzz::check(
        &Format::Csv,
        &["pan", "a \"b\""].iter().map(csv).collect::<Vec<_>>(),
        bytes,
        "tok,\"\n\u{e9}",
    );
    let fixed = |text: &&str| Places {
        fixed: Some(FixedColumns::parse(text).expect("columns")),
        ..Places::default()
    };
    cordon_fuzz::check(
        &Format::Fixed,
        &["3-9", "D:12-20"].iter().map(fixed).collect::<Vec<_>>(),
        bytes,
        "tok_d",
    );
    cordon_fuzz::check(&Format::Text, EXPRESSION.as_slice(), bytes, "tok_d");
});
