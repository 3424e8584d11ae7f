//! Request and response types of the vault API, its limits and its problem codes.
//!
//! Must never hold logic, do I/O, or give a PAN, CVV or share a way out other than the fields that carry it.
//! Tests: golden JSON and properties in `crates/wire/tests`.
//!
//! Used by: `client`, `vault`, `gateway`, `cli`. Uses: `card`, serde.

mod admin;
mod approval;
mod attest;
mod control;
mod custody;
mod data;
mod key_state;
pub mod limits;
mod problem;
mod rehearsal;
mod restore;
mod retention;
mod rewrap;
mod secret;
mod store;
mod submitted;

pub use admin::{
    AuditPage, Collection, CollectionList, CreateCollection, HardeningItem, InitRequest, InitResponse,
    KeyInfo, KeyList, KeyPurpose, KeyState, RotateRequest, RotateResponse, SealKind, SealState, SealStatus,
    Status, StoreStatus, TokenProfile, TokenShapeChoice, TokenUse, UnsealRequest,
};
pub use approval::{
    APPROVALS_NEEDED, Approval, ApprovalList, ApprovalRequest, ApprovalState, ExportRequest, Operation,
};
pub use attest::{AuditCosigned, AuditSink, AuditStatus, AuditSubmission, CosignedStatus};
pub use control::{Draining, GatewayRoute, GatewayRoutes, GatewayStatus, Reloaded};
pub use custody::{
    Custodian, CustodianList, Delivery, IssuedShare, NewCustodian, RekeyList, RekeyRequest, RekeyShare,
    RekeyState, RekeyStatus,
};
pub use data::{
    Card, DeleteRequest, Deleted, DetokenizeItem, DetokenizeRequest, InspectRequest, Inspected, ItemResult,
    Items, LookupItem, LookupRequest, LookupResult, Recognized, Revealed, SettleRequest, Settled,
    TokenizeItem, TokenizeRequest, Tokenized,
};
pub use key_state::{KeyChange, KeyStateRequest, KeyStateResponse};
pub use problem::{ItemProblem, Problem, ProblemCode};
pub use rehearsal::{Played, Rehearse, Rehearsed};
pub use restore::{AcceptRestore, AwaitingRestore, RestoreAccepted};
pub use retention::{RetainReason, Retention, RetentionReport, RetentionRequest, RetentionStatus};
pub use rewrap::{
    DEFAULT_REWRAP_RATE, DestroyRequest, DestructionRecord, RewrapList, RewrapRequest, RewrapState,
    RewrapStatus, VersionNeed,
};
pub use secret::ShareText;
pub use store::{StoreCount, StoreFault, StoreFaultKind, StoreReport};
pub use submitted::{Submitted, SubmittedSecret};

/// Media type of every problem document (RFC 9457 section 3).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Header that carries the request id in both directions.
pub const REQUEST_ID: &str = "cordon-request-id";

/// Header of the gateway's answers that tells the status of the upstream's, whatever became of it.
pub const UPSTREAM_STATUS: &str = "cordon-upstream-status";

/// Header of answers that the gateway made itself: the problem's code.
pub const ERROR: &str = "cordon-error";
