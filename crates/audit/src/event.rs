//! Events: what happened, in typed fields.
//!
//! It must never take a `String`, a `&str` of run time or a card number; each setter takes a type that cannot hold one.
//! Tests: `event/tests.rs`.

use std::marker::PhantomData;
use std::net::IpAddr;

use cordon_card::{CardId, CollectionName, Iin, Token};
use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::flood::Refusal;
use crate::name::Name;
use crate::receipt::{Inspection, Plain, Reveal};

/// What was done or asked for (PCI DSS 10.2.1.1 to 10.2.1.7, 10.2.2 "type of event").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Action {
    /// The process began to serve.
    Start,
    /// The process stopped on purpose.
    Stop,
    /// The audit log was opened; items = lines found.
    AuditOpen,
    /// The audit log was closed.
    AuditClose,
    /// Audit lines or a checkpoint were read (10.2.1.3).
    AuditRead,
    /// A witness's cosignature of a checkpoint was brought.
    AuditCosign,
    /// A peer's certificate or network was judged (10.2.1.4).
    Authenticate,
    /// A policy bundle was loaded or refused.
    PolicyLoad,
    /// A configuration was loaded or refused.
    ConfigurationLoad,
    /// A card became a token.
    Tokenize,
    /// A token became a card (10.2.1.1).
    Detokenize,
    /// A card was looked up without creating a token.
    Lookup,
    /// The masked data of a token was read.
    Inspect,
    /// A token and its record were erased.
    Delete,
    /// A held security code was given out or wiped.
    SecurityCode,
    /// The vault was initialised.
    Init,
    /// A share was given, or the vault was unsealed.
    Unseal,
    /// The vault was sealed.
    Seal,
    /// The custodians' shares were made anew.
    Rekey,
    /// A custodian acknowledged the duties (3.7.8).
    CustodianAcknowledge,
    /// Somebody asked custodians to approve an operation.
    ApprovalRequest,
    /// A custodian approved an operation.
    ApprovalGrant,
    /// A custodian refused an operation.
    ApprovalReject,
    /// An approval was used up.
    ApprovalUse,
    /// A collection was created (10.2.1.7).
    CollectionCreate,
    /// A collection's settings were changed.
    CollectionChange,
    /// A collection was erased.
    CollectionDelete,
    /// A key was created.
    KeyCreate,
    /// A new key version became active.
    KeyRotate,
    /// A key version was retired from writing.
    KeyDeactivate,
    /// A key version was suspended, resumed or called compromised; the reason says which.
    KeyState,
    /// Uses of data keys were reserved; the keyring has a new epoch.
    KeyReserve,
    /// A key version was destroyed.
    KeyDestroy,
    /// Records were re-encrypted under the active version.
    Rewrap,
    /// It was verified that no record is kept longer than it may be (3.2.1); items = records of the collection.
    Retention,
    /// The rows of the store were counted and compared with its tally, or the tally was begun; items = records.
    StoreVerify,
    /// A backup was taken.
    Backup,
    /// A backup was put back.
    Restore,
    /// Cards were opened to be sent away, encrypted to somebody (10.2.1.1).
    Export,
    /// Status or metrics were read by an administrator.
    Observe,
    /// The gateway passed a rewritten request to an internal service.
    Forward,
    /// The gateway passed a revealed request to an outside destination.
    Send,
    /// A card number was found where none is declared (12.10.7).
    LeakFound,
    /// An answer said what became of a request; the reason is `approved` or `declined`.
    Outcome,
    /// A rule against abuse was broken, or held somebody off.
    Abuse,
    /// The wall clock moved against the monotonic one (10.6).
    ClockStep,
}

impl Action {
    /// What the process says of itself; recorded even while a copy of the log elsewhere is behind.
    pub(crate) fn is_of_the_process(self) -> bool {
        use Action::{AuditClose, AuditOpen, ClockStep, ConfigurationLoad, PolicyLoad, Start, Stop};
        matches!(self, Start | Stop | AuditOpen | AuditClose | PolicyLoad | ConfigurationLoad | ClockStep)
    }

    /// The calls that come in numbers; refused while the reserved space is touched, so that the others still fit.
    pub(crate) fn is_a_data_call(self) -> bool {
        use Action::{Delete, Detokenize, Forward, Inspect, Lookup, Outcome, SecurityCode, Send, Tokenize};
        let of_cards =
            matches!(self, Tokenize | Detokenize | Lookup | Inspect | Delete | SecurityCode | Forward | Send);
        of_cards || self == Outcome
    }
}

/// How it ended (10.2.2 "success or failure").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Allowed, and about to be done or done.
    Allowed,
    /// Refused by a rule.
    Denied,
    /// Allowed, but it did not succeed.
    Failed,
}

