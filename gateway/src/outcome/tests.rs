//! Tests of `outcome.rs`: what answers say.

use super::*;
use cordon_daemon::body::WipedBytes;
use cordon_policy::{JsonSelector, Places, XmlSelector};
use http::{HeaderMap, HeaderValue, StatusCode};
use proptest::prelude::*;

fn declared(at: OutcomePlace, approved: &[&str], declined: &[&str]) -> Outcome {
    let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    Outcome::prepare(&Declaration { at, approved: owned(approved), declined: owned(declined) })
}

fn by_field() -> Outcome {
    let places = Places {
        json: Some(JsonSelector::parse("$..status").unwrap()),
        form: Some("result".to_owned()),
        xml: Some(XmlSelector::parse("/charge/@result").unwrap()),
        ..Places::default()
    };
    declared(OutcomePlace::Field(Box::new(places)), &["succeeded", "00"], &["declined", "05"])
}

fn answer(status: u16, kind: &str, body: &str) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_str(kind).unwrap());
    headers.insert("x-result", HeaderValue::from_static(" 05 "));
    let body = WipedBytes::from(body.as_bytes().to_vec());
    Answer { status: StatusCode::from_u16(status).unwrap(), headers, body }
}

#[test]
fn a_field_is_read_in_the_type_of_the_answer() {
    let outcome = by_field();
    for (kind, body, said) in [
        ("application/json", r#"{"status":"succeeded"}"#, Some(Decision::Approved)),
        ("application/json", r#"{"a":{"status":"decl\u0069ned"}}"#, Some(Decision::Declined)),
        ("application/json", r#"{"status":"pending"}"#, None),
        ("application/json", r#"{"status":true}"#, None),
        ("application/json", r#"{"status":"succeeded","a":{"status":"declined"}}"#, None),
        ("application/json", r#"{"status":"succeeded","a":{"status":"pending"}}"#, None),
        ("application/json", r#"[{"status":"succeeded"},{"status":"00"}]"#, Some(Decision::Approved)),
        ("application/json", r#"{"status":"succeeded""#, None),
        ("application/json", "", None),
        ("application/x-www-form-urlencoded", "result=%30%35", Some(Decision::Declined)),
        ("text/xml", r#"<charge result="00"/>"#, Some(Decision::Approved)),
        ("text/html", r#"{"status":"succeeded"}"#, None),
        ("image/png", r#"{"status":"succeeded"}"#, None),
    ] {
        assert_eq!(outcome.read(&answer(200, kind, body)), said, "{body}");
    }
}

#[test]
fn a_header_or_the_status_tells_too() {
    let header =
        Places { head: Some(cordon_policy::HeadPlace::Header("x-result".to_owned())), ..Places::default() };
    let by_header = declared(OutcomePlace::Field(Box::new(header)), &["00"], &["05"]);
    assert_eq!(by_header.read(&answer(200, "text/plain", "00")), Some(Decision::Declined));
    let by_status = declared(OutcomePlace::Status, &["2xx"], &["402"]);
    for (status, said) in [(200, Some(Decision::Approved)), (402, Some(Decision::Declined)), (500, None)] {
        assert_eq!(by_status.read(&answer(status, "text/plain", "")), said);
    }
}

#[test]
fn issuers_are_named_once() {
    let pan = |text: &str| Submitted::Valid(Pan::parse(text).unwrap());
    let numbers = [pan("4111111111111111"), pan("4111111111111111"), pan("378282246310005")];
    let named: Vec<_> = issuers(&numbers).iter().map(ToString::to_string).collect();
    assert_eq!(named, ["378282", "41111111"]);
}

proptest! {
    #[test]
    fn no_answer_is_too_odd_to_be_looked_at(kind in "(application/(json|xml)|text/csv|a/b|[ -~]{0,20})", body in "\\PC{0,80}") {
        let _said = by_field().read(&answer(200, &kind, &body));
    }
}
