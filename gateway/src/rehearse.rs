//! Route cases: what the routes of a bundle make of requests and answers, without a vault, a log or a network.
//!
//! A case runs through the very functions that serve: routing, parsing, policy, rewriting, scanning, and the rules for
//! answers (`docs/policy-tests.md`). Only the vault's answers are made up. Must never open a socket or send anything: what a
//! rehearsal ends in is a preview, which cannot be sent. Tests: `rehearse/tests.rs`, `tests/tests/policy_test.rs`.

mod case;
mod message;
mod play;
mod vault;

use crate::plan::Plan;
use case::{Case, Cases};
use cordon_policy::Bundle;
use cordon_wire::{Rehearse, Rehearsed};
use std::io::{self, BufRead, Write};
use std::path::Path;
use tokio::runtime::{Builder, Runtime};

/// Reads rehearsals, one JSON object a line, and answers each with one, until there are no more.
///
/// # Errors
/// Input or output broke, or the input is not of this kind.
pub fn run(input: impl BufRead, output: &mut dyn Write) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_time().build()?;
    for line in input.lines() {
        let wanted: Rehearse = serde_json::from_str(&line?).map_err(io::Error::other)?;
        serde_json::to_writer(&mut *output, &rehearse(&runtime, &wanted)).map_err(io::Error::other)?;
        output.write_all(b"\n")?;
        output.flush()?;
    }
    Ok(())
}

fn rehearse(runtime: &Runtime, wanted: &Rehearse) -> Rehearsed {
    let files: Vec<_> = wanted.files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let plan = Bundle::parse(&files, Path::new("/"))
        .map_err(|faults| faults.to_string())
        .and_then(|bundle| Plan::unconnected(bundle).map_err(|error| error.to_string()));
    let mut faults = Vec::new();
    let mut cases: Vec<(&str, Case)> = Vec::new();
    for (name, text) in &wanted.cases {
        match Cases::read(text) {
            Ok(read) => cases.extend(read.into_iter().map(|case| (name.as_str(), case))),
            Err(fault) => faults.push(format!("{name}: {fault}")),
        }
    }
    let plan = match plan {
        Ok(plan) if faults.is_empty() => plan,
        Ok(_) => return Rehearsed { faults, ..Rehearsed::default() },
        Err(error) => {
            faults.extend(error.lines().map(str::to_owned));
            return Rehearsed { faults, ..Rehearsed::default() };
        }
    };
    let names = plan.ingress.iter().map(|way| &way.route.name);
    let routes = names.chain(plan.egress.iter().map(|way| &way.route.name)).cloned().collect();
    let played = cases.into_iter().map(|(file, case)| runtime.block_on(play::play(&plan, file, &case)));
    Rehearsed { faults, played: played.collect(), routes }
}

#[cfg(test)]
mod tests;
