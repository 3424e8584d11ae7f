//! A restored backup that is not known to be the newest serves nobody until two custodians have accepted exactly it: across
//! kills, restarts and whatever somebody removes.

use anyhow::{Context, Result, ensure};
use cordon_card::{CollectionName, Token};
use cordon_client::ClientError;
use cordon_tests::cards;
use cordon_tests::https;
use cordon_tests::stack::{self, Stack};
use cordon_tests::vaulted::{Vaulted, said};
use cordon_vault::store::rows;
use cordon_wire::{
    AcceptRestore, ApprovalState, CreateCollection, DeleteRequest, DestroyRequest, ExportRequest,
    InspectRequest, ItemResult, KeyChange, KeyPurpose, KeyStateRequest, LookupItem, LookupRequest, Operation,
    ProblemCode, RekeyRequest, Retention, RetentionRequest, RewrapRequest, RotateRequest, TokenProfile,
};

use files::{CARDS, Files};
use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

#[path = "shared/files.rs"]
mod files;

/// A vault whose disk is lost, with a backup that lacks what came last.
struct Lost {
    vaulted: Vaulted,
    file: PathBuf,
    kept: Vec<Token>,
    gone: Vec<Token>,
}

impl Lost {
    async fn start() -> Result<Self> {
        let mut vaulted = Vaulted::start().await?;
        let kept = vaulted.tokenize(0, 20).await?;
        let file = vaulted.backup("yesterday.backup")?;
        let gone = vaulted.tokenize(5_000, 5).await?;
        vaulted.lose(false).await?;
        Ok(Self { vaulted, file, kept, gone })
    }

    /// Put back, started and unsealed.
    async fn waiting() -> Result<(Self, AcceptRestore)> {
        let mut lost = Self::start().await?;
        ensure!(lost.vaulted.restored(&lost.file)?, "it is behind the log");
        lost.vaulted.open_again().await?;
        let restore = lost.vaulted.awaiting().await?.context("a restore that waits")?.restore;
        Ok((lost, restore))
    }

    async fn serves(&self) -> Result<()> {
        self.vaulted.reveals(&self.kept).await?;
        let revealer = self.vaulted.stack.revealer("gateway-egress")?;
        let answer = revealer.detokenize(&stack::cards()?, &cards::reveal_all(&self.gone)).await?;
        let is_gone = |item: &ItemResult<_>| matches!(item, ItemResult::Error(problem) if problem.code == ProblemCode::TokenNotFound);
        ensure!(answer.items.iter().all(is_gone), "what came after the backup is gone: {answer:?}");
        Ok(())
    }

    async fn is_refused(&self) -> Result<()> {
        let revealer = self.vaulted.stack.revealer("gateway-egress")?;
        let answer = revealer.detokenize(&stack::cards()?, &cards::reveal_all(&self.kept)).await;
        not_accepted("detokenize", answer)
    }
}

fn problem<T: Debug>(answer: Result<T, ClientError>) -> Result<ProblemCode> {
    match answer {
        Err(ClientError::Problem(problem)) => Ok(problem.code),
        other => anyhow::bail!("not a problem: {other:?}"),
    }
}

fn not_accepted<T: Debug>(call: &str, answer: Result<T, ClientError>) -> Result<()> {
    let code = problem(answer).with_context(|| call.to_owned())?;
    ensure!(code == ProblemCode::RestoreNotAccepted, "{call}: {code:?}");
    Ok(())
}

