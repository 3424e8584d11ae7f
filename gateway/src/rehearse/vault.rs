//! What a vault would answer, for the cards of one case.
//!
//! Must never be asked by anything that serves. Tests: `rehearse/tests.rs`.

use super::case::CardText;
use cordon_card::{CardId, Cvv, Environment, Expiry, ExpiryStyle, Pan, Token};
use cordon_wire::{
    DetokenizeItem, ItemResult, Items, ProblemCode, Revealed, Submitted, TokenizeItem, TokenizeRequest,
    Tokenized,
};

/// Cards and their tokens, in the order in which they came up.
#[derive(Debug, Default)]
pub(super) struct Vault {
    cards: Vec<Card>,
    /// What it was given, as a case would say it.
    pub(super) given: Vec<CardText>,
}

#[derive(Debug)]
struct Card {
    pan: Pan,
    expiry: Option<Expiry>,
    code: Option<Cvv>,
    token: Token,
}

impl Vault {
    /// One with these cards.
    pub(super) fn with(cards: &[CardText]) -> Result<Self, String> {
        let mut vault = Self::default();
        for CardText { number, expiry, code } in cards {
            let pan = Pan::parse(number).map_err(|error| format!("a card of the case: {error}"))?;
            let expiry = expiry.as_deref().map(Expiry::parse).transpose();
            let code = code.as_deref().map(Cvv::parse).transpose();
            let token = vault.next_token();
            vault.cards.push(Card {
                pan,
                expiry: expiry.map_err(|error| format!("an expiry of the case: {error}"))?,
                code: code.map_err(|error| format!("a security code of the case: {error}"))?,
                token,
            });
        }
        Ok(vault)
    }

    fn next_token(&self) -> Token {
        let entropy = [u8::try_from(self.cards.len() % 251).unwrap_or_default(); 17];
        Token::opaque(ENVIRONMENT, &entropy)
    }

    /// The text with tokens in the place of their names.
    pub(super) fn named(&self, text: &str) -> String {
        let names = self.cards.iter().enumerate();
        names.fold(text.to_owned(), |text, (index, card)| {
            text.replace(&format!("{{token:{}}}", index.saturating_add(1)), card.token.as_str())
        })
    }

    /// The text with names in the place of tokens.
    pub(super) fn unnamed(&self, text: &str) -> String {
        let names = self.cards.iter().enumerate();
        names.fold(text.to_owned(), |text, (index, card)| {
            text.replace(card.token.as_str(), &format!("{{token:{}}}", index.saturating_add(1)))
        })
    }

    /// A token for each card.
    pub(super) fn tokenize(&mut self, request: &TokenizeRequest) -> Items<Tokenized> {
        let items = request.items.iter().map(|TokenizeItem { pan, expiry, cvv, .. }| {
            let Submitted::Valid(pan) = pan else { return ItemResult::Error(ProblemCode::BadPan.into()) };
            let known = self
                .cards
                .iter()
                .find(|card| card.pan.expose() == pan.expose())
                .map(|card| card.token.clone());
            let token = known.unwrap_or_else(|| {
                let token = self.next_token();
                self.cards.push(Card {
                    pan: pan.duplicate(),
                    expiry: None,
                    code: None,
                    token: token.clone(),
                });
                token
            });
            self.given.push(CardText {
                number: pan.expose().to_owned(),
                expiry: valid(expiry.as_ref()).map(|expiry| expiry.text(ExpiryStyle::MonthYear)),
                code: valid(cvv.as_ref()).map(|code| code.expose().to_owned()),
            });
            let (card_id, brand) = (CardId::from_bytes([0; 16]), pan.brand());
            ItemResult::Ok(Tokenized { token, card_id, brand, last_four: pan.last_four() })
        });
        Items { items: items.collect() }
    }

    /// The card of each token.
    pub(super) fn detokenize(&self, items: &[DetokenizeItem]) -> Items<Revealed> {
        let items = items.iter().map(|item| {
            let Submitted::Valid(token) = &item.token else {
                return ItemResult::Error(ProblemCode::BadToken.into());
            };
            let Some(card) = self.cards.iter().find(|card| card.token == *token) else {
                return ItemResult::Error(ProblemCode::TokenNotFound.into());
            };
            let code = card.code.as_ref().filter(|_| item.cvv).map(|code| Cvv::parse(code.expose()));
            if item.cvv && code.is_none() {
                return ItemResult::Error(ProblemCode::CodeGone.into());
            }
            ItemResult::Ok(Revealed {
                pan: card.pan.duplicate().into(),
                expiry: card.expiry,
                cvv: code.and_then(Result::ok).map(Into::into),
                code_held: false,
            })
        });
        Items { items: items.collect() }
    }
}

fn valid<T>(submitted: Option<&Submitted<T>>) -> Option<&T> {
    match submitted {
        Some(Submitted::Valid(value)) => Some(value),
        Some(Submitted::Invalid(_)) | None => None,
    }
}

/// Tokens of a rehearsal are worth nothing anywhere.
pub(super) const ENVIRONMENT: Environment = Environment::Dev;
