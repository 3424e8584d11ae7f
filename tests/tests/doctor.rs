//! `cordon doctor` against running daemons: what is sound passes, what is broken on purpose is found and told apart.

use anyhow::{Context, Result};
use cordon_tests::process::binary;
use cordon_tests::stack::{Options, Stack};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

fn configure(stack: &Stack) -> Result<()> {
    let files = stack.identity("operator");
    let gateway = stack.gateway.as_ref().context("a gateway")?;
    let text = format!(
        "policies = \"policies\"\n[vault]\ndata = \"{}\"\nadmin = \"{}\"\nname = \"vault.cordon.test\"\n\
         roots = \"{}\"\ncert = \"{}\"\nkey = \"{}\"\n[gateway]\nmetrics = \"{}\"\n",
        stack.vault.address("data")?,
        stack.vault.address("admin")?,
        stack.authority.root().display(),
        files.cert.display(),
        files.key.display(),
        gateway.address("metrics")?,
    );
    let path = stack.dir().join("cordon.toml");
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

/// Runs it beside the stack, whose stubs need this thread's runtime.
async fn doctor(stack: &Stack, json: bool) -> Result<Output> {
    let mut command = Command::new(binary("cordon")?);
    command.arg("--config").arg(stack.dir().join("cordon.toml")).arg("doctor");
    command.arg("--vault-config").arg(stack.dir().join("vault.toml"));
    if json {
        command.arg("--json");
    }
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

/// The verdict of each check by its name, and the exit code.
async fn verdicts(stack: &Stack) -> Result<(Vec<(String, String)>, i32)> {
    let output = doctor(stack, true).await?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let text = |check: &serde_json::Value, key: &str| {
        check.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    };
    let checks = report.get("checks").and_then(serde_json::Value::as_array).context("checks")?;
    for check in checks {
        let told =
            check.get("next").is_some() || text(check, "verdict") == "ok" || text(check, "name") == "warning";
        assert!(told, "what to do is said: {check}");
    }
    let verdicts = checks.iter().map(|check| (text(check, "name"), text(check, "verdict"))).collect();
    Ok((verdicts, output.status.code().context("an exit code")?))
}

fn named<'v>(verdicts: &'v [(String, String)], name: &str) -> &'v str {
    verdicts.iter().find(|(found, _)| found == name).map_or("absent", |(_, verdict)| verdict)
}

#[tokio::test]
async fn a_sound_stack_has_warnings_at_most() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    configure(&stack)?;
    let (verdicts, exit) = verdicts(&stack).await?;
    assert_eq!(exit, 0, "{verdicts:?}");
    for name in [
        "vault",
        "audit",
        "clock",
        "policy",
        "version",
        "certificate operator",
        "certificate vault",
        "files data directory",
        "files vault key",
        "hardening core_dumps_off",
        "hardening landlock_files",
        "hardening landlock_network",
        "hardening seccomp",
        "gateway",
        "gateway hardening seccomp",
    ] {
        assert_eq!(named(&verdicts, name), "ok", "{name}: {verdicts:?}");
    }
    assert_eq!(named(&verdicts, "seal"), "warn", "a development seal");
    // These stand in the report however the machine is.
    for name in ["hardening memory_locked", "hardening unprivileged", "swap", "core dumps", "disk"] {
        assert_ne!(named(&verdicts, name), "absent", "{name}");
    }
    let text = String::from_utf8(doctor(&stack, false).await?.stdout)?;
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert!(text.contains("ok    hardening seccomp"), "{text}");
    Ok(())
}

#[tokio::test]
async fn what_is_broken_fails_and_the_rest_is_still_looked_at() -> Result<()> {
    let mut stack = Stack::start(Options::default()).await?;
    configure(&stack)?;
    fs::set_permissions(stack.vault_data(), fs::Permissions::from_mode(0o755))?;
    stack.administrator()?.seal().await?;
    let (found, exit) = verdicts(&stack).await?;
    assert_eq!(exit, 1);
    assert_eq!(named(&found, "files data directory"), "fail");
    assert_eq!(named(&found, "vault"), "fail", "it is sealed");
    assert_eq!(named(&found, "gateway"), "ok");
    // Nobody answers at all.
    stack.vault.kill()?;
    stack.gateway.as_mut().context("a gateway")?.kill()?;
    let (found, exit) = verdicts(&stack).await?;
    assert_eq!(exit, 1);
    for name in ["vault", "gateway"] {
        assert_eq!(named(&found, name), "fail", "{found:?}");
    }
    assert_eq!(named(&found, "certificate operator"), "ok");
    Ok(())
}
