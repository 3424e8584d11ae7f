//! Harness: starts the real vault and gateway on loopback with certificates made for the run.
//!
//! Must never stand in for a Cordon part: only the signup service and the processor are stubs, and they
//! record every byte they get. Its own checks are in `tests/tests/harness.rs`.
//!
//! Used by: the end-to-end tests and `bench`. Uses: `card`, `wire`, `client`.

pub mod cards;
pub mod https;
pub mod memory;
pub mod netns;
pub mod pki;
pub mod process;
pub mod raw;
pub mod search;
pub mod stack;
pub mod stub;
pub mod upstream;
pub mod vaulted;

/// How long the harness waits for what should happen at once, times `PATIENCE` (an integer) on slow machines.
#[must_use]
pub fn patience() -> std::time::Duration {
    let factor = std::env::var("PATIENCE").ok().and_then(|text| text.parse::<u32>().ok()).unwrap_or(1);
    std::time::Duration::from_secs(30) * factor
}
