//! Reads what a route does with card numbers where none may be, and where something that looks like one may stand.
//!
//! Must never read an exception without its reason and its last day, one that a declared field could share a place with,
//! or an action from whose outcome a client could tell whether a card is known.
//! Tests: `crates/policy/tests/bundle/faults.rs`.

use std::collections::BTreeSet;

use super::fields::{Plane, check_places, read_places};
use super::{Exception, LeakCheck, OnLeak, Side};
use crate::day::{self, Day};
use crate::place::{HeadPlace, Places};
use crate::rows::{Mistake, Row};

/// `on_leak`, with what `report` needs beside it.
pub(super) fn on_leak(row: &mut Row<'_, '_, '_>) -> Option<OnLeak> {
    let word = row.word_or("on_leak", &WORDS, Word::Deny);
    if word == Some(Word::Report) {
        let reason = row.text("on_leak_reason");
        let until = row.parsed("on_leak_until", day::until);
        return reason.and(until).map(|until| OnLeak::Report(until.into_inner()));
    }
    let reason = row.optional("on_leak_reason").map(|text| ("on_leak_reason", text.span()));
    let until = row.optional("on_leak_until").map(|text| ("on_leak_until", text.span()));
    for (key, span) in reason.into_iter().chain(until) {
        let help = "write on_leak = \"report\", or leave it out";
        row.fault(&span, format!("`{key}` belongs to `on_leak = \"report\"`"), Some(help.to_owned()));
    }
    Some(match word? {
        Word::Deny | Word::Report => OnLeak::Deny,
        Word::Mask => OnLeak::Mask,
        Word::Tokenize => OnLeak::Tokenize,
    })
}

/// `leak_check`. Asking the vault must not become a way to ask it for others.
pub(super) fn leak_check(row: &mut Row<'_, '_, '_>, on_leak: Option<OnLeak>) -> Option<LeakCheck> {
    let wrong = match on_leak {
        Some(OnLeak::Deny) => "refusing known cards only tells every client which cards are known",
        Some(OnLeak::Tokenize) => {
            "a token that comes back in an answer tells its client that the card is known"
        }
        Some(OnLeak::Mask | OnLeak::Report(_)) | None => "",
    };
    let read = |text: &str| match crate::rows::choose("leak_check", text, &CHECKS)? {
        LeakCheck::Exact if !wrong.is_empty() => {
            Err(Mistake::new(wrong, "write on_leak = \"mask\" or \"report\" beside leak_check = \"exact\""))
        }
        check => Ok(check),
    };
    let found = row.parsed_or_absent("leak_check", read)?;
    Some(found.map_or(LeakCheck::Plausible, toml::Spanned::into_inner))
}

/// `timings`. Many of them would tell which questions the vault took longer over.
pub(super) fn timings(row: &mut Row<'_, '_, '_>, check: Option<LeakCheck>) -> bool {
    let timings = row.flag("timings");
    if timings && check == Some(LeakCheck::Exact) {
        let span = row.span();
        let help = "leave `timings` out: the vault's time is no client's business here";
        row.fault(
            &span,
            "`timings` beside `leak_check = \"exact\"` would show the vault's work",
            Some(help.to_owned()),
        );
    }
    timings
}

/// Places of one side's declared fields.
pub(super) type Taken<'f> = Vec<&'f Places>;

/// `[[ingress.exception]]` and `[[egress.exception]]`. `request` is what a request's places are read for.
pub(super) fn exceptions(
    row: &mut Row<'_, '_, '_>,
    request: Plane<'_>,
    (fields, answer): (&Taken<'_>, &Taken<'_>),
) -> Vec<Exception> {
    let mut seen = [BTreeSet::new(), BTreeSet::new()];
    let mut exceptions = Vec::new();
    for (span, table) in row.tables("exception") {
        let mut row = row.inner("exception", span, table);
        let side = row.word("in", &SIDES).map(toml::Spanned::into_inner);
        let [of_requests, of_answers] = &mut seen;
        let (plane, taken, seen) = match side {
            Some(Side::Answer) => (Plane::Answer, answer, of_answers),
            Some(Side::Request) | None => (request, fields, of_requests),
        };
        let read = read_places(&mut row, plane);
        let reason = row.text("reason");
        let approved_by = row.text("approved_by");
        let until = row.parsed("until", day::until);
        if let Some(read) = &read {
            check_places(&mut row, read, false, plane, seen);
            check_apart(&mut row, &read.value, taken);
        }
        row.finish();
        let read = read.zip(side).zip(reason).zip(approved_by).zip(until);
        exceptions.extend(read.map(|((((read, side), reason), approved_by), until)| Exception {
            places: read.value,
            side,
            reason: reason.into_inner(),
            approved_by: approved_by.into_inner(),
            until: until.into_inner(),
        }));
    }
    exceptions
}

/// An exception is for what looks like a card number: where a card is declared, there is one.
fn check_apart(row: &mut Row<'_, '_, '_>, places: &Places, taken: &Taken<'_>) {
    let span = row.span();
    if let Some(field) = taken.iter().find(|field| field.overlap(places)) {
        let message = format!("this exception can stand where the field at \"{}\" does", field.label());
        let help = "name the place of the number that is no card, and no other";
        row.fault(&span, message, Some(help.to_owned()));
    }
    if matches!(&places.head, Some(HeadPlace::Basic(_))) || is_authorization(places) {
        row.fault(
            &span,
            "credentials are no place for an exception",
            Some("use other credentials".to_owned()),
        );
    }
}

fn is_authorization(places: &Places) -> bool {
    matches!(&places.head, Some(HeadPlace::Header(name)) if name == "authorization")
}

/// Everything of a bundle that is allowed for a time only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passing {
    /// The route.
    pub route: String,
    /// What is allowed: a place, or the route's `on_leak`.
    pub what: String,
    /// Its last day.
    pub until: Day,
}

/// What of a route is allowed for a time only.
pub(crate) fn passing(name: &str, on_leak: OnLeak, exceptions: &[Exception]) -> Vec<Passing> {
    let of = |what: String, until| Passing { route: name.to_owned(), what, until };
    let report = match on_leak {
        OnLeak::Report(until) => Some(of("on_leak = \"report\"".to_owned(), until)),
        OnLeak::Deny | OnLeak::Mask | OnLeak::Tokenize => None,
    };
    let excepted = exceptions.iter().map(|exception| {
        let place = exception.places.label();
        let what = format!("exception at {place}, approved by {}", exception.approved_by);
        of(what, exception.until)
    });
    report.into_iter().chain(excepted).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Deny,
    Mask,
    Tokenize,
    Report,
}

const WORDS: [(&str, Word); 4] =
    [("deny", Word::Deny), ("mask", Word::Mask), ("tokenize", Word::Tokenize), ("report", Word::Report)];

const CHECKS: [(&str, LeakCheck); 2] = [("plausible", LeakCheck::Plausible), ("exact", LeakCheck::Exact)];

const SIDES: [(&str, Side); 2] = [("request", Side::Request), ("answer", Side::Answer)];
