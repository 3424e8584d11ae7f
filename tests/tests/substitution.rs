//! Whoever can write the store's files moves records and index entries between cards, collections and vaults: each is
//! refused, recorded and counted, and nobody is shown another card.

use anyhow::{Context, Result, ensure};
use cordon_card::{CollectionName, Token};
use cordon_client::ClientError;
use cordon_tests::cards::{self, done};
use cordon_tests::https;
use cordon_tests::process::Daemon;
use cordon_tests::stack::{self, Options, Stack};
use cordon_vault::store::{CollectionId, rows};
use cordon_wire::{
    CreateCollection, KeyPurpose, Operation, ProblemCode, Retention, RetentionReport, RetentionRequest,
    RewrapRequest, RewrapState, RotateRequest, TokenProfile,
};
use files::{DAY, Files};
use std::time::Duration;

#[path = "shared/files.rs"]
mod files;

const OTHER: CollectionId = CollectionId(2);

fn other() -> Result<CollectionName> {
    CollectionName::parse("other").context("a collection name")
}

async fn tokenize(stack: &Stack, collection: &CollectionName, n: u64) -> Result<Token> {
    let client = stack.tokenizer("gateway-ingress")?;
    let answer = client.tokenize(collection, &cards::only(cards::bulk(n)?)).await?;
    Ok(done(answer.items.into_iter().next().context("one item")?)?.token)
}

async fn failures(stack: &Stack) -> Result<u64> {
    let answer = https::send_plain(stack.vault.address("metrics")?, "/metrics").await?;
    let text = String::from_utf8(answer.body)?;
    let line = text.lines().find(|line| line.starts_with("cordon_vault_integrity_failures_total "));
    Ok(line.and_then(|line| line.rsplit(' ').next()).context("the metric")?.parse()?)
}

/// The audit lines that report a broken record.
fn reports(stack: &Stack, token: &Token) -> usize {
    let log = stack.audit("vault");
    log.lines().filter(|line| line.contains("\"integrity\"") && line.contains(token.as_str())).count()
}

