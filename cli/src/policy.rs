//! `cordon policy`: check a bundle, and explain what it decides.
//!
//! Must never stop at the first fault, nor show a decision other than the one the daemons take. Tests: below, and
//! `cli/tests/transcripts.rs`.

mod diff;
mod mutate;
mod prove;
mod test;
mod who_can;

use crate::configuration::Settings;
use crate::exit::{Failure, Verdict};
use crate::layout;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use cordon_policy::{ActionKind, Ask, Bundle, Day, Explanation, Faults, Passing, Statement, StatementEffect};
use serde::Serialize;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// `cordon policy ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum Policies {
    /// List every fault of a bundle with its position
    Check(Check),
    /// Show which statements decide a request, and what it lacks
    Explain(Explain),
    /// Run the bundle's cases, and say which rules none of them tests
    Test(test::Test),
    /// List everybody who may do something, through what
    WhoCan(who_can::WhoCan),
    /// Show who may do what in one bundle and not in another, and what routes do otherwise
    Diff(diff::Diff),
    /// Judge what must hold of every bundle, with a counter-example where it does not
    Prove(prove::Prove),
}

/// `cordon policy check`.
#[derive(Debug, Args)]
#[command(after_help = "Exits 1 when the bundle has faults. Each is listed as file:line:column.
What is allowed for a time only (exceptions, reported leaks) is noted from 30 days before its end.

Examples:
  cordon policy check
  cordon policy check /etc/cordon/policies
  cordon policy check policies --json | jq '.faults[].message'")]
pub(crate) struct Check {
    /// The bundle [default: `policies` of the configuration, then ./policies]
    dir: Option<PathBuf>,
}

/// `cordon policy explain`.
#[derive(Debug, Args)]
#[command(after_help = "Exits 0 when it is allowed, 1 when it is not.

Examples:
  cordon policy explain --action detokenize --principal gateway-egress --collection cards \\
      --for signup --destination processor --route charge --purpose charge
  cordon policy explain --action detokenize --principal signup --collection cards
  cordon policy explain --action lookup --principal billing --collection cards --source 10.0.3.7")]
pub(crate) struct Explain {
    /// The bundle [default: `policies` of the configuration, then ./policies]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// What is asked for
    #[arg(long, value_parser = PossibleValuesParser::new(ActionKind::ALL.map(ActionKind::as_str)))]
    action: String,
    /// The service that asks
    #[arg(long, value_name = "SERVICE")]
    principal: String,
    /// The collection it is about
    #[arg(long, value_name = "NAME")]
    collection: Option<String>,
    /// Where the card is to go
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
    /// The service it is done for
    #[arg(long = "for", value_name = "SERVICE")]
    acting_for: Option<String>,
    /// The gateway route
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Why
    #[arg(long, value_name = "PURPOSE")]
    purpose: Option<String>,
    /// Address it comes from [default: the first of the principal's segment]
    #[arg(long, value_name = "ADDRESS")]
    source: Option<IpAddr>,
    /// As if no client certificate was verified
    #[arg(long)]
    no_certificate: bool,
}

#[derive(Debug, Serialize)]
struct Checked<'a> {
    valid: bool,
    directory: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
    faults: Vec<ShownFault<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ending: Vec<Ending>,
}

/// Something that is allowed for a time only, soon or already over.
#[derive(Debug, Serialize)]
struct Ending {
    route: String,
    what: String,
    until: String,
    over: bool,
}

#[derive(Debug, Serialize)]
struct ShownFault<'a> {
    file: &'a str,
    line: usize,
    column: usize,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Explained<'a> {
    allowed: bool,
    action: &'static str,
    principal: &'a str,
    source: IpAddr,
    deciding: Vec<ShownStatement<'a>>,
    near: Vec<ShownStatement<'a>>,
    observations: &'a [String],
}

