//! Tests of rehearsals: what a case shows, what it notices, and that it shows no card.

use super::*;

const SEGMENTS: &str = r#"
development = true
[[segment]]
name = "cde"
cidrs = ["10.0.0.0/24"]
scope = "cde"
[[segment]]
name = "apps"
cidrs = ["10.0.1.0/24"]
scope = "out"
[[collection]]
name = "cards"
owner = "o"
need = "n"
[[destination]]
name = "processor"
host = "api.processor.example"
port = 443
roots = "roots.pem"
addresses = ["203.0.113.0/28"]
owner = "o"
need = "n"
[[service]]
name = "gateway-ingress"
uri = "spiffe://cordon.test/in"
segment = "cde"
role = "gateway-ingress"
collections = ["cards"]
owner = "o"
need = "n"
[[service]]
name = "gateway-egress"
uri = "spiffe://cordon.test/out"
segment = "cde"
role = "gateway-egress"
owner = "o"
need = "n"
[[service]]
name = "signup"
uri = "spiffe://cordon.test/signup"
segment = "apps"
collections = ["cards"]
destinations = ["processor"]
owner = "o"
need = "n"
"#;

const ROUTES: &str = r#"
[[ingress]]
name = "signup"
hosts = ["signup.example"]
methods = ["POST"]
path = "/signup"
upstream = "http://10.0.1.9:7001"
service = "signup"
collection = "cards"
content = ["json"]
[[ingress.field]]
json = "$.number"
op = "tokenize"
[[ingress.field]]
json = "$.code"
op = "hold"
[[ingress.answer]]
json = "$.secret"
op = "drop"

[[egress]]
name = "charge"
methods = ["POST"]
path = "/charge"
services = ["signup"]
destination = "processor"
collection = "cards"
purpose = "charge"
content = ["json"]
[[egress.field]]
json = "$.token"
op = "reveal"
[[egress.field]]
json = "$.code"
op = "reveal_cvv"
[[egress.field]]
json = "$.until"
op = "reveal_expiry"
format = "YYYY-MM"
[[egress.answer]]
json = "$.replacement"
op = "tokenize"
"#;

const CASES: &str = r#"
[[case]]
name = "a card becomes a token, its code is taken out, and what the service says of it stays inside"
request = """
POST /signup HTTP/1.1
Host: signup.example
Content-Type: application/json
X-Forwarded-For: 1.2.3.4
X-Ours: kept

{ "number": "4111 1111 1111 1111", "code": "123" }"""
sends = """
POST /signup
content-type: application/json
x-ours: kept

{ "number": "{token:1}", "code": "held" }"""
answer = """
201
Content-Type: application/json

{"secret":"x","token":"{token:1}"}"""
gives = """
201
content-type: application/json

{"secret":null,"token":"{token:1}"}"""

[[case]]
name = "a token becomes its card, with code and expiry, and the card that replaces it a token"
service = "signup"
cards = [{ number = "5555555555554444", expiry = "12/30", code = "123" }]
request = """
POST /charge
Host: gateway.example
Content-Type: application/json

{"token":"{token:1}","code":"?","until":"?"}"""
sends = """
POST /charge
content-type: application/json

{"token":"5555555555554444","code":"123","until":"2030-12"}"""
answer = """
200
content-type: application/json

{"replacement":"4111111111111111"}"""
gives = """
200
content-type: application/json

{"replacement":"{token:2}"}"""

[[case]]
name = "a card that comes back is withheld"
service = "signup"
cards = [{ number = "5555555555554444" }]
request = "POST /charge\nhost: g\ncontent-type: application/json\n\n{\"token\":\"{token:1}\"}"
sends = "POST /charge\ncontent-type: application/json\n\n{\"token\":\"5555555555554444\"}"
answer = "200\ncontent-type: application/json\n\n{\"echo\":\"5555 5555 5555 4444\"}"
withheld = "upstream-refused"

[[case]]
name = "a card beside the field is refused"
request = "POST /signup\nhost: signup.example\ncontent-type: application/json\n\n{\"note\":\"4111111111111111\"}"
refused = "leak-blocked"

[[case]]
name = "what is no request is refused"
request = "POST /signup\nhost: signup.example\nno header\n\n{}"
refused = "malformed"

[[case]]
name = "a body that is shorter than it says is refused"
request = "POST /signup\nhost: signup.example\ncontent-type: application/json\ncontent-length: 9\n\n{}"
refused = "malformed"
"#;

