//! The scenarios, in one run on one machine, so that their ratios mean something.
//! Must never compare figures of two runs. How to read it: docs/performance.md.

use crate::gateway;
use crate::load::{self, Measured, Target};
use crate::usage;
use anyhow::{Context, Result};
use bytes::Bytes;
use cordon_card::Token;
use cordon_tests::cards::{self, done};
use cordon_tests::https;
use cordon_tests::process::Daemon;
use cordon_tests::stack::{self, Options, Stack};
use cordon_wire::{DEFAULT_REWRAP_RATE, KeyPurpose, RewrapRequest, RewrapState, RotateRequest};
use rustls::ClientConfig;
use serde::Serialize;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long and how wide.
pub(crate) struct Plan {
    pub(crate) time: Duration,
    pub(crate) connections: usize,
    pub(crate) workers: usize,
    /// Only rows whose name contains this.
    pub(crate) only: Option<String>,
}

/// One line of the result.
#[derive(Serialize)]
struct Row {
    scenario: &'static str,
    requests_per_s: f64,
    items_per_s: f64,
    p50_us: u64,
    p99_us: u64,
    max_us: u64,
    server_cpu_us_per_request: f64,
    server_rss_mib: u64,
    /// To the echo; of what comes after the bare proxy, to that.
    ratio: f64,
}

/// Runs every scenario and prints the table.
pub(crate) fn run(plan: &Plan, as_json: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let dir = tempfile::tempdir()?;
    let workers = plan.workers.to_string();
    let sink = Daemon::start("cordon-load", &["echo", "--workers", &workers], &dir.path().join("sink.log"))?;
    let options = Options {
        gateway: false,
        upstream: Some(sink.address("echo")?),
        workers: plan.workers,
        ..Options::default()
    };
    let mut stack = runtime.block_on(Stack::start(options))?;
    let upstream = sink.address("echo")?.to_string();
    let plain = gateway::PLAIN_ROUTE.replace("@SIGNUP@", &upstream);
    stack.rewrite("policies/routes.toml", "[[ingress]]\nname = \"signup\"\n", &plain)?;
    stack.start_gateway()?;
    let server = stack.identity("gateway.cordon.test");
    let (cert, key) = (server.cert.to_string_lossy(), server.key.to_string_lossy());
    let arguments = ["echo", "--workers", &workers, "--cert", &cert, "--key", &key, "--upstream", &upstream];
    let proxy = Daemon::start("cordon-load", &arguments, &dir.path().join("proxy.log"))?;
    let identity = stack.identity("vault.cordon.test");
    let (cert, key) =
        (identity.cert.to_string_lossy().into_owned(), identity.key.to_string_lossy().into_owned());
    let roots = stack.authority.root().to_string_lossy().into_owned();
    let arguments = ["echo", "--workers", &workers, "--cert", &cert, "--key", &key, "--client-roots", &roots];
    let echo = Daemon::start("cordon-load", &arguments, &dir.path().join("echo.log"))?;
    let mut bench = Bench { plan, stack: &stack, rows: Vec::new(), next: Arc::new(AtomicU64::new(0)) };
    bench.echo(echo.address("echo")?, echo.id())?;
    bench.vault(&runtime)?;
    bench.echo(echo.address("echo")?, echo.id())?;
    bench.gateway((proxy.address("echo")?, proxy.id()))?;
    print(&bench.rows, as_json)
}

/// What a run measures with, and what it has measured.
pub(crate) struct Bench<'a> {
    plan: &'a Plan,
    pub(crate) stack: &'a Stack,
    rows: Vec<Row>,
    /// Number of the next bulk card, over all scenarios.
    pub(crate) next: Arc<AtomicU64>,
}

