//! Backups of a vault under load: whole and of one moment, restored into an empty directory without an init, refused
//! when cut, and never bringing back what was erased since.

use anyhow::{Context, Result, ensure};
use cordon_card::Token;
use cordon_client::ClientError;
use cordon_tests::cards::{self, done};
use cordon_tests::stack::{self, Options, Stack};
use cordon_tests::vaulted::{Vaulted, said};
use cordon_vault::store::rows;
use cordon_wire::{
    CreateCollection, DeleteRequest, ItemResult, Operation, ProblemCode, RetainReason, Retention,
    RetentionRequest, TokenProfile, TokenUse,
};
use files::Files;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[path = "shared/files.rs"]
mod files;

const CARDS: u64 = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_taken_under_load_is_restored_on_an_empty_machine() -> Result<()> {
    let mut vaulted = Vaulted::start().await?;
    let tokens = vaulted.tokenize(0, CARDS).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let (client, collection, stopped) =
        (vaulted.stack.tokenizer("gateway-ingress")?, stack::cards()?, Arc::clone(&stop));
    let load = tokio::spawn(async move {
        let mut n = 1_000_000;
        while !stopped.load(Ordering::Relaxed) {
            client.tokenize(&collection, &cards::only(cards::bulk(n)?)).await?;
            n += 1;
        }
        Ok::<_, anyhow::Error>(n - 1_000_000)
    });
    let file = vaulted.backup("whole.backup")?;
    stop.store(true, Ordering::Relaxed);
    load.await??;
    let sealed = fs::read(&file)?;
    assert!(memchr::memmem::find(&sealed, b"tok_dev_").is_none(), "not even a token is in clear");
    for key in [0, 1] {
        let output = vaulted.verify(&file, key)?;
        ensure!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains("\"shares\":[3,5]"), "{}", said(&output));
    }
    assert_eq!(vaulted.verify(&file, 2)?.status.code(), Some(1), "a stranger's key");
    let audit = vaulted.stack.audit("vault");
    assert!(audit.contains("\"what\":\"backup\"") && audit.contains("\"complete\""));
    assert!(vaulted.stack.administrator()?.status().await?.last_backup.is_some());
    vaulted.lose(true).await?;
    assert_eq!(vaulted.restore(&file, 2)?.status.code(), Some(1), "a stranger's key");
    let output = vaulted.restore(&file, 0)?;
    ensure!(output.status.success(), "{}", said(&output));
    assert!(!vaulted.restore(&file, 0)?.status.success(), "never over a store that is there");
    vaulted.open_again().await?;
    // Without its log nobody can tell that it is the newest one.
    vaulted.accept().await?;
    vaulted.reveals(&tokens).await?;
    assert_eq!(vaulted.tokenize(0, CARDS).await?, tokens, "known cards keep their tokens");
    assert!(vaulted.stack.audit("vault").contains("\"what\":\"restore\""), "the new log begins with it");
    vaulted.assert_whole()?;
    Ok(())
}

#[tokio::test]
async fn a_backup_that_was_cut_or_changed_is_refused_everywhere() -> Result<()> {
    let mut vaulted = Vaulted::start().await?;
    vaulted.tokenize(0, 200).await?;
    let file = vaulted.backup("good.backup")?;
    let bytes = fs::read(&file)?;
    vaulted.lose(true).await?;
    for (cut, flip) in [(1, None), (40, None), (bytes.len() / 2, None), (0, Some(bytes.len() / 2))] {
        let mut bad = bytes.get(..bytes.len() - cut).context("shorter")?.to_vec();
        if let Some(place) = flip {
            *bad.get_mut(place).context("a byte")? ^= 1;
        }
        let path = vaulted.stack.dir().join("bad.backup");
        fs::write(&path, &bad)?;
        assert_eq!(vaulted.verify(&path, 0)?.status.code(), Some(1), "cut by {cut}");
        assert_eq!(vaulted.restore(&path, 0)?.status.code(), Some(1), "cut by {cut}");
        assert!(!vaulted.stack.vault_data().join("store").exists(), "nothing is put in place");
    }
    let output = vaulted.restore(&file, 0)?;
    ensure!(output.status.success(), "what failed before is no obstacle: {}", said(&output));
    Ok(())
}

