//! Explanations: which statements decided, where they stand, and what an ask was short of.

use cordon_policy::{Ask, RefusalKind};

use crate::fixture::{APPLICATIONS, CDE, Files, OPERATIONS, ask, charge_for_signup};

#[test]
fn an_allow_shows_the_permit_with_its_place() {
    let files = Files::shipped();
    let explanation = files.parse().unwrap().explain("detokenize", &charge_for_signup()).unwrap();
    assert!(explanation.allowed);
    let line = files.line_of("egress.cedar", "@id(\"egress-detokenizes\")");
    let shown = explanation.to_string();
    assert!(
        shown.contains(&format!("permitted by @id(\"egress-detokenizes\") at egress.cedar:{line}\n")),
        "{shown}"
    );
    assert!(explanation.near.is_empty() && explanation.observations.is_empty());
}

#[test]
fn a_deny_shows_the_forbids_and_the_near_permits() {
    let ask = Ask { principal: "signup", source: APPLICATIONS.parse().unwrap(), ..charge_for_signup() };
    let explanation = Files::shipped().parse().unwrap().explain("detokenize", &ask).unwrap();
    assert!(!explanation.allowed);
    let shown = explanation.to_string();
    assert!(shown.starts_with("denied: detokenize by \"signup\"\n"), "{shown}");
    assert!(
        shown.contains("forbidden by @id(\"out-of-scope-never-touches-a-card\") at scope.cedar:"),
        "{shown}"
    );
    assert!(shown.contains("could be permitted by @id(\"egress-detokenizes\") at egress.cedar:"), "{shown}");
    assert!(shown.contains("\"signup\" is out of PCI scope: its segment is \"applications\""), "{shown}");
}

#[test]
fn a_deny_without_a_forbid_names_what_stands_in_the_way() {
    let bundle = Files::shipped().parse().unwrap();
    let notes = |action: &str, ask: Ask<'_>| bundle.explain(action, &ask).unwrap().to_string();
    let base = charge_for_signup();

    let shown = notes("detokenize", Ask { acting_for: Some("fraud"), ..base });
    assert!(shown.contains("no statement permits it"), "{shown}");
    assert!(shown.contains("\"fraud\" does not list destination \"processor\""), "{shown}");
    assert!(shown.contains("route \"charge\" is not declared for \"fraud\""), "{shown}");

    let shown = notes("lookup", Ask { collection: Some("cards"), ..ask("operator", OPERATIONS) });
    assert!(shown.contains("\"operator\" has no `may_lookup`"), "{shown}");

    let shown = notes(
        "send",
        Ask { mtls: false, route: Some("charge"), destination: Some("processor"), ..ask("signup", CDE) },
    );
    assert!(shown.contains("no verified client certificate"), "{shown}");
    assert!(shown.contains("in no range of the caller's segment \"applications\""), "{shown}");

    let shown = notes(
        "forward",
        Ask { acting_for: Some("billing"), route: Some("signup"), ..ask("gateway-ingress", CDE) },
    );
    assert!(shown.contains("route \"signup\" leads to \"signup\""), "{shown}");
    assert!(!shown.contains("certificate"), "{shown}");
}

#[test]
fn an_unknown_action_is_a_refusal() {
    let refusal = Files::shipped().parse().unwrap().explain("reveal", &charge_for_signup()).unwrap_err();
    assert_eq!((refusal.kind(), refusal.action()), (&RefusalKind::UnknownAction, None));
    assert_eq!(refusal.code(), "unknown-action");
    assert_eq!(refusal.to_string(), "refused: there is no such action");
}
