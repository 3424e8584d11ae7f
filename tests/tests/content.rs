//! Every content type, coding, place and operation on the real gateway: what the service and the processor get.

#[path = "shared/codings.rs"]
mod codings;

use anyhow::{Context, Result};
use bytes::Bytes;
use codings::CODINGS;
use cordon_tests::cards::{AMEX, MASTERCARD, VISA};
use cordon_tests::https::{self, Answer};
use cordon_tests::search;
use cordon_tests::stack::{Options, Stack};
use cordon_tests::stub::{Received, json};
use data_encoding::BASE64;
use http::{Request, Response};
use http_body_util::Full;
use std::sync::Arc;

const JSON: &str = "application/json";
const MULTIPART: &str = "multipart/form-data; boundary=XX";

/// A body of each type with one card number, and the type.
fn bodies(pan: &str) -> Vec<(&'static str, String)> {
    let part = |head: &str, text: &str| {
        format!("--XX\r\nContent-Disposition: form-data; name=\"pan\"{head}\r\n\r\n{text}\r\n--XX--\r\n")
    };
    let base64 = "\r\nContent-Transfer-Encoding: base64";
    vec![
        (JSON, format!("{{ \"a\": [ {{ \"pan\":\t\"{pan}\" }} ] }}")),
        ("application/graphql-response+json", format!("{{\"variables\":{{\"pan\":\"{pan}\"}}}}")),
        ("application/x-ndjson", format!("{{\"x\":1}}\n{{\"pan\":\"{pan}\"}}\n")),
        ("application/x-www-form-urlencoded", format!("a=%41&pan={pan}&z")),
        (MULTIPART, part("", pan)),
        (MULTIPART, part(base64, &BASE64.encode(pan.as_bytes()))),
        ("text/xml", format!("<?xml version=\"1.0\"?>\n<o><x:pan xmlns:x='u'>{pan}</x:pan></o>")),
        ("text/csv", format!("id,pan\r\n1,{pan}\r\n")),
        ("text/plain; charset=utf-8", format!("Hello\nPAN: {pan}\nBye")),
    ]
}

fn request(
    method: &str,
    path: &str,
    lines: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Request<Full<Bytes>>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "signup.cordon.test");
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    Ok(request.body(Full::new(body.into()))?)
}

