//! Tests of the flow from bytes to bytes, with a real bundle and a real audit log; only the vault's answers are made up.

use super::*;
use cordon_audit::{Event, Log, Outcome};
use cordon_card::{CardId, Cvv, Expiry, Pan, Token};
use cordon_policy::shipped;
use cordon_wire::{ItemProblem, ItemResult, Items, ProblemCode};
use http::{HeaderName, HeaderValue};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

const PAN: &str = "4111111111111111";
const OTHER: &str = "5555555555554444";
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const SEGMENTS: &str = r#"
development = true
[[segment]]
name = "cde"
cidrs = ["127.0.0.0/8"]
scope = "cde"
[[segment]]
name = "applications"
cidrs = ["127.0.0.0/8"]
scope = "out"
[[collection]]
name = "cards"
owner = "o"
need = "n"
[[service]]
name = "gateway-ingress"
uri = "spiffe://cordon.test/gateway-ingress"
segment = "cde"
role = "gateway-ingress"
collections = ["cards"]
owner = "o"
need = "n"
[[service]]
name = "gateway-egress"
uri = "spiffe://cordon.test/gateway-egress"
segment = "cde"
role = "gateway-egress"
owner = "o"
need = "n"
[[service]]
name = "signup"
uri = "spiffe://cordon.test/signup"
segment = "applications"
collections = ["cards"]
destinations = ["processor"]
owner = "o"
need = "n"
[[destination]]
name = "processor"
host = "processor.cordon.test"
port = 443
roots = "processor-ca.pem"
addresses = ["127.0.0.1/32"]
owner = "o"
need = "n"
"#;

const ROUTES: &str = r#"
[[ingress]]
name = "signup"
hosts = ["signup.cordon.test"]
methods = ["POST"]
path = "/signup"
upstream = "http://127.0.0.1:7001"
service = "signup"
collection = "cards"
content = ["json", "form"]
field = [
  { json = "$..number", form = "card_number", op = "tokenize" },
  { json = "$..cvc", form = "cvc", op = "hold" },
  { json = "$..expiry", form = "expiry", op = "expiry" },
  { json = "$..exp_month", form = "exp_month", op = "expiry_month" },
  { json = "$..exp_year", form = "exp_year", op = "expiry_year" },
]
[[egress]]
name = "charge"
methods = ["POST"]
path = "/v1/charges"
services = ["signup"]
destination = "processor"
collection = "cards"
purpose = "charge"
content = ["json", "form"]
field = [
  { json = "$..number", form = "card[number]", op = "reveal" },
  { json = "$..cvc", form = "card[cvc]", op = "reveal_cvv" },
  { json = "$..expiry", form = "card[expiry]", op = "reveal_expiry", format = "MM/YY" },
]
"#;

fn bundle() -> Bundle {
    let mut files =
        vec![("schema.cedarschema", shipped::SCHEMA), ("segments.toml", SEGMENTS), ("routes.toml", ROUTES)];
    files.extend(shipped::POLICIES);
    Bundle::parse(&files, Path::new("/nonexistent")).unwrap_or_else(|faults| panic!("{faults}"))
}

fn inbound(format: Format, body: &str) -> Inbound {
    let headers =
        HeaderMap::from_iter([(HeaderName::from_static("accept"), HeaderValue::from_static("*/*"))]);
    let head = Head { method: Method::POST, path_and_query: "/signup?a=b".to_owned(), headers };
    Inbound { head, path_length: 7, format: Some(format), bytes: WipedBytes::from(body.as_bytes().to_vec()) }
}

fn parse_in(format: Format, body: &str, on_leak: OnLeak) -> Result<Parsed<Cards>, Fault> {
    let bundle = bundle();
    let watch = Watch { on_leak, ..Watch::strict(LookInside::Deny, Day::at(0)) };
    parse_ingress(inbound(format, body), &Fields::new(&bundle.ingress()[0].fields, &[]), watch)
}

