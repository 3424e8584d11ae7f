//! What the vault says of itself: its seal, its hardening, its log and clock, its warnings, its policy.
//!
//! Must never stop at the first thing that is wrong. Tests: below.

use super::{Check, Finding, certificate};
use crate::configuration::{Settings, block_on};
use crate::exit::Failure;
use crate::layout;
use cordon_card::Environment;
use cordon_client::{Administrator, ClientError};
use cordon_wire::{HardeningItem, ProblemCode, SealKind, SealState, Status};
use jiff::Timestamp;
use std::path::Path;

/// Every check that needs no more than `cordon.toml`.
pub(super) fn checks(settings: &Settings) -> Result<Vec<Check>, Failure> {
    let files = settings.vault_files()?;
    let mut checks = vec![certificate("operator", &files.cert), certificate("roots", &files.roots)];
    let administrator = settings.administrator()?;
    let asked = block_on(async {
        Ok(match administrator.status().await {
            Ok(status) => {
                let time = time_of_last_line(&administrator, &status).await;
                Ok((status, time))
            }
            Err(error) => Err(error),
        })
    })?;
    match asked {
        Ok((status, time)) => {
            checks.extend(of_status(&status));
            checks.push(clock(time, Timestamp::now()));
            let policies = settings.policies(None)?;
            if policies.is_dir() {
                checks.push(policy(&status.policy_digest, &policies));
            }
        }
        Err(error) => checks.push(unanswered(&error)),
    }
    Ok(checks)
}

/// The vault answered no status.
fn unanswered(error: &ClientError) -> Check {
    let advice = match error {
        ClientError::Problem(problem) if problem.code == ProblemCode::AuditUnavailable => {
            "the audit log is closed: make room on its disk or mend it, then restart the vault"
        }
        ClientError::Problem(_) => "is this operator's certificate known to the policy bundle?",
        _ => "is the vault running, and is [vault] in cordon.toml right? See its log",
    };
    Check::fail("vault", error.to_string()).next(advice)
}

fn of_status(status: &Status) -> Vec<Check> {
    let environment = status.seal.environment;
    let mut checks = vec![seal(status)];
    if let Some(awaiting) = &status.awaiting_restore {
        let backup = &awaiting.restore.backup;
        let check =
            Check::fail("restore", format!("{backup} was put back and waits: nothing is served from it"));
        checks.push(check.next(format!("cordon restore accept {backup}, once it is unsealed")));
    }
    if status.seal.seal == Some(SealKind::DevFile) {
        let (name, detail) = ("seal", "a key file: whoever has the disk has the cards");
        let check = if environment == Environment::Live {
            Check::fail(name, detail)
        } else {
            Check::warn(name, detail)
        };
        checks.push(check.next("use custodians' shares for anything but development"));
    }
    if status.seal.seal == Some(SealKind::Static) {
        let detail = "a static key: whoever has the host and its credential store has the cards";
        let advice = "a key in an HSM, or custodians' shares, keep them apart: `cordon seal migrate`";
        checks.push(Check::warn("seal", detail).next(advice));
    }
    if status.version == env!("CARGO_PKG_VERSION") {
        checks.push(Check::ok("version", format!("{}, as this command", status.version)));
    } else {
        let detail = format!("the vault has {}, this command {}", status.version, env!("CARGO_PKG_VERSION"));
        checks.push(Check::warn("version", detail).next("use the command of the vault's version"));
    }
    // The status itself is a line of the log, and was answered once that line was durable.
    checks.push(Check::ok("audit", format!("open, {}", layout::counted(status.audit_size, "line"))));
    checks.extend(status.hardening.iter().map(|item| knob(item, environment)));
    let others = status.warnings.iter().filter(|warning| !warning.starts_with("hardening: "));
    let said = ["the vault is not unsealed", "nothing is served until"];
    for warning in others.filter(|warning| !said.iter().any(|start| warning.starts_with(start))) {
        let check = if warning.starts_with("the audit log failed") { Check::fail } else { Check::warn };
        checks.push(check("warning".to_owned(), warning.clone()));
    }
    checks
}

fn seal(status: &Status) -> Check {
    let text = format!(
        "environment {}, version {}, up {}",
        status.seal.environment.as_str(),
        status.version,
        layout::duration(status.uptime_s)
    );
    match status.seal.state {
        SealState::Unsealed => Check::ok("vault", format!("unsealed, {text}")),
        SealState::Sealed => Check::fail("vault", format!("sealed, {text}")).next("cordon unseal"),
        SealState::Uninitialized => {
            Check::fail("vault", format!("not initialised, {text}")).next("cordon init")
        }
    }
}

