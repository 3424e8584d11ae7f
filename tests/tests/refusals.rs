//! Everything that must be refused: a clear problem, nothing forwarded, an audit line.

#![expect(clippy::string_slice, reason = "an end-to-end test: a panic is a failed assertion")]

use anyhow::Result;
use bytes::Bytes;
use cordon_tests::cards;
use cordon_tests::https::Answer;
use cordon_tests::stack::{Options, Stack};
use http::Request;
use http_body_util::Full;

const JSON: &str = "application/json";

fn card(extra: &str) -> String {
    format!(r#"{{"card":{{"number":"{}","expiry":"12/30","cvc":"123"}}{extra}}}"#, cards::VISA)
}

/// Sends `request` to the public side and checks the three parts of a refusal.
async fn refused(
    stack: &Stack,
    name: &str,
    request: Request<Full<Bytes>>,
    status: u16,
    code: &str,
) -> Result<Answer> {
    let lines = stack.audit("gateway").lines().count();
    let bytes = stack.signup.bytes().len();
    let answer = stack.browser_request(request).await?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status.as_u16(), status, "{name}: {text}");
    assert_eq!(answer.problem()?, code, "{name}: {text}");
    assert!(!text.contains("4111"), "{name}: no digit of the request comes back: {text}");
    assert_eq!(stack.signup.bytes().len(), bytes, "{name}: not a byte was forwarded");
    let audit = stack.audit("gateway");
    let fresh: Vec<_> = audit.lines().skip(lines).collect();
    assert!(
        fresh.iter().any(|line| line.contains(r#""outcome":"denied""#) && line.contains(code)),
        "{name}: {fresh:?}"
    );
    Ok(answer)
}

fn post(content: &str, body: impl Into<Bytes>) -> Result<Request<Full<Bytes>>> {
    Ok(Request::post("/signup")
        .header("host", "signup.cordon.test")
        .header("content-type", content)
        .body(Full::new(body.into()))?)
}

#[tokio::test]
async fn an_undeclared_route_method_or_host_is_refused() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    for (name, path, host, method, status, code) in [
        ("path", "/other", "signup.cordon.test", "POST", 404, "unknown-route"),
        ("host", "/signup", "elsewhere.test", "POST", 404, "unknown-route"),
        ("dots", "/x/../signup", "signup.cordon.test", "POST", 404, "unknown-route"),
        ("encoded slash", "/signup%2f..%2fadmin", "signup.cordon.test", "POST", 404, "unknown-route"),
        ("method", "/signup", "signup.cordon.test", "DELETE", 405, "method-not-allowed"),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", host)
            .header("content-type", JSON)
            .body(Full::new(Bytes::from(card(""))))?;
        refused(&stack, name, request, status, code).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_body_that_can_not_be_read_is_refused() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let utf16: Vec<u8> = card("").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let duplicate = format!(r#"{{"card":{{"number":"{0}"}},"card":{{"number":"{0}"}}}}"#, cards::VISA);
    let cases: Vec<(&str, &str, Vec<u8>, u16, &str)> = vec![
        ("cut off", JSON, card("")[..40].into(), 400, "malformed"),
        ("trailing data", JSON, (card("") + " {}").into(), 400, "malformed"),
        ("not utf-8", JSON, [card("").as_bytes(), &[0xff, 0xfe]].concat(), 400, "malformed"),
        ("utf-16 as json", JSON, utf16.clone(), 400, "malformed"),
        ("duplicate keys", JSON, duplicate.into(), 400, "malformed"),
        ("too deep", JSON, deep.into(), 400, "malformed"),
        ("utf-16 declared", "application/json; charset=utf-16", utf16, 415, "unsupported"),
        ("plain text", "text/plain", card("").into(), 415, "unsupported"),
        ("protobuf", "application/x-protobuf", vec![8, 1], 415, "unsupported"),
        (
            "object for a number",
            JSON,
            br#"{"card":{"number":{"a":1},"cvc":"123"}}"#.to_vec(),
            422,
            "bad-field",
        ),
        ("cvc without card", JSON, br#"{"card":{"cvc":"123"}}"#.to_vec(), 422, "bad-field"),
    ];
    for (name, content, body, status, code) in cases {
        refused(&stack, name, post(content, body)?, status, code).await?;
    }
    let bad = br#"{"card":{"number":"4111111111111112"}}"#.to_vec();
    refused(&stack, "wrong check digit", post(JSON, bad)?, 422, "bad-pan").await?;
    let gzip = Request::post("/signup")
        .header("host", "signup.cordon.test")
        .header("content-type", JSON)
        .header("content-encoding", "gzip")
        .body(Full::new(Bytes::from_static(&[0x1f, 0x8b, 8, 0])))?;
    refused(&stack, "cut off gzip", gzip, 400, "malformed").await?;
    let none = Request::post("/signup")
        .header("host", "signup.cordon.test")
        .body(Full::new(Bytes::from(card(""))))?;
    refused(&stack, "no content type", none, 415, "unsupported").await?;
    Ok(())
}

#[tokio::test]
async fn a_body_of_ten_mebibytes_is_refused() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let filler = format!(r#","filler":"{}""#, "x".repeat(10 * 1024 * 1024));
    refused(&stack, "10 MiB", post(JSON, card(&filler))?, 413, "too-large").await?;
    Ok(())
}

#[tokio::test]
async fn a_card_number_in_an_undeclared_place_is_refused() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let escaped: String = cards::VISA.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    let wide: String =
        cards::VISA.bytes().filter_map(|byte| char::from_u32(u32::from(byte) - 0x30 + 0xff10)).collect();
    let places = [
        ("another field", format!(r#","note":"{}""#, cards::AMEX)),
        ("a key", format!(r#","{}":1"#, cards::AMEX)),
        ("a number", format!(r#","n":{}"#, cards::AMEX)),
        ("an exponent", r#","n":4.111111111111111e15"#.to_owned()),
        ("escaped", format!(r#","n":"{escaped}""#)),
        ("full-width digits", format!(r#","n":"{wide}""#)),
        ("grouped in a text", r#","n":"my card is 4111-1111-1111-1111 ok?""#.to_owned()),
        ("in an array", format!(r#","n":["a",["{}"]]"#, cards::MASTERCARD)),
        ("json in a string", format!(r#","n":"{{\"pan\":\"{}\"}}""#, cards::MASTERCARD)),
    ];
    for (name, extra) in places {
        refused(&stack, name, post(JSON, card(&extra))?, 422, "leak-blocked").await?;
    }
    let form = format!("card_number={}&note=x%20{}", cards::VISA, cards::MASTERCARD);
    refused(&stack, "form", post("application/x-www-form-urlencoded", form)?, 422, "leak-blocked").await?;
    for (name, path, header) in [
        ("query", format!("/signup?ref={}", cards::VISA), "1".to_owned()),
        ("header", "/signup".to_owned(), cards::VISA.to_owned()),
    ] {
        let request = Request::post(path)
            .header("host", "signup.cordon.test")
            .header("content-type", JSON)
            .header("x-note", header)
            .body(Full::new(Bytes::from(card(""))))?;
        refused(&stack, name, request, 422, "leak-blocked").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_sealed_or_missing_vault_means_503_and_not_a_byte_of_card_data() -> Result<()> {
    let mut stack = Stack::start(Options::default()).await?;
    stack.administrator()?.seal().await?;
    refused(&stack, "sealed", post(JSON, card(""))?, 503, "vault-unavailable").await?;
    let token = cordon_card::Token::opaque(cordon_card::Environment::Dev, &[7; 17]).to_string();
    let body = serde_json::json!({"card": {"number": token}});
    let answer = stack.charge("signup", "/v1/charges", &body).await?;
    assert_eq!((answer.status.as_u16(), answer.problem()?.as_str()), (503, "vault-unavailable"));
    stack.vault.kill()?;
    refused(&stack, "down", post(JSON, card(""))?, 503, "vault-unavailable").await?;
    assert!(stack.processor.bytes().is_empty());
    Ok(())
}

#[tokio::test]
async fn egress_refuses_what_the_policy_does_not_list() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let answer = stack.browser("/signup", JSON, card("")).await?;
    assert_eq!(answer.status, 201);
    let received: serde_json::Value = serde_json::from_slice(&stack.signup.requests()[0].body)?;
    let token = received["card"]["number"].as_str().unwrap_or_default().to_owned();
    let unknown = cordon_card::Token::opaque(cordon_card::Environment::Dev, &[9; 17]).to_string();
    let live = cordon_card::Token::opaque(cordon_card::Environment::Live, &[9; 17]).to_string();
    let cases = [
        ("unlisted destination", "signup", "/v1/elsewhere", token.clone(), 403, "destination-not-allowed"),
        ("another service", "billing", "/v1/charges", token.clone(), 403, "denied"),
        ("unknown route", "signup", "/v1/refunds", token.clone(), 404, "unknown-route"),
        ("unknown token", "signup", "/v1/charges", unknown, 404, "token-not-found"),
        ("token of another environment", "signup", "/v1/charges", live, 422, "bad-token"),
        ("no token", "signup", "/v1/charges", "hello".to_owned(), 422, "bad-token"),
        ("a card instead of a token", "signup", "/v1/charges", cards::VISA.to_owned(), 422, "bad-token"),
    ];
    for (name, service, path, token, status, code) in cases {
        let lines = stack.audit("gateway").lines().count();
        let answer = stack.charge(service, path, &serde_json::json!({"card": {"number": token}})).await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status.as_u16(), status, "{name}: {text}");
        assert_eq!(answer.problem()?, code, "{name}: {text}");
        let audit = stack.audit("gateway");
        let fresh: Vec<_> = audit.lines().skip(lines).collect();
        let told = |line: &&str| line.contains(r#""outcome":"denied""#) && line.contains(code);
        assert!(fresh.iter().any(told), "{name}: {fresh:?}");
    }
    assert!(stack.processor.bytes().is_empty(), "the processor saw nothing");
    Ok(())
}

#[tokio::test]
async fn a_wrong_client_certificate_gets_nothing_at_egress_and_is_recorded() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let charge = serde_json::json!({"card": {"number": "tok"}});
    stack.authority.client("stranger")?;
    let answer = stack.charge("stranger", "/v1/charges", &charge).await?;
    assert_eq!((answer.status.as_u16(), answer.problem()?.as_str()), (401, "unauthenticated"));
    assert!(stack.audit("gateway").contains("unauthenticated"));
    let foreign = cordon_tests::pki::Authority::new(stack.dir(), "foreign")?.client("signup")?;
    for (identity, reason) in [(Some(&foreign), "bad-certificate"), (None, "no-certificate")] {
        let tls = cordon_tests::https::tls(&stack.authority.root(), identity)?;
        let request = Request::post("/v1/charges").body(Full::new(Bytes::from(charge.to_string())))?;
        let address = stack.gateway_address("egress")?;
        // TLS ends before there is HTTP to answer with; the refusal stands in the audit log.
        assert!(cordon_tests::https::send(address, "gateway.cordon.test", &tls, request).await.is_err());
        stack.until(reason, || stack.audit("gateway").contains(reason)).await?;
    }
    assert!(stack.processor.bytes().is_empty());
    Ok(())
}
