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
use crate::seal::{self, Given, Holder, SealDocument, Sealing, Submitted, UnsealProgress};
use crate::store::Store;
use cordon_audit::{Action, Event, Name, Outcome};
use cordon_policy::{Administer, Observe, Permit};
use cordon_wire::{
    Delivery, IssuedShare, ProblemCode, RekeyList, RekeyRequest, RekeyShare, RekeyState, RekeyStatus,
};
use std::collections::BTreeSet;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

/// A rekey that is under way. It lives in memory: a vault that is sealed or restarted has given it up, and nothing has
/// changed.
pub(super) struct Session {
    id: KeyId,
    rotate_root: bool,
    threshold: u8,
    holders: Vec<Holder>,
    /// The seal whose shares agree to it.
    present: SealDocument,
    began: Duration,
    step: Step,
}

enum Step {
    /// Present custodians give their shares.
    Collecting(UnsealProgress),
    /// New shares are out and have to come back.
    Proving { next: Box<SealDocument>, progress: UnsealProgress, issued: Vec<IssuedShare> },
}

/// What a share led to.
enum Progress {
    Waiting,
    Proven(RootKey),
}

impl<S: Store> Vault<S> {
    /// Begins a rekey. Present custodians then give their shares for exactly this.
    ///
    /// # Errors
    /// [`ProblemCode::Conflict`] while another one is under way; custodians, recipients or limits that may not be.
    pub async fn begin_rekey(
        &self,
        caller: &Caller,
        permit: Permit<Administer>,
        request: &RekeyRequest,
    ) -> Result<RekeyStatus, VaultError> {
        let _one_change = self.changing.lock().await;
        let _unsealed = self.keys()?;
        let (present, _version) = self.stored_seal()?;
        let progress = UnsealProgress::new(&present).map_err(explained)?;
        let holders = self.holders(present.register(), &request.custodians)?;
        if let Some(without) = holders.iter().find(|holder| holder.recipient.is_none()) {
            return Err(explained(seal::SealError::Recipient(without.custodian.clone())));
        }
        let sealing = Sealing::Shamir { threshold: request.threshold, holders: holders.clone() };
        sealing.config().check(self.environment).map_err(explained)?;
        let id = KeyId::draw("rekey").map_err(|_error| VaultError::Randomness)?;
        if self.rekeying().is_some() {
            let words = "a rekey is under way; finish it, or end it with `cordon rekey abort`";
            return Err(VaultError::Explained(ProblemCode::Conflict, words.to_owned()));
        }
        self.note(about(self.change(caller, Action::Rekey, &permit), &id, "begin")).await?;
        let session = Session {
            id,
            rotate_root: request.rotate_root,
            threshold: request.threshold,
            holders,
            present,
            began: self.clock.monotonic(),
            step: Step::Collecting(progress),
        };
        let status = session.status();
        *self.rekeying() = Some(session);
        Ok(status)
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
            Progress::Proven(root) => {
                let session = self.rekeying().take().ok_or_else(none_under_way)?;
                self.put_in_force(caller, &keys, &session, &root).await?;
                Ok(RekeyStatus {
                    state: RekeyState::Done,
                    given: session.threshold,
                    issued: Vec::new(),
                    ..session.status()
                })
            }
        }
    }

    fn take_rekey_share(&self, given: Given<'_>) -> Result<Progress, VaultError> {
        let mut slot = self.rekeying();
        let session = slot.as_mut().ok_or_else(none_under_way)?;
        match &mut session.step {
            Step::Collecting(progress) => match progress.submit(&session.present, given) {
                Ok(Submitted::Unsealed { root, .. }) => {
                    session.step = self.make_shares(session, root)?;
                    Ok(Progress::Waiting)
                }
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

    /// A new polynomial, over the root key that the present custodians brought back or over a new one.
    fn make_shares(&self, session: &Session, present: RootKey) -> Result<Step, VaultError> {
        let root = if session.rotate_root {
            drop(present);
            RootKey::generate().map_err(|_error| VaultError::Randomness)?
        } else {
            present
        };
        let sealing = Sealing::Shamir { threshold: session.threshold, holders: session.holders.clone() };
        let before = session.present.register();
        let made = seal::seal_root(&root, &sealing, self.environment, before, self.clock.now());
        let (next, shares) = made.map_err(explained)?;
        let issued = issue(&sealing, &shares)?;
        let progress = UnsealProgress::new(&next).map_err(explained)?;
        Ok(Step::Proving { next: Box::new(next), progress, issued })
    }

    /// Makes the new shares count. Until the seal document is replaced, the present ones do; from then on, the new ones.
    async fn put_in_force(
        &self,
        caller: &Caller,
        keys: &Unlocked,
        session: &Session,
        root: &RootKey,
    ) -> Result<(), VaultError> {
        let Step::Proving { next, .. } = &session.step else { return Err(none_under_way()) };
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
            None => {}
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
            Step::Collecting(progress) => (RekeyState::Collecting, progress, Vec::new()),
            Step::Proving { progress, issued, .. } => {
                (RekeyState::Proving, progress, issued.iter().filter_map(again).collect())
            }
        };
        RekeyStatus {
            id: self.id.as_str().to_owned(),
            rotate_root: self.rotate_root,
            state,
            given: progress.given(),
            needed: progress.threshold(),
            threshold: self.threshold,
            custodians: self.holders.iter().map(|holder| holder.custodian.as_str().to_owned()).collect(),
            issued,
        }
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
