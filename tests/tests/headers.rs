//! Headers that belong to one connection, or that only the gateway may set, in both directions.

use anyhow::{Context, Result};
use cordon_tests::raw::Raw;
use cordon_tests::stack::{Options, Stack};
use cordon_tests::stub::{Received, Respond, json};
use cordon_tests::{cards, https};
use http::{HeaderName, HeaderValue};
use std::collections::BTreeMap;
use std::sync::Arc;

const BODY: &str = r#"{"card":{"number":"4111111111111111","expiry":"12/30","cvc":"123"}}"#;

/// A request's headers by name, with all their values.
fn by_name(received: &Received) -> BTreeMap<&str, Vec<&str>> {
    let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in received.headers.iter().filter_map(|line| line.split_once(": ")) {
        all.entry(name).or_default().push(value);
    }
    all
}

async fn signup(stack: &Stack, lines: &str) -> Result<(String, Received)> {
    let tls = https::tls(&stack.authority.root(), None)?;
    let mut raw = Raw::connect(stack.gateway_address("ingress")?, &tls, b"http/1.1").await?;
    let head = format!(
        "POST /signup HTTP/1.1\r\nHost: signup.cordon.test\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n{lines}\r\n",
        BODY.len()
    );
    raw.write((head + BODY).as_bytes()).await?;
    let text = String::from_utf8(raw.rest().await?)?;
    assert!(text.starts_with("HTTP/1.1 201"), "{text}");
    Ok((text, stack.signup.requests().pop().context("a request")?))
}

#[tokio::test]
async fn a_call_to_the_vault_is_recorded_there_under_the_id_of_the_request_it_is_made_for() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let token = stack.token_of(cards::VISA).await?;
    let signup = stack.signup.requests().pop().context("a request")?;
    let id = by_name(&signup)["cordon-request-id"][0].to_owned();
    let body = serde_json::json!({"card": {"number": token}});
    let answer = stack.charge("signup", "/v1/charges", &body).await?;
    let charge = answer.headers.get("cordon-request-id").context("an id")?.to_str()?.to_owned();
    let audit = stack.audit("vault");
    for (what, id) in [("tokenize", id), ("detokenize", charge)] {
        let lines = audit.lines().filter(|line| line.contains(&format!("\"what\":\"{what}\"")));
        let named: Vec<_> = lines.filter(|line| line.contains(&format!("\"request\":\"{id}\""))).collect();
        assert_eq!(named.len(), 1, "{what} for {id}: {audit}");
    }
    Ok(())
}

