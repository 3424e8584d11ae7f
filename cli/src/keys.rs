//! `cordon keys`: list key versions, rotate, and retire older versions.
//!
//! Must never see key bytes: the API has none to give. Tests: below.

use crate::collection;
use crate::configuration::{Settings, block_on};
use crate::custody::{CustodianSet, rekey};
use crate::exit::{Failure, Verdict};
use crate::layout;
use clap::{Args, Subcommand, ValueEnum};
use cordon_card::CollectionName;
use cordon_wire::{KeyInfo, KeyList, KeyPurpose, KeyState, RotateRequest};
use jiff::Timestamp;

mod retire;
mod state;

pub(crate) use retire::watch;

/// `cordon keys ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// List all key versions with their states and dates
    List(List),
    /// Make a new key version that protects from now on
    Rotate(Rotate),
    /// Move records to the active keys, and show how far that is
    Rewrap(retire::Rewrap),
    /// Destroy a key version that no record needs
    Destroy(retire::Destroy),
    /// Set a key version aside while something is looked into
    Suspend(state::Suspend),
    /// Put a suspended key version back into use
    Resume(state::Resume),
    /// Say that a key version is or may be in other hands
    Compromise(state::Compromise),
}

/// `cordon keys list`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cordon keys list
  cordon keys list --json | jq '.keys[] | select(.state == \"active\")'")]
pub(crate) struct List {}

/// `cordon keys rotate`.
#[derive(Debug, Args)]
#[command(after_help = "The version before stays able to decrypt, so reads never stop.

Examples:
  cordon keys rotate data --collection cards    a new data key for one collection
  cordon keys rotate index --collection cards   a new index key; two are used for a while
  cordon keys rotate kek                        a new key-encryption key
  cordon keys rotate root --threshold 2 --custodian alice=age1... --custodian bob=age1...
                                               a new root key and shares; then `cordon rekey`")]
pub(crate) struct Rotate {
    /// Which key
    #[arg(value_enum)]
    purpose: Rotated,
    /// The collection of a data or index key
    #[arg(long, value_name = "NAME", value_parser = collection::name,
          required_if_eq_any([("purpose", "data"), ("purpose", "index")]))]
    collection: Option<CollectionName>,
    #[command(flatten)]
    set: CustodianSet,
}

/// What can be rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rotated {
    /// The key that seals the records of a collection
    Data,
    /// The key that fingerprints the cards of a collection
    Index,
    /// The key that wraps the other keys
    Kek,
    /// The key that custodians hold shares of
    Root,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// The key that seals the records of a collection
    Data,
    /// The key that fingerprints the cards of a collection
    Index,
    /// The key that wraps the other keys
    Kek,
}

impl Keys {
    /// Does what was asked.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let administrator = settings.administrator()?;
        match self {
            Self::List(List {}) => {
                let list = block_on(async { Ok(administrator.keys().await?) })?;
                settings.console().answer(&list, |list| describe(list, Timestamp::now()))?;
            }
            Self::Rotate(rotate) if rotate.purpose == Rotated::Root => {
                return rekey::start(settings, &administrator, &rotate.set, true);
            }
            Self::Rotate(rotate) => {
                let request = rotate.request()?;
                let answer = block_on(async { Ok(administrator.rotate(&request).await?) })?;
                settings.console().answer(&answer, |answer| {
                    let mut text = format!(
                        "Version {} of {} protects from now on.\n",
                        answer.active.version,
                        subject(&answer.active)
                    );
                    if let Some(collection) = &answer.active.collection {
                        text.push_str(&format!(
                            "Move older records with `cordon keys rewrap --collection {collection}`.\n"
                        ));
                    }
                    text
                })?;
            }
            Self::Rewrap(rewrap) => return rewrap.run(settings, &administrator),
            Self::Destroy(destroy) => return destroy.run(settings, &administrator),
            Self::Suspend(suspend) => return suspend.run(settings, &administrator),
            Self::Resume(resume) => return resume.run(settings, &administrator),
            Self::Compromise(compromise) => return compromise.run(settings, &administrator),
        }
        Ok(Verdict::Fine)
    }
}

impl From<Purpose> for KeyPurpose {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Data => Self::Data,
            Purpose::Index => Self::Index,
            Purpose::Kek => Self::Kek,
        }
    }
}

impl Rotate {
    fn request(&self) -> Result<RotateRequest, Failure> {
        let purpose = match self.purpose {
            Rotated::Data => KeyPurpose::Data,
            Rotated::Index => KeyPurpose::Index,
            Rotated::Kek => KeyPurpose::Kek,
            Rotated::Root => return Err(Failure::usage("the root key is rotated by its custodians")),
        };
        if purpose == KeyPurpose::Kek && self.collection.is_some() {
            return Err(Failure::usage(
                "the key-encryption key belongs to no collection: leave --collection out",
            ));
        }
        Ok(RotateRequest { purpose, collection: self.collection.clone() })
    }
}