/// Where it came from (10.2.2 "origination of event").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// A network peer.
    Address(IpAddr),
    /// The process itself.
    Local,
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Source::Address(address) => address.serialize(serializer),
            Source::Local => serializer.serialize_str(LOCAL),
        }
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Source, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        if text == LOCAL {
            return Ok(Source::Local);
        }
        text.parse().map(Source::Address).map_err(|_detail| serde::de::Error::custom("not an address"))
    }
}

/// A stable reason code, fixed in the source: 1 to 64 characters of `a-z 0-9 . - _`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Code(&'static str);

impl Code {
    /// Takes a code. Text that is not one becomes `not-a-code`.
    pub const fn new(text: &'static str) -> Code {
        let mut rest = text.as_bytes();
        if rest.is_empty() || rest.len() > 64 {
            return Code(NOT_A_CODE);
        }
        while let Some((first, after)) = rest.split_first() {
            if !matches!(first, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_') {
                return Code(NOT_A_CODE);
            }
            rest = after;
        }
        Code(text)
    }

    /// The text.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl From<&'static str> for Code {
    fn from(text: &'static str) -> Code {
        Code::new(text)
    }
}

/// One event, ready to be appended. Made by [`Event::new`]; every setter takes a typed value.
///
/// PCI DSS 10.2.2 wants six fields in each record. Two are arguments of `new`, the time is taken there; who, from where
/// and on what have truthful defaults (the process itself), so that no record can lack one.
///
/// `K` says what its [`Receipt`](crate::Receipt) is good for: nothing, unless the event was made by [`Event::reveal`] or
/// [`Event::inspection`].
#[derive(Debug, Serialize)]
#[must_use = "an event is recorded by appending it"]
pub struct Event<K = Plain> {
    #[serde(skip)]
    kind: PhantomData<K>,
    #[serde(serialize_with = "microseconds")]
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "maybe_microseconds")]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    who: Option<Name>,
    what: Action,
    outcome: Outcome,
    from: Source,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<Name>,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    acting_for: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    collection: Option<CollectionName>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tokens: Vec<Token>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cards: Vec<CardId>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    iins: Vec<Iin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<Name>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    by: Vec<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    items: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Code>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
}

impl Event {
    /// An event that happens now, by the process itself, on itself, until the setters say otherwise.
    pub fn new(what: Action, outcome: Outcome) -> Event {
        Event::of(what, outcome)
    }
}

impl Event<Reveal> {
    /// Tokens of a collection become cards. The receipt of this line, and of no other, opens their records.
    pub fn reveal(outcome: Outcome, collection: &CollectionName) -> Event<Reveal> {
        Event::of(Action::Detokenize, outcome).collection(collection)
    }

    /// The same for a page of an export.
    pub fn export(outcome: Outcome, collection: &CollectionName) -> Event<Reveal> {
        Event::of(Action::Export, outcome).collection(collection)
    }
}

impl Event<Inspection> {
    /// The masked data of tokens of a collection is shown. The receipt opens their records for that alone.
    pub fn inspection(outcome: Outcome, collection: &CollectionName) -> Event<Inspection> {
        Event::of(Action::Inspect, outcome).collection(collection)
    }
}

impl<K> Event<K> {
    fn of(what: Action, outcome: Outcome) -> Event<K> {
        Event {
            kind: PhantomData,
            at: Timestamp::now(),
            since: None,
            who: None,
            what,
            outcome,
            from: Source::Local,
            request: None,
            acting_for: None,
            on: None,
            collection: None,
            tokens: Vec::new(),
            cards: Vec::new(),
            iins: Vec::new(),
            destination: None,
            route: None,
            purpose: None,
            by: Vec::new(),
            items: None,
            reason: None,
            commit: None,
            epoch: None,
        }
    }

    /// When it happened, where the caller holds a clock of its own.
    pub fn at(mut self, at: Timestamp) -> Event<K> {
        self.at = at;
        self
    }

    /// When the first of several equal events happened, which this one stands for; `at` is the last of them.
    pub(crate) fn since(mut self, first: Timestamp) -> Event<K> {
        self.since = Some(first);
        self
    }

    /// Who asked: the service's name in the policy bundle, else the URI of its certificate.
    pub fn who(mut self, who: &Name) -> Event<K> {
        self.who = Some(who.clone());
        self
    }

    /// The peer's address.
    pub fn from(mut self, address: IpAddr) -> Event<K> {
        self.from = Source::Address(address);
        self
    }

    /// The request's id.
    pub fn request_id(mut self, id: &Name) -> Event<K> {
        self.request = Some(id.clone());
        self
    }

