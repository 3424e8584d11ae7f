//! States of keys in a running vault: suspended, resumed, compromised, and uses that a crash never forgets.

use anyhow::{Context, Result};
use cordon_card::Token;
use cordon_client::{Administrator, ClientError};
use cordon_tests::cards::{self, done};
use cordon_tests::stack::{self, Options, Stack};
use cordon_wire::{
    ItemResult, KeyChange, KeyInfo, KeyPurpose, KeyState, KeyStateRequest, KeyStateResponse, ProblemCode,
    RewrapState, TokenizeRequest,
};
use std::time::Duration;

const CARDS: u64 = 1_500;

async fn tokenize(stack: &Stack, from: u64, count: u64) -> Result<Vec<Token>> {
    let client = stack.tokenizer("gateway-ingress")?;
    let mut tokens = Vec::new();
    for start in (from..from + count).step_by(500) {
        let items = (start..(start + 500).min(from + count)).map(|n| Ok(cards::item(cards::bulk(n)?)));
        let items = items.collect::<Result<_>>()?;
        for item in client.tokenize(&stack::cards()?, &TokenizeRequest { items }).await?.items {
            tokens.push(done(item)?.token);
        }
    }
    Ok(tokens)
}

/// How many tokens are revealed, and the code of the last that was not.
async fn reveal(stack: &Stack, tokens: &[Token]) -> Result<(u64, Option<ProblemCode>)> {
    let client = stack.revealer("gateway-egress")?;
    let (mut shown, mut code) = (0, None);
    for page in tokens.chunks(500) {
        for item in client.detokenize(&stack::cards()?, &cards::reveal_all(page)).await?.items {
            match item {
                ItemResult::Ok(_) => shown += 1,
                ItemResult::Error(problem) => code = Some(problem.code),
            }
        }
    }
    Ok((shown, code))
}

async fn change(
    vault: &Administrator,
    purpose: KeyPurpose,
    version: u32,
    change: KeyChange,
) -> Result<KeyStateResponse, ClientError> {
    let collection = match purpose {
        KeyPurpose::Kek => None,
        _ => stack::cards().ok(),
    };
    vault.change_key_state(&KeyStateRequest { purpose, collection, version, change }).await
}

fn refused(error: &anyhow::Error) -> Option<ProblemCode> {
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Problem(problem)) => Some(problem.code),
        _ => None,
    }
}

async fn key(vault: &Administrator, purpose: KeyPurpose, version: u32) -> Result<KeyInfo> {
    let keys = vault.keys().await?.keys;
    keys.into_iter().find(|key| (key.purpose, key.version) == (purpose, version)).context("a key")
}

