//! Cost of the vault's cryptography: sealing and opening a record, fingerprints, tokens.
//!
//! Must never use a real card number: the one number here is a published test number.
//! Run with `cargo bench -p cordon-bench --bench crypto`.

use std::hint::black_box;

use anyhow::{Context, Result};
use cordon_card::{CardId, Environment, Expiry, Pan, Token};
use cordon_vault::fingerprint::fingerprint;
use cordon_vault::keyring::Unlocked;
use cordon_vault::keys::{DataKey, RootKey};
use cordon_vault::mint::TokenProfile;
use cordon_vault::record::xaes::XaesKey;
use cordon_vault::record::{Binding, CardData, Metadata, rewrap, seal};
use cordon_vault::store::CollectionId;
use cordon_wire::TokenShapeChoice;
use criterion::Criterion;
use jiff::Timestamp;

const COLLECTION: CollectionId = CollectionId(1);
const BLOCKS: u32 = 1_000;

/// A plaintext and associated data of the sizes a record has.
const PLAINTEXT: [u8; 48] = [7; 48];
const AAD: [u8; 200] = [9; 200];

fn xaes(criterion: &mut Criterion) -> Result<()> {
    let key = XaesKey::new(&DataKey::generate()?);
    let mut sealed = Vec::new();
    key.seal_onto(&AAD, &PLAINTEXT, &mut sealed)?;
    let mut group = criterion.benchmark_group("xaes");
    group.bench_function("seal", |bencher| {
        bencher.iter(|| {
            let mut out = Vec::new();
            key.seal_onto(black_box(&AAD), black_box(&PLAINTEXT), &mut out).map(|()| out)
        });
    });
    group.bench_function("open", |bencher| bencher.iter(|| key.open(black_box(&AAD), black_box(&sealed))));
    group.finish();
    Ok(())
}

fn record(criterion: &mut Criterion, keys: &Unlocked, pan: &Pan) -> Result<()> {
    let token = Token::opaque(Environment::Dev, &[1; 17]);
    let card_id = CardId::from_bytes([2; 16]);
    let binding = Binding {
        environment: Environment::Dev,
        collection: COLLECTION,
        token: &token,
        card_id,
        expires_at: None,
        created_at: 1_800_000_000,
    };
    let expiry = Expiry::new(2031, 12).ok();
    let card =
        CardData { pan: pan.duplicate(), expiry, metadata: Metadata::none(), created_at: 1_800_000_000 };
    let key = keys.active_data_key(COLLECTION).context("a new collection has a data key")?;
    let now = Timestamp::UNIX_EPOCH;
    let sealed = seal(key, &binding, &card, now)?;
    let mut group = criterion.benchmark_group("record");
    group.bench_function("seal", |bencher| {
        bencher.iter(|| seal(key, black_box(&binding), black_box(&card), now));
    });
    group.bench_function("open_and_seal", |bencher| {
        bencher.iter(|| rewrap(keys, black_box(&binding), black_box(&sealed), now));
    });
    group.finish();
    Ok(())
}

fn index(criterion: &mut Criterion, keys: &Unlocked, pan: &Pan) -> Result<()> {
    let key = keys.active_index_key(COLLECTION).context("a new collection has an index key")?;
    criterion.bench_function("fingerprint", |bencher| {
        bencher.iter(|| fingerprint(key, Environment::Dev, COLLECTION, black_box(pan)));
    });
    Ok(())
}

fn mint(criterion: &mut Criterion, pan: &Pan) -> Result<()> {
    let shapes = [
        ("opaque", TokenShapeChoice::Opaque, false),
        ("card", TokenShapeChoice::Card, true),
        ("uuid", TokenShapeChoice::Uuid, false),
    ];
    let mut group = criterion.benchmark_group("mint");
    for (name, shape, keep_last_four) in shapes {
        let wire =
            cordon_wire::TokenProfile { shape, keep_last_four, ..cordon_wire::TokenProfile::default() };
        let profile = TokenProfile::try_from(wire)?;
        group.bench_function(name, |bencher| {
            bencher.iter(|| profile.mint(Environment::Dev, pan.len(), pan.last_four()));
        });
    }
    group.finish();
    Ok(())
}

fn main() -> Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let root = RootKey::generate()?;
    let keys = Unlocked::create(&root, Environment::Dev, Default::default())?;
    let mut keys = keys.add_collection(COLLECTION, Default::default())?;
    // A bench seals more often than a first block of uses allows.
    for _ in 0..BLOCKS {
        let more = keys.reserve(u64::MAX, Default::default())?;
        keys = more.context("a data key has uses left to reserve")?.made_durable();
    }
    let pan = Pan::parse("4242424242424242")?;
    xaes(&mut criterion)?;
    record(&mut criterion, &keys, &pan)?;
    index(&mut criterion, &keys, &pan)?;
    mint(&mut criterion, &pan)?;
    criterion.final_summary();
    Ok(())
}
