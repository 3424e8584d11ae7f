//! The token fields of a request on its way out: what the vault is asked to reveal, and what takes their place.
//!
//! Must never reveal for a field that the route does not declare, nor leave a field unfilled.
//! Tests: `flow/tests.rs`.

use super::cards::{MISFIT, all_or_none};
use super::spots::{Edits, Found, Spot};
use crate::leak::{self, Place, echo::Echoes};
use crate::plan::Fields;
use crate::problem::Fault;
use cordon_card::{Environment, ExpiryStyle, Token};
use cordon_policy::{EgressOp, ExpiryWriting};
use cordon_wire::limits::MAX_ITEMS;
use cordon_wire::{DetokenizeItem, ItemResult, Items, ProblemCode, Revealed};
use zeroize::Zeroizing;

/// The tokens of one request. The i-th security code, and the i-th of whole expiries, of months and of years, belong to the
/// i-th token.
#[derive(Debug, Default)]
pub struct Tokens {
    tokens: Vec<Token>,
    numbers: Vec<Spot>,
    codes: Vec<Spot>,
    /// Whole ones, months, years.
    expiries: [Vec<(Spot, ExpiryWriting)>; 3],
    /// Fields that need no vault, and what takes their place.
    others: Vec<(Spot, Option<Zeroizing<String>>)>,
}

impl Tokens {
    /// Reads the fields.
    ///
    /// # Errors
    /// [`Fault::Field`] for a value that is no token of this environment, or for codes or expiries that do not match
    /// the tokens one to one; [`Fault::TooManyCards`].
    pub fn collect(
        leaves: &[Found<'_>],
        fields: &Fields<EgressOp>,
        environment: Environment,
    ) -> Result<Self, Fault> {
        let mut found = Self::default();
        for leaf in leaves {
            let spot = Spot { at: leaf.at.clone(), label: fields.label(leaf.field) };
            match fields.op(leaf.field)? {
                EgressOp::Reveal => {
                    let token = Token::parse(leaf.text.expose()).ok();
                    let ours = |token: &Token| token.environment().is_none_or(|other| other == environment);
                    let Some(token) = token.filter(ours) else {
                        return Err(Fault::Field { code: ProblemCode::BadToken, field: spot.label });
                    };
                    found.tokens.push(token);
                    found.numbers.push(spot);
                }
                EgressOp::RevealCvv => found.codes.push(spot),
                EgressOp::RevealExpiry(writing) => {
                    let [whole, months, years] = &mut found.expiries;
                    let of_its_kind = match writing.style {
                        ExpiryStyle::Month | ExpiryStyle::BareMonth => months,
                        ExpiryStyle::Year | ExpiryStyle::FullYear => years,
                        _ => whole,
                    };
                    of_its_kind.push((spot, writing));
                }
                EgressOp::Drop => found.others.push((spot, None)),
                EgressOp::Mask(keep) => {
                    let masked = leak::masked_text(leaf.text.expose(), keep);
                    let left = masked.as_ref().map_or(leaf.text.expose(), |masked| masked);
                    if leak::in_bytes(left.as_bytes()) {
                        return Err(Fault::Leak(Place::Body));
                    }
                    found.others.extend(masked.map(|masked| (spot, Some(masked))));
                }
            }
        }
        if found.tokens.len() > MAX_ITEMS {
            return Err(Fault::TooManyCards);
        }
        all_or_none(found.tokens.len(), found.codes.iter().map(|spot| &spot.label))?;
        for expiries in &found.expiries {
            all_or_none(found.tokens.len(), expiries.iter().map(|(spot, _)| &spot.label))?;
        }
        Ok(found)
    }

    /// The tokens, for the audit line.
    #[must_use]
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// What to ask the vault, unless there is nothing to ask.
    #[must_use]
    pub fn items(&self) -> Option<Vec<DetokenizeItem>> {
        let cvv = !self.codes.is_empty();
        let items = self.tokens.iter().map(|token| DetokenizeItem { token: token.clone().into(), cvv });
        (!self.tokens.is_empty()).then(|| items.collect())
    }

    /// The vault's cards, if it gave one for each token.
    ///
    /// # Errors
    /// [`Fault::Field`] with the vault's code for the first token it refused; [`Fault::Vault`] if the answer does not
    /// fit.
    pub fn cards(&self, answer: Items<Revealed>) -> Result<Vec<Revealed>, Fault> {
        if answer.items.len() != self.numbers.len() {
            return Err(MISFIT);
        }
        let mut cards = Vec::with_capacity(answer.items.len());
        for (result, spot) in answer.items.into_iter().zip(&self.numbers) {
            match result {
                ItemResult::Ok(revealed) => cards.push(revealed),
                ItemResult::Error(problem) => {
                    return Err(Fault::Field { code: problem.code, field: spot.label.clone() });
                }
            }
        }
        Ok(cards)
    }

    /// What each field would get, in words: which card by its token, and how an expiry is written.
    pub(super) fn words(&self) -> Edits {
        let mut edits = Edits::default();
        for (spot, token) in self.numbers.iter().zip(&self.tokens) {
            edits.put_words(spot, &format!("[card number of {token}]"));
        }
        for spot in &self.codes {
            edits.put_words(spot, "[security code]");
        }
        for (spot, writing) in self.expiries.iter().flatten() {
            edits.put_words(spot, &format!("[{}]", writing.style.as_str()));
        }
        self.put_others(&mut edits);
        edits
    }

    fn put_others(&self, edits: &mut Edits) {
        for (spot, text) in &self.others {
            edits.put(spot, text.clone());
        }
    }

    /// Card numbers for tokens, codes and expiries in their fields; and what to look for in the answer.
    pub(super) fn edits(&self, cards: Vec<Revealed>) -> Result<(Edits, Echoes), Fault> {
        if cards.len() != self.numbers.len() {
            return Err(MISFIT);
        }
        let mut edits = Edits::default();
        let mut echoes = Echoes::default();
        for (index, (card, number)) in cards.into_iter().zip(&self.numbers).enumerate() {
            let pan = card.pan.into_result().map_err(|_invalid| MISFIT)?;
            echoes.add(&pan);
            edits.put(number, owned(pan.expose()));
            if let Some(spot) = self.codes.get(index) {
                let gone = || Fault::Field { code: ProblemCode::CodeGone, field: spot.label.clone() };
                let cvv = card.cvv.ok_or_else(gone)?.into_result().map_err(|_invalid| MISFIT)?;
                edits.put(spot, owned(cvv.expose()));
            }
            for (spot, writing) in self.expiries.iter().filter_map(|expiries| expiries.get(index)) {
                let missing = || Fault::Field { code: ProblemCode::BadField, field: spot.label.clone() };
                let text = Zeroizing::new(card.expiry.ok_or_else(missing)?.text(writing.style));
                if writing.number {
                    edits.put_number(spot, text);
                } else {
                    edits.put(spot, Some(text));
                }
            }
        }
        self.put_others(&mut edits);
        Ok((edits, echoes))
    }
}

fn owned(text: &str) -> Option<Zeroizing<String>> {
    Some(Zeroizing::new(text.to_owned()))
}