    /// The service it was done for, when that is not the one that asked.
    pub fn acting_for(mut self, service: &Name) -> Event<K> {
        self.acting_for = Some(service.clone());
        self
    }

    /// What it was done on, when that is no collection, token, card, destination or route: a key, a bundle's digest.
    pub fn on(mut self, target: &Name) -> Event<K> {
        self.on = Some(target.clone());
        self
    }

    /// The collection.
    pub fn collection(mut self, collection: &CollectionName) -> Event<K> {
        self.collection = Some(collection.clone());
        self
    }

    /// Adds tokens.
    pub fn tokens(mut self, tokens: impl IntoIterator<Item = Token>) -> Event<K> {
        self.tokens.extend(tokens);
        self
    }

    /// Adds card ids.
    pub fn cards(mut self, cards: impl IntoIterator<Item = CardId>) -> Event<K> {
        self.cards.extend(cards);
        self
    }

    /// Adds issuers' numbers.
    pub fn iins(mut self, iins: impl IntoIterator<Item = Iin>) -> Event<K> {
        self.iins.extend(iins);
        self
    }

    /// The destination cards were sent to, or were to be.
    pub fn destination(mut self, destination: &Name) -> Event<K> {
        self.destination = Some(destination.clone());
        self
    }

    /// The gateway's route.
    pub fn route(mut self, route: &Name) -> Event<K> {
        self.route = Some(route.clone());
        self
    }

    /// The declared purpose.
    pub fn purpose(mut self, purpose: &Name) -> Event<K> {
        self.purpose = Some(purpose.clone());
        self
    }

    /// Adds the ids of the policy statements that decided.
    pub fn statements(mut self, statements: impl IntoIterator<Item = Name>) -> Event<K> {
        self.by.extend(statements);
        self
    }

    /// How many items it covered.
    pub fn count(mut self, items: u64) -> Event<K> {
        self.items = Some(items);
        self
    }

    /// Why it was denied or failed.
    pub fn reason(mut self, code: impl Into<Code>) -> Event<K> {
        self.reason = Some(code.into());
        self
    }

    /// The store's sequence number after the commit this event reports, the anchor against a store that went back.
    pub fn store_sequence(mut self, sequence: u64) -> Event<K> {
        self.commit = Some(sequence);
        self
    }

    /// The keyring's epoch: the highest one in the log tells a keyring that was put back (PCI DSS 3.7).
    pub fn keyring_epoch(mut self, epoch: u64) -> Event<K> {
        self.epoch = Some(epoch);
        self
    }

    /// The event as a JSON object, with the fields it lacks filled from `origin`, the name of the log.
    pub(crate) fn render(&mut self, origin: &Name) -> Result<Vec<u8>, serde_json::Error> {
        if self.who.is_none() {
            self.who = Some(origin.clone());
        }
        if self.has_no_target() {
            self.on = Some(origin.clone());
        }
        let lists = self.tokens.len().saturating_add(self.cards.len()).saturating_mul(BYTES_PER_ID);
        let mut out = Vec::with_capacity(BYTES_PER_LINE.saturating_add(lists));
        serde_json::to_writer(&mut out, &*self)?;
        Ok(out)
    }

    pub(crate) fn action(&self) -> Action {
        self.what
    }

    pub(crate) fn time(&self) -> Timestamp {
        self.at
    }

    /// What a flood of such events is counted by; only refusals have it.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let Source::Address(from) = self.from else { return None };
        let reason = self.reason.filter(|_| self.outcome == Outcome::Denied)?;
        Some(Refusal { what: self.what, who: self.who.clone(), from, route: self.route.clone(), reason })
    }

    /// The collection and the tokens it names.
    pub(crate) fn into_covered(self) -> (Option<CollectionName>, Vec<Token>) {
        (self.collection, self.tokens)
    }

    fn has_no_target(&self) -> bool {
        self.on.is_none()
            && self.collection.is_none()
            && self.tokens.is_empty()
            && self.cards.is_empty()
            && self.destination.is_none()
            && self.route.is_none()
    }
}

pub(crate) fn maybe_microseconds<S: Serializer>(
    at: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => microseconds(at, serializer),
        None => serializer.serialize_none(),
    }
}

/// RFC 3339 in UTC with six digits of a second, so that lines sort and compare as text.
pub(crate) fn microseconds<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(6));
    serializer.serialize_str(&PRINTER.timestamp_to_string(at))
}

const LOCAL: &str = "local";
const NOT_A_CODE: &str = "not-a-code";
/// Typical sizes, to render without growing.
const BYTES_PER_LINE: usize = 384;
const BYTES_PER_ID: usize = 48;

#[cfg(test)]
mod tests;
