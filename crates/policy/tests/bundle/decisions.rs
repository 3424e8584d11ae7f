//! Decisions beyond the case files: permits, the cache, statements that look at the address, exhaustive denials.

use std::sync::Arc;

use cordon_policy::{
    Administer, Ask, AskPart, Bundle, Detokenize, Forward, Lookup, Observe, Refusal, RefusalKind, Send,
    Tokenize,
};

use crate::fixture::{APPLICATIONS, CDE, Files, OPERATIONS, ask, charge_for_signup};

fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>) -> RefusalKind {
    result.unwrap_err().kind().clone()
}

#[test]
fn no_out_of_scope_service_ever_detokenizes_or_looks_up_whatever_it_claims() {
    let bundle = Files::shipped().parse().unwrap();
    let names: Vec<&str> = bundle.services().map(|service| service.name.as_str()).collect();
    let mut asked = 0;
    for principal in bundle.services().filter(|service| service.out_of_scope()) {
        for acting_for in &names {
            for source in [CDE, OPERATIONS, APPLICATIONS, "198.51.100.9", "::1"] {
                for mtls in [true, false] {
                    let ask = Ask { acting_for: Some(acting_for), ..charge_for_signup() };
                    let ask =
                        Ask { principal: &principal.name, mtls, source: source.parse().unwrap(), ..ask };
                    assert!(matches!(
                        refused(bundle.decide::<Detokenize>(&ask)),
                        RefusalKind::Forbidden { .. }
                    ));
                    assert!(matches!(refused(bundle.decide::<Lookup>(&ask)), RefusalKind::Forbidden { .. }));
                    asked += 2;
                }
            }
        }
    }
    assert_eq!(asked, 2 * 11 * 5 * 2 * 2);
}

#[test]
fn a_forbid_wins_over_a_permit_that_somebody_adds() {
    let bundle = Files::shipped()
        .append(
            "egress.cedar",
            "\n@id(\"oops\")\npermit (principal, action == Action::\"detokenize\", resource);\n",
        )
        .parse()
        .unwrap();
    let ask = Ask { principal: "signup", source: APPLICATIONS.parse().unwrap(), ..charge_for_signup() };
    let statements = vec![Arc::from("out-of-scope-never-touches-a-card")];
    assert_eq!(refused(bundle.decide::<Detokenize>(&ask)), RefusalKind::Forbidden { statements });
    let in_scope = Ask { principal: "operator", source: OPERATIONS.parse().unwrap(), ..charge_for_signup() };
    assert_eq!(bundle.decide::<Detokenize>(&in_scope).unwrap().statements(), [Arc::from("oops")]);
}

#[test]
fn unknown_names_are_refused_before_any_statement() {
    let bundle = Files::shipped().parse().unwrap();
    let base = charge_for_signup();
    for (ask, part) in [
        (Ask { collection: Some("other"), ..base }, AskPart::Collection),
        (Ask { destination: Some("other"), ..base }, AskPart::Destination),
        (Ask { acting_for: Some("other"), ..base }, AskPart::ActedFor),
        (Ask { route: Some("signup"), ..base }, AskPart::Route),
        (Ask { purpose: Some("other"), ..base }, AskPart::Purpose),
    ] {
        assert_eq!(refused(bundle.decide::<Detokenize>(&ask)), RefusalKind::UnknownName(part));
    }
    let stranger = Ask { principal: "stranger", ..base };
    assert_eq!(refused(bundle.decide::<Detokenize>(&stranger)), RefusalKind::UnknownPrincipal);
}

#[test]
fn missing_parts_are_refused() {
    let bundle = Files::shipped().parse().unwrap();
    let base = charge_for_signup();
    for (ask, part) in [
        (Ask { collection: None, ..base }, AskPart::Collection),
        (Ask { destination: None, ..base }, AskPart::Destination),
        (Ask { acting_for: None, ..base }, AskPart::ActedFor),
        (Ask { route: None, ..base }, AskPart::Route),
        (Ask { purpose: None, ..base }, AskPart::Purpose),
    ] {
        assert_eq!(refused(bundle.decide::<Detokenize>(&ask)), RefusalKind::Missing(part));
    }
}

