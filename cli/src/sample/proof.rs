//! How the sample processor shows which card it got without saying it: a MAC under a key of one run.
//!
//! Must never be a bare hash: card numbers are few enough to try them all (PCI DSS 3.5.1.1). Tests: below.

use crate::exit::Failure;
use data_encoding::HEXLOWER;
use ring::hmac::{self, HMAC_SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use std::fs;
use std::path::Path;
use zeroize::Zeroizing;

/// The key of one run, shared by `cordon dev` and its processor through a file.
pub(crate) struct ProofKey(hmac::Key);

impl ProofKey {
    /// Makes a key and writes it to a new file, mode 0600.
    pub(crate) fn make(path: &Path) -> Result<Self, Failure> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        SystemRandom::new()
            .fill(bytes.as_mut_slice())
            .map_err(|_error| Failure::refused("randomness", "the system gave no randomness"))?;
        crate::pki::write_new(path, 0o600, bytes.as_slice())?;
        Ok(Self(hmac::Key::new(HMAC_SHA256, bytes.as_slice())))
    }

    /// Reads a key.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = Zeroizing::new(fs::read(path).map_err(|error| Failure::file(path, &error))?);
        Ok(Self(hmac::Key::new(HMAC_SHA256, &bytes)))
    }

    /// The proof of having `text`.
    pub(crate) fn of(&self, text: &str) -> String {
        HEXLOWER.encode(hmac::sign(&self.0, text.as_bytes()).as_ref())
    }

    /// Whether `proof` is the one of `text`.
    pub(crate) fn holds(&self, proof: &str, text: &str) -> bool {
        HEXLOWER
            .decode(proof.as_bytes())
            .is_ok_and(|tag| hmac::verify(&self.0, text.as_bytes(), &tag).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_its_text_and_key_only() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("key");
        let key = ProofKey::make(&path).unwrap();
        let proof = key.of("4111111111111111");
        assert!(ProofKey::read(&path).unwrap().holds(&proof, "4111111111111111"));
        assert!(!key.holds(&proof, "4242424242424242"));
        assert!(!key.holds("", "4111111111111111"));
        assert!(!key.holds("zz", "4111111111111111"));
        let other = ProofKey::make(&scratch.path().join("other")).unwrap();
        assert!(!other.holds(&proof, "4111111111111111"));
        assert!(ProofKey::make(&path).is_err());
    }
}