#[tokio::test]
async fn a_stale_backup_brings_nothing_back() -> Result<()> {
    let mut vaulted = Vaulted::start().await?;
    let single = cordon_card::CollectionName::parse("other")?;
    let profile = TokenProfile { usage: TokenUse::Single, ..TokenProfile::default() };
    let administrator = vaulted.stack.administrator()?;
    let made = CreateCollection { name: single.clone(), profile, expected_cards: 1_000 };
    administrator.create_collection(&made).await?;
    let tokens = vaulted.tokenize(0, 300).await?;
    let client = vaulted.stack.tokenizer("gateway-ingress")?;
    let answer = client.tokenize(&single, &cards::only(cards::bulk(1)?)).await?;
    let once = done(answer.items.into_iter().next().context("an item")?)?.token;
    let file = vaulted.backup("yesterday.backup")?;
    // After it: a card is erased, a single-use token is given out, cards come.
    let (erased, kept) = tokens.split_first().context("tokens")?;
    let operator = vaulted.stack.tokenizer("operator")?;
    let gone = DeleteRequest { items: vec![erased.clone().into()] };
    let answer = operator.delete(&stack::cards()?, &gone).await?;
    assert!(answer.items.iter().all(|item| matches!(item, ItemResult::Ok(_))));
    assert!(reveal_once(&vaulted.stack, &single, &once).await?);
    let lost = vaulted.tokenize(5_000, 10).await?;
    vaulted.lose(false).await?;
    assert!(vaulted.stack.restart_vault().is_err(), "the vault does not start on nothing");
    let output = vaulted.restore(&file, 0)?;
    ensure!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("\"erased\":1"), "{}", said(&output));
    vaulted.open_again().await?;
    // Erased and used without a key while it was restored, and counted by the first who has the key: before it is accepted,
    // so that those who accept can know.
    assert!(
        vaulted.stack.audit("vault").contains("\"on\":\"changed-by-restore-2\""),
        "the tally took them up"
    );
    vaulted.assert_whole()?;
    vaulted.accept().await?;
    let revealer = vaulted.stack.revealer("gateway-egress")?;
    let answer = revealer.detokenize(&stack::cards()?, &cards::reveal_all(kept)).await?;
    assert!(answer.items.iter().all(|item| matches!(item, ItemResult::Ok(_))));
    for token in std::iter::once(erased).chain(&lost) {
        assert_eq!(vaulted.stack.opens(token).await?, Some(ProblemCode::TokenNotFound));
    }
    let again = reveal_once(&vaulted.stack, &single, &once).await?;
    assert!(!again, "a single-use token that was given out stays used");
    vaulted.assert_whole()?;
    // The accepted restore is the new beginning: the next start is an ordinary one.
    vaulted.stack.vault.terminate().await?;
    vaulted.open_again().await?;
    vaulted.assert_whole()
}

#[tokio::test]
async fn a_backup_whose_tally_was_taken_out_is_not_put_back_beside_its_log() -> Result<()> {
    let mut vaulted = Vaulted::start().await?;
    let tokens = vaulted.tokenize(0, 3).await?;
    let file = vaulted.backup("whole.backup")?;
    let forged = vaulted.rewritten(&file, "forged.backup", |key| rows::tally_collection(key).is_err())?;
    let same = vaulted.rewritten(&file, "same.backup", |_every_row| true)?;
    vaulted.lose(false).await?;
    let refused = vaulted.restore(&forged, 0)?;
    ensure!(!refused.status.success() && said(&refused).contains("has no tally"), "{}", said(&refused));
    ensure!(!vaulted.stack.vault_data().join("store").exists(), "nothing is put in place");
    // The control: it is the tally that was missed, not who wrote the file.
    ensure!(!vaulted.restored(&same)?);
    vaulted.open_again().await?;
    vaulted.reveals(&tokens).await?;
    vaulted.assert_whole()
}

