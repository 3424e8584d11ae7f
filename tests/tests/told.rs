//! What a caller is told beside the answer: whose status it is, whose error, and where the time went.

use anyhow::{Context, Result};
use cordon_tests::cards;
use cordon_tests::https::Answer;
use cordon_tests::search;
use cordon_tests::stack::{Options, Stack};
use cordon_tests::stub::{Received, Respond, json};
use http::HeaderValue;
use serde_json::json as value;
use std::sync::Arc;

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name).and_then(|value| value.to_str().ok())
}

/// The names of the parts of `Server-Timing`, each with a time.
fn timings(answer: &Answer) -> Result<Vec<String>> {
    let all = header(answer, "server-timing").context("a Server-Timing")?;
    let part = |part: &str| {
        let (name, time) = part.trim().split_once(";dur=").context("a duration")?;
        anyhow::ensure!(time.parse::<f64>()? > 0.0, "{part}");
        Ok(name.to_owned())
    };
    all.split(',').map(part).collect()
}

async fn stack_with(processor: Arc<Respond>) -> Result<(Stack, serde_json::Value)> {
    let stack = Stack::start(Options { processor, ..Options::default() }).await?;
    let token = stack.token_of(cards::VISA).await?;
    Ok((stack, value!({"amount": 5, "card": {"number": token, "expiry": "-"}})))
}

#[tokio::test]
async fn a_processor_s_answer_and_the_gateway_s_own_are_told_apart() -> Result<()> {
    let busy: Arc<Respond> = Arc::new(|_: &Received| {
        let mut response = json(503, &value!({"error": "busy"}));
        for (name, forged) in
            [("cordon-error", "forged"), ("cordon-upstream-status", "200"), ("server-timing", "x;dur=9")]
        {
            response.headers_mut().insert(name, HeaderValue::from_static(forged));
        }
        response
    });
    let (mut stack, body) = stack_with(busy).await?;
    let theirs = stack.charge("signup", "/v1/charges", &body).await?;
    assert_eq!(theirs.status, 503);
    assert_eq!(
        (header(&theirs, "cordon-upstream-status"), header(&theirs, "cordon-error")),
        (Some("503"), None)
    );
    assert_eq!(timings(&theirs)?, ["vault", "upstream", "total"]);

    stack.vault.kill()?;
    let ours = stack.charge("signup", "/v1/charges", &body).await?;
    assert_eq!(ours.status, 503);
    let told = (header(&ours, "cordon-upstream-status"), header(&ours, "cordon-error"));
    assert_eq!(told, (None, Some("vault-unavailable")));
    assert!(!timings(&ours)?.contains(&"upstream".to_owned()));
    Ok(())
}

#[tokio::test]
async fn the_status_of_an_answer_that_may_not_be_passed_on_is_told() -> Result<()> {
    let echo: Arc<Respond> = Arc::new(|_: &Received| json(200, &value!({"card": cards::VISA})));
    let (stack, body) = stack_with(echo).await?;
    let refused = stack.charge("signup", "/v1/charges", &body).await?;
    assert_eq!(refused.status, 502);
    let told = (header(&refused, "cordon-upstream-status"), header(&refused, "cordon-error"));
    assert_eq!(told, (Some("200"), Some("upstream-refused")));
    assert_eq!(search::find(cards::VISA, format!("{:?}", refused.headers).as_bytes()), None);
    Ok(())
}

#[tokio::test]
async fn clients_outside_are_told_times_only_where_the_route_says_so() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let body = value!({"card": {"number": cards::VISA}}).to_string();
    let passed = stack.browser("/signup", "application/json", body.clone()).await?;
    assert_eq!(passed.status, 201);
    for name in ["server-timing", "cordon-upstream-status", "cordon-error"] {
        assert_eq!(header(&passed, name), None, "{name}");
    }
    let refused = stack.browser("/signup", "application/json", "{").await?;
    assert_eq!((refused.status.as_u16(), header(&refused, "cordon-error")), (400, Some("malformed")));
    assert_eq!(header(&refused, "server-timing"), None);

    let mut stack = stack;
    stack.rewrite("policies/routes.toml", "path = \"/signup\"\n", "path = \"/signup\"\ntimings = true\n")?;
    stack.gateway = None;
    stack.start_gateway()?;
    let passed = stack.browser("/signup", "application/json", body).await?;
    assert_eq!(timings(&passed)?, ["vault", "upstream", "total"]);
    assert_eq!(header(&passed, "cordon-upstream-status"), None);
    Ok(())
}
