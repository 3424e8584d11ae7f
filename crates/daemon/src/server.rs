//! Listeners and workers: accepting connections, TLS, HTTP/1.1 and HTTP/2, limits, drain.
//!
//! One thread accepts and hands each connection to the next of N workers, each with a runtime of its own, so that a request
//! never crosses threads. It must never serve a connection without limits, nor plain text beyond the machine itself. Tests:
//! `tests/server.rs`, `tests/limits.rs`.

mod acceptor;
mod connection;
mod framing;
mod stall;
mod through;
pub mod tunnel;
pub mod wiping;
mod worker;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustls::ServerConfig;
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};

use crate::body::Body;
use crate::drain::Drain;
use crate::metrics::Metrics;
use crate::tls::Peer;
use tunnel::Gate;

/// An address to listen on, and what answers there.
pub struct Listener {
    name: &'static str,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    gate: Option<Arc<dyn Gate>>,
    make: Make,
    on_refused: OnRefused,
    reserved: Option<Reserved>,
}

/// An address that is taken but not yet listened on: connections are refused until the server runs.
#[derive(Debug)]
pub struct Reserved(OwnedFd);

/// Takes an address before the daemon is confined, which leaves it no way to bind one.
///
/// # Errors
/// [`ServeError::Bind`] if it cannot be had.
pub fn reserve(name: &'static str, address: SocketAddr) -> Result<Reserved, ServeError> {
    take(address).map(Reserved).map_err(|source| ServeError::Bind { name, address, source })
}

impl Listener {
    /// Listens with TLS. `make` is called once in each worker, with the worker's number, inside its runtime.
    pub fn tls<M, H, F>(
        name: &'static str,
        address: SocketAddr,
        config: Arc<ServerConfig>,
        make: M,
    ) -> Listener
    where
        M: Fn(usize) -> H + Send + Sync + 'static,
        H: Fn(Request<Incoming>, Arc<Peer>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Listener::new(name, address, Some(config), None, erase(make))
    }

    /// Listens in plain text, on a loopback address only: for health and metrics.
    pub fn plain<M, H, F>(name: &'static str, address: SocketAddr, make: M) -> Listener
    where
        M: Fn(usize) -> H + Send + Sync + 'static,
        H: Fn(Request<Incoming>, Arc<Peer>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Listener::new(name, address, None, None, erase(make))
    }

    /// Listens as a forward proxy: who asks for a host that `gate` opens speaks TLS with this process as that host. Without
    /// `config` the asking is in plain text, on any address; what follows never is.
    pub fn proxy<M, H, F>(
        name: &'static str,
        address: SocketAddr,
        config: Option<Arc<ServerConfig>>,
        gate: Arc<dyn Gate>,
        make: M,
    ) -> Listener
    where
        M: Fn(usize) -> H + Send + Sync + 'static,
        H: Fn(Request<Incoming>, Arc<Peer>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Listener::new(name, address, config, Some(gate), erase(make))
    }

    fn new(
        name: &'static str,
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        gate: Option<Arc<dyn Gate>>,
        make: Make,
    ) -> Listener {
        Listener { name, address, tls, gate, make, on_refused: Arc::new(|_, _| {}), reserved: None }
    }

    /// Listens on an address that was taken before, which must be this listener's.
    #[must_use]
    pub fn on(mut self, reserved: Reserved) -> Listener {
        self.reserved = Some(reserved);
        self
    }

    /// Calls `on_refused` for each connection whose handshake failed or whose HTTP/1.1 is not well framed, so that it can be
    /// audited (PCI DSS 10.2.1.4). It runs on a worker and must not block.
    #[must_use]
    pub fn on_refused(
        mut self,
        on_refused: impl Fn(SocketAddr, Refused) + Send + Sync + 'static,
    ) -> Listener {
        self.on_refused = Arc::new(on_refused);
        self
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Listener({} {} tls={})", self.name, self.address, self.tls.is_some())
    }
}

/// Why a connection was closed before a request could be made of what it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// It showed no certificate where one is required.
    NoCertificate,
    /// It showed one that does not verify.
    BadCertificate,
    /// It offers no TLS version or cipher suite that is spoken here.
    Incompatible,
    /// It took too long.
    TimedOut,
    /// It broke off, or does not speak TLS.
    Broken,
    /// Through a proxy it asked for one host, and now greets another.
    OtherName,
    /// Where its requests begin and end can be read in more than one way.
    Malformed,
}

