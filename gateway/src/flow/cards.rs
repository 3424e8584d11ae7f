//! The card fields of a request on its way in: what the vault is asked to keep, and what takes their place.
//!
//! Must never pass on a security code (PCI DSS 3.3.1), nor guess which card one belongs to.
//! Tests: `flow/tests.rs`.

use crate::body::Leaf;
use crate::body::edit::Edit;
use crate::plan::Fields;
use crate::problem::Fault;
use cordon_card::{Cvv, Expiry, Pan};
use cordon_policy::IngressOp;
use cordon_wire::limits::MAX_ITEMS;
use cordon_wire::{ItemResult, Items, ProblemCode, TokenizeItem, TokenizeRequest, Tokenized};
use std::ops::Range;
use zeroize::Zeroizing;

/// The cards of one request. The i-th security code and the i-th expiry belong to the i-th number.
#[derive(Debug)]
pub struct Cards {
    request: TokenizeRequest,
    numbers: Vec<Spot>,
    codes: Vec<Spot>,
}

/// Where a field stands, and its name.
#[derive(Debug)]
pub(super) struct Spot {
    pub(super) span: Range<usize>,
    pub(super) label: String,
}

impl Cards {
    /// Reads the fields.
    ///
    /// # Errors
    /// [`Fault::Field`] for a value that is not what its field declares, or for codes or expiries that do not match
    /// the numbers one to one; [`Fault::TooManyCards`].
    pub fn collect(leaves: &[Leaf<'_>], fields: &Fields<IngressOp>) -> Result<Self, Fault> {
        // With room for all, no card number is moved by a growing vector, which would leave a copy behind.
        let mut pans = Vec::with_capacity(leaves.len());
        let mut cvvs = Vec::with_capacity(leaves.len());
        let (mut numbers, mut codes) = (Vec::new(), Vec::new());
        let mut dates = Dates::default();
        for leaf in leaves {
            let label = || fields.label(leaf.field);
            let bad = |code| Fault::Field { code, field: label() };
            let text = leaf.text.expose();
            match fields.op(leaf.field)? {
                IngressOp::Tokenize => {
                    pans.push(Pan::parse(text).map_err(|_invalid| bad(ProblemCode::BadPan))?);
                    numbers.push(Spot { span: leaf.span.clone(), label: label() });
                }
                IngressOp::Hold => {
                    cvvs.push(Cvv::parse(text).map_err(|_invalid| bad(ProblemCode::BadCvv))?);
                    codes.push(Spot { span: leaf.span.clone(), label: label() });
                }
                IngressOp::Expiry => {
                    let expiry = Expiry::parse(text).map_err(|_invalid| bad(ProblemCode::BadExpiry))?;
                    dates.whole.push((expiry, label()));
                }
                IngressOp::ExpiryMonth => dates.months.push((text, label())),
                IngressOp::ExpiryYear => dates.years.push((text, label())),
            }
        }
        if pans.len() > MAX_ITEMS {
            return Err(Fault::TooManyCards);
        }
        all_or_none(pans.len(), codes.iter().map(|spot| &spot.label))?;
        let mut expiries = dates.matched_to(pans.len())?.into_iter();
        let mut cvvs = cvvs.into_iter();
        let mut items = Vec::with_capacity(pans.len());
        for pan in pans {
            let expiry = expiries.next().map(Into::into);
            items.push(TokenizeItem {
                pan: pan.into(),
                expiry,
                cvv: cvvs.next().map(Into::into),
                metadata: None,
            });
        }
        Ok(Self { request: TokenizeRequest { items }, numbers, codes })
    }

    /// What to ask the vault, unless there is nothing to ask.
    #[must_use]
    pub fn request(&self) -> Option<&TokenizeRequest> {
        (!self.request.items.is_empty()).then_some(&self.request)
    }

    /// The vault's tokens, if it gave one for each card.
    ///
    /// # Errors
    /// [`Fault::Field`] with the vault's code for the first card it refused; [`Fault::Vault`] if the answer does not
    /// fit.
    pub fn tokens(&self, answer: Items<Tokenized>) -> Result<Vec<Tokenized>, Fault> {
        if answer.items.len() != self.numbers.len() {
            return Err(MISFIT);
        }
        let results = answer.items.into_iter().zip(&self.numbers);
        results
            .map(|(result, spot)| match result {
                ItemResult::Ok(tokenized) => Ok(tokenized),
                ItemResult::Error(problem) => {
                    Err(Fault::Field { code: problem.code, field: spot.label.clone() })
                }
            })
            .collect()
    }

    /// Tokens for numbers, a fixed word for security codes.
    pub(super) fn edits(&self, tokens: &[Tokenized]) -> Result<Vec<Edit>, Fault> {
        if tokens.len() != self.numbers.len() {
            return Err(MISFIT);
        }
        let tokens =
            self.numbers.iter().zip(tokens).map(|(spot, tokenized)| (spot, tokenized.token.as_str()));
        let held = self.codes.iter().map(|spot| (spot, HELD));
        let mut edits: Vec<_> = tokens
            .chain(held)
            .map(|(spot, text)| Edit { span: spot.span.clone(), text: Zeroizing::new(text.to_owned()) })
            .collect();
        edits.sort_by_key(|edit| edit.span.start);
        Ok(edits)
    }
}

/// Expiry dates as they stand in a body: whole, or month and year in fields of their own.
#[derive(Default)]
struct Dates<'b> {
    whole: Vec<(Expiry, String)>,
    months: Vec<(&'b str, String)>,
    years: Vec<(&'b str, String)>,
}

impl Dates<'_> {
    /// One expiry for each of `cards`, or none at all.
    fn matched_to(self, cards: usize) -> Result<Vec<Expiry>, Fault> {
        let labels =
            |parts: &[(&str, String)]| parts.iter().map(|(_, label)| label.clone()).collect::<Vec<_>>();
        all_or_none(cards, self.whole.iter().map(|(_, label)| label))?;
        all_or_none(cards, &labels(&self.months))?;
        all_or_none(cards, &labels(&self.years))?;
        let split = self.months.iter().zip(&self.years);
        let split = split
            .map(|((month, label), (year, _))| {
                Expiry::from_parts(month, year)
                    .map_err(|_invalid| Fault::Field { code: ProblemCode::BadExpiry, field: label.clone() })
            })
            .collect::<Result<Vec<_>, _>>()?;
        match (self.whole.first(), self.months.first(), self.years.first()) {
            (None, None, None) => Ok(Vec::new()),
            (Some(_), None, None) => Ok(self.whole.into_iter().map(|(expiry, _)| expiry).collect()),
            (None, Some(_), Some(_)) => Ok(split),
            // A month without its year, or a date told twice.
            (_, Some((_, label)), _) | (_, None, Some((_, label))) => {
                Err(Fault::Field { code: ProblemCode::BadField, field: label.clone() })
            }
        }
    }
}

/// Refuses fields of which there are some, but not one for each card.
pub(super) fn all_or_none<'l>(
    cards: usize,
    labels: impl IntoIterator<Item = &'l String>,
) -> Result<(), Fault> {
    let mut labels = labels.into_iter();
    let Some(first) = labels.next() else { return Ok(()) };
    if labels.count().saturating_add(1) == cards {
        return Ok(());
    }
    Err(Fault::Field { code: ProblemCode::BadField, field: first.clone() })
}

/// What stands in the place of a security code.
const HELD: &str = "held";
pub(super) const MISFIT: Fault = Fault::Vault("vault-unavailable.answer-not-understood");
