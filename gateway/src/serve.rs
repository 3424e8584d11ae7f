//! Start to stop: everything is read and checked first, then the listeners open, then they drain.
//!
//! Must never open a listener before the audit log, the bundle and all identities are sound.
//! Tests: the workspace's `tests` crate against the real binary.

use crate::abuse::Guard;
use crate::config::{Config, DrainConfig};
use crate::control::{self, Desk, Socket};
use crate::egress::Egress;
use crate::events::config::{EventsConfig, EventsError};
use crate::gateway::{Bounds, Gateway};
use crate::idempotency::Outcomes;
use crate::ingress::Ingress;
use crate::leak::budget::Budget;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::plan::{Plan, PlanError, Secrets};
use crate::proxy::Door;
use crate::proxy::ca::{Authorities, CaError};
use crate::reload::Reloader;
use crate::stream::spool::Spools;
use cordon_audit::{Action, AuditError, Event, Feed, Log, Name, Outcome};
use cordon_card::Environment;
use cordon_client::{ClientError, Endpoint, Revealer, Tokenizer};
use cordon_daemon::Body;
use cordon_daemon::body;
use cordon_daemon::confine::{Confinement, Outbound};
use cordon_daemon::drain::Drain;
use cordon_daemon::metrics::{CONTENT_TYPE as METRICS_TYPE, Metrics as Registry};
use cordon_daemon::process::{Hardening, NotHardened};
use cordon_daemon::server::{
    ConnectionMetrics, Limits, Listener, Refused, ServeError, Server, reserve, serve,
};
use cordon_daemon::tls::{self, Peer, TlsError};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;
use rustls::ServerConfig;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Everything that was read and found sound, before anything is opened.
#[derive(Debug)]
pub struct Prepared {
    config: Config,
    plan: Plan,
    ingress: Arc<ServerConfig>,
    egress: Arc<ServerConfig>,
    tokenizer: Endpoint,
    revealer: Endpoint,
    outcomes: Arc<Outcomes>,
    abuse: Arc<Guard>,
    authorities: Option<Arc<Authorities>>,
    feeds: Vec<Feed>,
}

impl Prepared {
    /// Reads the bundle, the certificates and the keys.
    ///
    /// # Errors
    /// All faults that were found.
    pub fn new(config: Config) -> Result<Self, Vec<StartError>> {
        let service = config.ingress.service.as_deref();
        let secrets = Secrets { signing: &config.signing, certificates: &config.client_certificates };
        let plan =
            Plan::load(&config.policies, config.environment, service, secrets).map_err(StartError::from);
        let ingress = config.ingress.tls().map_err(StartError::from);
        let egress = config.egress.tls().map_err(StartError::from);
        let tokenizer = config.vault.endpoint(&config.vault.ingress_identity);
        let revealer = config.vault.endpoint(&config.vault.egress_identity);
        let metrics = config.metrics.check();
        let kept = config
            .idempotency
            .outcomes()
            .and_then(|outcomes| Ok((outcomes, config.abuse.guard()?, config.authorities()?)));
        let bounds = config.bounds();
        let audit = config.audit_faults.iter().cloned().map(StartError::AuditSettings);
        let (mut feeds, mut audit) = (Vec::new(), audit.collect::<Vec<_>>());
        for events in &config.events {
            match events.feed() {
                Ok(feed) => feeds.push(feed),
                Err(error) => audit.push(error.into()),
            }
        }
        match (plan, ingress, egress, tokenizer, revealer, metrics, kept) {
            (
                Ok(plan),
                Ok(ingress),
                Ok(egress),
                Ok(tokenizer),
                Ok(revealer),
                Ok(()),
                Ok((outcomes, abuse, authorities)),
            ) if audit.is_empty() && bounds.is_ok() => Ok(Self {
                config,
                plan,
                ingress,
                egress,
                tokenizer,
                revealer,
                outcomes,
                abuse,
                authorities,
                feeds,
            }),
            (plan, ingress, egress, tokenizer, revealer, metrics, kept) => {
                let vault = [tokenizer.err(), revealer.err()];
                let sides = [ingress.err(), egress.err(), metrics.err(), kept.err(), bounds.err()]
                    .into_iter()
                    .chain(vault);
                Err(plan.err().into_iter().chain(sides.flatten()).chain(audit).collect())
            }
        }
    }

