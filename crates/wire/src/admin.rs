//! Administration: seal, collections, keys, status, audit pages.
//! Must never carry key bytes; a share travels only in `InitResponse` and `UnsealRequest`.
//! Tests: `crates/wire/tests/golden.rs`.

use crate::{AuditStatus, AwaitingRestore, IssuedShare, NewCustodian, ShareText};
use cordon_card::{CollectionName, Environment};
use serde::{Deserialize, Serialize};

/// Body of `POST /v1/seal/init`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitRequest {
    /// How the root key is sealed.
    pub seal: SealKind,
    /// Who holds the shares, one each (Shamir only).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub custodians: Vec<NewCustodian>,
    /// Shares needed to unseal (Shamir only).
    #[serde(default = "default_threshold")]
    pub threshold: u8,
}

const fn default_threshold() -> u8 {
    3
}

/// What seals the root key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SealKind {
    /// Shamir secret sharing among custodians (PCI DSS 3.6.1.2).
    #[default]
    Shamir,
    /// A key file for development; refused by a live environment.
    DevFile,
    /// A key in a file or systemd credential, under which the root key is sealed.
    Static,
    /// A key in an HSM, under which the root key is sealed.
    Pkcs11,
}

/// Answer to an initialisation. Shares in clear are shown once and kept nowhere.
#[derive(Debug, Serialize, Deserialize)]
pub struct InitResponse {
    /// One share per custodian; empty for the development seal.
    pub shares: Vec<IssuedShare>,
    /// The state after it.
    pub status: SealStatus,
}

/// Body of `POST /v1/seal/unseal`. Without a share it unseals by the key that seals, where there are no shares.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnsealRequest {
    /// One custodian's share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<ShareText>,
    /// The custodian acknowledges the duties (PCI DSS 3.7.8): needed with the first share, remembered then.
    #[serde(default)]
    pub acknowledge: bool,
}

impl SealKind {
    /// The name in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            SealKind::Shamir => "shamir",
            SealKind::DevFile => "dev-file",
            SealKind::Static => "static",
            SealKind::Pkcs11 => "pkcs11",
        }
    }
}

/// Where the vault stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SealState {
    /// `init` has not been run.
    Uninitialized,
    /// Keys are not in memory.
    Sealed,
    /// Serving.
    Unsealed,
}

/// Answer of `GET /v1/seal` and of every seal operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealStatus {
    /// Where the vault stands.
    pub state: SealState,
    /// The environment its keys and tokens belong to.
    pub environment: Environment,
    /// What seals the root key, once initialised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<SealKind>,
    /// Shares needed to unseal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u8>,
    /// Shares that exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<u8>,
    /// Name of the static key, or label of the HSM's, under which the root key is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Distinct valid shares given in the current attempt.
    pub progress: u8,
}

/// Digits or letters a collection's tokens are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenShapeChoice {
    /// `tok_<env>_...`, the default.
    Opaque,
    /// Digits of the card's length, never Luhn-valid.
    Card,
    /// UUID version 4.
    Uuid,
}

/// How often a token may be revealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenUse {
    /// One token per card and collection, for ever.
    Multi,
    /// A new token each time, revealed once.
    Single,
}

/// The shape and life of a collection's tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenProfile {
    /// What they look like.
    pub shape: TokenShapeChoice,
    /// Card shape only: keep the card's last four digits.
    #[serde(default)]
    pub keep_last_four: bool,
    /// Multi-use or single-use.
    #[serde(rename = "use")]
    pub usage: TokenUse,
    /// Seconds until a token expires; none means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
}

impl Default for TokenProfile {
    fn default() -> Self {
        Self { shape: TokenShapeChoice::Opaque, keep_last_four: false, usage: TokenUse::Multi, ttl_s: None }
    }
}

/// Body of `POST /v1/collections`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateCollection {
    /// Its name.
    pub name: CollectionName,
    /// Its tokens.
    #[serde(default)]
    pub profile: TokenProfile,
    /// Cards it is planned to hold; a profile too small for it is refused.
    #[serde(default = "default_expected_cards")]
    pub expected_cards: u64,
}

const fn default_expected_cards() -> u64 {
    1_000_000
}

