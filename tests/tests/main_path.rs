//! The main job: a card goes in at the gateway, a token reaches the signup service, a processor gets the card.

use anyhow::{Context, Result};
use cordon_tests::cards::{self, done};
use cordon_tests::search;
use cordon_tests::stack::{Options, Stack};
use cordon_tests::stub::Received;
use std::collections::BTreeSet;
use std::process::Command;

const JSON: &str = r#"{ "email":"ada@example.test", "plan" : "monthly","card":{"number":"4111 1111 1111 1111","expiry":"12/30","cvc":"123"}, "n":1.50}"#;

fn last(requests: &[Received]) -> Result<&Received> {
    requests.last().context("the stub got a request")
}

fn token_in(body: &[u8]) -> Result<String> {
    let text = String::from_utf8(body.to_vec())?;
    let start = text.find("tok_dev_").context("a token in the body")?;
    let token: String = text.get(start..).unwrap_or_default().chars().take(36).collect();
    anyhow::ensure!(cordon_card::Token::recognise(&token), "{token} is a token");
    Ok(token)
}

#[tokio::test]
async fn a_json_signup_reaches_the_service_as_a_token_and_nothing_else_changes() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let answer = stack.browser("/signup", "application/json", JSON).await?;
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.json()?["welcome"], true);
    let requests = stack.signup.requests();
    let received = last(&requests)?;
    let token = token_in(&received.body)?;
    let expected = JSON.replace("4111 1111 1111 1111", &token).replace(r#""cvc":"123""#, r#""cvc":"held""#);
    assert_eq!(String::from_utf8_lossy(&received.body), expected);
    assert_eq!(received.line, "POST /signup");
    assert_eq!(search::find(cards::VISA, &stack.signup.bytes()), None);
    Ok(())
}

#[tokio::test]
async fn a_form_signup_reaches_the_service_as_the_same_token() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    stack.browser("/signup", "application/json", JSON).await?;
    let first = token_in(&last(&stack.signup.requests())?.body)?;
    let form = "email=ada%40example.test&card_number=4111+1111+1111+1111&expiry=12%2F30&cvc=123&x=a+b%20c";
    let answer = stack.browser("/signup", "application/x-www-form-urlencoded", form).await?;
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    let requests = stack.signup.requests();
    let body = String::from_utf8(last(&requests)?.body.clone())?;
    let expected = form.replace("4111+1111+1111+1111", &first).replace("cvc=123", "cvc=held");
    assert_eq!(body, expected, "one card has one token, whatever it came in");
    Ok(())
}

#[tokio::test]
async fn the_token_charged_through_egress_reaches_the_processor_as_the_card() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    stack.browser("/signup", "application/json", JSON).await?;
    let token = token_in(&last(&stack.signup.requests())?.body)?;
    let body = serde_json::json!({"amount": 1599, "card": {"number": token, "cvc": "held", "expiry": "x"}});
    let answer = stack.charge("signup", "/v1/charges", &body).await?;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.json()?["status"], "approved");
    let requests = stack.processor.requests();
    let got: serde_json::Value = serde_json::from_slice(&last(&requests)?.body)?;
    assert_eq!(got["card"]["number"], cards::VISA);
    assert_eq!(got["card"]["cvc"], "123");
    assert_eq!(got["card"]["expiry"], "12/30");
    assert_eq!(got["amount"], 1599);
    let host =
        last(&requests)?.headers.iter().find(|header| header.starts_with("host:")).context("a host")?;
    assert_eq!(host, "host: processor.cordon.test");
    // The security code is given out once (PCI DSS 3.3.1): the same charge again has none and is not sent.
    let before = stack.processor.bytes().len();
    let again = stack.charge("signup", "/v1/charges", &body).await?;
    assert_eq!((again.status.as_u16(), again.problem()?.as_str()), (410, "code-gone"));
    assert_eq!(stack.processor.bytes().len(), before);
    Ok(())
}

#[tokio::test]
async fn curl_posts_a_card_as_json_and_as_a_form() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let port = stack.gateway_address("ingress")?.port();
    let root = stack.authority.root();
    for (content, body) in [
        ("application/json", JSON.to_owned()),
        (
            "application/x-www-form-urlencoded",
            format!("card_number={}&cvc=999&expiry=12/30", cards::MASTERCARD),
        ),
    ] {
        let (url, root) = (format!("https://gateway.cordon.test:{port}/signup"), root.clone());
        let output = tokio::task::spawn_blocking(move || {
            Command::new("curl")
                .args(["--silent", "--show-error", "--max-time", "20", "--noproxy", "*"])
                .arg("--cacert")
                .arg(root)
                .args(["--connect-to", &format!("gateway.cordon.test:{port}:127.0.0.1:{port}")])
                .args(["-H", "host: signup.cordon.test", "-H", &format!("content-type: {content}")])
                .args(["--data-binary", &body, "--write-out", "%{http_code}", &url])
                .output()
        })
        .await??;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.ends_with("201"), "{text} {}", String::from_utf8_lossy(&output.stderr));
        token_in(&last(&stack.signup.requests())?.body)?;
    }
    for pan in [cards::VISA, cards::MASTERCARD] {
        assert_eq!(search::find(pan, &stack.signup.bytes()), None);
    }
    Ok(())
}

/// Eight callers, each over its own connection, tokenize one new card at the same time: 1,000 rounds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_parallel_first_tokenizations_of_one_card_give_one_token() -> Result<()> {
    let stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let collection = cordon_tests::stack::cards()?;
    let clients: Vec<_> = (0..8).map(|_| stack.tokenizer("gateway-ingress")).collect::<Result<Vec<_>>>()?;
    let mut all = BTreeSet::new();
    for round in 0..1_000 {
        let mut calls = tokio::task::JoinSet::new();
        for client in &clients {
            let (client, collection) = (client.clone(), collection.clone());
            calls.spawn(async move {
                let answer = client.tokenize(&collection, &cards::only(cards::bulk(round)?)).await?;
                done(answer.items.into_iter().next().context("one item")?)
            });
        }
        let mut tokens = BTreeSet::new();
        let mut ids = BTreeSet::new();
        while let Some(result) = calls.join_next().await {
            let tokenized = result??;
            tokens.insert(tokenized.token.to_string());
            ids.insert(tokenized.card_id.to_string());
        }
        assert_eq!((tokens.len(), ids.len()), (1, 1), "round {round}");
        all.extend(tokens);
    }
    assert_eq!(all.len(), 1_000, "another card, another token");
    Ok(())
}
