//! New shares for new custodians, and a new root key: asked for, agreed to by a quorum, proven, and only then in force.
//!
//! Must never drop the present shares before a quorum of the new ones has come back, nor leave a vault that neither opens:
//! the seal document is the one switch, changed by compare-and-set. Tests: `tests/tests/custodians.rs`.

use super::administer::{KEYRING, keyring_error};
use super::ceremony::{NEXT_KEYRING, bad_share, explained, issue};
use super::{Caller, State, Vault};
use crate::error::VaultError;
use crate::keyring::Unlocked;
use crate::keys::{KeyId, RootKey};
use crate::seal::{
    self, DeviceKind, Given, Holder, SealConfig, SealDocument, Sealing, Submitted, UnsealProgress,
};
use crate::store::Store;
use cordon_audit::{Action, Event, Name, Outcome};
use cordon_policy::{Administer, Observe, Permit};
use cordon_wire::{
    Delivery, IssuedShare, Operation, ProblemCode, RekeyList, RekeyRequest, RekeyShare, RekeyState,
    RekeyStatus, SealKind,
};
use std::collections::BTreeSet;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

/// A rekey that is under way. It lives in memory: a vault that is sealed or restarted has given it up, and nothing has
/// changed.
pub(super) struct Session {
    id: KeyId,
    rotate_root: bool,
    /// How the root key is sealed afterwards.
    sealing: Sealing,
    /// The seal that counts until then, whose shares agree to it.
    present: SealDocument,
    began: Duration,
    step: Step,
}

enum Step {
    /// The present seal has no shares; its device gives the root key.
    Opening,
    /// Present custodians give their shares.
    Collecting(UnsealProgress),
    /// New shares are out and have to come back.
    Proving { next: Box<SealDocument>, progress: UnsealProgress, issued: Vec<IssuedShare> },
}

/// What a share led to.
enum Progress {
    Waiting,
    /// The present custodians agreed: their root key.
    Agreed(RootKey),
    Proven(RootKey),
}

/// A seal made for a session.
struct Made {
    root: RootKey,
    next: SealDocument,
    shares: Vec<seal::ShareText>,
}

impl<S: Store> Vault<S> {
    /// Begins a rekey. Present custodians then give their shares for exactly this; a seal without shares needs none, and
    /// its successor is in force at once, or goes out as new shares. Unless there are shares before and after, two
    /// custodians have approved it, to the letter.
    ///
    /// # Errors
    /// [`ProblemCode::Conflict`] while another one is under way; [`ProblemCode::ApprovalRequired`]; custodians, recipients,
    /// limits or devices that may not be.
    pub async fn begin_rekey(
        &self,
        caller: &Caller,
        permit: Permit<Administer>,
        request: &RekeyRequest,
    ) -> Result<RekeyStatus, VaultError> {
        let _one_change = self.changing.lock().await;
        let _unsealed = self.keys()?;
        let (present, _version) = self.stored_seal()?;
        let sealing = self.next_sealing(&present, request)?;
        let shared = matches!(present.config(), SealConfig::Shamir { .. });
        let id = KeyId::draw("rekey").map_err(|_error| VaultError::Randomness)?;
        if self.rekeying().is_some() {
            let words = "a rekey is under way; finish it, or end it with `cordon rekey abort`";
            return Err(VaultError::Explained(ProblemCode::Conflict, words.to_owned()));
        }
        // What can't be done is not begun, so that no approval is used up for it.
        let root = if shared { None } else { Some(self.root_of(&present).await?) };
        if !shared || request.to != SealKind::Shamir {
            drop(self.approve_use(caller, &Operation::ChangeSeal(request.clone())).await?);
        }
        self.note(about(self.change(caller, Action::Rekey, &permit), &id, "begin")).await?;
        let step = if shared {
            Step::Collecting(UnsealProgress::new(&present).map_err(explained)?)
        } else {
            Step::Opening
        };
        let (rotate_root, began) = (request.rotate_root, self.clock.monotonic());
        let session = Session { id, rotate_root, sealing, present, began, step };
        let status = session.status();
        *self.rekeying() = Some(session);
        let Some(root) = root else { return Ok(status) };
        let done = self.succeed(caller, root).await;
        if done.is_err() {
            *self.rekeying() = None;
        }
        done
    }

