//! The stack: its directory, its throw-away PKI, and its processes in the order they need each other.
//!
//! Must never use a directory that others can enter, or be up halfway: what fails takes everything down.
//! Tests: below; the running stack in the workspace's `tests` crate.

use super::bundle;
use super::process::{Child, Start};
use super::site;
use crate::exit::{Failure, with_causes};
use crate::pki::{self, Authority, Subject};
use crate::sample::proof::ProofKey;
use cordon_card::CollectionName;
use cordon_client::{Administrator, Endpoint};
use cordon_wire::{CreateCollection, InitRequest, SealKind, TokenProfile, UnsealRequest};
use rustls::ClientConfig;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// The binaries of the stack.
#[derive(Debug)]
pub(super) struct Programs {
    cordon: PathBuf,
    vault: PathBuf,
    gateway: PathBuf,
}

/// Directory and processes.
pub(super) struct Stack {
    programs: Programs,
    directory: PathBuf,
    /// Removes the directory; absent when it is kept.
    temporary: Option<TempDir>,
    children: Vec<Child>,
}

/// A stack that is up: where everything is.
pub(super) struct Up {
    pub(super) directory: PathBuf,
    pub(super) kept: bool,
    pub(super) addresses: Addresses,
    pub(super) collection: CollectionName,
    pub(super) proofs: ProofKey,
    pub(super) browser: Arc<ClientConfig>,
    pub(super) signup: Arc<ClientConfig>,
    pub(super) billing: Arc<ClientConfig>,
}

/// Every listener of the stack.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct Addresses {
    pub(super) ingress: SocketAddr,
    pub(super) egress: SocketAddr,
    pub(super) vault_data: SocketAddr,
    pub(super) vault_admin: SocketAddr,
    pub(super) vault_metrics: SocketAddr,
    pub(super) gateway_metrics: SocketAddr,
    pub(super) signup: SocketAddr,
    pub(super) processor: SocketAddr,
}

impl Programs {
    /// Finds the daemons beside this binary.
    pub(super) fn find() -> Result<Self, Failure> {
        let cordon = std::env::current_exe()
            .map_err(|error| Failure::refused("programs", format!("this program can't be found: {error}")))?;
        Self::beside(cordon)
    }

    fn beside(cordon: PathBuf) -> Result<Self, Failure> {
        let vault = cordon.with_file_name("cordon-vault");
        let gateway = cordon.with_file_name("cordon-gateway");
        let missing: Vec<&Path> =
            [&vault, &gateway].into_iter().map(PathBuf::as_path).filter(|p| !p.is_file()).collect();
        if missing.is_empty() {
            return Ok(Self { cordon, vault, gateway });
        }
        let names: Vec<String> = missing.iter().map(|path| path.display().to_string()).collect();
        let release =
            if cordon.parent().is_some_and(|parent| parent.ends_with("release")) { " --release" } else { "" };
        Err(Failure::refused("programs", format!("{}: there is no such program", names.join(", ")))
            .next(format!("cargo build{release} -p cordon -p cordon-vault -p cordon-gateway")))
    }
}

impl Stack {
    /// A directory of its own: temporary, or `keep`, which must not exist yet.
    pub(super) fn new(programs: Programs, keep: Option<&Path>) -> Result<Self, Failure> {
        let (directory, temporary) = match keep {
            Some(path) => (kept(path)?, None),
            None => {
                let made = tempfile::Builder::new()
                    .prefix("cordon-dev-")
                    .permissions(Permissions::from_mode(0o700))
                    .tempdir()
                    .map_err(|error| Failure::file(&std::env::temp_dir(), &error))?;
                (made.path().to_owned(), Some(made))
            }
        };
        pki::private_directory(&directory.join("logs"))?;
        Ok(Self { programs, directory, temporary, children: Vec::new() })
    }

