//! `on_leak` beyond refusing and masking: a token in the number's place, and passing it on for a time. Both ways.

#[path = "shared/days.rs"]
mod days;

use anyhow::{Context, Result};
use cordon_tests::cards::{MASTERCARD, VISA};
use cordon_tests::https::Answer;
use cordon_tests::search;
use cordon_tests::stack::{Options, Stack};
use cordon_tests::stub::{Received, Respond, json};
use days::in_days;
use serde_json::json as value;
use std::sync::Arc;

const JSON: &str = "application/json";

/// A way in at `/<name>` with one card field, with these further lines.
fn route(name: &str, lines: &str) -> String {
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
content = ["json", "form", "fixed", "xml", "csv"]
field = [{{ json = "$.pan", form = "pan", op = "tokenize" }}]
{lines}
"#
    )
}

fn report(until: &str) -> String {
    format!("on_leak = \"report\"\non_leak_reason = \"finding out\"\non_leak_until = \"{until}\"")
}

fn code(answer: &Answer) -> Result<(u16, String)> {
    Ok((answer.status.as_u16(), answer.problem()?))
}

fn last(stack: &Stack) -> Result<Received> {
    stack.signup.requests().pop().context("a request at the service")
}

fn lines(stack: &Stack, daemon: &str, part: &str) -> usize {
    stack.audit(daemon).matches(part).count()
}

