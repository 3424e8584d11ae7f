//! More than can be served, and targets that do not answer: refused early, fairly, and without troubling the vault.

use anyhow::{Context, Result};
use cordon_tests::cards;
use cordon_tests::https::{self, Answer};
use cordon_tests::process::binary;
use cordon_tests::stack::{Options, Stack};
use cordon_tests::upstream::{Deed, Moody};
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A stack whose signup service is `service`.
async fn stack(service: &Moody, tables: &'static str) -> Result<Stack> {
    let upstream = Some(service.address);
    Stack::start(Options { upstream, gateway_tables: tables, ..Options::default() }).await
}

async fn signup(stack: &Stack, number: u64) -> Result<Answer> {
    let body = format!(r#"{{"card":{{"number":"{}"}}}}"#, cards::bulk(number)?.expose());
    stack.browser("/signup", "application/json", body).await
}

/// The same from another address of this machine.
async fn signup_from(stack: &Stack, source: Ipv4Addr, number: u64) -> Result<Answer> {
    let request = http::Request::post("/signup")
        .header("host", "signup.cordon.test")
        .header("content-type", "application/json")
        .body(format!(r#"{{"card":{{"number":"{}"}}}}"#, cards::bulk(number)?.expose()).into())?;
    let tls = https::tls(&stack.authority.root(), None)?;
    let address = stack.gateway_address("ingress")?;
    https::send_from(source.into(), address, "gateway.cordon.test", &tls, request).await
}

/// Calls to the vault that the gateway has made for its public side.
async fn vault_calls(stack: &Stack) -> Result<u64> {
    metric(stack, "cordon_gateway_vault_latency_seconds_count{plane=\"ingress\"} ").await
}

async fn metric(stack: &Stack, name: &str) -> Result<u64> {
    let text = https::send_plain(stack.gateway_address("metrics")?, "/metrics").await?.body;
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(text.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap_or_default())
}

fn breaker_of(stack: &Stack, route: &str) -> Result<String> {
    let socket = stack.dir().join("gateway-data/control.sock");
    let output = Command::new(binary("cordon")?)
        .args(["--json", "gateway", "routes", "--socket"])
        .arg(socket)
        .output()?;
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let routes = said.get("routes").and_then(|routes| routes.as_array()).context("routes")?;
    let is_it = |found: &&serde_json::Value| found.get("name").is_some_and(|name| name == route);
    let breaker = routes.iter().find(is_it).and_then(|found| found.get("breaker"));
    Ok(breaker.and_then(|breaker| breaker.as_str()).context("a state")?.to_owned())
}

#[tokio::test]
async fn one_client_that_floods_does_not_keep_another_out() -> Result<()> {
    let service = Moody::start(|_| Deed::Answer(Duration::from_millis(300))).await?;
    let stack = Arc::new(stack(&service, "[limits]\nrequests = 20\nvault_calls = 2\n").await?);
    let stop = Arc::new(AtomicBool::new(false));
    let flood: Vec<_> = (0..40)
        .map(|number| {
            let (stack, stop) = (Arc::clone(&stack), Arc::clone(&stop));
            tokio::spawn(async move {
                let (mut served, mut shed) = (0_u32, 0_u32);
                while !stop.load(Ordering::Relaxed) {
                    let answer = signup(&stack, number).await?;
                    match answer.status.as_u16() {
                        201 => served += 1,
                        429 => {
                            anyhow::ensure!(answer.problem()? == "busy", "{:?}", answer.problem());
                            anyhow::ensure!(
                                answer.headers.contains_key("retry-after"),
                                "{:?}",
                                answer.headers
                            );
                            shed += 1;
                        }
                        other => anyhow::bail!("{other}"),
                    }
                }
                Ok((served, shed))
            })
        })
        .collect();
    stack.until("the flood is there", || service.seen() >= 10).await?;
    let (mut served, tries) = (0, 30);
    for number in 0..tries {
        let answer = signup_from(&stack, Ipv4Addr::new(127, 0, 0, 2), 1000 + number).await?;
        served += u64::from(answer.status == 201);
    }
    stop.store(true, Ordering::Relaxed);
    let (mut flooded, mut shed) = (0, 0);
    for client in flood {
        let (one, other) = client.await??;
        (flooded, shed) = (flooded + one, shed + other);
    }
    assert_eq!(served, tries, "{flooded} served to the flood, {shed} shed");
    assert!(shed > 0 && flooded > 0, "{flooded} served, {shed} shed");
    assert!(stack.audit("gateway").contains("busy.share"));
    Ok(())
}

#[tokio::test]
async fn a_target_that_hangs_up_is_left_alone_and_tried_again() -> Result<()> {
    let up = Arc::new(AtomicBool::new(false));
    let well = Arc::clone(&up);
    let service =
        Moody::start(
            move |_| {
                if well.load(Ordering::SeqCst) { Deed::Answer(Duration::ZERO) } else { Deed::HangUp }
            },
        )
        .await?;
    let stack = stack(&service, "[breaker]\nfailures = 3\nopen_s = 1\n").await?;
    for number in 0..3 {
        assert_eq!(signup(&stack, number).await?.status, 502);
    }
    let (seen, asked) = (service.seen(), vault_calls(&stack).await?);
    assert_eq!((seen, asked), (3, 3));
    let answer = signup(&stack, 4).await?;
    assert_eq!((answer.status.as_u16(), answer.problem()?), (502, "upstream-unavailable".to_owned()));
    assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
    assert_eq!((service.seen(), vault_calls(&stack).await?), (seen, asked), "neither was asked");
    assert_eq!(breaker_of(&stack, "signup")?, "open");
    assert!(stack.audit("gateway").contains("upstream-unavailable.circuit-open"));

    up.store(true, Ordering::SeqCst);
    let deadline = std::time::Instant::now() + cordon_tests::patience();
    while signup(&stack, 5).await?.status != 201 {
        assert!(std::time::Instant::now() < deadline, "it is not tried again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(breaker_of(&stack, "signup")?, "closed");
    Ok(())
}

#[tokio::test]
async fn only_what_has_no_effect_of_its_own_is_sent_twice() -> Result<()> {
    let service =
        Moody::start(|number| if number % 2 == 0 { Deed::HangUp } else { Deed::Answer(Duration::ZERO) })
            .await?;
    let upstream = Some(service.address);
    let mut stack = Stack::start(Options { gateway: false, upstream, ..Options::default() }).await?;
    stack.rewrite(
        "policies/routes.toml",
        "methods = [\"POST\"]\npath = \"/signup\"",
        "methods = [\"POST\", \"PUT\"]\npath = \"/signup\"",
    )?;
    stack.start_gateway()?;
    let put = http::Request::put("/signup")
        .header("host", "signup.cordon.test")
        .header("content-type", "application/json")
        .body(r#"{"a":1}"#.to_owned().into())?;
    assert_eq!(stack.browser_request(put).await?.status, 201);
    assert_eq!((service.seen(), metric(&stack, "cordon_gateway_repeats_total ").await?), (2, 1));
    assert_eq!(signup(&stack, 1).await?.status, 502, "a signup may have had its effect");
    assert_eq!((service.seen(), metric(&stack, "cordon_gateway_repeats_total ").await?), (3, 1));
    Ok(())
}