fn parse_out(body: &str) -> Result<Parsed<Tokens>, Fault> {
    let bundle = bundle();
    let fields = Fields::new(&bundle.egress()[0].fields, &[]);
    parse_egress(inbound(Format::Json, body), &fields, Environment::Dev, (LookInside::Deny, Day::at(0)))
}

fn field(code: ProblemCode, name: &str) -> Fault {
    Fault::Field { code, field: name.to_owned() }
}

fn token(seed: u8) -> Token {
    Token::opaque(Environment::Dev, &[seed; 17])
}

fn tokenized(seed: u8) -> Tokenized {
    let pan = Pan::parse(PAN).unwrap();
    let card_id = CardId::from_bytes([seed; 16]);
    Tokenized { token: token(seed), card_id, brand: pan.brand(), last_four: pan.last_four() }
}

fn revealed(pan: &str, cvv: Option<&str>, expiry: Option<&str>) -> Revealed {
    Revealed {
        pan: Pan::parse(pan).unwrap().into(),
        expiry: expiry.map(|text| Expiry::parse(text).unwrap()),
        cvv: cvv.map(|text| Cvv::parse(text).unwrap().into()),
        code_held: false,
    }
}

fn forward(parsed: Parsed<Cards>) -> Permitted<Cards, Forward> {
    let ask =
        Ask { route: Some("signup"), acting_for: Some("signup"), ..Ask::new("gateway-ingress", false, HERE) };
    parsed.permit(&bundle(), &ask).unwrap()
}

