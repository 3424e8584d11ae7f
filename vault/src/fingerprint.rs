//! The keyed fingerprint of a PAN, by which a known card is found again (PCI DSS 3.5.1.1).
//!
//! Must never hash a PAN without a key: 8 known digits and the last four leave a thousand candidates (threat
//! B5). Two collections, or two environments, share no fingerprint of one card. Tests: at the end of this
//! file.

use std::fmt;

use cordon_card::{Environment, Pan};

use crate::keyring::IndexKeyVersion;
use crate::store::CollectionId;

/// HMAC-SHA-256 of a whole PAN under a collection's index key. `Debug` shows the type only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; LENGTH]);

impl Fingerprint {
    /// Takes back what a store kept.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; LENGTH]) -> Fingerprint {
        Fingerprint(bytes)
    }

    /// The bytes to store.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(..)")
    }
}

/// Fingerprints a PAN for one collection.
#[must_use]
pub fn fingerprint(
    key: &IndexKeyVersion,
    environment: Environment,
    collection: CollectionId,
    pan: &Pan,
) -> Fingerprint {
    let CollectionId(number) = collection;
    let fields = [environment.as_str().as_bytes(), &number.to_be_bytes(), pan.expose().as_bytes()];
    Fingerprint(key.mac.sign(FINGERPRINT_LABEL, &fields))
}

const LENGTH: usize = 32;
const FINGERPRINT_LABEL: &str = "cordon/fingerprint/v1";

#[cfg(test)]
mod tests {
    use cordon_card::{Environment, Pan};
    use data_encoding::HEXLOWER;

    use super::{CollectionId, Fingerprint, fingerprint};
    use crate::keyring::{IndexKeyVersion, KeyState};
    use crate::keys::{IndexKey, KEY_LENGTH, KeyError, PreparedMac};

    fn index_key(byte: u8) -> IndexKeyVersion {
        let key = IndexKey::fill_with(|out| {
            *out = [byte; KEY_LENGTH];
            Ok::<(), KeyError>(())
        });
        let mac = PreparedMac::new(&key.unwrap());
        IndexKeyVersion { version: 1, state: KeyState::Active, mac, protects_until: jiff::Timestamp::MAX }
    }

    fn of(key: u8, environment: Environment, collection: u32, pan: &str) -> Fingerprint {
        fingerprint(&index_key(key), environment, CollectionId(collection), &Pan::parse(pan).unwrap())
    }

    /// Computed independently with another HMAC: label, environment, collection number and digits, each after
    /// its length as a 64-bit big-endian number.
    #[test]
    fn the_known_answer_holds() {
        let answer = of(1, Environment::Dev, 7, "4242424242424242");
        assert_eq!(
            HEXLOWER.encode(answer.as_bytes()),
            "c6757b2a2572ccc65f45da6f14f8f0c5113300d135ac416dce5cf35e635cd1d0"
        );
    }

    #[test]
    fn key_environment_collection_and_number_each_change_it() {
        let one = of(1, Environment::Dev, 7, "4242424242424242");
        assert_ne!(one, of(2, Environment::Dev, 7, "4242424242424242"));
        assert_ne!(one, of(1, Environment::Live, 7, "4242424242424242"));
        assert_ne!(one, of(1, Environment::Dev, 8, "4242424242424242"));
        assert_ne!(one, of(1, Environment::Dev, 7, "4000056655665556"));
    }

    #[test]
    fn the_spelling_of_a_number_does_not_change_it() {
        assert_eq!(
            of(1, Environment::Dev, 7, "4242 4242 4242 4242"),
            of(1, Environment::Dev, 7, "4242424242424242")
        );
    }

    #[test]
    fn debug_shows_no_byte_and_bytes_survive() {
        let one = of(1, Environment::Dev, 7, "4242424242424242");
        assert_eq!(format!("{one:?}"), "Fingerprint(..)");
        assert_eq!(Fingerprint::from_bytes(*one.as_bytes()), one);
    }
}
