//! Erasing records whose time is over, verifying that none is left, and knowing what older copies still show.
//!
//! Must never erase before it is recorded, both as a deletion in the audit log and as a day of erasures in the store; nor
//! trust a clock that jumped ahead, or a date that is not the one sealed in the record. Tests: `tests/tests/retention.rs`.

use super::{Caller, Vault};
use crate::collections::Collection;
use crate::error::VaultError;
use crate::record;
use crate::retention::{ERASURES, Erasures, Page, Run, VERIFIED, Verified, clock_jump};
use crate::store::{CollectionId, Row, Store};
use cordon_audit::{Action, Event, Name, Outcome};
use cordon_card::{CardId, Token};
use cordon_policy::{Administer, Observe, Permit};
use cordon_wire::{Operation, ProblemCode, Retention, RetentionReport, RetentionRequest, RetentionStatus};
use jiff::{SignedDuration, Timestamp};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// The run there is, and what earlier ones found.
#[derive(Default)]
pub(super) struct Keeper {
    run: Option<Run>,
    /// When the last run of this process ended, on the monotonic clock.
    ended: Option<Duration>,
    asked: u64,
    verified: u64,
    last: Option<Verified>,
    version: Option<u64>,
}

/// The days on which records were erased.
#[derive(Default)]
pub(super) struct Ledger {
    erasures: Erasures,
    version: Option<u64>,
}

impl Keeper {
    pub(super) fn load<S: Store>(store: &S) -> Result<Keeper, VaultError> {
        let Some(stored) = store.document(VERIFIED)? else { return Ok(Keeper::default()) };
        let last = serde_json::from_slice(&stored.bytes)
            .map_err(|_json| VaultError::Integrity("the stored verification is not well formed"))?;
        Ok(Keeper { last: Some(last), version: Some(stored.version), ..Keeper::default() })
    }
}

impl Ledger {
    pub(super) fn load<S: Store>(store: &S) -> Result<Ledger, VaultError> {
        let Some(stored) = store.document(ERASURES)? else { return Ok(Ledger::default()) };
        let erasures = Erasures::parse(&stored.bytes)
            .map_err(|_json| VaultError::Integrity("the stored erasures are not well formed"))?;
        Ok(Ledger { erasures, version: Some(stored.version) })
    }

    async fn write<S: Store>(&mut self, store: &S) -> Result<(), VaultError> {
        let bytes = serde_json::to_vec(&self.erasures);
        let bytes = bytes.map_err(|_json| VaultError::Integrity("erasures can't be written"))?;
        self.version = Some(store.put_document(ERASURES, self.version, bytes).await?.value);
        Ok(())
    }
}

impl<S: Store> Vault<S> {
    /// Says how long a collection's records are kept.
    ///
    /// # Errors
    /// [`ProblemCode::UnknownCollection`]; [`ProblemCode::BadField`] for no days at all; [`ProblemCode::ApprovalRequired`]
    /// where cards that are there would be erased earlier than by the rule before.
    pub async fn set_retention(
        &self,
        caller: &Caller,
        permit: Permit<Administer>,
        request: RetentionRequest,
    ) -> Result<RetentionReport, VaultError> {
        let _one_change = self.changing.lock().await;
        self.keys()?;
        let collection = self.collection(Some(&request.collection))?;
        if request.retention == Retention::Days(0) {
            return Err(VaultError::Explained(ProblemCode::BadField, "keep at least one day".to_owned()));
        }
        let has_cards = !self.store.scan(collection.number(), None, 1)?.is_empty();
        if has_cards && request.retention.shortens(collection.retention.as_ref()) {
            drop(self.approve_use(caller, &Operation::ShortenRetention(request.clone())).await?);
        }
        let what = match &request.retention {
            Retention::Days(days) => format!("{days}-days"),
            Retention::Reason(reason) => reason.as_str().to_owned(),
        };
        let line = self.change(caller, Action::CollectionChange, &permit).collection(&collection.name);
        self.note(line.reason("retention").on(&Name::parse_or_withhold(&what))).await?;
        let next = self.collections().with_retention(&request.collection, request.retention);
        let bytes = next.to_bytes().map_err(|_json| VaultError::Integrity("collections can't be written"))?;
        let version = self.store.document(crate::collections::DOCUMENT)?.map(|document| document.version);
        let committed = self.store.put_document(crate::collections::DOCUMENT, version, bytes).await?;
        *self.collections.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        self.anchor(caller, Action::CollectionChange, committed.sequence).await?;
        self.report().await
    }

