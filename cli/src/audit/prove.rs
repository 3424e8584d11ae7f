//! `cordon audit prove` and `check-proof`: one line, proven to somebody who has not got the log.
//!
//! Must never print a line of a proof that does not hold. Tests: `tests/tests/witness.rs`.

use super::{describe, read, unreadable, verifier, witness_keys};
use crate::exit::{Failure, Verdict, with_causes};
use crate::layout;
use crate::output::Console;
use clap::Args;
use cordon_audit::{InclusionProof, Line, ProofError};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// `cordon audit prove`.
#[derive(Debug, Args)]
#[command(
    after_help = "The proof is a text file (C2SP tlog-proof) that holds the line, its path through the tree and the
signed checkpoint: the cosigned one if that covers the line, else the newest. Whoever has the
verifier key checks it with `cordon audit check-proof`, without the log.

Examples:
  cordon audit prove --dir audit --index 4711 --out reveal.tlog-proof
  cordon audit prove --dir audit --request req_7KQ2 > reveal.tlog-proof"
)]
pub(crate) struct Prove {
    /// The log directory, or a copy of it
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The line's index
    #[arg(long, value_name = "N", required_unless_present = "request", conflicts_with = "request")]
    index: Option<u64>,
    /// The request whose only line it is
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// The verifier key [default: verifier.txt in DIR]
    #[arg(long, value_name = "FILE")]
    verifier: Option<PathBuf>,
    /// Write the proof to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// `cordon audit check-proof`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exits 1 if the proof does not hold. The keys must come from elsewhere than the proof.

Examples:
  cordon audit check-proof reveal.tlog-proof --key vault-verifier.txt
  cordon audit check-proof reveal.tlog-proof --key vault-verifier.txt --witness witness.txt"
)]
pub(crate) struct CheckProof {
    /// The proof
    file: PathBuf,
    /// The verifier key of the log
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The key of a witness that must have cosigned; may be given more than once
    #[arg(long, value_name = "FILE")]
    witness: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Made {
    index: u64,
    proof: String,
}

#[derive(Debug, Serialize)]
struct Holds {
    valid: bool,
    origin: String,
    signed_lines: u64,
    cosigned_by: Vec<String>,
    line: Line,
}

impl Prove {
    pub(super) fn run(&self, console: Console) -> Result<Verdict, Failure> {
        let key = verifier(&self.verifier.clone().unwrap_or_else(|| self.dir.join(super::VERIFIER)))?;
        let index = match (self.index, &self.request) {
            (Some(index), _) => index,
            (None, request) => only_line(&self.dir, request.as_deref().unwrap_or_default())?,
        };
        let proof = cordon_audit::prove(&self.dir, &key, index).map_err(|error| no_proof(&error))?;
        write(console, self.out.as_deref(), &Made { index, proof: proof.to_string() }, |made| {
            made.proof.clone()
        })
    }
}

impl CheckProof {
    pub(super) fn run(&self, console: Console) -> Result<Verdict, Failure> {
        let key = verifier(&self.key)?;
        let witnesses = witness_keys(&self.witness)?;
        let proven = InclusionProof::parse(&read(&self.file)?)
            .and_then(|proof| proof.check(&key, &witnesses))
            .map_err(|error| {
                Failure::refused("not-proven", with_causes(&error))
                    .next("take the line for unproven; ask for a proof from the log itself")
            })?;
        let cosigned_by = witnesses
            .iter()
            .zip(&proven.cosigned)
            .map(|(witness, at)| format!("{} at {}", witness.name(), super::witness::moment(*at)))
            .collect();
        let holds = Holds {
            valid: true,
            origin: proven.checkpoint.origin().as_str().to_owned(),
            signed_lines: proven.checkpoint.size(),
            cosigned_by,
            line: proven.line,
        };
        console.answer(&holds, describe_proven)?;
        Ok(Verdict::Fine)
    }
}

/// Writes what was made to a file or to stdout.
pub(super) fn write<T: Serialize>(
    console: Console,
    out: Option<&Path>,
    made: &T,
    text: impl Fn(&T) -> String,
) -> Result<Verdict, Failure> {
    match out {
        Some(path) => {
            fs::write(path, text(made)).map_err(|error| Failure::file(path, &error))?;
            console.note(&format!("written to {}", path.display()));
        }
        None => console.answer(made, text)?,
    }
    Ok(Verdict::Fine)
}

fn only_line(directory: &Path, request: &str) -> Result<u64, Failure> {
    let lines = cordon_audit::lines_of_request(directory, request).map_err(unreadable)?;
    match lines.as_slice() {
        [index] => Ok(*index),
        [] => Err(Failure::refused("no-line", "no line is of this request")
            .next("`cordon audit tail --dir` shows the lines and their requests")),
        several => {
            let listed: Vec<String> = several.iter().map(u64::to_string).collect();
            Err(Failure::refused("several-lines", format!("lines {} are of this request", listed.join(", ")))
                .next("choose one with --index"))
        }
    }
}

pub(super) fn no_proof(error: &ProofError) -> Failure {
    let failure = Failure::refused("no-proof", with_causes(error));
    match error {
        ProofError::NotCovered { .. } => {
            failure.next("wait a second for the next checkpoint, or check the index with `cordon audit tail`")
        }
        _ => failure.next("check the log with `cordon audit verify`"),
    }
}

fn describe_proven(holds: &Holds) -> String {
    let cosigned = if holds.cosigned_by.is_empty() {
        "nobody was asked for".to_owned()
    } else {
        holds.cosigned_by.join(", ")
    };
    layout::rows(&[
        (
            "Proven",
            format!("in the log of {}, of {}", holds.origin, layout::counted(holds.signed_lines, "line")),
        ),
        ("Cosigned", cosigned),
        ("Line", describe(&holds.line).trim_start().to_owned()),
    ])
}
