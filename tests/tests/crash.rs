//! kill -9 under load, twenty times: what was acknowledged is there, and no card has two tokens.

#![expect(clippy::indexing_slicing, reason = "an end-to-end test: a panic is a failed assertion")]

use anyhow::{Context, Result};
use cordon_card::Token;
use cordon_tests::cards::{self, done};
use cordon_tests::stack::{self, Options, Stack};
use cordon_wire::SealKind;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const KILLS: u32 = 20;
const CALLERS: u64 = 8;
/// Cards are drawn from a small set, so that most are tokenized again and again, before and after each kill.
const DISTINCT: u64 = 4_000;

type Acknowledged = Arc<Mutex<BTreeMap<u64, Token>>>;

/// Tokenizes in a loop until told to stop or the vault is gone; remembers each answer.
async fn load(
    stack: &Stack,
    seed: u64,
    stop: Arc<AtomicBool>,
    known: Acknowledged,
    calls: Arc<AtomicU64>,
) -> Result<()> {
    let client = stack.tokenizer("gateway-ingress")?;
    let collection = stack::cards()?;
    let mut n = seed;
    while !stop.load(Ordering::Relaxed) {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let card = (n >> 33) % DISTINCT;
        let Ok(answer) = client.tokenize(&collection, &cards::only(cards::bulk(card)?)).await else {
            return Ok(());
        };
        let tokenized = done(answer.items.into_iter().next().context("one item")?)?;
        calls.fetch_add(1, Ordering::Relaxed);
        let mut known = known.lock().map_err(|_source| anyhow::anyhow!("a caller panicked"))?;
        if let Some(before) = known.insert(card, tokenized.token.clone()) {
            anyhow::ensure!(
                before == tokenized.token,
                "card {card} has two tokens: {before} and {}",
                tokenized.token
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_tokens_survive_twenty_kills_and_no_card_has_two() -> Result<()> {
    let mut stack =
        Stack::start(Options { gateway: false, seal: SealKind::Shamir, ..Options::default() }).await?;
    let known: Acknowledged = Arc::default();
    for round in 0..KILLS {
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let running = async {
            let callers = (0..CALLERS).map(|caller| {
                let seed = u64::from(round) * 1_000 + caller;
                load(&stack, seed, Arc::clone(&stop), Arc::clone(&known), Arc::clone(&calls))
            });
            futures_join(callers.collect()).await
        };
        // A random moment: after a varying number of acknowledged calls.
        let wanted = 20 + u64::from((round * 7919) % 400);
        let pid = rustix::process::Pid::from_raw(i32::try_from(stack.vault.id())?).context("a process id")?;
        let killer = async {
            while calls.load(Ordering::Relaxed) < wanted {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            rustix::process::kill_process(pid, rustix::process::Signal::KILL)
        };
        let (loaded, killed) = tokio::join!(running, killer);
        loaded?;
        killed?;
        stack.vault.kill()?;
        stack.restart_vault()?;
        stack.unseal().await?;
        check(&stack, &known).await.with_context(|| format!("after kill {round}"))?;
    }
    let log = cordon_tests::process::binary("cordon")?;
    let verified = std::process::Command::new(log)
        .args(["audit", "verify", "--json", "--dir"])
        .arg(stack.vault_data().join("audit"))
        .output()?;
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    Ok(())
}

/// Every acknowledged token opens to its card.
async fn check(stack: &Stack, known: &Acknowledged) -> Result<()> {
    let known = known.lock().map_err(|_source| anyhow::anyhow!("a caller panicked"))?.clone();
    let revealer = stack.revealer("gateway-egress")?;
    let pairs: Vec<_> = known.into_iter().collect();
    for chunk in pairs.chunks(500) {
        let tokens: Vec<_> = chunk.iter().map(|(_, token)| token.clone()).collect();
        let answer = revealer.detokenize(&stack::cards()?, &cards::reveal_all(&tokens)).await?;
        anyhow::ensure!(answer.items.len() == chunk.len(), "one answer per token");
        for ((card, _), item) in chunk.iter().zip(answer.items) {
            let pan = done(item)?.pan.into_result().map_err(|code| anyhow::anyhow!("{code:?}"))?;
            anyhow::ensure!(
                pan.expose() == cards::bulk(*card)?.expose(),
                "token of card {card} opens to another"
            );
        }
    }
    Ok(())
}

async fn futures_join<F: Future<Output = Result<()>>>(futures: Vec<F>) -> Result<()> {
    let mut pinned: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        let mut index = 0;
        while index < pinned.len() {
            match pinned[index].as_mut().poll(context) {
                std::task::Poll::Ready(Err(error)) => return std::task::Poll::Ready(Err(error)),
                std::task::Poll::Ready(Ok(())) => drop(pinned.swap_remove(index)),
                std::task::Poll::Pending => index += 1,
            }
        }
        if pinned.is_empty() { std::task::Poll::Ready(Ok(())) } else { std::task::Poll::Pending }
    })
    .await
}

#[tokio::test]
async fn a_store_that_is_behind_its_audit_log_is_refused() -> Result<()> {
    let mut stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let client = stack.tokenizer("gateway-ingress")?;
    client.tokenize(&stack::cards()?, &cards::only(cards::bulk(1)?)).await?;
    stack.vault.terminate().await?;
    // The disk "comes back" with an empty store beside its audit log.
    std::fs::remove_dir_all(stack.vault_data().join("store"))?;
    let error = stack.restart_vault().map(|()| String::new()).unwrap_or_else(|error| format!("{error:#}"));
    assert!(error.contains("but the audit log has seen commit"), "it says why it does not start: {error}");
    Ok(())
}

#[tokio::test]
async fn a_store_whose_audit_log_was_removed_is_refused() -> Result<()> {
    let mut stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    stack.vault.terminate().await?;
    std::fs::remove_dir_all(stack.vault_data().join("audit"))?;
    let error = stack.restart_vault().map(|()| String::new()).unwrap_or_else(|error| format!("{error:#}"));
    assert!(error.contains("its audit log is gone"), "it says why it does not start: {error}");
    Ok(())
}
