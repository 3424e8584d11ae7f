//! Taking up another policy bundle while requests are served: read and checked whole, then put in force whole, or not at all.
//!
//! Must never leave the gateway without the bundle it had, nor take one that the confined process could not serve. Tests:
//! here, and `tests/tests/reload.rs`.

use crate::config::Config;
use crate::gateway::Gateway;
use crate::plan::{Plan, PlanError, Secrets};
use cordon_audit::{Action, Event, Log, Name, Outcome};
use cordon_wire::Reloaded;
use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Why a bundle is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Somebody asked: whatever it names is read again as well, roots and keys.
    Asked,
    /// A file of it changed.
    Watched,
}

/// Takes up bundles, one after the other.
#[derive(Debug)]
pub struct Reloader {
    gateway: Arc<Gateway>,
    config: Arc<Config>,
    log: Log,
    /// The ports that this process may connect to.
    ports: BTreeSet<u16>,
    /// What was wrong with the last bundle; held while one is taken up.
    refused: Mutex<Vec<String>>,
}

impl Reloader {
    /// For a gateway that was started with this configuration, and may connect to these ports.
    #[must_use]
    pub const fn new(gateway: Arc<Gateway>, config: Arc<Config>, log: Log, ports: BTreeSet<u16>) -> Self {
        Self { gateway, config, log, ports, refused: Mutex::new(Vec::new()) }
    }

    /// What was wrong with the last bundle, if it was not taken.
    #[must_use]
    pub fn refused(&self) -> Vec<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the bundle and puts it in force, or keeps the one before and says why. Blocks.
    pub fn reload(&self, cause: Cause) -> Reloaded {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.gateway.plan();
        let before = before.bundle.digest();
        let taken = self.take_up(cause, before);
        let outcome = match &taken {
            Ok(None) => "unchanged",
            Ok(Some(_)) => "taken",
            Err(_) => "refused",
        };
        self.gateway.metrics.reloaded(outcome);
        let (bundle, faults) = match taken {
            Ok(taken) => (taken.unwrap_or_else(|| before.to_owned()), Vec::new()),
            Err(faults) => (before.to_owned(), faults),
        };
        for fault in &faults {
            tracing::error!(fault, "the new policy bundle is refused; the one before stays in force");
        }
        if faults.is_empty() && bundle != before {
            tracing::info!(bundle, "another policy bundle is in force");
        }
        refused.clone_from(&faults);
        Reloaded { changed: bundle != before, bundle, faults }
    }

    /// The digest of what is in force now; none if the bundle is the same and nobody asked.
    fn take_up(&self, cause: Cause, before: &str) -> Result<Option<String>, Vec<String>> {
        let config = &self.config;
        let secrets = Secrets { signing: &config.signing, certificates: &config.client_certificates };
        let service = config.ingress.service.as_deref();
        let plan = Plan::load(&config.policies, config.environment, service, secrets);
        let plan = match plan.map_err(|error| faults_of(&error)).and_then(|plan| self.reachable(plan)) {
            Ok(plan) => plan,
            Err(faults) => {
                let refusal = Event::new(Action::PolicyLoad, Outcome::Denied).reason("bundle-refused");
                // The one before was recorded when it was taken up, and goes on.
                if let Err(error) = self.log.append_blocking(refusal) {
                    tracing::error!(%error, "the refusal of a bundle is not recorded");
                }
                return Err(faults);
            }
        };
        let digest = plan.bundle.digest().to_owned();
        if cause == Cause::Watched && digest == before {
            return Ok(None);
        }
        let line = Event::new(Action::PolicyLoad, Outcome::Allowed).on(&Name::parse_or_withhold(&digest));
        let _recorded = self.log.append_blocking(line).map_err(|error| {
            vec![format!("it cannot be recorded in the audit log: {}", with_causes(&error))]
        })?;
        self.gateway.replace_plan(plan);
        Ok(Some(digest))
    }

    /// Refuses a plan that the confined process could not carry out.
    fn reachable(&self, plan: Plan) -> Result<Plan, Vec<String>> {
        let beyond = plan.ports().into_iter().filter(|port| !self.ports.contains(port));
        let faults: Vec<_> = beyond
            .map(|port| {
                format!(
                    "port {port} was in no bundle when this gateway started, and it gave up what it did not need: \
                     restart it"
                )
            })
            .collect();
        if faults.is_empty() { Ok(plan) } else { Err(faults) }
    }
}

/// One line for each fault.
fn faults_of(error: &PlanError) -> Vec<String> {
    match error {
        PlanError::Bundle(faults) => faults.iter().map(ToString::to_string).collect(),
        other => vec![with_causes(other)],
    }
}

/// An error with what caused it.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// What tells one state of a directory's files from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp(Vec<(PathBuf, u64, Option<SystemTime>)>);

impl Stamp {
    /// That of now. What cannot be read is left out: it will be a fault of the bundle.
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        let mut files = Vec::new();
        collect(directory, DEEPEST, &mut files);
        files.sort_unstable();
        Self(files)
    }
}

fn collect(directory: &Path, depth: usize, files: &mut Vec<(PathBuf, u64, Option<SystemTime>)>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        // Links are followed: a mounted configuration is changed by turning one.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            if let Some(depth) = depth.checked_sub(1) {
                collect(&path, depth, files);
            }
        } else {
            files.push((path, metadata.len(), metadata.modified().ok()));
        }
    }
}

/// A bundle has its cases in a folder of its own, and those may have folders.
const DEEPEST: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_stamp_changes_with_a_file_a_folder_and_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("a.toml"), "a").unwrap();
        fs::create_dir(path("one")).unwrap();
        fs::create_dir(path("two")).unwrap();
        fs::write(path("two").join("b.toml"), "bb").unwrap();
        symlink(path("one"), path("now")).unwrap();
        let mut before = Stamp::of(directory.path());
        assert_eq!(before, Stamp::of(directory.path()));
        let mut differs = |what: &str| {
            let after = Stamp::of(directory.path());
            assert_ne!(before, after, "{what}");
            before = after;
        };
        fs::write(path("a.toml"), "ab").unwrap();
        differs("a longer file");
        fs::write(path("one").join("b.toml"), "b").unwrap();
        differs("a new file");
        symlink(path("two"), path("next")).unwrap();
        fs::rename(path("next"), path("now")).unwrap();
        differs("a turned link");
    }
}
