//! Sending: to a target's own address, with its certificate checked against its own roots, and reading the answer.
//!
//! Must never send anything but an [`Outbound`], follow a redirect, or connect to an address that was not checked
//! after resolution (threat B27 to B30). Tests: `upstream/tests.rs`.

pub mod breaker;
mod connect;
mod retry;

use crate::flow::{Outbound, Payload};
use crate::problem::Fault;
use crate::stream::spool::Spooled;
use crate::told::Told;
use breaker::Breaker;
use bytes::Bytes;
use connect::{ConnectError, Connector};
use cordon_daemon::body::{self, BodyError, WipedBytes};
use cordon_policy::Destination;
use http::{HeaderMap, Request, StatusCode, Uri, Version};
use http_body_util::{Either, Full};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prometheus_client::metrics::counter::Counter;
use retry::Budget;
pub(crate) use retry::is_idempotent;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Where a target's connections go.
#[derive(Debug, Clone)]
pub enum Address {
    /// To one of the addresses its name resolves to.
    Resolved {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// To this one, whatever the name resolves to (development bundles only).
    Fixed(std::net::SocketAddr),
}

/// A server that requests are sent to, with what makes it the right one.
pub struct Target {
    id: u64,
    authority: String,
    address: Address,
    tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
    destination: Option<Destination>,
    breaker: Breaker,
    repeats: Budget,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("authority", &self.authority)
            .field("tls", &self.tls.is_some())
            .finish()
    }
}

impl Target {
    /// A server inside, without TLS.
    #[must_use]
    pub fn plain(authority: String, address: Address) -> Self {
        Self::new(authority, address, None)
    }

    /// A server that must show a certificate for `host` under the roots of `config`. `None` if `host` is no name.
    #[must_use]
    pub fn tls(authority: String, host: &str, address: Address, config: Arc<ClientConfig>) -> Option<Self> {
        let name = ServerName::try_from(host.to_owned()).ok()?;
        Some(Self::new(authority, address, Some((name, config))))
    }

    fn new(
        authority: String,
        address: Address,
        tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
    ) -> Self {
        let (breaker, repeats) = (Breaker::default(), Budget::default());
        Self { id: next_id(), authority, address, tls, destination: None, breaker, repeats }
    }

    /// The same, at addresses that the destination admits only.
    #[must_use]
    pub fn admitting(self, destination: Destination) -> Self {
        Self { destination: Some(destination), ..self }
    }

    /// Its host, with its port unless that is the usual one: what the `Host` of a request to it says.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether it has answered of late.
    #[must_use]
    pub const fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    fn uri(&self, path_and_query: &str) -> Result<Uri, Fault> {
        Uri::builder()
            .scheme(if self.tls.is_some() { "https" } else { "http" })
            .authority(self.authority.as_str())
            .path_and_query(path_and_query)
            .build()
            .map_err(|_not_a_uri| Fault::Internal("internal.target-uri"))
    }
}

/// An answer, read whole; nobody has looked at it yet.
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers as received.
    pub headers: HeaderMap,
    /// Body as received.
    pub body: WipedBytes,
}

/// Only the status: nobody knows yet what the rest holds.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Bytes of answer that a route reads: as many as it takes in, and room for a page where that is little.
#[must_use]
pub fn answer_limit(max_body: u64) -> usize {
    usize::try_from(max_body).unwrap_or(usize::MAX).max(LEAST_ANSWER)
}

/// Whether it is certain that the target got nothing of a request that ended so.
#[must_use]
pub fn was_not_sent(fault: &Fault) -> bool {
    matches!(fault, Fault::Unreachable(reason) if ConnectError::ALL.iter().any(|known| known.as_str() == *reason))
}

/// The connections of one worker, kept open per target for as long as its plan is in force or in use.
#[derive(Debug, Default)]
pub struct Upstreams {
    clients: Mutex<HashMap<u64, Pool>>,
    repeated: Counter,
}

/// The connections to one target, which they do not keep.
type Pool = (Weak<Target>, Connections);
type Connections = Client<Connector, Either<Full<Bytes>, Spooled>>;

impl Upstreams {
    /// None open; counts what is sent a second time.
    #[must_use]
    pub fn new(repeated: Counter) -> Self {
        Self { repeated, ..Self::default() }
    }

