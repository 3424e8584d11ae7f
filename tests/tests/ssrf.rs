//! Where the gateway connects to: never where a caller says, nor where a name server says if the bundle does not.

use anyhow::{Context, Result, ensure};
use cordon_tests::process::{Daemon, binary};
use cordon_tests::raw::Raw;
use cordon_tests::stack::{Options, Stack};
use cordon_tests::stub::{Received, Respond, json};
use cordon_tests::{cards, https, search};
use http::HeaderValue;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, UdpSocket};

/// Addresses as somebody writes them who wants one reader to see a name and another an address (threat B27).
const ENCODINGS: [&str; 46] = [
    "127.1",
    "127.0.1",
    "127.0.0.01",
    "127.000.000.001",
    "00127.0.0.1",
    "0177.0.0.1",
    "0177.0.0.01",
    "0x7f.0.0.1",
    "0x7F.0x0.0x0.0x1",
    "0x7f.1",
    "0x7f000001",
    "017700000001",
    "2130706433",
    "4294967297",
    "127.0.0.1.",
    "127.0.0.1.1",
    "127.0.0.256",
    "1.2.3",
    "169.254.43518",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "2852039166",
    "::1",
    "[::1]",
    "::ffff:127.0.0.1",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:a9fe:a9fe]",
    "[fe80::1%25lo]",
    "[processor.cordon.test]",
    "127.0.0.1:443",
    "user@processor.cordon.test",
    "processor.cordon.test@127.0.0.1",
    "processor.cordon.test:443@127.0.0.1",
    "processor.cordon.test#@127.0.0.1",
    "processor.cordon.test/../x",
    "processor.cordon.test%00.elsewhere.test",
    "%31%32%37.0.0.1",
    "\u{ff11}\u{ff12}\u{ff17}.0.0.1",
    "127\u{3002}0\u{3002}0\u{3002}1",
    "\u{24db}ocalhost",
    "*.cordon.test",
    "processor..test",
    ".cordon.test",
    "-processor.test",
    "http://127.0.0.1",
];

fn charge(token: &str) -> serde_json::Value {
    serde_json::json!({"card": {"number": token}})
}

fn check(stack: &Stack) -> Result<(Option<i32>, String)> {
    let config = stack.dir().join("gateway.toml");
    let output =
        Command::new(binary("cordon-gateway")?).arg("--config").arg(config).arg("--check").output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[tokio::test]
async fn a_destination_s_host_is_a_plain_name_or_address() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    assert_eq!(check(&stack)?.0, Some(0));
    let mut before = "processor.cordon.test".to_owned();
    for encoding in ENCODINGS {
        stack.rewrite(SEGMENTS, &format!("host = {before:?}\n"), &format!("host = {encoding:?}\n"))?;
        encoding.clone_into(&mut before);
        let (code, log) = check(&stack)?;
        assert_eq!(code, Some(78), "{encoding}: {log}");
        assert!(log.contains("segments.toml"), "{encoding}: {log}");
    }
    Ok(())
}

#[tokio::test]
async fn the_egress_takes_no_url_and_no_second_host() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let body = charge(&stack.token_of(cards::VISA).await?).to_string();
    let tls = https::tls(&stack.authority.root(), Some(&stack.identity("signup")))?;
    let address = stack.gateway_address("egress")?;
    let exchange = async |line: &str, host: &str| {
        let mut raw = Raw::connect(address, &tls, b"http/1.1").await?;
        let head = format!(
            "{line} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        raw.write(head.as_bytes()).await?;
        Ok::<_, anyhow::Error>(String::from_utf8_lossy(&raw.rest().await?).into_owned())
    };
    for encoding in ENCODINGS.into_iter().chain(["169.254.169.254", "localhost", "processor.cordon.test"]) {
        for line in [
            format!("POST http://{encoding}/v1/charges"),
            format!("POST https://{encoding}:443/v1/charges"),
            format!("CONNECT {encoding}:443"),
        ] {
            let text = exchange(&line, encoding).await?;
            assert!(text.starts_with("HTTP/1.1 400"), "{line}: {text}");
        }
    }
    assert!(stack.processor.bytes().is_empty());
    // What a plain host says is not looked at: the route knows where to.
    let text = exchange("POST /v1/charges", "169.254.169.254").await?;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let received = stack.processor.requests().pop().context("a charge")?;
    assert!(received.headers.contains(&"host: processor.cordon.test".to_owned()), "{received:?}");
    Ok(())
}

