//! Tokens: drawn by the collection's profile, from operating-system randomness alone.
//!
//! Must never take a PAN: the only thing of a card that may enter a token is its length and last four, and
//! those by profile (PCI tokenization guidance). A draw that is no good is repeated a bounded
//! number of times. Tests: at the end of this file.

use std::fmt;

use cordon_card::{CardId, Environment, LastFour, Token, TokenError, TokenShape};
use cordon_wire::{TokenShapeChoice, TokenUse};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::keys::{KeyError, fill_random};

/// The shape and life of a collection's tokens, checked: what contradicts itself cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "cordon_wire::TokenProfile", into = "cordon_wire::TokenProfile")]
pub struct TokenProfile {
    // INVARIANT(profile): `keep_last_four` only with the card shape; `ttl_s` is not zero.
    shape: TokenShape,
    keep_last_four: bool,
    usage: TokenUse,
    ttl_s: Option<u64>,
}

impl TokenProfile {
    /// What the tokens look like.
    #[must_use]
    pub fn shape(&self) -> TokenShape {
        self.shape
    }

    /// Whether tokens of the card shape end as the card does.
    #[must_use]
    pub fn keeps_last_four(&self) -> bool {
        self.keep_last_four
    }

    /// Multi-use or single-use.
    #[must_use]
    pub fn usage(&self) -> TokenUse {
        self.usage
    }

    /// When a token made at `now` expires, both in seconds since 1970; none if it never does.
    #[must_use]
    pub fn expires_at(&self, now: u64) -> Option<u64> {
        self.ttl_s.map(|ttl| now.saturating_add(ttl))
    }

    /// Draws a token. `pan_length` and `last_four` enter it only if the profile says so.
    ///
    /// # Errors
    /// [`MintError::Length`] if no token of the card shape has that length; [`MintError::Exhausted`] if the
    /// draws came to nothing, which healthy randomness does not do; [`MintError::Key`] without
    /// randomness.
    pub fn mint(
        &self,
        environment: Environment,
        pan_length: usize,
        last_four: LastFour,
    ) -> Result<Token, MintError> {
        for _ in 0..DRAWS {
            match self.shape {
                TokenShape::Opaque => return Ok(Token::opaque(environment, &draw()?)),
                TokenShape::Uuid => {
                    if let Some(token) = Token::uuid(&draw()?) {
                        return Ok(token);
                    }
                }
                TokenShape::Card => {
                    let last_four = self.keep_last_four.then_some(last_four);
                    match Token::card(pan_length, last_four, &draw()?) {
                        Ok(token) => return Ok(token),
                        Err(TokenError::EntropyExhausted) => {}
                        Err(_length) => return Err(MintError::Length),
                    }
                }
            }
        }
        Err(MintError::Exhausted)
    }

    /// Refuses a profile whose tokens are too few for the cards it is planned to hold: at most one token in a
    /// thousand may be in use, so that a guess misses 999 times in a thousand and a draw is rarely taken
    /// already.
    ///
    /// # Errors
    /// [`ProfileError::Capacity`], with the arithmetic.
    pub fn check_capacity(&self, expected_cards: u64) -> Result<(), ProfileError> {
        if self.shape != TokenShape::Card {
            // 122 bits of a UUID and 130 of an opaque token hold any number of cards there is.
            return Ok(());
        }
        // The first digit is 0; of the ten values of one other digit, one would be Luhn-valid.
        let free_digits = CAPACITY_LENGTH - 1 - if self.keep_last_four { 4 } else { 0 };
        let tokens = 9 * 10_u64.pow(free_digits - 1);
        let arithmetic = Capacity { free_digits, tokens, cards: tokens / TOKENS_PER_CARD, expected_cards };
        if expected_cards > arithmetic.cards { Err(ProfileError::Capacity(arithmetic)) } else { Ok(()) }
    }
}

impl Default for TokenProfile {
    fn default() -> TokenProfile {
        TokenProfile { shape: TokenShape::Opaque, keep_last_four: false, usage: TokenUse::Multi, ttl_s: None }
    }
}

impl TryFrom<cordon_wire::TokenProfile> for TokenProfile {
    type Error = ProfileError;

