//! Tests of `statements.rs`: slicing by action, and what counts as looking at the address.

use super::*;

const SCHEMA: &str = crate::shipped::SCHEMA;

fn read_one(policies: &str) -> Result<Statements, Faults> {
    let mut faults = Faults::default();
    let schema = Source { file: "schema.cedarschema", text: SCHEMA };
    let sources = [Source { file: "a.cedar", text: policies }];
    let found = read(&schema, &sources, &mut faults);
    faults.into_result(found)
}

fn looks(condition: &str) -> bool {
    let text = format!(
        "@id(\"a\") permit (principal is Service, action == Action::\"send\", resource) when {{ {condition} }};"
    );
    read_one(&text).unwrap().slice(ActionKind::Send).unwrap().looks_at_address
}

#[test]
fn every_way_to_the_address_is_seen() {
    for condition in [
        "context.source_ip.isLoopback()",
        "context has source_ip",
        "context == context",
        "context[\"source_ip\"].isLoopback()",
        "(if context.mtls then context else context).mtls",
        "[context].isEmpty()",
        "{a: context}.a.mtls",
        "context has source_ip && context.mtls",
    ] {
        assert!(looks(condition), "{condition}");
    }
}

#[test]
fn plain_reads_of_other_attributes_are_not_taken_for_it() {
    for condition in [
        "context.mtls",
        "context.mtls && context.from_own_segment && context.destination.port == 443",
        "resource.destination == context.destination",
        "context has destination && context[\"mtls\"]",
        "principal.role == Role::\"operator\"",
        "context.destination.host == \"source_ip\"",
    ] {
        assert!(!looks(condition), "{condition}");
    }
}

#[test]
fn a_statement_is_asked_about_its_actions_only() {
    let text = "@id(\"a\") permit (principal, action == Action::\"send\", resource);\n\
                @id(\"b\") forbid (principal, action in [Action::\"inspect\", Action::\"delete\"], resource);\n\
                @id(\"c\") forbid (principal, action, resource);\n";
    let statements = read_one(text).unwrap();
    let ids = |kind: ActionKind| {
        let mut ids: Vec<String> = statements
            .slice(kind)
            .unwrap()
            .policies
            .policies()
            .map(|policy| policy.id().to_string())
            .collect();
        ids.sort();
        ids.join("")
    };
    for kind in ActionKind::ALL {
        let wanted = match kind {
            ActionKind::Send => "ac",
            ActionKind::Inspect | ActionKind::Delete => "bc",
            _ => "c",
        };
        assert_eq!(ids(kind), wanted, "{kind}");
    }
    let places: Vec<(usize, usize)> = statements.all.iter().map(|found| (found.line, found.column)).collect();
    assert_eq!(places, [(1, 1), (2, 1), (3, 1)]);
    assert_eq!(statements.get("c").unwrap().actions.len(), ActionKind::ALL.len());
    assert!(statements.get("d").is_none());
}

#[test]
fn a_group_of_actions_counts_for_its_members() {
    let schema =
        SCHEMA.replace("action forward appliesTo", "action gateway;\naction forward in [gateway] appliesTo");
    let mut faults = Faults::default();
    let text = "@id(\"a\") forbid (principal is Service, action in Action::\"gateway\", resource);";
    let source = Source { file: "schema.cedarschema", text: &schema };
    let found = read(&source, &[Source { file: "a.cedar", text }], &mut faults);
    let statements = faults.into_result(found).unwrap();
    assert_eq!(statements.all.first().unwrap().actions, [ActionKind::Forward]);
}

#[test]
fn several_syntax_errors_are_all_reported() {
    let faults =
        read_one("permit (principal, action, resource) whn { true };\npermit (principal, action);\n")
            .unwrap_err();
    assert!(!faults.is_empty() && faults.iter().all(|fault| fault.file == "a.cedar"), "{faults}");
}
