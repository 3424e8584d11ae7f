//! Rotation that finishes: records move to the new keys under load and across kills, every card keeps its token, older
//! keys are destroyed only when nothing needs them, and a keyring that was put back is refused.

use anyhow::{Context, Result, ensure};
use cordon_card::Token;
use cordon_client::{Administrator, ClientError};
use cordon_tests::cards::{self, done};
use cordon_tests::stack::{self, Options, Stack};
use cordon_vault::store::{FjallStore, Store};
use cordon_wire::{
    DestroyRequest, KeyPurpose, Operation, ProblemCode, RewrapRequest, RewrapState, RewrapStatus,
    RotateRequest, TokenizeRequest,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const CARDS: u64 = 4_000;

async fn tokenize(stack: &Stack, from: u64, count: u64) -> Result<Vec<Token>> {
    let client = stack.tokenizer("gateway-ingress")?;
    let mut tokens = Vec::new();
    for start in (from..from + count).step_by(500) {
        let end = (start + 500).min(from + count);
        let items = (start..end).map(|n| Ok(cards::item(cards::bulk(n)?))).collect::<Result<_>>()?;
        let answer = client.tokenize(&stack::cards()?, &TokenizeRequest { items }).await?;
        for item in answer.items {
            tokens.push(done(item)?.token);
        }
    }
    Ok(tokens)
}

async fn reveals(stack: &Stack, from: u64, tokens: &[Token]) -> Result<()> {
    let client = stack.revealer("gateway-egress")?;
    for (start, page) in (from..).step_by(500).zip(tokens.chunks(500)) {
        let answer = client.detokenize(&stack::cards()?, &cards::reveal_all(page)).await?;
        for (n, item) in (start..).zip(answer.items) {
            let pan = done(item)?.pan.into_result().map_err(|code| anyhow::anyhow!("{code:?}"))?;
            ensure!(pan.expose() == cards::bulk(n)?.expose(), "token {n} reveals another card");
        }
    }
    Ok(())
}

async fn rotate(administrator: &Administrator, purpose: KeyPurpose) -> Result<u32> {
    let collection = (purpose != KeyPurpose::Kek).then(stack::cards).transpose()?;
    Ok(administrator.rotate(&RotateRequest { purpose, collection }).await?.active.version)
}

async fn rewrap(stack: &Stack, rate_per_s: u32, pause: bool) -> Result<RewrapStatus> {
    let request = RewrapRequest { collection: stack::cards()?, pause, rate_per_s };
    Ok(stack.administrator()?.rewrap(&request).await?)
}

async fn status(stack: &Stack) -> Result<RewrapStatus> {
    let runs = stack.administrator()?.rewraps().await?.runs;
    runs.into_iter().next().context("a run")
}

async fn finished(stack: &Stack) -> Result<RewrapStatus> {
    loop {
        let status = status(stack).await?;
        if status.state == RewrapState::Finished {
            return Ok(status);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[expect(clippy::expect_used, reason = "an end-to-end test: a panic is a failed assertion")]
async fn destroy(stack: &Stack, purpose: KeyPurpose, version: u32) -> Result<u64, ClientError> {
    let collection = (purpose != KeyPurpose::Kek).then(|| stack::cards().ok()).flatten();
    let request = DestroyRequest { purpose, collection, version };
    let administrator =
        stack.administrator().map_err(|error| ClientError::Configuration(error.to_string()))?;
    let record = match administrator.destroy_key(&request).await {
        Err(ClientError::Problem(problem)) if problem.code == ProblemCode::ApprovalRequired => {
            let collection = request.collection.clone();
            stack
                .approve(&Operation::DestroyKey { purpose, collection, version })
                .await
                .map_err(|error| ClientError::Configuration(error.to_string()))?;
            administrator.destroy_key(&request).await?
        }
        other => other?,
    };
    assert_eq!(record.version, version);
    let checkpoint = record.checkpoint.expect("a checkpoint is signed within three seconds");
    let size: u64 = checkpoint.lines().nth(1).expect("a size").parse().expect("a number");
    assert!(size > record.audit_index, "the checkpoint does not cover the line");
    Ok(record.audit_index)
}

#[expect(clippy::panic, reason = "an end-to-end test: a panic is a failed assertion")]
fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> ProblemCode {
    match answer {
        Err(ClientError::Problem(problem)) => problem.code,
        other => panic!("not a problem: {other:?}"),
    }
}

/// Tokenizes old and new cards in turn, and reads each back, until told to stop.
async fn load(
    stack: Arc<Stack>,
    old: Arc<Vec<Token>>,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
) -> Result<()> {
    let mut fresh = 1_000_000;
    let mut known = (0..).zip(old.iter()).cycle();
    while !stop.load(Ordering::Relaxed) {
        let (n, token) = known.next().context("an old card")?;
        let again = tokenize(&stack, n, 1).await?;
        ensure!(again.first() == Some(token), "card {n} got another token");
        reveals(&stack, n, &again).await?;
        let first = tokenize(&stack, fresh, 1).await?;
        ensure!(tokenize(&stack, fresh, 1).await? == first, "a new card has two tokens");
        fresh += 1;
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_and_index_keys_rotate_to_the_end_under_load() -> Result<()> {
    let stack = Arc::new(Stack::start(Options { gateway: false, ..Options::default() }).await?);
    let old = Arc::new(tokenize(&stack, 0, CARDS).await?);
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let caller =
        tokio::spawn(load(Arc::clone(&stack), Arc::clone(&old), Arc::clone(&stop), Arc::clone(&count)));
    let administrator = stack.administrator()?;
    assert_eq!(rotate(&administrator, KeyPurpose::Data).await?, 2);
    assert_eq!(rotate(&administrator, KeyPurpose::Index).await?, 2);
    // A third index key would make a third entry: refused until the first is gone.
    let third = RotateRequest { purpose: KeyPurpose::Index, collection: Some(stack::cards()?) };
    assert_eq!(refused(administrator.rotate(&third).await), ProblemCode::Conflict);
    for purpose in [KeyPurpose::Data, KeyPurpose::Index] {
        assert_eq!(
            refused(destroy(&stack, purpose, 1).await),
            ProblemCode::Conflict,
            "nothing is proven yet"
        );
        assert_eq!(refused(destroy(&stack, purpose, 2).await), ProblemCode::Conflict, "it is active");
    }

    rewrap(&stack, 4_000, false).await?;
    let before = count.load(Ordering::Relaxed);
    let ended = finished(&stack).await?;
    assert!(count.load(Ordering::Relaxed) > before, "nothing was served meanwhile");
    assert!(ended.moved >= CARDS, "{ended:?}");
    assert_eq!(ended.failed, 0);
    assert_eq!(ended.older.len(), 2, "{ended:?}");
    assert!(ended.older.iter().all(|need| need.records == 0 && need.safe_to_destroy), "{ended:?}");

    destroy(&stack, KeyPurpose::Data, 1).await?;
    destroy(&stack, KeyPurpose::Index, 1).await?;
    assert_eq!(
        refused(destroy(&stack, KeyPurpose::Data, 1).await),
        ProblemCode::Conflict,
        "it is gone already"
    );
    assert_eq!(tokenize(&stack, 0, CARDS).await?, *old);
    reveals(&stack, 0, &old).await?;

    // The next rotation takes away what the destroyed index key left, while the load still goes on.
    assert_eq!(rotate(&administrator, KeyPurpose::Index).await?, 3);
    assert!(
        status(&stack).await?.older.iter().all(|need| !need.safe_to_destroy),
        "the proof was for other keys"
    );
    rewrap(&stack, 20_000, false).await?;
    let ended = finished(&stack).await?;
    assert!(ended.older.iter().all(|need| need.safe_to_destroy), "{ended:?}");
    destroy(&stack, KeyPurpose::Index, 2).await?;
    assert_eq!(tokenize(&stack, 0, CARDS).await?, *old);

    // A key-encryption key wraps others until it is rotated away from.
    assert_eq!(refused(destroy(&stack, KeyPurpose::Kek, 1).await), ProblemCode::Conflict);
    assert_eq!(rotate(&administrator, KeyPurpose::Kek).await?, 2);
    destroy(&stack, KeyPurpose::Kek, 1).await?;
    reveals(&stack, 0, &old).await?;
    stop.store(true, Ordering::Relaxed);
    caller.await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_goes_on_after_kills_and_pauses_when_told() -> Result<()> {
    let mut stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let old = tokenize(&stack, 0, CARDS).await?;
    rotate(&stack.administrator()?, KeyPurpose::Data).await?;
    rotate(&stack.administrator()?, KeyPurpose::Index).await?;
    rewrap(&stack, 4_000, false).await?;
    for kill in 0..5_u64 {
        // Kills fall into counting, moving and verifying.
        tokio::time::sleep(Duration::from_millis(40 + kill * 110)).await;
        stack.vault.kill()?;
        stack.restart_vault()?;
        stack.unseal().await?;
    }
    assert_eq!(rewrap(&stack, 1_000, true).await?.state, RewrapState::Paused);
    let still = status(&stack).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(status(&stack).await?, still, "a paused run went on");
    rewrap(&stack, 50_000, false).await?;
    let ended = finished(&stack).await?;
    assert!(ended.older.iter().all(|need| need.safe_to_destroy), "{ended:?}");
    destroy(&stack, KeyPurpose::Data, 1).await?;
    destroy(&stack, KeyPurpose::Index, 1).await?;
    stack.vault.kill()?;
    stack.restart_vault()?;
    stack.unseal().await?;
    assert_eq!(tokenize(&stack, 0, CARDS).await?, old);
    reveals(&stack, 0, &old).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyring_that_was_put_back_is_refused() -> Result<()> {
    let mut stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let store_dir = stack.vault_data().join("store");
    stack.vault.kill()?;
    let before = FjallStore::open(&store_dir, None)?.document("keyring")?.context("a keyring")?;
    stack.restart_vault()?;
    stack.unseal().await?;
    rotate(&stack.administrator()?, KeyPurpose::Data).await?;
    stack.vault.kill()?;
    {
        // Whoever can write the store puts the keyring of before back: authentic, and older than the log knows.
        let store = FjallStore::open(&store_dir, None)?;
        let present = store.document("keyring")?.context("a keyring")?;
        store.put_document("keyring", Some(present.version), before.bytes).await?;
    }
    stack.restart_vault()?;
    let error = stack.unseal().await.expect_err("it unsealed with an older keyring");
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Problem(problem)) => {
            assert_eq!(problem.code, ProblemCode::Conflict);
            let words = problem.detail.as_deref().unwrap_or_default();
            assert!(words.contains("epoch"), "{words}");
        }
        other => panic!("not a problem: {other:?}"),
    }
    let log = std::fs::read_dir(stack.vault_data().join("audit"))?
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok())
        .collect::<String>();
    assert!(log.contains("keyring-rolled-back"));
    Ok(())
}
