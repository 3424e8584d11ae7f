//! Cuts a long `multipart/form-data` body between its parts, and a long part between its lines.
//!
//! Every piece is a form of its own: a part that goes on has its head before it once more, which is not sent, and a piece
//! that is not the last has an end behind it, which is not sent either. Must never cut within a part that is encoded: what
//! stands across the cut could not be seen. Tests: `stream/tests.rs`, fuzz target `stream_pieces`.

use super::cutter::{Bounds, split};
use super::piece::{Piece, copy};
use crate::body::Format;
use crate::body::multipart::Boundary;
use crate::problem::Fault;
use cordon_daemon::body::WipedBytes;
use memchr::memmem;
use std::sync::Arc;

/// A form that comes in.
#[derive(Debug)]
pub struct Parts {
    boundary: Boundary,
    bounds: Bounds,
    /// The head of the part in which the last cut was made.
    lead: Arc<WipedBytes>,
    held: WipedBytes,
}

impl Parts {
    pub(super) fn new(boundary: &Boundary, bounds: Bounds) -> Self {
        Self { boundary: boundary.clone(), bounds, lead: Arc::default(), held: WipedBytes::default() }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    pub(super) fn next_piece(&mut self) -> Result<Option<Piece>, Fault> {
        if self.held.len() < self.bounds.piece {
            return Ok(None);
        }
        let next = format!("\r\n{}\r\n", self.boundary.dashed());
        if let Some(end) = memmem::rfind(&self.held, next.as_bytes()) {
            // The line end before a delimiter is no part of it here, so that the next piece begins as a body does.
            let tail = format!("{}--\r\n", self.boundary.dashed());
            return Ok(Some(self.cut(end.saturating_add(2), Arc::default(), &tail)));
        }
        let Some((head, end)) = self.within() else {
            return if self.held.len() > self.bounds.longest { Err(Fault::TooLarge) } else { Ok(None) };
        };
        if is_encoded(&head) {
            return Err(Fault::TooLarge);
        }
        let tail = format!("\r\n{}--\r\n", self.boundary.dashed());
        Ok(Some(self.cut(end, Arc::new(head), &tail)))
    }

    pub(super) fn finish(mut self) -> Option<Piece> {
        if self.held.is_empty() {
            return None;
        }
        let (all, lead) = (self.held.len(), Arc::default());
        Some(self.cut(all, lead, ""))
    }

    /// Where to cut within the only part that is held, and its head: before its last line end that is surely not the one of
    /// a delimiter.
    fn within(&self) -> Option<(WipedBytes, usize)> {
        let held = self.held.as_slice();
        let (head, content) = if self.lead.is_empty() {
            let end = memmem::find(held, b"\r\n\r\n")?.checked_add(4)?;
            (copy(held.get(..end)?), end)
        } else {
            (copy(&self.lead), 0)
        };
        let sure = held.len().checked_sub(self.boundary.dashed().len())?.checked_sub(4)?;
        let line = memchr::memrchr(b'\n', held.get(..sure)?)?;
        let before = line.checked_sub(1).filter(|before| held.get(*before) == Some(&b'\r'));
        let end = before.unwrap_or(line);
        (end > content).then_some((head, end))
    }

    fn cut(&mut self, end: usize, next_lead: Arc<WipedBytes>, tail: &str) -> Piece {
        let (records, rest) = split(&self.held, end);
        self.held = rest;
        let lead = std::mem::replace(&mut self.lead, next_lead);
        let format = Format::Multipart(self.boundary.clone());
        let leads = lead.is_empty();
        Piece { format, lead, leads, records, ends: Vec::new(), tail: Arc::from(tail.as_bytes()) }
    }
}

/// Whether the head of a part may name a transfer encoding that has to be undone. A file of such a name counts as well.
fn is_encoded(head: &[u8]) -> bool {
    let head = head.to_ascii_lowercase();
    [&b"base64"[..], b"quoted-printable"].iter().any(|name| memmem::find(&head, name).is_some())
}
