//! Reading a card number from any text: no panic, and what is accepted is a checked number that reads back alike.
#![no_main]

use cordon_card::{MAX_LENGTH, MIN_LENGTH, Pan, Truncation, luhn_is_valid, plausible};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(pan) = Pan::from_ascii_digits(data) {
        assert_eq!(pan.expose().as_bytes(), data);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(pan) = Pan::parse(text) else { return };
    let digits = pan.expose();
    assert!((MIN_LENGTH..=MAX_LENGTH).contains(&pan.len()) && digits.len() == pan.len());
    assert!(luhn_is_valid(digits.as_bytes()));
    assert!(Pan::parse(digits).is_ok_and(|again| again.expose() == digits));
    assert!(Pan::from_ascii_digits(digits.as_bytes()).is_ok_and(|again| again.brand() == pan.brand()));
    for keep in [Truncation::LastFour, Truncation::SixAndFour, Truncation::EightAndFour] {
        let truncated = pan.truncated(keep);
        assert!(truncated.as_str().parse() == Ok(truncated.clone()));
        assert!(truncated.as_str().bytes().filter(|byte| *byte == b'*').count() >= 4);
    }
    // What a scanner would take for a card is found when it stands alone.
    assert_eq!(plausible(digits.as_bytes()).is_some(), cordon_scan::first(digits.as_bytes()).is_some());
});
