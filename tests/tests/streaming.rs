//! Bodies of a hundred megabytes through the real gateway: all of them or nothing, in memory that does not grow with them.

#[path = "shared/codings.rs"]
mod codings;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use codings::CODINGS;
use cordon_tests::cards::{MASTERCARD, VISA};
use cordon_tests::search;
use cordon_tests::stack::{Options, Stack};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A service that writes what it gets to a file, as it comes.
struct Keeper {
    address: SocketAddr,
    file: PathBuf,
    heads: Arc<Mutex<Vec<String>>>,
    got: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    /// `pause` is how long it waits before it reads on after the first megabyte.
    async fn start(file: PathBuf, pause: Duration) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (heads, got) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
        let kept = (Arc::clone(&heads), Arc::clone(&got), file.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = kept.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| keep(request, kept.clone(), pause));
                    let server = hyper::server::conn::http1::Builder::new();
                    drop(server.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Ok(Self { address, file, heads, got, task })
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it got last.
    fn text(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.file)?)
    }
}

type Kept = (Arc<Mutex<Vec<String>>>, Arc<AtomicU64>, PathBuf);

async fn keep(
    request: Request<Incoming>,
    (heads, got, file): Kept,
    pause: Duration,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, mut body) = request.into_parts();
    let length = parts.headers.get("content-length").map(|length| format!("{length:?}"));
    heads.lock().unwrap_or_else(PoisonError::into_inner).push(format!(
        "{} {}",
        parts.uri,
        length.unwrap_or_default()
    ));
    let mut file = File::create(file).ok();
    let (mut total, mut paused) = (0, false);
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        total += data.len();
        got.fetch_add(u64::try_from(data.len()).unwrap_or_default(), Ordering::SeqCst);
        if let Some(file) = &mut file {
            drop(file.write_all(&data));
        }
        if total > 1_000_000 && !paused {
            paused = true;
            tokio::time::sleep(pause).await;
        }
    }
    Ok(Response::new(Full::new(Bytes::from_static(b"taken"))))
}

const ROUTE: &str = r#"
[[ingress]]
name = "bulk"
hosts = ["signup.cordon.test"]
methods = ["POST"]
path = "/bulk"
upstream = "http://@UPSTREAM@"
service = "signup"
collection = "cards"
content = ["ndjson", "csv", "fixed", "multipart"]
stream = true
max_body = "200MiB"
timeout = "60s"

[[ingress.field]]
json = "$.cards[*].number"
csv = "number"
form = "number"
fixed = "1-40"
op = "tokenize"
"#;

async fn started(pause: Duration) -> Result<(Stack, Keeper, tempfile::TempDir)> {
    started_with(pause, "").await
}

async fn started_with(pause: Duration, tables: &'static str) -> Result<(Stack, Keeper, tempfile::TempDir)> {
    let scratch = tempfile::tempdir()?;
    let keeper = Keeper::start(scratch.path().join("kept"), pause).await?;
    let routes = ROUTE.replace("@UPSTREAM@", &keeper.address.to_string());
    let stack = Stack::start(Options { routes, gateway_tables: tables, ..Options::default() }).await?;
    Ok((stack, keeper, scratch))
}

