//! The vault's state machine and what its operations share. Operations are in `vault/`.
//!
//! Must never hold a key while sealed: the state is an enum and only `Unsealed` has a keyring. Must never answer
//! before the audit line is durable. Tests: `tests/tests/tokens.rs`, `ceremony.rs`, `crash.rs`.

use crate::collections::{Collection, Collections};
use crate::error::VaultError;
use crate::keyring::Unlocked;
use crate::limits::{Limits, LimitsConfig};
use crate::record::SealError;
use crate::sad::{HoldError, Holds};
use crate::seal::{Devices, SealDocument};
use crate::store::Store;
use cordon_archive::Recipients;
use cordon_audit::{Action, Event, Kind, Log, Name, Outcome, Receipt};
use cordon_card::{CollectionName, Environment};
use cordon_daemon::clock::Clock;
use cordon_daemon::process::Hardening;
use cordon_policy::Bundle;
use cordon_wire::{AwaitingRestore, ProblemCode};
use jiff::Timestamp;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

mod acceptance;
mod administer;
mod approve;
mod attest;
mod backup;
mod ceremony;
mod cryptoperiod;
mod detokenize;
mod device;
mod export;
mod key_state;
mod limit;
mod rekey;
mod retention;
mod rewrap;
mod select;
mod settle;
mod stream;
mod tally;
mod tokenize;

pub(crate) use acceptance::awaiting;
pub use approve::Answer;

/// A vault over some store.
pub struct Vault<S> {
    store: S,
    audit: Log,
    bundle: Bundle,
    clock: Arc<dyn Clock>,
    environment: Environment,
    data_dir: PathBuf,
    hardening: Hardening,
    state: RwLock<State>,
    /// The restore that nothing is served from until it is accepted.
    awaiting: RwLock<Option<AwaitingRestore>>,
    collections: RwLock<Arc<Collections>>,
    holds: Mutex<Holds>,
    limits: Mutex<Limits>,
    /// One administrative change at a time in this process; across processes the store's compare-and-set decides.
    changing: tokio::sync::Mutex<()>,
    /// What seals without custodians.
    devices: Arc<Devices>,
    /// New shares or a new root key, under way.
    rekey: Mutex<Option<rekey::Session>>,
    /// Runs that move records to newer keys.
    rewraps: tokio::sync::Mutex<rewrap::Book>,
    /// Keyrings that were current once and may still be in use by a request.
    older_views: Mutex<Vec<Weak<Unlocked>>>,
    /// The highest keyring epoch the audit log or this process has seen: an older keyring is not opened.
    epoch: AtomicU64,
    /// The latest wall time seen, in microseconds since 1970: a clock that is set back does not lengthen a cryptoperiod.
    latest: AtomicI64,
    /// Wall and monotonic time when the vault started.
    started: (Timestamp, Duration),
    /// The run over all records that keeps the rules of retention.
    keeper: tokio::sync::Mutex<retention::Keeper>,
    /// When records were erased.
    ledger: tokio::sync::Mutex<retention::Ledger>,
    metrics: Arc<crate::metrics::Metrics>,
    /// The highest commit that the audit log knows to have changed rows since the store has a tally of them.
    tally_anchor: Option<u64>,
    /// Walks that compare the rows with their tally.
    checks: Arc<Mutex<tally::Checks>>,
    /// Whom backups are encrypted to.
    recipients: Option<Recipients>,
    /// Whether a backup is being taken.
    backing_up: Arc<AtomicBool>,
}

