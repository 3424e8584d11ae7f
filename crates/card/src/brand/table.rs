//! The prefix table as data: which prefixes, with which lengths, belong to which brand.
//!
//! Longest prefix first; within one width the order does not matter, as ranges of one width do not overlap.
//! Sources: the open-source card type list of Braintree, CyberSource's card type page, and public articles on
//! issuer numbers. All brands of the table use the Luhn digit.
//! Must never hold a rule: rules are in `brand.rs`. Tests: at the end of this file.

use super::Brand;

/// One range of prefixes.
pub(super) struct Range {
    /// First prefix of the range, as a number of `width` digits.
    pub(super) low: u32,
    /// Last prefix of the range.
    pub(super) high: u32,
    /// Digits of the prefix.
    pub(super) width: u8,
    /// The brand.
    pub(super) brand: Brand,
    /// Digits of a whole number.
    pub(super) lengths: &'static [u8],
    /// Who may use the range.
    pub(super) reach: Reach,
}

/// Where a range counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Everywhere, the scanner included.
    Anywhere,
    /// For a number in a declared field only: too wide to look for in free text.
    Declared,
}

/// Published test numbers without a brand, which a scanner must find all the same. An exact match, because their
/// prefix is also that of a microsecond clock.
pub(super) const EXACT: [&[u8]; 1] = [b"1000000000000008"];

const SIXTEEN: &[u8] = &[16];
const SIXTEEN_TO_NINETEEN: &[u8] = &[16, 17, 18, 19];
const TWELVE_TO_NINETEEN: &[u8] = &[12, 13, 14, 15, 16, 17, 18, 19];

const fn range(width: u8, low: u32, high: u32, brand: Brand, lengths: &'static [u8]) -> Range {
    Range { low, high, width, brand, lengths, reach: Reach::Anywhere }
}

const fn declared(width: u8, low: u32, high: u32, brand: Brand, lengths: &'static [u8]) -> Range {
    Range { low, high, width, brand, lengths, reach: Reach::Declared }
}

