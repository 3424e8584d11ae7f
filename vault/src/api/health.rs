//! The loopback listener for machines: liveness, readiness, metrics.
//! Must never show a name, token or address of a caller. Tests: `tests/tests/api.rs`.

use crate::store::Store;
use crate::vault::Vault;
use cordon_daemon::body::{self, Body};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

/// Answers one request of a probe or scraper.
pub fn handle<S: Store>(vault: &Vault<S>, request: &Request<Incoming>) -> Response<Body> {
    if request.method() != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n");
    }
    match request.uri().path() {
        "/health" => plain(StatusCode::OK, "text/plain", "alive\n"),
        "/ready" if vault.is_ready() => plain(StatusCode::OK, "text/plain", "ready\n"),
        "/ready" => plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain",
            "not ready: sealed, a restore not accepted, or a log or store fails\n",
        ),
        "/metrics" => {
            let content = cordon_daemon::metrics::CONTENT_TYPE;
            match vault.encode_metrics() {
                Ok(text) => plain(StatusCode::OK, content, text),
                Err(_fmt) => plain(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "no metrics\n"),
            }
        }
        _other => plain(StatusCode::NOT_FOUND, "text/plain", "try /health, /ready or /metrics\n"),
    }
}

fn plain(status: StatusCode, content: &'static str, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(body::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
    response
}
