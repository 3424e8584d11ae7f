//! Declared exceptions: a number that looks like a card's passes at its place, up to its day, and nowhere else.

#[path = "shared/days.rs"]
mod days;

use anyhow::{Context, Result};
use cordon_tests::cards::{MASTERCARD, VISA};
use cordon_tests::https::Answer;
use cordon_tests::stack::{Options, Stack};
use cordon_tests::stub::{Received, Respond, json};
use days::in_days;
use http::Request;
use http_body_util::Full;
use serde_json::json as value;
use std::sync::Arc;

const JSON: &str = "application/json";

fn exceptions(side: &str, until: &str, places: &[&str]) -> String {
    let row = |place: &&str| {
        format!(
            "  {{ in = \"{side}\", {place}, reason = \"order numbers\", approved_by = \"ann\", until = \"{until}\" }},\n"
        )
    };
    places.iter().map(row).collect()
}

fn route(name: &str, on_leak: &str, exceptions: &str) -> String {
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
content = ["json", "form", "text"]
on_leak = "{on_leak}"
field = [{{ json = "$.pan", form = "pan", text = '(?m)^PAN: (?<pan>.*)$', op = "tokenize" }}]
exception = [
{exceptions}]
"#
    )
}

const PLACES: [&str; 4] = [
    "json = \"$.order.number\", form = \"order\", text = '(?m)^Order: (?<order>.*)$'",
    "header = \"x-order\"",
    "query = \"order\"",
    "cookie = \"order\"",
];

/// An order number that is none of a card, and passes for one.
const ORDER: &str = MASTERCARD;

fn code(answer: &Answer) -> Result<(u16, String)> {
    Ok((answer.status.as_u16(), answer.problem()?))
}

fn count(stack: &Stack, reason: &str) -> usize {
    stack.audit("gateway").matches(&format!("\"reason\":\"{reason}\"")).count()
}

async fn sent(stack: &Stack, target: &str, lines: &[(&str, &str)], body: &str) -> Result<Answer> {
    let mut request = Request::post(target).header("host", "signup.cordon.test").header("content-type", JSON);
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    stack.browser_request(request.body(Full::new(body.to_owned().into()))?).await
}

