//! `leak_check = "exact"`: only cards that the vault knows count, and no client learns which those are.
//!
//! What the answer of a service says of the value it got is the service's, and said in docs/oracles.md. That a known and an
//! unknown number take the same time is a matter of how it is built, not of a measurement here: the same calls, audit lines
//! and commits, which is what is counted.

#[path = "shared/days.rs"]
mod days;

use anyhow::{Context, Result};
use cordon_tests::cards::{MASTERCARD, VISA};
use cordon_tests::https::Answer;
use cordon_tests::search;
use cordon_tests::stack::{Options, Stack};
use cordon_tests::stub::{Received, Respond};
use cordon_wire::{ItemResult, LookupItem, LookupRequest, Recognized};
use days::in_days;
use http::Response;
use http_body_util::Full;
use std::sync::Arc;

const JSON: &str = "application/json";

fn route(name: &str, on_leak: &str) -> String {
    format!(
        r#"
[[ingress]]
name = "{name}"
hosts = ["signup.cordon.test"]
methods = ["POST"]
path = "/{name}"
upstream = "http://@SIGNUP@"
service = "signup"
collection = "cards"
content = ["json", "text"]
leak_check = "exact"
{on_leak}
"#
    )
}

fn routes() -> String {
    let until = in_days(30);
    let report = format!("on_leak = \"report\"\non_leak_reason = \"r\"\non_leak_until = \"{until}\"");
    route("masks", "on_leak = \"mask\"") + &route("reports", &report)
}

/// A service that gives back what it got.
fn echoing() -> Options {
    let signup: Arc<Respond> = Arc::new(|got: &Received| {
        let mut response = Response::new(Full::new(got.body.clone().into()));
        response.headers_mut().insert("content-type", http::HeaderValue::from_static(JSON));
        response
    });
    Options { signup, routes: routes(), ..Options::default() }
}

fn count(stack: &Stack, daemon: &str, part: &str) -> usize {
    stack.audit(daemon).matches(part).count()
}

/// The lines of both logs that a request leaves behind, but for what names the request.
fn lines(stack: &Stack) -> (usize, usize) {
    let of = |daemon: &str| stack.audit(daemon).lines().count();
    (of("gateway"), of("vault"))
}

/// The answer without what is different in every answer.
fn seen(answer: &Answer) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let changing = ["cordon-request-id", "date"];
    let kept = answer.headers.iter().filter(|(name, _)| !changing.contains(&name.as_str()));
    let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let mut headers: Vec<_> = kept.map(line).collect();
    headers.sort();
    (answer.status.as_u16(), headers, answer.body.to_vec())
}

