//! Looking up, inspecting and deleting: the calls that never show a card number.
//!
//! Must never create anything, and must never tell unknown, foreign and expired tokens apart.
//! Tests: `tests/tests/tokens.rs`, `tests/tests/identity.rs`.

use super::{Caller, Vault, statements};
use crate::collections::Collection;
use crate::error::VaultError;
use crate::fingerprint::fingerprint;
use crate::keyring::{IndexKeyVersion, Unlocked, Withheld};
use crate::limits::Kind;
use crate::record::{self, InspectProof};
use crate::store::{IndexEntry, KnownCard, Row, Store};
use cordon_audit::{Action, Event, Outcome};
use cordon_card::{Token, Truncation};
use cordon_policy::{Delete, Inspect, Lookup, Permit, Recognize};
use cordon_wire::{
    Card, Deleted, Inspected, ItemResult, Items, LookupItem, LookupResult, ProblemCode, Recognized,
    Submitted, TokenUse,
};
use jiff::Timestamp;

impl<S: Store> Vault<S> {
    /// Which of these cards the collection has.
    ///
    /// # Errors
    /// The whole call is refused; items refused alone are in the answer.
    pub async fn lookup(
        &self,
        caller: &Caller,
        permit: Permit<Lookup>,
        items: Vec<LookupItem>,
    ) -> Result<Items<LookupResult>, VaultError> {
        let keys = self.keys()?;
        let collection = self.collection(permit.collection())?;
        let count = items.len();
        let found = self.find(&keys, &collection, (Kind::Lookups, caller), items)?;
        let multi = collection.profile.usage() == TokenUse::Multi;
        let items: Vec<_> = found
            .into_iter()
            .map(|entry| match entry {
                Err(code) => ItemResult::Error(code.into()),
                Ok(known) => ItemResult::Ok(LookupResult {
                    card: known
                        .map(|known| Card { token: known.token.filter(|_| multi), card_id: known.card_id }),
                }),
            })
            .collect();
        let cards = items.iter().filter_map(|item| match item {
            ItemResult::Ok(LookupResult { card: Some(card) }) => Some(card.card_id),
            ItemResult::Ok(_) | ItemResult::Error(_) => None,
        });
        let event = caller
            .event(Action::Lookup, Outcome::Allowed)
            .collection(&collection.name)
            .cards(cards)
            .count(u64::try_from(count).unwrap_or(u64::MAX))
            .statements(statements(permit.statements()));
        self.note(event).await?;
        Ok(Items { items })
    }

    /// Whether the collection has cards of these numbers. The line in the audit log is the same for known and unknown
    /// ones, in its length as well: the caller asks on behalf of somebody who must not learn it.
    ///
    /// # Errors
    /// The whole call is refused; items refused alone are in the answer.
    pub async fn recognize(
        &self,
        caller: &Caller,
        permit: Permit<Recognize>,
        items: Vec<LookupItem>,
    ) -> Result<Items<Recognized>, VaultError> {
        let keys = self.keys()?;
        let collection = self.collection(permit.collection())?;
        let count = items.len();
        let found = self.find(&keys, &collection, (Kind::Recognitions, caller), items)?;
        let items = found.into_iter().map(|entry| match entry {
            Err(code) => ItemResult::Error(code.into()),
            Ok(known) => ItemResult::Ok(Recognized { known: known.is_some() }),
        });
        let items: Vec<_> = items.collect();
        let event = caller
            .event(Action::Lookup, Outcome::Allowed)
            .reason("recognize")
            .collection(&collection.name)
            .count(u64::try_from(count).unwrap_or(u64::MAX))
            .statements(statements(permit.statements()));
        self.note(event).await?;
        Ok(Items { items })
    }

    /// Counts the question, fingerprints the numbers and reads the index, for known and unknown ones alike.
    fn find(
        &self,
        keys: &Unlocked,
        collection: &Collection,
        (kind, caller): (Kind, &Caller),
        items: Vec<LookupItem>,
    ) -> Result<Vec<Result<Option<KnownCard>, ProblemCode>>, VaultError> {
        let number = collection.number();
        let lookups = keys.lookup_keys(number).map_err(|Withheld| ProblemCode::KeyUnavailable)?;
        let lookups: Vec<_> = lookups.collect();
        self.spend(kind, caller, items.len())?;
        let entries: Vec<Result<Vec<IndexEntry>, ProblemCode>> = items
            .into_iter()
            .map(|item| {
                let pan = item.pan.into_result()?;
                let entry = |key: &&IndexKeyVersion| IndexEntry {
                    version: key.version(),
                    fingerprint: fingerprint(key, self.environment, number, &pan),
                };
                let entries: Vec<_> = lookups.iter().map(entry).collect();
                let first = entries.first().ok_or(ProblemCode::Internal)?;
                self.admit(number, &pan, &first.fingerprint)?;
                Ok(entries)
            })
            .collect();
        let valid: Vec<_> = entries.iter().flatten().cloned().collect();
        let mut known = self.store.find(number, &valid)?.into_iter();
        Ok(entries.into_iter().map(|entry| entry.map(|_| known.next().flatten())).collect())
    }