    /// How the root key is to be sealed.
    fn next_sealing(&self, present: &SealDocument, request: &RekeyRequest) -> Result<Sealing, VaultError> {
        if present.config() == SealConfig::DevFile {
            return Err(explained(seal::SealError::NotThisSeal));
        }
        let sealing = match request.to {
            SealKind::DevFile => return Err(explained(seal::SealError::NotThisSeal)),
            SealKind::Static => self.device(DeviceKind::Static, &request.custodians)?,
            SealKind::Pkcs11 => self.device(DeviceKind::Pkcs11, &request.custodians)?,
            SealKind::Shamir => {
                let holders = self.holders(present.register(), &request.custodians)?;
                if let Some(without) = holders.iter().find(|holder| holder.recipient.is_none()) {
                    return Err(explained(seal::SealError::Recipient(without.custodian.clone())));
                }
                Sealing::Shamir { threshold: request.threshold, holders }
            }
        };
        sealing.config().check(self.environment).map_err(explained)?;
        Ok(sealing)
    }

    /// The root key of a seal without shares.
    async fn root_of(&self, present: &SealDocument) -> Result<RootKey, VaultError> {
        let present = present.clone();
        self.apart(move |devices| seal::unseal_alone(&present, devices)).await
    }

    /// The rekey that is under way.
    ///
    /// # Errors
    /// The audit line can't be written.
    pub async fn show_rekey(
        &self,
        caller: &Caller,
        permit: Permit<Observe>,
    ) -> Result<RekeyList, VaultError> {
        self.observed(caller, &permit, "rekey").await?;
        Ok(RekeyList { rekeys: self.rekeying().iter().map(Session::status).collect() })
    }

    /// Gives a rekey up. Nothing has changed; new shares that are out are worthless.
    ///
    /// # Errors
    /// [`ProblemCode::Conflict`] if none is under way.
    pub async fn abort_rekey(
        &self,
        caller: &Caller,
        permit: Permit<Administer>,
    ) -> Result<RekeyStatus, VaultError> {
        let _one_change = self.changing.lock().await;
        let status = self.rekeying().as_ref().map(Session::status).ok_or_else(none_under_way)?;
        let line = self.change(caller, Action::Rekey, &permit).reason("aborted");
        self.note(line.on(&Name::parse_or_withhold(&status.id))).await?;
        *self.rekeying() = None;
        Ok(RekeyStatus { state: RekeyState::Aborted, issued: Vec::new(), ..status })
    }

    /// Takes a share: a present one while they are collected, a new one while they are proven. The last of the present ones
    /// makes the new shares; the last of the new ones puts them in force.
    ///
    /// # Errors
    /// As [`Vault::unseal`] for the share; [`ProblemCode::Conflict`] for another rekey than the one under way.
    pub async fn give_rekey_share(
        &self,
        caller: &Caller,
        permit: Permit<Administer>,
        request: RekeyShare,
    ) -> Result<RekeyStatus, VaultError> {
        let _one_change = self.changing.lock().await;
        let keys = self.keys()?;
        let share = seal::ShareText::parse(request.share.expose());
        let share = share.map_err(|error| bad_share(error.to_string()))?;
        let id = match &*self.rekeying() {
            Some(session) if session.id.as_str() == request.id => session.id.clone(),
            Some(_) | None => return Err(none_under_way()),
        };
        let what = format!("share-{}", share.index());
        self.note(about(self.change(caller, Action::Rekey, &permit), &id, &what)).await?;
        let known = self.stored_seal()?.0.register().has_acknowledged(&caller.who);
        let given = Given {
            share,
            by: &caller.who,
            acknowledges: request.acknowledge || known,
            at: self.clock.monotonic(),
        };
        let progress = self.take_rekey_share(given)?;
        if request.acknowledge {
            let who = BTreeSet::from([caller.who.clone()]);
            self.keep_acknowledgements(caller, &keys, self.stored_seal()?, &who).await?;
        }
        match progress {
            Progress::Waiting => self.rekeying().as_ref().map(Session::status).ok_or_else(none_under_way),
            Progress::Agreed(root) => self.succeed(caller, root).await,
            Progress::Proven(root) => {
                let session = self.rekeying().take().ok_or_else(none_under_way)?;
                let Step::Proving { next, .. } = &session.step else { return Err(none_under_way()) };
                self.put_in_force(caller, &keys, &session, next, &root).await?;
                Ok(session.done())
            }
        }
    }

