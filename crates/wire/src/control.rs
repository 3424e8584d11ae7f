//! What a gateway tells its operator over its control socket, and what it can be told to do.
//! Must never carry anything of a request. Tests: `tests/tests/reload.rs`.

use crate::attest::AuditSink;
use serde::{Deserialize, Serialize};

/// Answer of `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayStatus {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The environment whose tokens it takes.
    pub environment: String,
    /// Digest of the bundle in force (SHA-256, hexadecimal).
    pub bundle: String,
    /// Since when it is (RFC 3339, UTC).
    pub since: String,
    /// What was wrong with the last one that it was told to take, if it did not take it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// Whether it stops.
    pub draining: bool,
    /// Requests that are being served.
    pub in_flight: usize,
    /// Copies of its audit log and events, and how they stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<AuditSink>,
}

/// Answer of `GET /v1/routes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayRoutes {
    /// Digest of the bundle in force.
    pub bundle: String,
    /// In the bundle's order, ways in first.
    pub routes: Vec<GatewayRoute>,
}

/// A route in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayRoute {
    /// `ingress` or `egress`.
    pub plane: String,
    /// Its name.
    pub name: String,
    /// Hosts it answers to; none on the way out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Services that may use it; none on the way in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// Methods.
    pub methods: Vec<String>,
    /// Path, or the beginning of one with `*`.
    pub path: String,
    /// The service or the destination behind it.
    pub to: String,
    /// Fields in which something is swapped, held, masked or dropped.
    pub fields: usize,
    /// `closed`: requests pass. `open`: its target does not answer, requests are refused. `half-open`: one is tried.
    pub breaker: String,
}

/// Answer of `POST /v1/reload`: 200 when the bundle is in force, 422 when it is refused and the one before stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Digest of the bundle in force.
    pub bundle: String,
    /// Whether it is another one than before.
    pub changed: bool,
    /// Why the new one was refused, with file and line where there is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
}

/// Answer of `POST /v1/drain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draining {
    /// Requests that are being served.
    pub in_flight: usize,
    /// Seconds until what is not ready is cut off.
    pub within_s: u64,
}