/// What a vault is made of.
pub struct Parts<S> {
    /// Where records are.
    pub store: S,
    /// Where decisions are written.
    pub audit: Log,
    /// What is allowed.
    pub bundle: Bundle,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Stamped into keys, records and tokens.
    pub environment: Environment,
    /// Where the audit log is.
    pub data_dir: PathBuf,
    /// What seals without custodians.
    pub devices: Devices,
    /// What was closed before anything was served.
    pub hardening: Hardening,
    /// The highest keyring epoch in the audit log.
    pub keyring_epoch: u64,
    /// The highest commit in it that changed rows since the store has a tally of them.
    pub tally_anchor: Option<u64>,
    /// The restore that waits for acceptance, by the audit log.
    pub awaiting: Option<AwaitingRestore>,
    /// How long a security code is held.
    pub sad_ttl: Duration,
    /// How many are held at once.
    pub sad_max: usize,
    /// Whom backups are encrypted to; none are taken without.
    pub recipients: Option<Recipients>,
    /// How much may be asked for.
    pub limits: LimitsConfig,
}

/// Where the vault stands. A state has only what exists in it.
enum State {
    Uninitialized,
    Sealed(Box<ceremony::Sealed>),
    Unsealed { keys: Arc<Unlocked>, document: Box<SealDocument> },
}

/// Who calls, for the audit line.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The service's name in the bundle, or the URI of its certificate.
    pub who: Name,
    /// Peer address.
    pub from: IpAddr,
    /// Request id.
    pub request: Name,
}

impl Caller {
    /// An event by this caller.
    pub(crate) fn event(&self, action: Action, outcome: Outcome) -> Event {
        self.sign(Event::new(action, outcome))
    }

    /// An event of any kind, as this caller's.
    pub(crate) fn sign<K>(&self, event: Event<K>) -> Event<K> {
        event.who(&self.who).from(self.from).request_id(&self.request)
    }
}

impl<S> std::fmt::Debug for Parts<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("environment", &self.environment).finish_non_exhaustive()
    }
}

impl<S> std::fmt::Debug for Vault<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("environment", &self.environment).finish_non_exhaustive()
    }
}

impl<S: Store> Vault<S> {
    /// A vault in the state its store says: uninitialised or sealed, never unsealed.
    ///
    /// # Errors
    /// A stored document can't be read.
    pub fn new(parts: Parts<S>) -> Result<Self, VaultError> {
        let holds = Holds::new(parts.sad_ttl, parts.sad_max).map_err(|error| match error {
            HoldError::Key(_) => VaultError::Randomness,
            HoldError::Full | HoldError::Hold => VaultError::Integrity("the bounds of held security codes"),
        })?;
        let state = match parts.store.document(crate::seal::DOCUMENT)? {
            None => State::Uninitialized,
            Some(stored) => {
                State::Sealed(Box::new(ceremony::Sealed::parse(&stored.bytes, parts.environment)?))
            }
        };
        let collections = match parts.store.document(crate::collections::DOCUMENT)? {
            None => Collections::default(),
            Some(stored) => Collections::parse(&stored.bytes)
                .map_err(|_json| VaultError::Integrity("the stored collections are not well formed"))?,
        };
        let rewraps = tokio::sync::Mutex::new(rewrap::Book::load(&parts.store)?);
        let keeper = tokio::sync::Mutex::new(retention::Keeper::load(&parts.store)?);
        let ledger = tokio::sync::Mutex::new(retention::Ledger::load(&parts.store)?);
        let started = (parts.clock.now(), parts.clock.monotonic());
        Ok(Self {
            store: parts.store,
            audit: parts.audit,
            bundle: parts.bundle,
            clock: parts.clock,
            environment: parts.environment,
            data_dir: parts.data_dir,
            hardening: parts.hardening,
            state: RwLock::new(state),
            awaiting: RwLock::new(parts.awaiting),
            collections: RwLock::new(Arc::new(collections)),
            holds: Mutex::new(holds),
            limits: Mutex::new(Limits::new(parts.limits)),
            changing: tokio::sync::Mutex::default(),
            devices: Arc::new(parts.devices),
            rekey: Mutex::default(),
            rewraps,
            older_views: Mutex::default(),
            epoch: AtomicU64::new(parts.keyring_epoch),
            latest: AtomicI64::new(0),
            started,
            keeper,
            ledger,
            metrics: Arc::default(),
            tally_anchor: parts.tally_anchor,
            checks: Arc::default(),
            recipients: parts.recipients,
            backing_up: Arc::default(),
        })
    }

