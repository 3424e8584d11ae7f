//! From a configuration file to a serving vault: check, harden, open, bind, announce, drain.
//!
//! Must never serve before the hardening, the audit log and the store are in place. Tests: `tests/tests/startup.rs`.

use crate::api;
use crate::config::Config;
use crate::restore;
use crate::seal::Devices;
use crate::store::{FjallOptions, FjallStore, Store, StoreError};
use crate::vault::{Parts, Vault, awaiting};
use cordon_audit::{Action, Event, Log, Name, Outcome, Recovered};
use cordon_card::Environment;
use cordon_daemon::clock::SystemClock;
use cordon_daemon::config::EX_CONFIG;
use cordon_daemon::confine::{Confinement, Outbound};
use cordon_daemon::drain::{DEADLINE, Drain};
use cordon_daemon::process::{Hardening, NotHardened, give_way, harden};
use cordon_daemon::scrub;
use cordon_daemon::server::{Limits, Listener, Refused, Reserved, reserve, serve};
use cordon_daemon::telemetry::{self, Format};
use cordon_daemon::tls::{ClientAuth, Identity, Roots, server_config};
use cordon_policy::Bundle;
use rustls::ServerConfig;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Directory of the audit log below the data directory.
pub(crate) const AUDIT: &str = "audit";
/// Where the development seal keeps the root key, in clear, below the data directory.
const DEV_FILE: &str = "development-root-key.json";
/// Directory of the store below the data directory.
pub(crate) const STORE: &str = "store";

/// Runs the daemon to its end.
#[must_use]
pub fn main(config: &Path, only_check: bool) -> ExitCode {
    let hardening = harden();
    if telemetry::init(Format::default(), "info").is_err() {
        return ExitCode::FAILURE;
    }
    let checked = match Checked::load(config) {
        Ok(checked) => checked,
        Err(faults) => {
            for fault in faults {
                tracing::error!(file = %config.display(), "{fault}");
            }
            return ExitCode::from(EX_CONFIG);
        }
    };
    if only_check {
        tracing::info!(file = %config.display(), policy = checked.bundle.digest(), "the configuration is good");
        return ExitCode::SUCCESS;
    }
    match run(checked, hardening) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ StartError::NotHardened(_)) => {
            tracing::error!("{error}");
            ExitCode::from(EX_CONFIG)
        }
        Err(error) => {
            tracing::error!("{}", described(&error));
            ExitCode::FAILURE
        }
    }
}

/// Restores a backup and says, as one line of JSON on stdout, what was done.
#[must_use]
pub fn restore(config: &Path, request: &restore::Request<'_>) -> ExitCode {
    let _hardening = harden();
    if telemetry::init(Format::default(), "info").is_err() {
        return ExitCode::FAILURE;
    }
    let loaded: Result<Config, Vec<String>> = cordon_daemon::config::load(config)
        .map_err(|error| vec![error.to_string()])
        .and_then(|loaded: Config| loaded.resolve(config));
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(faults) => {
            for fault in faults {
                tracing::error!(file = %config.display(), "{fault}");
            }
            return ExitCode::from(EX_CONFIG);
        }
    };
    match restore::restore(&loaded, request) {
        Ok(outcome) => {
            tell(&outcome);
            let mut line = serde_json::to_vec(&outcome).unwrap_or_default();
            line.push(b'\n');
            match std::io::stdout().write_all(&line) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_closed) => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Says what was restored and what to do next.
fn tell(ended: &restore::Ended) {
    let (backup, waits) = match ended {
        restore::Ended::Restored(restored) => {
            tracing::info!(
                backup = restored.header.id, taken = restored.header.created_at, shares = ?restored.header.shares,
                rows = restored.rows.rows, erased = restored.erased, "restored; start the vault and unseal it"
            );
            (&restored.header.id, restored.awaits_acceptance)
        }
        restore::Ended::Finished(finished) => (&finished.finished, finished.awaits_acceptance),
    };
    if waits {
        tracing::warn!(
            "this backup is not known to be the newest: nothing is served until two custodians accept it with `cordon \
             restore accept {backup}`"
        );
    }
}

/// An error with those of its causes that it does not repeat itself.
fn described(error: &StartError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = inner.source();
    }
    text
}

