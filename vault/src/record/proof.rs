//! What opens a record: a decision of the policy and a durable audit line, both about its collection, the line about its token.
//!
//! It must never be made of anything else. Tests: `proof/tests.rs`, and the examples in `record.rs` that do not compile.

use cordon_audit::{Inspection, Receipt, Reveal};
use cordon_card::CollectionName;
use cordon_policy::{Detokenize, Export, Inspect, Permit};

use super::Binding;
use crate::collections::Collection;
use crate::error::VaultError;
use crate::store::CollectionId;

/// Proof that policy allowed it and that the audit line of it is durable. Made from those two things only; it opens the
/// records of the tokens that this line names, in the collection that both are about.
#[derive(Debug)]
pub struct Proof<'a, K> {
    receipt: &'a Receipt<K>,
    collection: CollectionId,
}

/// For a reveal or an export.
pub type OpenProof<'a> = Proof<'a, Reveal>;

/// For an inspection, which shows the masked view only.
pub type InspectProof<'a> = Proof<'a, Inspection>;

impl<'a> OpenProof<'a> {
    /// Decision and audit line of a reveal.
    ///
    /// # Errors
    /// [`VaultError::Integrity`] if they are not about this collection.
    pub fn for_detokenize(
        permit: &'a Permit<Detokenize>,
        receipt: &'a Receipt<Reveal>,
        collection: &Collection,
    ) -> Result<Self, VaultError> {
        Proof::of(permit.collection(), receipt, collection)
    }

    /// Decision and audit line of a page of an export.
    ///
    /// # Errors
    /// As [`OpenProof::for_detokenize`].
    pub fn for_export(
        permit: &'a Permit<Export>,
        receipt: &'a Receipt<Reveal>,
        collection: &Collection,
    ) -> Result<Self, VaultError> {
        Proof::of(permit.collection(), receipt, collection)
    }
}

impl<'a> InspectProof<'a> {
    /// Decision and audit line of an inspection.
    ///
    /// # Errors
    /// As [`OpenProof::for_detokenize`].
    pub fn for_inspect(
        permit: &'a Permit<Inspect>,
        receipt: &'a Receipt<Inspection>,
        collection: &Collection,
    ) -> Result<Self, VaultError> {
        Proof::of(permit.collection(), receipt, collection)
    }
}

impl<'a, K> Proof<'a, K> {
    fn of(
        permitted: Option<&CollectionName>,
        receipt: &'a Receipt<K>,
        collection: &Collection,
    ) -> Result<Self, VaultError> {
        if permitted == Some(&collection.name) && receipt.is_of(&collection.name) {
            Ok(Proof { receipt, collection: collection.number() })
        } else {
            Err(VaultError::Integrity("a card was opened on the record of another collection"))
        }
    }

    /// Whether it is about this row.
    pub(super) fn covers(&self, binding: &Binding<'_>) -> bool {
        binding.collection == self.collection && self.receipt.names(binding.token)
    }
}

#[cfg(test)]
mod tests;
