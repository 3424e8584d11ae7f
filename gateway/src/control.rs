//! The operator's way in: a socket in the data directory, SIGHUP, and a look at the bundle's files every two seconds.
//!
//! Must never answer anybody but the gateway's own user and root, and never tell anything of a request. Tests: here, and
//! `tests/tests/reload.rs`.

use crate::gateway::Gateway;
use crate::plan::Plan;
use crate::reload::{Cause, Reloader, Stamp};
use bytes::Bytes;
use cordon_audit::SinkStatus;
use cordon_daemon::drain::Drain;
use cordon_policy::{EgressRoute, IngressRoute};
use cordon_wire::{AuditSink, Draining, GatewayRoute, GatewayRoutes, GatewayStatus, Reloaded};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener as Listener, UnixStream as Stream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

/// The socket, taken before the process is confined. Gone from the disk when dropped.
#[derive(Debug)]
pub struct Socket {
    listener: Option<Listener>,
    path: PathBuf,
}

impl Socket {
    /// Takes the socket in this directory.
    ///
    /// # Errors
    /// Somebody answers at it, or it cannot be made.
    pub fn reserve(directory: &Path) -> io::Result<Self> {
        let path = directory.join(NAME);
        if Stream::connect(&path).is_ok() {
            let words = format!("{}: another gateway answers there", path.display());
            return Err(io::Error::new(io::ErrorKind::AddrInUse, words));
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = Listener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener: Some(listener), path })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the control socket is not removed");
        }
    }
}

/// What the operator's requests are answered from.
#[derive(Debug)]
pub struct Desk {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Takes up bundles.
    pub reloader: Reloader,
    /// Stops the gateway.
    pub drain: Drain,
    /// How long that may take, notice and all.
    pub within: Duration,
    /// The bundle's directory, if it is watched.
    pub watched: Option<PathBuf>,
}

/// Starts the thread that serves the socket until the process ends.
///
/// # Errors
/// The thread, its runtime or the signal cannot be had.
pub fn start(socket: &mut Socket, desk: Desk) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = socket.listener.take().ok_or_else(|| io::Error::other("the socket is in use"))?;
    let (listener, hangup) = {
        let _inside = runtime.enter();
        (UnixListener::from_std(listener)?, signal(SignalKind::hangup())?)
    };
    let desk = Arc::new(desk);
    std::thread::Builder::new()
        .name("cordon-control".to_owned())
        .spawn(move || runtime.block_on(watch(listener, hangup, desk)))
        .map(drop)
}

async fn watch(listener: UnixListener, mut hangup: Signal, desk: Arc<Desk>) {
    let mut clock = tokio::time::interval(LOOK_EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // At the first look nothing is known, so that a change since the start is not missed.
    let (mut seen, mut known) = (None, None);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(tokio::spawn(converse(stream, Arc::clone(&desk)))),
                Err(error) => {
                    tracing::warn!(%error, "the control socket does not accept");
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            },
            _ = hangup.recv() => drop(reload(&desk, Cause::Asked).await),
            _ = clock.tick() => {
                let Some(directory) = &desk.watched else { continue };
                let now = Some(Stamp::of(directory));
                // A bundle is written in several steps: it has to look the same twice.
                if now == seen && now != known {
                    known.clone_from(&now);
                    drop(reload(&desk, Cause::Watched).await);
                }
                seen = now;
            }
        }
    }
}

/// Off this thread: the log waits for its disk.
async fn reload(desk: &Arc<Desk>, cause: Cause) -> Option<Reloaded> {
    let desk = Arc::clone(desk);
    tokio::task::spawn_blocking(move || desk.reloader.reload(cause)).await.ok()
}

async fn converse(stream: UnixStream, desk: Arc<Desk>) {
    let own = rustix::process::geteuid().as_raw();
    if !stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0) {
        tracing::warn!("somebody else's process came to the control socket");
        return;
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(answer(&request, &desk).await) }
    });
    let mut protocol = hyper::server::conn::http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    if let Err(error) = protocol.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a control connection broke");
    }
}

async fn answer(request: &Request<Incoming>, desk: &Arc<Desk>) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/v1/status") => json(StatusCode::OK, &status(desk)),
        (&Method::GET, "/v1/routes") => json(StatusCode::OK, &routes(&desk.gateway.plan())),
        (&Method::POST, "/v1/reload") => match reload(desk, Cause::Asked).await {
            Some(reloaded) if reloaded.faults.is_empty() => json(StatusCode::OK, &reloaded),
            Some(reloaded) => json(StatusCode::UNPROCESSABLE_ENTITY, &reloaded),
            None => json(StatusCode::INTERNAL_SERVER_ERROR, &"the reload failed"),
        },
        (&Method::POST, "/v1/drain") => {
            desk.drain.leave();
            let in_flight = desk.gateway.admission.in_flight();
            json(StatusCode::ACCEPTED, &Draining { in_flight, within_s: desk.within.as_secs() })
        }
        _ => json(StatusCode::NOT_FOUND, &"no such call"),
    }
}

fn status(desk: &Desk) -> GatewayStatus {
    let Desk { gateway, reloader, drain, .. } = desk;
    GatewayStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        environment: gateway.environment.as_str().to_owned(),
        bundle: gateway.plan().bundle.digest().to_owned(),
        since: gateway.since().to_string(),
        refused: reloader.refused(),
        draining: drain.is_leaving(),
        in_flight: gateway.admission.in_flight(),
        sinks: gateway.ledger.sinks().map(sink).collect(),
    }
}

fn sink(SinkStatus { kind, behind, late, required, .. }: SinkStatus) -> AuditSink {
    AuditSink { kind: kind.to_owned(), behind, late, required }
}

fn routes(plan: &Plan) -> GatewayRoutes {
    let ingress = plan.ingress.iter().map(|way| {
        let IngressRoute { name, hosts, methods, path, service, fields, .. } = &way.route;
        GatewayRoute {
            plane: "ingress".to_owned(),
            name: name.clone(),
            hosts: hosts.clone(),
            services: Vec::new(),
            methods: methods.clone(),
            path: path.to_string(),
            to: service.clone(),
            fields: fields.len(),
            breaker: way.target.breaker().as_str().to_owned(),
        }
    });
    let egress = plan.egress.iter().map(|way| {
        let EgressRoute { name, services, methods, path, destination, fields, .. } = &way.route;
        GatewayRoute {
            plane: "egress".to_owned(),
            name: name.clone(),
            hosts: Vec::new(),
            services: services.clone(),
            methods: methods.clone(),
            path: path.to_string(),
            to: destination.clone(),
            fields: fields.len(),
            breaker: way.target.breaker().as_str().to_owned(),
        }
    });
    GatewayRoutes { bundle: plan.bundle.digest().to_owned(), routes: ingress.chain(egress).collect() }
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(serde_json::to_vec(value).unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The socket's name in the data directory.
pub const NAME: &str = "control.sock";
const LOOK_EVERY: Duration = Duration::from_secs(2);
const HEAD_WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_private_is_taken_once_and_goes_with_its_gateway() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        let first = Socket::reserve(directory.path()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Socket::reserve(directory.path()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists());
        // One that a killed gateway left is taken over.
        drop(Listener::bind(&path).unwrap());
        assert!(path.exists() && Socket::reserve(directory.path()).is_ok());
    }
}
