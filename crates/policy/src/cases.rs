//! Case files: asks with the decision that is expected of them, kept beside the statements they test.
//!
//! Must never count a statement as tested that no case names, nor an action that lacks an allow, a deny or an error.
//! Tests: `crates/policy/tests/bundle/cases.rs`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use serde::Deserialize;

use crate::action::ActionKind;
use crate::bundle::Bundle;
use crate::decide::{Ask, RefusalKind};
use crate::fault::{Fault, Faults};

/// One case of a case file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows, as a sentence.
    pub name: String,
    /// The action, as the schema calls it.
    pub action: String,
    /// The calling service.
    pub principal: String,
    /// The collection it is about.
    #[serde(default)]
    pub collection: Option<String>,
    /// Where the card is to go.
    #[serde(default)]
    pub destination: Option<String>,
    /// The service acted for.
    #[serde(default)]
    pub acted_for: Option<String>,
    /// The gateway route.
    #[serde(default)]
    pub route: Option<String>,
    /// Why.
    #[serde(default)]
    pub purpose: Option<String>,
    /// The peer's address.
    pub source: IpAddr,
    /// Whether the peer showed a certificate.
    pub mtls: bool,
    /// The decision.
    pub expect: Expect,
    /// The refusal's code, when the case is about it.
    #[serde(default)]
    pub reason: Option<String>,
    /// The statements that decide: all of them, in any order.
    #[serde(default)]
    pub statements: Vec<String>,
}

/// What a case expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// A permit.
    Allow,
    /// No statement permits it, or one forbids it.
    Deny,
    /// It is refused before or because no statement could be evaluated: unknown name, missing part, evaluation error.
    Error,
}

impl Expect {
    const ALL: [Self; 3] = [Self::Allow, Self::Deny, Self::Error];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Error => "error",
        }
    }
}

/// What came of running cases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaseReport {
    /// Cases that ended as expected.
    pub passed: usize,
    /// One line for each that did not.
    pub failures: Vec<String>,
    /// One line for each statement that no case names, and for each action without an allow, a deny or an error case.
    pub gaps: Vec<String>,
}

impl CaseReport {
    /// True when every case passed and nothing is left untested.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.failures.is_empty() && self.gaps.is_empty()
    }
}

/// Reads every `*.json` of a folder of cases, in name order; each holds a list of cases.
///
/// # Errors
/// A fault for each file that cannot be read, with its place.
pub fn load_cases(dir: &Path) -> Result<Vec<Case>, Faults> {
    let mut faults = Faults::default();
    let mut cases = Vec::new();
    for file in crate::bundle::case_files(dir, "json", &mut faults) {
        match serde_json::from_str::<Vec<Case>>(&file.text) {
            Ok(found) => cases.extend(found),
            Err(error) => faults.push(Fault {
                file: file.name,
                line: error.line(),
                column: error.column(),
                message: error.to_string(),
                help: None,
            }),
        }
    }
    faults.into_result(Some(cases))
}

/// Reads every `*.toml` of the folder of route cases in a bundle, in name order: name and text of each. A gateway plays
/// them. A bundle without the folder has none.
///
/// # Errors
/// A fault for each file that cannot be read.
pub fn load_route_cases(bundle: &Path) -> Result<Vec<(String, String)>, Faults> {
    let dir = bundle.join(ROUTE_CASES);
    let mut faults = Faults::default();
    let files = if dir.is_dir() { crate::bundle::case_files(&dir, "toml", &mut faults) } else { Vec::new() };
    let named = files.into_iter().map(|file| (format!("{ROUTE_CASES}/{}", file.name), file.text)).collect();
    faults.into_result(Some(named))
}

/// Where they are in a bundle.
const ROUTE_CASES: &str = "cases/routes";

impl Bundle {
    /// Runs cases against the statements.
    #[must_use]
    pub fn run_cases(&self, cases: &[Case]) -> CaseReport {
        let mut report = CaseReport::default();
        let mut named = BTreeSet::new();
        let mut shown = BTreeSet::new();
        for case in cases {
            match self.run_case(case) {
                Ok(()) => {
                    report.passed = report.passed.saturating_add(1);
                    named.extend(case.statements.iter().map(String::as_str));
                    shown.extend(case.action.parse::<ActionKind>().map(|kind| (kind, case.expect)));
                }
                Err(found) => report.failures.push(format!("\"{}\": {found}", case.name)),
            }
        }
        let untested = self.statements().filter(|statement| !named.contains(&*statement.id));
        report.gaps.extend(untested.map(|statement| format!("no case is decided by {statement}")));
        for kind in ActionKind::ALL {
            let missing = Expect::ALL.into_iter().filter(|expect| !shown.contains(&(kind, *expect)));
            report.gaps.extend(
                missing.map(|expect| format!("no case expects \"{}\" of \"{kind}\"", expect.as_str())),
            );
        }
        report
    }

    fn run_case(&self, case: &Case) -> Result<(), String> {
        let ask = Ask {
            principal: &case.principal,
            mtls: case.mtls,
            source: case.source,
            collection: case.collection.as_deref(),
            destination: case.destination.as_deref(),
            acting_for: case.acted_for.as_deref(),
            route: case.route.as_deref(),
            purpose: case.purpose.as_deref(),
        };
        let (found, code, mut statements) = match self.outcome(&case.action, &ask) {
            Ok(statements) => (Expect::Allow, None, statements.to_vec()),
            Err(refusal) => {
                let (found, statements) = match refusal.kind() {
                    RefusalKind::NoStatement => (Expect::Deny, Vec::new()),
                    RefusalKind::Forbidden { statements } => (Expect::Deny, statements.clone()),
                    RefusalKind::EvaluationError { statements } => (Expect::Error, statements.clone()),
                    RefusalKind::UnknownPrincipal
                    | RefusalKind::UnknownAction
                    | RefusalKind::UnknownName(_)
                    | RefusalKind::Missing(_) => (Expect::Error, Vec::new()),
                };
                (found, Some(refusal.code()), statements)
            }
        };
        statements.sort_unstable();
        let mut wanted: Vec<&str> = case.statements.iter().map(String::as_str).collect();
        wanted.sort_unstable();
        let same_statements = statements.iter().map(|id| &**id).eq(wanted);
        let same_reason = case.reason.as_deref().is_none_or(|reason| Some(reason) == code);
        if found == case.expect && same_reason && same_statements {
            return Ok(());
        }
        let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
        Err(format!(
            "expected {}, got {}{code} by [{}]",
            case.expect.as_str(),
            found.as_str(),
            statements.join(", ")
        ))
    }
}
