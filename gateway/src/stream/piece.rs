//! A part of a long body that its parser reads as a body of its own.
//!
//! Must never lose or double a byte: what is sent of all pieces, one after the other, is the body with its edits.
//! Tests: `stream/tests.rs`.

use crate::body::Format;
use cordon_daemon::body::WipedBytes;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Some records of a body, with what has to stand around them so that they can be read.
pub struct Piece {
    pub(super) format: Format,
    /// The row of names, or the head of the part that goes on.
    pub(super) lead: Arc<WipedBytes>,
    /// Whether the lead stands here in the body, and not only before.
    pub(super) leads: bool,
    pub(super) records: WipedBytes,
    /// Where records end, if the piece can be divided there.
    pub(super) ends: Vec<usize>,
    /// What ends a body of this type, where the body goes on.
    pub(super) tail: Arc<[u8]>,
}

/// Only its size: nobody has looked at it yet.
impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Piece").field("records", &self.records).finish_non_exhaustive()
    }
}

impl Piece {
    /// A whole body.
    #[must_use]
    pub fn whole(format: Format, body: WipedBytes) -> Self {
        let (lead, tail) = (Arc::default(), Arc::from([]));
        Self { format, lead, leads: true, records: body, ends: Vec::new(), tail }
    }

    /// The type it is read as.
    #[must_use]
    pub const fn format(&self) -> &Format {
        &self.format
    }

    /// It as a body of its own.
    #[must_use]
    pub fn body(&self) -> WipedBytes {
        let around = self.lead.len().saturating_add(self.tail.len());
        let mut body = WipedBytes::with_capacity(around.saturating_add(self.records.len()));
        body.extend_from_slice(&self.lead);
        body.extend_from_slice(&self.records);
        body.extend_from_slice(&self.tail);
        body
    }

    /// The part of its rewritten form that is sent; `None` if the rewriting touched what is not.
    #[must_use]
    pub fn sent(&self, rewritten: &[u8]) -> Option<Range<usize>> {
        let start = if self.leads { 0 } else { self.lead.len() };
        let end = rewritten.len().checked_sub(self.tail.len()).filter(|end| start <= *end)?;
        let kept = self.leads || rewritten.starts_with(&self.lead);
        (kept && rewritten.ends_with(&self.tail)).then_some(start..end)
    }

    /// Its two halves, if it has two records that can be told apart.
    #[must_use]
    pub fn halves(self) -> Option<(Self, Self)> {
        let middle = self.ends.len().checked_div(2).filter(|middle| *middle > 0)?;
        let (first, second) = self.ends.split_at_checked(middle)?;
        let cut = *first.last()?;
        let (before, after) = self.records.as_slice().split_at_checked(cut)?;
        let after_ends = second.iter().map(|end| end.saturating_sub(cut)).collect();
        let half = |records: &[u8], ends, leads| Self {
            format: self.format.clone(),
            lead: Arc::clone(&self.lead),
            leads,
            records: copy(records),
            ends,
            tail: Arc::clone(&self.tail),
        };
        Some((half(before, first.to_vec(), self.leads), half(after, after_ends, false)))
    }
}

/// The bytes in a place of their own.
pub(super) fn copy(bytes: &[u8]) -> WipedBytes {
    let mut copied = WipedBytes::with_capacity(bytes.len());
    copied.extend_from_slice(bytes);
    copied
}
