//! Moving records to the active keys in the background, and destroying the keys that nothing needs any more.
//!
//! Must never lose a record another caller changed meanwhile (every write is compare-and-replace), nor destroy a key
//! without proof that nothing needs it. Tests: `tests/tests/rewrap.rs`.

use super::administer::{keyring_error, purpose_of};
use super::approve::Approved;
use super::{Caller, State, Vault};
use crate::error::VaultError;
use crate::keyring::{KeyState, Purpose, Unlocked};
use crate::record;
use crate::rewrap::pace::Pace;
use crate::rewrap::{Active, DOCUMENT, Job, Jobs};
use crate::store::{CollectionId, Replacement, Row, Store};
use cordon_audit::{Action, Event, Name, Outcome};
use cordon_policy::{Administer, Observe, Permit};
use cordon_wire::{
    DestroyRequest, DestructionRecord, KeyPurpose, Operation, ProblemCode, RewrapList, RewrapRequest,
    RewrapStatus, VersionNeed,
};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

/// The runs and the version of their document.
pub(super) struct Book {
    jobs: Jobs,
    version: Option<u64>,
    /// How fast each goes just now.
    paces: BTreeMap<u32, Pace>,
    /// Pages since the document was written: they are gone over again after a crash.
    unwritten: u32,
}

impl Book {
    pub(super) fn load<S: Store>(store: &S) -> Result<Book, VaultError> {
        let Some(stored) = store.document(DOCUMENT)? else {
            let (jobs, paces) = (Jobs::default(), BTreeMap::new());
            return Ok(Book { jobs, version: None, paces, unwritten: 0 });
        };
        let jobs = Jobs::parse(&stored.bytes)
            .map_err(|_json| VaultError::Integrity("the stored rewrap runs are not well formed"))?;
        Ok(Book { jobs, version: Some(stored.version), paces: BTreeMap::new(), unwritten: 0 })
    }

    /// The pace of a run, within the rate that is allowed now.
    fn pace(&self, number: u32) -> Pace {
        let most = self.jobs.0.get(&number).map_or(1, |job| job.rate_per_s);
        self.paces.get(&number).map_or_else(|| Pace::new(most), |pace| pace.up_to(most))
    }

    async fn write<S: Store>(&mut self, store: &S) -> Result<u64, VaultError> {
        let bytes = self.jobs.to_bytes();
        let bytes = bytes.map_err(|_json| VaultError::Integrity("rewrap runs can't be written"))?;
        let committed = store.put_document(DOCUMENT, self.version, bytes).await?;
        self.version = Some(committed.value);
        self.unwritten = 0;
        Ok(committed.sequence)
    }
}

impl<S: Store> Vault<S> {
    /// Starts, paces, pauses or resumes the run of one collection.
    ///
    /// # Errors
    /// [`ProblemCode::UnknownCollection`]; the vault is sealed; the audit line or the run can't be written.
    pub async fn rewrap(
        &self,
        caller: &Caller,
        permit: Permit<Administer>,
        request: RewrapRequest,
    ) -> Result<RewrapStatus, VaultError> {
        let _one_change = self.changing.lock().await;
        let keys = self.keys()?;
        let collection = self.collection(Some(&request.collection))?;
        let active = active(&keys, collection.number())?;
        let what = if request.pause { "pause" } else { "run" };
        let line = self.change(caller, Action::Rewrap, &permit).collection(&collection.name);
        self.note(line.on(&Name::parse_or_withhold(what))).await?;
        let CollectionId(number) = collection.number();
        self.set_run(number, active, request.rate_per_s, request.pause).await?;
        let book = self.rewraps.lock().await;
        self.rewrap_status(&book, &keys, number).ok_or(VaultError::Integrity("a run is gone from the book"))
    }

    /// Starts a run, or paces, pauses or resumes the one there is.
    pub(super) async fn set_run(
        &self,
        number: u32,
        active: Active,
        rate_per_s: u32,
        pause: bool,
    ) -> Result<(), VaultError> {
        let mut book = self.rewraps.lock().await;
        let now = self.clock.now();
        let job = book.jobs.0.entry(number).or_insert_with(|| Job::new(active, rate_per_s, now));
        if job.is_finished() && !pause {
            *job = Job::new(active, rate_per_s, now);
        }
        job.rate_per_s = rate_per_s.max(1);
        job.pause(pause);
        book.write(&self.store).await.map(drop)
    }

    /// All runs.
    ///
    /// # Errors
    /// The vault is sealed, or the audit line can't be written.
    pub async fn list_rewraps(
        &self,
        caller: &Caller,
        permit: Permit<Observe>,
    ) -> Result<RewrapList, VaultError> {
        let keys = self.keys()?;
        self.observed(caller, &permit, "rewrap").await?;
        let book = self.rewraps.lock().await;
        let numbers = book.jobs.0.keys();
        Ok(RewrapList {
            runs: numbers.filter_map(|number| self.rewrap_status(&book, &keys, *number)).collect(),
        })
    }

