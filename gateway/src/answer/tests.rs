//! Tests of answer screening.

use super::*;
use cordon_card::Pan;
use http::HeaderName;

const PAN: &str = "4242424242424242";
const OTHER: &str = "5555555555554444";

fn answer(headers: &[(&str, &str)], body: &str) -> Answer {
    let headers = headers
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
        .collect();
    Answer { status: StatusCode::OK, headers, body: WipedBytes::from(body.as_bytes().to_vec()) }
}

fn screened(
    headers: &[(&str, &str)],
    body: &str,
    on_leak: OnLeak,
    revealed: bool,
) -> Result<Screened, Fault> {
    let mut echoes = Echoes::default();
    if revealed {
        echoes.add(&Pan::parse(PAN).unwrap());
    }
    screen(answer(headers, body), &Rules { on_leak, echoes: &echoes, from_outside: revealed })
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn a_card_number_in_an_answer_is_refused_wherever_it_stands() {
    for (headers, body) in [
        (&[JSON][..], format!("{{\"n\":\"{PAN}\"}}")),
        (&[JSON], format!("{{\"{PAN}\":1}}")),
        (&[JSON], "{\"n\":\"\\u0034242424242424242\"}".to_owned()),
        (&[JSON], format!("{{\"n\":{OTHER}}}")),
        (&[JSON], "{\"n\":5.555555555554444e15}".to_owned()),
        (&[("content-type", "text/html")], format!("<b>{OTHER}</b>")),
        (&[("content-type", "text/plain")], "%35555555555554444".to_owned()),
        (&[], format!("card {OTHER}")),
        (&[("location", "https://x.test/?n=%35555555555554444")], String::new()),
        (&[("set-cookie", "n=5555-5555-5555-4444")], String::new()),
    ] {
        assert_eq!(
            screened(headers, &body, OnLeak::Deny, true).unwrap_err(),
            Fault::AnswerLeak,
            "{headers:?} {body}"
        );
    }
}

#[test]
fn a_revealed_number_is_refused_in_every_form_even_where_others_are_masked() {
    let hex: String = PAN.bytes().map(|byte| format!("{byte:02x}")).collect();
    let escaped: String =
        hex.as_bytes().chunks(2).map(|pair| format!("\\u00{}", String::from_utf8_lossy(pair))).collect();
    for text in [
        PAN.to_owned(),
        hex.clone(),
        "NDI0MjQyNDI0MjQyNDI0Mg==".to_owned(),
        "4242_4242_4242_4242".to_owned(),
        escaped,
    ] {
        let body = format!("{{\"n\":\"{text}\"}}");
        assert_eq!(screened(&[JSON], &body, OnLeak::Mask, true).unwrap_err(), Fault::AnswerLeak, "{text}");
    }
    assert_eq!(screened(&[("x-debug", &hex)], "", OnLeak::Mask, true).unwrap_err(), Fault::AnswerLeak);
    let picture = screened(&[("content-type", "image/png")], &hex, OnLeak::Deny, true);
    assert_eq!(picture.unwrap_err(), Fault::AnswerLeak);
}

#[test]
fn an_answer_that_cannot_be_inspected_is_refused() {
    for (headers, body) in [
        (&[JSON, ("content-encoding", "gzip")][..], "x"),
        (&[("content-type", "text/html; charset=utf-16")], "x"),
        (&[JSON], "{\"a\":1,\"a\":2}"),
        (&[JSON], "not json"),
    ] {
        assert_eq!(
            screened(headers, body, OnLeak::Mask, false).unwrap_err(),
            NOT_INSPECTABLE,
            "{headers:?} {body}"
        );
    }
}

#[test]
fn other_numbers_are_masked_where_the_route_says_so() {
    let screened = screened(&[JSON], &format!("{{\"n\":\"{OTHER}\"}}"), OnLeak::Mask, true).unwrap();
    assert!(screened.masked());
    let body = String::from_utf8(screened.body.to_vec()).unwrap();
    assert!(body.contains("4444") && !body.contains("555555555555"), "{body}");
}

#[test]
fn clean_answers_pass_as_they_are() {
    let body = "{\"id\":\"ch_1\",\"card\":\"411111******1111\"}";
    let passed =
        screened(&[JSON, ("x-a", "b"), ("connection", "x-a"), ("etag", "e")], body, OnLeak::Deny, true)
            .unwrap();
    assert!(!passed.masked());
    assert_eq!(passed.body, body.as_bytes());
    let response = passed.respond(false, "req_1");
    assert_eq!(response.headers().get("cordon-request-id").unwrap(), "req_1");
    assert!(response.headers().contains_key("etag") && !response.headers().contains_key("x-a"));
    assert!(screened(&[JSON], "", OnLeak::Deny, true).is_ok());
    assert!(screened(&[("content-type", "image/png")], OTHER, OnLeak::Deny, false).is_ok());
}
