//! `cordon policy test`: the cases of a bundle, against the engines that serve.
//!
//! Statements are asked in this process. Routes are played by `cordon-gateway --rehearse`, which has the gateway's own code
//! for them and no network. Must never call a bundle tested when a case was not run. Tests: `tests/tests/policy_test.rs`.

use super::mutate::{Mutant, mutants};
use super::{loaded, unusable};
use crate::configuration::Settings;
use crate::exit::{Failure, Verdict};
use crate::layout;
use clap::Args;
use cordon_policy::{Bundle, Case, Faults, load_cases, load_route_cases};
use cordon_wire::{Played, Rehearse, Rehearsed};
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// `cordon policy test`.
#[derive(Debug, Args)]
#[command(
    after_help = "Runs cases/*.json against the statements and cases/routes/*.toml through the gateway's own code.
Exits 1 when a case fails, or a statement or route has none. docs/policy-tests.md shows how
one is written.

Examples:
  cordon policy test policies
  cordon policy test policies --mutate
  cordon policy test --json | jq '.failures'"
)]
pub(crate) struct Test {
    /// The bundle [default: `policies` of the configuration, then ./policies]
    dir: Option<PathBuf>,
    /// Also remove each rule in turn, and name those that no case would miss
    #[arg(long)]
    mutate: bool,
    /// The gateway that plays routes [default: `cordon-gateway` beside this program, then in PATH]
    #[arg(long, value_name = "FILE")]
    gateway: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct Tested {
    passed: usize,
    failures: Vec<String>,
    gaps: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mutants: Option<Mutants>,
}

#[derive(Debug, Serialize)]
struct Mutants {
    tried: usize,
    /// Changes that no case noticed.
    unnoticed: Vec<String>,
}

/// A bundle and its cases.
struct Subject {
    directory: PathBuf,
    files: Vec<(String, String)>,
    statements: Vec<Case>,
    routes: Vec<(String, String)>,
}

impl Test {
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let directory = settings.policies(self.dir.as_deref())?;
        let bundle = loaded(&directory)?;
        let subject = Subject::read(directory)?;
        let mut stage = Stage::open(self.gateway.as_deref())?;
        let mut tested = subject.test(&bundle, &mut stage)?;
        if self.mutate && tested.failures.is_empty() {
            let bar = settings.console().bar("rules");
            let all = mutants(&subject.files, &bundle);
            bar.set_length(u64::try_from(all.len()).unwrap_or_default());
            let mut unnoticed = Vec::new();
            for mutant in &all {
                if !subject.notices(mutant, &mut stage)? {
                    unnoticed.push(format!("{}: {}", mutant.file, mutant.change));
                }
                bar.inc(1);
            }
            bar.finish_and_clear();
            tested.mutants = Some(Mutants { tried: all.len(), unnoticed });
        }
        settings.console().answer(&tested, |tested| said(tested, &subject.directory))?;
        let missed = tested.mutants.as_ref().is_some_and(|mutants| !mutants.unnoticed.is_empty());
        let clean = tested.failures.is_empty() && tested.gaps.is_empty() && !missed;
        Ok(if clean { Verdict::Fine } else { Verdict::Refused })
    }
}

impl Subject {
    fn read(directory: PathBuf) -> Result<Self, Failure> {
        let faulty = |faults: Faults| unusable(&directory, &faults);
        let cases = directory.join("cases");
        if !cases.is_dir() {
            return Err(Failure::refused("cases", format!("{}: the bundle has no cases", cases.display()))
                .next("write some: docs/policy-tests.md shows how"));
        }
        let files = Bundle::read(&directory).map_err(faulty)?;
        let statements = load_cases(&cases).map_err(faulty)?;
        let routes = load_route_cases(&directory).map_err(faulty)?;
        Ok(Self { directory, files, statements, routes })
    }

