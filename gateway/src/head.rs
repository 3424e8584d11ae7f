//! Headers on their way through: what is dropped in each direction, and what a destination outside may see.
//!
//! Must never let a client speak in the gateway's name (forwarded headers, `cordon-*`), nor nominate a header away
//! that a check relied on (threat B31, B33, B34). Tests: `head/tests.rs`.

use crate::problem::Fault;
use crate::told::SERVER_TIMING;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, request};

/// Refuses what would make something else of the connection, or of the body's length, than the one request it is.
///
/// # Errors
/// [`Fault::Malformed`] for CONNECT, any upgrade, and a length or coding that does not stand alone (the server checked
/// HTTP/1.1 already; this is for HTTP/2); [`Fault::Expectation`].
pub fn admit(parts: &request::Parts) -> Result<(), Fault> {
    let headers = &parts.headers;
    if parts.method == Method::CONNECT {
        return Err(Fault::Malformed("method"));
    }
    if headers.contains_key(header::UPGRADE) || headers.contains_key("http2-settings") {
        return Err(Fault::Malformed("upgrade"));
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next()
        && (lengths.next().is_some() || !length.as_bytes().iter().all(u8::is_ascii_digit))
    {
        return Err(Fault::Malformed("length"));
    }
    let mut expectations = headers.get_all(header::EXPECT).iter();
    let met = expectations.next().is_none_or(|expected| expected.as_bytes().eq_ignore_ascii_case(CONTINUE));
    if met && expectations.next().is_none() { Ok(()) } else { Err(Fault::Expectation) }
}

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
    drop_where(&mut kept, |name| is_ours(name) || name == SERVER_TIMING.as_str());
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

/// Drops headers by name. Whatever is neither a letter nor a digit counts as `-`: servers that hand headers on as variables
/// (RFC 3875 section 4.1.18) cannot tell them apart.
fn drop_where(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let odd = |character: char| !character.is_ascii_alphanumeric();
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| unwanted(name.as_str()) || unwanted(&name.as_str().replace(odd, "-")))
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
}

/// Headers that only the gateway may set: it is where TLS ends and where the request's target was judged.
fn is_ours(name: &str) -> bool {
    OUR_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || OURS.contains(&name)
}

/// The one expectation there is (RFC 9110 section 10.1.1).
const CONTINUE: &[u8] = b"100-continue";

const OUR_PREFIXES: &[&str] =
    &["cordon-", "x-forwarded-", "proxy-", "x-ssl-", "ssl-client-", "x-client-cert"];

const OURS: &[&str] = &[
    "forwarded",
    "x-forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-originating-ip",
    "x-remote-ip",
    "x-remote-addr",
    "true-client-ip",
    "client-ip",
    "cf-connecting-ip",
    // What a proxy says that saw a certificate (RFC 9440).
    "client-cert",
    "client-cert-chain",
    // Some programs take their own proxy from it (CVE-2016-5385 and its like).
    "proxy",
    // Some servers route by these in place of the target.
    "x-host",
    "x-original-host",
    "x-original-url",
    "x-rewrite-url",
    "x-original-uri",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
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
    "alt-svc",
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
