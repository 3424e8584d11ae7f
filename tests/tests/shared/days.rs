//! Days as a bundle writes them.

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};

/// So many days from now.
pub(crate) fn in_days(days: i64) -> String {
    Timestamp::now().to_zoned(TimeZone::UTC).date().saturating_add(days.days()).to_string()
}
