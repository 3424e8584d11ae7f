//! Card vocabulary as types: PAN, CVV, expiry, brands, truncation, tokens and ids as text.
//!
//! Never does I/O, never asks for randomness (callers pass entropy in), never puts a digit of a card into an
//! error, a `Debug` text or a panic.
//! Tests: beside each module, and `tests/*.rs` with the published test numbers in `tests/data/test_pans.csv`.
//!
//! Dependency line: every crate of the workspace may use this one; it uses no other crate of the workspace.

pub mod brand;
pub mod card_id;
pub mod collection;
pub mod cvv;
pub mod digits;
pub mod environment;
pub mod expiry;
pub mod iin;
mod luhn;
pub mod pan;
mod text_form;
pub mod token;
pub mod truncation;

pub use brand::{Brand, plausible};
pub use card_id::{CardId, CardIdError};
pub use collection::{CollectionName, CollectionNameError};
pub use cvv::{Cvv, CvvError};
pub use environment::{Environment, EnvironmentError};
pub use expiry::{Expiry, ExpiryError, ExpiryStyle, ExpiryStyleError};
pub use iin::{Iin, IinError};
pub use luhn::luhn_is_valid;
pub use pan::{Pan, PanError};
pub use token::{Token, TokenError, TokenShape};
pub use truncation::{LastFour, LastFourError, Truncated, TruncatedError, Truncation};

/// Fewest digits of a card number that is accepted (ISO/IEC 7812-1 allows ten, no payment brand uses fewer than
/// twelve).
pub const MIN_LENGTH: usize = 12;

/// Most digits of a card number (ISO/IEC 7812-1).
pub const MAX_LENGTH: usize = 19;