#[tokio::test]
async fn no_redirect_is_followed_and_none_carries_the_card_back() -> Result<()> {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await?;
    let plain = format!("http://{}/v1/charges", elsewhere.local_addr()?);
    let escaped: String = cards::VISA.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let grouped = "4111-1111-1111-1111";
    let base64 = data_encoding::BASE64URL_NOPAD.encode(cards::VISA.as_bytes());
    let next = Arc::new(Mutex::new((307, plain.clone())));
    let told = Arc::clone(&next);
    let processor: Arc<Respond> = Arc::new(move |_: &Received| {
        let (status, location) = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut response = json(status, &serde_json::json!({"moved": true}));
        response
            .headers_mut()
            .extend(HeaderValue::from_str(&location).ok().map(|to| (http::header::LOCATION, to)));
        response
    });
    let stack = Stack::start(Options { processor, ..Options::default() }).await?;
    let token = stack.token_of(cards::VISA).await?;
    for status in [300, 301, 302, 303, 305, 307, 308] {
        for (location, leaks) in [
            (plain.clone(), false),
            (format!("{plain}?card={}", cards::VISA), true),
            (format!("{plain}/{grouped}"), true),
            (format!("{plain}?card={escaped}"), true),
            (format!("{plain}?card={base64}"), true),
        ] {
            *next.lock().unwrap_or_else(PoisonError::into_inner) = (status, location.clone());
            let before = stack.processor.requests().len();
            let answer = stack.charge("signup", "/v1/charges", &charge(&token)).await?;
            let expected = if leaks { 502 } else { status };
            assert_eq!(answer.status.as_u16(), expected, "{status} {location}");
            assert_eq!(answer.headers.get("location").is_some(), !leaks, "{status} {location}");
            assert_eq!(search::find(cards::VISA, format!("{:?}", answer.headers).as_bytes()), None);
            assert_eq!(stack.processor.requests().len(), before + 1, "sent once: {status} {location}");
        }
    }
    let followed = tokio::time::timeout(std::time::Duration::from_millis(50), elsewhere.accept()).await;
    assert!(followed.is_err(), "nobody came to where the redirects point");
    Ok(())
}

/// The name that a client asks for in its first bytes.
async fn asked_name(listener: &TcpListener) -> Result<String> {
    let (mut stream, _) = listener.accept().await?;
    let mut acceptor = rustls::server::Acceptor::default();
    loop {
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).await?;
        ensure!(count > 0, "a client hello");
        acceptor.read_tls(&mut bytes.get(..count).unwrap_or_default())?;
        if let Ok(Some(accepted)) = acceptor.accept() {
            return Ok(accepted.client_hello().server_name().context("a name")?.to_owned());
        }
    }
}

/// The gateway again, after its bundle was changed.
fn restarted(stack: &mut Stack) -> Result<()> {
    stack.gateway = None;
    stack.start_gateway()
}

#[tokio::test]
async fn tls_asks_for_the_declared_name_and_takes_no_other() -> Result<()> {
    let mut stack = Stack::start(Options::default()).await?;
    let token = stack.token_of(cards::VISA).await?;
    let before = stack.processor.address.to_string();
    // Signed by the pinned root, for another name of the same owner.
    let other = stack.authority.server("other.cordon.test")?;
    let hostile = cordon_tests::stub::Stub::start(Some(&other), Options::default().processor).await?;
    stack.rewrite(SEGMENTS, &before, &hostile.address.to_string())?;
    restarted(&mut stack)?;
    let answer = stack.charge("signup", "/v1/charges", &charge(&token)).await?;
    assert_eq!((answer.status.as_u16(), answer.problem()?.as_str()), (502, "upstream-unavailable"));
    assert!(hostile.bytes().is_empty(), "not a byte of HTTP");
    assert!(stack.audit("gateway").contains("upstream-unavailable.certificate-not-trusted"));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    stack.rewrite(SEGMENTS, &hostile.address.to_string(), &listener.local_addr()?.to_string())?;
    restarted(&mut stack)?;
    let body = charge(&token);
    let (name, _) = tokio::join!(asked_name(&listener), stack.charge("signup", "/v1/charges", &body));
    assert_eq!(name?, "processor.cordon.test");
    Ok(())
}

