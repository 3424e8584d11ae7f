//! What would make a tunnel of a connection, or a promise about one: upgrades, CONNECT, switching, expectations.

use anyhow::Result;
use cordon_tests::https;
use cordon_tests::raw::Raw;
use cordon_tests::stack::{Options, Stack};

const BODY: &str = r#"{"card":{"number":"4111111111111111","expiry":"12/30","cvc":"123"}}"#;

async fn ingress(stack: &Stack) -> Result<Raw> {
    let tls = https::tls(&stack.authority.root(), None)?;
    Raw::connect(stack.gateway_address("ingress")?, &tls, b"http/1.1").await
}

fn head(lines: &str) -> String {
    format!(
        "POST /signup HTTP/1.1\r\nHost: signup.cordon.test\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n{lines}\r\n",
        BODY.len()
    )
}

#[tokio::test]
async fn nothing_is_upgraded_and_what_follows_is_not_read() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let websocket = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let get = |lines: &str| format!("GET /signup HTTP/1.1\r\nHost: signup.cordon.test\r\n{lines}\r\n");
    let cases = [
        ("WebSocket", get(websocket)),
        ("WebSocket with a body", head(websocket) + BODY),
        (
            "h2c",
            get(
                "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
            ),
        ),
        ("an upgrade that Connection does not name", get("Upgrade: anything\r\n")),
        ("settings alone", get("HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n")),
        (
            "CONNECT",
            "CONNECT signup.cordon.test:443 HTTP/1.1\r\nHost: signup.cordon.test:443\r\n\r\n".to_owned(),
        ),
        ("CONNECT with a path", "CONNECT /signup HTTP/1.1\r\nHost: signup.cordon.test\r\n\r\n".to_owned()),
    ];
    for (name, bytes) in cases {
        let mut raw = ingress(&stack).await?;
        // The tunnelled bytes come at once: they must not be taken for a request.
        raw.write((bytes + &head("") + BODY).as_bytes()).await?;
        let text = String::from_utf8_lossy(&raw.rest().await?).into_owned();
        assert!(text.starts_with("HTTP/1.1 400") && text.matches("HTTP/1.1 ").count() == 1, "{name}: {text}");
        assert!(stack.signup.bytes().is_empty(), "{name}: not a byte was forwarded");
    }
    Ok(())
}

#[tokio::test]
async fn a_service_that_switches_protocols_is_cut_off() -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let upstream = Some(listener.local_addr()?);
    let switching = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await?;
        let mut got = vec![0; 4096];
        let mut head = stream.read(&mut got).await?;
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nTUNNEL")
            .await?;
        while let Ok(count @ 1..) = stream.read(got.get_mut(head..).unwrap_or_default()).await {
            head += count;
        }
        got.truncate(head);
        anyhow::Ok(got)
    });
    let stack = Stack::start(Options { upstream, ..Options::default() }).await?;
    let answer = stack.browser("/signup", "application/json", BODY).await?;
    assert_eq!((answer.status.as_u16(), answer.problem()?.as_str()), (502, "upstream-refused"));
    assert!(!String::from_utf8_lossy(&answer.body).contains("TUNNEL"));
    let got = String::from_utf8_lossy(&switching.await??).into_owned();
    assert_eq!(got.matches("HTTP/1.1").count(), 1, "one request, then the connection is closed: {got}");
    Ok(())
}

#[tokio::test]
async fn a_body_is_asked_for_only_once_its_head_is_accepted() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let expecting = head("Expect: 100-continue\r\nConnection: close\r\n");
    let mut raw = ingress(&stack).await?;
    raw.write(expecting.as_bytes()).await?;
    let asked = raw.until(b"\r\n\r\n").await?;
    assert_eq!(String::from_utf8_lossy(&asked), "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(stack.signup.bytes().is_empty());
    raw.write(BODY.as_bytes()).await?;
    assert!(raw.rest().await?.starts_with(b"HTTP/1.1 201"));
    for (name, bytes, status) in [
        ("another path", expecting.replacen("/signup", "/other", 1), 404),
        ("another type", expecting.replacen("json", "pdf", 1), 415),
        ("too long", expecting.replacen(&format!("Length: {}", BODY.len()), "Length: 99999999", 1), 413),
        ("another expectation", head("Expect: 200-ok\r\nConnection: close\r\n"), 417),
        ("two expectations", head("Expect: 100-continue, x\r\nConnection: close\r\n"), 417),
    ] {
        let mut raw = ingress(&stack).await?;
        raw.write(bytes.as_bytes()).await?;
        let text = String::from_utf8_lossy(&raw.rest().await?).into_owned();
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{name}: {text}");
    }
    assert_eq!(stack.signup.requests().len(), 1);
    Ok(())
}