impl Refused {
    /// A stable code for logs, audit lines and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Refused::NoCertificate => "no-certificate",
            Refused::BadCertificate => "bad-certificate",
            Refused::Incompatible => "incompatible-tls",
            Refused::TimedOut => "handshake-timed-out",
            Refused::Broken => "handshake-broken",
            Refused::OtherName => "handshake-other-name",
            Refused::Malformed => "malformed.framing",
        }
    }
}

/// What one connection, and all of them together, may use.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Limits {
    /// Connections open at once, over all listeners. Beyond it they are closed when accepted.
    pub connections: usize,
    /// TLS handshakes computed at once, over all listeners. Beyond it they wait, within `handshake`.
    pub handshakes: usize,
    /// Time for a handshake.
    pub handshake: Duration,
    /// Time for a request's head. On HTTP/1.1 it is also how long an idle connection is kept, the protocol having no way
    /// to tell the two apart.
    pub header_read: Duration,
    /// An HTTP/2 connection without requests is closed after this, twice at most.
    pub idle: Duration,
    /// Time that a peer may accept nothing of what is written to it.
    pub write_stall: Duration,
    /// Header fields in a request, HTTP/1.1.
    pub headers: usize,
    /// Bytes of header fields in a request.
    pub header_bytes: u32,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 8192,
            handshakes: 256,
            handshake: Duration::from_secs(10),
            header_read: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            write_stall: Duration::from_secs(30),
            headers: 64,
            header_bytes: 32 * 1024,
            streams: 256,
        }
    }
}

/// Counts of connections; clones share their values.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ConnectionMetrics {
    /// Accepted.
    pub accepted: Counter,
    /// Closed at once, because too many were open.
    pub over_limit: Counter,
    /// Refused in the handshake.
    pub refused: Counter,
    /// Closed for HTTP/1.1 that is not well framed.
    pub malformed: Counter,
    /// Open now.
    pub open: Gauge,
}

impl ConnectionMetrics {
    /// Registers all of them.
    pub fn register(&self, metrics: &mut Metrics) {
        metrics.register("connections_accepted", "Connections accepted", self.accepted.clone());
        metrics.register(
            "connections_over_limit",
            "Connections closed at the limit",
            self.over_limit.clone(),
        );
        metrics.register("connections_refused", "Connections refused in the handshake", self.refused.clone());
        metrics.register(
            "connections_malformed",
            "Connections closed for ambiguous HTTP/1.1",
            self.malformed.clone(),
        );
        metrics.register("connections_open", "Connections open now", self.open.clone());
    }
}

/// Binds all listeners, then serves them until `drain` is triggered. `workers` of 0 means one for each processor.
///
/// # Errors
/// [`ServeError`] if an address cannot be had or a thread cannot start; nothing is left running then.
pub fn serve(
    listeners: Vec<Listener>,
    workers: usize,
    limits: Limits,
    drain: &Drain,
    metrics: &ConnectionMetrics,
) -> Result<Server, ServeError> {
    let mut sockets = Vec::new();
    let mut bound = Vec::new();
    let mut services = Vec::new();
    for mut listener in listeners {
        let socket = bind(&mut listener)?;
        let address = socket.local_addr().map_err(|source| ServeError::bind(&listener, source))?;
        bound.push(Bound { name: listener.name, address });
        sockets.push(socket);
        let Listener { tls, gate, make, on_refused, .. } = listener;
        services.push(Service { tls, gate, make, on_refused });
    }
    let shared = Arc::new(Shared {
        services,
        limits,
        drain: drain.clone(),
        metrics: metrics.clone(),
        handshakes: Semaphore::new(limits.handshakes),
    });
    let mut threads = Vec::new();
    let mut queues = Vec::new();
    for number in 0..worker_count(workers) {
        let (thread, queue) = worker::start(number, &shared)?;
        threads.push(thread);
        queues.push(queue);
    }
    let acceptor = acceptor::start(sockets, queues, &shared)?;
    Ok(Server { bound, acceptor, threads })
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    bound: Vec<Bound>,
    acceptor: JoinHandle<()>,
    threads: Vec<JoinHandle<usize>>,
}

impl Server {
    /// Each listener's name and real address (the port is known even where 0 was asked for).
    pub fn addresses(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        self.bound.iter().map(|bound| (bound.name, bound.address))
    }

