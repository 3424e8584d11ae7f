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
use cordon_wire::{CreateCollection, ProblemCode, TokenProfile};
use files::Files;

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
