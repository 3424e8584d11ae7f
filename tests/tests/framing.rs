//! Bytes that two readers could frame in two ways, written by hand: refused, the connection closed, nothing forwarded.

use anyhow::Result;
use cordon_tests::raw::Raw;
use cordon_tests::stack::{Options, Stack};
use cordon_tests::{cards, https, search};

const BODY: &str = r#"{"card":{"number":"4111111111111111","expiry":"12/30","cvc":"123"}}"#;
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

fn head(lines: &str) -> String {
    format!(
        "POST /signup HTTP/1.1\r\nHost: signup.cordon.test\r\nContent-Type: application/json\r\n{lines}\r\n"
    )
}

fn length() -> String {
    format!("Content-Length: {}\r\n", BODY.len())
}

/// A whole and plain request.
fn plain() -> String {
    head(&length()) + BODY
}

fn chunked(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

async fn ingress(stack: &Stack) -> Result<Raw> {
    let tls = https::tls(&stack.authority.root(), None)?;
    Raw::connect(stack.gateway_address("ingress")?, &tls, b"http/1.1").await
}

/// The status of each answer, and the answers.
fn statuses(answers: &[u8]) -> (Vec<u16>, String) {
    let text = String::from_utf8_lossy(answers).into_owned();
    let codes = text.split("HTTP/1.").skip(1).filter_map(|rest| rest.get(2..5)?.parse().ok()).collect();
    (codes, text)
}

/// Sends `bytes` at once and reads until the gateway closes.
async fn exchange(stack: &Stack, bytes: &str) -> Result<(Vec<u16>, String)> {
    let mut raw = ingress(stack).await?;
    raw.write(bytes.as_bytes()).await?;
    Ok(statuses(&raw.rest().await?))
}

#[tokio::test]
async fn what_two_readers_could_frame_in_two_ways_is_refused_and_nothing_is_forwarded() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let (length, chunks) = (length(), chunked(BODY));
    let smuggled = "GET /admin HTTP/1.1\r\nHost: signup.cordon.test\r\n\r\n";
    let zero = "0\r\n\r\n";
    let cases: Vec<(&str, String)> = vec![
        (
            "CL.TE",
            head(&format!("Content-Length: {}\r\n{CHUNKED}", zero.len() + smuggled.len())) + zero + smuggled,
        ),
        ("TE.CL", head(&format!("{CHUNKED}Content-Length: 4\r\n")) + &chunks + smuggled),
        ("both, and both right", head(&format!("{CHUNKED}Content-Length: {}\r\n", chunks.len())) + &chunks),
        ("TE.TE: an unknown coding behind", head(&format!("{CHUNKED}Transfer-Encoding: x\r\n")) + &chunks),
        ("TE.TE: twice", head(&format!("{CHUNKED}{CHUNKED}")) + &chunks),
        ("TE.TE: two in a line", head("Transfer-Encoding: identity, chunked\r\n") + &chunks),
        ("TE.TE: a space before the colon", head("Transfer-Encoding : chunked\r\n") + &chunks),
        ("TE.TE: a tab before the colon", head("Transfer-Encoding\t: chunked\r\n") + &chunks),
        ("TE.TE: a vertical tab", head("Transfer-Encoding: \x0bchunked\r\n") + &chunks),
        ("TE.TE: quoted", head("Transfer-Encoding: \"chunked\"\r\n") + &chunks),
        ("TE.TE: a parameter", head("Transfer-Encoding: chunked;a=b\r\n") + &chunks),
        ("TE.TE: part of a word", head("Transfer-Encoding: xchunked\r\n") + &chunks),
        ("TE.TE: a line before it is folded", head("X: a\r\n Transfer-Encoding: chunked\r\n") + &chunks),
        ("a folded coding", head("Transfer-Encoding:\r\n chunked\r\n") + &chunks),
        ("a compressed coding", head("Transfer-Encoding: gzip, chunked\r\n") + &chunks),
        ("equal lengths", head(&format!("{length}{length}")) + BODY),
        ("contradicting lengths", head(&format!("{length}Content-Length: 0\r\n")) + BODY),
        ("a list of lengths", head(&format!("Content-Length: {0}, {0}\r\n", BODY.len())) + BODY),
        ("a plus", head(&format!("Content-Length: +{}\r\n", BODY.len())) + BODY),
        ("a minus", head("Content-Length: -1\r\n") + BODY),
        ("a hexadecimal length", head(&format!("Content-Length: {:#x}\r\n", BODY.len())) + BODY),
        ("a length beyond 64 bits", head("Content-Length: 18446744073709551616\r\n") + BODY),
        ("an empty length", head("Content-Length: \r\n") + BODY),
        ("a bare LF behind the request line", plain().replacen("HTTP/1.1\r\n", "HTTP/1.1\n", 1)),
        ("a bare LF behind a header", plain().replacen("json\r\n", "json\n", 1)),
        ("a bare LF ends the head", plain().replacen("\r\n\r\n", "\r\n\n", 1)),
        ("only bare LF", plain().replace("\r\n", "\n")),
        ("a bare CR in a value", head(&format!("X: a\rTransfer-Encoding: chunked\r\n{length}")) + BODY),
        ("NUL in a value", head(&format!("X: a\0b\r\n{length}")) + BODY),
        ("NUL in a name", head(&format!("X\0: a\r\n{length}")) + BODY),
        ("a folded value", head(&format!("X: a\r\n b\r\n{length}")) + BODY),
        ("a name with a space", head(&format!("X Y: a\r\n{length}")) + BODY),
        ("no colon", head(&format!("X\r\n{length}")) + BODY),
        ("an empty line before", "\r\n".to_owned() + &plain()),
        ("two spaces in the request line", plain().replacen("/signup HTTP", "/signup  HTTP", 1)),
        ("a version that is none", plain().replacen("HTTP/1.1", "HTTP/1.2", 1)),
        ("HTTP/2 in clear", plain().replacen("HTTP/1.1", "HTTP/2.0", 1)),
        ("HTTP/1.0 with a coding", plain().replacen("HTTP/1.1", "HTTP/1.0", 1).replacen(&length, CHUNKED, 1)),
        ("a proxy's line before", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n".to_owned() + &plain()),
    ];
    for (name, bytes) in &cases {
        let (codes, text) = exchange(&stack, bytes).await?;
        assert_eq!(codes, [400], "{name}: {text}");
        assert!(!text.contains("4111"), "{name}: {text}");
        assert!(stack.signup.bytes().is_empty(), "{name}: not a byte was forwarded");
    }
    let lines = stack.audit("gateway").matches("malformed.framing").count();
    assert!(lines > 0, "recorded, counted in a line when they come in numbers");
    let metrics = https::send_plain(stack.gateway_address("metrics")?, "/metrics").await?.body;
    let counted = format!("cordon_gateway_connections_malformed_total {}", cases.len());
    assert!(String::from_utf8_lossy(&metrics).contains(&counted), "{}", String::from_utf8_lossy(&metrics));
    Ok(())
}

#[tokio::test]
async fn the_services_side_is_as_strict() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let body = serde_json::json!({"card": {"number": stack.token_of(cards::VISA).await?}}).to_string();
    let tls = https::tls(&stack.authority.root(), Some(&stack.identity("signup")))?;
    let length = format!("Content-Length: {}\r\n", body.len());
    let chunks = chunked(&body);
    for (name, lines, sent, status) in [
        ("both", format!("{length}{CHUNKED}"), &chunks, 400),
        ("two lengths", format!("{length}{length}"), &body, 400),
        ("two codings", format!("{CHUNKED}{CHUNKED}"), &chunks, 400),
        ("a bare LF", length.replace('\r', ""), &body, 400),
        ("the control", length.clone(), &body, 200),
    ] {
        let mut raw = Raw::connect(stack.gateway_address("egress")?, &tls, b"http/1.1").await?;
        let head = format!(
            "POST /v1/charges HTTP/1.1\r\nHost: gateway.cordon.test\r\nConnection: close\r\n\
             Content-Type: application/json\r\n{lines}\r\n"
        );
        raw.write((head + sent).as_bytes()).await?;
        let (codes, text) = statuses(&raw.rest().await?);
        assert_eq!(codes, [status], "{name}: {text}");
        assert_eq!(stack.processor.requests().len(), usize::from(status == 200), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn chunks_that_are_more_than_size_and_bytes_are_refused() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let size = BODY.len();
    let cases = [
        ("an extension", format!("{size:x};a=b\r\n{BODY}\r\n0\r\n\r\n")),
        ("an extension with a quoted LF", format!("{size:x};a=\"\n\"\r\n{BODY}\r\n0\r\n\r\n")),
        ("a space behind the size", format!("{size:x} \r\n{BODY}\r\n0\r\n\r\n")),
        ("junk behind the size", format!("{size:x}g\r\n{BODY}\r\n0\r\n\r\n")),
        ("0x before it", format!("{size:#x}\r\n{BODY}\r\n0\r\n\r\n")),
        ("a sign", format!("+{size:x}\r\n{BODY}\r\n0\r\n\r\n")),
        ("a size that overflows to the right one", format!("1{size:016x}\r\n{BODY}\r\n0\r\n\r\n")),
        ("the largest size", format!("ffffffffffffffff\r\n{BODY}\r\n0\r\n\r\n")),
        ("no size", format!("\r\n{BODY}\r\n0\r\n\r\n")),
        ("a bare LF behind the size", format!("{size:x}\n{BODY}\r\n0\r\n\r\n")),
        ("a bare LF behind the chunk", format!("{size:x}\r\n{BODY}\n0\r\n\r\n")),
        ("a chunk longer than its size", format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", size - 1)),
        ("a trailer that ends in a bare LF", format!("{size:x}\r\n{BODY}\r\n0\r\nX: a\n\r\n")),
        ("a last line that ends in a bare LF", format!("{size:x}\r\n{BODY}\r\n0\r\n\n")),
    ];
    for (name, body) in cases {
        let mut raw = ingress(&stack).await?;
        raw.write(head(CHUNKED).as_bytes()).await?;
        // The largest size is one that may be announced; there are only never so many bytes.
        let body = if name == "the largest size" { body + &"x".repeat(1024 * 1024) } else { body };
        // The gateway may have closed before it took everything.
        let _closed = raw.write(body.as_bytes()).await;
        let (codes, text) = statuses(&raw.rest().await?);
        let expected = if name == "the largest size" { 413 } else { 400 };
        assert_eq!(codes, [expected], "{name}: {text}");
        assert!(stack.signup.bytes().is_empty(), "{name}: not a byte was forwarded");
    }
    Ok(())
}

#[tokio::test]
async fn plain_framing_passes_and_is_written_anew() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let close = "Connection: close\r\n";
    let halves = BODY.split_at(30);
    let cases = [
        ("a length", head(&format!("{}{close}", length())) + BODY),
        ("one chunk", head(&format!("{CHUNKED}{close}")) + &chunked(BODY)),
        (
            "two chunks",
            head(&format!("{CHUNKED}{close}"))
                + &format!(
                    "{:X}\r\n{}\r\n0{:x}\r\n{}\r\n0\r\n\r\n",
                    halves.0.len(),
                    halves.0,
                    halves.1.len(),
                    halves.1
                ),
        ),
        ("HTTP/1.0", plain().replacen("HTTP/1.1", "HTTP/1.0", 1)),
        (
            "absolute form",
            head(&format!("{}{close}", length())).replacen(" /", " https://signup.cordon.test/", 1) + BODY,
        ),
        (
            "a port in the host",
            head(&format!("{}{close}", length())).replacen("cordon.test", "cordon.test:443", 1) + BODY,
        ),
    ];
    for (name, bytes) in &cases {
        let (codes, text) = exchange(&stack, bytes).await?;
        assert_eq!(codes, [201], "{name}: {text}");
    }
    assert_eq!(stack.signup.requests().len(), cases.len());
    for request in stack.signup.requests() {
        let of = |name: &str| request.headers.iter().filter(|header| header.starts_with(name)).count();
        assert_eq!((of("content-length:"), of("transfer-encoding:"), of("host:")), (1, 0, 1), "{request:?}");
    }
    assert_eq!(search::find(cards::VISA, &stack.signup.bytes()), None);
    Ok(())
}

#[tokio::test]
async fn pipelined_requests_are_told_apart() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let last = head(&format!("{}Connection: close\r\n", length())) + BODY;
    let (codes, text) =
        exchange(&stack, &format!("{}{}{last}", plain(), head(CHUNKED) + &chunked(BODY))).await?;
    assert_eq!(codes, [201, 201, 201], "{text}");
    assert_eq!(stack.signup.requests().len(), 3);
    // What comes behind the last one is not read.
    let (codes, text) = exchange(&stack, &format!("{last}{}", plain())).await?;
    assert_eq!((codes, stack.signup.requests().len()), (vec![201], 4), "{text}");
    // A good one passes; the bad one behind it ends the connection.
    let (codes, text) = exchange(&stack, &format!("{}{}", plain(), plain().replace("\r\n", "\n"))).await?;
    assert_eq!((codes, stack.signup.requests().len()), (vec![201, 400], 5), "{text}");
    // A request inside a body is a body.
    let inner = plain();
    let outer = head(&format!("Content-Length: {}\r\nConnection: close\r\n", inner.len()));
    let (codes, text) = exchange(&stack, &format!("{outer}{inner}")).await?;
    assert_eq!((codes, stack.signup.requests().len()), (vec![400], 5), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_target_or_host_that_reads_in_two_ways_is_refused() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let host = "Host: signup.cordon.test\r\n";
    let with = |hosts: &str| plain().replacen(host, hosts, 1);
    let target = |target: &str| plain().replacen("/signup", target, 1);
    let cases = [
        ("no host", with(""), 400),
        ("two hosts", with(&format!("{host}{host}")), 400),
        ("two different hosts", with(&format!("{host}Host: elsewhere.test\r\n")), 400),
        ("user information", with("Host: signup.cordon.test@elsewhere.test\r\n"), 400),
        ("a port and user information", with("Host: signup.cordon.test:443@elsewhere.test\r\n"), 400),
        ("no port behind the colon", with("Host: signup.cordon.test:\r\n"), 400),
        ("a port that is none", with("Host: signup.cordon.test:80x\r\n"), 400),
        ("two ports", with("Host: signup.cordon.test:443:443\r\n"), 400),
        ("a path in the host", with("Host: signup.cordon.test/x\r\n"), 400),
        ("a list of hosts", with("Host: signup.cordon.test, elsewhere.test\r\n"), 400),
        ("absolute form for another host", target("https://elsewhere.test/signup"), 400),
        ("absolute form for another port", target("https://signup.cordon.test:8443/signup"), 400),
        ("absolute form with user information", target("https://a@signup.cordon.test/signup"), 400),
        ("a trailing point", with("Host: signup.cordon.test.\r\n"), 404),
        (
            "absolute form and host both elsewhere",
            target("https://elsewhere.test/signup").replacen(host, "Host: elsewhere.test\r\n", 1),
            404,
        ),
    ];
    for (name, bytes, status) in cases {
        let mut raw = ingress(&stack).await?;
        raw.write(bytes.as_bytes()).await?;
        if status == 404 {
            // The connection may go on; the next head shows that it does.
            let next =
                head(&format!("{}Connection: close\r\n", length())).replacen("/signup", "/none", 1) + BODY;
            raw.write(next.as_bytes()).await?;
        }
        let (codes, text) = statuses(&raw.rest().await?);
        let expected = if status == 404 { vec![404, 404] } else { vec![status] };
        assert_eq!(codes, expected, "{name}: {text}");
        assert!(stack.signup.bytes().is_empty(), "{name}: not a byte was forwarded");
    }
    Ok(())
}

#[tokio::test]
async fn a_card_number_in_a_trailer_is_dropped() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let body = format!("{:x}\r\n{BODY}\r\n0\r\nX-Card: {}\r\n\r\n", BODY.len(), cards::AMEX);
    let lines = format!("{CHUNKED}Trailer: X-Card\r\nConnection: close\r\n");
    let (codes, text) = exchange(&stack, &(head(&lines) + &body)).await?;
    assert_eq!(codes, [201], "{text}");
    assert_eq!(search::find(cards::AMEX, &stack.signup.bytes()), None);
    assert!(!String::from_utf8_lossy(&stack.signup.bytes()).to_lowercase().contains("x-card"));
    Ok(())
}

#[tokio::test]
async fn a_card_number_that_is_cut_anywhere_is_found() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let undeclared = BODY.replacen("{", &format!(r#"{{"note":"{}","#, cards::MASTERCARD), 1);
    for (body, pan, status) in [(BODY, cards::VISA, 201), (undeclared.as_str(), cards::MASTERCARD, 422)] {
        let start = body.find(pan).unwrap_or_default();
        for cut in start + 1..start + pan.len() {
            let (one, two) = body.split_at(cut);
            let mut segments = ingress(&stack).await?;
            let lines = format!("Content-Length: {}\r\nConnection: close\r\n", body.len());
            segments.write((head(&lines) + one).as_bytes()).await?;
            tokio::task::yield_now().await;
            segments.write(two.as_bytes()).await?;
            let (codes, text) = statuses(&segments.rest().await?);
            assert_eq!(codes, [status], "segments at {cut}: {text}");
            let chunks = format!("{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n", one.len(), two.len());
            let lines = format!("{CHUNKED}Connection: close\r\n");
            let (codes, text) = exchange(&stack, &(head(&lines) + &chunks)).await?;
            assert_eq!(codes, [status], "chunks at {cut}: {text}");
        }
    }
    assert_eq!(stack.signup.requests().len(), 30);
    for pan in [cards::VISA, cards::MASTERCARD] {
        assert_eq!(search::find(pan, &stack.signup.bytes()), None);
    }
    Ok(())
}