    /// Writes one JSON line for each listener and a last one that says that all are up.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn announce(&self, out: &mut dyn Write) -> io::Result<()> {
        for bound in &self.bound {
            let line = Announcement::Listening { listener: bound.name, address: bound.address };
            writeln!(out, "{}", serde_json::to_string(&line)?)?;
        }
        writeln!(out, "{}", serde_json::to_string(&Announcement::Ready)?)?;
        out.flush()
    }

    /// Waits until the server was drained.
    pub fn wait(self) -> Drained {
        let accepting = self.acceptor.join();
        let mut drained = Drained { cut_off: 0, failed_threads: usize::from(accepting.is_err()) };
        for thread in self.threads {
            match thread.join() {
                Ok(cut_off) => drained.cut_off = drained.cut_off.saturating_add(cut_off),
                Err(_) => drained.failed_threads = drained.failed_threads.saturating_add(1),
            }
        }
        drained
    }
}

/// How a server ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Connections that were still busy at the deadline and were closed.
    pub cut_off: usize,
    /// Threads that ended by a panic.
    pub failed_threads: usize,
}

/// Why a server cannot start. Operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be had.
    #[error("listener {name} cannot listen on {address}")]
    Bind {
        /// The listener.
        name: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Plain text is for the machine itself.
    #[error("listener {name} is plain text, so {address} must be a loopback address")]
    PlainBeyondLoopback {
        /// The listener.
        name: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// A thread or its runtime cannot start.
    #[error("a server thread cannot start")]
    Thread(#[source] io::Error),
    /// A worker ended before it could serve: building its handler panicked. Bug.
    #[error("a worker ended while it was started")]
    Worker,
}

impl ServeError {
    fn bind(listener: &Listener, source: io::Error) -> ServeError {
        ServeError::Bind { name: listener.name, address: listener.address, source }
    }
}

#[derive(Debug)]
struct Bound {
    name: &'static str,
    address: SocketAddr,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Announcement {
    Listening { listener: &'static str, address: SocketAddr },
    Ready,
}

/// A handler of any type.
type Call = Arc<dyn Fn(Request<Incoming>, Arc<Peer>) -> Answer + Send + Sync>;
type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Make = Box<dyn Fn(usize) -> Call + Send + Sync>;
type OnRefused = Arc<dyn Fn(SocketAddr, Refused) + Send + Sync>;

/// A listener without its socket.
struct Service {
    tls: Option<Arc<ServerConfig>>,
    gate: Option<Arc<dyn Gate>>,
    make: Make,
    on_refused: OnRefused,
}

/// What all threads of a server use.
struct Shared {
    services: Vec<Service>,
    limits: Limits,
    drain: Drain,
    metrics: ConnectionMetrics,
    handshakes: Semaphore,
}

/// A connection on its way to a worker.
struct Arrival {
    /// Which of [`Shared::services`] it came to.
    service: usize,
    stream: std::net::TcpStream,
    address: SocketAddr,
    place: Place,
}

/// One of [`Limits::connections`], free again when dropped.
struct Place {
    _permit: tokio::sync::OwnedSemaphorePermit,
    open: Gauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.dec();
    }
}

type Arrivals = mpsc::UnboundedSender<Arrival>;

fn erase<M, H, F>(make: M) -> Make
where
    M: Fn(usize) -> H + Send + Sync + 'static,
    H: Fn(Request<Incoming>, Arc<Peer>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    Box::new(move |worker| {
        let handler = make(worker);
        Arc::new(move |request: Request<Incoming>, peer: Arc<Peer>| {
            Box::pin(handler(request, peer)) as Answer
        })
    })
}

fn bind(listener: &mut Listener) -> Result<TcpListener, ServeError> {
    let (name, address) = (listener.name, listener.address);
    if listener.tls.is_none() && listener.gate.is_none() && !address.ip().is_loopback() {
        return Err(ServeError::PlainBeyondLoopback { name, address });
    }
    let Reserved(socket) = match listener.reserved.take() {
        Some(reserved) => reserved,
        None => reserve(name, address)?,
    };
    rustix::net::listen(&socket, BACKLOG).map_err(|source| ServeError::Bind {
        name,
        address,
        source: source.into(),
    })?;
    Ok(socket.into())
}

fn take(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // As std does: a restarted daemon takes its address again while old connections still linger.
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

fn worker_count(wanted: usize) -> usize {
    match wanted {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        some => some,
    }
}

/// Connections that wait to be accepted; the system may have a lower limit.
const BACKLOG: i32 = 4096;