/// The table.
pub(super) const RANGES: &[Range] = &[
    // Eight digits.
    range(8, 63_737_423, 63_737_423, Brand::Hiper, SIXTEEN),
    range(8, 63_743_358, 63_743_358, Brand::Hiper, SIXTEEN),
    // Six digits.
    range(6, 401_178, 401_179, Brand::Elo, SIXTEEN),
    range(6, 402_918, 402_918, Brand::Naranja, SIXTEEN),
    range(6, 431_274, 431_274, Brand::Elo, SIXTEEN),
    range(6, 438_935, 438_935, Brand::Elo, SIXTEEN),
    range(6, 451_416, 451_416, Brand::Elo, SIXTEEN),
    range(6, 457_393, 457_393, Brand::Elo, SIXTEEN),
    range(6, 457_631, 457_632, Brand::Elo, SIXTEEN),
    range(6, 493_698, 493_698, Brand::Maestro, TWELVE_TO_NINETEEN),
    range(6, 504_175, 504_175, Brand::Elo, SIXTEEN),
    range(6, 506_099, 506_198, Brand::Verve, &[16, 18, 19]),
    range(6, 506_699, 506_778, Brand::Elo, SIXTEEN),
    range(6, 507_865, 507_941, Brand::Verve, &[16, 18, 19]),
    range(6, 509_000, 509_999, Brand::Elo, SIXTEEN),
    range(6, 527_572, 527_572, Brand::Naranja, SIXTEEN),
    range(6, 564_182, 564_182, Brand::Maestro, TWELVE_TO_NINETEEN),
    range(6, 589_562, 589_562, Brand::Naranja, SIXTEEN),
    range(6, 606_282, 606_282, Brand::Hipercard, SIXTEEN),
    range(6, 627_780, 627_780, Brand::Elo, SIXTEEN),
    range(6, 633_110, 633_110, Brand::Maestro, TWELVE_TO_NINETEEN),
    range(6, 636_297, 636_297, Brand::Elo, SIXTEEN),
    range(6, 636_368, 636_368, Brand::Elo, SIXTEEN),
    range(6, 637_095, 637_095, Brand::Hiper, SIXTEEN),
    range(6, 637_568, 637_568, Brand::Hiper, SIXTEEN),
    range(6, 637_599, 637_599, Brand::Hiper, SIXTEEN),
    range(6, 637_609, 637_609, Brand::Hiper, SIXTEEN),
    range(6, 637_612, 637_612, Brand::Hiper, SIXTEEN),
    range(6, 650_031, 650_033, Brand::Elo, SIXTEEN),
    range(6, 650_035, 650_051, Brand::Elo, SIXTEEN),
    range(6, 650_405, 650_439, Brand::Elo, SIXTEEN),
    range(6, 650_485, 650_538, Brand::Elo, SIXTEEN),
    range(6, 650_541, 650_598, Brand::Elo, SIXTEEN),
    range(6, 650_700, 650_718, Brand::Elo, SIXTEEN),
    range(6, 650_720, 650_727, Brand::Elo, SIXTEEN),
    range(6, 650_901, 650_978, Brand::Elo, SIXTEEN),
    range(6, 651_652, 651_679, Brand::Elo, SIXTEEN),
    range(6, 655_000, 655_019, Brand::Elo, SIXTEEN),
    range(6, 655_021, 655_058, Brand::Elo, SIXTEEN),
    range(6, 676_770, 676_770, Brand::Maestro, TWELVE_TO_NINETEEN),
    range(6, 676_774, 676_774, Brand::Maestro, TWELVE_TO_NINETEEN),
    // Four digits.
    range(4, 1800, 1800, Brand::Jcb, &[15]),
    // An airline's accounting code follows the 1; no airline has 000, and 15-digit account ids often start 1000.
    range(4, 1001, 1799, Brand::Uatp, &[15]),
    range(4, 1801, 1999, Brand::Uatp, &[15]),
    range(4, 2131, 2131, Brand::Jcb, &[15]),
    range(4, 2200, 2204, Brand::Mir, SIXTEEN_TO_NINETEEN),
    range(4, 2221, 2720, Brand::Mastercard, SIXTEEN),
    // JCB before it settled on 3528 to 3589; a published test number still has it.
    range(4, 3088, 3094, Brand::Jcb, SIXTEEN),
    range(4, 3095, 3095, Brand::Diners, &[14, 16, 19]),
    range(4, 3528, 3589, Brand::Jcb, SIXTEEN_TO_NINETEEN),
    range(4, 4571, 4571, Brand::Dankort, SIXTEEN),
    range(4, 5018, 5018, Brand::Maestro, TWELVE_TO_NINETEEN),
    range(4, 5019, 5019, Brand::Dankort, SIXTEEN),
    range(4, 5020, 5020, Brand::Maestro, TWELVE_TO_NINETEEN),
    range(4, 5033, 5033, Brand::Maestro, TWELVE_TO_NINETEEN),
    range(4, 5038, 5038, Brand::Maestro, TWELVE_TO_NINETEEN),
    range(4, 5062, 5062, Brand::Carnet, SIXTEEN),
    range(4, 5610, 5610, Brand::Bankcard, SIXTEEN),
    range(4, 5614, 5614, Brand::Uzcard, SIXTEEN),
    range(4, 5868, 5868, Brand::Maestro, TWELVE_TO_NINETEEN),
    range(4, 5893, 5893, Brand::Maestro, TWELVE_TO_NINETEEN),
    range(4, 6011, 6011, Brand::Discover, SIXTEEN_TO_NINETEEN),
    range(4, 6304, 6304, Brand::Maestro, TWELVE_TO_NINETEEN),
    range(4, 6333, 6333, Brand::Maestro, TWELVE_TO_NINETEEN),
    range(4, 6759, 6759, Brand::Maestro, TWELVE_TO_NINETEEN),
    range(4, 6761, 6763, Brand::Maestro, TWELVE_TO_NINETEEN),
    range(4, 8100, 8171, Brand::Unionpay, SIXTEEN_TO_NINETEEN),
    range(4, 8600, 8600, Brand::Uzcard, SIXTEEN),
    range(4, 9792, 9792, Brand::Troy, SIXTEEN),
    range(4, 9860, 9860, Brand::Humo, SIXTEEN),
    // Three digits.
    range(3, 300, 305, Brand::Diners, &[14, 16, 19]),
    range(3, 353, 353, Brand::Rupay, SIXTEEN),
    range(3, 356, 356, Brand::Rupay, SIXTEEN),
    range(3, 508, 508, Brand::Rupay, SIXTEEN),
    range(3, 644, 649, Brand::Discover, SIXTEEN_TO_NINETEEN),
    // Two digits.
    range(2, 34, 34, Brand::Amex, &[15]),
    range(2, 36, 36, Brand::Diners, &[14, 16, 19]),
    range(2, 37, 37, Brand::Amex, &[15]),
    range(2, 38, 39, Brand::Diners, &[14, 16, 19]),
    declared(2, 50, 50, Brand::Maestro, TWELVE_TO_NINETEEN),
    range(2, 51, 55, Brand::Mastercard, SIXTEEN),
    declared(2, 56, 59, Brand::Maestro, TWELVE_TO_NINETEEN),
    range(2, 60, 60, Brand::Rupay, SIXTEEN),
    range(2, 62, 62, Brand::Unionpay, SIXTEEN_TO_NINETEEN),
    range(2, 65, 65, Brand::Discover, SIXTEEN_TO_NINETEEN),
    range(2, 81, 82, Brand::Rupay, SIXTEEN),
    // One digit.
    declared(1, 1, 1, Brand::Uatp, &[15]),
    range(1, 4, 4, Brand::Visa, &[13, 16, 18, 19]),
    declared(1, 6, 6, Brand::Maestro, TWELVE_TO_NINETEEN),
];

#[cfg(test)]
mod tests {
    use super::RANGES;

    #[test]
    fn longer_prefixes_come_first() {
        assert!(RANGES.windows(2).all(|pair| pair[0].width >= pair[1].width));
    }

    #[test]
    fn ranges_of_one_width_do_not_overlap() {
        for (place, range) in RANGES.iter().enumerate() {
            for other in RANGES.iter().skip(place + 1).filter(|other| other.width == range.width) {
                assert!(other.high < range.low || range.high < other.low, "{} {}", range.low, other.low);
            }
        }
    }

    #[test]
    fn each_range_is_well_formed() {
        for range in RANGES {
            let floor = 10_u32.pow(u32::from(range.width) - 1);
            assert!(range.low >= floor && range.low <= range.high && range.high < floor * 10);
            assert!(range.lengths.iter().all(|length| (12..=19).contains(length)));
        }
    }
}
