//! Fuzz target: any text as each file of a bundle is read or refused, never a panic, and a refusal has faults.
//!
//! The first byte chooses the file, so that one corpus serves all readers. Seeds: the files in `policies/`.
//! Must never read or write a file.

#![no_main]

use std::path::Path;

use cordon_policy::{
    Bundle, FixedColumns, JsonSelector, PathTemplate, Routes, Segments, TextSelector, XmlSelector, shipped,
};
use libfuzzer_sys::fuzz_target;

const SEGMENTS: &str = include_str!("../../policies/segments.toml");
const ROUTES: &str = include_str!("../../policies/routes.toml");

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let base = Path::new("/bundle");
    match choice % 6 {
        0 => {
            if let Ok(selector) = JsonSelector::parse(text) {
                assert!(!selector.segments().is_empty());
                assert_eq!(selector.as_str(), text);
            }
        }
        1 => {
            if let Err(faults) = Segments::parse(text, base) {
                assert!(!faults.is_empty());
            }
        }
        2 => {
            if let Err(faults) = Routes::parse(text, SEGMENTS, base) {
                assert!(!faults.is_empty());
            }
        }
        3 => {
            // Both files arbitrary: faults of one must not unsettle the other's reader.
            let middle = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let (segments, routes) = text.split_at(middle);
            if let Err(faults) = Routes::parse(routes, segments, base) {
                assert!(!faults.is_empty());
            }
        }
        4 => {
            // Places: what is read is written back as it was, and finds what lies in the text.
            if let Ok(path) = XmlSelector::parse(text) {
                assert!(!path.steps().is_empty() && path.to_string() == text);
            }
            if let Ok(columns) = FixedColumns::parse(text) {
                assert!(!columns.columns().is_empty());
            }
            if let Ok(template) = PathTemplate::parse(text) {
                assert!(template.to_string() == text && template.find(&text.replace("{}", "x")).is_some());
            }
            if let Ok(expression) = TextSelector::parse(text) {
                assert!(expression.find(text).all(|span| text.get(span).is_some()));
            }
        }
        _ => {
            let files = [
                ("schema.cedarschema", shipped::SCHEMA),
                ("segments.toml", SEGMENTS),
                ("routes.toml", ROUTES),
                ("fuzzed.cedar", text),
            ];
            match Bundle::parse(&files, base) {
                Ok(bundle) => assert_eq!(bundle.digest().len(), 64),
                Err(faults) => assert!(!faults.is_empty()),
            }
        }
    }
});
