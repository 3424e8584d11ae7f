//! `cordon retention`: how long cards are kept, the proof that none is kept longer, and shredding what was erased.
//!
//! Must never call a collection good by its own count, nor destroy a key: the vault verifies, and destruction is a step
//! of its own. Tests: below, and `tests/tests/retention.rs`.

use crate::approvals;
use crate::collection;
use crate::configuration::{Settings, block_on};
use crate::exit::{Failure, Verdict};
use crate::keys::watch;
use crate::layout;
use clap::{Args, Subcommand};
use cordon_card::CollectionName;
use cordon_client::Administrator;
use cordon_wire::{
    DEFAULT_REWRAP_RATE, KeyPurpose, Operation, RetainReason, Retention, RetentionReport, RetentionRequest,
    RetentionStatus, RewrapRequest, RewrapState, RewrapStatus, RotateRequest, VersionNeed,
};
use serde::Serialize;
use std::time::Duration;

/// `cordon retention ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum Retentions {
    /// Say how long the cards of a collection are kept
    Set(Set),
    /// Show the rules and what the last verification found
    Show(Show),
    /// Erase what is over age, count everything, and fail if a rule is not kept
    Verify(Verify),
    /// Make erased cards unreadable in older copies: new keys, and every record moved to them
    Shred(Shred),
}

/// `cordon retention set`.
#[derive(Debug, Args)]
#[command(
    after_help = "The rule holds at once, also for the cards that are there. Cards whose time is over are not given
out, and are erased within the hour. A rule that ends their time earlier than the one before takes
two custodians: the first run asks for that and ends with 75, the same command does it afterwards.
Keeping cards for longer takes none.

Examples:
  cordon retention set --collection cards --days 400
  cordon retention set --collection cards --reason subscription"
)]
pub(crate) struct Set {
    /// The collection
    #[arg(long, value_name = "NAME", value_parser = collection::name)]
    collection: CollectionName,
    #[command(flatten)]
    rule: Rule,
}

/// A rule of retention.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Rule {
    /// Days from the day a token is made
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    days: Option<u32>,
    /// Without an end, for this business reason
    #[arg(long, value_name = "NAME", value_parser = reason)]
    reason: Option<RetainReason>,
}

/// `cordon retention show`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cordon retention show
  cordon retention show --json | jq .verified_at")]
pub(crate) struct Show {}

/// `cordon retention verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exits 1 if a record is kept longer than it may be, a collection has no rule, or records erased
more than 92 days ago can still be read in older copies. The result is in the audit log (PCI DSS
3.2.1: at least once every three months).

Examples:
  cordon retention verify
  cordon retention verify --json > retention.json"
)]
pub(crate) struct Verify {}

/// `cordon retention shred`.
#[derive(Debug, Args)]
#[command(
    after_help = "Rotates the data key and the index key of the collection, moves its records, and then prints the
commands that destroy the older keys: once these are gone, no copy of the store taken before can
show an erased card, or be searched for one, even with every key that is left. See docs/erasure.md
for copies of the keyring itself.

Examples:
  cordon retention shred --collection cards
  cordon retention shred --collection cards --rate 2000"
)]
pub(crate) struct Shred {
    /// The collection
    #[arg(long, value_name = "NAME", value_parser = collection::name)]
    collection: CollectionName,
    /// Records moved in a second, at most
    #[arg(long, value_name = "RECORDS", default_value_t = DEFAULT_REWRAP_RATE,
          value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
}

/// What a shredding came to.
#[derive(Serialize)]
struct Shredded {
    collection: CollectionName,
    failed: u64,
    destroy: Vec<String>,
}

impl Retentions {
    /// Does what was asked.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let vault = settings.administrator()?;
        match self {
            Self::Set(set) => {
                let request = RetentionRequest { collection: set.collection.clone(), retention: set.rule()? };
                let report = block_on(async { Ok(vault.set_retention(&request).await) })?;
                let operation = Operation::ShortenRetention(request);
                approvals::answer_or_ask(settings, &vault, &operation, report, describe)
            }
            Self::Show(Show {}) => {
                let report = block_on(async { Ok(vault.retention().await?) })?;
                settings.console().answer(&report, describe)?;
                Ok(Verdict::Fine)
            }
            Self::Verify(Verify {}) => {
                let report = block_on(verify(&vault))?;
                settings.console().answer(&report, describe)?;
                Ok(if report.good { Verdict::Fine } else { Verdict::Refused })
            }
            Self::Shred(shred) => shred.run(settings, &vault),
        }
    }
}

impl Set {
    fn rule(&self) -> Result<Retention, Failure> {
        match (self.rule.days, &self.rule.reason) {
            (Some(days), None) => Ok(Retention::Days(days)),
            (None, Some(reason)) => Ok(Retention::Reason(reason.clone())),
            _ => Err(Failure::usage("give --days or --reason")),
        }
    }
}

impl Shred {
    fn run(&self, settings: &Settings, vault: &Administrator) -> Result<Verdict, Failure> {
        let status = block_on(async {
            for purpose in [KeyPurpose::Data, KeyPurpose::Index] {
                vault.rotate(&RotateRequest { purpose, collection: Some(self.collection.clone()) }).await?;
            }
            let collection = self.collection.clone();
            let first =
                vault.rewrap(&RewrapRequest { collection, pause: false, rate_per_s: self.rate }).await?;
            watch(settings, vault, first).await
        })?;
        let shredded = Shredded {
            collection: self.collection.clone(),
            failed: status.failed,
            destroy: status.older.iter().filter_map(|need| command(&status, need)).collect(),
        };
        settings.console().answer(&shredded, |shredded| next_steps(shredded, &status))?;
        let done = status.state == RewrapState::Finished && status.failed == 0;
        Ok(if done { Verdict::Fine } else { Verdict::Refused })
    }
}

