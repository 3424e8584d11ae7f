//! The collections of a vault: names, numbers and token profiles, kept as one document in the store.
//! Must never change the profile of a collection that has cards. Tests: at the end of the file.

use crate::mint::{ProfileError, TokenProfile};
use crate::store::CollectionId;
use cordon_card::CollectionName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the document in the store.
pub const DOCUMENT: &str = "collections";

/// A collection.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collection {
    /// Its number in records, keys and index.
    pub id: u32,
    /// Its name.
    pub name: CollectionName,
    /// Its tokens.
    pub profile: TokenProfile,
    /// Cards it is planned to hold.
    pub expected_cards: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Collection {
    /// Its number as the store takes it.
    #[must_use]
    pub const fn number(&self) -> CollectionId {
        CollectionId(self.id)
    }
}

impl From<&Collection> for cordon_wire::Collection {
    fn from(collection: &Collection) -> Self {
        Self {
            name: collection.name.clone(),
            id: collection.id,
            profile: collection.profile.clone().into(),
            expected_cards: collection.expected_cards,
            created_at: collection.created_at.to_string(),
        }
    }
}

/// All collections; a change makes a new value.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collections {
    by_name: BTreeMap<CollectionName, Collection>,
}

impl Collections {
    /// Reads the stored document.
    ///
    /// # Errors
    /// The bytes are not such a document.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The document to store.
    ///
    /// # Errors
    /// Never for a value of this type.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// By name.
    #[must_use]
    pub fn get(&self, name: &CollectionName) -> Option<&Collection> {
        self.by_name.get(name)
    }

    /// The name that belongs to a number.
    #[must_use]
    pub fn name_of(&self, id: u32) -> Option<&CollectionName> {
        self.iter().find(|collection| collection.id == id).map(|collection| &collection.name)
    }

    /// All of them by name.
    pub fn iter(&self) -> impl Iterator<Item = &Collection> {
        self.by_name.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The successor with one more collection. Numbers are never used twice.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn with(
        &self,
        name: CollectionName,
        profile: TokenProfile,
        expected_cards: u64,
        now: Timestamp,
    ) -> Result<(Self, Collection), CollectionError> {
        if self.by_name.contains_key(&name) {
            return Err(CollectionError::Exists);
        }
        profile.check_capacity(expected_cards)?;
        let id = self.iter().map(|collection| collection.id).max().unwrap_or(0).saturating_add(1);
        let collection = Collection { id, name: name.clone(), profile, expected_cards, created_at: now };
        let mut next = self.clone();
        next.by_name.insert(name, collection.clone());
        Ok((next, collection))
    }
}

/// Why a collection cannot be made. The client's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectionError {
    /// The name is taken.
    #[error("a collection of this name exists")]
    Exists,
    /// The profile does not fit; the text has the arithmetic.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> CollectionName {
        CollectionName::parse(text).unwrap()
    }

    #[test]
    fn numbers_go_up_and_a_name_is_taken_once() {
        let now = Timestamp::UNIX_EPOCH;
        let (one, first) = Collections::default().with(name("a"), TokenProfile::default(), 10, now).unwrap();
        let (two, second) = one.with(name("b"), TokenProfile::default(), 10, now).unwrap();
        assert_eq!((first.id, second.id, two.len()), (1, 2, 2));
        assert!(matches!(
            two.with(name("a"), TokenProfile::default(), 10, now),
            Err(CollectionError::Exists)
        ));
        assert_eq!(two.name_of(2), Some(&name("b")));
    }

    #[test]
    fn the_document_survives_storage() {
        let now = Timestamp::UNIX_EPOCH;
        let (one, _) = Collections::default().with(name("a"), TokenProfile::default(), 10, now).unwrap();
        let back = Collections::parse(&one.to_bytes().unwrap()).unwrap();
        assert_eq!(back.get(&name("a")).unwrap().id, 1);
        assert!(Collections::parse(b"{\"by_name\":{},\"more\":1}").is_err());
    }
}
