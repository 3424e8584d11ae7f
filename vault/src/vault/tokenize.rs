//! Tokenizing: fingerprint, find, write new cards and known ones alike, hold the security code, record.
//!
//! Must never tell a new card from a known one in its answer or by the work it does (`docs/oracles.md`), nor give a card
//! a second multi-use token. Tests: `tests/tests/tokens.rs`, `tests/tests/main_path.rs`, `tests/tests/timing.rs`.

use super::{Caller, Vault, statements};
use crate::collections::Collection;
use crate::error::VaultError;
use crate::fingerprint::fingerprint;
use crate::keyring::{IndexKeyVersion, Unfit, Unlocked, Withheld};
use crate::limits::Kind;
use crate::mint::draw_card_id;
use crate::record::{self, Binding, CardData, ChangeError, Metadata, Refreshed};
use crate::store::{self, CardWrite, Claim, IndexEntry, KnownCard, NewCard, Row, Store};
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
        self.spend(Kind::Cards, caller, count)?;
        let mut answers: Vec<Option<ItemResult<Tokenized>>> = Vec::new();
        answers.resize_with(count, || None);
        let mut cards = Vec::with_capacity(count);
        for (position, item) in request.items.into_iter().enumerate() {
            match self.read_item(&work, position, item) {
                Ok(card) => cards.push(card),
                Err(code) => put(&mut answers, position, ItemResult::Error(code.into())),
            }
        }
        let (done, sequence) = self.claim(&work, cards).await?;
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
            Some(pairs) => Some(Metadata::from_pairs(&pairs)?),
        };
        let number = work.collection.number();
        let entry = |key: &&IndexKeyVersion| IndexEntry {
            version: key.version(),
            fingerprint: fingerprint(key, self.environment, number, &pan),
        };
        let index: Vec<_> = work.lookups.iter().map(entry).collect();
        let first = index.first().ok_or(ProblemCode::Internal)?;
        self.admit(number, &pan, &first.fingerprint)?;
        Ok(Card { position, pan, expiry, metadata, cvv, index, card_id: None })
    }

    /// Gives every card its token: the one it has, or a new one that no other writer can give it a second time. New and
    /// known cards are found, sealed, opened and written in the same steps and the same commit.
    async fn claim(&self, work: &Work<'_>, mut waiting: Vec<Card>) -> Result<(Vec<Done>, u64), VaultError> {
        let mut done = Vec::with_capacity(waiting.len());
        let mut sequence = 0;
        let number = work.collection.number();
        for _ in 0..ROUNDS {
            if waiting.is_empty() {
                return Ok((done, sequence));
            }
            work.may_enter()?;
            let entries: Vec<_> = waiting.iter().map(|card| card.index.clone()).collect();
            let known = self.store.find(number, &entries)?;
            let mut named = Vec::with_capacity(waiting.len());
            let mut writes = Vec::with_capacity(waiting.len());
            for (mut card, known) in waiting.into_iter().zip(known) {
                let (write, token, card_id) = match self.settled(work, &mut card, known).await? {
                    Some(row) => self.renew(work, &card, row).await?,
                    None => self.propose(work, &card)?,
                };
                named.push(Done { card, token, card_id });
                writes.push(write);
            }
            let committed = self.store.write_cards(writes).await?;
            sequence = sequence.max(committed.sequence);
            waiting = Vec::new();
            for (card, written) in named.into_iter().zip(committed.value) {
                // Somebody else was first, or the drawn token exists: the next round finds or draws again.
                if written { done.push(card) } else { waiting.push(card.card) }
            }
        }
        if waiting.is_empty() { Ok((done, sequence)) } else { Err(VaultError::Refused(ProblemCode::Busy)) }
    }

    /// The row whose token a card keeps, if it is known, multi-use and not expired. Anything else needs a new token.
    async fn settled(
        &self,
        work: &Work<'_>,
        card: &mut Card,
        known: Option<KnownCard>,
    ) -> Result<Option<Row>, VaultError> {
        let Some(known) = known else { return Ok(None) };
        card.card_id = Some(known.card_id);
        let (Some(token), TokenUse::Multi) = (known.token, work.collection.profile.usage()) else {
            return Ok(None);
        };
        let Some(row) = self.row(work, &token)? else { return Ok(None) };
        let is_over = self.is_over(work.keys, work.collection, &row, work.now);
        let Ok(is_over) = is_over else { return Err(self.broken_card(work, token).await?) };
        if is_over {
            let event = work.caller.event(Action::Delete, Outcome::Allowed).reason("expired");
            self.erase(event, work.collection, vec![token], Vec::new()).await?;
            return Ok(None);
        }
        Ok(Some(row))
    }

    fn row(&self, work: &Work<'_>, token: &Token) -> Result<Option<Row>, VaultError> {
        let rows = self.store.get(work.collection.number(), std::slice::from_ref(token))?;
        Ok(rows.into_iter().flatten().next())
    }

    /// A new card's row: drawn, looked for, sealed, opened.
    fn propose(&self, work: &Work<'_>, card: &Card) -> Result<(CardWrite, Token, CardId), VaultError> {
        let profile = &work.collection.profile;
        let number = work.collection.number();
        let (token, fresh) = self.draw(work, card)?;
        // Taken tokens are found by the writer; here it is the read that a known card's row costs.
        drop(self.row(work, &token)?);
        let card_id = card.card_id.unwrap_or(fresh);
        let expires_at = profile.expires_at(work.now);
        let (environment, created_at) = (self.environment, work.now);
        let binding =
            Binding { environment, collection: number, token: &token, card_id, expires_at, created_at };
        let metadata = card.metadata.as_ref().map_or_else(Metadata::none, Metadata::duplicate);
        let data = CardData { pan: card.pan.duplicate(), expiry: card.expiry, metadata, created_at };
        let key = work.keys.active_data_key(number).ok_or(ProblemCode::KeyUnavailable)?;
        let sealed =
            record::seal(key, &binding, &data, work.wall).map_err(|error| super::seal_error(&error))?;
        record::verify(work.keys, &binding, &sealed, &card.pan)
            .map_err(|_refused| VaultError::Integrity("a record that was just sealed does not open"))?;
        let claim = match profile.usage() {
            TokenUse::Multi => Claim::Multi,
            TokenUse::Single => Claim::Single,
        };
        let new = NewCard {
            collection: number,
            index: work.entered(card),
            claim,
            token: token.clone(),
            card_id,
            expires_at,
            created_at,
            sealed,
        };
        Ok((CardWrite::Insert(new), token, card_id))
    }

    /// A known card's row with what came with it this time: looked for, opened, sealed, and a token drawn for nothing.
    /// The record must be that of the card: an index entry that was pointed at another one would give that one's token
    /// out.
    async fn renew(
        &self,
        work: &Work<'_>,
        card: &Card,
        row: Row,
    ) -> Result<(CardWrite, Token, CardId), VaultError> {
        drop(self.draw(work, card)?);
        let key = work.keys.data_key(row.collection, row.sealed.key_version());
        if key.is_some_and(|key| !key.state().may_rewrap_from()) {
            return Err(ProblemCode::KeyUnavailable.into());
        }
        let metadata = card.metadata.as_ref().map(Metadata::duplicate);
        let brought = record::Refresh { pan: &card.pan, expiry: card.expiry, metadata };
        let renewed = record::refresh(work.keys, &self.binding(&row), &row.sealed, brought, work.wall);
        let Row { collection, token, card_id, sealed: expected, .. } = row;
        match renewed {
            Ok(Refreshed { sealed, changed }) => {
                let refresh = store::Refresh { collection, token: token.clone(), expected, sealed, changed };
                Ok((CardWrite::Refresh(refresh), token, card_id))
            }
            Err(ChangeError::Refused(_)) => Err(self.broken_card(work, token).await?),
            Err(ChangeError::Seal(error)) => Err(super::seal_error(&error)),
        }
    }

    /// Reports a record that is not that of its row or its card.
    async fn broken_card(&self, work: &Work<'_>, token: Token) -> Result<VaultError, VaultError> {
        let event = work.caller.event(Action::Tokenize, Outcome::Failed);
        self.report_broken(event, &work.collection.name, vec![token]).await?;
        Ok(VaultError::Integrity("a stored record is not that of its card"))
    }

    fn draw(&self, work: &Work<'_>, card: &Card) -> Result<(Token, CardId), VaultError> {
        let token = work.collection.profile.mint(self.environment, card.pan.len(), card.pan.last_four());
        let card_id = draw_card_id().map_err(|_random| VaultError::Randomness)?;
        Ok((token.map_err(|_exhausted| VaultError::Randomness)?, card_id))
    }

    fn hold_codes(&self, collection: &Collection, done: &[Done]) -> Vec<Result<(), ProblemCode>> {
        let hold = |done: &Done| match &done.card.cvv {
            None => Ok(()),
            Some(cvv) => self.hold_code(collection, &done.token, cvv),
        };
        done.iter().map(hold).collect()
    }
}

impl Work<'_> {
    /// Asked for known cards as well: who is refused and who is not would tell them from new ones.
    fn may_enter(&self) -> Result<(), VaultError> {
        let active = self.keys.active_index_key(self.collection.number());
        active
            .ok_or(Unfit::NotActive)
            .and_then(|key| key.may_enter(self.wall))
            .map_err(|unfit| VaultError::Explained(ProblemCode::KeyUnavailable, unfit.to_string()))
    }

    /// The entries a new card gets: under the active index key and the one it replaces, so that whoever still works
    /// with the keyring before finds it; never under a compromised one.
    fn entered(&self, card: &Card) -> Vec<IndexEntry> {
        let enters = |version: u32| {
            self.lookups.iter().any(|key| key.version() == version && key.state().may_enter_beside())
        };
        card.index.iter().filter(|entry| enters(entry.version)).copied().collect()
    }
}

fn put<T>(answers: &mut [Option<ItemResult<T>>], position: usize, answer: ItemResult<T>) {
    if let Some(slot) = answers.get_mut(position) {
        *slot = Some(answer);
    }
}

/// A card changes hands between writers at most once or twice; more is a sign of a defect.
const ROUNDS: usize = 8;
