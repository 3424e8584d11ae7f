//! Does the time of a tokenization tell whether the card was known? Welch's t-test over 100,000 interleaved calls to the
//! real vault (threat B45), with two controls that must fail: a vault that answers known cards without writing, and the
//! very same samples with a twentieth of the median added to those of known cards.
//!
//! The threshold is that of dudect and of ISO/IEC 17825: |t| < 4.5. What the rest of the machine does to a call is taken
//! out of both classes alike: each time is divided by the median of the calls around it, and the slowest twentieth is
//! left out. Without the first, a machine whose load changes hides leaks that the second control must show.

use anyhow::{Context, Result};
use cordon_client::Tokenizer;
use cordon_tests::cards::{self, done};
use cordon_tests::stack::{self, Options, Stack};
use cordon_wire::{LookupItem, LookupRequest, TokenizeRequest};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Calls that are measured.
const SAMPLES: u64 = 100_000;
/// Calls of the leaky control: it needs few.
const CONTROL: u64 = 4_000;
/// Callers at once, each on a connection of its own.
const CALLERS: usize = 16;
/// Where the numbers of new cards begin.
const NEW: u64 = 10_000_000;
/// Calls around a call, whose median it is measured in.
const NEIGHBOURS: usize = 500;
const THRESHOLD: f64 = 4.5;

/// One call.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// When it was made, among the others.
    order: u64,
    known: bool,
    /// Seconds.
    took: f64,
}

/// How a call is made for a card that may be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As everybody does.
    Vault,
    /// A card that is known is looked up instead, as a vault without these measures answers it: nothing is written.
    Leaky,
}

/// What is measured, in an order that nobody can foresee.
struct Plan {
    way: Way,
    coins: RandomState,
    next: AtomicU64,
    first: u64,
    end: u64,
}

impl Plan {
    fn new(way: Way, first: u64, count: u64) -> Arc<Self> {
        Arc::new(Self {
            way,
            coins: RandomState::new(),
            next: AtomicU64::new(first),
            first,
            end: first + count,
        })
    }

    fn is_known(&self, n: u64) -> bool {
        self.coins.hash_one(n) & 1 == 0
    }

    /// Makes the known cards known, many in a call.
    async fn prepare(&self, client: &Tokenizer) -> Result<()> {
        let known: Vec<u64> = (self.first..self.end).filter(|n| self.is_known(*n)).collect();
        for batch in known.chunks(1_000) {
            let items = batch.iter().map(|n| Ok(cards::item(cards::bulk(*n)?))).collect::<Result<_>>()?;
            for item in client.tokenize(&stack::cards()?, &TokenizeRequest { items }).await?.items {
                done(item)?;
            }
        }
        Ok(())
    }

    /// Measures until all is measured.
    async fn measure(self: Arc<Self>, client: Tokenizer) -> Result<Vec<Sample>> {
        let collection = stack::cards()?;
        let mut samples = Vec::new();
        loop {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            if n >= self.end {
                return Ok(samples);
            }
            let known = self.is_known(n);
            let pan = cards::bulk(if known { n } else { NEW + n })?;
            let started = Instant::now();
            if known && self.way == Way::Leaky {
                let request = LookupRequest { items: vec![LookupItem { pan: pan.into() }] };
                drop(client.lookup(&collection, &request).await?);
            } else {
                drop(client.tokenize(&collection, &cards::only(pan)).await?);
            }
            samples.push(Sample { order: n, known, took: started.elapsed().as_secs_f64() });
        }
    }
}

async fn run(stack: &Stack, plan: &Arc<Plan>) -> Result<Vec<Sample>> {
    plan.prepare(&stack.tokenizer("gateway-ingress")?).await?;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(Arc::clone(plan).measure(stack.tokenizer("gateway-ingress")?));
    }
    let mut samples = Vec::new();
    while let Some(measured) = callers.join_next().await {
        samples.extend(measured??);
    }
    Ok(samples)
}

/// What the samples say. Differences and deviations are parts of the median of the calls around a call.
struct Verdict {
    t: f64,
    /// Mean of known cards less mean of new ones.
    difference: f64,
    /// Standard deviation of new cards.
    spread: f64,
    /// Of all calls, in seconds.
    median: f64,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [difference, spread] = [self.difference, self.spread].map(|part| part * 100.0);
        let median = self.median * 1e6;
        write!(
            f,
            "t = {:.2}; known cards {difference:+.2} %, deviation {spread:.0} %, median {median:.0} us",
            self.t
        )
    }
}

/// Welch's t over the samples without their slowest twentieth, each in parts of the median of its neighbours.
fn judge(samples: &[Sample]) -> Result<Verdict> {
    let mut ordered = samples.to_vec();
    ordered.sort_by_key(|sample| sample.order);
    let mut relative = Vec::with_capacity(ordered.len());
    for neighbours in ordered.chunks(NEIGHBOURS) {
        let median = percentile(neighbours.iter().map(|sample| sample.took), 50)?;
        relative.extend(neighbours.iter().map(|sample| (sample.known, sample.took / median)));
    }
    let bound = percentile(relative.iter().map(|(_, time)| *time), 95)?;
    let class = |wanted: bool| -> Vec<f64> {
        let kept = relative.iter().filter(|(known, time)| *known == wanted && *time < bound);
        kept.map(|(_, time)| *time).collect()
    };
    let (known, new) = (moments(&class(true)), moments(&class(false)));
    let difference = known.mean - new.mean;
    let t = difference / (known.variance / known.count + new.variance / new.count).sqrt();
    let median = percentile(samples.iter().map(|sample| sample.took), 50)?;
    Ok(Verdict { t, difference, spread: new.variance.sqrt(), median })
}

fn percentile(times: impl Iterator<Item = f64>, part: usize) -> Result<f64> {
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    times.get(times.len() * part / 100).copied().context("samples")
}

struct Moments {
    count: f64,
    mean: f64,
    variance: f64,
}

/// Welford's way, which stays exact over many samples.
fn moments(times: &[f64]) -> Moments {
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
    for time in times {
        count += 1.0;
        let delta = time - mean;
        mean += delta / count;
        squares += delta * (time - mean);
    }
    Moments { count, mean, variance: squares / (count - 1.0) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_a_tokenization_does_not_tell_a_known_card_from_a_new_one() -> Result<()> {
    let limits = "[limits]\nlookups_per_minute = 0\n";
    let stack = Stack::start(Options { gateway: false, vault_tables: limits, ..Options::default() }).await?;
    // The first calls meet cold caches and an empty store.
    run(&stack, &Plan::new(Way::Vault, 5_000_000, CONTROL)).await?;

    let leaky = judge(&run(&stack, &Plan::new(Way::Leaky, 6_000_000, CONTROL)).await?)?;
    println!("control, known cards without a write: {leaky}");
    assert!(leaky.t.abs() > THRESHOLD, "the test does not see a leak: {leaky}");

    let samples = run(&stack, &Plan::new(Way::Vault, 0, SAMPLES)).await?;
    let verdict = judge(&samples)?;
    println!("{SAMPLES} calls: {verdict}");
    let spoiled: Vec<_> = samples
        .iter()
        .map(|sample| Sample {
            took: sample.took + if sample.known { verdict.median / 20.0 } else { 0.0 },
            ..*sample
        })
        .collect();
    let spoiled = judge(&spoiled)?;
    println!("control, known cards a twentieth of the median slower: {spoiled}");
    assert!(spoiled.t.abs() > THRESHOLD, "the test would not see a small leak: {spoiled}");
    assert!(verdict.t.abs() < THRESHOLD, "the time tells known cards from new ones: {verdict}");
    Ok(())
}
