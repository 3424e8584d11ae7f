//! The tally of the store's rows: taken up at unseal, put away when the vault is sealed, and compared with the rows when
//! somebody asks (threat B14).
//!
//! Must never call rows whole that were not walked, nor hold up a request: a walk has a thread of its own.
//! Tests: `tests/tests/tally.rs`.

use super::{Caller, Vault, statements};
use crate::collections::Collections;
use crate::error::VaultError;
use crate::keyring::Unlocked;
use crate::metrics::Metrics;
use crate::store::{
    self, CollectionId, Committed, Counted, Followed, RowFault, Snapshot, Store, TallyMac, Verification,
};
use cordon_audit::{Action, Event, Log, Name, Outcome};
use cordon_card::{CollectionName, Token};
use cordon_daemon::process::give_way;
use cordon_policy::{Administer, Observe, Permit};
use cordon_wire::{ProblemCode, StoreCount, StoreFault, StoreFaultKind, StoreReport};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What walks over the store found since the vault started.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// Rows that the walk under way has seen.
    running: Option<Arc<AtomicU64>>,
    ended: u64,
    last: Option<(Timestamp, Verification)>,
    /// Rows that the tally said when it was taken up: how far a walk has to go.
    rows: u64,
    /// Why the tally was not taken up.
    refused: Option<&'static str>,
}

impl<S: Store> Vault<S> {
    /// Takes up the tally with the key of an opened keyring, and records how it stands. One that was put back or edited is
    /// recorded, and cards are served all the same: refusing them would be easier to bring about than hiding a row.
    pub(super) async fn follow_rows(&self, caller: &Caller, keys: &Unlocked) -> Result<(), VaultError> {
        let mac = tally_of(keys)?;
        let Committed { value, sequence } = self.store.follow_tally(mac, self.tally_anchor).await?;
        let line = |outcome: Outcome| caller.event(Action::StoreVerify, outcome);
        let went = |reason: &'static str, rows: u64| {
            line(Outcome::Allowed).reason(reason).count(rows).store_sequence(sequence)
        };
        let (line, rows, refused) = match value {
            Followed::Begun { rows } => (went("tally-begun", rows), rows, None),
            Followed::Resumed { rows, restored: 0 } => (went("tally-resumed", rows), rows, None),
            Followed::Resumed { rows, restored } => {
                let changed = Name::parse_or_withhold(&format!("changed-by-restore-{restored}"));
                (went("tally-resumed", rows).on(&changed), rows, None)
            }
            Followed::Refused(why) => {
                tracing::error!(why, "the tally of the store's rows is not the one that the vault left");
                self.metrics.integrity_failures(1);
                (line(Outcome::Failed).reason(why), 0, Some(why))
            }
        };
        {
            let mut checks = locked(&self.checks);
            (checks.rows, checks.refused) = (rows, refused);
        }
        let noted = self.note(line).await;
        if noted.is_err() {
            // The vault stays sealed, and a sealed vault has no key.
            self.forget_rows().await;
        }
        noted
    }

    /// Puts the key of the tally away.
    pub(super) async fn forget_rows(&self) {
        if let Err(error) = self.store.forget_tally().await {
            // The writer has ended, and its key with it.
            tracing::error!(%error, "the store");
        }
    }

    /// Begins a walk over all rows of this moment. Also over a restore that waits for acceptance: it changes nothing, and
    /// whoever accepts wants to know.
    ///
    /// # Errors
    /// [`ProblemCode::Busy`] while one is under way; the vault is sealed, or the audit line can't be written.
    pub async fn verify_store(
        &self,
        caller: &Caller,
        permit: Permit<Administer>,
    ) -> Result<StoreReport, VaultError> {
        let keys = self.opened()?;
        let mac = tally_of(&keys)?;
        let turn = Turn::take(&self.checks).ok_or(ProblemCode::Busy)?;
        self.note(self.change(caller, Action::StoreVerify, &permit).reason("asked")).await?;
        let work = Work {
            snapshot: self.store.snapshot()?,
            mac,
            turn,
            collections: self.collections(),
            audit: self.audit.clone(),
            metrics: Arc::clone(&self.metrics),
            caller: caller.clone(),
            now: self.wall(),
        };
        let thread = std::thread::Builder::new().name("store-verify".to_owned());
        thread.spawn(move || work.run()).map_err(|_error| VaultError::Refused(ProblemCode::Busy))?;
        Ok(self.store_report())
    }

    /// How the last walk ended, and how far the one under way is.
    ///
    /// # Errors
    /// The audit line can't be written.
    pub async fn show_store(
        &self,
        caller: &Caller,
        permit: Permit<Observe>,
    ) -> Result<StoreReport, VaultError> {
        let event = caller.event(Action::Observe, Outcome::Allowed).on(&Name::parse_or_withhold("store"));
        self.note(event.statements(statements(permit.statements()))).await?;
        Ok(self.store_report())
    }

    fn store_report(&self) -> StoreReport {
        let collections = self.collections();
        let checks = locked(&self.checks);
        let none = Verification::default();
        let (at, found) = checks.last.as_ref().map_or((None, &none), |(at, found)| (Some(at), found));
        StoreReport {
            running: checks.running.is_some(),
            seen: checks.running.as_ref().map_or(0, |seen| seen.load(Ordering::Relaxed)),
            rows: checks.rows,
            ended: checks.ended,
            verified_at: at.map(ToString::to_string),
            commit: found.sequence,
            good: at.is_some() && found.is_good() && checks.refused.is_none(),
            refused: checks.refused.map(str::to_owned),
            collections: counts(&collections, &found.collections),
            faults: found.faults.iter().map(|fault| shown(&collections, fault)).collect(),
            fault_count: found.fault_count,
        }
    }

    /// What an operator should do about the store.
    pub(super) fn store_warnings(&self) -> Vec<String> {
        let checks = locked(&self.checks);
        let refused = checks.refused.map(|why| {
            format!("the tally of the store's rows is refused ({why}): deleted rows are not noticed; restore a backup")
        });
        let bad = checks.last.as_ref().filter(|(_, found)| !found.is_good()).map(|(at, _)| {
            format!("the store was not whole when it was verified at {at}: `cordon store verify`")
        });
        refused.into_iter().chain(bad).collect()
    }
}

