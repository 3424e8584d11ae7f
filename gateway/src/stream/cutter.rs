//! Cuts a long body into pieces where one record ends and the next begins.
//!
//! Where a record ends is all that is decided here; whether it is well formed its parser says, which reads every piece.
//! Must never hold more than [`Bounds::longest`] bytes and what is pushed at once. Tests: `stream/tests.rs`, fuzz target
//! `stream_pieces`.

use super::parts::Parts;
use super::piece::{Piece, copy};
use crate::body::Format;
use crate::problem::Fault;
use cordon_daemon::body::WipedBytes;
use cordon_wire::limits::MAX_ITEMS;
use memchr::memchr2_iter;
use std::sync::Arc;

/// How large pieces are.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes from which on a piece is taken.
    pub piece: usize,
    /// Most bytes of one record.
    pub longest: usize,
    /// Most records of a piece.
    pub records: usize,
}

impl Bounds {
    /// Those of requests, each record with so many cards.
    #[must_use]
    pub fn with_cards(cards: usize) -> Self {
        let records = MAX_ITEMS.checked_div(cards).unwrap_or(MAX_ITEMS).max(1);
        Self { piece: 256 * 1024, longest: 1024 * 1024, records }
    }
}

/// A body that comes in, and the pieces that are ready.
#[derive(Debug)]
pub enum Cutter {
    /// Lines or rows.
    Records(Records),
    /// Parts of a form.
    Parts(Parts),
}

impl Cutter {
    /// A cutter of bodies of this type, if they can be cut.
    #[must_use]
    pub fn new(format: &Format, bounds: Bounds) -> Option<Self> {
        match format {
            Format::Ndjson | Format::Csv | Format::Fixed => Some(Self::Records(Records::new(format, bounds))),
            Format::Multipart(boundary) => Some(Self::Parts(Parts::new(boundary, bounds))),
            Format::Json | Format::Form | Format::Xml | Format::Text => None,
        }
    }

    /// Takes what came next.
    pub fn push(&mut self, bytes: &[u8]) {
        match self {
            Self::Records(records) => records.push(bytes),
            Self::Parts(parts) => parts.push(bytes),
        }
    }

    /// Gives the next piece, once there is enough for one.
    ///
    /// # Errors
    /// [`Fault::TooLarge`] for a record of more than [`Bounds::longest`] bytes.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, Fault> {
        match self {
            Self::Records(records) => records.next_piece(),
            Self::Parts(parts) => parts.next_piece(),
        }
    }

    /// Gives what is left when the body has ended.
    #[must_use]
    pub fn finish(self) -> Option<Piece> {
        match self {
            Self::Records(records) => records.finish(),
            Self::Parts(parts) => parts.finish(),
        }
    }
}

/// Lines, or rows below a row of names.
#[derive(Debug)]
pub struct Records {
    format: Format,
    bounds: Bounds,
    /// The row of names, once it is there; lines have none.
    lead: Option<Arc<WipedBytes>>,
    leads: bool,
    held: WipedBytes,
    ends: Vec<usize>,
    /// Whether the next byte stands within quotes.
    quoted: bool,
}

impl Records {
    fn new(format: &Format, bounds: Bounds) -> Self {
        let lead = (*format != Format::Csv).then(Arc::default);
        let (held, ends) = (WipedBytes::default(), Vec::new());
        Self { format: format.clone(), bounds, lead, leads: true, held, ends, quoted: false }
    }

    /// A quote within quotes is written as two, so that a row ends at a line end with an even number of them before it.
    fn push(&mut self, bytes: &[u8]) {
        let base = self.held.len();
        for at in memchr2_iter(b'\n', b'"', bytes) {
            match bytes.get(at) {
                Some(b'"') => self.quoted = self.format == Format::Csv && !self.quoted,
                _ if self.quoted => {}
                _ => self.ends.push(base.saturating_add(at).saturating_add(1)),
            }
        }
        self.held.extend_from_slice(bytes);
    }

    fn next_piece(&mut self) -> Result<Option<Piece>, Fault> {
        if self.lead.is_none()
            && let Some(end) = self.ends.first().copied()
        {
            self.lead = Some(Arc::new(self.cut(end, 1)));
        }
        let Bounds { piece, longest, records } = self.bounds;
        let full = self.held.len() >= piece || self.ends.len() >= records;
        let count = self.ends.len().min(records);
        match self.ends.get(..count).and_then(<[usize]>::last).copied() {
            Some(end) if full => {
                let ends = self.ends.get(..count).unwrap_or_default().to_vec();
                let records = self.cut(end, count);
                Ok(Some(self.piece(records, ends)))
            }
            None if self.held.len() > longest => Err(Fault::TooLarge),
            Some(_) | None => Ok(None),
        }
    }

    fn finish(mut self) -> Option<Piece> {
        if self.held.is_empty() && (!self.leads || self.lead.as_ref().is_none_or(|lead| lead.is_empty())) {
            return None;
        }
        let (records, ends) = (std::mem::take(&mut self.held), std::mem::take(&mut self.ends));
        Some(self.piece(records, ends))
    }

    fn piece(&mut self, records: WipedBytes, ends: Vec<usize>) -> Piece {
        let lead = self.lead.clone().unwrap_or_default();
        let leads = std::mem::take(&mut self.leads);
        Piece { format: self.format.clone(), lead, leads, records, ends, tail: Arc::from([]) }
    }

    /// Takes the first `end` bytes, which are `count` records.
    fn cut(&mut self, end: usize, count: usize) -> WipedBytes {
        let (taken, rest) = split(&self.held, end);
        self.held = rest;
        self.ends.drain(..count.min(self.ends.len()));
        self.ends.iter_mut().for_each(|later| *later = later.saturating_sub(end));
        taken
    }
}

/// What stands before and behind a place, each in a place of its own.
pub(super) fn split(bytes: &[u8], at: usize) -> (WipedBytes, WipedBytes) {
    let (before, after) = bytes.split_at_checked(at).unwrap_or((bytes, &[]));
    (copy(before), copy(after))
}
