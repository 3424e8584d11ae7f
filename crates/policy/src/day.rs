//! The last day of something that is allowed for a time only.
//!
//! Must never let such a thing outlast its day, nor take a day beyond a year: whoever wants it longer looks at it again.
//! Tests: here.

use std::fmt;

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};

use crate::rows::Mistake;

/// A day, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

impl Day {
    /// Reads `2027-03-31`; `None` for anything else.
    ///
    /// ```
    /// # use cordon_policy::Day;
    /// assert_eq!(Day::parse("2027-03-31").unwrap().to_string(), "2027-03-31");
    /// assert_eq!(Day::parse("2027-02-30"), None);
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        text.parse().ok().filter(|_| plain).map(Self)
    }

    /// The day it is now.
    #[must_use]
    pub fn today() -> Self {
        Self::of(Timestamp::now())
    }

    /// The day of a moment, in seconds since 1970.
    #[must_use]
    pub fn at(second: i64) -> Self {
        Self::of(Timestamp::from_second(second).unwrap_or(Timestamp::MAX))
    }

    fn of(moment: Timestamp) -> Self {
        Self(moment.to_zoned(TimeZone::UTC).date())
    }

    /// Whether it has passed: the day itself still counts.
    #[must_use]
    pub fn is_over(self, today: Self) -> bool {
        today > self
    }

    /// Days from another day to this one; negative when it has passed.
    #[must_use]
    pub fn days_from(self, today: Self) -> i32 {
        self.0.since(today.0).map_or(i32::MAX, |span| span.get_days())
    }

    fn in_a_year(self) -> Self {
        self.0.checked_add(1.year()).map_or(self, Self)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A last day as a bundle writes it. One that has passed is read: what it allows is then refused, and nothing else.
pub(crate) fn until(text: &str) -> Result<Day, Mistake> {
    until_from(text, Day::today())
}

fn until_from(text: &str, today: Day) -> Result<Day, Mistake> {
    let last = today.in_a_year();
    let wrong = |what: &str| {
        Mistake::new(
            format!("the day \"{text}\" {what}"),
            format!("write the last day it is needed, like {last}, at most a year ahead"),
        )
    };
    let day = Day::parse(text).ok_or_else(|| wrong("cannot be read"))?;
    if day > last { Err(wrong("is more than a year ahead")) } else { Ok(day) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        Day::parse(text).unwrap()
    }

    #[test]
    fn a_day_lasts_until_midnight_and_not_longer() {
        let last = day("2027-03-31");
        // 2027-03-31T23:59:59Z and the second after.
        assert!(!last.is_over(Day::at(1_806_537_599)));
        assert!(last.is_over(Day::at(1_806_537_600)));
        assert_eq!(Day::at(1_806_537_600), day("2027-04-01"));
        assert_eq!((last.days_from(day("2027-03-01")), last.days_from(day("2027-04-02"))), (30, -2));
    }

    #[test]
    fn a_year_ahead_is_the_most() {
        let today = day("2026-11-26");
        assert_eq!(until_from("2027-11-26", today).unwrap(), day("2027-11-26"));
        assert_eq!(until_from("2020-01-01", today).unwrap(), day("2020-01-01"), "passed, and read");
        let refused = until_from("2027-11-27", today).unwrap_err();
        assert!(refused.message.contains("more than a year ahead"), "{refused:?}");
        assert_eq!(until_from("2029-02-28", day("2028-02-29")).unwrap(), day("2029-02-28"));
    }

    #[test]
    fn only_one_way_to_write_a_day_is_read() {
        for text in
            ["", "2027-3-31", "31.03.2027", "2027-03-32", "20270331", "2027-03-31T00:00:00Z", "+027-03-31"]
        {
            assert_eq!(Day::parse(text), None, "{text}");
        }
    }
}
