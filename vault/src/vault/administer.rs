//! Collections, key listing and rotation, status and audit pages.
//!
//! Must never change a document without compare-and-set, nor use a new key before its keyring is durable.
//! Tests: `tests/tests/rotation.rs`, `tests/tests/api.rs`.

use super::{Caller, Vault, statements};
use crate::collections::{CollectionError, Collections};
use crate::error::VaultError;
use crate::keyring::{self, KeyringError, Unlocked};
use crate::mint::ProfileError;
use crate::store::{Document, Store};
use cordon_audit::{Action, Event, Name, Outcome};
use cordon_daemon::process::Measure;
use cordon_policy::{Administer, Observe, Permit};
use cordon_wire::limits::MAX_AUDIT_PAGE;
use cordon_wire::{
    AuditPage, Collection, CollectionList, CreateCollection, HardeningItem, KeyInfo, KeyList, KeyPurpose,
    KeyState, ProblemCode, RotateRequest, RotateResponse, SealState, Status, StoreStatus,
};
use jiff::Timestamp;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// Name of the keyring's document in the store.
pub(super) const KEYRING: &str = "keyring";

impl<S: Store> Vault<S> {
    /// Makes a collection with keys of its own.
    ///
    /// # Errors
    /// [`ProblemCode::Conflict`] if the name is taken; a profile that does not fit is [`ProblemCode::BadField`].
    pub async fn create_collection(
        &self,
        caller: &Caller,
        permit: Permit<Administer>,
        request: CreateCollection,
    ) -> Result<Collection, VaultError> {
        let _one_change = self.changing.lock().await;
        let keys = self.keys()?;
        let profile = request.profile.try_into();
        let profile = profile
            .map_err(|error: ProfileError| VaultError::Explained(ProblemCode::BadField, error.to_string()))?;
        let now = self.wall();
        let stored = self.store.document(crate::collections::DOCUMENT)?;
        let current = stored.as_ref().map_or_else(|| Ok(Collections::default()), read_collections)?;
        let (next, made) = current.with(request.name, profile, request.expected_cards, now).map_err(
            |error| match error {
                CollectionError::Exists => VaultError::Refused(ProblemCode::Conflict),
                CollectionError::Profile(profile) => {
                    VaultError::Explained(ProblemCode::BadField, profile.to_string())
                }
            },
        )?;
        self.note(self.change(caller, Action::CollectionCreate, &permit).collection(&made.name)).await?;
        // Keys first: a collection without keys could not be used, keys without a collection harm nothing. A key
        // set left by a crash between the two writes is taken over.
        match keys.add_collection(made.number(), now) {
            Ok(keyring) => self.install(keyring).await?,
            Err(KeyringError::CollectionExists(_)) => {}
            Err(error) => return Err(keyring_error(&error)),
        }
        let bytes = next.to_bytes().map_err(|_json| VaultError::Integrity("collections can't be written"))?;
        let version = stored.map(|document| document.version);
        let committed = self.store.put_document(crate::collections::DOCUMENT, version, bytes).await?;
        *self.collections.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        self.anchor(caller, Action::CollectionCreate, committed.sequence).await?;
        Ok(Collection::from(&made))
    }

    /// All collections.
    ///
    /// # Errors
    /// The audit line can't be written.
    pub async fn list_collections(
        &self,
        caller: &Caller,
        permit: Permit<Observe>,
    ) -> Result<CollectionList, VaultError> {
        self.observed(caller, &permit, "collections").await?;
        Ok(CollectionList { collections: self.collections().iter().map(Collection::from).collect() })
    }

    /// All keys without their bytes.
    ///
    /// # Errors
    /// The vault is sealed, or the audit line can't be written.
    pub async fn list_keys(&self, caller: &Caller, permit: Permit<Observe>) -> Result<KeyList, VaultError> {
        let keys = self.keys()?;
        self.observed(caller, &permit, "keys").await?;
        let mut infos = self.key_infos(&keys);
        for (info, key) in infos.iter_mut().zip(keys.list()) {
            info.records = self.records_under(&key).await;
        }
        Ok(KeyList { keys: infos })
    }