    fn test(&self, bundle: &Bundle, stage: &mut Stage) -> Result<Tested, Failure> {
        let report = bundle.run_cases(&self.statements);
        let rehearsed = stage.play(&self.files, &self.routes)?;
        if !rehearsed.faults.is_empty() {
            return Err(Failure::refused("cases", rehearsed.faults.join("\n"))
                .next("mend the cases; docs/policy-tests.md shows how they are written"));
        }
        let mut tested =
            Tested { passed: report.passed, failures: report.failures, gaps: report.gaps, mutants: None };
        for Played { file, name, differences, .. } in &rehearsed.played {
            if differences.is_empty() {
                tested.passed = tested.passed.saturating_add(1);
            } else {
                tested.failures.push(format!("{file}: \"{name}\": {}", differences.join("\n")));
            }
        }
        let passed: BTreeSet<&str> =
            rehearsed.played.iter().filter_map(|played| played.passed_by.as_deref()).collect();
        let untested = rehearsed.routes.iter().filter(|route| !passed.contains(route.as_str()));
        tested.gaps.extend(untested.map(|route| format!("no case passes through route {route}")));
        Ok(tested)
    }

    /// Whether a case fails, or the bundle is none any more.
    fn notices(&self, mutant: &Mutant, stage: &mut Stage) -> Result<bool, Failure> {
        let files = mutant.files(&self.files);
        let named: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let Ok(bundle) = Bundle::parse(&named, &self.directory) else { return Ok(true) };
        if !bundle.run_cases(&self.statements).failures.is_empty() {
            return Ok(true);
        }
        let Rehearsed { faults, played, .. } = stage.play(&files, &self.routes)?;
        Ok(!faults.is_empty() || played.iter().any(|played| !played.differences.is_empty()))
    }
}

/// A gateway that plays cases; it ends with this value.
struct Stage {
    gateway: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Stage {
    fn open(gateway: Option<&Path>) -> Result<Self, Failure> {
        let program = gateway.map_or_else(beside, Path::to_owned);
        let missing = |error: &dyn std::fmt::Display| {
            Failure::refused("gateway", format!("{}: {error}", program.display()))
                .next("install cordon-gateway beside this program, or name it with --gateway")
        };
        let spawned = Command::new(&program)
            .args(["--rehearse", "--log", "error"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut gateway = spawned.map_err(|error| missing(&error))?;
        let (input, output) =
            gateway.stdin.take().zip(gateway.stdout.take()).ok_or_else(|| missing(&"no pipes"))?;
        Ok(Self { gateway, input, output: BufReader::new(output) })
    }

    fn play(&mut self, files: &[(String, String)], cases: &[(String, String)]) -> Result<Rehearsed, Failure> {
        let wanted = Rehearse { files: files.to_vec(), cases: cases.to_vec() };
        let mut line = serde_json::to_vec(&wanted).map_err(std::io::Error::from)?;
        line.push(b'\n');
        let mut answer = String::new();
        self.input.write_all(&line)?;
        self.input.flush()?;
        self.output.read_line(&mut answer)?;
        serde_json::from_str(&answer).map_err(|error| {
            Failure::refused("gateway", format!("the gateway does not rehearse: {error}"))
                .next("it must be of the same version as this program")
        })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.gateway.kill().is_ok() {
            drop(self.gateway.wait());
        }
    }
}

/// The gateway beside this program, else by its name in the search path.
fn beside() -> PathBuf {
    let own = std::env::current_exe().map(|own| own.with_file_name(GATEWAY));
    own.ok().filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(GATEWAY))
}

fn said(tested: &Tested, directory: &Path) -> String {
    let Tested { passed, failures, gaps, mutants } = tested;
    let count = |number: usize, what| layout::counted(u64::try_from(number).unwrap_or(u64::MAX), what);
    let mut text = String::new();
    for failure in failures {
        text.push_str(&format!("failed: {failure}\n"));
    }
    for gap in gaps {
        text.push_str(&format!("gap: {gap}\n"));
    }
    if let Some(Mutants { tried, unnoticed }) = mutants {
        for change in unnoticed {
            text.push_str(&format!("no case would notice: {change}\n"));
        }
        let noticed = tried.saturating_sub(unnoticed.len());
        text.push_str(&format!("{}, {noticed} noticed\n", count(*tried, "change")));
    }
    let total = passed.saturating_add(failures.len());
    text.push_str(&format!("{}: {}, {passed} passed\n", directory.display(), count(total, "case")));
    text
}

const GATEWAY: &str = "cordon-gateway";
