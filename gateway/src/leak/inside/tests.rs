//! Tests of looking inside. Card numbers are published test numbers.

use super::*;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use proptest::prelude::*;

const PAN: &str = "4111111111111111";

fn base64(text: &str) -> String {
    data_encoding::BASE64.encode(text.as_bytes())
}

fn found(text: &str) -> bool {
    holds(text.as_bytes(), &[])
}

#[test]
fn a_number_below_each_encoding_is_found() {
    let utf16: Vec<u8> = PAN.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let escaped: String = PAN.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    let referred: String = PAN.bytes().map(|byte| format!("&#{byte};")).collect();
    let long = base64(&format!("{}{PAN}{}", "x".repeat(100), "y".repeat(100)));
    let mail: String =
        long.as_bytes().chunks(76).map(|line| format!("{}\r\n", String::from_utf8_lossy(line))).collect();
    let payload = BASE64URL_NOPAD.encode(format!(r#"{{"sub":"1","pan":"{PAN}"}}"#).as_bytes());
    for (name, text) in [
        ("base64", base64(PAN)),
        ("base64 of a sentence", base64(&format!("my card is {PAN}."))),
        ("base64 of groups", base64("4111 1111 1111 1111")),
        ("base64url", BASE64URL_NOPAD.encode(format!("??>{PAN}>>?").as_bytes())),
        ("glued", format!("abc{}", base64(PAN))),
        ("a path", format!("/a/b/{}", base64(PAN))),
        ("a data URL", format!("data:text/plain;base64,{}", base64(PAN))),
        ("in lines", mail.clone()),
        ("in lines of a JSON string", mail.replace("\r\n", "\\r\\n")),
        ("a JWT", format!("eyJhbGciOiJub25lIn0.{payload}.x")),
        ("hexadecimal", HEXLOWER.encode(PAN.as_bytes())),
        ("upper hexadecimal", format!("0x{}", HEXUPPER.encode(PAN.as_bytes()))),
        ("odd hexadecimal", format!("a{}", HEXLOWER.encode(PAN.as_bytes()))),
        ("UTF-16 in base64", data_encoding::BASE64.encode(&utf16)),
        ("UTF-7", format!("+{}-", data_encoding::BASE64_NOPAD.encode(&utf16))),
        ("escapes", escaped.clone()),
        ("references", referred),
        ("a hexadecimal reference", PAN.replacen("4", "&#x34;", 1)),
        ("escapes below percent", "%5Cu0034111111111111111".to_owned()),
        ("base64 below percent", base64("??>4111111111111111").replace('/', "%2F").replace('=', "%253D")),
        ("percent in base64", base64("%34111111111111111")),
        ("an exponent", "x 4.111111111111111E+15 y".to_owned()),
        ("twice base64", base64(&base64(PAN))),
        ("hexadecimal in base64", base64(&HEXLOWER.encode(PAN.as_bytes()))),
        ("base64 in hexadecimal", HEXLOWER.encode(base64(PAN).as_bytes())),
        ("escapes in base64", base64(&escaped)),
        ("an exponent in base64", base64("{\"a\":4.111111111111111e15}")),
        ("full width in base64", base64("\u{ff14}111111111111111")),
    ] {
        assert!(found(&text), "{name}: {text}");
    }
    assert!(!found(&base64(&base64(&base64(PAN)))), "three levels are one more than is promised");
}

#[test]
fn other_texts_are_left_alone() {
    for text in [
        "",
        "hello",
        PAN,
        "550e8400-e29b-41d4-a716-446655440000",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "tok_d_aaaaaaaaaaaaaaaaaaaaaaaaaa22",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        "202611262026112620261126202611262026112620261126",
        "1e5 and 4e and e15 and 1.5e300",
        "\\u00e9t\\u00e9 &#233; &#; &#x; &#99999999999; \\uZZZZ \\u",
    ] {
        assert!(!found(text), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_run_is_passed_over(bytes in prop::collection::vec(prop_oneof![9 => Just(b'a'), 1 => any::<u8>()], 0..99)) {
        let slow = (0..bytes.len()).find(|at| {
            bytes.get(*at..at + SHORTEST_RUN).is_some_and(|window| window.iter().all(|byte| is_coded(*byte)))
        });
        prop_assert_eq!(next_run(&bytes), slow);
    }

    #[test]
    fn random_blobs_are_no_card_numbers(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(!found(&data_encoding::BASE64.encode(&bytes)));
        prop_assert!(!found(&HEXLOWER.encode(&bytes)));
    }

    #[test]
    fn a_number_is_found_wherever_it_stands_in_what_is_coded(before in "[a-z ]{0,40}", after in "[a-z ]{0,40}") {
        let text = format!("{before} {PAN} {after}");
        prop_assert!(found(&base64(&text)));
        prop_assert!(found(&HEXLOWER.encode(text.as_bytes())));
        prop_assert!(found(&BASE64URL_NOPAD.encode(base64(&text).as_bytes())));
    }

    #[test]
    fn any_bytes_are_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _found = holds(&bytes, &[]);
    }
}
