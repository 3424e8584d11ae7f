//! A gateway that stops: not ready first, then no more connections, and an end when what runs is done.

use anyhow::{Context, Result};
use cordon_tests::https;
use cordon_tests::process::binary;
use cordon_tests::stack::{Options, Stack};
use cordon_tests::upstream::{Deed, Moody};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn a_drain_says_so_first_finishes_what_runs_and_ends() -> Result<()> {
    let service = Moody::start(|_| Deed::Answer(Duration::from_millis(2500))).await?;
    let options = Options {
        upstream: Some(service.address),
        gateway_tables: "[drain]\nnotice_s = 2\ndeadline_s = 20\n",
        ..Options::default()
    };
    let stack = Arc::new(Stack::start(options).await?);
    let (metrics, ingress) = (stack.gateway_address("metrics")?, stack.gateway_address("ingress")?);
    let ready = async || Ok::<_, anyhow::Error>(https::send_plain(metrics, "/ready").await?.status);
    assert_eq!(ready().await?, 200);
    let send = |stack: &Arc<Stack>| {
        let stack = Arc::clone(stack);
        tokio::spawn(async move { stack.browser("/signup", "application/json", r#"{"a":1}"#).await })
    };
    let early = send(&stack);
    stack.until("the service has the first request", || service.seen() == 1).await?;
    let socket = stack.dir().join("gateway-data/control.sock");
    let command = binary("cordon")?;
    let drain = tokio::task::spawn_blocking(move || {
        Command::new(command).args(["--json", "gateway", "drain", "--socket"]).arg(socket).output()
    });
    while ready().await? != 503 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // A load balancer has not noticed yet.
    let late = send(&stack);
    assert_eq!(early.await??.status, 201);
    assert_eq!(late.await??.status, 201, "what came within the notice is served");
    let output = drain.await??;
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!((output.status.code(), &said["ended"]), (Some(0), &true.into()), "{said}");
    assert!(tokio::net::TcpStream::connect(ingress).await.is_err(), "nobody listens any more");
    let mut stack = Arc::into_inner(stack).context("the last handle")?;
    assert!(stack.gateway.as_mut().context("a gateway")?.wait()?.success());
    assert!(!stack.dir().join("gateway-data/control.sock").exists());
    assert!(stack.audit("gateway").lines().last().context("a line")?.contains("\"stop\""));
    Ok(())
}

#[tokio::test]
async fn what_is_not_done_at_the_deadline_is_cut_off_and_counted() -> Result<()> {
    let service = Moody::start(|_| Deed::Answer(Duration::from_secs(60))).await?;
    let options = Options {
        upstream: Some(service.address),
        gateway_tables: "[drain]\ndeadline_s = 1\n",
        ..Options::default()
    };
    let mut stack = Stack::start(options).await?;
    let (tls, address) = (https::tls(&stack.authority.root(), None)?, stack.gateway_address("ingress")?);
    let request = http::Request::post("/signup")
        .header("host", "signup.cordon.test")
        .header("content-type", "application/json")
        .body(r#"{"a":1}"#.to_owned().into())?;
    let stuck = tokio::spawn(async move { https::send(address, "gateway.cordon.test", &tls, request).await });
    stack.until("the service has the request", || service.seen() == 1).await?;
    assert!(stack.gateway.as_mut().context("a gateway")?.terminate().await?.success());
    assert!(stuck.await?.is_err(), "nobody was left to answer");
    let log = stack.gateway.as_ref().context("a gateway")?.log();
    assert!(log.contains("\"cut_off\":1"), "{log}");
    Ok(())
}
