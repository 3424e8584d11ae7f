//! The vault: keys, sealed records, store engines, tokens and the API over them.
//!
//! Must never let a PAN, CVV or key reach a log, an error or the disk in clear. Tests: beside each module,
//! `vault/tests`, and the workspace's `tests` crate against the real binary.
//!
//! Used by: `cordon-vault` (the binary), `bench`. Uses: `card`, `wire`, `policy`, `audit`, `daemon`.

pub mod api;
pub mod approvals;
pub mod collections;
pub mod config;
pub mod error;
pub mod fingerprint;
pub mod keyring;
pub mod keys;
pub mod limits;
pub mod metrics;
pub mod mint;
pub mod record;
pub mod restore;
pub mod retention;
pub mod rewrap;
pub mod run;
pub mod sad;
pub mod seal;
pub mod store;
pub mod vault;