/// Asks for a verification and waits for it.
async fn verify(vault: &Administrator) -> Result<RetentionReport, Failure> {
    let mut report = vault.verify_retention().await?;
    let wanted = report.asked;
    while report.verified < wanted {
        tokio::time::sleep(POLL).await;
        report = vault.retention().await?;
        if report.asked < wanted {
            return Err(Failure::refused(
                "restarted",
                "the vault was restarted meanwhile; run `cordon retention verify` again",
            ));
        }
    }
    Ok(report)
}

fn reason(text: &str) -> Result<RetainReason, String> {
    RetainReason::parse(text)
        .ok_or_else(|| "a reason is a lower-case letter, then letters, digits and hyphens".to_owned())
}

fn describe(report: &RetentionReport) -> String {
    let rows: Vec<_> = report.collections.iter().map(row).collect();
    let mut text = match &report.verified_at {
        Some(at) => format!("Verified at {}.\n", layout::moment(at)),
        None => "Never verified: run `cordon retention verify`.\n".to_owned(),
    };
    if rows.is_empty() {
        return text;
    }
    text.push_str(&layout::table(
        &["COLLECTION", "KEPT", "RECORDS", "OVER AGE", "NO REASON", "OLDEST", "ERASED, IN COPIES"],
        &rows,
    ));
    for one in &report.collections {
        if one.shred_overdue {
            text.push_str(&format!("Run `cordon retention shred --collection {}`.\n", one.collection));
        }
        if one.broken > 0 {
            text.push_str(&format!(
                "{}: {} not those of their rows; see `integrity` in the audit log.\n",
                one.collection,
                layout::counted(one.broken, "record")
            ));
        }
        if one.without_reason > 0 {
            text.push_str(&format!("Run `cordon retention set --collection {}`.\n", one.collection));
        }
    }
    text
}

fn row(one: &RetentionStatus) -> Vec<String> {
    let date = |at: &String| at.chars().take(DATE).collect::<String>();
    let kept = match &one.retention {
        Some(Retention::Days(days)) => layout::counted(u64::from(*days), "day"),
        Some(Retention::Reason(reason)) => reason.as_str().to_owned(),
        None => "as long as tokens".to_owned(),
    };
    let exposed = match &one.exposed_since {
        Some(since) => format!("{} since {}", layout::count(one.exposed), date(since)),
        None => "none".to_owned(),
    };
    vec![
        one.collection.to_string(),
        kept,
        layout::count(one.records),
        layout::count(one.over_age),
        layout::count(one.without_reason),
        one.oldest.as_ref().map_or_else(|| "-".to_owned(), date),
        exposed,
    ]
}

/// How to destroy a version that nothing needs any more.
fn command(status: &RewrapStatus, need: &VersionNeed) -> Option<String> {
    let purpose = match need.purpose {
        KeyPurpose::Data => "data",
        KeyPurpose::Index => "index",
        KeyPurpose::Kek => return None,
    };
    let (collection, version) = (&status.collection, need.version);
    need.safe_to_destroy
        .then(|| format!("cordon keys destroy {purpose} --collection {collection} --version {version}"))
}

fn next_steps(shredded: &Shredded, status: &RewrapStatus) -> String {
    let mut text = format!("{} records moved. Destroy the older keys now:\n", layout::count(status.moved));
    for command in &shredded.destroy {
        text.push_str(&format!("  {command}\n"));
    }
    if shredded.failed > 0 {
        text.push_str(&format!("{} records do not open and keep their keys.\n", shredded.failed));
    }
    text
}

const POLL: Duration = Duration::from_millis(100);
/// Characters of a date without its time.
const DATE: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Arguments;
    use clap::Parser;

    fn status() -> RetentionStatus {
        RetentionStatus {
            collection: CollectionName::parse("cards").unwrap(),
            retention: Some(Retention::Days(400)),
            records: 1_234_567,
            over_age: 0,
            without_reason: 0,
            broken: 0,
            oldest: Some("2026-05-06T07:08:09Z".into()),
            exposed: 412,
            exposed_since: Some("2026-05-07T00:00:00Z".into()),
            shred_overdue: true,
        }
    }

    #[test]
    fn one_rule_and_no_more_is_taken() {
        let parses = |line: &str| {
            Arguments::try_parse_from(["cordon", "retention"].into_iter().chain(line.split(' '))).is_ok()
        };
        assert!(parses("set --collection cards --days 400"));
        assert!(parses("set --collection cards --reason subscription"));
        assert!(!parses("set --collection cards"));
        assert!(!parses("set --collection cards --days 0"));
        assert!(!parses("set --collection cards --reason 4111"));
        assert!(!parses("set --collection cards --days 4 --reason a"));
    }

    #[test]
    fn the_report_fits_and_says_what_to_do() {
        let report = RetentionReport {
            running: false,
            asked: 1,
            verified: 1,
            verified_at: Some("2026-05-08T07:08:09.1234Z".into()),
            good: false,
            collections: vec![status()],
        };
        let text = describe(&report);
        assert!(text.lines().all(|line| line.len() <= layout::WIDTH), "{text}");
        assert!(text.contains("cards       400 days  1,234,567  0         0          2026-05-06"), "{text}");
        assert!(text.contains("412 since 2026-05-07"), "{text}");
        assert!(text.contains("cordon retention shred --collection cards"), "{text}");
    }
}
