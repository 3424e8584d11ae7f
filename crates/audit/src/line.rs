//! A line as read back: the same fields as an event, with its index and sum.
//!
//! It must never be made from anything but the bytes of a line. Tests: at the end of this file, `event/tests.rs`, and the
//! fuzz target `audit_line`.

use cordon_card::{CardId, CollectionName, Iin, Token};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

use crate::event::{Action, Outcome, Source, maybe_microseconds, microseconds};
use crate::name::Name;

/// One audit line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Place in the log, from 0.
    #[serde(rename = "n")]
    pub index: u64,
    /// When (UTC).
    #[serde(serialize_with = "microseconds")]
    pub at: Timestamp,
    /// When the first of several refusals happened that this line stands for; `at` is the last of them.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "maybe_microseconds")]
    pub since: Option<Timestamp>,
    /// Who: a service's name, or the URI of its certificate.
    pub who: Name,
    /// What.
    pub what: Action,
    /// How it ended.
    pub outcome: Outcome,
    /// From where.
    pub from: Source,
    /// Request id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Name>,
    /// The service acted for.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub acting_for: Option<Name>,
    /// Another target: a key, a digest, the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Name>,
    /// Collection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<CollectionName>,
    /// Tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Token>,
    /// Card ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cards: Vec<CardId>,
    /// Issuers' numbers of cards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub iins: Vec<Iin>,
    /// Destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Name>,
    /// Route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Name>,
    /// Purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Name>,
    /// Policy statements that decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<Name>,
    /// Items covered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<u64>,
    /// Reason code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Name>,
    /// Store sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<u64>,
    /// Epoch of the keyring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Running sum, base32.
    pub sum: Name,
}

impl Line {
    /// Reads a line, without its newline.
    ///
    /// # Errors
    /// [`LineError`]: not a JSON object with exactly the fields of an audit line. The bytes are not repeated.
    pub fn parse(bytes: &[u8]) -> Result<Line, LineError> {
        serde_json::from_slice(bytes).map_err(|error| LineError { column: error.column() })
    }

    /// The line as JSON, in the order of fields of the log.
    ///
    /// # Errors
    /// None known: every field has a JSON form.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// The bytes are not an audit line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an audit line (column {column})")]
pub struct LineError {
    column: usize,
}

impl LineError {
    /// The line is longer than any line, so it was not read to its end.
    pub(crate) fn too_long() -> LineError {
        LineError { column: crate::segment::LONGEST_LINE }
    }
}

/// The fields a start-up pass needs; others are skipped, so that an older program can open a newer log.
#[derive(Deserialize)]
pub(crate) struct Outline<'l> {
    #[serde(rename = "n")]
    pub(crate) index: u64,
    #[serde(default)]
    pub(crate) commit: Option<u64>,
    #[serde(default)]
    pub(crate) epoch: Option<u64>,
    #[serde(borrow)]
    what: Cow<'l, str>,
    #[serde(borrow)]
    outcome: Cow<'l, str>,
}

impl Outline<'_> {
    /// The store's tally was begun or taken up again.
    pub(crate) fn begins_tally(&self) -> bool {
        self.what == "store-verify" && self.outcome == "allowed" && self.commit.is_some()
    }

    /// Rows were written, or looked for where they would be written.
    pub(crate) fn is_of_rows(&self) -> bool {
        ["tokenize", "detokenize", "delete"].contains(&&*self.what)
    }

    /// The store's sequence, if this line says that a backup was put back or accepted.
    pub(crate) fn restored_commit(&self) -> Option<u64> {
        self.commit.filter(|_| self.what == "restore" && self.outcome == "allowed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"n":3,"at":"2026-05-06T07:08:09.000010Z","who":"signup","what":"tokenize","outcome":"denied","from":"10.0.0.9","on":"vault","reason":"no-statement","sum":"AAAAAAAAAAAAAAAAAAAAAAAAAA"}"#;

    #[test]
    fn a_line_reads_and_writes_the_same_bytes() {
        assert_eq!(Line::parse(GOOD.as_bytes()).unwrap().to_json().unwrap(), GOOD);
    }

    #[test]
    fn a_line_that_lacks_one_of_the_six_fields_is_refused() {
        for field in [
            "\"at\":\"2026-05-06T07:08:09.000010Z\",",
            "\"who\":\"signup\",",
            "\"what\":\"tokenize\",",
            "\"outcome\":\"denied\",",
            "\"from\":\"10.0.0.9\",",
        ] {
            let without = GOOD.replace(field, "");
            assert_ne!(without, GOOD);
            assert!(Line::parse(without.as_bytes()).is_err(), "{field}");
        }
    }

    #[test]
    fn a_line_with_a_field_of_another_kind_is_refused() {
        let more = GOOD.replace("\"on\"", "\"note\"");
        assert!(Line::parse(more.as_bytes()).is_err());
        let twice = GOOD.replace("\"n\":3", "\"n\":3,\"n\":4");
        assert!(Line::parse(twice.as_bytes()).is_err());
    }

    #[test]
    fn the_error_does_not_repeat_the_line() {
        let planted = GOOD.replace("signup", "4111111111111111");
        let error = Line::parse(planted.as_bytes()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("4111"));
    }
}
