//! Rows that are deleted, put back or edited in the store's files are found by `cordon store verify`; whatever the vault
//! does itself, and whenever it is killed, is not.

use anyhow::{Context, Result, ensure};
use cordon_card::{CollectionName, Token};
use cordon_tests::cards::{self, done};
use cordon_tests::process::binary;
use cordon_tests::stack::{self, Options, Stack};
use cordon_vault::store::rows;
use cordon_wire::{
    CreateCollection, DeleteRequest, KeyPurpose, Operation, Retention, RetentionRequest, RewrapRequest,
    RewrapState, RotateRequest, StoreCount, StoreFaultKind, StoreReport, TokenProfile, TokenUse,
    TokenizeRequest,
};
use files::{CARDS, Files};
use std::process::{Command, Output};
use std::time::Duration;

#[path = "shared/files.rs"]
mod files;

/// A vault with `cards` tokens of one collection.
async fn with_cards(count: u64) -> Result<(Stack, Vec<Token>)> {
    let stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let items = (1..=count).map(|n| cards::bulk(n).map(cards::item)).collect::<Result<Vec<_>>>()?;
    let client = stack.tokenizer("gateway-ingress")?;
    let answer = client.tokenize(&stack::cards()?, &TokenizeRequest { items }).await?;
    let tokens = answer.items.into_iter().map(|item| Ok(done(item)?.token)).collect::<Result<_>>()?;
    Ok((stack, tokens))
}

async fn verify(stack: &Stack) -> Result<StoreReport> {
    let vault = stack.administrator()?;
    let mut report = vault.verify_store().await?;
    let before = report.ended;
    while report.running {
        tokio::time::sleep(Duration::from_millis(10)).await;
        report = vault.store_report().await?;
    }
    ensure!(report.ended == before + 1, "the walk did not end: {report:?}");
    Ok(report)
}

async fn assert_whole(stack: &Stack, records: u64) -> Result<()> {
    let report = verify(stack).await?;
    assert!(report.good, "{report:?}");
    assert_eq!(report.collections.iter().map(|one| one.records).sum::<u64>(), records);
    Ok(())
}

fn of_cards(report: &StoreReport) -> Result<&StoreCount> {
    report.collections.iter().find(|one| one.number == CARDS.0).context("the collection")
}

async fn open_again(stack: &mut Stack) -> Result<()> {
    stack.restart_vault()?;
    stack.unseal().await
}

/// Changes the files of a vault that is down, and starts it again.
async fn behind(stack: &mut Stack, change: impl FnOnce(&Files) -> Result<()>) -> Result<()> {
    stack.vault.kill()?;
    change(&Files::open(&stack.vault_data())?)?;
    open_again(stack).await
}