#[derive(Debug, Serialize)]
struct ShownStatement<'a> {
    id: &'a str,
    effect: &'static str,
    file: &'a str,
    line: usize,
}

impl Policies {
    /// Does what was asked.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        match self {
            Self::Check(check) => check.run(settings),
            Self::Explain(explain) => explain.run(settings),
            Self::Test(test) => test.run(settings),
            Self::WhoCan(who_can) => who_can.run(settings),
            Self::Diff(diff) => diff.run(settings),
            Self::Prove(prove) => prove.run(settings),
        }
    }
}

impl Check {
    fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let directory = settings.policies(self.dir.as_deref())?;
        match Bundle::load(&directory) {
            Ok(bundle) => {
                let digest = Some(bundle.digest());
                let (faults, ending) = (Vec::new(), ending(&bundle, Day::today()));
                let answer = Checked { valid: true, directory: &directory, digest, faults, ending };
                settings.console().answer(&answer, |answer| summary(&bundle, &directory, &answer.ending))?;
                Ok(Verdict::Fine)
            }
            Err(faults) => {
                let shown = faults.iter().map(shown_fault).collect();
                let (digest, ending) = (None, Vec::new());
                let answer = Checked { valid: false, directory: &directory, digest, faults: shown, ending };
                settings.console().answer(&answer, |_| fault_list(&faults, &directory))?;
                Ok(Verdict::Refused)
            }
        }
    }
}

impl Explain {
    fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let directory = settings.policies(self.dir.as_deref())?;
        let bundle = loaded(&directory)?;
        let source = self.source_in(&bundle)?;
        let explanation = bundle.explain(&self.action, &self.ask(source)).map_err(|refusal| {
            Failure::refused(refusal.code(), format!("refused before any statement was looked at: {refusal}"))
                .next("names must be those of segments.toml and the route files of the bundle")
        })?;
        let answer = explained(&explanation, source);
        settings.console().answer(&answer, |_| format!("{explanation}  (from {source})\n"))?;
        Ok(if explanation.allowed { Verdict::Fine } else { Verdict::Refused })
    }

    fn ask(&self, source: IpAddr) -> Ask<'_> {
        Ask {
            collection: self.collection.as_deref(),
            destination: self.destination.as_deref(),
            acting_for: self.acting_for.as_deref(),
            route: self.route.as_deref(),
            purpose: self.purpose.as_deref(),
            ..Ask::new(&self.principal, !self.no_certificate, source)
        }
    }

    /// The address given, else the first of the principal's own segment: then only the rules are in question.
    fn source_in(&self, bundle: &Bundle) -> Result<IpAddr, Failure> {
        if let Some(source) = self.source {
            return Ok(source);
        }
        let service = bundle.service(&self.principal).ok_or_else(|| {
            let known: Vec<&str> = bundle.services().map(|service| service.name.as_str()).collect();
            Failure::refused("unknown-principal", "the bundle has no service of this name")
                .next(format!("its services are: {}", known.join(", ")))
        })?;
        let first = bundle.segment(&service.segment).and_then(|segment| segment.cidrs.first());
        first.map(ipnet_address).ok_or_else(|| {
            Failure::refused("segment", "the principal's segment has no addresses").next("give --source")
        })
    }
}

fn ipnet_address(range: &ipnet::IpNet) -> IpAddr {
    range.hosts().next().unwrap_or_else(|| range.addr())
}

/// The bundle, if it has no fault.
pub(crate) fn loaded(directory: &Path) -> Result<Bundle, Failure> {
    Bundle::load(directory).map_err(|faults| unusable(directory, &faults))
}

fn unusable(directory: &Path, faults: &Faults) -> Failure {
    let number = u64::try_from(faults.len()).unwrap_or(u64::MAX);
    let first = faults.to_string().lines().next().unwrap_or_default().to_owned();
    Failure::refused(
        "bundle",
        format!("{}: {}, the first: {first}", directory.display(), layout::counted(number, "fault")),
    )
    .next("`cordon policy check` lists them")
}

