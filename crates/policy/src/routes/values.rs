//! The values a route is written with: paths, upstreams, sizes, durations, methods.
//!
//! Must never accept two spellings of one thing where a comparison follows.
//! Tests: `routes/tests.rs`; fuzz target `fuzz/fuzz_targets/bundle.rs`.

use std::time::Duration;

use super::{PathPattern, Upstream};
use crate::rows::{Mistake, choose};
use crate::segments::host_text;

/// A path that begins with `/`, exact or ending in `/*`.
pub(super) fn path(text: &str) -> Result<PathPattern, Mistake> {
    if !text.starts_with('/') {
        return Err(Mistake::new(
            format!("the path \"{text}\" does not begin with /"),
            format!("did you mean \"/{text}\"?"),
        ));
    }
    let (stem, prefix) = match text.strip_suffix("/*") {
        Some(stem) => (stem, true),
        None => (text, false),
    };
    if stem.contains('*') {
        return Err(Mistake::new(
            format!("the path \"{text}\" has a * that is not its end"),
            "write an exact path, or a prefix that ends in /*",
        ));
    }
    let plain = stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~!$&'()+,;=:@".contains(&byte));
    if !plain {
        return Err(Mistake::new(
            format!("the path \"{text}\" has characters that do not stand for themselves"),
            "write it decoded, without query, fragment, % and spaces",
        ));
    }
    let odd_segment = stem.contains("//") || stem.split('/').any(|segment| segment == "." || segment == "..");
    if odd_segment {
        return Err(Mistake::new(
            format!("the path \"{text}\" has an empty or dot segment"),
            "requests are normalised first, so it would never match; write the path without it",
        ));
    }
    if prefix { Ok(PathPattern::Prefix(format!("{stem}/"))) } else { Ok(PathPattern::Exact(text.to_owned())) }
}

/// `http://host[:port]` or `https://host[:port]`; its roots are filled in by the caller.
pub(super) fn upstream(text: &str) -> Result<Upstream, Mistake> {
    let wrong = |what: &str| {
        Mistake::new(
            format!("the upstream \"{text}\" {what}"),
            "write it like http://127.0.0.1:7001 or https://signup.example",
        )
    };
    let (tls, rest) = if let Some(rest) = text.strip_prefix("https://") {
        (true, rest)
    } else if let Some(rest) = text.strip_prefix("http://") {
        (false, rest)
    } else {
        return Err(wrong("is neither http:// nor https://"));
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#', '@']) {
        return Err(wrong("has more than a host and a port"));
    }
    let (host, port) = split_port(authority).ok_or_else(|| wrong("has a port that cannot be read"))?;
    let host = match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(address) => address
            .parse::<std::net::Ipv6Addr>()
            .map(|address| address.to_string())
            .map_err(|_unreadable| wrong("has an IPv6 address that cannot be read"))?,
        None => host_text(host).map_err(|_refused| wrong("has no valid host"))?,
    };
    let port = port.unwrap_or(if tls { 443 } else { 80 });
    Ok(Upstream { tls, host, port, roots: None })
}

/// Host and port; the outer option is `None` when there is a port that is not one.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let split = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => return Some((authority, None)),
    };
    let (host, port) = split;
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse::<u16>().ok().filter(|port| digits && *port != 0)?;
    Some((host, Some(port)))
}

/// A number of bytes: `512KiB`, `1MiB`, `4096B`.
pub(super) fn size(text: &str) -> Result<u64, Mistake> {
    bytes(text, (MAX_BODY, "write it like 64KiB or 1MiB, from 1B to 64MiB (to 64GiB with `stream`)"))
}

/// A size of a body that is never held whole: `100MiB`, `2GiB`.
pub(super) fn stream_size(text: &str) -> Result<u64, Mistake> {
    bytes(text, (MAX_STREAM, "write it like 100MiB or 2GiB, from 1B to 64GiB"))
}

fn bytes(text: &str, (most, help): (u64, &str)) -> Result<u64, Mistake> {
    let wrong = |what: &str| Mistake::new(format!("the size \"{text}\" {what}"), help);
    let (digits, unit) = number_and_unit(text);
    let factor = match unit {
        "B" => 1,
        "KiB" => 1_024,
        "MiB" => 1_024 * 1_024,
        "GiB" => 1_024 * 1_024 * 1_024,
        _ => return Err(wrong("has no unit of B, KiB, MiB or GiB")),
    };
    digits
        .and_then(|number| number.checked_mul(factor))
        .filter(|bytes| (1..=most).contains(bytes))
        .ok_or_else(|| wrong("is out of range"))
}

/// A length of time: `250ms`, `10s`, `2m`.
pub(super) fn duration(text: &str) -> Result<Duration, Mistake> {
    let wrong = |what: &str| {
        Mistake::new(
            format!("the duration \"{text}\" {what}"),
            "write it like 500ms, 10s or 2m, from 1ms to 10m",
        )
    };
    let (digits, unit) = number_and_unit(text);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err(wrong("has no unit of ms, s or m")),
    };
    digits
        .and_then(|number| number.checked_mul(factor))
        .filter(|millis| (1..=MAX_TIMEOUT_MS).contains(millis))
        .map(Duration::from_millis)
        .ok_or_else(|| wrong("is out of range"))
}