    /// Makes a new version of a key active. Writes use it at once; reads go on.
    ///
    /// # Errors
    /// [`ProblemCode::UnknownCollection`]; [`ProblemCode::Conflict`] while an index rotation is not finished.
    pub async fn rotate(
        &self,
        caller: &Caller,
        permit: Permit<Administer>,
        request: RotateRequest,
    ) -> Result<RotateResponse, VaultError> {
        let _one_change = self.changing.lock().await;
        let keys = self.keys()?;
        let now = self.wall();
        let collection = match (request.purpose, &request.collection) {
            (KeyPurpose::Data | KeyPurpose::Index, Some(name)) => Some(self.collection(Some(name))?),
            (KeyPurpose::Kek, None) => None,
            (_, None) | (KeyPurpose::Kek, Some(_)) => return Err(ProblemCode::BadField.into()),
        };
        let next = match &collection {
            Some(collection) if request.purpose == KeyPurpose::Index => {
                keys.rotate_index(collection.number(), now)
            }
            Some(collection) => keys.rotate_data(collection.number(), now),
            None => keys.rotate_kek(now),
        };
        let next = next.map_err(|error| keyring_error(&error))?;
        let active = self
            .key_infos(&next)
            .into_iter()
            .find(|key| {
                key.purpose == request.purpose
                    && key.collection == request.collection
                    && key.state == KeyState::Active
            })
            .ok_or(VaultError::Integrity("a rotated keyring has no active key"))?;
        let mut event =
            self.change(caller, Action::KeyRotate, &permit).on(&Name::parse_or_withhold(&active.id));
        if let Some(collection) = &collection {
            event = event.collection(&collection.name);
        }
        self.note(event).await?;
        self.install(next).await?;
        self.anchor(caller, Action::KeyRotate, self.store.sequence()).await?;
        Ok(RotateResponse { active })
    }

    /// Where everything stands.
    ///
    /// # Errors
    /// The audit line can't be written.
    pub async fn status(&self, caller: &Caller, permit: Permit<Observe>) -> Result<Status, VaultError> {
        self.observed(caller, &permit, "status").await?;
        let statistics = self.store.statistics();
        let warnings = self.warnings().await;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.clock.monotonic().as_secs(),
            seal: self.seal_status(),
            collections: u64::try_from(self.collections().len()).unwrap_or(u64::MAX),
            held_cvvs: u64::try_from(self.holds().len()).unwrap_or(u64::MAX),
            audit_size: self.audit.size(),
            audit: self.audit_status(),
            store: StoreStatus {
                engine: "fjall".to_owned(),
                sequence: self.store.sequence(),
                commits: statistics.commits,
                disk_bytes: statistics.bytes_on_disk,
            },
            hardening: self.hardening_items(),
            policy_digest: self.bundle.digest().to_owned(),
            awaiting_restore: self.awaiting_restore(),
            last_backup: Timestamp::from_second(self.metrics.gauges().last_backup.get())
                .ok()
                .filter(|at| *at > Timestamp::UNIX_EPOCH)
                .map(|at| at.to_string()),
            warnings,
        })
    }

    /// Audit lines from index `from` on.
    ///
    /// # Errors
    /// The log can't be read, or the line about this very reading can't be written (PCI DSS 10.2.1.3).
    pub async fn audit_page(
        &self,
        caller: &Caller,
        permit: Permit<Observe>,
        from: u64,
        limit: usize,
    ) -> Result<AuditPage, VaultError> {
        let event = caller.event(Action::AuditRead, Outcome::Allowed);
        self.note(event.statements(statements(permit.statements()))).await?;
        let unreadable = |_error| VaultError::Integrity("the audit log can't be read");
        let directory = self.data_dir.join(crate::run::AUDIT);
        let mut lines = Vec::new();
        for line in
            cordon_audit::read_from(&directory, from).map_err(unreadable)?.take(limit.min(MAX_AUDIT_PAGE))
        {
            let line = line.map_err(unreadable)?;
            lines.push(serde_json::to_string(&line).map_err(|_json| VaultError::Integrity("an audit line"))?);
        }
        let next = from.saturating_add(u64::try_from(lines.len()).unwrap_or(0));
        Ok(AuditPage { lines, next })
    }

    /// Metrics as `OpenMetrics` text.
    ///
    /// # Errors
    /// The formatter failed.
    pub fn encode_metrics(&self) -> Result<String, std::fmt::Error> {
        let gauges = self.metrics.gauges();
        let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        gauges.unsealed.set(i64::from(self.opened().is_ok()));
        gauges.awaiting_restore.set(i64::from(self.awaiting_restore().is_some()));
        self.observe_audit();
        gauges.store_sequence.set(count(self.store.sequence()));
        gauges.store_syncs.set(count(self.store.statistics().fsyncs));
        gauges.keys_to_rotate.set(self.keys_to_rotate());
        gauges.held_codes.set(i64::try_from(self.holds().len()).unwrap_or(i64::MAX));
        self.metrics.encode()
    }

    /// Makes a successor keyring durable, then current.
    pub(super) async fn install(&self, next: Unlocked) -> Result<(), VaultError> {
        let bytes = next.to_bytes().map_err(|error| keyring_error(&error))?;
        let stored = self.store.document(KEYRING)?.ok_or(VaultError::Integrity("the keyring is gone"))?;
        self.store.put_document(KEYRING, Some(stored.version), bytes).await?;
        self.epoch.fetch_max(next.epoch(), Ordering::AcqRel);
        self.replace_keys(next.made_durable());
        Ok(())
    }

    /// A line that carries the store's sequence and the keyring's epoch after a change of a document.
    pub(super) async fn anchor(
        &self,
        caller: &Caller,
        action: Action,
        sequence: u64,
    ) -> Result<(), VaultError> {
        let event = caller.event(action, Outcome::Allowed).reason("durable").store_sequence(sequence);
        let epoch = self.epoch.load(Ordering::Acquire);
        self.note(if epoch > 0 { event.keyring_epoch(epoch) } else { event }).await
    }

    pub(super) fn change(&self, caller: &Caller, action: Action, permit: &Permit<Administer>) -> Event {
        caller.event(action, Outcome::Allowed).statements(statements(permit.statements()))
    }

    pub(super) async fn observed(
        &self,
        caller: &Caller,
        permit: &Permit<Observe>,
        what: &str,
    ) -> Result<(), VaultError> {
        let event = caller
            .event(Action::Observe, Outcome::Allowed)
            .on(&Name::parse_or_withhold(what))
            .statements(statements(permit.statements()));
        self.note(event).await
    }

    pub(super) fn key_infos(&self, keys: &Unlocked) -> Vec<KeyInfo> {
        let collections = self.collections();
        keys.list()
            .into_iter()
            .map(|key| KeyInfo {
                id: key.id.as_str().to_owned(),
                purpose: purpose_of(key.purpose),
                collection: key.collection.and_then(|id| collections.name_of(id).cloned()),
                version: key.version,
                state: state_of(key.state),
                created_at: key.created.to_string(),
                since: key.since.to_string(),
                cryptoperiod_end: key.cryptoperiod_end.to_string(),
                refused_after: key.refused_after().to_string(),
                opens_until: key.opens_until.to_string(),
                uses: key.uses,
                budget: key.budget,
                records: None,
            })
            .collect()
    }

    fn hardening_items(&self) -> Vec<HardeningItem> {
        let item = |(measure, in_force): (Measure, bool)| HardeningItem {
            name: measure.as_str().to_owned(),
            in_force,
            without: self.hardening.reason(measure).filter(|_| !in_force).map(str::to_owned),
        };
        self.hardening.items().into_iter().map(item).collect()
    }

    /// What an operator should look at.
    async fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.seal_status().state != SealState::Unsealed {
            warnings.push("the vault is not unsealed; no card can be tokenized or revealed".to_owned());
        }
        warnings.extend(self.restore_warning());
        warnings.extend(self.audit.degraded().into_iter().map(str::to_owned));
        for item in self.hardening_items().into_iter().filter(|item| !item.in_force && item.without.is_none())
        {
            warnings.push(format!("hardening: {} is not in force", item.name));
        }
        warnings.extend(self.key_warnings());
        warnings.extend(self.store_warnings());
        warnings.extend(self.retention_warnings().await);
        warnings
    }
}

