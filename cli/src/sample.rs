//! The sample services of `cordon dev`: a shop that must never see a card number, a processor that must.
//!
//! Must never be reached by a real network (they listen on loopback only) or be mistaken for a part of Cordon.
//! Tests: beside each module.

mod guarded;
pub(crate) mod listen;
pub(crate) mod processor;
pub(crate) mod proof;
pub(crate) mod signup;

use crate::configuration::Settings;
use crate::exit::{Failure, Verdict};
use clap::Subcommand;
pub(crate) use guarded::Guarded;

/// `cordon sample ...`, started by `cordon dev`.
#[derive(Debug, Subcommand)]
pub(crate) enum Samples {
    /// A sign-up service that keeps whatever it is sent
    Signup(signup::Signup),
    /// A payment processor that approves or declines
    Processor(processor::Processor),
    /// Runs a program that ends when the one that started it ends
    Guarded(Guarded),
}

impl Samples {
    /// Serves until told to stop.
    pub(crate) fn run(self, settings: &Settings) -> Result<Verdict, Failure> {
        match self {
            Self::Signup(signup) => signup.run(settings.console()),
            Self::Processor(processor) => processor.run(settings.console()),
            Self::Guarded(guarded) => guarded.run(),
        }
    }
}
