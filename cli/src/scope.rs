//! `cordon scope`: segments, connections, and what each service can claim about PCI scope.
//!
//! Must never say that a system is out of scope: that is for the assessor (PCI DSS v4.0.1, section 4). Tests: `tests/tests/scope.rs`.

mod observed;
mod svg;

use crate::configuration::Settings;
use crate::exit::{Failure, Verdict};
use crate::layout;
use crate::policy;
use clap::Args;
use cordon_policy::{Bundle, Carries, Claim, End, Flow, Scope, Service};
use serde::Serialize;
use std::fs;
use std::path::PathBuf;

/// `cordon scope`.
#[derive(Debug, Args)]
#[command(
    after_help = "With --observed, connections that the gateway's audit log shows and the bundle does not declare
are listed, and the exit code is 1. It is 1 as well when `cordon policy prove` refutes a claim:
then no service can be a candidate.

Examples:
  cordon scope
  cordon scope policies --svg scope.svg
  cordon scope --observed /var/lib/cordon-gateway/audit --json | jq '.undeclared'"
)]
pub(crate) struct ScopeMap {
    /// The bundle [default: `policies` of the configuration, then ./policies]
    dir: Option<PathBuf>,
    /// Also draw it
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Compare with what this audit log of a gateway shows
    #[arg(long, value_name = "DIR")]
    observed: Option<PathBuf>,
}

/// The map.
#[derive(Debug, Serialize)]
pub(crate) struct Map {
    bundle: String,
    segments: Vec<MapSegment>,
    services: Vec<MapService>,
    flows: Vec<MapFlow>,
    /// Claims about the bundle that do not hold.
    refuted: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    undeclared: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
struct MapSegment {
    name: String,
    scope: &'static str,
    addresses: Vec<String>,
}

#[derive(Debug, Serialize)]
struct MapService {
    name: String,
    segment: String,
    claim: &'static str,
    why: &'static str,
}

#[derive(Debug, Serialize)]
struct MapFlow {
    from: String,
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    carries: &'static str,
    need: String,
}

impl ScopeMap {
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let bundle = policy::loaded(&settings.policies(self.dir.as_deref())?)?;
        let grants = bundle.grants();
        let flows = bundle.flows(&grants);
        let refuted: Vec<_> = bundle.prove(&grants).into_iter().filter(|claim| !claim.is_proved()).collect();
        let undeclared =
            self.observed.as_deref().map(|log| observed::undeclared(&bundle, log)).transpose()?;
        let map = map(&bundle, &flows, &refuted, undeclared);
        if let Some(path) = &self.svg {
            fs::write(path, svg::draw(&bundle, &flows)).map_err(|error| Failure::file(path, &error))?;
        }
        settings.console().answer(&map, said)?;
        let clean = map.refuted.is_empty() && map.undeclared.as_ref().is_none_or(Vec::is_empty);
        Ok(if clean { Verdict::Fine } else { Verdict::Refused })
    }
}

fn map(bundle: &Bundle, flows: &[Flow], refuted: &[Claim], undeclared: Option<Vec<String>>) -> Map {
    let segments = bundle.segments().map(|segment| MapSegment {
        name: segment.name.clone(),
        scope: segment.scope.as_str(),
        addresses: segment.cidrs.iter().map(ToString::to_string).collect(),
    });
    let services = bundle.services().map(|service| {
        let (claim, why) = claim(bundle, service, refuted.is_empty());
        MapService { name: service.name.clone(), segment: service.segment.clone(), claim, why }
    });
    let shown = |flow: &Flow| MapFlow {
        from: flow.from.to_string(),
        to: flow.address.map_or_else(|| flow.to.to_string(), |address| format!("{} ({address})", flow.to)),
        port: flow.port,
        carries: flow.carries.as_str(),
        need: flow.need.clone(),
    };
    Map {
        bundle: bundle.digest().to_owned(),
        segments: segments.collect(),
        services: services.collect(),
        flows: flows.iter().map(shown).collect(),
        refuted: refuted.iter().map(|claim| claim.says.to_owned()).collect(),
        undeclared,
    }
}

/// What can be claimed of a service, and why not more.
fn claim(bundle: &Bundle, service: &Service, holds: bool) -> (&'static str, &'static str) {
    let sends = bundle.egress().iter().any(|route| route.services.contains(&service.name));
    match (service.scope, holds) {
        (Scope::Cde, _) => ("in scope", "it is part of the cardholder data environment"),
        (Scope::Connected, _) if service.may_lookup => {
            ("in scope", "it holds the card numbers that it asks about")
        }
        (Scope::Connected, _) => ("in scope", "it sees no card number, and connects to what does"),
        (Scope::Out | Scope::External, false) => {
            ("none", "the bundle does not hold what it must: `cordon policy prove` says what")
        }
        (Scope::Out | Scope::External, true) if sends => (
            "candidate, weak",
            "it has tokens only, but opens connections to the gateway, which is in the cardholder data environment: \
             count it as connected to it unless your assessor decides otherwise",
        ),
        (Scope::Out | Scope::External, true) => (
            "candidate",
            "it has tokens only, and opens no connection to the cardholder data environment: your assessor decides",
        ),
    }
}

fn said(map: &Map) -> String {
    let row = |segment: &MapSegment| {
        vec![segment.scope.to_owned(), segment.name.clone(), segment.addresses.join(", ")]
    };
    let mut text =
        layout::table(&["SCOPE", "SEGMENT", "ADDRESSES"], &map.segments.iter().map(row).collect::<Vec<_>>());
    let row = |flow: &MapFlow| {
        let port = flow.port.map_or_else(|| "?".to_owned(), |port| port.to_string());
        vec![flow.from.clone(), flow.to.clone(), port, flow.carries.to_owned(), flow.need.clone()]
    };
    let rows: Vec<_> = map.flows.iter().map(row).collect();
    text.push('\n');
    text.push_str(&layout::table(&["FROM", "TO", "PORT", "CARRIES", "NEEDED BY"], &rows));
    text.push('\n');
    for MapService { name, segment, claim, why } in &map.services {
        text.push_str(&format!("{name} ({segment}): {claim}; {why}.\n"));
    }
    for claim in &map.refuted {
        text.push_str(&format!("Does not hold: {claim}.\n"));
    }
    match map.undeclared.as_deref() {
        None => {}
        Some([]) => text.push_str("Every connection in the gateway's log is declared.\n"),
        Some(undeclared) => {
            undeclared.iter().for_each(|line| text.push_str(&format!("Not declared: {line}\n")));
        }
    }
    text.push_str("Whether a system is out of scope is decided by you and your assessor.\n");
    text
}

/// Red for card numbers, green for tokens, grey for administration.
const fn colour(carries: Carries) -> &'static str {
    match carries {
        Carries::Cards => "#b3261e",
        Carries::Tokens => "#1b7f3b",
        Carries::Administration => "#5f6368",
    }
}

/// Whether an end is this segment.
fn is_segment(end: &End, name: &str) -> bool {
    matches!(end, End::Segment(segment) if segment == name)
}
