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
    let inside = LookInside::Deny;
    let exceptions = Exceptions::default();
    let rules = Rules { on_leak, inside, from_outside: revealed, ..rules(&echoes, &[], &exceptions) };
    screen(decode(answer(headers, body), 1_000_000)?, &rules)
}

fn rules<'r>(echoes: &'r Echoes, declared: &'r [Content], exceptions: &'r Exceptions) -> Rules<'r> {
    let (on_leak, inside, today) = (OnLeak::Deny, LookInside::Deny, Day::at(0));
    Rules { on_leak, inside, echoes, from_outside: false, declared, exceptions, today }
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
    assert_eq!(screened.findings(), [Finding::MASKED_ANSWER]);
    let body = String::from_utf8(screened.body.to_vec()).unwrap();
    assert!(body.contains("4444") && !body.contains("555555555555"), "{body}");
}

#[test]
fn clean_answers_pass_as_they_are() {
    let body = "{\"id\":\"ch_1\",\"card\":\"411111******1111\"}";
    let passed =
        screened(&[JSON, ("x-a", "b"), ("connection", "x-a"), ("etag", "e")], body, OnLeak::Deny, true)
            .unwrap();
    assert_eq!(passed.findings(), []);
    assert_eq!(passed.body, body.as_bytes());
    let response = passed.respond(false, "req_1");
    assert_eq!(response.headers().get("cordon-request-id").unwrap(), "req_1");
    assert!(response.headers().contains_key("etag") && !response.headers().contains_key("x-a"));
    assert!(screened(&[JSON], "", OnLeak::Deny, true).is_ok());
    assert!(screened(&[("content-type", "image/png")], OTHER, OnLeak::Deny, false).is_ok());
}

fn gzipped(text: &str) -> WipedBytes {
    use std::io::Write;
    let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    coder.write_all(text.as_bytes()).unwrap();
    WipedBytes::from(coder.finish().unwrap())
}

#[test]
fn an_encoded_answer_is_decoded_and_passed_on_as_identity() {
    let mut coded = answer(&[JSON, ("content-encoding", "gzip"), ("etag", "e"), ("digest", "d")], "");
    coded.body = gzipped("{\"a\":1}");
    let decoded = decode(coded, 100).unwrap();
    assert_eq!(decoded.body.as_slice(), b"{\"a\":1}");
    assert_eq!(decoded.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["content-type"]);
    let mut large = answer(&[JSON, ("content-encoding", "gzip")], "");
    large.body = gzipped(&"0".repeat(1_000));
    assert_eq!(decode(large, 999).unwrap_err(), Fault::UpstreamRefused("upstream-refused.too-large"));
    let head = decode(answer(&[JSON, ("content-encoding", "gzip")], ""), 100).unwrap();
    assert!(head.headers.contains_key("content-encoding"), "an answer to HEAD has a coding and no body");
}

#[test]
fn a_number_that_an_encoding_hides_is_refused() {
    let hidden = data_encoding::BASE64.encode(OTHER.as_bytes());
    for (headers, body) in [
        (&[JSON][..], format!("{{\"n\":\"{hidden}\"}}")),
        (&[("content-type", "text/html")], hidden.clone()),
        (&[("x-note", hidden.as_str())], String::new()),
    ] {
        assert_eq!(screened(headers, &body, OnLeak::Mask, false).unwrap_err(), Fault::AnswerLeak, "{body}");
    }
}

const XML: (&str, &str) = ("content-type", "text/xml");

fn fields(list: &[(&str, &str, AnswerOp)]) -> (Fields<AnswerOp>, Vec<Content>) {
    let field = |(kind, text, op): &(&str, &str, AnswerOp)| {
        let mut places = cordon_policy::Places::default();
        match *kind {
            "json" => places.json = Some(cordon_policy::JsonSelector::parse(text).unwrap()),
            "xml" => places.xml = Some(cordon_policy::XmlSelector::parse(text).unwrap()),
            "csv" => places.csv = Some((*text).to_owned()),
            "fixed" => places.fixed = Some(cordon_policy::FixedColumns::parse(text).unwrap()),
            _ => places.head = Some(cordon_policy::HeadPlace::Header((*text).to_owned())),
        }
        Field { places, op: *op }
    };
    let list: Vec<_> = list.iter().map(field).collect();
    (Fields::of_answers(&list, &[]), declared_types(&list, &[]))
}

