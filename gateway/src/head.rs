//! Headers on their way through: what is dropped in each direction, and what a destination outside may see.
//!
//! Must never let a client speak in the gateway's name (forwarded headers, `cordon-*`), nor nominate a header away
//! that a check relied on (threat B31, B33, B34). Tests: `head/tests.rs`.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// The headers of a public request that its service gets.
#[must_use]
pub fn of_ingress(received: &HeaderMap) -> HeaderMap {
    let mut kept = end_to_end(received);
    drop_where(&mut kept, |name| is_ours(name) || REQUEST_ONLY.contains(&name));
    kept.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    kept
}

/// The headers of a service's request that a destination outside gets.
#[must_use]
pub fn of_egress(received: &HeaderMap) -> HeaderMap {
    let mut kept = end_to_end(received);
    drop_where(&mut kept, |name| !TO_DESTINATION.contains(&name));
    kept.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    kept
}

/// The headers of an answer that the caller gets. Its length is kept only for an answer without a body of its own.
#[must_use]
pub fn of_answer(received: &HeaderMap, keep_length: bool) -> HeaderMap {
    let mut kept = end_to_end(received);
    drop_where(&mut kept, is_ours);
    if keep_length && let Some(length) = received.get(header::CONTENT_LENGTH) {
        kept.insert(header::CONTENT_LENGTH, length.clone());
    }
    kept
}

/// All headers but those that belong to one connection (RFC 9110 section 7.6.1), by name or by nomination.
fn end_to_end(received: &HeaderMap) -> HeaderMap {
    let nominated: Vec<String> = received
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase())
        // The parser was chosen by it, so the next reader has to see it as well.
        .filter(|name| name != header::CONTENT_TYPE.as_str())
        .collect();
    let mut kept = received.clone();
    drop_where(&mut kept, |name| HOP_BY_HOP.contains(&name) || nominated.iter().any(|known| known == name));
    kept
}

/// Drops headers by name. A `_` counts as `-`: some servers cannot tell them apart.
fn drop_where(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            unwanted(name.as_str())
                || (name.as_str().contains('_') && unwanted(&name.as_str().replace('_', "-")))
        })
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
}

/// Headers that only the gateway may set.
fn is_ours(name: &str) -> bool {
    name.starts_with("cordon-") || name.starts_with("x-forwarded-") || OURS.contains(&name)
}

const OURS: &[&str] = &[
    "forwarded",
    "x-forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "client-ip",
    // Some servers route by these in place of the path.
    "x-original-url",
    "x-rewrite-url",
    "x-original-uri",
];

/// Belong to one connection. Length and host are set anew for the next one.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-authentication-info",
    "expect",
    "host",
    "content-length",
];

/// Of a request, what the gateway sets itself or cannot keep true after a rewrite.
const REQUEST_ONLY: &[&str] =
    &["traceparent", "tracestate", "content-md5", "digest", "content-digest", "range", "if-range"];

/// What a destination outside gets from a caller.
const TO_DESTINATION: &[&str] = &["content-type", "accept", "authorization", "idempotency-key", "user-agent"];

#[cfg(test)]
mod tests;
