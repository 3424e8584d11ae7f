//! Why an ask was refused.
//!
//! Must never hold text of the request: only actions, parts and statement ids, so that it can be logged and audited.
//! Tests: `crates/policy/tests/bundle/decisions.rs`.

use std::fmt;
use std::sync::Arc;

use crate::action::ActionKind;

/// A part of an ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskPart {
    /// `collection`
    Collection,
    /// `destination`
    Destination,
    /// `acting_for`
    ActedFor,
    /// `route`
    Route,
    /// `purpose`
    Purpose,
}

impl AskPart {
    /// Its name in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Collection => "collection",
            Self::Destination => "destination",
            Self::ActedFor => "service acted for",
            Self::Route => "route",
            Self::Purpose => "purpose",
        }
    }
}

/// The reason of a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefusalKind {
    /// No statement allows it.
    NoStatement,
    /// These statements forbid it (`@id`s, sorted).
    Forbidden {
        /// Their ids.
        statements: Vec<Arc<str>>,
    },
    /// Cedar could not evaluate these statements (`@id`s, sorted), or could not take the request at all (none).
    EvaluationError {
        /// Their ids.
        statements: Vec<Arc<str>>,
    },
    /// The caller is no service of the bundle.
    UnknownPrincipal,
    /// There is no such action.
    UnknownAction,
    /// The bundle declares no such thing.
    UnknownName(AskPart),
    /// The action needs a part that the ask does not have.
    Missing(AskPart),
}

/// An ask that was refused. Its text is safe to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    action: Option<ActionKind>,
    kind: RefusalKind,
}

impl Refusal {
    pub(crate) const fn new(action: Option<ActionKind>, kind: RefusalKind) -> Self {
        Self { action, kind }
    }

    /// What was asked for; none when there is no such action.
    #[must_use]
    pub const fn action(&self) -> Option<ActionKind> {
        self.action
    }

    /// Why it was refused.
    #[must_use]
    pub const fn kind(&self) -> &RefusalKind {
        &self.kind
    }

    /// The reason as a stable code, for the audit log.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self.kind {
            RefusalKind::NoStatement => "no-statement",
            RefusalKind::Forbidden { .. } => "forbidden",
            RefusalKind::EvaluationError { .. } => "evaluation-error",
            RefusalKind::UnknownPrincipal => "unknown-principal",
            RefusalKind::UnknownAction => "unknown-action",
            RefusalKind::UnknownName(_) => "unknown-name",
            RefusalKind::Missing(_) => "missing-part",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.action {
            Some(action) => write!(f, "{action} is refused: ")?,
            None => f.write_str("refused: ")?,
        }
        match &self.kind {
            RefusalKind::NoStatement => f.write_str("no statement allows it"),
            RefusalKind::Forbidden { statements } => write!(f, "forbidden by {}", statements.join(", ")),
            RefusalKind::EvaluationError { statements } if statements.is_empty() => {
                f.write_str("the request could not be evaluated")
            }
            RefusalKind::EvaluationError { statements } => {
                write!(f, "error in {}", statements.join(", "))
            }
            RefusalKind::UnknownPrincipal => f.write_str("the caller is no service of the bundle"),
            RefusalKind::UnknownAction => f.write_str("there is no such action"),
            RefusalKind::UnknownName(part) => write!(f, "the bundle does not declare this {}", part.as_str()),
            RefusalKind::Missing(part) => write!(f, "it needs a {}", part.as_str()),
        }
    }
}

impl std::error::Error for Refusal {}
