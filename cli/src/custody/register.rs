//! `cordon custodians`: who holds shares, who ever did, and the acknowledgement of duties.
//!
//! Must never acknowledge for somebody else: the vault takes the name from the certificate. Tests: below.

use crate::configuration::{Settings, block_on};
use crate::exit::{Failure, Verdict};
use crate::layout;
use clap::{Args, Subcommand};
use cordon_wire::{Custodian, CustodianList};

/// `cordon custodians`.
#[derive(Debug, Args)]
#[command(
    after_help = "Whoever was given a share keeps its number for ever and is never given another (PCI DSS 3.7.6).

Examples:
  cordon custodians                       present and former custodians
  cordon custodians ack                   acknowledge your duties, with your own certificate
  cordon custodians --json | jq '.custodians[] | select(.acknowledged_at == null)'"
)]
pub(crate) struct Custodians {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List present and former custodians
    List(List),
    /// Acknowledge that you understand and accept a custodian's duties
    Ack(Ack),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cordon custodians list
  cordon custodians list --json")]
struct List {}

#[derive(Debug, Args)]
#[command(
    after_help = "The duties stand in docs/ceremonies.md. It is recorded in the audit log with your name and the
time (PCI DSS 3.7.8). Without it you can not approve, unseal or take part in a rekey.

Examples:
  cordon custodians ack
  cordon --config alice.toml custodians ack"
)]
struct Ack {}

impl Custodians {
    /// Does what was asked.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let administrator = settings.administrator()?;
        let list = match self.command {
            None | Some(Command::List(List {})) => block_on(async { Ok(administrator.custodians().await?) })?,
            Some(Command::Ack(Ack {})) => block_on(async { Ok(administrator.acknowledge().await?) })?,
        };
        settings.console().answer(&list, describe)?;
        Ok(Verdict::Fine)
    }
}

fn describe(list: &CustodianList) -> String {
    if list.custodians.is_empty() {
        return "There is no custodian: the vault is not sealed by shares, and nobody has acknowledged."
            .to_owned();
    }
    let rows: Vec<_> = list.custodians.iter().map(row).collect();
    layout::table(&["CUSTODIAN", "SHARE", "RECIPIENT", "ACKNOWLEDGED", "SINCE", "UNTIL"], &rows)
}

fn row(custodian: &Custodian) -> Vec<String> {
    let day = |at: &Option<String>| {
        let day = at.as_deref().and_then(|at| at.split('T').next());
        day.unwrap_or("-").to_owned()
    };
    let recipient = custodian.recipient.as_deref().map_or_else(
        || "-".to_owned(),
        |recipient| format!("{}...", recipient.chars().take(RECIPIENT_SHOWN).collect::<String>()),
    );
    let until = if custodian.number.is_some() && custodian.until.is_none() {
        "present".to_owned()
    } else {
        day(&custodian.until)
    };
    vec![
        custodian.name.clone(),
        custodian.number.map_or_else(|| "-".to_owned(), |number| number.to_string()),
        recipient,
        day(&custodian.acknowledged_at),
        day(&custodian.since),
        until,
    ]
}

const RECIPIENT_SHOWN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits_and_shows_who_has_not_acknowledged() {
        let alice = Custodian {
            name: "custodian-with-a-rather-long-name".into(),
            number: Some(12),
            recipient: Some("age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa".into()),
            since: Some("2026-05-06T07:08:09Z".into()),
            until: None,
            acknowledged_at: None,
        };
        let text = describe(&CustodianList { custodians: vec![alice] });
        assert!(text.lines().all(|line| line.len() <= layout::WIDTH), "{text}");
        assert!(text.contains("age1t7rxyev2z3rw...  -             2026-05-06  present"), "{text}");
    }
}
