//! W3C trace context: an incoming trace is continued when it is well formed, else a new one begins.
//!
//! Must never pass on text of the caller: ids are parsed and written anew. Tests: here.

use http::header::HeaderMap;
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;

/// The trace a request belongs to (W3C Trace Context, version 00).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    id: u128,
    parent: u64,
    flags: u8,
}

impl Trace {
    /// Continues the trace of a request under a new parent id, or begins one.
    #[must_use]
    pub fn begin(headers: &HeaderMap) -> Self {
        let mut random = [0; 24];
        if SystemRandom::new().fill(&mut random).is_err() {
            tracing::warn!("no randomness for a trace id");
        }
        Self::of(headers, random)
    }

    /// The same with these fresh random bytes.
    ///
    /// An id whose hexadecimal form holds what could be a card number is not continued.
    #[must_use]
    pub fn of(headers: &HeaderMap, random: [u8; 24]) -> Self {
        let (id, parent) = random.split_at(16);
        let id = id.try_into().map_or(1, u128::from_be_bytes).max(1);
        let parent = parent.try_into().map_or(1, u64::from_be_bytes).max(1);
        let mut named = headers.get_all("traceparent").iter();
        let received = match (named.next(), named.next()) {
            (Some(value), None) => value.to_str().ok().and_then(parse),
            (None | Some(_), _) => None,
        };
        let continued =
            received.map_or(Self { id, parent, flags: 0 }, |(id, flags)| Self { id, parent, flags });
        let suspicious = cordon_scan::first(continued.to_string().as_bytes()).is_some();
        if suspicious { Self { id, parent, flags: 0 } } else { continued }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.id, self.parent, self.flags)
    }
}

fn parse(value: &str) -> Option<(u128, u8)> {
    let mut parts = value.split('-');
    let (version, id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let shaped =
        version == "00" && id.len() == 32 && parent.len() == 16 && flags.len() == 2 && parts.next().is_none();
    let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if !shaped || ![id, parent, flags].iter().all(|part| part.bytes().all(lower_hex)) {
        return None;
    }
    let id = u128::from_str_radix(id, 16).ok().filter(|id| *id != 0)?;
    u64::from_str_radix(parent, 16).ok().filter(|parent| *parent != 0)?;
    // Only the sampled flag is defined.
    Some((id, u8::from_str_radix(flags, 16).ok()? & 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM: [u8; 24] = [0xab; 24];

    fn of(values: &[&str]) -> String {
        let headers =
            values.iter().map(|value| (http::HeaderName::from_static("traceparent"), value.parse().unwrap()));
        Trace::of(&headers.collect(), RANDOM).to_string()
    }

    #[test]
    fn a_trace_that_is_not_well_formed_is_not_continued() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let fresh = format!("00-{}-{}-00", "ab".repeat(16), "ab".repeat(8));
        for value in [
            "",
            "x",
            &format!("01-{id}-00f067aa0ba902b7-01"),
            &format!("00-{id}-00f067aa0ba902b7"),
            &format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            &format!("00-{id}-{}-01", "0".repeat(16)),
            &format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()),
            &format!("00-{id}-00f067aa0ba902b7-01-x"),
            &format!("00-+{}-00f067aa0ba902b7-01", "1".repeat(31)),
        ] {
            assert_eq!(of(&[value]), fresh, "{value}");
        }
        let good = format!("00-{id}-00f067aa0ba902b7-01");
        assert_eq!(of(&[&good, &good]), fresh);
        assert_eq!(of(&[]), fresh);
    }

    #[test]
    fn a_trace_is_continued_under_a_new_parent() {
        let continued = of(&["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff"]);
        assert_eq!(continued, format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", "ab".repeat(8)));
    }

    #[test]
    fn a_card_number_cannot_travel_as_a_trace_id() {
        let smuggled = format!("00-{}4111111111111111-00f067aa0ba902b7-01", "f".repeat(16));
        let passed = of(&[&smuggled]);
        assert!(cordon_scan::first(passed.as_bytes()).is_none());
    }
}
