//! `cordon keys suspend`, `resume` and `compromise`: the states of a key version that an operator decides.
//!
//! Must never decide by itself what follows from a state: the vault does, and says it. Tests: below, and
//! `tests/tests/key_states.rs`.

use crate::collection;
use crate::configuration::{Settings, block_on};
use crate::exit::{Failure, Verdict};
use crate::keys::{Purpose, state, subject};
use clap::Args;
use cordon_card::CollectionName;
use cordon_client::Administrator;
use cordon_wire::{KeyChange, KeyStateRequest, KeyStateResponse};

/// `cordon keys suspend`.
#[derive(Debug, Args)]
#[command(
    after_help = "What the key protects can't be used until it is resumed: cards of a suspended data key are not
revealed, and a collection whose index key is suspended takes no cards.

Examples:
  cordon keys suspend data --collection cards --version 2
  cordon keys resume data --collection cards --version 2"
)]
pub(crate) struct Suspend {
    #[command(flatten)]
    which: Which,
}

/// `cordon keys resume`.
#[derive(Debug, Args)]
#[command(after_help = "A key that was replaced meanwhile is resumed to open only.

Examples:
  cordon keys resume data --collection cards --version 2")]
pub(crate) struct Resume {
    #[command(flatten)]
    which: Which,
}

/// `cordon keys compromise`.
#[derive(Debug, Args)]
#[command(
    after_help = "There is no way back. An active key is replaced in the same step. Nothing is revealed under a
compromised key; its records move to the new key at once, and each can be revealed again once it
has moved. Destroy the key afterwards.

Examples:
  cordon keys compromise data --collection cards --version 2
  cordon keys rewrap --collection cards             watch its records move
  cordon keys destroy data --collection cards --version 2"
)]
pub(crate) struct Compromise {
    #[command(flatten)]
    which: Which,
}

/// One key version.
#[derive(Debug, Args)]
struct Which {
    /// Which key
    #[arg(value_enum)]
    purpose: Purpose,
    /// The collection of a data or index key
    #[arg(long, value_name = "NAME", value_parser = collection::name,
          required_if_eq_any([("purpose", "data"), ("purpose", "index")]))]
    collection: Option<CollectionName>,
    /// Which version
    #[arg(long, value_name = "NUMBER")]
    version: u32,
}

impl Suspend {
    pub(super) fn run(&self, settings: &Settings, vault: &Administrator) -> Result<Verdict, Failure> {
        self.which.change(settings, vault, KeyChange::Suspend)
    }
}

impl Resume {
    pub(super) fn run(&self, settings: &Settings, vault: &Administrator) -> Result<Verdict, Failure> {
        self.which.change(settings, vault, KeyChange::Resume)
    }
}

impl Compromise {
    pub(super) fn run(&self, settings: &Settings, vault: &Administrator) -> Result<Verdict, Failure> {
        self.which.change(settings, vault, KeyChange::Compromise)
    }
}

impl Which {
    fn change(
        &self,
        settings: &Settings,
        vault: &Administrator,
        change: KeyChange,
    ) -> Result<Verdict, Failure> {
        let request = KeyStateRequest {
            purpose: self.purpose.into(),
            collection: self.collection.clone(),
            version: self.version,
            change,
        };
        let answer = block_on(async { Ok(vault.change_key_state(&request).await?) })?;
        settings.console().answer(&answer, describe)?;
        Ok(Verdict::Fine)
    }
}

fn describe(answer: &KeyStateResponse) -> String {
    let key = &answer.key;
    let mut text = format!("Version {} of {} is {} now.\n", key.version, subject(key), state(key.state));
    if let (true, Some(collection)) = (answer.moving, &key.collection) {
        text.push_str(&format!(
            "Its records are moving; watch them with `cordon keys rewrap --collection {collection}`.\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Arguments;
    use crate::keys::tests::sample;
    use clap::Parser;
    use cordon_wire::KeyState;

    #[test]
    fn a_version_and_the_collection_of_a_data_key_are_needed() {
        let parses = |line: &str| {
            Arguments::try_parse_from(["cordon", "keys"].into_iter().chain(line.split(' '))).is_ok()
        };
        assert!(parses("suspend data --collection cards --version 2"));
        assert!(parses("compromise kek --version 1"));
        assert!(!parses("suspend data --version 2"));
        assert!(!parses("resume index --collection cards"));
    }

    #[test]
    fn what_happens_to_the_records_is_said() {
        let key = cordon_wire::KeyInfo { state: KeyState::Compromised, ..sample() };
        let text = describe(&KeyStateResponse { key, moving: true });
        assert!(
            text.starts_with("Version 2 of data cards is compromised now.\nIts records are moving"),
            "{text}"
        );
    }
}