    /// Makes the next seal for the session under way: new shares, which then have to come back, or one under a device's key,
    /// which is in force at once.
    async fn succeed(&self, caller: &Caller, present: RootKey) -> Result<RekeyStatus, VaultError> {
        let (sealing, rotate_root, register) = {
            let slot = self.rekeying();
            let session = slot.as_ref().ok_or_else(none_under_way)?;
            (session.sealing.clone(), session.rotate_root, session.present.register().clone())
        };
        let (environment, now) = (self.environment, self.clock.now());
        let wanted = sealing.clone();
        let made = self.apart(move |devices| {
            let root = if rotate_root { RootKey::generate()? } else { present };
            let (next, shares) = seal::seal_root(&root, &wanted, environment, &register, devices, now)?;
            if matches!(wanted, Sealing::Device(_)) {
                // It must open before it counts.
                drop(seal::unseal_alone(&next, devices)?);
            }
            Ok(Made { root, next, shares })
        });
        let Made { root, next, shares } = made.await?;
        if let Sealing::Shamir { .. } = sealing {
            let issued = issue(&sealing, &shares)?;
            let progress = UnsealProgress::new(&next).map_err(explained)?;
            let mut slot = self.rekeying();
            let session = slot.as_mut().ok_or_else(none_under_way)?;
            session.step = Step::Proving { next: Box::new(next), progress, issued };
            return Ok(session.status());
        }
        let session = self.rekeying().take().ok_or_else(none_under_way)?;
        let keys = self.keys()?;
        self.put_in_force(caller, &keys, &session, &next, &root).await?;
        Ok(session.done())
    }

    fn take_rekey_share(&self, given: Given<'_>) -> Result<Progress, VaultError> {
        let mut slot = self.rekeying();
        let session = slot.as_mut().ok_or_else(none_under_way)?;
        match &mut session.step {
            Step::Opening => Err(none_under_way()),
            Step::Collecting(progress) => match progress.submit(&session.present, given) {
                Ok(Submitted::Unsealed { root, .. }) => Ok(Progress::Agreed(root)),
                Ok(Submitted::Waiting { .. }) => Ok(Progress::Waiting),
                Err(error) => Err(explained(error)),
            },
            Step::Proving { next, progress, .. } => match progress.submit(next, given) {
                Ok(Submitted::Unsealed { root, .. }) => Ok(Progress::Proven(root)),
                Ok(Submitted::Waiting { .. }) => Ok(Progress::Waiting),
                Err(error) => Err(explained(error)),
            },
        }
    }

    /// Makes the new shares count. Until the seal document is replaced, the present ones do; from then on, the new ones.
    async fn put_in_force(
        &self,
        caller: &Caller,
        keys: &Unlocked,
        session: &Session,
        next: &SealDocument,
        root: &RootKey,
    ) -> Result<(), VaultError> {
        let (present, version) = self.stored_seal()?;
        if !present.same_ceremony(&session.present) {
            return Err(ProblemCode::Conflict.into());
        }
        let register = next.register().with_acknowledgements_of(present.register());
        let generation = register.generation();
        let next =
            next.with_register(register, &seal::mac_of(root).map_err(explained)?).map_err(explained)?;
        let line = caller.event(Action::Rekey, Outcome::Allowed);
        self.note(about(line, &session.id, if session.rotate_root { "root" } else { "shares" })).await?;
        let (approvals, approvals_version) = self.approvals(caller, keys).await?;
        let rotated = if session.rotate_root {
            let rotated =
                keys.rotate_root(root, generation, self.wall()).map_err(|error| keyring_error(&error))?;
            let bytes = rotated.to_bytes().map_err(|error| keyring_error(&error))?;
            let stale = self.store.document(NEXT_KEYRING)?.map(|document| document.version);
            self.store.put_document(NEXT_KEYRING, stale, bytes).await?;
            rotated
        } else {
            keys.sealed_by(generation, self.wall()).map_err(|error| keyring_error(&error))?
        };
        let bytes = next.to_bytes().map_err(explained)?;
        self.store.put_document(seal::DOCUMENT, Some(version), bytes).await?;
        // From here on the new shares unseal; what follows is finished by the next unseal if it is interrupted.
        let bytes = rotated.to_bytes().map_err(|error| keyring_error(&error))?;
        let stored = self.store.document(KEYRING)?.map(|document| document.version);
        let committed = self.store.put_document(KEYRING, stored, bytes).await?;
        if session.rotate_root && approvals_version.is_some() {
            self.keep_approvals(caller, &rotated, &approvals, approvals_version, Action::Rekey).await?;
        }
        self.epoch.fetch_max(rotated.epoch(), std::sync::atomic::Ordering::AcqRel);
        self.enter(State::Unsealed { keys: Arc::new(rotated), document: Box::new(next) });
        self.anchor(caller, Action::Rekey, committed.sequence).await?;
        tracing::info!(root = session.rotate_root, "rekeyed");
        Ok(())
    }

