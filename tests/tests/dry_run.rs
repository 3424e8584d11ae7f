//! What would be sent, shown to who may ask: nothing is revealed, nothing leaves.

use anyhow::{Context, Result};
use bytes::Bytes;
use cordon_tests::https::{self, Answer};
use cordon_tests::stack::{Options, Stack};
use cordon_tests::{cards, search};
use http::Request;
use http_body_util::Full;

const FORM: &str = "application/x-www-form-urlencoded";

async fn stack() -> Result<Stack> {
    let mut stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let may = "purpose = \"charge\"\ndry_run = [\"signup\"]\n";
    stack.rewrite("policies/routes.toml", "purpose = \"charge\"\n", may)?;
    stack.start_gateway()?;
    Ok(stack)
}

async fn ask(stack: &Stack, path: &str, said: &[&str], content: &str, body: &str) -> Result<Answer> {
    let mut request = Request::post(path)
        .header("host", "gateway.cordon.test")
        .header("content-type", content)
        .header("authorization", "Bearer KEEP-THIS")
        .header("cookie", "a=b");
    for value in said {
        request = request.header("cordon-dry-run", *value);
    }
    let tls = https::tls(&stack.authority.root(), Some(&stack.identity("signup")))?;
    let request = request.body(Full::new(Bytes::from(body.to_owned())))?;
    https::send(stack.gateway_address("egress")?, "gateway.cordon.test", &tls, request).await
}

#[tokio::test]
async fn a_dry_run_shows_the_request_and_reveals_and_sends_nothing() -> Result<()> {
    let stack = stack().await?;
    let token = stack.token_of(cards::VISA).await?;
    let body =
        serde_json::json!({"amount": 5, "card": {"number": token, "cvc": "-", "expiry": "-"}}).to_string();
    let vault = stack.audit("vault").lines().count();
    let answer = ask(&stack, "/v1/charges?capture=no", &["true"], "application/json", &body).await?;
    let shown = answer.json()?;
    assert_eq!(answer.status, 200, "{shown}");
    assert_eq!(shown["dry_run"], true);
    assert_eq!((shown["route"].as_str(), shown["destination"].as_str()), (Some("charge"), Some("processor")));
    assert_eq!(shown["url"], "https://processor.cordon.test/v1/charges?capture=no");
    assert_eq!(shown["method"], "POST");
    let sent: serde_json::Value = serde_json::from_str(shown["body"].as_str().context("a body")?)?;
    let card = serde_json::json!({
        "number": format!("[card number of {token}]"), "cvc": "[security code]", "expiry": "[MM/YY]"
    });
    assert_eq!((&sent["card"], sent["amount"].as_u64()), (&card, Some(5)));
    let headers = shown["headers"].to_string();
    assert!(headers.contains(r#"["host","processor.cordon.test"]"#), "{headers}");
    assert!(
        headers.contains(r#"["authorization","[as received]"]"#) && !headers.contains("cookie"),
        "{headers}"
    );

    assert!(stack.processor.bytes().is_empty(), "nothing was sent");
    assert_eq!(stack.audit("vault").lines().count(), vault, "the vault was not asked");
    let all = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(search::find(cards::VISA, all.as_bytes()).is_none() && !all.contains("KEEP-THIS"), "{all}");
    let line = stack.audit("gateway").lines().last().context("a line")?.to_owned();
    assert!(line.contains("\"dry-run\"") && line.contains(&token), "{line}");
    // The code is still there for the charge itself, which is the same request without the header.
    let charged = ask(&stack, "/v1/charges?capture=no", &[], "application/json", &body).await?;
    assert_eq!(charged.status, 200, "{}", String::from_utf8_lossy(&charged.body));
    let received = stack.processor.requests().pop().context("a charge")?;
    assert_eq!(received.line, "POST /v1/charges?capture=no");
    assert!(search::find(cards::VISA, &received.body).is_some(), "the control: the charge has the card");
    Ok(())
}

#[tokio::test]
async fn a_form_is_shown_as_it_would_be_written() -> Result<()> {
    let stack = stack().await?;
    let token = stack.token_of(cards::VISA).await?;
    let body = format!("amount=5&card%5Bnumber%5D={token}&card%5Bexpiry%5D=x");
    let answer = ask(&stack, "/v1/charges", &["true"], FORM, &body).await?;
    let shown = answer.json()?;
    let sent = shown["body"].as_str().context("a body")?;
    assert!(sent.starts_with("amount=5&card%5Bnumber%5D=") && sent.contains(&token), "{sent}");
    assert!(sent.contains("MM%2FYY"), "{sent}");
    assert!(stack.processor.bytes().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_request_that_asks_for_a_dry_run_is_never_sent() -> Result<()> {
    let stack = stack().await?;
    let token = stack.token_of(cards::VISA).await?;
    let body = serde_json::json!({"card": {"number": token}}).to_string();
    let leak = serde_json::json!({"card": {"number": token}, "note": cards::MASTERCARD}).to_string();
    for (name, path, said, body, status, code) in [
        ("false", "/v1/charges", &["false"][..], &body, 400, "malformed"),
        ("empty", "/v1/charges", &[""], &body, 400, "malformed"),
        ("another spelling", "/v1/charges", &["TRUE"], &body, 400, "malformed"),
        ("twice", "/v1/charges", &["true", "true"], &body, 400, "malformed"),
        ("a route without", "/v1/other", &["true"], &body, 403, "denied"),
        ("a card number", "/v1/charges", &["true"], &leak, 422, "leak-blocked"),
        ("no token", "/v1/charges", &["true"], &body.replace(&token, "hello"), 422, "bad-token"),
    ] {
        let answer = ask(&stack, path, said, "application/json", body).await?;
        assert_eq!((answer.status.as_u16(), answer.problem()?.as_str()), (status, code), "{name}");
    }
    assert!(stack.processor.bytes().is_empty());
    let slip = stack.rewrite("policies/routes.toml", "dry_run = [\"signup\"]", "dry_run = [\"billing\"]");
    slip?;
    let config = stack.dir().join("gateway.toml");
    let output = std::process::Command::new(cordon_tests::process::binary("cordon-gateway")?)
        .arg("--config")
        .arg(config)
        .arg("--check")
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(78) && said.contains("may not use this route"), "{said}");
    Ok(())
}
