//! What happened after a backup and must not be undone by restoring it: erased cards stay erased, used tokens used.
//!
//! Must never bring anything back, and never add a card. Tests: `tests/tests/backup.rs`.

use super::RestoreError;
use crate::collections::Collections;
use crate::store::{Claim, FjallStore, Store, StoreError};
use cordon_audit::{Action, Line, Outcome};
use cordon_card::{CollectionName, Token};
use std::path::Path;

/// An act of the audit log.
enum Act {
    /// Tokens were erased, or were to be.
    Erase(CollectionName, Vec<Token>),
    /// Tokens were given out.
    Reveal(CollectionName, Vec<Token>),
}

/// How much was done again.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) erased: u64,
    pub(super) used: u64,
}

/// The act that a line reports. A deletion counts from the moment it was allowed: its caller wanted it.
fn act(line: Line) -> Option<Act> {
    let collection =
        line.collection.filter(|_| line.outcome == Outcome::Allowed && !line.tokens.is_empty())?;
    match line.what {
        Action::Delete => Some(Act::Erase(collection, line.tokens)),
        Action::Detokenize => Some(Act::Reveal(collection, line.tokens)),
        _ => None,
    }
}

/// Does the acts of the log in `directory` again, from line `first` on. What is done already, or was never in the
/// backup, is passed over.
pub(super) fn again(store: &FjallStore, directory: &Path, first: u64) -> Result<Done, RestoreError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(RestoreError::Directory)?;
    let collections = match store.document(crate::collections::DOCUMENT)? {
        Some(stored) => Collections::parse(&stored.bytes)
            .map_err(|_json| StoreError::Corrupt("the stored collections are not well formed"))?,
        None => Collections::default(),
    };
    let mut done = Done::default();
    for line in cordon_audit::read_from(directory, first)? {
        let (name, tokens, erase) = match act(line?) {
            Some(Act::Erase(name, tokens)) => (name, tokens, true),
            Some(Act::Reveal(name, tokens)) => (name, tokens, false),
            None => continue,
        };
        // A collection that was made after the backup has nothing in it.
        let Some(number) = collections.get(&name).map(crate::collections::Collection::number) else {
            continue;
        };
        let rows = store.get(number, &tokens)?;
        let wanted: Vec<Token> = rows
            .into_iter()
            .flatten()
            .filter(|row| erase || (row.claim == Claim::Single && !row.used))
            .map(|row| row.token)
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let count = u64::try_from(wanted.len()).unwrap_or(u64::MAX);
        if erase {
            runtime.block_on(store.delete(number, wanted))?;
            done.erased = done.erased.saturating_add(count);
        } else {
            runtime.block_on(store.consume(number, wanted))?;
            done.used = done.used.saturating_add(count);
        }
    }
    Ok(done)
}