/// Everything that can be checked without opening data.
struct Checked {
    config: Config,
    bundle: Bundle,
    tls: Arc<ServerConfig>,
}

impl Checked {
    fn load(file: &Path) -> Result<Self, Vec<String>> {
        let config: Config = cordon_daemon::config::load(file).map_err(|error| vec![error.to_string()])?;
        let config = config.resolve(file)?;
        let mut faults = Vec::new();
        let bundle = Bundle::load(&config.policies).map_err(|error| faults.push(error.to_string()));
        let tls = load_tls(&config).map_err(|error| faults.push(error));
        let (Ok(bundle), Ok(tls)) = (bundle, tls) else { return Err(faults) };
        if bundle.development() && config.environment == Environment::Live {
            return Err(vec!["a live environment refuses a bundle with `development = true`".to_owned()]);
        }
        Ok(Self { config, bundle, tls })
    }
}

fn load_tls(config: &Config) -> Result<Arc<ServerConfig>, String> {
    let identity = Identity::load(&config.tls.cert, &config.tls.key).map_err(|error| error.to_string())?;
    let roots = Roots::load(&config.tls.client_roots).map_err(|error| error.to_string())?;
    server_config(identity, ClientAuth::Required(roots)).map_err(|error| error.to_string())
}

fn run(checked: Checked, mut hardening: Hardening) -> Result<(), StartError> {
    let Checked { config, bundle, tls } = checked;
    for directory in [config.data_dir.clone(), config.data_dir.join(AUDIT)] {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(StartError::Directory)?;
    }
    let sockets = Sockets::reserve(&config)?;
    // The processors granted are read from the control group's files, which are out of reach afterwards.
    let workers = config.worker_count();
    // The module of an HSM is loaded while memory may still become executable.
    let devices = Devices::load(&config.seal, &config.data_dir.join(DEV_FILE))?;
    hardening.confine(&confinement(&config));
    hardening.admit(&config.hardening, config.environment == Environment::Live)?;
    let (audit, recovered) = Log::open_as(&config.data_dir.join(AUDIT), ORIGIN, &config.audit)?;
    let _finished = restore::finish(&config.data_dir, &recovered)?;
    let store = open_store(&config, &recovered)?;
    if recovered.created && store.sequence() > 0 {
        return Err(StartError::AuditLost(store.sequence()));
    }
    start_lines(&audit, &recovered, &bundle, store.sequence())?;
    let vault = Arc::new(Vault::new(Parts {
        store,
        audit: audit.clone(),
        bundle,
        clock: Arc::new(SystemClock::new()),
        environment: config.environment,
        data_dir: config.data_dir.clone(),
        devices,
        hardening,
        keyring_epoch: recovered.floor.keyring_epoch.unwrap_or(0),
        tally_anchor: recovered.floor.tally_sequence,
        awaiting: awaiting(&recovered),
        sad_ttl: config.sad_ttl(),
        sad_max: config.sad.max,
        recipients: config.backup.recipients().map_err(StartError::Recipients)?,
        limits: config.limits.clone(),
    })?);
    unseal(&vault)?;
    let drain = Drain::on_signals(DEADLINE, Duration::ZERO).map_err(StartError::Signals)?;
    let sweeper = start_sweeper(Arc::clone(&vault), drain.clone());
    let rewrapper = start_rewrapper(Arc::clone(&vault), drain.clone())?;
    let keeper = start_keeper(Arc::clone(&vault), drain.clone())?;
    let listeners = listeners(&vault, &audit, &config, &tls, sockets);
    let server = serve(listeners, workers, Limits::default(), &drain, vault.metrics().connections())?;
    server.announce(&mut std::io::stdout()).map_err(StartError::Announce)?;
    audit.announced();
    let drained = server.wait();
    if sweeper.join().is_err() {
        tracing::error!("the sweeper of security codes panicked");
    }
    if rewrapper.join().is_err() {
        tracing::error!("the thread that moves records to newer keys panicked");
    }
    if keeper.join().is_err() {
        tracing::error!("the thread that keeps the rules of retention panicked");
    }
    drop(vault);
    let _stopped = audit.append_blocking(Event::new(Action::Stop, Outcome::Allowed))?;
    audit.close()?;
    tracing::info!(cut_off = drained.cut_off, "stopped");
    if drained.failed_threads == 0 { Ok(()) } else { Err(StartError::Panicked) }
}

