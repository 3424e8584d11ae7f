//! `gateway.toml`: where to listen, who we are to the vault, where the policy bundle is.
//!
//! Must never default anything that weakens security, nor hold a secret: keys are paths. Tests: here.

use crate::abuse::Guard;
use crate::admission::LimitsConfig;
use crate::events::config::EventsConfig;
use crate::idempotency::Outcomes;
use crate::proxy::ProxyConfig;
use crate::proxy::ca::Authorities;
use crate::serve::StartError;
use crate::sign::KeyConfig;
use crate::stream::spool::StreamConfig;
use crate::upstream::breaker::BreakerConfig;
use cordon_card::Environment;
use cordon_client::Endpoint;
use cordon_daemon::config::{self, ConfigError};
use cordon_daemon::process::Exceptions;
use cordon_daemon::tls::{self, ClientAuth, Identity, Roots, TlsError};
use jiff::Timestamp;
use rustls::ServerConfig;
use serde::Deserialize;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The configuration, with paths that no longer depend on where the file stands.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The environment whose tokens are made and taken.
    pub environment: Environment,
    /// Holds `audit/`.
    pub data_dir: PathBuf,
    /// The policy bundle.
    pub policies: PathBuf,
    /// Worker threads; one per processor when left out.
    #[serde(default)]
    pub workers: usize,
    /// The public side.
    pub ingress: IngressConfig,
    /// The services' side.
    pub egress: EgressConfig,
    /// The forward proxy, if there is one.
    #[serde(default)]
    pub proxy: Option<ProxyConfig>,
    /// Health and metrics.
    pub metrics: MetricsConfig,
    /// The vault.
    pub vault: VaultConfig,
    /// Keys that sign what is sent, by the names that routes use.
    #[serde(default)]
    pub signing: HashMap<String, KeyConfig>,
    /// Certificates to show to destinations, by their names.
    #[serde(default)]
    pub client_certificates: HashMap<String, IdentityConfig>,
    /// What is done about numbers outside of declared fields.
    #[serde(default)]
    pub leaks: LeaksConfig,
    /// What is kept of requests that carry an `Idempotency-Key`.
    #[serde(default)]
    pub idempotency: IdempotencyConfig,
    /// How much is taken on at once.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// When a target that does not answer is left alone.
    #[serde(default)]
    pub breaker: BreakerConfig,
    /// How it stops.
    #[serde(default)]
    pub drain: DrainConfig,
    /// How it takes up another bundle.
    #[serde(default)]
    pub reload: ReloadConfig,
    /// How much is kept for abuse rules.
    #[serde(default)]
    pub abuse: AbuseConfig,
    /// What becomes of bodies that are not held whole.
    #[serde(default)]
    pub stream: StreamConfig,
    /// Where events go.
    #[serde(default)]
    pub events: Vec<EventsConfig>,
    /// Sinks, witnesses and reserved space of the audit log.
    #[serde(default)]
    pub audit: cordon_audit::Settings,
    /// What is wrong with them.
    #[serde(skip)]
    pub audit_faults: Vec<String>,
    /// What this installation does without.
    #[serde(default)]
    pub hardening: Exceptions,
}

/// `[ingress]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngressConfig {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Which service of the bundle this ingress is, where several have the role.
    #[serde(default)]
    pub service: Option<String>,
}

/// `[leaks]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LeaksConfig {
    /// How many numbers outside of declared fields the vault is asked about in a minute for one client.
    pub exact_checks_per_minute: u32,
}

impl Default for LeaksConfig {
    /// Order numbers that look like cards are few, and who tries out cards needs many.
    fn default() -> Self {
        Self { exact_checks_per_minute: 30 }
    }
}

/// `[egress]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressConfig {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// What the services' certificates must chain to, PEM.
    pub client_roots: PathBuf,
}

/// `[idempotency]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdempotencyConfig {
    /// How long an outcome is kept, in seconds.
    pub ttl_s: u64,
    /// How much is kept for one service, in MiB.
    pub memory_mib: usize,
}

impl Default for IdempotencyConfig {
    fn default() -> Self {
        Self { ttl_s: 24 * 60 * 60, memory_mib: 16 }
    }
}

impl IdempotencyConfig {
    /// The outcomes that are kept, none so far.
    ///
    /// # Errors
    /// [`StartError`] for a time in which a request may still be running, or beyond a week, and for no or too much room.
    pub fn outcomes(self) -> Result<Arc<Outcomes>, StartError> {
        let sound =
            (LONGEST_REQUEST_S..=WEEK_S).contains(&self.ttl_s) && (1..=1024).contains(&self.memory_mib);
        if !sound {
            return Err(StartError::Idempotency);
        }
        let room = self.memory_mib.saturating_mul(1024 * 1024);
        Outcomes::new(Duration::from_secs(self.ttl_s), room).map_err(|_unspecified| StartError::NoRandomness)
    }
}

