//! A vault with backups that custodians can open, its loss, and its return.
//!
//! Must never restore but by the command that an operator runs. Tests: `tests/tests/backup.rs`, `tests/tests/acceptance.rs`.

use crate::cards::{self, done};
use crate::process::binary;
use crate::stack::{self, Options, Stack};
use anyhow::{Context, Result, ensure};
use cordon_archive::{BackupReader, BackupWriter, Identities, Recipients};
use cordon_card::Token;
use cordon_wire::{AwaitingRestore, Operation, SealKind, StoreReport, TokenizeRequest};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A custodian's key pair: the public key, and a file with the private one to be.
fn custodian() -> (String, String) {
    let identity = age::x25519::Identity::generate();
    let secret = age::secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned();
    (identity.to_public().to_string(), secret)
}

/// A vault whose backups two custodians can open.
#[derive(Debug)]
pub struct Vaulted {
    /// The vault.
    pub stack: Stack,
    recipients: Vec<String>,
    keys: Vec<PathBuf>,
}

impl Vaulted {
    /// A vault with two custodians; the third key is a stranger's.
    ///
    /// # Errors
    /// A part did not come up.
    pub async fn start() -> Result<Self> {
        let custodians: Vec<_> = (0..3).map(|_| custodian()).collect();
        let recipients: Vec<_> = custodians.iter().take(2).map(|(public, _)| public.clone()).collect();
        let options = Options {
            gateway: false,
            seal: SealKind::Shamir,
            recipients: recipients.clone(),
            ..Options::default()
        };
        let stack = Stack::start(options).await?;
        let mut keys = Vec::new();
        for (number, (_, secret)) in custodians.iter().enumerate() {
            let path = stack.dir().join(format!("custodian-{number}.key"));
            fs::write(&path, secret)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            keys.push(path);
        }
        Ok(Self { stack, recipients, keys })
    }

    fn cordon(&self, arguments: &[&str]) -> Result<Output> {
        self.cordon_as("operator", arguments)
    }

    /// Runs the command with `--json`.
    ///
    /// # Errors
    /// It can't be started.
    pub fn cordon_as(&self, service: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(binary("cordon")?);
        command.arg("--json").arg("--config").arg(self.stack.cli(service)?).args(arguments);
        Ok(command.output()?)
    }

    /// Takes a backup under this name.
    ///
    /// # Errors
    /// It is refused.
    pub fn backup(&self, name: &str) -> Result<PathBuf> {
        let path = self.stack.dir().join(name);
        let output = self.cordon(&["backup", "create", "--out", &path.to_string_lossy()])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        Ok(path)
    }

    /// Verifies a backup with a key.
    ///
    /// # Errors
    /// It can't be started.
    pub fn verify(&self, file: &Path, key: usize) -> Result<Output> {
        let key = self.keys.get(key).context("a key")?;
        self.cordon(&["backup", "verify", &file.to_string_lossy(), "--identity", &key.to_string_lossy()])
    }

    /// A backup with the same head and those rows whose keys `keeps` takes, encrypted to the custodians anew: their public
    /// keys are no secret.
    ///
    /// # Errors
    /// The backup can't be read, or the new one not be written.
    pub fn rewritten(&self, file: &Path, name: &str, keeps: impl Fn(&[u8]) -> bool) -> Result<PathBuf> {
        let identity = Identities::load(self.keys.first().context("a key")?)?;
        let mut reader = BackupReader::new(identity.open(fs::File::open(file)?)?)?;
        let path = self.stack.dir().join(name);
        let sealing = Recipients::parse(&self.recipients)?.seal(fs::File::create(&path)?)?;
        let mut writer = BackupWriter::new(sealing, reader.header())?;
        while let Some((key, value)) = reader.next_row()? {
            if keeps(&key) {
                writer.row(&key, &value)?;
            }
        }
        writer.finish()?.0.finish()?;
        Ok(path)
    }

    /// The command that restores.
    ///
    /// # Errors
    /// There is no such key.
    pub fn restoring(&self, file: &Path, key: usize) -> Result<Command> {
        let mut command = Command::new(binary("cordon-vault")?);
        command.arg("restore").arg("--config").arg(self.stack.dir().join("vault.toml"));
        command.arg("--from").arg(file).arg("--identity").arg(self.keys.get(key).context("a key")?);
        Ok(command)
    }

    /// Restores a backup with a key.
    ///
    /// # Errors
    /// It can't be started.
    pub fn restore(&self, file: &Path, key: usize) -> Result<Output> {
        Ok(self.restoring(file, key)?.output()?)
    }

    /// A restore that must be done. Says whether it waits for acceptance.
    ///
    /// # Errors
    /// It was not done.
    pub fn restored(&self, file: &Path) -> Result<bool> {
        let output = self.restore(file, 0)?;
        ensure!(output.status.success(), "{}", said(&output));
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        answer.get("awaits_acceptance").and_then(serde_json::Value::as_bool).context("whether it waits")
    }

    /// Starts the vault again and unseals it.
    ///
    /// # Errors
    /// It does not start or stays sealed.
    pub async fn open_again(&mut self) -> Result<()> {
        self.stack.restart_vault()?;
        self.stack.unseal().await
    }

    /// What waits for acceptance, by the vault's status.
    ///
    /// # Errors
    /// The vault does not answer.
    pub async fn awaiting(&self) -> Result<Option<AwaitingRestore>> {
        Ok(self.stack.administrator()?.status().await?.awaiting_restore)
    }

    /// Two custodians approve the restore that waits, and the operator accepts it.
    ///
    /// # Errors
    /// None waits, or the vault refuses.
    pub async fn accept(&self) -> Result<()> {
        let restore = self.awaiting().await?.context("a restore that waits")?.restore;
        self.stack.approve(&Operation::AcceptRestore(restore.clone())).await?;
        self.stack.administrator()?.accept_restore(&restore).await?;
        Ok(())
    }

    /// The machine's disk is lost: the store, and the audit log unless it was kept elsewhere.
    ///
    /// # Errors
    /// The vault does not end.
    pub async fn lose(&mut self, audit: bool) -> Result<()> {
        self.stack.vault.terminate().await?;
        fs::remove_dir_all(self.stack.vault_data().join("store"))?;
        if audit {
            fs::remove_dir_all(self.stack.vault_data().join("audit"))?;
        }
        Ok(())
    }

    /// Tokens of so many bulk cards.
    ///
    /// # Errors
    /// A card is refused.
    pub async fn tokenize(&self, from: u64, count: u64) -> Result<Vec<Token>> {
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

    /// What `cordon store verify` reports.
    ///
    /// # Errors
    /// It reports nothing, or its exit status says otherwise.
    pub fn verify_store(&self) -> Result<StoreReport> {
        let output = self.cordon(&["store", "verify"])?;
        let report: StoreReport = serde_json::from_slice(&output.stdout).with_context(|| said(&output))?;
        ensure!(output.status.success() == report.good, "{}", said(&output));
        Ok(report)
    }

    /// That every record is as it was committed.
    ///
    /// # Errors
    /// `cordon store verify` found something.
    pub fn assert_whole(&self) -> Result<()> {
        let report = self.verify_store()?;
        ensure!(report.good, "{report:?}");
        Ok(())
    }

    /// That these are tokens of the first bulk cards.
    ///
    /// # Errors
    /// One is not.
    pub async fn reveals(&self, tokens: &[Token]) -> Result<()> {
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

/// What a command said, on both streams.
#[must_use]
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
