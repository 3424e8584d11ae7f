//! `cordon audit consistency`, `witness` and `cosign`: another party keeps the log honest.
//!
//! Must never let a witness cosign what it has not checked: that is all in `cordon-audit`. Tests: `tests/tests/witness.rs`.

use super::prove::{no_proof, write};
use super::{read, verifier, witness_keys};
use crate::configuration::{Settings, block_on};
use crate::exit::{Failure, Verdict, with_causes};
use crate::layout;
use crate::output::Console;
use clap::{Args, Subcommand};
use cordon_audit::{Name, Submission, Witness, WitnessError};
use cordon_wire::{AuditCosigned, AuditStatus};
use serde::Serialize;
use std::path::PathBuf;

/// `cordon audit consistency`.
#[derive(Debug, Args)]
#[command(
    after_help = "The answer is what C2SP tlog-witness takes at add-checkpoint: the old size, the proof, the newest
checkpoint. `cordon audit witness cosign` says which size it needs if it is given another.

Examples:
  cordon audit consistency --from 0 > submission    for a witness that knows nothing yet
  cordon audit consistency --from 120 --out submission
  cordon audit consistency --from 120 --dir /var/lib/cordon-gateway/audit"
)]
pub(crate) struct Consistency {
    /// Lines of the checkpoint that the witness cosigned last; 0 if none
    #[arg(long, value_name = "LINES")]
    from: u64,
    /// Read a log directory instead of asking the vault
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The verifier key [default: verifier.txt in DIR]
    #[arg(long, value_name = "FILE", requires = "dir")]
    verifier: Option<PathBuf>,
    /// Write to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// `cordon audit witness ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum Witnesses {
    /// Make a witness: its key and its memory
    Init(Init),
    /// Cosign a checkpoint, if it continues the last one cosigned
    Cosign(Judge),
}

/// `cordon audit witness init`.
#[derive(Debug, Args)]
#[command(
    after_help = "A witness is another party, on another machine. Its public key, witness.txt, goes to the
operators of the log and to whoever verifies it.

Examples:
  cordon audit witness init --state /var/lib/witness --name witness.example/w1"
)]
pub(crate) struct Init {
    /// The witness's directory
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Its name, as a URL without scheme
    #[arg(long, value_name = "NAME")]
    name: String,
}

/// `cordon audit witness cosign`.
#[derive(Debug, Args)]
#[command(
    after_help = "Refuses (exit 1) a checkpoint that is not a continuation of the last one cosigned: the log was cut
back, or shows two histories. Keep the submission then; it is evidence.

Examples:
  cordon audit witness cosign --state . --log vault-verifier.txt submission --out cosigned"
)]
pub(crate) struct Judge {
    /// The witness's directory
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// The verifier key of the log
    #[arg(long, value_name = "FILE")]
    log: PathBuf,
    /// What `cordon audit consistency` wrote
    submission: PathBuf,
    /// Write the cosigned checkpoint to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// `cordon audit cosign`.
#[derive(Debug, Args)]
#[command(
    after_help = "The vault keeps it if a witness of its configuration cosigned it. With --dir it is put beside a
log on this machine, such as a gateway's.

Examples:
  cordon audit cosign cosigned
  cordon audit cosign cosigned --dir /var/lib/cordon-gateway/audit --witness witness.txt"
)]
pub(crate) struct Cosign {
    /// What `cordon audit witness cosign` wrote
    note: PathBuf,
    /// Put it into a log directory instead of bringing it to the vault
    #[arg(long, value_name = "DIR", requires = "witness")]
    dir: Option<PathBuf>,
    /// The key of a witness that counts; may be given more than once
    #[arg(long, value_name = "FILE", requires = "dir")]
    witness: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Submitted {
    submission: String,
}

#[derive(Debug, Serialize)]
struct Made {
    name: String,
    key: String,
}

#[derive(Debug, Serialize)]
struct Cosigned {
    lines: u64,
    note: String,
}

impl Consistency {
    pub(super) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let submission = match &self.dir {
            Some(directory) => {
                let key =
                    verifier(&self.verifier.clone().unwrap_or_else(|| directory.join(super::VERIFIER)))?;
                cordon_audit::submission(directory, &key, self.from)
                    .map_err(|error| no_proof(&error))?
                    .to_string()
            }
            None => {
                let administrator = settings.administrator()?;
                block_on(async { Ok(administrator.audit_submission(self.from).await?.submission) })?
            }
        };
        write(settings.console(), self.out.as_deref(), &Submitted { submission }, |made| {
            made.submission.clone()
        })
    }
}

