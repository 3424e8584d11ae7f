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
    AcceptRestore, Approval, ApprovalList, ApprovalRequest, AuditCosigned, AuditPage, AuditStatus,
    AuditSubmission, Collection, CollectionList, CreateCollection, CustodianList, DeleteRequest, Deleted,
    DestroyRequest, DestructionRecord, DetokenizeRequest, ExportRequest, InitRequest, InitResponse,
    InspectRequest, Inspected, Items, KeyList, KeyStateRequest, KeyStateResponse, LookupRequest,
    LookupResult, Operation, Problem, Recognized, RekeyList, RekeyRequest, RekeyShare, RekeyStatus,
    RestoreAccepted, RetentionReport, RetentionRequest, Revealed, RewrapList, RewrapRequest, RewrapStatus,
    RotateRequest, RotateResponse, SealStatus, SettleRequest, Settled, Status, StoreReport, TokenizeRequest,
    Tokenized, UnsealRequest,
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
    /// What was sent can't be taken here: a disk, a closed pipe.
    #[error("what the vault sends can't be written: {0}")]
    Local(#[source] std::io::Error),
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

    /// The same client for calls made for another request: the vault's audit lines name it by this id, and the call is part of
    /// its trace (W3C `traceparent`).
    #[must_use]
    pub fn for_request(&self, id: &str, trace: &str) -> Self {
        Self(self.0.for_request(id, trace))
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

    /// `POST /v1/collections/{c}/recognize`.
    ///
    /// # Errors
    /// [`ClientError`]; items refused alone are in the answer.
    pub async fn recognize(
        &self,
        collection: &CollectionName,
        request: &LookupRequest,
    ) -> Result<Items<Recognized>, ClientError> {
        self.0.post(&data_path(collection, "recognize"), request).await
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

    /// The same client for calls made for another request: the vault's audit lines name it by this id, and the call is part of
    /// its trace (W3C `traceparent`).
    #[must_use]
    pub fn for_request(&self, id: &str, trace: &str) -> Self {
        Self(self.0.for_request(id, trace))
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

    /// `GET /v1/custodians`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn custodians(&self) -> Result<CustodianList, ClientError> {
        self.0.get("/v1/custodians").await
    }

    /// `POST /v1/custodians/acknowledge`, as a custodian.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn acknowledge(&self) -> Result<CustodianList, ClientError> {
        self.0.post("/v1/custodians/acknowledge", &serde_json::Map::new()).await
    }

    /// `GET /v1/seal/rekey`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rekeys(&self) -> Result<RekeyList, ClientError> {
        self.0.get("/v1/seal/rekey").await
    }

    /// `POST /v1/seal/rekey`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn begin_rekey(&self, request: &RekeyRequest) -> Result<RekeyStatus, ClientError> {
        self.0.post("/v1/seal/rekey", request).await
    }

    /// `POST /v1/seal/rekey/share`, as a custodian.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn give_rekey_share(&self, request: &RekeyShare) -> Result<RekeyStatus, ClientError> {
        self.0.post("/v1/seal/rekey/share", request).await
    }

    /// `POST /v1/seal/rekey/abort`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn abort_rekey(&self) -> Result<RekeyStatus, ClientError> {
        self.0.post("/v1/seal/rekey/abort", &serde_json::Map::new()).await
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

    /// `POST /v1/keys/state`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn change_key_state(&self, request: &KeyStateRequest) -> Result<KeyStateResponse, ClientError> {
        self.0.post("/v1/keys/state", request).await
    }

    /// `GET /v1/retention`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn retention(&self) -> Result<RetentionReport, ClientError> {
        self.0.get("/v1/retention").await
    }

    /// `POST /v1/retention`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_retention(&self, request: &RetentionRequest) -> Result<RetentionReport, ClientError> {
        self.0.post("/v1/retention", request).await
    }

    /// `POST /v1/retention/verify`: begins a verification.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn verify_retention(&self) -> Result<RetentionReport, ClientError> {
        self.0.post("/v1/retention/verify", &serde_json::Map::new()).await
    }

    /// `GET /v1/store/verify`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn store_report(&self) -> Result<StoreReport, ClientError> {
        self.0.get("/v1/store/verify").await
    }

    /// `POST /v1/store/verify`: begins a walk over all records.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn verify_store(&self) -> Result<StoreReport, ClientError> {
        self.0.post("/v1/store/verify", &serde_json::Map::new()).await
    }

    /// `POST /v1/keys/destroy`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn destroy_key(&self, request: &DestroyRequest) -> Result<DestructionRecord, ClientError> {
        self.0.post("/v1/keys/destroy", request).await
    }

    /// `POST /v1/backup`: an encrypted stream, handed to `take` as it comes. Gives its length. What `take` got is whole
    /// only if this gives one.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Local`] if `take` fails.
    pub async fn backup(&self, take: impl FnMut(&[u8]) -> std::io::Result<()>) -> Result<u64, ClientError> {
        self.0.download("/v1/backup", &serde_json::Map::new(), take).await
    }

    /// `POST /v1/restore/accept`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn accept_restore(&self, request: &AcceptRestore) -> Result<RestoreAccepted, ClientError> {
        self.0.post("/v1/restore/accept", request).await
    }

    /// `POST /v1/export`: as [`Administrator::backup`], for the cards of a collection.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Local`] if `take` fails.
    pub async fn export(
        &self,
        request: &ExportRequest,
        take: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<u64, ClientError> {
        self.0.download("/v1/export", request, take).await
    }

    /// `GET /v1/approvals`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn approvals(&self) -> Result<ApprovalList, ClientError> {
        self.0.get("/v1/approvals").await
    }

    /// `POST /v1/approvals`: asks custodians, or finds the request that is open for the same operation.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn request_approval(&self, operation: &Operation) -> Result<Approval, ClientError> {
        self.0.post("/v1/approvals", &ApprovalRequest { operation: operation.clone() }).await
    }

    /// `POST /v1/approvals/{id}/approve`, as a custodian.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn approve(&self, id: &str) -> Result<Approval, ClientError> {
        self.0.post(&format!("/v1/approvals/{id}/approve"), &serde_json::Map::new()).await
    }

    /// `POST /v1/approvals/{id}/reject`, as a custodian.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn reject(&self, id: &str) -> Result<Approval, ClientError> {
        self.0.post(&format!("/v1/approvals/{id}/reject"), &serde_json::Map::new()).await
    }

    /// `GET /v1/audit`: raw lines from index `from`, at most `limit`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit_page(&self, from: u64, limit: usize) -> Result<AuditPage, ClientError> {
        self.0.get(&format!("/v1/audit?from={from}&limit={limit}")).await
    }

    /// `GET /v1/audit/submission`: what a witness that has cosigned `from` lines needs.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit_submission(&self, from: u64) -> Result<AuditSubmission, ClientError> {
        self.0.get(&format!("/v1/audit/submission?from={from}")).await
    }

    /// `POST /v1/audit/cosigned`: a checkpoint as a witness returned it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn keep_cosigned(&self, cosigned: &AuditCosigned) -> Result<AuditStatus, ClientError> {
        self.0.post("/v1/audit/cosigned", cosigned).await
    }
}

fn data_path(collection: &CollectionName, call: &str) -> String {
    format!("/v1/collections/{collection}/{call}")
}
