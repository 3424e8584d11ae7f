//! The outcome of a request: where an answer says what became of it, and which values mean approved or declined.
//!
//! Must never take one value for both, nor a place that no answer could have. Tests: here, and
//! `crates/policy/tests/bundle/faults.rs`.

use toml::Spanned;

use super::fields::{Plane, read_places};
use crate::place::Places;
use crate::rows::{Mistake, Row};

/// Where an answer says what became of the request, and how to understand it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Where the value stands.
    pub at: OutcomePlace,
    /// Values that mean approved.
    pub approved: Vec<String>,
    /// Values that mean declined.
    pub declined: Vec<String>,
}

/// Where the value stands that decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutcomePlace {
    /// The answer's status; values are codes like `402`, or classes like `2xx`.
    Status,
    /// A field of the answer, by its places.
    Field(Box<Places>),
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// It was granted.
    Approved,
    /// It was not.
    Declined,
}

impl Decision {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Declined => "declined",
        }
    }
}

impl Outcome {
    /// What the value means, if it is one of those declared. A code counts before its class.
    #[must_use]
    pub fn decide(&self, value: &str) -> Option<Decision> {
        self.of(value).or_else(|| match self.at {
            OutcomePlace::Status => self.of(&format!("{}xx", value.get(..1)?)),
            OutcomePlace::Field(_) => None,
        })
    }

    fn of(&self, value: &str) -> Option<Decision> {
        let among = |values: &[String]| values.iter().any(|known| known == value);
        if among(&self.approved) {
            Some(Decision::Approved)
        } else {
            among(&self.declined).then_some(Decision::Declined)
        }
    }
}

/// The `outcome` table of a route, if it has one.
pub(super) fn read(route: &mut Row<'_, '_, '_>) -> Option<Outcome> {
    let (span, table) = route.table("outcome")?;
    let mut row = route.inner("outcome", span, table);
    let by_status = row.flag("status");
    let places = read_places(&mut row, Plane::Answer);
    let value = if by_status { status } else { word };
    let approved = row.list_of_some("approved", value);
    let declined = row.list_of_some("declined", value);
    for twice in
        declined.iter().filter(|value| approved.iter().any(|other| other.get_ref() == value.get_ref()))
    {
        let message = format!("\"{}\" stands for approved and for declined", twice.get_ref());
        row.fault(&twice.span(), message, Some("take it out of one of the two".to_owned()));
    }
    let at = places.and_then(|places| {
        let span = row.span();
        match (by_status, places.keys.is_empty()) {
            (true, true) => Some(OutcomePlace::Status),
            (false, false) => Some(OutcomePlace::Field(Box::new(places.value))),
            (true, false) => {
                let help = "take `status = true` out, or the place of the field";
                row.fault(&span, "this outcome is told by the status and by a field", Some(help.to_owned()));
                None
            }
            (false, true) => {
                let help = "say where it stands: json = \"$.status\", form = \"result\", header = \"x-result\", \
                            or status = true";
                row.fault(&span, "this outcome stands nowhere", Some(help.to_owned()));
                None
            }
        }
    });
    row.finish();
    let plain = |values: Vec<Spanned<String>>| values.into_iter().map(Spanned::into_inner).collect();
    Some(Outcome { at: at?, approved: plain(approved), declined: plain(declined) })
}

/// A value of a field, as it reads when decoded.
fn word(text: &str) -> Result<String, Mistake> {
    if !text.is_empty() && text.len() <= LONGEST_VALUE && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(Mistake::new(
        "the value is empty, too long or has control characters",
        format!("write it decoded, at most {LONGEST_VALUE} bytes, like \"succeeded\""),
    ))
}

/// A status code, or a class of them.
fn status(text: &str) -> Result<String, Mistake> {
    if let [b'2'..=b'5', b'x', b'x'] | [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9'] = text.as_bytes() {
        return Ok(text.to_owned());
    }
    Err(Mistake::new(
        format!("\"{text}\" is no status of an answer"),
        "write a code like 402, or a class like 2xx",
    ))
}

/// Longest value, in bytes.
const LONGEST_VALUE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(at: OutcomePlace, approved: &[&str], declined: &[&str]) -> Outcome {
        let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        Outcome { at, approved: owned(approved), declined: owned(declined) }
    }

    #[test]
    fn a_value_means_what_is_declared_and_nothing_else() {
        let field = OutcomePlace::Field(Box::default());
        let by_field = outcome(field, &["succeeded", "2xx"], &["failed"]);
        assert_eq!(by_field.decide("succeeded"), Some(Decision::Approved));
        assert_eq!(by_field.decide("failed"), Some(Decision::Declined));
        for value in ["", "Succeeded", "succeeded ", "200", "pending"] {
            assert_eq!(by_field.decide(value), None, "{value:?}");
        }
    }

    #[test]
    fn a_status_counts_before_its_class() {
        let by_status = outcome(OutcomePlace::Status, &["2xx"], &["202", "402"]);
        assert_eq!(by_status.decide("200"), Some(Decision::Approved));
        assert_eq!(by_status.decide("202"), Some(Decision::Declined));
        assert_eq!(by_status.decide("402"), Some(Decision::Declined));
        assert_eq!((by_status.decide("500"), by_status.decide("")), (None, None));
    }

    #[test]
    fn values_are_statuses_or_bounded_words() {
        for text in ["", "2", "20", "2000", "2Xx", "x00", "1xx", "600", "20x", "2x0"] {
            assert!(status(text).is_err(), "{text:?}");
        }
        assert!(["200", "402", "2xx", "5xx"].iter().all(|text| status(text).is_ok()));
        assert!(word("").is_err() && word("a\nb").is_err() && word(&"a".repeat(257)).is_err());
        assert_eq!(word("AUTHORISED 00").unwrap(), "AUTHORISED 00");
    }
}