/// Certificates, keys and policies are in memory: nothing is read beyond the data directory from then on, but for what the
/// audit log was given and what it takes to unseal.
fn confinement(config: &Config) -> Confinement {
    let directories = config.audit.directories().chain([config.data_dir.clone()]);
    let ports = config.seal.ports();
    Confinement {
        writable: directories.chain(config.seal.writable()).collect(),
        readable: config.audit.witnesses.iter().cloned().chain(config.seal.readable()).collect(),
        outbound: if ports.is_empty() { Outbound::None } else { Outbound::Ports(ports.to_vec()) },
        loads_modules: false,
    }
}

/// Unseals where no custodian is needed, before anybody is served.
fn unseal<S: Store>(vault: &Vault<S>) -> Result<(), StartError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(StartError::Thread)?;
    Ok(runtime.block_on(vault.unseal_at_start())?)
}

fn open_store(config: &Config, recovered: &Recovered) -> Result<FjallStore, StoreError> {
    FjallStore::open_with(
        &config.data_dir.join(STORE),
        recovered.floor.store_sequence,
        &store_options(config),
    )
}

/// The engine's bounds as configured.
pub(crate) const fn store_options(config: &Config) -> FjallOptions {
    FjallOptions {
        cache_bytes: config.store.cache_mib.saturating_mul(1024 * 1024),
        memtable_bytes: config.store.memtable_mib.saturating_mul(1024 * 1024),
    }
}

/// What the log must say before anything is served: that it was opened, under which policy, with which store.
fn start_lines(audit: &Log, recovered: &Recovered, bundle: &Bundle, sequence: u64) -> Result<(), StartError> {
    let mut opened = Event::new(Action::AuditOpen, Outcome::Allowed).count(recovered.size);
    if recovered.torn_bytes > 0 {
        opened = opened.reason("torn-line-removed");
    }
    let _opened = audit.append_blocking(opened)?;
    let digest = data_encoding::HEXLOWER_PERMISSIVE.decode(bundle.digest().as_bytes()).unwrap_or_default();
    let loaded = Event::new(Action::PolicyLoad, Outcome::Allowed).on(&Name::of_bytes(&digest));
    let _loaded = audit.append_blocking(loaded)?;
    let _started =
        audit.append_blocking(Event::new(Action::Start, Outcome::Allowed).store_sequence(sequence))?;
    Ok(())
}

/// The addresses of the three listeners, taken while that is still possible.
struct Sockets {
    data: Reserved,
    admin: Reserved,
    metrics: Reserved,
}

impl Sockets {
    fn reserve(config: &Config) -> Result<Self, StartError> {
        Ok(Self {
            data: reserve("data", config.data.listen)?,
            admin: reserve("admin", config.admin.listen)?,
            metrics: reserve("metrics", config.metrics.listen)?,
        })
    }
}

fn listeners<S: Store>(
    vault: &Arc<Vault<S>>,
    audit: &Log,
    config: &Config,
    tls: &Arc<ServerConfig>,
    sockets: Sockets,
) -> Vec<Listener> {
    let (data, admin, health) = (Arc::clone(vault), Arc::clone(vault), Arc::clone(vault));
    vec![
        Listener::tls("data", config.data.listen, Arc::clone(tls), move |_worker| {
            let vault = Arc::clone(&data);
            move |request, peer| {
                let vault = Arc::clone(&vault);
                async move { api::data::handle(&vault, &peer, request).await }
            }
        })
        .on(sockets.data)
        .on_refused(audit_refusal(audit.clone())),
        Listener::tls("admin", config.admin.listen, Arc::clone(tls), move |_worker| {
            let vault = Arc::clone(&admin);
            move |request, peer| {
                let vault = Arc::clone(&vault);
                async move { api::admin::handle(&vault, &peer, request).await }
            }
        })
        .on(sockets.admin)
        .on_refused(audit_refusal(audit.clone())),
        Listener::plain("metrics", config.metrics.listen, move |_worker| {
            let vault = Arc::clone(&health);
            move |request, _peer| {
                let vault = Arc::clone(&vault);
                async move { api::health::handle(&*vault, &request) }
            }
        })
        .on(sockets.metrics),
    ]
}