fn rehearsed(routes: &str, cases: &str) -> Rehearsed {
    let own = |(name, text): (&str, &str)| (name.to_owned(), text.to_owned());
    let mut files = vec![
        own(("schema.cedarschema", cordon_policy::shipped::SCHEMA)),
        own(("segments.toml", SEGMENTS)),
        own(("routes.toml", routes)),
    ];
    files.extend(cordon_policy::shipped::POLICIES.iter().copied().map(own));
    let wanted = Rehearse { files, cases: vec![own(("a.toml", cases))] };
    let mut output = Vec::new();
    let line = serde_json::to_string(&wanted).unwrap();
    run(line.as_bytes(), &mut output).unwrap();
    serde_json::from_slice(&output).unwrap()
}

fn differences(rehearsed: &Rehearsed) -> Vec<String> {
    assert_eq!(rehearsed.faults, Vec::<String>::new());
    rehearsed.played.iter().flat_map(|played| played.differences.clone()).collect()
}

#[test]
fn cases_that_say_what_is_so_pass() {
    let all = rehearsed(ROUTES, CASES);
    assert_eq!(differences(&all), Vec::<String>::new());
    assert_eq!(all.routes, ["signup", "charge"]);
    let passed: Vec<_> = all.played.iter().map(|played| played.passed_by.as_deref()).collect();
    assert_eq!(passed, [Some("signup"), Some("charge"), Some("charge"), None, None, None]);
}

#[test]
fn every_change_of_a_route_is_noticed() {
    for (from, to, wanted) in [
        ("path = \"/signup\"", "path = \"/other\"", "got the refusal `unknown-route`"),
        ("methods = [\"POST\"]", "methods = [\"PUT\"]", "got the refusal `method-not-allowed`"),
        ("content = [\"json\"]", "content = [\"ndjson\"]", "got the refusal `unsupported`"),
        ("op = \"hold\"", "op = \"drop\"", "expected the body"),
        ("op = \"drop\"", "op = \"mask\"", "expected the body"),
        ("format = \"YYYY-MM\"", "format = \"MM/YY\"", "12/30"),
        ("json = \"$.replacement\"", "json = \"$.other\"", "got the refusal `upstream-refused`"),
        (
            "collection = \"cards\"\ncontent",
            "collection = \"cards\"\non_leak = \"mask\"\ncontent",
            "takes it",
        ),
    ] {
        assert!(ROUTES.contains(from), "{from}");
        let all = rehearsed(&ROUTES.replacen(from, to, 1), CASES);
        let found =
            all.faults.iter().cloned().chain(all.played.iter().flat_map(|played| played.differences.clone()));
        let found = found.collect::<Vec<_>>().join("\n");
        assert!(found.contains(wanted) || !all.faults.is_empty(), "{to}: {found}");
    }
}

#[test]
fn what_differs_is_shown_without_whole_card_numbers() {
    let wrong = CASES.replace("5555555555554444\",\"code\"", "5105105105105100\",\"code\"");
    let found = differences(&rehearsed(ROUTES, &wrong)).join("\n");
    assert!(found.contains("expected the body") && found.contains("4444"), "{found}");
    for number in ["5555555555554444", "5105105105105100"] {
        assert!(!found.contains(number), "{found}");
    }
}

#[test]
fn cases_and_bundles_that_cannot_be_played_are_named_with_their_place() {
    for (cases, wanted) in [
        ("[[case]]\nname = \"a\"\nrequest = \"GET /\"\nsend = \"x\"", "a.toml: line 4: unknown field `send`"),
        ("[[case]]\nname = \"a\"", "missing field `request`"),
        ("[[case]]\nname = \"a\"\nrequest = \"GET /\"", "say what is sent"),
        ("[[case]]\nname = \"a\"\nrequest = \"GET /\"\nsends = \"x\"\nrefused = \"y\"", "not both"),
        ("[[case]]\nname = \"a\"\nrequest = \"GET /\"\nrefused = \"y\"\nanswer = \"200\"", "has no answer"),
        (
            "[[case]]\nname = \"a\"\nrequest = \"GET /\"\nsends = \"y\"\nanswer = \"200\"",
            "say what the caller gets",
        ),
        (
            "[[case]]\nname = \"a\"\nrequest = \"GET /\"\nsends = \"y\"\ngives = \"200\"",
            "say what is answered",
        ),
    ] {
        let faults = rehearsed(ROUTES, cases).faults.join("\n");
        assert!(faults.contains(wanted), "{cases}: {faults}");
    }
    let faults = rehearsed("[[ingress]]\n", CASES).faults;
    assert!(faults.iter().any(|fault| fault.starts_with("routes.toml:1:")), "{faults:?}");
    let strange = "[[case]]\nname = \"a\"\nservice = \"nobody\"\nrequest = \"GET /\"\nrefused = \"x\"";
    assert_eq!(differences(&rehearsed(ROUTES, strange)), ["no service is called nobody"]);
    let never = "[[case]]\nname = \"a\"\ntoday = \"never\"\nrequest = \"GET /\"\nrefused = \"x\"";
    assert!(differences(&rehearsed(ROUTES, never))[0].contains("no day"));
}