    /// What may be shown of cards without revealing them.
    ///
    /// # Errors
    /// The whole call is refused; items refused alone are in the answer.
    pub async fn inspect(
        &self,
        caller: &Caller,
        permit: Permit<Inspect>,
        items: Vec<Submitted<Token>>,
    ) -> Result<Items<Inspected>, VaultError> {
        let keys = self.keys()?;
        let collection = self.collection(permit.collection())?;
        self.check_misses(caller.who.as_str())?;
        let mut broken = Vec::new();
        let found = self.select(&keys, &collection, items, &mut broken)?;
        let event = caller
            .sign(Event::inspection(Outcome::Allowed, &collection.name))
            .tokens(found.iter().flatten().map(|row| row.token.clone()))
            .count(u64::try_from(found.len()).unwrap_or(u64::MAX))
            .statements(statements(permit.statements()));
        let receipt = self.record(event).await?;
        let proof = InspectProof::for_inspect(&permit, &receipt, &collection)?;
        let mut answers = Vec::with_capacity(found.len());
        for entry in found {
            answers.push(match entry {
                Err(code) => ItemResult::Error(code.into()),
                Ok(row) if keys.may_show(row.collection, row.sealed.key_version()).is_err() => {
                    ItemResult::Error(ProblemCode::KeyUnavailable.into())
                }
                Ok(row) => match record::inspect(
                    &keys,
                    &self.binding(&row),
                    &row.sealed,
                    Truncation::default(),
                    &proof,
                ) {
                    Ok(masked) => ItemResult::Ok(shown(row, masked)),
                    Err(record::Refused) => {
                        broken.push(row.token);
                        ItemResult::Error(ProblemCode::Internal.into())
                    }
                },
            });
        }
        let event = caller.event(Action::Inspect, Outcome::Failed);
        self.report_broken(event, &collection.name, broken).await?;
        self.count_misses(caller.who.as_str(), &answers);
        Ok(Items { items: answers })
    }

    /// Erases tokens with their records and index entries.
    ///
    /// # Errors
    /// The whole call is refused; items refused alone are in the answer.
    pub async fn delete(
        &self,
        caller: &Caller,
        permit: Permit<Delete>,
        items: Vec<Submitted<Token>>,
    ) -> Result<Items<Deleted>, VaultError> {
        self.keys()?;
        let collection = self.collection(permit.collection())?;
        self.check_misses(caller.who.as_str())?;
        let wanted: Vec<_> = items.into_iter().map(|token| self.own_token(token)).collect();
        let tokens: Vec<Token> = wanted.iter().flatten().cloned().collect();
        // An expired one is erased, and answered like one that never was.
        let now = self.now();
        let rows = self.store.get(collection.number(), &tokens)?;
        let lived: Vec<bool> =
            rows.iter().map(|row| row.as_ref().is_some_and(|row| !collection.is_over(row, now))).collect();
        drop(rows);
        let event = |outcome: Outcome| {
            caller
                .event(Action::Delete, outcome)
                .collection(&collection.name)
                .count(u64::try_from(wanted.len()).unwrap_or(u64::MAX))
        };
        // One line before the act, as no act goes unrecorded, and one after it that carries the store's sequence.
        let intent = event(Outcome::Allowed).statements(statements(permit.statements()));
        let committed = self.erase(intent, &collection, tokens.clone(), Vec::new()).await?;
        let after = event(Outcome::Allowed).reason("erased").store_sequence(committed.sequence);
        let erased: Vec<Token> = tokens
            .into_iter()
            .zip(&committed.value)
            .filter(|(_, gone)| **gone)
            .map(|(token, _)| token)
            .collect();
        let gone: Vec<bool> = committed.value.iter().zip(lived).map(|(gone, lived)| *gone && lived).collect();
        let mut gone = gone.into_iter();
        let items: Vec<_> = wanted
            .into_iter()
            .map(|token| match token {
                Err(code) => ItemResult::Error(code.into()),
                Ok(token) if gone.next() == Some(true) => ItemResult::Ok(Deleted { token }),
                Ok(_) => ItemResult::Error(ProblemCode::TokenNotFound.into()),
            })
            .collect();
        let event = after.tokens(erased);
        self.note(event).await?;
        self.count_misses(caller.who.as_str(), &items);
        Ok(Items { items })
    }

    fn select(
        &self,
        keys: &Unlocked,
        collection: &Collection,
        items: Vec<Submitted<Token>>,
        broken: &mut Vec<Token>,
    ) -> Result<Vec<Result<Row, ProblemCode>>, VaultError> {
        let now = self.now();
        let wanted: Vec<_> = items.into_iter().map(|token| self.own_token(token)).collect();
        let tokens: Vec<Token> = wanted.iter().flatten().cloned().collect();
        let mut rows = self.store.get(collection.number(), &tokens)?.into_iter();
        Ok(wanted
            .into_iter()
            .map(|token| {
                token?;
                self.living(keys, collection, rows.next().flatten(), now, broken)
            })
            .collect())
    }
}

fn shown(row: Row, masked: record::Masked) -> Inspected {
    let created = i64::try_from(masked.created_at).ok().and_then(|at| Timestamp::from_second(at).ok());
    Inspected {
        token: row.token,
        card_id: row.card_id,
        masked: masked.masked,
        brand: masked.brand,
        expiry: masked.expiry,
        created_at: created.unwrap_or(Timestamp::UNIX_EPOCH).to_string(),
        key_version: masked.key_version,
        used: row.used,
    }
}
