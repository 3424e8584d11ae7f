//! Cards are kept as long as the rule says and no longer, and what was erased stays erased: also in older copies, once the
//! keys of that time are destroyed.

use anyhow::{Context, Result};
use cordon_card::Token;
use cordon_client::{Administrator, ClientError};
use cordon_tests::cards::{self, done};
use cordon_tests::https;
use cordon_tests::stack::{self, Options, Stack};
use cordon_wire::{
    DeleteRequest, KeyPurpose, Operation, ProblemCode, RetainReason, Retention, RetentionReport,
    RetentionRequest, RetentionStatus, RewrapRequest, RewrapState, RotateRequest,
};
use files::Files;
use std::time::Duration;

#[path = "shared/files.rs"]
mod files;

async fn tokenize(stack: &Stack, n: u64) -> Result<Token> {
    let client = stack.tokenizer("gateway-ingress")?;
    let answer = client.tokenize(&stack::cards()?, &cards::only(cards::bulk(n)?)).await?;
    Ok(done(answer.items.into_iter().next().context("one item")?)?.token)
}

async fn delete(stack: &Stack, token: &Token) -> Result<()> {
    let request = DeleteRequest { items: vec![token.clone().into()] };
    let answer = stack.tokenizer("operator")?.delete(&stack::cards()?, &request).await?;
    done(answer.items.into_iter().next().context("one item")?).map(drop)
}

async fn set(vault: &Administrator, retention: Retention) -> Result<()> {
    vault.set_retention(&RetentionRequest { collection: stack::cards()?, retention }).await?;
    Ok(())
}

fn days(days: u32) -> Result<RetentionRequest> {
    Ok(RetentionRequest { collection: stack::cards()?, retention: Retention::Days(days) })
}

fn needs_approval<T>(answer: &Result<T, ClientError>) -> bool {
    matches!(answer, Err(ClientError::Problem(problem)) if problem.code == ProblemCode::ApprovalRequired)
}

async fn verify(vault: &Administrator) -> Result<(RetentionReport, RetentionStatus)> {
    let mut report = vault.verify_retention().await?;
    let wanted = report.asked;
    while report.verified < wanted {
        tokio::time::sleep(Duration::from_millis(20)).await;
        report = vault.retention().await?;
    }
    let one = report.collections.first().context("a collection")?.clone();
    Ok((report, one))
}

async fn open_again(stack: &mut Stack) -> Result<()> {
    stack.restart_vault()?;
    stack.unseal().await
}