    /// Starts everything; `step` is told what is being done.
    pub(super) async fn start(&mut self, step: impl Fn(&'static str)) -> Result<Up, Failure> {
        step("making a throw-away PKI");
        let pki = self.directory.join("pki");
        certificates(&pki)?;
        let proofs = ProofKey::make(&self.directory.join(PROOF_KEY))?;

        step("starting the sample services");
        let cordon = self.programs.cordon.clone();
        let signup = self.child("signup", &cordon, &["sample", "signup"]).await?;
        let processor = self.child("processor", &cordon, &PROCESSOR).await?;
        let (signup, processor) = (address(&signup, "http")?, address(&processor, "https")?);
        bundle::write(&self.directory.join("policies"), signup, processor)?;

        step("starting the vault");
        pki::write_new(&self.directory.join("vault.toml"), 0o600, bundle::VAULT.as_bytes())?;
        let program = self.programs.vault.clone();
        let vault = self.child("vault", &program, &["--config", "vault.toml"]).await?;
        let (data, admin) = (address(&vault, "data")?, address(&vault, "admin")?);
        for (file, service) in bundle::CLIENTS {
            let text = bundle::client(service, data, admin);
            pki::write_new(&self.directory.join(file), 0o600, text.as_bytes())?;
        }
        let collection = open_vault(&pki, admin).await?;

        step("starting the gateway");
        pki::write_new(&self.directory.join("gateway.toml"), 0o600, bundle::gateway(data).as_bytes())?;
        let program = self.programs.gateway.clone();
        let gateway = self.child("gateway", &program, &["--config", "gateway.toml"]).await?;
        Ok(Up {
            directory: self.directory.clone(),
            kept: self.temporary.is_none(),
            addresses: Addresses {
                ingress: address(&gateway, "ingress")?,
                egress: address(&gateway, "egress")?,
                vault_data: data,
                vault_admin: admin,
                vault_metrics: address(&vault, "metrics")?,
                gateway_metrics: address(&gateway, "metrics")?,
                signup,
                processor,
            },
            collection,
            proofs,
            browser: site::client_tls(&pki, None)?,
            signup: site::client_tls(&pki, Some("signup"))?,
            billing: site::client_tls(&pki, Some("billing"))?,
        })
    }

    /// Fails when one of the processes is gone.
    pub(super) fn watch(&mut self) -> Result<(), Failure> {
        match self.children.iter_mut().find_map(Child::gone) {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// This binary.
    pub(super) fn program(&self) -> &Path {
        &self.programs.cordon
    }

    /// The processes by name.
    pub(super) fn ids(&self) -> BTreeMap<&'static str, u32> {
        self.children.iter().filter_map(|child| child.id().map(|id| (child.name(), id))).collect()
    }

    /// Ends all processes, the last started first.
    pub(super) async fn stop(&mut self) {
        while let Some(mut child) = self.children.pop() {
            child.stop().await;
        }
    }

    /// Removes the directory unless it is kept.
    pub(super) fn clear(self) -> Result<(), Failure> {
        match self.temporary {
            None => Ok(()),
            Some(directory) => directory.close().map_err(|error| Failure::file(&self.directory, &error)),
        }
    }

    async fn child(
        &mut self,
        name: &'static str,
        program: &Path,
        arguments: &[&str],
    ) -> Result<BTreeMap<String, SocketAddr>, Failure> {
        let arguments = arguments.iter().map(OsString::from).collect();
        let mut child = Child::start(Start { name, program, arguments, directory: &self.directory })?;
        let ready = child.ready().await;
        // Kept in any case, so that what started is also stopped.
        self.children.push(child);
        ready
    }
}

fn kept(path: &Path) -> Result<PathBuf, Failure> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => fs::canonicalize(path).map_err(|error| Failure::file(path, &error)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(Failure::usage(format!("{}: it exists; --keep makes a directory of its own", path.display()))
                .next("name one that does not exist yet"))
        }
        Err(error) => Err(Failure::file(path, &error)),
    }
}

fn certificates(pki: &Path) -> Result<(), Failure> {
    let (authority, _made) = Authority::open_or_make(pki)?;
    for name in bundle::SERVERS {
        let names = vec![name.to_owned(), "127.0.0.1".to_owned()];
        authority.issue(name, &Subject::Server(names), DAYS)?;
    }
    for service in bundle::SERVICES {
        authority.issue(service, &Subject::Client(format!("spiffe://cordon.test/{service}")), DAYS)?;
    }
    Ok(())
}

/// Initialises and unseals the vault with the development seal, and makes the collection.
async fn open_vault(pki: &Path, admin: SocketAddr) -> Result<CollectionName, Failure> {
    let administrator = Administrator::new(operator(pki, admin)?);
    administrator
        .init(&InitRequest { seal: SealKind::DevFile, custodians: Vec::new(), threshold: 1 })
        .await?;
    administrator.unseal(&UnsealRequest { share: None, acknowledge: false }).await?;
    for custodian in bundle::CUSTODIANS {
        Administrator::new(client(pki, custodian, admin)?).acknowledge().await?;
    }
    let name = CollectionName::parse(COLLECTION)
        .map_err(|error| Failure::refused("collection", with_causes(&error)))?;
    let request =
        CreateCollection { name: name.clone(), profile: TokenProfile::default(), expected_cards: 1_000_000 };
    administrator.create_collection(&request).await?;
    Ok(name)
}

/// The vault as the operator reaches it.
pub(super) fn operator(pki: &Path, address: SocketAddr) -> Result<Endpoint, Failure> {
    client(pki, "operator", address)
}

fn client(pki: &Path, service: &str, address: SocketAddr) -> Result<Endpoint, Failure> {
    let (cert, key) = (pki.join(format!("{service}.pem")), pki.join(format!("{service}-key.pem")));
    let roots = pki.join(pki::CA_CERTIFICATE);
    Ok(Endpoint::from_files(&address.to_string(), "vault.cordon.test", &roots, &cert, &key)?)
}

fn address(listeners: &BTreeMap<String, SocketAddr>, name: &str) -> Result<SocketAddr, Failure> {
    listeners
        .get(name)
        .copied()
        .ok_or_else(|| Failure::refused("dev-start", format!("no listener `{name}` was announced")))
}

const COLLECTION: &str = "cards";
const PROOF_KEY: &str = "proof.key";
/// Days the throw-away certificates are valid.
const DAYS: u16 = 7;
const PROCESSOR: [&str; 8] = [
    "sample",
    "processor",
    "--cert",
    "pki/processor.cordon.test.pem",
    "--key",
    "pki/processor.cordon.test-key.pem",
    "--proof-key",
    PROOF_KEY,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_daemons_are_answered_with_the_command_that_builds_them() {
        let scratch = tempfile::tempdir().unwrap();
        for (directory, command) in [("debug", "cargo build -p"), ("release", "cargo build --release -p")] {
            let failure =
                Programs::beside(scratch.path().join(directory).join("cordon")).unwrap_err().to_string();
            assert!(failure.contains(command) && failure.contains("cordon-gateway"), "{failure}");
        }
    }

    #[test]
    fn an_existing_directory_is_never_taken_over() {
        let scratch = tempfile::tempdir().unwrap();
        assert!(kept(scratch.path()).is_err());
        let made = kept(&scratch.path().join("state")).unwrap();
        assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(made.is_absolute());
    }
}
