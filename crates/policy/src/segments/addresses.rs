//! Which addresses are one and the same, and which are public.
//!
//! Must never treat an address it does not know as public.
//! Tests: here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The address with an IPv4-mapped IPv6 form (RFC 4291 section 2.5.5.2) turned into plain IPv4.
pub(crate) const fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// True for an address that is routed on the public Internet; special-purpose ranges (RFC 6890 registries) are not.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b)) // shared address space, RFC 6598
        || (a == 198 && (b == 18 || b == 19)) // benchmarking, RFC 2544
        || (a == 192 && b == 0 && c == 0) // protocol assignments, RFC 6890
        || (a == 192 && b == 88 && c == 99); // 6to4 relay, RFC 7526
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let [first, second, ..] = segments;
    // Only global unicast 2000::/3 is handed out; in it, leave out tunnels that embed an IPv4 address and documentation.
    let global = (0x2000..0x4000).contains(&first);
    let special = match first {
        // Protocol assignments with Teredo (RFC 2928, RFC 4380), documentation (RFC 3849).
        0x2001 => second < 0x0200 || second == 0x0db8,
        // 6to4 (RFC 3056).
        0x2002 => true,
        // Documentation (RFC 9637).
        0x3fff => second < 0x1000,
        _ => false,
    };
    global && !special
}

/// True for a range that somebody who lists it means as not public: both its ends are special, and it is no larger than
/// the largest special ranges there are (10.0.0.0/8, fc00::/7).
pub(super) fn is_special(range: &IpNet) -> bool {
    let widest = if range.addr().is_ipv4() { 8 } else { 7 };
    range.prefix_len() >= widest && !is_public(range.network()) && !is_public(range.broadcast())
}

/// True when the two ranges share an address.
pub(super) fn overlap(left: &IpNet, right: &IpNet) -> bool {
    left.contains(right) || right.contains(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_purpose_addresses_are_not_public() {
        for text in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "198.18.0.1",
            "192.0.2.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "192.0.0.8",
            "192.88.99.1",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2001::1",
            "64:ff9b::7f00:1",
            "3fff::1",
            "::7f00:1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn routed_addresses_are_public() {
        for text in
            ["1.1.1.1", "100.128.0.1", "172.32.0.1", "198.20.0.1", "2606:4700::1", "2a00::1", "2001:200::1"]
        {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_range_is_special_when_its_author_can_only_have_meant_that() {
        for (text, special) in [
            ("127.0.0.1/32", true),
            ("10.0.0.0/8", true),
            ("169.254.0.0/16", true),
            ("fc00::/7", true),
            ("::1/128", true),
            ("0.0.0.0/0", false),
            ("::/0", false),
            ("8.0.0.0/8", false),
            ("203.0.112.0/22", false),
            ("192.168.0.0/15", false),
        ] {
            assert_eq!(is_special(&text.parse().unwrap()), special, "{text}");
        }
    }

    #[test]
    fn a_mapped_address_is_its_ipv4_self() {
        assert_eq!(canonical("::ffff:10.0.0.1".parse().unwrap()), IpAddr::from([10, 0, 0, 1]));
    }

    #[test]
    fn ranges_overlap_when_one_holds_the_other() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        assert!(overlap(&net("10.0.0.0/8"), &net("10.1.0.0/16")));
        assert!(overlap(&net("10.1.0.0/16"), &net("10.0.0.0/8")));
        assert!(!overlap(&net("10.1.0.0/16"), &net("10.2.0.0/16")));
        assert!(!overlap(&net("10.0.0.0/8"), &net("fc00::/7")));
    }
}
