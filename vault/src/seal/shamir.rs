//! Shamir secret sharing of the root key, by the crate `vsss-rs` over GF(256).
//!
//! Must never do field arithmetic itself, and never use a share that was made without randomness. Whoever
//! calls checks the threshold and every share; interpolation alone would combine anything. Tests: at the end
//! of this file, exhaustive over all polynomials, and `seal/tests.rs`.

use std::convert::Infallible;

use rand_core::{TryCryptoRng, TryRng};
use vsss_rs::Gf256;
use zeroize::{Zeroize, Zeroizing};

use super::SealError;
use crate::keys::{KEY_LENGTH, KeyError, RootKey, fill_random};

/// The secret part of one share.
pub(super) type ShareSecret = Box<Zeroizing<[u8; KEY_LENGTH]>>;

/// Splits a root key with a new random polynomial for each byte: the number and secret of each share, from 1
/// on.
pub(super) fn split(root: &RootKey, threshold: u8, shares: u8) -> Result<Vec<(u8, ShareSecret)>, SealError> {
    // The library leaves the polynomial of the last byte in freed memory. A byte that nobody needs goes last.
    let mut secret = Zeroizing::new([0; KEY_LENGTH + 1]);
    for (to, from) in secret.iter_mut().zip(root.expose_for_crypto()) {
        *to = *from;
    }
    let coefficients = secret.len() * usize::from(threshold.saturating_sub(1));
    let mut random = Drawn::new(coefficients * size_of::<u32>())?;
    let parts =
        Gf256::split_bytes(usize::from(threshold), usize::from(shares), secret.as_slice(), &mut random);
    let parts = Zeroizing::new(parts.map_err(|_library| SealError::Sharing)?);
    if random.ran_out {
        return Err(SealError::Sharing);
    }
    parts
        .iter()
        .map(|part| {
            let (index, secret) = part.split_first().ok_or(SealError::Sharing)?;
            let secret = secret.first_chunk::<KEY_LENGTH>().ok_or(SealError::Sharing)?;
            let mut share = Box::new(Zeroizing::new([0; KEY_LENGTH]));
            share.copy_from_slice(secret);
            Ok((*index, share))
        })
        .collect()
}

/// Combines shares into the root key they were split from, if they are enough and right. The caller finds out
/// by the commitment: too few or wrong shares give some other key.
pub(super) fn combine<'a>(
    shares: impl Iterator<Item = (u8, &'a [u8; KEY_LENGTH])>,
) -> Result<RootKey, SealError> {
    let mut parts = Zeroizing::new(Vec::new());
    for (index, secret) in shares {
        let mut part = Vec::with_capacity(1 + KEY_LENGTH);
        part.push(index);
        part.extend_from_slice(secret);
        parts.push(part);
    }
    let combined = Gf256::combine_bytes(parts.as_slice());
    let combined = Zeroizing::new(combined.map_err(|_library| SealError::Sharing)?);
    RootKey::fill_with(|out| {
        *out = *<&[u8; KEY_LENGTH]>::try_from(combined.as_slice()).map_err(|_length| SealError::Sharing)?;
        Ok(())
    })
}

/// Randomness drawn beforehand, because the library's source cannot fail and the operating system's can. When
/// it runs out it gives zeros and says so, and nothing made with it may be used.
struct Drawn {
    bytes: Zeroizing<Vec<u8>>,
    ran_out: bool,
}

impl Drawn {
    fn new(length: usize) -> Result<Drawn, KeyError> {
        let mut bytes = Zeroizing::new(vec![0; length]);
        fill_random(&mut bytes)?;
        Ok(Drawn { bytes, ran_out: false })
    }
}

impl TryRng for Drawn {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut word = [0; 4];
        self.try_fill_bytes(&mut word)?;
        Ok(u32::from_le_bytes(word))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut word = [0; 8];
        self.try_fill_bytes(&mut word)?;
        Ok(u64::from_le_bytes(word))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        let rest = self.bytes.len().checked_sub(out.len());
        let Some((rest, drawn)) =
            rest.and_then(|rest| self.bytes.split_at_mut_checked(rest).map(|(_, last)| (rest, last)))
        else {
            self.ran_out = true;
            out.fill(0);
            return Ok(());
        };
        out.copy_from_slice(drawn);
        drawn.zeroize();
        self.bytes.truncate(rest);
        Ok(())
    }
}

