//! A custodian's share as text: `cordon-share-v1-<environment>-<number>-<base32>-<checksum>`.
//!
//! Must never be shown but by [`ShareText::expose`]. The base32 part holds the ceremony (8 bytes) and the
//! secret (32); the checksum is the first 40 bits of SHA-256 over all before it, against slips of the pen.
//! Whether the secret is the right one is another question, which the seal document answers. Tests: at the
//! end of this file.

use std::fmt;

use cordon_card::Environment;
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

use super::shamir::ShareSecret;
use crate::keys::{KEY_LENGTH, KeyError, fill_random};

/// One share of a root key. Wiped on drop; has no `Clone`, `PartialEq`, `Serialize` or telling `Debug`.
pub struct ShareText {
    pub(super) environment: Environment,
    pub(super) ceremony: Ceremony,
    pub(super) index: u8,
    pub(super) secret: ShareSecret,
}

impl ShareText {
    pub(super) fn new(
        environment: Environment,
        ceremony: Ceremony,
        index: u8,
        secret: ShareSecret,
    ) -> ShareText {
        ShareText { environment, ceremony, index, secret }
    }

    /// Reads a share. Case and surrounding space do not matter.
    ///
    /// # Errors
    /// [`ShareError`], which shows nothing of the text.
    pub fn parse(text: &str) -> Result<ShareText, ShareError> {
        let text = Zeroizing::new(text.trim().to_ascii_lowercase());
        let (body, checksum) = text.rsplit_once('-').ok_or(ShareError::Form)?;
        let (environment, rest) =
            body.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).ok_or(ShareError::Form)?;
        let (index, payload) = rest.split_once('-').ok_or(ShareError::Form)?;
        if checksum.len() != CHECKSUM_LENGTH || !bool::from(checksum_of(body).ct_eq(checksum.as_bytes())) {
            return Err(ShareError::Checksum);
        }
        let environment = environment.parse().map_err(|_name| ShareError::Form)?;
        let number: u8 = index.parse().map_err(|_number| ShareError::Form)?;
        if number == 0 || index != number.to_string() {
            return Err(ShareError::Form);
        }
        let upper = Zeroizing::new(payload.to_ascii_uppercase());
        if BASE32_NOPAD.decode_len(upper.len()) != Ok(PAYLOAD_LENGTH) {
            return Err(ShareError::Form);
        }
        let mut payload = Zeroizing::new([0; PAYLOAD_LENGTH]);
        if BASE32_NOPAD.decode_mut(upper.as_bytes(), &mut *payload) != Ok(PAYLOAD_LENGTH) {
            return Err(ShareError::Form);
        }
        let (ceremony, secret) = payload.split_first_chunk().ok_or(ShareError::Form)?;
        let mut share = Box::new(Zeroizing::new([0; KEY_LENGTH]));
        share.copy_from_slice(secret.first_chunk::<KEY_LENGTH>().ok_or(ShareError::Form)?);
        Ok(ShareText { environment, ceremony: Ceremony(*ceremony), index: number, secret: share })
    }

    /// The text, to be shown to one custodian once. Greppable on purpose.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        let mut payload = Zeroizing::new([0; PAYLOAD_LENGTH]);
        let bytes = self.ceremony.0.iter().chain(self.secret.iter());
        for (to, from) in payload.iter_mut().zip(bytes) {
            *to = *from;
        }
        let mut encoded = Zeroizing::new([0; ENCODED_LENGTH]);
        BASE32_NOPAD.encode_mut(&*payload, &mut *encoded);
        encoded.make_ascii_lowercase();
        // Long enough for all that follows, so that no reallocation leaves a copy behind.
        let mut text = Zeroizing::new(String::with_capacity(TEXT_CAPACITY));
        text.push_str(PREFIX);
        text.push_str(self.environment.as_str());
        text.push('-');
        text.push_str(&self.index.to_string());
        text.push('-');
        text.push_str(std::str::from_utf8(&*encoded).unwrap_or_default());
        let checksum = checksum_of(&text);
        text.push('-');
        text.push_str(std::str::from_utf8(&checksum).unwrap_or_default());
        text
    }

    /// The number of the share, from 1.
    #[must_use]
    pub fn index(&self) -> u8 {
        self.index
    }
}

impl fmt::Debug for ShareText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShareText(number {})", self.index)
    }
}

/// Why a text is not a share. Client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ShareError {
    /// Not of the form of a share.
    #[error("this is not a share: cordon-share-v1-<environment>-<number>-<64 letters>-<8 letters>")]
    Form,
    /// Of the right form, but mistyped.
    #[error("the share has a typing mistake: its checksum is wrong")]
    Checksum,
}

/// The name of one sealing: shares of different ceremonies do not mix.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Ceremony(pub(super) [u8; CEREMONY_LENGTH]);

