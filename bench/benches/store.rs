//! Speed of the embedded store on this machine's disk: durable inserts from 64 callers, warm reads, unknown
//! cards.
//!
//! Must never run on a memory file system if the figures are to mean anything: set TMPDIR to the disk that
//! counts. Run with `cargo bench -p cordon-bench --bench store`.
//!
//! Inserts run on two single-threaded runtimes, as in the vault, and include making the (fake) records.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use cordon_card::{CardId, Environment, Token};
use cordon_vault::fingerprint::Fingerprint;
use cordon_vault::record::Sealed;
use cordon_vault::store::{Claim, CollectionId, FjallStore, IndexEntry, Inserted, NewCard, Store};
use criterion::{BatchSize, Criterion, SamplingMode, Throughput};
use tokio::task::JoinSet;

const COLLECTION: CollectionId = CollectionId(1);
const CALLERS: u64 = 64;
const THREADS: u64 = 2;

/// Cards in the store that is read from.
const STORED: u64 = 200_000;

/// Tokens or fingerprints in one read.
const READ: u64 = 100;

/// Spreads numbers over all bits, so that neighbours in number are none in key order (the splitmix64
/// finaliser).
fn spread(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn filled<const N: usize>(number: u64) -> [u8; N] {
    let mut bytes = [0; N];
    for (chunk, part) in bytes.chunks_mut(8).zip(0..) {
        let word = spread(number.wrapping_mul(8).wrapping_add(part)).to_be_bytes();
        for (byte, value) in chunk.iter_mut().zip(word) {
            *byte = value;
        }
    }
    bytes
}

fn token(number: u64) -> Token {
    Token::opaque(Environment::Dev, &filled(number))
}

fn entry(number: u64) -> IndexEntry {
    IndexEntry { version: 1, fingerprint: Fingerprint::from_bytes(filled(number)) }
}

/// Bytes of the length that a card with an expiry and no metadata has.
fn record() -> Result<Sealed> {
    let envelope = |length| [&[2, 0, 0, 0, 1][..], &vec![0x5a; length]].concat();
    (0..512).find_map(|length| Sealed::from_stored(&envelope(length)).ok()).context("no length passes")
}

fn card(number: u64, sealed: &Sealed) -> NewCard {
    NewCard {
        collection: COLLECTION,
        index: vec![entry(number)],
        claim: Claim::Multi,
        token: token(number),
        card_id: CardId::from_bytes(filled(number)),
        expires_at: None,
        created_at: 1_700_000_000,
        sealed: sealed.clone(),
    }
}

/// What the callers share: the store, the next card and how many batches are left.
struct Load {
    store: FjallStore,
    sealed: Sealed,
    next: AtomicU64,
    begun: AtomicU64,
}

impl Load {
    /// One caller: inserts batches of new cards until `batches` have begun.
    async fn call(self: Arc<Self>, batches: u64, size: u64) -> Result<()> {
        while self.begun.fetch_add(1, Ordering::Relaxed) < batches {
            let first = self.next.fetch_add(size, Ordering::Relaxed);
            let cards = (first..first + size).map(|number| card(number, &self.sealed)).collect();
            let answers = self.store.insert(cards).await?.value;
            ensure!(answers.iter().all(|answer| *answer == Inserted::Won), "a new card was known");
        }
        Ok(())
    }

    /// Runs all callers and answers how long they took.
    fn run(self: &Arc<Self>, batches: u64, size: u64) -> Result<Duration> {
        self.begun.store(0, Ordering::Relaxed);
        let start = Instant::now();
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let load = Arc::clone(self);
                thread::spawn(move || -> Result<()> {
                    tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
                        let mut callers = JoinSet::new();
                        for _ in 0..CALLERS / THREADS {
                            callers.spawn(Arc::clone(&load).call(batches, size));
                        }
                        while let Some(ended) = callers.join_next().await {
                            ended??;
                        }
                        Ok(())
                    })
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_panic| anyhow!("a caller panicked"))??;
        }
        Ok(start.elapsed())
    }
}

fn inserts(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("store/insert, 64 callers");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    for size in [1, 16, 128] {
        let dir = tempfile::tempdir()?;
        let store = FjallStore::open(dir.path(), None)?;
        let load = Load { store, sealed: record()?, next: AtomicU64::new(0), begun: AtomicU64::new(0) };
        let load = Arc::new(load);
        let mut failure = None;
        group.throughput(Throughput::Elements(size));
        group.bench_function(format!("batches of {size}"), |bencher| {
            bencher.iter_custom(|batches| {
                load.run(batches, size).unwrap_or_else(|error| {
                    failure = Some(error);
                    Duration::from_secs(1)
                })
            });
        });
        if let Some(error) = failure {
            return Err(error);
        }
    }
    group.finish();
    Ok(())
}

fn reads(criterion: &mut Criterion) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = FjallStore::open(dir.path(), None)?;
    let sealed = record()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for first in (0..STORED).step_by(1000) {
        let cards = (first..first + 1000).map(|number| card(number, &sealed)).collect();
        runtime.block_on(store.insert(cards))?;
    }
    let mut drawn = 0;
    let mut draw = |from: u64, within: u64| -> Vec<u64> {
        drawn += READ;
        (drawn..drawn + READ).map(|number| from + spread(number) % within).collect()
    };
    let mut group = criterion.benchmark_group("store/read");
    group.warm_up_time(Duration::from_secs(3)).measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Elements(READ));
    group.bench_function("warm rows by token, 100 at a time", |bencher| {
        let tokens = || draw(0, STORED).into_iter().map(token).collect::<Vec<_>>();
        bencher.iter_batched(
            tokens,
            |tokens| store.get(black_box(COLLECTION), &tokens),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("unknown cards by fingerprint, 100 at a time", |bencher| {
        let cards = || draw(STORED, u64::MAX / 2).into_iter().map(|n| vec![entry(n)]).collect::<Vec<_>>();
        bencher.iter_batched(cards, |cards| store.find(black_box(COLLECTION), &cards), BatchSize::SmallInput);
    });
    group.finish();
    Ok(())
}

fn main() -> Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    inserts(&mut criterion)?;
    reads(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}
