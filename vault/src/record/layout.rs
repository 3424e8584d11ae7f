//! The plaintext of a record: fixed places, padded, one encoding for each card.
//!
//! Must never let the length tell a PAN's length, brand or whether there is an expiry (threat B47).
//! Big-endian:
//!
//! ```text
//!  0  length of the PAN (1)          31  length of the metadata (2)
//!  1  PAN digits, zero-padded (19)   33  zero (15)
//! 20  expiry year, 0 if none (2)     48  metadata, zero-padded to a multiple of 64
//! 22  expiry month, 0 if none (1)
//! 23  created at, Unix seconds (8)
//! ```
//!
//! Tests: `record/tests.rs`; fuzzed by `fuzz/fuzz_targets/record.rs`.

use cordon_card::{Expiry, Pan};
use zeroize::Zeroizing;

use super::metadata::{MAX_ENCODED, Metadata};
use super::{CardData, Refused};

/// Length of a plaintext without metadata.
pub const BASE_LENGTH: usize = 48;
/// Metadata takes a multiple of this many bytes.
pub const METADATA_STEP: usize = 64;

const DIGITS: usize = 19;
const RESERVED: usize = 15;

/// Whether a plaintext can have this length.
#[must_use]
pub fn is_length(length: usize) -> bool {
    length.checked_sub(BASE_LENGTH).is_some_and(|metadata| {
        metadata % METADATA_STEP == 0 && metadata <= MAX_ENCODED.next_multiple_of(METADATA_STEP)
    })
}

/// Lays out a card. The bytes are wiped on drop and are written without a reallocation on the way.
#[must_use]
pub fn encode(card: &CardData) -> Zeroizing<Vec<u8>> {
    let metadata = card.metadata.encoded();
    let length = BASE_LENGTH + metadata.len().next_multiple_of(METADATA_STEP);
    let mut out = Zeroizing::new(Vec::with_capacity(length));
    let digits = card.pan.expose().as_bytes();
    // Neither conversion can fail: a PAN has at most 19 digits, and metadata at most MAX_ENCODED bytes.
    out.push(u8::try_from(digits.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(digits);
    out.resize(1 + DIGITS, 0);
    let (year, month) = card.expiry.map_or((0, 0), |expiry| (expiry.year(), expiry.month()));
    out.extend_from_slice(&year.to_be_bytes());
    out.push(month);
    out.extend_from_slice(&card.created_at.to_be_bytes());
    out.extend_from_slice(&u16::try_from(metadata.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.resize(BASE_LENGTH, 0);
    out.extend_from_slice(metadata);
    out.resize(length, 0);
    out
}

/// Reads a laid-out card, and refuses anything that [`encode`] would not have written.
///
/// # Errors
/// [`Refused`], whatever is wrong.
pub fn decode(plaintext: &[u8]) -> Result<CardData, Refused> {
    if !is_length(plaintext.len()) {
        return Err(Refused);
    }
    let mut rest = plaintext;
    let [pan_length] = take::<1>(&mut rest)?;
    let digits = Zeroizing::new(take::<DIGITS>(&mut rest)?);
    let year = u16::from_be_bytes(take(&mut rest)?);
    let [month] = take::<1>(&mut rest)?;
    let created_at = u64::from_be_bytes(take(&mut rest)?);
    let metadata_length = usize::from(u16::from_be_bytes(take(&mut rest)?));
    let reserved = take::<RESERVED>(&mut rest)?;

    let (digits, padding) = digits.split_at_checked(usize::from(pan_length)).ok_or(Refused)?;
    let (metadata, tail) = rest.split_at_checked(metadata_length).ok_or(Refused)?;
    let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    if !zero(padding) || !zero(&reserved) || !zero(tail) || tail.len() >= METADATA_STEP {
        return Err(Refused);
    }
    let expiry = match (year, month) {
        (0, 0) => None,
        (year, month) => Some(Expiry::new(year, month).map_err(|_date| Refused)?),
    };
    Ok(CardData {
        pan: Pan::from_ascii_digits(digits).map_err(|_pan| Refused)?,
        expiry,
        metadata: Metadata::from_encoded(metadata)?,
        created_at,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Refused> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(Refused)?;
    *rest = tail;
    Ok(*head)
}
