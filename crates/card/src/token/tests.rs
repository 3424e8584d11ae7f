//! Tests of the three token shapes.

use std::collections::HashSet;

use proptest::prelude::*;

use super::{Token, TokenError, TokenShape};
use crate::{Environment, LastFour, luhn_is_valid};

fn environments() -> impl Strategy<Value = Environment> {
    prop::sample::select(&Environment::ALL[..])
}

#[test]
fn other_texts_are_refused() {
    for text in [
        "",
        "tok_",
        "tok_live_",
        "tok_prod_aaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "tok_live_aaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "TOK_LIVE_aaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "4111111111111111",
        "00000000000",
        "00000000000000000001",
        "0000000000000000",
        "01234567890\u{661}",
        "6f9619ff-8b86-1011-b42d-00c04fc964ff",
        "6F9619FF-8B86-4011-B42D-00C04FC964FF",
        "6f9619ff8b864011b42d00c04fc964ff",
        "6f9619ff-8b86-4011-742d-00c04fc964ff",
        "{6f9619ff-8b86-4011-b42d-00c04fc964ff}",
    ] {
        assert_eq!(Token::parse(text), Err(TokenError::Form), "{text}");
        assert!(!Token::recognise(text));
    }
}

#[test]
fn a_cut_or_changed_token_is_told_from_a_whole_one() {
    let token = Token::opaque(Environment::Live, &[7; 17]);
    let cut = token.as_str().strip_suffix(char::is_alphanumeric).unwrap();
    assert_eq!(Token::parse(cut), Err(TokenError::Form));
    assert_eq!(Token::parse("tok_test_aaaaaaaaaaaaaaaaaaaaaaaaaaaa"), Err(TokenError::Checksum));
}

#[test]
fn a_token_of_one_environment_does_not_pass_for_another() {
    let token = Token::opaque(Environment::Test, &[3; 17]);
    assert_eq!(token.environment(), Some(Environment::Test));
    assert_eq!(Token::parse(&token.as_str().replace("test", "live")), Err(TokenError::Checksum));
}

#[test]
fn the_text_form_is_fixed() {
    let token = Token::opaque(Environment::Dev, &[0; 17]);
    assert_eq!(token.as_str().len(), 36);
    assert!(token.as_str().starts_with("tok_dev_aaaaaaaaaaaaaaaaaaaaaaaaaa"));
    let uuid = Token::uuid(&[0xab; 16]).unwrap();
    assert_eq!(uuid.as_str(), "abababab-abab-4bab-abab-abababababab");
    assert_eq!(uuid.shape(), TokenShape::Uuid);
    assert_eq!(uuid.environment(), None);
}

#[test]
fn a_card_shape_of_impossible_length_is_refused() {
    assert_eq!(Token::card(11, None, &[0; 32]), Err(TokenError::Length));
    assert_eq!(Token::card(20, None, &[0; 32]), Err(TokenError::Length));
}

#[test]
fn biased_entropy_is_exhausted_and_not_used() {
    assert_eq!(Token::card(16, None, &[250; 32]), Err(TokenError::EntropyExhausted));
    // All zeros is Luhn-valid at each try.
    assert_eq!(Token::card(16, None, &[0; 32]), Err(TokenError::EntropyExhausted));
}

#[test]
fn a_uuid_that_looks_like_a_card_is_not_drawn_and_not_read() {
    // 41111111-1111-4... needs digits only: 4111 1111 1111 4111 1111 is found by any window rule.
    let entropy =
        [0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x82, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42];
    assert!(Token::uuid(&entropy).is_none());
    assert_eq!(Token::parse("42424242-4242-4242-8242-424242424242"), Err(TokenError::Form));
}

#[test]
fn card_shapes_are_uniform_over_what_is_allowed() {
    // A fixed generator (xorshift) keeps the test repeatable; 20,000 draws of length 12 with the last four kept.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut counts = [[0_u32; 10]; 12];
    let last_four = LastFour::parse("4242").unwrap();
    let draws = 20_000;
    for _ in 0..draws {
        let mut entropy = [0; 32];
        for chunk in entropy.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            chunk.copy_from_slice(&state.to_be_bytes());
        }
        let token = Token::card(12, Some(last_four), &entropy).unwrap();
        for (place, digit) in token.as_str().bytes().enumerate() {
            counts[place][usize::from(digit - b'0')] += 1;
        }
    }
    assert_eq!(counts[0][0], draws);
    for place in &counts[1..8] {
        // Chi-square with nine degrees of freedom: 33.7 is the 0.0001 quantile.
        let wanted = f64::from(draws) / 10.0;
        let square: f64 = place.iter().map(|count| (f64::from(*count) - wanted).powi(2) / wanted).sum();
        assert!(square < 33.7, "{place:?}");
    }
}

proptest! {
    #[test]
    fn opaque_tokens_survive_a_round_trip(environment in environments(), entropy: [u8; 17]) {
        let token = Token::opaque(environment, &entropy);
        prop_assert_eq!(Token::parse(token.as_str()), Ok(token.clone()));
        prop_assert!(Token::recognise(token.as_str()));
        prop_assert_eq!(token.environment(), Some(environment));
        let json = serde_json::to_string(&token).unwrap();
        prop_assert_eq!(serde_json::from_str::<Token>(&json).unwrap(), token);
    }

    #[test]
    fn any_change_of_one_character_is_noticed(
        environment in environments(), entropy: [u8; 17], place in 0_usize..36, replacement in "[ -~]"
    ) {
        let token = Token::opaque(environment, &entropy);
        let mut changed = token.as_str().to_owned();
        changed.replace_range(place..=place, &replacement);
        if changed != token.as_str() {
            prop_assert!(Token::parse(&changed).is_err());
        }
    }

    #[test]
    fn different_entropy_gives_different_tokens(entropies: [[u8; 17]; 8]) {
        let bodies: HashSet<Vec<u8>> = entropies
            .iter()
            .map(|entropy| entropy[..16].iter().copied().chain([entropy[16] >> 6]).collect())
            .collect();
        let tokens: HashSet<Token> =
            entropies.iter().map(|entropy| Token::opaque(Environment::Live, entropy)).collect();
        prop_assert_eq!(tokens.len(), bodies.len());
    }

    #[test]
    fn card_shapes_never_pass_for_a_card(
        length in 12_usize..=19, keep in prop::option::of("[0-9]{4}"), entropy: [u8; 32]
    ) {
        let last_four = keep.as_deref().map(|text| LastFour::parse(text).unwrap());
        if let Ok(token) = Token::card(length, last_four, &entropy) {
            let text = token.as_str();
            prop_assert_eq!(text.len(), length);
            prop_assert!(text.starts_with('0') && text.ends_with(keep.as_deref().unwrap_or("")));
            prop_assert!(!luhn_is_valid(text.as_bytes()));
            prop_assert_eq!(Token::parse(text), Ok(token.clone()));
        }
    }

    #[test]
    fn uuid_tokens_survive_a_round_trip(entropy: [u8; 16]) {
        if let Some(token) = Token::uuid(&entropy) {
            prop_assert_eq!(Token::parse(token.as_str()), Ok(token.clone()));
        }
    }

    #[test]
    fn whatever_is_read_is_kept_as_it_was(text in "(tok_(dev|test|live)_)?[a-z0-9-]{0,40}") {
        if let Ok(token) = Token::parse(&text) {
            prop_assert_eq!(token.as_str(), text);
        }
    }
}
