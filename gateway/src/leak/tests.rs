//! Tests of the leak scan. Card numbers are published test numbers.

use super::echo::Echoes;
use super::*;
use cordon_card::Pan;
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use http::HeaderValue;

const PAN: &str = "4111111111111111";

fn headers(value: &str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("x-note"), HeaderValue::from_str(value).unwrap())])
}

#[test]
fn a_card_number_in_the_head_is_found_in_every_layer() {
    for (path, query, value, place) in [
        ("/orders/4111111111111111", None, "x", Place::Path),
        ("/orders/%34111111111111111", None, "x", Place::Path),
        ("/o", Some("pan=4111111111111111"), "x", Place::Query),
        ("/o", Some("pan=4111+1111+1111+1111"), "x", Place::Query),
        ("/o", Some("pan=%34%31%31%31111111111111"), "x", Place::Query),
        ("/o", Some("pan=%2534111111111111111"), "x", Place::Query),
        ("/o", None, "4111-1111-1111-1111", Place::Header),
        ("/o", None, "a=%34111111111111111", Place::Header),
    ] {
        assert_eq!(in_head(path, query, &headers(value)), Some(place), "{path} {query:?} {value}");
    }
    assert_eq!(in_head("/orders/7", Some("a=b+c%20d"), &headers("token")), None);
}

#[test]
fn a_card_number_as_the_name_of_a_header_is_found() {
    let name: http::HeaderName = format!("x-{PAN}").parse().unwrap();
    assert!(in_headers(&HeaderMap::from_iter([(name, HeaderValue::from_static("1"))])));
}

#[test]
fn a_card_number_outside_the_declared_spans_is_found() {
    let body = br#"{"pan":"4111111111111111","note":"4111 1111 1111 1111"}"#;
    assert!(stands_outside(body, std::slice::from_ref(&(7..25))));
    assert!(stands_outside(body, &[]));
    assert!(!stands_outside(br#"{"pan":"4111111111111111","note":"none"}"#, std::slice::from_ref(&(7..25))));
    assert!(outside(WipedBytes::from(body.to_vec()), std::slice::from_ref(&(7..25))).is_err());
}

#[test]
fn spans_that_do_not_fit_count_as_a_finding() {
    assert!(stands_outside(b"abc", std::slice::from_ref(&(2..9))));
    assert!(stands_outside(b"abc", &[2..3, 0..1]));
}

fn masked(content: Content, body: &str) -> Result<String, Unmaskable> {
    mask(content, body.as_bytes()).map(|clean| String::from_utf8(clean.into_inner().to_vec()).unwrap())
}

#[test]
fn what_cannot_be_masked_is_refused() {
    for body in [
        r#"{"4111111111111111":"key"}"#,
        r#"{"\u0034111111111111111":"escaped key"}"#,
        r#"{"n":4111111111111111}"#,
        r#"{"n":4.111111111111111e15}"#,
        "not json",
    ] {
        assert_eq!(masked(Content::Json, body), Err(Unmaskable), "{body}");
    }
    assert_eq!(masked(Content::Form, "4111111111111111=key"), Err(Unmaskable));
}

#[test]
fn values_are_masked_and_all_else_stays() {
    let json = masked(
        Content::Json,
        r#"{ "a" : "my card 4111 1111 1111 1111 ok","b":["\u0034111111111111111"],"c":1}"#,
    );
    let json = json.unwrap();
    assert!(json.starts_with(r#"{ "a" : "my card "#) && json.ends_with(r#""],"c":1}"#), "{json}");
    assert!(json.contains("1111 ok") && !json.contains("111111111111"), "{json}");
    let form = masked(Content::Form, "a=%34111111111111111&b=1+2").unwrap();
    assert!(form.starts_with("a=") && form.ends_with("&b=1+2") && !form.contains("11111111111"), "{form}");
    assert_eq!(masked(Content::Form, "a=1+2&b").unwrap(), "a=1+2&b");
}

#[test]
fn a_revealed_number_is_recognised_in_every_form() {
    let mut revealed = Echoes::default();
    revealed.add(&Pan::parse(PAN).unwrap());
    let base64 = |prefix: &str, suffix: &str| BASE64.encode(format!("{prefix}{PAN}{suffix}").as_bytes());
    for form in [
        PAN.to_owned(),
        format!("x{PAN}9"),
        "4111 1111-1111.1111".to_owned(),
        "4\u{a0}111\u{200b}1111\u{2009}1111 1111".to_owned(),
        "4_1_1_1_1_1_1_1_1_1_1_1_1_1_1_1".to_owned(),
        HEXLOWER.encode(PAN.as_bytes()),
        HEXLOWER.encode(format!("n={PAN}").as_bytes()),
        PAN.bytes().map(|byte| format!("%{byte:02X}")).collect(),
        base64("", ""),
        base64("a", "b"),
        base64("ab", "cd"),
        base64("{\"n\":\"", "\"}"),
        BASE64URL_NOPAD.encode(format!("??{PAN}>>").as_bytes()),
    ] {
        assert!(revealed.stands_in(format!("<{form}>").as_bytes()), "{form}");
    }
}

#[test]
fn other_answers_are_not_mistaken_for_it() {
    let mut revealed = Echoes::default();
    for answer in ["", PAN] {
        assert!(!revealed.stands_in(answer.as_bytes()));
    }
    revealed.add(&Pan::parse(PAN).unwrap());
    for answer in [
        "",
        "411111******1111",
        "XXXX-XXXX-XXXX-1111",
        r#"{"first6":"411111","last4":"1111","amount":1111111111}"#,
        "5555555555554444",
        "4111111111111",
        "NDExMTEx",
    ] {
        assert!(!revealed.stands_in(answer.as_bytes()), "{answer}");
    }
    assert_eq!(format!("{revealed:?}"), "Echoes(6 forms)");
}
