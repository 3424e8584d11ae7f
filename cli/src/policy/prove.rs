//! `cordon policy prove`: what holds of a bundle, whatever is written in it.
//!
//! Must never say proved of what was not looked at in full. Tests: `tests/tests/policy_proof.rs`.

use super::loaded;
use crate::configuration::Settings;
use crate::exit::{Failure, Verdict};
use clap::Args;
use cordon_policy::{Basis, Claim};
use serde::Serialize;
use std::path::PathBuf;

/// `cordon policy prove`.
#[derive(Debug, Args)]
#[command(
    after_help = "Asks the statements, through the authorizer that decides in service, with every combination of
declared names and every kind of connection; and looks at routes, destinations and networks as
they are declared. Exits 1 when a claim is refuted, or could not be judged in full.
docs/policy-proof.md says what it does not cover.

Examples:
  cordon policy prove
  cordon policy prove policies --json | jq '.claims[] | select(.verdict != \"proved\")'"
)]
pub(crate) struct Prove {
    /// The bundle [default: `policies` of the configuration, then ./policies]
    dir: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Proof {
    bundle: String,
    asked: usize,
    allowed: usize,
    claims: Vec<Judged>,
    not_covered: [&'static str; 5],
}

#[derive(Debug, Serialize)]
struct Judged {
    verdict: &'static str,
    claim: &'static str,
    judged_by: &'static str,
    against: Vec<String>,
    unsure: Vec<String>,
}

impl From<Claim> for Judged {
    fn from(claim: Claim) -> Self {
        let verdict = match (claim.is_proved(), claim.against.is_empty()) {
            (true, _) => "proved",
            (false, false) => "refuted",
            (false, true) => "unsure",
        };
        let judged_by = match claim.judged_by {
            Basis::Statements => "statements",
            Basis::Declarations => "declarations",
        };
        Self { verdict, claim: claim.says, judged_by, against: claim.against, unsure: claim.unsure }
    }
}

impl Prove {
    pub(super) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let bundle = loaded(&settings.policies(self.dir.as_deref())?)?;
        let bar = settings.console().spinner("asking for everything");
        let grants = bundle.grants();
        bar.finish_and_clear();
        let claims: Vec<Judged> = bundle.prove(&grants).into_iter().map(Judged::from).collect();
        let proof = Proof {
            bundle: bundle.digest().to_owned(),
            asked: grants.asked,
            allowed: grants.all.len(),
            claims,
            not_covered: NOT_COVERED,
        };
        settings.console().answer(&proof, said)?;
        let all = proof.claims.iter().all(|claim| claim.verdict == "proved");
        Ok(if all { Verdict::Fine } else { Verdict::Refused })
    }
}

fn said(proof: &Proof) -> String {
    let mut text = String::new();
    for Judged { verdict, claim, against, unsure, .. } in &proof.claims {
        text.push_str(&format!("{verdict:8} {claim}\n"));
        for line in against.iter().chain(unsure) {
            text.push_str(&format!("         {line}\n"));
        }
    }
    text.push_str(&format!("Asked {} times, allowed {} times. Not covered:\n", proof.asked, proof.allowed));
    for line in proof.not_covered {
        text.push_str(&format!("- {line}\n"));
    }
    text
}

const NOT_COVERED: [&str; 5] = [
    "what the code makes of a decision: that it is asked, and obeyed, is tested",
    "who holds which certificate and key, and who may change this bundle",
    "networks as they are: `segments.toml` says where they should be",
    "what a route leaves open on purpose: exceptions, and `look_inside` other than \"deny\"",
    "card numbers that reach a service by another way than the gateway",
];
