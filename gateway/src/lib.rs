//! The gateway: card numbers become tokens on the way in, and cards again on the way to a listed destination only.
//!
//! Must never hold a key or a record, forward what it did not understand, or give a card number to a service.
//! The life of a request is `docs/request-life.md`, in the names of [`flow`]. Tests: beside each module, the fuzz
//! targets of its parsers, and the workspace's `tests` crate against the real binary.
//!
//! Used by: `cordon-gateway` (the binary), fuzz targets, `bench`.
//! Uses: `card`, `scan`, `wire`, `client` (tokenize and reveal), `policy`, `audit`, `daemon`.

pub mod abuse;
pub mod admission;
pub mod answer;
pub mod body;
pub mod coding;
pub mod config;
pub mod control;
pub mod egress;
pub mod events;
pub mod flow;
pub mod gateway;
pub mod head;
pub mod idempotency;
pub mod ingress;
pub mod keyed;
pub mod leak;
pub mod ledger;
pub mod media;
pub mod metrics;
pub mod outcome;
pub mod plan;
pub mod preview;
pub mod problem;
pub mod proxy;
pub mod rehearse;
pub mod reload;
pub mod route;
pub mod serve;
pub mod sign;
pub mod stream;
pub mod told;
pub mod trace;
pub mod upstream;
