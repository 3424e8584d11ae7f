//! What a route must be like whose bodies are rewritten in pieces (`stream`).
//!
//! Must never take a field that needs all of a body at once, nor a rule that counts requests by their cards.
//! Tests: `routes/tests.rs`.

use super::{AbuseRule, Content, Field, IngressOp};
use crate::rows::Row;

/// Finds what keeps a route from being streamed.
pub(super) fn check(
    row: &mut Row<'_, '_, '_>,
    content: &[Content],
    fields: &[Field<IngressOp>],
    abuse: &[AbuseRule],
) {
    let span = row.span();
    if !content.iter().copied().all(Content::has_records) {
        let help = "take ndjson, csv, fixed or multipart, and give the others a route of their own";
        row.fault(&span, "a streamed route takes bodies of records only", Some(help.to_owned()));
    }
    if fields.iter().any(|field| field.places.head.is_some()) {
        let help = "a field of the body belongs to its record, one of the head to none: leave it out";
        row.fault(&span, "a streamed route has its fields in the body", Some(help.to_owned()));
    }
    if !abuse.is_empty() {
        let help = "rules are for people who type: give them a route without `stream`";
        row.fault(&span, "a streamed route has no abuse rules", Some(help.to_owned()));
    }
}
