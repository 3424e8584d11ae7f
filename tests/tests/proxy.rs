//! The forward proxy as applications use it: `HTTPS_PROXY`, their own client, and tokens in the requests.

use anyhow::{Context, Result};
use cordon_tests::cards;
use cordon_tests::https;
use cordon_tests::process::binary;
use cordon_tests::search;
use cordon_tests::stack::{Options, Stack};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HOST: &str = "processor.cordon.test";

/// A stack with a forward proxy. `tables` begins with the lines that belong to `[proxy]`.
async fn stack_with(tables: &'static str) -> Result<Stack> {
    let mut stack =
        Stack::start(Options { gateway: false, gateway_tables: tables, ..Options::default() }).await?;
    make_ca(&stack, "proxy-ca")?;
    stack.start_gateway()?;
    Ok(stack)
}

const PLAIN: &str = "[proxy]\nlisten = \"127.0.0.1:0\"\nplain = true\n\n[[proxy.ca]]\ncert = \"proxy-ca.pem\"\nkey = \"proxy-ca-key.pem\"\n";
const TLS: &str = "[proxy]\nlisten = \"127.0.0.1:0\"\n\n[[proxy.ca]]\ncert = \"proxy-ca.pem\"\nkey = \"proxy-ca-key.pem\"\n";

fn make_ca(stack: &Stack, name: &str) -> Result<PathBuf> {
    let made = Command::new(binary("cordon")?)
        .args(["cert", "proxy-ca", "--host", HOST, "--name", name, "--dir"])
        .arg(stack.dir())
        .output()?;
    anyhow::ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(stack.dir().join(format!("{name}.pem")))
}