/// What a bundle allows for a time only and not much longer.
fn ending(bundle: &Bundle, today: Day) -> Vec<Ending> {
    let soon = bundle.passing().into_iter().filter(|passing| passing.until.days_from(today) <= NOTED_DAYS);
    let shown = |passing: Passing| Ending {
        over: passing.until.is_over(today),
        until: passing.until.to_string(),
        route: passing.route,
        what: passing.what,
    };
    soon.map(shown).collect()
}

fn summary(bundle: &Bundle, directory: &Path, ending: &[Ending]) -> String {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let parts = [
        layout::counted(number(bundle.services().count()), "service"),
        layout::counted(number(bundle.destinations().count()), "destination"),
        layout::counted(number(bundle.ingress().len()), "way in").replace("way ins", "ways in"),
        layout::counted(number(bundle.egress().len()), "way out").replace("way outs", "ways out"),
        layout::counted(number(bundle.statements().count()), "statement"),
    ];
    let mut rows = vec![
        ("Valid", directory.display().to_string()),
        ("Holds", parts.join(", ")),
        ("Digest", format!("sha-256 {}", bundle.digest())),
    ];
    if bundle.development() {
        rows.push(("Note", "a development bundle: a live environment refuses it".to_owned()));
    }
    for Ending { route, what, until, over } in ending {
        let when = if *over { "ended on" } else { "ends on" };
        rows.push(("Note", format!("route \"{route}\": {what} {when} {until}")));
    }
    layout::rows(&rows)
}

/// One `file:line:column: message` each, with paths an editor can open.
fn fault_list(faults: &Faults, directory: &Path) -> String {
    let mut out = String::new();
    for fault in faults.iter() {
        let file = directory.join(&fault.file);
        out.push_str(&format!("{}:{}:{}: {}\n", file.display(), fault.line, fault.column, fault.message));
        if let Some(help) = &fault.help {
            out.push_str(&format!("    help: {help}\n"));
        }
    }
    let number = u64::try_from(faults.len()).unwrap_or(u64::MAX);
    out.push_str(&format!("{} in {}\n", layout::counted(number, "fault"), directory.display()));
    out
}

fn shown_fault(fault: &cordon_policy::Fault) -> ShownFault<'_> {
    ShownFault {
        file: &fault.file,
        line: fault.line,
        column: fault.column,
        message: &fault.message,
        help: fault.help.as_deref(),
    }
}

fn explained(explanation: &Explanation, source: IpAddr) -> Explained<'_> {
    Explained {
        allowed: explanation.allowed,
        action: explanation.action.as_str(),
        principal: &explanation.principal,
        source,
        deciding: explanation.deciding.iter().map(shown_statement).collect(),
        near: explanation.near.iter().map(shown_statement).collect(),
        observations: &explanation.observations,
    }
}

fn shown_statement(statement: &Statement) -> ShownStatement<'_> {
    ShownStatement {
        id: &statement.id,
        effect: match statement.effect {
            StatementEffect::Permit => "permit",
            StatementEffect::Forbid => "forbid",
        },
        file: &statement.file,
        line: statement.line,
    }
}