    fn try_from(wire: cordon_wire::TokenProfile) -> Result<TokenProfile, ProfileError> {
        let cordon_wire::TokenProfile { shape, keep_last_four, usage, ttl_s } = wire;
        let shape = match shape {
            TokenShapeChoice::Opaque => TokenShape::Opaque,
            TokenShapeChoice::Card => TokenShape::Card,
            TokenShapeChoice::Uuid => TokenShape::Uuid,
        };
        if keep_last_four && shape != TokenShape::Card {
            return Err(ProfileError::LastFour);
        }
        if ttl_s == Some(0) {
            return Err(ProfileError::Ttl);
        }
        Ok(TokenProfile { shape, keep_last_four, usage, ttl_s })
    }
}

impl From<TokenProfile> for cordon_wire::TokenProfile {
    fn from(profile: TokenProfile) -> cordon_wire::TokenProfile {
        let TokenProfile { shape, keep_last_four, usage, ttl_s } = profile;
        let shape = match shape {
            TokenShape::Opaque => TokenShapeChoice::Opaque,
            TokenShape::Card => TokenShapeChoice::Card,
            TokenShape::Uuid => TokenShapeChoice::Uuid,
        };
        cordon_wire::TokenProfile { shape, keep_last_four, usage, ttl_s }
    }
}

/// Draws the id of a new card.
///
/// # Errors
/// [`MintError::Key`] without randomness.
pub fn draw_card_id() -> Result<CardId, MintError> {
    Ok(CardId::from_bytes(draw()?))
}

/// Why a profile is refused. Client's fault, whoever wrote the profile.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// Only tokens of the card shape can end as the card does.
    #[error("keep_last_four needs the card shape")]
    LastFour,
    /// A token cannot expire when it is made.
    #[error("ttl_s must be at least one second")]
    Ttl,
    /// There are too few tokens of this shape.
    #[error("{0}")]
    Capacity(Capacity),
}

/// The arithmetic of a profile that is too small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    free_digits: u32,
    tokens: u64,
    cards: u64,
    expected_cards: u64,
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Capacity { free_digits, tokens, cards, expected_cards } = self;
        write!(
            f,
            "a token of {CAPACITY_LENGTH} digits that starts with 0 has {free_digits} free ones here; 9 in 10 \
             of their values fail the Luhn check, so there are {tokens} tokens, of which 1 in \
             {TOKENS_PER_CARD} may be used: {cards} cards, but {expected_cards} are expected (use opaque \
             tokens, or do not keep the last four)"
        )
    }
}

/// Why no token was drawn.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MintError {
    /// No token of the card shape has the card's length. A bug: every PAN has 12 to 19 digits.
    #[error("no token has this length")]
    Length,
    /// Every draw was rejected. Operator's fault: the randomness is broken.
    #[error("no token could be drawn")]
    Exhausted,
    /// No randomness. Operator's fault.
    #[error("no token could be drawn")]
    Key(#[from] KeyError),
}

fn draw<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut random = [0; N];
    fill_random(&mut random)?;
    Ok(random)
}