#[test]
fn a_permit_names_what_the_decision_looked_at_and_nothing_else() {
    let bundle = Files::shipped().parse().unwrap();
    let permit = bundle.decide::<Detokenize>(&charge_for_signup()).unwrap();
    assert_eq!(permit.subject(), "gateway-egress");
    assert_eq!(permit.collection().map(|name| name.as_str()), Some("cards"));
    assert_eq!(permit.destination(), Some("processor"));
    assert_eq!(permit.acted_for(), Some("signup"));
    assert_eq!((permit.route(), permit.purpose()), (Some("charge"), Some("charge")));
    assert_eq!(permit.statements(), [Arc::from("egress-detokenizes")]);

    let tokenize = Ask { principal: "gateway-ingress", ..charge_for_signup() };
    let permit = bundle.decide::<Tokenize>(&tokenize).unwrap();
    assert_eq!(permit.collection().map(|name| name.as_str()), Some("cards"));
    assert_eq!(
        (permit.destination(), permit.acted_for(), permit.route(), permit.purpose()),
        (None, None, None, None)
    );

    let observe = bundle.decide::<Observe>(&ask("monitor", OPERATIONS)).unwrap();
    assert_eq!(observe.collection(), None);
}

#[test]
fn a_refusal_says_nothing_of_the_request() {
    let bundle = Files::shipped().parse().unwrap();
    let marked = "4111111111111111";
    for ask in [
        Ask { collection: Some(marked), ..charge_for_signup() },
        Ask { purpose: Some(marked), ..charge_for_signup() },
        Ask { principal: marked, ..charge_for_signup() },
    ] {
        let refusal = bundle.decide::<Detokenize>(&ask).unwrap_err();
        assert!(!format!("{refusal} {refusal:?} {}", refusal.code()).contains(marked));
        let refusal = bundle.explain("detokenize", &ask).unwrap_err();
        assert!(!format!("{refusal} {refusal:?}").contains(marked));
    }
    let refusal = bundle.explain(marked, &charge_for_signup()).unwrap_err();
    assert!(!format!("{refusal} {refusal:?}").contains(marked));
}

#[test]
fn repeated_decisions_are_the_same_in_any_order() {
    let bundle = Files::shipped().parse().unwrap();
    let good = charge_for_signup();
    let asks = [
        good,
        Ask { mtls: false, ..good },
        Ask { source: APPLICATIONS.parse().unwrap(), ..good },
        Ask { principal: "gateway-ingress", ..good },
        Ask { acting_for: Some("billing"), ..good },
        Ask { acting_for: Some("fraud"), ..good },
        Ask { principal: "signup", ..good },
    ];
    let outcome = |ask: &Ask<'_>| {
        let fresh = Files::shipped().parse().unwrap();
        let cold = fresh.decide::<Detokenize>(ask).map(|permit| permit.statements().to_vec());
        let warm = bundle.decide::<Detokenize>(ask).map(|permit| permit.statements().to_vec());
        assert_eq!(cold, warm);
        cold.is_ok()
    };
    let first: Vec<bool> = asks.iter().map(outcome).collect();
    let mut second: Vec<bool> = asks.iter().rev().map(outcome).collect();
    second.reverse();
    assert_eq!(first, [true, false, false, false, true, false, false]);
    assert_eq!(first, second);
}

#[test]
fn ten_thousand_decisions_from_many_threads_agree() {
    let bundle = Files::shipped().parse().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..2_500 {
                    let mtls = round % 3 != 0;
                    let ask = Ask { mtls, ..charge_for_signup() };
                    assert_eq!(bundle.decide::<Detokenize>(&ask).is_ok(), mtls);
                }
            });
        }
    });
}

/// A permit whose only condition is the given one, for a caller that nothing else permits.
fn observe_when(condition: &str) -> Bundle {
    let rule = format!(
        "\n@id(\"extra\")\npermit (principal is Service, action == Action::\"observe\", resource) when {{ {condition} }};\n"
    );
    Files::shipped().append("administration.cedar", &rule).parse().unwrap()
}

