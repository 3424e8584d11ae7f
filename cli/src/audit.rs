//! `cordon audit`: read the log and verify it.
//!
//! Must never print a line it could not parse as it stands: it comes from a file or a peer. Must never vouch for
//! a log by reading it: that is `verify`. Tests: below; on real logs in the workspace's `tests` crate.

use crate::configuration::{Settings, block_on};
use crate::exit::{Failure, Verdict, with_causes};
use crate::layout;
use crate::output::Console;
use clap::{Args, Subcommand};
use cordon_audit::{
    Action, Against, Checkpoint, Line, Outcome, Source, Verified, VerifierKey, VerifyError, WitnessKey,
};
use cordon_client::Administrator;
use cordon_wire::limits::MAX_AUDIT_PAGE;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod prove;
mod witness;

/// `cordon audit ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum Audits {
    /// Show the latest lines
    Tail(Tail),
    /// Prove that no line was changed, removed or reordered; works offline
    Verify(Verify),
    /// Prove to others that one line is in the log
    Prove(prove::Prove),
    /// Check such a proof; works offline
    CheckProof(prove::CheckProof),
    /// Show a witness that the log continues the checkpoint it last cosigned
    Consistency(witness::Consistency),
    /// Be a witness of somebody's log
    #[command(subcommand)]
    Witness(witness::Witnesses),
    /// Bring the log a checkpoint that a witness cosigned
    Cosign(witness::Cosign),
}

/// `cordon audit tail`.
#[derive(Debug, Args)]
#[command(
    after_help = "With --json each line is printed as it stands in the log. Looking at the vault's log is itself a
line of it; -f leaves those lines out.

Examples:
  cordon audit tail                       the last 20 lines, from the vault
  cordon audit tail -n 100 -f             the last 100, then new ones as they come
  cordon audit tail --dir /var/lib/cordon-gateway/audit
  cordon audit tail -n 1000 --json | jq 'select(.outcome == \"denied\")'"
)]
pub(crate) struct Tail {
    /// Lines to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    lines: u64,
    /// Wait for new lines, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Read a log directory instead of asking the vault
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// `cordon audit verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "The verifier key should come from elsewhere than the log: who can write the directory can replace
the key in it, too. A checkpoint that was kept elsewhere also proves that the log was not cut back
and signed anew.

Examples:
  cordon audit verify --dir audit --verifier vault-verifier.txt
  cordon audit verify --dir audit --verifier vault-verifier.txt --checkpoint last-week.checkpoint
  cordon audit verify --dir audit --verifier vault-verifier.txt --witness witness.txt
  cordon audit verify --dir audit --json"
)]
pub(crate) struct Verify {
    /// The log directory, or a copy of it
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The verifier key [default: verifier.txt in DIR]
    #[arg(long, value_name = "FILE")]
    verifier: Option<PathBuf>,
    /// A checkpoint that was kept elsewhere
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// The key of a witness that must have cosigned; may be given more than once
    #[arg(long, value_name = "FILE")]
    witness: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Proof {
    valid: bool,
    origin: String,
    lines: u64,
    signed_lines: u64,
    segments: usize,
    torn_bytes: u64,
    first_at: Option<String>,
    last_at: Option<String>,
    verifier: PathBuf,
    verifier_from_log: bool,
    kept_checkpoint: Option<PathBuf>,
    tiles: u64,
    cosigned_lines: Option<u64>,
    cosigned_by: Vec<String>,
}

impl Audits {
    /// Does what was asked.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        match self {
            Self::Tail(tail) => match &tail.dir {
                Some(directory) => tail.of_directory(directory, settings.console()),
                None => {
                    let administrator = settings.administrator()?;
                    block_on(tail.of_vault(&administrator, settings.console()))
                }
            },
            Self::Verify(verify) => verify.run(settings.console()),
            Self::Prove(prove) => prove.run(settings.console()),
            Self::CheckProof(check) => check.run(settings.console()),
            Self::Consistency(consistency) => consistency.run(settings),
            Self::Witness(witness) => witness.run(settings.console()),
            Self::Cosign(cosign) => cosign.run(settings),
        }
    }
}

