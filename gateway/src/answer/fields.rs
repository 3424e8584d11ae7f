//! The declared fields of an answer: tokens for a destination's card numbers, masks, nothing.
//!
//! An answer is not ours to correct: a field that is not what the route expects is left as it is, and what is left is
//! screened like all of it. Must never let a card number through for that. Tests: `answer/tests.rs`.

use crate::body::{self, BodyError, Format};
use crate::flow::cards::MISFIT;
use crate::flow::head_fields;
use crate::flow::spots::{Edits, Found, Spot};
use crate::leak;
use crate::plan::Fields;
use crate::problem::Fault;
use crate::upstream::Answer;
use cordon_card::Pan;
use cordon_policy::AnswerOp;
use cordon_wire::limits::MAX_ITEMS;
use cordon_wire::{ItemResult, Items, TokenizeItem, TokenizeRequest, Tokenized};
use zeroize::Zeroizing;

/// What is to be done to an answer.
#[derive(Debug)]
pub struct Cuts {
    request: TokenizeRequest,
    numbers: Vec<Spot>,
    others: Vec<(Spot, Option<Zeroizing<String>>)>,
}

impl Cuts {
    /// Finds the fields in the headers and, where it has a format, in the body.
    ///
    /// # Errors
    /// [`BodyError`] for a body that cannot be read.
    pub fn find(
        answer: &Answer,
        format: Option<&Format>,
        fields: &Fields<AnswerOp>,
    ) -> Result<Self, BodyError> {
        let mut found: Vec<_> = head_fields::locate_in_headers(&answer.headers, &fields.head)?
            .into_iter()
            .map(Found::from)
            .collect();
        if let Some(format) = format {
            let leaves = body::locate(format, &answer.body, &fields.declared, &mut |_| ())?;
            found.extend(leaves.into_iter().map(Found::from));
        }
        let mut cuts = Self {
            request: TokenizeRequest { items: Vec::with_capacity(found.len()) },
            numbers: Vec::new(),
            others: Vec::new(),
        };
        for Found { field, at, text } in found {
            let Ok(op) = fields.op(field) else { continue };
            let spot = Spot { at, label: fields.label(field) };
            match op {
                AnswerOp::Drop => cuts.others.push((spot, None)),
                AnswerOp::Mask(keep) => {
                    cuts.others.extend(leak::masked_text(text.expose(), keep).map(|text| (spot, Some(text))));
                }
                AnswerOp::Tokenize => {
                    let Ok(pan) = Pan::parse(text.expose()) else { continue };
                    let item = TokenizeItem { pan: pan.into(), expiry: None, cvv: None, metadata: None };
                    cuts.request.items.push(item);
                    cuts.numbers.push(spot);
                }
            }
        }
        Ok(cuts)
    }

    /// What to ask the vault, unless there is nothing to ask.
    ///
    /// # Errors
    /// [`Fault::UpstreamRefused`] for more cards than the vault takes in one call.
    pub fn request(&self) -> Result<Option<&TokenizeRequest>, Fault> {
        if self.numbers.len() > MAX_ITEMS {
            return Err(Fault::UpstreamRefused("upstream-refused.too-many-cards"));
        }
        Ok((!self.numbers.is_empty()).then_some(&self.request))
    }

    /// Makes them. Gives the tokens that now stand in the answer.
    ///
    /// # Errors
    /// [`Fault::Vault`] when the vault's answer does not fit; [`Fault::UpstreamRefused`] when the vault refused a card,
    /// or its token does not fit where the number stood.
    pub fn make(
        self,
        answer: &mut Answer,
        tokens: Option<Items<Tokenized>>,
    ) -> Result<Vec<Tokenized>, Fault> {
        let items = tokens.map(|tokens| tokens.items).unwrap_or_default();
        if items.len() != self.numbers.len() {
            return Err(MISFIT);
        }
        let mut edits = Edits::default();
        let mut made = Vec::with_capacity(items.len());
        for (spot, item) in self.numbers.iter().zip(items) {
            let ItemResult::Ok(tokenized) = item else {
                return Err(Fault::UpstreamRefused("upstream-refused.card-not-taken"));
            };
            edits.put(spot, Some(Zeroizing::new(tokenized.token.as_str().to_owned())));
            made.push(tokenized);
        }
        for (spot, text) in self.others {
            edits.put(&spot, text);
        }
        head_fields::apply_to_headers(&mut answer.headers, edits.take_head())
            .map_err(|_misfit| Fault::Internal("internal.head-edits-do-not-fit"))?;
        let (body, _) = edits.apply(std::mem::take(&mut answer.body)).map_err(|fault| match fault {
            Fault::Field { .. } => Fault::UpstreamRefused("upstream-refused.columns-too-narrow"),
            other => other,
        })?;
        answer.body = body;
        Ok(made)
    }
}