fn token() -> cordon_wire::Tokenized {
    let pan = Pan::parse(PAN).unwrap();
    cordon_wire::Tokenized {
        token: cordon_card::Token::opaque(cordon_card::Environment::Dev, &[7; 17]),
        card_id: cordon_card::CardId::from_bytes([7; 16]),
        brand: pan.brand(),
        last_four: pan.last_four(),
    }
}

/// The answer after its cuts, with as many tokens as it has numbers.
fn cut(mut whole: Answer, list: &[(&str, &str, AnswerOp)]) -> Result<Answer, Fault> {
    let (fields, declared) = fields(list);
    let cuts = cuts(&whole, &fields, &rules(&Echoes::default(), &declared, &Exceptions::default()))?.unwrap();
    let wanted = cuts.request()?.map_or(0, |request| request.items.len());
    let items = (0..wanted).map(|_| cordon_wire::ItemResult::Ok(token())).collect();
    let made = cuts.make(&mut whole, Some(cordon_wire::Items { items }))?;
    assert_eq!(made.len(), wanted);
    Ok(whole)
}

#[test]
fn fields_of_an_answer_are_tokenized_masked_and_dropped_in_place() {
    let keep = cordon_card::Truncation::SixAndFour;
    let list = [
        ("json", "$.pan", AnswerOp::Tokenize),
        ("json", "$.echo", AnswerOp::Mask(keep)),
        ("json", "$.cvc", AnswerOp::Drop),
        ("xml", "//pan", AnswerOp::Tokenize),
        ("csv", "pan", AnswerOp::Drop),
        ("header", "x-card", AnswerOp::Tokenize),
    ];
    let json = format!("{{\"pan\":\"{PAN}\", \"echo\":\"{PAN}\",\"cvc\":123,\"a\":1}}");
    let whole = cut(answer(&[JSON, ("x-card", PAN)], &json), &list).unwrap();
    let tok = token().token;
    let wanted = format!("{{\"pan\":\"{tok}\", \"echo\":\"424242******4242\",\"cvc\":null,\"a\":1}}");
    assert_eq!(String::from_utf8(whole.body.to_vec()).unwrap(), wanted);
    assert_eq!(whole.headers.get("x-card").unwrap().to_str().unwrap(), tok.as_str());
    let whole = cut(answer(&[XML], &format!("<a><pan>{PAN}</pan></a>")), &list).unwrap();
    assert_eq!(String::from_utf8(whole.body.to_vec()).unwrap(), format!("<a><pan>{tok}</pan></a>"));
    let whole = cut(answer(&[("content-type", "text/csv")], &format!("id,pan\n1,{PAN}\n")), &list).unwrap();
    assert_eq!(whole.body.as_slice(), b"id,pan\n1,\n");
}

#[test]
fn what_is_not_as_expected_in_an_answer_is_left_to_the_screen() {
    let list = [("json", "$.pan", AnswerOp::Tokenize)];
    for body in
        ["{\"pan\":\"411111******1111\"}", "{\"pan\":null}", "{\"pan\":{\"a\":[1]}}", "{\"pan\":true}", "{}"]
    {
        let whole = cut(answer(&[JSON], body), &list).unwrap();
        assert_eq!(whole.body.as_slice(), body.as_bytes());
    }
    let unread = cut(answer(&[JSON], "{"), &list).unwrap_err();
    assert_eq!(unread, NOT_INSPECTABLE);
    let narrow = [("fixed", "1-16", AnswerOp::Tokenize)];
    let refused = cut(answer(&[("content-type", "text/plain")], PAN), &narrow).unwrap_err();
    assert_eq!(refused, Fault::UpstreamRefused("upstream-refused.columns-too-narrow"));
}
