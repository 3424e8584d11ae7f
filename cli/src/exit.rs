//! How a command ends: its exit code, and a failure that says what to do next.
//!
//! Must never carry a share, a key or a card number: failures are printed. Tests: below.

use crate::layout;
use cordon_client::ClientError;
use cordon_wire::{Problem, ProblemCode};
use serde::Serialize;
use std::fmt;
use std::io;

/// What a command that ran to its end found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Done, or true.
    Fine,
    /// Ran, printed its answer, and the answer is no.
    Refused,
    /// Not done yet: custodians must approve it first.
    Waiting,
}

/// The exit codes of `cordon`, as documented in `--help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 1: refused or failed.
    Refused,
    /// 2: the command line is not understood.
    Usage,
    /// 75: custodians must approve it first; try again then (`EX_TEMPFAIL` of sysexits).
    Waiting,
    /// 78: a configuration that cannot be used (`EX_CONFIG` of sysexits).
    Configuration,
}

impl Exit {
    /// The number given to the shell.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Refused => 1,
            Self::Usage => 2,
            Self::Waiting => 75,
            Self::Configuration => 78,
        }
    }
}

/// Why a command did not do its work.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    #[serde(skip)]
    exit: Exit,
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl Failure {
    /// It was refused or failed (exit 1). `code` is stable, for programs.
    pub(crate) fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self { exit: Exit::Refused, code, message: message.into(), request: None, next: None }
    }

    /// The command line asks for what cannot be (exit 2).
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::refused("usage", message) }
    }

    /// A configuration that cannot be used (exit 78).
    pub(crate) fn configuration(message: impl Into<String>) -> Self {
        Self { exit: Exit::Configuration, ..Self::refused("configuration", message) }
    }

    /// Adds what the reader should do about it.
    #[must_use]
    pub(crate) fn next(mut self, advice: impl Into<String>) -> Self {
        self.next = Some(advice.into());
        self
    }

    /// Whether it says what to do about it.
    pub(crate) const fn has_advice(&self) -> bool {
        self.next.is_some()
    }

    /// A file or directory that could not be used.
    pub(crate) fn file(path: &std::path::Path, error: &io::Error) -> Self {
        Self::refused("file", format!("{}: {error}", path.display()))
    }

    /// The reader of our output went away, as `| head` does: nobody is left to tell.
    pub(crate) fn reader_left(&self) -> bool {
        self.code == READER_LEFT
    }

    /// What went wrong, without what to do about it.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Its exit code.
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }

    /// Its stable code.
    #[cfg(test)]
    pub(crate) const fn code(&self) -> &'static str {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = layout::wrapped(&format!("error: {}", self.message), layout::WIDTH);
        f.write_str(&lines.join("\n"))?;
        if let Some(request) = &self.request {
            write!(f, "\n  code: {}, request: {request}", self.code)?;
        }
        if let Some(next) = &self.next {
            let lines = layout::wrapped(next, layout::WIDTH.saturating_sub(8));
            write!(f, "\n  next: {}", lines.join("\n        "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Failure of writing our own output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let code = if error.kind() == io::ErrorKind::BrokenPipe { READER_LEFT } else { "output" };
        Self::refused(code, format!("the output can't be written: {error}"))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Problem(problem) => Self::from(*problem),
            ClientError::Configuration(text) => {
                Self::configuration(text).next("correct the [vault] section of the configuration file")
            }
            ClientError::Unreachable(_) => Self::refused("unreachable", error.to_string()).next(
                "check that cordon-vault runs, that [vault] holds its addresses, and that `name`, `roots`, `cert` \
                 and `key` belong to its PKI",
            ),
            ClientError::TimedOut => {
                Self::refused("timed-out", error.to_string()).next("look at the vault's log and its load; try again")
            }
            ClientError::Local(error) => Self::refused("output", error.to_string()),
            other => Self::refused("malformed", other.to_string()),
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let mut message = problem.code.title().to_owned();
        if let Some(detail) = &problem.detail {
            message.push_str(&format!(" ({detail})"));
        }
        let request = problem.instance.rsplit(':').next().map(str::to_owned);
        let failure = Self { request, ..Self::refused(problem.code.as_str(), message) };
        match advice(problem.code) {
            Some(text) => failure.next(text),
            None => failure,
        }
    }
}

/// An error with everything that caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// What an operator does about a problem whose title does not already say it.
const fn advice(code: ProblemCode) -> Option<&'static str> {
    match code {
        ProblemCode::Unauthenticated => {
            Some("[vault] cert must be a client certificate that names a service")
        }
        ProblemCode::Denied => Some(
            "`cordon policy explain` shows which statement decides; administration needs role = \"operator\"",
        ),
        ProblemCode::UnknownCollection => Some("`cordon collection list` shows the collections"),
        ProblemCode::BadShare => Some(
            "each custodian gives the present share, with the custodian's own certificate; shares given before still count",
        ),
        ProblemCode::NotAcknowledged => Some(
            "read the duties in docs/ceremonies.md, then add --acknowledge or run `cordon custodians ack`",
        ),
        ProblemCode::AuditUnavailable => {
            Some("look at the vault's log: its audit directory can't be written")
        }
        ProblemCode::StoreUnavailable => Some("look at the vault's log: its store can't be read or written"),
        ProblemCode::Busy => Some("try again later"),
        ProblemCode::LimitReached => {
            Some("wait until the window of the limit is over; `[limits]` in vault.toml sets it")
        }
        _ => None,
    }
}

const READER_LEFT: &str = "reader-left";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let exits = [Exit::Refused, Exit::Usage, Exit::Waiting, Exit::Configuration];
        assert_eq!(exits.map(Exit::number), [1, 2, 75, 78]);
    }

    #[test]
    fn a_problem_keeps_its_stable_code_and_names_the_request() {
        let failure = Failure::from(Problem::new(ProblemCode::Denied, "r1", None));
        assert_eq!(failure.code(), "denied");
        assert_eq!(failure.exit(), Exit::Refused);
        let text = failure.to_string();
        assert!(text.contains("code: denied, request: r1"), "{text}");
        assert!(text.contains("next: "), "{text}");
    }

    #[test]
    fn the_title_comes_from_our_own_table_and_never_from_the_peer() {
        let mut problem = Problem::new(ProblemCode::Busy, "r1", None);
        problem.title = "text of a hostile peer".to_owned();
        assert!(!Failure::from(problem).to_string().contains("hostile"));
    }

    #[test]
    fn a_client_configuration_fault_ends_with_78() {
        assert_eq!(Failure::from(ClientError::Configuration("x".into())).exit(), Exit::Configuration);
    }

    #[test]
    fn a_failure_as_json_has_stable_field_names() {
        let json = serde_json::to_value(Failure::usage("a").next("b")).unwrap();
        assert_eq!(json, serde_json::json!({"code": "usage", "message": "a", "next": "b"}));
    }
}