#[tokio::test]
async fn a_card_outside_the_fields_becomes_the_token_of_its_card_in_one_call() -> Result<()> {
    let routes = route("tokens", "on_leak = \"tokenize\"");
    let stack = Stack::start(Options { routes, ..Options::default() }).await?;
    let before = lines(&stack, "vault", r#""what":"tokenize""#);
    let body = format!("{{\"pan\": \"{VISA}\",\"note\":\"\\u00e9 5555 5555 5555 4444, {VISA}!\", \"n\": 1}}");
    let answer = stack.browser("/tokens", JSON, body).await?;
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    let (visa, mastercard) = (stack.token_of(VISA).await?, stack.token_of(MASTERCARD).await?);
    let made = lines(&stack, "vault", r#""what":"tokenize""#) - before;
    assert_eq!(made, 3, "one call for the three numbers, and the two of this test");
    let got = stack.signup.requests().into_iter().find(|got| got.line.contains("/tokens"));
    let got = String::from_utf8(got.context("a request")?.body)?;
    let wanted = format!("{{\"pan\": \"{visa}\",\"note\":\"\u{e9} {mastercard}, {visa}!\", \"n\": 1}}");
    assert_eq!(got, wanted);
    assert_eq!(lines(&stack, "gateway", r#""reason":"tokenized.body""#), 1);

    for (kind, body) in [
        ("application/x-www-form-urlencoded", format!("a={VISA}&b=1")),
        ("application/xml", format!("<a b=\"{VISA}\"><c>x {VISA}</c></a>")),
        ("text/csv", format!("a,b\n1,\"{VISA}\"\n")),
    ] {
        let answer = stack.browser("/tokens", kind, body).await?;
        assert_eq!(answer.status, 201, "{kind}");
        let got = String::from_utf8(last(&stack)?.body)?;
        assert!(got.contains(&visa), "{kind}: {got}");
    }
    for pan in [VISA, MASTERCARD] {
        assert_eq!(search::find(pan, &stack.signup.bytes()), None);
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_cut_out_is_refused_before_a_token_is_made() -> Result<()> {
    let routes = route("tokens", "on_leak = \"tokenize\"");
    let stack = Stack::start(Options { routes, ..Options::default() }).await?;
    let before = lines(&stack, "vault", r#""what":"tokenize""#);
    let hidden = data_encoding::BASE64.encode(VISA.as_bytes());
    for (kind, body) in [
        (JSON, format!("{{\"{VISA}\":1}}")),
        (JSON, format!("{{\"n\":{VISA}}}")),
        (JSON, format!("{{\"{VISA}\":\"{VISA}\"}}")),
        (JSON, format!("{{\"a\":\"{VISA}\",\"b\":\"{hidden}\"}}")),
        ("application/x-www-form-urlencoded", format!("{VISA}=1")),
        ("application/xml", format!("<a>{VISA}<b/></a>")),
    ] {
        let answer = stack.browser("/tokens", kind, body.clone()).await?;
        assert_eq!(code(&answer)?, (422, "leak-blocked".to_owned()), "{kind} {body}");
    }
    assert_eq!(lines(&stack, "vault", r#""what":"tokenize""#), before, "no token was made");
    // A token is longer than a number, so it does not fit into fixed columns; that shows once there is one.
    let narrow = stack.browser("/tokens", "text/plain", format!("AB{VISA}")).await?;
    assert_eq!(code(&narrow)?, (422, "leak-blocked".to_owned()));
    assert!(stack.signup.requests().is_empty(), "the service saw nothing");
    Ok(())
}

#[tokio::test]
async fn what_is_reported_is_passed_on_until_its_last_day() -> Result<()> {
    let routes = route("reports", &report(&in_days(30))) + &route("over", &report("2020-01-01"));
    let stack = Stack::start(Options { routes, ..Options::default() }).await?;
    let body = format!("{{\"pan\":\"{VISA}\",\"note\":\"{MASTERCARD}\",\"n\":{MASTERCARD}}}");
    let answer = stack.browser("/reports", JSON, body.clone()).await?;
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    let visa = stack.token_of(VISA).await?;
    let got = stack.signup.requests().into_iter().next().context("a request")?;
    assert_eq!(
        String::from_utf8(got.body)?,
        body.replace(VISA, &visa),
        "declared fields are tokenized as ever"
    );
    assert_eq!(lines(&stack, "gateway", r#""reason":"reported.body""#), 1);
    assert!(!stack.audit("gateway").contains(MASTERCARD));
    let query = stack.browser(&format!("/reports?n={MASTERCARD}"), JSON, "{}").await?;
    assert_eq!(query.status, 201);
    assert_eq!(lines(&stack, "gateway", r#""reason":"reported.query""#), 1);

    let hidden = data_encoding::BASE64.encode(VISA.as_bytes());
    let inside = format!("{{\"a\":\"{MASTERCARD}\",\"b\":\"{hidden}\"}}");
    let inside = stack.browser("/reports", JSON, inside).await?;
    assert_eq!(code(&inside)?, (422, "leak-blocked".to_owned()), "what an encoding hides has its own rule");

    let seen = stack.signup.requests().len();
    let over = stack.browser("/over", JSON, body).await?;
    assert_eq!(code(&over)?, (422, "leak-blocked".to_owned()));
    assert_eq!(stack.signup.requests().len(), seen);
    Ok(())
}

async fn charged(on_leak: &str, echo: &'static str) -> Result<(Stack, Answer)> {
    let processor: Arc<Respond> =
        Arc::new(move |_: &Received| json(200, &value!({"id": 7, "new_card": echo})));
    let stack = Stack::start(Options { processor, gateway: false, ..Options::default() }).await?;
    let mut stack = stack;
    let with = format!("purpose = \"charge\"\n{on_leak}\n");
    stack.rewrite("policies/routes.toml", "purpose = \"charge\"\n", &with)?;
    stack.start_gateway()?;
    let token = stack.token_of(VISA).await?;
    let body = value!({"amount": 5, "card": {"number": token, "expiry": "-"}});
    let answer = stack.charge("signup", "/v1/charges", &body).await?;
    Ok((stack, answer))
}

#[tokio::test]
async fn a_card_in_a_destination_s_answer_becomes_a_token() -> Result<()> {
    let (stack, answer) = charged("on_leak = \"tokenize\"", MASTERCARD).await?;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let token = stack.token_of(MASTERCARD).await?;
    assert_eq!(answer.json()?, value!({"id": 7, "new_card": token}));
    assert_eq!(lines(&stack, "gateway", r#""reason":"tokenized.answer""#), 1);
    Ok(())
}

#[tokio::test]
async fn a_card_that_was_just_revealed_is_never_tokenized_or_reported() -> Result<()> {
    for on_leak in ["on_leak = \"tokenize\"".to_owned(), report(&in_days(30))] {
        let (stack, answer) = charged(&on_leak, VISA).await?;
        assert_eq!(code(&answer)?, (502, "upstream-refused".to_owned()), "{on_leak}");
        assert_eq!(search::find(VISA, &answer.body), None);
        assert!(stack.audit("gateway").contains(r#""reason":"upstream-refused.card-number""#));
    }
    Ok(())
}

#[tokio::test]
async fn a_reported_answer_has_its_line_and_a_request_with_a_card_is_refused_nevertheless() -> Result<()> {
    let (stack, answer) = charged(&report(&in_days(30)), MASTERCARD).await?;
    assert_eq!(answer.json()?, value!({"id": 7, "new_card": MASTERCARD}));
    assert_eq!(lines(&stack, "gateway", r#""reason":"reported.answer""#), 1);
    let seen = stack.processor.requests().len();
    let body = value!({"amount": 5, "note": MASTERCARD});
    let refused = stack.charge("signup", "/v1/charges", &body).await?;
    assert_eq!(code(&refused)?, (422, "leak-blocked".to_owned()));
    assert_eq!(stack.processor.requests().len(), seen);
    Ok(())
}