impl Tail {
    async fn of_vault(&self, administrator: &Administrator, console: Console) -> Result<Verdict, Failure> {
        let size = administrator.status().await?.audit_size;
        let mut from = size.saturating_sub(self.lines);
        let mut left = size.saturating_sub(from);
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(MAX_AUDIT_PAGE).min(MAX_AUDIT_PAGE);
            let page = administrator.audit_page(from, wanted).await?;
            for line in &page.lines {
                print_parsed(console, &parsed(line)?)?;
            }
            let came = page.next.saturating_sub(from);
            left = if came == 0 { 0 } else { left.saturating_sub(came) };
            from = page.next.max(from);
        }
        if !self.follow {
            return Ok(Verdict::Fine);
        }
        loop {
            tokio::time::sleep(FOLLOW_EVERY).await;
            let page = administrator.audit_page(from, MAX_AUDIT_PAGE).await?;
            from = page.next.max(from);
            for line in &page.lines {
                let line = parsed(line)?;
                // Each look at the log is itself a line of it: following would show nothing but itself.
                if line.what != Action::AuditRead {
                    print_parsed(console, &line)?;
                }
            }
        }
    }

    fn of_directory(&self, directory: &Path, console: Console) -> Result<Verdict, Failure> {
        let first = cordon_audit::read(directory).map_err(unreadable)?;
        let keep = usize::try_from(self.lines).unwrap_or(usize::MAX);
        let mut last = std::collections::VecDeque::new();
        for line in first {
            last.push_back(line.map_err(unreadable)?);
            if last.len() > keep {
                last.pop_front();
            }
        }
        let mut next = last.back().map_or(0, |line| line.index.saturating_add(1));
        for line in &last {
            print_parsed(console, line)?;
        }
        if !self.follow {
            return Ok(Verdict::Fine);
        }
        loop {
            std::thread::sleep(FOLLOW_EVERY);
            for line in cordon_audit::read_from(directory, next).map_err(unreadable)? {
                let line = line.map_err(unreadable)?;
                next = line.index.saturating_add(1);
                print_parsed(console, &line)?;
            }
        }
    }
}

impl Verify {
    fn run(&self, console: Console) -> Result<Verdict, Failure> {
        let path = self.verifier.clone().unwrap_or_else(|| self.dir.join(VERIFIER));
        let key = verifier(&path)?;
        let witnesses = witness_keys(&self.witness)?;
        let kept = match &self.checkpoint {
            None => None,
            Some(file) => {
                let opened = Checkpoint::open(&read(file)?, &key);
                Some(opened.map_err(|error| {
                    Failure::refused("checkpoint", format!("{}: {error}", file.display()))
                })?)
            }
        };
        let spinner = console.spinner("verifying");
        let against = Against { verifier: &key, kept: kept.as_ref(), witnesses: &witnesses };
        let result = cordon_audit::verify_against(&self.dir, &against);
        spinner.finish_and_clear();
        let verified = result.map_err(|error| not_verified(&error))?;
        console.answer(&self.proof(&verified, path, &witnesses), describe_proof)?;
        Ok(Verdict::Fine)
    }

    fn proof(&self, verified: &Verified, verifier: PathBuf, witnesses: &[WitnessKey]) -> Proof {
        Proof {
            valid: true,
            origin: verified.signed.origin().as_str().to_owned(),
            lines: verified.lines,
            signed_lines: verified.signed.size(),
            segments: verified.segments,
            torn_bytes: verified.torn_bytes,
            first_at: verified.first_at.map(|at| at.to_string()),
            last_at: verified.last_at.map(|at| at.to_string()),
            verifier,
            verifier_from_log: self.verifier.is_none(),
            kept_checkpoint: self.checkpoint.clone(),
            tiles: verified.tiles,
            cosigned_lines: verified
                .cosigned
                .as_ref()
                .filter(|_| !witnesses.is_empty())
                .map(Checkpoint::size),
            cosigned_by: witnesses
                .iter()
                .zip(&verified.cosigned_at)
                .map(|(witness, at)| format!("{} at {}", witness.name(), witness::moment(*at)))
                .collect(),
        }
    }
}

fn describe_proof(proof: &Proof) -> String {
    let times = match (&proof.first_at, &proof.last_at) {
        (Some(first), Some(last)) => format!("{first} to {last}"),
        _ => "none".to_owned(),
    };
    let lines = format!(
        "{} in {}, {} of them signed",
        layout::counted(proof.lines, "line"),
        layout::counted(u64::try_from(proof.segments).unwrap_or(u64::MAX), "segment"),
        layout::count(proof.signed_lines)
    );
    let mut rows = vec![
        ("Valid", format!("log of {}", proof.origin)),
        ("Lines", lines),
        ("Time", times),
        ("Verifier", proof.verifier.display().to_string()),
    ];
    match &proof.kept_checkpoint {
        Some(path) => rows.push(("Kept", format!("{} agrees", path.display()))),
        None => rows.push(("Kept", "no checkpoint from elsewhere was compared (--checkpoint)".to_owned())),
    }
    match proof.cosigned_lines {
        Some(lines) => rows.push((
            "Cosigned",
            format!("{} by {}", layout::counted(lines, "line"), proof.cosigned_by.join(", ")),
        )),
        None => rows.push(("Cosigned", "no witness was asked for (--witness)".to_owned())),
    }
    if proof.verifier_from_log {
        rows.push((
            "Warning",
            "the verifier key was read from the log's own directory: who can write there can replace both. \
             Give --verifier a copy that was kept elsewhere."
                .to_owned(),
        ));
    }
    if proof.torn_bytes > 0 {
        let torn = layout::bytes(proof.torn_bytes);
        rows.push((
            "Note",
            format!("{torn} at the end never became a line (a crash while writing; never acknowledged)"),
        ));
    }
    layout::rows(&rows)
}