    /// Records that need a key that is no longer active, by the last count.
    pub(super) async fn records_under(&self, key: &crate::keyring::KeyInfo) -> Option<u64> {
        if matches!(key.state, KeyState::Active | KeyState::Destroyed) {
            return None;
        }
        let book = self.rewraps.lock().await;
        Some(book.jobs.0.get(&key.collection?)?.needs(key.purpose, key.version))
    }

    fn rewrap_status(&self, book: &Book, keys: &Unlocked, number: u32) -> Option<RewrapStatus> {
        let job = book.jobs.0.get(&number)?;
        let collection = self.collections().name_of(number)?.clone();
        let active = active(keys, CollectionId(number)).ok()?;
        let older = keys
            .list()
            .into_iter()
            .filter(|key| key.collection == Some(number))
            .filter(|key| !matches!(key.state, KeyState::Active | KeyState::Destroyed))
            .map(|key| VersionNeed {
                purpose: purpose_of(key.purpose),
                version: key.version,
                records: job.needs(key.purpose, key.version),
                safe_to_destroy: job.proven_needs(key.purpose, key.version, active) == Some(0),
            })
            .collect();
        let [seen, total, moved, failed] = job.figures();
        let (started, finished) = job.times();
        Some(RewrapStatus {
            collection,
            state: job.state(),
            rate_per_s: job.rate_per_s,
            seen,
            total,
            moved,
            failed,
            started_at: started.to_string(),
            finished_at: finished.map(|finished| finished.to_string()),
            older,
        })
    }

