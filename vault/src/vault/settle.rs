//! Held security codes between tokenization and the destination's answer: kept, given out, and wiped.
//!
//! Must never leave a code behind an answer (PCI DSS 3.3.1), nor say in one whether a code was there to wipe.
//! Tests: `tests/tests/sad.rs`; the codes themselves, `sad/tests.rs`.

use super::{Caller, Vault, statements};
use crate::collections::Collection;
use crate::error::VaultError;
use crate::sad::HoldError;
use crate::store::Store;
use cordon_audit::{Action, Outcome};
use cordon_card::{Cvv, Token};
use cordon_policy::{Permit, Settle};
use cordon_wire::{ItemResult, Items, ProblemCode, Settled, Submitted};

impl<S: Store> Vault<S> {
    /// Wipes the codes that are still held for revealed tokens: the destination answered. Also works sealed, where
    /// nothing is held.
    ///
    /// # Errors
    /// The codes are wiped, but that cannot be recorded.
    pub async fn settle(
        &self,
        caller: &Caller,
        permit: Permit<Settle>,
        items: Vec<Submitted<Token>>,
    ) -> Result<Items<Settled>, VaultError> {
        let collection = self.collection(permit.collection())?;
        let wanted: Vec<_> = items.into_iter().map(|token| self.own_token(token)).collect();
        let wiped: Vec<Token> = {
            let mut holds = self.holds();
            let due = |token: &&Token| holds.settle(collection.number(), token);
            wanted.iter().flatten().filter(due).cloned().collect()
        };
        let event = caller
            .event(Action::SecurityCode, Outcome::Allowed)
            .collection(&collection.name)
            .tokens(wiped)
            .count(u64::try_from(wanted.len()).unwrap_or(u64::MAX))
            .statements(statements(permit.statements()))
            .reason("wiped.answered");
        self.note(event).await?;
        let items = wanted
            .into_iter()
            .map(|token| match token {
                Ok(token) => ItemResult::Ok(Settled { token }),
                Err(code) => ItemResult::Error(code.into()),
            })
            .collect();
        Ok(Items { items })
    }

    /// Holds a code that came with a card.
    ///
    /// # Errors
    /// [`ProblemCode::Busy`] when as many are held as may be; [`ProblemCode::Sealed`] if the vault was sealed meanwhile.
    pub(super) fn hold_code(
        &self,
        collection: &Collection,
        token: &Token,
        cvv: &Cvv,
    ) -> Result<(), ProblemCode> {
        let now = self.clock.monotonic();
        let mut holds = self.holds();
        // Looked at under the lock: sealing purges after it has left the unsealed state.
        if self.keys().is_err() {
            return Err(ProblemCode::Sealed);
        }
        holds.hold(collection.number(), token, cvv, now).map_err(|error| match error {
            HoldError::Full => ProblemCode::Busy,
            HoldError::Hold | HoldError::Key(_) => ProblemCode::Internal,
        })
    }

    /// Takes the code of a token that is about to be revealed, which ends it.
    ///
    /// # Errors
    /// [`ProblemCode::CodeGone`], whatever the reason.
    pub(super) fn take_code(&self, collection: &Collection, token: &Token) -> Result<Cvv, ProblemCode> {
        let now = self.clock.monotonic();
        self.holds().take(collection.number(), token, now).map_err(|absent| {
            tracing::debug!(%absent, "no security code to give out");
            ProblemCode::CodeGone
        })
    }

    /// A token is about to be revealed without its code. Says whether one is held.
    pub(super) fn pass_over_code(&self, collection: &Collection, token: &Token) -> bool {
        let now = self.clock.monotonic();
        self.holds().pass_over(collection.number(), token, now)
    }

    /// Wipes the code of a token that was deleted.
    pub(super) fn forget_code(&self, collection: &Collection, token: &Token) {
        self.holds().forget(collection.number(), token);
    }
}
