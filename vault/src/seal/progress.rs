//! Shares given so far, until there are enough.
//!
//! Must never count a share twice or one that is not right, and never keep shares after a root key came of
//! them or failed to. Tests: `seal/tests.rs`.

use std::collections::BTreeMap;
use std::fmt;

use super::shamir::{self, ShareSecret};
use super::{SealConfig, SealDocument, SealError, ShareText};
use crate::keys::RootKey;

/// One attempt to unseal by custodians.
pub struct UnsealProgress {
    threshold: u8,
    given: BTreeMap<u8, ShareSecret>,
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
    Unsealed(RootKey),
}

impl UnsealProgress {
    /// An attempt without shares.
    ///
    /// # Errors
    /// [`SealError::NotThisSeal`] if the root key was not shared.
    pub fn new(document: &SealDocument) -> Result<UnsealProgress, SealError> {
        match document.config() {
            SealConfig::Shamir { threshold, .. } => Ok(UnsealProgress { threshold, given: BTreeMap::new() }),
            SealConfig::DevFile => Err(SealError::NotThisSeal),
        }
    }

    /// Takes a share, and combines when there are enough. A share that is refused leaves the others as they
    /// are.
    ///
    /// # Errors
    /// [`SealError::WrongEnvironment`], [`SealError::OtherCeremony`], [`SealError::WrongShare`] or
    /// [`SealError::GivenAlready`] for this share. [`SealError::Root`] or [`SealError::NotAuthentic`] if the
    /// shares together are not what the seal says; all are forgotten then.
    pub fn submit(&mut self, document: &SealDocument, share: ShareText) -> Result<Submitted, SealError> {
        let index = share.index;
        if share.environment != document.environment() {
            let (found, expected) = (share.environment, document.environment());
            return Err(SealError::WrongEnvironment { found, expected });
        }
        if share.ceremony != document.ceremony() {
            return Err(SealError::OtherCeremony(index));
        }
        if !document.knows(&share) {
            return Err(SealError::WrongShare(index));
        }
        if self.given.contains_key(&index) {
            return Err(SealError::GivenAlready(index));
        }
        self.given.insert(index, share.secret);
        if self.given() < self.threshold {
            return Ok(Submitted::Waiting { given: self.given(), threshold: self.threshold });
        }
        let shares = std::mem::take(&mut self.given);
        let root = shamir::combine(shares.iter().map(|(index, secret)| (*index, &***secret)))?;
        document.verify(&root)?;
        Ok(Submitted::Unsealed(root))
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
    }
}

impl fmt::Debug for UnsealProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnsealProgress({} of {})", self.given.len(), self.threshold)
    }
}