#[tokio::test]
async fn what_the_gateway_says_can_be_neither_forged_nor_taken_away() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let ours =
        ["cordon-request-id", "traceparent", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
    // Nominated as belonging to this connection, so that a careless proxy drops what it has just added.
    let nominated = format!("Connection: close, {}, host, content-length, content-type\r\n", ours.join(", "));
    let forged = "Cordon-Request-Id: req_FORGED\r\nX-Forwarded-For: 10.9.9.9\r\nX-Forwarded-For: 10.8.8.8\r\n\
                  X-Forwarded-Host: forged.test\r\nX-Forwarded-Proto: http\r\nForwarded: for=10.9.9.9\r\n\
                  X-Real-IP: 10.9.9.9\r\nTrue-Client-IP: 10.9.9.9\r\nX-Forwarded-Client-Cert: forged\r\n\
                  X_Forwarded_For: 10.9.9.9\r\nCordon_Request_Id: req_FORGED\r\nX.Forwarded.For: 10.9.9.9\r\n\
                  Client-Cert: :forged:\r\nProxy: http://10.9.9.9\r\nProxy-Anything: forged\r\n\
                  Proxy-Authorization: Basic forged\r\nX-Original-URL: /forged\r\n\
                  X-HTTP-Method-Override: FORGED\r\n";
    for lines in [forged.to_owned() + "Connection: close\r\n", nominated.clone(), nominated + forged] {
        let (answer, received) = signup(&stack, &lines).await?;
        let got = by_name(&received);
        for name in ours {
            assert_eq!(got.get(name).map(Vec::len), Some(1), "{name}: {got:?}");
        }
        assert_eq!(got["x-forwarded-for"], ["127.0.0.1"]);
        assert_eq!(got["x-forwarded-host"], ["signup.cordon.test"]);
        assert_eq!(got["x-forwarded-proto"], ["https"]);
        assert_eq!(got["content-type"], ["application/json"]);
        let id = got["cordon-request-id"][0];
        assert!(
            answer.to_ascii_lowercase().contains(&format!("cordon-request-id: {}", id.to_ascii_lowercase()))
        );
        let all = received.headers.join("\n").to_lowercase();
        for trace in ["forged", "10.9.9.9", "10.8.8.8"] {
            assert!(!all.contains(trace), "{trace}: {all}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_belongs_to_a_connection_stays_on_it() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let lines = "Connection: close, X-Nominated\r\nconnection:  X-Also ,,\r\nX-Nominated: 1\r\nX-Also: 1\r\n\
                 Keep-Alive: timeout=9\r\nTE: trailers\r\nTrailer: X-Late\r\nProxy-Connection: close\r\nX-Tenant: kept\r\n";
    let (_, received) = signup(&stack, lines).await?;
    let got = by_name(&received);
    for name in
        ["connection", "x-nominated", "x-also", "keep-alive", "te", "trailer", "proxy-connection", "expect"]
    {
        assert!(!got.contains_key(name), "{name}: {got:?}");
    }
    assert_eq!(got["x-tenant"], ["kept"], "a header that nobody nominates passes");
    Ok(())
}

#[tokio::test]
async fn an_answer_can_not_speak_for_the_gateway_either() -> Result<()> {
    let respond: Arc<Respond> = Arc::new(|_: &Received| {
        let mut response = json(201, &serde_json::json!({"welcome": true}));
        for (name, value) in [
            ("cordon-request-id", "req_FORGED"),
            ("connection", "x-nominated"),
            ("x-nominated", "forged"),
            ("keep-alive", "timeout=9"),
            ("proxy-authenticate", "Basic realm=forged"),
            ("alt-svc", "h3=\"forged.test:443\""),
            ("upgrade", "h2c"),
            ("x-kept", "kept"),
        ] {
            response.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        response
    });
    let stack = Stack::start(Options { signup: respond, ..Options::default() }).await?;
    let answer = stack.browser("/signup", "application/json", BODY).await?;
    assert_eq!(answer.status, 201);
    let all = format!("{:?}", answer.headers).to_lowercase();
    assert!(all.contains("kept") && !all.contains("forged") && !all.contains("h2c"), "{all}");
    assert_eq!(answer.headers.get_all("cordon-request-id").iter().count(), 1);
    Ok(())
}

#[tokio::test]
async fn a_destination_gets_five_headers_of_the_caller_and_no_trick_adds_one() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let body = serde_json::json!({"card": {"number": stack.token_of(cards::VISA).await?}}).to_string();
    let tls = https::tls(&stack.authority.root(), Some(&stack.identity("signup")))?;
    let mut raw = Raw::connect(stack.gateway_address("egress")?, &tls, b"http/1.1").await?;
    let head = format!(
        "POST /v1/charges HTTP/1.1\r\nHost: gateway.cordon.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close, host, content-type, accept-encoding\r\nAuthorization: Bearer k\r\nAccept: */*\r\n\
         User-Agent: shop\r\nCookie: a=b\r\nX-Forwarded-For: 10.9.9.9\r\nX_Authorization: x\r\n\
         Accept-Encoding: gzip\r\nReferer: https://shop.test/\r\nContent_Type: text/plain\r\nOrigin: x\r\n\r\n",
        body.len()
    );
    raw.write((head + &body).as_bytes()).await?;
    let text = String::from_utf8(raw.rest().await?)?;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let received = stack.processor.requests().pop().context("a charge")?;
    let got = by_name(&received);
    let names: Vec<_> = got.keys().copied().collect();
    assert_eq!(
        names,
        [
            "accept",
            "accept-encoding",
            "authorization",
            "content-length",
            "content-type",
            "host",
            "user-agent"
        ]
    );
    assert_eq!((got["host"][0], got["accept-encoding"][0]), ("processor.cordon.test", "identity"));
    assert!(String::from_utf8_lossy(&received.body).contains(cards::VISA), "the control: the card was sent");
    // Two hosts are two readings, though neither says where the request goes.
    for hosts in ["Host: a.test\r\nHost: b.test\r\n", ""] {
        let mut raw = Raw::connect(stack.gateway_address("egress")?, &tls, b"http/1.1").await?;
        raw.write(format!("POST /v1/charges HTTP/1.1\r\n{hosts}Content-Length: 2\r\n\r\n{{}}").as_bytes())
            .await?;
        let text = String::from_utf8(raw.rest().await?)?;
        assert!(text.starts_with("HTTP/1.1 400"), "{text}");
    }
    assert_eq!(stack.processor.requests().len(), 1);
    Ok(())
}
