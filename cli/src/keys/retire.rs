//! `cordon keys rewrap` and `cordon keys destroy`: retire older key versions for good.
//!
//! Must never say that a key is safe to destroy on its own count: the vault has proven it, or it is not said.
//! Tests: below, and `tests/tests/rewrap.rs`.

use crate::approvals;
use crate::collection;
use crate::configuration::{Settings, block_on};
use crate::exit::{Failure, Verdict};
use crate::keys::{Purpose, purpose_name};
use clap::Args;
use cordon_card::CollectionName;
use cordon_client::{Administrator, ClientError};
use cordon_wire::{
    DEFAULT_REWRAP_RATE, DestroyRequest, DestructionRecord, Operation, ProblemCode, RewrapList,
    RewrapRequest, RewrapState, RewrapStatus,
};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

/// `cordon keys rewrap`.
#[derive(Debug, Args)]
#[command(
    after_help = "The vault does the work in the background and goes on after a restart; stopping this command stops
only the display. Without --collection it shows where all runs stand.

Examples:
  cordon keys rewrap --collection cards                 start or resume, and watch it finish
  cordon keys rewrap --collection cards --rate 2000     at most 2000 records a second
  cordon keys rewrap --collection cards --pause         stop until it is resumed
  cordon keys rewrap --json                             where all runs stand"
)]
pub(crate) struct Rewrap {
    /// Move the records of this collection to its active keys
    #[arg(long, value_name = "NAME", value_parser = collection::name)]
    collection: Option<CollectionName>,
    /// Records moved in a second, at most
    #[arg(long, value_name = "RECORDS", default_value_t = DEFAULT_REWRAP_RATE, requires = "collection",
          value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Pause the run
    #[arg(long, requires = "collection")]
    pause: bool,
    /// Start or resume the run, and do not wait for its end
    #[arg(long, requires = "collection", conflicts_with = "pause")]
    detach: bool,
}

/// `cordon keys destroy`.
#[derive(Debug, Args)]
#[command(
    after_help = "Refused unless a finished run of `cordon keys rewrap` has shown that no record needs the key. Two
custodians must approve it: the first run asks for that and ends with 75, the same command does it
afterwards. There is no way back: backups older than the run can't be opened any more.

