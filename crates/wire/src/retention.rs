//! How long records are kept, whether any is kept longer, and what older copies can still show of erased ones.
//! Must never carry a token or a card. Tests: below, `tests/tests/retention.rs`.

use cordon_card::CollectionName;
use serde::{Deserialize, Serialize};

/// How long the records of a collection are kept (PCI DSS 3.2.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retention {
    /// So many days from the day their token was made; then they are erased.
    Days(u32),
    /// Without an end, for this reason.
    Reason(RetainReason),
}

impl Retention {
    /// Whether this ends the time of some cards earlier than the rule before did.
    #[must_use]
    pub fn shortens(&self, before: Option<&Self>) -> bool {
        match (self, before) {
            (Self::Reason(_), _) => false,
            (Self::Days(days), Some(Self::Days(before))) => days < before,
            (Self::Days(_), Some(Self::Reason(_)) | None) => true,
        }
    }
}

/// The business reason to keep cards without an end: a lower-case letter, then up to 62 lower-case letters, digits or
/// hyphens. A name and not free text, so that it can stand in the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RetainReason(String);

impl RetainReason {
    /// Reads a reason; none if it has another form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // The form is that of a collection's name.
        CollectionName::parse(text).ok().map(|name| Self(name.as_str().to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RetainReason {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
            .ok_or("a reason is a lower-case letter, then lower-case letters, digits or hyphens")
    }
}

impl From<RetainReason> for String {
    fn from(reason: RetainReason) -> Self {
        reason.0
    }
}

/// Body of `POST /v1/retention`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionRequest {
    /// The collection.
    pub collection: CollectionName,
    /// How long its records are kept from now on, those included that it has.
    pub retention: Retention,
}

/// Answer of `GET /v1/retention`, and of `POST /v1/retention/verify`, which begins a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionReport {
    /// Whether a run is erasing or counting now.
    pub running: bool,
    /// Verifications that were asked for since the vault started.
    pub asked: u64,
    /// Verifications that ended since the vault started.
    pub verified: u64,
    /// When the last one ended (RFC 3339, UTC), also of an earlier start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<String>,
    /// Whether every collection kept the rules by the last verification.
    pub good: bool,
    /// By collection.
    pub collections: Vec<RetentionStatus>,
}

/// One collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionStatus {
    /// The collection.
    pub collection: CollectionName,
    /// Its rule; none was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Records it had at the last verification.
    pub records: u64,
    /// Of these, kept longer than they may be.
    pub over_age: u64,
    /// Of these, without an end and without a reason.
    pub without_reason: u64,
    /// Of these, not the records of their rows: moved there, or with a date that is not the one sealed in them.
    #[serde(default)]
    pub broken: u64,
    /// When the oldest token was made (RFC 3339, UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
    /// Erased records that copies of the store can still show, because a key they were under exists.
    pub exposed: u64,
    /// When the first of these was erased, to the day (RFC 3339, UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed_since: Option<String>,
    /// Whether that is longer ago than it may be.
    pub shred_overdue: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_days_or_a_reason_that_is_a_name() {
        let reads = |text: &str| serde_json::from_str::<Retention>(text).ok();
        assert_eq!(reads(r#"{"days":400}"#), Some(Retention::Days(400)));
        let reason = RetainReason::parse("subscription").unwrap();
        assert_eq!(reads(r#"{"reason":"subscription"}"#), Some(Retention::Reason(reason)));
        for wrong in [r#"{"reason":"4111 1111"}"#, r#"{"reason":""}"#, r#"{"days":-1}"#, r#""for-ever""#] {
            assert_eq!(reads(wrong), None, "{wrong}");
        }
    }
}