impl Ceremony {
    pub(super) fn draw() -> Result<Ceremony, KeyError> {
        let mut name = [0; CEREMONY_LENGTH];
        fill_random(&mut name)?;
        Ok(Ceremony(name))
    }
}

impl fmt::Debug for Ceremony {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ceremony({})", HEXLOWER.encode(&self.0))
    }
}

impl TryFrom<String> for Ceremony {
    type Error = ShareError;

    fn try_from(text: String) -> Result<Ceremony, ShareError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_hex| ShareError::Form)?;
        bytes.try_into().map(Ceremony).map_err(|_length| ShareError::Form)
    }
}

impl From<Ceremony> for String {
    fn from(ceremony: Ceremony) -> String {
        HEXLOWER.encode(&ceremony.0)
    }
}

fn checksum_of(body: &str) -> [u8; CHECKSUM_LENGTH] {
    let mut out = [0; CHECKSUM_LENGTH];
    if let Some(head) = digest(&SHA256, body.as_bytes()).as_ref().first_chunk::<5>() {
        BASE32_NOPAD.encode_mut(head, &mut out);
        out.make_ascii_lowercase();
    }
    out
}

const PREFIX: &str = "cordon-share-v1-";
const CEREMONY_LENGTH: usize = 8;
const PAYLOAD_LENGTH: usize = CEREMONY_LENGTH + KEY_LENGTH;
const ENCODED_LENGTH: usize = PAYLOAD_LENGTH * 8 / 5;
const CHECKSUM_LENGTH: usize = 8;
const TEXT_CAPACITY: usize = 128;

#[cfg(test)]
mod tests {
    use cordon_card::Environment;
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    use super::{Ceremony, KEY_LENGTH, ShareError, ShareText, TEXT_CAPACITY};

    fn share(index: u8, byte: u8) -> ShareText {
        let secret = Box::new(Zeroizing::new([byte; KEY_LENGTH]));
        ShareText::new(Environment::Test, Ceremony([3; 8]), index, secret)
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let text = share(12, 0x5A).expose();
        for at in 0..text.len() {
            for replacement in ["a", "q", "7", "-", "0", "\u{20ac}"] {
                let (before, after) = (text.get(..at).unwrap(), text.get(at + 1..).unwrap());
                let changed = format!("{before}{replacement}{after}");
                if changed != **text {
                    assert!(ShareText::parse(&changed).is_err(), "{replacement} at {at}");
                }
            }
        }
    }

    #[test]
    fn cut_and_foreign_texts_are_refused() {
        let text = share(1, 1).expose();
        for length in 0..text.len() {
            assert!(ShareText::parse(text.get(..length).unwrap()).is_err(), "length {length}");
        }
        for other in ["", "-", "cordon-share-v1-", "cordon-share-v2-dev-1-a-b", "tok_dev_aaaa"] {
            assert_eq!(ShareText::parse(other).unwrap_err(), ShareError::Form);
        }
    }

    #[test]
    fn numbers_have_one_spelling() {
        let text = share(1, 1).expose();
        for number in ["0", "01", "+1", "256", "x"] {
            let body = text.rsplit_once('-').unwrap().0.replacen("-test-1-", &format!("-test-{number}-"), 1);
            let checksum = super::checksum_of(&body);
            let forged = format!("{body}-{}", std::str::from_utf8(&checksum).unwrap());
            assert_eq!(ShareText::parse(&forged).unwrap_err(), ShareError::Form, "{number}");
        }
    }

    #[test]
    fn case_and_surrounding_space_do_not_matter() {
        let text = format!("  {}\n", share(3, 9).expose().to_ascii_uppercase());
        assert_eq!(ShareText::parse(&text).unwrap().secret[..], share(3, 9).secret[..]);
    }

    #[test]
    fn debug_shows_the_number_and_no_secret() {
        assert_eq!(format!("{:?}", share(3, 9)), "ShareText(number 3)");
        assert_eq!(format!("{:?}", share(3, 9).ceremony), "Ceremony(0303030303030303)");
    }

    proptest! {
        #[test]
        fn a_share_survives_its_text(index in 1_u8.., secret: [u8; KEY_LENGTH], name: [u8; 8]) {
            let (environment, boxed) = (Environment::Live, Box::new(Zeroizing::new(secret)));
            let share = ShareText::new(environment, Ceremony(name), index, boxed);
            let text = share.expose();
            prop_assert!(text.len() <= TEXT_CAPACITY);
            let read = ShareText::parse(&text).unwrap();
            prop_assert_eq!(&read.secret[..], &secret[..]);
            prop_assert_eq!((read.index, read.ceremony, read.environment), (index, Ceremony(name), environment));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,150}") {
            prop_assert!(ShareText::parse(&text).is_err());
        }
    }
}
