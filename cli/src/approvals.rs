//! `cordon approvals`: what waits for custodians, and their answers.
//!
//! Must never answer for a custodian: the vault takes the name from the client certificate. Tests: below, and
//! `tests/tests/approvals.rs`.

use crate::configuration::{Settings, block_on};
use crate::exit::{Failure, Verdict};
use crate::layout;
use clap::{Args, Subcommand};
use cordon_client::{Administrator, ClientError};
use cordon_wire::{Approval, ApprovalList, ApprovalState, Operation, ProblemCode};
use serde::Serialize;

/// `cordon approvals`.
#[derive(Debug, Args)]
#[command(
    after_help = "Destructive and wide operations need two custodians. Whoever wants one runs its command, which
asks for the approvals and ends with 75. Two custodians approve, each with a certificate of their
own. Then the same command does it, once. A request is over after an hour.

Examples:
  cordon approvals                                   what waits, and what became of the rest
  cordon approvals approve approval-mzxw6ytboi3dimrr
  cordon approvals reject approval-mzxw6ytboi3dimrr"
)]
pub(crate) struct Approvals {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List requests, the newest first
    List(List),
    /// Approve one, as a custodian
    Approve(One),
    /// Reject one, as a custodian; that ends it
    Reject(One),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cordon approvals list
  cordon approvals list --json | jq '.approvals[] | select(.state == \"pending\")'")]
struct List {}

#[derive(Debug, Args)]
#[command(after_help = "Look at the operation first: `cordon approvals`.

Examples:
  cordon approvals approve approval-mzxw6ytboi3dimrr
  cordon approvals reject approval-mzxw6ytboi3dimrr")]
struct One {
    /// Id of the request
    #[arg(value_name = "ID", value_parser = id)]
    id: String,
}

impl Approvals {
    /// Does what was asked.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let administrator = settings.administrator()?;
        let console = settings.console();
        match &self.command {
            None | Some(Command::List(List {})) => {
                let list = block_on(async { Ok(administrator.approvals().await?) })?;
                console.answer(&list, describe_all)?;
            }
            Some(Command::Approve(One { id })) => {
                let approval = block_on(async { Ok(administrator.approve(id).await?) })?;
                console.answer(&approval, describe)?;
            }
            Some(Command::Reject(One { id })) => {
                let approval = block_on(async { Ok(administrator.reject(id).await?) })?;
                console.answer(&approval, describe)?;
            }
        }
        Ok(Verdict::Fine)
    }
}

/// Asks custodians for an operation that the vault refused without them, and says what each has to run.
pub(crate) fn ask(
    settings: &Settings,
    administrator: &Administrator,
    operation: &Operation,
) -> Result<Verdict, Failure> {
    let approval = block_on(async { Ok(administrator.request_approval(operation).await?) })?;
    settings
        .console()
        .answer(&approval, |approval| format!("{}Then run this command again.\n", describe(approval)))?;
    Ok(Verdict::Waiting)
}

/// The answer of an operation that takes approvals, or asks for them if that is what is missing.
pub(crate) fn answer_or_ask<T: Serialize>(
    settings: &Settings,
    administrator: &Administrator,
    operation: &Operation,
    answered: Result<T, ClientError>,
    describe: impl FnOnce(&T) -> String,
) -> Result<Verdict, Failure> {
    match answered {
        Ok(answer) => {
            settings.console().answer(&answer, describe)?;
            Ok(Verdict::Fine)
        }
        Err(ClientError::Problem(problem)) if problem.code == ProblemCode::ApprovalRequired => {
            ask(settings, administrator, operation)
        }
        Err(other) => Err(other.into()),
    }
}

/// The id of a request: our own alphabet, as it becomes part of a path.
fn id(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || text.len() > LONGEST_ID || !text.bytes().all(plain) {
        return Err("not the id of a request; `cordon approvals` lists them".to_owned());
    }
    Ok(text.to_owned())
}

fn describe_all(list: &ApprovalList) -> String {
    if list.approvals.is_empty() {
        return "Nobody has asked for an approval.".to_owned();
    }
    let rows: Vec<_> = list
        .approvals
        .iter()
        .map(|approval| {
            vec![
                approval.id.clone(),
                state(approval.state).to_owned(),
                format!("{} of {}", approval.approved_by.len(), approval.needed),
                layout::moment(&approval.expires_at),
                approval.operation.to_string(),
            ]
        })
        .collect();
    layout::table(&["ID", "STATE", "GIVEN", "UNTIL", "OPERATION"], &rows)
}

fn describe(approval: &Approval) -> String {
    let mut rows = vec![
        ("Request", approval.id.clone()),
        ("Operation", approval.operation.to_string()),
        ("Asked by", format!("{}, at {}", approval.requested_by, layout::moment(&approval.requested_at))),
        ("Open until", layout::moment(&approval.expires_at)),
        ("State", state(approval.state).to_owned()),
    ];
    if !approval.approved_by.is_empty() {
        rows.push(("Approved by", approval.approved_by.join(", ")));
    }
    if let Some(custodian) = &approval.rejected_by {
        rows.push(("Rejected by", custodian.clone()));
    }
    let mut text = layout::rows(&rows);
    if approval.state == ApprovalState::Pending {
        let given = u64::try_from(approval.approved_by.len()).unwrap_or(u64::MAX);
        let missing = u64::from(approval.needed).saturating_sub(given);
        text.push_str(&format!(
            "{} to go. Each runs: cordon approvals approve {}\n",
            layout::counted(missing, "custodian"),
            approval.id
        ));
    }
    text
}

const fn state(state: ApprovalState) -> &'static str {
    match state {
        ApprovalState::Pending => "pending",
        ApprovalState::Approved => "approved",
        ApprovalState::Rejected => "rejected",
        ApprovalState::Used => "used",
        ApprovalState::Expired => "expired",
    }
}

const LONGEST_ID: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_card::CollectionName;
    use cordon_wire::KeyPurpose;

    fn pending() -> Approval {
        let collection = CollectionName::parse("cards").ok();
        Approval {
            id: "approval-mzxw6ytboi3dimrr".into(),
            operation: Operation::DestroyKey { purpose: KeyPurpose::Data, collection, version: 1 },
            state: ApprovalState::Pending,
            needed: 2,
            requested_by: "operator".into(),
            requested_at: "2026-05-06T07:08:09.5Z".into(),
            expires_at: "2026-05-06T08:08:09.5Z".into(),
            approved_by: vec!["custodian-1".into()],
            rejected_by: None,
        }
    }

    #[test]
    fn a_pending_request_says_what_the_next_custodian_runs() {
        let text = describe(&pending());
        assert!(text.contains("1 custodian to go"), "{text}");
        assert!(text.contains("cordon approvals approve approval-mzxw6ytboi3dimrr\n"), "{text}");
        assert!(text.contains("destroy data key 1 of cards"), "{text}");
    }

    #[test]
    fn the_list_fits_in_100_columns() {
        let text = describe_all(&ApprovalList { approvals: vec![pending()] });
        assert!(text.contains("pending  1 of 2  2026-05-06T08:08:09Z"), "{text}");
        assert!(text.lines().all(|line| line.len() <= layout::WIDTH), "{text}");
    }

    #[test]
    fn an_id_can_not_lead_to_another_path() {
        assert!(id("approval-mzxw6ytboi3dimrr").is_ok());
        for wrong in ["", "../seal", "a/b", "A", "a b", "a%2f", &"a".repeat(65)] {
            assert!(id(wrong).is_err(), "{wrong}");
        }
    }
}
