//! `cordon.toml`: where the vault is, who we are to it, and where the policy bundle lies.
//!
//! Must never hold a secret: keys are named by path. Tests: below.

use crate::exit::{Failure, with_causes};
use crate::output::Console;
use cordon_client::{Administrator, Endpoint, Tokenizer};
use serde::Deserialize;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What every command is given: the console, and the configuration file to read when it needs one.
#[derive(Debug)]
pub(crate) struct Settings {
    console: Console,
    path: PathBuf,
    asked_for: bool,
}

impl Settings {
    /// `--config`, else `$CORDON_CONFIG`, else `./cordon.toml`.
    pub(crate) fn new(console: Console, given: Option<PathBuf>) -> Self {
        let given = given.or_else(|| std::env::var_os("CORDON_CONFIG").map(PathBuf::from));
        let asked_for = given.is_some();
        Self { console, path: given.unwrap_or_else(|| PathBuf::from("cordon.toml")), asked_for }
    }

    /// The console.
    pub(crate) const fn console(&self) -> Console {
        self.console
    }

    /// A client for administration, from the configuration file.
    pub(crate) fn administrator(&self) -> Result<Administrator, Failure> {
        let vault = self.vault()?;
        let endpoint = vault.endpoint(&vault.admin)?;
        Ok(Administrator::new(endpoint))
    }

    /// The files that name who we are to the vault and what it must chain to.
    pub(crate) fn vault_files(&self) -> Result<VaultFiles, Failure> {
        let vault = self.vault()?;
        Ok(VaultFiles { cert: vault.cert, roots: vault.roots })
    }

    /// The gateway's metrics listener, if it is configured.
    pub(crate) fn gateway_metrics(&self) -> Result<Option<SocketAddr>, Failure> {
        Ok(self.load()?.gateway.and_then(|gateway| gateway.metrics))
    }

    /// The gateway's control socket, from the configuration file.
    pub(crate) fn gateway_control(&self) -> Result<PathBuf, Failure> {
        self.load()?.gateway.and_then(|gateway| gateway.control).ok_or_else(|| {
            Failure::configuration(format!("{}: there is no [gateway] control", self.path.display()))
                .next("name control.sock in the gateway's data_dir, there or with --socket")
        })
    }

    /// A client for tokens, from the configuration file.
    pub(crate) fn tokenizer(&self) -> Result<Tokenizer, Failure> {
        let vault = self.vault()?;
        let endpoint = vault.endpoint(&vault.data)?;
        Ok(Tokenizer::new(endpoint))
    }

    /// The policy bundle: the directory given, else the configured one, else `policies`.
    pub(crate) fn policies(&self, given: Option<&Path>) -> Result<PathBuf, Failure> {
        if let Some(directory) = given {
            return Ok(directory.to_owned());
        }
        if !self.asked_for && !self.path.exists() {
            return Ok(PathBuf::from("policies"));
        }
        Ok(self.load()?.policies.unwrap_or_else(|| PathBuf::from("policies")))
    }

    fn vault(&self) -> Result<Vault, Failure> {
        self.load()?.vault.ok_or_else(|| {
            Failure::configuration(format!("{}: there is no [vault] section", self.path.display()))
                .next("add [vault] with data, admin, name, roots, cert and key")
        })
    }

    fn load(&self) -> Result<Configuration, Failure> {
        if !self.path.exists() {
            return Err(Failure::configuration(format!("{}: there is no such file", self.path.display()))
                .next("name a configuration with --config or $CORDON_CONFIG; `cordon dev` writes one to look at"));
        }
        let read: Configuration = cordon_daemon::config::load(&self.path)
            .map_err(|error| Failure::configuration(with_causes(&error)))?;
        Ok(read.relative_to(self.path.parent().unwrap_or(Path::new(""))))
    }
}

/// Certificate files of [`Settings::vault_files`].
#[derive(Debug)]
pub(crate) struct VaultFiles {
    pub(crate) cert: PathBuf,
    pub(crate) roots: PathBuf,
}

/// Runs a command's one future to its end on this thread.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused("runtime", format!("no runtime: {error}")))?
        .block_on(work)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Configuration {
    vault: Option<Vault>,
    gateway: Option<Gateway>,
    policies: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Gateway {
    metrics: Option<SocketAddr>,
    control: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vault {
    data: String,
    admin: String,
    name: String,
    roots: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl Configuration {
    fn relative_to(self, base: &Path) -> Self {
        let vault = self.vault.map(|vault| Vault {
            roots: base.join(&vault.roots),
            cert: base.join(&vault.cert),
            key: base.join(&vault.key),
            ..vault
        });
        let gateway = self
            .gateway
            .map(|gateway| Gateway { control: gateway.control.map(|socket| base.join(socket)), ..gateway });
        Self { vault, gateway, policies: self.policies.map(|path| base.join(path)) }
    }
}

impl Vault {
    fn endpoint(&self, address: &str) -> Result<Endpoint, Failure> {
        Ok(Endpoint::from_files(address, &self.name, &self.roots, &self.cert, &self.key)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use std::fs;

    fn settings(text: &str) -> (tempfile::TempDir, Settings) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cordon.toml");
        fs::write(&path, text).unwrap();
        let settings = Settings::new(Console::new(false), Some(path));
        (directory, settings)
    }

    const VAULT: &str = "[vault]\ndata = \"127.0.0.1:1\"\nadmin = \"127.0.0.1:2\"\nname = \"v\"\n\
                         roots = \"ca.pem\"\ncert = \"/abs/o.pem\"\nkey = \"o-key.pem\"\n";

    #[test]
    fn a_missing_file_ends_with_78_and_says_what_to_do() {
        let settings = Settings::new(Console::new(false), Some(PathBuf::from("/nonexistent/cordon.toml")));
        let failure = settings.administrator().unwrap_err();
        assert_eq!(failure.exit(), Exit::Configuration);
        assert!(failure.to_string().contains("--config"), "{failure}");
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let (_directory, settings) = settings(&format!("{VAULT}password = \"x\"\n"));
        assert_eq!(settings.load().unwrap_err().exit(), Exit::Configuration);
    }

    #[test]
    fn a_file_without_a_vault_serves_policy_commands_only() {
        let (directory, settings) = settings("policies = \"bundle\"\n");
        assert_eq!(settings.vault().unwrap_err().exit(), Exit::Configuration);
        assert_eq!(settings.policies(None).unwrap(), directory.path().join("bundle"));
        assert_eq!(settings.policies(Some(Path::new("x"))).unwrap(), PathBuf::from("x"));
    }

    #[test]
    fn relative_paths_start_at_the_file() {
        let (directory, settings) = settings(VAULT);
        let vault = settings.vault().unwrap();
        assert_eq!(vault.roots, directory.path().join("ca.pem"));
        assert_eq!(vault.cert, PathBuf::from("/abs/o.pem"));
    }
}