/// What the service got last.
fn received(stack: &Stack) -> Result<Received> {
    stack.signup.requests().pop().context("a request at the service")
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// The only token in a text.
fn token(text: &str) -> Result<String> {
    let at = text.find("tok_").with_context(|| format!("a token in {text}"))?;
    Ok(text
        .get(at..)
        .unwrap_or_default()
        .chars()
        .take_while(|it| it.is_ascii_alphanumeric() || *it == '_')
        .collect())
}

#[tokio::test]
async fn every_type_is_rewritten_in_place_under_every_coding() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    for (kind, body) in bodies(VISA) {
        for (coding, code) in CODINGS {
            let mut lines = vec![("content-type", kind)];
            if !coding.is_empty() {
                lines.push(("content-encoding", coding));
            }
            let answer =
                stack.browser_request(request("POST", "/content", &lines, code(body.as_bytes()))?).await?;
            assert_eq!(answer.status, 201, "{kind} {coding}: {}", text(&answer));
            let got = received(&stack)?;
            let forwarded = String::from_utf8(got.body.clone())?;
            let tok = if body.contains(VISA) {
                let tok = token(&forwarded)?;
                assert_eq!(forwarded, body.replace(VISA, &tok), "{kind} {coding}");
                tok
            } else {
                let coded = forwarded.split("\r\n").nth(4).context("a part")?;
                assert_eq!(
                    forwarded,
                    body.replace(&BASE64.encode(VISA.as_bytes()), coded),
                    "{kind} {coding}"
                );
                token(&String::from_utf8(BASE64.decode(coded.as_bytes())?)?)?
            };
            assert_eq!(tok.len(), token(&tok)?.len());
            assert!(
                !got.headers.iter().any(|line| line.starts_with("content-encoding")),
                "forwarded as identity"
            );
            let length = format!("content-length: {}", forwarded.len());
            assert!(got.headers.contains(&length), "{kind} {coding}: {:?}", got.headers);
            assert_eq!(search::find(VISA, &stack.signup.bytes()), None, "{kind} {coding}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn codes_are_held_in_every_type() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let part = |name: &str, text: &str| {
        format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
    };
    for (kind, body) in [
        (JSON, format!("{{\"pan\":{VISA},\"cvc\":987}}")),
        (
            "application/x-ndjson",
            format!("{{\"pan\":\"{VISA}\",\"cvc\":\"987\"}}\n{{\"pan\":\"{AMEX}\",\"cvc\":\"9876\"}}"),
        ),
        (MULTIPART, format!("{}{}--XX--", part("pan", VISA), part("cvc", "987"))),
        ("application/xml", format!("<card cvc=\"987\"><pan><![CDATA[{VISA}]]></pan></card>")),
        ("text/csv", format!("cvc,pan\n987,\"4111 1111 1111 1111\"\n9876,{AMEX}\n")),
        ("text/plain", format!("CVC: 987\nPAN: {VISA}")),
    ] {
        let answer = stack.browser("/content", kind, body.clone()).await?;
        assert_eq!(answer.status, 201, "{kind}: {}", text(&answer));
        let got = String::from_utf8(received(&stack)?.body)?;
        assert!(got.contains("held") && got.contains("tok_") && !got.contains("987"), "{kind}: {got}");
    }
    Ok(())
}

#[tokio::test]
async fn several_fields_of_one_body_are_one_call_to_the_vault() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let before = stack.audit("vault").matches(r#""what":"tokenize""#).count();
    let target = format!("/head/{VISA}/x?card+no=5555+5555+5555+4444");
    let lines = [("content-type", JSON), ("x-card", AMEX), ("cookie", "a=1; card=4111111111111111")];
    let answer =
        stack.browser_request(request("POST", &target, &lines, format!("{{\"pan\":\"{VISA}\"}}"))?).await?;
    assert_eq!(answer.status, 201, "{}", text(&answer));
    let lines = stack.audit("vault").matches(r#""what":"tokenize""#).count();
    assert_eq!(lines - before, 1, "one line of the vault for five fields");
    let got = received(&stack)?;
    let visa = token(&String::from_utf8(got.body)?)?;
    assert!(got.line.starts_with(&format!("POST /head/{visa}/x?card+no=tok_")), "{}", got.line);
    assert!(got.headers.contains(&format!("cookie: a=1; card={visa}")), "{:?}", got.headers);
    assert!(got.headers.iter().any(|line| line.starts_with("x-card: tok_")), "{:?}", got.headers);
    for pan in [VISA, MASTERCARD, AMEX] {
        assert_eq!(search::find(pan, &stack.signup.bytes()), None);
    }
    Ok(())
}

#[tokio::test]
async fn fields_are_masked_and_dropped_in_head_and_body() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let target = format!("/head/x?echo=%34111111111111111&b={}", "1");
    let lines = [
        ("content-type", JSON),
        ("x-echo", "4111 1111 1111 1111"),
        ("x-gone", "secret"),
        ("cookie", "gone=secret; a=1"),
    ];
    let body = format!("{{\"note\":\"card {VISA}, call\",\"gone\":\"secret\",\"a\":1}}");
    let answer = stack.browser_request(request("POST", &target, &lines, body)?).await?;
    assert_eq!(answer.status, 201, "{}", text(&answer));
    let got = received(&stack)?;
    assert_eq!(got.line, "POST /head/x?echo=************1111&b=1");
    assert_eq!(String::from_utf8(got.body)?, r#"{"note":"card ************1111, call","gone":null,"a":1}"#);
    assert!(got.headers.contains(&"x-echo: 411111******1111".to_owned()), "{:?}", got.headers);
    assert!(got.headers.contains(&"cookie: gone=; a=1".to_owned()), "{:?}", got.headers);
    assert!(!String::from_utf8_lossy(&stack.signup.bytes()).contains("secret"));
    Ok(())
}

#[tokio::test]
async fn a_code_in_a_header_is_held_with_the_card_in_a_header() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let answer =
        stack.browser_request(request("GET", "/code", &[("x-card", VISA), ("x-code", "987")], "")?).await?;
    assert_eq!(answer.status, 201, "{}", text(&answer));
    let headers = received(&stack)?.headers;
    assert!(headers.contains(&"x-code: held".to_owned()), "{headers:?}");
    let alone = stack.browser_request(request("GET", "/code", &[("x-code", "987")], "")?).await?;
    assert_eq!((alone.status.as_u16(), alone.problem()?.as_str()), (422, "bad-field"));
    Ok(())
}

#[tokio::test]
async fn what_looks_encoded_is_denied_reported_or_not_looked_at() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let body = format!("{{\"blob\":\"{}\"}}", BASE64.encode(format!("pan={VISA}").as_bytes()));
    let denied = stack.browser("/content", JSON, body.clone()).await?;
    assert_eq!((denied.status.as_u16(), denied.problem()?.as_str()), (422, "leak-blocked"));
    assert!(stack.signup.bytes().is_empty());
    assert!(stack.audit("gateway").contains("leak-blocked.inside"));
    let reported = stack.browser("/report", JSON, body.clone()).await?;
    assert_eq!(reported.status, 201, "{}", text(&reported));
    let audit = stack.audit("gateway");
    let line = audit.lines().find(|line| line.contains("reported.inside")).context("an alarm")?;
    assert!(line.contains(r#""what":"leak-found""#) && line.contains(r#""outcome":"allowed""#), "{line}");
    assert_eq!(search::find(VISA, audit.as_bytes()), None);
    let before = audit.matches("reported").count();
    let ignored = stack.browser("/off", JSON, body).await?;
    assert_eq!((ignored.status.as_u16(), stack.audit("gateway").matches("reported").count()), (201, before));
    let open = stack.browser("/report", JSON, format!("{{\"blob\":\"{VISA}\"}}")).await?;
    assert_eq!(open.status, 422, "what stands open is never only reported");
    Ok(())
}

#[tokio::test]
async fn numbers_elsewhere_are_masked_in_every_type_or_refused() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let part = |name: &str, text: &str| {
        format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
    };
    for (kind, body) in [
        (JSON, format!("{{\"n\":\"x {VISA} y\"}}")),
        ("application/x-ndjson", format!("{{}}\n{{\"n\":\"x {VISA} y\"}}")),
        ("application/x-www-form-urlencoded", "n=x+4111+1111+1111+1111+y".to_owned()),
        (MULTIPART, format!("{}--XX--", part("n", &format!("x {VISA} y")))),
        ("text/xml", format!("<a b='x {VISA} y'/>")),
        ("text/csv", format!("n\nx {VISA} y\n")),
        ("text/plain", format!("x {VISA} y")),
    ] {
        let answer = stack.browser("/masking", kind, body).await?;
        assert_eq!(answer.status, 201, "{kind}: {}", text(&answer));
        let got = String::from_utf8(received(&stack)?.body)?;
        assert!(got.contains("************1111"), "{kind}: {got}");
    }
    let seen = stack.signup.bytes().len();
    for (kind, body) in [
        ("text/xml", format!("<a><!-- {VISA} --></a>")),
        ("text/csv", format!("{VISA}\n1\n")),
        (MULTIPART, format!("{}--XX--", part(VISA, "x"))),
        (JSON, "{\"n\":\"%34111111111111111\"}".to_owned()),
    ] {
        let answer = stack.browser("/masking", kind, body).await?;
        assert_eq!(answer.status, 422, "{kind}: {}", text(&answer));
    }
    assert_eq!(stack.signup.bytes().len(), seen);
    assert_eq!(search::find(VISA, &stack.signup.bytes()), None);
    Ok(())
}

#[tokio::test]
async fn fixed_columns_take_what_fits() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let line = format!("D0001{VISA:<40}END\r\nT1\r\n");
    let answer = stack.browser("/fixed", "text/plain", line.clone()).await?;
    assert_eq!(answer.status, 201, "{}", text(&answer));
    let got = String::from_utf8(received(&stack)?.body)?;
    let tok = token(&got)?;
    assert_eq!(got, line.replace(&format!("{VISA:<40}"), &format!("{tok:<40}")));
    let answer = stack.browser("/fixed", "text/plain", "D0001\u{e9}").await?;
    assert_eq!(answer.status, 400);
    Ok(())
}

#[tokio::test]
async fn answers_to_a_client_are_masked_dropped_and_decoded() -> Result<()> {
    for (coding, code) in CODINGS {
        let answers = move |_: &Received| {
            let body = format!("{{\"card\":\"{VISA}\",\"cvc\":\"987\",\"a\":1}}");
            let mut response = Response::new(Full::new(Bytes::from(code(body.as_bytes()))));
            let headers = response.headers_mut();
            headers.insert("content-type", http::HeaderValue::from_static(JSON));
            headers.insert("x-card", http::HeaderValue::from_static(VISA));
            if !coding.is_empty() {
                headers.insert("content-encoding", http::HeaderValue::from_static(coding));
            }
            response
        };
        let stack = Stack::start(Options { signup: Arc::new(answers), ..Options::default() }).await?;
        let answer = stack.browser_request(request("GET", "/answers", &[], "")?).await?;
        assert_eq!(answer.status, 200, "{coding}: {}", text(&answer));
        assert_eq!(text(&answer), r#"{"card":"************1111","cvc":null,"a":1}"#, "{coding}");
        for name in ["x-card", "content-encoding"] {
            assert!(!answer.headers.contains_key(name), "{coding} {name}");
        }
        let elsewhere = stack.browser("/off", JSON, "{}").await?;
        assert_eq!(
            elsewhere.status, 502,
            "{coding}: a route without these fields lets no such answer through"
        );
    }
    Ok(())
}

/// Sends to the egress side as the service does.
async fn send(stack: &Stack, request: Request<Full<Bytes>>) -> Result<Answer> {
    let tls = https::tls(&stack.authority.root(), Some(&stack.identity("signup")))?;
    https::send(stack.gateway_address("egress")?, "gateway.cordon.test", &tls, request).await
}

/// A token for [`VISA`].
async fn signed_up(stack: &Stack) -> Result<String> {
    let answer = stack.browser("/content", JSON, format!("{{\"pan\":\"{VISA}\"}}")).await?;
    assert_eq!(answer.status, 201, "{}", text(&answer));
    token(&String::from_utf8(received(stack)?.body)?)
}

#[tokio::test]
async fn cards_are_revealed_in_every_type_and_coding() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let tok = signed_up(&stack).await?;
    for ((kind, body), (_, wanted)) in bodies(&tok).into_iter().zip(bodies(VISA)) {
        for (coding, code) in CODINGS {
            let mut lines = vec![("content-type", kind)];
            if !coding.is_empty() {
                lines.push(("content-encoding", coding));
            }
            let answer = send(&stack, request("POST", "/v1/out/x", &lines, code(body.as_bytes()))?).await?;
            assert_eq!(answer.status, 200, "{kind} {coding}: {}", text(&answer));
            let got = stack.processor.requests().pop().context("a charge")?;
            assert_eq!(String::from_utf8(got.body)?, wanted, "{kind} {coding}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn cards_are_revealed_in_headers_query_and_credentials() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let tok = signed_up(&stack).await?;
    let basic = format!("Basic {}", BASE64.encode(format!("{tok}:pass:word").as_bytes()));
    let lines = [("x-card", tok.as_str()), ("authorization", &basic), ("x-other", "1")];
    let answer = send(&stack, request("GET", &format!("/v1/out/y?a=1&pan={tok}"), &lines, "")?).await?;
    assert_eq!(answer.status, 200, "{}", text(&answer));
    let got = stack.processor.requests().pop().context("a charge")?;
    assert_eq!(got.line, format!("GET /v1/out/y?a=1&pan={VISA}"));
    let revealed = format!("authorization: Basic {}", BASE64.encode(format!("{VISA}:pass:word").as_bytes()));
    assert!(
        got.headers.contains(&revealed) && got.headers.contains(&format!("x-card: {VISA}")),
        "{:?}",
        got.headers
    );
    assert!(!got.headers.iter().any(|line| line.starts_with("x-other")), "undeclared headers stay behind");
    let before = stack.processor.bytes().len();
    let card = send(&stack, request("GET", "/v1/out/y", &[("x-card", VISA)], "")?).await?;
    assert_eq!((card.status.as_u16(), card.problem()?.as_str()), (422, "bad-token"));
    assert_eq!(stack.processor.bytes().len(), before);
    Ok(())
}

#[tokio::test]
async fn a_dry_run_shows_every_type_with_words_in_its_fields() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let tok = signed_up(&stack).await?;
    let words = format!("[card number of {tok}]");
    let basic = format!("Basic {}", BASE64.encode(format!("{tok}:pass:word").as_bytes()));
    let shown = async |path: &str, kind: &str, body: String| {
        let lines = [("content-type", kind), ("cordon-dry-run", "true"), ("authorization", &basic)];
        let answer = send(&stack, request("POST", path, &lines, body)?).await?;
        anyhow::ensure!(answer.status == 200, "{kind}: {}", text(&answer));
        Ok(serde_json::from_slice::<serde_json::Value>(&answer.body)?)
    };
    for ((kind, body), (_, wanted)) in bodies(&tok).into_iter().zip(bodies(&words)) {
        let wanted = match kind {
            "application/x-www-form-urlencoded" => {
                wanted.replace('[', "%5B").replace(']', "%5D").replace("d number of ", "d+number+of+")
            }
            _ => wanted,
        };
        let preview = shown("/v1/out/x", kind, body).await?;
        assert_eq!(preview["body"], wanted, "{kind}");
        let credentials =
            serde_json::json!(["authorization", "[as received, with cards in its declared fields]"]);
        assert!(preview["headers"].as_array().is_some_and(|all| all.contains(&credentials)), "{preview}");
    }
    let preview = shown("/v1/columns", "text/plain", format!("D0001{tok:<40}END\r\n")).await?;
    let held: String = words.chars().take(40).collect();
    assert_eq!(preview["body"], format!("D0001{held:<40}END\r\n"), "as much as the columns hold");
    assert!(stack.processor.requests().is_empty(), "nothing is sent");
    Ok(())
}

#[tokio::test]
async fn a_card_in_another_header_is_another_request_under_the_key() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let tok = signed_up(&stack).await?;
    let charge = |header: &'static str| {
        request("GET", "/v1/out/y", &[(header, tok.as_str()), ("idempotency-key", "order-1")], "")
    };
    let first = send(&stack, charge("x-card")?).await?;
    assert_eq!(first.status, 200, "{}", text(&first));
    let before = stack.processor.requests().len();
    let other = send(&stack, charge("x-spare-card")?).await?;
    assert_eq!((other.status.as_u16(), other.problem()?.as_str()), (422, "idempotency-mismatch"));
    let again = send(&stack, charge("x-card")?).await?;
    assert_eq!((again.status.as_u16(), stack.processor.requests().len()), (200, before), "the kept answer");
    Ok(())
}

#[tokio::test]
async fn card_numbers_in_a_processor_s_answer_become_tokens() -> Result<()> {
    let processor = |request: &Received| {
        let mut response = match request.line.as_str() {
            "POST /v1/out/xml" => {
                let mut response = Response::new(Full::new(Bytes::from(format!("<r><pan>{VISA}</pan></r>"))));
                response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/xml"));
                response
            }
            "POST /v1/out/else" => json(200, &serde_json::json!({"other": VISA})),
            _ => json(
                200,
                &serde_json::json!({"pan": VISA, "echo": VISA, "cvc": "987", "new": {"pan": MASTERCARD}}),
            ),
        };
        response.headers_mut().insert("x-card", http::HeaderValue::from_static(VISA));
        response
    };
    let stack = Stack::start(Options { processor: Arc::new(processor), ..Options::default() }).await?;
    let tok = signed_up(&stack).await?;
    let body = format!("{{\"pan\":\"{tok}\"}}");
    let charge = |path: &'static str| request("POST", path, &[("content-type", JSON)], body.clone());
    let answer = send(&stack, charge("/v1/out/json")?).await?;
    assert_eq!(answer.status, 200, "{}", text(&answer));
    let value: serde_json::Value = serde_json::from_slice(&answer.body)?;
    assert_eq!(value["pan"], tok.as_str());
    assert_eq!(value["echo"], "411111******1111");
    assert!(value["cvc"].is_null() && value["new"]["pan"].as_str().is_some_and(|it| it.starts_with("tok_")));
    assert_eq!(answer.headers["x-card"].to_str()?, tok);
    assert!(
        stack
            .audit("gateway")
            .lines()
            .any(|line| line.contains(r#""what":"tokenize""#) && line.contains(&tok))
    );
    let xml = send(&stack, charge("/v1/out/xml")?).await?;
    assert_eq!(text(&xml), format!("<r><pan>{tok}</pan></r>"));
    let elsewhere = send(&stack, charge("/v1/out/else")?).await?;
    assert_eq!((elsewhere.status.as_u16(), elsewhere.problem()?.as_str()), (502, "upstream-refused"));
    stack.administrator()?.seal().await?;
    let sealed = send(&stack, request("POST", "/v1/out/json", &[("content-type", JSON)], "{}")?).await?;
    assert_eq!((sealed.status.as_u16(), sealed.problem()?.as_str()), (503, "vault-unavailable"));
    // The refusal is ours and passes: it is not kept as what the processor said.
    let keyed = [("content-type", JSON), ("idempotency-key", "order-1")];
    for told in [(503, "vault-unavailable"), (409, "outcome-unknown")] {
        let answer = send(&stack, request("POST", "/v1/out/json", &keyed, "{}")?).await?;
        assert_eq!((answer.status.as_u16(), answer.problem()?.as_str()), told);
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_is_a_bomb_is_stopped() -> Result<()> {
    for (coding, code) in CODINGS.into_iter().filter(|(coding, _)| !coding.is_empty()) {
        let bomb = code(&vec![b' '; 64 * 1024 * 1024]);
        let answers = move |_: &Received| {
            let mut response = Response::new(Full::new(Bytes::from(bomb.clone())));
            response.headers_mut().insert("content-encoding", http::HeaderValue::from_static(coding));
            response
        };
        let stack = Stack::start(Options { signup: Arc::new(answers), ..Options::default() }).await?;
        let answer = stack.browser("/off", JSON, "{}").await?;
        assert_eq!(
            (answer.status.as_u16(), answer.problem()?.as_str()),
            (502, "upstream-refused"),
            "{coding}"
        );
    }
    Ok(())
}

/// The most memory that a process ever had, in KiB.
fn peak(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("a peak")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

#[tokio::test]
async fn a_bomb_costs_bounded_memory() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let gateway = stack.gateway.as_ref().context("a gateway")?.id();
    let before = peak(gateway)?;
    for (coding, code) in CODINGS.into_iter().filter(|(coding, _)| !coding.is_empty()) {
        // Twice over, so that 128 MiB fit into what a route takes.
        let bomb = code(&code(&vec![b' '; 128 * 1024 * 1024]));
        let coding = format!("{coding}, {coding}");
        let lines = [("content-type", JSON), ("content-encoding", coding.as_str())];
        let answer = stack.browser_request(request("POST", "/content", &lines, bomb)?).await?;
        let wanted = if coding.matches(',').count() == 1 { 413 } else { 415 };
        assert_eq!(answer.status.as_u16(), wanted, "{coding}: {}", text(&answer));
    }
    let grown = peak(gateway)?.saturating_sub(before);
    assert!(grown < 64 * 1024, "the gateway grew by {grown} KiB");
    assert!(stack.signup.bytes().is_empty());
    Ok(())
}