fn tally_of(keys: &Unlocked) -> Result<Arc<TallyMac>, VaultError> {
    keys.tally().cloned().ok_or(VaultError::Integrity("the keyring has no key for the tally"))
}

fn locked(checks: &Mutex<Checks>) -> MutexGuard<'_, Checks> {
    checks.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One walk at a time: each holds older rows in the store for as long as it is under way.
struct Turn {
    checks: Arc<Mutex<Checks>>,
    seen: Arc<AtomicU64>,
}

impl Turn {
    fn take(checks: &Arc<Mutex<Checks>>) -> Option<Self> {
        let seen = Arc::new(AtomicU64::new(0));
        let mut state = locked(checks);
        if state.running.is_some() {
            return None;
        }
        state.running = Some(Arc::clone(&seen));
        Some(Self { checks: Arc::clone(checks), seen })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        locked(&self.checks).running = None;
    }
}

/// What the thread of a walk needs.
struct Work {
    snapshot: Snapshot,
    mac: Arc<TallyMac>,
    turn: Turn,
    collections: Arc<Collections>,
    audit: Log,
    metrics: Arc<Metrics>,
    caller: Caller,
    now: Timestamp,
}

impl Work {
    fn run(self) {
        give_way();
        let sequence = self.snapshot.sequence();
        let found = store::verify(self.snapshot, &self.mac, &self.turn.seen).unwrap_or_else(|error| {
            tracing::error!(%error, "verifying the store");
            let faults = vec![RowFault::Unreadable("the engine can't be read")];
            Verification { sequence, faults, fault_count: 1, ..Verification::default() }
        });
        let bad = found.collections.values().filter(|counted| !counted.as_committed).count();
        let bad = u64::try_from(bad).unwrap_or(u64::MAX).saturating_add(found.fault_count);
        self.metrics.integrity_failures(bad);
        for line in lines(&self.caller, &self.collections, &found) {
            if let Err(error) = self.audit.append_blocking(line) {
                // Without its lines a walk did not happen: nobody is told that the store is whole.
                tracing::error!(%error, "a verification of the store could not be recorded");
                return;
            }
        }
        let mut checks = locked(&self.turn.checks);
        checks.ended = checks.ended.saturating_add(1);
        checks.last = Some((self.now, found));
    }
}

