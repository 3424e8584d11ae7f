//! Backups of a vault under load: whole and of one moment, restored into an empty directory without an init, refused
//! when cut or behind the audit log, and never bringing back what was erased since.

use anyhow::{Context, Result, ensure};
use cordon_card::Token;
use cordon_client::ClientError;
use cordon_tests::cards::{self, done};
use cordon_tests::process::binary;
use cordon_tests::stack::{self, Options, Stack};
use cordon_wire::{
    CreateCollection, DeleteRequest, ItemResult, ProblemCode, SealKind, TokenProfile, TokenUse,
    TokenizeRequest,
};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const CARDS: u64 = 2_000;

/// A custodian's key pair: the public key, and a file with the private one to be.
fn custodian() -> (String, String) {
    let identity = age::x25519::Identity::generate();
    let secret = age::secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned();
    (identity.to_public().to_string(), secret)
}

struct Vaulted {
    stack: Stack,
    keys: Vec<PathBuf>,
}

impl Vaulted {
    /// A vault with two custodians; the third key is a stranger's.
    async fn start() -> Result<Self> {
        let custodians: Vec<_> = (0..3).map(|_| custodian()).collect();
        let recipients = custodians.iter().take(2).map(|(public, _)| public.clone()).collect();
        let options = Options { gateway: false, seal: SealKind::Shamir, recipients, ..Options::default() };
        let stack = Stack::start(options).await?;
        let mut keys = Vec::new();
        for (number, (_, secret)) in custodians.iter().enumerate() {
            let path = stack.dir().join(format!("custodian-{number}.key"));
            fs::write(&path, secret)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            keys.push(path);
        }
        Ok(Self { stack, keys })
    }

    fn cordon(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(binary("cordon")?);
        command.arg("--json").arg("--config").arg(self.stack.cli("operator")?).args(arguments);
        Ok(command.output()?)
    }

    fn backup(&self, name: &str) -> Result<PathBuf> {
        let path = self.stack.dir().join(name);
        let output = self.cordon(&["backup", "create", "--out", &path.to_string_lossy()])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        Ok(path)
    }

    fn verify(&self, file: &Path, key: usize) -> Result<Output> {
        let key = self.keys.get(key).context("a key")?;
        self.cordon(&["backup", "verify", &file.to_string_lossy(), "--identity", &key.to_string_lossy()])
    }

    fn restore(&self, file: &Path, key: usize, accept: &[usize]) -> Result<Output> {
        let mut command = Command::new(binary("cordon-vault")?);
        command.arg("restore").arg("--config").arg(self.stack.dir().join("vault.toml"));
        command.arg("--from").arg(file).arg("--identity").arg(self.keys.get(key).context("a key")?);
        for key in accept {
            command.arg("--accept").arg(self.keys.get(*key).context("a key")?);
        }
        Ok(command.output()?)
    }

    /// The machine's disk is lost: the store, and the audit log unless it was kept elsewhere.
    async fn lose(&mut self, audit: bool) -> Result<()> {
        self.stack.vault.terminate().await?;
        fs::remove_dir_all(self.stack.vault_data().join("store"))?;
        if audit {
            fs::remove_dir_all(self.stack.vault_data().join("audit"))?;
        }
        Ok(())
    }

    async fn tokenize(&self, from: u64, count: u64) -> Result<Vec<Token>> {
        let client = self.stack.tokenizer("gateway-ingress")?;
        let mut tokens = Vec::new();
        for start in (from..from + count).step_by(500) {
            let end = (start + 500).min(from + count);
            let items = (start..end).map(|n| Ok(cards::item(cards::bulk(n)?))).collect::<Result<_>>()?;
            for item in client.tokenize(&stack::cards()?, &TokenizeRequest { items }).await?.items {
                tokens.push(done(item)?.token);
            }
        }
        Ok(tokens)
    }

    fn assert_whole(&self) -> Result<()> {
        let output = self.cordon(&["store", "verify"])?;
        ensure!(output.status.success(), "{}", said(&output));
        Ok(())
    }

    async fn reveals(&self, tokens: &[Token]) -> Result<()> {
        let client = self.stack.revealer("gateway-egress")?;
        for (start, page) in (0..).step_by(500).zip(tokens.chunks(500)) {
            let answer = client.detokenize(&stack::cards()?, &cards::reveal_all(page)).await?;
            for (n, item) in (start..).zip(answer.items) {
                let pan = done(item)?.pan.into_result().map_err(|code| anyhow::anyhow!("{code:?}"))?;
                ensure!(pan.expose() == cards::bulk(n)?.expose(), "token {n} reveals another card");
            }
        }
        Ok(())
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

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
    assert_eq!(vaulted.restore(&file, 2, &[])?.status.code(), Some(1), "a stranger's key");
    let output = vaulted.restore(&file, 0, &[])?;
    ensure!(output.status.success(), "{}", said(&output));
    assert!(!vaulted.restore(&file, 0, &[])?.status.success(), "never over a store that is there");
    vaulted.stack.restart_vault()?;
    vaulted.stack.unseal().await?;
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
        assert_eq!(vaulted.restore(&path, 0, &[])?.status.code(), Some(1), "cut by {cut}");
        assert!(!vaulted.stack.vault_data().join("store").exists(), "nothing is put in place");
    }
    let output = vaulted.restore(&file, 0, &[])?;
    ensure!(output.status.success(), "what failed before is no obstacle: {}", said(&output));
    Ok(())
}

#[tokio::test]
async fn a_stale_backup_needs_two_custodians_and_brings_nothing_back() -> Result<()> {
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
    for (key, accept) in [(0, vec![]), (0, vec![0]), (1, vec![1]), (0, vec![2])] {
        let output = vaulted.restore(&file, key, &accept)?;
        assert_eq!(output.status.code(), Some(1), "{key} {accept:?}: {}", said(&output));
        assert!(!vaulted.stack.vault_data().join("store").exists());
    }
    assert!(vaulted.stack.restart_vault().is_err(), "the vault does not start on nothing");
    let output = vaulted.restore(&file, 0, &[1])?;
    ensure!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("\"erased\":1"), "{}", said(&output));
    vaulted.stack.restart_vault()?;
    vaulted.stack.unseal().await?;
    let revealer = vaulted.stack.revealer("gateway-egress")?;
    let answer = revealer.detokenize(&stack::cards()?, &cards::reveal_all(kept)).await?;
    assert!(answer.items.iter().all(|item| matches!(item, ItemResult::Ok(_))));
    for token in std::iter::once(erased).chain(&lost) {
        let answer = revealer.detokenize(&stack::cards()?, &cards::reveal(token)).await?;
        let item = answer.items.into_iter().next().context("an item")?;
        assert!(matches!(&item, ItemResult::Error(problem) if problem.code == ProblemCode::TokenNotFound));
    }
    let again = reveal_once(&vaulted.stack, &single, &once).await?;
    assert!(!again, "a single-use token that was given out stays used");
    let audit = vaulted.stack.audit("vault");
    assert!(
        audit.contains("\"reason\":\"stale-accepted\"") && audit.contains("\"by\":[\"age1"),
        "who accepted"
    );
    // Erased and used without a key while it was restored, and counted with it.
    assert!(audit.contains("\"on\":\"changed-by-restore-2\""), "the tally took them up");
    vaulted.assert_whole()?;
    // The accepted restore is the new beginning: the next start is an ordinary one.
    vaulted.stack.vault.terminate().await?;
    vaulted.stack.restart_vault()?;
    vaulted.stack.unseal().await?;
    vaulted.assert_whole()
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
