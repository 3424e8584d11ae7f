//! Events from the real gateway, to a file, standard output and a real NATS server: each line of its audit log that has one,
//! over kill -9 of either side.

#![expect(clippy::indexing_slicing, reason = "a member that JSON lacks is null")]

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::{self, stream};
use cordon_tests::cards::{MASTERCARD, VISA};
use cordon_tests::pki::Files;
use cordon_tests::process::binary;
use cordon_tests::stack::{Options, Stack};
use cordon_tests::{https, search, stub};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A NATS server with JetStream on disk. It ends with this value.
struct Server {
    child: Child,
    port: u16,
    arguments: Vec<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

impl Server {
    async fn start(dir: &Path, more: &[String]) -> Result<Self> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let store = ["-js", "-sd", &text(&dir.join("nats")), "-a", "127.0.0.1"].map(str::to_owned);
        let arguments: Vec<_> = store.into_iter().chain(more.iter().cloned()).collect();
        let ports = text(dir);
        let child = Command::new("nats-server")
            .args(&arguments)
            .args(["-p", "-1", "--ports_file_dir", &ports])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("nats-server (Debian package nats-server)")?;
        let file = dir.join(format!("nats-server_{}.ports", child.id()));
        let mut server = Self { child, port: 0, arguments };
        let deadline = Instant::now() + cordon_tests::patience();
        while server.port == 0 {
            ensure!(Instant::now() < deadline, "nats-server said no port");
            tokio::time::sleep(Duration::from_millis(20)).await;
            let said: Value =
                serde_json::from_slice(&fs::read(&file).unwrap_or_default()).unwrap_or_default();
            let url = said.pointer("/nats/0").and_then(Value::as_str).unwrap_or_default();
            server.port = url.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0);
        }
        Ok(server)
    }

    /// kill -9.
    fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Again, on the same port and disk.
    fn restart(&mut self) -> Result<()> {
        self.child = Command::new("nats-server")
            .args(&self.arguments)
            .args(["-p", &self.port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(())
    }
}

async fn connect(url: &str, tls: Option<(&Path, &Files)>) -> Result<jetstream::Context> {
    let mut options = async_nats::ConnectOptions::new().retry_on_initial_connect();
    if let Some((roots, files)) = tls {
        options = options
            .tls_client_config(Arc::unwrap_or_clone(https::tls(roots, Some(files))?))
            .require_tls(true);
    }
    Ok(jetstream::new(options.connect(url).await?))
}

async fn make(context: &jetstream::Context) -> Result<()> {
    let config = stream::Config {
        name: "cards".to_owned(),
        subjects: vec!["cordon.events.>".to_owned()],
        storage: stream::StorageType::File,
        ..stream::Config::default()
    };
    let deadline = Instant::now() + cordon_tests::patience();
    // The server says its port before JetStream is there.
    while let Err(error) = context.create_stream(config.clone()).await {
        ensure!(Instant::now() < deadline, "no stream: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Subject and payload of all messages.
async fn messages(context: &jetstream::Context) -> Result<Vec<(String, Vec<u8>)>> {
    let mut stream = context.get_stream("cards").await?;
    let last = stream.info().await?.state.last_sequence;
    let mut all = Vec::new();
    for sequence in 1..=last {
        let message = stream.get_raw_message(sequence).await?;
        all.push((message.subject.to_string(), message.payload.to_vec()));
    }
    Ok(all)
}

/// Waits until the stream has an event of each of these lines.
async fn caught_up(
    context: &jetstream::Context,
    wanted: &BTreeSet<String>,
) -> Result<Vec<(String, Vec<u8>)>> {
    let deadline = Instant::now() + cordon_tests::patience();
    loop {
        if let Ok(all) = messages(context).await
            && ids(&all)?.is_superset(wanted)
        {
            return Ok(all);
        }
        ensure!(Instant::now() < deadline, "the stream never had all events");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn ids(messages: &[(String, Vec<u8>)]) -> Result<BTreeSet<String>> {
    let id = |(_, payload): &(String, Vec<u8>)| -> Result<String> {
        let event: Value = serde_json::from_slice(payload)?;
        Ok(event["id"].as_str().context("an id")?.to_owned())
    };
    messages.iter().map(id).collect()
}

/// The numbers of the gateway's lines by which cards became tokens.
fn tokenized(stack: &Stack) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for line in stack.audit("gateway").lines().filter(|line| line.starts_with('{')) {
        let line: Value = serde_json::from_str(line.trim_end_matches('\0'))?;
        if line["what"] == "forward" && line["outcome"] == "allowed" && !line["tokens"].is_null() {
            all.insert(line["n"].to_string());
        }
    }
    Ok(all)
}

fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

const ROUTES: &str = r#"
[[ingress]]
name = "guarded"
hosts = ["signup.cordon.test"]
methods = ["POST"]
path = "/guarded"
upstream = "http://@SIGNUP@"
service = "signup"
collection = "cards"
content = ["json"]
[ingress.outcome]
json = "$.status"
approved = ["approved"]
declined = ["declined"]
[[ingress.field]]
json = "$.card.number"
op = "tokenize"
[[ingress.abuse]]
name = "one-try"
per = "address"
count = "requests"
over = 1
within = "10m"
action = "deny"

[[ingress]]
name = "nowhere"
hosts = ["signup.cordon.test"]
methods = ["POST"]
path = "/nowhere"
upstream = "http://127.0.0.1:1"
service = "signup"
collection = "cards"
content = ["json"]
[[ingress.field]]
json = "$.card.number"
op = "tokenize"
"#;

/// A server that wants TLS and a certificate, and the gateway's settings for it and a file.
async fn guarded(dir: &Path) -> Result<(Server, jetstream::Context, String)> {
    let authority = cordon_tests::pki::Authority::new(dir, "nats")?;
    let (files, own) = (authority.server("localhost")?, authority.client("gateway")?);
    let root = authority.root();
    let flags = [("--tlscert", &files.cert), ("--tlskey", &files.key), ("--tlscacert", &root)];
    let flags =
        flags.into_iter().flat_map(|(flag, path)| [flag.to_owned(), path.to_string_lossy().into_owned()]);
    let flags: Vec<_> = ["--tls", "--tlsverify"].map(str::to_owned).into_iter().chain(flags).collect();
    let server = Server::start(dir, &flags).await?;
    let url = format!("tls://localhost:{}", server.port);
    let context = connect(&url, Some((&root, &own))).await?;
    make(&context).await?;
    let tables = format!(
        "[[events]]\nkind = \"file\"\npath = \"gateway-data/events.jsonl\"\n\
         [[events]]\nkind = \"nats\"\nserver = \"{url}\"\nsubject = \"cordon.events\"\nstream = \"cards\"\n\
         roots = \"{}\"\nidentity = {{ cert = \"{}\", key = \"{}\" }}\n",
        root.display(),
        own.cert.display(),
        own.key.display()
    );
    Ok((server, context, tables))
}

/// Does what makes at least one event of each kind.
async fn provoke(stack: &Stack) -> Result<()> {
    let body = |number: &str| json!({"card": {"number": number}}).to_string();
    let token = stack.token_of(VISA).await?;
    let charge = json!({"card": {"number": token}});
    assert_eq!(stack.charge("signup", "/v1/charges", &charge).await?.status, 200);
    for (path, number, status) in [
        ("/guarded", VISA, 402),
        ("/guarded", MASTERCARD, 429),
        ("/nowhere", VISA, 502),
        ("/undeclared", VISA, 404),
    ] {
        assert_eq!(stack.browser(path, "application/json", body(number)).await?.status, status, "{path}");
    }
    let leak = json!({"note": VISA}).to_string();
    assert_eq!(stack.browser("/signup", "application/json", leak).await?.status, 422);
    Ok(())
}

const PROVOKED: [(&str, usize); 7] = [
    ("cordon.card.tokenized", 3),
    ("cordon.card.revealed", 1),
    ("cordon.request.denied", 1),
    ("cordon.request.failed", 1),
    ("cordon.leak.found", 1),
    ("cordon.payment.outcome", 1),
    ("cordon.abuse.detected", 2),
];

/// How many there are of each kind; each stands under its subject.
fn kinds(all: &[(String, Vec<u8>)]) -> Result<BTreeMap<String, usize>> {
    let mut kinds = BTreeMap::new();
    for (subject, payload) in all {
        let event: Value = serde_json::from_slice(payload)?;
        let kind = event["type"].as_str().context("a type")?.to_owned();
        assert_eq!(*subject, kind.replace("cordon.", "cordon.events."));
        if kind == "cordon.payment.outcome" {
            let Value::Object(data) = &event["data"] else { anyhow::bail!("no data") };
            assert_eq!((&data["reason"], &data["service"]), (&json!("declined"), &json!("signup")));
            assert_eq!(data["iins"], json!(["41111111"]));
        }
        *kinds.entry(kind).or_insert(0) += 1;
    }
    Ok(kinds)
}

/// What the gateway says of its readers: over its socket, and in its metrics.
async fn told(stack: &Stack) -> Result<(Vec<Value>, String)> {
    let mut command = Command::new(binary("cordon")?);
    command.args(["gateway", "status", "--json", "--socket"]);
    let status = command.arg(stack.dir().join("gateway-data/control.sock")).output()?;
    let status: Value = serde_json::from_slice(&status.stdout)?;
    let sinks = status["sinks"].as_array().context("sinks")?.iter().map(|sink| sink["kind"].clone());
    let metrics = https::send_plain(stack.gateway_address("metrics")?, "/metrics").await?;
    Ok((sinks.collect(), String::from_utf8_lossy(&metrics.body).into_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_event_reaches_a_file_and_a_stream_over_tls_and_holds_no_card() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let (_server, context, tables) = guarded(scratch.path()).await?;
    let options = Options {
        signup: Arc::new(|_| stub::json(402, &json!({"status": "declined"}))),
        routes: ROUTES.to_owned(),
        gateway_tables: leaked(tables),
        ..Options::default()
    };
    let mut stack = Stack::start(options).await?;
    provoke(&stack).await?;
    let deadline = Instant::now() + cordon_tests::patience();
    let all = loop {
        let all = messages(&context).await?;
        if all.len() >= PROVOKED.iter().map(|(_, count)| count).sum() {
            break all;
        }
        let log = || stack.gateway.as_ref().map(|gateway| gateway.log()).unwrap_or_default();
        ensure!(Instant::now() < deadline, "only {} events: {}", all.len(), log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(kinds(&all)?, PROVOKED.map(|(kind, count)| (kind.to_owned(), count)).into());
    let gauge = "cordon_gateway_sink_behind_lines{number=\"1\",kind=\"events-nats\"} 0";
    loop {
        let (sinks, metrics) = told(&stack).await?;
        assert_eq!(sinks, ["events-file", "events-nats"]);
        // An acknowledgement may still be on its way.
        if metrics.contains(gauge) {
            break;
        }
        ensure!(Instant::now() < deadline, "{metrics}");
    }
    stack.gateway.as_mut().context("a gateway")?.terminate().await?;
    let text = fs::read(stack.dir().join("gateway-data/events.jsonl"))?;
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    assert_eq!(lines, all.iter().map(|(_, payload)| payload.as_slice()).collect::<Vec<_>>());
    for number in [VISA, MASTERCARD] {
        assert_eq!(search::find(number, &text), None);
    }
    Ok(())
}

fn plain(port: u16, more: &str) -> &'static str {
    leaked(format!(
        "[[events]]\nkind = \"nats\"\nserver = \"nats://127.0.0.1:{port}\"\nsubject = \"cordon.events\"\n\
         stream = \"cards\"\n{more}\n[[events]]\nkind = \"file\"\npath = \"gateway-data/events.jsonl\"\n"
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_lost_when_either_side_is_killed_again_and_again() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let mut server = Server::start(scratch.path(), &[]).await?;
    let context = connect(&format!("nats://127.0.0.1:{}", server.port), None).await?;
    make(&context).await?;
    let mut stack =
        Stack::start(Options { gateway_tables: plain(server.port, ""), ..Options::default() }).await?;
    let body = json!({"card": {"number": VISA}}).to_string();
    let mut passed = 0_usize;
    for round in 0..120 {
        match round {
            20 | 70 => server.kill()?,
            30 | 90 => server.restart()?,
            15 | 25 | 75 | 100 => {
                stack.gateway.as_mut().context("a gateway")?.kill()?;
                stack.start_gateway()?;
            }
            _ => {}
        }
        let answer = stack.browser("/signup", "application/json", body.clone()).await?;
        passed += usize::from(answer.status == 201);
    }
    assert_eq!(passed, 120, "events hold up no request");
    let wanted = tokenized(&stack)?;
    assert_eq!(wanted.len(), 120);
    let all = caught_up(&context, &wanted).await?;
    assert_eq!(ids(&all)?, wanted, "and no other event");
    stack.gateway.as_mut().context("a gateway")?.kill()?;
    stack.start_gateway()?;
    stack.gateway.as_mut().context("a gateway")?.terminate().await?;
    let file = fs::read_to_string(stack.dir().join("gateway-data/events.jsonl"))?;
    let in_file: Vec<_> = file.lines().map(|line| (String::new(), line.as_bytes().to_vec())).collect();
    assert_eq!((in_file.len(), ids(&in_file)?), (120, wanted), "each once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_nothing_holds_nobody_up_and_is_named() -> Result<()> {
    // It accepts, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let tables = plain(silent.local_addr()?.port(), "backlog = 1");
    let stack = Stack::start(Options { gateway_tables: tables, ..Options::default() }).await?;
    for _ in 0..10 {
        let body = json!({"card": {"number": VISA}}).to_string();
        assert_eq!(stack.browser("/signup", "application/json", body).await?.status, 201);
    }
    let metrics = https::send_plain(stack.gateway_address("metrics")?, "/metrics").await?;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    let behind = metrics.lines().find_map(|line| {
        line.strip_prefix("cordon_gateway_sink_behind_lines{number=\"0\",kind=\"events-nats\"} ")
    });
    assert!(behind.is_some_and(|lines| lines.parse::<u64>().is_ok_and(|lines| lines >= 10)), "{behind:?}");
    assert!(metrics.contains("cordon_gateway_audit_degraded 1"), "{metrics}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_missing_is_asked_for_and_then_gets_all() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let server = Server::start(scratch.path(), &[]).await?;
    let stack =
        Stack::start(Options { gateway_tables: plain(server.port, ""), ..Options::default() }).await?;
    let body = json!({"card": {"number": VISA}}).to_string();
    assert_eq!(stack.browser("/signup", "application/json", body).await?.status, 201);
    let gateway = stack.gateway.as_ref().context("a gateway")?;
    stack
        .until("it is asked for", || {
            gateway.log().contains("nats stream add cards --subjects 'cordon.events.>'")
        })
        .await?;
    let context = connect(&format!("nats://127.0.0.1:{}", server.port), None).await?;
    make(&context).await?;
    let wanted = tokenized(&stack)?;
    assert_eq!(ids(&caught_up(&context, &wanted).await?)?, wanted);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_output_has_the_announcements_first_and_then_the_events() -> Result<()> {
    let tables = "[[events]]\nkind = \"stdout\"\ntypes = [\"cordon.request.denied\"]\n";
    let mut stack = Stack::start(Options { gateway_tables: tables, ..Options::default() }).await?;
    // The harness's own reader of standard output leaves after `ready`.
    stack.gateway.as_mut().context("a gateway")?.terminate().await?;
    let config = stack.dir().join("gateway.toml");
    let mut child = Command::new(binary("cordon-gateway")?)
        .arg("--config")
        .arg(config)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("a stdout")?).lines();
    let mut next = || -> Result<Value> { Ok(serde_json::from_str(&lines.next().context("a line")??)?) };
    let mut ingress = None;
    loop {
        let said = next()?;
        match (said["event"].as_str(), said["listener"].as_str()) {
            (Some("listening"), Some("ingress")) => ingress = said["address"].as_str().map(str::to_owned),
            (Some("listening"), _) => {}
            (Some("ready"), _) => break,
            _ => anyhow::bail!("before ready: {said}"),
        }
    }
    let tls = https::tls(&stack.authority.root(), None)?;
    let request =
        http::Request::get("/undeclared").header("host", "signup.cordon.test").body(Default::default())?;
    let answer =
        https::send(ingress.context("an ingress")?.parse()?, "gateway.cordon.test", &tls, request).await?;
    assert_eq!(answer.status, 404);
    let event = next()?;
    assert_eq!(
        (&event["type"], &event["data"]["reason"]),
        (&json!("cordon.request.denied"), &json!("unknown-route"))
    );
    kill_process(Pid::from_raw(i32::try_from(child.id())?).context("a process id")?, Signal::TERM)?;
    assert!(child.wait()?.success());
    Ok(())
}
