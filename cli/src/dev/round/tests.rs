//! The round against hops that leak: each must fail it. A check that cannot fail proves nothing.

use super::super::stack::Addresses;
use super::*;
use crate::pki::{Authority, Subject};
use crate::sample::listen::{self, Asked, Reply, Service};
use crate::sample::processor::Desk;
use crate::sample::proof::ProofKey;
use crate::sample::signup::Shop;
use cordon_card::{CollectionName, Environment};
use cordon_daemon::drain::Drain;
use cordon_daemon::server::Server;
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A vault without files, and nothing else: each test puts its own hops in place.
fn up(scratch: &TempDir) -> Up {
    let pki = scratch.path().join("pki");
    let (authority, _) = Authority::open_or_make(&pki).unwrap();
    for service in ["signup", "billing", "operator"] {
        authority.issue(service, &Subject::Client(format!("spiffe://cordon.test/{service}")), 1).unwrap();
    }
    let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
    let tls = |identity| super::super::site::client_tls(&pki, identity).unwrap();
    Up {
        directory: scratch.path().to_owned(),
        kept: true,
        addresses: Addresses {
            ingress: nowhere,
            egress: nowhere,
            vault_data: nowhere,
            vault_admin: nowhere,
            vault_metrics: nowhere,
            gateway_metrics: nowhere,
            signup: nowhere,
            processor: nowhere,
        },
        collection: CollectionName::parse("cards").unwrap(),
        proofs: ProofKey::make(&scratch.path().join("proof.key")).unwrap(),
        browser: tls(None),
        signup: tls(Some("signup")),
        billing: tls(Some("billing")),
    }
}

fn serving(service: impl Service) -> (Server, Drain, SocketAddr) {
    let drain = Drain::new(Duration::from_millis(100));
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let server = listen::start("http", any, None, Arc::new(service), &drain).unwrap();
    let address = server.addresses().next().unwrap().1;
    (server, drain, address)
}

fn plain(address: SocketAddr) -> Site {
    Site { address, name: "localhost", tls: None }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn failed(checks: &[Check]) -> Vec<&'static str> {
    checks.iter().filter(|check| !check.passed).map(|check| check.name).collect()
}

fn token() -> Token {
    Token::opaque(Environment::Dev, &[3; 17])
}

#[test]
fn without_a_gateway_the_sign_up_service_sees_the_card_and_the_round_fails() {
    let scratch = tempfile::tempdir().unwrap();
    let up = up(&scratch);
    let (server, drain, shop) = serving(Shop::default());
    let mut walk = Walk::new(&up).unwrap();
    (walk.browser, walk.signup) = (plain(shop), plain(shop));
    let round = run(walk.round());
    assert!(!round.passed());
    let failed = failed(&round.checks);
    for name in ["signup-saw-a-token", "signup-saw-no-code", "signup-saw-no-card", "browser-saw-no-card"] {
        assert!(failed.contains(&name), "{name}: {failed:?}");
    }
    assert!(failed.contains(&"round-completed"), "{failed:?}");
    drain.trigger();
    server.wait();
}

#[test]
fn without_a_gateway_the_processor_gets_no_card_and_the_charge_fails() {
    let scratch = tempfile::tempdir().unwrap();
    let up = up(&scratch);
    let key = ProofKey::read(&scratch.path().join("proof.key")).unwrap();
    let (server, drain, desk) = serving(Desk::new(key));
    let mut walk = Walk::new(&up).unwrap();
    (walk.way_out, walk.processor) = (plain(desk), plain(desk));
    let failure = run(walk.charge(Call::Charge, &token())).unwrap_err();
    assert!(failure.message().contains("422"), "{failure}");
    drain.trigger();
    server.wait();
}

/// A way out that reveals another card than the token's, and lets the processor's answer through with the number.
struct Wrong(Desk);

impl Service for Wrong {
    fn answer(&self, asked: Asked) -> Reply {
        if asked.method == "GET" {
            return self.0.answer(asked);
        }
        let card = json!({"number": "5555555555554444", "expiry": "12/30", "cvc": "999"});
        let body = json!({"amount": 1, "currency": "EUR", "card": card}).to_string().into_bytes();
        let mut reply = self.0.answer(Asked { body: body.into(), ..asked });
        reply.body["echo"] = json!("4111-1111-1111-1111");
        reply
    }
}

#[test]
fn another_card_and_an_answer_with_the_number_fail_the_charge() {
    let scratch = tempfile::tempdir().unwrap();
    let up = up(&scratch);
    let key = ProofKey::read(&scratch.path().join("proof.key")).unwrap();
    let (server, drain, wrong) = serving(Wrong(Desk::new(key)));
    let mut walk = Walk::new(&up).unwrap();
    (walk.way_out, walk.processor) = (plain(wrong), plain(wrong));
    run(walk.charge(Call::Charge, &token())).unwrap();
    let failed = failed(&walk.checks);
    assert_eq!(failed, ["processor-got-the-card", "code-is-given-out-once", "caller-saw-no-card"]);
    drain.trigger();
    server.wait();
}

#[test]
fn an_attempt_that_gets_through_fails_the_round() {
    let scratch = tempfile::tempdir().unwrap();
    let up = up(&scratch);
    let (server, drain, shop) = serving(Shop::default());
    let mut walk = Walk::new(&up).unwrap();
    (walk.browser, walk.signup) = (plain(shop), plain(shop));
    run(walk.misplaced_card()).unwrap();
    assert!(failed(&walk.checks).contains(&"refused-as-it-must-be"));
    drain.trigger();
    server.wait();
}

#[test]
fn a_card_number_in_any_file_fails_the_round() {
    let scratch = tempfile::tempdir().unwrap();
    let up = up(&scratch);
    let mut walk = Walk::new(&up).unwrap();
    walk.disk().unwrap();
    assert_eq!(failed(&walk.checks), Vec::<&str>::new());
    std::fs::write(scratch.path().join("vault.log"), "got 4111 1111 1111 1111").unwrap();
    walk.disk().unwrap();
    assert_eq!(failed(&walk.checks), ["nothing-on-disk"]);
}

#[test]
fn what_is_printed_is_masked() {
    let scratch = tempfile::tempdir().unwrap();
    let up = up(&scratch);
    let walk = Walk::new(&up).unwrap();
    for form in [Form::Json, Form::Form] {
        let shown = walk.masked(&form.sign_up("monthly"));
        assert!(!shown.contains("4111") && shown.contains("************1111"), "{shown}");
        assert!(shown.contains("***\"") || shown.contains("cvc=***"), "{shown}");
    }
}
