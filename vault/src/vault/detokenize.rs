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
use cordon_card::{CollectionName, Cvv, Token};
use cordon_policy::{Detokenize, Permit};
use cordon_wire::{DetokenizeItem, ItemResult, Items, ProblemCode, Revealed, Submitted};

/// One item that may be opened, with its code if it was asked for.
struct Opening {
    row: Row,
    code: Option<Cvv>,
    /// A code is held that was not asked for.
    code_held: bool,
}

/// One item: its row and whether its code is wanted, or why it does not open.
type Asked = Result<(Row, bool), ProblemCode>;

/// One item: what it opens, or why it does not.
type Found = Result<Opening, ProblemCode>;

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
        // One service's guesses must not lock the others out, who come through the same gateway.
        let guesser = permit.acted_for().unwrap_or(caller.who.as_str());
        self.check_misses(guesser)?;
        let mut broken = Vec::new();
        let mut found = self.openings(&keys, &collection, items, &mut broken)?;
        let sequence = self.consume(&collection, &mut found).await?;
        let mut event = reveal_event(caller, &permit, &collection, &found);
        if let Some(sequence) = sequence {
            event = event.store_sequence(sequence);
        }
        let codes = codes_event(caller, &permit, &collection, &found);
        let (receipt, ()) = tokio::try_join!(self.record(event), self.note_if(codes))?;
        let proof = OpenProof::for_detokenize(&permit, &receipt, &collection)?;
        let mut answers = Vec::with_capacity(found.len());
        for entry in found {
            let Opening { row, code, code_held } = match entry {
                Ok(opening) => opening,
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
            let cvv = code.map(Submitted::Valid);
            answers.push(ItemResult::Ok(Revealed {
                pan: card.pan.into(),
                expiry: card.expiry,
                cvv,
                code_held,
            }));
        }
        let event = caller.event(Action::Detokenize, Outcome::Failed);
        self.report_broken(event, &collection.name, broken).await?;
        self.count_misses(guesser, &answers);
        Ok(Items { items: answers })
    }

    /// What may be opened. An item whose code is asked for and gone is not, and a single-use token of it not used up.
    fn openings(
        &self,
        keys: &Unlocked,
        collection: &Collection,
        items: Vec<DetokenizeItem>,
        broken: &mut Vec<Token>,
    ) -> Result<Vec<Found>, VaultError> {
        let rows = self.rows(keys, collection, items, broken)?.into_iter();
        let opening = |(row, wants_code): (Row, bool)| {
            if wants_code {
                let code = self.take_code(collection, &row.token)?;
                return Ok(Opening { row, code: Some(code), code_held: false });
            }
            let code_held = self.pass_over_code(collection, &row.token);
            Ok(Opening { row, code: None, code_held })
        };
        Ok(rows.map(|entry| entry.and_then(opening)).collect())
    }

    async fn note_if(&self, event: Option<Event>) -> Result<(), VaultError> {
        match event {
            Some(event) => self.note(event).await,
            None => Ok(()),
        }
    }

    /// The rows that may be opened. Unknown, foreign and expired tokens are one and the same outside.
    /// A key that is out of use is told before a single-use token is consumed. Rows with other dates than their records
    /// are added to `broken`.
    fn rows(
        &self,
        keys: &Unlocked,
        collection: &Collection,
        items: Vec<DetokenizeItem>,
        broken: &mut Vec<Token>,
    ) -> Result<Vec<Asked>, VaultError> {
        let now = self.now();
        let wanted: Vec<_> = items.into_iter().map(|item| (self.own_token(item.token), item.cvv)).collect();
        let tokens: Vec<Token> =
            wanted.iter().filter_map(|(token, _)| token.as_ref().ok().cloned()).collect();
        let mut rows = self.store.get(collection.number(), &tokens)?.into_iter();
        Ok(wanted
            .into_iter()
            .map(|(token, cvv)| {
                token?;
                let row = self.living(keys, collection, rows.next().flatten(), now, broken)?;
                if row.used {
                    return Err(ProblemCode::Gone);
                }
                let shown = keys.may_show(row.collection, row.sealed.key_version());
                shown.map_err(|Withheld| ProblemCode::KeyUnavailable)?;
                Ok((row, cvv))
            })
            .collect())
    }

    /// A row whose time is not over. One that only looks so, because its dates were changed, is broken.
    pub(super) fn living(
        &self,
        keys: &Unlocked,
        collection: &Collection,
        row: Option<Row>,
        now: u64,
        broken: &mut Vec<Token>,
    ) -> Result<Row, ProblemCode> {
        let row = row.ok_or(ProblemCode::TokenNotFound)?;
        match self.is_over(keys, collection, &row, now) {
            Ok(false) => Ok(row),
            Ok(true) => Err(ProblemCode::TokenNotFound),
            Err(record::Refused) => {
                broken.push(row.token);
                Err(ProblemCode::Internal)
            }
        }
    }

    /// Whether a record's time is over, by dates that are its own: retention must not rest on what a row says in clear.
    pub(super) fn is_over(
        &self,
        keys: &Unlocked,
        collection: &Collection,
        row: &Row,
        now: u64,
    ) -> Result<bool, record::Refused> {
        if !collection.is_over(row, now) {
            return Ok(false);
        }
        record::confirm(keys, &self.binding(row), &row.sealed)?;
        Ok(true)
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
            .filter(|opening| opening.row.claim == Claim::Single)
            .map(|opening| opening.row.token.clone())
            .collect();
        if single.is_empty() {
            return Ok(None);
        }
        let committed = self.store.consume(collection.number(), single).await?;
        let mut won = committed.value.into_iter();
        for entry in found.iter_mut() {
            let is_single = matches!(entry, Ok(opening) if opening.row.claim == Claim::Single);
            if is_single && won.next() != Some(true) {
                *entry = Err(ProblemCode::Gone);
            }
        }
        Ok(Some(committed.sequence))
    }

    pub(super) fn binding<'r>(&self, row: &'r Row) -> Binding<'r> {
        row.binding(self.environment)
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
    let opened = || found.iter().flatten().map(|opening| &opening.row);
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

/// A line for the codes that are given out, if there are any.
fn codes_event(
    caller: &Caller,
    permit: &Permit<Detokenize>,
    collection: &Collection,
    found: &[Found],
) -> Option<Event> {
    let given: Vec<Token> = found
        .iter()
        .flatten()
        .filter(|opening| opening.code.is_some())
        .map(|opening| opening.row.token.clone())
        .collect();
    if given.is_empty() {
        return None;
    }
    let name = |text: Option<&str>| Name::parse_or_withhold(text.unwrap_or_default());
    let event = caller
        .event(Action::SecurityCode, Outcome::Allowed)
        .collection(&collection.name)
        .acting_for(&name(permit.acted_for()))
        .destination(&name(permit.destination()))
        .route(&name(permit.route()));
    Some(event.tokens(given).reason("given-out"))
}