    /// The policy bundle.
    #[must_use]
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Counters and histograms.
    #[must_use]
    pub fn metrics(&self) -> &crate::metrics::Metrics {
        &self.metrics
    }

    /// Whether data calls are served now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.keys().is_ok() && !self.audit.is_refusing()
    }

    /// Writes a line and waits until it is durable.
    ///
    /// # Errors
    /// [`VaultError::Audit`]: the call must then be refused.
    pub async fn record<K: Kind>(&self, event: Event<K>) -> Result<Receipt<K>, VaultError> {
        Ok(self.audit.append(event).await?)
    }

    /// Writes a line that nothing is opened with.
    ///
    /// # Errors
    /// [`VaultError::Audit`]: the call must then be refused.
    pub async fn note(&self, event: Event) -> Result<(), VaultError> {
        self.record(event).await.map(drop)
    }

    /// Writes the line of a refusal that anybody can provoke, or counts it when there are too many like it.
    ///
    /// # Errors
    /// [`VaultError::Audit`].
    pub async fn note_refusal(&self, event: Event) -> Result<(), VaultError> {
        Ok(self.audit.append_refusal(event).await.map(drop)?)
    }

    /// Wipes security codes and shares whose time is over.
    pub fn sweep(&self) {
        self.holds().sweep(self.clock.monotonic());
        self.sweep_shares();
        self.sweep_rekey();
    }

    /// The opened keys, for whatever touches a card, a key or a rule.
    ///
    /// # Errors
    /// [`VaultError::NotUnsealed`]: also while a restore waits for acceptance.
    fn keys(&self) -> Result<Arc<Unlocked>, VaultError> {
        let keys = self.opened()?;
        self.check_accepted()?;
        Ok(keys)
    }

    /// The opened keys, accepted restore or not: for what leads to its acceptance.
    ///
    /// # Errors
    /// [`VaultError::NotUnsealed`].
    fn opened(&self) -> Result<Arc<Unlocked>, VaultError> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Unsealed { keys, .. } => Ok(Arc::clone(keys)),
            State::Sealed(_) => Err(VaultError::NotUnsealed(ProblemCode::Sealed)),
            State::Uninitialized => Err(VaultError::NotUnsealed(ProblemCode::NotInitialized)),
        }
    }

    fn collections(&self) -> Arc<Collections> {
        Arc::clone(&self.collections.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A collection that a permit names.
    fn collection(&self, name: Option<&CollectionName>) -> Result<Collection, VaultError> {
        name.and_then(|name| self.collections().get(name).cloned())
            .ok_or(VaultError::Refused(ProblemCode::UnknownCollection))
    }

    fn holds(&self) -> MutexGuard<'_, Holds> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wall time; never earlier than an answer before, or than the keyring was written.
    fn wall(&self) -> Timestamp {
        let now = self.clock.now().as_microsecond();
        let latest = self.latest.fetch_max(now, Ordering::AcqRel).max(now);
        Timestamp::from_microsecond(latest).unwrap_or(Timestamp::MAX)
    }

    /// Seconds since 1970, by [`Vault::wall`].
    fn now(&self) -> u64 {
        u64::try_from(self.wall().as_second()).unwrap_or(0)
    }
}

/// What the caller is told when a card could not be sealed.
fn seal_error(error: &SealError) -> VaultError {
    match error {
        SealError::Unfit(unfit) => VaultError::Explained(ProblemCode::KeyUnavailable, unfit.to_string()),
        SealError::Key(_) => VaultError::Randomness,
    }
}

/// Statement ids of a permit as audit names.
fn statements(ids: &[Arc<str>]) -> impl Iterator<Item = Name> {
    ids.iter().map(|id| Name::parse_or_withhold(id))
}
