//! Every fault that a bundle can have: each is found, at its place, with what to write instead.

use crate::fixture::Files;
use crate::leaks::IN_LEAKS;
use crate::slips::{IN_FIELDS, IN_ROUTES, IN_SEGMENTS, IN_STATEMENTS, Slip};

const SEGMENTS: &str = "segments.toml";
const ROUTES: &str = "routes.toml";

fn check(slips: &[Slip]) {
    for Slip { file, old, new, at, message, help } in slips {
        let files = Files::shipped().replace(file, old, new);
        let Err(found) = files.parse() else { panic!("{new:?} is taken") };
        let line = files.line_of(file, at);
        let hit = found.iter().find(|fault| {
            fault.file == *file
                && fault.line == line
                && fault.column > 0
                && fault.message.contains(message)
                && fault.help.as_deref().unwrap_or_default().contains(help)
        });
        assert!(hit.is_some(), "{new:?}: wanted line {line} {message:?} help {help:?}, found\n{found}");
        assert_eq!(found.len(), 1, "{new:?}: one slip, one fault\n{found}");
    }
}

#[test]
fn slips_in_what_is_done_about_leaks_are_found() {
    check(IN_LEAKS);
}

#[test]
fn slips_in_segments_are_found() {
    check(IN_SEGMENTS);
}

#[test]
fn owner_and_need_are_asked_of_every_row() {
    for (row, name) in [
        ("listener", "outbound"),
        ("service", "billing"),
        ("destination", "processor"),
        ("collection", "cards"),
    ] {
        let names = format!("[[{row}]]\nname = \"{name}\"");
        for key in ["owner", "need"] {
            let shipped = Files::shipped();
            let whole = std::fs::read_to_string(crate::fixture::folder().join(SEGMENTS)).unwrap();
            let (before, below) = whole.split_once(&names).unwrap();
            let (kept, rest) = below.split_once(&format!("\n{key} = ")).unwrap();
            let (_value, after) = rest.split_once('\n').unwrap();
            let edited = format!("{before}{names}{kept}\n{after}");
            let found = shipped.replace(SEGMENTS, &whole, &edited).parse().map(|_bundle| ()).unwrap_err();
            assert_eq!(found.len(), 1, "{found}");
            assert!(
                found.to_string().contains(&format!("this {row} has no `{key}` (help: PCI DSS 1.2.5")),
                "{found}"
            );
        }
    }
}

#[test]
fn roles_that_touch_cards_or_keys_cannot_live_out_of_scope() {
    for (old, what) in [
        ("segment = \"cde\"\nrole = \"gateway-ingress\"", "gateway-ingress"),
        ("segment = \"cde\"\nrole = \"gateway-egress\"", "gateway-egress"),
        ("segment = \"operations\"\nrole = \"operator\"", "operator"),
        ("segment = \"operations\"\nrole = \"custodian\"", "custodian"),
        ("segment = \"operations\"\nmay_lookup = true", "may look up"),
    ] {
        let (segment, rest) = old.split_once('\n').unwrap();
        assert!(segment.starts_with("segment"));
        let new = format!("segment = \"applications\"\n{rest}");
        let found = Files::shipped().replace(SEGMENTS, old, &new).parse().map(|_bundle| ()).unwrap_err();
        assert_eq!(found.len(), 1, "{found}");
        assert!(found.to_string().contains(what) && found.to_string().contains("scope \"out\""), "{found}");
    }
}

#[test]
fn a_development_bundle_may_share_loopback_and_fix_addresses() {
    let files = Files::shipped()
        .replace(SEGMENTS, "[[segment]]", "development = true\n[[segment]]")
        .replace(SEGMENTS, "10.20.0.0/24", "127.0.0.0/8")
        .replace(SEGMENTS, "10.20.2.0/24", "127.0.0.0/8")
        .replace(SEGMENTS, "port = 443", "port = 443\nconnect = \"127.0.0.1:9443\"");
    let bundle = files.parse().unwrap();
    assert!(bundle.development());
    assert_eq!(bundle.destination("processor").unwrap().connect, Some("127.0.0.1:9443".parse().unwrap()));
}

#[test]
fn slips_in_routes_are_found() {
    check(IN_ROUTES);
}

#[test]
fn slips_in_fields_are_found() {
    check(IN_FIELDS);
}

#[test]
fn a_tokenize_on_the_way_out_is_found() {
    let found = Files::shipped()
        .replace(ROUTES, "op = \"reveal\"", "op = \"tokenize\"")
        .parse()
        .map(|_bundle| ())
        .unwrap_err();
    assert!(found.to_string().contains("`tokenize` has no place on the way out"), "{found}");
}

#[test]
fn a_security_code_without_a_card_number_is_found() {
    let files = Files::shipped().replace(ROUTES, "op = \"tokenize\"", "op = \"expiry\"");
    let found = files.parse().map(|_bundle| ()).unwrap_err();
    assert!(found.to_string().contains("holds parts of a card but no card number"), "{found}");
}

