//! Initialising, unsealing and sealing.
//!
//! Must never keep the root key after the keyring is open, log a share, or leave `Sealed` with fewer shares than the
//! threshold. Tests: `tests/tests/ceremony.rs`.

use super::administer::{KEYRING, keyring_error};
use super::{Caller, State, Vault, statements};
use crate::error::VaultError;
use crate::keyring::Unlocked;
use crate::keys::RootKey;
use crate::seal::{self, SealConfig, SealDocument, SealError, Submitted, UnsealProgress};
use crate::store::Store;
use cordon_audit::{Action, Name, Outcome};
use cordon_card::Environment;
use cordon_policy::{Administer, Observe, Permit};
use cordon_wire::{InitRequest, InitResponse, ProblemCode, SealKind, SealState, SealStatus, ShareText};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// A sealed vault: what it takes to unseal it, and the shares given so far. There is no key in it.
pub(super) struct Sealed {
    document: SealDocument,
    progress: Option<UnsealProgress>,
}

impl Sealed {
    pub(super) fn parse(bytes: &[u8], environment: Environment) -> Result<Self, VaultError> {
        Self::of(SealDocument::parse(bytes, environment).map_err(explained)?)
    }

    fn of(document: SealDocument) -> Result<Self, VaultError> {
        let progress = match document.config() {
            SealConfig::Shamir { .. } => Some(UnsealProgress::new(&document).map_err(explained)?),
            SealConfig::DevFile => None,
        };
        Ok(Self { document, progress })
    }
}

impl<S: Store> Vault<S> {
    /// Makes the root key, its shares and the keyring. The vault is sealed afterwards.
    ///
    /// # Errors
    /// [`ProblemCode::Conflict`] if it was done before; limits that may not be, with the reason.
    pub async fn init(
        &self,
        caller: &Caller,
        permit: Permit<Administer>,
        request: &InitRequest,
    ) -> Result<InitResponse, VaultError> {
        let _one_change = self.changing.lock().await;
        if self.store.document(seal::DOCUMENT)?.is_some() {
            return Err(ProblemCode::Conflict.into());
        }
        let config = match request.seal {
            SealKind::Shamir => SealConfig::Shamir { threshold: request.threshold, shares: request.shares },
            SealKind::DevFile => SealConfig::DevFile,
        };
        self.note(self.change(caller, Action::Init, &permit)).await?;
        let made = seal::initialise(config, self.environment, &self.dev_file()).map_err(explained)?;
        let keyring = Unlocked::create(&made.root, self.environment, self.clock.now());
        let bytes = keyring.and_then(|keyring| keyring.to_bytes()).map_err(|error| keyring_error(&error))?;
        // The keyring first: the seal document is what makes a vault initialised. One left by a crash between the
        // two belongs to a root key that nobody has, and is replaced.
        let stale = self.store.document(KEYRING)?.map(|document| document.version);
        self.store.put_document(KEYRING, stale, bytes).await?;
        let document = made.document.to_bytes().map_err(explained)?;
        let committed = self.store.put_document(seal::DOCUMENT, None, document).await?;
        self.anchor(caller, Action::Init, committed.sequence).await?;
        self.enter(State::Sealed(Box::new(Sealed::of(made.document)?)));
        let shares = made.shares.iter().map(|share| ShareText::new(share.expose())).collect();
        Ok(InitResponse { shares, status: self.seal_status() })
    }

    /// Takes one share, or opens a development seal. At the threshold the vault serves.
    ///
    /// # Errors
    /// [`ProblemCode::BadShare`] names the share that is wrong; it leaves the others as they are.
    pub async fn unseal(
        &self,
        caller: &Caller,
        permit: Permit<Administer>,
        share: Option<ShareText>,
    ) -> Result<SealStatus, VaultError> {
        let _one_change = self.changing.lock().await;
        let line = self.change(caller, Action::Unseal, &permit);
        let share = share.map(|share| seal::ShareText::parse(share.expose()));
        let share = share.transpose().map_err(|error| bad_share(error.to_string()))?;
        // The line is written before the share counts; it says which share it was, never what is in it.
        let line = match &share {
            Some(share) => line.on(&Name::parse_or_withhold(&format!("share-{}", share.index()))),
            None => line,
        };
        self.note(line).await?;
        let Some(root) = self.submit(share)? else { return Ok(self.seal_status()) };
        let stored = self.store.document(KEYRING)?.ok_or(VaultError::Integrity("the keyring is gone"))?;
        let keys = {
            let seen = self.epoch.load(Ordering::Acquire);
            Unlocked::open(&stored.bytes, &root, self.environment, seen)
        };
        let keys = match keys {
            Ok(keys) => Arc::new(self.reserve_uses(keys).await?),
            Err(error) => return Err(self.report_keyring(caller, &error).await?),
        };
        drop(root);
        self.epoch.fetch_max(keys.epoch(), Ordering::AcqRel);
        let document = self.seal_document()?;
        self.enter(State::Unsealed { keys, document: Box::new(document) });
        tracing::info!("unsealed");
        Ok(self.seal_status())
    }

