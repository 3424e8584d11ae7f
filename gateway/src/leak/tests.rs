//! Tests of the leak scan. Card numbers are published test numbers.

use super::echo::Echoes;
use super::*;
use cordon_card::Pan;
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use http::HeaderValue;
use proptest::prelude::*;

const PAN: &str = "4111111111111111";

fn looked(bytes: &[u8], rule: LookInside) -> (Option<Place>, bool) {
    let mut search = Search::new(rule);
    search.look(Place::Body, bytes);
    (search.found(), search.reports())
}

#[test]
fn every_layer_of_bytes_is_looked_at() {
    let utf16: Vec<u8> = PAN.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for bytes in [&b"4111-1111-1111-1111"[..], b"%34111111111111111", b"%252534111111111111111", &utf16] {
        assert_eq!(looked(bytes, LookInside::Off), (Some(Place::Body), false));
    }
    assert_eq!(looked(b"a=b+c%20d", LookInside::Deny), (None, false));
}

#[test]
fn what_an_encoding_hides_is_denied_reported_or_not_looked_at() {
    let hidden = BASE64.encode(PAN.as_bytes());
    assert_eq!(looked(hidden.as_bytes(), LookInside::Deny), (Some(Place::Inside), false));
    assert_eq!(looked(hidden.as_bytes(), LookInside::Report), (None, true));
    assert_eq!(looked(hidden.as_bytes(), LookInside::Off), (None, false));
    let mut search = Search::new(LookInside::Report);
    search.look(Place::Header, hidden.as_bytes());
    search.look(Place::Body, PAN.as_bytes());
    assert_eq!(search.found(), Some(Place::Body), "a report does not end the search");
}

#[test]
fn a_plus_in_a_url_may_be_a_space() {
    let mut search = Search::new(LookInside::Deny);
    search.look_at_url(Place::Query, b"?pan=4111+1111+1111+1111", &[]);
    assert_eq!(search.found(), Some(Place::Query));
    let mut search = Search::new(LookInside::Deny);
    search.look_at_url(Place::Query, b"?pan=4111+1111+1111+1111&a", std::slice::from_ref(&(5..24)));
    assert_eq!(search.found(), None);
}

#[test]
fn a_card_number_in_a_header_or_as_the_name_of_one_is_found() {
    for (name, value) in [("x-note", PAN), ("x-note", "a=%34111111111111111"), ("x-4111111111111111", "1")] {
        let name: http::HeaderName = name.parse().unwrap();
        let mut search = Search::new(LookInside::Deny);
        search.look_at_headers(&HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())]), &[]);
        assert_eq!(search.found(), Some(Place::Header));
    }
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

fn masked(format: &Format, body: &str) -> Result<String, Unmaskable> {
    let exceptions = &Exceptions::default();
    let sight = Sight { inside: LookInside::Deny, exceptions, today: Day::at(0), cleared: &[] };
    mask(format, body.as_bytes(), sight).map(|clean| String::from_utf8(clean.into_inner().to_vec()).unwrap())
}

#[test]
fn what_cannot_be_masked_is_refused() {
    for body in [
        r#"{"4111111111111111":"key"}"#,
        r#"{"\u0034111111111111111":"escaped key"}"#,
        r#"{"n":4111111111111111}"#,
        r#"{"n":4.111111111111111e15}"#,
        r#"{"n":"%34111111111111111"}"#,
        r#"{"n":"NDExMTExMTExMTExMTExMQ=="}"#,
        "not json",
    ] {
        assert_eq!(masked(&Format::Json, body), Err(Unmaskable), "{body}");
    }
    assert_eq!(masked(&Format::Form, "4111111111111111=key"), Err(Unmaskable));
}

#[test]
fn values_are_masked_and_all_else_stays() {
    let json = masked(
        &Format::Json,
        r#"{ "a" : "my card 4111 1111 1111 1111 ok","b":["\u0034111111111111111"],"c":1}"#,
    );
    let json = json.unwrap();
    assert!(json.starts_with(r#"{ "a" : "my card "#) && json.ends_with(r#""],"c":1}"#), "{json}");
    assert!(json.contains("1111 ok") && !json.contains("111111111111"), "{json}");
    let form = masked(&Format::Form, "a=%34111111111111111&b=1+2").unwrap();
    assert!(form.starts_with("a=") && form.ends_with("&b=1+2") && !form.contains("11111111111"), "{form}");
    assert_eq!(masked(&Format::Form, "a=1+2&b").unwrap(), "a=1+2&b");
    for (format, body, wanted) in [
        (Format::Xml, "<a b='x 4111111111111111'>4111 1111 1111 1111<c/></a>", None),
        (
            Format::Xml,
            "<a b='x 4111111111111111'><c>&#52;111111111111111</c></a>",
            Some("<a b='x ************1111'><c>************1111</c></a>"),
        ),
        (Format::Csv, "a,b\n\"4111111111111111\",1\n", Some("a,b\n************1111,1\n")),
        (Format::Text, "4111111111111111 x", Some("************1111 x")),
        (Format::Fixed, "AB4111111111111111", Some("AB************1111")),
        (Format::Ndjson, "{\"a\":\"4111111111111111\"}\n{}", Some("{\"a\":\"************1111\"}\n{}")),
    ] {
        assert_eq!(masked(&format, body).ok().as_deref(), wanted, "{body}");
    }
}

#[test]
fn a_whole_card_number_keeps_what_its_brand_allows() {
    let kept = |text: &str, keep| masked_text(text, keep).map(|text| text.to_string());
    assert_eq!(kept(PAN, Truncation::SixAndFour).unwrap(), "411111******1111");
    assert_eq!(kept("4111 1111-1111 1111", Truncation::EightAndFour).unwrap(), "41111111****1111");
    assert_eq!(kept("378282246310005", Truncation::EightAndFour).unwrap(), "378282*****0005");
    assert_eq!(kept("it is 4111111111111111", Truncation::SixAndFour).unwrap(), "it is ************1111");
    assert_eq!(kept("nothing", Truncation::SixAndFour), None);
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

/// Published numbers, each written in some way.
const NUMBERS: [&str; 4] =
    ["4111 1111 1111 1111", "5555-5555-5555-4444", "4242424242424242", "378282246310005"];

proptest! {
    #[test]
    fn what_is_masked_holds_the_cleared_numbers_and_no_other(
        values in proptest::collection::vec(proptest::collection::vec(0_usize..8, 0..5), 1..5),
        cleared in proptest::collection::vec(any::<bool>(), 4),
    ) {
        let word = |choice: &usize| NUMBERS.get(*choice).copied().unwrap_or("\u{e9}x");
        let values: Vec<String> =
            values.iter().map(|value| value.iter().map(word).collect::<Vec<_>>().join(", ")).collect();
        let body = serde_json::to_vec(&values).unwrap();
        let pans: Vec<Pan> = NUMBERS
            .iter()
            .zip(&cleared)
            .filter(|(_, cleared)| **cleared)
            .map(|(number, _)| Pan::parse(number).unwrap())
            .collect();
        let exceptions = &Exceptions::default();
        let sight = Sight { inside: LookInside::Deny, exceptions, today: Day::at(0), cleared: &pans };
        let masked = mask(&Format::Json, &body, sight).unwrap().into_inner();
        let read: Vec<String> = serde_json::from_slice(&masked).unwrap();
        for (number, cleared) in NUMBERS.iter().zip(&cleared) {
            let count = |texts: &[String]| texts.iter().map(|text| text.matches(number).count()).sum::<usize>();
            prop_assert_eq!(count(&read), if *cleared { count(&values) } else { 0 });
        }
    }
}