#[test]
fn a_statement_that_looks_at_the_address_is_asked_anew_each_time() {
    for condition in [
        "context.source_ip.isInRange(ip(\"10.20.1.64/26\"))",
        "context has source_ip && context.source_ip.isInRange(ip(\"10.20.1.64/26\"))",
        "context == {source_ip: ip(\"10.20.1.70\"), mtls: true, from_own_segment: true}",
        "[context].contains({source_ip: ip(\"10.20.1.70\"), mtls: true, from_own_segment: true})",
        "{inner: context}.inner.source_ip.isInRange(ip(\"10.20.1.64/26\"))",
        "(if context.mtls then context else context).source_ip.isInRange(ip(\"10.20.1.64/26\"))",
    ] {
        let bundle = observe_when(condition);
        for _ in 0..2 {
            assert!(bundle.decide::<Observe>(&ask("fraud", "10.20.1.70")).is_ok(), "{condition}");
            assert!(bundle.decide::<Observe>(&ask("fraud", "10.20.1.7")).is_err(), "{condition}");
        }
    }
}

#[test]
fn a_mapped_address_is_judged_as_ipv4() {
    let bundle = Files::shipped().parse().unwrap();
    assert!(bundle.decide::<Observe>(&ask("monitor", "::ffff:10.20.1.7")).is_ok());
    assert!(bundle.decide::<Observe>(&ask("monitor", "::ffff:10.20.2.7")).is_err());
    let bundle = observe_when("context.source_ip == ip(\"10.20.1.70\")");
    assert!(bundle.decide::<Observe>(&ask("fraud", "::ffff:10.20.1.70")).is_ok());
}

#[test]
fn a_statement_without_an_action_counts_for_every_action() {
    let bundle = Files::shipped()
        .append("scope.cedar", "\n@id(\"frozen\")\nforbid (principal, action, resource);\n")
        .parse()
        .unwrap();
    let forbidden = |kind| matches!(kind, RefusalKind::Forbidden { .. });
    assert!(forbidden(refused(bundle.decide::<Detokenize>(&charge_for_signup()))));
    assert!(forbidden(refused(bundle.decide::<Administer>(&ask("operator", OPERATIONS)))));
    let send = Ask { destination: Some("processor"), route: Some("charge"), ..ask("signup", APPLICATIONS) };
    assert!(forbidden(refused(bundle.decide::<Send>(&send))));
    let forward = Ask { acting_for: Some("signup"), route: Some("signup"), ..ask("gateway-ingress", CDE) };
    assert!(forbidden(refused(bundle.decide::<Forward>(&forward))));
}

#[test]
fn a_bundle_without_statements_refuses_everything() {
    let bundle = Files::shipped()
        .without("scope.cedar")
        .without("ingress.cedar")
        .without("egress.cedar")
        .without("administration.cedar")
        .parse()
        .unwrap();
    assert_eq!(refused(bundle.decide::<Detokenize>(&charge_for_signup())), RefusalKind::NoStatement);
    assert_eq!(refused(bundle.decide::<Administer>(&ask("operator", OPERATIONS))), RefusalKind::NoStatement);
}

#[test]
fn an_evaluation_error_refuses_although_a_permit_holds() {
    // Integer overflow is the one error that strict validation cannot rule out.
    let bundle = Files::shipped()
        .append(
            "egress.cedar",
            "\n@id(\"overflows\")\nforbid (principal is Service, action == Action::\"detokenize\", resource) \
             when { context.destination.port * 9223372036854775807 > 1 };\n",
        )
        .parse()
        .unwrap();
    let statements = vec![Arc::from("overflows")];
    assert_eq!(
        refused(bundle.decide::<Detokenize>(&charge_for_signup())),
        RefusalKind::EvaluationError { statements }
    );
    let explanation = bundle.explain("detokenize", &charge_for_signup()).unwrap();
    assert!(explanation.broken && !explanation.allowed);
    assert!(explanation.to_string().contains("not to be evaluated: @id(\"overflows\")"), "{explanation}");
}
