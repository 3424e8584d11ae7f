//! Throughput of the PAN scanner: clean JSON, JSON with clocks and ids, digits only, text in other scripts.
//!
//! Must never use a real card number: the one number here is a published test number.
//! Run with `cargo bench -p cordon-bench --bench scan`.

use std::hint::black_box;

use cordon_scan::{Scanner, scan};
use criterion::{Criterion, Throughput};

/// Size of each text; larger than the first-level cache, smaller than the last.
const SIZE: usize = 1 << 20;

/// What a proxy reads at a time.
const CHUNK: usize = 16 * 1024;

fn filled(line: impl Fn(usize) -> String) -> Vec<u8> {
    let mut text = String::with_capacity(SIZE + 1024);
    let mut number = 0;
    while text.len() < SIZE {
        text.push_str(&line(number));
        number += 1;
    }
    text.into_bytes()
}

fn clean_json(number: usize) -> String {
    format!(
        "{{\"id\":{number},\"name\":\"Ada Example\",\"email\":\"ada.{number}@shop.example\",\"active\":true,\
         \"address\":{{\"street\":\"12 Long Road\",\"city\":\"Springfield\",\"zip\":\"12345\"}},\
         \"items\":[{{\"sku\":\"AB-{}\",\"price\":19.99,\"quantity\":3}}],\"note\":\"left at the door\"}}\n",
        number % 1000
    )
}

fn event_json(number: usize) -> String {
    format!(
        "{{\"time\":\"2026-11-22T20:39:{:02}.{:06}Z\",\"clock\":{},\"trace\":\"{:032x}\",\"level\":\"info\",\
         \"token\":\"tok_live_abcdefghijklmnopqrstuvwxyzab\",\"score\":{},\"path\":\"/v1/orders\"}}\n",
        number % 60,
        number % 1_000_000,
        1_795_379_940_000_000_u64 + u64::try_from(number).unwrap_or_default(),
        (number as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
        f64::from(u32::try_from(number).unwrap_or_default()) / 7.0,
    )
}

fn digits(number: usize) -> String {
    let word = u64::try_from(number).unwrap_or_default().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!(
        "{:016},{:04} {:04} {:04} {:04}\n",
        word >> 14,
        word % 7919,
        word % 6007,
        word % 5003,
        word % 4001
    )
}

fn single_digits(_: usize) -> String {
    "1 2 3 4 5 6 7 8 9 0 ".to_owned()
}

fn arabic(number: usize) -> String {
    format!(
        "\u{627}\u{644}\u{637}\u{644}\u{628} \u{631}\u{642}\u{645} {number} \u{62c}\u{627}\u{647}\u{632}\n"
    )
}

fn chinese(number: usize) -> String {
    format!(
        "\u{8ba2}\u{5355}{number}\u{5df2}\u{7ecf}\u{53d1}\u{8d27}\u{ff0c}\u{8bf7}\u{7b7e}\u{6536}\u{3002}\n"
    )
}

fn one_card(number: usize) -> String {
    let mut line = clean_json(number);
    if number.is_multiple_of(40) {
        line.push_str("{\"number\":\"4111 1111 1111 1111\"}\n");
    }
    line
}

/// Makes the n-th line of a text.
type Line = fn(usize) -> String;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("scan");
    group.throughput(Throughput::Bytes(u64::try_from(SIZE).unwrap_or_default()));
    let texts: [(&str, Line); 7] = [
        ("clean_json", clean_json),
        ("event_json", event_json),
        ("digits", digits),
        ("single_digits", single_digits),
        ("arabic", arabic),
        ("chinese", chinese),
        ("json_with_cards", one_card),
    ];
    for (name, line) in texts {
        let mut text = filled(line);
        text.truncate(SIZE);
        group.bench_function(name, |bencher| bencher.iter(|| scan(black_box(&text)).len()));
        group.bench_function(format!("{name}_in_chunks"), |bencher| {
            bencher.iter(|| {
                let mut found = 0_usize;
                let mut scanner = Scanner::default();
                for chunk in black_box(&text).chunks(CHUNK) {
                    scanner.feed(chunk, &mut |_| found += 1);
                }
                scanner.finish(&mut |_| found += 1);
                found
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
