//! The vault's state machine and what its operations share. Operations are in `vault/`.
//!
//! Must never hold a key while sealed: the state is an enum and only `Unsealed` has a keyring. Must never answer
//! before the audit line is durable. Tests: `tests/tests/tokens.rs`, `ceremony.rs`, `crash.rs`.

use crate::collections::{Collection, Collections};
use crate::error::VaultError;
use crate::keyring::Unlocked;
use crate::limits::{Limits, LimitsConfig};
use crate::sad::{HoldError, Holds};
use crate::seal::SealDocument;
use crate::store::Store;
use cordon_audit::{Action, Event, Log, Name, Outcome, Receipt};
use cordon_card::{CollectionName, Environment};
use cordon_daemon::clock::Clock;
use cordon_daemon::process::Hardening;
use cordon_policy::Bundle;
use cordon_wire::ProblemCode;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

mod administer;
mod ceremony;
mod detokenize;
mod limit;
mod rewrap;
mod select;
mod settle;
mod tokenize;

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
    collections: RwLock<Arc<Collections>>,
    holds: Mutex<Holds>,
    limits: Mutex<Limits>,
    /// One administrative change at a time in this process; across processes the store's compare-and-set decides.
    changing: tokio::sync::Mutex<()>,
    /// Runs that move records to newer keys.
    rewraps: tokio::sync::Mutex<rewrap::Book>,
    /// Keyrings that were current once and may still be in use by a request.
    older_views: Mutex<Vec<Weak<Unlocked>>>,
    /// The highest keyring epoch the audit log or this process has seen: an older keyring is not opened.
    epoch: AtomicU64,
    metrics: crate::metrics::Metrics,
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
    /// Where a development seal keeps its file.
    pub data_dir: PathBuf,
    /// What was closed before anything was served.
    pub hardening: Hardening,
    /// The highest keyring epoch in the audit log.
    pub keyring_epoch: u64,
    /// How long a security code is held.
    pub sad_ttl: Duration,
    /// How many are held at once.
    pub sad_max: usize,
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
        Event::new(action, outcome).who(&self.who).from(self.from).request_id(&self.request)
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
        Ok(Self {
            store: parts.store,
            audit: parts.audit,
            bundle: parts.bundle,
            clock: parts.clock,
            environment: parts.environment,
            data_dir: parts.data_dir,
            hardening: parts.hardening,
            state: RwLock::new(state),
            collections: RwLock::new(Arc::new(collections)),
            holds: Mutex::new(holds),
            limits: Mutex::new(Limits::new(parts.limits)),
            changing: tokio::sync::Mutex::default(),
            rewraps,
            older_views: Mutex::default(),
            epoch: AtomicU64::new(parts.keyring_epoch),
            metrics: crate::metrics::Metrics::new(),
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
        self.keys().is_ok() && !self.audit.statistics().poisoned
    }

    /// Writes a line and waits until it is durable.
    ///
    /// # Errors
    /// [`VaultError::Audit`]: the call must then be refused.
    pub async fn record(&self, event: Event) -> Result<Receipt, VaultError> {
        Ok(self.audit.append(event).await?)
    }

    /// Writes a line that nothing is opened with.
    ///
    /// # Errors
    /// [`VaultError::Audit`]: the call must then be refused.
    pub async fn note(&self, event: Event) -> Result<(), VaultError> {
        self.record(event).await.map(drop)
    }

    /// Wipes security codes whose time is over.
    pub fn sweep_holds(&self) {
        self.holds().sweep(self.clock.monotonic());
    }

    /// The opened keys.
    ///
    /// # Errors
    /// [`VaultError::NotUnsealed`].
    fn keys(&self) -> Result<Arc<Unlocked>, VaultError> {
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

    /// Seconds since 1970.
    fn now(&self) -> u64 {
        u64::try_from(self.clock.now().as_second()).unwrap_or(0)
    }
}

/// Statement ids of a permit as audit names.
fn statements(ids: &[Arc<str>]) -> impl Iterator<Item = Name> {
    ids.iter().map(|id| Name::parse_or_withhold(id))
}