    /// Takes the addresses and confines itself, opens the audit log and the listeners, announces them on `out`, and serves
    /// until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left open.
    pub fn run(self, mut hardening: Hardening, out: &mut dyn io::Write) -> Result<(), StartError> {
        let ingress = reserve("ingress", self.config.ingress.listen)?;
        let egress = reserve("egress", self.config.egress.listen)?;
        let machines = reserve("metrics", self.config.metrics.listen)?;
        let proxy = self.config.proxy.as_ref().map(|proxy| reserve("proxy", proxy.listen)).transpose()?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.config.data_dir)
            .map_err(StartError::Directory)?;
        let mut socket = Socket::reserve(&self.config.data_dir).map_err(StartError::Control)?;
        // The processors granted are read from the control group's files, which are out of reach afterwards.
        let workers = match self.config.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            some => some,
        };
        hardening.confine(&self.confinement());
        hardening.admit(&self.config.hardening, self.config.environment == Environment::Live)?;
        let audit = self.config.data_dir.join("audit");
        let (log, recovered) = Log::open_feeding(&audit, ORIGIN, &self.config.audit, self.feeds)?;
        let opened = Event::new(Action::AuditOpen, Outcome::Allowed).count(recovered.size);
        let _recorded = log.append_blocking(opened)?;
        let digest = Name::parse_or_withhold(self.plan.bundle.digest());
        let _recorded = log.append_blocking(Event::new(Action::PolicyLoad, Outcome::Allowed).on(&digest))?;

        let mut registry = Registry::new("cordon_gateway");
        let metrics = Metrics::register(&mut registry);
        let connections = ConnectionMetrics::default();
        connections.register(&mut registry);
        hardening.register(&mut registry);
        let DrainConfig { notice_s, deadline_s } = self.config.drain;
        let (notice, deadline) = (Duration::from_secs(notice_s), Duration::from_secs(deadline_s));
        let drain = Drain::on_signals(deadline, notice).map_err(StartError::Signals)?;
        let ledger = Ledger::new(log.clone());
        let ports = self.plan.ports();
        let config = Arc::new(self.config);
        let spools = Spools::open(&config.data_dir, config.stream).map_err(StartError::Directory)?;
        let bounds = Bounds {
            outcomes: self.outcomes,
            abuse: self.abuse,
            budget: Budget::new(config.leaks.exact_checks_per_minute),
            limits: config.limits,
            breaker: config.breaker,
            spools,
        };
        let gateway = Arc::new(Gateway::new(self.plan, ledger, metrics, config.environment, bounds));
        let clients = (self.revealer, self.tokenizer.clone());
        let mut listeners = vec![
            ingress_listener(&config, self.ingress, &gateway, self.tokenizer).on(ingress),
            egress_listener(&config, Arc::clone(&self.egress), &gateway, clients.clone()).on(egress),
        ];
        if let (Some(proxy), Some(settings), Some(authorities)) = (proxy, &config.proxy, &self.authorities) {
            let outer = (!settings.plain).then(|| tls::http1_only(&self.egress));
            let door = Arc::new(Door::new(Arc::clone(&gateway), Arc::clone(authorities)));
            let make = egress_handler(&gateway, clients);
            let listener = Listener::proxy("proxy", settings.listen, outer, door, make);
            listeners.push(noting(listener, &gateway.ledger).on(proxy));
        }
        listeners
            .push(metrics_listener(&config, registry, &gateway, (&drain, self.authorities)).on(machines));
        let mut limits = Limits::default();
        limits.connections = config.limits.connections;
        let server = serve(listeners, workers, limits, &drain, &connections)?;
        let watched = config.reload.watch.then(|| config.policies.clone());
        let reloader = Reloader::new(Arc::clone(&gateway), config, log.clone(), ports);
        let desk = Desk { gateway, reloader, drain, within: notice.saturating_add(deadline), watched };
        control::start(&mut socket, desk).map_err(StartError::Control)?;
        let _recorded = log.append_blocking(Event::new(Action::Start, Outcome::Allowed))?;
        server.announce(out).map_err(StartError::Announce)?;
        log.announced();
        let stopped = stop(server, log);
        drop(socket);
        stopped
    }

    /// Its own directory, what resolving a name and taking up another bundle need, and the ports that the bundle and the
    /// vault are on.
    fn confinement(&self) -> Confinement {
        let Config { data_dir, policies, vault, audit, signing, client_certificates, events, .. } =
            &self.config;
        let streams = events.iter().filter_map(EventsConfig::port);
        let ports = self.plan.ports().into_iter().chain(vault.port()).chain(streams).chain([DNS]);
        let certificates = client_certificates.values().flat_map(|shown| [&shown.cert, &shown.key]);
        // Folders of roots, but of keys the files alone: what lies beside them stays out of reach.
        let keys = signing.values().map(|key| &key.file).chain(certificates).cloned();
        let folders = self.plan.folders().into_iter().chain(keys);
        // A resolver's files are replaced, not rewritten, so a rule on the file alone would not outlive a change.
        let resolver = RESOLVER.iter().map(PathBuf::from);
        Confinement {
            writable: audit
                .directories()
                .chain(events.iter().filter_map(EventsConfig::folder))
                .chain([data_dir.clone()])
                .collect(),
            readable: resolver
                .chain(audit.witnesses.clone())
                .chain([policies.clone()])
                .chain(folders)
                .chain(events.iter().flat_map(EventsConfig::read_later))
                .collect(),
            outbound: Outbound::Ports(ports.collect()),
            loads_modules: false,
        }
    }
}

