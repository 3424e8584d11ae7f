//! What can go wrong in the vault, whose fault it is, and the one place where it becomes a problem code.
//! Must never carry request text, card data or key material. Tests: the API's end-to-end tests.

use crate::limits::Reached;
use cordon_wire::ProblemCode;

/// A call or an item that could not be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The caller's: what it sent or asked for is refused with this code.
    #[error("refused: {}", .0.as_str())]
    Refused(ProblemCode),
    /// The caller's, with words of our own about what is wrong. Never request text.
    #[error("refused: {code}: {words}", code = .0.as_str(), words = .1)]
    Explained(ProblemCode, String),
    /// The caller's: it, or everybody for a range of card numbers, used up a limit.
    #[error("refused: {}", .0.kind.as_str())]
    Limited(Reached),
    /// The operator's: the vault is sealed, not initialised, or holds a restore that nobody has accepted.
    #[error("the vault does not serve: {}", .0.as_str())]
    NotUnsealed(ProblemCode),
    /// The operator's: the audit log takes no lines.
    #[error("audit log: {0}")]
    Audit(#[from] cordon_audit::AuditError),
    /// The operator's or a bug: the store.
    #[error("store: {0}")]
    Store(#[from] crate::store::StoreError),
    /// A stored record or document does not open: corruption, substitution or a bug.
    #[error("integrity: {0}")]
    Integrity(&'static str),
    /// The system's random source failed.
    #[error("the system gives no randomness")]
    Randomness,
}

impl VaultError {
    /// The code the caller sees.
    #[must_use]
    pub fn code(&self) -> ProblemCode {
        match self {
            Self::Refused(code) | Self::Explained(code, _) | Self::NotUnsealed(code) => *code,
            Self::Limited(_) => ProblemCode::LimitReached,
            Self::Audit(_) => ProblemCode::AuditUnavailable,
            Self::Store(crate::store::StoreError::Conflict) => ProblemCode::Conflict,
            Self::Store(_) => ProblemCode::StoreUnavailable,
            Self::Integrity(_) | Self::Randomness => ProblemCode::Internal,
        }
    }

    /// The reason on the audit line: the code, and after a point what only an operator may know.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Limited(reached) => reached.kind.as_str(),
            other => other.code().as_str(),
        }
    }

    /// After how many seconds a refused call may succeed, where that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Limited(reached) => Some(reached.wait.as_secs().saturating_add(1)),
            _other => None,
        }
    }

    /// What the caller is told beside the code.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Explained(_, words) => Some(words),
            _other => None,
        }
    }
}

impl From<ProblemCode> for VaultError {
    fn from(code: ProblemCode) -> Self {
        Self::Refused(code)
    }
}