fn cordon(stack: &Stack, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary("cordon")?);
    Ok(command.arg("--config").arg(stack.cli("operator")?).args(arguments).output()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_row_is_missed_by_number_and_in_the_audit_log() -> Result<()> {
    let (mut stack, tokens) = with_cards(5).await?;
    let victim = tokens.get(2).context("a token")?.clone();
    assert_whole(&stack, 5).await?;
    let good = cordon(&stack, &["store", "verify"])?;
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    assert!(String::from_utf8(good.stdout)?.contains("cards       5        5          as committed"));

    // The row alone: its index entry leads nowhere, and by that names it.
    let (mut row, mut index) = (Vec::new(), (Vec::new(), Vec::new()));
    behind(&mut stack, |files| {
        index = (files.entry(&victim)?, files.get(&files.entry(&victim)?)?);
        row = files.get(&rows::row_key(CARDS, &victim))?;
        files.remove(&rows::row_key(CARDS, &victim))
    })
    .await?;
    let report = verify(&stack).await?;
    assert_eq!((report.good, report.fault_count), (false, 1));
    let fault = report.faults.first().context("a fault")?;
    assert_eq!((fault.kind, fault.token.as_ref()), (StoreFaultKind::LeadsNowhere, Some(&victim)));

    // Row and index entry: nothing names it, and it is missed.
    behind(&mut stack, |files| files.remove(&index.0)).await?;
    let report = verify(&stack).await?;
    let one = of_cards(&report)?;
    assert_eq!((report.good, report.fault_count), (false, 0));
    assert_eq!((one.records, one.expected, one.verdict.as_str()), (4, 5, "rows-missing"));
    let bad = cordon(&stack, &["store", "verify", "--json"])?;
    assert_eq!(bad.status.code(), Some(1));
    let shown: StoreReport = serde_json::from_slice(&bad.stdout)?;
    assert_eq!(of_cards(&shown)?.verdict, "rows-missing");
    let log = stack.audit("vault");
    let is_report = |line: &&str| line.contains("store-verify") && line.contains("rows-missing");
    assert_eq!(log.lines().filter(is_report).count(), 3, "one for each walk since");
    assert!(log.contains("not-whole"));

    // The same with the counts put right, as far as that goes without the key.
    let mut tallies = Vec::new();
    behind(&mut stack, |files| {
        for key in [rows::tally_key(None), rows::tally_key(Some(CARDS))] {
            let mut value = files.get(&key)?;
            tallies.push((key.clone(), value.clone()));
            let (count, less) = (5_u64.to_be_bytes(), 4_u64.to_be_bytes());
            ensure!(value.get(9..17) == Some(&count[..]), "the count is where it was expected");
            value.splice(9..17, less);
            files.put(&key, &value)?;
        }
        Ok(())
    })
    .await?;
    let report = verify(&stack).await?;
    assert_eq!((report.good, report.refused.as_deref()), (false, Some("tally-substituted")));
    assert!(stack.administrator()?.status().await?.warnings.iter().any(|line| line.contains("refused")));
    assert!(stack.audit("vault").contains("tally-substituted"));

    // Put back as it was, it is whole: nothing else was wrong.
    behind(&mut stack, |files| {
        files.put(&rows::row_key(CARDS, &victim), &row)?;
        files.put(&index.0, &index.1)?;
        tallies.iter().try_for_each(|(key, value)| files.put(key, value))
    })
    .await?;
    // The commits of the time when it was refused were not counted.
    let report = verify(&stack).await?;
    assert_eq!((of_cards(&report)?.verdict.as_str(), report.fault_count), ("as-committed", 0), "{report:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_set_of_rows_with_its_own_tally_is_refused() -> Result<()> {
    let (mut stack, tokens) = with_cards(3).await?;
    let mut older = Vec::new();
    behind(&mut stack, |files| {
        older = files.rows()?;
        Ok(())
    })
    .await?;
    let items = tokens.iter().take(1).map(|token| token.clone().into()).collect();
    stack.tokenizer("operator")?.delete(&stack::cards()?, &DeleteRequest { items }).await?;
    assert_whole(&stack, 2).await?;
    // The deleted card is back, with a tally that was right once. Marks and documents are those of now.
    let mut newer = Vec::new();
    behind(&mut stack, |files| {
        newer = files.rows()?;
        older.iter().try_for_each(|(key, value)| files.put(key, value))
    })
    .await?;
    let report = verify(&stack).await?;
    assert_eq!((report.good, report.refused.as_deref()), (false, Some("tally-put-back")));
    assert_eq!(of_cards(&report)?.verdict, "as-committed", "by itself it fits");
    // Without any tally, as a store of an older version has none.
    behind(&mut stack, |files| {
        for (key, _) in older.iter().filter(|(key, _)| rows::kind(key) == rows::Kind::Tally) {
            files.remove(key)?;
        }
        files.put(&rows::header_key(), &rows::encode_header(false))
    })
    .await?;
    assert_eq!(verify(&stack).await?.refused.as_deref(), Some("tally-gone"));
    behind(&mut stack, |files| {
        older.iter().try_for_each(|(key, _)| files.remove(key))?;
        files.put(&rows::header_key(), &rows::encode_header(true))?;
        newer.iter().try_for_each(|(key, value)| files.put(key, value))
    })
    .await?;
    assert_whole(&stack, 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_vault_does_itself_is_counted() -> Result<()> {
    let (mut stack, tokens) = with_cards(40).await?;
    let vault = stack.administrator()?;
    let once = CollectionName::parse("other").context("a name")?;
    let profile = TokenProfile { usage: TokenUse::Single, ..TokenProfile::default() };
    vault.create_collection(&CreateCollection { name: once.clone(), profile, expected_cards: 1_000 }).await?;
    let client = stack.tokenizer("gateway-ingress")?;
    let mut singles = Vec::new();
    for n in [1, 1, 2] {
        let answer = client.tokenize(&once, &cards::only(cards::bulk(n)?)).await?;
        singles.push(done(answer.items.into_iter().next().context("an item")?)?.token);
    }
    let mut reveal = cards::reveal(singles.first().context("a token")?);
    "charge-other".clone_into(&mut reveal.route);
    let answer = stack.revealer("gateway-egress")?.detokenize(&once, &reveal).await?;
    done(answer.items.into_iter().next().context("an item")?)?;
    // Known cards again, and some deleted.
    client.tokenize(&stack::cards()?, &cards::only(cards::bulk(7)?)).await?;
    let items = tokens.iter().take(5).map(|token| token.clone().into()).collect();
    stack.tokenizer("operator")?.delete(&stack::cards()?, &DeleteRequest { items }).await?;
    assert_whole(&stack, 38).await?;

    // New keys of both kinds, every record moved.
    for purpose in [KeyPurpose::Data, KeyPurpose::Index] {
        vault.rotate(&RotateRequest { purpose, collection: Some(stack::cards()?) }).await?;
    }
    vault.rewrap(&RewrapRequest { collection: stack::cards()?, pause: false, rate_per_s: 50_000 }).await?;
    while vault.rewraps().await?.runs.first().context("a run")?.state != RewrapState::Finished {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_whole(&stack, 38).await?;

    // Killed while it writes, several times.
    for round in 0..3_u64 {
        let client = stack.tokenizer("gateway-ingress")?;
        let writing = tokio::spawn(async move {
            for n in 0_u64.. {
                let number = 1_000 + round * 1_000 + n;
                let sent = client.tokenize(&stack::cards()?, &cards::only(cards::bulk(number)?)).await;
                if sent.is_err() {
                    return Ok::<u64, anyhow::Error>(n);
                }
            }
            Ok(0)
        });
        tokio::time::sleep(Duration::from_millis(150)).await;
        stack.vault.kill()?;
        assert!(writing.await?? > 0, "nothing was written before the kill");
        open_again(&mut stack).await?;
        let report = verify(&stack).await?;
        assert!(report.good, "round {round}: {report:?}");
        assert!(of_cards(&report)?.records > 35);
    }

    // Sealed and unsealed in one process, and everything over age erased by the sweep.
    stack.administrator()?.seal().await?;
    stack.unseal().await?;
    let (victim, pan) = (tokens.get(20).context("a token")?.clone(), cards::bulk(21)?);
    let before = of_cards(&verify(&stack).await?)?.records;
    stack.vault.kill()?;
    {
        let files = Files::open(&stack.vault_data())?;
        files.age(&stack, &victim, pan, 3)?;
    }
    open_again(&mut stack).await?;
    assert_eq!(
        of_cards(&verify(&stack).await?)?.verdict,
        "rows-changed",
        "the older date is not the vault's"
    );
    let keep = RetentionRequest { collection: stack::cards()?, retention: Retention::Days(2) };
    stack.approve(&Operation::ShortenRetention(keep.clone())).await?;
    stack.administrator()?.set_retention(&keep).await?;
    let asked = stack.administrator()?.verify_retention().await?.asked;
    while stack.administrator()?.retention().await?.verified < asked {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let report = verify(&stack).await?;
    assert_eq!(of_cards(&report)?.expected, before - 1, "the sweep's deletion was counted");
    Ok(())
}