/// For how long an attempt counts: `30s`, `10m`, `24h`.
pub(super) fn window(text: &str) -> Result<Duration, Mistake> {
    span(text, &[("s", 1), ("m", 60), ("h", 3_600)], 1..=MAX_WINDOW_S).map(Duration::from_secs).ok_or_else(
        || Mistake::new(format!("\"{text}\" is no window"), "write it like 30s, 10m or 24h, at most 24h"),
    )
}

/// For how long an attempt is held up: `500ms`, `2s`.
pub(super) fn delay(text: &str) -> Result<Duration, Mistake> {
    span(text, &[("ms", 1), ("s", 1_000)], 100..=MAX_DELAY_MS).map(Duration::from_millis).ok_or_else(|| {
        Mistake::new(format!("\"{text}\" is no delay"), "write it like 500ms or 2s, from 100ms to 30s")
    })
}

fn span(text: &str, units: &[(&str, u64)], range: std::ops::RangeInclusive<u64>) -> Option<u64> {
    let (digits, unit) = number_and_unit(text);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    digits?.checked_mul(*factor).filter(|length| range.contains(length))
}

fn number_and_unit(text: &str) -> (Option<u64>, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end).unwrap_or((text, ""));
    (digits.parse().ok(), unit)
}

/// A method the gateway passes on; CONNECT and TRACE are not (PCI DSS 1.2.6).
pub(super) fn method(text: &str) -> Result<String, Mistake> {
    let upper = text.to_ascii_uppercase();
    if upper != text && METHODS.iter().any(|(method, ())| *method == upper) {
        return Err(Mistake::new(
            format!("the method \"{text}\" is not in upper case"),
            format!("did you mean \"{upper}\"?"),
        ));
    }
    choose("methods", text, &METHODS).map(|()| upper)
}

/// What a route is for, in a word that a decision can compare: like a name.
pub(super) fn purpose(text: &str) -> Result<String, Mistake> {
    crate::segments::name_text(text)
}

/// A form field's name, as it reads after decoding.
pub(super) fn form_name(text: &str) -> Result<String, Mistake> {
    if text.len() <= MAX_FORM_NAME && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(Mistake::new(
        "the form field's name is too long or has control characters",
        format!("write it decoded, at most {MAX_FORM_NAME} bytes, like card[number]"),
    ))
}

/// A header that may hold a field, in lower case: none that says how the message is read, where it goes, or who asks.
pub(super) fn header(text: &str) -> Result<String, Mistake> {
    let name = text.to_ascii_lowercase();
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&'*+.^_`|~-".contains(&byte);
    if !(1..=MAX_FORM_NAME).contains(&name.len()) || !name.bytes().all(token) {
        return Err(Mistake::new(
            format!("\"{text}\" is no name of a header"),
            "write it like x-card-number",
        ));
    }
    if name == "cookie" || name == "set-cookie" {
        return Err(Mistake::new(
            "cookies are no single field",
            "write cookie = \"name\" for the cookie of a request",
        ));
    }
    let plain = name.replace('_', "-");
    if FRAMING.contains(&plain.as_str()) || plain.starts_with("cordon-") || plain.starts_with("x-forwarded-")
    {
        return Err(Mistake::new(
            format!("the header `{name}` belongs to the gateway"),
            "name a header of the application's own, like x-card-number",
        ));
    }
    Ok(name)
}

/// The name of a cookie (RFC 6265 section 4.1.1).
pub(super) fn cookie(text: &str) -> Result<String, Mistake> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+.^_`|~-".contains(&byte);
    if (1..=MAX_FORM_NAME).contains(&text.len()) && text.bytes().all(token) {
        return Ok(text.to_owned());
    }
    Err(Mistake::new(format!("\"{text}\" is no name of a cookie"), "write it like card_number"))
}

/// Headers that say how a message is read, where it goes, or who asks; the gateway drops or sets them.
const FRAMING: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "upgrade",
    "x-real-ip",
];

const METHODS: [(&str, ()); 7] =
    [("GET", ()), ("HEAD", ()), ("POST", ()), ("PUT", ()), ("PATCH", ()), ("DELETE", ()), ("OPTIONS", ())];

/// Largest `max_body`, in bytes.
const MAX_BODY: u64 = 64 * 1_024 * 1_024;
/// The same with `stream`.
const MAX_STREAM: u64 = 64 * 1_024 * 1_024 * 1_024;
/// Longest `timeout`, in milliseconds.
const MAX_TIMEOUT_MS: u64 = 600_000;
/// Longest window of an abuse rule, in seconds.
const MAX_WINDOW_S: u64 = 24 * 3_600;
/// Longest delay of an abuse rule, in milliseconds.
const MAX_DELAY_MS: u64 = 30_000;
/// Longest form field name, in bytes.
const MAX_FORM_NAME: usize = 256;
/// `max_body` of a route that has none, in bytes.
pub(super) const DEFAULT_BODY: u64 = 1_024 * 1_024;
/// `timeout` of a route that has none.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
