//! `cordon policy test` with the real binaries, on the bundle that ships: it is tested, and its tests are.

use anyhow::{Context, Result};
use cordon_tests::process::binary;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A copy of the bundle that ships, with its cases.
fn bundle(dir: &Path) -> Result<PathBuf> {
    let to = dir.join("policies");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies"), &to)?;
    Ok(to)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().context("a name")?);
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o644))?;
        }
    }
    Ok(())
}

fn test(bundle: &Path, more: &[&str]) -> Result<Output> {
    Ok(Command::new(binary("cordon")?).args(["policy", "test"]).arg(bundle).args(more).output()?)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn edit(path: &Path, from: &str, to: &str) -> Result<()> {
    let text = fs::read_to_string(path)?;
    anyhow::ensure!(text.contains(from), "{} has no {from}", path.display());
    Ok(fs::write(path, text.replacen(from, to, 1))?)
}

#[test]
fn the_bundle_that_ships_passes_and_no_rule_of_it_could_go_unnoticed() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let output = test(&bundle(scratch.path())?, &["--mutate", "--json"])?;
    let report: Value = serde_json::from_slice(&output.stdout).with_context(|| said(&output))?;
    assert!(output.status.success(), "{report:#}");
    let at = |pointer: &str| report.pointer(pointer).cloned().unwrap_or_default();
    assert!(at("/passed").as_u64() > Some(100), "{report:#}");
    assert!(at("/mutants/tried").as_u64() > Some(50), "{report:#}");
    for list in ["/failures", "/gaps", "/mutants/unnoticed"] {
        assert_eq!(at(list), Value::Array(Vec::new()), "{report:#}");
    }
    Ok(())
}

#[test]
fn a_rule_that_no_case_tests_is_named() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let bundle = bundle(scratch.path())?;
    // Without the case of its form, nobody would miss the place of the security code in forms.
    let cases = bundle.join("cases/routes/signup.toml");
    let text = fs::read_to_string(&cases)?;
    let (before, rest) = text.split_once("[[case]]\nname = \"and so in a form\"").context("the case")?;
    let (_, after) = rest.split_once("[[case]]").context("one after it")?;
    fs::write(&cases, format!("{before}[[case]]{after}"))?;
    let output = test(&bundle, &["--mutate"])?;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let wanted = "no case would notice: routes.toml: ingress route signup: field json $.card.cvc (hold) without `form`";
    assert!(said(&output).contains(wanted), "{}", said(&output));
    assert!(said(&output).contains("form removed from `content`"), "{}", said(&output));
    Ok(())
}

#[test]
fn a_route_without_a_case_is_a_gap_and_a_changed_one_fails_its_case() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let bundle = bundle(scratch.path())?;
    fs::remove_file(bundle.join("cases/routes/notes.toml"))?;
    let output = test(&bundle, &[])?;
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("gap: no case passes through route notes"), "{}", said(&output));
    edit(&bundle.join("routes.toml"), "op = \"hold\"", "op = \"drop\"")?;
    let output = test(&bundle, &[])?;
    let text = said(&output);
    assert!(text.contains("failed: cases/routes/signup.toml: \"a card in JSON becomes a token"), "{text}");
    assert!(text.contains("\"cvc\":null") && !text.contains("4111111111111111"), "{text}");
    Ok(())
}

#[test]
fn what_cannot_be_tested_says_what_to_do() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let bundle = bundle(scratch.path())?;
    let output = test(&bundle, &["--gateway", "/nonexistent/gateway"])?;
    assert!(!output.status.success() && said(&output).contains("--gateway"), "{}", said(&output));
    edit(&bundle.join("cases/routes/notes.toml"), "sends =", "sent =")?;
    let output = test(&bundle, &[])?;
    assert!(said(&output).contains("unknown field `sent`"), "{}", said(&output));
    assert!(said(&output).contains("cases/routes/notes.toml: line "), "{}", said(&output));
    edit(&bundle.join("routes.toml"), "[[ingress]]", "[[ingres]]")?;
    let output = test(&bundle, &[])?;
    assert!(said(&output).contains("`cordon policy check` lists them"), "{}", said(&output));
    fs::remove_dir_all(bundle.join("cases"))?;
    edit(&bundle.join("routes.toml"), "[[ingres]]", "[[ingress]]")?;
    let output = test(&bundle, &[])?;
    assert!(said(&output).contains("the bundle has no cases"), "{}", said(&output));
    Ok(())
}