impl Bench<'_> {
    fn wants(&self, scenario: &str) -> bool {
        self.plan.only.as_ref().is_none_or(|only| scenario.contains(only.as_str()))
    }

    pub(crate) fn measure(
        &mut self,
        scenario: &'static str,
        items: f64,
        pids: &[u32],
        target: &Target,
    ) -> Result<()> {
        if !self.wants(scenario) {
            return Ok(());
        }
        let cpu = || pids.iter().map(|pid| usage::cpu(*pid)).sum::<Result<Duration>>();
        let before = cpu()?;
        let connections = target.connections.unwrap_or(self.plan.connections);
        let measured = load::run(target, connections, self.plan.workers, self.plan.time);
        let measured = measured.with_context(|| scenario.to_owned())?;
        let spent = cpu()?.saturating_sub(before).as_secs_f64();
        let rate = rate(&measured);
        let total = rate * (self.plan.time + load::WARM_UP).as_secs_f64();
        // Rows after the bare proxy are compared with it, all others with the echo.
        let reference = self.rows.iter().rfind(|row| row.scenario == gateway::BARE).or(self.rows.first());
        let reference = reference.filter(|_| scenario != gateway::BARE);
        let reference = reference.map_or(rate, |row| row.requests_per_s);
        let resident = pids.iter().map(|pid| usage::resident_mib(*pid)).sum::<Result<u64>>()?;
        self.rows.push(Row {
            scenario,
            requests_per_s: rate,
            items_per_s: rate * items,
            p50_us: measured.latency.value_at_quantile(0.5),
            p99_us: measured.latency.value_at_quantile(0.99),
            max_us: measured.latency.max(),
            server_cpu_us_per_request: spent * 1e6 / total.max(1.0),
            server_rss_mib: resident,
            ratio: rate / reference,
        });
        Ok(())
    }

    fn tls(&self, service: &str) -> Result<Arc<ClientConfig>> {
        https::tls(&self.stack.authority.root(), Some(&self.stack.identity(service)))
    }

    fn echo(&mut self, address: SocketAddr, pid: u32) -> Result<()> {
        let body: Arc<dyn Fn(u64) -> Bytes + Send + Sync> = Arc::new(|_| Bytes::from_static(ECHO_BODY));
        let tls = self.tls("gateway-ingress")?;
        let name = "vault.cordon.test";
        let target = Target {
            address,
            name,
            tls,
            path: "/",
            host: name,
            body,
            wanted: "pan",
            rate: None,
            connections: None,
        };
        self.measure("echo (hyper + rustls, mutual TLS)", 1.0, &[pid], &target)?;
        // The control of the offered rates: what the machine and the client alone add.
        let paced = Target { rate: Some(MARK_TOKENIZE), ..target };
        self.measure("echo, 10,000/s offered", 1.0, &[pid], &paced)
    }

    fn vault(&mut self, runtime: &tokio::runtime::Runtime) -> Result<()> {
        let pid = self.stack.vault.id();
        let tokenize =
            self.vault_target("gateway-ingress", "/v1/collections/cards/tokenize", self.new_cards(1))?;
        // Offered rates come first: what a saturated store still has to sort would be measured with them.
        let paced = Target { rate: Some(MARK_TOKENIZE), ..tokenize.clone() };
        self.measure("tokenize, new card, 10,000/s offered", 1.0, &[pid], &paced)?;
        self.measure("tokenize, new card", 1.0, &[pid], &tokenize)?;
        let known: Arc<dyn Fn(u64) -> Bytes + Send + Sync> = Arc::new(|n| tokenize_body(n % 10_000, 1));
        let known = Target { body: known, ..tokenize.clone() };
        self.measure("tokenize, known card", 1.0, &[pid], &known)?;
        let batch = Target { body: self.new_cards(BATCH), ..tokenize };
        self.measure("tokenize, batch of 100 new", to_f64(BATCH), &[pid], &batch)?;
        let paced = Target { rate: Some(MARK_TOKENIZE_BATCH), ..batch };
        self.measure("same, 40,000 items/s offered", to_f64(BATCH), &[pid], &paced)?;
        let tokens = Arc::new(runtime.block_on(self.tokens())?);
        let single = reveals(Arc::clone(&tokens), 1);
        let reveal = self.vault_target("gateway-egress", "/v1/collections/cards/detokenize", single)?;
        self.measure("detokenize", 1.0, &[pid], &reveal)?;
        let paced = Target { rate: Some(MARK_DETOKENIZE), ..reveal.clone() };
        self.measure("detokenize, 20,000/s offered", 1.0, &[pid], &paced)?;
        if self.wants(REWRAPPED) {
            runtime.block_on(self.rewrap())?;
            self.measure(REWRAPPED, 1.0, &[pid], &paced)?;
            runtime.block_on(self.pause_rewrap())?;
        }
        let batch = Target { body: reveals(tokens, BATCH), ..reveal };
        self.measure("detokenize, batch of 100", to_f64(BATCH), &[pid], &batch)?;
        let paced = Target { rate: Some(MARK_DETOKENIZE_BATCH), ..batch };
        self.measure("same, 150,000 items/s offered", to_f64(BATCH), &[pid], &paced)
    }

    pub(crate) fn vault_target(
        &self,
        service: &str,
        path: &'static str,
        body: Arc<dyn Fn(u64) -> Bytes + Send + Sync>,
    ) -> Result<Target> {
        let name = "vault.cordon.test";
        let address = self.stack.vault.address("data")?;
        Ok(Target {
            address,
            name,
            tls: self.tls(service)?,
            path,
            host: name,
            body,
            wanted: r#"{"ok":"#,
            rate: None,
            connections: None,
        })
    }

    pub(crate) fn new_cards(&self, items: u64) -> Arc<dyn Fn(u64) -> Bytes + Send + Sync> {
        let next = Arc::clone(&self.next);
        Arc::new(move |_| tokenize_body(next.fetch_add(items, Ordering::Relaxed), items))
    }

    /// Starts moving every record to a new data key, at the rate the CLI starts with.
    async fn rewrap(&self) -> Result<()> {
        let administrator = self.stack.administrator()?;
        let collection = Some(stack::cards()?);
        administrator.rotate(&RotateRequest { purpose: KeyPurpose::Data, collection }).await?;
        administrator.rewrap(&rewrap_request(false)?).await?;
        // Counting reads faster than moving writes: it ends within a minute or two of records.
        while administrator.rewraps().await?.runs.iter().any(|run| run.state == RewrapState::Counting) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Ends it, and fails if it had nothing to do while it was measured.
    async fn pause_rewrap(&self) -> Result<()> {
        let run = self.stack.administrator()?.rewrap(&rewrap_request(true)?).await?;
        anyhow::ensure!(run.state == RewrapState::Paused, "the run ended before it was measured: {run:?}");
        anyhow::ensure!(run.moved > 0, "nothing was rewrapped while it was measured: {run:?}");
        Ok(())
    }

    /// Tokens of the first cards, as the vault gives them.
    async fn tokens(&self) -> Result<Vec<Token>> {
        let client = self.stack.tokenizer("gateway-ingress")?;
        let mut tokens = Vec::new();
        for start in (0..TOKENS).step_by(1_000) {
            let items =
                (start..start + 1_000).map(|n| Ok(cards::item(cards::bulk(n)?))).collect::<Result<_>>()?;
            let request = cordon_wire::TokenizeRequest { items };
            let answer = client.tokenize(&stack::cards()?, &request).await?;
            for item in answer.items {
                tokens.push(done(item)?.token);
            }
        }
        Ok(tokens)
    }
}