/// The audit lines of a walk: one for each collection, those with the tokens of its faults, and one about all of it.
fn lines(caller: &Caller, collections: &Collections, found: &Verification) -> Vec<Event> {
    let outcome = |good: bool| if good { Outcome::Allowed } else { Outcome::Failed };
    let line =
        |good: bool, reason: &'static str| caller.event(Action::StoreVerify, outcome(good)).reason(reason);
    let of = |event: Event, CollectionId(number): CollectionId| match collections.name_of(number) {
        Some(name) => event.collection(name),
        None => event.on(&Name::parse_or_withhold(&format!("collection-{number}"))),
    };
    let mut lines: Vec<Event> = found
        .collections
        .iter()
        .map(|(number, counted)| {
            let event = line(counted.as_committed, verdict(counted)).count(counted.rows);
            of(event, CollectionId(*number))
        })
        .collect();
    let mut tokens: BTreeMap<CollectionId, Vec<Token>> = BTreeMap::new();
    for fault in &found.faults {
        match fault {
            RowFault::Unfindable(number, token) | RowFault::LeadsNowhere(number, token) => {
                tokens.entry(*number).or_default().push(token.clone());
            }
            RowFault::Miscounted(number) => lines.push(of(line(false, "index-miscounted"), *number)),
            RowFault::Unreadable(_) => lines.push(line(false, "unreadable")),
            RowFault::Tally(_) => lines.push(line(false, "tally")),
        }
    }
    lines.extend(
        tokens.into_iter().map(|(number, tokens)| of(line(false, "integrity").tokens(tokens), number)),
    );
    let rows = found.collections.values().fold(0_u64, |sum, counted| sum.saturating_add(counted.rows));
    let all = line(found.is_good(), if found.is_good() { "whole" } else { "not-whole" });
    lines.push(all.count(rows).store_sequence(found.sequence));
    lines
}

fn verdict(counted: &Counted) -> &'static str {
    match counted.expected {
        _ if counted.as_committed => "as-committed",
        None => "rows-added",
        Some(expected) => match counted.rows.cmp(&expected) {
            std::cmp::Ordering::Less => "rows-missing",
            std::cmp::Ordering::Greater => "rows-added",
            std::cmp::Ordering::Equal => "rows-changed",
        },
    }
}

fn counts(collections: &Collections, found: &BTreeMap<u32, Counted>) -> Vec<StoreCount> {
    let count = |number: u32, counted: &Counted| StoreCount {
        collection: collections.name_of(number).cloned(),
        number,
        records: counted.rows,
        expected: counted.expected.unwrap_or(0),
        verdict: verdict(counted).to_owned(),
    };
    found.iter().map(|(number, counted)| count(*number, counted)).collect()
}

fn shown(collections: &Collections, fault: &RowFault) -> StoreFault {
    let name = |CollectionId(number): &CollectionId| -> Option<CollectionName> {
        collections.name_of(*number).cloned()
    };
    let of = |kind, number: &CollectionId, token: Option<&Token>| StoreFault {
        kind,
        collection: name(number),
        token: token.cloned(),
        detail: None,
    };
    match fault {
        RowFault::Unfindable(number, token) => of(StoreFaultKind::Unfindable, number, Some(token)),
        RowFault::LeadsNowhere(number, token) => of(StoreFaultKind::LeadsNowhere, number, Some(token)),
        RowFault::Miscounted(number) => of(StoreFaultKind::Miscounted, number, None),
        RowFault::Unreadable(what) => detailed(StoreFaultKind::Unreadable, what),
        RowFault::Tally(what) => detailed(StoreFaultKind::Tally, what),
    }
}

fn detailed(kind: StoreFaultKind, what: &'static str) -> StoreFault {
    StoreFault { kind, collection: None, token: None, detail: Some(what.to_owned()) }
}