/// curl, which reads the file as it sends it.
async fn upload(stack: &Stack, kind: &str, file: &Path, extra: &[&str]) -> Result<Output> {
    let port = stack.gateway_address("ingress")?.port();
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--max-time", "300", "--request", "POST"])
        .args(["--write-out", "\n%{http_code}"])
        .arg("--cacert")
        .arg(stack.authority.root())
        .args(["--resolve", &format!("gateway.cordon.test:{port}:127.0.0.1")])
        .args(["--header", "Host: signup.cordon.test", "--header", &format!("Content-Type: {kind}")])
        .args(extra)
        .arg("--upload-file")
        .arg(file)
        .arg(format!("https://gateway.cordon.test:{port}/bulk"));
    tokio::task::spawn_blocking(move || command.output()).await?.context("curl")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Most memory that the gateway ever had, in bytes.
fn peak(stack: &Stack) -> Result<u64> {
    let id = stack.gateway.as_ref().context("a gateway")?.id();
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("a peak")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// The tokens of a text, and the text with `CARD` in their place.
fn without_tokens(text: &str) -> (Vec<String>, String) {
    let mut parts = text.split("tok_");
    let mut rest = parts.next().unwrap_or_default().to_owned();
    let mut tokens = Vec::new();
    for part in parts {
        let end = part.find(|it: char| !it.is_ascii_alphanumeric() && it != '_').unwrap_or(part.len());
        let (token, after) = part.split_at(end);
        tokens.push(format!("tok_{token}"));
        rest.push_str("CARD");
        rest.push_str(after);
    }
    (tokens, rest)
}

fn spooled(stack: &Stack) -> Result<usize> {
    Ok(fs::read_dir(stack.dir().join("gateway-data/spool"))?.count())
}

/// Rows of about a kilobyte; every hundredth has a card.
fn rows(count: usize) -> impl Iterator<Item = (String, String)> {
    (0..count).map(|row| {
        let note = format!("row {row} of the import, \"\"quoted\"\" and\nin two lines; ").repeat(22);
        let number = if row % 200 == 0 { VISA } else { "" };
        let number = if row % 200 == 100 { MASTERCARD } else { number };
        let line = |number: &str| format!("{row},\"{note}\",{number},Zo\u{eb}\r\n");
        (line(number), line(if number.is_empty() { "" } else { "CARD" }))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_pass_in_memory_that_does_not_grow_with_them() -> Result<()> {
    let (stack, keeper, scratch) = started(Duration::from_secs(1)).await?;
    let (source, wanted) = (scratch.path().join("source.csv"), scratch.path().join("wanted.csv"));
    let (mut out, mut want) =
        (std::io::BufWriter::new(File::create(&source)?), std::io::BufWriter::new(File::create(&wanted)?));
    writeln!(out, "id,note,number,name")?;
    writeln!(want, "id,note,number,name")?;
    for (row, rewritten) in rows(97_000) {
        out.write_all(row.as_bytes())?;
        want.write_all(rewritten.as_bytes())?;
    }
    out.flush()?;
    want.flush()?;
    let length = fs::metadata(&source)?.len();
    ensure!(length > 100_000_000, "{length} bytes");
    // A smaller one first, so that all that a request needs is there.
    let smaller = scratch.path().join("smaller.csv");
    let text: String = rows(12_000).map(|(row, _)| row).collect();
    fs::write(&smaller, format!("id,note,number,name\n{text}"))?;
    assert!(said(&upload(&stack, "text/csv", &smaller, &[]).await?).starts_with("taken\n200"));
    let before = peak(&stack)?;
    for version in ["--http1.1", "--http2"] {
        keeper.got.store(0, Ordering::SeqCst);
        let expect = ["--header", "Expect: 100-continue"];
        let extra =
            if version == "--http1.1" { [version, expect[0], expect[1]].to_vec() } else { vec![version] };
        let output = upload(&stack, "text/csv", &source, &extra).await?;
        assert!(said(&output).starts_with("taken\n200"), "{version}: {}", said(&output));
        let grown = peak(&stack)?.saturating_sub(before);
        println!("{version}: {length} bytes, memory grew by {} KiB at most", grown / 1024);
        assert!(grown < 48 * 1024 * 1024, "memory grew by {grown} bytes");
        let (mut got, mut want) =
            (BufReader::new(File::open(&keeper.file)?), BufReader::new(File::open(&wanted)?));
        let (mut cards, mut lines) = (0, 0_usize);
        loop {
            let (mut one, mut other) = (String::new(), String::new());
            let read = (got.read_line(&mut one)?, want.read_line(&mut other)?);
            let (tokens, one) = without_tokens(&one);
            assert_eq!(one, other, "line {lines}");
            (cards, lines) = (cards + tokens.len(), lines + 1);
            if read.0 == 0 {
                break;
            }
        }
        assert_eq!(cards, 970);
        let head = keeper.heads().pop().context("a request")?;
        assert_eq!(head, format!("/bulk \"{}\"", keeper.got.load(Ordering::SeqCst)), "told its length");
    }
    let audit = stack.audit("gateway");
    let pieces: Vec<_> = audit.lines().filter(|line| line.contains("\"piece\"")).collect();
    assert!(pieces.len() > 100, "{} lines", pieces.len());
    assert_eq!(audit.matches("\"items\":970").count(), 2, "one line for each request");
    for number in [VISA, MASTERCARD] {
        assert_eq!(search::find(number, audit.as_bytes()), None);
    }
    assert_eq!(spooled(&stack)?, 0);
    Ok(())
}

/// Words that no coder makes much smaller, the same for a line each time.
fn words(line: u64) -> String {
    let mut state = line.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'a' + u8::try_from(state % 26).unwrap_or_default())
    };
    (0..30).map(|_| (0..6).map(|_| letter()).collect::<String>()).collect::<Vec<_>>().join(" ")
}

/// A body of each type with cards early and late, and what the service should get of it.
fn bodies() -> Vec<(&'static str, String, String)> {
    let mut ndjson = String::new();
    let mut fixed = String::new();
    for line in 0..9_000 {
        let filler = words(line);
        // Seven cards a line now and then: more than a call to the vault takes, in lines that lie together.
        let cards = if (2_000..2_300).contains(&line) { 7 } else { 0 };
        let cards = vec![format!("{{\"number\":\"{VISA}\"}}"); cards].join(",");
        ndjson.push_str(&format!("{{\"line\":{line},\"cards\":[{cards}],\"note\":\"{filler}\"}}\n"));
        let number = if line % 3_000 == 5 { MASTERCARD } else { "" };
        fixed.push_str(&format!("{number:40} {filler}\r\n"));
    }
    let head = |name: &str, more: &str| {
        format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n")
    };
    let file: String = (0..9_000).map(|line| format!("{line} {}\r\n", words(line))).collect();
    let form = format!(
        "{}{VISA}\r\n{}{file}\r\n{}{file}\r\n{}{MASTERCARD}\r\n--XX--\r\n",
        head("number", ""),
        head("file", "; filename=\"a.txt\"\r\nContent-Type: text/plain"),
        head("more", ""),
        head("number", "")
    );
    let replaced = |text: &str| text.replace(VISA, "CARD").replace(MASTERCARD, "CARD");
    vec![
        ("application/x-ndjson", ndjson.clone(), replaced(&ndjson)),
        ("multipart/form-data; boundary=XX", form.clone(), replaced(&form)),
        ("text/plain", fixed.clone(), replaced(&fixed)),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_bodies_of_every_type_and_coding_are_rewritten_in_place() -> Result<()> {
    let (stack, keeper, scratch) = started(Duration::ZERO).await?;
    let file = scratch.path().join("body");
    for (kind, body, wanted) in bodies() {
        for (coding, code) in CODINGS {
            let coded = code(body.as_bytes());
            fs::write(&file, &coded)?;
            let header = format!("Content-Encoding: {coding}");
            let extra = if coding.is_empty() { vec![] } else { vec!["--header", &header] };
            let output = upload(&stack, kind, &file, &extra).await?;
            let (tokens, text) = without_tokens(&keeper.text()?);
            assert!(said(&output).starts_with("taken\n200"), "{kind} {coding}: {}", said(&output));
            // What is left of a column's width is filled up with blanks.
            let squeezed =
                |text: &str| text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
            assert!(squeezed(&text) == squeezed(&wanted), "{kind} {coding}");
            assert_eq!(tokens.len(), wanted.matches("CARD").count(), "{kind} {coding}");
        }
    }
    assert_eq!(search::find(VISA, stack.gateway.as_ref().context("a gateway")?.log().as_bytes()), None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_long_body_goes_on_that_is_refused_at_its_end() -> Result<()> {
    let (stack, keeper, scratch) = started_with(Duration::ZERO, "[stream]\nspool_mib = 6\n").await?;
    let file = scratch.path().join("body");
    let lines: String =
        (0..40_000).map(|line| format!("{{\"line\":{line},\"note\":\"as long as this\"}}\n")).collect();
    ensure!(lines.len() > 1_500_000);
    let kind = "application/x-ndjson";
    let card = format!("{{\"cards\":[{{\"number\":\"{VISA}\"}}]}}\n");
    let good = format!("{card}{lines}");
    for (body, code) in [
        (format!("{good}{{\"note\":\"{MASTERCARD}\"}}\n"), "leak-blocked"),
        (format!("{good}{{\"cards\":[{{\"number\":\"4111111111111112\"}}]}}\n"), "bad-pan"),
        (format!("{good}{{\"line\":1,\"line\":2}}\n"), "malformed"),
        (format!("{good}{{\"note\":\"{}\"}}\n", "x".repeat(2_000_000)), "too-large"),
        (good.repeat(5), "busy"),
    ] {
        fs::write(&file, body)?;
        let text = said(&upload(&stack, kind, &file, &[]).await?);
        assert!(text.contains(&format!("\"code\":\"{code}\"")), "{code}: {text}");
    }
    // Cut short by a coding that says how long it should have been.
    let coded = CODINGS.into_iter().find(|(name, _)| *name == "gzip").context("gzip")?.1(good.as_bytes());
    let header = ["--header", "Content-Encoding: gzip"];
    fs::write(&file, coded.get(..coded.len() - 5).context("coded")?)?;
    let text = said(&upload(&stack, kind, &file, &header).await?);
    assert!(text.contains("\"code\":\"malformed\""), "{text}");
    // A client that goes away.
    fs::write(&file, &good)?;
    let gone = upload(&stack, kind, &file, &["--limit-rate", "2M", "--max-time", "0.4"]).await?;
    assert_eq!(gone.status.code(), Some(28), "{}", said(&gone));
    assert!(keeper.heads().is_empty(), "{:?}", keeper.heads());
    assert!(!keeper.file.exists(), "the service saw no byte");
    // The room that they had is free again.
    fs::write(&file, &good)?;
    let text = said(&upload(&stack, kind, &file, &[]).await?);
    assert!(text.starts_with("taken\n200"), "{text}");
    assert_eq!(without_tokens(&keeper.text()?).1, good.replace(VISA, "CARD"));
    Ok(())
}
