//! `cordon export`: all cards of a collection, encrypted by the vault to a recipient.
//!
//! Must never see a card: what arrives here is encrypted. Tests: `tests/tests/export.rs`.

use crate::configuration::Settings;
use crate::exit::{Failure, Verdict};
use crate::{approvals, collection, download};
use clap::Args;
use cordon_card::CollectionName;
use cordon_client::ClientError;
use cordon_wire::{ExportRequest, ProblemCode};
use serde::Serialize;
use std::path::PathBuf;

/// `cordon export`.
#[derive(Debug, Args)]
#[command(
    after_help = "Two custodians must approve exactly this collection and recipient: the first run asks for that
and ends with 75, the same command does it afterwards, once. The audit log names every token before
its card is opened. The file holds JSON lines with token, pan and expiry.

Examples:
  cordon export --collection cards --recipient age1... --out cards.age
  age --decrypt --identity key.txt cards.age        where the recipient is"
)]
pub(crate) struct Export {
    /// The collection whose cards leave
    #[arg(long, value_name = "NAME", value_parser = collection::name)]
    collection: CollectionName,
    /// Whose key can open the file
    #[arg(long, value_name = "age1...", value_parser = recipient)]
    recipient: String,
    /// Where it goes; an existing file is not overwritten
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Serialize)]
struct Exported {
    collection: CollectionName,
    recipient: String,
    file: PathBuf,
    bytes: u64,
}

impl Export {
    /// Does what was asked.
    pub(crate) fn run(self, settings: &Settings) -> Result<Verdict, Failure> {
        let administrator = settings.administrator()?;
        let request = ExportRequest { collection: self.collection, recipient: self.recipient };
        let call = async |take: download::Take<'_>| administrator.export(&request, take).await;
        match download::whole(settings.console(), &self.out, call)? {
            Ok(bytes) => {
                let ExportRequest { collection, recipient } = request;
                let answer = Exported { collection, recipient, file: self.out, bytes };
                settings.console().answer(&answer, |answer| {
                    format!("{} encrypted bytes in {}.", answer.bytes, answer.file.display())
                })?;
                Ok(Verdict::Fine)
            }
            Err(ClientError::Problem(problem)) if problem.code == ProblemCode::ApprovalRequired => {
                approvals::ask(settings, &administrator, &request.into())
            }
            Err(other) => Err(other.into()),
        }
    }
}

/// An age public key, so that a slip is noticed before custodians are asked.
fn recipient(text: &str) -> Result<String, String> {
    cordon_archive::Recipients::parse(&[text])
        .map(|_key| text.to_owned())
        .map_err(|_error| "not an age public key (age1...)".to_owned())
}
