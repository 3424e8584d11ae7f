//! What passes through the gateway and which fields are swapped: the routes, as `routes.toml` declares them.
//!
//! Must never match more than is written: no wildcard host, no path outside a declared prefix.
//! Tests: `routes/tests.rs` and `crates/policy/tests/bundle/faults.rs`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cordon_card::{CollectionName, ExpiryStyle, Truncation};

use crate::day::Day;
use crate::fault::{Faults, Source};
use crate::place::Places;
use crate::segments::Segments;

mod abuse;
mod fields;
mod leaks;
mod outcome;
mod read;
mod signature;
mod stream;
mod values;

pub use abuse::{AbuseAction, AbuseKey, AbuseLimit, AbuseRule};
pub use leaks::Passing;
pub(crate) use leaks::passing;
pub use outcome::{Decision, Outcome, OutcomePlace};
pub(crate) use read::Reading;
pub use signature::{JwsAlgorithm, Signature, SignatureEncoding, SignatureScheme, SignedPart};

/// A way in: a public request whose card fields are replaced before a service sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressRoute {
    /// Its name, unique over both planes.
    pub name: String,
    /// Host names it answers to, lower case, without port.
    pub hosts: Vec<String>,
    /// Methods it takes, upper case.
    pub methods: Vec<String>,
    /// Paths it takes.
    pub path: PathPattern,
    /// Where the rewritten request goes.
    pub upstream: Upstream,
    /// The service behind `upstream`.
    pub service: String,
    /// The collection its cards go to.
    pub collection: CollectionName,
    /// Content types it takes; every other is refused.
    pub content: Vec<Content>,
    /// Largest body, in bytes.
    pub max_body: u64,
    /// Bodies that are too large to be held whole are rewritten in pieces.
    pub stream: bool,
    /// What to do with a card number outside the declared fields.
    pub on_leak: OnLeak,
    /// What to do with one that is hidden in an encoding.
    pub look_inside: LookInside,
    /// How long the service may take.
    pub timeout: Duration,
    /// The fields that carry card data.
    pub fields: Vec<Field<IngressOp>>,
    /// Fields of the answer that are cut before a client sees them.
    pub answer: Vec<Field<AnswerOp>>,
    /// Which numbers count as card numbers outside the declared fields.
    pub leak_check: LeakCheck,
    /// Where something that looks like a card number may stand.
    pub exceptions: Vec<Exception>,
    /// Clients are told where the time went.
    pub timings: bool,
    /// How often who may try, in the order in which attempts are counted.
    pub abuse: Vec<AbuseRule>,
    /// What the service's answer says about the outcome.
    pub outcome: Option<Outcome>,
}

/// A way out: a service's request whose token fields are replaced before a destination sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRoute {
    /// Its name, unique over both planes.
    pub name: String,
    /// Methods it takes, upper case.
    pub methods: Vec<String>,
    /// Paths it takes, the same at the destination.
    pub path: PathPattern,
    /// Services that may use it.
    pub services: Vec<String>,
    /// Where the request goes.
    pub destination: String,
    /// The collection its tokens are from.
    pub collection: CollectionName,
    /// Why cards leave; part of every decision and audit line.
    pub purpose: String,
    /// Content types it takes; every other is refused.
    pub content: Vec<Content>,
    /// Largest body, in bytes.
    pub max_body: u64,
    /// What to do with a card number in the destination's answer.
    pub on_leak: OnLeak,
    /// What to do with one that is hidden in an encoding.
    pub look_inside: LookInside,
    /// How long the destination may take.
    pub timeout: Duration,
    /// The fields that carry tokens.
    pub fields: Vec<Field<EgressOp>>,
    /// Headers of the caller that the destination gets besides those that every one gets.
    pub pass_headers: Vec<String>,
    /// Signatures that are added to what is sent.
    pub signatures: Vec<Signature>,
    /// Services that may ask what they would send, in place of sending it.
    pub dry_run: Vec<String>,
    /// The destination tells a repeated `Idempotency-Key` itself, so that it may be asked again when no answer came.
    pub idempotent_destination: bool,
    /// Fields of the answer in which the destination gives card numbers.
    pub answer: Vec<Field<AnswerOp>>,
    /// Where something that looks like a card number may stand.
    pub exceptions: Vec<Exception>,
    /// What the destination's answer says about the outcome.
    pub outcome: Option<Outcome>,
}

impl EgressRoute {
    /// True when a token is exchanged for its card on this route.
    #[must_use]
    pub fn reveals(&self) -> bool {
        self.fields.iter().any(|field| field.op == EgressOp::Reveal)
    }
}

/// A field of a request or answer, by its places, and what happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<Op> {
    /// Where it stands.
    pub places: Places,
    /// What happens to it.
    pub op: Op,
}

/// What ingress does with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IngressOp {
    /// The card number: replaced by a token.
    Tokenize,
    /// The security code: held in memory by the vault, removed from the request (PCI DSS 3.3.1).
    Hold,
    /// The expiry: kept with the card, forwarded unchanged.
    Expiry,
    /// The expiry's month, when it stands in a field of its own.
    ExpiryMonth,
    /// The expiry's year, when it stands in a field of its own.
    ExpiryYear,
    /// Card numbers in it are truncated.
    Mask(Truncation),
    /// Taken out.
    Drop,
}

