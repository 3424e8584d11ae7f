//! Approvals: what two custodians must agree to before it is done, and where each request stands.
//! Must never let one approval stand for another operation: arguments are part of it. Tests: `tests/tests/approvals.rs`.

use crate::{AcceptRestore, KeyPurpose, RekeyRequest, Retention, RetentionRequest, SealKind};
use cordon_card::CollectionName;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An operation that needs approvals, exact in its arguments: two that differ in one argument are two operations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Operation {
    /// `keys destroy`.
    DestroyKey {
        /// What the key is for.
        purpose: KeyPurpose,
        /// Its collection; none for the key-encryption key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        collection: Option<CollectionName>,
        /// Its version.
        version: u32,
    },
    /// `export`.
    Export {
        /// The collection whose cards leave.
        collection: CollectionName,
        /// The age public key that they are encrypted to.
        recipient: String,
    },
    /// `seal migrate`: another seal, or a new root key under one without shares.
    ChangeSeal(RekeyRequest),
    /// `restore accept`: serving from a backup that was put back.
    AcceptRestore(AcceptRestore),
    /// `retention set`, where it ends the time of cards earlier than the rule before: whatever is over is erased.
    ShortenRetention(RetentionRequest),
}

/// Body of `POST /v1/export`: the answer is JSON lines, encrypted to the recipient.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportRequest {
    /// The collection whose cards leave.
    pub collection: CollectionName,
    /// The age public key that they are encrypted to.
    pub recipient: String,
}

impl From<ExportRequest> for Operation {
    fn from(request: ExportRequest) -> Self {
        Self::Export { collection: request.collection, recipient: request.recipient }
    }
}

impl Operation {
    /// Its kind, as JSON and audit lines name it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::DestroyKey { .. } => "destroy-key",
            Self::Export { .. } => "export",
            Self::ChangeSeal(_) => "change-seal",
            Self::AcceptRestore(_) => "accept-restore",
            Self::ShortenRetention(_) => "shorten-retention",
        }
    }

    /// The collection it is about, if it is about one.
    #[must_use]
    pub const fn collection(&self) -> Option<&CollectionName> {
        match self {
            Self::DestroyKey { collection, .. } => collection.as_ref(),
            Self::Export { collection, .. } | Self::ShortenRetention(RetentionRequest { collection, .. }) => {
                Some(collection)
            }
            Self::ChangeSeal(_) | Self::AcceptRestore(_) => None,
        }
    }
}

/// What a custodian is asked to approve, in words.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DestroyKey { purpose, collection: Some(collection), version } => {
                write!(f, "destroy {} key {version} of {collection}", purpose.as_str())
            }
            Self::DestroyKey { purpose, collection: None, version } => {
                write!(f, "destroy {} key {version}", purpose.as_str())
            }
            Self::Export { collection, recipient } => {
                write!(f, "export all cards of {collection} to {recipient}")
            }
            Self::ChangeSeal(RekeyRequest { to, rotate_root, threshold, custodians }) => {
                write!(f, "change the seal to {}", to.as_str())?;
                if *to == SealKind::Shamir {
                    write!(f, ", {threshold} of:")?;
                }
                for custodian in custodians {
                    let recipient = custodian.recipient.as_deref().unwrap_or("no recipient");
                    write!(f, " {} ({recipient})", custodian.name)?;
                }
                if *rotate_root { f.write_str(", with a new root key") } else { Ok(()) }
            }
            Self::ShortenRetention(RetentionRequest { collection, retention }) => match retention {
                Retention::Days(days) => {
                    write!(f, "erase all cards of {collection} that are older than {days} days, from now on")
                }
                Retention::Reason(reason) => {
                    write!(f, "keep the cards of {collection} without an end, for {}", reason.as_str())
                }
            },
            Self::AcceptRestore(AcceptRestore { backup, sequence, epoch, line }) => {
                let epoch = epoch.unwrap_or(0);
                write!(
                    f,
                    "accept the restored {backup} (commit {sequence}, epoch {epoch}, put back in audit line {line})"
                )
            }
        }
    }
}

/// Body of `POST /v1/approvals`. The answer is the request that is open for this operation, or a new one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRequest {
    /// What is to be approved.
    pub operation: Operation,
}

