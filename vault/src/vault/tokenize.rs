//! Tokenizing: fingerprint, find or insert, refresh what came with the card, hold the security code, record.
//!
//! Must never tell a new card from a known one in its answer, nor give a card a second multi-use token.
//! Tests: `tests/tests/tokens.rs`, `tests/tests/main_path.rs`.

use super::{Caller, Vault, statements};
use crate::collections::Collection;
use crate::error::VaultError;
use crate::fingerprint::fingerprint;
use crate::keyring::{IndexKeyVersion, Unfit, Unlocked, Withheld};
use crate::mint::draw_card_id;
use crate::record::{self, Binding, CardData, ChangeError, Metadata, Refresh};
use crate::store::{Claim, IndexEntry, Inserted, KnownCard, NewCard, Replacement, Store};
use cordon_audit::{Action, Outcome};
use cordon_card::{CardId, Cvv, Expiry, Pan, Token};
use cordon_policy::{Permit, Tokenize};
use cordon_wire::{ItemResult, Items, ProblemCode, TokenUse, TokenizeItem, TokenizeRequest, Tokenized};
use jiff::Timestamp;

/// One valid item on its way.
struct Card {
    position: usize,
    pan: Pan,
    expiry: Option<Expiry>,
    metadata: Option<Metadata>,
    cvv: Option<Cvv>,
    index: Vec<IndexEntry>,
    /// The card id another token of this card already has.
    card_id: Option<CardId>,
}

/// What one item became.
struct Done {
    card: Card,
    token: Token,
    card_id: CardId,
    /// It was there before: what came with it this time must be written to its record.
    known: bool,
}

/// One round's view of the vault: the keys and the collection it works with.
struct Work<'a> {
    keys: &'a Unlocked,
    collection: &'a Collection,
    now: u64,
    wall: Timestamp,
    /// Every index key a known card may be entered under.
    lookups: Vec<&'a IndexKeyVersion>,
    caller: &'a Caller,
}

impl<S: Store> Vault<S> {
    /// Tokenizes a batch.
    ///
    /// # Errors
    /// The whole call is refused; items refused alone are in the answer.
    pub async fn tokenize(
        &self,
        caller: &Caller,
        permit: Permit<Tokenize>,
        request: TokenizeRequest,
    ) -> Result<Items<Tokenized>, VaultError> {
        let keys = self.keys()?;
        let collection = self.collection(permit.collection())?;
        let lookups = keys.lookup_keys(collection.number());
        let lookups = lookups.map_err(|Withheld| ProblemCode::KeyUnavailable)?.collect();
        let (now, wall) = (self.now(), self.wall());
        let work = Work { keys: &keys, collection: &collection, now, wall, lookups, caller };
        let count = request.items.len();
        let mut answers: Vec<Option<ItemResult<Tokenized>>> = Vec::new();
        answers.resize_with(count, || None);
        let mut cards = Vec::with_capacity(count);
        for (position, item) in request.items.into_iter().enumerate() {
            match self.read_item(&work, position, item) {
                Ok(card) => cards.push(card),
                Err(code) => put(&mut answers, position, ItemResult::Error(code.into())),
            }
        }
        let (done, mut sequence) = self.claim(&work, cards).await?;
        sequence = sequence.max(self.refresh_known(&work, &done).await?);
        let mut event = caller
            .event(Action::Tokenize, if done.is_empty() { Outcome::Failed } else { Outcome::Allowed })
            .collection(&collection.name)
            .tokens(done.iter().map(|done| done.token.clone()))
            .cards(done.iter().map(|done| done.card_id))
            .count(u64::try_from(count).unwrap_or(u64::MAX))
            .statements(statements(permit.statements()));
        if sequence > 0 {
            event = event.store_sequence(sequence);
        }
        let refused = answers.iter().flatten().find_map(|answer| match answer {
            ItemResult::Error(problem) => Some(problem.code),
            ItemResult::Ok(_) => None,
        });
        if let Some(code) = refused {
            event = event.reason(code.as_str());
        }
        // The security codes are held before the line is written, so that the line speaks of what is there; if it
        // can't be written the caller gets no token to take them with.
        let held = self.hold_codes(&collection, &done);
        self.note(event).await?;
        for (done, held) in done.into_iter().zip(held) {
            let answer = match held {
                Err(code) => ItemResult::Error(code.into()),
                Ok(()) => ItemResult::Ok(Tokenized {
                    brand: done.card.pan.brand(),
                    last_four: done.card.pan.last_four(),
                    token: done.token,
                    card_id: done.card_id,
                }),
            };
            put(&mut answers, done.card.position, answer);
        }
        let missing = || ItemResult::Error(ProblemCode::Internal.into());
        Ok(Items { items: answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect() })
    }