Examples:
  cordon keys destroy data --collection cards --version 1 --record data-1.json
  cordon keys destroy index --collection cards --version 1
  cordon keys destroy kek --version 1"
)]
pub(crate) struct Destroy {
    /// Which key
    #[arg(value_enum)]
    purpose: Purpose,
    /// The collection of a data or index key
    #[arg(long, value_name = "NAME", value_parser = collection::name)]
    collection: Option<CollectionName>,
    /// Which version
    #[arg(long, value_name = "NUMBER")]
    version: u32,
    /// Write the destruction record to this new file
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

impl Rewrap {
    pub(super) fn run(&self, settings: &Settings, administrator: &Administrator) -> Result<Verdict, Failure> {
        let console = settings.console();
        let Some(collection) = &self.collection else {
            let list = block_on(async { Ok(administrator.rewraps().await?) })?;
            console.answer(&list, describe_all)?;
            return Ok(Verdict::Fine);
        };
        let request =
            RewrapRequest { collection: collection.clone(), pause: self.pause, rate_per_s: self.rate };
        let status = block_on(async {
            let first = administrator.rewrap(&request).await?;
            if self.pause || self.detach { Ok(first) } else { watch(settings, administrator, first).await }
        })?;
        console.answer(&status, describe)?;
        Ok(if status.state == RewrapState::Finished && status.failed > 0 {
            Verdict::Refused
        } else {
            Verdict::Fine
        })
    }
}

/// Watches a run until it finishes or somebody pauses it.
pub(crate) async fn watch(
    settings: &Settings,
    administrator: &Administrator,
    mut status: RewrapStatus,
) -> Result<RewrapStatus, Failure> {
    let bar = settings.console().bar("records");
    while !matches!(status.state, RewrapState::Finished | RewrapState::Paused) {
        bar.set_length(status.total);
        bar.set_position(status.seen);
        bar.set_message(state(status.state));
        tokio::time::sleep(POLL).await;
        let runs = administrator.rewraps().await?.runs;
        let mine = runs.into_iter().find(|run| run.collection == status.collection);
        status = mine.ok_or_else(|| Failure::refused("gone", "the vault does not know the run any more"))?;
    }
    bar.finish_and_clear();
    Ok(status)
}

impl Destroy {
    pub(super) fn run(&self, settings: &Settings, administrator: &Administrator) -> Result<Verdict, Failure> {
        let file = self.record.as_ref().map(|path| {
            // Opened before anything is destroyed, so that the record has a place.
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            file.map(|file| (file, path)).map_err(|error| Failure::file(path, &error))
        });
        let file = file.transpose()?;
        let request = DestroyRequest {
            purpose: self.purpose.into(),
            collection: self.collection.clone(),
            version: self.version,
        };
        let record = match block_on(async { Ok(administrator.destroy_key(&request).await) })? {
            Ok(record) => record,
            Err(error) => {
                if let Some((_, path)) = &file {
                    std::fs::remove_file(path).map_err(|error| Failure::file(path, &error))?;
                }
                return match error {
                    ClientError::Problem(problem) if problem.code == ProblemCode::ApprovalRequired => {
                        approvals::ask(settings, administrator, &self.operation())
                    }
                    other => Err(other.into()),
                };
            }
        };
        if let Some((mut file, path)) = file {
            let mut text = serde_json::to_string_pretty(&record).map_err(std::io::Error::from)?;
            text.push('\n');
            let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
            written.map_err(|error| Failure::file(path, &error))?;
        }
        settings.console().answer(&record, destroyed)?;
        Ok(Verdict::Fine)
    }
}

impl Destroy {
    fn operation(&self) -> Operation {
        Operation::DestroyKey {
            purpose: self.purpose.into(),
            collection: self.collection.clone(),
            version: self.version,
        }
    }
}

fn describe_all(list: &RewrapList) -> String {
    if list.runs.is_empty() {
        return "No run was ever started. Start one with `cordon keys rewrap --collection NAME`.".to_owned();
    }
    list.runs.iter().map(describe).collect::<Vec<_>>().join("\n")
}

fn describe(status: &RewrapStatus) -> String {
    let mut text = format!(
        "{}: {}, {} of {} records in this pass, {} moved, at most {} a second.\n",
        status.collection,
        state(status.state),
        status.seen,
        status.total.max(status.seen),
        status.moved,
        status.rate_per_s
    );
    if status.failed > 0 {
        text.push_str(&format!(
            "{} records do not open and keep their keys; the vault's log names their tokens.\n",
            status.failed
        ));
    }
    for need in &status.older {
        let safe = if need.safe_to_destroy { ", safe to destroy" } else { "" };
        text.push_str(&format!(
            "{} records on {} version {}{safe}.\n",
            need.records,
            purpose_name(need.purpose),
            need.version
        ));
    }
    text
}

fn destroyed(record: &DestructionRecord) -> String {
    format!(
        "Version {} of the {} key {} is destroyed; line {} of the audit log says so.",
        record.version,
        purpose_name(record.purpose),
        record.id,
        record.audit_index
    )
}

const fn state(state: RewrapState) -> &'static str {
    match state {
        RewrapState::Counting => "counting",
        RewrapState::Moving => "moving",
        RewrapState::Verifying => "verifying",
        RewrapState::Paused => "paused",
        RewrapState::Finished => "finished",
    }
}

const POLL: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_wire::{KeyPurpose, VersionNeed};

    #[test]
    fn a_finished_run_says_what_may_be_destroyed() {
        let status = RewrapStatus {
            collection: CollectionName::parse("cards").unwrap(),
            state: RewrapState::Finished,
            rate_per_s: 5000,
            seen: 9,
            total: 9,
            moved: 9,
            failed: 0,
            started_at: "2026-05-06T07:08:09Z".into(),
            finished_at: None,
            older: vec![VersionNeed {
                purpose: KeyPurpose::Data,
                version: 1,
                records: 0,
                safe_to_destroy: true,
            }],
        };
        assert!(describe(&status).ends_with("0 records on data version 1, safe to destroy.\n"));
        assert!(describe(&status).lines().all(|line| line.len() <= crate::layout::WIDTH));
    }
}
