//! One connection, from its handshake to its end.
//!
//! It must never stay open without a request, nor wait for a peer without a limit. Tests: `tests/server.rs`,
//! `tests/limits.rs`.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::framing::Strict;
use super::stall::Stall;
use super::tunnel::{self, Gate, Unopened};
use super::wiping::Wiping;
use super::{Arrival, Call, Limits, Refused, Service, Shared};
use crate::body::Body;
use crate::scrub::Scrubbed;
use crate::tls::{self, Peer, Via};

/// How HTTP is spoken, once for each version.
pub(super) struct Protocols {
    http1: Builder<TokioExecutor>,
    http2: Builder<TokioExecutor>,
}

impl Protocols {
    pub(super) fn new(limits: &Limits) -> Protocols {
        let mut http1 = Builder::new(TokioExecutor::new()).http1_only();
        http1
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_read)
            .max_headers(limits.headers)
            .max_buf_size(usize::try_from(limits.header_bytes).unwrap_or(usize::MAX).max(LEAST_BUFFER));
        let mut http2 = Builder::new(TokioExecutor::new()).http2_only();
        http2
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(limits.header_bytes)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(limits.header_read);
        Protocols { http1, http2 }
    }
}

/// Serves one connection to its end.
pub(super) async fn run(arrival: Arrival, handler: Call, protocols: Arc<Protocols>, shared: Arc<Shared>) {
    let Arrival { service, stream, address, place } = arrival;
    let (Some(service), Ok(stream)) = (shared.services.get(service), TcpStream::from_std(stream)) else {
        return;
    };
    let served = Served { service, handler, protocols: &protocols, shared: &shared, address };
    match (&service.gate, &service.tls) {
        (None, None) => {
            let peer = Arc::new(Peer { uri: None, address, via: None });
            let stream = Strict::new(stream, &shared.limits, served.malformed());
            serve(stream, &protocols.http1, served.handler, peer, &shared).await;
        }
        (None, Some(config)) => match handshake(stream, config, &shared).await {
            Ok(stream) => served.over_tls(stream, None, None).await,
            Err(refused) => served.refuse(refused),
        },
        // On the heap: every connection would have the room of the largest of these.
        (Some(gate), None) => Box::pin(served.tunnel(stream, None, gate.as_ref())).await,
        (Some(gate), Some(config)) => match handshake(stream, config, &shared).await {
            Ok(stream) => {
                let known = uri(&stream);
                Box::pin(served.tunnel(stream, known, gate.as_ref())).await;
            }
            Err(refused) => served.refuse(refused),
        },
    }
    drop(place);
}

/// A connection of a service, whatever it goes through.
struct Served<'c> {
    service: &'c Service,
    handler: Call,
    protocols: &'c Protocols,
    shared: &'c Arc<Shared>,
    address: SocketAddr,
}

impl Served<'_> {
    /// Speaks HTTP below TLS. `known` is who the peer showed to be before, if it came through a proxy.
    async fn over_tls<S>(
        self,
        stream: Box<TlsStream<Wiping<S>>>,
        known: Option<String>,
        via: Option<Arc<Via>>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (_, session) = stream.get_ref();
        if let Some(via) = &via
            && session.server_name() != Some(via.host.as_str())
        {
            return self.refuse(Refused::OtherName);
        }
        let is_http2 = session.alpn_protocol() == Some(tls::ALPN_H2);
        let peer = Arc::new(Peer { uri: known.or_else(|| uri(&stream)), address: self.address, via });
        let (protocols, shared) = (self.protocols, self.shared);
        // Below TLS one wipes what was decrypted, here another what HTTP has parsed.
        if is_http2 {
            serve(Wiping::http2(stream), &protocols.http2, self.handler, peer, shared).await;
        } else {
            let stream = Strict::new(Wiping::new(stream), &shared.limits, self.malformed());
            serve(stream, &protocols.http1, self.handler, peer, shared).await;
        }
    }

    /// Lets a proxy's client in, and speaks with it as the host that it named.
    async fn tunnel<S>(self, mut stream: S, known: Option<String>, gate: &dyn Gate)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limit = self.shared.limits.handshake;
        let peer = Peer { uri: known, address: self.address, via: None };
        let opening = tokio::time::timeout(limit, tunnel::open(&mut stream, gate, &peer));
        let (config, via) = match opening.await {
            Ok(Ok(opened)) => opened,
            Ok(Err(Unopened::Malformed)) => return self.malformed()(),
            Ok(Err(Unopened::Closed | Unopened::Gone)) => return,
            Err(_late) => return self.refuse(Refused::TimedOut),
        };
        match handshake(stream, &config, self.shared).await {
            Ok(stream) => self.over_tls(stream, peer.uri, Some(Arc::new(via))).await,
            Err(refused) => self.refuse(refused),
        }
    }

    fn refuse(&self, refused: Refused) {
        self.shared.metrics.refused.inc();
        (self.service.on_refused)(self.address, refused);
    }

    fn malformed(&self) -> impl Fn() + Send + Unpin + 'static + use<> {
        malformed(self.shared, self.service, self.address)
    }
}

