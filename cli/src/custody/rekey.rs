//! `cordon rekey`, and the root key's part of `cordon keys rotate`: new shares by a quorum of the present custodians.
//!
//! Must never take a share but through `ShareSource`, or write one that is not encrypted. Tests: below, and
//! `tests/tests/custodians.rs`.

use super::CustodianSet;
use super::share::ShareSource;
use crate::approvals;
use crate::configuration::{Settings, block_on};
use crate::exit::{Failure, Verdict};
use crate::layout;
use clap::{Args, Subcommand};
use cordon_client::{Administrator, ClientError};
use cordon_wire::{
    Delivery, Operation, ProblemCode, RekeyList, RekeyRequest, RekeyShare, RekeyState, RekeyStatus, SealKind,
};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// `cordon rekey`.
#[derive(Debug, Args)]
#[command(
    after_help = "Somebody begins it; present custodians give their shares for exactly that; new custodians fetch
their new shares, and a quorum of them gives them back. Only then do the new shares count and the
old ones do not: until that moment nothing has changed. It must be done within an hour.

Examples:
  cordon rekey begin --threshold 2 --custodian alice=age1... --custodian bob=age1...
  cordon rekey give --share-file alice.age --identity key.txt
  cordon rekey fetch --shares-dir new                   then `give` the new share
  cordon rekey                                          how far it is"
)]
pub(crate) struct Rekey {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show how far it is
    Status(Status),
    /// Begin: who holds shares afterwards, and how many are needed
    Begin(Begin),
    /// Give a share: the present one first, the new one when it is out
    Give(Give),
    /// Write the new shares to files, encrypted
    Fetch(Fetch),
    /// Give it up; nothing has changed
    Abort(Abort),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cordon rekey status
  cordon rekey status --json")]
struct Status {}

#[derive(Debug, Args)]
#[command(after_help = "Every custodian needs an age recipient. A new root key: `cordon keys rotate root`.

Examples:
  cordon rekey begin --threshold 2 --custodian alice=age1... --custodian bob=age1...")]
struct Begin {
    #[command(flatten)]
    set: CustodianSet,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cordon rekey give
  cordon rekey give --share-file alice.age --identity key.txt
  cordon rekey give --acknowledge --share-file new/dave.age --identity dave.txt")]
struct Give {
    #[command(flatten)]
    source: ShareSource,
    /// Acknowledge the duties of a custodian; recorded
    #[arg(long)]
    acknowledge: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cordon rekey fetch
  cordon rekey fetch --shares-dir new")]
struct Fetch {
    /// Write NAME.age in this directory
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    shares_dir: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cordon rekey abort")]
struct Abort {}

impl Rekey {
    /// Does what was asked.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let administrator = settings.administrator()?;
        let console = settings.console();
        match &self.command {
            None | Some(Command::Status(Status {})) => {
                let list = block_on(async { Ok(administrator.rekeys().await?) })?;
                console.answer(&list, describe_all)?;
            }
            Some(Command::Begin(begin)) => return start(settings, &administrator, &begin.set, false),
            Some(Command::Give(give)) => {
                let under_way = block_on(under_way(&administrator))?;
                if !console.json() {
                    console.note(&describe(&under_way));
                }
                let share = give.source.read("Share (not shown): ")?;
                let request = RekeyShare { id: under_way.id, share, acknowledge: give.acknowledge };
                let status = block_on(async { Ok(administrator.give_rekey_share(&request).await?) })?;
                console.answer(&status, describe)?;
            }
            Some(Command::Fetch(fetch)) => {
                let status = block_on(under_way(&administrator))?;
                if status.issued.is_empty() {
                    return Err(Failure::refused("too-early", "the new shares are not made yet")
                        .next("present custodians run `cordon rekey give` first"));
                }
                write(&fetch.shares_dir, &status)?;
                console.answer(&status, describe)?;
            }
            Some(Command::Abort(Abort {})) => {
                let status = block_on(async { Ok(administrator.abort_rekey().await?) })?;
                console.answer(&status, describe)?;
            }
        }
        Ok(Verdict::Fine)
    }
}

/// Begins a rekey, with a new root key or without.
pub(crate) fn start(
    settings: &Settings,
    administrator: &Administrator,
    set: &CustodianSet,
    rotate_root: bool,
) -> Result<Verdict, Failure> {
    let custodians = set.checked()?.to_vec();
    let request =
        RekeyRequest { rotate_root, threshold: set.threshold(), custodians, ..RekeyRequest::default() };
    begin(settings, administrator, &request)
}

/// Begins it, or asks the custodians who must approve it.
pub(super) fn begin(
    settings: &Settings,
    administrator: &Administrator,
    request: &RekeyRequest,
) -> Result<Verdict, Failure> {
    match block_on(async { Ok(administrator.begin_rekey(request).await) })? {
        Ok(status) => {
            settings.console().answer(&status, describe)?;
            Ok(Verdict::Fine)
        }
        Err(ClientError::Problem(problem)) if problem.code == ProblemCode::ApprovalRequired => {
            approvals::ask(settings, administrator, &Operation::ChangeSeal(request.clone()))
        }
        Err(other) => Err(other.into()),
    }
}

async fn under_way(administrator: &Administrator) -> Result<RekeyStatus, Failure> {
    administrator.rekeys().await?.rekeys.into_iter().next().ok_or_else(|| {
        Failure::refused("none", "no rekey is under way").next("begin one with `cordon rekey begin`")
    })
}

fn write(directory: &Path, status: &RekeyStatus) -> Result<(), Failure> {
    for share in &status.issued {
        let Delivery::Age(text) = &share.delivery else { continue };
        let path = directory.join(format!("{}.age", share.custodian));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let written =
            file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
        written.map_err(|error| Failure::file(&path, &error))?;
    }
    Ok(())
}

fn describe_all(list: &RekeyList) -> String {
    match list.rekeys.first() {
        Some(status) => describe(status),
        None => "No rekey is under way.".to_owned(),
    }
}

fn describe(status: &RekeyStatus) -> String {
    let missing = u64::from(status.needed.saturating_sub(status.given));
    let (state, next) = match status.state {
        RekeyState::Collecting => (
            format!("{} of {} present shares given", status.given, status.needed),
            format!("{} more: each runs `cordon rekey give`", layout::counted(missing, "present custodian")),
        ),
        RekeyState::Proving => (
            format!("new shares are out, {} of {} came back", status.given, status.needed),
            "`cordon rekey fetch`, then new custodians run `cordon rekey give`; the old shares count until then"
                .to_owned(),
        ),
        RekeyState::Done => {
            let next = match status.to {
                SealKind::Shamir => "the new shares count from now on; destroy the old ones",
                SealKind::Static | SealKind::Pkcs11 | SealKind::DevFile => {
                    "the vault unseals itself from now on; shares from before are worthless"
                }
            };
            ("done".to_owned(), next.to_owned())
        }
        RekeyState::Aborted => {
            ("given up".to_owned(), "nothing has changed; new shares that are out are worthless".to_owned())
        }
    };
    let sealed = match status.to {
        SealKind::Shamir => "new shares",
        SealKind::Static => "a static key",
        SealKind::Pkcs11 => "a key in the HSM",
        SealKind::DevFile => "a key file",
    };
    let what = if status.rotate_root { format!("new root key and {sealed}") } else { sealed.to_owned() };
    let afterwards = match status.to {
        SealKind::Shamir => format!("{} of: {}", status.threshold, status.custodians.join(", ")),
        SealKind::Static | SealKind::Pkcs11 | SealKind::DevFile => "no shares".to_owned(),
    };
    layout::rows(&[
        ("Rekey", status.id.clone()),
        ("What", what),
        ("Afterwards", afterwards),
        ("State", state),
        ("Next", next),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_wire::IssuedShare;

    fn status(state: RekeyState) -> RekeyStatus {
        RekeyStatus {
            id: "rekey-mzxw6ytboi3dimrr".into(),
            rotate_root: true,
            state,
            given: 1,
            needed: 3,
            to: SealKind::Shamir,
            threshold: 2,
            custodians: vec!["custodian-1".into(), "custodian-2".into()],
            issued: vec![IssuedShare {
                number: 1,
                custodian: "a".into(),
                delivery: Delivery::Age("x".into()),
            }],
        }
    }

    #[test]
    fn every_state_says_what_comes_next_within_100_columns() {
        for state in [RekeyState::Collecting, RekeyState::Proving, RekeyState::Done, RekeyState::Aborted] {
            let text = describe(&status(state));
            assert!(text.lines().all(|line| line.len() <= layout::WIDTH), "{text}");
            assert!(text.contains("2 of: custodian-1, custodian-2") && text.contains("Next"), "{text}");
        }
        assert!(describe(&status(RekeyState::Collecting)).contains("2 present custodians more"));
    }

    #[test]
    fn fetched_shares_never_replace_a_file() {
        let scratch = tempfile::tempdir().unwrap();
        write(scratch.path(), &status(RekeyState::Proving)).unwrap();
        assert_eq!(std::fs::read_to_string(scratch.path().join("a.age")).unwrap(), "x");
        assert!(write(scratch.path(), &status(RekeyState::Proving)).is_err());
    }
}
