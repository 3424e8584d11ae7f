//! The policy bundle: loading and validating it, and every decision taken from it.
//!
//! A bundle says who may reach what (`segments.toml`), what passes through the gateway (`routes.toml`) and under which
//! conditions (`*.cedar` statements over `schema.cedarschema`). [`Bundle::load`] finds every fault of it at once;
//! [`Bundle::decide`] is the only maker of a [`Permit`], which the effects of the vault and the gateway consume.
//!
//! Must never decide from a bundle that did not pass every check, and never allow on an error.
//! Tests: beside each module, `crates/policy/tests`, and the case files in `policies/cases`.
//!
//! Used by: `vault`, `gateway`, `cli`. Uses: `card`, and it alone `cedar-policy`.

mod action;
mod bundle;
mod cases;
mod day;
mod decide;
mod explain;
mod fault;
mod flows;
mod grants;
mod known;
mod place;
mod prove;
mod routes;
mod rows;
mod segments;
mod selector;
pub mod shipped;
mod statements;

pub use action::{
    Action, ActionKind, Administer, Approve, Delete, Detokenize, Export, Forward, Inspect, Lookup, Observe,
    Recognize, Send, Settle, Tokenize, UnknownAction,
};
pub use bundle::Bundle;
pub use cases::{Case, CaseReport, Expect, load_cases, load_route_cases};
pub use day::Day;
pub use decide::{Ask, AskPart, Permit, Refusal, RefusalKind};
pub use explain::Explanation;
pub use fault::{Fault, Faults};
pub use flows::{Carries, End, Flow};
pub use grants::{Grant, Grants};
pub use place::{FixedColumns, Half, HeadPlace, PathTemplate, Places, TextSelector, XmlSelector};
pub use prove::{Basis, Claim};
pub use routes::{
    AbuseAction, AbuseKey, AbuseLimit, AbuseRule, AnswerOp, Content, Decision, EgressOp, EgressRoute,
    Exception, ExpiryWriting, Field, IngressOp, IngressRoute, JwsAlgorithm, LeakCheck, LookInside, OnLeak,
    Outcome, OutcomePlace, Passing, PathPattern, Routes, Side, Signature, SignatureEncoding, SignatureScheme,
    SignedPart, Upstream,
};
pub use segments::{Collection, Destination, Listener, Process, Role, Scope, Segment, Segments, Service};
pub use selector::{JsonSelector, Pick, SelectorError, Step};
pub use statements::{Statement, StatementEffect};
