//! Copies of the audit log elsewhere, from the real vault: a file, a system log socket, standard output.

use anyhow::{Context, Result};
use cordon_client::ClientError;
use cordon_tests::cards;
use cordon_tests::process::binary;
use cordon_tests::stack::{self, Options, Stack};
use cordon_wire::ProblemCode;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

async fn tokenize(stack: &Stack) -> Result<(), ClientError> {
    let client =
        stack.tokenizer("gateway-ingress").map_err(|error| ClientError::Configuration(error.to_string()))?;
    let name = stack::cards().map_err(|error| ClientError::Configuration(error.to_string()))?;
    let pans = cards::bulk(1).map_err(|error| ClientError::Configuration(error.to_string()))?;
    client.tokenize(&name, &cards::only(pans)).await.map(drop)
}

#[tokio::test]
async fn a_file_has_every_line_of_the_log_over_a_kill_and_a_restart() -> Result<()> {
    let audit = "[audit]\nsinks = [{ kind = \"file\", path = \"copy.jsonl\", required = true }]";
    let options = Options { gateway: false, audit: audit.to_owned(), ..Options::default() };
    let mut stack = Stack::start(options).await?;
    tokenize(&stack).await?;
    stack.vault.kill()?;
    stack.restart_vault()?;
    stack.unseal().await?;
    tokenize(&stack).await?;
    stack.vault.terminate().await?;
    assert_eq!(fs::read_to_string(stack.dir().join("copy.jsonl"))?, stack.audit("vault"));
    Ok(())
}

#[tokio::test]
async fn a_required_sink_that_never_reads_ends_in_503_and_not_in_a_hang() -> Result<()> {
    let audit = "[audit]\nsinks = [{ kind = \"syslog\", path = \"log\", required = true, backlog = 20 }]";
    let mut stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    stack.vault.terminate().await?;
    // Bound, and never read from.
    let socket = UnixDatagram::bind(stack.dir().join("log"))?;
    stack.configure_audit(audit);
    stack.restart_vault()?;
    stack.unseal().await?;
    let deadline = std::time::Instant::now() + cordon_tests::patience();
    loop {
        match tokenize(&stack).await {
            Ok(()) => anyhow::ensure!(std::time::Instant::now() < deadline, "it was never late"),
            Err(ClientError::Problem(problem)) => {
                assert_eq!(problem.code, ProblemCode::AuditUnavailable);
                break;
            }
            Err(other) => return Err(other.into()),
        }
    }
    let metrics = cordon_tests::https::send_plain(stack.vault.address("metrics")?, "/metrics").await?;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(metrics.contains("cordon_vault_audit_degraded 1"), "{metrics}");
    // It is read from again: the backlog drains and the vault serves.
    socket.set_read_timeout(Some(std::time::Duration::from_millis(50)))?;
    let mut buffer = vec![0; 100_000];
    let mut messages = 0_u32;
    while tokenize(&stack).await.is_err() {
        anyhow::ensure!(std::time::Instant::now() < deadline, "it never caught up");
        while socket.recv(&mut buffer).is_ok() {
            messages += 1;
        }
    }
    assert!(messages > 20);
    Ok(())
}

#[tokio::test]
async fn standard_output_carries_the_announcements_first_and_then_the_lines() -> Result<()> {
    let mut stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    stack.vault.terminate().await?;
    stack.configure_audit("[audit]\nsinks = [{ kind = \"stdout\" }]");
    // Writes the configuration; the harness's own reader of standard output leaves after `ready`.
    stack.restart_vault()?;
    stack.vault.terminate().await?;
    let config = stack.dir().join("vault.toml");
    let mut child = Command::new(binary("cordon-vault")?)
        .arg("--config")
        .arg(config)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("a stdout")?).lines();
    let mut event =
        || -> Result<serde_json::Value> { Ok(serde_json::from_str(&lines.next().context("a line")??)?) };
    let mut listening = 0;
    loop {
        let said = event()?;
        match said["event"].as_str() {
            Some("listening") => listening += 1,
            Some("ready") => break,
            _ => anyhow::bail!("before ready: {said}"),
        }
    }
    assert_eq!(listening, 3);
    let mut what = Vec::new();
    while what.last().is_none_or(|last| last != "start") {
        what.push(event()?["what"].as_str().unwrap_or_default().to_owned());
    }
    kill_process(Pid::from_raw(i32::try_from(child.id())?).context("a process id")?, Signal::TERM)?;
    while what.last().is_none_or(|last| last != "stop") {
        what.push(event()?["what"].as_str().unwrap_or_default().to_owned());
    }
    assert!(child.wait()?.success());
    Ok(())
}