/// Where a request for approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApprovalState {
    /// Custodians are missing.
    Pending,
    /// Enough custodians agreed; the operation may be done once.
    Approved,
    /// A custodian refused.
    Rejected,
    /// The operation was begun with it.
    Used,
    /// Its time is over.
    Expired,
}

/// A request for approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Its id.
    pub id: String,
    /// What is to be approved.
    pub operation: Operation,
    /// Where it stands.
    pub state: ApprovalState,
    /// Custodians that must agree.
    pub needed: u8,
    /// Who asked.
    pub requested_by: String,
    /// When (RFC 3339, UTC).
    pub requested_at: String,
    /// Until when it can be approved and used (RFC 3339, UTC).
    pub expires_at: String,
    /// Custodians that agreed.
    pub approved_by: Vec<String>,
    /// The custodian that refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected_by: Option<String>,
}

/// Answer of `GET /v1/approvals`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApprovalList {
    /// Newest first.
    pub approvals: Vec<Approval>,
}

/// Custodians that must agree to an operation (PCI DSS 3.7.6: dual control).
pub const APPROVALS_NEEDED: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn destroy(version: u32) -> Operation {
        let collection = CollectionName::parse("cards").ok();
        Operation::DestroyKey { purpose: KeyPurpose::Data, collection, version }
    }

    #[test]
    fn an_operation_has_one_form_and_takes_no_other_field() {
        let text = r#"{"destroy-key":{"purpose":"data","collection":"cards","version":1}}"#;
        assert_eq!(serde_json::to_string(&destroy(1)).unwrap(), text);
        assert_eq!(serde_json::from_str::<Operation>(text).unwrap(), destroy(1));
        for wrong in [
            r#"{"destroy-key":{"purpose":"data","collection":"cards","version":1,"also":2}}"#,
            r#"{"destroy-key":{"purpose":"data","collection":"cards"}}"#,
            r#"{"destroy-everything":{}}"#,
        ] {
            assert!(serde_json::from_str::<Operation>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rule_says_what_is_erased() {
        let collection = CollectionName::parse("cards").unwrap();
        let rule = |days| {
            let retention = Retention::Days(days);
            Operation::ShortenRetention(RetentionRequest { collection: collection.clone(), retention })
        };
        assert_ne!(rule(2), rule(3));
        assert_eq!(rule(2).to_string(), "erase all cards of cards that are older than 2 days, from now on");
    }

    #[test]
    fn operations_that_differ_in_one_argument_differ() {
        assert_ne!(destroy(1), destroy(2));
        let kek = Operation::DestroyKey { purpose: KeyPurpose::Kek, collection: None, version: 1 };
        assert_ne!(destroy(1), kek);
        assert_eq!(destroy(1).to_string(), "destroy data key 1 of cards");
        assert_eq!(kek.to_string(), "destroy kek key 1");
        let alice = crate::NewCustodian { name: "alice".into(), recipient: Some("age1x".into()) };
        let shares = RekeyRequest { threshold: 2, custodians: vec![alice], ..RekeyRequest::default() };
        let said = Operation::ChangeSeal(shares.clone()).to_string();
        assert_eq!(said, "change the seal to shamir, 2 of: alice (age1x)");
        let hsm = RekeyRequest { to: SealKind::Pkcs11, rotate_root: true, ..RekeyRequest::default() };
        assert_ne!(Operation::ChangeSeal(shares), Operation::ChangeSeal(hsm.clone()));
        let said = Operation::ChangeSeal(hsm).to_string();
        assert_eq!(said, "change the seal to pkcs11, with a new root key");
        let restore = AcceptRestore { backup: "backup-x".into(), sequence: 30, epoch: Some(3), line: 7 };
        let accept = Operation::AcceptRestore(restore.clone());
        assert_eq!(
            accept.to_string(),
            "accept the restored backup-x (commit 30, epoch 3, put back in audit line 7)"
        );
        for other in [
            AcceptRestore { backup: "backup-y".into(), ..restore.clone() },
            AcceptRestore { sequence: 31, ..restore.clone() },
            AcceptRestore { epoch: None, ..restore.clone() },
            AcceptRestore { line: 8, ..restore },
        ] {
            assert_ne!(Operation::AcceptRestore(other), accept);
        }
    }
}