fn stop(server: Server, log: Log) -> Result<(), StartError> {
    let drained = server.wait();
    tracing::info!(cut_off = drained.cut_off, failed_threads = drained.failed_threads, "stopped");
    let cut_off = u64::try_from(drained.cut_off).unwrap_or(u64::MAX);
    let _recorded = log.append_blocking(Event::new(Action::Stop, Outcome::Allowed).count(cut_off))?;
    log.close().map_err(StartError::Audit)
}

fn ingress_listener(
    config: &Config,
    tls: Arc<ServerConfig>,
    gateway: &Arc<Gateway>,
    vault: Endpoint,
) -> Listener {
    let (gateway, ledger) = (Arc::clone(gateway), gateway.ledger.clone());
    let listener = Listener::tls("ingress", config.ingress.listen, tls, move |_worker| {
        let ingress = Arc::new(Ingress::new(Arc::clone(&gateway), Tokenizer::new(vault.clone())));
        move |request: Request<Incoming>, peer: Arc<Peer>| {
            let ingress = Arc::clone(&ingress);
            async move { ingress.handle(request, &peer).await }
        }
    });
    listener.on_refused(move |address, refused| {
        // Anybody may fail a handshake on the public side; it says nothing about a request.
        if refused == Refused::Malformed {
            note_refused(&ledger, Action::Forward, address, refused);
        }
    })
}

fn egress_listener(
    config: &Config,
    tls: Arc<ServerConfig>,
    gateway: &Arc<Gateway>,
    clients: (Endpoint, Endpoint),
) -> Listener {
    let listener = Listener::tls("egress", config.egress.listen, tls, egress_handler(gateway, clients));
    noting(listener, &gateway.ledger)
}

/// Makes the egress of a worker, which reveals as the first and makes tokens of answers as the second.
fn egress_handler(
    gateway: &Arc<Gateway>,
    (revealing, tokenizing): (Endpoint, Endpoint),
) -> impl Fn(usize) -> EgressCall + Send + Sync + 'static {
    let gateway = Arc::clone(gateway);
    move |_worker| {
        let (revealer, tokenizer) = (Revealer::new(revealing.clone()), Tokenizer::new(tokenizing.clone()));
        let egress = Arc::new(Egress::new(Arc::clone(&gateway), revealer, tokenizer));
        Box::new(move |request: Request<Incoming>, peer: Arc<Peer>| {
            let egress = Arc::clone(&egress);
            Box::pin(async move { egress.handle(request, peer).await })
        })
    }
}