fn not_verified(error: &VerifyError) -> Failure {
    let message = with_causes(error);
    match error {
        VerifyError::Io { .. } => Failure::refused("file", message),
        _ => Failure::refused("not-verified", format!("this is not the log that was written: {message}"))
            .next("keep the directory as evidence, and compare it with the copy shipped elsewhere"),
    }
}

/// A raw line of a peer: shown only in a form of our own making.
fn parsed(raw: &str) -> Result<Line, Failure> {
    Line::parse(raw.as_bytes()).map_err(|error| {
        Failure::refused("malformed", error.to_string()).next("use the CLI of the vault's version")
    })
}

fn print_parsed(console: Console, line: &Line) -> Result<(), Failure> {
    console.answer(line, describe)
}

/// One line for a human: when, how it ended, what, who, and whatever else is known.
fn describe(line: &Line) -> String {
    let outcome = match line.outcome {
        Outcome::Allowed => "allowed",
        Outcome::Denied => "DENIED",
        Outcome::Failed => "FAILED",
    };
    let what = serde_json::to_value(line.what).ok();
    let what = what.as_ref().and_then(|value| value.as_str()).unwrap_or("?");
    let at = layout::moment(&line.at.to_string());
    let mut out = format!("{:>7} {at} {outcome:<7} {what} by {}", line.index, line.who.as_str());
    if let Source::Address(address) = line.from {
        out.push_str(&format!(" from {address}"));
    }
    let named = [
        ("for", &line.acting_for),
        ("on", &line.on),
        ("to", &line.destination),
        ("route", &line.route),
        ("purpose", &line.purpose),
        ("reason", &line.reason),
    ];
    if let Some(collection) = &line.collection {
        out.push_str(&format!(" collection={collection}"));
    }
    for (label, name) in named {
        if let Some(name) = name {
            out.push_str(&format!(" {label}={}", name.as_str()));
        }
    }
    if let Some(items) = line.items {
        out.push_str(&format!(" items={items}"));
    }
    if let Some(since) = line.since {
        out.push_str(&format!(" since={}", layout::moment(&since.to_string())));
    }
    if let [token] = line.tokens.as_slice() {
        out.push_str(&format!(" token={token}"));
    }
    out
}

fn verifier(path: &Path) -> Result<VerifierKey, Failure> {
    VerifierKey::parse(read(path)?.trim_end()).map_err(|error| {
        Failure::refused("verifier", format!("{}: {error}", path.display()))
            .next("give the verifier key of this log with --verifier")
    })
}

fn witness_keys(paths: &[PathBuf]) -> Result<Vec<WitnessKey>, Failure> {
    let key = |path: &PathBuf| {
        WitnessKey::parse(read(path)?.trim_end()).map_err(|error| {
            Failure::refused("witness", format!("{}: {error}", path.display()))
                .next("give the witness.txt that `cordon audit witness init` made")
        })
    };
    paths.iter().map(key).collect()
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::file(path, &error))
}

fn unreadable(error: cordon_audit::ReadError) -> Failure {
    Failure::refused("audit", with_causes(&error)).next("check it with `cordon audit verify`")
}

/// How often a followed log is looked at.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
const VERIFIER: &str = "verifier.txt";

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"n":3,"at":"2026-05-06T07:08:09.000010Z","who":"signup","what":"tokenize","outcome":"denied","from":"10.0.0.9","on":"vault","reason":"no-statement","sum":"AAAAAAAAAAAAAAAAAAAAAAAAAA"}"#;

    #[test]
    fn a_line_reads_as_a_sentence() {
        let text = describe(&Line::parse(LINE.as_bytes()).unwrap());
        let expected = "      3 2026-05-06T07:08:09Z DENIED  tokenize by signup from 10.0.0.9 on=vault reason=no-statement";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_line_that_is_none_is_refused_and_not_repeated() {
        let failure = parsed("\x1b[2J 4111111111111111").unwrap_err().to_string();
        assert!(!failure.contains("4111") && !failure.contains('\x1b'), "{failure}");
    }

    #[test]
    fn a_key_out_of_the_log_itself_is_warned_about() {
        let proof = Proof {
            valid: true,
            origin: "vault".into(),
            lines: 3,
            signed_lines: 2,
            segments: 1,
            torn_bytes: 7,
            first_at: None,
            last_at: None,
            verifier: "audit/verifier.txt".into(),
            verifier_from_log: true,
            kept_checkpoint: None,
            tiles: 0,
            cosigned_lines: None,
            cosigned_by: Vec::new(),
        };
        let text = describe_proof(&proof);
        assert!(text.contains("Warning") && text.contains("--checkpoint") && text.contains("7 B"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= layout::WIDTH), "{text}");
    }

    #[test]
    fn a_missing_checkpoint_is_not_a_proof() {
        assert_eq!(not_verified(&VerifyError::CheckpointMissing).code(), "not-verified");
    }
}
