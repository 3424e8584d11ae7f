//! Revealing: find, consume single-use tokens, record, and only then open.
//!
//! Must never open a record before its audit line is durable: `record::open` takes a proof made of the permit and
//! the receipt. Tests: `tests/tests/tokens.rs`, `tests/tests/identity.rs`.

use super::{Caller, Vault, statements};
use crate::collections::Collection;
use crate::error::VaultError;
use crate::keyring::{Unlocked, Withheld};
use crate::record::{self, Binding, OpenProof};
use crate::store::{Claim, Row, Store};
use cordon_audit::{Action, Event, Name, Outcome, Reveal};
use cordon_card::{CollectionName, Token};
use cordon_policy::{Detokenize, Permit};
use cordon_wire::{DetokenizeItem, ItemResult, Items, ProblemCode, Revealed, Submitted};

/// One item: the row it opens, or why it does not.
type Found = Result<(Row, bool), ProblemCode>;

impl<S: Store> Vault<S> {
    /// Reveals a batch.
    ///
    /// # Errors
    /// The whole call is refused; items refused alone are in the answer.
    pub async fn detokenize(
        &self,
        caller: &Caller,
        permit: Permit<Detokenize>,
        items: Vec<DetokenizeItem>,
    ) -> Result<Items<Revealed>, VaultError> {
        let keys = self.keys()?;
        let collection = self.collection(permit.collection())?;
        let mut found = self.rows(&keys, &collection, items)?;
        let sequence = self.consume(&collection, &mut found).await?;
        let mut event = reveal_event(caller, &permit, &collection, &found);
        if let Some(sequence) = sequence {
            event = event.store_sequence(sequence);
        }
        let receipt = self.record(event).await?;
        let proof = OpenProof::for_detokenize(&permit, &receipt, &collection)?;
        let mut answers = Vec::with_capacity(found.len());
        let mut broken = Vec::new();
        for entry in found {
            let (row, wants_code) = match entry {
                Ok(found) => found,
                Err(code) => {
                    answers.push(ItemResult::Error(code.into()));
                    continue;
                }
            };
            let Ok(card) = record::open(&keys, &self.binding(&row), &row.sealed, &proof) else {
                broken.push(row.token);
                answers.push(ItemResult::Error(ProblemCode::Internal.into()));
                continue;
            };
            let cvv = if wants_code { self.take_code(&collection, &row.token) } else { None };
            answers.push(ItemResult::Ok(Revealed { pan: card.pan.into(), expiry: card.expiry, cvv }));
        }
        let event = caller.event(Action::Detokenize, Outcome::Failed);
        self.report_broken(event, &collection.name, broken).await?;
        Ok(Items { items: answers })
    }

    /// The rows that may be opened. Unknown, foreign and expired tokens are one and the same outside.
    /// A key that is out of use is told before a single-use token is consumed.
    fn rows(
        &self,
        keys: &Unlocked,
        collection: &Collection,
        items: Vec<DetokenizeItem>,
    ) -> Result<Vec<Found>, VaultError> {
        let now = self.now();
        let wanted: Vec<_> = items.into_iter().map(|item| (self.own_token(item.token), item.cvv)).collect();
        let tokens: Vec<Token> =
            wanted.iter().filter_map(|(token, _)| token.as_ref().ok().cloned()).collect();
        let mut rows = self.store.get(collection.number(), &tokens)?.into_iter();
        Ok(wanted
            .into_iter()
            .map(|(token, cvv)| {
                token?;
                let row = rows.next().flatten().filter(|row| !collection.is_over(row, now));
                let row = row.ok_or(ProblemCode::TokenNotFound)?;
                if row.used {
                    return Err(ProblemCode::Gone);
                }
                let shown = keys.may_show(row.collection, row.sealed.key_version());
                shown.map_err(|Withheld| ProblemCode::KeyUnavailable)?;
                Ok((row, cvv))
            })
            .collect())
    }

    /// A token of this environment.
    pub(super) fn own_token(&self, token: Submitted<Token>) -> Result<Token, ProblemCode> {
        let token = token.into_result()?;
        match token.environment() {
            Some(environment) if environment != self.environment => Err(ProblemCode::BadToken),
            Some(_) | None => Ok(token),
        }
    }

    /// Marks single-use tokens as used, durably, before anything of them is shown.
    async fn consume(&self, collection: &Collection, found: &mut [Found]) -> Result<Option<u64>, VaultError> {
        let single: Vec<Token> = found
            .iter()
            .flatten()
            .filter(|(row, _)| row.claim == Claim::Single)
            .map(|(row, _)| row.token.clone())
            .collect();
        if single.is_empty() {
            return Ok(None);
        }
        let committed = self.store.consume(collection.number(), single).await?;
        let mut won = committed.value.into_iter();
        for entry in found.iter_mut() {
            let is_single = matches!(entry, Ok((row, _)) if row.claim == Claim::Single);
            if is_single && won.next() != Some(true) {
                *entry = Err(ProblemCode::Gone);
            }
        }
        Ok(Some(committed.sequence))
    }

    pub(super) fn binding<'r>(&self, row: &'r Row) -> Binding<'r> {
        Binding {
            environment: self.environment,
            collection: row.collection,
            token: &row.token,
            card_id: row.card_id,
            expires_at: row.expires_at,
        }
    }

    fn take_code(&self, collection: &Collection, token: &Token) -> Option<Submitted<cordon_card::Cvv>> {
        let now = self.clock.monotonic();
        self.holds().take(collection.number(), token, now).ok().map(Submitted::Valid)
    }

    /// A record that does not open is corruption or tampering: it gets a line of its own (threat B12).
    pub(super) async fn report_broken(
        &self,
        event: Event,
        collection: &CollectionName,
        broken: Vec<Token>,
    ) -> Result<(), VaultError> {
        if broken.is_empty() {
            return Ok(());
        }
        self.metrics.integrity_failures(u64::try_from(broken.len()).unwrap_or(u64::MAX));
        tracing::error!(records = broken.len(), "stored records do not open; see the audit log");
        self.note(event.collection(collection).tokens(broken).reason("integrity")).await
    }
}

fn reveal_event(
    caller: &Caller,
    permit: &Permit<Detokenize>,
    collection: &Collection,
    found: &[Found],
) -> Event<Reveal> {
    let name = |text: Option<&str>| Name::parse_or_withhold(text.unwrap_or_default());
    let opened = || found.iter().flatten().map(|(row, _)| row);
    let outcome = if opened().next().is_some() { Outcome::Allowed } else { Outcome::Failed };
    let mut event = caller
        .sign(Event::reveal(outcome, &collection.name))
        .acting_for(&name(permit.acted_for()))
        .destination(&name(permit.destination()))
        .route(&name(permit.route()))
        .purpose(&name(permit.purpose()))
        .tokens(opened().map(|row| row.token.clone()))
        .cards(opened().map(|row| row.card_id))
        .count(u64::try_from(found.len()).unwrap_or(u64::MAX))
        .statements(statements(permit.statements()));
    if let Some(code) = found.iter().find_map(|entry| entry.as_ref().err()) {
        event = event.reason(code.as_str());
    }
    event
}
