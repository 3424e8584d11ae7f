//! The expiry date of a card: a month and a year.
//!
//! Cardholder data when kept with a PAN, so `Debug` prints the type name only. Must never guess: a text of an
//! unlisted form is refused. Tests: at the end of this file.

use std::fmt::{self, Debug, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::text_form::from_text;

/// Month and year after which a card is no longer good. Years 2000 to 2099; written `YYYY-MM` by serde.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expiry {
    year: u16,
    month: u8,
}

/// How an expiry is written for somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExpiryStyle {
    /// `MM/YY`, as on the card.
    MonthYear,
    /// `MM/YYYY`.
    MonthFullYear,
    /// `YYYY-MM` (ISO 8601).
    Iso,
    /// `MMYY`.
    Compact,
    /// `YYMM`, as on the magnetic stripe (ISO/IEC 7813).
    Stripe,
    /// `MM-YY`.
    MonthDashYear,
    /// `MMYYYY`.
    CompactFullYear,
    /// `YYYYMM`.
    CompactIso,
    /// `MM`: the month alone.
    Month,
    /// `M`: the month alone, without a leading zero.
    BareMonth,
    /// `YY`: the year alone, its last two digits.
    Year,
    /// `YYYY`: the year alone.
    FullYear,
}

/// Why a text is no expiry. Says nothing about the text. At fault: whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ExpiryError {
    /// None of the forms that are read.
    #[error("an expiry is written MM/YY, MM/YYYY, YYYY-MM or MMYY")]
    Form,
    /// The month is not 1 to 12.
    #[error("the expiry month is not 1 to 12")]
    Month,
    /// The year is not 2000 to 2099.
    #[error("the expiry year is not 2000 to 2099")]
    Year,
}

/// The text names no style. At fault: whoever wrote the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "an expiry format is one of MM/YY, MM/YYYY, YYYY-MM, MMYY, YYMM, MM-YY, MMYYYY, YYYYMM, MM, M, YY, YYYY"
)]
pub struct ExpiryStyleError;

impl Expiry {
    /// Makes an expiry from numbers.
    ///
    /// # Errors
    /// [`ExpiryError::Month`] or [`ExpiryError::Year`] when one is out of range.
    pub fn new(year: u16, month: u8) -> Result<Self, ExpiryError> {
        if !(1..=12).contains(&month) {
            return Err(ExpiryError::Month);
        }
        if !(2000..=2099).contains(&year) {
            return Err(ExpiryError::Year);
        }
        Ok(Self { year, month })
    }

    /// Reads `MM/YY`, `MM/YYYY`, `YYYY-MM` or `MMYY`; spaces around the parts are skipped, and `M/YY` is read too.
    ///
    /// # Errors
    /// [`ExpiryError`] for any other form or an impossible date.
    pub fn parse(text: &str) -> Result<Self, ExpiryError> {
        let text = text.trim();
        if let Some((month, year)) = text.split_once('/') {
            return Self::from_parts(month, year);
        }
        if let Some((year, month)) = text.split_once('-') {
            if year.trim_end().len() != 4 || month.trim_start().len() != 2 {
                return Err(ExpiryError::Form);
            }
            return Self::from_parts(month, year);
        }
        match text.split_at_checked(2) {
            Some((month, year)) if year.len() == 2 => Self::from_parts(month, year),
            _ => Err(ExpiryError::Form),
        }
    }

    /// Reads the two fields of a form: a month of one or two digits, a year of two or four.
    ///
    /// # Errors
    /// [`ExpiryError`] as for [`Expiry::parse`].
    pub fn from_parts(month: &str, year: &str) -> Result<Self, ExpiryError> {
        let (month, year) = (month.trim(), year.trim());
        if !matches!(month.len(), 1 | 2) || !matches!(year.len(), 2 | 4) {
            return Err(ExpiryError::Form);
        }
        let (month, given) = (number(month)?, number(year)?);
        let year = if year.len() == 2 { given + 2000 } else { given };
        Self::new(year, u8::try_from(month).unwrap_or_default())
    }

    /// The year, four digits.
    #[must_use]
    pub fn year(self) -> u16 {
        self.year
    }

    /// The month, 1 to 12.
    #[must_use]
    pub fn month(self) -> u8 {
        self.month
    }

    /// The year's last two digits, as text.
    #[must_use]
    pub fn two_digit_year(self) -> String {
        format!("{:02}", self.year % 100)
    }

    /// The month in two digits, as text.
    #[must_use]
    pub fn two_digit_month(self) -> String {
        format!("{:02}", self.month)
    }

    /// The expiry as text in a given style. Cardholder data: goes into a request, never into a log.
    #[must_use]
    pub fn text(self, style: ExpiryStyle) -> String {
        let (year, short, month) = (self.year, self.year % 100, self.month);
        match style {
            ExpiryStyle::MonthYear => format!("{month:02}/{short:02}"),
            ExpiryStyle::MonthFullYear => format!("{month:02}/{year:04}"),
            ExpiryStyle::Iso => format!("{year:04}-{month:02}"),
            ExpiryStyle::Compact => format!("{month:02}{short:02}"),
            ExpiryStyle::Stripe => format!("{short:02}{month:02}"),
            ExpiryStyle::MonthDashYear => format!("{month:02}-{short:02}"),
            ExpiryStyle::CompactFullYear => format!("{month:02}{year:04}"),
            ExpiryStyle::CompactIso => format!("{year:04}{month:02}"),
            ExpiryStyle::Month => format!("{month:02}"),
            ExpiryStyle::BareMonth => month.to_string(),
            ExpiryStyle::Year => format!("{short:02}"),
            ExpiryStyle::FullYear => format!("{year:04}"),
        }
    }
}

