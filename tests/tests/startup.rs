//! What keeps a daemon from starting, and how it says so.

use anyhow::Result;
use cordon_tests::process::binary;
use cordon_tests::stack::{Options, Stack};
use std::process::{Command, Output};

fn check(stack: &Stack, daemon: &str) -> Result<Output> {
    let config = stack.dir().join(format!("{}.toml", daemon.trim_start_matches("cordon-")));
    Ok(Command::new(binary(daemon)?).arg("--config").arg(config).arg("--check").output()?)
}

fn edit(stack: &Stack, file: &str, from: &str, to: &str) -> Result<()> {
    let path = stack.dir().join(file);
    let text = std::fs::read_to_string(&path)?;
    anyhow::ensure!(text.contains(from), "{file} has no {from}");
    std::fs::write(&path, text.replacen(from, to, 1))?;
    Ok(())
}

#[tokio::test]
async fn a_good_configuration_passes_and_each_fault_ends_with_78() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    for daemon in ["cordon-vault", "cordon-gateway"] {
        let output = check(&stack, daemon)?;
        assert!(output.status.success(), "{daemon}: {}", String::from_utf8_lossy(&output.stderr));
        let config = format!("{}.toml", daemon.trim_start_matches("cordon-"));
        for (what, from, to) in [
            ("unknown key", "workers = 2", "workers = 2\npersist_cvv = true"),
            (
                "a live environment with a development bundle",
                "environment = \"dev\"",
                "environment = \"live\"",
            ),
            (
                "metrics beyond loopback",
                "[metrics]\nlisten = \"127.0.0.1:0\"",
                "[metrics]\nlisten = \"10.0.0.1:0\"",
            ),
            ("no policies", "policies = \"policies\"", "policies = \"nowhere\""),
        ] {
            edit(&stack, &config, from, to)?;
            let output = check(&stack, daemon)?;
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(78), "{daemon}: {what}: {text}");
            assert!(output.stdout.is_empty(), "{daemon}: {what}: no port was bound");
            edit(&stack, &config, to, from)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_key_that_others_can_read_is_refused() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let key = stack.identity("vault.cordon.test").key;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644))?;
    let output = check(&stack, "cordon-vault")?;
    assert_eq!(output.status.code(), Some(78), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[tokio::test]
async fn a_second_vault_on_the_same_data_is_refused() -> Result<()> {
    let stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let output =
        Command::new(binary("cordon-vault")?).arg("--config").arg(stack.dir().join("vault.toml")).output()?;
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "it announced nothing");
    Ok(())
}

#[tokio::test]
async fn memory_and_core_dumps_are_closed_from_outside() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let gateway = stack.gateway.as_ref().map_or(0, cordon_tests::process::Daemon::id);
    for pid in [stack.vault.id(), gateway] {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap_or_default();
        assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    }
    Ok(())
}
