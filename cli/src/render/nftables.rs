//! A table of nftables for a host. Tests: `tests/tests/render.rs`.

use super::{Subject, is_v6};
use cordon_policy::Flow;
use std::fmt::Write;

/// The rules, to be loaded with `nft -f`: they take the place of those loaded before, all at once.
pub(super) fn rules(subject: &Subject, segment: &str) -> String {
    let mut text = format!(
        "#!/usr/sbin/nft -f\n# Hosts of segment {segment}, by bundle {}.\n\
         # What no line below allows is dropped, in both directions.\n\
         table inet cordon\ndelete table inet cordon\ntable inet cordon {{\n",
        subject.bundle.digest()
    );
    let input = subject.taken(segment).flat_map(|(flow, ranges)| {
        // One address of the segment is meant, not each.
        let at = flow
            .address
            .map(|address| format!("{} daddr {address} ", if address.is_ipv6() { "ip6" } else { "ip" }));
        let lines = lines(flow, &ranges, "saddr");
        lines.into_iter().map(move |line| format!("{}{line}", at.as_deref().unwrap_or_default()))
    });
    chain(&mut text, "input", "iif", input.collect());
    let dns = subject.dns.iter().map(|server| {
        let family = if server.is_ipv6() { "ip6" } else { "ip" };
        format!("{family} daddr {server} meta l4proto {{ tcp, udp }} th dport 53 accept comment \"names\"")
    });
    let opened = subject.opened(segment).flat_map(|(flow, ranges)| lines(flow, &ranges, "daddr"));
    chain(&mut text, "output", "oif", dns.chain(opened).collect());
    text.push_str(
        "    chain forward {\n        type filter hook forward priority filter; policy drop;\n        counter\n    }\n}\n",
    );
    text
}

// Writing to a string cannot fail.
fn chain(text: &mut String, hook: &str, interface: &str, lines: Vec<String>) {
    let _infallible = writeln!(
        text,
        "    chain {hook} {{\n        type filter hook {hook} priority filter; policy drop;\n        \
         {interface} lo accept\n        ct state established,related accept\n        ct state invalid drop\n        \
         meta l4proto ipv6-icmp icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept"
    );
    for line in lines {
        let _infallible = writeln!(text, "        {line}");
    }
    text.push_str("        counter\n    }\n");
}

/// One for each family of addresses.
fn lines(flow: &Flow, ranges: &[String], side: &str) -> Vec<String> {
    let port = flow.port.unwrap_or_default();
    let end = format!("tcp dport {port} ct state new accept comment \"{}\"", flow.need);
    if ranges.is_empty() {
        return vec![end];
    }
    let family = |family: &str, of_family: Vec<&str>| {
        (!of_family.is_empty()).then(|| format!("{family} {side} {{ {} }} {end}", of_family.join(", ")))
    };
    let (v6, v4): (Vec<&str>, Vec<&str>) = ranges.iter().map(String::as_str).partition(|range| is_v6(range));
    family("ip", v4).into_iter().chain(family("ip6", v6)).collect()
}