#[test]
fn a_field_that_no_content_type_reaches_is_found() {
    let files = Files::shipped()
        .replace(ROUTES, "content = [\"json\", \"form\"]", "content = [\"form\"]")
        .replace(ROUTES, "form = \"cvc\"\n", "");
    let found = files.parse().map(|_bundle| ()).unwrap_err();
    assert_eq!(found.len(), 1, "{found}");
    assert!(found.to_string().contains("stands in no content type that the route takes"), "{found}");
}

#[test]
fn two_routes_that_take_the_same_requests_are_found() {
    let whole = std::fs::read_to_string(crate::fixture::folder().join(ROUTES)).unwrap();
    let again = "[[ingress]]\nname = \"again\"\nhosts = [\"other.example.com\", \"Signup.Example.com\"]\nmethods = [\"PUT\", \"POST\"]\n\
                 path = \"/signup\"\nupstream = \"http://10.20.2.10\"\nservice = \"signup\"\ncollection = \"cards\"\ncontent = [\"json\"]\n\n";
    let files = Files::shipped().replace(ROUTES, &whole, &format!("{again}{whole}"));
    let found = files.parse().map(|_bundle| ()).unwrap_err();
    assert_eq!(found.len(), 1, "{found}");
    assert!(
        found.to_string().contains("another route has POST /signup for signup.example.com already"),
        "{found}"
    );
}

#[test]
fn slips_in_statements_are_found() {
    check(IN_STATEMENTS);
}

#[test]
fn a_rule_that_can_never_hold_is_found() {
    let rule =
        "\n@id(\"never\")\npermit (principal is Collection, action == Action::\"observe\", resource);\n";
    let found = Files::shipped().append("scope.cedar", rule).parse().map(|_bundle| ()).unwrap_err();
    assert!(found.iter().all(|fault| fault.file == "scope.cedar"), "{found}");
    assert!(found.to_string().contains("unable to find an applicable action"), "{found}");
}

#[test]
fn a_template_is_found() {
    let rule =
        "\n@id(\"template\")\npermit (principal == ?principal, action == Action::\"observe\", resource);\n";
    let found = Files::shipped().append("scope.cedar", rule).parse().map(|_bundle| ()).unwrap_err();
    assert!(found.to_string().contains("templates are not used"), "{found}");
}

#[test]
fn slips_in_the_schema_are_found() {
    let schema = "schema.cedarschema";
    let faults = |files: Files| files.parse().map(|_bundle| ()).unwrap_err().to_string();
    let found = faults(Files::shipped().replace(
        schema,
        "action administer, approve, observe",
        "action administer, approve, watch",
    ));
    assert!(found.contains("the schema lacks the action \"observe\""), "{found}");
    let found = faults(Files::shipped().replace(schema, "entity Collection;", "entity Collection"));
    assert!(found.starts_with("schema.cedarschema:"), "{found}");
    let found = faults(Files::shipped().replace(schema, "    port: Long,\n", ""));
    assert!(found.contains("the declared entities do not fit the schema"), "{found}");
    let found =
        faults(Files::shipped().replace(schema, "        purpose: String,\n    },", "    },").replace(
            "egress.cedar",
            "    context.route.purpose == context.purpose &&\n",
            "",
        ));
    assert!(found.contains("the schema does not fit the requests of \"detokenize\""), "{found}");
}

#[test]
fn missing_files_are_found() {
    for file in ["segments.toml", "routes.toml", "schema.cedarschema"] {
        let found = Files::shipped().without(file).parse().map(|_bundle| ()).unwrap_err();
        assert!(found.to_string().contains(&format!("{file}:0:0: the bundle has no such file")), "{found}");
    }
}

#[test]
fn all_faults_of_all_files_are_listed_at_once_in_order() {
    let files = Files::shipped()
        .replace(SEGMENTS, "scope = \"out\"", "scope = \"outt\"")
        .replace(SEGMENTS, "port = 443", "port = 0")
        .replace(SEGMENTS, "process = \"vault.admin\"", "proces = \"vault.admin\"")
        .replace(ROUTES, "path = \"/signup\"", "path = \"signup\"")
        .replace(ROUTES, "$.card.cvc", "$.card[?@.cvc]")
        .replace("scope.cedar", "principal.out_of_scope };\n\n// Nor", "principal.out_of_scop };\n\n// Nor");
    let found = files.parse().map(|_bundle| ()).unwrap_err();
    let places: Vec<(String, usize)> = found.iter().map(|fault| (fault.file.clone(), fault.line)).collect();
    let mut sorted = places.clone();
    sorted.sort();
    assert_eq!(places, sorted);
    assert_eq!(found.len(), 7, "{found}");
    assert_eq!(found.to_string().lines().count(), 7);
}

#[test]
fn broken_syntax_gives_no_faults_about_names() {
    let found = Files::shipped().append(SEGMENTS, "\n[[service\n").parse().map(|_bundle| ()).unwrap_err();
    assert!(found.iter().all(|fault| fault.file == SEGMENTS), "{found}");
}
