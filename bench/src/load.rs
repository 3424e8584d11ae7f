//! The client side: N connections with one request in flight each, spread over threads, latencies in a histogram.
//! Must never count a refused request as served. Measured, not tested.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What is sent, and to whom.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) name: &'static str,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) path: &'static str,
    pub(crate) host: &'static str,
    /// The body of the n-th request.
    pub(crate) body: Arc<dyn Fn(u64) -> Bytes + Send + Sync>,
    /// Something that stands in every good answer.
    pub(crate) wanted: &'static str,
    /// Requests a second over all connections; none means as many as there are answers.
    pub(crate) rate: Option<u64>,
    /// Connections; none means as many as the run has.
    pub(crate) connections: Option<usize>,
}

/// What was measured.
pub(crate) struct Measured {
    pub(crate) requests: u64,
    pub(crate) time: Duration,
    pub(crate) latency: Histogram<u64>,
}

/// Runs the load: a warm-up of one second, then `time`.
pub(crate) fn run(target: &Target, connections: usize, workers: usize, time: Duration) -> Result<Measured> {
    let counter = Arc::new(AtomicU64::new(0));
    let start = Instant::now() + WARM_UP;
    let end = start + time;
    let threads: Vec<_> = (0..workers)
        .map(|worker| {
            let (target, counter) = (target.clone(), Arc::clone(&counter));
            let mine = connections / workers + usize::from(worker < connections % workers);
            let pace = pace(target.rate, connections);
            std::thread::spawn(move || -> Result<Histogram<u64>> {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async move {
                    let mut tasks = tokio::task::JoinSet::new();
                    for number in 0..mine {
                        // Connections take turns, or all of them would send in the same instant.
                        let first =
                            pace.map(|pace| pace * u32::try_from(number * workers + worker).unwrap_or(0));
                        let turn = first.map(|first| first / u32::try_from(connections).unwrap_or(1).max(1));
                        let schedule = Schedule { pace, turn: turn.unwrap_or_default(), start, end };
                        tasks.spawn(connection(target.clone(), Arc::clone(&counter), schedule));
                    }
                    let mut all = Histogram::new(3)?;
                    while let Some(result) = tasks.join_next().await {
                        all.add(result??)?;
                    }
                    Ok(all)
                })
            })
        })
        .collect();
    let mut latency = Histogram::new(3)?;
    for thread in threads {
        latency.add(thread.join().map_err(|_source| anyhow::anyhow!("a load thread panicked"))??)?;
    }
    Ok(Measured { requests: latency.len(), time, latency })
}

/// When a connection sends.
struct Schedule {
    pace: Option<Duration>,
    turn: Duration,
    start: Instant,
    end: Instant,
}

/// Time between two requests of one connection.
fn pace(rate: Option<u64>, connections: usize) -> Option<Duration> {
    let connections = u32::try_from(connections).unwrap_or(u32::MAX);
    rate.map(|rate| Duration::from_secs(1) * connections / u32::try_from(rate).unwrap_or(u32::MAX).max(1))
}

async fn connection(target: Target, counter: Arc<AtomicU64>, schedule: Schedule) -> Result<Histogram<u64>> {
    let mut sender = connect(&target).await?;
    let mut latency = Histogram::new(3)?;
    let Schedule { pace, turn, start, end } = schedule;
    let mut due = Instant::now() + turn;
    loop {
        let mut sent = Instant::now();
        if let Some(pace) = pace {
            if sent < due {
                tokio::time::sleep_until(due.into()).await;
                sent = Instant::now();
            } else {
                // Late because of the answer before: the wait counts, or a stall would hide what it delayed.
                sent = due;
            }
            due += pace;
        }
        if Instant::now() >= end {
            return Ok(latency);
        }
        let body = (target.body)(counter.fetch_add(1, Ordering::Relaxed));
        let request = Request::post(target.path)
            .header("host", target.host)
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        let good = status.is_success()
            && answer.windows(target.wanted.len()).any(|part| part == target.wanted.as_bytes());
        ensure!(good, "{status}: {}", String::from_utf8_lossy(&answer));
        if sent >= start {
            latency.record(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX))?;
        }
    }
}

async fn connect(target: &Target) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(target.address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(target.name).context("a server name")?;
    let stream = TlsConnector::from(Arc::clone(&target.tls)).connect(name, stream).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Connections, caches and the first keys are made before anything is counted.
pub(crate) const WARM_UP: Duration = Duration::from_secs(1);
