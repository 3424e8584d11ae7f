//! XAES-256-GCM (<https://c2sp.org/XAES-256-GCM>): authenticated encryption with a 24-byte random nonce.
//!
//! Must never take a nonce from a caller outside this crate, and never leave a derived key behind. The pieces
//! are AES-CMAC as a key derivation function (NIST SP 800-108r1) and AES-256-GCM (SP 800-38D); 2^80 messages
//! under one key keep the chance of a repeated nonce below 2^-32. It does not commit to its key: records and wrapped keys
//! carry a commitment of their own.
//! Tests: `record/xaes/tests.rs`, with the published vectors.

use std::fmt;

use aes::cipher::BlockCipherEncrypt;
use aes::{Aes256, Block};
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use dbl::Dbl;
use zeroize::{Zeroize, Zeroizing};

use crate::keys::usage::Encrypts;
use crate::keys::{Key, KeyError, fill_random};

/// Length of the nonce in bytes.
pub const NONCE_LENGTH: usize = 24;
/// Length of the authentication tag in bytes.
pub const TAG_LENGTH: usize = 16;
/// What sealing adds to a plaintext: the nonce in front, the tag behind.
pub const OVERHEAD: usize = NONCE_LENGTH + TAG_LENGTH;

/// One key, ready for use. Wiped on drop.
pub struct XaesKey(Box<Prepared>);

/// What all messages of a key have in common.
struct Prepared {
    cipher: Aes256,
    /// The first CMAC subkey (SP 800-38B section 6.1): added to a message of exactly one block.
    subkey: Zeroizing<[u8; BLOCK]>,
}

impl XaesKey {
    /// Prepares a key. Only keys whose purpose is encryption are taken.
    #[must_use]
    pub fn new<U: Encrypts>(key: &Key<U>) -> XaesKey {
        let cipher = Aes256::new(key.expose_for_crypto().into());
        let mut block = Block::default();
        cipher.encrypt_block(&mut block);
        let mut doubled = block.dbl();
        let subkey = Zeroizing::new(doubled.into());
        block.as_mut_slice().zeroize();
        doubled.as_mut_slice().zeroize();
        XaesKey(Box::new(Prepared { cipher, subkey }))
    }

    /// Appends a fresh random nonce, the encrypted `plaintext` and the tag to `out`.
    ///
    /// # Errors
    /// [`KeyError::Random`] when there is no randomness for the nonce. `out` is then as it was.
    pub fn seal_onto(&self, aad: &[u8], plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), KeyError> {
        let mut nonce = [0; NONCE_LENGTH];
        fill_random(&mut nonce)?;
        self.seal_with(&nonce, aad, plaintext, out)
    }

    /// Opens `sealed`, which is nonce, ciphertext and tag. The answer is wiped on drop.
    ///
    /// # Errors
    /// [`Unauthentic`] whatever the reason: too short, another key, other associated data, a changed byte.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unauthentic> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LENGTH>().ok_or(Unauthentic)?;
        let (body, tag) = rest.split_last_chunk::<TAG_LENGTH>().ok_or(Unauthentic)?;
        let (derived, tail) = self.derive(nonce);
        let mut plaintext = Zeroizing::new(body.to_vec());
        let buffer = plaintext.as_mut_slice().into();
        derived
            .decrypt_inout_detached(&Nonce::from(tail), aad, buffer, &Tag::from(*tag))
            .map_err(|_aead| Unauthentic)?;
        Ok(plaintext)
    }

    fn seal_with(
        &self,
        nonce: &[u8; NONCE_LENGTH],
        aad: &[u8],
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), KeyError> {
        let (derived, tail) = self.derive(nonce);
        // Room for everything first: a reallocation would leave a copy of the plaintext behind.
        out.reserve_exact(OVERHEAD + plaintext.len());
        let before = out.len();
        out.extend_from_slice(nonce);
        out.extend_from_slice(plaintext);
        let body = out.get_mut(before + NONCE_LENGTH..).unwrap_or_default();
        let Ok(tag) = derived.encrypt_inout_detached(&Nonce::from(tail), aad, body.into()) else {
            body.zeroize();
            out.truncate(before);
            return Err(KeyError::Derivation);
        };
        out.extend_from_slice(&tag);
        Ok(())
    }

    /// The key of one message, from the first 12 bytes of its nonce, and the 12 bytes that remain as the GCM
    /// nonce. Each half of the key is the CMAC of one block: the subkey is added, then the block
    /// encrypted.
    fn derive(&self, nonce: &[u8; NONCE_LENGTH]) -> (Aes256Gcm, [u8; GCM_NONCE]) {
        let (key, tail) = self.message_key(nonce);
        (Aes256Gcm::new((&*key).into()), tail)
    }

    /// The bytes behind [`XaesKey::derive`].
    pub(super) fn message_key(&self, nonce: &[u8; NONCE_LENGTH]) -> (Zeroizing<[u8; 32]>, [u8; GCM_NONCE]) {
        let (head, last) = nonce.split_at(GCM_NONCE);
        let mut tail = [0; GCM_NONCE];
        tail.copy_from_slice(last);
        let mut halves = [Block::default(), Block::default()];
        for (counter, half) in (1_u8..).zip(&mut halves) {
            let label = [0, counter, b'X', 0];
            let message = label.iter().chain(head);
            for ((to, from), mask) in half.iter_mut().zip(message).zip(self.0.subkey.iter()) {
                *to = from ^ mask;
            }
        }
        self.0.cipher.encrypt_blocks(&mut halves);
        let mut key = Zeroizing::new([0; 2 * BLOCK]);
        for (to, from) in key.iter_mut().zip(halves.iter().flatten()) {
            *to = *from;
        }
        halves.iter_mut().for_each(|half| half.as_mut_slice().zeroize());
        (key, tail)
    }
}

impl fmt::Debug for XaesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("XaesKey(..)")
    }
}

/// The ciphertext does not open: no more is said, so that nothing can be learned from the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ciphertext is not authentic")]
pub struct Unauthentic;

const GCM_NONCE: usize = NONCE_LENGTH / 2;
const BLOCK: usize = 16;

#[cfg(test)]
mod tests;
