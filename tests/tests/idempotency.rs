//! One request under one key reaches the processor once, whatever happens to who asks.

use anyhow::{Context, Result};
use bytes::Bytes;
use cordon_tests::https::{self, Answer};
use cordon_tests::raw::{END_HEADERS, END_STREAM, Frame, RST_STREAM, Raw, http2_preface};
use cordon_tests::stack::{Options, Stack};
use cordon_tests::stub::{Received, Respond, Stub, json};
use cordon_tests::{cards, search};
use http::Request;
use http_body_util::Full;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Numbers its answers, so that a kept one is told from a new one; takes its time.
fn counting(delay: Duration) -> Arc<Respond> {
    let count = AtomicUsize::new(0);
    Arc::new(move |_: &Received| {
        // On a thread of its own: the tests run with several.
        std::thread::sleep(delay);
        json(200, &serde_json::json!({"charge": count.fetch_add(1, Ordering::SeqCst) + 1}))
    })
}

async fn stack_with(processor: Arc<Respond>) -> Result<(Stack, String)> {
    let stack = Stack::start(Options { processor, ..Options::default() }).await?;
    let token = stack.token_of(cards::VISA).await?;
    Ok((stack, token))
}

fn body(token: &str, amount: u32) -> String {
    serde_json::json!({"amount": amount, "card": {"number": token}}).to_string()
}

async fn charge(stack: &Stack, key: &str, body: &str) -> Result<Answer> {
    let request = Request::post("/v1/charges")
        .header("host", "gateway.cordon.test")
        .header("content-type", "application/json")
        .header("idempotency-key", key)
        .body(Full::new(Bytes::from(body.to_owned())))?;
    let tls = https::tls(&stack.authority.root(), Some(&stack.identity("signup")))?;
    https::send(stack.gateway_address("egress")?, "gateway.cordon.test", &tls, request).await
}

fn replayed(answer: &Answer) -> bool {
    answer.headers.get("idempotency-replayed").is_some_and(|value| value == "true")
}