fn number(text: &str) -> Result<u16, ExpiryError> {
    // A sign would be read by the number parser.
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().or(Err(ExpiryError::Form))
    } else {
        Err(ExpiryError::Form)
    }
}

impl FromStr for Expiry {
    type Err = ExpiryError;

    fn from_str(text: &str) -> Result<Self, ExpiryError> {
        Self::parse(text)
    }
}

impl Debug for Expiry {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("Expiry")
    }
}

impl Serialize for Expiry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text(ExpiryStyle::Iso))
    }
}

impl<'de> Deserialize<'de> for Expiry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

impl ExpiryStyle {
    /// The name of the style, as configuration writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MonthYear => "MM/YY",
            Self::MonthFullYear => "MM/YYYY",
            Self::Iso => "YYYY-MM",
            Self::Compact => "MMYY",
            Self::Stripe => "YYMM",
            Self::MonthDashYear => "MM-YY",
            Self::CompactFullYear => "MMYYYY",
            Self::CompactIso => "YYYYMM",
            Self::Month => "MM",
            Self::BareMonth => "M",
            Self::Year => "YY",
            Self::FullYear => "YYYY",
        }
    }

    /// Every style.
    pub const ALL: [Self; 12] = [
        Self::MonthYear,
        Self::MonthFullYear,
        Self::Iso,
        Self::Compact,
        Self::Stripe,
        Self::MonthDashYear,
        Self::CompactFullYear,
        Self::CompactIso,
        Self::Month,
        Self::BareMonth,
        Self::Year,
        Self::FullYear,
    ];
}

impl FromStr for ExpiryStyle {
    type Err = ExpiryStyleError;

    fn from_str(text: &str) -> Result<Self, ExpiryStyleError> {
        Self::ALL.into_iter().find(|style| style.as_str() == text).ok_or(ExpiryStyleError)
    }
}

#[cfg(test)]
mod tests {
    use super::{Expiry, ExpiryError, ExpiryStyle};

    #[test]
    fn impossible_dates_are_refused() {
        assert_eq!(Expiry::parse("00/30"), Err(ExpiryError::Month));
        assert_eq!(Expiry::parse("13/30"), Err(ExpiryError::Month));
        assert_eq!(Expiry::parse("12/1999"), Err(ExpiryError::Year));
        assert_eq!(Expiry::parse("12/2100"), Err(ExpiryError::Year));
        assert_eq!(Expiry::new(2030, 0), Err(ExpiryError::Month));
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "", "1", "12", "123", "12/", "/30", "12/3", "12/030", "+1/30", "1230-", "12-30", "2030-1",
            "12/+9",
        ] {
            assert_eq!(Expiry::parse(text), Err(ExpiryError::Form), "{text}");
        }
        assert_eq!(Expiry::parse("\u{ff11}2/30"), Err(ExpiryError::Form));
        assert_eq!(Expiry::parse("12\u{660}"), Err(ExpiryError::Form));
    }

    #[test]
    fn the_listed_forms_are_read() {
        let wanted = Expiry::new(2031, 7);
        for text in ["07/31", "07/2031", "2031-07", "0731", " 07 / 31 ", "7/31"] {
            assert_eq!(Expiry::parse(text), wanted, "{text}");
        }
        assert_eq!(Expiry::from_parts("7", "31"), wanted);
        assert_eq!(Expiry::from_parts("07", "2031"), wanted);
    }

    #[test]
    fn each_style_is_written_and_named() {
        let expiry = Expiry::new(2031, 7).unwrap();
        for (name, wanted) in [
            ("MM/YY", "07/31"),
            ("MM/YYYY", "07/2031"),
            ("YYYY-MM", "2031-07"),
            ("MMYY", "0731"),
            ("YYMM", "3107"),
            ("MM-YY", "07-31"),
            ("MMYYYY", "072031"),
            ("YYYYMM", "203107"),
            ("MM", "07"),
            ("M", "7"),
            ("YY", "31"),
            ("YYYY", "2031"),
        ] {
            let style: ExpiryStyle = name.parse().unwrap();
            assert_eq!(expiry.text(style), wanted);
        }
        assert!("yy/mm".parse::<ExpiryStyle>().is_err());
        assert_eq!((expiry.two_digit_month().as_str(), expiry.two_digit_year().as_str()), ("07", "31"));
    }

    #[test]
    fn serde_uses_the_iso_form_and_debug_shows_nothing() {
        let expiry = Expiry::new(2031, 7).unwrap();
        assert_eq!(serde_json::to_string(&expiry).unwrap(), "\"2031-07\"");
        assert_eq!(serde_json::from_str::<Expiry>("\"2031-07\"").unwrap(), expiry);
        assert_eq!(format!("{expiry:?}"), "Expiry");
    }
}
