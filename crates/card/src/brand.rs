//! Payment brands, told by prefix and length.
//!
//! Detection data, not routing data: the official range files are licensed, so a new or private range shows as
//! [`Brand::Unknown`]. Must never be asked to decide a payment.
//! Tests: at the end of this file, `tests/published_numbers.rs`.

mod table;

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::luhn_is_valid;
use crate::text_form::from_text;
use table::{EXACT, RANGES, Range, Reach};

/// A payment brand. Written in snake case by serde.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Brand {
    /// Visa, with the co-badged Cartes Bancaires and mada.
    Visa,
    /// Mastercard.
    Mastercard,
    /// American Express.
    Amex,
    /// Discover.
    Discover,
    /// Diners Club.
    Diners,
    /// JCB.
    Jcb,
    /// UnionPay.
    Unionpay,
    /// Maestro.
    Maestro,
    /// Mir.
    Mir,
    /// Troy.
    Troy,
    /// Elo.
    Elo,
    /// Hipercard.
    Hipercard,
    /// Hiper.
    Hiper,
    /// Verve.
    Verve,
    /// Naranja.
    Naranja,
    /// UATP.
    Uatp,
    /// RuPay.
    Rupay,
    /// Uzcard.
    Uzcard,
    /// Humo.
    Humo,
    /// Dankort.
    Dankort,
    /// Carnet.
    Carnet,
    /// Bankcard, retired in 2007; kept for old data.
    Bankcard,
    /// No brand of the table has this prefix with this length.
    Unknown,
}

/// The text names no brand. At fault: whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not the name of a brand")]
pub struct BrandError;

/// What a scanner takes for a card number: a brand's prefix with one of its lengths, and a right Luhn digit.
///
/// Narrower than [`Brand::of`] where a brand's prefix is so short that ids and clocks would match it: Maestro
/// counts by its known issuer ranges only, and UATP only with an airline's code after the 1.
/// `Some(Brand::Unknown)` is a published test number that no brand claims.
#[must_use]
pub fn plausible(ascii_digits: &[u8]) -> Option<Brand> {
    if !luhn_is_valid(ascii_digits) {
        return None;
    }
    if EXACT.contains(&ascii_digits) {
        return Some(Brand::Unknown);
    }
    RANGES
        .iter()
        .find(|range| range.reach == Reach::Anywhere && range.holds(ascii_digits))
        .map(|range| range.brand)
}

impl Brand {
    /// All brands, [`Brand::Unknown`] last.
    pub const ALL: [Self; 23] = [
        Self::Visa,
        Self::Mastercard,
        Self::Amex,
        Self::Discover,
        Self::Diners,
        Self::Jcb,
        Self::Unionpay,
        Self::Maestro,
        Self::Mir,
        Self::Troy,
        Self::Elo,
        Self::Hipercard,
        Self::Hiper,
        Self::Verve,
        Self::Naranja,
        Self::Uatp,
        Self::Rupay,
        Self::Uzcard,
        Self::Humo,
        Self::Dankort,
        Self::Carnet,
        Self::Bankcard,
        Self::Unknown,
    ];

    /// The brand of a number given as ASCII digits: the longest prefix of the table that has this length.
    /// [`Brand::Unknown`] when there is none. The Luhn digit is not looked at.
    #[must_use]
    pub fn of(ascii_digits: &[u8]) -> Self {
        RANGES.iter().find(|range| range.holds(ascii_digits)).map_or(Self::Unknown, |range| range.brand)
    }

    /// The name: lower case, one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Visa => "visa",
            Self::Mastercard => "mastercard",
            Self::Amex => "amex",
            Self::Discover => "discover",
            Self::Diners => "diners",
            Self::Jcb => "jcb",
            Self::Unionpay => "unionpay",
            Self::Maestro => "maestro",
            Self::Mir => "mir",
            Self::Troy => "troy",
            Self::Elo => "elo",
            Self::Hipercard => "hipercard",
            Self::Hiper => "hiper",
            Self::Verve => "verve",
            Self::Naranja => "naranja",
            Self::Uatp => "uatp",
            Self::Rupay => "rupay",
            Self::Uzcard => "uzcard",
            Self::Humo => "humo",
            Self::Dankort => "dankort",
            Self::Carnet => "carnet",
            Self::Bankcard => "bankcard",
            Self::Unknown => "unknown",
        }
    }

    /// How many digits the verification value has: four on American Express, three elsewhere. Nothing where the
    /// brand has none (UATP) or is not known.
    #[must_use]
    pub fn cvv_len(self) -> Option<usize> {
        match self {
            Self::Amex => Some(4),
            Self::Uatp | Self::Unknown => None,
            Self::Visa
            | Self::Mastercard
            | Self::Discover
            | Self::Diners
            | Self::Jcb
            | Self::Unionpay
            | Self::Maestro
            | Self::Mir
            | Self::Troy
            | Self::Elo
            | Self::Hipercard
            | Self::Hiper
            | Self::Verve
            | Self::Naranja
            | Self::Rupay
            | Self::Uzcard
            | Self::Humo
            | Self::Dankort
            | Self::Carnet
            | Self::Bankcard => Some(3),
        }
    }

    /// Says whether numbers of this brand come with so many digits. Any length of a card is right for
    /// [`Brand::Unknown`].
    #[must_use]
    pub fn has_length(self, digits: usize) -> bool {
        if self == Self::Unknown {
            return (crate::MIN_LENGTH..=crate::MAX_LENGTH).contains(&digits);
        }
        RANGES.iter().any(|range| range.brand == self && range.has_length(digits))
    }
}

