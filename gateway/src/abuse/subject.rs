//! Whose attempt it is, for each kind of rule.
//!
//! Must never tell two spellings of one client apart, nor keep what a client sent. Tests: `abuse/tests.rs`.

use cordon_policy::AbuseKey;
use http::HeaderMap;
use http::header::COOKIE;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A request as rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Client<'r> {
    /// Its peer's address.
    pub source: IpAddr,
    /// Its headers.
    pub headers: &'r HeaderMap,
}

impl Client<'_> {
    /// What a rule of this kind counts a request under, as bytes and as a proof names it; `None` if it has no such thing.
    /// Rules about cards have the client's address.
    pub(super) fn subject(&self, per: &AbuseKey) -> Option<Vec<u8>> {
        match per {
            AbuseKey::Address | AbuseKey::Iin(_) | AbuseKey::Card => {
                Some(network(self.source, 32, 64).to_string().into_bytes())
            }
            AbuseKey::Network => Some(network(self.source, 24, 48).to_string().into_bytes()),
            AbuseKey::Header(name) => {
                let values: Vec<&[u8]> =
                    self.headers.get_all(name).iter().map(|value| value.as_bytes()).collect();
                (!values.is_empty()).then(|| values.join(&b'\n'))
            }
            AbuseKey::Cookie(name) => cookie(self.headers, name.as_bytes()),
        }
    }
}

/// The values of all cookies of this name: two of them are another session than either.
fn cookie(headers: &HeaderMap, name: &[u8]) -> Option<Vec<u8>> {
    let lines = headers.get_all(COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let values: Vec<&[u8]> = pairs
        .filter_map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            let (left, right) = pair.split_at_checked(equals)?;
            (left.trim_ascii() == name).then(|| right.get(1..).unwrap_or_default().trim_ascii())
        })
        .collect();
    (!values.is_empty()).then(|| values.join(&b'\n'))
}

/// The first so many bits of an address.
fn network(address: IpAddr, bits_of_4: u32, bits_of_6: u32) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits_of_4)).unwrap_or_default();
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits_of_6)).unwrap_or_default();
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(source: &str, lines: &[(&'static str, &str)], per: &AbuseKey) -> Option<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let client = Client { source: source.parse().unwrap(), headers: &headers };
        client.subject(per).map(|subject| String::from_utf8(subject).unwrap())
    }

    #[test]
    fn a_client_is_one_however_its_address_is_written() {
        for (source, address, network) in [
            ("203.0.113.9", "203.0.113.9", "203.0.113.0"),
            ("::ffff:203.0.113.9", "203.0.113.9", "203.0.113.0"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::", "2001:db8:1::"),
            ("2001:db8:1:2:ffff::1", "2001:db8:1:2::", "2001:db8:1::"),
        ] {
            assert_eq!(subject(source, &[], &AbuseKey::Address).unwrap(), address);
            assert_eq!(subject(source, &[], &AbuseKey::Network).unwrap(), network);
            assert_eq!(subject(source, &[], &AbuseKey::Iin(8)).unwrap(), address);
        }
    }

    #[test]
    fn a_session_is_its_value_and_no_value_is_no_session() {
        let header = AbuseKey::Header("x-session-id".to_owned());
        assert_eq!(subject("::1", &[("x-session-id", "a")], &header).unwrap(), "a");
        assert_eq!(subject("::1", &[("x-session-id", "a"), ("x-session-id", "b")], &header).unwrap(), "a\nb");
        assert_eq!(subject("::1", &[("cookie", "x-session-id=a")], &header), None);
        let cookie = AbuseKey::Cookie("sid".to_owned());
        for (line, wanted) in [
            ("sid=a", Some("a")),
            ("other=1; sid = a ;x=sid", Some("a")),
            ("sid=a=b", Some("a=b")),
            ("asid=a; sid", None),
            ("sid=a; sid=b", Some("a\nb")),
        ] {
            assert_eq!(subject("::1", &[("cookie", line)], &cookie).as_deref(), wanted, "{line}");
        }
        assert_eq!(subject("::1", &[("cookie", "a=1"), ("cookie", "sid=x")], &cookie).unwrap(), "x");
    }
}
