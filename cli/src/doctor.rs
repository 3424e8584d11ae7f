//! `cordon doctor`: what is sound, what is not, and what to do about it.
//!
//! Must never call sound what it could not look at. Tests: below and beside each module; on a running stack in the
//! workspace's `tests` crate.

mod gateway;
mod host;
mod vault;

use crate::configuration::Settings;
use crate::exit::{Failure, Verdict};
use crate::layout;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// `cordon doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Asks the vault, and the gateway if [gateway] metrics is configured, and looks at the certificates
of cordon.toml. On the vault's own host, --vault-config also checks its files, disk, swap and core
dumps. Exits 1 if anything failed. A measure that the vault's configuration does without is a
warning.

Examples:
  cordon doctor
  cordon doctor --vault-config /etc/cordon/vault.toml
  cordon doctor --json | jq -r '.checks[] | select(.verdict != \"ok\") | .name'"
)]
pub(crate) struct Doctor {
    /// The vault's configuration, when this is its host
    #[arg(long, value_name = "FILE")]
    vault_config: Option<PathBuf>,
}

impl Doctor {
    /// Makes every check and prints the report.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let mut checks = vault::checks(settings)?;
        checks.extend(gateway::checks(settings)?);
        if let Some(file) = &self.vault_config {
            checks.extend(host::checks(file)?);
        }
        let report = Report::of(checks);
        settings.console().answer(&report, describe)?;
        Ok(if report.failed == 0 { Verdict::Fine } else { Verdict::Refused })
    }
}

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Finding {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: String,
    verdict: Finding,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl Check {
    fn new(name: impl Into<String>, verdict: Finding, detail: impl Into<String>) -> Self {
        Self { name: name.into(), verdict, detail: detail.into(), next: None }
    }

    fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, Finding::Ok, detail)
    }

    fn warn(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, Finding::Warn, detail)
    }

    fn fail(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, Finding::Fail, detail)
    }

    fn next(mut self, advice: impl Into<String>) -> Self {
        self.next = Some(advice.into());
        self
    }
}

/// All of it.
#[derive(Debug, Serialize)]
struct Report {
    checks: Vec<Check>,
    warned: usize,
    failed: usize,
}

impl Report {
    fn of(checks: Vec<Check>) -> Self {
        let count = |wanted| checks.iter().filter(|check| check.verdict == wanted).count();
        Self { warned: count(Finding::Warn), failed: count(Finding::Fail), checks }
    }
}

fn describe(report: &Report) -> String {
    let rows: Vec<(String, String)> = report
        .checks
        .iter()
        .map(|check| {
            let mark = match check.verdict {
                Finding::Ok => "ok  ",
                Finding::Warn => "warn",
                Finding::Fail => "FAIL",
            };
            let next = check.next.as_ref().map(|next| format!("\nNext: {next}")).unwrap_or_default();
            (format!("{mark}  {}", check.name), format!("{}{next}", check.detail))
        })
        .collect();
    let rows: Vec<(&str, String)> =
        rows.iter().map(|(label, value)| (label.as_str(), value.clone())).collect();
    format!(
        "{}\n{} checks, {} failed, {} warned\n",
        layout::rows(&rows),
        report.checks.len(),
        report.failed,
        report.warned
    )
}

/// Days that a certificate is still valid; what is bad about it, if anything.
fn certificate(name: &str, file: &std::path::Path) -> Check {
    let name = format!("certificate {name}");
    let end = match cordon_daemon::tls::valid_until(file) {
        Ok(end) => end,
        Err(error) => {
            return Check::fail(name, crate::exit::with_causes(&error)).next("put a PEM certificate there");
        }
    };
    let hours = end.duration_since(jiff::Timestamp::now()).as_hours();
    let text = format!("{}: until {}", file.display(), layout::moment(&end.to_string()));
    if hours <= 0 {
        Check::fail(name, format!("{text}, which is past")).next("issue a new one and restart what uses it")
    } else if hours < 24 * WARN_DAYS {
        Check::warn(name, format!("{text}, {} days left", hours / 24))
            .next("issue a new one and restart what uses it")
    } else {
        Check::ok(name, format!("{text}, {} days left", hours / 24))
    }
}

/// Days before a certificate's end from which it is worth a warning.
const WARN_DAYS: i64 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fits_in_100_columns_and_says_what_to_do() {
        let checks = vec![
            Check::ok("vault", "unsealed, environment live, version 0.1.0, up 3h 12m"),
            Check::warn("hardening memory_locked", "not in force ".repeat(20))
                .next("LimitMEMLOCK=infinity ".repeat(10)),
            Check::fail("audit", "closed"),
        ];
        let report = Report::of(checks);
        assert_eq!((report.failed, report.warned), (1, 1));
        let text = describe(&report);
        assert!(text.lines().all(|line| line.chars().count() <= layout::WIDTH), "{text}");
        assert!(text.contains("FAIL  audit") && text.contains("Next: LimitMEMLOCK"), "{text}");
        assert!(text.ends_with("3 checks, 1 failed, 1 warned\n"), "{text}");
    }

    #[test]
    fn a_certificate_near_its_end_warns_and_a_past_or_missing_one_fails() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.pem");
        assert_eq!(certificate("x", &path).verdict, Finding::Fail);
        for (days, wanted) in [(365, Finding::Ok), (3, Finding::Warn), (-3, Finding::Fail)] {
            let mut parameters = rcgen::CertificateParams::new(vec!["x.test".to_owned()]).unwrap();
            let now = std::time::SystemTime::now();
            let hours = std::time::Duration::from_secs(86_400) * u32::try_from(i32::abs(days)).unwrap();
            parameters.not_before = (now - std::time::Duration::from_secs(864_000)).into();
            parameters.not_after = if days > 0 { now + hours } else { now - hours }.into();
            let key = rcgen::KeyPair::generate().unwrap();
            std::fs::write(&path, parameters.self_signed(&key).unwrap().pem()).unwrap();
            let check = certificate("x", &path);
            assert_eq!(check.verdict, wanted, "{check:?}");
        }
    }
}
