//! Tests of `segments.rs` and of the value readers of `segments/read.rs`.

use std::path::Path;

use proptest::prelude::*;

use super::read::{host_text, name_text};
use super::*;

const MINIMAL: &str = r#"
development = true
[[segment]]
name = "cde"
cidrs = ["127.0.0.0/8", "::1/128"]
scope = "cde"
[[collection]]
name = "cards"
owner = "o"
need = "n"
[[destination]]
name = "processor"
host = "Processor.Example"
port = 443
roots = "ca.pem"
owner = "o"
need = "n"
[[service]]
name = "egress"
uri = "spiffe://cordon.test/egress"
segment = "cde"
role = "gateway-egress"
collections = ["cards"]
destinations = ["processor"]
owner = "o"
need = "n"
"#;

fn minimal() -> Segments {
    Segments::parse(MINIMAL, Path::new("/etc/cordon")).unwrap()
}

#[test]
fn an_address_outside_of_every_range_is_not_contained() {
    let segments = minimal();
    let [cde] = segments.segments.as_slice() else { panic!("one segment") };
    for inside in ["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"] {
        assert!(cde.contains(inside.parse().unwrap()), "{inside}");
    }
    for outside in ["128.0.0.1", "126.255.255.255", "::2", "::", "::ffff:128.0.0.1"] {
        assert!(!cde.contains(outside.parse().unwrap()), "{outside}");
    }
}

#[test]
fn a_destination_without_ranges_admits_public_addresses_only() {
    let segments = minimal();
    let [mut processor] = <[Destination; 1]>::try_from(segments.destinations).unwrap();
    assert_eq!(processor.host, "processor.example");
    assert_eq!(processor.roots, Path::new("/etc/cordon/ca.pem"));
    for refused in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fe80::1"] {
        assert!(!processor.admits(refused.parse().unwrap()), "{refused}");
    }
    assert!(processor.admits("1.1.1.1".parse().unwrap()));
    processor.addresses = vec!["10.0.0.0/24".parse().unwrap()];
    assert!(processor.admits("::ffff:10.0.0.9".parse().unwrap()), "listed, as mapped address");
    assert!(!processor.admits("1.1.1.1".parse().unwrap()), "public but not listed");
}

#[test]
fn scope_follows_from_the_segment() {
    for (scope, out) in [("cde", false), ("connected", false), ("out", true), ("external", true)] {
        let text = MINIMAL
            .replace("scope = \"cde\"", &format!("scope = \"{scope}\""))
            .replace("gateway-egress", "application");
        let segments = Segments::parse(&text, Path::new("")).unwrap();
        assert!(segments.services.iter().all(|service| service.out_of_scope() == out), "{scope}");
        assert!(segments.segments.iter().all(|segment| segment.scope.as_str() == scope));
    }
}

#[test]
fn names_of_words_are_those_of_the_file() {
    for role in Role::ALL {
        let text = MINIMAL.replace("gateway-egress", role.as_str());
        let segments = Segments::parse(&text, Path::new("")).unwrap();
        assert!(segments.services.iter().all(|service| service.role == role));
    }
    for process in [Process::GatewayIngress, Process::GatewayEgress, Process::VaultData, Process::VaultAdmin]
    {
        let text = format!(
            "{MINIMAL}[[listener]]\nname = \"l\"\nprocess = \"{}\"\nsegment = \"cde\"\nowner = \"o\"\nneed = \"n\"\n",
            process.as_str()
        );
        let segments = Segments::parse(&text, Path::new("")).unwrap();
        assert!(segments.listeners.iter().all(|listener| listener.process == process));
    }
}

#[test]
fn odd_hosts_are_refused() {
    for text in [
        "", ".", "a.", ".a", "a..b", "-a", "a-", "a_b", "*.a", "a b", "a:1", "[::1]", "user@a", "a/b",
        "\u{e9}", "a%41",
    ] {
        assert!(host_text(text).is_err(), "{text:?}");
    }
    assert!(host_text(&format!("{}.example", "a".repeat(64))).is_err());
    assert!(host_text(&["a"; 128].join(".")).is_err());
    assert_eq!(host_text("Api.Example").unwrap(), "api.example");
    assert_eq!(host_text("10.0.0.1").unwrap(), "10.0.0.1");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "\\PC{0,200}") {
        prop_assert!(Segments::parse(&text, Path::new("")).is_ok_and(|found| found.services.is_empty())
            || Segments::parse(&text, Path::new("")).is_err());
    }

    #[test]
    fn any_edit_of_a_good_file_is_read_or_refused_without_a_panic(
        at in 0..MINIMAL.len(),
        length in 0..40_usize,
        new in "[\\PC\n]{0,12}",
    ) {
        let mut text = MINIMAL.to_owned();
        text.replace_range(at..(at + length).min(MINIMAL.len()), &new);
        if let Err(faults) = Segments::parse(&text, Path::new("")) {
            prop_assert!(!faults.is_empty());
        }
    }

    #[test]
    fn a_name_that_is_accepted_is_unchanged(text in "[a-z0-9-]{0,70}") {
        if let Ok(name) = name_text(&text) {
            prop_assert_eq!(&name, &text);
            prop_assert!(name.len() <= 63 && name.starts_with(|first: char| first.is_ascii_lowercase()));
        }
    }
}