/// A name server that answers every name with what it was told last, once or for good.
struct Names {
    address: IpAddr,
    told: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    next: VecDeque<Vec<IpAddr>>,
    asked: usize,
}

impl Names {
    async fn start() -> Result<Self> {
        // A test of its own each: port 53 on an address of 127/8 that only this process uses.
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let address = IpAddr::from([127, 53, high, low.max(1)]);
        let socket = UdpSocket::bind((address, 53)).await.context("port 53: run this test as root")?;
        let told = Arc::new(Mutex::new(Told::default()));
        let state = Arc::clone(&told);
        tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut query).await {
                let answer = query.get(..length).and_then(|query| answer(query, &state));
                if let Some(answer) = answer {
                    drop(socket.send_to(&answer, client).await);
                }
            }
        });
        Ok(Self { address, told })
    }

    /// What the next lookups find; the last of them counts until told otherwise.
    fn tell(&self, answers: &[&[&str]]) -> Result<()> {
        let parsed = answers
            .iter()
            .map(|answer| answer.iter().map(|text| Ok(text.parse()?)).collect())
            .collect::<Result<_>>()?;
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Told { next: parsed, asked: 0 };
        Ok(())
    }

    fn asked(&self) -> usize {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).asked
    }
}

/// An answer (RFC 1035 section 4). A lookup asks for both kinds of address; the question for IPv4 is what counts it.
fn answer(query: &[u8], told: &Mutex<Told>) -> Option<Vec<u8>> {
    let name_end = 12 + query.get(12..)?.iter().position(|byte| *byte == 0)? + 1;
    let question = query.get(12..name_end + 4)?;
    let kind = u16::from_be_bytes(*query.get(name_end..)?.first_chunk()?);
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    let addresses = told.next.front()?.clone();
    if kind == A {
        told.asked += 1;
    } else if told.next.len() > 1 {
        // The C library asks for IPv4 first, so the lookup is over.
        told.next.pop_front();
    }
    let records: Vec<Vec<u8>> = addresses
        .iter()
        .filter_map(|address| match (address, kind) {
            (IpAddr::V4(address), A) => Some(address.octets().to_vec()),
            (IpAddr::V6(address), AAAA) => Some(address.octets().to_vec()),
            _ => None,
        })
        .collect();
    let code = if addresses.is_empty() { NO_SUCH_NAME } else { 0 };
    let mut message = query.get(..2)?.to_vec();
    message.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(records.len()).ok()?, 0, 0, 0, 0]);
    message.extend(question);
    for record in records {
        message.extend([0xc0, 12]);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 0, 0, u8::try_from(record.len()).ok()?]);
        message.extend(record);
    }
    Some(message)
}

const SEGMENTS: &str = "policies/segments.toml";
const A: u16 = 1;
const AAAA: u16 = 28;
const NO_SUCH_NAME: u8 = 3;

/// Starts the gateway where this name server is the only one, in a view of the file system of its own.
fn start_with(stack: &mut Stack, names: &Names) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "run this test as root: it gives the gateway another resolv.conf"
    );
    stack.gateway = None;
    let resolver = stack.dir().join("resolv.conf");
    std::fs::write(&resolver, format!("nameserver {}\noptions timeout:2 attempts:1\n", names.address))?;
    let switch = stack.dir().join("nsswitch.conf");
    std::fs::write(&switch, "hosts: files dns\n")?;
    let mut command = Command::new("unshare");
    let script = "mount --bind \"$1\" /etc/resolv.conf && mount --bind \"$2\" /etc/nsswitch.conf \
                  && exec \"$3\" --config \"$4\"";
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command.arg(resolver).arg(switch).arg(binary("cordon-gateway")?).arg(stack.dir().join("gateway.toml"));
    stack.gateway = Some(Daemon::launch(command, &stack.dir().join("gateway.log"))?);
    Ok(())
}

