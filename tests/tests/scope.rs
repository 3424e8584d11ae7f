//! `cordon scope`: the honest words, the picture, and connections that a real gateway's log shows.

use anyhow::{Context, Result};
use cordon_tests::cards::VISA;
use cordon_tests::process::binary;
use cordon_tests::stack::{Options, Stack};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn scope(bundle: &Path, more: &[&str]) -> Result<Output> {
    Ok(Command::new(binary("cordon")?).arg("scope").arg(bundle).args(more).output()?)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn nothing_is_called_out_of_scope_and_the_picture_shows_every_connection() -> Result<()> {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    let scratch = tempfile::tempdir()?;
    let picture = scratch.path().join("scope.svg");
    let output = scope(&shipped, &["--svg", &picture.to_string_lossy(), "--json"])?;
    assert!(output.status.success(), "{}", said(&output));
    let map: Value = serde_json::from_slice(&output.stdout)?;
    let services = map.get("services").and_then(Value::as_array).context("services")?;
    for service in services {
        let claim = service.get("claim").and_then(Value::as_str).context("a claim")?;
        assert!(["in scope", "candidate", "candidate, weak"].contains(&claim), "{service}");
        let out = service.get("segment").is_some_and(|segment| segment == "applications");
        assert_eq!(out, claim.starts_with("candidate"), "{service}");
    }
    let flows = map.get("flows").and_then(Value::as_array).context("flows")?;
    assert_eq!(flows.len(), 7);
    let text = fs::read_to_string(picture)?;
    // One within a segment has no arrow.
    assert_eq!(text.matches("marker-end").count(), 6);
    assert!(text.contains("<title>segment cde to destination processor :443: cards"), "{text}");
    assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n") && !text.contains("<script"));
    let words = said(&scope(&shipped, &[])?);
    assert!(words.contains("your assessor decides") || words.contains("unless your assessor"), "{words}");
    assert!(
        words.contains("Whether a system is out of scope is decided by you and your assessor."),
        "{words}"
    );
    Ok(())
}

#[tokio::test]
async fn a_connection_in_the_gateways_log_that_the_bundle_does_not_declare_fails() -> Result<()> {
    let mut stack = Stack::start(Options::default()).await?;
    let token = stack.token_of(VISA).await?;
    let charge = serde_json::json!({"card": {"number": token}});
    assert_eq!(stack.charge("signup", "/v1/charges", &charge).await?.status, 200);
    // A refusal is no connection.
    assert_eq!(stack.charge("billing", "/v1/charges", &charge).await?.status, 403);
    stack.gateway.as_mut().context("a gateway")?.terminate().await?;
    let (bundle, log) = (stack.dir().join("policies"), stack.dir().join("gateway-data/audit"));
    let observed = ["--observed", &log.to_string_lossy()];
    let output = scope(&bundle, &observed)?;
    assert!(
        said(&output).contains("Every connection in the gateway's log is declared."),
        "{}",
        said(&output)
    );
    // The route has another name: what the log shows is declared no more.
    let routes = fs::read_to_string(bundle.join("routes.toml"))?;
    let changed = routes.replacen("name = \"charge\"", "name = \"charge-anew\"", 1);
    anyhow::ensure!(changed != routes, "there is a route of this name");
    fs::write(bundle.join("routes.toml"), changed)?;
    let output = scope(&bundle, &observed)?;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let wanted = "Not declared: signup to destination processor on route charge (1 times)";
    assert!(said(&output).contains(wanted), "{}", said(&output));
    let output = scope(&bundle, &["--observed", &stack.dir().to_string_lossy()])?;
    assert!(!output.status.success() && said(&output).contains("audit"), "{}", said(&output));
    Ok(())
}
