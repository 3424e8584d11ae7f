//! What was found in a message and did not stop it, as the audit log and the metrics name it.
//!
//! Must never hold anything of the message. Tests: `flow/tests.rs`, `answer/tests.rs`.

use super::Place;

/// A finding: one line in the audit log, one count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// Where: the metric's `place`.
    pub place: &'static str,
    /// What became of it: the metric's `outcome`.
    pub outcome: &'static str,
    /// Both, in the audit line.
    pub reason: &'static str,
}

const fn finding(place: &'static str, outcome: &'static str, reason: &'static str) -> Finding {
    Finding { place, outcome, reason }
}

impl Finding {
    /// Card numbers in a request's body were masked.
    pub const MASKED: Self = finding("body", "masked", "masked.body");
    /// They became tokens.
    pub const TOKENIZED: Self = finding("body", "tokenized", "tokenized.body");
    /// One inside an encoding was passed on.
    pub const INSIDE: Self = finding("inside", "reported", "reported.inside");
    /// Numbers that look like cards are none that the vault knows.
    pub const NOT_KNOWN: Self = finding("body", "not-known", "not-known.body");
    /// Card numbers in an answer were masked.
    pub const MASKED_ANSWER: Self = finding("answer", "masked", "masked.answer");
    /// There are none in the answer to a request whose own were compared with the vault's.
    pub const CLEAN_ANSWER: Self = finding("answer", "clean", "clean.answer");
    /// They became tokens.
    pub const TOKENIZED_ANSWER: Self = finding("answer", "tokenized", "tokenized.answer");
    /// They were passed on.
    pub const REPORTED_ANSWER: Self = finding("answer", "reported", "reported.answer");
    /// One inside an encoding was.
    pub const INSIDE_ANSWER: Self = finding("inside", "reported", "reported.answer");
    /// One stands in an answer where an exception lets it.
    pub const EXCEPTED_ANSWER: Self = finding("answer", "excepted", "excepted.answer");

    /// A card number in a request was passed on.
    #[must_use]
    pub const fn reported(place: Place) -> Self {
        let reason = match place {
            Place::Body => "reported.body",
            Place::Header => "reported.header",
            Place::Path => "reported.path",
            Place::Query => "reported.query",
            Place::Inside => "reported.inside",
        };
        finding(place.as_str(), "reported", reason)
    }

    /// One stands in a request where an exception lets it.
    #[must_use]
    pub const fn excepted(place: Place) -> Self {
        let reason = match place {
            Place::Body => "excepted.body",
            Place::Header => "excepted.header",
            Place::Path => "excepted.path",
            Place::Query => "excepted.query",
            Place::Inside => "excepted.inside",
        };
        finding(place.as_str(), "excepted", reason)
    }
}
