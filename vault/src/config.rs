//! The vault's configuration file, as `docs/configuration.md` describes it.
//! Must never hold a secret inline or a default that weakens security. Tests: at the end of the file.

use crate::limits::LimitsConfig;
use cordon_archive::{Recipients, SealError};
use cordon_card::Environment;
use cordon_daemon::process::Exceptions;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file as written; unknown keys are refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Stamped into keys, records and tokens.
    pub environment: Environment,
    /// Directory of the store and the audit log.
    pub data_dir: PathBuf,
    /// Directory of the policy bundle.
    pub policies: PathBuf,
    /// Threads that serve; the machine's cores when absent.
    pub workers: Option<usize>,
    /// The six data calls.
    pub data: Listen,
    /// Administration.
    pub admin: Listen,
    /// Health, readiness and metrics, on loopback.
    pub metrics: Listen,
    /// Certificates.
    pub tls: Tls,
    /// Store engine.
    #[serde(default)]
    pub store: StoreConfig,
    /// Held security codes.
    #[serde(default)]
    pub sad: SadConfig,
    /// Backups.
    #[serde(default)]
    pub backup: BackupConfig,
    /// Sinks, witnesses and reserved space of the audit log.
    #[serde(default)]
    pub audit: cordon_audit::Settings,
    /// Keys outside the vault that can seal its root key.
    #[serde(default)]
    pub seal: crate::seal::SealSettings,
    /// What this installation does without.
    #[serde(default)]
    pub hardening: Exceptions,
    /// How much one caller may ask, and how many numbers of one range anybody may.
    #[serde(default)]
    pub limits: LimitsConfig,
}

/// Where a listener binds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Address; port 0 lets the system choose.
    pub listen: SocketAddr,
}

/// PEM files.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain of the vault.
    pub cert: PathBuf,
    /// Its private key, 0600.
    pub key: PathBuf,
    /// Roots that client certificates must chain to.
    pub client_roots: PathBuf,
}

/// Which engine, and its memory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Engine.
    pub engine: EngineChoice,
    /// Block cache in MiB.
    pub cache_mib: u64,
    /// Recent writes held in memory before they are sorted into a table, in MiB.
    pub memtable_mib: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { engine: EngineChoice::Fjall, cache_mib: 64, memtable_mib: 128 }
    }
}

/// Store engines that exist.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineChoice {
    /// The embedded default.
    Fjall,
}

/// Bounds of held security codes (PCI DSS 3.3.2).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SadConfig {
    /// Seconds one is held, at most [`MAX_SAD_TTL_S`].
    pub ttl_s: u64,
    /// Held at once.
    pub max: usize,
}

impl Default for SadConfig {
    fn default() -> Self {
        Self { ttl_s: 900, max: 100_000 }
    }
}

/// Backups.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackupConfig {
    /// Public keys of the custodians (`age1...`) that can open them; none are taken without one.
    pub recipients: Vec<String>,
}

impl BackupConfig {
    /// The keys, if there are any.
    ///
    /// # Errors
    /// Text that is no public key.
    pub fn recipients(&self) -> Result<Option<Recipients>, SealError> {
        if self.recipients.is_empty() { Ok(None) } else { Recipients::parse(&self.recipients).map(Some) }
    }
}

impl Config {
    /// Makes relative paths absolute against the file's directory and lists every fault.
    ///
    /// # Errors
    /// One line per fault.
    pub fn resolve(mut self, file: &Path) -> Result<Self, Vec<String>> {
        let base = file.parent().unwrap_or(Path::new("."));
        for path in [
            &mut self.data_dir,
            &mut self.policies,
            &mut self.tls.cert,
            &mut self.tls.key,
            &mut self.tls.client_roots,
        ] {
            *path = base.join(&*path);
        }
        let mut faults = self.audit.resolve(base);
        faults.extend(self.seal.resolve(base, self.environment));
        if !self.metrics.listen.ip().is_loopback() {
            faults.push("metrics.listen must be a loopback address: it speaks clear text".to_owned());
        }
        if self.sad.ttl_s == 0 || self.sad.ttl_s > MAX_SAD_TTL_S {
            faults.push(format!("sad.ttl_s must be from 1 to {MAX_SAD_TTL_S}"));
        }
        if let Err(error) = self.backup.recipients() {
            faults.push(format!("backup.recipients: {error}"));
        }
        faults.extend(self.limits.faults());
        if self.workers == Some(0) {
            faults.push("workers must be at least 1".to_owned());
        }
        for (name, listen) in [("data.listen", self.data.listen), ("admin.listen", self.admin.listen)] {
            if listen.ip().is_unspecified() {
                faults.push(format!(
                    "{name} must name one address of the isolated segment, not all (PCI 1.4.4)"
                ));
            }
        }
        if faults.is_empty() { Ok(self) } else { Err(faults) }
    }

    /// Threads that serve.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        self.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
    }

    /// How long a security code is held.
    #[must_use]
    pub const fn sad_ttl(&self) -> Duration {
        Duration::from_secs(self.sad.ttl_s)
    }
}

/// Longest time a security code may be held: one hour (PCI DSS 3.3.2 leaves the time to the entity).
pub const MAX_SAD_TTL_S: u64 = 3_600;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(extra: &str, data: &str, metrics: &str) -> String {
        format!(
            "environment = \"dev\"\ndata_dir = \"d\"\npolicies = \"/p\"\n{extra}\n[data]\nlisten = \"{data}\"\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n[metrics]\nlisten = \"{metrics}\"\n[tls]\ncert = \"c\"\nkey = \"k\"\n\
             client_roots = \"r\"\n"
        )
    }

    #[test]
    fn relative_paths_start_at_the_file() {
        let config: Config = toml::from_str(&text("", "127.0.0.1:0", "127.0.0.1:0")).unwrap();
        let config = config.resolve(Path::new("/etc/cordon/vault.toml")).unwrap();
        assert_eq!(config.data_dir, Path::new("/etc/cordon/d"));
        assert_eq!(config.policies, Path::new("/p"));
    }

    #[test]
    fn every_fault_is_listed_at_once() {
        let config: Config = toml::from_str(&text("workers = 0", "0.0.0.0:1", "10.0.0.1:1")).unwrap();
        let faults = config.resolve(Path::new("vault.toml")).unwrap_err();
        assert_eq!(faults.len(), 3, "{faults:?}");
    }

    #[test]
    fn limits_are_read_and_checked() {
        let config: Config = toml::from_str(&text(
            "limits = { misses = 5, cards_per_range = 900 }",
            "127.0.0.1:0",
            "127.0.0.1:0",
        ))
        .unwrap();
        assert_eq!((config.limits.misses, config.limits.miss_window_s), (5, 300));
        assert_eq!(config.resolve(Path::new("vault.toml")).unwrap_err().len(), 1);
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(toml::from_str::<Config>(&text("persist_cvv = true", "127.0.0.1:0", "127.0.0.1:0")).is_err());
    }
}