impl TryCryptoRng for Drawn {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use vsss_rs::Gf256;
    use zeroize::Zeroizing;

    use super::{Drawn, combine, split};
    use crate::keys::{KEY_LENGTH, RootKey};

    /// A source that gives the coefficients of a chosen polynomial.
    fn chosen(coefficients: &[u8]) -> Drawn {
        let words = coefficients.iter().rev().flat_map(|byte| u32::from(*byte).to_le_bytes()).collect();
        Drawn { bytes: Zeroizing::new(words), ran_out: false }
    }

    #[test]
    fn two_of_three_shares_say_nothing_about_a_byte() {
        // Over all 65,536 polynomials of one secret byte, each pair of shares takes each pair of values
        // exactly once: whatever two custodians hold, every secret is equally likely. It also shows
        // that no coefficient is left out.
        for secret in [0, 1, 0xA7] {
            let mut seen = [const { Vec::new() }; 3];
            for one in 0..=u8::MAX {
                for two in 0..=u8::MAX {
                    let mut source = chosen(&[one, two]);
                    let parts = Gf256::split_bytes(3, 3, [secret], &mut source).unwrap();
                    assert!(!source.ran_out && source.bytes.is_empty());
                    for (seen, (a, b)) in seen.iter_mut().zip([(0, 1), (0, 2), (1, 2)]) {
                        seen.push((parts[a][1], parts[b][1]));
                    }
                }
            }
            for pairs in seen {
                assert_eq!(pairs.into_iter().collect::<HashSet<_>>().len(), 65_536);
            }
        }
    }

    #[test]
    fn each_split_uses_a_new_polynomial_and_the_numbers_count_from_one() {
        let root = RootKey::generate().unwrap();
        let (one, two) = (split(&root, 3, 5).unwrap(), split(&root, 3, 5).unwrap());
        assert_eq!(one.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        for ((_, one), (_, two)) in one.iter().zip(&two) {
            assert_ne!(one[..], two[..]);
        }
    }

    #[test]
    fn too_few_shares_give_another_key() {
        let root = RootKey::generate().unwrap();
        let shares = split(&root, 3, 5).unwrap();
        for a in 0..5 {
            for b in (0..5).filter(|b| *b != a) {
                let two = [&shares[a], &shares[b]];
                let combined = combine(two.into_iter().map(|(index, secret)| (*index, &***secret))).unwrap();
                assert_ne!(combined.expose_for_crypto(), root.expose_for_crypto());
            }
        }
    }

    #[test]
    fn equal_or_zero_numbers_and_single_shares_are_refused() {
        let secret = [1; KEY_LENGTH];
        assert!(combine([(1, &secret), (1, &secret)].into_iter()).is_err());
        assert!(combine([(0, &secret), (1, &secret)].into_iter()).is_err());
        assert!(combine([(1, &secret)].into_iter()).is_err());
        assert!(combine(std::iter::empty()).is_err());
    }

    #[test]
    fn a_source_that_runs_out_says_so() {
        use rand_core::TryRng;
        let mut source = chosen(&[1]);
        assert_eq!(source.try_next_u32(), Ok(1));
        assert!(!source.ran_out);
        assert_eq!(source.try_next_u32(), Ok(0));
        assert!(source.ran_out);
    }

    #[test]
    fn every_threshold_and_count_within_the_limits_combines() {
        let root = RootKey::generate().unwrap();
        for shares in 2..=16 {
            for threshold in 2..=shares {
                let made = split(&root, threshold, shares).unwrap();
                let last = made.iter().rev().take(usize::from(threshold));
                let combined = combine(last.map(|(index, secret)| (*index, &***secret))).unwrap();
                assert_eq!(combined.expose_for_crypto(), root.expose_for_crypto());
            }
        }
    }
}