    /// Does one page of a run, and says how long to wait before the next. An error is logged and tried again.
    pub async fn rewrap_step(&self) -> Duration {
        match self.rewrap_page().await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::error!(%error, "rewrap");
                AFTER_AN_ERROR
            }
        }
    }

    async fn rewrap_page(&self) -> Result<Duration, VaultError> {
        // Sealed: the run goes on after the next unseal.
        let Ok(keys) = self.keys() else { return Ok(IDLE) };
        let begun = self.clock.monotonic();
        let mut book = self.rewraps.lock().await;
        let Some(number) = book.jobs.running() else { return Ok(IDLE) };
        let collection = CollectionId(number);
        // A suspended key: the run goes on when it is resumed or replaced.
        let Ok(active) = active(&keys, collection) else { return Ok(IDLE) };
        let mut pace = book.pace(number);
        let Some(job) = book.jobs.0.get_mut(&number) else { return Ok(IDLE) };
        job.follow(active);
        if job.begins_proof() && self.older_views_exist() {
            return Ok(WAIT_FOR_VIEWS);
        }
        // Reading is cheaper than moving: a counting pass may go faster than the rate.
        let page = if job.moves() { pace.page() } else { COUNTING_PAGE };
        let rows = self.store.scan(collection, job.after(), page)?;
        if rows.is_empty() {
            job.end_pass(self.clock.now());
            let ended = job.is_finished().then(|| job.figures());
            let sequence = book.write(&self.store).await?;
            if let Some([_seen, total, moved, failed]) = ended {
                drop(book);
                self.note(self.rewrap_ended(number, total, moved, failed).store_sequence(sequence)).await?;
            }
            return Ok(Duration::ZERO);
        }
        let due = if job.moves() {
            let Moved { moved, failed, commit } = self.move_rows(&keys, collection, active, &rows).await?;
            job.moved(&rows, moved, failed);
            commit.into_iter().for_each(|took| pace.committed(took));
            self.metrics.gauges().rewrapped.inc_by(i64::try_from(moved).unwrap_or(i64::MAX));
            pace.due(rows.len())
        } else {
            let known: Vec<_> = keys.index_keys(collection).map(|key| key.version()).collect();
            job.count(&rows, &known);
            pace.due(rows.len()) / COUNTING_FACTOR
        };
        book.paces.insert(number, pace);
        book.unwritten = book.unwritten.saturating_add(1);
        if book.unwritten >= PAGES_PER_WRITE {
            book.write(&self.store).await?;
        }
        Ok(due.saturating_sub(self.clock.monotonic().saturating_sub(begun)))
    }

    fn rewrap_ended(&self, number: u32, total: u64, moved: u64, failed: u64) -> Event {
        tracing::info!(collection = number, records = total, moved, failed, "rewrap finished");
        let outcome = if failed == 0 { Outcome::Allowed } else { Outcome::Failed };
        let event = Event::new(Action::Rewrap, outcome).reason("finished").count(moved);
        match self.collections().name_of(number) {
            Some(name) => event.collection(name),
            None => event,
        }
    }

    /// Moves what needs it among `rows`. A row that another caller changes meanwhile stays for the next pass.
    async fn move_rows(
        &self,
        keys: &Unlocked,
        collection: CollectionId,
        active: Active,
        rows: &[Row],
    ) -> Result<Moved, VaultError> {
        let mut changes = Vec::new();
        let mut failed = 0_u64;
        let mut broken = Vec::new();
        let is_withheld = |row: &&Row| {
            let key = keys.data_key(collection, row.sealed.key_version());
            key.is_some_and(|key| !key.state().may_rewrap_from())
        };
        for row in rows {
            match self.moved_row(keys, collection, active, row) {
                Ok(Some(change)) => changes.push(change),
                Ok(None) => {}
                Err(error) => {
                    failed = failed.saturating_add(1);
                    match error {
                        record::ChangeError::Refused(_) if is_withheld(&row) => {}
                        record::ChangeError::Refused(_) => broken.push(row.token.clone()),
                        record::ChangeError::Seal(error) => return Err(super::seal_error(&error)),
                    }
                }
            }
        }
        if let (false, Some(name)) = (broken.is_empty(), self.collections().name_of(number_of(collection))) {
            self.report_broken(Event::new(Action::Rewrap, Outcome::Failed), name, broken).await?;
        }
        if changes.is_empty() {
            return Ok(Moved { moved: 0, failed, commit: None });
        }
        let begun = self.clock.monotonic();
        let committed = self.store.replace(changes).await?;
        let commit = Some(self.clock.monotonic().saturating_sub(begun));
        let moved = committed.value.iter().filter(|won| **won).count();
        Ok(Moved { moved: u64::try_from(moved).unwrap_or(u64::MAX), failed, commit })
    }

    fn moved_row(
        &self,
        keys: &Unlocked,
        collection: CollectionId,
        active: Active,
        row: &Row,
    ) -> Result<Option<Replacement>, record::ChangeError> {
        let binding = self.binding(row);
        let is_known = |version: u32| keys.index_keys(collection).any(|key| key.version() == version);
        let gone = row.index.iter().map(|entry| entry.version).find(|version| !is_known(*version));
        let add = match keys.active_index_key(collection) {
            Some(key) if row.index.iter().all(|entry| entry.version != key.version()) => {
                Some(record::reindex(keys, &binding, &row.sealed, key)?)
            }
            Some(_) | None => None,
        };
        let sealed = if row.sealed.key_version() == active.data {
            row.sealed.clone()
        } else {
            record::rewrap(keys, &binding, &row.sealed, self.wall())?
        };
        if add.is_none() && gone.is_none() && sealed == row.sealed {
            return Ok(None);
        }
        Ok(Some(Replacement {
            collection,
            token: row.token.clone(),
            expected: row.sealed.clone(),
            sealed,
            add_index: add,
            drop_index_version: gone,
        }))
    }

    /// Whether some request still works with a keyring from before the last change, and could write under its keys.
    pub(super) fn older_views_exist(&self) -> bool {
        let mut views = self.older_views.lock().unwrap_or_else(PoisonError::into_inner);
        views.retain(|view| view.strong_count() > 0);
        !views.is_empty()
    }

    /// Remembers a keyring that is being replaced.
    pub(super) fn retire_view(&self, view: Weak<Unlocked>) {
        self.older_views.lock().unwrap_or_else(PoisonError::into_inner).push(view);
    }

    /// Destroys one key version that nothing needs, once two custodians have approved it.
    ///
    /// # Errors
    /// [`ProblemCode::Conflict`] with the reason, if the key is in use or no finished run has proven that it is not;
    /// [`ProblemCode::UnknownCollection`]; [`ProblemCode::ApprovalRequired`].
    pub async fn destroy_key(
        &self,
        caller: &Caller,
        permit: Permit<Administer>,
        request: &DestroyRequest,
    ) -> Result<DestructionRecord, VaultError> {
        let _one_change = self.changing.lock().await;
        let keys = self.keys()?;
        let (purpose, collection) = match (request.purpose, &request.collection) {
            (KeyPurpose::Kek, None) => (Purpose::Kek, None),
            (KeyPurpose::Data, Some(name)) => (Purpose::Data, Some(self.collection(Some(name))?)),
            (KeyPurpose::Index, Some(name)) => (Purpose::Index, Some(self.collection(Some(name))?)),
            (KeyPurpose::Kek, Some(_)) | (_, None) => return Err(ProblemCode::BadField.into()),
        };
        let number = collection.as_ref().map(crate::collections::Collection::number);
        let _possible = keys
            .destroy(purpose, number, request.version, self.wall())
            .map_err(|error| keyring_error(&error))?;
        if let Some(number) = number {
            self.prove_unneeded(&keys, number, purpose, request.version).await?;
        }
        let operation = Operation::DestroyKey {
            purpose: request.purpose,
            collection: request.collection.clone(),
            version: request.version,
        };
        let approved = self.approve_use(caller, &operation).await?;
        self.destroy_approved(caller, &permit, approved, purpose, number).await
    }

    /// The destruction itself. It takes the approval by value: there is no other way in.
    async fn destroy_approved(
        &self,
        caller: &Caller,
        permit: &Permit<Administer>,
        approved: Approved,
        purpose: Purpose,
        number: Option<CollectionId>,
    ) -> Result<DestructionRecord, VaultError> {
        let Operation::DestroyKey { purpose: named, collection, version } = approved.into_operation() else {
            return Err(VaultError::Integrity("an approval of another operation"));
        };
        let next = self
            .keys()?
            .destroy(purpose, number, version, self.wall())
            .map_err(|error| keyring_error(&error))?;
        let gone = next.list().into_iter().find(|key| {
            let place = (key.purpose, key.collection.map(CollectionId), key.version);
            place == (purpose, number, version)
        });
        let gone = gone.ok_or(VaultError::Integrity("a destroyed key is gone from the keyring"))?;
        let mut line =
            self.change(caller, Action::KeyDestroy, permit).on(&Name::parse_or_withhold(gone.id.as_str()));
        if let Some(collection) = &collection {
            line = line.collection(collection);
        }
        // Without the epoch: the keyring that has it is not on disk yet, and would be missed at the next unseal.
        let receipt = self.record(line).await?;
        self.install(next).await?;
        self.anchor(caller, Action::KeyDestroy, self.store.sequence()).await?;
        Ok(DestructionRecord {
            id: gone.id.as_str().to_owned(),
            purpose: named,
            collection,
            version,
            commitment: gone.commitment_prefix,
            created_at: gone.created.to_string(),
            destroyed_at: self.clock.now().to_string(),
            audit_index: receipt.index(),
            checkpoint: self.checkpoint_over(receipt.index()).await,
        })
    }

    async fn prove_unneeded(
        &self,
        keys: &Unlocked,
        collection: CollectionId,
        purpose: Purpose,
        version: u32,
    ) -> Result<(), VaultError> {
        let active = active(keys, collection)?;
        let CollectionId(number) = collection;
        let book = self.rewraps.lock().await;
        let proven = book.jobs.0.get(&number).and_then(|job| job.proven_needs(purpose, version, active));
        let words = match proven {
            Some(0) => return Ok(()),
            Some(records) => format!("{records} records still need this key; see `cordon keys rewrap`"),
            None => {
                "no finished run has shown that nothing needs this key; run `cordon keys rewrap`".to_owned()
            }
        };
        Err(VaultError::Explained(ProblemCode::Conflict, words))
    }

    /// A signed checkpoint that covers a line, or nothing if none is signed in time.
    async fn checkpoint_over(&self, index: u64) -> Option<String> {
        for _ in 0..CHECKPOINT_TRIES {
            let checkpoint = self.audit.checkpoint();
            if checkpoint.size() > index {
                return Some(checkpoint.note().to_owned());
            }
            tokio::time::sleep(CHECKPOINT_PAUSE).await;
        }
        None
    }

    /// Puts a keyring in the place of the one before.
    pub(super) fn replace_keys(&self, next: Unlocked) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            State::Unsealed { keys, .. } => {
                self.retire_view(Arc::downgrade(keys));
                *keys = Arc::new(next);
            }
            // Sealed meanwhile: the keys just made are on disk and are opened with the next unseal.
            State::Sealed(_) | State::Uninitialized => {}
        }
    }
}

pub(super) fn active(keys: &Unlocked, collection: CollectionId) -> Result<Active, VaultError> {
    let data = keys.active_data_key(collection).map(crate::keyring::DataKeyVersion::version);
    let index = keys.active_index_key(collection).map(crate::keyring::IndexKeyVersion::version);
    match (data, index) {
        (Some(data), Some(index)) => Ok(Active { data, index }),
        _ => Err(VaultError::Refused(ProblemCode::KeyUnavailable)),
    }
}

const fn number_of(CollectionId(number): CollectionId) -> u32 {
    number
}

/// What became of a page.
struct Moved {
    moved: u64,
    failed: u64,
    /// How long its commit took, if there was something to write.
    commit: Option<Duration>,
}

const COUNTING_PAGE: usize = 128;
const COUNTING_FACTOR: u32 = 8;
const PAGES_PER_WRITE: u32 = 64;
const IDLE: Duration = Duration::from_millis(200);
const WAIT_FOR_VIEWS: Duration = Duration::from_millis(20);
const AFTER_AN_ERROR: Duration = Duration::from_secs(1);
const CHECKPOINT_TRIES: u32 = 60;
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(50);
