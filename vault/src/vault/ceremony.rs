//! Initialising, unsealing and sealing.
//!
//! Must never keep the root key after the keyring is open, log a share, or leave `Sealed` with fewer shares than the
//! threshold. Tests: `tests/tests/ceremony.rs`.

use super::administer::{KEYRING, keyring_error};
use super::{Caller, State, Vault, statements};
use crate::error::VaultError;
use crate::keyring::{KeyringError, Unlocked};
use crate::keys::RootKey;
use crate::seal::{
    self, DeviceKind, Given, Holder, Register, SealConfig, SealDocument, SealError, Sealing, Submitted,
    UnsealProgress, Wanted,
};
use crate::store::{Document, Store};
use cordon_audit::{Action, Name, Outcome};
use cordon_card::Environment;
use cordon_policy::{Administer, Approve, Observe, Permit, Role};
use cordon_wire::{
    CustodianList, Delivery, InitRequest, InitResponse, IssuedShare, NewCustodian, ProblemCode, SealKind,
    SealState, SealStatus, ShareText, UnsealRequest,
};
use std::collections::BTreeSet;
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

    pub(super) const fn document(&self) -> &SealDocument {
        &self.document
    }

    fn of(document: SealDocument) -> Result<Self, VaultError> {
        let progress = match document.config() {
            SealConfig::Shamir { .. } => Some(UnsealProgress::new(&document).map_err(explained)?),
            SealConfig::DevFile | SealConfig::Device(_) => None,
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
        let sealing = match request.seal {
            SealKind::Shamir => Sealing::Shamir {
                threshold: request.threshold,
                holders: self.holders(&Register::default(), &request.custodians)?,
            },
            SealKind::DevFile => Sealing::DevFile,
            SealKind::Static => self.device(DeviceKind::Static, &request.custodians)?,
            SealKind::Pkcs11 => self.device(DeviceKind::Pkcs11, &request.custodians)?,
        };
        self.note(self.change(caller, Action::Init, &permit)).await?;
        let (environment, now, wanted) = (self.environment, self.clock.now(), sealing.clone());
        let made = self.apart(move |devices| seal::initialise(&wanted, environment, devices, now)).await?;
        // Before anything is stored: a vault must not exist whose shares can't be handed over.
        let shares = issue(&sealing, &made.shares)?;
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
        Ok(InitResponse { shares, status: self.seal_status() })
    }

    /// Takes one share, or opens a seal that needs none. At the threshold the vault serves.
    ///
    /// # Errors
    /// [`ProblemCode::BadShare`] names the share that is wrong; it leaves the others as they are.
    /// [`ProblemCode::NotAcknowledged`] for a custodian who has not acknowledged and does not now.
    pub async fn unseal(
        &self,
        caller: &Caller,
        permit: Permit<Administer>,
        request: UnsealRequest,
    ) -> Result<SealStatus, VaultError> {
        let _one_change = self.changing.lock().await;
        let line = self.change(caller, Action::Unseal, &permit);
        let share = request.share.map(|share| seal::ShareText::parse(share.expose()));
        let share = share.transpose().map_err(|error| bad_share(error.to_string()))?;
        // The line is written before the share counts; it says which share it was, never what is in it.
        let line = match &share {
            Some(share) => line.on(&Name::parse_or_withhold(&format!("share-{}", share.index()))),
            None => line,
        };
        self.note(line).await?;
        let given = share.map(|share| Given {
            share,
            by: &caller.who,
            acknowledges: request.acknowledge,
            at: self.clock.monotonic(),
        });
        let submitted = match given {
            Some(given) => self.submit(given)?,
            None => Some((self.open_alone().await?, BTreeSet::new())),
        };
        let Some((root, acknowledged)) = submitted else { return Ok(self.seal_status()) };
        self.open(caller, root, &acknowledged).await
    }

    /// Serves from now on, with the keyring of this root key.
    pub(super) async fn open(
        &self,
        caller: &Caller,
        root: RootKey,
        acknowledged: &BTreeSet<Name>,
    ) -> Result<SealStatus, VaultError> {
        let keys = self.open_keyring(caller, &root).await?;
        let keys = self.reserve_uses(keys).await?;
        self.epoch.fetch_max(keys.epoch(), Ordering::AcqRel);
        self.renew_wrapping(caller, root).await?;
        let stored = self.stored_seal()?;
        let document = self.keep_acknowledgements(caller, &keys, stored, acknowledged).await?;
        self.follow_rows(caller, &keys).await?;
        self.enter(State::Unsealed { keys: Arc::new(keys), document: Box::new(document) });
        tracing::info!("unsealed");
        Ok(self.seal_status())
    }

    /// Opens the keyring with the root key: the one in use, or the one that a root rotation was about to put in its place
    /// when it was interrupted. Refuses a keyring or a seal that was put back.
    async fn open_keyring(&self, caller: &Caller, root: &RootKey) -> Result<Unlocked, VaultError> {
        let seen = self.epoch.load(Ordering::Acquire);
        let stored = self.store.document(KEYRING)?.ok_or(VaultError::Integrity("the keyring is gone"))?;
        let mut opened = Unlocked::open(&stored.bytes, root, self.environment, seen);
        if let (Err(KeyringError::NotAuthentic), Some(next)) = (&opened, self.store.document(NEXT_KEYRING)?) {
            opened = Unlocked::open(&next.bytes, root, self.environment, seen);
            if opened.is_ok() {
                let committed = self.store.put_document(KEYRING, Some(stored.version), next.bytes).await?;
                self.anchor(caller, Action::KeyRotate, committed.sequence).await?;
            }
        }
        let keys = match opened {
            Ok(keys) => keys,
            // Told to the custodian, who can act on it, and to whoever reads the log.
            Err(error) => return Err(self.report_keyring(caller, &error).await?),
        };
        let generation = self.stored_seal()?.0.register().generation();
        match generation.cmp(&keys.seal_generation()) {
            std::cmp::Ordering::Less => {
                self.note(caller.event(Action::Unseal, Outcome::Failed).reason("seal-rolled-back")).await?;
                let words =
                    "the seal is older than the keyring: shares from before the last rekey don't count";
                Err(VaultError::Explained(ProblemCode::Conflict, words.to_owned()))
            }
            std::cmp::Ordering::Equal => Ok(keys),
            std::cmp::Ordering::Greater => {
                // A rekey was interrupted between its two documents.
                let next = keys.sealed_by(generation, self.wall()).map_err(|error| keyring_error(&error))?;
                let bytes = next.to_bytes().map_err(|error| keyring_error(&error))?;
                let version = self.store.document(KEYRING)?.map(|document| document.version);
                let committed = self.store.put_document(KEYRING, version, bytes).await?;
                self.epoch.fetch_max(next.epoch(), Ordering::AcqRel);
                self.anchor(caller, Action::Rekey, committed.sequence).await?;
                Ok(next)
            }
        }
    }

    /// Remembers who acknowledged, and records it (PCI DSS 3.7.8).
    pub(super) async fn keep_acknowledgements(
        &self,
        caller: &Caller,
        keys: &Unlocked,
        (document, version): (SealDocument, u64),
        who: &BTreeSet<Name>,
    ) -> Result<SealDocument, VaultError> {
        let new: Vec<&Name> = who.iter().filter(|name| !document.register().has_acknowledged(name)).collect();
        if new.is_empty() {
            return Ok(document);
        }
        for name in &new {
            let line = caller.event(Action::CustodianAcknowledge, Outcome::Allowed).who(name);
            self.note(line.on(&Name::parse_or_withhold("custodian-duties"))).await?;
        }
        let register = document.register().acknowledging(new, self.clock.now());
        let next = document.with_register(register, keys.seal_mac()).map_err(explained)?;
        let bytes = next.to_bytes().map_err(explained)?;
        let committed = self.store.put_document(seal::DOCUMENT, Some(version), bytes).await?;
        self.anchor(caller, Action::CustodianAcknowledge, committed.sequence).await?;
        Ok(next)
    }

    /// A custodian acknowledges the duties: that this person understands and accepts them (PCI DSS 3.7.8).
    ///
    /// # Errors
    /// The vault is sealed, or it can't be recorded.
    pub async fn acknowledge(
        &self,
        caller: &Caller,
        _permit: Permit<Approve>,
    ) -> Result<CustodianList, VaultError> {
        let _one_change = self.changing.lock().await;
        let keys = self.opened()?;
        let who = BTreeSet::from([caller.who.clone()]);
        let document = self.keep_acknowledgements(caller, &keys, self.stored_seal()?, &who).await?;
        Ok(CustodianList { custodians: document.register().shown() })
    }

    /// Present and former custodians.
    ///
    /// # Errors
    /// The vault is not initialised, or the audit line can't be written.
    pub async fn list_custodians(
        &self,
        caller: &Caller,
        permit: Permit<Observe>,
    ) -> Result<CustodianList, VaultError> {
        self.observed(caller, &permit, "custodians").await?;
        Ok(CustodianList { custodians: self.stored_seal()?.0.register().shown() })
    }

    /// Refuses who is no custodian of the present seal, or has not acknowledged the duties. The policy has said before that
    /// the role is theirs: it may still name somebody whom a rekey left out.
    pub(super) fn check_custodian(&self, who: &Name) -> Result<(), VaultError> {
        let (seal, _version) = self.stored_seal()?;
        let register = seal.register();
        if !register.is_custodian(who) {
            return Err(ProblemCode::NotACustodian.into());
        }
        if !register.has_acknowledged(who) {
            return Err(ProblemCode::NotAcknowledged.into());
        }
        Ok(())
    }

    /// Who is to hold which share. Custodians are services of the bundle that have this role.
    pub(super) fn holders(
        &self,
        register: &Register,
        custodians: &[NewCustodian],
    ) -> Result<Vec<Holder>, VaultError> {
        let mut wanted = Vec::new();
        for (place, NewCustodian { name, recipient }) in (1..).zip(custodians) {
            let service = self.bundle.service(name).filter(|service| service.role == Role::Custodian);
            let Some(service) = service else {
                let words = format!("custodian {place} of the list is none of the policy bundle");
                return Err(VaultError::Explained(ProblemCode::BadField, words));
            };
            let custodian = Name::parse_or_withhold(&service.name);
            wanted.push(Wanted { custodian, recipient: recipient.clone() });
        }
        register.assign(&wanted).map_err(explained)
    }

    /// Wipes shares that wait for too long.
    pub(super) fn sweep_shares(&self) {
        let now = self.clock.monotonic();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let State::Sealed(sealed) = &mut *state
            && let Some(progress) = &mut sealed.progress
        {
            progress.expire(now);
        }
    }

    /// Drops every key from memory, and every held security code.
    ///
    /// # Errors
    /// The vault is not initialised, or the audit line can't be written.
    pub async fn seal(&self, caller: &Caller, permit: Permit<Administer>) -> Result<SealStatus, VaultError> {
        let _one_change = self.changing.lock().await;
        let (document, _version) = self.stored_seal()?;
        self.note(self.change(caller, Action::Seal, &permit)).await?;
        self.enter(State::Sealed(Box::new(Sealed::of(document)?)));
        self.holds().purge();
        self.forget_rekey();
        self.forget_rows().await;
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
                Some(SealConfig::DevFile | SealConfig::Device(_)) | None => (None, None),
            };
            let seal = config.map(SealConfig::kind);
            let environment = self.environment;
            SealStatus { state, environment, seal, threshold, shares, key: None, progress }
        };
        let key = |document: &SealDocument| document.sealing_key().map(|key| key.as_str().to_owned());
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Uninitialized => status(SealState::Uninitialized, None, 0),
            State::Sealed(sealed) => {
                let Sealed { document, progress } = &**sealed;
                let given = progress.as_ref().map_or(0, UnsealProgress::given);
                let status = status(SealState::Sealed, Some(document.config()), given);
                SealStatus { key: key(document), ..status }
            }
            State::Unsealed { document, .. } => {
                let status = status(SealState::Unsealed, Some(document.config()), 0);
                SealStatus { key: key(document), ..status }
            }
        }
    }

    /// Counts a share. Gives the root key when there are enough, and who acknowledged.
    fn submit(&self, given: Given<'_>) -> Result<Option<(RootKey, BTreeSet<Name>)>, VaultError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let sealed = match &mut *state {
            State::Sealed(sealed) => sealed,
            State::Uninitialized => return Err(VaultError::NotUnsealed(ProblemCode::NotInitialized)),
            State::Unsealed { .. } => return Err(ProblemCode::Conflict.into()),
        };
        let Some(progress) = &mut sealed.progress else {
            return Err(bad_share(
                "this vault has no shares; it is unsealed by the key that seals it".to_owned(),
            ));
        };
        match progress.submit(&sealed.document, given) {
            Ok(Submitted::Unsealed { root, acknowledged }) => Ok(Some((root, acknowledged))),
            Ok(Submitted::Waiting { .. }) => Ok(None),
            Err(error) => Err(explained(error)),
        }
    }

    /// The stored seal and the version of its document.
    pub(super) fn stored_seal(&self) -> Result<(SealDocument, u64), VaultError> {
        let stored = self.store.document(seal::DOCUMENT)?;
        let Document { bytes, version } =
            stored.ok_or(VaultError::NotUnsealed(ProblemCode::NotInitialized))?;
        Ok((SealDocument::parse(&bytes, self.environment).map_err(explained)?, version))
    }

    pub(super) fn enter(&self, next: State) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let State::Unsealed { keys, .. } = &*state {
            self.retire_view(Arc::downgrade(keys));
        }
        *state = next;
    }
}