/// Every call that shows, takes, moves or erases a card, or changes a key or a rule.
async fn nothing_is_served(stack: &Stack, token: &Token) -> Result<()> {
    let name = stack::cards()?;
    let (ingress, operator) = (stack.tokenizer("gateway-ingress")?, stack.tokenizer("operator")?);
    not_accepted("tokenize", ingress.tokenize(&name, &cards::only(cards::bulk(1)?)).await)?;
    let importer = stack.tokenizer("importer")?;
    not_accepted("import", importer.tokenize(&name, &cards::only(cards::bulk(1)?)).await)?;
    let revealer = stack.revealer("gateway-egress")?;
    not_accepted("detokenize", revealer.detokenize(&name, &cards::reveal(token)).await)?;
    let inspect = InspectRequest { items: vec![token.clone().into()] };
    not_accepted("inspect", operator.inspect(&name, &inspect).await)?;
    let lookup = LookupRequest { items: vec![LookupItem { pan: cards::bulk(1)?.into() }] };
    not_accepted("lookup", ingress.lookup(&name, &lookup).await)?;
    let delete = DeleteRequest { items: vec![token.clone().into()] };
    not_accepted("delete", operator.delete(&name, &delete).await)?;

    let vault = stack.administrator()?;
    let recipient = age::x25519::Identity::generate().to_public().to_string();
    let export = ExportRequest { collection: name.clone(), recipient };
    not_accepted("export", vault.export(&export, |_| Ok(())).await)?;
    not_accepted("backup", vault.backup(|_| Ok(())).await)?;
    not_accepted("keys", vault.keys().await)?;
    let rotate = RotateRequest { purpose: KeyPurpose::Data, collection: Some(name.clone()) };
    not_accepted("rotate", vault.rotate(&rotate).await)?;
    let rewrap = RewrapRequest { collection: name.clone(), pause: false, rate_per_s: 1_000 };
    not_accepted("rewrap", vault.rewrap(&rewrap).await)?;
    let state = KeyStateRequest {
        purpose: KeyPurpose::Data,
        collection: Some(name.clone()),
        version: 1,
        change: KeyChange::Suspend,
    };
    not_accepted("key state", vault.change_key_state(&state).await)?;
    let destroy = DestroyRequest { purpose: KeyPurpose::Kek, collection: None, version: 1 };
    not_accepted("destroy", vault.destroy_key(&destroy).await)?;
    let retention = RetentionRequest { collection: name, retention: Retention::Days(1) };
    not_accepted("retention", vault.set_retention(&retention).await)?;
    not_accepted("verify", vault.verify_retention().await)?;
    let create = CreateCollection {
        name: CollectionName::parse("other")?,
        profile: TokenProfile::default(),
        expected_cards: 10,
    };
    not_accepted("create", vault.create_collection(&create).await)?;
    not_accepted("rekey", vault.begin_rekey(&RekeyRequest::default()).await)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_restore_serves_nobody_until_two_custodians_accept_it() -> Result<()> {
    let mut lost = Lost::start().await?;
    let output = lost.vaulted.restore(&lost.file, 0)?;
    ensure!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("cordon restore accept backup-"), "it says what to do: {}", said(&output));
    lost.vaulted.stack.restart_vault()?;
    let sealed = lost.vaulted.awaiting().await?.context("it waits while it is sealed")?;
    assert!(sealed.known_sequence > Some(sealed.restore.sequence), "{sealed:?}");
    let restore = sealed.restore;
    let administrator = lost.vaulted.stack.administrator()?;
    assert_eq!(problem(administrator.accept_restore(&restore).await)?, ProblemCode::Sealed);
    lost.vaulted.stack.unseal().await?;
    let token = lost.kept.first().context("a token")?;
    nothing_is_served(&lost.vaulted.stack, token).await?;

    // What leads to its acceptance is answered, and says what to do: also whether the records are those of a vault.
    lost.vaulted.assert_whole()?;
    for shown in [
        administrator.seal_status().await.map(drop),
        administrator.approvals().await.map(drop),
        administrator.custodians().await.map(drop),
        administrator.audit_page(0, 10).await.map(drop),
        administrator.collections().await.map(drop),
    ] {
        shown?;
    }
    let status = lost.vaulted.cordon_as("operator", &["status"])?;
    assert!(status.status.code() == Some(1) && said(&status).contains(&restore.backup), "{}", said(&status));
    let doctor = said(&lost.vaulted.cordon_as("operator", &["doctor"])?);
    assert!(doctor.contains(&format!("cordon restore accept {}", restore.backup)), "{doctor}");
    let metrics = lost.vaulted.stack.vault.address("metrics")?;
    assert_eq!(https::send_plain(metrics, "/ready").await?.status, 503);
    let text = String::from_utf8(https::send_plain(metrics, "/metrics").await?.body)?;
    assert!(text.contains("cordon_vault_awaiting_restore 1\n"), "{text}");

    // By the command: another backup is not accepted, this one is asked for, and who asks does not approve.
    let accept =
        |service: &str, backup: &str| lost.vaulted.cordon_as(service, &["restore", "accept", backup]);
    assert_eq!(accept("operator", "backup-other")?.status.code(), Some(1));
    assert_eq!(accept("monitor", &restore.backup)?.status.code(), Some(1));
    let asked = accept("custodian-1", &restore.backup)?;
    assert_eq!(asked.status.code(), Some(75), "{}", said(&asked));
    let operation = Operation::AcceptRestore(restore.clone());
    let id = administrator.request_approval(&operation).await?.id;
    assert!(said(&asked).contains(&id), "{}", said(&asked));
    let custodian = |number: u8| lost.vaulted.stack.administrator_as(&format!("custodian-{number}"));
    assert_eq!(problem(custodian(1)?.approve(&id).await)?, ProblemCode::Conflict, "the asker");
    assert_eq!(problem(administrator.approve(&id).await)?, ProblemCode::Denied, "no custodian");
    assert_eq!(custodian(2)?.approve(&id).await?.state, ApprovalState::Pending);
    assert_eq!(problem(custodian(2)?.approve(&id).await)?, ProblemCode::Conflict, "twice");
    assert_eq!(accept("operator", &restore.backup)?.status.code(), Some(75), "one is not enough");
    nothing_is_served(&lost.vaulted.stack, token).await?;
    assert_eq!(custodian(3)?.approve(&id).await?.state, ApprovalState::Approved);
    assert_eq!(accept("monitor", &restore.backup)?.status.code(), Some(1), "who may not, approved or not");
    lost.is_refused().await?;

    // kill -9 between approval and acceptance.
    lost.vaulted.stack.vault.kill()?;
    lost.vaulted.open_again().await?;
    nothing_is_served(&lost.vaulted.stack, token).await?;
    let output = lost.vaulted.cordon_as("operator", &["restore", "accept", &restore.backup])?;
    ensure!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains(r#""approved_by":["custodian-2","custodian-3"]"#), "{}", said(&output));
    lost.serves().await?;
    let audit = lost.vaulted.stack.audit("vault");
    let line = audit.lines().find(|line| line.contains("\"stale-accepted\"")).context("the line")?;
    assert!(
        line.contains(r#""by":["custodian-2","custodian-3"]"#) && line.contains(&restore.backup),
        "{line}"
    );

    // It is the new beginning: nothing waits any more, whichever way the vault ends.
    let output = lost.vaulted.cordon_as("operator", &["restore", "accept", &restore.backup])?;
    assert_eq!(output.status.code(), Some(1), "once");
    lost.vaulted.stack.vault.kill()?;
    lost.vaulted.open_again().await?;
    lost.serves().await?;
    lost.vaulted.stack.vault.terminate().await?;
    lost.vaulted.open_again().await?;
    lost.serves().await?;
    assert_eq!(lost.vaulted.awaiting().await?, None);
    let again = lost.vaulted.stack.administrator()?.accept_restore(&restore).await;
    assert_eq!(problem(again)?, ProblemCode::Conflict);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_stands_for_one_restore_alone() -> Result<()> {
    let (mut lost, restore) = Lost::waiting().await?;
    let others = [
        AcceptRestore { backup: "backup-other".to_owned(), ..restore.clone() },
        AcceptRestore { sequence: restore.sequence + 1, ..restore.clone() },
        AcceptRestore { epoch: restore.epoch.map(|epoch| epoch + 1), ..restore.clone() },
        AcceptRestore { line: restore.line + 1, ..restore.clone() },
    ];
    let administrator = lost.vaulted.stack.administrator()?;
    for other in others {
        lost.vaulted.stack.approve(&Operation::AcceptRestore(other.clone())).await?;
        assert_eq!(problem(administrator.accept_restore(&other).await)?, ProblemCode::Conflict, "{other:?}");
        let code = problem(administrator.accept_restore(&restore).await)?;
        assert_eq!(code, ProblemCode::ApprovalRequired, "{other:?}");
    }
    // Approved, and then the same backup is put back again: that is another restore.
    lost.vaulted.stack.approve(&Operation::AcceptRestore(restore.clone())).await?;
    lost.vaulted.lose(false).await?;
    assert!(lost.vaulted.restored(&lost.file)?);
    lost.vaulted.open_again().await?;
    let second = lost.vaulted.awaiting().await?.context("it waits")?.restore;
    assert!(second.backup == restore.backup && second.line > restore.line, "{second:?}");
    let administrator = lost.vaulted.stack.administrator()?;
    assert_eq!(problem(administrator.accept_restore(&restore).await)?, ProblemCode::Conflict);
    assert_eq!(problem(administrator.accept_restore(&second).await)?, ProblemCode::ApprovalRequired);
    lost.is_refused().await?;
    lost.vaulted.accept().await?;
    lost.serves().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_not_forgotten_whatever_is_removed() -> Result<()> {
    let (mut lost, restore) = Lost::waiting().await?;
    let (data, audit) = (lost.vaulted.stack.vault_data(), lost.vaulted.stack.vault_data().join("audit"));
    lost.vaulted.stack.vault.terminate().await?;

    // The log alone: the store has commits that no log tells of.
    let aside = lost.vaulted.stack.dir().join("audit-aside");
    fs::rename(&audit, &aside)?;
    assert!(lost.vaulted.stack.restart_vault().is_err());
    fs::remove_dir_all(&audit)?;
    // The line of the restore, and what came after it.
    copy(&aside, &audit)?;
    let segment = audit.join("audit-00000000000000000000.jsonl");
    let bytes = fs::read(&segment)?;
    let end = memchr::memmem::find(&bytes, b"awaiting-acceptance").context("the line")?;
    let start = memchr::memrchr(b'\n', bytes.get(..end).context("the log")?).context("a line before")?;
    fs::write(&segment, bytes.get(..=start).context("the log")?)?;
    assert!(lost.vaulted.stack.restart_vault().is_err());
    fs::remove_dir_all(&audit)?;
    copy(&aside, &audit)?;
    lost.vaulted.open_again().await?;
    lost.is_refused().await?;

    // Store and log: a restore without a log waits, too, however often.
    lost.vaulted.lose(true).await?;
    assert!(lost.vaulted.restored(&lost.file)?);
    lost.vaulted.open_again().await?;
    let waits = lost.vaulted.awaiting().await?.context("it waits")?;
    assert_eq!((waits.restore.backup.as_str(), waits.known_sequence), (restore.backup.as_str(), None));
    lost.is_refused().await?;
    assert!(lost.vaulted.stack.audit("vault").contains("log-lost-awaiting-acceptance"));
    assert!(data.join("store").exists());
    lost.vaulted.accept().await?;
    lost.serves().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_card_taken_out_of_a_restore_that_waits_is_missed_before_and_after_it_is_accepted() -> Result<()> {
    let (mut lost, _restore) = Lost::waiting().await?;
    let data = lost.vaulted.stack.vault_data();
    lost.vaulted.assert_whole()?;
    lost.is_refused().await?;
    let begun = |stack: &Stack| stack.audit("vault").matches("\"tally-begun\"").count();
    assert_eq!(begun(&lost.vaulted.stack), 1, "that of the store before");

    // Taken out with its index entry: it is missed by number.
    let victim = lost.kept.first().context("a token")?;
    lost.vaulted.stack.vault.kill()?;
    let taken = {
        let files = Files::open(&data)?;
        let taken = files.copy(victim)?;
        taken.iter().try_for_each(|(key, _)| files.remove(key))?;
        taken
    };
    lost.vaulted.open_again().await?;
    let report = lost.vaulted.verify_store()?;
    let cards = report.collections.iter().find(|one| one.number == CARDS.0).context("the collection")?;
    assert_eq!((cards.records, cards.expected, cards.verdict.as_str()), (19, 20, "rows-missing"));

    // With the tally taken away, too, as a backup of an older version has none: no other is begun.
    lost.vaulted.stack.vault.kill()?;
    {
        let files = Files::open(&data)?;
        for (key, _) in files.rows()?.iter().filter(|(key, _)| rows::kind(key) == rows::Kind::Tally) {
            files.remove(key)?;
        }
        files.put(&rows::header_key(), &rows::encode_header(false))?;
    }
    lost.vaulted.open_again().await?;
    assert_eq!(lost.vaulted.verify_store()?.refused.as_deref(), Some("tally-gone"));
    // Accepted all the same: acceptance makes nothing good.
    lost.vaulted.accept().await?;
    assert!(!lost.vaulted.verify_store()?.good);
    lost.vaulted.stack.vault.terminate().await?;
    lost.vaulted.open_again().await?;
    assert_eq!(lost.vaulted.verify_store()?.refused.as_deref(), Some("tally-gone"), "nor does a restart");
    assert_eq!(begun(&lost.vaulted.stack), 1);

    // A backup does.
    lost.vaulted.lose(false).await?;
    assert!(lost.vaulted.restored(&lost.file)?);
    lost.vaulted.open_again().await?;
    lost.vaulted.assert_whole()?;
    lost.vaulted.accept().await?;
    lost.vaulted.assert_whole()?;
    lost.vaulted.stack.vault.terminate().await?;
    assert_eq!(Files::open(&data)?.copy(victim)?, taken, "the card is in it");
    lost.vaulted.open_again().await?;
    lost.vaulted.assert_whole()?;
    lost.serves().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_before_an_acceptance_are_not_put_back_unseen_after_it() -> Result<()> {
    let (mut lost, _restore) = Lost::waiting().await?;
    let data = lost.vaulted.stack.vault_data();
    lost.vaulted.stack.vault.kill()?;
    let older = Files::open(&data)?.rows()?;
    lost.vaulted.open_again().await?;
    lost.vaulted.accept().await?;
    // In the process that accepted: its tally goes on with what came before.
    let items = vec![lost.kept.first().context("a token")?.clone().into()];
    lost.vaulted.stack.tokenizer("operator")?.delete(&stack::cards()?, &DeleteRequest { items }).await?;
    lost.vaulted.assert_whole()?;
    lost.vaulted.stack.vault.kill()?;
    {
        let files = Files::open(&data)?;
        older.iter().try_for_each(|(key, value)| files.put(key, value))?;
    }
    lost.vaulted.open_again().await?;
    let report = lost.vaulted.verify_store()?;
    assert_eq!((report.good, report.refused.as_deref()), (false, Some("tally-put-back")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_backup_beside_its_log_waits_for_nobody() -> Result<()> {
    let mut lost = Lost::start().await?;
    assert!(lost.vaulted.restored(&lost.file)?);
    lost.vaulted.open_again().await?;
    lost.vaulted.accept().await?;
    let file = lost.vaulted.backup("today.backup")?;
    lost.vaulted.lose(false).await?;
    assert!(!lost.vaulted.restored(&file)?, "nothing is missing from it");
    lost.vaulted.open_again().await?;
    assert_eq!(lost.vaulted.awaiting().await?, None);
    lost.serves().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_leaves_a_restore_waiting_or_accepted() -> Result<()> {
    let (mut lost, restore) = Lost::waiting().await?;
    let operation = Operation::AcceptRestore(restore.clone());
    let mut kills_before = 0;
    for round in 0..8_u64 {
        let administrator = lost.vaulted.stack.administrator()?;
        if administrator.request_approval(&operation).await?.state == ApprovalState::Pending {
            lost.vaulted.stack.approve(&operation).await?;
        }
        let wanted = restore.clone();
        let call = tokio::spawn(async move { administrator.accept_restore(&wanted).await });
        // Before, between and after the approval's end and the line.
        tokio::time::sleep(Duration::from_millis(round * 3)).await;
        lost.vaulted.stack.vault.kill()?;
        let answered = call.await?.is_ok();
        lost.vaulted.open_again().await?;
        if lost.vaulted.awaiting().await?.is_none() {
            let audit = lost.vaulted.stack.audit("vault");
            assert_eq!(audit.matches("\"stale-accepted\"").count(), 1);
            break;
        }
        assert!(!answered, "round {round}: an answered acceptance is in force");
        lost.is_refused().await?;
        kills_before += 1;
    }
    println!("{kills_before} kills left it waiting");
    if lost.vaulted.awaiting().await?.is_some() {
        lost.vaulted.accept().await?;
    }
    lost.serves().await
}

fn copy(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(status.success(), "cp {} {}", from.display(), to.display());
    Ok(())
}