    /// Begins a verification: a run that erases what is over and then counts every record.
    ///
    /// # Errors
    /// [`ProblemCode::Conflict`] while the clock can't be trusted; the vault is sealed.
    pub async fn verify_retention(
        &self,
        caller: &Caller,
        permit: Permit<Administer>,
    ) -> Result<RetentionReport, VaultError> {
        self.keys()?;
        if let Some(words) = self.clock_jump() {
            return Err(VaultError::Explained(ProblemCode::Conflict, words));
        }
        self.note(self.change(caller, Action::Retention, &permit).reason("asked")).await?;
        {
            let mut keeper = self.keeper.lock().await;
            keeper.asked = keeper.asked.saturating_add(1);
        }
        self.report().await
    }

    /// What the last verification found.
    ///
    /// # Errors
    /// The audit line can't be written.
    pub async fn show_retention(
        &self,
        caller: &Caller,
        permit: Permit<Observe>,
    ) -> Result<RetentionReport, VaultError> {
        self.observed(caller, &permit, "retention").await?;
        self.report().await
    }

    async fn report(&self) -> Result<RetentionReport, VaultError> {
        let keeper = self.keeper.lock().await;
        let ledger = self.ledger.lock().await;
        let collections: Vec<_> = self
            .collections()
            .iter()
            .map(|collection| self.retention_of(collection, keeper.last.as_ref(), &ledger.erasures))
            .collect();
        let good = keeper.last.is_some()
            && collections.iter().all(|one| {
                one.over_age == 0 && one.without_reason == 0 && one.broken == 0 && !one.shred_overdue
            });
        Ok(RetentionReport {
            running: keeper.run.is_some(),
            asked: keeper.asked,
            verified: keeper.verified,
            verified_at: keeper.last.as_ref().map(|last| last.at.to_string()),
            good,
            collections,
        })
    }

    fn retention_of(
        &self,
        collection: &Collection,
        last: Option<&Verified>,
        erasures: &Erasures,
    ) -> RetentionStatus {
        let counted = last.and_then(|last| last.collections.get(&collection.id)).copied().unwrap_or_default();
        let oldest = counted.oldest.and_then(|at| i64::try_from(at).ok());
        let oldest = oldest.and_then(|at| Timestamp::from_second(at).ok());
        let exposed = erasures.exposed(collection.id, self.key_times(collection.id).0);
        RetentionStatus {
            collection: collection.name.clone(),
            retention: collection.retention.clone(),
            records: counted.records,
            over_age: counted.over_age,
            without_reason: counted.without_reason,
            broken: counted.broken,
            oldest: oldest.map(|at| at.to_string()),
            exposed: exposed.map_or(0, |exposed| exposed.records),
            exposed_since: exposed.map(|exposed| exposed.since.to_string()),
            shred_overdue: exposed.is_some_and(|exposed| exposed.is_overdue(self.wall())),
        }
    }

    /// When the oldest and the newest key of a collection were made that still exist. While the vault is sealed the
    /// oldest is as old as can be, so that no erasure looks done with.
    fn key_times(&self, number: u32) -> (Timestamp, Timestamp) {
        let list = self.keys().map(|keys| keys.list()).unwrap_or_default();
        let made = list
            .iter()
            .filter(|key| key.collection == Some(number) && key.state != crate::keyring::KeyState::Destroyed)
            .map(|key| key.created);
        let oldest = made.clone().min().unwrap_or(Timestamp::MIN);
        (oldest, made.max().unwrap_or(Timestamp::MAX))
    }

