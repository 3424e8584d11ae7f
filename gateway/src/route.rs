//! Which route a request takes: host, method and path against the bundle.
//!
//! Must never match a path that the service behind could read as another one (threat B27, B31), nor fall back to
//! anything when nothing matches. Tests: `route/tests.rs`.

use cordon_policy::PathPattern;
use http::header::HOST;
use http::{Method, Uri, request};
use percent_encoding::percent_decode_str;
use std::fmt;

/// A path that reads the same to everyone, decoded once.
#[derive(Clone, PartialEq, Eq)]
pub struct CleanPath(String);

/// The path is the caller's text.
impl fmt::Debug for CleanPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CleanPath")
    }
}

impl CleanPath {
    /// Decodes a request's path.
    ///
    /// # Errors
    /// [`Ambiguous`] for dot segments, encoded or reversed slashes, control characters, text that is not UTF-8, and
    /// anything that would decode once more.
    pub fn parse(raw: &str) -> Result<Self, Ambiguous> {
        if !raw.starts_with('/') || !triplets(raw).all(|digits| digits.is_some()) {
            return Err(Ambiguous);
        }
        let decoded = percent_decode_str(raw).decode_utf8().map_err(|_not_utf8| Ambiguous)?;
        // Encoded slashes: there are more after decoding than before.
        let slashes = |text: &str| text.bytes().filter(|byte| *byte == b'/').count();
        let twice_encoded = triplets(&decoded).any(|digits| digits.is_some());
        let unclean = slashes(&decoded) != slashes(raw) || twice_encoded || decoded.contains(is_refused);
        // `..;x` is a dot segment with a parameter to some servers.
        let is_dot = |segment: &str| matches!(segment.split(';').next().map(str::trim), Some("." | ".."));
        if unclean || decoded.split('/').any(is_dot) {
            return Err(Ambiguous);
        }
        Ok(Self(decoded.into_owned()))
    }

    /// The decoded path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A target that two readers could understand differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request target can be read in more than one way")]
pub struct Ambiguous;

/// What the matcher looks at in a route.
pub trait Matched {
    /// Host names it answers to, lower case; `None` when the plane has no hosts.
    fn hosts(&self) -> Option<&[String]>;
    /// Methods it takes, upper case.
    fn methods(&self) -> &[String];
    /// Paths it takes.
    fn path(&self) -> &PathPattern;
}

/// The outcome of matching.
#[derive(Debug, PartialEq, Eq)]
pub enum Match<'r, R> {
    /// This route, of those that match the most specific one.
    Route(&'r R),
    /// The path is declared, but not with this method; these are.
    OtherMethods(Vec<&'r str>),
    /// Nothing is declared.
    Nothing,
}

/// Finds the route: an exact path before a prefix, a longer prefix before a shorter one.
pub fn find<'r, R: Matched>(
    routes: impl Iterator<Item = &'r R>,
    host: Option<&str>,
    method: &Method,
    path: &CleanPath,
) -> Match<'r, R> {
    let of_host = |route: &&R| match (route.hosts(), host) {
        (None, _) => true,
        (Some(hosts), Some(host)) => hosts.iter().any(|known| known == host),
        (Some(_), None) => false,
    };
    let here: Vec<&R> = routes.filter(of_host).filter(|route| route.path().matches(path.as_str())).collect();
    let takes = |route: &&&R| route.methods().iter().any(|known| known == method.as_str());
    // The first of equals counts, as the bundle's order says: `max_by_key` alone would give the last.
    if let Some(route) = here.iter().rev().filter(takes).max_by_key(|route| specificity(route.path())) {
        return Match::Route(route);
    }
    if here.is_empty() {
        return Match::Nothing;
    }
    let mut methods: Vec<&str> = here.iter().flat_map(|route| route.methods()).map(String::as_str).collect();
    methods.sort_unstable();
    methods.dedup();
    Match::OtherMethods(methods)
}

/// The host a request is for, in lower case and without its port.
///
/// # Errors
/// [`Ambiguous`] when there is none, more than one, two that differ (in the port as well), or one with user information
/// or a port that is none.
pub fn host(parts: &request::Parts) -> Result<String, Ambiguous> {
    let mut named = parts.headers.get_all(HOST).iter();
    let from_header = match (named.next(), named.next()) {
        (None, _) => None,
        (Some(value), None) => Some(hostname(value.to_str().map_err(|_not_ascii| Ambiguous)?)?),
        (Some(_), Some(_)) => return Err(Ambiguous),
    };
    let from_target = parts.uri.authority().map(|authority| hostname(authority.as_str())).transpose()?;
    match (from_target, from_header) {
        (Some(target), Some(header)) if target != header => Err(Ambiguous),
        (Some((host, _)), _) | (None, Some((host, _))) => Ok(host),
        (None, None) => Err(Ambiguous),
    }
}

/// Host and port; without one it is that of HTTPS.
fn hostname(authority: &str) -> Result<(String, u16), Ambiguous> {
    let parsed: Uri = authority.parse().map_err(|_not_an_authority| Ambiguous)?;
    let plain = parsed.scheme().is_none() && parsed.path().is_empty() && !authority.contains(['@', '/', '?']);
    let host = parsed.host().filter(|host| !host.is_empty()).ok_or(Ambiguous)?;
    let port = match authority.get(host.len()..).ok_or(Ambiguous)?.strip_prefix(':') {
        None if authority.len() == host.len() => HTTPS,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map_err(|_no_port| Ambiguous)?
        }
        None | Some(_) => return Err(Ambiguous),
    };
    if plain { Ok((host.to_ascii_lowercase(), port)) } else { Err(Ambiguous) }
}

fn specificity(path: &PathPattern) -> (bool, usize) {
    match path {
        PathPattern::Exact(path) => (true, path.len()),
        PathPattern::Prefix(path) => (false, path.len()),
    }
}

/// For each `%` the two hexadecimal digits after it, or `None` where they are missing.
fn triplets(text: &str) -> impl Iterator<Item = Option<&[u8]>> {
    text.split('%').skip(1).map(|rest| {
        let digits = rest.as_bytes().get(..2)?;
        digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)
    })
}

const HTTPS: u16 = 443;

fn is_refused(character: char) -> bool {
    character == '\\' || character.is_control()
}

#[cfg(test)]
mod tests;
