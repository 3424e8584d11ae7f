//! The declared fields of an answer: tokens for a destination's card numbers, masks, nothing.
//!
//! An answer is not ours to correct: a field that is not what the route expects is left as it is, and what is left is
//! screened like all of it. Must never let a card number through for that. Tests: `answer/tests.rs`.

use super::forget_bytes;
use crate::body::{self, BodyError, Format};
use crate::flow::cards::MISFIT;
use crate::flow::head_fields;
use crate::flow::spots::{At, Edits, Found, Spot};
use crate::leak::{self, echo::Echoes, loose::Loose};
use crate::plan::Fields;
use crate::problem::Fault;
use crate::upstream::Answer;
use cordon_card::Pan;
use cordon_policy::AnswerOp;
use cordon_wire::limits::MAX_ITEMS;
use cordon_wire::{ItemResult, Items, TokenizeItem, TokenizeRequest, Tokenized};
use std::ops::Range;
use zeroize::Zeroizing;

/// What is to be done to an answer.
#[derive(Debug)]
pub struct Cuts {
    request: TokenizeRequest,
    numbers: Vec<Spot>,
    others: Vec<(Spot, Option<Zeroizing<String>>)>,
    /// Where fields stand in the body, in order.
    spans: Vec<Range<usize>>,
    /// Numbers outside the fields that become tokens as well; their cards stand behind those of the fields.
    loose: Loose,
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
            spans: Vec::new(),
            loose: Loose::none(),
        };
        for Found { field, at, text } in found {
            let Ok(op) = fields.op(field) else { continue };
            if let At::Body(span, _) = &at {
                cuts.spans.push(span.clone());
            }
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

    /// Takes the numbers that stand in no field and in none of `spared` as well. Where they cannot be cut out they stay,
    /// and are found when the answer is screened.
    ///
    /// # Errors
    /// [`Fault::AnswerLeak`] for a number that was just revealed.
    pub fn take_loose(
        &mut self,
        (format, body): (&Format, &[u8]),
        spared: Vec<Range<usize>>,
        echoes: &Echoes,
    ) -> Result<(), Fault> {
        self.spans.extend(spared);
        self.spans.sort_by_key(|span| span.start);
        let Ok(loose) = Loose::find(format, body, &self.spans) else { return Ok(()) };
        if loose.texts().any(|text| echoes.stands_in(text.as_bytes())) {
            return Err(Fault::AnswerLeak);
        }
        let pans: Option<Vec<Pan>> =
            loose.numbers().map(|number| Some(number.pan.as_ref()?.duplicate())).collect();
        let Some(pans) = pans else { return Ok(()) };
        let mut items = Vec::with_capacity(self.request.items.len().saturating_add(pans.len()));
        items.append(&mut self.request.items);
        let item = |pan: Pan| TokenizeItem { pan: pan.into(), expiry: None, cvv: None, metadata: None };
        items.extend(pans.into_iter().map(item));
        self.request.items = items;
        self.loose = loose;
        Ok(())
    }

    /// Whether there are numbers outside the fields.
    #[must_use]
    pub fn cut_loose(&self) -> bool {
        self.loose.numbers().next().is_some()
    }

    /// What to ask the vault, unless there is nothing to ask.
    ///
    /// # Errors
    /// [`Fault::UpstreamRefused`] for more cards than the vault takes in one call.
    pub fn request(&self) -> Result<Option<&TokenizeRequest>, Fault> {
        if self.request.items.len() > MAX_ITEMS {
            return Err(Fault::UpstreamRefused("upstream-refused.too-many-cards"));
        }
        Ok((!self.request.items.is_empty()).then_some(&self.request))
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
        if items.len() != self.request.items.len() {
            return Err(MISFIT);
        }
        let changed = !self.request.items.is_empty() || !self.others.is_empty();
        let mut edits = Edits::default();
        let mut made = Vec::with_capacity(items.len());
        for item in items {
            let ItemResult::Ok(tokenized) = item else {
                return Err(Fault::UpstreamRefused("upstream-refused.card-not-taken"));
            };
            made.push(tokenized);
        }
        let mut texts = made.iter().map(|made| Zeroizing::new(made.token.as_str().to_owned()));
        for (spot, text) in self.numbers.iter().zip(texts.by_ref()) {
            edits.put(spot, Some(text));
        }
        let cut = self.loose.edits(|_number| texts.next());
        edits.put_loose(cut.map_err(|_misfit| Fault::AnswerLeak)?);
        for (spot, text) in self.others {
            edits.put(&spot, text);
        }
        head_fields::apply_to_headers(&mut answer.headers, edits.take_head())
            .map_err(|_misfit| Fault::Internal("internal.head-edits-do-not-fit"))?;
        let (body, _) = edits.apply(std::mem::take(&mut answer.body)).map_err(|fault| match fault {
            Fault::Leak(_) => Fault::AnswerLeak,
            Fault::Field { .. } => Fault::UpstreamRefused("upstream-refused.columns-too-narrow"),
            other => other,
        })?;
        answer.body = body;
        if changed {
            forget_bytes(&mut answer.headers);
        }
        Ok(made)
    }
}
