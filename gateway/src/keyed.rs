//! Digests under a key of the process: by which two things are told apart without keeping either.
//!
//! Must never be written down: a digest of one run says nothing to another, nor to who has no key. Tests: here.

use ring::error::Unspecified;
use ring::hmac;
use ring::rand::SystemRandom;

/// 256 bits under the key.
pub type Digest = [u8; 32];

/// The key, which lives as long as the process.
pub struct Keyed(hmac::Key);

/// Nothing of it.
impl std::fmt::Debug for Keyed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyed")
    }
}

impl Keyed {
    /// A key of its own.
    ///
    /// # Errors
    /// Without randomness.
    pub fn new() -> Result<Self, Unspecified> {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map(Self)
    }

    /// The digest of these parts, for this use. Parts cannot run into each other.
    #[must_use]
    pub fn digest(&self, what: &[u8], parts: &[&[u8]]) -> Digest {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(what);
        for part in parts {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_uses_parts_and_keys_apart() {
        let keyed = Keyed::new().unwrap();
        let digest = keyed.digest(b"use", &[b"ab", b"c"]);
        assert_eq!(digest, keyed.digest(b"use", &[b"ab", b"c"]));
        assert_ne!(digest, keyed.digest(b"use", &[b"a", b"bc"]));
        assert_ne!(digest, keyed.digest(b"other", &[b"ab", b"c"]));
        assert_ne!(digest, Keyed::new().unwrap().digest(b"use", &[b"ab", b"c"]));
        assert_eq!(format!("{keyed:?}"), "Keyed");
    }
}