fn describe(list: &KeyList, now: Timestamp) -> String {
    let rows: Vec<_> = list
        .keys
        .iter()
        .map(|key| {
            vec![
                subject(key),
                key.version.to_string(),
                state(key.state).to_owned(),
                age(key, now),
                key.cryptoperiod_end.chars().take(DATE).collect(),
                uses(key),
                key.records.map_or_else(|| "-".to_owned(), layout::count),
            ]
        })
        .collect();
    layout::table(&["KEY", "VERSION", "STATE", "AGE/PERIOD", "UNTIL", "USES/BUDGET", "RECORDS"], &rows)
}

/// Days since the key was made, of the days it may protect.
fn age(key: &KeyInfo, now: Timestamp) -> String {
    let days = |from: Timestamp, to: Timestamp| to.duration_since(from).as_hours() / 24;
    match (key.created_at.parse::<Timestamp>(), key.cryptoperiod_end.parse::<Timestamp>()) {
        (Ok(made), Ok(end)) => format!("{}d/{}d", days(made, now).max(0), days(made, end)),
        _ => "?".to_owned(),
    }
}

/// Uses at most, and the share of what is allowed.
fn uses(key: &KeyInfo) -> String {
    match key.budget {
        None => "not counted".to_owned(),
        Some(budget) => {
            let percent = u128::from(key.uses) * 100 / u128::from(budget.max(1));
            format!("{}/2^{} {percent}%", short(key.uses), budget.max(1).ilog2())
        }
    }
}

/// A number with one decimal and its unit of a thousand: `1.0M`.
fn short(number: u64) -> String {
    let mut tenths = u128::from(number) * 10;
    for unit in ["", "k", "M", "G", "T"] {
        if tenths < 10_000 {
            return if unit.is_empty() {
                number.to_string()
            } else {
                format!("{}.{}{unit}", tenths / 10, tenths % 10)
            };
        }
        tenths /= 1_000;
    }
    layout::count(number)
}

fn subject(key: &KeyInfo) -> String {
    let purpose = purpose_name(key.purpose);
    match &key.collection {
        Some(collection) => format!("{purpose} {collection}"),
        None => purpose.to_owned(),
    }
}

const fn purpose_name(purpose: KeyPurpose) -> &'static str {
    match purpose {
        KeyPurpose::Kek => "kek",
        KeyPurpose::Data => "data",
        KeyPurpose::Index => "index",
    }
}

const fn state(state: KeyState) -> &'static str {
    match state {
        KeyState::PreActive => "pre-active",
        KeyState::Active => "active",
        KeyState::Deactivated => "deactivated",
        KeyState::Suspended => "suspended",
        KeyState::Compromised => "compromised",
        KeyState::Destroyed => "destroyed",
    }
}

/// Characters of a date without its time.
const DATE: usize = 10;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::arguments::Arguments;
    use clap::Parser;

    #[test]
    fn a_data_key_needs_its_collection() {
        assert!(Arguments::try_parse_from(["cordon", "keys", "rotate", "data"]).is_err());
        assert!(Arguments::try_parse_from(["cordon", "keys", "rotate", "index"]).is_err());
        assert!(Arguments::try_parse_from(["cordon", "keys", "rotate", "data", "--collection", "a"]).is_ok());
    }

    #[test]
    fn a_key_encryption_key_has_no_collection() {
        let collection = Some(CollectionName::parse("cards").unwrap());
        let rotate = |collection| Rotate { purpose: Rotated::Kek, collection, set: CustodianSet::default() };
        assert!(rotate(collection).request().is_err());
        assert!(rotate(None).request().is_ok());
    }

    #[test]
    fn versions_are_listed_with_state_and_dates() {
        let now = "2026-12-03T07:08:09Z".parse().unwrap();
        let longest = CollectionName::parse(&"c".repeat(20)).unwrap();
        let state = KeyState::Deactivated;
        let records = Some(1_234_567);
        let long = KeyInfo { collection: Some(longest), uses: 1 << 39, state, records, ..sample() };
        let index = KeyInfo { purpose: KeyPurpose::Index, budget: None, ..sample() };
        let text = describe(&KeyList { keys: vec![sample(), long, index] }, now);
        assert!(text.lines().all(|line| line.len() <= layout::WIDTH), "{text}");
        assert!(text.contains("active       211d/365d   2027-05-06  1.0M/2^40 0%     -"), "{text}");
        assert!(text.contains("549.7G/2^40 50%  1,234,567") && text.contains("not counted"), "{text}");
    }

    pub(crate) fn sample() -> KeyInfo {
        KeyInfo {
            id: "k1".into(),
            purpose: KeyPurpose::Data,
            collection: Some(CollectionName::parse("cards").unwrap()),
            version: 2,
            state: KeyState::Active,
            created_at: "2026-05-06T07:08:09Z".into(),
            since: "2026-05-06T07:08:09Z".into(),
            cryptoperiod_end: "2027-05-06T07:08:09Z".into(),
            refused_after: "2027-06-05T07:08:09Z".into(),
            opens_until: "2030-05-05T07:08:09Z".into(),
            uses: 1 << 20,
            budget: Some(1 << 40),
            records: None,
        }
    }
}
