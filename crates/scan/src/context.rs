//! What around a candidate shows that it is no card number.
//!
//! Each rule is narrow on purpose: a rule that hides a real number is worse than a false alarm. All rules are about
//! ASCII text. Must never look further than [`REACH`] bytes to either side.
//! Tests: beside each rule; against random ids and clocks in `tests/lookalikes.rs`.

mod decimal;
mod hex;
mod iban;
mod token;

/// How many bytes to either side of a candidate the rules look at.
pub(crate) const REACH: usize = 160;

/// Says whether one of the rules accounts for the candidate at `start..end` of `view`.
pub(crate) fn explains(view: &[u8], start: usize, end: usize) -> bool {
    hex::explains(view, start, end)
        || iban::explains(view, start, end)
        || decimal::explains(view, start, end)
        || token::explains(view, start, end)
}
