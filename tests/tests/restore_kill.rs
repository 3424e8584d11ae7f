//! A restore that is cut short anywhere is finished by the same command or by the start of the vault, beside its log and
//! without one.

use anyhow::{Context, Result, ensure};
use cordon_card::Token;
use cordon_tests::vaulted::{Vaulted, said};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

/// A vault that is lost, and its backup.
struct Lost {
    vaulted: Vaulted,
    file: PathBuf,
    tokens: Vec<Token>,
}

impl Lost {
    async fn start(cards: u64) -> Result<Self> {
        let vaulted = Vaulted::start().await?;
        let tokens = vaulted.tokenize(0, cards).await?;
        let file = vaulted.backup("whole.backup")?;
        // The log is ahead of it from now on.
        vaulted.tokenize(cards, 1).await?;
        Ok(Self { vaulted, file, tokens })
    }

    /// As a kill between the last two steps leaves it: the line is written, the store is not in place.
    fn cut_before_the_last_step(&self) -> Result<()> {
        let output = self.vaulted.restore(&self.file, 0)?;
        ensure!(output.status.success(), "{}", said(&output));
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let backup = answer.pointer("/header/id").and_then(serde_json::Value::as_str).context("its name")?;
        let data = self.vaulted.stack.vault_data();
        Ok(fs::rename(data.join("store"), data.join(format!("store.restored-{backup}")))?)
    }

    /// Starts, accepts what waits, and reveals every card of the backup.
    async fn serves(&mut self) -> Result<()> {
        self.vaulted.open_again().await?;
        self.vaulted.accept().await?;
        ensure!(left_behind(&self.vaulted.stack.vault_data())?.is_empty());
        self.vaulted.reveals(&self.tokens).await
    }
}

/// Directories of restores that were cut short.
fn left_behind(data: &Path) -> Result<Vec<PathBuf>> {
    let mut left = Vec::new();
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("store.") {
            left.push(entry.path());
        }
    }
    Ok(left)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_step_is_made_up_for_by_the_start_or_by_the_same_command() -> Result<()> {
    let mut lost = Lost::start(50).await?;
    for without_log in [false, true] {
        lost.vaulted.lose(without_log).await?;
        lost.cut_before_the_last_step()?;
        lost.serves().await?;
        assert!(lost.vaulted.stack.vault.log().contains("a restore that was cut short is finished"));

        lost.vaulted.lose(without_log).await?;
        lost.cut_before_the_last_step()?;
        let output = lost.vaulted.restore(&lost.file, 0)?;
        assert!(
            output.status.success() && said(&output).contains("\"finished\":\"backup-"),
            "{}",
            said(&output)
        );
        assert!(said(&output).contains("\"awaits_acceptance\":true"), "{}", said(&output));
        assert!(!lost.vaulted.restore(&lost.file, 0)?.status.success(), "there is a store now");
        lost.serves().await?;

        // The restore of another backup had been cut short: it is finished, and nothing else is done.
        let other = lost.vaulted.backup(if without_log { "other-2.backup" } else { "other-1.backup" })?;
        lost.vaulted.lose(without_log).await?;
        lost.cut_before_the_last_step()?;
        let output = lost.vaulted.restore(&other, 0)?;
        let refused = output.status.code() == Some(1) && said(&output).contains("had been cut short");
        assert!(refused, "{}", said(&output));
        lost.serves().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_without_a_line_is_as_good_as_none() -> Result<()> {
    let mut lost = Lost::start(50).await?;
    lost.vaulted.lose(true).await?;
    cordon_audit::Log::open(&lost.vaulted.stack.vault_data().join("audit"), "cordon-vault")?.0.close()?;
    assert!(lost.vaulted.restored(&lost.file)?);
    lost.serves().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_time_costs_no_more_than_the_command_once_again() -> Result<()> {
    const KILLS: u32 = 9;
    let mut lost = Lost::start(3_000).await?;
    lost.vaulted.lose(false).await?;
    let begun = Instant::now();
    assert!(lost.vaulted.restored(&lost.file)?);
    let whole = begun.elapsed();
    lost.serves().await?;
    let mut seen = std::collections::BTreeSet::new();
    // Without a log last: from then on the backup is of another log than the vault's.
    for (without_log, round) in [false, true].into_iter().flat_map(|lost| (0..KILLS).map(move |n| (lost, n)))
    {
        lost.vaulted.lose(without_log).await?;
        let mut command = lost.vaulted.restoring(&lost.file, 0)?;
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        tokio::time::sleep(whole * round / (KILLS - 1)).await;
        child.kill()?;
        child.wait()?;
        let data = lost.vaulted.stack.vault_data();
        let left = left_behind(&data)?;
        seen.extend(left.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())));
        if data.join("store").exists() {
            seen.insert("store".to_owned());
        } else {
            let output = lost.vaulted.restore(&lost.file, 0)?;
            ensure!(output.status.success(), "round {round}: {}", said(&output));
        }
        lost.serves().await.with_context(|| format!("round {round}, left {left:?}"))?;
    }
    println!("killed with these in place: {seen:?}");
    Ok(())
}
