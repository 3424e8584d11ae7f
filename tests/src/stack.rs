//! A whole Cordon on loopback: certificates, bundle, vault, gateway, signup stub and processor stub.
//! Must never use a configuration that an operator could not write. Tests: `tests/tests/harness.rs`.

mod files;

use crate::cards;
use crate::https::{self, Answer};
use crate::pki::{Authority, Files};
use crate::process::Daemon;
use crate::stub::{self, Received, Respond, Stub};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use cordon_card::{CollectionName, Token};
use cordon_client::{Administrator, Endpoint, Revealer, Tokenizer};
use cordon_wire::{
    CreateCollection, Delivery, DestroyRequest, DestructionRecord, InitRequest, ItemResult, KeyPurpose,
    NewCustodian, Operation, ProblemCode, SealKind, SealState, ShareText, TokenProfile, UnsealRequest,
};
use files::{write_bundle, write_gateway_configuration, write_private, write_vault_configuration};
use http::Request;
use http_body_util::Full;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tempfile::TempDir;
use zeroize::Zeroizing;

/// What a test may choose.
pub struct Options {
    /// How the signup stub answers.
    pub signup: Arc<Respond>,
    /// How the processor stub answers.
    pub processor: Arc<Respond>,
    /// What seals the vault.
    pub seal: SealKind,
    /// Also start the gateway and the stubs' routes.
    pub gateway: bool,
    /// Worker threads of each daemon.
    pub workers: usize,
    /// `[audit]` of the vault's configuration, whole; none when empty.
    pub audit: String,
    /// Where signups are forwarded to instead of the stub, which records too much for a load.
    pub upstream: Option<SocketAddr>,
    /// `[seal]` of the vault's configuration, whole; none when empty.
    pub seal_keys: String,
    /// Variables of the vault's environment.
    pub environment: Vec<(String, String)>,
    /// age public keys that the vault encrypts backups to.
    pub recipients: Vec<String>,
    /// Tables added to the end of `vault.toml`.
    pub vault_tables: &'static str,
    /// Tables added to the end of `gateway.toml`.
    pub gateway_tables: &'static str,
    /// Routes added to the end of `routes.toml`; `@SIGNUP@` is the address of the signup stub.
    pub routes: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            signup: Arc::new(|_: &Received| stub::json(201, &serde_json::json!({"welcome": true}))),
            processor: Arc::new(|_: &Received| stub::json(200, &serde_json::json!({"status": "approved"}))),
            seal: SealKind::DevFile,
            gateway: true,
            workers: 2,
            audit: String::new(),
            upstream: None,
            seal_keys: String::new(),
            environment: Vec::new(),
            recipients: Vec::new(),
            vault_tables: "",
            gateway_tables: "",
            routes: String::new(),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("seal", &self.seal)
            .field("gateway", &self.gateway)
            .finish_non_exhaustive()
    }
}

/// The running stack. Dropping it ends every process and removes its directory.
#[derive(Debug)]
pub struct Stack {
    /// The vault.
    pub vault: Daemon,
    /// The gateway, if asked for.
    pub gateway: Option<Daemon>,
    /// What stands for the merchant's signup service.
    pub signup: Stub,
    /// What stands for the card processor.
    pub processor: Stub,
    /// The authority that every part trusts.
    pub authority: Authority,
    /// Shares of a Shamir seal, to unseal again after a restart.
    shares: Vec<(String, ShareText)>,
    dir: TempDir,
    options: Options,
}

/// Services of the bundle, each with a certificate.
const SERVICES: [&str; 13] = [
    "gateway-ingress",
    "gateway-egress",
    "importer",
    "signup",
    "billing",
    "operator",
    "monitor",
    "renewals",
    "custodian-1",
    "custodian-2",
    "custodian-3",
    "custodian-4",
    "custodian-5",
];

/// Custodians of the bundle.
pub const CUSTODIANS: [&str; 5] = ["custodian-1", "custodian-2", "custodian-3", "custodian-4", "custodian-5"];

/// All custodians, for shares in clear.
#[must_use]
pub fn custodians() -> Vec<NewCustodian> {
    CUSTODIANS.iter().map(|name| NewCustodian { name: (*name).to_owned(), recipient: None }).collect()
}