/// curl, as an application: through the proxy, with the root of the proxy's authority.
fn curl(stack: &Stack, scheme: &str, extra: &[&str], url: &str, token: &str) -> Result<Output> {
    let proxy = stack.gateway_address("proxy")?;
    let proxy = if scheme == "https" {
        format!("https://gateway.cordon.test:{}", proxy.port())
    } else {
        format!("http://{proxy}")
    };
    Command::new("curl")
        .env("HTTPS_PROXY", proxy)
        .args(["--silent", "--show-error", "--max-time", "20", "--resolve"])
        .arg(format!("gateway.cordon.test:{}:127.0.0.1", stack.gateway_address("proxy")?.port()))
        .arg("--cacert")
        .arg(stack.dir().join("proxy-ca.pem"))
        .args([
            "--header",
            "content-type: application/json",
            "--write-out",
            "\n%{http_code} %{http_version} %{http_connect}",
        ])
        .args(extra)
        .args(["--data", &format!(r#"{{"card":{{"number":"{token}"}}}}"#), url])
        .output()
        .context("curl")
}

/// The options of curl by which a service shows its certificate inside the tunnel.
fn inside(stack: &Stack, service: &str) -> [String; 4] {
    let files = stack.identity(service);
    [
        "--cert".into(),
        files.cert.to_string_lossy().into_owned(),
        "--key".into(),
        files.key.to_string_lossy().into_owned(),
    ]
}

fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), b"\n", output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn url() -> String {
    format!("https://{HOST}/v1/charges")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_its_certificate_reaches_the_processor_through_a_plain_proxy() -> Result<()> {
    let stack = stack_with(PLAIN).await?;
    let token = stack.token_of(cards::VISA).await?;
    let shown = inside(&stack, "signup");
    let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
    for version in ["--http1.1", "--http2"] {
        let before = stack.processor.requests().len();
        let output = curl(&stack, "http", &[&shown[..], &[version]].concat(), &url(), &token)?;
        let text = said(&output);
        let spoken = if version == "--http2" { "200 2 200" } else { "200 1.1 200" };
        assert!(text.contains("approved") && text.contains(spoken), "{version}: {text}");
        let got = stack.processor.requests();
        assert_eq!(got.len(), before + 1);
        let got = got.last().context("a charge")?;
        assert!(String::from_utf8_lossy(&got.body).contains(cards::VISA), "the processor gets the card");
        assert!(got.headers.iter().any(|line| line == &format!("host: {HOST}")), "{:?}", got.headers);
        assert_eq!(search::find(cards::VISA, text.as_bytes()), None);
    }
    let audit = stack.audit("gateway");
    assert!(
        audit
            .lines()
            .any(|line| line.contains("\"send\"") && line.contains("signup") && line.contains("allowed")),
        "{audit}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_show_itself_to_a_proxy_that_speaks_tls() -> Result<()> {
    let stack = stack_with(TLS).await?;
    let token = stack.token_of(cards::VISA).await?;
    let files = stack.identity("signup");
    let (cert, key) = (files.cert.to_string_lossy().into_owned(), files.key.to_string_lossy().into_owned());
    let root = stack.authority.root().to_string_lossy().into_owned();
    let shown = ["--proxy-cacert", &root, "--proxy-cert", &cert, "--proxy-key", &key];
    let text = said(&curl(&stack, "https", &shown, &url(), &token)?);
    assert!(text.contains("approved") && text.contains("200 "), "{text}");
    // Without a certificate there is no proxy at all.
    let text = said(&curl(&stack, "https", &["--proxy-cacert", &root], &url(), &token)?);
    assert!(!text.contains("approved") && text.contains("000 "), "{text}");
    stack.until("it is recorded", || stack.audit("gateway").contains("no-certificate")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_through_without_a_certificate_or_to_a_host_of_others() -> Result<()> {
    let stack = stack_with(PLAIN).await?;
    let token = stack.token_of(cards::VISA).await?;
    let text = said(&curl(&stack, "http", &[], &url(), &token)?);
    assert!(!text.contains("approved"), "{text}");
    // Billing has a certificate, and no route to this processor.
    let shown = inside(&stack, "billing");
    let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
    let text = said(&curl(&stack, "http", &shown, &url(), &token)?);
    assert!(text.contains("403 ") && text.contains("denied"), "{text}");
    // A caller who means another host than the tunnel's gets neither.
    let shown = inside(&stack, "signup");
    let mut shown: Vec<&str> = shown.iter().map(String::as_str).collect();
    shown.extend(["--header", "host: other.cordon.test"]);
    let text = said(&curl(&stack, "http", &shown, &url(), &token)?);
    assert!(text.contains("400 ") && text.contains("malformed"), "{text}");
    assert_eq!(stack.processor.requests().len(), 0);
    Ok(())
}

/// What a proxy answers to `head`, to its end.
async fn ask(proxy: SocketAddr, head: &str) -> Result<String> {
    let mut stream = TcpStream::connect(proxy).await?;
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_listed_hosts_are_opened_and_nothing_is_connected_to_for_others() -> Result<()> {
    let stack = stack_with(PLAIN).await?;
    let proxy = stack.gateway_address("proxy")?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let processor = stack.processor.address.port();
    for target in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("127.0.0.1:{processor}"),
        "169.254.169.254:80".to_owned(),
        format!("[::1]:{port}"),
        format!("{HOST}:80"),
        format!("{HOST}.:443"),
        "unlisted.example:443".to_owned(),
        // A destination that no route leads to is not opened either.
        "vault.cordon.test:443".to_owned(),
    ] {
        let answer = ask(proxy, &format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")).await?;
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && answer.contains("destination-not-allowed"),
            "{target}: {answer}"
        );
    }
    for head in [
        "GET http://processor.cordon.test/v1/charges HTTP/1.1\r\nHost: processor.cordon.test\r\n\r\n",
        "POST /v1/charges HTTP/1.1\r\nHost: processor.cordon.test\r\nContent-Length: 0\r\n\r\n",
    ] {
        assert!(ask(proxy, head).await?.starts_with("HTTP/1.1 405 "), "{head}");
    }
    let smuggled = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nContent-Length: 5\r\n\r\n");
    assert!(ask(proxy, &smuggled).await?.starts_with("HTTP/1.1 400 "));
    let pushed = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    assert!(ask(proxy, &pushed).await?.starts_with("HTTP/1.1 400 "));
    let waited = tokio::time::timeout(std::time::Duration::from_millis(300), listener.accept()).await;
    assert!(waited.is_err(), "nobody was connected to");
    let audit = stack.audit("gateway");
    assert!(audit.matches("destination-not-allowed").count() >= 5, "{audit}");
    stack.until("it is recorded", || stack.audit("gateway").contains("malformed.framing")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_tls_inside_ends_there() -> Result<()> {
    let stack = stack_with(PLAIN).await?;
    let proxy = stack.gateway_address("proxy")?;
    let mut stream = TcpStream::connect(proxy).await?;
    stream.write_all(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n").as_bytes()).await?;
    let mut established = [0; 39];
    stream.read_exact(&mut established).await?;
    assert!(established.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&established));
    stream.write_all(b"POST /v1/charges HTTP/1.1\r\nHost: processor.cordon.test\r\n\r\n").await?;
    let mut rest = Vec::new();
    // An alert or nothing, and the end.
    let _closed = stream.read_to_end(&mut rest).await;
    assert!(rest.len() < 20 && !rest.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(stack.processor.bytes().len(), 0);
    stack.until("it is recorded", || stack.audit("gateway").contains("handshake-broken")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_is_followed_by_the_next() -> Result<()> {
    let tables = "[proxy]\nlisten = \"127.0.0.1:0\"\nplain = true\n\n[[proxy.ca]]\ncert = \"proxy-ca.pem\"\nkey = \"proxy-ca-key.pem\"\n\n\
                  [[proxy.ca]]\ncert = \"proxy-next.pem\"\nkey = \"proxy-next-key.pem\"\nfrom = \"2999-01-01T00:00:00Z\"\n";
    let mut stack =
        Stack::start(Options { gateway: false, gateway_tables: tables, ..Options::default() }).await?;
    let (old, next) = (make_ca(&stack, "proxy-ca")?, make_ca(&stack, "proxy-next")?);
    stack.start_gateway()?;
    let token = stack.token_of(cards::VISA).await?;
    let trusting = |stack: &Stack, roots: &[&PathBuf]| -> Result<bool> {
        let bundle: Vec<u8> = roots.iter().map(fs::read).collect::<Result<Vec<_>, _>>()?.concat();
        let file = stack.dir().join("trusted.pem");
        fs::write(&file, bundle)?;
        let shown = inside(stack, "signup");
        let mut shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        let file = file.to_string_lossy().into_owned();
        shown.extend(["--cacert", &file]);
        Ok(said(&curl(stack, "http", &shown, &url(), &token)?).contains("approved"))
    };
    let signs = async |stack: &Stack, name: &str| -> Result<bool> {
        let text = https::send_plain(stack.gateway_address("metrics")?, "/metrics").await?.body;
        let start = format!("cordon_gateway_proxy_ca_ends_in_seconds{{ca=\"{name}\",signs=\"yes\"}} ");
        let text = String::from_utf8_lossy(&text).into_owned();
        let left: Option<i64> = text.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok());
        Ok(left.is_some_and(|left| left > 0))
    };
    assert!(trusting(&stack, &[&old])? && trusting(&stack, &[&old, &next])? && !trusting(&stack, &[&next])?);
    assert!(signs(&stack, "proxy-ca").await?);
    // The time of the next has come.
    stack.gateway = None;
    let options = fs::read_to_string(stack.dir().join("gateway.toml"))?;
    let changed = options.replace("2999-01-01", "2026-01-01");
    anyhow::ensure!(changed != options, "the time stands there");
    stack.start_gateway_as(&changed)?;
    assert!(!trusting(&stack, &[&old])? && trusting(&stack, &[&old, &next])? && trusting(&stack, &[&next])?);
    assert!(signs(&stack, "proxy-next").await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_egress_does_it_does_in_a_tunnel() -> Result<()> {
    let stack = stack_with(PLAIN).await?;
    let token = stack.token_of(cards::VISA).await?;
    let shown = inside(&stack, "signup");
    let mut shown: Vec<&str> = shown.iter().map(String::as_str).collect();
    shown.extend(["--header", "idempotency-key: order-1", "--header", "proxy-authorization: Basic c2VjcmV0"]);
    for _ in 0..2 {
        assert!(said(&curl(&stack, "http", &shown, &url(), &token)?).contains("approved"));
    }
    let got = stack.processor.requests();
    assert_eq!(got.len(), 1, "the second is answered from what is kept");
    assert!(!got.iter().flat_map(|got| &got.headers).any(|line| line.contains("c2VjcmV0")));
    // A card number in a request is refused as on the listener.
    let body: Value = serde_json::json!({"card": {"number": cards::VISA}});
    let output = curl(&stack, "http", &shown, &url(), body["card"]["number"].as_str().unwrap_or_default())?;
    assert!(said(&output).contains("422 "), "{}", said(&output));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_cannot_sign_keeps_the_gateway_from_starting() -> Result<()> {
    let mut stack =
        Stack::start(Options { gateway: false, gateway_tables: PLAIN, ..Options::default() }).await?;
    let other = make_ca(&stack, "other")?;
    make_ca(&stack, "proxy-ca")?;
    fs::copy(other, stack.dir().join("proxy-ca.pem"))?;
    let refused = stack.start_gateway().err().context("it started")?;
    assert!(format!("{refused:#}").contains("the key is another's"), "{refused:#}");
    Ok(())
}
