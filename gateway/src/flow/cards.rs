//! The card fields of a request on its way in: what the vault is asked to keep, and what takes their place.
//!
//! Must never pass on a security code (PCI DSS 3.3.1), nor guess which card one belongs to.
//! Tests: `flow/tests.rs`.

use super::spots::{At, Edits, Found, Spot};
use crate::leak::loose::Loose;
use crate::leak::{self, Place, Search};
use crate::outcome;
use crate::plan::Fields;
use crate::problem::Fault;
use cordon_card::{Cvv, Expiry, Iin, Pan};
use cordon_policy::IngressOp;
use cordon_wire::limits::MAX_ITEMS;
use cordon_wire::{ItemResult, Items, ProblemCode, Submitted, TokenizeItem, TokenizeRequest, Tokenized};
use zeroize::Zeroizing;

/// The cards of one request. The i-th security code and the i-th expiry belong to the i-th number.
#[derive(Debug)]
pub struct Cards {
    request: TokenizeRequest,
    numbers: Vec<Spot>,
    codes: Vec<Spot>,
    /// Fields that need no vault, and what takes their place.
    others: Vec<(Spot, Option<Zeroizing<String>>)>,
    /// Numbers outside the fields that become tokens as well; their cards stand behind those of the fields.
    loose: Loose,
}

impl Cards {
    /// Reads the fields. What a mask leaves of its field is searched.
    ///
    /// # Errors
    /// [`Fault::Field`] for a value that is not what its field declares, or for codes or expiries that do not match
    /// the numbers one to one; [`Fault::TooManyCards`].
    pub fn collect(
        found: &[Found<'_>],
        fields: &Fields<IngressOp>,
        search: &mut Search<'_>,
    ) -> Result<Self, Fault> {
        // With room for all, no card number is moved by a growing vector, which would leave a copy behind.
        let mut pans = Vec::with_capacity(found.len());
        let mut cvvs = Vec::with_capacity(found.len());
        let (mut numbers, mut codes, mut others) = (Vec::new(), Vec::new(), Vec::new());
        let mut dates = Dates::default();
        for Found { field, at, text } in found {
            let spot = || Spot { at: at.clone(), label: fields.label(*field) };
            let bad = |code| Fault::Field { code, field: fields.label(*field) };
            let text = text.expose();
            match fields.op(*field)? {
                IngressOp::Tokenize => {
                    pans.push(Pan::parse(text).map_err(|_invalid| bad(ProblemCode::BadPan))?);
                    numbers.push(spot());
                }
                IngressOp::Hold => {
                    cvvs.push(Cvv::parse(text).map_err(|_invalid| bad(ProblemCode::BadCvv))?);
                    codes.push(spot());
                }
                IngressOp::Expiry => {
                    let expiry = Expiry::parse(text).map_err(|_invalid| bad(ProblemCode::BadExpiry))?;
                    dates.whole.push((expiry, fields.label(*field)));
                }
                IngressOp::ExpiryMonth => dates.months.push((text, fields.label(*field))),
                IngressOp::ExpiryYear => dates.years.push((text, fields.label(*field))),
                IngressOp::Drop => others.push((spot(), None)),
                IngressOp::Mask(keep) => {
                    let masked = leak::masked_text(text, keep);
                    let place = if matches!(at, At::Head(_)) { Place::Header } else { Place::Body };
                    search.look(place, masked.as_ref().map_or(text, |masked| masked).as_bytes());
                    others.extend(masked.map(|masked| (spot(), Some(masked))));
                }
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
        Ok(Self { request: TokenizeRequest { items }, numbers, codes, others, loose: Loose::none() })
    }

    /// Takes numbers outside the fields as well.
    ///
    /// # Errors
    /// [`Fault::Leak`] for one that is no card of any brand; [`Fault::TooManyCards`].
    pub fn take_loose(&mut self, loose: Loose) -> Result<(), Fault> {
        let cards = self.numbers.len().saturating_add(loose.numbers().count());
        if cards > MAX_ITEMS {
            return Err(Fault::TooManyCards);
        }
        let mut items = Vec::with_capacity(cards);
        items.append(&mut self.request.items);
        for number in loose.numbers() {
            let pan = number.pan.as_ref().ok_or(Fault::Leak(Place::Body))?.duplicate();
            items.push(TokenizeItem { pan: pan.into(), expiry: None, cvv: None, metadata: None });
        }
        self.request.items = items;
        self.loose = loose;
        Ok(())
    }

    /// What to ask the vault, unless there is nothing to ask.
    #[must_use]
    pub fn request(&self) -> Option<&TokenizeRequest> {
        (!self.request.items.is_empty()).then_some(&self.request)
    }

    /// The numbers, in order.
    pub fn pans(&self) -> impl Iterator<Item = &Pan> {
        self.request.items.iter().filter_map(|item| match &item.pan {
            Submitted::Valid(pan) => Some(pan),
            Submitted::Invalid(_) => None,
        })
    }

    /// Who issued the cards.
    #[must_use]
    pub fn issuers(&self) -> Vec<Iin> {
        outcome::issuers(self.request.items.iter().map(|item| &item.pan))
    }

    /// The vault's tokens, if it gave one for each card.
    ///
    /// # Errors
    /// [`Fault::Field`] with the vault's code for the first card it refused, [`Fault::Leak`] where no field is declared;
    /// [`Fault::Vault`] if the answer does not fit.
    pub fn tokens(&self, answer: Items<Tokenized>) -> Result<Vec<Tokenized>, Fault> {
        if answer.items.len() != self.request.items.len() {
            return Err(MISFIT);
        }
        let spots = self.numbers.iter().map(Some).chain(std::iter::repeat(None));
        let results = answer.items.into_iter().zip(spots);
        results
            .map(|(result, spot)| match (result, spot) {
                (ItemResult::Ok(tokenized), _) => Ok(tokenized),
                (ItemResult::Error(problem), Some(spot)) => {
                    Err(Fault::Field { code: problem.code, field: spot.label.clone() })
                }
                (ItemResult::Error(_), None) => Err(Fault::Leak(Place::Body)),
            })
            .collect()
    }

    /// Tokens for numbers, a fixed word for security codes, what is left of the others.
    pub(super) fn edits(&self, tokens: &[Tokenized]) -> Result<Edits, Fault> {
        self.edits_with(&tokens.iter().map(|tokenized| tokenized.token.as_str()).collect::<Vec<_>>())
    }

    /// The same without tokens: whether anything else is left can be seen before there are any.
    pub(super) fn trial(&self) -> Result<Edits, Fault> {
        self.edits_with(&vec![HELD; self.request.items.len()])
    }

    fn edits_with(&self, tokens: &[&str]) -> Result<Edits, Fault> {
        if tokens.len() != self.request.items.len() {
            return Err(MISFIT);
        }
        let (tokens, for_loose) = tokens.split_at_checked(self.numbers.len()).ok_or(MISFIT)?;
        let mut edits = Edits::default();
        let owned = |text: &str| Some(Zeroizing::new(text.to_owned()));
        for (spot, token) in self.numbers.iter().zip(tokens) {
            edits.put(spot, owned(token));
        }
        let mut for_loose = for_loose.iter();
        let cut = self.loose.edits(|_number| owned(for_loose.next()?));
        edits.put_loose(cut.map_err(|_misfit| Fault::Leak(Place::Body))?);
        for spot in &self.codes {
            edits.put(spot, owned(HELD));
        }
        for (spot, text) in &self.others {
            edits.put(spot, text.clone());
        }
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
pub(crate) const MISFIT: Fault = Fault::Vault("vault-unavailable.answer-not-understood");
