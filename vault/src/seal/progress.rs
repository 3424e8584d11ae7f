//! Shares given so far, until there are enough.
//!
//! Must never count a share twice or one that is not right, and never keep shares after a root key came of
//! them or failed to. Tests: `seal/tests.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use cordon_audit::Name;

use super::shamir::{self, ShareSecret};
use super::{SealConfig, SealDocument, SealError, ShareText};
use crate::keys::RootKey;

/// One attempt of custodians to bring the root key back.
pub struct UnsealProgress {
    threshold: u8,
    given: BTreeMap<u8, ShareSecret>,
    /// Who acknowledged the duties with a share that counted.
    acknowledged: BTreeSet<Name>,
    /// When the first of the shares came.
    since: Duration,
}

/// A share, and who gives it.
pub struct Given<'a> {
    /// The share.
    pub share: ShareText,
    /// The name in the certificate.
    pub by: &'a Name,
    /// Whether the custodian acknowledges the duties with it.
    pub acknowledges: bool,
    /// When, on a clock that never goes back.
    pub at: Duration,
}

/// What a right share led to.
#[derive(Debug)]
pub enum Submitted {
    /// More shares are needed.
    Waiting {
        /// Distinct right shares given.
        given: u8,
        /// Shares needed.
        threshold: u8,
    },
    /// The root key is back, checked against the seal. The shares are wiped.
    Unsealed {
        /// The root key.
        root: RootKey,
        /// Who acknowledged the duties on the way.
        acknowledged: BTreeSet<Name>,
    },
}

impl UnsealProgress {
    /// An attempt without shares.
    ///
    /// # Errors
    /// [`SealError::NotThisSeal`] if the root key was not shared.
    pub fn new(document: &SealDocument) -> Result<UnsealProgress, SealError> {
        match document.config() {
            SealConfig::Shamir { threshold, .. } => Ok(UnsealProgress {
                threshold,
                given: BTreeMap::new(),
                acknowledged: BTreeSet::new(),
                since: Duration::ZERO,
            }),
            SealConfig::DevFile | SealConfig::Device(_) => Err(SealError::NotThisSeal),
        }
    }

    /// Takes a share from its custodian, and combines when there are enough. A share that is refused leaves the others
    /// as they are; shares older than `WINDOW` are forgotten first.
    ///
    /// # Errors
    /// [`SealError::WrongEnvironment`], [`SealError::OtherCeremony`], [`SealError::WrongShare`],
    /// [`SealError::NotTheHolder`], [`SealError::NotAcknowledged`] or [`SealError::GivenAlready`] for this share.
    /// [`SealError::Root`] or [`SealError::NotAuthentic`] if the shares together are not what the seal says; all are
    /// forgotten then.
    pub fn submit(&mut self, document: &SealDocument, given: Given<'_>) -> Result<Submitted, SealError> {
        let Given { share, by, acknowledges, at } = given;
        self.expire(at);
        let index = share.index;
        if share.environment != document.environment() {
            let (found, expected) = (share.environment, document.environment());
            return Err(SealError::WrongEnvironment { found, expected });
        }
        if share.ceremony != document.ceremony() {
            return Err(SealError::OtherCeremony(index));
        }
        let holder = document.register().holder_of(index);
        if !document.knows(&share) {
            return Err(SealError::WrongShare(index, holder.cloned()));
        }
        let holder = holder.ok_or(SealError::WrongShare(index, None))?;
        if holder != by {
            return Err(SealError::NotTheHolder(index, holder.clone()));
        }
        if self.given.contains_key(&index) {
            return Err(SealError::GivenAlready(index));
        }
        if !acknowledges && !document.register().has_acknowledged(by) {
            return Err(SealError::NotAcknowledged(by.clone()));
        }
        if self.given.is_empty() {
            self.since = at;
        }
        if acknowledges {
            self.acknowledged.insert(by.clone());
        }
        self.given.insert(index, share.secret);
        if self.given() < self.threshold {
            return Ok(Submitted::Waiting { given: self.given(), threshold: self.threshold });
        }
        let shares = std::mem::take(&mut self.given);
        let acknowledged = std::mem::take(&mut self.acknowledged);
        let root = shamir::combine(shares.iter().map(|(index, secret)| (*index, &***secret)))?;
        document.verify(&root)?;
        Ok(Submitted::Unsealed { root, acknowledged })
    }

    /// Forgets shares that wait for longer than `WINDOW`.
    pub fn expire(&mut self, now: Duration) {
        if !self.given.is_empty() && now.saturating_sub(self.since) >= WINDOW {
            self.reset();
        }
    }

    /// How many distinct right shares were given.
    #[must_use]
    pub fn given(&self) -> u8 {
        u8::try_from(self.given.len()).unwrap_or(u8::MAX)
    }

    /// How many are needed.
    #[must_use]
    pub fn threshold(&self) -> u8 {
        self.threshold
    }

    /// Forgets the shares given.
    pub fn reset(&mut self) {
        self.given.clear();
        self.acknowledged.clear();
    }
}

impl fmt::Debug for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Given({:?} by {})", self.share, self.by)
    }
}

impl fmt::Debug for UnsealProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnsealProgress({} of {})", self.given.len(), self.threshold)
    }
}

/// How long shares wait for the others (PCI DSS 3.7.6: custodians act together).
pub(crate) const WINDOW: Duration = Duration::from_secs(15 * 60);
