//! Each operation in requests and in answers: tokens in what a service answers, masks and gaps in what one sends.

use anyhow::{Context, Result};
use cordon_tests::stack::{Options, Stack};
use cordon_tests::{cards, search, stub};
use serde_json::{Value, json};
use std::sync::Arc;

const ROUTES: &str = r#"
[[ingress]]
name = "legacy"
hosts = ["signup.cordon.test"]
methods = ["POST"]
path = "/legacy"
upstream = "http://@SIGNUP@"
service = "signup"
collection = "cards"
content = ["json"]
answer = [{ json = "$.stored.number", op = "tokenize" }]

[[egress]]
name = "trimmed"
methods = ["POST"]
path = "/v1/trimmed"
services = ["signup"]
destination = "processor"
collection = "cards"
purpose = "charge"
content = ["json"]

[[egress.field]]
json = "$.number"
op = "reveal"

[[egress.field]]
json = "$.month"
op = "reveal_expiry"
format = "M"
number = true

[[egress.field]]
json = "$.year"
op = "reveal_expiry"
format = "YY"

[[egress.field]]
json = "$.note"
op = "mask"

[[egress.field]]
json = "$.internal"
op = "drop"
"#;

async fn stack() -> Result<Stack> {
    let signup = |got: &stub::Received| {
        let stored = if String::from_utf8_lossy(&got.body).contains("none") {
            json!(null)
        } else {
            json!({"number": cards::AMEX})
        };
        stub::json(200, &json!({"stored": stored}))
    };
    Stack::start(Options { signup: Arc::new(signup), routes: ROUTES.to_owned(), ..Options::default() }).await
}

#[tokio::test]
async fn a_card_in_the_answer_of_a_service_becomes_a_token() -> Result<()> {
    let stack = stack().await?;
    let answer = stack.browser("/legacy", "application/json", r#"{"a":1}"#).await?;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let value = answer.json()?;
    let token = value.pointer("/stored/number").and_then(Value::as_str).context("a token")?;
    assert!(token.starts_with("tok_dev_"), "{value}");
    // It is a token of that card, and stands in the gateway's log.
    assert!(stack.audit("gateway").contains(token));
    let charged = stack.charge("signup", "/v1/charges", &json!({"card": {"number": token}})).await?;
    assert_eq!(charged.status, 200);
    let got = stack.processor.requests().pop().context("a charge")?;
    assert!(search::find(cards::AMEX, &got.body).is_some());
    let none = stack.browser("/legacy", "application/json", r#"{"a":"none"}"#).await?;
    assert_eq!(none.json()?, json!({"stored": null}));
    Ok(())
}

#[tokio::test]
async fn what_a_service_sends_is_written_masked_and_cut_as_declared() -> Result<()> {
    let stack = stack().await?;
    let token = stack.token_of(cards::VISA).await?;
    let note = format!("paid before with {}", cards::MASTERCARD);
    let body =
        json!({"number": token, "month": "", "year": "", "note": note, "internal": cards::AMEX, "amount": 5});
    let answer = stack.charge("signup", "/v1/trimmed", &body).await?;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let got = stack.processor.requests().pop().context("a request")?;
    let sent: Value = serde_json::from_slice(&got.body)?;
    let note = sent.get("note").and_then(Value::as_str).context("a note")?;
    assert!(
        note.starts_with("paid before with ")
            && note.ends_with("4444")
            && search::find(cards::MASTERCARD, note.as_bytes()).is_none(),
        "{note}"
    );
    let wanted = json!({"number": cards::VISA, "month": 12, "year": "30", "note": note, "internal": null, "amount": 5});
    assert_eq!(sent, wanted);
    // Beside the declared fields a card is refused as ever.
    let body = json!({"number": token, "month": "", "year": "", "other": cards::AMEX});
    let answer = stack.charge("signup", "/v1/trimmed", &body).await?;
    assert_eq!((answer.status.as_u16(), answer.problem()?), (422, "leak-blocked".to_owned()));
    // A request may leave a part out.
    let body = json!({"number": token, "year": ""});
    assert_eq!(stack.charge("signup", "/v1/trimmed", &body).await?.status, 200);
    Ok(())
}
