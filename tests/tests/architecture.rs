//! Holds the dependency direction of docs/architecture.md over `cargo metadata`: who may link what.
//! Must never be satisfied by an allow-list of today's graph; each rule names what is forbidden and why.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "an end-to-end test: a panic is a failed assertion"
)]

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};
use std::collections::{BTreeSet, HashMap};

/// Names of all packages that `root` links in normal builds, itself included.
fn closure(metadata: &Metadata, root: &str) -> BTreeSet<String> {
    let resolve = metadata.resolve.as_ref().unwrap();
    let nodes: HashMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let name = |id: &PackageId| metadata[id].name.to_string();
    let start = resolve.nodes.iter().find(|node| name(&node.id) == root).unwrap();
    let mut seen = BTreeSet::new();
    let mut queue = vec![&start.id];
    while let Some(id) = queue.pop() {
        if !seen.insert(name(id)) {
            continue;
        }
        for dependency in &nodes[id].deps {
            let normal = dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
            if normal {
                queue.push(&dependency.pkg);
            }
        }
    }
    seen
}

fn metadata() -> Metadata {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).other_options(vec!["--locked".into()]).exec().unwrap()
}

fn assert_free_of(metadata: &Metadata, root: &str, forbidden: &[&str], why: &str) {
    let linked = closure(metadata, root);
    assert!(linked.len() > 1 || linked.contains(root), "{root} is in the workspace");
    for name in forbidden {
        assert!(!linked.contains(*name), "{root} links {name}: {why}");
    }
}

const KEY_SEAL_AND_STORE: &[&str] =
    &["cordon-vault", "fjall", "lsm-tree", "sled", "aes-gcm", "aes", "cmac", "vsss-rs", "blahaj", "cryptoki"];
const IO_AND_ASYNC: &[&str] = &[
    "tokio",
    "hyper",
    "hyper-util",
    "rustls",
    "rustix",
    "socket2",
    "mio",
    "libc",
    "fjall",
    "tracing-subscriber",
];

#[test]
fn gateway_and_cli_link_no_key_seal_or_store_code() {
    let metadata = metadata();
    for root in ["cordon-gateway", "cordon"] {
        assert_free_of(
            &metadata,
            root,
            KEY_SEAL_AND_STORE,
            "records are sealed and stored by the vault alone",
        );
    }
}

#[test]
fn the_gateway_can_not_open_a_share() {
    let why = "shares go from the vault to custodians, who open them with the CLI";
    assert_free_of(&metadata(), "cordon-gateway", &["age"], why);
}

#[test]
fn the_rule_would_notice_the_vault() {
    let linked = closure(&metadata(), "cordon-vault");
    for name in ["fjall", "aes-gcm", "aes", "vsss-rs"] {
        assert!(linked.contains(name), "the vault links {name}; otherwise the rule above checks nothing");
    }
}

#[test]
fn pure_crates_do_no_io_and_no_async() {
    let metadata = metadata();
    for root in ["cordon-card", "cordon-scan", "cordon-wire"] {
        assert_free_of(&metadata, root, IO_AND_ASYNC, "this crate is pure");
    }
}

#[test]
fn only_the_policy_crate_uses_cedar_directly() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        let uses = package.dependencies.iter().any(|dependency| dependency.name == "cedar-policy");
        assert_eq!(uses, *package.name == "cordon-policy", "{}", package.name);
    }
}

#[test]
fn one_tls_stack_and_one_provider() {
    let metadata = metadata();
    for root in ["cordon-vault", "cordon-gateway", "cordon"] {
        let forbidden = ["openssl-sys", "native-tls", "aws-lc-rs", "aws-lc-sys"];
        assert_free_of(&metadata, root, &forbidden, "TLS is rustls with the ring provider");
    }
}

#[test]
fn shared_crates_never_depend_on_a_daemon() {
    let metadata = metadata();
    for root in ["card", "scan", "wire", "client", "policy", "audit", "archive", "bulk", "daemon"] {
        let package = format!("cordon-{root}");
        assert_free_of(
            &metadata,
            &package,
            &["cordon-vault", "cordon-gateway", "cordon"],
            "dependencies point down",
        );
    }
}

/// The only sources that may name the type of a security code: the type itself, the two calls that carry it, the memory
/// that holds it, the ways in and out, and what stands for a vault in a rehearsal. Everything that writes, and everything for administration and backup, is not
/// among them (PCI DSS 3.3.1).
const MAY_NAME_A_CODE: &[&str] = &[
    "crates/card/src/cvv.rs",
    "crates/card/src/lib.rs",
    "crates/wire/src/data.rs",
    "crates/wire/src/submitted.rs",
    "vault/src/sad.rs",
    "vault/src/sad/tests.rs",
    "vault/src/vault/detokenize.rs",
    "vault/src/vault/settle.rs",
    "vault/src/vault/tokenize.rs",
    "gateway/src/flow/cards.rs",
    "gateway/src/flow/tests.rs",
    "gateway/src/rehearse/vault.rs",
    "cli/src/sample/processor.rs",
];

#[test]
fn nothing_that_writes_or_administers_can_name_a_security_code() {
    let root = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let names_it = |text: &[u8]| {
        let text = String::from_utf8_lossy(text);
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_')).any(|word| word == "Cvv")
    };
    let mut found = BTreeSet::new();
    for part in ["crates", "vault", "gateway", "cli"] {
        for (path, text) in cordon_tests::search::files(&root.join(part)) {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            if name.ends_with(".rs") && name.contains("/src/") && names_it(&text) {
                found.insert(name);
            }
        }
    }
    let allowed: BTreeSet<String> = MAY_NAME_A_CODE.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(found, allowed, "a new place that names `Cvv` has to be argued for here, an old one removed");
}