type EgressCall = Box<
    dyn Fn(Request<Incoming>, Arc<Peer>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>>
        + Send
        + Sync,
>;

/// Records who was turned away before a request could be made of what they sent.
fn noting(listener: Listener, ledger: &Ledger) -> Listener {
    let ledger = ledger.clone();
    listener.on_refused(move |address, refused| {
        let what = if refused == Refused::Malformed { Action::Send } else { Action::Authenticate };
        note_refused(&ledger, what, address, refused);
    })
}

/// Records a connection that was closed. Nobody waits for it: there is no request to refuse.
fn note_refused(ledger: &Ledger, what: Action, address: SocketAddr, refused: Refused) {
    let ledger = ledger.clone();
    drop(tokio::spawn(async move {
        ledger.refuses_connection(what, address.ip().to_canonical(), refused.as_str()).await;
    }));
}

fn metrics_listener(
    config: &Config,
    registry: Registry,
    gateway: &Arc<Gateway>,
    (drain, authorities): (&Drain, Option<Arc<Authorities>>),
) -> Listener {
    let registry = Arc::new(registry);
    let (gateway, drain) = (Arc::clone(gateway), drain.clone());
    Listener::plain("metrics", config.metrics.listen, move |_worker| {
        let (registry, gateway, drain) = (Arc::clone(&registry), Arc::clone(&gateway), drain.clone());
        let authorities = authorities.clone();
        move |request: Request<Incoming>, _peer: Arc<Peer>| {
            gateway.metrics.audit_stands(gateway.ledger.is_degraded(), gateway.ledger.sinks());
            gateway.metrics.abuse_stands(&gateway.abuse);
            if let Some(authorities) = &authorities {
                gateway.metrics.proxy_stands(authorities, Timestamp::now());
            }
            let ready = gateway.ledger.is_sound() && !drain.is_leaving();
            let response = machine_page(request.method(), request.uri().path(), ready, &registry);
            async move { response }
        }
    })
}

/// What machines read: alive, ready, figures.
fn machine_page(method: &Method, path: &str, ready: bool, registry: &Registry) -> Response<Body> {
    let (status, kind, text) = match (method, path) {
        (&Method::GET, "/health") => (StatusCode::OK, PLAIN, "ok\n".to_owned()),
        (&Method::GET, "/ready") if ready => (StatusCode::OK, PLAIN, "ready\n".to_owned()),
        (&Method::GET, "/ready") => (StatusCode::SERVICE_UNAVAILABLE, PLAIN, "not ready\n".to_owned()),
        (&Method::GET, "/metrics") => match registry.encode() {
            Ok(text) => (StatusCode::OK, METRICS_TYPE, text),
            Err(_unwritable) => (StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "metrics failed\n".to_owned()),
        },
        _ => (StatusCode::NOT_FOUND, PLAIN, "not found\n".to_owned()),
    };
    let mut response = Response::new(body::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Why the gateway does not serve. All are the operator's to mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The policy bundle.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A certificate or key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The identity towards the vault.
    #[error(transparent)]
    Vault(#[from] ClientError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The data directory.
    #[error("the data directory can't be made")]
    Directory(#[source] io::Error),
    /// Hardening that a live environment needs.
    #[error(transparent)]
    NotHardened(#[from] NotHardened),
    /// A listener.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// `[audit]`.
    #[error("{0}")]
    AuditSettings(String),
    /// `[[events]]`.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// Metrics would leave the machine in plain text.
    #[error("[metrics] listen must be a loopback address: metrics are plain text")]
    MetricsBeyondLoopback,
    /// `[idempotency]`.
    #[error("[idempotency] ttl_s must be 900 to 604800 (a week), memory_mib 1 to 1024")]
    Idempotency,
    /// `[abuse]`.
    #[error("[abuse] memory_mib must be 4 to 1024, delayed 0 to 10000")]
    Abuse,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
    /// The control socket.
    #[error("the control socket `control.sock` in data_dir cannot be had")]
    Control(#[source] io::Error),
    /// `[limits]`, `[breaker]` or `[drain]`.
    #[error(
        "[limits] connections, requests and vault_calls must be 1 to 1000000; [breaker] failures at least 1, open_s 1 to \
         3600; [drain] notice_s at most 300, deadline_s 1 to 3600"
    )]
    Bounds,
    /// The forward proxy's authorities.
    #[error(transparent)]
    ProxyCa(#[from] CaError),
    /// Signals cannot be received.
    #[error("signals cannot be received")]
    Signals(#[source] io::Error),
    /// Standard output cannot be written.
    #[error("the listeners cannot be announced")]
    Announce(#[source] io::Error),
}

/// The audit log's name.
const ORIGIN: &str = "cordon-gateway";
/// Where the C library's resolver reads its configuration, also through the usual links.
const RESOLVER: [&str; 3] = ["/etc", "/run/systemd/resolve", "/run/NetworkManager"];
/// Answers too long for a datagram come over TCP.
const DNS: u16 = 53;
const PLAIN: &str = "text/plain; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_read_three_pages_and_no_more() {
        let registry = Registry::new("cordon_gateway");
        for (method, path, ready, status) in [
            (Method::GET, "/health", false, 200),
            (Method::GET, "/ready", true, 200),
            (Method::GET, "/ready", false, 503),
            (Method::GET, "/metrics", true, 200),
            (Method::POST, "/metrics", true, 404),
            (Method::GET, "/", true, 404),
            (Method::GET, "/v1/seal", true, 404),
        ] {
            assert_eq!(machine_page(&method, path, ready, &registry).status(), status, "{method} {path}");
        }
    }
}