async fn finish_moving(vault: &Administrator) -> Result<()> {
    loop {
        let runs = vault.rewraps().await?.runs;
        let run = runs.first().context("a run")?;
        if run.state == RewrapState::Finished {
            assert!(run.older.iter().all(|need| need.safe_to_destroy), "{run:?}");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_key_does_nothing_until_it_is_resumed() -> Result<()> {
    let stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let vault = stack.administrator()?;
    let tokens = tokenize(&stack, 0, 3).await?;

    change(&vault, KeyPurpose::Data, 1, KeyChange::Suspend).await?;
    assert_eq!(reveal(&stack, &tokens).await?, (0, Some(ProblemCode::KeyUnavailable)));
    let known = tokenize(&stack, 0, 1).await.expect_err("a known card of a suspended key");
    let new = tokenize(&stack, 100, 1).await.expect_err("a new card without an active key");
    assert_eq!((refused(&known), refused(&new)), (Some(ProblemCode::KeyUnavailable), refused(&known)));
    let twice = change(&vault, KeyPurpose::Data, 1, KeyChange::Suspend).await;
    assert!(matches!(twice, Err(ClientError::Problem(problem)) if problem.code == ProblemCode::Conflict));
    assert!(vault.status().await?.warnings.iter().any(|warning| warning.contains("suspended")));
    change(&vault, KeyPurpose::Data, 1, KeyChange::Resume).await?;
    assert_eq!(reveal(&stack, &tokens).await?, (3, None));
    assert_eq!(tokenize(&stack, 0, 3).await?, tokens);

    // Looked up under no key, a card could get a second token: it is refused instead.
    change(&vault, KeyPurpose::Index, 1, KeyChange::Suspend).await?;
    let known = tokenize(&stack, 0, 1).await.expect_err("a card while its index key is suspended");
    assert_eq!(refused(&known), Some(ProblemCode::KeyUnavailable));
    assert_eq!(reveal(&stack, &tokens).await?, (3, None));
    change(&vault, KeyPurpose::Index, 1, KeyChange::Resume).await?;
    assert_eq!(tokenize(&stack, 0, 3).await?, tokens);

    let kek = change(&vault, KeyPurpose::Kek, 1, KeyChange::Suspend).await;
    assert!(matches!(kek, Err(ClientError::Problem(problem)) if problem.code == ProblemCode::Conflict));
    let log = stack.audit("vault");
    for reason in ["suspended", "resumed"] {
        let lines = log.lines().filter(|line| line.contains("key-state") && line.contains(reason)).count();
        assert_eq!(lines, 2, "{reason}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compromised_key_is_replaced_and_its_records_come_back_as_they_move() -> Result<()> {
    let stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let vault = stack.administrator()?;
    let tokens = tokenize(&stack, 0, CARDS).await?;

    let answer = change(&vault, KeyPurpose::Data, 1, KeyChange::Compromise).await?;
    assert_eq!((answer.key.state, answer.moving), (KeyState::Compromised, true));
    assert_eq!(key(&vault, KeyPurpose::Data, 2).await?.state, KeyState::Active);
    // Whatever has not moved yet is not shown; nothing else is wrong with it.
    let (_shown, code) = reveal(&stack, &tokens).await?;
    assert!(matches!(code, None | Some(ProblemCode::KeyUnavailable)), "{code:?}");
    assert_eq!(tokenize(&stack, 0, CARDS).await?, tokens);
    finish_moving(&vault).await?;
    assert_eq!(reveal(&stack, &tokens).await?, (CARDS, None));

    change(&vault, KeyPurpose::Index, 1, KeyChange::Compromise).await?;
    assert_eq!(tokenize(&stack, 0, CARDS).await?, tokens, "cards are found under the key that is left");
    let fresh = tokenize(&stack, 10_000, 10).await?;
    finish_moving(&vault).await?;
    for purpose in [KeyPurpose::Data, KeyPurpose::Index] {
        stack.destroy_key(purpose, 1).await?;
        assert_eq!(key(&vault, purpose, 1).await?.state, KeyState::Destroyed);
    }
    assert_eq!(tokenize(&stack, 0, CARDS).await?, tokens);
    assert_eq!(tokenize(&stack, 10_000, 10).await?, fresh);
    assert_eq!(reveal(&stack, &tokens).await?, (CARDS, None));

    change(&vault, KeyPurpose::Kek, 1, KeyChange::Compromise).await?;
    assert_eq!(key(&vault, KeyPurpose::Kek, 2).await?.state, KeyState::Active);
    stack.destroy_key(KeyPurpose::Kek, 1).await?;
    let resumed = change(&vault, KeyPurpose::Data, 1, KeyChange::Resume).await;
    assert!(matches!(resumed, Err(ClientError::Problem(problem)) if problem.code == ProblemCode::Conflict));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_counts_the_uses_it_may_have_made() -> Result<()> {
    let mut stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let vault = stack.administrator()?;
    let block = key(&vault, KeyPurpose::Data, 1).await?.uses;
    assert!(block > 0, "uses are reserved before they are made");
    let tokens = tokenize(&stack, 0, 5).await?;
    for restarts in 1..=3 {
        stack.vault.kill()?;
        stack.restart_vault()?;
        stack.unseal().await?;
        let uses = key(&stack.administrator()?, KeyPurpose::Data, 1).await?.uses;
        assert_eq!(uses, block * (restarts + 1));
    }
    assert_eq!(tokenize(&stack, 0, 5).await?, tokens);
    assert!(stack.audit("vault").contains("key-reserve"));
    Ok(())
}