/// What becomes of a field of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerOp {
    /// A card number: replaced by a token, on its way from a destination to a service.
    Tokenize,
    /// Card numbers in it are truncated.
    Mask(Truncation),
    /// Taken out.
    Drop,
}

/// What egress does with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EgressOp {
    /// A token: replaced by the card number.
    Reveal,
    /// Replaced by the held security code, once.
    RevealCvv,
    /// Replaced by the kept expiry.
    RevealExpiry(ExpiryWriting),
    /// Card numbers in it are truncated.
    Mask(Truncation),
    /// Taken out.
    Drop,
}

/// How a destination wants an expiry written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiryWriting {
    /// Which parts of it, and how.
    pub style: ExpiryStyle,
    /// As a JSON number rather than a string, where it stands in JSON.
    pub number: bool,
}

/// A content type the gateway can rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// `application/json`, and `+json`
    Json,
    /// One JSON document a line: `application/x-ndjson`, `application/ndjson`, `application/jsonl`
    Ndjson,
    /// `application/x-www-form-urlencoded`
    Form,
    /// `multipart/form-data`
    Multipart,
    /// `application/xml`, `text/xml`, and `+xml`
    Xml,
    /// `text/csv`, with a row of names
    Csv,
    /// `text/plain` in lines of fixed columns
    Fixed,
    /// `text/plain`
    Text,
}

impl Content {
    /// Whether a body of it can be read in pieces: it is made of records that stand for themselves.
    #[must_use]
    pub const fn has_records(self) -> bool {
        match self {
            Self::Ndjson | Self::Csv | Self::Fixed | Self::Multipart => true,
            Self::Json | Self::Form | Self::Xml | Self::Text => false,
        }
    }

    /// Every content type.
    pub const ALL: [Self; 8] = [
        Self::Json,
        Self::Ndjson,
        Self::Form,
        Self::Multipart,
        Self::Xml,
        Self::Csv,
        Self::Fixed,
        Self::Text,
    ];
}

/// What to do with a card number that is found only by decoding a text further than its type asks for: base64,
/// hexadecimal, a document inside a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookInside {
    /// As for any other card number where none may be.
    Deny,
    /// Say so in the audit log and pass it on.
    Report,
    /// Do not look.
    Off,
}

/// What to do with a card number where none may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLeak {
    /// Refuse the request.
    Deny,
    /// Replace all but the last four digits.
    Mask,
    /// Replace it by a token.
    Tokenize,
    /// Pass it on and say so in the audit log, up to this day; refuse it from then on.
    Report(Day),
}

impl OnLeak {
    /// What is done on a day.
    #[must_use]
    pub fn on(self, today: Day) -> Self {
        match self {
            Self::Report(until) if until.is_over(today) => Self::Deny,
            Self::Deny | Self::Mask | Self::Tokenize | Self::Report(_) => self,
        }
    }
}

/// Which numbers count as card numbers outside the declared fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeakCheck {
    /// All that look like one.
    Plausible,
    /// Of those, the ones that the vault knows.
    Exact,
}

/// The message that something stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The request.
    Request,
    /// Its answer.
    Answer,
}

/// A place where something that looks like a card number may stand for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// Where.
    pub places: Places,
    /// In which message.
    pub side: Side,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub approved_by: String,
    /// Up to which day.
    pub until: Day,
}

/// The paths of a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PathPattern {
    /// This path.
    Exact(String),
    /// Every path that begins with this; ends in `/`.
    Prefix(String),
}

impl PathPattern {
    /// True when the route takes the path, which must be decoded and free of dot segments already.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => path.starts_with(prefix),
        }
    }
}

impl std::fmt::Display for PathPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(path) => write!(f, "{path}*"),
        }
    }
}

/// The server of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Speak TLS to it.
    pub tls: bool,
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// PEM file of the only roots its certificate may chain to; always there with `tls`.
    pub roots: Option<PathBuf>,
}

impl Upstream {
    /// `host:port`, with brackets around an IPv6 address (RFC 3986 section 3.2.2).
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// All routes of a bundle, in file order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    pub(crate) ingress: Vec<IngressRoute>,
    pub(crate) egress: Vec<EgressRoute>,
}

impl Routes {
    /// Reads the text of a `routes.toml` against the text of the `segments.toml` it refers to; relative paths
    /// in both start at `base`.
    ///
    /// # Errors
    /// Every fault in either, with its place.
    pub fn parse(text: &str, segments: &str, base: &Path) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let declared = Source { file: crate::segments::SEGMENTS_FILE, text: segments };
        let names = crate::segments::read(&declared, base, &mut faults);
        let source = Source { file: ROUTES_FILE, text };
        let mut reading = Reading::new(base, names.as_ref(), faults.is_empty());
        reading.file(&source, &mut faults);
        let routes = reading.finish();
        faults.into_result(Some(routes))
    }
}

/// The words of `segments.toml` that routes refer to.
pub(crate) type Declared = (Segments, crate::segments::Names);

/// The file's name in a bundle.
pub(crate) const ROUTES_FILE: &str = "routes.toml";

#[cfg(test)]
mod tests;
