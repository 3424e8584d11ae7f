//! Holds the harness itself: a search that finds nothing proves nothing until it has found what was planted.

use cordon_tests::{cards, search};

#[test]
fn every_encoding_is_found_when_planted() {
    for (name, form) in search::encodings(cards::VISA) {
        let mut bytes = b"some bytes before ".to_vec();
        bytes.extend_from_slice(&form);
        bytes.extend_from_slice(b" and after");
        assert!(search::find(cards::VISA, &bytes).is_some(), "{name}");
    }
    assert!(search::encodings(cards::VISA).len() >= 6);
}

#[test]
fn base64_is_found_at_every_alignment() {
    for lead in 0..6 {
        let text = format!("{}{}tail", "x".repeat(lead), cards::VISA);
        let encoded = data_encoding::BASE64.encode(text.as_bytes());
        assert!(search::find(cards::VISA, encoded.as_bytes()).is_some(), "lead {lead}");
    }
}

#[test]
fn a_planted_file_is_found_and_others_are_not() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("deep")).unwrap();
    std::fs::write(dir.path().join("deep/planted"), cards::AMEX).unwrap();
    assert_eq!(search::find_in_files(cards::AMEX, dir.path()).len(), 1);
    assert_eq!(search::find_in_files(cards::MASTERCARD, dir.path()).len(), 0);
}

#[test]
fn bulk_numbers_are_distinct_cards_of_no_brand() {
    let (first, second) = (cards::bulk(0).unwrap(), cards::bulk(1).unwrap());
    assert_ne!(first.expose(), second.expose());
    assert!(cordon_card::plausible(first.expose().as_bytes()).is_none());
    assert_eq!(cards::bulk(99_999_999_999_999).unwrap().expose().len(), 16);
}