/// The one collection that the stack makes.
///
/// # Errors
/// Never: the name is valid.
pub fn cards() -> Result<CollectionName> {
    CollectionName::parse("cards").context("a collection name")
}

impl Stack {
    /// Starts everything, initialises, unseals and makes the collection `cards`.
    ///
    /// # Errors
    /// Any part did not come up.
    pub async fn start(options: Options) -> Result<Self> {
        let mut stack = Self::bare(options).await?;
        stack.initialise().await?;
        if stack.options.gateway {
            stack.start_gateway()?;
        }
        Ok(stack)
    }

    /// Starts a vault that nobody has initialised, and the stubs.
    ///
    /// # Errors
    /// Any part did not come up.
    pub async fn bare(options: Options) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("cordon-test-").tempdir()?;
        let authority = Authority::new(dir.path(), "ca")?;
        let processor_identity = authority.server("processor.cordon.test")?;
        let signup = Stub::start(None, Arc::clone(&options.signup)).await?;
        let processor = Stub::start(Some(&processor_identity), Arc::clone(&options.processor)).await?;
        for service in SERVICES {
            authority.client(service)?;
        }
        authority.server("vault.cordon.test")?;
        authority.server("gateway.cordon.test")?;
        write_bundle(
            &dir.path().join("policies"),
            options.upstream.unwrap_or(signup.address),
            processor.address,
            &authority,
            &options.routes,
        )?;
        write_vault_configuration(dir.path(), &options, None)?;
        let vault = start_vault(dir.path(), &options)?;
        Ok(Self { vault, gateway: None, signup, processor, authority, shares: Vec::new(), dir, options })
    }

    async fn initialise(&mut self) -> Result<()> {
        let custodians = match self.options.seal {
            SealKind::Shamir => custodians(),
            SealKind::DevFile | SealKind::Static | SealKind::Pkcs11 => Vec::new(),
        };
        let request = InitRequest { seal: self.options.seal, custodians, threshold: 3 };
        for share in self.administrator()?.init(&request).await?.shares {
            match share.delivery {
                Delivery::Text(text) => self.shares.push((share.custodian, text)),
                Delivery::Age(_) => bail!("nobody asked for an encrypted share"),
            }
        }
        self.unseal().await?;
        for custodian in CUSTODIANS {
            self.administrator_as(custodian)?.acknowledge().await?;
        }
        let collection =
            CreateCollection { name: cards()?, profile: TokenProfile::default(), expected_cards: 1_000_000 };
        self.administrator()?.create_collection(&collection).await?;
        Ok(())
    }

    /// The shares of a Shamir seal, each with its custodian; none under another seal.
    #[must_use]
    pub fn shares(&self) -> &[(String, ShareText)] {
        &self.shares
    }

    /// Gives as many shares as the seal wants, or asks a development seal to open.
    ///
    /// # Errors
    /// The vault is still sealed afterwards.
    pub async fn unseal(&self) -> Result<()> {
        let mut state = self.administrator()?.seal_status().await?.state;
        let mut shares = self.shares.iter();
        while state != SealState::Unsealed {
            let (custodian, share) = match (shares.next(), self.options.seal) {
                (Some((custodian, share)), _) => {
                    (custodian.as_str(), Some(ShareText::new(Zeroizing::new(share.expose().to_owned()))))
                }
                (None, SealKind::DevFile | SealKind::Static | SealKind::Pkcs11) => ("operator", None),
                (None, SealKind::Shamir) => bail!("all shares given and still sealed"),
            };
            let request = UnsealRequest { share, acknowledge: true };
            state = self.administrator_as(custodian)?.unseal(&request).await?.state;
        }
        Ok(())
    }

    /// Starts the gateway against the vault's present addresses.
    ///
    /// # Errors
    /// It did not become ready.
    pub fn start_gateway(&mut self) -> Result<()> {
        write_gateway_configuration(self.dir.path(), self.vault.address("data")?, &self.options)?;
        self.launch_gateway()
    }

    /// Starts the gateway with this configuration.
    ///
    /// # Errors
    /// It did not become ready.
    pub fn start_gateway_as(&mut self, configuration: &str) -> Result<()> {
        write_private(&self.dir.path().join("gateway.toml"), configuration)?;
        self.launch_gateway()
    }

    fn launch_gateway(&mut self) -> Result<()> {
        let config = self.dir.path().join("gateway.toml");
        let log = self.dir.path().join("gateway.log");
        self.gateway = Some(Daemon::start("cordon-gateway", &["--config", &config.to_string_lossy()], &log)?);
        Ok(())
    }

    /// Starts the vault again on the addresses it had, as after a crash.
    ///
    /// # Errors
    /// It did not become ready.
    pub fn restart_vault(&mut self) -> Result<()> {
        let addresses = (self.vault.address("data")?, self.vault.address("admin")?);
        write_vault_configuration(self.dir.path(), &self.options, Some(addresses))?;
        self.vault = start_vault(self.dir.path(), &self.options)?;
        Ok(())
    }

    /// A configuration of the CLI for `service`.
    ///
    /// # Errors
    /// It can't be written.
    pub fn cli(&self, service: &str) -> Result<PathBuf> {
        let files = self.identity(service);
        let text = format!(
            "policies = \"policies\"\n[vault]\ndata = \"{}\"\nadmin = \"{}\"\nname = \"vault.cordon.test\"\n\
             roots = \"{}\"\ncert = \"{}\"\nkey = \"{}\"\n",
            self.vault.address("data")?,
            self.vault.address("admin")?,
            self.authority.root().display(),
            files.cert.display(),
            files.key.display()
        );
        let path = self.dir().join(format!("cordon-{service}.toml"));
        write_private(&path, &text)?;
        Ok(path)
    }

    /// Another `[audit]` for the vault, from its next start on.
    pub fn configure_audit(&mut self, audit: impl Into<String>) {
        self.options.audit = audit.into();
    }

    /// Another `[seal]` for the vault, from its next start on.
    pub fn configure_seal(&mut self, seal_keys: impl Into<String>) {
        self.options.seal_keys = seal_keys.into();
    }

    /// The run's directory: configurations, data, logs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Certificate files of a service.
    #[must_use]
    pub fn identity(&self, service: &str) -> Files {
        let dir = self.dir.path();
        Files { cert: dir.join(format!("ca-{service}.pem")), key: dir.join(format!("ca-{service}.key")) }
    }

    fn endpoint(&self, service: &str, listener: &str) -> Result<Endpoint> {
        let files = self.identity(service);
        let address = self.vault.address(listener)?.to_string();
        Ok(Endpoint::from_files(
            &address,
            "vault.cordon.test",
            &self.authority.root(),
            &files.cert,
            &files.key,
        )?)
    }

    /// Administration as the operator.
    ///
    /// # Errors
    /// A certificate can't be read.
    pub fn administrator(&self) -> Result<Administrator> {
        self.administrator_as("operator")
    }

    /// Administration as `service`: a custodian, or one who may not.
    ///
    /// # Errors
    /// A certificate can't be read.
    pub fn administrator_as(&self, service: &str) -> Result<Administrator> {
        Ok(Administrator::new(self.endpoint(service, "admin")?))
    }

    /// Asks for an operation and has two custodians approve it.
    ///
    /// # Errors
    /// The vault refuses.
    pub async fn approve(&self, operation: &Operation) -> Result<()> {
        let id = self.administrator()?.request_approval(operation).await?.id;
        for custodian in ["custodian-1", "custodian-2"] {
            self.administrator_as(custodian)?.approve(&id).await?;
        }
        Ok(())
    }

    /// Destroys a key version of the collection that the harness uses, or a key-encryption key, with the approval of two
    /// custodians.
    ///
    /// # Errors
    /// It is refused.
    pub async fn destroy_key(&self, purpose: KeyPurpose, version: u32) -> Result<DestructionRecord> {
        let collection = if purpose == KeyPurpose::Kek { None } else { Some(cards()?) };
        self.approve(&Operation::DestroyKey { purpose, collection: collection.clone(), version }).await?;
        Ok(self.administrator()?.destroy_key(&DestroyRequest { purpose, collection, version }).await?)
    }

    /// Data calls without reveal, as `service`.
    ///
    /// # Errors
    /// A certificate can't be read.
    pub fn tokenizer(&self, service: &str) -> Result<Tokenizer> {
        Ok(Tokenizer::new(self.endpoint(service, "data")?))
    }

    /// The reveal call, as `service`.
    ///
    /// # Errors
    /// A certificate can't be read.
    pub fn revealer(&self, service: &str) -> Result<Revealer> {
        Ok(Revealer::new(self.endpoint(service, "data")?))
    }

    /// Why a token does not open for the route `charge`; none if it does.
    ///
    /// # Errors
    /// The whole call is refused.
    pub async fn opens(&self, token: &Token) -> Result<Option<ProblemCode>> {
        let answer = self.revealer("gateway-egress")?.detokenize(&cards()?, &cards::reveal(token)).await?;
        Ok(match answer.items.into_iter().next().context("one item")? {
            ItemResult::Ok(_) => None,
            ItemResult::Error(problem) => Some(problem.code),
        })
    }

    /// Address of one of the gateway's listeners.
    ///
    /// # Errors
    /// There is no gateway or no such listener.
    pub fn gateway_address(&self, listener: &str) -> Result<SocketAddr> {
        self.gateway.as_ref().context("a gateway")?.address(listener)
    }

    /// Sends `body` to the public side, as a browser does.
    ///
    /// # Errors
    /// No answer came.
    pub async fn browser(&self, path: &str, content: &str, body: impl Into<Bytes>) -> Result<Answer> {
        let request = Request::post(path)
            .header("host", "signup.cordon.test")
            .header("content-type", content)
            .body(Full::new(body.into()))?;
        self.browser_request(request).await
    }

    /// Sends any request to the public side.
    ///
    /// # Errors
    /// No answer came.
    pub async fn browser_request(&self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let tls = https::tls(&self.authority.root(), None)?;
        https::send(self.gateway_address("ingress")?, "gateway.cordon.test", &tls, request).await
    }

    /// Sends `body` to the egress side with the certificate of `service`.
    ///
    /// # Errors
    /// No answer came.
    pub async fn charge(&self, service: &str, path: &str, body: &serde_json::Value) -> Result<Answer> {
        let request = Request::post(path)
            .header("host", "gateway.cordon.test")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))?;
        let tls = https::tls(&self.authority.root(), Some(&self.identity(service)))?;
        https::send(self.gateway_address("egress")?, "gateway.cordon.test", &tls, request).await
    }

    /// Replaces a text that stands in `file` of the run's directory, for daemons that start afterwards.
    ///
    /// # Errors
    /// It does not stand there.
    pub fn rewrite(&self, file: &str, from: &str, to: &str) -> Result<()> {
        let path = self.dir.path().join(file);
        let text = fs::read_to_string(&path)?;
        anyhow::ensure!(text.contains(from), "{file} has no {from}");
        Ok(fs::write(&path, text.replacen(from, to, 1))?)
    }

    /// Signs a card up and gives the token that the service got for it.
    ///
    /// # Errors
    /// It was refused.
    pub async fn token_of(&self, pan: &str) -> Result<String> {
        let body = serde_json::json!({"card": {"number": pan, "expiry": "12/30", "cvc": "123"}});
        self.browser("/signup", "application/json", body.to_string()).await?;
        let got = self.signup.requests().pop().context("a signup")?;
        let value: serde_json::Value = serde_json::from_slice(&got.body)?;
        let token = value.pointer("/card/number").and_then(|token| token.as_str());
        Ok(token.context("a token")?.to_owned())
    }

    /// Directory of the vault's store and audit log.
    #[must_use]
    pub fn vault_data(&self) -> PathBuf {
        self.dir.path().join("vault-data")
    }

    /// Text of all audit lines of `vault` or `gateway`.
    #[must_use]
    pub fn audit(&self, daemon: &str) -> String {
        let dir = self.dir.path().join(format!("{daemon}-data")).join("audit");
        let mut files: Vec<_> =
            fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
        files.sort();
        files.iter().filter_map(|path| fs::read_to_string(path).ok()).collect()
    }

    /// Waits until `claim` holds.
    ///
    /// # Errors
    /// It did not within the patience of the run.
    pub async fn until(&self, what: &str, mut claim: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + crate::patience();
        while !claim() {
            if Instant::now() > deadline {
                bail!("waited in vain until {what}");
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

fn start_vault(dir: &Path, options: &Options) -> Result<Daemon> {
    let mut command = std::process::Command::new(crate::process::binary("cordon-vault")?);
    command.arg("--config").arg(dir.join("vault.toml"));
    command.envs(options.environment.iter().map(|(name, value)| (name, value)));
    Daemon::launch(command, &dir.join("vault.log"))
}