/// Draws before giving up. One UUID in a thousand is rejected, and far fewer card shapes: 64 in a row never
/// are.
const DRAWS: usize = 64;
/// The shortest length of a brand in wide use (American Express): a whole collection may have it.
const CAPACITY_LENGTH: u32 = 15;
const TOKENS_PER_CARD: u64 = 1_000;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use cordon_card::{Environment, LastFour, TokenShape};
    use cordon_wire::{TokenShapeChoice, TokenUse};

    use super::{MintError, ProfileError, TokenProfile, draw_card_id};

    fn wire(shape: TokenShapeChoice, keep_last_four: bool) -> cordon_wire::TokenProfile {
        cordon_wire::TokenProfile { shape, keep_last_four, ..cordon_wire::TokenProfile::default() }
    }

    fn profile(shape: TokenShapeChoice, keep_last_four: bool) -> TokenProfile {
        wire(shape, keep_last_four).try_into().unwrap()
    }

    fn four() -> LastFour {
        LastFour::parse("4242").unwrap()
    }

    #[test]
    fn profiles_that_contradict_themselves_are_refused() {
        for shape in [TokenShapeChoice::Opaque, TokenShapeChoice::Uuid] {
            assert_eq!(TokenProfile::try_from(wire(shape, true)).unwrap_err(), ProfileError::LastFour);
        }
        let zero = cordon_wire::TokenProfile { ttl_s: Some(0), ..cordon_wire::TokenProfile::default() };
        assert_eq!(TokenProfile::try_from(zero).unwrap_err(), ProfileError::Ttl);
        for json in [
            r#"{"shape":"opaque","use":"multi","keep_last_four":true}"#,
            r#"{"shape":"opaque","use":"multi","ttl_s":0}"#,
            r#"{"shape":"opaque","use":"multi","other":1}"#,
            r#"{"shape":"fpe","use":"multi"}"#,
            r#"{"shape":"opaque"}"#,
        ] {
            assert!(serde_json::from_str::<TokenProfile>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_card_profile_too_small_for_its_collection_is_refused_with_the_arithmetic() {
        let kept = profile(TokenShapeChoice::Card, true);
        assert!(kept.check_capacity(9_000_000 / 10).is_ok());
        let refused = kept.check_capacity(9_000_001).unwrap_err().to_string();
        for part in ["10 free", "9000000000 tokens", "9000000 cards", "9000001 are expected"] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
        assert!(kept.check_capacity(9_000_000).is_ok());
        assert!(profile(TokenShapeChoice::Card, false).check_capacity(90_000_000_000).is_ok());
        assert!(profile(TokenShapeChoice::Card, false).check_capacity(90_000_000_001).is_err());
        for shape in [TokenShapeChoice::Opaque, TokenShapeChoice::Uuid] {
            assert!(profile(shape, false).check_capacity(u64::MAX).is_ok());
        }
    }

    #[test]
    fn a_length_no_card_has_is_refused() {
        let card = profile(TokenShapeChoice::Card, false);
        for length in [0, 11, 20] {
            assert!(matches!(card.mint(Environment::Dev, length, four()), Err(MintError::Length)));
        }
    }

    #[test]
    fn opaque_tokens_carry_the_environment_and_nothing_of_the_card() {
        let token = profile(TokenShapeChoice::Opaque, false).mint(Environment::Live, 16, four()).unwrap();
        assert_eq!((token.shape(), token.environment()), (TokenShape::Opaque, Some(Environment::Live)));
    }

    #[test]
    fn card_tokens_keep_length_and_on_request_the_last_four() {
        for length in 12..=19 {
            let kept = profile(TokenShapeChoice::Card, true).mint(Environment::Dev, length, four()).unwrap();
            assert_eq!((kept.as_str().len(), kept.shape()), (length, TokenShape::Card));
            assert!(kept.as_str().starts_with('0') && kept.as_str().ends_with("4242"));
        }
        let profile = profile(TokenShapeChoice::Card, false);
        let all_kept =
            (0..20).all(|_| profile.mint(Environment::Dev, 16, four()).unwrap().as_str().ends_with("4242"));
        assert!(!all_kept);
    }

    #[test]
    fn uuid_tokens_are_drawn_until_one_is_good() {
        for _ in 0..2_000 {
            let token = profile(TokenShapeChoice::Uuid, false).mint(Environment::Dev, 16, four()).unwrap();
            assert_eq!(token.shape(), TokenShape::Uuid);
        }
    }

    #[test]
    fn no_token_and_no_card_id_comes_twice() {
        let profile = TokenProfile::default();
        let tokens: HashSet<_> =
            (0..1_000).map(|_| profile.mint(Environment::Dev, 16, four()).unwrap()).collect();
        assert_eq!(tokens.len(), 1_000);
        assert_ne!(draw_card_id().unwrap(), draw_card_id().unwrap());
    }

    #[test]
    fn a_profile_survives_json_and_says_when_a_token_expires() {
        let json = r#"{"shape":"card","keep_last_four":true,"use":"single","ttl_s":60}"#;
        let profile: TokenProfile = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&profile).unwrap(), json);
        assert_eq!(profile.usage(), TokenUse::Single);
        assert!(profile.keeps_last_four());
        assert_eq!(profile.expires_at(100), Some(160));
        assert_eq!(profile.expires_at(u64::MAX), Some(u64::MAX));
        assert_eq!(TokenProfile::default().expires_at(100), None);
    }
}
