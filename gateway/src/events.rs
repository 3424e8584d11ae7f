//! Events for other systems (CloudEvents 1.0): what the audit log says about cards, refusals and payments, to files, standard
//! output and NATS JetStream.
//!
//! An event is made of a durable audit line and of nothing else, behind the requests: each line that has one is delivered at
//! least once, in order, also over a crash (`docs/events.md`). Must never hold a card number: no audit line does.
//! Tests: `events/tests.rs`, `tests/tests/events.rs`.

pub mod config;
pub mod nats;

use cordon_audit::{Action, Form, Line, Name, Outcome, Source, VerifierKey};
use cordon_card::{CollectionName, Iin, Token};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Cards became tokens.
    #[serde(rename = "cordon.card.tokenized")]
    Tokenized,
    /// Tokens became cards, on their way to a destination.
    #[serde(rename = "cordon.card.revealed")]
    Revealed,
    /// A request was refused; nothing of it was sent.
    #[serde(rename = "cordon.request.denied")]
    Denied,
    /// A request was sent, and its upstream did not do its part.
    #[serde(rename = "cordon.request.failed")]
    Failed,
    /// A card number was found where none is declared.
    #[serde(rename = "cordon.leak.found")]
    Leaked,
    /// An attempt was beyond the limit of an abuse rule.
    #[serde(rename = "cordon.abuse.detected")]
    Abused,
    /// An answer said what became of a payment.
    #[serde(rename = "cordon.payment.outcome")]
    Outcome,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Tokenized,
        Self::Revealed,
        Self::Denied,
        Self::Failed,
        Self::Leaked,
        Self::Abused,
        Self::Outcome,
    ];

    /// Its `type` attribute.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tokenized => "cordon.card.tokenized",
            Self::Revealed => "cordon.card.revealed",
            Self::Denied => "cordon.request.denied",
            Self::Failed => "cordon.request.failed",
            Self::Leaked => "cordon.leak.found",
            Self::Abused => "cordon.abuse.detected",
            Self::Outcome => "cordon.payment.outcome",
        }
    }

    /// The kind that a line is of. Lines about the process itself are of none, nor are requests that nothing of a card was
    /// done for.
    #[must_use]
    pub fn of(line: &Line) -> Option<Self> {
        match (line.what, line.outcome) {
            (Action::Abuse, _) => Some(Self::Abused),
            (Action::LeakFound, _) => Some(Self::Leaked),
            (Action::Outcome, Outcome::Allowed) => Some(Self::Outcome),
            (Action::Tokenize | Action::Forward | Action::Send | Action::Authenticate, Outcome::Denied) => {
                // A rule's own line says which rule, and that it was broken.
                Some(if line.reason.as_ref().is_some_and(is_abuse) { Self::Abused } else { Self::Denied })
            }
            (Action::Forward | Action::Send, Outcome::Failed) => Some(Self::Failed),
            (Action::Tokenize | Action::Forward, Outcome::Allowed) if !line.tokens.is_empty() => {
                Some(Self::Tokenized)
            }
            // A dry run and a repeated answer have a reason: nothing was revealed for them.
            (Action::Send, Outcome::Allowed) if !line.tokens.is_empty() && line.reason.is_none() => {
                Some(Self::Revealed)
            }
            _ => None,
        }
    }
}

fn is_abuse(reason: &Name) -> bool {
    matches!(reason.as_str(), "too-many-attempts" | "challenge-required")
}

/// An event, as it is written (CloudEvents 1.0, JSON format, structured mode). Source and id together are unique.
#[derive(Debug, Serialize)]
struct CloudEvent<'l> {
    specversion: &'static str,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'l Name>,
    time: Timestamp,
    datacontenttype: &'static str,
    data: Data<'l>,
}

/// What the line says about it.
#[derive(Debug, Serialize)]
struct Data<'l> {
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'l Name>,
    who: &'l Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'l Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'l Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<&'l Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<&'l Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    collection: Option<&'l CollectionName>,
    #[serde(skip_serializing_if = "<[Token]>::is_empty")]
    tokens: &'l [Token],
    #[serde(skip_serializing_if = "<[Iin]>::is_empty")]
    iins: &'l [Iin],
    #[serde(skip_serializing_if = "<[Name]>::is_empty")]
    by: &'l [Name],
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'l Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<bool>,
    /// How many refusals it stands for, and since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
}

/// What a reader of events needs of one to know whether it has it already, and where it belongs.
#[derive(Debug, Deserialize)]
pub struct Heading {
    /// Unique within its source.
    pub id: String,
    /// Gateway and log.
    pub source: String,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: Kind,
}

impl Heading {
    /// Reads it from an event.
    #[must_use]
    pub fn of(event: &[u8]) -> Option<Self> {
        serde_json::from_slice(event).ok()
    }
}

/// Lines of the gateway's log as events, of these kinds.
#[derive(Debug)]
pub struct Events {
    kinds: Vec<Kind>,
}

impl Events {
    /// Those of these kinds; of all, if there are none.
    #[must_use]
    pub fn of(kinds: &[Kind]) -> Self {
        Self { kinds: if kinds.is_empty() { Kind::ALL.to_vec() } else { kinds.to_vec() } }
    }
}

impl Form for Events {
    fn render(&self, log: &VerifierKey, line: &[u8]) -> Option<Vec<u8>> {
        let line = Line::parse(line).ok()?;
        let kind = Kind::of(&line).filter(|kind| self.kinds.contains(kind))?;
        serde_json::to_vec(&event(log, kind, &line)).ok()
    }

    fn index(&self, rendered: &[u8]) -> Option<u64> {
        Heading::of(rendered)?.id.parse().ok()
    }
}

fn event<'l>(log: &VerifierKey, kind: Kind, line: &'l Line) -> CloudEvent<'l> {
    let address = match line.from {
        Source::Address(address) => Some(address),
        Source::Local => None,
    };
    CloudEvent {
        specversion: "1.0",
        id: line.index.to_string(),
        source: format!("urn:cordon:{}:{}", log.name().as_str(), log.id()),
        kind,
        subject: line.route.as_ref(),
        time: line.at,
        datacontenttype: "application/json",
        data: Data {
            request: line.request.as_ref(),
            who: &line.who,
            address,
            route: line.route.as_ref(),
            service: line.acting_for.as_ref(),
            destination: line.destination.as_ref(),
            purpose: line.purpose.as_ref(),
            collection: line.collection.as_ref(),
            tokens: &line.tokens,
            iins: &line.iins,
            by: &line.by,
            reason: line.reason.as_ref(),
            stopped: matches!(kind, Kind::Leaked | Kind::Abused).then_some(line.outcome == Outcome::Denied),
            count: line.items,
            since: line.since,
        },
    }
}

#[cfg(test)]
mod tests;
