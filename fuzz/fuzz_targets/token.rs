//! Reading tokens, ids and names from any text: no panic, one spelling each, and no token looks like a card.
#![no_main]

use cordon_card::{CardId, CollectionName, Environment, Expiry, ExpiryStyle, LastFour, Token, TokenShape};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((entropy, rest)) = data.split_first_chunk::<32>() {
        let length = usize::from(rest.first().copied().unwrap_or_default()) % 24;
        let keep = rest.get(1..5).and_then(|keep| std::str::from_utf8(keep).ok()?.parse::<LastFour>().ok());
        if let Ok(token) = Token::card(length, keep, entropy) {
            check(token.as_str());
        }
    }
    if let Some((entropy, _)) = data.split_first_chunk::<17>() {
        check(Token::opaque(Environment::Live, entropy).as_str());
    }
    if let Some((entropy, _)) = data.split_first_chunk::<16>() {
        if let Some(token) = Token::uuid(entropy) {
            check(token.as_str());
        }
        let id = CardId::from_bytes(*entropy);
        assert!(CardId::parse(&id.to_string()) == Ok(id));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if Token::parse(text).is_ok() {
        check(text);
    }
    if let Ok(id) = CardId::parse(text) {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(name) = CollectionName::parse(text) {
        assert_eq!(name.as_str(), text);
    }
    if let Ok(expiry) = Expiry::parse(text) {
        assert!(Expiry::parse(&expiry.text(ExpiryStyle::Iso)) == Ok(expiry));
    }
});

fn check(text: &str) {
    let token = Token::parse(text).expect("what was drawn or read once is read again");
    assert_eq!(token.as_str(), text);
    assert_eq!(Token::recognise(text), token.shape() == TokenShape::Opaque);
    assert_eq!(token.environment().is_some(), token.shape() == TokenShape::Opaque);
    assert!(cordon_scan::first(text.as_bytes()).is_none());
}