    /// Sends a request and reads its answer, at most `limit` bytes of body, all within `within`.
    ///
    /// # Errors
    /// [`Fault::Unreachable`], [`Fault::UpstreamTimeout`] or [`Fault::UpstreamRefused`].
    pub async fn send(
        &self,
        target: &Arc<Target>,
        outbound: Outbound,
        limit: usize,
        within: Duration,
    ) -> Result<Answer, Fault> {
        self.send_noting(target, outbound, limit, within, &Told::default()).await
    }

    /// The same, and notes in `told` the status once the head of an answer is there, whatever becomes of the rest, and how
    /// long it took.
    ///
    /// # Errors
    /// As [`Upstreams::send`].
    pub async fn send_noting(
        &self,
        target: &Arc<Target>,
        outbound: Outbound,
        limit: usize,
        within: Duration,
        told: &Told,
    ) -> Result<Answer, Fault> {
        let started = Instant::now();
        let exchange = self.exchange(target, outbound, (limit, within), told);
        let answer = tokio::time::timeout(within, exchange).await.unwrap_or(Err(Fault::UpstreamTimeout));
        told.upstream_took(started.elapsed());
        answer
    }

    fn client(&self, target: &Arc<Target>) -> Connections {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = clients.get(&target.id) {
            return client.clone();
        }
        // A new target is one of a new plan: those of the old one have had their time.
        clients.retain(|_, (target, _)| target.strong_count() > 0);
        let client = build(Connector::new(Arc::downgrade(target)));
        clients.insert(target.id, (Arc::downgrade(target), client.clone()));
        client
    }

    async fn exchange(
        &self,
        target: &Arc<Target>,
        outbound: Outbound,
        (limit, within): (usize, Duration),
        told: &Told,
    ) -> Result<Answer, Fault> {
        let client = self.client(target);
        let repeatable = outbound.is_repeatable();
        let (head, body) = outbound.into_parts();
        let mut bare = Request::new(());
        *bare.method_mut() = head.method;
        *bare.uri_mut() = target.uri(&head.path_and_query)?;
        *bare.headers_mut() = head.headers;
        *bare.version_mut() = Version::HTTP_11;
        let (again, request) = match body {
            Payload::Held(bytes) => {
                let held = |bytes| Either::Left(Full::new(bytes));
                let again = repeatable.then(|| bare.clone().map(|()| held(bytes.clone())));
                (again, bare.map(|()| held(bytes)))
            }
            Payload::Waiting(spool) => (None, bare.map(|()| Either::Right(spool.into_body()))),
        };
        target.repeats.earn();
        let mut response = client.request(request).await.map_err(|error| unreachable_because(&error));
        if let (Err(Fault::Unreachable(BROKE)), Some(request)) = (&response, again)
            && target.repeats.spend()
        {
            self.repeated.inc();
            response = client.request(request).await.map_err(|error| unreachable_because(&error));
        }
        let response = response?;
        told.answered(response.status().as_u16());
        let (parts, incoming) = response.into_parts();
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Fault::UpstreamRefused("upstream-refused.protocol-switch"));
        }
        let body = body::read_body(incoming, limit, within).await.map_err(|error| match error {
            BodyError::TooLarge => Fault::UpstreamRefused("upstream-refused.too-large"),
            BodyError::TimedOut => Fault::UpstreamTimeout,
            _ => Fault::Unreachable("upstream-unavailable.answer-broke-off"),
        })?;
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }
}

fn build(connector: Connector) -> Connections {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(MOST_IDLE)
        .http1_max_headers(MOST_HEADERS)
        .http2_max_header_list_size(HEADER_BYTES)
        // A request comes back unsent or not at all; only then a fresh connection may take it.
        .retry_canceled_requests(true)
        .build(connector)
}

/// The reason in the connector's own words, or that the connection broke.
fn unreachable_because(error: &legacy::Error) -> Fault {
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = source {
        if let Some(reason) = inner.downcast_ref::<ConnectError>() {
            return Fault::Unreachable(reason.as_str());
        }
        source = inner.source();
    }
    Fault::Unreachable(BROKE)
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Shorter than the keep-alive of the servers in use (five seconds is the shortest default met), so that a request
/// rarely meets a connection that is being closed.
const IDLE: Duration = Duration::from_secs(4);
/// Before anything of an answer was there.
const BROKE: &str = "upstream-unavailable.connection-broke";
const LEAST_ANSWER: usize = 4 * 1024 * 1024;
const MOST_IDLE: usize = 64;
const MOST_HEADERS: usize = 100;
const HEADER_BYTES: u32 = 64 * 1024;

#[cfg(test)]
mod tests;
