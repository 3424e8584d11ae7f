//! Client of the vault API over HTTP/2 and mutual TLS 1.3.
//!
//! Tokenizing, revealing and administering are three types, so that a part of the gateway or the CLI holds
//! only the power it needs. Must never log a body or keep one after the answer is parsed.
//! Tests: the workspace's `tests` crate against the real vault.
//!
//! Used by: `gateway`, `cli`, `bench`. Uses: `card`, `wire`, hyper, rustls.

mod endpoint;
mod transport;

pub use endpoint::Endpoint;

use cordon_card::CollectionName;
use cordon_wire::{
    AuditPage, Collection, CollectionList, CreateCollection, DeleteRequest, Deleted, DestroyRequest,
    DestructionRecord, DetokenizeRequest, InitRequest, InitResponse, InspectRequest, Inspected, Items,
    KeyList, LookupRequest, LookupResult, Problem, Revealed, RewrapList, RewrapRequest, RewrapStatus,
    RotateRequest, RotateResponse, SealStatus, SettleRequest, Settled, Status, TokenizeRequest, Tokenized,
    UnsealRequest,
};
use transport::Transport;

/// Why a call gave no answer of its own type. Holds no request text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The vault refused the call and said why.
    #[error("the vault refused: {} ({})", .0.title, .0.code.as_str())]
    Problem(Box<Problem>),
    /// No connection, or it broke, or TLS was refused.
    #[error("the vault can't be reached: {0}")]
    Unreachable(&'static str),
    /// No answer in time.
    #[error("the vault did not answer in time")]
    TimedOut,
    /// An answer this client does not understand.
    #[error("the vault's answer is not understood; are the versions the same?")]
    Malformed,
    /// Certificates, keys or names that can't be used.
    #[error("client configuration: {0}")]
    Configuration(String),
}

/// May tokenize, look up, inspect and delete; has no way to reveal.
#[derive(Debug, Clone)]
pub struct Tokenizer(Transport);

impl Tokenizer {
    /// A client that connects on first use and again when a connection is lost.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self(Transport::new(endpoint))
    }

    /// `POST /v1/collections/{c}/tokenize`.
    ///
    /// # Errors
    /// [`ClientError`]; items refused alone are in the answer.
    pub async fn tokenize(
        &self,
        collection: &CollectionName,
        request: &TokenizeRequest,
    ) -> Result<Items<Tokenized>, ClientError> {
        self.0.post(&data_path(collection, "tokenize"), request).await
    }

    /// `POST /v1/collections/{c}/lookup`.
    ///
    /// # Errors
    /// [`ClientError`]; items refused alone are in the answer.
    pub async fn lookup(
        &self,
        collection: &CollectionName,
        request: &LookupRequest,
    ) -> Result<Items<LookupResult>, ClientError> {
        self.0.post(&data_path(collection, "lookup"), request).await
    }

    /// `POST /v1/collections/{c}/inspect`.
    ///
    /// # Errors
    /// [`ClientError`]; items refused alone are in the answer.
    pub async fn inspect(
        &self,
        collection: &CollectionName,
        request: &InspectRequest,
    ) -> Result<Items<Inspected>, ClientError> {
        self.0.post(&data_path(collection, "inspect"), request).await
    }

    /// `POST /v1/collections/{c}/delete`.
    ///
    /// # Errors
    /// [`ClientError`]; items refused alone are in the answer.
    pub async fn delete(
        &self,
        collection: &CollectionName,
        request: &DeleteRequest,
    ) -> Result<Items<Deleted>, ClientError> {
        self.0.post(&data_path(collection, "delete"), request).await
    }
}

/// May reveal; has no other power.
#[derive(Debug, Clone)]
pub struct Revealer(Transport);

impl Revealer {
    /// A client that connects on first use and again when a connection is lost.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self(Transport::new(endpoint))
    }

    /// `POST /v1/collections/{c}/detokenize`. Never sent twice: a reveal can be a one-time act.
    ///
    /// # Errors
    /// [`ClientError`]; items refused alone are in the answer.
    pub async fn detokenize(
        &self,
        collection: &CollectionName,
        request: &DetokenizeRequest,
    ) -> Result<Items<Revealed>, ClientError> {
        self.0.post(&data_path(collection, "detokenize"), request).await
    }

    /// `POST /v1/collections/{c}/settle`: the destination answered, nothing may be held for these tokens any more.
    ///
    /// # Errors
    /// [`ClientError`]; items refused alone are in the answer.
    pub async fn settle(
        &self,
        collection: &CollectionName,
        request: &SettleRequest,
    ) -> Result<Items<Settled>, ClientError> {
        self.0.post(&data_path(collection, "settle"), request).await
    }
}

/// May administer: seal, keys, collections, status and the audit log.
#[derive(Debug, Clone)]
pub struct Administrator(Transport);

impl Administrator {
    /// A client that connects on first use and again when a connection is lost.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self(Transport::new(endpoint))
    }

    /// `GET /v1/seal`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn seal_status(&self) -> Result<SealStatus, ClientError> {
        self.0.get("/v1/seal").await
    }

    /// `POST /v1/seal/init`: the answer holds the shares, once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn init(&self, request: &InitRequest) -> Result<InitResponse, ClientError> {
        self.0.post("/v1/seal/init", request).await
    }

    /// `POST /v1/seal/unseal` with one share.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn unseal(&self, request: &UnsealRequest) -> Result<SealStatus, ClientError> {
        self.0.post("/v1/seal/unseal", request).await
    }

    /// `POST /v1/seal/seal`: keys leave memory.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn seal(&self) -> Result<SealStatus, ClientError> {
        self.0.post("/v1/seal/seal", &serde_json::Map::new()).await
    }

    /// `GET /v1/status`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.0.get("/v1/status").await
    }

    /// `GET /v1/collections`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn collections(&self) -> Result<CollectionList, ClientError> {
        self.0.get("/v1/collections").await
    }

    /// `POST /v1/collections`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_collection(&self, request: &CreateCollection) -> Result<Collection, ClientError> {
        self.0.post("/v1/collections", request).await
    }

    /// `GET /v1/keys`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn keys(&self) -> Result<KeyList, ClientError> {
        self.0.get("/v1/keys").await
    }

    /// `POST /v1/keys/rotate`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rotate(&self, request: &RotateRequest) -> Result<RotateResponse, ClientError> {
        self.0.post("/v1/keys/rotate", request).await
    }

    /// `POST /v1/keys/rewrap`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rewrap(&self, request: &RewrapRequest) -> Result<RewrapStatus, ClientError> {
        self.0.post("/v1/keys/rewrap", request).await
    }

    /// `GET /v1/keys/rewrap`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rewraps(&self) -> Result<RewrapList, ClientError> {
        self.0.get("/v1/keys/rewrap").await
    }

    /// `POST /v1/keys/destroy`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn destroy_key(&self, request: &DestroyRequest) -> Result<DestructionRecord, ClientError> {
        self.0.post("/v1/keys/destroy", request).await
    }

    /// `GET /v1/audit`: raw lines from index `from`, at most `limit`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit_page(&self, from: u64, limit: usize) -> Result<AuditPage, ClientError> {
        self.0.get(&format!("/v1/audit?from={from}&limit={limit}")).await
    }
}

fn data_path(collection: &CollectionName, call: &str) -> String {
    format!("/v1/collections/{collection}/{call}")
}
