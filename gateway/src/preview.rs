//! Dry runs: what a request would send, with words in the place of cards, to a caller that may ask.
//!
//! Must never ask the vault nor connect to anything: cards are named by their tokens, which the caller has. A request that
//! asks for a dry run is never sent, whatever becomes of the asking. Tests: `tests/tests/dry_run.rs`.

use crate::flow::Preview;
use crate::plan::EgressPlan;
use crate::problem::Fault;
use cordon_daemon::Body;
use cordon_daemon::body;
use cordon_policy::Service;
use cordon_wire::REQUEST_ID;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use serde_json::{Value, json};

/// By which a caller asks for one.
pub const DRY_RUN: &str = "cordon-dry-run";

/// Whether a request asks for a dry run, and its service may.
///
/// # Errors
/// [`Fault::Malformed`] for a header that says anything but `true`, once; [`Fault::Denied`] if the route does not list the
/// service.
pub fn wanted(headers: &HeaderMap, way: &EgressPlan, service: &Service) -> Result<bool, Fault> {
    let mut asked = headers.get_all(DRY_RUN).iter();
    match (asked.next().map(HeaderValue::as_bytes), asked.next()) {
        (None, _) => Ok(false),
        (Some(b"true"), None) if way.route.dry_run.contains(&service.name) => Ok(true),
        (Some(b"true"), None) => Err(Fault::Denied("denied.dry-run")),
        (Some(_), _) => Err(Fault::Malformed(DRY_RUN)),
    }
}

/// The answer: the request as it would have been sent.
#[must_use]
pub fn respond(preview: &Preview, way: &EgressPlan, request_id: &str) -> Response<Body> {
    let authority = way.target.authority();
    let declared = way.fields.head.headers().any(|name| name == AUTHORIZATION);
    let shown = |name: &HeaderName, value: &HeaderValue| {
        // The caller's own secret, which need not travel back.
        let text = match *name {
            AUTHORIZATION if declared => REPLACED_IN.into(),
            AUTHORIZATION => AS_RECEIVED.into(),
            _ => String::from_utf8_lossy(value.as_bytes()),
        };
        json!([name.as_str(), text])
    };
    let host = json!([HOST.as_str(), authority]);
    let kept = preview.headers().iter().map(|(name, value)| shown(name, value));
    let signed = way.signer.headers().map(|name| json!([name, MADE_WHEN_SENT]));
    let headers: Vec<Value> = std::iter::once(host).chain(kept).chain(signed).collect();
    let shown = json!({
        "dry_run": true,
        "route": way.route.name,
        "destination": way.route.destination,
        "method": preview.method(),
        "url": format!("https://{authority}{}", preview.target()),
        "headers": headers,
        "body": String::from_utf8_lossy(preview.body()),
    });
    let mut response = Response::new(body::full(shown.to_string()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

const AS_RECEIVED: &str = "[as received]";
const REPLACED_IN: &str = "[as received, with cards in its declared fields]";
const MADE_WHEN_SENT: &str = "[made when sent]";
