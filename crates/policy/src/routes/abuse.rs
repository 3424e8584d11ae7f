//! How often who may try on a way in: counts over a window of time, and what is done beyond them (`docs/abuse.md`).
//!
//! Must never take a rule that could not fire, that nobody could satisfy, or that counts what its route does not know.
//! Tests: `abuse/tests.rs`.

use std::collections::BTreeSet;
use std::time::Duration;

use toml::Spanned;

use super::values;
use crate::rows::{Mistake, Row, choose};
use crate::segments::name_text;

/// A rule of a route: an attempt beyond its limit meets its action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbuseRule {
    /// Its name, unique in its route.
    pub name: String,
    /// Whose attempts are counted together.
    pub per: AbuseKey,
    /// What is counted, and how much of it is too much.
    pub limit: AbuseLimit,
    /// For how long an attempt counts.
    pub within: Duration,
    /// What becomes of an attempt beyond the limit.
    pub action: AbuseAction,
}

/// Whose attempts are counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AbuseKey {
    /// One client address; of IPv6 the 64-bit network, which one host has to itself.
    Address,
    /// The neighbourhood of an address: 24 bits of IPv4, 48 of IPv6.
    Network,
    /// Cards that begin with the same so many digits.
    Iin(usize),
    /// One card.
    Card,
    /// Requests with the same value of a header, named in lower case.
    Header(String),
    /// Requests with the same value of a cookie.
    Cookie(String),
}

impl AbuseKey {
    /// As the bundle writes it.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Header(name) => format!("header:{name}"),
            Self::Cookie(name) => format!("cookie:{name}"),
            other => KEYS.iter().find(|(_, key)| key == other).map_or("", |(word, _)| word).to_owned(),
        }
    }
}

/// What is counted, and how much of it is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbuseLimit {
    /// More than so many different cards.
    Cards(usize),
    /// More than so many requests.
    Requests(usize),
    /// More than so many different cards that were declined.
    Declines(usize),
    /// More than a share of the latest different cards was declined.
    DeclineRatio {
        /// The share, in percent.
        percent: usize,
        /// How many cards it is a share of; with fewer it says nothing.
        of: usize,
    },
}

impl AbuseLimit {
    /// Whether it counts what became of attempts.
    #[must_use]
    pub const fn needs_outcome(self) -> bool {
        matches!(self, Self::Declines(_) | Self::DeclineRatio { .. })
    }
}

/// What becomes of an attempt beyond the limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AbuseAction {
    /// It passes and is recorded.
    Report,
    /// It passes after so long.
    Delay(Duration),
    /// It is refused until the client has shown that a person is there.
    Challenge {
        /// The key's name in `gateway.toml` that proofs are made with.
        key: String,
        /// The header a proof stands in, lower case.
        header: String,
        /// How many attempts a client passes with proofs in the rule's window.
        passes: usize,
    },
    /// It is refused.
    Deny,
}

/// Reads the rules of a route. `has_cards` and `has_outcome` say what its requests and answers tell.
pub(super) fn read(row: &mut Row<'_, '_, '_>, has_cards: bool, has_outcome: bool) -> Vec<AbuseRule> {
    let mut names = BTreeSet::new();
    let mut rules = Vec::new();
    for (span, table) in row.tables("abuse") {
        let mut row = row.inner("abuse rule", span, table);
        let name = row.parsed("name", name_text);
        if let Some(name) = &name
            && !names.insert(name.get_ref().clone())
        {
            let message = format!("another abuse rule of this route is called \"{}\"", name.get_ref());
            row.fault(&name.span(), message, None);
        }
        let per = row.parsed("per", key);
        let count = row.word("count", &COUNTS);
        let limit = count.as_ref().and_then(|count| limit(&mut row, *count.get_ref()));
        let within = row.parsed("within", values::window);
        let action = action(&mut row);
        if let (Some(per), Some(count)) = (&per, &count) {
            check(&mut row, per, count, has_cards, has_outcome);
        }
        row.finish();
        let (Some(name), Some(per), Some(limit), Some(within), Some(action)) =
            (name, per, limit, within, action)
        else {
            continue;
        };
        let (name, per, within) = (name.into_inner(), per.into_inner(), within.into_inner());
        rules.push(AbuseRule { name, per, limit, within, action });
    }
    rules
}