#[tokio::test]
async fn what_retention_erased_after_a_backup_stays_gone_after_a_restore() -> Result<()> {
    let mut vaulted = Vaulted::start().await?;
    let tokens = vaulted.tokenize(0, 2).await?;
    let [old, young] = tokens.as_slice() else { anyhow::bail!("two tokens") };
    vaulted.stack.vault.terminate().await?;
    Files::open(&vaulted.stack.vault_data())?.age(&vaulted.stack, old, cards::bulk(0)?, 3)?;
    vaulted.open_again().await?;
    let keep = Retention::Reason(RetainReason::parse("subscription").context("a reason")?);
    set_retention(&vaulted.stack, keep).await?;
    let file = vaulted.backup("before.backup")?;
    // The rule changes after the backup, and the keeper erases what is over by it.
    set_retention(&vaulted.stack, Retention::Days(2)).await?;
    let administrator = vaulted.stack.administrator()?;
    let asked = administrator.verify_retention().await?.asked;
    while administrator.retention().await?.verified < asked {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let swept = |line: &&str| line.contains("\"reason\":\"retention\"") && line.contains(old.as_str());
    assert_eq!(vaulted.stack.audit("vault").lines().filter(swept).count(), 1);

    // The backup has the card and the rule by which it would be kept: only the log knows that it is gone.
    vaulted.lose(false).await?;
    let output = vaulted.restore(&file, 0)?;
    ensure!(output.status.success() && said(&output).contains("\"erased\":1"), "{}", said(&output));
    assert!(!Files::open(&vaulted.stack.vault_data())?.has(old)?, "before the vault is started");
    vaulted.open_again().await?;
    vaulted.accept().await?;
    assert_eq!(vaulted.stack.opens(old).await?, Some(ProblemCode::TokenNotFound));
    assert_eq!(vaulted.stack.opens(young).await?, None);

    // The control: without its log the same backup brings the card back.
    vaulted.lose(true).await?;
    assert!(vaulted.restored(&file)?);
    vaulted.open_again().await?;
    vaulted.accept().await?;
    assert_eq!(vaulted.stack.opens(old).await?, None, "it was in the backup");
    Ok(())
}

async fn set_retention(stack: &Stack, retention: Retention) -> Result<()> {
    let request = RetentionRequest { collection: stack::cards()?, retention };
    if matches!(request.retention, Retention::Days(_)) {
        stack.approve(&Operation::ShortenRetention(request.clone())).await?;
    }
    stack.administrator()?.set_retention(&request).await?;
    Ok(())
}

/// Whether the single-use token opens now.
async fn reveal_once(stack: &Stack, collection: &cordon_card::CollectionName, token: &Token) -> Result<bool> {
    let revealer = stack.revealer("gateway-egress")?;
    let mut request = cards::reveal(token);
    "charge-other".clone_into(&mut request.route);
    let answer = revealer.detokenize(collection, &request).await?;
    Ok(matches!(answer.items.into_iter().next().context("an item")?, ItemResult::Ok(_)))
}

#[tokio::test]
async fn no_backup_is_taken_without_custodians_or_by_who_may_not() -> Result<()> {
    let stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let refused = stack.administrator()?.backup(|_| Ok(())).await;
    assert!(matches!(refused, Err(ClientError::Problem(problem)) if problem.code == ProblemCode::Conflict));
    let vaulted = Vaulted::start().await?;
    let monitor = vaulted.stack.administrator_as("monitor")?;
    let refused = monitor.backup(|_| Ok(())).await;
    assert!(matches!(refused, Err(ClientError::Problem(problem)) if problem.code == ProblemCode::Denied));
    Ok(())
}
