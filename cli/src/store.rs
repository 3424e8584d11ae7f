//! `cordon store`: whether the store has the records that were committed to it.
//!
//! Must never call a store whole by its own count: the vault walks over it, with the key of the tally.
//! Tests: below, and `tests/tests/tally.rs`.

use crate::configuration::{Settings, block_on};
use crate::exit::{Failure, Verdict};
use crate::layout;
use clap::{Args, Subcommand};
use cordon_client::Administrator;
use cordon_wire::{StoreCount, StoreFault, StoreReport};
use std::time::Duration;

/// `cordon store ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum Stores {
    /// Walk over all records, and fail if one is missing, was added or changed behind the vault's back
    Verify(Verify),
}

/// `cordon store verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "The vault counts the records of this moment and compares them with the tally that it keeps
under a key: a record that was deleted, put back or edited in the store's files is found, and so is
an index entry without its record. Cards are served meanwhile. Exits 1 if anything is not as it was
committed; the result is in the audit log (`store-verify`). Missing records can't be named: their
number is.

Examples:
  cordon store verify
  cordon store verify --json | jq .collections"
)]
pub(crate) struct Verify {}

impl Stores {
    /// Does what was asked.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let vault = settings.administrator()?;
        match self {
            Self::Verify(Verify {}) => {
                let report = block_on(watch(settings, &vault))?;
                settings.console().answer(&report, describe)?;
                Ok(if report.good { Verdict::Fine } else { Verdict::Refused })
            }
        }
    }
}

/// Asks for a walk and waits for its end.
async fn watch(settings: &Settings, vault: &Administrator) -> Result<StoreReport, Failure> {
    let mut report = vault.verify_store().await?;
    let before = report.ended;
    let bar = settings.console().bar("records");
    while report.running {
        bar.set_length(report.rows.max(report.seen));
        bar.set_position(report.seen);
        tokio::time::sleep(POLL).await;
        report = vault.store_report().await?;
    }
    bar.finish_and_clear();
    if report.ended == before {
        let words = "the walk was cut short; see the vault's log, and run `cordon store verify` again";
        return Err(Failure::refused("cut-short", words));
    }
    Ok(report)
}

fn describe(report: &StoreReport) -> String {
    let at = report.verified_at.as_deref().map_or_else(|| "-".to_owned(), layout::moment);
    let mut text = format!("Records of commit {}, at {at}.\n", report.commit);
    let rows: Vec<_> = report.collections.iter().map(row).collect();
    if !rows.is_empty() {
        text.push_str(&layout::table(&["COLLECTION", "RECORDS", "COMMITTED", "VERDICT"], &rows));
    }
    for fault in &report.faults {
        text.push_str(&said(fault));
    }
    let named = u64::try_from(report.faults.len()).unwrap_or(u64::MAX);
    if report.fault_count > named {
        text.push_str(&format!("And {} more.\n", layout::count(report.fault_count.saturating_sub(named))));
    }
    if let Some(why) = &report.refused {
        text.push_str(&format!("The tally was refused at the last unseal: {why}.\n"));
    }
    text.push_str(if report.good {
        "Every record is as it was committed.\n"
    } else {
        "The store is not as it was committed: keep a copy of it, and restore a backup.\n"
    });
    text
}

fn row(count: &StoreCount) -> Vec<String> {
    let name = count.collection.as_ref().map_or_else(|| count.number.to_string(), ToString::to_string);
    let verdict = match count.verdict.as_str() {
        "as-committed" => "as committed".to_owned(),
        "rows-missing" => format!("{} missing", layout::count(count.expected.saturating_sub(count.records))),
        "rows-added" => format!("{} too many", layout::count(count.records.saturating_sub(count.expected))),
        _changed => "as many, but changed".to_owned(),
    };
    vec![name, layout::count(count.records), layout::count(count.expected), verdict]
}

fn said(fault: &StoreFault) -> String {
    let collection = fault.collection.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
    let token = fault.token.as_ref().map(|token| format!(" ({})", token.as_str())).unwrap_or_default();
    let detail = fault.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{collection}{}{token}{detail}\n", fault.kind.words())
}

const POLL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_card::CollectionName;
    use cordon_wire::StoreFaultKind;

    #[test]
    fn the_report_fits_and_says_what_is_wrong() {
        let report = StoreReport {
            running: false,
            seen: 0,
            rows: 1_234_567,
            ended: 1,
            verified_at: Some("2026-05-08T07:08:09.1234Z".into()),
            commit: 99,
            good: false,
            refused: None,
            collections: vec![StoreCount {
                collection: CollectionName::parse("cards").ok(),
                number: 1,
                records: 1_234_565,
                expected: 1_234_567,
                verdict: "rows-missing".into(),
            }],
            faults: vec![StoreFault {
                kind: StoreFaultKind::Tally,
                collection: None,
                token: None,
                detail: Some("it was edited or put back".into()),
            }],
            fault_count: 3,
        };
        let text = describe(&report);
        assert!(text.lines().all(|line| line.len() <= layout::WIDTH), "{text}");
        assert!(text.contains("cards       1,234,565  1,234,567  2 missing"), "{text}");
        assert!(text.contains("the tally: it was edited or put back\nAnd 2 more.\n"), "{text}");
        let good = StoreReport { good: true, faults: Vec::new(), fault_count: 0, ..report };
        assert!(describe(&good).ends_with("Every record is as it was committed.\n"));
    }
}
