//! `cordon render`: golden files, and the rules in a real kernel: every port of every segment from every other one.

use anyhow::{Context, Result};
use cordon_tests::netns::Networks;
use cordon_tests::process::binary;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn render(arguments: &[&str]) -> Result<String> {
    let output = Command::new(binary("cordon")?)
        .arg("render")
        .args(arguments)
        .arg("--dir")
        .arg(root().join("policies"))
        .output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Without the line that names the bundle: its digest changes with every comment in it.
fn body(text: &str) -> String {
    text.lines()
        .filter(|line| !line.contains("by bundle") && !line.contains("By bundle"))
        .flat_map(|line| [line, "\n"])
        .collect()
}

#[test]
fn what_is_rendered_of_the_bundle_that_ships_is_what_it_was() -> Result<()> {
    for (file, arguments) in [
        ("cde.nft", &["nftables", "--segment", "cde", "--dns", "10.20.0.53"][..]),
        ("applications.nft", &["nftables", "--segment", "applications"]),
        ("operations.nft", &["nftables", "--segment", "operations"]),
        ("network-policy.yaml", &["network-policy", "--dns", "10.20.0.53"]),
        ("applications.conf", &["systemd", "--segment", "applications"]),
    ] {
        let golden = root().join("tests/golden").join(file);
        let rendered = body(&render(arguments)?);
        if std::env::var_os("CORDON_NEW_GOLDEN").is_some() {
            fs::write(&golden, &rendered)?;
        }
        let wanted = fs::read_to_string(&golden).with_context(|| format!("{}", golden.display()))?;
        assert_eq!(rendered, wanted, "{file}; CORDON_NEW_GOLDEN=1 writes it anew");
    }
    Ok(())
}

#[test]
fn a_network_policy_names_every_segment_and_is_about_both_directions() -> Result<()> {
    let text = render(&["network-policy"])?;
    let mut names = BTreeSet::new();
    for document in text.split("---\n").skip(1) {
        let policy: Value = serde_json::from_str(document)?;
        let types = policy.pointer("/spec/policyTypes").cloned().unwrap_or_default();
        assert_eq!(types, serde_json::json!(["Ingress", "Egress"]));
        names.insert(policy.pointer("/metadata/name").cloned().unwrap_or_default().to_string());
    }
    assert_eq!(names.len(), 3, "{names:?}");
    Ok(())
}

/// Where each host is, and the ports it listens on: those of the bundle and one that nobody declares.
const HOSTS: [(&str, &str, &[u16]); 5] = [
    ("public", "198.51.100.9", &[80]),
    ("applications", "10.20.2.10", &[7001, 22]),
    ("operations", "10.20.1.7", &[22]),
    ("cde", "10.20.0.2", &[443, 8443, 9443, 9444, 22]),
    ("processor", "203.0.113.5", &[443, 22]),
];

/// What the bundle that ships needs, from one host to another.
const ALLOWED: [(&str, &str, u16); 9] = [
    ("public", "cde", 443),
    ("applications", "cde", 8443),
    ("operations", "cde", 9443),
    ("operations", "cde", 9444),
    ("cde", "applications", 7001),
    ("cde", "processor", 443),
    // Between two hosts that have no rules of ours.
    ("public", "processor", 443),
    ("public", "processor", 22),
    ("processor", "public", 80),
];

/// Hosts that are ours.
const OURS: [&str; 3] = ["applications", "operations", "cde"];

type Connection = (&'static str, &'static str, u16);

/// Every connection from one host to another that comes to be; tried all at once, since what is dropped takes its time.
fn open(networks: &Networks) -> Result<BTreeSet<Connection>> {
    let pairs = HOSTS.iter().flat_map(|(from, ..)| HOSTS.iter().map(move |host| (*from, host)));
    let tries = pairs.filter(|(from, (to, ..))| from != to);
    let tries: Vec<_> = tries
        .flat_map(|(from, (to, address, ports))| ports.iter().map(move |port| (from, *to, *address, *port)))
        .collect();
    std::thread::scope(|threads| {
        let started: Vec<_> = tries
            .iter()
            .map(|(from, to, address, port)| {
                threads.spawn(move || -> Result<Option<Connection>> {
                    let address: IpAddr = address.parse()?;
                    Ok(networks.connects(from, address, *port)?.then_some((*from, *to, *port)))
                })
            })
            .collect();
        let found = started
            .into_iter()
            .map(|thread| thread.join().map_err(|_panicked| anyhow::anyhow!("a thread panicked"))?);
        found.filter_map(Result::transpose).collect()
    })
}

#[test]
fn in_a_real_kernel_the_rules_let_through_what_is_declared_and_nothing_else() -> Result<()> {
    let networks = Networks::make(&HOSTS.map(|(name, address, _)| (name, address)))?;
    let mut all = BTreeSet::new();
    for (host, _, ports) in HOSTS {
        for port in ports {
            networks.listen(host, *port)?;
            all.extend(
                HOSTS.iter().filter(|(from, ..)| *from != host).map(|(from, ..)| (*from, host, *port)),
            );
        }
    }
    // Without rules everything is open: what is closed below is closed by them.
    assert_eq!(open(&networks)?, all);
    for segment in OURS {
        networks.load(segment, &render(&["nftables", "--segment", segment])?)?;
    }
    // The public reaches the one port on which anybody is welcome; so do hosts of ours that may connect out to it: none.
    let allowed: BTreeSet<_> = ALLOWED.into_iter().chain([("processor", "cde", 443)]).collect();
    assert_eq!(open(&networks)?, allowed);
    // A rule that somebody adds by hand is seen, so the test can fail.
    networks.load(
        "cde",
        "add rule inet cordon input tcp dport 22 accept\ninsert rule inet cordon input tcp dport 22 accept\n",
    )?;
    let opened: BTreeSet<_> = open(&networks)?.difference(&allowed).copied().collect();
    assert_eq!(opened, [("processor", "cde", 22), ("public", "cde", 22)].into());
    // Loaded anew, the rules are the bundle's again.
    networks.load("cde", &render(&["nftables", "--segment", "cde"])?)?;
    assert_eq!(open(&networks)?, allowed);
    Ok(())
}

#[test]
fn what_cannot_be_rendered_says_what_to_write() -> Result<()> {
    let output = Command::new(binary("cordon")?)
        .args(["render", "nftables", "--segment", "nowhere", "--dir"])
        .arg(root().join("policies"))
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("its segments are: cde, operations, applications"),
        "{said}"
    );
    Ok(())
}
