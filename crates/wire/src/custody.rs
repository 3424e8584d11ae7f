//! Custodians: who holds which share, how shares reach them, and new shares or a new root key by their quorum.
//! Must never carry a share but in `Delivery`, `UnsealRequest` and `RekeyShare`. Tests: `tests/tests/custodians.rs`.

use crate::{SealKind, ShareText};
use serde::{Deserialize, Serialize};

/// Somebody who is to hold a share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewCustodian {
    /// The service of the bundle that will give the share: its certificate counts, not its word.
    pub name: String,
    /// The age recipient (`age1...`) the share is encrypted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
}

/// A share on its way to its custodian.
#[derive(Debug, Serialize, Deserialize)]
pub struct IssuedShare {
    /// The share's number, the custodian's for ever.
    pub number: u8,
    /// Whose it is.
    pub custodian: String,
    /// The share itself.
    #[serde(flatten)]
    pub delivery: Delivery,
}

/// How a share is handed over.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// Encrypted to the custodian's recipient: an armored age file.
    Age(String),
    /// In clear, to be shown once on a terminal.
    Text(ShareText),
}

/// A custodian, present or former.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Custodian {
    /// The service of the bundle.
    pub name: String,
    /// The number of the share; none for who has only acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u8>,
    /// The age recipient the share went to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// Since when it is held (RFC 3339, UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Until when it counted (RFC 3339, UTC); none while it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// When the custodian acknowledged the duties (PCI DSS 3.7.8; RFC 3339, UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_at: Option<String>,
}

/// Answer of `GET /v1/custodians`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustodianList {
    /// Present ones by number, then former ones, then those without a share.
    pub custodians: Vec<Custodian>,
}

/// Body of `POST /v1/seal/rekey`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RekeyRequest {
    /// What seals from then on. Unless that is shares before and after, two custodians must approve.
    #[serde(default)]
    pub to: SealKind,
    /// Also make a new root key.
    #[serde(default)]
    pub rotate_root: bool,
    /// Shares needed from then on; 0 where there are none.
    #[serde(default)]
    pub threshold: u8,
    /// Who holds a share from then on. All need a recipient.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub custodians: Vec<NewCustodian>,
}

/// Body of `POST /v1/seal/rekey/share`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RekeyShare {
    /// The ceremony it is given for.
    pub id: String,
    /// A present share while they are collected, a new one while they are proven.
    pub share: ShareText,
    /// The custodian acknowledges the duties.
    #[serde(default)]
    pub acknowledge: bool,
}

/// How far a rekey is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RekeyState {
    /// Present custodians give their shares.
    Collecting,
    /// New shares are out; a quorum of them has to come back before they count.
    Proving,
    /// The new shares count, the ones before do not.
    Done,
    /// Given up; nothing has changed.
    Aborted,
}

/// A rekey or root rotation.
#[derive(Debug, Serialize, Deserialize)]
pub struct RekeyStatus {
    /// Its id.
    pub id: String,
    /// Whether there is a new root key.
    pub rotate_root: bool,
    /// How far it is.
    pub state: RekeyState,
    /// Shares given in this step.
    pub given: u8,
    /// Shares needed in this step.
    pub needed: u8,
    /// What seals afterwards.
    pub to: SealKind,
    /// Shares needed to unseal afterwards; 0 where there are none.
    pub threshold: u8,
    /// Who holds a share afterwards.
    pub custodians: Vec<String>,
    /// The new shares, encrypted, once they are made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issued: Vec<IssuedShare>,
}

/// Answer of `GET /v1/seal/rekey`.
#[derive(Debug, Serialize, Deserialize)]
pub struct RekeyList {
    /// The one that is under way, if one is.
    pub rekeys: Vec<RekeyStatus>,
}