/// `[drain]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrainConfig {
    /// Seconds between saying that it is not ready and taking no more connections, for a load balancer to notice.
    pub notice_s: u64,
    /// Seconds that requests in flight may take from then on.
    pub deadline_s: u64,
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self { notice_s: 0, deadline_s: 30 }
    }
}

/// `[reload]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReloadConfig {
    /// Whether the bundle's files are watched, and a changed bundle is taken up by itself.
    pub watch: bool,
}

impl Default for ReloadConfig {
    fn default() -> Self {
        Self { watch: true }
    }
}

/// `[abuse]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AbuseConfig {
    /// How much is kept of who tried how often, in MiB.
    pub memory_mib: usize,
    /// How many requests may be held up at a time.
    pub delayed: usize,
}

impl Default for AbuseConfig {
    fn default() -> Self {
        Self { memory_mib: 32, delayed: 200 }
    }
}

impl AbuseConfig {
    /// The counts, none so far.
    ///
    /// # Errors
    /// [`StartError`] for no or too much room, and for more waiting requests than memory is meant for.
    pub fn guard(self) -> Result<Arc<Guard>, StartError> {
        if !(4..=1024).contains(&self.memory_mib) || self.delayed > 10_000 {
            return Err(StartError::Abuse);
        }
        let room = self.memory_mib.saturating_mul(1024 * 1024);
        Guard::new(room, self.delayed).map_err(|_unspecified| StartError::NoRandomness)
    }
}

/// `[metrics]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsConfig {
    /// Address to listen on; a loopback address.
    pub listen: SocketAddr,
}

/// `[vault]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultConfig {
    /// `host:port` of its data listener.
    pub address: String,
    /// The name its certificate must carry.
    pub name: String,
    /// What its certificate must chain to, PEM.
    pub roots: PathBuf,
    /// Who the ingress is to it: may tokenize.
    pub ingress_identity: IdentityConfig,
    /// Who the egress is to it: may reveal.
    pub egress_identity: IdentityConfig,
}

/// A client certificate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityConfig {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

impl Config {
    /// Reads the file; relative paths in it start at its folder.
    ///
    /// # Errors
    /// [`ConfigError`], with the place of the fault.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = config::load(path)?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        for relative in config.paths() {
            *relative = folder.join(&relative);
        }
        let shown =
            config.client_certificates.values_mut().flat_map(|shown| [&mut shown.cert, &mut shown.key]);
        for relative in shown.chain(config.signing.values_mut().map(|signing| &mut signing.file)) {
            *relative = folder.join(&relative);
        }
        for ca in config.proxy.iter_mut().flat_map(|proxy| &mut proxy.ca) {
            ca.cert = folder.join(&ca.cert);
            ca.key = folder.join(&ca.key);
        }
        config.events.iter_mut().for_each(|events| events.resolve(&folder));
        config.audit_faults = config.audit.resolve(&folder);
        Ok(config)
    }

    fn paths(&mut self) -> [&mut PathBuf; 12] {
        let Self { data_dir, policies, ingress, egress, vault, .. } = self;
        let (inside, outside) = (&mut vault.ingress_identity, &mut vault.egress_identity);
        [
            data_dir,
            policies,
            &mut ingress.cert,
            &mut ingress.key,
            &mut egress.cert,
            &mut egress.key,
            &mut egress.client_roots,
            &mut vault.roots,
            &mut inside.cert,
            &mut inside.key,
            &mut outside.cert,
            &mut outside.key,
        ]
    }
}

impl Config {
    /// Whether limits and times can be kept.
    ///
    /// # Errors
    /// [`StartError::Bounds`].
    pub fn bounds(&self) -> Result<(), StartError> {
        let DrainConfig { notice_s, deadline_s } = self.drain;
        let drain = notice_s <= 300 && (1..=3600).contains(&deadline_s);
        let sound = drain && self.limits.is_sound() && self.breaker.is_sound() && self.stream.is_sound();
        if sound { Ok(()) } else { Err(StartError::Bounds) }
    }
}

impl Config {
    /// The authorities of the forward proxy, if there is one.
    ///
    /// # Errors
    /// [`StartError`], which names the file.
    pub fn authorities(&self) -> Result<Option<Arc<Authorities>>, StartError> {
        let Some(proxy) = &self.proxy else { return Ok(None) };
        let clients = Roots::load(&self.egress.client_roots)?;
        Ok(Some(Arc::new(Authorities::load(&proxy.ca, clients, Timestamp::now())?)))
    }
}