    /// Drops every key from memory, and every held security code.
    ///
    /// # Errors
    /// The vault is not initialised, or the audit line can't be written.
    pub async fn seal(&self, caller: &Caller, permit: Permit<Administer>) -> Result<SealStatus, VaultError> {
        let _one_change = self.changing.lock().await;
        let document = self.seal_document()?;
        self.note(self.change(caller, Action::Seal, &permit)).await?;
        self.enter(State::Sealed(Box::new(Sealed::of(document)?)));
        self.holds().purge();
        tracing::info!("sealed");
        Ok(self.seal_status())
    }

    /// Where the seal stands, recorded.
    ///
    /// # Errors
    /// The audit line can't be written.
    pub async fn show_seal(
        &self,
        caller: &Caller,
        permit: Permit<Observe>,
    ) -> Result<SealStatus, VaultError> {
        let event = caller.event(Action::Observe, Outcome::Allowed).on(&Name::parse_or_withhold("seal"));
        self.note(event.statements(statements(permit.statements()))).await?;
        Ok(self.seal_status())
    }

    /// Where the seal stands.
    pub(super) fn seal_status(&self) -> SealStatus {
        let status = |state, config: Option<SealConfig>, progress| {
            let (threshold, shares) = match config {
                Some(SealConfig::Shamir { threshold, shares }) => (Some(threshold), Some(shares)),
                Some(SealConfig::DevFile) | None => (None, None),
            };
            let seal = config.map(SealConfig::kind);
            SealStatus { state, environment: self.environment, seal, threshold, shares, progress }
        };
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Uninitialized => status(SealState::Uninitialized, None, 0),
            State::Sealed(sealed) => {
                let given = sealed.progress.as_ref().map_or(0, UnsealProgress::given);
                status(SealState::Sealed, Some(sealed.document.config()), given)
            }
            State::Unsealed { document, .. } => status(SealState::Unsealed, Some(document.config()), 0),
        }
    }

    /// Counts a share, or reads the development file. Gives the root key when there is one.
    fn submit(&self, share: Option<seal::ShareText>) -> Result<Option<RootKey>, VaultError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let sealed = match &mut *state {
            State::Sealed(sealed) => sealed,
            State::Uninitialized => return Err(VaultError::NotUnsealed(ProblemCode::NotInitialized)),
            State::Unsealed { .. } => return Err(ProblemCode::Conflict.into()),
        };
        match (&mut sealed.progress, share) {
            (Some(progress), Some(share)) => match progress.submit(&sealed.document, share) {
                Ok(Submitted::Unsealed(root)) => Ok(Some(root)),
                Ok(Submitted::Waiting { .. }) => Ok(None),
                Err(error) => Err(bad_share(error.to_string())),
            },
            (Some(_), None) => Err(bad_share("this vault is unsealed by shares; give one".to_owned())),
            (None, Some(_)) => {
                Err(bad_share("this vault has no shares; it is unsealed by its file".to_owned()))
            }
            (None, None) => {
                seal::unseal_from_file(&sealed.document, &self.dev_file()).map(Some).map_err(explained)
            }
        }
    }

    fn seal_document(&self) -> Result<SealDocument, VaultError> {
        let stored = self.store.document(seal::DOCUMENT)?;
        let stored = stored.ok_or(VaultError::NotUnsealed(ProblemCode::NotInitialized))?;
        SealDocument::parse(&stored.bytes, self.environment).map_err(explained)
    }

    fn enter(&self, next: State) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let State::Unsealed { keys, .. } = &*state {
            self.retire_view(Arc::downgrade(keys));
        }
        *state = next;
    }

    fn dev_file(&self) -> PathBuf {
        self.data_dir.join(DEV_FILE)
    }
}

fn bad_share(why: String) -> VaultError {
    VaultError::Explained(ProblemCode::BadShare, why)
}

/// Seal errors name shares by number and environments by name, so their text may be shown.
fn explained(error: SealError) -> VaultError {
    match error {
        SealError::Limits { .. } | SealError::DevelopmentInLive | SealError::NotThisSeal => {
            VaultError::Explained(ProblemCode::BadField, error.to_string())
        }
        SealError::Key(_) => VaultError::Randomness,
        other => {
            tracing::error!(error = %other, "seal");
            VaultError::Integrity("the seal")
        }
    }
}

/// Where the development seal keeps the root key, in clear.
const DEV_FILE: &str = "development-root-key.json";