#[tokio::test]
async fn only_cards_that_the_vault_knows_are_masked() -> Result<()> {
    let stack = Stack::start(Options { routes: routes(), ..Options::default() }).await?;
    let _known = stack.token_of(VISA).await?;
    let body = format!("{{\"a\":\"card {VISA}\",\"b\":\"order {MASTERCARD}\"}}");
    let answer = stack.browser("/masks", JSON, body).await?;
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    let got = String::from_utf8(stack.signup.requests().pop().context("a request")?.body)?;
    assert_eq!(got, format!("{{\"a\":\"card ************1111\",\"b\":\"order {MASTERCARD}\"}}"));
    assert_eq!(count(&stack, "gateway", r#""reason":"masked.body""#), 1);
    assert_eq!(count(&stack, "vault", r#""reason":"recognize""#), 1, "one call for both");
    assert!(!stack.audit("vault").contains(MASTERCARD) && !stack.audit("gateway").contains(MASTERCARD));
    Ok(())
}

#[tokio::test]
async fn a_client_sees_no_difference_between_known_and_unknown() -> Result<()> {
    let stack = Stack::start(echoing()).await?;
    let _known = stack.token_of(VISA).await?;
    let unknown = (0..10)
        .map(|digit| format!("42424242424{digit}1111"))
        .find(|text| cordon_card::Pan::parse(text).is_ok())
        .context("a number with the same last digits")?;
    for path in ["/masks", "/reports"] {
        for shape in [
            "{\"a\":\"@\"}",
            "{\"a\":\"no @ here\"}",
            "{\"a\":\"\\u0020@\",\"b\":[\"@\"]}",
            "{\"@\":1}",
            "{\"a\":@}",
            "{\"@\":\"@\"}",
        ] {
            let mut of_both = Vec::new();
            for number in [VISA, unknown.as_str()] {
                let before = lines(&stack);
                let answer = stack.browser(path, JSON, shape.replace('@', number)).await?;
                let after = lines(&stack);
                let cost = (after.0 - before.0, after.1 - before.1);
                let (status, headers, body) = seen(&answer);
                // The number itself comes back to who sent it; a refusal holds the id of its request.
                let body = String::from_utf8(body)?.replace(number, "@");
                let body = if status == 422 { String::new() } else { body };
                of_both.push((status, headers, body, cost));
            }
            assert_eq!(of_both.first(), of_both.last(), "{path} {shape}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_reported_is_reported_of_known_cards_alone_and_passed_on() -> Result<()> {
    let stack = Stack::start(Options { routes: routes(), ..Options::default() }).await?;
    let _known = stack.token_of(VISA).await?;
    for (number, reason) in [(VISA, "reported.body"), (MASTERCARD, "not-known.body")] {
        let answer = stack.browser("/reports", JSON, format!("{{\"n\":{number}}}")).await?;
        assert_eq!(answer.status, 201);
        assert!(search::contains(&stack.signup.requests().pop().context("one")?.body, number.as_bytes()));
        assert_eq!(count(&stack, "gateway", &format!("\"reason\":\"{reason}\"")), 1, "{reason}");
    }
    Ok(())
}

#[tokio::test]
async fn beyond_the_budget_and_without_the_vault_every_number_counts() -> Result<()> {
    let gateway_tables = "[leaks]\nexact_checks_per_minute = 3\n";
    let stack = Stack::start(Options { routes: routes(), gateway_tables, ..Options::default() }).await?;
    let body = format!("{{\"a\":\"order {MASTERCARD}\"}}");
    let mut masked = Vec::new();
    for _ in 0..5 {
        let answer = stack.browser("/masks", JSON, body.clone()).await?;
        assert_eq!(answer.status, 201);
        let got = stack.signup.requests().pop().context("one")?.body;
        masked.push(!search::contains(&got, MASTERCARD.as_bytes()));
    }
    assert_eq!(masked, [false, false, false, true, true]);
    assert_eq!(count(&stack, "vault", r#""reason":"recognize""#), 3, "and the vault is not asked");

    let mut stack = Stack::start(Options { routes: routes(), ..Options::default() }).await?;
    stack.vault.kill()?;
    let answer = stack.browser("/masks", JSON, body).await?;
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    let got = stack.signup.requests().pop().context("one")?.body;
    assert!(!search::contains(&got, MASTERCARD.as_bytes()), "a vault that is down clears nothing");
    Ok(())
}

async fn gateway_knows(stack: &Stack) -> Result<()> {
    let cards = cordon_tests::stack::cards()?;
    let request = cordon_tests::cards::only(cordon_card::Pan::parse(VISA)?);
    let _token = stack.tokenizer("gateway-ingress")?.tokenize(&cards, &request).await?;
    Ok(())
}

#[tokio::test]
async fn the_vault_tells_the_gateway_of_such_a_route_alone_and_in_measure() -> Result<()> {
    let limits = "[limits]\nrecognitions_per_minute = 4\n";
    let with = Options { routes: routes(), vault_tables: limits, gateway: false, ..Options::default() };
    let stack = Stack::start(with).await?;
    gateway_knows(&stack).await?;
    let item = |text: &str| Ok::<_, anyhow::Error>(LookupItem { pan: cordon_card::Pan::parse(text)?.into() });
    let question = || Ok::<_, anyhow::Error>(LookupRequest { items: vec![item(VISA)?, item(MASTERCARD)?] });
    let cards = cordon_tests::stack::cards()?;
    let gateway = stack.tokenizer("gateway-ingress")?;
    let answer = gateway.recognize(&cards, &question()?).await?;
    let known = |item: &ItemResult<Recognized>| matches!(item, ItemResult::Ok(Recognized { known: true }));
    assert_eq!(answer.items.iter().map(known).collect::<Vec<_>>(), [true, false]);
    for service in ["importer", "operator", "gateway-egress", "signup"] {
        let refused = stack.tokenizer(service)?.recognize(&cards, &question()?).await;
        assert!(refused.is_err(), "{service}");
    }
    assert!(gateway.recognize(&cards, &question()?).await.is_ok());
    let limited = gateway.recognize(&cards, &question()?).await.expect_err("the minute's are used up");
    assert!(limited.to_string().contains("limit-reached") || format!("{limited:?}").contains("LimitReached"));
    assert!(stack.audit("vault").contains("limit-reached.recognitions"));

    let bare = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let refused = bare.tokenizer("gateway-ingress")?.recognize(&cards, &question()?).await;
    assert!(refused.is_err(), "no route of this bundle asks for it");
    Ok(())
}
