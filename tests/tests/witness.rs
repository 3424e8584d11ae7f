//! A witness on another machine, an auditor with a proof file, and a log that is put back: as operators type it.

use anyhow::{Context, Result};
use cordon_tests::cards;
use cordon_tests::process::binary;
use cordon_tests::stack::{self, Options, Stack};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// Runs `cordon --json` in the run's directory, so that arguments can be relative paths.
async fn cordon(stack: &Stack, arguments: &str) -> Result<Output> {
    let mut command = Command::new(binary("cordon")?);
    command.current_dir(stack.dir()).arg("--json").args(arguments.split(' '));
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

async fn json(stack: &Stack, arguments: &str) -> Result<serde_json::Value> {
    let output = cordon(stack, arguments).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "{arguments}: {text}{said}");
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

/// The stable code of a failure.
async fn refused(stack: &Stack, arguments: &str) -> Result<String> {
    let output = cordon(stack, arguments).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments}: {text}");
    let value: serde_json::Value = serde_json::from_str(&text)?;
    Ok(value.pointer("/error/code").and_then(serde_json::Value::as_str).context("a code")?.to_owned())
}

fn configure(stack: &Stack) -> Result<()> {
    let files = stack.identity("operator");
    let text = format!(
        "[vault]\ndata = \"{}\"\nadmin = \"{}\"\nname = \"vault.cordon.test\"\nroots = \"{}\"\ncert = \"{}\"\n\
         key = \"{}\"\n",
        stack.vault.address("data")?,
        stack.vault.address("admin")?,
        stack.authority.root().display(),
        files.cert.display(),
        files.key.display()
    );
    let path = stack.dir().join("cordon.toml");
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        } else {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

async fn tokenize(stack: &Stack, count: u64) -> Result<()> {
    let client = stack.tokenizer("gateway-ingress")?;
    for number in 0..count {
        client.tokenize(&stack::cards()?, &cards::only(cards::bulk(number)?)).await?;
    }
    Ok(())
}

async fn signed(stack: &Stack, lines: u64) -> Result<()> {
    let deadline = std::time::Instant::now() + cordon_tests::patience();
    while stack.administrator()?.status().await?.audit.signed < lines {
        anyhow::ensure!(std::time::Instant::now() < deadline, "no checkpoint in time");
    }
    Ok(())
}

#[tokio::test]
async fn a_witness_cosigns_a_log_that_grows_and_none_that_was_put_back() -> Result<()> {
    let mut stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let made = json(&stack, "audit witness init --state w --name witness.test/w1").await?;
    assert!(made["key"].as_str().context("a key")?.starts_with("witness.test/w1+"));
    stack.vault.terminate().await?;
    stack.configure_audit("[audit]\nwitnesses = [\"w/witness.txt\"]");
    stack.restart_vault()?;
    stack.unseal().await?;
    configure(&stack)?;
    let warnings = stack.administrator()?.status().await?.warnings.join(" ");
    assert!(warnings.contains("no witness has cosigned"), "{warnings}");
    // The verifier key goes to the witness once, by hand.
    fs::copy(stack.vault_data().join("audit/verifier.txt"), stack.dir().join("log.txt"))?;

    tokenize(&stack, 10).await?;
    signed(&stack, 10).await?;
    json(&stack, "audit consistency --from 0 --out s0").await?;
    json(&stack, "audit witness cosign --state w --log log.txt s0 --out c0").await?;
    let kept = json(&stack, "audit cosign c0").await?;
    let lines = kept["cosigned"]["lines"].as_u64().context("lines")?;
    assert!(lines >= 10 && kept["cosigned"]["witnesses"] == 1, "{kept}");
    let status = json(&stack, "status").await?;
    assert_eq!(status["audit"]["cosigned"]["lines"], lines, "{status}");
    let old = stack.dir().join("old");
    copy(&stack.vault_data().join("audit"), &old)?;

    tokenize(&stack, 10).await?;
    signed(&stack, lines + 10).await?;
    assert_eq!(refused(&stack, "audit witness cosign --state w --log log.txt s0").await?, "behind");
    json(&stack, &format!("audit consistency --from {lines} --out s1")).await?;
    json(&stack, "audit witness cosign --state w --log log.txt s1 --out c1").await?;
    let kept = json(&stack, "audit cosign c1").await?;
    let newer = kept["cosigned"]["lines"].as_u64().context("lines")?;
    assert!(newer >= lines + 10, "{kept}");
    assert_eq!(refused(&stack, "audit cosign c0").await?, "conflict");
    let metrics = cordon_tests::https::send_plain(stack.vault.address("metrics")?, "/metrics").await?;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(metrics.contains(&format!("cordon_vault_audit_cosigned_lines {newer}")), "{metrics}");

    stack.vault.terminate().await?;
    let good = "audit verify --dir vault-data/audit --verifier log.txt --witness w/witness.txt";
    let verified = json(&stack, good).await?;
    assert_eq!(verified["cosigned_lines"], newer, "{verified}");
    // The older copy is sound in itself: signed, and cosigned even. The witness knows that there was more.
    json(&stack, "audit verify --dir old --verifier log.txt").await?;
    assert_eq!(refused(&stack, &format!("audit consistency --from {newer} --dir old")).await?, "no-proof");
    json(&stack, &format!("audit consistency --from {lines} --dir old --out s2")).await?;
    assert_eq!(refused(&stack, "audit witness cosign --state w --log log.txt s2").await?, "behind");
    let kept = "audit verify --dir old --verifier log.txt --checkpoint c1";
    assert_eq!(refused(&stack, kept).await?, "not-verified");
    // Without its cosigned checkpoint nobody vouches for the log.
    fs::remove_file(stack.vault_data().join("audit/cosigned"))?;
    assert_eq!(refused(&stack, good).await?, "not-verified");
    Ok(())
}

#[tokio::test]
async fn a_reveal_is_proven_to_an_auditor_without_the_log() -> Result<()> {
    let mut stack = Stack::start(Options::default()).await?;
    let body = format!(r#"{{"card":{{"number":"{}"}}}}"#, cards::VISA);
    assert_eq!(stack.browser("/signup", "application/json", body).await?.status, 201);
    let received: serde_json::Value = serde_json::from_slice(&stack.signup.requests()[0].body)?;
    let charge = serde_json::json!({"card": {"number": received["card"]["number"]}});
    assert_eq!(stack.charge("signup", "/v1/charges", &charge).await?.status, 200);
    stack.vault.terminate().await?;
    let reveal = stack.audit("vault");
    let reveal = reveal.lines().find(|line| line.contains(r#""what":"detokenize""#)).context("a reveal")?;
    let line: serde_json::Value = serde_json::from_str(reveal)?;
    let (index, request) = (&line["n"], line["request"].as_str().context("a request")?);
    fs::copy(stack.vault_data().join("audit/verifier.txt"), stack.dir().join("log.txt"))?;
    json(&stack, &format!("audit prove --dir vault-data/audit --request {request} --out p")).await?;
    json(&stack, &format!("audit prove --dir vault-data/audit --index {index} --out q")).await?;
    let proof = fs::read_to_string(stack.dir().join("p"))?;
    assert_eq!(proof, fs::read_to_string(stack.dir().join("q"))?);
    fs::remove_dir_all(stack.vault_data())?;
    let proven = json(&stack, "audit check-proof p --key log.txt").await?;
    assert_eq!((&proven["line"]["what"], &proven["line"]["n"]), (&"detokenize".into(), index), "{proven}");
    fs::write(stack.dir().join("p"), proof.replacen(&format!("index {index}"), "index 0", 1))?;
    assert_eq!(refused(&stack, "audit check-proof p --key log.txt").await?, "not-proven");
    Ok(())
}