    fn read_item(&self, work: &Work<'_>, position: usize, item: TokenizeItem) -> Result<Card, ProblemCode> {
        let pan = item.pan.into_result()?;
        let expiry = item.expiry.map(cordon_wire::Submitted::into_result).transpose()?;
        let cvv = item.cvv.map(cordon_wire::Submitted::into_result).transpose()?;
        let metadata = match item.metadata {
            None => None,
            Some(pairs) => {
                Some(Metadata::from_pairs(&pairs).map_err(|_too_long| ProblemCode::MetadataTooLarge)?)
            }
        };
        let number = work.collection.number();
        let entry = |key: &&IndexKeyVersion| IndexEntry {
            version: key.version(),
            fingerprint: fingerprint(key, self.environment, number, &pan),
        };
        let index: Vec<_> = work.lookups.iter().map(entry).collect();
        Ok(Card { position, pan, expiry, metadata, cvv, index, card_id: None })
    }

    /// Gives every card its token: the one it has, or a new one that no other writer can give it a second time.
    async fn claim(&self, work: &Work<'_>, mut waiting: Vec<Card>) -> Result<(Vec<Done>, u64), VaultError> {
        let mut done = Vec::with_capacity(waiting.len());
        let mut sequence = 0;
        let number = work.collection.number();
        for _ in 0..ROUNDS {
            if waiting.is_empty() {
                return Ok((done, sequence));
            }
            let entries: Vec<_> = waiting.iter().map(|card| card.index.clone()).collect();
            let known = self.store.find(number, &entries)?;
            let mut fresh = Vec::with_capacity(waiting.len());
            for (card, known) in waiting.into_iter().zip(known) {
                match self.settle(work, card, known).await? {
                    Settled::Done(found) => done.push(found),
                    Settled::Fresh(card) => fresh.push(card),
                }
            }
            if fresh.is_empty() {
                return Ok((done, sequence));
            }
            let proposals =
                fresh.iter().map(|card| self.propose(work, card)).collect::<Result<Vec<_>, _>>()?;
            let names: Vec<_> =
                proposals.iter().map(|proposal| (proposal.token.clone(), proposal.card_id)).collect();
            let committed = self.store.insert(proposals).await?;
            sequence = sequence.max(committed.sequence);
            waiting = Vec::new();
            for ((card, (token, card_id)), inserted) in fresh.into_iter().zip(names).zip(committed.value) {
                match inserted {
                    Inserted::Won => done.push(Done { card, token, card_id, known: false }),
                    // Somebody else was first, or the drawn token exists: the next round finds or draws again.
                    Inserted::Known(_) | Inserted::TokenTaken => waiting.push(card),
                }
            }
        }
        if waiting.is_empty() { Ok((done, sequence)) } else { Err(VaultError::Refused(ProblemCode::Busy)) }
    }

    /// A known multi-use card has its token, unless that has expired; anything else needs a new one.
    async fn settle(
        &self,
        work: &Work<'_>,
        mut card: Card,
        known: Option<KnownCard>,
    ) -> Result<Settled, VaultError> {
        let Some(known) = known else { return Ok(Settled::Fresh(card)) };
        card.card_id = Some(known.card_id);
        let (Some(token), TokenUse::Multi) = (known.token, work.collection.profile.usage()) else {
            return Ok(Settled::Fresh(card));
        };
        if work.collection.has_ends() {
            let rows = self.store.get(work.collection.number(), std::slice::from_ref(&token))?;
            let row = rows.into_iter().flatten().next();
            if row.is_some_and(|row| work.collection.is_over(&row, work.now)) {
                let event = work.caller.event(Action::Delete, Outcome::Allowed).reason("expired");
                self.erase(event, work.collection, vec![token], Vec::new()).await?;
                return Ok(Settled::Fresh(card));
            }
        }
        Ok(Settled::Done(Done { card, token, card_id: known.card_id, known: true }))
    }

    fn propose(&self, work: &Work<'_>, card: &Card) -> Result<NewCard, VaultError> {
        let profile = &work.collection.profile;
        let number = work.collection.number();
        let token = profile
            .mint(self.environment, card.pan.len(), card.pan.last_four())
            .map_err(|_exhausted| VaultError::Randomness)?;
        let card_id = match card.card_id {
            Some(card_id) => card_id,
            None => draw_card_id().map_err(|_random| VaultError::Randomness)?,
        };
        let expires_at = profile.expires_at(work.now);
        let binding =
            Binding { environment: self.environment, collection: number, token: &token, card_id, expires_at };
        let metadata = card.metadata.as_ref().map_or_else(Metadata::none, Metadata::duplicate);
        let data =
            CardData { pan: card.pan.duplicate(), expiry: card.expiry, metadata, created_at: work.now };
        let key = work.keys.active_data_key(number).ok_or(ProblemCode::KeyUnavailable)?;
        let sealed =
            record::seal(key, &binding, &data, work.wall).map_err(|error| super::seal_error(&error))?;
        let claim = match profile.usage() {
            TokenUse::Multi => Claim::Multi,
            TokenUse::Single => Claim::Single,
        };
        let index = work.entered(card)?;
        let created_at = work.now;
        Ok(NewCard { collection: number, index, claim, token, card_id, expires_at, created_at, sealed })
    }