/// A collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// Its name.
    pub name: CollectionName,
    /// Its number in records and keys.
    pub id: u32,
    /// Its tokens.
    pub profile: TokenProfile,
    /// Cards it is planned to hold.
    pub expected_cards: u64,
    /// When it was made (RFC 3339, UTC).
    pub created_at: String,
}

/// Answer of `GET /v1/collections`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CollectionList {
    /// By name.
    pub collections: Vec<Collection>,
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyPurpose {
    /// Wraps data and index keys.
    Kek,
    /// Seals records of one collection.
    Data,
    /// Keys the fingerprint index of one collection.
    Index,
}

impl KeyPurpose {
    /// As JSON and the command line name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kek => "kek",
            Self::Data => "data",
            Self::Index => "index",
        }
    }
}

/// State of a key version (NIST SP 800-57 part 1, section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// Made, not yet used.
    PreActive,
    /// Protects and processes.
    Active,
    /// Out of use for now.
    Suspended,
    /// Processes only.
    Deactivated,
    /// Known or feared to be known to others; opens only to rescue records.
    Compromised,
    /// Its bytes are gone.
    Destroyed,
}

/// A key version without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// Stable id.
    pub id: String,
    /// What it is for.
    pub purpose: KeyPurpose,
    /// The collection, for data and index keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<CollectionName>,
    /// Version within purpose and collection, from 1.
    pub version: u32,
    /// Its state.
    pub state: KeyState,
    /// When it was made (RFC 3339, UTC).
    pub created_at: String,
    /// Since when it is in this state (RFC 3339, UTC).
    pub since: String,
    /// When its cryptoperiod as protecting key ends (RFC 3339, UTC).
    pub cryptoperiod_end: String,
    /// From when on an active key protects nothing more (RFC 3339, UTC).
    pub refused_after: String,
    /// When nothing should be left under it (RFC 3339, UTC).
    pub opens_until: String,
    /// How often it was used at most: uses are counted in reserved blocks.
    pub uses: u64,
    /// How often it may be used; none for index keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
    /// Records that need it, by the last count of a rewrap run; none if nothing was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
}

/// Answer of `GET /v1/keys`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeyList {
    /// All versions, by purpose, collection and version.
    pub keys: Vec<KeyInfo>,
}

/// Body of `POST /v1/keys/rotate`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// Which kind of key.
    pub purpose: KeyPurpose,
    /// The collection of a data or index key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<CollectionName>,
}

/// Answer to a rotation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RotateResponse {
    /// The version that protects from now on.
    pub active: KeyInfo,
}

/// One hardening knob as observed in the running process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardeningItem {
    /// Its name, e.g. `core_dumps_off`.
    pub name: String,
    /// Whether it is in force.
    pub in_force: bool,
    /// Why the vault's configuration does without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without: Option<String>,
}

/// Store figures.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Engine name.
    pub engine: String,
    /// Sequence of the last durable commit.
    pub sequence: u64,
    /// Durable commits since start.
    pub commits: u64,
    /// Approximate bytes on disk.
    pub disk_bytes: u64,
}

/// Answer of `GET /v1/status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Version of the vault.
    pub version: String,
    /// Seconds since start.
    pub uptime_s: u64,
    /// Where it stands.
    pub seal: SealStatus,
    /// Collections it has.
    pub collections: u64,
    /// Security codes held in memory now.
    pub held_cvvs: u64,
    /// Lines in the audit log.
    pub audit_size: u64,
    /// How the audit log stands.
    #[serde(default)]
    pub audit: AuditStatus,
    /// Store figures.
    pub store: StoreStatus,
    /// Hardening knobs.
    pub hardening: Vec<HardeningItem>,
    /// Digest of the loaded policy bundle.
    pub policy_digest: String,
    /// The restore that nothing is served from until it is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaiting_restore: Option<AwaitingRestore>,
    /// When the last backup since start was taken (RFC 3339, UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<String>,
    /// What an operator should look at, in words.
    pub warnings: Vec<String>,
}

/// Answer of `GET /v1/audit?from=N&limit=M`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditPage {
    /// Raw audit lines, oldest first.
    pub lines: Vec<String>,
    /// Index to ask for next.
    pub next: u64,
}