impl MetricsConfig {
    /// Metrics are plain text, so they stay on the machine.
    ///
    /// # Errors
    /// [`StartError::MetricsBeyondLoopback`].
    pub fn check(&self) -> Result<(), StartError> {
        if self.listen.ip().is_loopback() { Ok(()) } else { Err(StartError::MetricsBeyondLoopback) }
    }
}

impl IngressConfig {
    /// How the public side speaks TLS.
    ///
    /// # Errors
    /// [`TlsError`], which names the file.
    pub fn tls(&self) -> Result<Arc<ServerConfig>, TlsError> {
        tls::server_config(Identity::load(&self.cert, &self.key)?, ClientAuth::None)
    }
}

impl EgressConfig {
    /// How the services' side speaks TLS: with client certificates.
    ///
    /// # Errors
    /// [`TlsError`], which names the file.
    pub fn tls(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let clients = ClientAuth::Required(Roots::load(&self.client_roots)?);
        tls::server_config(Identity::load(&self.cert, &self.key)?, clients)
    }
}

impl VaultConfig {
    /// The port of `address`, if it has one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
    }

    /// The vault, as this identity reaches it.
    ///
    /// # Errors
    /// [`StartError`], which names the file.
    pub fn endpoint(&self, identity: &IdentityConfig) -> Result<Endpoint, StartError> {
        // Refuses a key that others may read, which the client leaves to its user.
        drop(Identity::load(&identity.cert, &identity.key)?);
        Ok(Endpoint::from_files(&self.address, &self.name, &self.roots, &identity.cert, &identity.key)?)
    }
}

/// Longer than any route's time and what comes before it.
const LONGEST_REQUEST_S: u64 = 15 * 60;
const WEEK_S: u64 = 7 * 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const GOOD: &str = r#"
environment = "dev"
data_dir = "data"
policies = "/etc/cordon/policies"
[ingress]
listen = "127.0.0.1:0"
cert = "gateway.pem"
key = "gateway.key"
[egress]
listen = "127.0.0.1:0"
cert = "gateway.pem"
key = "gateway.key"
client_roots = "ca.pem"
[metrics]
listen = "127.0.0.1:0"
[vault]
address = "127.0.0.1:8443"
name = "vault.cordon.test"
roots = "ca.pem"
ingress_identity = { cert = "in.pem", key = "in.key" }
egress_identity = { cert = "out.pem", key = "out.key" }
"#;

    fn load(text: &str) -> Result<Config, ConfigError> {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let loaded = Config::load(&path);
        let rebased = |config: &Config| config.vault.egress_identity.key == dir.path().join("out.key");
        assert!(loaded.as_ref().ok().is_none_or(rebased));
        loaded
    }

    #[test]
    fn an_unknown_or_missing_key_is_refused() {
        for (from, to) in [
            ("policies =", "policy ="),
            ("client_roots = \"ca.pem\"\n", ""),
            ("[metrics]", "[metrics]\npublic = true"),
            ("environment = \"dev\"", "environment = \"production\""),
        ] {
            assert!(load(&GOOD.replace(from, to)).is_err(), "{from}");
        }
    }

    #[test]
    fn outcomes_are_kept_longer_than_a_request_takes_and_at_most_a_week() {
        for (ttl_s, memory_mib, sound) in [
            (900, 1, true),
            (604_800, 1024, true),
            (899, 1, false),
            (604_801, 1, false),
            (900, 0, false),
            (900, 1025, false),
        ] {
            let config = IdempotencyConfig { ttl_s, memory_mib };
            assert_eq!(config.outcomes().is_ok(), sound, "{config:?}");
        }
        assert!(IdempotencyConfig::default().outcomes().is_ok());
    }

    #[test]
    fn counts_for_abuse_rules_have_a_room_that_holds_them() {
        for (memory_mib, delayed, sound) in
            [(4, 0, true), (1024, 10_000, true), (3, 1, false), (1025, 1, false), (4, 10_001, false)]
        {
            let config = AbuseConfig { memory_mib, delayed };
            assert_eq!(config.guard().is_ok(), sound, "{config:?}");
        }
        assert!(AbuseConfig::default().guard().is_ok());
    }

    #[test]
    fn relative_paths_start_at_the_file_and_absolute_ones_stay() {
        let config = load(GOOD).unwrap();
        assert_eq!(config.policies, Path::new("/etc/cordon/policies"));
        assert_eq!(config.workers, 0);
    }
}
