//! The collections of a vault: names, numbers and token profiles, kept as one document in the store.
//! Must never change the profile of a collection that has cards. Tests: at the end of the file.

use crate::mint::{ProfileError, TokenProfile};
use crate::store::{CollectionId, Row};
use cordon_card::CollectionName;
use cordon_wire::Retention;
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
    /// How long its records are kept; none while nobody has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

impl Collection {
    /// Its number as the store takes it.
    #[must_use]
    pub const fn number(&self) -> CollectionId {
        CollectionId(self.id)
    }

    /// When a record's time is over, in Unix seconds: with its token, or when it was kept as long as it may be.
    #[must_use]
    pub fn end_of(&self, row: &Row) -> Option<u64> {
        let kept = match &self.retention {
            Some(Retention::Days(days)) => {
                Some(row.created_at.saturating_add(u64::from(*days).saturating_mul(DAY)))
            }
            Some(Retention::Reason(_)) | None => None,
        };
        match (row.expires_at, kept) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Whether a record's time is over at `now`: it is then not there for any call, erased or not.
    #[must_use]
    pub fn is_over(&self, row: &Row, now: u64) -> bool {
        self.end_of(row).is_some_and(|end| end <= now)
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
        let (created_at, retention) = (now, None);
        let collection =
            Collection { id, name: name.clone(), profile, expected_cards, created_at, retention };
        let mut next = self.clone();
        next.by_name.insert(name, collection.clone());
        Ok((next, collection))
    }
}

impl Collections {
    /// The successor in which a collection keeps its records as said. The same, if there is no such collection.
    #[must_use]
    pub fn with_retention(&self, name: &CollectionName, retention: Retention) -> Self {
        let mut next = self.clone();
        if let Some(collection) = next.by_name.get_mut(name) {
            collection.retention = Some(retention);
        }
        next
    }
}

const DAY: u64 = 86_400;

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

    fn row(created_at: u64, expires_at: Option<u64>) -> Row {
        let envelope = |length: usize| [&[2, 0, 0, 0, 1][..], &vec![0; length]].concat();
        let sealed = (0..512).find_map(|length| crate::record::Sealed::from_stored(&envelope(length)).ok());
        Row {
            collection: CollectionId(1),
            token: cordon_card::Token::opaque(cordon_card::Environment::Dev, &[1; 17]),
            card_id: cordon_card::CardId::from_bytes([1; 16]),
            index: Vec::new(),
            claim: crate::store::Claim::Multi,
            used: false,
            expires_at,
            created_at,
            sealed: sealed.unwrap(),
        }
    }

    #[test]
    fn a_record_ends_with_its_token_or_its_retention_whichever_is_first() {
        let now = Timestamp::UNIX_EPOCH;
        let (one, _) = Collections::default().with(name("a"), TokenProfile::default(), 10, now).unwrap();
        let end = |collections: &Collections, row: &Row| collections.get(&name("a")).unwrap().end_of(row);
        assert_eq!(end(&one, &row(100, None)), None);
        assert_eq!(end(&one, &row(100, Some(500))), Some(500));
        let kept = one.with_retention(&name("a"), Retention::Days(2));
        assert_eq!(end(&kept, &row(100, None)), Some(100 + 2 * DAY));
        assert_eq!(end(&kept, &row(100, Some(500))), Some(500));
        assert_eq!(end(&kept, &row(100, Some(u64::MAX))), Some(100 + 2 * DAY));
        let collection = kept.get(&name("a")).unwrap();
        assert!(!collection.is_over(&row(100, None), 99 + 2 * DAY));
        assert!(collection.is_over(&row(100, None), 100 + 2 * DAY));
        assert!(!collection.is_over(&row(u64::MAX, None), u64::MAX - 1));
        let reason = cordon_wire::RetainReason::parse("subscription").unwrap();
        let kept = kept.with_retention(&name("a"), Retention::Reason(reason));
        assert_eq!(end(&kept, &row(100, None)), None);
        assert_eq!(
            Collections::parse(&kept.to_bytes().unwrap()).unwrap().to_bytes().unwrap(),
            kept.to_bytes().unwrap()
        );
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
