//! Free key-value pairs kept with a card, inside its ciphertext.
//!
//! Must never be shown by `Debug`, nor grow past its limits: a name on a card is cardholder data; nor take a pair whose
//! key says that its value is sensitive authentication data (PCI DSS 3.3.1). Kept
//! encoded, in one buffer that is wiped: for each pair, in the order of keys, the length of the key (2), the
//! key, the length of the value (2), the value. Tests: at the end of this file and `record/tests.rs`.

use std::collections::BTreeMap;
use std::fmt;

use cordon_wire::ProblemCode;
use thiserror::Error;
use zeroize::Zeroizing;

use super::Refused;

/// Free pairs of text. Wiped on drop.
pub struct Metadata {
    // INVARIANT(pairs): the encoding of at most MAX_PAIRS pairs with ascending keys, at most MAX_TEXT bytes
    // of text.
    encoded: Zeroizing<Vec<u8>>,
}

impl Metadata {
    /// No pairs.
    #[must_use]
    pub fn none() -> Metadata {
        Metadata { encoded: Zeroizing::new(Vec::new()) }
    }

    /// Takes pairs.
    ///
    /// # Errors
    /// [`MetadataError`] beyond 64 pairs or 1,024 bytes of keys and values together, for an empty key, or for one that
    /// names a security code, track data or a PIN.
    pub fn from_pairs(pairs: &BTreeMap<String, String>) -> Result<Metadata, MetadataError> {
        let text: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        if pairs.len() > MAX_PAIRS || text > MAX_TEXT {
            return Err(MetadataError::TooLong);
        }
        let mut encoded = Zeroizing::new(Vec::with_capacity(text + LENGTHS * pairs.len()));
        for (key, value) in pairs {
            if key.is_empty() {
                return Err(MetadataError::EmptyKey);
            }
            if names_authentication_data(key) {
                return Err(MetadataError::Forbidden);
            }
            for part in [key, value] {
                let length = u16::try_from(part.len()).map_err(|_over| MetadataError::TooLong)?;
                encoded.extend_from_slice(&length.to_be_bytes());
                encoded.extend_from_slice(part.as_bytes());
            }
        }
        Ok(Metadata { encoded })
    }

    /// Reads the encoding back; refuses any that [`Metadata::from_pairs`] does not write.
    pub(super) fn from_encoded(encoded: &[u8]) -> Result<Metadata, Refused> {
        let (mut rest, mut last, mut text, mut count) = (encoded, "", 0, 0);
        while !rest.is_empty() {
            let (key, after_key) = split(rest).ok_or(Refused)?;
            let (value, after_value) = split(after_key).ok_or(Refused)?;
            // Keys ascend from the empty text, so neither an empty nor a repeated one passes.
            if key <= last {
                return Err(Refused);
            }
            text += key.len() + value.len();
            count += 1;
            (rest, last) = (after_value, key);
        }
        if text > MAX_TEXT || count > MAX_PAIRS {
            return Err(Refused);
        }
        Ok(Metadata { encoded: Zeroizing::new(encoded.to_vec()) })
    }

    /// The pairs, in the order of keys.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = self.encoded.as_slice();
        std::iter::from_fn(move || {
            let (key, after_key) = split(rest)?;
            let (value, after_value) = split(after_key)?;
            rest = after_value;
            Some((key, value))
        })
    }

    /// Whether there are no pairs.
    #[must_use]
    pub fn duplicate(&self) -> Metadata {
        // An exact capacity, so that the copy is never grown and left behind unwiped.
        Metadata { encoded: Zeroizing::new(self.encoded.as_slice().to_vec()) }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    pub(super) fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    pub(super) fn same_as(&self, other: &Metadata) -> bool {
        self.encoded == other.encoded
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metadata(..)")
    }
}

/// Why pairs were not taken. Client's fault; says nothing about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// More than 64 pairs or 1,024 bytes.
    #[error("metadata is longer than 64 pairs or 1,024 bytes")]
    TooLong,
    /// A key is empty.
    #[error("a metadata key is empty")]
    EmptyKey,
    /// A key names sensitive authentication data, which is never stored.
    #[error("a metadata key names a security code, track data or a PIN")]
    Forbidden,
}

impl From<MetadataError> for ProblemCode {
    fn from(error: MetadataError) -> ProblemCode {
        match error {
            MetadataError::TooLong | MetadataError::EmptyKey => ProblemCode::MetadataTooLarge,
            MetadataError::Forbidden => ProblemCode::MetadataForbidden,
        }
    }
}

/// Whether a key says that its value is a security code, track data or a PIN, in any spelling: `CVV`, `card_cvc2`,
/// `card-security-code`. A value cannot be told by its looks.
fn names_authentication_data(key: &str) -> bool {
    let plain: String = key.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    FORBIDDEN.contains(&plain.as_str()) || FORBIDDEN_PARTS.iter().any(|part| plain.contains(part))
}