#[tokio::test]
async fn an_order_number_passes_at_its_place_alone_and_is_recorded() -> Result<()> {
    let routes = route("orders", "deny", &exceptions("request", &in_days(60), &PLACES));
    let stack = Stack::start(Options { routes, ..Options::default() }).await?;
    let body = format!("{{\"pan\":\"{VISA}\",\"order\":{{\"number\":\"{ORDER}\"}}}}");
    let passed = stack.browser("/orders", JSON, body.clone()).await?;
    assert_eq!(passed.status, 201, "{}", String::from_utf8_lossy(&passed.body));
    let got = stack.signup.requests().pop().context("a request")?;
    let visa = stack.token_of(VISA).await?;
    assert_eq!(String::from_utf8(got.body)?, body.replace(VISA, &visa), "the card beside it is tokenized");
    assert_eq!(count(&stack, "excepted.body"), 1);

    let form =
        stack.browser("/orders", "application/x-www-form-urlencoded", format!("order={ORDER}")).await?;
    let text = stack.browser("/orders", "text/plain", format!("PAN: {VISA}\nOrder: {ORDER}\n")).await?;
    assert_eq!((form.status.as_u16(), text.status.as_u16()), (201, 201));
    assert_eq!(count(&stack, "excepted.body"), 3);
    let header = sent(&stack, "/orders", &[("x-order", ORDER)], "{}").await?;
    let cookie = sent(&stack, "/orders", &[("cookie", &format!("a=1; order={ORDER}"))], "{}").await?;
    let query = sent(&stack, &format!("/orders?order={ORDER}"), &[], "{}").await?;
    for answer in [header, cookie, query] {
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    }
    assert_eq!((count(&stack, "excepted.header"), count(&stack, "excepted.query")), (2, 1));
    let plain = stack.browser("/orders", JSON, r#"{"order":{"number":"A-17"}}"#).await?;
    assert_eq!((plain.status.as_u16(), count(&stack, "excepted.body")), (201, 3), "no number, no use");
    assert!(!stack.audit("gateway").contains(ORDER));

    let seen = stack.signup.requests().len();
    let hidden = data_encoding::BASE64.encode(ORDER.as_bytes());
    for body in [
        format!("{{\"order\":{{\"number\":\"{ORDER}\",\"note\":\"{ORDER}\"}}}}"),
        format!("{{\"order\":{{\"number\":\"{ORDER}\"}},\"number\":\"{ORDER}\"}}"),
        format!("{{\"order\":{{\"{ORDER}\":\"x\",\"number\":\"{ORDER}\"}}}}"),
        format!("{{\"order\":{{\"number\":\"{hidden}\"}}}}"),
        format!("{{\"number\":\"{ORDER}\"}}"),
    ] {
        let refused = stack.browser("/orders", JSON, body.clone()).await?;
        assert_eq!(code(&refused)?, (422, "leak-blocked".to_owned()), "{body}");
    }
    for (target, lines) in [
        (format!("/orders?order2={ORDER}"), vec![]),
        ("/orders".to_owned(), vec![("x-other", ORDER)]),
        (format!("/orders?order={ORDER}&x={ORDER}"), vec![("x-order", ORDER)]),
    ] {
        let refused = sent(&stack, &target, &lines, "{}").await?;
        assert_eq!(code(&refused)?, (422, "leak-blocked".to_owned()), "{target} {lines:?}");
    }
    let twice = sent(&stack, "/orders", &[("x-order", ORDER), ("x-order", ORDER)], "{}").await?;
    assert_eq!(code(&twice)?, (422, "bad-field".to_owned()), "a place that stands twice is refused");
    assert_eq!(stack.signup.requests().len(), seen);
    Ok(())
}

#[tokio::test]
async fn after_its_day_an_exception_is_none() -> Result<()> {
    let routes = route("orders", "deny", &exceptions("request", "2020-01-01", &PLACES));
    let stack = Stack::start(Options { routes, ..Options::default() }).await?;
    let body = format!("{{\"order\":{{\"number\":\"{ORDER}\"}}}}");
    assert_eq!(code(&stack.browser("/orders", JSON, body).await?)?, (422, "leak-blocked".to_owned()));
    let header = sent(&stack, "/orders", &[("x-order", ORDER)], "{}").await?;
    assert_eq!(code(&header)?, (422, "leak-blocked".to_owned()));
    let escaped = r#"{"order":{"number":"\u0035555555555554444"}}"#;
    assert_eq!(code(&stack.browser("/orders", JSON, escaped).await?)?, (422, "leak-blocked".to_owned()));
    assert!(stack.signup.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn what_is_excepted_is_neither_masked_nor_tokenized() -> Result<()> {
    let excepted = exceptions("request", &in_days(1), &PLACES);
    let routes = route("masks", "mask", &excepted) + &route("tokens", "tokenize", &excepted);
    let stack = Stack::start(Options { routes, ..Options::default() }).await?;
    let visa = stack.token_of(VISA).await?;
    for (path, left) in [("/masks", "************1111"), ("/tokens", visa.as_str())] {
        let body = format!("{{\"order\":{{\"number\":\"{ORDER}\"}},\"note\":\"{VISA}\"}}");
        let passed = stack.browser(path, JSON, body.clone()).await?;
        assert_eq!(passed.status, 201, "{path}: {}", String::from_utf8_lossy(&passed.body));
        let got = stack.signup.requests().pop().context("a request")?;
        assert_eq!(String::from_utf8(got.body)?, body.replace(VISA, left), "{path}");
        let text = format!("Order: {ORDER}\nThank you, {VISA}");
        let passed = stack.browser(path, "text/plain", text.clone()).await?;
        assert_eq!(passed.status, 201, "{path}: {}", String::from_utf8_lossy(&passed.body));
        let got = stack.signup.requests().pop().context("a request")?;
        assert_eq!(String::from_utf8(got.body)?, text.replace(VISA, left), "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn answers_have_exceptions_of_their_own_and_never_for_a_revealed_number() -> Result<()> {
    let signup: Arc<Respond> = Arc::new(|_: &Received| json(200, &value!({"order": {"number": ORDER}})));
    let processor: Arc<Respond> = Arc::new(|got: &Received| {
        let sent: serde_json::Value = serde_json::from_slice(&got.body).unwrap_or_default();
        json(200, &value!({"ref": sent.get("ref"), "note": sent.get("echo").map(|_| VISA)}))
    });
    let places = ["json = \"$.order.number\""];
    let routes =
        route("orders", "deny", &exceptions("answer", &in_days(60), &places)) + &route("plain", "deny", "");
    let mut stack =
        Stack::start(Options { routes, signup, processor, gateway: false, ..Options::default() }).await?;
    let rows = exceptions("request", &in_days(60), &["json = \"$.ref\""])
        + &exceptions("answer", &in_days(60), &["json = \"$.ref\"", "json = \"$.note\""]);
    let with = format!("purpose = \"charge\"\nexception = [\n{rows}]\n");
    stack.rewrite("policies/routes.toml", "purpose = \"charge\"\n", &with)?;
    stack.start_gateway()?;
    let passed = stack.browser("/orders", JSON, "{}").await?;
    assert_eq!(passed.json()?, value!({"order": {"number": ORDER}}));
    assert_eq!(count(&stack, "excepted.answer"), 1);
    assert_eq!(code(&stack.browser("/plain", JSON, "{}").await?)?, (502, "upstream-refused".to_owned()));

    let token = stack.token_of(VISA).await?;
    let body = value!({"ref": ORDER, "card": {"number": token, "expiry": "-"}});
    let passed = stack.charge("signup", "/v1/charges", &body).await?;
    assert_eq!(passed.status, 200, "{}", String::from_utf8_lossy(&passed.body));
    assert_eq!(passed.json()?, value!({"ref": ORDER, "note": null}));
    let sent: serde_json::Value =
        serde_json::from_slice(&stack.processor.requests().pop().context("a charge")?.body)?;
    assert_eq!(sent.pointer("/ref"), Some(&value!(ORDER)));
    assert_eq!((count(&stack, "excepted.body"), count(&stack, "excepted.answer")), (1, 2));
    let body = value!({"ref": ORDER, "echo": 1, "card": {"number": token, "expiry": "-"}});
    let echoed = stack.charge("signup", "/v1/charges", &body).await?;
    assert_eq!(code(&echoed)?, (502, "upstream-refused".to_owned()), "it was just revealed");
    Ok(())
}