/// Time enough to ask again whether it is needed.
const NOTED_DAYS: i32 = 30;

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_policy::shipped;

    const SEGMENTS: &str = r#"
        development = true
        [[segment]]
        name = "cde"
        cidrs = ["127.0.0.0/8"]
        scope = "cde"
        [[collection]]
        name = "cards"
        owner = "o"
        need = "n"
        [[service]]
        name = "operator"
        uri = "spiffe://cordon.test/operator"
        segment = "cde"
        role = "operator"
        collections = ["cards"]
        owner = "o"
        need = "n"
    "#;

    fn bundle(segments: &str) -> Result<Bundle, Faults> {
        let mut files =
            vec![("schema.cedarschema", shipped::SCHEMA), ("segments.toml", segments), ("routes.toml", "")];
        files.extend_from_slice(shipped::POLICIES);
        Bundle::parse(&files, Path::new("."))
    }

    fn asked(action: &str) -> Explain {
        Explain {
            dir: None,
            action: action.into(),
            principal: "operator".into(),
            collection: Some("cards".into()),
            destination: None,
            acting_for: None,
            route: None,
            purpose: None,
            source: None,
            no_certificate: false,
        }
    }

    #[test]
    fn faults_are_listed_with_paths_lines_and_columns() {
        let faults = bundle(&SEGMENTS.replace("scope = \"cde\"", "scope = \"cdee\"")).unwrap_err();
        let text = fault_list(&faults, Path::new("policies"));
        assert!(text.contains("policies/segments.toml:6:"), "{text}");
        assert!(text.trim_end().ends_with("in policies"), "{text}");
    }

    #[test]
    fn what_ends_soon_is_noted() {
        let routes = "[[ingress]]\nname = \"orders\"\nhosts = [\"a.test\"]\nmethods = [\"POST\"]\npath = \"/\"\n\
            upstream = \"http://127.0.0.1:1\"\nservice = \"operator\"\ncollection = \"cards\"\ncontent = [\"json\"]\n\
            exception = [{ in = \"request\", json = \"$.order\", reason = \"r\", approved_by = \"ann\", \
            until = \"2026-03-31\" }]\n";
        let mut files = vec![
            ("schema.cedarschema", shipped::SCHEMA),
            ("segments.toml", SEGMENTS),
            ("routes.toml", routes),
        ];
        files.extend_from_slice(shipped::POLICIES);
        let bundle = Bundle::parse(&files, Path::new(".")).unwrap_or_else(|faults| panic!("{faults}"));
        let noted = |today: &str| {
            let ending = ending(&bundle, Day::parse(today).unwrap());
            summary(&bundle, Path::new("."), &ending)
                .lines()
                .skip(3)
                .map(str::to_owned)
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert!(!noted("2026-02-28").contains("orders"));
        assert!(noted("2026-03-01").contains("exception at $.order, approved by ann ends on 2026-03-31"));
        assert!(noted("2026-04-01").contains("ended on 2026-03-31"));
    }

    #[test]
    fn an_explanation_names_statement_file_and_line() {
        let bundle = bundle(SEGMENTS).unwrap();
        let explain = asked("inspect");
        let source = explain.source_in(&bundle).unwrap();
        let explanation = bundle.explain(&explain.action, &explain.ask(source)).unwrap();
        let json = serde_json::to_value(explained(&explanation, source)).unwrap();
        assert_eq!(json["allowed"], true);
        assert_eq!(json["deciding"][0]["file"], "administration.cedar");
        assert!(json["deciding"][0]["line"].as_u64() > Some(1), "{json}");
    }

    #[test]
    fn without_a_certificate_it_is_denied() {
        let bundle = bundle(SEGMENTS).unwrap();
        let explain = Explain { no_certificate: true, ..asked("inspect") };
        let source = explain.source_in(&bundle).unwrap();
        assert!(!bundle.explain(&explain.action, &explain.ask(source)).unwrap().allowed);
    }

    #[test]
    fn an_unknown_principal_is_refused_with_the_known_ones() {
        let bundle = bundle(SEGMENTS).unwrap();
        let explain = Explain { principal: "oprator".into(), ..asked("inspect") };
        let failure = explain.source_in(&bundle).unwrap_err().to_string();
        assert!(failure.contains("operator"), "{failure}");
    }

    #[test]
    fn the_summary_counts_in_plain_words() {
        let text = summary(&bundle(SEGMENTS).unwrap(), Path::new("p"), &[]);
        assert!(text.contains("1 service, 0 destinations, 0 ways in, 0 ways out"), "{text}");
    }
}