impl Witnesses {
    pub(super) fn run(&self, console: Console) -> Result<Verdict, Failure> {
        match self {
            Self::Init(init) => init.run(console),
            Self::Cosign(judge) => judge.run(console),
        }
    }
}

impl Init {
    fn run(&self, console: Console) -> Result<Verdict, Failure> {
        let name = Name::parse(&self.name).map_err(|error| Failure::usage(error.to_string()))?;
        let key = Witness::create(&self.state, &name).map_err(|error| refused(&error))?;
        console.answer(&Made { name: self.name.clone(), key: key.to_string() }, |made| made.key.clone())?;
        Ok(Verdict::Fine)
    }
}

impl Judge {
    fn run(&self, console: Console) -> Result<Verdict, Failure> {
        let witness = Witness::open(&self.state).map_err(|error| refused(&error))?;
        let log = verifier(&self.log)?;
        let submission = Submission::parse(&read(&self.submission)?).map_err(|error| refused(&error))?;
        let note = witness
            .add_checkpoint(&submission, &log, jiff::Timestamp::now())
            .map_err(|error| refused(&error))?;
        let lines = witness.last(&log).map_err(|error| refused(&error))?.map_or(0, |last| last.size());
        write(console, self.out.as_deref(), &Cosigned { lines, note }, |made| made.note.clone())
    }
}

impl Cosign {
    pub(super) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let note = read(&self.note)?;
        let Some(directory) = &self.dir else {
            let administrator = settings.administrator()?;
            let status = block_on(async { Ok(administrator.keep_cosigned(&AuditCosigned { note }).await?) })?;
            settings.console().answer(&status, describe)?;
            return Ok(Verdict::Fine);
        };
        let log = verifier(&directory.join(super::VERIFIER))?;
        let kept = cordon_audit::keep_cosigned(directory, &log, witness_keys(&self.witness)?, &note)
            .map_err(|error| Failure::refused("not-kept", with_causes(&error)))?;
        let lines = kept.checkpoint.size();
        settings.console().answer(&Cosigned { lines, note: kept.checkpoint.note().to_owned() }, |kept| {
            format!("kept: {}", layout::counted(kept.lines, "line"))
        })?;
        Ok(Verdict::Fine)
    }
}

fn describe(status: &AuditStatus) -> String {
    let cosigned = match &status.cosigned {
        Some(cosigned) => format!(
            "{} by {} at {}",
            layout::counted(cosigned.lines, "line"),
            layout::counted(cosigned.witnesses, "witness"),
            layout::moment(&cosigned.at)
        ),
        None => "nothing".to_owned(),
    };
    layout::rows(&[("Signed", layout::counted(status.signed, "line")), ("Cosigned", cosigned)])
}

/// A witness's refusal: the log's fault, the submitter's, or its own.
fn refused(error: &WitnessError) -> Failure {
    let message = with_causes(error);
    match error {
        WitnessError::Behind { have, .. } => Failure::refused("behind", message)
            .next(format!("make it with `cordon audit consistency --from {have}`")),
        WitnessError::Fork { .. } | WitnessError::Inconsistent { .. } => Failure::refused(
            "not-continued",
            message,
        )
        .next(
            "keep the submission as evidence and call the log's operators: it was cut back or written anew",
        ),
        WitnessError::Request | WitnessError::Checkpoint(_) => Failure::refused("submission", message)
            .next("submit what `cordon audit consistency` wrote for this log"),
        _ => Failure::refused("witness", message)
            .next("check --state; `cordon audit witness init` makes a witness"),
    }
}

/// Seconds since 1970 for a human.
pub(super) fn moment(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    at.map_or_else(|| "an unknown time".to_owned(), |at| at.to_string())
}