/// Keys that are one of these as a whole: inside other words they are harmless (`incident`, `shopping`).
const FORBIDDEN: [&str; 11] =
    ["cid", "csc", "cav", "cav2", "cvd", "cvn", "cvn2", "pin", "cardpin", "track", "tracks"];
const FORBIDDEN_PARTS: [&str; 16] = [
    "cvv",
    "cvc",
    "cardcid",
    "cardcsc",
    "securitycode",
    "verificationcode",
    "verificationvalue",
    "validationcode",
    "validationvalue",
    "pinblock",
    "track1",
    "track2",
    "track3",
    "trackdata",
    "magstripe",
    "magneticstripe",
];

fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

const MAX_TEXT: usize = cordon_wire::limits::MAX_METADATA;
const MAX_PAIRS: usize = 64;
/// Bytes that the two lengths of a pair take.
const LENGTHS: usize = 4;
/// The longest encoding there can be.
pub(super) const MAX_ENCODED: usize = MAX_TEXT + LENGTHS * MAX_PAIRS;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{MAX_ENCODED, Metadata, MetadataError, Refused};

    fn pairs(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn too_much_is_refused() {
        let long = pairs(&[("k", &"v".repeat(1024))]);
        assert_eq!(Metadata::from_pairs(&long).unwrap_err(), MetadataError::TooLong);
        let many = (0..65).map(|n| (format!("{n}"), String::new())).collect();
        assert_eq!(Metadata::from_pairs(&many).unwrap_err(), MetadataError::TooLong);
        assert_eq!(Metadata::from_pairs(&pairs(&[("", "v")])).unwrap_err(), MetadataError::EmptyKey);
    }

    #[test]
    fn the_limits_themselves_are_taken() {
        assert!(Metadata::from_pairs(&pairs(&[("k", &"v".repeat(1023))])).is_ok());
        let most = (0..64).map(|n| (format!("{n:02}"), "v".repeat(14))).collect();
        assert_eq!(Metadata::from_pairs(&most).unwrap().encoded().len(), MAX_ENCODED);
    }

    #[test]
    fn encodings_that_are_not_written_are_refused() {
        for wrong in [
            &b"\x00"[..],
            b"\x00\x01a",
            b"\x00\x01a\x00\x02b",
            b"\x00\x00\x00\x01v",
            b"\x00\x01b\x00\x00\x00\x01a\x00\x00",
            b"\x00\x01a\x00\x00\x00\x01a\x00\x00",
            b"\x00\x01\xff\x00\x00",
        ] {
            assert_eq!(Metadata::from_encoded(wrong).unwrap_err(), Refused);
        }
    }

    #[test]
    fn a_key_that_names_authentication_data_is_refused_in_any_spelling() {
        for key in [
            "cvv",
            "CVV",
            "cvc",
            "cvv2",
            "c-v-v",
            "card_cvc2",
            "cardCvv",
            "dcvv",
            "CID",
            "card.cid",
            "security_code",
            "Card Security Code",
            "verification-value",
            "csc",
            "cav2",
            "PIN",
            "pin_block",
            "track2",
            "Track 1",
            "track_2_data",
            "magStripe",
        ] {
            let refused = Metadata::from_pairs(&pairs(&[("order", "17"), (key, "7391")]));
            assert_eq!(refused.unwrap_err(), MetadataError::Forbidden, "{key}");
        }
        for key in ["incident", "shopping", "tracking_number", "order", "pinned", "name", "acid", "decision"]
        {
            assert!(Metadata::from_pairs(&pairs(&[(key, "739")])).is_ok(), "{key}");
        }
    }

    #[test]
    fn debug_shows_no_pair() {
        let metadata = Metadata::from_pairs(&pairs(&[("name", "A Person")])).unwrap();
        assert_eq!(format!("{metadata:?}"), "Metadata(..)");
    }

    proptest! {
        #[test]
        fn pairs_survive_the_encoding(map in proptest::collection::btree_map("[e-h]{1,8}", ".{0,20}", 0..9)) {
            prop_assume!(map.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() <= 1024);
            let metadata = Metadata::from_pairs(&map).unwrap();
            let again = Metadata::from_encoded(metadata.encoded()).unwrap();
            let read: BTreeMap<String, String> =
                again.pairs().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            prop_assert_eq!(read, map);
        }

        #[test]
        fn whatever_is_read_is_what_would_be_written(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(metadata) = Metadata::from_encoded(&bytes) {
                let map = metadata.pairs().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
                let again = Metadata::from_pairs(&map).unwrap();
                prop_assert_eq!(again.encoded(), bytes.as_slice());
            }
        }
    }
}