    /// Writes the expiry and metadata that came with known cards to their records, and checks of each that its record
    /// is that of the card: an index entry that was pointed at another card would give that one's token out.
    async fn refresh_known(&self, work: &Work<'_>, done: &[Done]) -> Result<u64, VaultError> {
        let mut todo: Vec<&Done> = done.iter().filter(|done| done.known).collect();
        let mut sequence = 0;
        for _ in 0..ROUNDS {
            if todo.is_empty() {
                return Ok(sequence);
            }
            let Refreshed { changes, changed, broken } = self.refreshed(work, &todo)?;
            if !broken.is_empty() {
                let event = work.caller.event(Action::Tokenize, Outcome::Failed);
                self.report_broken(event, &work.collection.name, broken).await?;
                return Err(VaultError::Integrity("a stored record is not that of its card"));
            }
            if changes.is_empty() {
                return Ok(sequence);
            }
            let committed = self.store.replace(changes).await?;
            sequence = sequence.max(committed.sequence);
            // Those that another writer changed meanwhile go once more.
            todo = changed
                .into_iter()
                .zip(committed.value)
                .filter(|(_, won)| !won)
                .map(|(done, _)| done)
                .collect();
        }
        if todo.is_empty() { Ok(sequence) } else { Err(VaultError::Refused(ProblemCode::Busy)) }
    }

    fn refreshed<'d>(&self, work: &Work<'_>, todo: &[&'d Done]) -> Result<Refreshed<'d>, VaultError> {
        let number = work.collection.number();
        let tokens: Vec<_> = todo.iter().map(|done| done.token.clone()).collect();
        let mut refreshed = Refreshed { changes: Vec::new(), changed: Vec::new(), broken: Vec::new() };
        for (done, row) in todo.iter().zip(self.store.get(number, &tokens)?) {
            // Deleted since it was found: there is nothing to refresh.
            let Some(row) = row else { continue };
            let binding = Binding {
                environment: self.environment,
                collection: number,
                token: &row.token,
                card_id: row.card_id,
                expires_at: row.expires_at,
            };
            let metadata = done.card.metadata.as_ref().map(Metadata::duplicate);
            let brought = Refresh { pan: &done.card.pan, expiry: done.card.expiry, metadata };
            let key = work.keys.data_key(number, row.sealed.key_version());
            if key.is_some_and(|key| !key.state().may_rewrap_from()) {
                return Err(ProblemCode::KeyUnavailable.into());
            }
            match record::refresh(work.keys, &binding, &row.sealed, brought, work.wall) {
                Ok(None) => {}
                Ok(Some(sealed)) => {
                    refreshed.changes.push(Replacement {
                        collection: number,
                        token: row.token,
                        expected: row.sealed,
                        sealed,
                        add_index: None,
                        drop_index_version: None,
                    });
                    refreshed.changed.push(*done);
                }
                Err(ChangeError::Refused(_)) => refreshed.broken.push(row.token),
                Err(ChangeError::Seal(error)) => return Err(super::seal_error(&error)),
            }
        }
        Ok(refreshed)
    }

    fn hold_codes(&self, collection: &Collection, done: &[Done]) -> Vec<Result<(), ProblemCode>> {
        let now = self.clock.monotonic();
        let mut holds = self.holds();
        done.iter()
            .map(|done| match &done.card.cvv {
                None => Ok(()),
                Some(cvv) => {
                    holds.hold(collection.number(), &done.token, cvv, now).map_err(|_full| ProblemCode::Busy)
                }
            })
            .collect()
    }
}

impl Work<'_> {
    /// The entries a new card gets: under the active index key and the one it replaces, so that whoever still works
    /// with the keyring before finds it; never under a compromised one.
    fn entered(&self, card: &Card) -> Result<Vec<IndexEntry>, VaultError> {
        let active = self.keys.active_index_key(self.collection.number());
        active
            .ok_or(Unfit::NotActive)
            .and_then(|key| key.may_enter(self.wall))
            .map_err(|unfit| VaultError::Explained(ProblemCode::KeyUnavailable, unfit.to_string()))?;
        let enters = |version: u32| {
            self.lookups.iter().any(|key| key.version() == version && key.state().may_enter_beside())
        };
        Ok(card.index.iter().filter(|entry| enters(entry.version)).copied().collect())
    }
}

/// What was found out about the records of known cards.
struct Refreshed<'d> {
    changes: Vec<Replacement>,
    /// Whose records the changes are.
    changed: Vec<&'d Done>,
    /// Records that do not open, or hold another card.
    broken: Vec<Token>,
}

/// Whether a card still needs a token.
enum Settled {
    Done(Done),
    Fresh(Card),
}

fn put<T>(answers: &mut [Option<ItemResult<T>>], position: usize, answer: ItemResult<T>) {
    if let Some(slot) = answers.get_mut(position) {
        *slot = Some(answer);
    }
}

/// A card changes hands between writers at most once or twice; more is a sign of a defect.
const ROUNDS: usize = 8;
