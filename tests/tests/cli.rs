//! The commands of `cordon` against a real vault: what an operator types, and what a script reads.

use anyhow::{Context, Result};
use cordon_tests::cards::{self, done};
use cordon_tests::process::binary;
use cordon_tests::stack::{self, Options, Stack};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

struct Cli<'a>(&'a Stack);

impl Cli<'_> {
    fn configure(&self) -> Result<()> {
        self.configure_as("operator", "cordon.toml")
    }

    fn configure_as(&self, service: &str, file: &str) -> Result<()> {
        let files = self.0.identity(service);
        let text = format!(
            "policies = \"policies\"\n[vault]\ndata = \"{}\"\nadmin = \"{}\"\nname = \"vault.cordon.test\"\n\
             roots = \"{}\"\ncert = \"{}\"\nkey = \"{}\"\n",
            self.0.vault.address("data")?,
            self.0.vault.address("admin")?,
            self.0.authority.root().display(),
            files.cert.display(),
            files.key.display()
        );
        let path = self.0.dir().join(file);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(())
    }

    async fn run(&self, arguments: &[&str], input: &str) -> Result<Output> {
        self.run_with("cordon.toml", arguments, input).await
    }

    async fn run_with(&self, file: &str, arguments: &[&str], input: &str) -> Result<Output> {
        let mut command = Command::new(binary("cordon")?);
        command.arg("--config").arg(self.0.dir().join(file)).arg("--json").args(arguments);
        let input = input.to_owned();
        tokio::task::spawn_blocking(move || {
            let mut child =
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
            child.stdin.take().context("a stdin")?.write_all(input.as_bytes())?;
            Ok(child.wait_with_output()?)
        })
        .await?
    }

    /// Two custodians approve what a command asked for; the operator may not.
    async fn approve(&self, asked: &Output) -> Result<()> {
        assert_eq!(asked.status.code(), Some(75), "two custodians are missing");
        let asked: serde_json::Value = serde_json::from_slice(&asked.stdout)?;
        let id = asked.get("id").and_then(serde_json::Value::as_str).context("an id")?;
        let refused = self.run(&["approvals", "approve", id], "").await?;
        assert_eq!(refused.status.code(), Some(1), "the operator is no custodian");
        for custodian in ["custodian-1", "custodian-2"] {
            let config = format!("{custodian}.toml");
            self.json_with(&config, &["approvals", "approve", id], "").await?;
        }
        Ok(())
    }

    async fn json(&self, arguments: &[&str], input: &str) -> Result<serde_json::Value> {
        self.json_with("cordon.toml", arguments, input).await
    }

    async fn json_with(&self, file: &str, arguments: &[&str], input: &str) -> Result<serde_json::Value> {
        let output = self.run_with(file, arguments, input).await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        anyhow::ensure!(
            output.status.success(),
            "{arguments:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_str(&text).with_context(|| text.clone())
    }
}

/// Three custodians, one of them with an age recipient; two of them unseal, the third acknowledges afterwards.
async fn initialise_and_unseal(cli: &Cli<'_>) -> Result<()> {
    let identity = age::x25519::Identity::generate();
    let third = format!("custodian-3={}", identity.to_public());
    let init = ["init", "--threshold", "2", "--custodian", "custodian-1", "--custodian", "custodian-2"];
    let made = cli.json(&[&init[..], &["--custodian", &third]].concat(), "").await?;
    let made = made.get("shares").and_then(|shares| shares.as_array()).context("shares")?;
    assert_eq!(made.len(), 3);
    let of = |number: usize, form: &str| {
        let issued = made.get(number).and_then(|issued| issued.get(form));
        issued.and_then(|text| text.as_str()).with_context(|| format!("share {number} as {form}"))
    };
    let share = of(0, "text")?;
    let (encrypted, key) = (cli.0.dir().join("custodian-3.age"), cli.0.dir().join("key.txt"));
    std::fs::write(&encrypted, of(2, "age")?)?;
    std::fs::write(&key, age::secrecy::ExposeSecret::expose_secret(&identity.to_string()))?;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
    for custodian in ["custodian-1", "custodian-2", "custodian-3"] {
        cli.configure_as(custodian, &format!("{custodian}.toml"))?;
    }
    let sealed = cli.run(&["status"], "").await?;
    assert_eq!(sealed.status.code(), Some(1), "a sealed vault is no success");
    let silent = cli.run_with("custodian-1.toml", &["unseal"], &format!("{share}\n")).await?;
    assert_eq!(silent.status.code(), Some(1), "not acknowledged");
    assert!(String::from_utf8_lossy(&silent.stdout).contains("not-acknowledged"));
    cli.json_with("custodian-1.toml", &["unseal", "--acknowledge"], &format!("{share}\n")).await?;
    let (encrypted, key) = (encrypted.to_string_lossy(), key.to_string_lossy());
    let give = ["unseal", "--acknowledge", "--share-file", &*encrypted, "--identity", &*key];
    let status = cli.json_with("custodian-3.toml", &give, "").await?;
    assert!(status.to_string().contains("unsealed"), "{status}");
    cli.json_with("custodian-2.toml", &["custodians", "ack"], "").await?;
    let listed = cli.json(&["custodians"], "").await?.to_string();
    assert_eq!(listed.matches("acknowledged_at").count(), 3, "{listed}");
    Ok(())
}

