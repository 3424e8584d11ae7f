//! What the scanner reports.
//!
//! Must never hold more of a number than its last four digits. Tests: `tests/published_numbers.rs`.

use cordon_card::{Brand, Truncated};

/// A card number in a stream. Safe to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Offset of the first byte of the first digit, from the start of the stream.
    pub start: u64,
    /// Offset after the last byte of the last digit.
    pub end: u64,
    /// The brand; [`Brand::Unknown`] for a published test number that no brand claims.
    pub brand: Brand,
    /// The number with all but its last four digits hidden.
    pub masked: Truncated,
}