    /// The rekey under way; one that has taken too long is given up.
    fn rekeying(&self) -> MutexGuard<'_, Option<Session>> {
        let now = self.clock.monotonic();
        let mut slot = self.rekey.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.as_mut() {
            Some(session) if now.saturating_sub(session.began) >= LONGEST => *slot = None,
            Some(Session { step: Step::Collecting(progress) | Step::Proving { progress, .. }, .. }) => {
                progress.expire(now);
            }
            Some(Session { step: Step::Opening, .. }) | None => {}
        }
        slot
    }

    /// Gives up a rekey without a word: the vault is being sealed.
    pub(super) fn forget_rekey(&self) {
        *self.rekeying() = None;
    }

    /// Wipes shares and new shares of a rekey that waits for too long.
    pub(super) fn sweep_rekey(&self) {
        drop(self.rekeying());
    }
}

impl Session {
    fn status(&self) -> RekeyStatus {
        let (state, progress, issued) = match &self.step {
            Step::Opening => (RekeyState::Collecting, None, Vec::new()),
            Step::Collecting(progress) => (RekeyState::Collecting, Some(progress), Vec::new()),
            Step::Proving { progress, issued, .. } => {
                (RekeyState::Proving, Some(progress), issued.iter().filter_map(again).collect())
            }
        };
        let (threshold, custodians) = match &self.sealing {
            Sealing::Shamir { threshold, holders } => {
                let name = |holder: &Holder| holder.custodian.as_str().to_owned();
                (*threshold, holders.iter().map(name).collect())
            }
            Sealing::Device(_) | Sealing::DevFile => (0, Vec::new()),
        };
        RekeyStatus {
            id: self.id.as_str().to_owned(),
            rotate_root: self.rotate_root,
            state,
            given: progress.map_or(0, UnsealProgress::given),
            needed: progress.map_or(0, UnsealProgress::threshold),
            to: self.sealing.config().kind(),
            threshold,
            custodians,
            issued,
        }
    }

    /// What is told once it is in force.
    fn done(&self) -> RekeyStatus {
        let status = self.status();
        RekeyStatus { state: RekeyState::Done, given: status.threshold, issued: Vec::new(), ..status }
    }
}

/// An encrypted share may be fetched as often as its custodian likes; one in clear is never kept.
fn again(share: &IssuedShare) -> Option<IssuedShare> {
    match &share.delivery {
        Delivery::Age(file) => Some(IssuedShare {
            number: share.number,
            custodian: share.custodian.clone(),
            delivery: Delivery::Age(file.clone()),
        }),
        Delivery::Text(_) => None,
    }
}

fn about(line: Event, id: &KeyId, what: &str) -> Event {
    line.on(&Name::parse_or_withhold(&format!("{}/{what}", id.as_str())))
}

fn none_under_way() -> VaultError {
    let words = "no rekey with this id is under way; begin one with `cordon rekey begin`";
    VaultError::Explained(ProblemCode::Conflict, words.to_owned())
}

/// The whole of a rekey must fit into this, or it is given up.
const LONGEST: Duration = Duration::from_secs(60 * 60);