fn rewrap_request(pause: bool) -> Result<RewrapRequest> {
    Ok(RewrapRequest { collection: stack::cards()?, pause, rate_per_s: DEFAULT_REWRAP_RATE })
}

fn tokenize_body(first: u64, items: u64) -> Bytes {
    let mut text = String::from(r#"{"items":["#);
    for n in first..first + items {
        if n > first {
            text.push(',');
        }
        text.push_str(r#"{"pan":""#);
        text.push_str(&digits(n));
        text.push_str(r#""}"#);
    }
    text.push_str("]}");
    Bytes::from(text)
}

fn reveals(tokens: Arc<Vec<Token>>, items: u64) -> Arc<dyn Fn(u64) -> Bytes + Send + Sync> {
    Arc::new(move |n| {
        let mut text = String::from(
            r#"{"service":"signup","destination":"processor","purpose":"charge","route":"charge","items":["#,
        );
        let many = u64::try_from(tokens.len()).unwrap_or(1);
        for item in 0..items {
            // A large odd step, so that neighbours in time are not neighbours in the store.
            let index = (n * items + item).wrapping_mul(7_919) % many;
            let token = usize::try_from(index).ok().and_then(|index| tokens.get(index));
            if item > 0 {
                text.push(',');
            }
            text.push_str(r#"{"token":""#);
            text.push_str(token.map_or("", Token::as_str));
            text.push_str(r#""}"#);
        }
        text.push_str("]}");
        Bytes::from(text)
    })
}

pub(crate) fn digits(n: u64) -> String {
    cards::bulk(n).map(|pan| pan.expose().to_owned()).unwrap_or_default()
}

fn rate(measured: &Measured) -> f64 {
    to_f64(measured.requests) / measured.time.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn to_f64(count: u64) -> f64 {
    count as f64
}

fn print(rows: &[Row], as_json: bool) -> Result<()> {
    let mut out = std::io::stdout();
    if as_json {
        serde_json::to_writer_pretty(&mut out, rows)?;
        writeln!(out)?;
        return Ok(());
    }
    writeln!(
        out,
        "{:<38} {:>9} {:>9} {:>8} {:>8} {:>8} {:>9} {:>8} {:>6}",
        "scenario", "req/s", "items/s", "p50 us", "p99 us", "max us", "cpu us/r", "RSS MiB", "ratio"
    )?;
    for row in rows {
        writeln!(
            out,
            "{:<38} {:>9.0} {:>9.0} {:>8} {:>8} {:>8} {:>9.1} {:>8} {:>6.2}",
            row.scenario,
            row.requests_per_s,
            row.items_per_s,
            row.p50_us,
            row.p99_us,
            row.max_us,
            row.server_cpu_us_per_request,
            row.server_rss_mib,
            row.ratio
        )?;
    }
    Ok(())
}

const REWRAPPED: &str = "same, while records are rewrapped";
const BATCH: u64 = 100;
/// Requests a second of the first marks; latency at a rate that is offered says more than latency at saturation.
const MARK_TOKENIZE: u64 = 10_000;
const MARK_TOKENIZE_BATCH: u64 = 400;
const MARK_DETOKENIZE: u64 = 20_000;
const MARK_DETOKENIZE_BATCH: u64 = 1_500;
const TOKENS: u64 = 20_000;
const ECHO_BODY: &[u8] = br#"{"items":[{"pan":"0000000000000000"}]}"#;