async fn open_again(stack: &mut Stack) -> Result<()> {
    stack.restart_vault()?;
    stack.unseal().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_moved_between_rows_and_collections_are_refused_recorded_and_counted() -> Result<()> {
    let mut stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let create = CreateCollection { name: other()?, profile: TokenProfile::default(), expected_cards: 1_000 };
    stack.administrator()?.create_collection(&create).await?;
    let (cards, other) = (stack::cards()?, other()?);
    let (one, two) = (tokenize(&stack, &cards, 1).await?, tokenize(&stack, &cards, 2).await?);
    let (three, left_alone) = (tokenize(&stack, &cards, 3).await?, tokenize(&stack, &cards, 4).await?);
    let elsewhere = tokenize(&stack, &other, 3).await?;
    stack.vault.kill()?;
    {
        let files = Files::open(&stack.vault_data())?;
        let (first, second) = (files.sealed(files::CARDS, &one)?, files.sealed(files::CARDS, &two)?);
        files.plant(&one, &second)?;
        files.plant(&two, &first)?;
        // The same card, sealed for another collection.
        files.plant(&three, &files.sealed(OTHER, &elsewhere)?)?;
    }
    open_again(&mut stack).await?;
    for token in [&one, &two, &three] {
        assert_eq!(stack.opens(token).await?, Some(ProblemCode::Internal));
        assert_eq!(reports(&stack, token), 1, "it is in the audit log");
    }
    assert_eq!(failures(&stack).await?, 3);
    assert_eq!(stack.opens(&left_alone).await?, None);
    // Who submits the card again is not given the token of a record that is not his.
    assert!(tokenize(&stack, &cards, 1).await.is_err());
    assert_eq!(failures(&stack).await?, 4);
    Ok(())
}

async fn verify_retention(stack: &Stack) -> Result<RetentionReport> {
    let vault = stack.administrator()?;
    let wanted = vault.verify_retention().await?.asked;
    loop {
        let report = vault.retention().await?;
        if report.verified >= wanted {
            return Ok(report);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Records that a run to new data keys could not move.
async fn unmoved(stack: &Stack) -> Result<u64> {
    let (vault, collection) = (stack.administrator()?, stack::cards()?);
    vault.rotate(&RotateRequest { purpose: KeyPurpose::Data, collection: Some(collection.clone()) }).await?;
    vault.rewrap(&RewrapRequest { collection, pause: false, rate_per_s: 50_000 }).await?;
    loop {
        let runs = vault.rewraps().await?.runs;
        let run = runs.first().context("a run")?;
        if run.state == RewrapState::Finished {
            return Ok(run.failed);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_whose_date_was_changed_is_refused_and_not_erased() -> Result<()> {
    let mut stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let cards = stack::cards()?;
    let (older, younger) = (tokenize(&stack, &cards, 1).await?, tokenize(&stack, &cards, 2).await?);
    let left_alone = tokenize(&stack, &cards, 3).await?;
    let keep = RetentionRequest { collection: cards.clone(), retention: Retention::Days(2) };
    stack.approve(&Operation::ShortenRetention(keep.clone())).await?;
    stack.administrator()?.set_retention(&keep).await?;
    assert!(verify_retention(&stack).await?.good);
    stack.vault.kill()?;
    {
        let files = Files::open(&stack.vault_data())?;
        files.edit(&older, |row| row.created_at -= 3 * DAY)?;
        files.edit(&younger, |row| row.created_at += 400 * DAY)?;
    }
    open_again(&mut stack).await?;
    let report = verify_retention(&stack).await?;
    let one = report.collections.first().context("a collection")?;
    assert_eq!((report.good, one.records, one.broken), (false, 3, 2), "nothing was erased by a forged age");
    for token in [&older, &younger] {
        assert!(reports(&stack, token) > 0, "the sweep recorded it");
        let before = reports(&stack, token);
        assert_eq!(stack.opens(token).await?, Some(ProblemCode::Internal));
        assert_eq!(reports(&stack, token), before + 1);
    }
    assert!(tokenize(&stack, &cards, 1).await.is_err(), "its card is not taken for a new one");
    assert!(tokenize(&stack, &cards, 2).await.is_err());
    assert_eq!(unmoved(&stack).await?, 2);
    assert_eq!(stack.opens(&left_alone).await?, None);
    stack.vault.kill()?;
    {
        let files = Files::open(&stack.vault_data())?;
        files.edit(&older, |row| row.created_at += 3 * DAY)?;
        files.edit(&younger, |row| row.created_at -= 400 * DAY)?;
    }
    open_again(&mut stack).await?;
    assert_eq!(stack.opens(&older).await?, None, "it was the date and nothing else");
    assert!(verify_retention(&stack).await?.good);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_entry_pointed_at_another_card_gives_nobody_its_token() -> Result<()> {
    let mut stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let cards = stack::cards()?;
    let (one, two) = (tokenize(&stack, &cards, 1).await?, tokenize(&stack, &cards, 2).await?);
    stack.vault.kill()?;
    {
        let files = Files::open(&stack.vault_data())?;
        let theirs = files.get(&files.entry(&two)?)?;
        files.put(&files.entry(&one)?, &theirs)?;
    }
    open_again(&mut stack).await?;
    let answer = tokenize(&stack, &cards, 1).await;
    let error = answer.expect_err("a card was given another card's token");
    let is_internal = matches!(error.downcast_ref::<ClientError>(),
        Some(ClientError::Problem(problem)) if problem.code == ProblemCode::Internal);
    assert!(is_internal, "{error}");
    assert_eq!((failures(&stack).await?, reports(&stack, &two)), (1, 1));
    assert_eq!(tokenize(&stack, &cards, 2).await?, two);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyring_that_was_changed_is_refused_and_recorded() -> Result<()> {
    let mut stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    stack.vault.kill()?;
    {
        let files = Files::open(&stack.vault_data())?;
        let key = rows::document_key("keyring")?;
        let text = String::from_utf8(files.get(&key)?)?;
        ensure!(text.contains("\"purpose\":\"data\""), "the keyring is where it was expected");
        files.put(&key, text.replacen("\"version\":1", "\"version\":2", 1).as_bytes())?;
    }
    stack.restart_vault()?;
    let error = stack.unseal().await.expect_err("it unsealed with a changed keyring");
    let told = matches!(error.downcast_ref::<ClientError>(),
        Some(ClientError::Problem(problem)) if problem.code == ProblemCode::Conflict);
    assert!(told, "{error}");
    assert!(stack.audit("vault").contains("keyring-substituted"));
    assert_eq!(failures(&stack).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_another_environment_is_not_opened() -> Result<()> {
    let mut stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    stack.vault.kill()?;
    let (config, log) = (stack.dir().join("vault.toml"), stack.dir().join("other.log"));
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, text.replace("environment = \"dev\"", "environment = \"test\""))?;
    let started = Daemon::start("cordon-vault", &["--config", &config.to_string_lossy()], &log);
    assert!(started.is_err(), "a vault took the store of another environment");
    assert!(std::fs::read_to_string(&log)?.contains("environment"));
    Ok(())
}
