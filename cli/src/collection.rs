//! `cordon collection`: make and list collections of cards.
//!
//! Must never guess a token profile: what is not asked for has the safe default. Tests: below.

use crate::configuration::{Settings, block_on};
use crate::exit::{Failure, Verdict};
use crate::layout;
use clap::{Args, Subcommand, ValueEnum};
use cordon_card::CollectionName;
use cordon_wire::{Collection, CollectionList, CreateCollection, TokenProfile, TokenShapeChoice, TokenUse};

/// `cordon collection ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum Collections {
    /// Make a collection with its own keys
    Create(Create),
    /// List the collections
    List(List),
}

/// `cordon collection create`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cordon collection create cards
  cordon collection create legacy --shape card --keep-last-four --expected-cards 200000
  cordon collection create checkout --use single --ttl 30d")]
pub(crate) struct Create {
    /// Its name: lower-case letters, digits and hyphens, at most 63
    #[arg(value_parser = name)]
    name: CollectionName,
    /// What its tokens look like
    #[arg(long, value_enum, default_value_t = Shape::Opaque)]
    shape: Shape,
    /// Card shape only: tokens keep the card's last four digits
    #[arg(long)]
    keep_last_four: bool,
    /// How often a token may be revealed
    #[arg(long = "use", value_enum, default_value_t = Use::Multi)]
    usage: Use,
    /// How long a token lives, for example 15m, 12h or 30d [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = layout::seconds)]
    ttl: Option<u64>,
    /// Cards it is planned to hold; a shape too small for them is refused
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    expected_cards: u64,
}

/// `cordon collection list`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cordon collection list
  cordon collection list --json | jq '.collections[].name'")]
pub(crate) struct List {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// Text that starts with tok_ and the environment, recognisable by anyone
    Opaque,
    /// Digits as long as the card number, first digit 0, never a valid card number
    Card,
    /// UUID version 4
    Uuid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Use {
    /// One token per card, for ever
    Multi,
    /// A new token each time, revealed once
    Single,
}

impl Collections {
    /// Does what was asked.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let administrator = settings.administrator()?;
        match self {
            Self::Create(create) => {
                let request = create.request()?;
                let made = block_on(async { Ok(administrator.create_collection(&request).await?) })?;
                settings.console().answer(&made, |made| layout::table(&HEADER, &[row(made)]))?;
            }
            Self::List(List {}) => {
                let list = block_on(async { Ok(administrator.collections().await?) })?;
                settings.console().answer(&list, describe)?;
            }
        }
        Ok(Verdict::Fine)
    }
}

impl Create {
    fn request(&self) -> Result<CreateCollection, Failure> {
        if self.keep_last_four && self.shape != Shape::Card {
            return Err(Failure::usage(
                "--keep-last-four is for --shape card: other shapes have no digits to keep",
            ));
        }
        let profile = TokenProfile {
            shape: match self.shape {
                Shape::Opaque => TokenShapeChoice::Opaque,
                Shape::Card => TokenShapeChoice::Card,
                Shape::Uuid => TokenShapeChoice::Uuid,
            },
            keep_last_four: self.keep_last_four,
            usage: match self.usage {
                Use::Multi => TokenUse::Multi,
                Use::Single => TokenUse::Single,
            },
            ttl_s: self.ttl,
        };
        Ok(CreateCollection { name: self.name.clone(), profile, expected_cards: self.expected_cards })
    }
}

/// Reads a collection's name from the command line.
pub(crate) fn name(text: &str) -> Result<CollectionName, String> {
    CollectionName::parse(text).map_err(|_error| {
        "a collection's name is a lower-case letter, then letters, digits and hyphens".to_owned()
    })
}

fn describe(list: &CollectionList) -> String {
    if list.collections.is_empty() {
        return "No collections yet. Next: cordon collection create NAME".to_owned();
    }
    let rows: Vec<_> = list.collections.iter().map(row).collect();
    layout::table(&HEADER, &rows)
}

fn row(collection: &Collection) -> Vec<String> {
    let shape = match (collection.profile.shape, collection.profile.keep_last_four) {
        (TokenShapeChoice::Opaque, _) => "opaque",
        (TokenShapeChoice::Uuid, _) => "uuid",
        (TokenShapeChoice::Card, false) => "card",
        (TokenShapeChoice::Card, true) => "card, last four kept",
    };
    let usage = match collection.profile.usage {
        TokenUse::Multi => "multi",
        TokenUse::Single => "single",
    };
    vec![
        collection.name.to_string(),
        collection.id.to_string(),
        shape.to_owned(),
        usage.to_owned(),
        collection.profile.ttl_s.map_or_else(|| "for ever".to_owned(), layout::duration),
        layout::count(collection.expected_cards),
        layout::moment(&collection.created_at),
    ]
}

const HEADER: [&str; 7] = ["NAME", "ID", "TOKENS", "USE", "LIVE", "PLANNED CARDS", "CREATED"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Arguments;
    use clap::Parser;

    fn create() -> Create {
        Create {
            name: CollectionName::parse("cards").unwrap(),
            shape: Shape::Opaque,
            keep_last_four: false,
            usage: Use::Multi,
            ttl: None,
            expected_cards: 1_000_000,
        }
    }

    #[test]
    fn last_four_of_a_shape_without_digits_is_refused() {
        for shape in [Shape::Opaque, Shape::Uuid] {
            assert!(Create { shape, keep_last_four: true, ..create() }.request().is_err());
        }
        let request = Create { shape: Shape::Card, keep_last_four: true, ..create() }.request().unwrap();
        assert!(request.profile.keep_last_four);
    }

    #[test]
    fn the_defaults_are_those_of_the_wire() {
        assert_eq!(create().request().unwrap().profile, TokenProfile::default());
    }

    #[test]
    fn a_name_that_is_none_is_a_usage_error() {
        for name in ["Cards", "1cards", "", "a_b"] {
            assert!(Arguments::try_parse_from(["cordon", "collection", "create", name]).is_err(), "{name}");
        }
    }

    #[test]
    fn the_list_shows_shape_use_and_life() {
        let collection = Collection {
            name: CollectionName::parse("legacy").unwrap(),
            id: 2,
            profile: TokenProfile {
                shape: TokenShapeChoice::Card,
                keep_last_four: true,
                usage: TokenUse::Single,
                ttl_s: Some(2_592_000),
            },
            expected_cards: 200_000,
            created_at: "2026-05-06T07:08:09Z".into(),
        };
        let text = describe(&CollectionList { collections: vec![collection] });
        assert!(text.contains("legacy  2   card, last four kept  single  30d   200,000"), "{text}");
        assert!(text.lines().all(|line| line.len() <= layout::WIDTH), "{text}");
    }
}