fn send(parsed: Parsed<Tokens>) -> Permitted<Tokens, Send> {
    let ask = Ask { route: Some("charge"), destination: Some("processor"), ..Ask::new("signup", true, HERE) };
    parsed.permit(&bundle(), &ask).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_card_number_outside_the_declared_fields_stops_the_request_before_the_vault() {
    for body in [
        format!("{{\"number\":\"{PAN}\",\"note\":\"{OTHER}\"}}"),
        format!("{{\"note\":{OTHER}}}"),
        "{\"note\":\"\\u0035555555555554444\"}".to_owned(),
        "{\"note\":5.555555555554444e15}".to_owned(),
        format!("{{\"{OTHER}\":1}}"),
        "{\"note\":\"\u{ff15}555 5555 5555 4444\"}".to_owned(),
    ] {
        let refused = parse_in(Format::Json, &body, OnLeak::Deny).unwrap_err();
        assert_eq!(refused, Fault::Leak(Place::Body), "{body}");
    }
    let refused = parse_in(Format::Form, "card_number=4111111111111111&x=%35555555555554444", OnLeak::Deny);
    assert_eq!(refused.unwrap_err(), Fault::Leak(Place::Body));
}

#[test]
fn a_card_number_in_the_head_stops_the_request_even_where_bodies_are_masked() {
    let bundle = bundle();
    let fields = Fields::new(&bundle.ingress()[0].fields, &[]);
    let watch = Watch { on_leak: OnLeak::Mask, ..Watch::strict(LookInside::Deny, Day::at(0)) };
    let with = |path: &str, length: usize, header: &str| {
        let mut inbound = inbound(Format::Json, "{}");
        inbound.head.path_and_query = path.to_owned();
        inbound.path_length = length;
        inbound.head.headers.insert("x-note", HeaderValue::from_str(header).unwrap());
        parse_ingress(inbound, &fields, watch).map(|_| ())
    };
    assert_eq!(with("/signup", 7, "fine"), Ok(()));
    assert_eq!(with("/s/5555555555554444", 19, "x"), Err(Fault::Leak(Place::Path)));
    assert_eq!(with("/s?n=5555+5555+5555+4444", 2, "x"), Err(Fault::Leak(Place::Query)));
    assert_eq!(with("/s", 2, "n=5555555555554444"), Err(Fault::Leak(Place::Header)));
}

#[test]
fn declared_fields_that_are_not_what_they_declare_are_refused_by_name() {
    for (body, fault) in [
        (r#"{"number":"4111111111111112"}"#, field(ProblemCode::BadPan, "$..number")),
        (r#"{"number":""}"#, field(ProblemCode::BadPan, "$..number")),
        (r#"{"number":null}"#, field(ProblemCode::BadField, "$..number")),
        (r#"{"number":"4111111111111111","cvc":"12"}"#, field(ProblemCode::BadCvv, "$..cvc")),
        (r#"{"number":"4111111111111111","expiry":"13/30"}"#, field(ProblemCode::BadExpiry, "$..expiry")),
        (
            r#"{"number":"4111111111111111","exp_month":0,"exp_year":2030}"#,
            field(ProblemCode::BadExpiry, "$..exp_month"),
        ),
        (r#"{"number":"4111111111111111","exp_month":12}"#, field(ProblemCode::BadField, "$..exp_month")),
        (r#"{"number":"4111111111111111","exp_year":30}"#, field(ProblemCode::BadField, "$..exp_year")),
        (r#"{"cvc":"123"}"#, field(ProblemCode::BadField, "$..cvc")),
        (
            r#"{"a":{"number":"4111111111111111","cvc":"123"},"b":{"cvc":"123"}}"#,
            field(ProblemCode::BadField, "$..cvc"),
        ),
        (
            r#"{"number":"4111111111111111","expiry":"12/30","exp_month":12,"exp_year":30}"#,
            field(ProblemCode::BadField, "$..exp_month"),
        ),
        ("{", Fault::Malformed("body")),
    ] {
        assert_eq!(parse_in(Format::Json, body, OnLeak::Deny).unwrap_err(), fault, "{body}");
    }
}

#[test]
fn more_cards_than_the_vault_takes_in_one_call_are_refused() {
    let cards = vec![format!("{{\"number\":\"{PAN}\"}}"); 1001].join(",");
    assert_eq!(parse_in(Format::Json, &format!("[{cards}]"), OnLeak::Deny).unwrap_err(), Fault::TooManyCards);
}

#[test]
fn the_policy_must_allow_the_forward() {
    let parsed = parse_in(Format::Json, "{}", OnLeak::Deny).unwrap();
    let ask = Ask {
        route: Some("signup"),
        acting_for: Some("gateway-egress"),
        ..Ask::new("gateway-ingress", false, HERE)
    };
    assert!(matches!(parsed.permit::<Forward>(&bundle(), &ask), Err(Fault::Denied(_))));
}

#[test]
fn the_policy_must_allow_the_send() {
    let elsewhere = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));
    for (principal, mtls, source) in
        [("signup", false, HERE), ("signup", true, elsewhere), ("gateway-egress", true, HERE)]
    {
        let ask = Ask {
            route: Some("charge"),
            destination: Some("processor"),
            ..Ask::new(principal, mtls, source)
        };
        let refused = parse_out("{}").unwrap().permit::<Send>(&bundle(), &ask);
        assert!(matches!(refused, Err(Fault::Denied(_))), "{principal} {mtls} {source}");
    }
}

#[test]
fn an_answer_of_the_vault_that_does_not_fit_forwards_nothing() {
    let permitted =
        forward(parse_in(Format::Json, &format!("{{\"number\":\"{PAN}\"}}"), OnLeak::Deny).unwrap());
    assert!(matches!(permitted.fields().tokens(Items { items: Vec::new() }), Err(Fault::Vault(_))));
    let refused = Items { items: vec![ItemResult::Error(ItemProblem::from(ProblemCode::BadPan))] };
    assert_eq!(permitted.fields().tokens(refused).unwrap_err(), field(ProblemCode::BadPan, "$..number"));
    assert!(matches!(permitted.rewrite(&[]), Err(Fault::Vault(_))));
}

#[test]
fn cards_become_tokens_in_place_and_codes_leave() {
    let body = format!(
        "{{ \"cards\": [ {{\"number\":\"4111 1111 1111 1111\", \"cvc\":\"123\",\"expiry\":\"12/30\"}},\n {{\"cvc\":1234,\"number\":{OTHER},\"expiry\":\"01/31\"}} ] }}"
    );
    let permitted = forward(parse_in(Format::Json, &body, OnLeak::Deny).unwrap());
    let request = permitted.fields().request().unwrap();
    let sent = serde_json::to_value(request).unwrap();
    assert_eq!(
        sent,
        serde_json::json!({"items": [
            {"pan": PAN, "expiry": "2030-12", "cvv": "123"},
            {"pan": OTHER, "expiry": "2031-01", "cvv": "1234"},
        ]})
    );
    let scanned = scan(permitted.rewrite(&[tokenized(1), tokenized(2)]).unwrap(), Verdict::AllCount).unwrap();
    let expected = body
        .replace("4111 1111 1111 1111", token(1).as_str())
        .replace(OTHER, &format!("\"{}\"", token(2)))
        .replace("\"123\"", "\"held\"")
        .replace("1234", "\"held\"");
    assert_eq!(text(&scanned.body.into_inner()), expected);
}

#[test]
fn a_form_is_rewritten_in_place() {
    let body = "name=A+B&card%5Fnumber=4111+1111+1111+1111&cvc=123&exp_month=1&exp_year=31&z=%7E";
    let permitted = forward(parse_in(Format::Form, body, OnLeak::Deny).unwrap());
    let sent = serde_json::to_value(permitted.fields().request().unwrap()).unwrap();
    assert_eq!(sent, serde_json::json!({"items": [{"pan": PAN, "expiry": "2031-01", "cvv": "123"}]}));
    let scanned = scan(permitted.rewrite(&[tokenized(7)]).unwrap(), Verdict::AllCount).unwrap();
    let expected = format!("name=A+B&card%5Fnumber={}&cvc=held&exp_month=1&exp_year=31&z=%7E", token(7));
    assert_eq!(text(&scanned.body.into_inner()), expected);
}

#[test]
fn other_numbers_are_masked_where_the_route_says_so() {
    let body = format!("{{\"number\":\"{PAN}\",\"note\":\"also {OTHER}\"}}");
    let parsed = parse_in(Format::Json, &body, OnLeak::Mask).unwrap();
    let scanned = scan(forward(parsed).rewrite(&[tokenized(1)]).unwrap(), Verdict::AllCount).unwrap();
    assert_eq!(scanned.findings(), [Finding::MASKED]);
    let sent = text(&scanned.body.into_inner());
    assert!(
        sent.contains(token(1).as_str()) && sent.contains("4444") && !sent.contains("55555555"),
        "{sent}"
    );
    let key = parse_in(Format::Json, &format!("{{\"{OTHER}\":1}}"), OnLeak::Mask).unwrap();
    assert_eq!(
        scan(forward(key).rewrite(&[]).unwrap(), Verdict::AllCount).unwrap_err(),
        Fault::Leak(Place::Body)
    );
}

#[test]
fn a_request_without_cards_asks_the_vault_nothing_and_passes_as_it_is() {
    let permitted = forward(parse_in(Format::Json, "{\"a\": 1}", OnLeak::Deny).unwrap());
    assert!(permitted.fields().request().is_none());
    assert_eq!(
        text(&scan(permitted.rewrite(&[]).unwrap(), Verdict::AllCount).unwrap().body.into_inner()),
        "{\"a\": 1}"
    );
}

#[test]
fn tokens_that_are_not_ours_are_refused_on_the_way_out() {
    let live = Token::opaque(Environment::Live, &[1; 17]);
    for body in [
        format!("{{\"number\":\"{live}\"}}"),
        "{\"number\":\"tok_dev_x\"}".to_owned(),
        format!("{{\"number\":\"{PAN}\"}}"),
        "{\"number\":\"\"}".to_owned(),
    ] {
        assert_eq!(parse_out(&body).unwrap_err(), field(ProblemCode::BadToken, "$..number"), "{body}");
    }
    let alone = parse_out("{\"cvc\":\"held\"}").unwrap_err();
    assert_eq!(alone, field(ProblemCode::BadField, "$..cvc"));
}

#[test]
fn a_card_number_in_a_service_s_own_request_is_refused() {
    let body = format!("{{\"number\":\"{}\",\"note\":\"{PAN}\"}}", token(1));
    assert_eq!(parse_out(&body).unwrap_err(), Fault::Leak(Place::Body));
}

#[test]
fn tokens_become_cards_in_place_and_the_answer_is_watched_for_them() {
    let body = format!(
        "{{\"card\": {{\"number\":\"{}\",\"cvc\":\"held\",\"expiry\":\"\"}}, \"amount\":5}}",
        token(3)
    );
    let permitted = send(parse_out(&body).unwrap());
    let items = serde_json::to_value(permitted.fields().items().unwrap()).unwrap();
    assert_eq!(items, serde_json::json!([{"token": token(3).as_str(), "cvv": true}]));
    let (rewritten, echoes) = permitted.rewrite(vec![revealed(PAN, Some("123"), Some("12/30"))]).unwrap();
    let scanned = scan(rewritten, Verdict::AllCount).unwrap();
    let expected =
        "{\"card\": {\"number\":\"4111111111111111\",\"cvc\":\"123\",\"expiry\":\"12/30\"}, \"amount\":5}";
    assert_eq!(text(&scanned.body.into_inner()), expected);
    assert!(echoes.stands_in(b"4111-1111-1111-1111"));
}

#[test]
fn what_the_vault_no_longer_has_is_not_sent() {
    let with_code = format!("{{\"number\":\"{}\",\"cvc\":\"held\"}}", token(3));
    let gone = send(parse_out(&with_code).unwrap()).rewrite(vec![revealed(PAN, None, None)]).map(|_| ());
    assert_eq!(gone, Err(field(ProblemCode::CodeGone, "$..cvc")));
    let with_expiry = format!("{{\"number\":\"{}\",\"expiry\":\"x\"}}", token(3));
    let missing = send(parse_out(&with_expiry).unwrap()).rewrite(vec![revealed(PAN, None, None)]).map(|_| ());
    assert_eq!(missing, Err(field(ProblemCode::BadField, "$..expiry")));
}

#[test]
fn a_request_is_released_against_a_receipt_with_our_headers() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(&dir.path().join("audit"), "cordon-gateway").unwrap();
    let receipt = log.append_blocking(Event::new(cordon_audit::Action::Forward, Outcome::Allowed)).unwrap();
    let scanned = scan(
        forward(parse_in(Format::Json, "{}", OnLeak::Deny).unwrap()).rewrite(&[]).unwrap(),
        Verdict::AllCount,
    )
    .unwrap();
    let added =
        HeaderMap::from_iter([(HeaderName::from_static("cordon-request-id"), HeaderValue::from_static("r"))]);
    let (head, body) = scanned.release(receipt, added).into_parts();
    let Payload::Held(body) = body else { panic!("a body in memory") };
    assert_eq!((head.headers.len(), body.as_ref()), (2, &b"{}"[..]));
}

#[test]
fn nothing_of_a_request_is_in_a_debug_form() {
    let parsed =
        parse_in(Format::Json, &format!("{{\"number\":\"{PAN}\",\"cvc\":\"987\"}}"), OnLeak::Deny).unwrap();
    let shown = format!("{parsed:?}");
    assert!(!shown.contains("41111111") && !shown.contains("987"), "{shown}");
}