/// New data and index keys, every record moved to them, and the older ones destroyed.
async fn shred(stack: &Stack) -> Result<()> {
    let vault = stack.administrator()?;
    for purpose in [KeyPurpose::Data, KeyPurpose::Index] {
        vault.rotate(&RotateRequest { purpose, collection: Some(stack::cards()?) }).await?;
    }
    vault.rewrap(&RewrapRequest { collection: stack::cards()?, pause: false, rate_per_s: 50_000 }).await?;
    while vault.rewraps().await?.runs.first().context("a run")?.state != RewrapState::Finished {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for purpose in [KeyPurpose::Data, KeyPurpose::Index] {
        stack.destroy_key(purpose, 1).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_kept_for_its_time_and_then_erased_and_counted() -> Result<()> {
    let mut stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let (old, young) = (tokenize(&stack, 1).await?, tokenize(&stack, 2).await?);
    let (report, one) = verify(&stack.administrator()?).await?;
    assert!(!report.good, "nobody has said how long cards are kept");
    assert_eq!((one.records, one.over_age, one.without_reason), (2, 0, 2));
    stack.vault.kill()?;
    Files::open(&stack.vault_data())?.age(&stack, &old, cards::bulk(1)?, 3)?;
    open_again(&mut stack).await?;

    let vault = stack.administrator()?;
    set(&vault, Retention::Reason(RetainReason::parse("subscription").context("a reason")?)).await?;
    let (report, one) = verify(&vault).await?;
    assert!(report.good, "{report:?}");
    assert_eq!((one.records, one.over_age, one.without_reason, one.exposed), (2, 0, 0, 0));
    assert_eq!(stack.opens(&old).await?, None);

    // Nobody erases many cards alone, nor on the approval of another rule; for longer, one person is enough.
    stack.approve(&Operation::ShortenRetention(days(3)?)).await?;
    assert!(needs_approval(&vault.set_retention(&days(2)?).await));
    assert_eq!(stack.opens(&old).await?, None);
    stack.approve(&Operation::ShortenRetention(days(2)?)).await?;
    vault.set_retention(&days(2)?).await?;
    assert!(needs_approval(&vault.set_retention(&days(1)?).await));
    assert_eq!(stack.opens(&old).await?, Some(ProblemCode::TokenNotFound), "over, erased or not");
    assert_eq!(stack.opens(&young).await?, None);
    let (report, one) = verify(&vault).await?;
    assert!(report.good, "{report:?}");
    assert_eq!((one.records, one.over_age, one.exposed), (1, 0, 1));
    assert!(report.verified_at.is_some());
    let log = stack.audit("vault");
    let is_erasure = |line: &&str| line.contains("\"retention\"") && line.contains(old.as_str());
    assert_eq!(log.lines().filter(is_erasure).count(), 1, "recorded before it was done");
    assert_eq!(log.lines().filter(|line| line.contains("none-over-age")).count(), 2);
    let metrics = https::send_plain(stack.vault.address("metrics")?, "/metrics").await?;
    assert!(String::from_utf8(metrics.body)?.contains("cordon_vault_erased_records 1\n"));
    let again = tokenize(&stack, 1).await?;
    assert_ne!(again, old, "the card is new to the vault");

    // What was verified outlives the process, and the row does not come back.
    stack.vault.kill()?;
    assert!(!Files::open(&stack.vault_data())?.has(&old)?);
    open_again(&mut stack).await?;
    // Keeping for longer erases nothing, and neither does the first rule of an empty collection.
    stack.administrator()?.set_retention(&days(400)?).await?;
    assert!(needs_approval(&stack.administrator()?.set_retention(&days(399)?).await));
    let again = stack.administrator()?.retention().await?;
    assert_eq!(again.verified_at, report.verified_at);
    assert_eq!(again.collections.first().map(|one| one.exposed), Some(1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_card_can_be_shown_from_an_older_copy_until_its_keys_are_destroyed() -> Result<()> {
    let mut stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    set(&stack.administrator()?, Retention::Days(400)).await?;
    let (erased, kept) = (tokenize(&stack, 1).await?, tokenize(&stack, 2).await?);
    stack.vault.kill()?;
    let copy = Files::open(&stack.vault_data())?.copy(&erased)?;
    let put_back = |stack: &Stack| -> Result<()> {
        let files = Files::open(&stack.vault_data())?;
        copy.iter().try_for_each(|(key, value)| files.put(key, value))
    };
    open_again(&mut stack).await?;
    delete(&stack, &erased).await?;
    assert_eq!(stack.opens(&erased).await?, Some(ProblemCode::TokenNotFound));
    let (report, one) = verify(&stack.administrator()?).await?;
    assert_eq!((report.good, one.exposed), (true, 1), "it is known what copies can show");

    // Without shredding, whoever has a copy of the row and the vault has the card: the control of this test.
    stack.vault.kill()?;
    put_back(&stack)?;
    open_again(&mut stack).await?;
    assert_eq!(stack.opens(&erased).await?, None);
    delete(&stack, &erased).await?;

    shred(&stack).await?;
    let (_report, one) = verify(&stack.administrator()?).await?;
    assert_eq!(one.exposed, 0);
    stack.vault.kill()?;
    put_back(&stack)?;
    open_again(&mut stack).await?;
    assert_eq!(stack.opens(&erased).await?, Some(ProblemCode::Internal), "with every key that is left");
    assert_ne!(tokenize(&stack, 1).await?, erased, "its fingerprint leads nowhere");
    assert_eq!(stack.opens(&kept).await?, None);
    assert_eq!(tokenize(&stack, 2).await?, kept);
    Ok(())
}
