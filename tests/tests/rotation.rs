//! Rotation under load: no read or write fails, and new records use the new version.

use anyhow::{Context, Result};
use cordon_tests::cards::{self, done};
use cordon_tests::stack::{self, Options, Stack};
use cordon_wire::{InspectRequest, KeyPurpose, KeyState, RotateRequest};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

async fn key_version(stack: &Stack, token: &cordon_card::Token) -> Result<u32> {
    let request = InspectRequest { items: vec![token.clone().into()] };
    let answer = stack.tokenizer("operator")?.inspect(&stack::cards()?, &request).await?;
    Ok(done(answer.items.into_iter().next().context("an item")?)?.key_version)
}

async fn tokenize(stack: &Stack, n: u64) -> Result<cordon_card::Token> {
    let client = stack.tokenizer("gateway-ingress")?;
    let answer = client.tokenize(&stack::cards()?, &cards::only(cards::bulk(n)?)).await?;
    Ok(done(answer.items.into_iter().next().context("an item")?)?.token)
}

/// Writes a new card and reads it back, again and again; any failure is the test's.
async fn load(stack: Arc<Stack>, caller: u64, stop: Arc<AtomicBool>, count: Arc<AtomicU64>) -> Result<()> {
    let (writer, reader) = (stack.tokenizer("gateway-ingress")?, stack.revealer("gateway-egress")?);
    let collection = stack::cards()?;
    let mut n = caller * 1_000_000_000;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let answer = writer.tokenize(&collection, &cards::only(cards::bulk(n)?)).await?;
        let token = done(answer.items.into_iter().next().context("an item")?)?.token;
        let answer = reader.detokenize(&collection, &cards::reveal(&token)).await?;
        let card = done(answer.items.into_iter().next().context("an item")?)?;
        let pan = card.pan.into_result().map_err(|code| anyhow::anyhow!("{code:?}"))?;
        anyhow::ensure!(pan.expose() == cards::bulk(n)?.expose(), "another card came back");
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotating_keys_under_load_fails_nothing_and_new_records_use_the_new_version() -> Result<()> {
    let stack = Arc::new(Stack::start(Options { gateway: false, ..Options::default() }).await?);
    let old = tokenize(&stack, 1).await?;
    assert_eq!(key_version(&stack, &old).await?, 1);
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut callers = tokio::task::JoinSet::new();
    for caller in 1..=4 {
        callers.spawn(load(Arc::clone(&stack), caller, Arc::clone(&stop), Arc::clone(&count)));
    }
    let administrator = stack.administrator()?;
    for version in 2..=6 {
        let before = count.load(Ordering::Relaxed);
        stack.until("the load goes on", || count.load(Ordering::Relaxed) > before + 20).await?;
        let request = RotateRequest { purpose: KeyPurpose::Data, collection: Some(stack::cards()?) };
        let active = administrator.rotate(&request).await?.active;
        assert_eq!((active.version, active.state), (version, KeyState::Active));
        let fresh = tokenize(&stack, 100 + u64::from(version)).await?;
        assert_eq!(key_version(&stack, &fresh).await?, version);
        administrator.rotate(&RotateRequest { purpose: KeyPurpose::Kek, collection: None }).await?;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(result) = callers.join_next().await {
        result??;
    }
    assert_eq!(key_version(&stack, &old).await?, 1, "old records stay readable under their version");
    let keys = administrator.keys().await?.keys;
    let data: Vec<_> = keys.iter().filter(|key| key.purpose == KeyPurpose::Data).collect();
    assert_eq!(data.iter().filter(|key| key.state == KeyState::Active).count(), 1);
    assert_eq!(data.iter().filter(|key| key.state == KeyState::Deactivated).count(), 5);
    Ok(())
}