pub(super) const fn purpose_of(purpose: keyring::Purpose) -> KeyPurpose {
    match purpose {
        keyring::Purpose::Kek => KeyPurpose::Kek,
        keyring::Purpose::Data => KeyPurpose::Data,
        keyring::Purpose::Index => KeyPurpose::Index,
    }
}

const fn state_of(state: keyring::KeyState) -> KeyState {
    match state {
        keyring::KeyState::PreActive => KeyState::PreActive,
        keyring::KeyState::Active => KeyState::Active,
        keyring::KeyState::Suspended => KeyState::Suspended,
        keyring::KeyState::Deactivated => KeyState::Deactivated,
        keyring::KeyState::Compromised => KeyState::Compromised,
        keyring::KeyState::Destroyed => KeyState::Destroyed,
    }
}

fn read_collections(document: &Document) -> Result<Collections, VaultError> {
    Collections::parse(&document.bytes)
        .map_err(|_json| VaultError::Integrity("the stored collections are not well formed"))
}

pub(super) fn keyring_error(error: &KeyringError) -> VaultError {
    tracing::error!(%error, "keyring");
    match error {
        KeyringError::UnknownCollection(_) => VaultError::Refused(ProblemCode::UnknownCollection),
        KeyringError::CollectionExists(_) => VaultError::Refused(ProblemCode::Conflict),
        KeyringError::Key(_) => VaultError::Randomness,
        KeyringError::Kek(_) | KeyringError::NoSuchChange { .. } => {
            VaultError::Explained(ProblemCode::Conflict, error.to_string())
        }
        KeyringError::Suspended(version) => VaultError::Explained(
            ProblemCode::Conflict,
            format!("index key version {version} is suspended: resume it or call it compromised first"),
        ),
        KeyringError::NoSuchKey => VaultError::Explained(ProblemCode::BadField, error.to_string()),
        KeyringError::InUse => VaultError::Explained(
            ProblemCode::Conflict,
            "the key is active, destroyed already, or wraps other keys; rotate first".to_owned(),
        ),
        KeyringError::WindowOpen(version) => VaultError::Explained(
            ProblemCode::Conflict,
            format!("index key version {version} is still in use: run `cordon keys rewrap`, then destroy it"),
        ),
        _other => VaultError::Integrity("the keyring"),
    }
}
