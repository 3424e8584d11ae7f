//! A small HTTP server on loopback, with or without TLS, for the sample services.
//!
//! Must never listen on anything but loopback, or take a body without a bound. Tests: through `signup` and
//! `processor` in `cordon dev`, by the workspace's `tests` crate.

use crate::exit::{self, Failure, Verdict};
use cordon_daemon::body::{self, Body};
use cordon_daemon::drain::Drain;
use cordon_daemon::server::{self, ConnectionMetrics, Limits, Listener, Server};
use cordon_daemon::tls::Peer;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use rustls::ServerConfig;
use serde::Serialize;
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A request, whole.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query as they came.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: body::WipedBytes,
}

/// What is answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// A sample service: one answer for each request.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers one request.
    fn answer(&self, asked: Asked) -> Reply;
}

impl Asked {
    /// The media type of the body, without parameters.
    pub(crate) fn media_type(&self) -> &str {
        let found = self.headers.iter().find(|(name, _)| name == "content-type");
        found.and_then(|(_, value)| value.split(';').next()).unwrap_or_default().trim()
    }
}

impl Reply {
    /// A JSON answer.
    pub(crate) fn new(status: u16, body: impl Serialize) -> Self {
        Self { status, body: serde_json::to_value(body).unwrap_or_default() }
    }

    /// A refusal by a code of the sample's own.
    pub(crate) fn refusal(status: u16, reason: &str) -> Self {
        Self { status, body: json!({"status": "refused", "reason": reason}) }
    }
}

/// Serves until SIGTERM or SIGINT. Announces itself on stdout as the daemons do.
pub(super) fn serve(
    name: &'static str,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    service: Arc<impl Service>,
) -> Result<Verdict, Failure> {
    let drain = Drain::on_signals(Duration::from_secs(1), Duration::ZERO)?;
    let running = start(name, address, tls, service, &drain)?;
    running.announce(&mut io::stdout().lock())?;
    running.wait();
    Ok(Verdict::Fine)
}

/// Serves until `drain` is triggered.
pub(crate) fn start(
    name: &'static str,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    service: Arc<impl Service>,
    drain: &Drain,
) -> Result<Server, Failure> {
    if !address.ip().is_loopback() {
        return Err(Failure::usage("the samples listen on loopback only"));
    }
    let make = move |_worker: usize| {
        let service = Arc::clone(&service);
        move |request: Request<Incoming>, _peer: Arc<Peer>| {
            let service = Arc::clone(&service);
            async move { respond(&*service, request).await }
        }
    };
    let listener = match tls {
        Some(config) => Listener::tls(name, address, config, make),
        None => Listener::plain(name, address, make),
    };
    server::serve(vec![listener], 1, Limits::default(), drain, &ConnectionMetrics::default())
        .map_err(|error| Failure::refused("listen", exit::with_causes(&error)))
}

async fn respond(service: &impl Service, request: Request<Incoming>) -> Response<Body> {
    let (parts, incoming) = request.into_parts();
    let reply = match body::read_body(incoming, MAX_BODY, BODY_TIME).await {
        Err(error) => Reply::refusal(400, &error.to_string()),
        Ok(body) => service.answer(Asked {
            method: parts.method.to_string(),
            target: parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
            headers: parts
                .headers
                .iter()
                .map(|(name, value)| {
                    (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
                })
                .collect(),
            body,
        }),
    };
    let mut response = Response::new(body::full(reply.body.to_string()));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Bytes of a request a sample takes.
const MAX_BODY: usize = 1024 * 1024;
/// Time for a request's body.
const BODY_TIME: Duration = Duration::from_secs(10);