#[tokio::test]
async fn an_operator_initialises_unseals_rotates_and_verifies() -> Result<()> {
    let mut stack = Stack::bare(Options { gateway: false, ..Options::default() }).await?;
    let cli = Cli(&stack);
    cli.configure()?;
    initialise_and_unseal(&cli).await?;
    cli.json(&["collection", "create", "cards"], "").await?;
    assert!(cli.json(&["collection", "list"], "").await?.to_string().contains("cards"));
    let rotated = cli.json(&["keys", "rotate", "data", "--collection", "cards"], "").await?;
    assert!(rotated.to_string().contains("active"), "{rotated}");
    assert!(cli.json(&["keys", "list"], "").await?.to_string().contains("deactivated"));
    let early = cli.run(&["keys", "destroy", "data", "--collection", "cards", "--version", "1"], "").await?;
    assert_eq!(early.status.code(), Some(1), "no run has proven that nothing needs it");
    let run = cli.json(&["keys", "rewrap", "--collection", "cards"], "").await?;
    assert!(run.to_string().contains(r#""safe_to_destroy":true"#), "{run}");
    let file = stack.dir().join("data-1.json");
    let path = file.to_string_lossy();
    let destroy = ["keys", "destroy", "data", "--collection", "cards", "--version", "1", "--record", &*path];
    let waits = cli.run(&destroy, "").await?;
    assert!(!file.exists(), "no record of what was not destroyed");
    cli.approve(&waits).await?;
    assert!(cli.json(&["approvals"], "").await?.to_string().contains(r#""state":"approved""#));
    let record = cli.json(&destroy, "").await?;
    assert_eq!(record, serde_json::from_slice::<serde_json::Value>(&std::fs::read(&file)?)?);
    assert!(cli.json(&["keys", "list"], "").await?.to_string().contains("destroyed"));
    let client = stack.tokenizer("gateway-ingress")?;
    let answer = client.tokenize(&stack::cards()?, &cards::only(cards::bulk(1)?)).await?;
    let token = done(answer.items.into_iter().next().context("an item")?)?.token;
    let shown = cli.json(&["token", "inspect", "--collection", "cards", token.as_str()], "").await?;
    assert!(shown.to_string().contains("key_version"), "{shown}");
    let early = cli.run(&["retention", "verify"], "").await?;
    assert_eq!(early.status.code(), Some(1), "nobody has said how long cards are kept");
    let rule = ["retention", "set", "--collection", "cards", "--days", "400"];
    cli.approve(&cli.run(&rule, "").await?).await?;
    cli.json(&rule, "").await?;
    let verified = cli.json(&["retention", "verify"], "").await?;
    assert!(verified.to_string().contains(r#""good":true"#), "{verified}");
    let key = ["--collection", "cards", "--version", "2"];
    let suspended = cli.json(&[&["keys", "suspend", "data"][..], &key].concat(), "").await?;
    assert!(suspended.to_string().contains(r#""state":"suspended""#), "{suspended}");
    cli.json(&[&["keys", "resume", "data"][..], &key].concat(), "").await?;
    let shredded = cli.json(&["retention", "shred", "--collection", "cards"], "").await?;
    assert!(shredded.to_string().contains("keys destroy index --collection cards --version 1"), "{shredded}");
    cli.json(&["token", "delete", "--yes", "--collection", "cards", "-"], &format!("{token}\n")).await?;
    let gone = cli.run(&["token", "inspect", "--collection", "cards", token.as_str()], "").await?;
    assert_eq!(gone.status.code(), Some(1));
    let lines = cli.run(&["audit", "tail", "-n", "5"], "").await?;
    assert_eq!(String::from_utf8_lossy(&lines.stdout).lines().count(), 5);
    cli.json(&["policy", "check"], "").await?;
    cli.json(&["seal"], "").await?;
    let audit = stack.vault_data().join("audit");
    let audit = audit.to_string_lossy().into_owned();
    stack.vault.terminate().await?;
    let cli = Cli(&stack);
    cli.json(&["audit", "verify", "--dir", &audit], "").await?;
    let first = std::fs::read_dir(&audit)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .context("a segment")?;
    let text = std::fs::read_to_string(&first)?;
    std::fs::write(&first, text.replacen("\"allowed\"", "\"denied_\"", 1))?;
    let refused = cli.run(&["audit", "verify", "--dir", &audit], "").await?;
    assert_eq!(refused.status.code(), Some(1), "an edited line is found");
    Ok(())
}

#[tokio::test]
async fn explain_names_the_statement_and_faults_have_positions() -> Result<()> {
    let stack = Stack::bare(Options { gateway: false, ..Options::default() }).await?;
    let cli = Cli(&stack);
    cli.configure()?;
    let asked = [
        "policy",
        "explain",
        "--action",
        "tokenize",
        "--principal",
        "gateway-ingress",
        "--collection",
        "cards",
    ];
    let allowed = cli.json(&asked, "").await?;
    assert!(allowed.to_string().contains(".cedar"), "{allowed}");
    let asked =
        ["policy", "explain", "--action", "tokenize", "--principal", "signup", "--collection", "cards"];
    assert_eq!(cli.run(&asked, "").await?.status.code(), Some(1));
    let segments = stack.dir().join("policies/segments.toml");
    let text = std::fs::read_to_string(&segments)?;
    std::fs::write(&segments, text.replacen("role = \"monitor\"", "rolle = \"monitor\"", 1))?;
    let output = cli.run(&["policy", "check"], "").await?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("segments.toml") && said.contains("rolle"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_vault_that_is_not_there_is_explained() -> Result<()> {
    let mut stack = Stack::bare(Options { gateway: false, ..Options::default() }).await?;
    Cli(&stack).configure()?;
    stack.vault.kill()?;
    let output = Cli(&stack).run(&["status"], "").await?;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("error"));
    Ok(())
}