/// A handshake that failed gets a line, or is counted in one (PCI DSS 10.2.1.4). Nobody waits for it: there is no request to refuse.
fn audit_refusal(audit: Log) -> impl Fn(SocketAddr, Refused) + Send + Sync + 'static {
    move |address, refused| {
        let audit = audit.clone();
        tokio::spawn(async move {
            let event = Event::new(Action::Authenticate, Outcome::Denied);
            if let Err(error) = audit.append_refusal(event.from(address.ip()).reason(refused.as_str())).await
            {
                tracing::error!(%error, "a refused handshake could not be recorded");
            }
        });
    }
}

/// Wipes security codes and shares whose time is over, also while nobody asks for one.
fn start_sweeper<S: Store>(vault: Arc<Vault<S>>, drain: Drain) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while !drain.is_triggered() {
            std::thread::sleep(SWEEP);
            vault.sweep();
        }
    })
}

/// Moves records to newer keys, beside the requests, so that they never wait for its decryptions.
fn start_rewrapper<S: Store>(
    vault: Arc<Vault<S>>,
    drain: Drain,
) -> Result<std::thread::JoinHandle<()>, StartError> {
    start_stepping("rewrap", drain, move |runtime| {
        runtime.block_on(vault.tend_keys());
        runtime.block_on(vault.rewrap_step())
    })
}

/// Erases records whose time is over, beside the requests.
fn start_keeper<S: Store>(
    vault: Arc<Vault<S>>,
    drain: Drain,
) -> Result<std::thread::JoinHandle<()>, StartError> {
    start_stepping("retention", drain, move |runtime| runtime.block_on(vault.retention_step()))
}

/// A thread that takes one step after the other until the vault stops, each followed by the pause that it asks for. Its runtime
/// has time, which a line of the audit log needs.
fn start_stepping(
    name: &str,
    drain: Drain,
    mut step: impl FnMut(&tokio::runtime::Runtime) -> Duration + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, StartError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(StartError::Thread)?;
    let work = move || {
        give_way();
        while !drain.is_triggered() {
            let wait = step(&runtime);
            // A step may have decrypted records.
            scrub::stack();
            std::thread::sleep(wait.min(SWEEP));
        }
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(StartError::Thread)
}

/// Why a vault does not start or ended badly. The operator's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data directory.
    #[error("the data directory can't be made: {0}")]
    Directory(#[source] std::io::Error),
    /// A background thread.
    #[error("a background thread can't be started: {0}")]
    Thread(#[source] std::io::Error),
    /// Hardening that a live environment needs.
    #[error(transparent)]
    NotHardened(#[from] NotHardened),
    /// The audit log.
    #[error("the audit log can't be used: {0}")]
    Audit(#[from] cordon_audit::AuditError),
    /// The log is new, the store is not: somebody removed the log (PCI DSS 10.3).
    #[error("the store has {0} commits, but its audit log is gone; put the log back before starting")]
    AuditLost(u64),
    /// The store.
    #[error("the store can't be opened: {0}")]
    Store(#[from] StoreError),
    /// A restore that was cut short.
    #[error("a restore can't be finished: {0}")]
    Restore(#[from] restore::RestoreError),
    /// A stored document.
    #[error("the vault can't start: {0}")]
    Vault(#[from] crate::error::VaultError),
    /// The module of the HSM.
    #[error("seal.pkcs11: {0}")]
    Seal(#[from] crate::seal::SealError),
    /// The keys that backups are encrypted to.
    #[error("backup.recipients: {0}")]
    Recipients(#[source] cordon_archive::SealError),
    /// Signal handling.
    #[error("signals can't be handled: {0}")]
    Signals(#[source] std::io::Error),
    /// A listener.
    #[error("{0}")]
    Serve(#[from] cordon_daemon::server::ServeError),
    /// Standard output.
    #[error("the addresses can't be announced: {0}")]
    Announce(#[source] std::io::Error),
    /// A defect.
    #[error("a worker thread panicked")]
    Panicked,
}

/// Name of the log in its checkpoints.
pub(crate) const ORIGIN: &str = "cordon-vault";
const SWEEP: Duration = Duration::from_millis(200);
