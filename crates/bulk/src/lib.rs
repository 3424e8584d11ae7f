//! Reads an import file (CSV or JSON lines) into batches to tokenize, and keeps what its result file will say.
//!
//! Must never keep a card number outside memory that is wiped, nor let one into the text of a result row: what stands
//! beside the declared column is scanned. Must never repeat a value of the file in an error.
//! Tests: `tests.rs`; fuzz target `import`.
//!
//! Used by: `cli`. Uses: `card`, `scan`, `wire`, csv-core, serde_json.

mod columns;
mod csv;
mod json;
mod row;
mod window;

pub use columns::{Chosen, Columns};
pub use row::{Batch, Row, RowError};

use columns::Mapping;
use csv::Csv;
use row::Builder;
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use window::Window;

/// How rows are written in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values and its relatives (RFC 4180).
    Csv {
        /// What parts the columns; found out from the first line when absent.
        delimiter: Option<u8>,
        /// Whether the first line names the columns.
        header: bool,
    },
    /// One JSON object per line.
    JsonLines,
}

/// A place between two rows, and what the bytes before it were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Bytes before it.
    pub offset: u64,
    /// Lines before it.
    pub line: u64,
    /// SHA-256 of the bytes before it.
    pub digest: [u8; 32],
}

/// The rows of a file, in order.
pub struct Rows<R: Read> {
    window: Window<R>,
    lines: u64,
    mapping: Mapping,
    splitter: Splitter,
}

enum Splitter {
    Csv(Box<Csv>),
    JsonLines,
}

impl<R: Read> Rows<R> {
    /// Reads as far as is needed to find the columns.
    ///
    /// # Errors
    /// [`RowsError::Io`]; [`RowsError::Columns`] when a column is missing, named twice, or must be left out.
    pub fn open(input: R, format: Format, columns: &Columns) -> Result<Self, RowsError> {
        let mut window = Window::new(input)?;
        let mut lines = 0;
        let (mapping, splitter) = match format {
            Format::Csv { delimiter, header } => {
                let (csv, mapping) = Csv::open(&mut window, &mut lines, delimiter, header, columns)?;
                (mapping, Splitter::Csv(Box::new(csv)))
            }
            Format::JsonLines => (json::open(&mut window, columns)?, Splitter::JsonLines),
        };
        Ok(Self { window, lines, mapping, splitter })
    }

    /// Which columns are used for what.
    #[must_use]
    pub const fn chosen(&self) -> &Chosen {
        self.mapping.chosen()
    }

    /// The first line of the result file, with its end: the names of the columns, if the file has them.
    #[must_use]
    pub fn heading(&self) -> &[u8] {
        match &self.splitter {
            Splitter::Csv(csv) => csv.heading(),
            Splitter::JsonLines => &[],
        }
    }

    /// Where the next row begins.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { offset: self.window.offset(), line: self.lines, digest: self.window.digest() }
    }

    /// Goes on to a place where reading stopped before.
    ///
    /// # Errors
    /// [`RowsError::Changed`] if the bytes before it are not what they were; [`RowsError::Io`].
    pub fn resume(&mut self, at: &Position) -> Result<(), RowsError> {
        let ahead = at.offset.checked_sub(self.window.offset()).ok_or(RowsError::Changed)?;
        if !self.window.skip(ahead)? || self.window.digest() != at.digest {
            return Err(RowsError::Changed);
        }
        self.lines = at.line;
        Ok(())
    }

    /// The next rows: at most as many cards as one call takes. `None` at the end of the file.
    ///
    /// # Errors
    /// [`RowsError::Io`].
    pub fn next_batch(&mut self) -> Result<Option<Batch>, RowsError> {
        let mut batch = Builder::default();
        while !batch.is_full() {
            let more = match &mut self.splitter {
                Splitter::Csv(csv) => {
                    csv.next(&mut self.window, &mut self.lines, &self.mapping, &mut batch)?
                }
                Splitter::JsonLines => {
                    json::next(&mut self.window, &mut self.lines, &self.mapping, &mut batch)?
                }
            };
            if !more {
                break;
            }
        }
        if batch.is_empty() { Ok(None) } else { Ok(Some(batch.finish(self.position()))) }
    }
}

impl<R: Read> std::fmt::Debug for Rows<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("chosen", self.chosen()).finish_non_exhaustive()
    }
}

/// Why a file can't be imported. Its owner's; none repeats a value of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RowsError {
    /// Reading or decrypting.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The columns.
    #[error("{0}")]
    Columns(String),
    /// Not the file that was begun with.
    #[error("the input is not the one that this import was started with")]
    Changed,
}

#[cfg(test)]
mod tests;