/// A rule that counts what it never sees would look like protection.
fn check(
    row: &mut Row<'_, '_, '_>,
    per: &Spanned<AbuseKey>,
    count: &Spanned<Count>,
    has_cards: bool,
    has_outcome: bool,
) {
    let by_card = matches!(per.get_ref(), AbuseKey::Iin(_) | AbuseKey::Card);
    if !has_cards && (by_card || !matches!(count.get_ref(), Count::Requests)) {
        let help =
            "add a field with op = \"tokenize\", or count \"requests\" per address, network or session";
        row.fault(&count.span(), "this rule counts cards, and the route takes none", Some(help.to_owned()));
    }
    if matches!(
        (per.get_ref(), count.get_ref()),
        (AbuseKey::Card, Count::Cards | Count::Declines | Count::Ratio)
    ) {
        let help = "count \"requests\" per card, or cards per something else";
        row.fault(&count.span(), "of one card there is never more than one", Some(help.to_owned()));
    }
    if !has_outcome && matches!(count.get_ref(), Count::Declines | Count::Ratio) {
        let help = "say in [ingress.outcome] how an answer tells approved from declined";
        row.fault(
            &count.span(),
            "this rule counts declines, and the route has no outcome",
            Some(help.to_owned()),
        );
    }
}

fn limit(row: &mut Row<'_, '_, '_>, count: Count) -> Option<AbuseLimit> {
    match count {
        Count::Cards => row.whole("over", 1, MOST).map(AbuseLimit::Cards),
        Count::Requests => row.whole("over", 1, MOST).map(AbuseLimit::Requests),
        Count::Declines => row.whole("over", 1, MOST).map(AbuseLimit::Declines),
        Count::Ratio => {
            let (percent, of) = (row.whole("over", 1, 99), row.whole("of", FEWEST_OF, MOST));
            Some(AbuseLimit::DeclineRatio { percent: percent?, of: of? })
        }
    }
}

fn action(row: &mut Row<'_, '_, '_>) -> Option<AbuseAction> {
    match row.word("action", &ACTIONS)?.into_inner() {
        Word::Report => Some(AbuseAction::Report),
        Word::Deny => Some(AbuseAction::Deny),
        Word::Delay => row.parsed("delay", values::delay).map(|time| AbuseAction::Delay(time.into_inner())),
        Word::Challenge => {
            let key = row.parsed("key", name_text);
            let header = row.parsed("header", values::header);
            let passes = row.whole("passes", 1, MOST);
            Some(AbuseAction::Challenge {
                key: key?.into_inner(),
                header: header?.into_inner(),
                passes: passes?,
            })
        }
    }
}

fn key(text: &str) -> Result<AbuseKey, Mistake> {
    if let Some(name) = text.strip_prefix("header:") {
        return values::header(name).map(AbuseKey::Header);
    }
    if let Some(name) = text.strip_prefix("cookie:") {
        return values::cookie(name).map(AbuseKey::Cookie);
    }
    let words: Vec<(&str, usize)> = KEYS.iter().enumerate().map(|(at, (word, _))| (*word, at)).collect();
    match choose("per", text, &words) {
        Ok(at) => Ok(KEYS.get(at).map_or(AbuseKey::Address, |(_, key)| key.clone())),
        Err(mistake) => {
            let help = mistake.help.unwrap_or_default();
            let help =
                if help.starts_with("write") { format!("{help}, header:NAME, cookie:NAME") } else { help };
            Err(Mistake::new(mistake.message, help))
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Count {
    Cards,
    Requests,
    Declines,
    Ratio,
}

#[derive(Debug, Clone, Copy)]
enum Word {
    Report,
    Delay,
    Challenge,
    Deny,
}

const KEYS: [(&str, AbuseKey); 5] = [
    ("address", AbuseKey::Address),
    ("network", AbuseKey::Network),
    ("iin", AbuseKey::Iin(8)),
    ("iin6", AbuseKey::Iin(6)),
    ("card", AbuseKey::Card),
];

const COUNTS: [(&str, Count); 4] = [
    ("cards", Count::Cards),
    ("requests", Count::Requests),
    ("declines", Count::Declines),
    ("decline-ratio", Count::Ratio),
];

const ACTIONS: [(&str, Word); 4] =
    [("report", Word::Report), ("delay", Word::Delay), ("challenge", Word::Challenge), ("deny", Word::Deny)];

/// The largest limit: what is counted is kept one by one, so that the count is exact.
const MOST: usize = 1_000;
/// Of fewer cards a share is chance.
const FEWEST_OF: usize = 10;

#[cfg(test)]
mod tests;