impl Range {
    fn holds(&self, ascii_digits: &[u8]) -> bool {
        let Some(prefix) = ascii_digits.get(..usize::from(self.width)) else { return false };
        let prefix = prefix.iter().fold(0_u32, |prefix, byte| {
            prefix.wrapping_mul(10).wrapping_add(u32::from(byte.wrapping_sub(b'0')))
        });
        (self.low..=self.high).contains(&prefix) && self.has_length(ascii_digits.len())
    }

    fn has_length(&self, digits: usize) -> bool {
        self.lengths.iter().any(|length| usize::from(*length) == digits)
    }
}

impl FromStr for Brand {
    type Err = BrandError;

    fn from_str(text: &str) -> Result<Self, BrandError> {
        Self::ALL.into_iter().find(|brand| brand.as_str() == text).ok_or(BrandError)
    }
}

impl Display for Brand {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Serialize for Brand {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Brand {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::{Brand, plausible};

    #[test]
    fn a_right_prefix_with_a_wrong_length_is_unknown() {
        assert_eq!(Brand::of(b"41111111111111111"), Brand::Unknown);
        assert_eq!(Brand::of(b"3782822463100050"), Brand::Unknown);
        assert_eq!(Brand::of(b""), Brand::Unknown);
    }

    #[test]
    fn what_is_no_number_is_not_plausible() {
        assert_eq!(plausible(b""), None);
        assert_eq!(plausible(b"4111x11111111111"), None);
        assert_eq!(plausible(b"4242424242424241"), None);
        assert_eq!(plausible(b"0000000000000000"), None);
    }

    #[test]
    fn the_longest_prefix_wins() {
        assert_eq!(Brand::of(b"4011780000000000"), Brand::Elo);
        assert_eq!(Brand::of(b"6375990000000000"), Brand::Hiper);
        assert_eq!(Brand::of(b"5060990000000000"), Brand::Verve);
        assert_eq!(Brand::of(b"9792000000000000"), Brand::Troy);
        assert_eq!(Brand::of(b"6011000000000000"), Brand::Discover);
    }

    #[test]
    fn clocks_and_account_ids_are_not_plausible_by_prefix() {
        // A seconds, milliseconds, microseconds and nanoseconds clock of 2001 to 2033, and a 15-digit id.
        for lead in [&b"1700000000"[..], b"1700000000000", b"1700000000000000", b"1700000000000000000"] {
            for check in b'0'..=b'9' {
                let mut digits = lead.to_vec();
                *digits.last_mut().unwrap() = check;
                assert_eq!(plausible(&digits), None);
            }
        }
        assert_eq!(plausible(b"100000000000009"), None);
    }

    #[test]
    fn maestro_counts_as_plausible_by_known_ranges_only() {
        assert_eq!(Brand::of(b"6900000000000000"), Brand::Maestro);
        assert_eq!(plausible(b"6900000000000000"), None);
        assert_eq!(plausible(b"6304000000000000"), Some(Brand::Maestro));
    }

    #[test]
    fn names_survive_a_round_trip() {
        for brand in Brand::ALL {
            let json = serde_json::to_string(&brand).unwrap();
            assert_eq!(serde_json::from_str::<Brand>(&json).unwrap(), brand);
            assert_eq!(brand.to_string().parse::<Brand>().unwrap(), brand);
        }
        assert!("Visa".parse::<Brand>().is_err());
    }

    #[test]
    fn lengths_and_verification_values_follow_the_brand() {
        assert!(Brand::Visa.has_length(13) && !Brand::Visa.has_length(14));
        assert!(Brand::Unknown.has_length(12) && !Brand::Unknown.has_length(20));
        assert_eq!(Brand::Amex.cvv_len(), Some(4));
        assert_eq!(Brand::Visa.cvv_len(), Some(3));
        assert_eq!(Brand::Uatp.cvv_len(), None);
    }
}
