//! `cordon policy who-can`: everybody who may do something, through what.
//!
//! Must never show another decision than the one the daemons take. Tests: `tests/tests/policy_proof.rs`.

use super::loaded;
use crate::configuration::Settings;
use crate::exit::{Failure, Verdict};
use clap::Args;
use clap::builder::PossibleValuesParser;
use cordon_policy::{ActionKind, Bundle, Grant};
use serde::Serialize;
use std::path::PathBuf;

/// `cordon policy who-can`.
#[derive(Debug, Args)]
#[command(
    after_help = "Asks the statements with every combination of declared names. Exits 1 when nobody may.

Examples:
  cordon policy who-can detokenize
  cordon policy who-can detokenize --destination processor
  cordon policy who-can lookup --collection cards --json | jq -r '.grants[].principal'"
)]
pub(crate) struct WhoCan {
    /// What it is about
    #[arg(value_parser = PossibleValuesParser::new(ActionKind::ALL.map(ActionKind::as_str)))]
    action: String,
    /// The bundle [default: `policies` of the configuration, then ./policies]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Only with this collection
    #[arg(long, value_name = "NAME")]
    collection: Option<String>,
    /// Only towards this destination
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
    /// Only for this service, or by it
    #[arg(long = "for", value_name = "SERVICE")]
    service: Option<String>,
}

#[derive(Debug, Serialize)]
struct Answer {
    /// Whether every combination was asked for.
    exhaustive: bool,
    asked: usize,
    grants: Vec<Shown>,
}

/// A grant, as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    action: &'static str,
    principal: String,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    acted_for: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    collection: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
    from_anywhere: bool,
    uncertified: bool,
    statements: Vec<Through>,
    #[serde(skip)]
    text: String,
}

/// A statement and where it stands.
#[derive(Debug, Serialize)]
struct Through {
    id: String,
    file: String,
    line: usize,
}

impl Shown {
    pub(super) fn of(bundle: &Bundle, grant: &Grant) -> Self {
        let through = |id: &std::sync::Arc<str>| {
            let found = bundle.statements().find(|statement| statement.id == *id)?;
            Some(Through { id: id.to_string(), file: found.file.clone(), line: found.line })
        };
        Self {
            action: grant.action.as_str(),
            principal: grant.principal.clone(),
            acted_for: grant.acted_for.clone(),
            collection: grant.collection.clone(),
            destination: grant.destination.clone(),
            route: grant.route.clone(),
            purpose: grant.purpose.clone(),
            from_anywhere: grant.from_anywhere,
            uncertified: grant.uncertified,
            statements: grant.statements.iter().filter_map(through).collect(),
            text: grant.to_string(),
        }
    }

    pub(super) fn line(&self) -> String {
        let through = |Through { id, file, line }: &Through| format!("{id} ({file}:{line})");
        let through: Vec<_> = self.statements.iter().map(through).collect();
        format!("{}\n  by {}\n", self.text, through.join(", "))
    }
}

impl WhoCan {
    pub(super) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let bundle = loaded(&settings.policies(self.dir.as_deref())?)?;
        let grants = bundle.grants();
        let found: Vec<_> = grants.all.iter().filter(|grant| self.is_asked_about(grant)).collect();
        let answer = Answer {
            exhaustive: grants.exhaustive && grants.by_address.is_empty(),
            asked: grants.asked,
            grants: found.iter().map(|grant| Shown::of(&bundle, grant)).collect(),
        };
        settings.console().answer(&answer, |answer| {
            let mut text: String = answer.grants.iter().map(Shown::line).collect();
            if answer.grants.is_empty() {
                text.push_str("nobody\n");
            }
            if !answer.exhaustive {
                text.push_str(
                    "Not every combination was asked for: `cordon policy prove` says which were not.\n",
                );
            }
            text
        })?;
        Ok(if answer.grants.is_empty() { Verdict::Refused } else { Verdict::Fine })
    }

    fn is_asked_about(&self, grant: &Grant) -> bool {
        let is = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let service =
            |wanted: &String| grant.principal == *wanted || grant.acted_for.as_ref() == Some(wanted);
        grant.action.as_str() == self.action
            && is(&self.collection, &grant.collection)
            && is(&self.destination, &grant.destination)
            && self.service.as_ref().is_none_or(service)
    }
}