/// The name in the peer's certificate.
fn uri<S>(stream: &TlsStream<S>) -> Option<String> {
    let (_, session) = stream.get_ref();
    session.peer_certificates().and_then(<[_]>::first).and_then(tls::uri_of)
}

/// Counts a connection that is not well framed, and has it audited.
fn malformed(
    shared: &Arc<Shared>,
    service: &Service,
    address: SocketAddr,
) -> impl Fn() + Send + Unpin + 'static + use<> {
    let (malformed, on_refused) = (shared.metrics.malformed.clone(), Arc::clone(&service.on_refused));
    move || {
        malformed.inc();
        on_refused(address, Refused::Malformed);
    }
}

async fn handshake<S>(
    stream: S,
    config: &Arc<ServerConfig>,
    shared: &Shared,
) -> Result<Box<TlsStream<Wiping<S>>>, Refused>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let shake = async {
        let _turn = shared.handshakes.acquire().await;
        TlsAcceptor::from(Arc::clone(config)).accept(Wiping::new(stream)).await
    };
    match tokio::time::timeout(shared.limits.handshake, shake).await {
        // Moved from state to state, each of which would have room for it.
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(why(&error)),
        Err(_) => Err(Refused::TimedOut),
    }
}

/// What a failed handshake means.
fn why(error: &io::Error) -> Refused {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::NoCertificatesPresented) => Refused::NoCertificate,
        Some(rustls::Error::InvalidCertificate(_)) => Refused::BadCertificate,
        Some(rustls::Error::PeerIncompatible(_)) => Refused::Incompatible,
        _ => Refused::Broken,
    }
}

/// Speaks HTTP until the peer leaves, is idle, or the server is drained.
async fn serve<S>(
    stream: S,
    protocol: &Builder<TokioExecutor>,
    handler: Call,
    peer: Arc<Peer>,
    shared: &Shared,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity::default());
    let counted = Arc::clone(&activity);
    let service = service_fn(move |request: Request<Incoming>| {
        let running = Running::new(&counted);
        let answer = Scrubbed::new(handler(request, Arc::clone(&peer)));
        async move {
            let response: Response<Body> = answer.await;
            drop(running);
            Ok::<_, Infallible>(response)
        }
    });
    let io = TokioIo::new(Stall::new(stream, shared.limits.write_stall));
    let mut connection = std::pin::pin!(protocol.serve_connection(io, service));
    tokio::select! {
        biased;
        // Errors of a connection are its peer's and say nothing about a request.
        _ended = connection.as_mut() => return,
        () = shared.drain.triggered() => {}
        () = activity.idle(shared.limits.idle) => {}
    }
    if activity.begun.load(Ordering::Relaxed) == 0 {
        // Nothing was ever asked. Hyper would wait for a first head until its timeout.
        return;
    }
    connection.as_mut().graceful_shutdown();
    if shared.drain.is_triggered() {
        // The worker keeps the deadline.
        let _ended = connection.await.is_err();
    } else {
        let _ended = tokio::time::timeout(shared.limits.idle, connection).await.is_err();
    }
}

/// Requests of one connection.
#[derive(Default)]
struct Activity {
    begun: AtomicU64,
    running: AtomicUsize,
}

impl Activity {
    /// Ends when no request ran or began for a whole period.
    async fn idle(&self, period: Duration) {
        let mut seen = self.begun.load(Ordering::Relaxed);
        loop {
            tokio::time::sleep(period).await;
            let begun = self.begun.load(Ordering::Relaxed);
            if begun == seen && self.running.load(Ordering::Relaxed) == 0 {
                return;
            }
            seen = begun;
        }
    }
}

/// A request that runs, until dropped.
struct Running(Arc<Activity>);

impl Running {
    fn new(activity: &Arc<Activity>) -> Running {
        activity.begun.fetch_add(1, Ordering::Relaxed);
        activity.running.fetch_add(1, Ordering::Relaxed);
        Running(Arc::clone(activity))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The least that hyper takes as a buffer.
const LEAST_BUFFER: usize = 8192;
/// Bytes of one request's body that may be on their way.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes of all of a connection's bodies that may be on their way.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// A peer that does not answer a ping in time is gone.
const PING_EVERY: Duration = Duration::from_secs(20);
