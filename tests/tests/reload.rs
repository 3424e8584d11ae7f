//! Another bundle while requests are served: taken up whole, or refused with the one before still in force.

use anyhow::{Context, Result};
use cordon_tests::https;
use cordon_tests::process::binary;
use cordon_tests::stack::{Options, Stack};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A stack whose gateway does not look at its files by itself.
async fn unwatched() -> Result<Stack> {
    Stack::start(Options { gateway_tables: "[reload]\nwatch = false\n", ..Options::default() }).await
}

/// `cordon gateway ...` on the stack's gateway: the exit code and what it said.
fn cordon(stack: &Stack, arguments: &[&str]) -> Result<(Option<i32>, Value)> {
    let socket = stack.dir().join("gateway-data/control.sock");
    let output = Command::new(binary("cordon")?)
        .args(["--json", "gateway"])
        .args(arguments)
        .arg("--socket")
        .arg(socket)
        .output()?;
    let said = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((output.status.code(), said))
}

async fn status_of(stack: &Stack, path: &str) -> Result<u16> {
    Ok(stack.browser(path, "application/json", r#"{"a":1}"#).await?.status.as_u16())
}

fn move_route(stack: &Stack, from: &str, to: &str) -> Result<()> {
    stack.rewrite("policies/routes.toml", &format!("path = \"{from}\""), &format!("path = \"{to}\""))
}

fn hangup(stack: &Stack) -> Result<()> {
    let id = stack.gateway.as_ref().context("a gateway")?.id();
    Ok(kill_process(Pid::from_raw(i32::try_from(id)?).context("an id")?, Signal::HUP)?)
}

async fn reloads(stack: &Stack, outcome: &str) -> Result<u64> {
    let text = https::send_plain(stack.gateway_address("metrics")?, "/metrics").await?.body;
    let name = format!("cordon_gateway_reloads_total{{outcome=\"{outcome}\"}} ");
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or_default())
}

#[tokio::test]
async fn a_new_bundle_is_taken_up_by_the_command_and_by_a_signal() -> Result<()> {
    let stack = unwatched().await?;
    let (code, before) = cordon(&stack, &["status"])?;
    assert_eq!((code, &before["draining"], &before["environment"]), (Some(0), &false.into(), &"dev".into()));
    move_route(&stack, "/signup", "/join")?;
    assert_eq!(status_of(&stack, "/signup").await?, 201, "nobody asked yet");

    let (code, reloaded) = cordon(&stack, &["reload"])?;
    assert_eq!((code, &reloaded["changed"]), (Some(0), &true.into()), "{reloaded}");
    assert_eq!((status_of(&stack, "/signup").await?, status_of(&stack, "/join").await?), (404, 201));
    let (_, after) = cordon(&stack, &["status"])?;
    assert_eq!(after["bundle"], reloaded["bundle"]);
    assert_ne!(after["bundle"], before["bundle"]);
    let digest = after["bundle"].as_str().context("a digest")?;
    assert!(stack.audit("gateway").lines().any(|line| line.contains("policy-load") && line.contains(digest)));
    let (_, routes) = cordon(&stack, &["routes"])?;
    let routes = routes["routes"].as_array().context("routes")?;
    let signup = routes.iter().find(|route| route["name"] == "signup").context("the route")?;
    assert_eq!((&signup["path"], &signup["breaker"]), (&"/join".into(), &"closed".into()));

    move_route(&stack, "/join", "/again")?;
    hangup(&stack)?;
    let refused = AtomicBool::new(false);
    let deadline = std::time::Instant::now() + cordon_tests::patience();
    while status_of(&stack, "/again").await? != 201 {
        refused.store(true, Ordering::Relaxed);
        assert!(std::time::Instant::now() < deadline, "the signal is not heard");
    }
    assert_eq!(reloads(&stack, "taken").await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_bundle_with_faults_is_refused_and_the_one_before_stays() -> Result<()> {
    let stack = unwatched().await?;
    let (_, before) = cordon(&stack, &["status"])?;
    stack.rewrite(
        "policies/routes.toml",
        "path = \"/signup\"\n",
        "path = \"/join\"\non_leek = \"deny\"\n",
    )?;
    let (code, reloaded) = cordon(&stack, &["reload"])?;
    assert_eq!(
        (code, &reloaded["changed"], &reloaded["bundle"]),
        (Some(1), &false.into(), &before["bundle"])
    );
    let fault = reloaded["faults"][0].as_str().context("a fault")?;
    assert!(fault.starts_with("routes.toml:") && fault.contains("on_leek"), "{fault}");
    assert_eq!((status_of(&stack, "/signup").await?, status_of(&stack, "/join").await?), (201, 404));
    assert_eq!(reloads(&stack, "refused").await?, 1);
    let (_, status) = cordon(&stack, &["status"])?;
    assert_eq!(status["refused"][0], fault, "it is not forgotten");
    assert!(stack.audit("gateway").contains("bundle-refused"));

    stack.rewrite("policies/routes.toml", "on_leek = \"deny\"\n", "")?;
    assert_eq!(cordon(&stack, &["reload"])?.0, Some(0));
    let (_, status) = cordon(&stack, &["status"])?;
    assert_eq!((status["refused"].is_null(), status_of(&stack, "/join").await?), (true, 201));
    Ok(())
}

#[tokio::test]
async fn a_bundle_that_the_confined_process_could_not_serve_is_refused() -> Result<()> {
    let stack = unwatched().await?;
    let port = stack.signup.address.to_string();
    stack.rewrite("policies/routes.toml", &port, "127.0.0.1:9")?;
    let (code, reloaded) = cordon(&stack, &["reload"])?;
    let fault = reloaded["faults"][0].as_str().context("a fault")?;
    assert!(code == Some(1) && fault.starts_with("port 9 ") && fault.contains("restart"), "{reloaded}");
    assert_eq!(status_of(&stack, "/signup").await?, 201);
    Ok(())
}

#[tokio::test]
async fn a_changed_bundle_is_noticed_and_taken_up_by_itself() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    move_route(&stack, "/signup", "/join")?;
    let deadline = std::time::Instant::now() + cordon_tests::patience();
    while status_of(&stack, "/join").await? != 201 {
        assert!(std::time::Instant::now() < deadline, "the change is not noticed");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // A file that is no part of the bundle changes nothing.
    fs::write(stack.dir().join("policies/README"), "for people")?;
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    assert_eq!(reloads(&stack, "taken").await?, 1);
    Ok(())
}

#[tokio::test]
async fn roots_are_read_again_when_somebody_asks() -> Result<()> {
    let stack = unwatched().await?;
    let token = stack.token_of(cordon_tests::cards::VISA).await?;
    let body = serde_json::json!({"card": {"number": token}});
    assert_eq!(stack.charge("signup", "/v1/charges", &body).await?.status, 200);
    // As an operator replaces a file: the new one takes its name.
    let roots = stack.authority.root();
    let kept = fs::read(&roots)?;
    let other = cordon_tests::pki::Authority::new(stack.dir(), "other")?;
    fs::rename(other.root(), &roots)?;
    assert_eq!(cordon(&stack, &["reload"])?.0, Some(0));
    // The client of this test trusts the old root: it speaks to the gateway with a copy.
    fs::write(&roots, &kept)?;
    assert_eq!(stack.charge("signup", "/v1/charges", &body).await?.status, 502, "another root is pinned");
    assert!(stack.audit("gateway").contains("certificate-not-trusted"));
    assert_eq!(cordon(&stack, &["reload"])?.0, Some(0));
    assert_eq!(stack.charge("signup", "/v1/charges", &body).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn no_request_fails_while_bundles_change() -> Result<()> {
    let stack = Arc::new(unwatched().await?);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let (stack, stop) = (Arc::clone(&stack), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut served = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    let pan = cordon_tests::cards::bulk(number)?;
                    let body = format!(r#"{{"card":{{"number":"{}"}}}}"#, pan.expose());
                    let answer = stack.browser("/signup", "application/json", body).await?;
                    anyhow::ensure!(answer.status == 201, "{}", answer.status);
                    served += 1;
                }
                Ok(served)
            })
        })
        .collect();
    for number in 0..10 {
        let (from, to) = if number % 2 == 0 { ("1MiB", "2MiB") } else { ("2MiB", "1MiB") };
        stack.rewrite(
            "policies/routes.toml",
            &format!("max_body = \"{from}\""),
            &format!("max_body = \"{to}\""),
        )?;
        let asked = Arc::clone(&stack);
        let (code, reloaded) = tokio::task::spawn_blocking(move || cordon(&asked, &["reload"])).await??;
        assert_eq!((code, &reloaded["changed"]), (Some(0), &true.into()), "{reloaded}");
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await?? > 0, "each was served");
    }
    assert_eq!(reloads(&stack, "taken").await?, 10);
    Ok(())
}
