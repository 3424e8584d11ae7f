//! What it costs to find the fields of a body and to look at all of it: JSON of 1 KiB, with and without looking inside,
//! other types of about that size, and a text that is all base64.
//!
//! Must never use a real card number: the one number here is a published test number.
//! Run with `cargo bench -p cordon-bench --bench content`.

use std::hint::black_box;

use cordon_gateway::body::{Declared, Format, locate};
use cordon_gateway::leak::{Place, Search};
use cordon_policy::{JsonSelector, LookInside, Places, XmlSelector};
use criterion::{Criterion, Throughput};

const PAN: &str = "4111111111111111";

fn places() -> Vec<Places> {
    let json = JsonSelector::parse("$.card.number").ok();
    let xml = XmlSelector::parse("/order/card/number").ok();
    let (form, csv) = (Some("number".to_owned()), Some("number".to_owned()));
    vec![Places { json, xml, form, csv, ..Places::default() }]
}

/// A signup with an address and some lines, filled up to about 1 KiB.
fn bodies() -> Vec<(&'static str, Format, String)> {
    let lines: Vec<String> =
        (0..12).map(|number| format!("item {number} of the order, left at the door")).collect();
    let json = serde_json::json!({
        "card": {"number": PAN, "expiry": "12/30"},
        "trace": "4bf92f3577b34da6a3ce929d0e0e4736",
        "email": "ada@shop.example",
        "lines": lines,
    });
    let form: String = lines
        .iter()
        .enumerate()
        .map(|(number, line)| format!("line{number}={}&", line.replace(' ', "+")))
        .collect();
    let xml: String = lines.iter().map(|line| format!("<line>{line}</line>")).collect();
    let csv: String = lines.iter().map(|line| format!("{PAN},{line}\n").replace(", ", " ")).collect();
    vec![
        ("json", Format::Json, json.to_string()),
        ("form", Format::Form, format!("{form}number={PAN}")),
        ("xml", Format::Xml, format!("<order><card><number>{PAN}</number></card>{xml}</order>")),
        ("csv", Format::Csv, format!("number,line\n{csv}")),
    ]
}

fn look(format: &Format, declared: &Declared, body: &[u8], rule: LookInside) -> bool {
    let mut search = Search::new(rule);
    let mut heard = |text: &str| search.look(Place::Body, text.as_bytes());
    let Ok(leaves) = locate(format, body, declared, &mut heard) else { return false };
    let spans: Vec<_> = leaves.iter().map(|leaf| leaf.span.clone()).collect();
    search.look_outside(Place::Body, body, &spans);
    search.found().is_none()
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let declared = Declared::new(&places());
    let mut group = criterion.benchmark_group("content");
    for (name, format, body) in bodies() {
        group.throughput(Throughput::Bytes(u64::try_from(body.len()).unwrap_or_default()));
        for (rule, how) in [(LookInside::Off, "off"), (LookInside::Deny, "deny")] {
            assert!(look(&format, &declared, body.as_bytes(), rule), "{name}: a clean body");
            group.bench_function(format!("{name}/{how}"), |bencher| {
                bencher.iter(|| look(black_box(&format), &declared, black_box(body.as_bytes()), rule));
            });
        }
    }
    // The worst a text can be: one run of base64.
    let blob = data_encoding::BASE64.encode(&(0..=255).cycle().take(96 * 1024).collect::<Vec<u8>>());
    let body = format!("{{\"blob\":\"{blob}\"}}");
    group.throughput(Throughput::Bytes(u64::try_from(body.len()).unwrap_or_default()));
    group.bench_function("base64/deny", |bencher| {
        bencher.iter(|| look(&Format::Json, &declared, black_box(body.as_bytes()), LookInside::Deny));
    });
    group.finish();
    criterion.final_summary();
}