/// Encrypts each share to its custodian, or leaves it in clear for the one terminal that waits for it.
pub(super) fn issue(sealing: &Sealing, shares: &[seal::ShareText]) -> Result<Vec<IssuedShare>, VaultError> {
    let Sealing::Shamir { holders, .. } = sealing else { return Ok(Vec::new()) };
    holders
        .iter()
        .zip(shares)
        .map(|(holder, share)| {
            let delivery = match &holder.recipient {
                Some(recipient) => Delivery::Age(seal::encrypt(share, recipient).map_err(explained)?),
                None => Delivery::Text(ShareText::new(share.expose())),
            };
            let custodian = holder.custodian.as_str().to_owned();
            Ok(IssuedShare { number: holder.number, custodian, delivery })
        })
        .collect()
}

pub(super) fn bad_share(why: String) -> VaultError {
    VaultError::Explained(ProblemCode::BadShare, why)
}

/// Seal errors name shares by number, custodians and environments by name, so their text may be shown.
pub(super) fn explained(error: SealError) -> VaultError {
    match error {
        SealError::Limits { .. }
        | SealError::DevelopmentInLive
        | SealError::NotThisSeal
        | SealError::Custodian(_)
        | SealError::Recipient(_)
        | SealError::NotConfigured(_)
        | SealError::Numbers(_) => VaultError::Explained(ProblemCode::BadField, error.to_string()),
        SealError::UnknownKey(_) | SealError::WrongKey(_) | SealError::Hsm(_) | SealError::File { .. } => {
            tracing::error!(%error, "seal");
            VaultError::Explained(ProblemCode::KeyUnavailable, error.to_string())
        }
        SealError::OtherCeremony(_)
        | SealError::WrongShare(..)
        | SealError::NotTheHolder(..)
        | SealError::GivenAlready(_)
        | SealError::WrongEnvironment { .. }
        | SealError::Root => bad_share(error.to_string()),
        SealError::NotAcknowledged(_) => {
            VaultError::Explained(ProblemCode::NotAcknowledged, error.to_string())
        }
        SealError::Key(_) => VaultError::Randomness,
        other @ (SealError::Malformed
        | SealError::NotAuthentic
        | SealError::Sharing
        | SealError::Delivery) => {
            tracing::error!(error = %other, "seal");
            VaultError::Integrity("the seal")
        }
    }
}

/// The keyring under a new root key, until the seal that has this root key is in its place.
pub(super) const NEXT_KEYRING: &str = "keyring-next";