    /// Erases tokens: records the day, then the deletion, and only then deletes. Gives which were there, and the commit.
    pub(super) async fn erase(
        &self,
        line: Event,
        collection: &Collection,
        tokens: Vec<Token>,
        cards: Vec<CardId>,
    ) -> Result<crate::store::Committed<Vec<bool>>, VaultError> {
        let present = self.store.get(collection.number(), &tokens)?.into_iter().flatten().count();
        if present > 0 {
            let count = u64::try_from(present).unwrap_or(u64::MAX);
            let mut ledger = self.ledger.lock().await;
            let (_oldest, newest) = self.key_times(collection.id);
            if ledger.erasures.note(collection.id, count, self.wall(), newest) {
                ledger.write(&self.store).await?;
            }
        }
        self.note(line.collection(&collection.name).tokens(tokens.iter().cloned()).cards(cards)).await?;
        let committed = self.store.delete(collection.number(), tokens.clone()).await?;
        for token in &tokens {
            self.forget_code(collection, token);
        }
        Ok(committed)
    }

    /// Does one page of retention, and says how long to wait before the next. An error is logged and tried again.
    pub async fn retention_step(&self) -> Duration {
        match self.retention_page().await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::error!(%error, "retention");
                AFTER_AN_ERROR
            }
        }
    }

    async fn retention_page(&self) -> Result<Duration, VaultError> {
        // Sealed: nothing is erased either. A clock that jumped would erase what has years to live.
        let Ok(keys) = self.keys() else { return Ok(IDLE) };
        if self.clock_jump().is_some() {
            return Ok(IDLE);
        }
        let mut keeper = self.keeper.lock().await;
        if keeper.run.is_none() {
            let verifies = keeper.asked > keeper.verified;
            let is_due =
                keeper.ended.is_none_or(|ended| self.clock.monotonic().saturating_sub(ended) >= EVERY);
            if !verifies && !is_due {
                return Ok(IDLE);
            }
            let numbers = self.collections().iter().map(|collection| collection.id).collect();
            keeper.run = Some(Run::new(numbers, verifies, self.now()));
        }
        let Some(run) = &mut keeper.run else { return Ok(IDLE) };
        let Some((number, after)) = run.place() else {
            self.end_run(&mut keeper).await?;
            return Ok(Duration::ZERO);
        };
        let rows = self.store.scan(CollectionId(number), after, PAGE)?;
        let collections = self.collections();
        let collection = collections.iter().find(|collection| collection.id == number);
        let (Some(collection), false) = (collection, rows.is_empty()) else {
            run.end_collection();
            return Ok(Duration::ZERO);
        };
        let is_own = |row: &Row| record::confirm(&keys, &self.binding(row), &row.sealed).is_ok();
        let Page { over, broken } = run.page(collection, &rows, is_own);
        let line = Event::new(Action::Retention, Outcome::Failed);
        self.report_broken(line, &collection.name, broken).await?;
        if !over.is_empty() {
            self.erase_over_age(collection, over, &rows).await?;
        }
        Ok(PAGE_PAUSE)
    }

    async fn erase_over_age(
        &self,
        collection: &Collection,
        over: Vec<Token>,
        rows: &[Row],
    ) -> Result<(), VaultError> {
        let cards = rows.iter().filter(|row| over.contains(&row.token)).map(|row| row.card_id).collect();
        let line = || Event::new(Action::Delete, Outcome::Allowed);
        let committed = self.erase(line().reason("retention"), collection, over, cards).await?;
        let gone = u64::try_from(committed.value.iter().filter(|gone| **gone).count()).unwrap_or(u64::MAX);
        self.metrics.gauges().erased.inc_by(i64::try_from(gone).unwrap_or(i64::MAX));
        let done = line().collection(&collection.name).count(gone).reason("erased");
        self.note(done.store_sequence(committed.sequence)).await
    }

    async fn end_run(&self, keeper: &mut Keeper) -> Result<(), VaultError> {
        let Some(run) = keeper.run.take() else { return Ok(()) };
        keeper.ended = Some(self.clock.monotonic());
        self.tidy_ledger().await?;
        if !run.verifies {
            return Ok(());
        }
        let verified = run.into_verified(self.wall());
        let bytes = serde_json::to_vec(&verified);
        let bytes = bytes.map_err(|_json| VaultError::Integrity("a verification can't be written"))?;
        let committed = self.store.put_document(VERIFIED, keeper.version, bytes).await?;
        keeper.version = Some(committed.value);
        for (number, counted) in &verified.collections {
            let outcome = if counted.is_good() { Outcome::Allowed } else { Outcome::Failed };
            let reason = if counted.over_age > 0 {
                "over-age"
            } else if counted.broken > 0 {
                "integrity"
            } else if counted.is_good() {
                "none-over-age"
            } else {
                "without-reason"
            };
            let mut line = Event::new(Action::Retention, outcome).count(counted.records).reason(reason);
            if let Some(name) = self.collections().name_of(*number) {
                line = line.collection(name);
            }
            self.note(line.store_sequence(committed.sequence)).await?;
        }
        keeper.last = Some(verified);
        // Verifications asked for while this one ran are answered by it no more than by one before.
        keeper.verified = keeper.verified.saturating_add(1);
        Ok(())
    }

    /// Writes the counts of the ledger, without the days whose keys are gone.
    async fn tidy_ledger(&self) -> Result<(), VaultError> {
        let mut ledger = self.ledger.lock().await;
        let before = ledger.erasures.clone();
        for number in before.0.keys() {
            let (oldest, _newest) = self.key_times(*number);
            ledger.erasures.forget(*number, oldest);
        }
        if before.0.is_empty() { Ok(()) } else { ledger.write(&self.store).await }
    }

    /// Words about a clock that moved ahead of the monotonic one since the vault started.
    fn clock_jump(&self) -> Option<String> {
        let ahead = clock_jump(self.started, (self.wall(), self.clock.monotonic()))?;
        let minutes = ahead.as_mins();
        Some(format!(
            "the clock jumped ahead by {minutes} minutes: nothing is erased until the vault is restarted"
        ))
    }

    /// What an operator should do about retention.
    pub(super) async fn retention_warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.clock_jump().into_iter().collect();
        let Ok(report) = self.report().await else { return warnings };
        let profiles = self.collections();
        for one in &report.collections {
            let name = &one.collection;
            let ends = profiles.get(name).is_some_and(|known| known.profile.expires_at(0).is_some());
            if one.retention.is_none() && !ends {
                warnings.push(format!("collection {name} has no rule of retention: `cordon retention set`"));
            }
            if one.over_age > 0 {
                warnings.push(format!("collection {name}: {} records are over age", one.over_age));
            }
            if one.broken > 0 {
                warnings.push(format!(
                    "collection {name}: {} records are not those of their rows; see the audit log",
                    one.broken
                ));
            }
            if one.shred_overdue {
                warnings.push(format!(
                    "collection {name}: older copies still show {} erased records: `cordon retention shred`",
                    one.exposed
                ));
            }
        }
        let keeper = self.keeper.lock().await;
        if let Some(last) = &keeper.last
            && self.wall().duration_since(last.at) > VERIFY_WITHIN
        {
            warnings.push(format!("retention was verified last at {}: `cordon retention verify`", last.at));
        }
        warnings
    }
}

const PAGE: usize = 512;
/// Between pages: at most some 40,000 records a second are looked at.
const PAGE_PAUSE: Duration = Duration::from_millis(12);
const IDLE: Duration = Duration::from_millis(200);
const AFTER_AN_ERROR: Duration = Duration::from_secs(1);
/// A run begins with the first unseal and then so often.
const EVERY: Duration = Duration::from_secs(3_600);
/// PCI DSS 3.2.1: at least once every three months.
const VERIFY_WITHIN: SignedDuration = SignedDuration::from_hours(24 * 92);
