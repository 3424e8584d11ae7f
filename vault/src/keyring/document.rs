//! The keyring as it is stored: one JSON document of key rows, authenticated as a whole.
//!
//! Must never be trusted before its tag was checked: [`Document::parse`] gives rows without keys, and only
//! [`super::Unlocked`] turns rows into keys. Tests: `keyring/tests.rs`; fuzzed by
//! `fuzz/fuzz_targets/keyring.rs`.

use std::collections::{BTreeMap, BTreeSet};

use cordon_card::Environment;
use data_encoding::BASE64;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{KeyState, KeyringError};
use crate::keys::{Commitment, KeyId, PreparedMac};

/// What a stored key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Wraps the keys of collections; itself wrapped by the root key.
    Kek,
    /// Encrypts the records of one collection.
    Data,
    /// Fingerprints the PANs of one collection.
    Index,
}

/// The rows of a keyring, without any key in the clear.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    pub(super) format: u32,
    pub(super) environment: Environment,
    /// Counts every change; a document with a lower epoch than one already seen is a rollback.
    pub(super) epoch: u64,
    /// When it was written; never goes back.
    pub(super) as_of: Timestamp,
    pub(super) keys: Vec<KeyRow>,
    /// The key that hashes the store's rows; none in a keyring of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tally: Option<TallyRow>,
    /// Requests for approval that were used or rejected, and when their time is over. They stand here because an older
    /// keyring can't be put back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) closed: BTreeMap<KeyId, Timestamp>,
    /// The ceremony whose shares unseal: a seal of an earlier one was put back.
    #[serde(default)]
    pub(super) seal_generation: u32,
}

/// One version of one key: its dates, its state, and its bytes wrapped by another key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyRow {
    pub(super) id: KeyId,
    pub(super) purpose: Purpose,
    /// The number of the collection the key belongs to; none for a key-encryption key.
    pub(super) collection: Option<u32>,
    pub(super) version: u32,
    pub(super) state: KeyState,
    pub(super) created: Timestamp,
    pub(super) activated: Option<Timestamp>,
    pub(super) deactivated: Option<Timestamp>,
    /// When it came into this state.
    pub(super) since: Timestamp,
    /// The end of the originator usage period (SP 800-57 part 1, section 5.3). Enforced after a grace.
    pub(super) cryptoperiod_end: Timestamp,
    /// The end of the recipient usage period. Warned about: enforcing it would lose cards.
    pub(super) opens_until: Timestamp,
    /// Uses that were made or are reserved; of index keys none are counted.
    pub(super) uses: u64,
    /// The version of the key-encryption key around it; none for a key-encryption key, which the root wraps.
    pub(super) wrapped_by: Option<u32>,
    /// Nonce, ciphertext and tag in base64; none once destroyed.
    pub(super) wrapped: Option<String>,
    pub(super) commitment: Commitment,
}

/// The key of the store's tally, wrapped by the root key. It protects no card and is never exchanged: a new one would make
/// the tally begin anew.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TallyRow {
    pub(super) id: KeyId,
    pub(super) created: Timestamp,
    /// Nonce, ciphertext and tag in base64.
    pub(super) wrapped: String,
    pub(super) commitment: Commitment,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    keyring: Box<RawValue>,
    mac: String,
}

impl Document {
    /// Parses the rows and checks that they fit together. Says nothing about who wrote them.
    ///
    /// # Errors
    /// [`KeyringError::Malformed`] when this is not a keyring; [`KeyringError::Corrupt`] when its rows
    /// contradict.
    pub fn parse(body: &[u8]) -> Result<Document, KeyringError> {
        let document: Document = serde_json::from_slice(body).map_err(|_json| KeyringError::Malformed)?;
        document.check().map_err(KeyringError::Corrupt)?;
        Ok(document)
    }

    /// Checks the tag of a stored keyring, then parses it.
    pub(super) fn authenticate(bytes: &[u8], mac: &PreparedMac) -> Result<Document, KeyringError> {
        let envelope: Envelope = serde_json::from_slice(bytes).map_err(|_json| KeyringError::Malformed)?;
        let tag = BASE64.decode(envelope.mac.as_bytes()).map_err(|_base64| KeyringError::Malformed)?;
        let body = envelope.keyring.get().as_bytes();
        if !mac.verify(MAC_LABEL, &[body], &tag) {
            return Err(KeyringError::NotAuthentic);
        }
        Document::parse(body)
    }

    /// The document as it is stored: the rows and their tag.
    pub(super) fn to_bytes(&self, mac: &PreparedMac) -> Result<Vec<u8>, KeyringError> {
        let keyring = serde_json::value::to_raw_value(self).map_err(|_json| KeyringError::Malformed)?;
        let mac = BASE64.encode(&mac.sign(MAC_LABEL, &[keyring.get().as_bytes()]));
        serde_json::to_vec(&Envelope { keyring, mac }).map_err(|_json| KeyringError::Malformed)
    }

    /// The row of the active key of one purpose and collection.
    pub(super) fn active(&self, purpose: Purpose, collection: Option<u32>) -> Option<&KeyRow> {
        self.versions(purpose, collection).find(|row| row.state == KeyState::Active)
    }

    /// Every version of one key.
    pub(super) fn versions(
        &self,
        purpose: Purpose,
        collection: Option<u32>,
    ) -> impl Iterator<Item = &KeyRow> {
        self.keys.iter().filter(move |row| row.purpose == purpose && row.collection == collection)
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.format != FORMAT {
            return Err("the format is not known");
        }
        let (mut ids, mut versions, mut active) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for row in &self.keys {
            row.check(self)?;
            if !ids.insert(&row.id) {
                return Err("two keys share a name");
            }
            if !versions.insert((row.purpose, row.collection, row.version)) {
                return Err("two keys share a version");
            }
            if row.state == KeyState::Active && !active.insert((row.purpose, row.collection)) {
                return Err("two versions of a key are active");
            }
        }
        if !active.contains(&(Purpose::Kek, None)) {
            return Err("no key-encryption key is active");
        }
        Ok(())
    }
}

impl KeyRow {
    fn check(&self, document: &Document) -> Result<(), &'static str> {
        if self.version == 0 {
            return Err("versions count from one");
        }
        if (self.purpose == Purpose::Kek) != self.collection.is_none() {
            return Err("a key is in the wrong place of the hierarchy");
        }
        if (self.state == KeyState::Destroyed) != self.wrapped.is_none() {
            return Err("a destroyed key has bytes, or another has none");
        }
        if self.state.may_open() && self.activated.is_none() {
            return Err("a key in use was never activated");
        }
        if super::budget::limit(self.purpose).is_some_and(|limit| self.uses > limit) {
            return Err("a key was used more often than it may be");
        }
        if self.wrapped.is_none() {
            return Ok(());
        }
        match (self.purpose, self.wrapped_by) {
            (Purpose::Kek, None) => Ok(()),
            (Purpose::Data | Purpose::Index, Some(version)) => document
                .versions(Purpose::Kek, None)
                .find(|kek| kek.version == version && kek.wrapped.is_some())
                .map(|_kek| ())
                .ok_or("a key is wrapped by a key that is not there"),
            (Purpose::Kek, Some(_)) | (Purpose::Data | Purpose::Index, None) => {
                Err("a key is wrapped by the wrong kind of key")
            }
        }
    }
}

pub(super) const FORMAT: u32 = 2;
const MAC_LABEL: &str = "cordon/v1/keyring";