#[tokio::test]
async fn an_address_is_checked_once_it_is_resolved_and_it_is_the_one_connected_to() -> Result<()> {
    let processor: Arc<Respond> = Arc::new(|_: &Received| {
        let mut response = json(200, &serde_json::json!({"status": "approved"}));
        // So that every charge needs a connection, and so a lookup.
        response.headers_mut().insert("connection", HeaderValue::from_static("close"));
        response
    });
    // Each refused address is a failure of the target; here they come in a row.
    let gateway_tables = "[breaker]\nfailures = 1000\n";
    let mut stack = Stack::start(Options { processor, gateway_tables, ..Options::default() }).await?;
    let token = stack.token_of(cards::VISA).await?;
    let port = stack.processor.address.port();
    let connect = format!("connect = \"{}\"\n", stack.processor.address);
    stack.rewrite(
        SEGMENTS,
        &format!(
            "port = 443\nroots = \"{}\"\naddresses = [\"127.0.0.1/32\"]\n{connect}",
            stack.authority.root().display()
        ),
        &format!(
            "port = {port}\nroots = \"{}\"\naddresses = [\"127.0.0.1/32\"]\n",
            stack.authority.root().display()
        ),
    )?;
    let names = Names::start().await?;
    names.tell(&[&["127.0.0.1"]])?;
    start_with(&mut stack, &names)?;
    let body = charge(&token);
    let charge = async || stack.charge("signup", "/v1/charges", &body).await;
    assert_eq!(charge().await?.status, 200, "the control");
    assert_eq!(names.asked(), 1, "one lookup for one connection");
    // Where the name points to after it was checked, and on its own.
    let inside = TcpListener::bind(SocketAddr::from(([127, 0, 0, 2], port))).await?;
    names.tell(&[&["127.0.0.1"], &["127.0.0.2"]])?;
    assert_eq!(charge().await?.status, 200);
    assert_eq!(names.asked(), 1, "checked and connected to without a second lookup");
    let refused: [&[&str]; 17] = [
        &["127.0.0.2"],
        &["127.0.0.1", "127.0.0.2"],
        &["127.0.0.2", "127.0.0.1"],
        &["127.0.0.1", "::1"],
        &["10.0.0.1"],
        &["172.16.0.1"],
        &["192.168.0.1"],
        &["169.254.169.254"],
        &["100.64.0.1"],
        &["0.0.0.0"],
        &["255.255.255.255"],
        &["1.1.1.1"],
        &["::1"],
        &["::ffff:127.0.0.2"],
        &["fe80::1"],
        &["fd00:ec2::254"],
        &["64:ff9b::7f00:1"],
    ];
    for answer in refused {
        names.tell(&[answer])?;
        let before = stack.audit("gateway").matches("upstream-unavailable.address-not-allowed").count();
        let answered = charge().await?;
        assert_eq!(
            (answered.status.as_u16(), answered.problem()?.as_str()),
            (502, "upstream-unavailable"),
            "{answer:?}"
        );
        let after = stack.audit("gateway").matches("upstream-unavailable.address-not-allowed").count();
        assert_eq!(after, before + 1, "{answer:?}");
    }
    names.tell(&[&[]])?;
    assert_eq!(charge().await?.status, 502);
    assert!(stack.audit("gateway").contains("upstream-unavailable.name-not-resolved"));
    assert_eq!(stack.processor.requests().len(), 2);
    let came = tokio::time::timeout(std::time::Duration::from_millis(50), inside.accept()).await;
    assert!(came.is_err(), "nobody connected to the address that is not listed");
    names.tell(&[&["::ffff:127.0.0.1"], &["127.0.0.1"]])?;
    assert_eq!(charge().await?.status, 200, "the listed address is served again");
    Ok(())
}
