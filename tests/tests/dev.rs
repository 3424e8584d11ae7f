//! `cordon dev --once`: the first command of the README, with the real binaries.

use anyhow::{Context, Result};
use cordon_tests::process::binary;
use cordon_tests::{cards, search};
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(binary("cordon")?).args(arguments).output()?)
}

#[test]
fn one_round_passes_and_leaves_nothing_behind() -> Result<()> {
    let output = run(&["dev", "--once", "--json"])?;
    let text = String::from_utf8(output.stdout)?;
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let events: Vec<serde_json::Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let named = |name: &str| events.iter().find(|event| event["event"] == name).context(name.to_owned());
    assert_eq!(named("round")?["passed"], true, "{text}");
    let ready = named("ready")?;
    let directory = ready["directory"].as_str().context("a directory")?;
    assert!(!std::path::Path::new(directory).exists(), "the state is gone");
    for pid in ready["pids"].as_object().context("process ids")?.values() {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is gone");
    }
    let hops: Vec<_> = events.iter().filter(|event| event["hop"] == "signup").collect();
    assert!(!hops.is_empty() && hops.iter().all(|hop| hop["received"].to_string().contains("tok_dev_")));
    Ok(())
}

#[test]
fn the_account_for_people_masks_the_card() -> Result<()> {
    let output = run(&["dev", "--once"])?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(search::find(cards::VISA, &output.stdout), None);
    assert!(String::from_utf8_lossy(&output.stdout).contains("tok_dev_"));
    Ok(())
}