/// One hardening measure. Missing without a reason is a failure where live cards are.
pub(super) fn knob(item: &HardeningItem, environment: Environment) -> Check {
    let name = format!("hardening {}", item.name);
    if item.in_force {
        return Check::ok(name, "in force");
    }
    if let Some(reason) = &item.without {
        return Check::warn(name, format!("done without: {reason}"));
    }
    let verdict = if environment == Environment::Live { Finding::Fail } else { Finding::Warn };
    Check::new(name, verdict, "not in force").next(remedy(&item.name))
}

/// What puts a measure in force. The units in `deploy/systemd` do all of it.
fn remedy(measure: &str) -> &'static str {
    match measure {
        "core_dumps_off" | "not_dumpable" | "no_new_privileges" | "private_files" => {
            "the kernel refused it: see the log of the daemon's start, and what confines it from outside"
        }
        "memory_locked" => "LimitMEMLOCK=infinity in its unit, or `ulimit -l unlimited`",
        "swap_off" => "swapoff -a, and remove swap from /etc/fstab; or lock memory",
        "unprivileged" => "run it as a user of its own, without capabilities: see deploy/systemd",
        "landlock_files" | "landlock_network" => {
            "a kernel from 6.12 on with `landlock` in CONFIG_LSM or lsm= on its command line"
        }
        "seccomp" => "a kernel with CONFIG_SECCOMP_FILTER, on x86-64 or aarch64",
        _ => "see docs/hardening.md",
    }
}

/// When the vault wrote its newest audit line, which the status call has just made.
async fn time_of_last_line(administrator: &Administrator, status: &Status) -> Option<Timestamp> {
    let last = status.audit_size.checked_sub(1)?;
    let page = administrator.audit_page(last, 1).await.ok()?;
    let line: serde_json::Value = serde_json::from_str(page.lines.first()?).ok()?;
    line.get("at")?.as_str()?.parse().ok()
}

fn clock(vault: Option<Timestamp>, here: Timestamp) -> Check {
    let Some(vault) = vault else {
        return Check::warn("clock", "the vault's time is not known: its newest audit line can't be read");
    };
    let apart = here.duration_since(vault).as_secs().unsigned_abs();
    let text = format!("the vault's and this machine's are {} apart", layout::counted(apart, "second"));
    if apart <= CLOCKS_AGREE_S {
        Check::ok("clock", text)
    } else {
        let check = if apart <= CLOCKS_DIFFER_S { Check::warn } else { Check::fail };
        check("clock", text).next("synchronise both with the same time servers (PCI DSS 10.6)")
    }
}

fn policy(loaded: &str, directory: &Path) -> Check {
    let name = "policy";
    match cordon_policy::Bundle::load(directory) {
        Ok(bundle) if bundle.digest() == loaded => {
            Check::ok(name, format!("{} is what the vault has loaded", directory.display()))
        }
        Ok(_) => Check::warn(name, format!("{} differs from what the vault has loaded", directory.display()))
            .next("restart the vault with the new bundle, or bring this copy up to date"),
        Err(_) => {
            Check::warn(name, format!("{} has faults", directory.display())).next("cordon policy check")
        }
    }
}

/// The time for an answer and a second more.
const CLOCKS_AGREE_S: u64 = 2;
/// From here on, audit lines of several machines no longer tell what came first.
const CLOCKS_DIFFER_S: u64 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn item(in_force: bool, without: Option<&str>) -> HardeningItem {
        HardeningItem { name: "seccomp".to_owned(), in_force, without: without.map(str::to_owned) }
    }

    #[test]
    fn a_missing_measure_fails_where_live_cards_are_unless_it_is_explained() {
        for (item, environment, wanted) in [
            (item(true, None), Environment::Live, Finding::Ok),
            (item(false, None), Environment::Live, Finding::Fail),
            (item(false, None), Environment::Dev, Finding::Warn),
            (item(false, Some("an old kernel")), Environment::Live, Finding::Warn),
        ] {
            assert_eq!(knob(&item, environment).verdict, wanted, "{item:?}");
        }
        assert!(knob(&item(false, None), Environment::Live).next.is_some());
    }

    #[test]
    fn clocks_that_differ_are_told() {
        let here: Timestamp = "2026-01-01T00:00:40Z".parse().unwrap();
        for (vault, wanted) in [
            ("2026-01-01T00:00:40Z", Finding::Ok),
            ("2026-01-01T00:00:50Z", Finding::Warn),
            ("2026-01-01T00:00:00Z", Finding::Fail),
        ] {
            assert_eq!(clock(vault.parse().ok(), here).verdict, wanted, "{vault}");
        }
        assert_eq!(clock(None, here).verdict, Finding::Warn);
    }

    #[test]
    fn a_vault_that_does_not_answer_fails() {
        assert_eq!(unanswered(&ClientError::TimedOut).verdict, Finding::Fail);
    }
}