#[tokio::test]
async fn a_retry_gets_the_first_answer_and_the_processor_one_request() -> Result<()> {
    let (stack, token) = stack_with(counting(Duration::ZERO)).await?;
    let first = charge(&stack, "order-1", &body(&token, 5)).await?;
    assert_eq!(
        (first.status.as_u16(), first.json()?["charge"].as_u64(), replayed(&first)),
        (200, Some(1), false)
    );
    for _ in 0..3 {
        let again = charge(&stack, "order-1", &body(&token, 5)).await?;
        assert_eq!(
            (again.status.as_u16(), again.json()?["charge"].as_u64(), replayed(&again)),
            (200, Some(1), true)
        );
        assert_ne!(again.headers["cordon-request-id"], first.headers["cordon-request-id"]);
    }
    assert_eq!(stack.processor.requests().len(), 1);
    assert_eq!(stack.audit("gateway").matches("\"reason\":\"replayed\"").count(), 3);
    let other = charge(&stack, "order-1", &body(&token, 6)).await?;
    assert_eq!((other.status.as_u16(), other.problem()?.as_str()), (422, "idempotency-mismatch"));
    assert_eq!(stack.processor.requests().len(), 1, "another request under the key is not sent");
    let next = charge(&stack, "order-2", &body(&token, 5)).await?;
    assert_eq!(
        (next.json()?["charge"].as_u64(), replayed(&next)),
        (Some(2), false),
        "another key is another charge"
    );
    let without = stack.charge("signup", "/v1/charges", &serde_json::from_str(&body(&token, 5))?).await?;
    assert_eq!(without.json()?["charge"].as_u64(), Some(3), "without a key nothing is kept");
    for key in ["", "two words", &"x".repeat(256)] {
        let odd = charge(&stack, key, &body(&token, 5)).await?;
        assert_eq!((odd.status.as_u16(), odd.problem()?.as_str()), (400, "malformed"), "{key:?}");
    }
    let said = stack.gateway.as_ref().context("a gateway")?.log() + &stack.audit("gateway");
    assert!(!said.contains("order-1"), "a key is the caller's text: {said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_retries_at_once_one_is_sent_and_the_others_are_told_to_wait() -> Result<()> {
    let (stack, token) = stack_with(counting(Duration::from_millis(500))).await?;
    let stack = Arc::new(stack);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (stack, body) = (Arc::clone(&stack), body(&token, 5));
        calls.spawn(async move { charge(&stack, "order-1", &body).await });
    }
    let (mut sent, mut waiting) = (0, 0);
    while let Some(answer) = calls.join_next().await {
        let answer = answer??;
        match answer.status.as_u16() {
            200 => {
                assert_eq!(answer.json()?["charge"].as_u64(), Some(1));
                sent += usize::from(!replayed(&answer));
            }
            409 => {
                assert_eq!(answer.problem()?, "request-in-flight");
                assert_eq!(answer.headers["retry-after"], "1");
                waiting += 1;
            }
            other => anyhow::bail!("{other}: {}", String::from_utf8_lossy(&answer.body)),
        }
    }
    assert_eq!(sent, 1);
    assert!(waiting > 0, "the test is one of retries at once");
    assert_eq!(stack.processor.requests().len(), 1);
    let later = charge(&stack, "order-1", &body(&token, 5)).await?;
    assert_eq!((later.json()?["charge"].as_u64(), replayed(&later)), (Some(1), true));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_caller_that_hangs_up_finds_the_answer_when_it_comes_again() -> Result<()> {
    for over_http2 in [false, true] {
        hangs_up_and_comes_again(over_http2).await?;
    }
    Ok(())
}

/// Hangs up while the processor has the request and has not answered.
async fn hangs_up_and_comes_again(over_http2: bool) -> Result<()> {
    let (stack, token) = stack_with(counting(Duration::from_millis(300))).await?;
    let tls = https::tls(&stack.authority.root(), Some(&stack.identity("signup")))?;
    let body = body(&token, 5);
    let egress = stack.gateway_address("egress")?;
    if over_http2 {
        let mut raw = Raw::connect(egress, &tls, b"h2").await?;
        let fields: [(&[u8], &[u8]); 6] = [
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":authority", b"gateway.cordon.test"),
            (b":path", b"/v1/charges"),
            (b"content-type", b"application/json"),
            (b"idempotency-key", b"order-1"),
        ];
        raw.write(&http2_preface()).await?;
        raw.write(&Frame::headers(1, END_HEADERS, &fields).bytes()).await?;
        raw.write(&Frame::data(1, END_STREAM, body.as_bytes()).bytes()).await?;
        stack.until("the processor has the charge", || stack.processor.requests().len() == 1).await?;
        // The stream alone, as a client does whose patience is over; then all of it.
        let cancel = Frame { kind: RST_STREAM, flags: 0, stream: 1, payload: vec![0, 0, 0, 8] };
        raw.write(&cancel.bytes()).await?;
    } else {
        let mut raw = Raw::connect(egress, &tls, b"http/1.1").await?;
        let head = format!(
            "POST /v1/charges HTTP/1.1\r\nHost: gateway.cordon.test\r\nContent-Type: application/json\r\n\
             Idempotency-Key: order-1\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        raw.write(head.as_bytes()).await?;
        stack.until("the processor has the charge", || stack.processor.requests().len() == 1).await?;
    }
    let deadline = std::time::Instant::now() + cordon_tests::patience();
    let answer = loop {
        let answer = charge(&stack, "order-1", &body).await?;
        if answer.status != 409 {
            break answer;
        }
        assert_eq!(answer.problem()?, "request-in-flight");
        anyhow::ensure!(std::time::Instant::now() < deadline, "still in flight");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(
        (
            answer.status.as_u16(),
            answer.json()?.get("charge").and_then(|charge| charge.as_u64()),
            replayed(&answer)
        ),
        (200, Some(1), true)
    );
    assert_eq!(stack.processor.requests().len(), 1, "charged once");
    Ok(())
}

/// A processor that reads a request and hangs up. Counts them.
async fn silent(stack: &Stack) -> Result<(std::net::SocketAddr, Arc<AtomicUsize>)> {
    use rustls::pki_types::pem::PemObject;
    let identity = stack.authority.server("processor.cordon.test")?;
    let chain =
        rustls::pki_types::CertificateDer::pem_file_iter(&identity.cert)?.collect::<Result<Vec<_>, _>>()?;
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(&identity.key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (address, count) = (listener.local_addr()?, Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut got = vec![0; 64 * 1024];
            let mut length = 0;
            while !String::from_utf8_lossy(got.get(..length).unwrap_or_default()).contains(cards::VISA) {
                match stream.read(got.get_mut(length..).unwrap_or_default()).await {
                    Ok(count @ 1..) => length += count,
                    _ => break,
                }
            }
            counted.fetch_add(1, Ordering::SeqCst);
            drop(stream.shutdown().await);
        }
    });
    Ok((address, count))
}

#[tokio::test]
async fn a_request_whose_outcome_nobody_knows_is_not_sent_again_unless_the_processor_would_tell() -> Result<()>
{
    let (mut stack, token) = stack_with(counting(Duration::ZERO)).await?;
    let (address, count) = silent(&stack).await?;
    stack.rewrite("policies/segments.toml", &stack.processor.address.to_string(), &address.to_string())?;
    stack.gateway = None;
    stack.start_gateway()?;
    let lost = charge(&stack, "order-1", &body(&token, 5)).await?;
    assert_eq!((lost.status.as_u16(), lost.problem()?.as_str()), (502, "upstream-unavailable"));
    for _ in 0..2 {
        let again = charge(&stack, "order-1", &body(&token, 5)).await?;
        assert_eq!((again.status.as_u16(), again.problem()?.as_str()), (409, "outcome-unknown"));
    }
    assert_eq!(count.load(Ordering::SeqCst), 1, "it reached the processor once");
    stack.rewrite(
        "policies/routes.toml",
        "purpose = \"charge\"\n",
        "purpose = \"charge\"\nidempotent_destination = true\n",
    )?;
    stack.gateway = None;
    stack.start_gateway()?;
    for _ in 0..2 {
        let lost = charge(&stack, "order-2", &body(&token, 5)).await?;
        assert_eq!((lost.status.as_u16(), lost.problem()?.as_str()), (502, "upstream-unavailable"));
    }
    let asked = count.load(Ordering::SeqCst);
    assert_eq!(
        asked,
        1 + 2 * 2,
        "the processor tells a key it knows, so each try asks twice, and may be made again"
    );
    Ok(())
}

#[tokio::test]
async fn what_was_not_sent_may_be_tried_again_and_what_leaked_may_not() -> Result<()> {
    let (mut stack, token) = stack_with(counting(Duration::ZERO)).await?;
    let place = TcpListener::bind("127.0.0.1:0").await?;
    let address = place.local_addr()?;
    drop(place);
    stack.rewrite("policies/segments.toml", &stack.processor.address.to_string(), &address.to_string())?;
    stack.gateway = None;
    stack.start_gateway()?;
    for _ in 0..2 {
        let down = charge(&stack, "order-1", &body(&token, 5)).await?;
        assert_eq!((down.status.as_u16(), down.problem()?.as_str()), (502, "upstream-unavailable"));
    }
    // A token nobody knows is refused each time, and its key is free.
    let unknown = cordon_card::Token::opaque(cordon_card::Environment::Dev, &[9; 17]).to_string();
    for _ in 0..2 {
        let refused = charge(&stack, "order-2", &body(&unknown, 5)).await?;
        assert_eq!((refused.status.as_u16(), refused.problem()?.as_str()), (404, "token-not-found"));
    }
    // A processor that echoes the card has charged it.
    let echo: Arc<Respond> = Arc::new(|_: &Received| json(200, &serde_json::json!({"card": cards::VISA})));
    let identity = stack.authority.server("processor.cordon.test")?;
    let echoing = Stub::start(Some(&identity), echo).await?;
    stack.rewrite("policies/segments.toml", &address.to_string(), &echoing.address.to_string())?;
    stack.gateway = None;
    stack.start_gateway()?;
    for _ in 0..2 {
        let leaked = charge(&stack, "order-1", &body(&token, 5)).await?;
        assert_eq!((leaked.status.as_u16(), leaked.problem()?.as_str()), (502, "upstream-refused"));
        assert_eq!(search::find(cards::VISA, &leaked.body), None);
    }
    assert_eq!(echoing.requests().len(), 1, "sent once");
    Ok(())
}

#[tokio::test]
async fn a_retry_with_the_security_code_gets_the_answer_though_the_code_is_gone() -> Result<()> {
    let (stack, token) = stack_with(counting(Duration::ZERO)).await?;
    let body = serde_json::json!({"card": {"number": token, "cvc": "held"}}).to_string();
    for count in 0..2 {
        let answer = charge(&stack, "order-1", &body).await?;
        assert_eq!(
            (answer.status.as_u16(), answer.json()?["charge"].as_u64(), replayed(&answer)),
            (200, Some(1), count > 0)
        );
    }
    let other = charge(&stack, "order-2", &body).await?;
    assert_eq!(
        (other.status.as_u16(), other.problem()?.as_str()),
        (410, "code-gone"),
        "the control: it is gone"
    );
    Ok(())
}
