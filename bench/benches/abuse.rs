//! What it costs to judge a signup by six rules: of a client that comes once, of one that is known, of one that is stopped.
//!
//! Must never use a real card number: no issuer has these.
//! Run with `cargo bench -p cordon-bench --bench abuse`.

use std::collections::HashMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use cordon_card::Pan;
use cordon_gateway::abuse::{Client, Guard, Rules};
use cordon_policy::{AbuseAction, AbuseKey, AbuseLimit, AbuseRule, Decision};
use cordon_tests::cards;
use criterion::Criterion;
use http::HeaderMap;

fn rules() -> Option<Rules> {
    let ratio = |percent, of| AbuseLimit::DeclineRatio { percent, of };
    let rules = [
        ("one-card", AbuseKey::Card, AbuseLimit::Requests(8)),
        ("session", AbuseKey::Cookie("sid".to_owned()), AbuseLimit::Cards(6)),
        ("address-declined", AbuseKey::Address, ratio(50, 20)),
        ("address-cards", AbuseKey::Address, AbuseLimit::Cards(400)),
        ("network-declined", AbuseKey::Network, ratio(60, 40)),
        ("iin-declined", AbuseKey::Iin(8), ratio(60, 40)),
    ]
    .map(|(name, per, limit)| AbuseRule {
        name: name.to_owned(),
        per,
        limit,
        within: Duration::from_secs(3_600),
        action: AbuseAction::Deny,
    });
    Rules::load("signup", &rules, &HashMap::new()).ok()
}

/// One attempt and its answer.
fn attempt(guard: &Arc<Guard>, rules: &Rules, source: u32, session: u32, pan: &Pan, decision: Decision) {
    let mut headers = HeaderMap::new();
    if let Ok(value) = format!("sid={session}").parse() {
        headers.insert("cookie", value);
    }
    let client = Client { source: IpAddr::V4(Ipv4Addr::from_bits(source)), headers: &headers };
    black_box(guard.judge(rules, client, [pan], 0)).attempt.settle(Some(decision));
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let pans: Vec<Pan> = (0..10_000).filter_map(|number| cards::of_range(number % 97, number).ok()).collect();
    let (Some(rules), Ok(guard)) = (rules(), Guard::new(32 * 1024 * 1024, 1)) else { return };
    let Some(first) = pans.first() else { return };
    let mut group = criterion.benchmark_group("abuse");
    let mut number = 0_u32;
    group.bench_function("a new client and card", |bench| {
        bench.iter(|| {
            number = number.wrapping_add(1);
            let pan = pans.get(usize::try_from(number).unwrap_or_default() % pans.len()).unwrap_or(first);
            attempt(&guard, &rules, number.wrapping_mul(257), number, pan, Decision::Approved);
        });
    });
    group.bench_function("a known client and card", |bench| {
        bench.iter(|| attempt(&guard, &rules, 0x0a00_0001, u32::MAX, first, Decision::Approved));
    });
    group.bench_function("a client that is stopped", |bench| {
        bench.iter(|| {
            number = number.wrapping_add(1);
            let pan = pans.get(usize::try_from(number).unwrap_or_default() % pans.len()).unwrap_or(first);
            attempt(&guard, &rules, 0x0a00_0002, number, pan, Decision::Declined);
        });
    });
    group.finish();
    criterion.final_summary();
}
