//! One row as it is sent and as it will be echoed; many of them as a batch.
//!
//! Must never echo text that holds a card number. Tests: `tests.rs`.

use crate::Position;
use crate::columns::{Expires, Mapping};
use cordon_card::{Expiry, Pan};
use cordon_wire::{ProblemCode, TokenizeItem, TokenizeRequest, limits};
use std::collections::BTreeMap;

/// Why a row is refused before it is sent.
pub type RowError = ProblemCode;

/// Rows in the order of the file, and the request for those that are sent.
#[derive(Debug)]
pub struct Batch {
    /// The cards, in order.
    pub request: TokenizeRequest,
    /// All rows, in order.
    pub rows: Vec<Row>,
    /// Where the next batch begins.
    pub end: Position,
    text: Vec<u8>,
}

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// It is the next one of the request. The places are those of its echo.
    Sent {
        /// Its line.
        line: u64,
        /// Start, place of the token, end.
        echo: (usize, usize, usize),
    },
    /// It is not sent.
    Refused {
        /// Its line.
        line: u64,
        /// Why.
        code: RowError,
    },
}

impl Batch {
    /// The text of a sent row before and after the token. It holds no card number.
    #[must_use]
    pub fn echo(&self, (start, token, end): (usize, usize, usize)) -> (&[u8], &[u8]) {
        (self.text.get(start..token).unwrap_or_default(), self.text.get(token..end).unwrap_or_default())
    }
}

/// A batch that grows.
#[derive(Default)]
pub(crate) struct Builder {
    items: Vec<TokenizeItem>,
    rows: Vec<Row>,
    text: Vec<u8>,
    weight: usize,
}

impl Builder {
    /// Whether another row may not fit into one call.
    pub(crate) fn is_full(&self) -> bool {
        self.items.len() >= limits::MAX_ITEMS || self.rows.len() >= MAX_ROWS || self.weight >= MAX_WEIGHT
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn finish(self, end: Position) -> Batch {
        Batch { request: TokenizeRequest { items: self.items }, rows: self.rows, end, text: self.text }
    }

    /// Adds a row that is not sent.
    pub(crate) fn refuse(&mut self, line: u64, code: RowError) {
        self.rows.push(Row::Refused { line, code });
    }

    /// Adds a row. `value` gives the text at a place; `echo` writes the row without its card number and says where the
    /// token goes.
    pub(crate) fn add<V: AsRef<str>>(
        &mut self,
        line: u64,
        mapping: &Mapping,
        value: impl Fn(usize) -> Result<Option<V>, RowError>,
        echo: impl FnOnce(&mut Vec<u8>) -> Result<usize, RowError>,
    ) {
        let start = self.text.len();
        let made = item(mapping, value).and_then(|item| {
            let token = echo(&mut self.text)?;
            let before = self.text.get(start..token).unwrap_or_default();
            let after = self.text.get(token..).unwrap_or_default();
            if cordon_scan::first(before).is_some() || cordon_scan::first(after).is_some() {
                return Err(ProblemCode::LeakBlocked);
            }
            Ok((item, token))
        });
        match made {
            Ok((item, token)) => {
                self.weight = self.weight.saturating_add(weight(&item));
                self.items.push(item);
                self.rows.push(Row::Sent { line, echo: (start, token, self.text.len()) });
            }
            Err(code) => {
                self.text.truncate(start);
                self.refuse(line, code);
            }
        }
    }
}

fn item<V: AsRef<str>>(
    mapping: &Mapping,
    value: impl Fn(usize) -> Result<Option<V>, RowError>,
) -> Result<TokenizeItem, RowError> {
    let number = value(mapping.pan)?.ok_or(ProblemCode::BadPan)?;
    let pan = Pan::parse(number.as_ref()).map_err(|_not_a_pan| ProblemCode::BadPan)?;
    let filled = |place| Ok::<_, RowError>(value(place)?.filter(|text| !text.as_ref().trim().is_empty()));
    let bad = |_form| ProblemCode::BadExpiry;
    let expiry = match mapping.expiry {
        Expires::Never => None,
        Expires::One(place) => match filled(place)? {
            Some(text) => Some(Expiry::parse(text.as_ref()).map_err(bad)?),
            None => None,
        },
        Expires::Two { month, year } => match (filled(month)?, filled(year)?) {
            (Some(month), Some(year)) => {
                Some(Expiry::from_parts(month.as_ref(), year.as_ref()).map_err(bad)?)
            }
            (None, None) => None,
            _ => return Err(ProblemCode::BadExpiry),
        },
    };
    let mut metadata = BTreeMap::new();
    let mut size = 0_usize;
    for (place, name) in &mapping.metadata {
        if let Some(text) = filled(*place)? {
            size = size.saturating_add(name.len()).saturating_add(text.as_ref().len());
            metadata.insert(name.clone(), text.as_ref().to_owned());
        }
    }
    if size > limits::MAX_METADATA {
        return Err(ProblemCode::MetadataTooLarge);
    }
    Ok(TokenizeItem {
        pan: pan.into(),
        expiry: expiry.map(Into::into),
        cvv: None,
        metadata: (!metadata.is_empty()).then_some(metadata),
    })
}

/// About what an item takes in the body of a call, escapes included.
fn weight(item: &TokenizeItem) -> usize {
    let metadata = item
        .metadata
        .iter()
        .flatten()
        .map(|(name, text)| name.len().saturating_add(text.len()).saturating_mul(6).saturating_add(8));
    metadata.fold(96, usize::saturating_add)
}

/// Most rows of a batch: those that are refused cost no call, but memory.
const MAX_ROWS: usize = 4 * limits::MAX_ITEMS;
/// Leaves room for one more row of any size.
const MAX_WEIGHT: usize = limits::MAX_DATA_BODY - 16 * limits::MAX_METADATA;
