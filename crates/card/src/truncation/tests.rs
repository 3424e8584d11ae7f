//! Tests of truncation. They must show that no text and no choice reveals more than PCI SSC FAQ 1091 allows.

use proptest::prelude::*;

use super::{LastFour, Truncated, Truncation};
use crate::{Pan, plausible};

fn truncated(number: &str, keep: Truncation) -> String {
    Pan::parse(number).unwrap().truncated(keep).to_string()
}

#[test]
fn eight_and_four_is_refused_where_the_brand_or_the_length_forbids_it() {
    assert_eq!(truncated("5066991111111118", Truncation::EightAndFour), "506699******1118");
    assert_eq!(truncated("1000000000000008", Truncation::EightAndFour), "100000******0008");
    assert_eq!(truncated("378282246310005", Truncation::EightAndFour), "378282*****0005");
    assert_eq!(truncated("6205500000000000004", Truncation::EightAndFour), "620550*********0004");
    assert_eq!(truncated("4222222222222", Truncation::EightAndFour), "*********2222");
}

#[test]
fn six_and_four_is_refused_below_fourteen_digits() {
    assert_eq!(truncated("4222222222222", Truncation::SixAndFour), "*********2222");
    assert_eq!(truncated("30569309025904", Truncation::SixAndFour), "305693****5904");
}

#[test]
fn what_is_allowed_is_kept() {
    assert_eq!(truncated("4111111111111111", Truncation::LastFour), "************1111");
    assert_eq!(truncated("4111111111111111", Truncation::SixAndFour), "411111******1111");
    assert_eq!(truncated("4111111111111111", Truncation::EightAndFour), "41111111****1111");
    assert_eq!(truncated("5555555555554444", Truncation::EightAndFour), "55555555****4444");
    assert_eq!(Truncation::default(), Truncation::LastFour);
}

#[test]
fn texts_that_show_too_much_are_refused() {
    for text in [
        "",
        "4111111111111111",
        "411111111111*1111",
        "411111***1111",
        "41111111****11111",
        "41111111*****1111",
        "4***********1111",
        "************111*",
        "****1111",
        "****************1111",
        "411111**1***1111",
        "************ 111",
        "\u{661}***********1111",
    ] {
        assert!(Truncated::parse(text).is_err(), "{text}");
    }
}

#[test]
fn the_last_four_stand_alone() {
    let last_four = LastFour::parse("0042").unwrap();
    assert_eq!(Truncated::from_last_four(15, last_four).unwrap().as_str(), "***********0042");
    assert!(Truncated::from_last_four(11, last_four).is_none());
    assert!(Truncated::from_last_four(20, last_four).is_none());
    for text in ["", "123", "12345", "12a4", "\u{661}\u{662}"] {
        assert!(LastFour::parse(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn whatever_is_read_is_written_back_and_is_no_number(text in "[0-9*]{0,20}") {
        if let Ok(truncated) = Truncated::parse(&text) {
            prop_assert_eq!(truncated.as_str(), text.as_str());
            prop_assert!(plausible(text.as_bytes()).is_none());
            prop_assert!(text.bytes().filter(|byte| *byte == b'*').count() >= 4);
            let json = serde_json::to_string(&truncated).unwrap();
            prop_assert_eq!(serde_json::from_str::<Truncated>(&json).unwrap(), truncated);
        }
    }
}
