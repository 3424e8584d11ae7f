//! How much a key may still protect: uses that were reserved durably, and the end of its originator usage period.
//!
//! Must never let a use through that no durable reservation covers: a crash then counts uses that were not made, and
//! never misses one that was (NIST SP 800-38D section 8.3; PCI DSS 3.7.4). Tests: `keyring/tests/limits.rs`.
//!
//! A data key's uses are reserved in blocks in the keyring, which carries the sum of all blocks; a process draws from
//! the blocks it reserved itself, so that two processes share one budget. What a crash leaves of a block is lost to the
//! budget. A key-encryption key is used by a change of the keyring only, and counted with it.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};

use super::{KeyState, Purpose};

/// Uses a data key has. XAES-256-GCM stays below a chance of 2^-32 of a repeated nonce up to 2^80 messages; this is
/// more than a year at 30,000 records a second, and far below.
pub const DATA_BUDGET: u64 = 1 << 40;
/// Uses a key-encryption key has: the bound of SP 800-38D for AES-GCM with random 96-bit nonces, halved. The wrapping is
/// XAES-256-GCM and would allow more; nothing comes near it.
pub const KEK_BUDGET: u64 = 1 << 31;
/// Uses of a data key that are reserved at once.
pub const BLOCK: u64 = 1 << 20;

/// How long after the end of its originator usage period a key still protects. It is warned about all that time: an
/// end without notice would stop every signup.
pub const GRACE: SignedDuration = SignedDuration::from_hours(24 * 30);

/// Uses a purpose allows one key; none for index keys, whose HMAC has no such bound.
pub(super) fn limit(purpose: Purpose) -> Option<u64> {
    match purpose {
        Purpose::Kek => Some(KEK_BUDGET),
        Purpose::Data => Some(DATA_BUDGET),
        Purpose::Index => None,
    }
}

/// Uses that this process may still make without another reservation.
#[derive(Debug)]
pub(crate) struct Budget(AtomicU64);

impl Budget {
    pub(crate) fn of(left: u64) -> Budget {
        Budget(AtomicU64::new(left))
    }

    pub(crate) fn left(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Adds a block that is durable.
    pub(crate) fn grant(&self, uses: u64) {
        self.0.fetch_add(uses, Ordering::AcqRel);
    }

    /// Takes one use.
    fn take(&self) -> Result<(), Unfit> {
        let taken = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        taken.map(|_left_before| ()).map_err(|_none| Unfit::Spent)
    }
}

/// Whether a key in `state` whose originator usage period ends at `until` may protect something at `now`.
pub(super) fn check_period(state: KeyState, until: Timestamp, now: Timestamp) -> Result<(), Unfit> {
    if !state.may_protect() {
        return Err(Unfit::NotActive);
    }
    let last = until.saturating_add(GRACE).unwrap_or(Timestamp::MAX);
    if now > last { Err(Unfit::PeriodOver) } else { Ok(()) }
}

impl super::DataKeyVersion {
    /// Takes one use of the key, if it may protect something at `now`.
    ///
    /// # Errors
    /// [`Unfit`].
    pub(crate) fn spend(&self, now: Timestamp) -> Result<(), Unfit> {
        check_period(self.state, self.protects_until, now)?;
        self.budget.take()
    }
}

impl super::IndexKeyVersion {
    /// Whether the key may enter a new card at `now`.
    ///
    /// # Errors
    /// [`Unfit`].
    pub(crate) fn may_enter(&self, now: Timestamp) -> Result<(), Unfit> {
        check_period(self.state, self.protects_until, now)
    }
}

/// Why a key protects nothing now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// It is not active (PCI DSS 3.7.5).
    #[error("the key is not active")]
    NotActive,
    /// Its originator usage period and the grace after it are over.
    #[error("the cryptoperiod of the key is over")]
    PeriodOver,
    /// Its uses are spent, or none is reserved.
    #[error("the uses of the key are spent")]
    Spent,
}
