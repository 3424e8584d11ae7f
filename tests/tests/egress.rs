//! What a processor may do to us, and what a caller may not get: echoes, redirects, wrong certificates.

#![expect(clippy::indexing_slicing, reason = "an end-to-end test: a panic is a failed assertion")]

use anyhow::{Context, Result};
use bytes::Bytes;
use cordon_tests::cards;
use cordon_tests::search;
use cordon_tests::stack::{Options, Stack};
use cordon_tests::stub::{Received, Respond, json};
use http::Response;
use http_body_util::Full;
use std::sync::Arc;

async fn stack_with(processor: Arc<Respond>) -> Result<(Stack, String)> {
    let stack = Stack::start(Options { processor, ..Options::default() }).await?;
    let body = serde_json::json!({"card": {"number": cards::VISA, "expiry": "12/30", "cvc": "123"}});
    stack.browser("/signup", "application/json", body.to_string()).await?;
    let got = stack.signup.requests().pop().context("a signup")?;
    let value: serde_json::Value = serde_json::from_slice(&got.body)?;
    let token = value["card"]["number"].as_str().context("a token")?.to_owned();
    Ok((stack, token))
}

fn charge(token: &str) -> serde_json::Value {
    serde_json::json!({"amount": 5, "card": {"number": token, "expiry": "-", "cvc": "-"}})
}

type Echo = fn(&str) -> Response<Full<Bytes>>;

#[tokio::test]
async fn a_processor_that_echoes_the_card_in_any_form_is_not_passed_on() -> Result<()> {
    let hex = |pan: &str| data_encoding::HEXLOWER.encode(pan.as_bytes());
    let base64 = |pan: &str| data_encoding::BASE64.encode(pan.as_bytes());
    let echoes: Vec<(&str, Arc<Respond>)> = vec![
        ("plain", echo(|pan| json(200, &serde_json::json!({"card": pan})))),
        (
            "grouped",
            echo(|pan| {
                let groups: Vec<_> = pan.as_bytes().chunks(4).map(String::from_utf8_lossy).collect();
                json(200, &serde_json::json!({"card": groups.join(" ")}))
            }),
        ),
        ("hex", Arc::new(move |_: &Received| json(200, &serde_json::json!({"blob": hex(cards::VISA)})))),
        (
            "base64",
            Arc::new(move |_: &Received| json(402, &serde_json::json!({"blob": base64(cards::VISA)}))),
        ),
        ("number", echo(|pan| json(200, &serde_json::json!({"card": pan.parse::<u64>().unwrap_or(0)})))),
        (
            "header",
            echo(|pan| {
                let mut response = json(200, &serde_json::json!({}));
                if let Ok(value) = http::HeaderValue::from_str(pan) {
                    response.headers_mut().insert("x-card", value);
                }
                response
            }),
        ),
        (
            "redirect",
            echo(|pan| {
                let mut response = json(307, &serde_json::json!({}));
                if let Ok(value) = http::HeaderValue::from_str(&format!("https://elsewhere.test/?pan={pan}"))
                {
                    response.headers_mut().insert("location", value);
                }
                response
            }),
        ),
    ];
    for (name, respond) in echoes {
        let (stack, token) = stack_with(respond).await?;
        let answer = stack.charge("signup", "/v1/charges", &charge(&token)).await?;
        assert_eq!(answer.status, 502, "{name}: {}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.problem()?, "upstream-refused", "{name}");
        assert_eq!(search::find(cards::VISA, &answer.body), None, "{name}");
        assert_eq!(search::find(cards::VISA, format!("{:?}", answer.headers).as_bytes()), None, "{name}");
        assert!(stack.audit("gateway").contains("leak"), "{name}: the leak is in the audit log");
    }
    Ok(())
}

fn echo(respond: Echo) -> Arc<Respond> {
    Arc::new(move |_: &Received| respond(cards::VISA))
}

#[tokio::test]
async fn a_redirect_is_answered_as_it_is_and_never_followed() -> Result<()> {
    let respond: Arc<Respond> = Arc::new(|_: &Received| {
        let mut response = json(307, &serde_json::json!({"moved": true}));
        response
            .headers_mut()
            .insert("location", http::HeaderValue::from_static("https://elsewhere.test/v2"));
        response
    });
    let (stack, token) = stack_with(respond).await?;
    let answer = stack.charge("signup", "/v1/charges", &charge(&token)).await?;
    assert_eq!(answer.status, 307);
    assert_eq!(stack.processor.requests().len(), 1, "sent once, not again");
    Ok(())
}

#[tokio::test]
async fn a_processor_with_a_certificate_of_another_authority_gets_no_byte() -> Result<()> {
    let (stack, token) = stack_with(Options::default().processor).await?;
    let other = cordon_tests::pki::Authority::new(stack.dir(), "other")?;
    let segments = std::fs::read_to_string(stack.dir().join("policies/segments.toml"))?;
    let pinned =
        segments.replace(&*stack.authority.root().to_string_lossy(), &other.root().to_string_lossy());
    std::fs::write(stack.dir().join("policies/segments.toml"), pinned)?;
    let mut stack = stack;
    stack.gateway = None;
    stack.start_gateway()?;
    let answer = stack.charge("signup", "/v1/charges", &charge(&token)).await?;
    assert_eq!((answer.status.as_u16(), answer.problem()?.as_str()), (502, "upstream-unavailable"));
    assert!(stack.processor.bytes().is_empty());
    Ok(())
}

#[tokio::test]
async fn the_caller_can_not_choose_the_host_and_its_own_headers_stay_behind() -> Result<()> {
    let (stack, token) = stack_with(Options::default().processor).await?;
    let request = http::Request::post("/v1/charges")
        .header("host", "gateway.cordon.test")
        .header("content-type", "application/json")
        .header("x-forwarded-host", "elsewhere.test")
        .header("connection", "keep-alive, x-secret")
        .header("x-secret", "1")
        .body(Full::new(Bytes::from(charge(&token).to_string())))?;
    let tls = cordon_tests::https::tls(&stack.authority.root(), Some(&stack.identity("signup")))?;
    let address = stack.gateway_address("egress")?;
    let answer = cordon_tests::https::send(address, "gateway.cordon.test", &tls, request).await?;
    assert_eq!(answer.status, 200);
    let received = stack.processor.requests().pop().context("a request")?;
    for name in ["x-forwarded-host", "x-secret"] {
        assert!(!received.headers.iter().any(|header| header.starts_with(name)), "{name}");
    }
    assert!(received.headers.contains(&"host: processor.cordon.test".to_owned()));
    Ok(())
}
