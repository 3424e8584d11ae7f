//! The text of a custodian's share on its way between the CLI and the vault.
//! Must never be printed by Debug or cloned. Tests: `crates/wire/tests/golden.rs`.

use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

/// One custodian's share as text: `cordon-share-v1-...`. Wiped on drop.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShareText(Zeroizing<String>);

impl ShareText {
    /// Takes the text over; the vault parses and checks it.
    #[must_use]
    pub const fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// The text, to print once on a terminal or to parse.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ShareText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShareText(***)")
    }
}
