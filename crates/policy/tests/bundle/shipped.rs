//! The bundle that ships: loads as it is, is what is compiled in, and its data say what the documentation says.

use std::collections::BTreeSet;
use std::time::Duration;

use cordon_card::ExpiryStyle;
use cordon_policy::{
    Bundle, Content, EgressOp, ExpiryWriting, IngressOp, LeakCheck, OnLeak, PathPattern, Role, Scope,
    StatementEffect, shipped,
};

use crate::fixture::{Files, folder};

#[test]
fn it_loads_and_is_no_development_bundle() {
    let dir = tempfile::tempdir().unwrap();
    Files::shipped().write(dir.path());
    let bundle = Bundle::load(dir.path()).unwrap();
    assert!(!bundle.development());
    assert_eq!(bundle.digest(), Files::shipped().parse().unwrap().digest());
}

#[test]
fn what_is_compiled_in_is_what_is_in_the_folder() {
    let read = |name: &str| std::fs::read_to_string(folder().join(name)).unwrap();
    assert_eq!(read("schema.cedarschema"), shipped::SCHEMA);
    for (name, text) in shipped::POLICIES {
        assert_eq!(read(name), *text, "{name}");
    }
    let in_folder: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".cedar"))
        .collect();
    let compiled_in: BTreeSet<String> =
        shipped::POLICIES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(in_folder, compiled_in);
}

#[test]
fn the_digest_changes_with_every_file_that_counts() {
    let whole = Files::shipped().parse().unwrap();
    assert_eq!(whole.digest().len(), 64);
    let mut seen = BTreeSet::from([whole.digest().to_owned()]);
    for (file, more) in [
        ("schema.cedarschema", "// x\n"),
        ("segments.toml", "# x\n"),
        ("routes.toml", "# x\n"),
        ("scope.cedar", "// x\n"),
    ] {
        let digest = Files::shipped().append(file, more).parse().unwrap().digest().to_owned();
        assert!(seen.insert(digest), "{file}");
    }
}

#[test]
fn services_are_found_by_exact_uri_only() {
    let bundle = Files::shipped().parse().unwrap();
    let signup = bundle.service_by_uri("spiffe://example.com/signup").unwrap();
    assert_eq!((signup.name.as_str(), signup.scope, signup.role), ("signup", Scope::Out, Role::Application));
    assert!(signup.out_of_scope());
    for uri in
        ["", "spiffe://example.com/signup/", "SPIFFE://example.com/signup", "spiffe://example.com/Signup"]
    {
        assert!(bundle.service_by_uri(uri).is_none(), "{uri}");
    }
    assert!(bundle.service("nobody").is_none());
    assert!(bundle.destination("nowhere").is_none());
    assert!(bundle.segment("nowhere").is_none());
}

#[test]
fn its_data_are_typed() {
    let bundle = Files::shipped().parse().unwrap();
    assert_eq!(bundle.services().count(), 11);
    assert_eq!(bundle.listeners().count(), 4);
    assert_eq!(bundle.segments().count(), 3);
    assert_eq!(bundle.collections().map(|found| found.name.as_str()).collect::<Vec<_>>(), ["cards"]);
    let processor = bundle.destinations().next().unwrap();
    assert_eq!(processor.roots, std::path::Path::new("/bundle/processor-roots.pem"));
    assert!(processor.admits("203.0.113.5".parse().unwrap()));
    assert!(!processor.admits("203.0.113.77".parse().unwrap()));
    let forbids = bundle.statements().filter(|statement| statement.effect == StatementEffect::Forbid).count();
    assert_eq!((bundle.statements().count(), forbids), (16, 3));

    let [signup, notes] = bundle.ingress() else { panic!("two ways in") };
    assert_eq!((notes.on_leak, notes.leak_check), (OnLeak::Mask, LeakCheck::Exact));
    assert_eq!(signup.path, PathPattern::Exact("/signup".to_owned()));
    assert_eq!((signup.upstream.authority().as_str(), signup.upstream.tls), ("10.20.2.10:7001", false));
    assert_eq!((signup.max_body, signup.on_leak), (64 * 1024, OnLeak::Deny));
    assert_eq!(signup.content, [Content::Json, Content::Form]);
    let ops: Vec<IngressOp> = signup.fields.iter().map(|field| field.op).collect();
    assert_eq!(ops, [IngressOp::Tokenize, IngressOp::Hold, IngressOp::Expiry]);

    let [charge] = bundle.egress() else { panic!("one way out") };
    assert!(charge.reveals());
    assert_eq!((charge.timeout, charge.max_body), (Duration::from_secs(20), 1024 * 1024));
    let ops: Vec<EgressOp> = charge.fields.iter().map(|field| field.op).collect();
    assert_eq!(
        ops,
        [
            EgressOp::Reveal,
            EgressOp::RevealCvv,
            EgressOp::RevealExpiry(ExpiryWriting { style: ExpiryStyle::MonthYear, number: false })
        ]
    );
    assert_eq!(charge.fields[0].places.form.as_deref(), Some("card[number]"));
}

#[test]
fn no_gateway_may_ask_which_cards_are_known_unless_a_route_does() {
    let ask = || cordon_policy::Ask {
        collection: Some("cards"),
        ..cordon_policy::Ask::new("gateway-ingress", true, "10.20.0.7".parse().unwrap())
    };
    assert!(Files::shipped().parse().unwrap().decide::<cordon_policy::Recognize>(&ask()).is_ok());
    let without = Files::shipped().replace("routes.toml", "leak_check = \"exact\"\n", "");
    assert!(without.parse().unwrap().decide::<cordon_policy::Recognize>(&ask()).is_err());
}

#[test]
fn what_is_allowed_for_a_time_only_is_listed_with_its_last_day() {
    let lines = "on_leak = \"report\"\non_leak_reason = \"r\"\non_leak_until = \"2026-01-31\"\n\
        exception = [{ in = \"answer\", json = \"$.order\", reason = \"r\", approved_by = \"ann\", until = \"2025-12-31\" }]";
    let bundle = Files::shipped().replace("routes.toml", "on_leak = \"deny\"", lines).parse().unwrap();
    let shown: Vec<String> = bundle
        .passing()
        .iter()
        .map(|one| format!("{}: {} until {}", one.route, one.what, one.until))
        .collect();
    assert_eq!(
        shown,
        [
            "signup: on_leak = \"report\" until 2026-01-31",
            "signup: exception at $.order, approved by ann until 2025-12-31"
        ]
    );
    assert_eq!(Files::shipped().parse().unwrap().passing(), []);
}
