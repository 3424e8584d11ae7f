//! The life of a request, as types: each arrow takes the state before it and gives the one after.
//!
//! `Inbound -> Parsed -> Permitted -> Rewritten -> Scanned -> Outbound`, and only an [`Outbound`] can be sent
//! (`docs/request-life.md`). Must never gain an arrow that leaves one out: fields are private, states are consumed.
//! Tests: `flow/tests.rs`.

pub mod cards;
pub mod head_fields;
pub mod long;
mod reading;
pub mod spots;
pub mod tokens;

use crate::body::Format;
use crate::coding::Codings;
use crate::leak::{self, Clean, Place};
use crate::media;
use crate::plan::Fields;
use crate::problem::Fault;
use crate::stream::spool::Spool;
use crate::upstream::is_idempotent;
use bytes::Bytes;
use cards::Cards;
use cordon_audit::Receipt;
use cordon_card::Environment;
use cordon_daemon::body::{BodyError, WipedBytes, read_body};
use cordon_policy::{
    Action, Ask, Bundle, Content, Day, EgressOp, Forward, IngressOp, LookInside, OnLeak, Permit, Send,
};
use cordon_wire::{Revealed, Tokenized};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, request};
use hyper::body::{Body, Incoming};
use leak::echo::Echoes;
use leak::finding::Finding;
use leak::loose::Loose;
use leak::suspects::{Suspects, Verdict};
pub use reading::Watch;
use reading::{Noted, Read, noted, read};
use spots::Edits;
use std::fmt;
use std::ops::Range;
use std::time::Duration;
use tokens::Tokens;

/// The head of a request as it will be sent on.
pub struct Head {
    /// Method.
    pub method: Method,
    /// Path and query as received.
    pub path_and_query: String,
    /// Headers that may go on.
    pub headers: HeaderMap,
}

/// Only the method: path and headers are the caller's text.
impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head").field("method", &self.method).finish_non_exhaustive()
    }
}

/// A request that took a route; its body is read, nothing of it is understood.
#[derive(Debug)]
pub struct Inbound {
    head: Head,
    path_length: usize,
    format: Option<Format>,
    bytes: WipedBytes,
}

/// A request whose declared fields are found and valid. Outside of them nothing looked like a card number, or the
/// route wants such numbers masked.
#[derive(Debug)]
pub struct Parsed<F> {
    inbound: Inbound,
    fields: F,
    noted: Noted,
}

/// A parsed request that the policy allows.
#[derive(Debug)]
pub struct Permitted<F, A: Action> {
    parsed: Parsed<F>,
    permit: Permit<A>,
}

/// A request with other texts in its declared fields.
#[derive(Debug)]
pub struct Rewritten<A: Action> {
    head: Head,
    format: Option<Format>,
    bytes: WipedBytes,
    /// Where card data stands on purpose: nowhere on the way in.
    cards_at: Vec<Range<usize>>,
    noted: Noted,
    permit: Permit<A>,
}

/// A rewritten request in which no card number stands where none is declared.
#[derive(Debug)]
pub struct Scanned<A: Action> {
    head: Head,
    body: Clean<WipedBytes>,
    findings: Vec<Finding>,
    permit: Permit<A>,
}

/// A request that may be sent: scanned, and its decision is durable in the audit log.
pub struct Outbound {
    head: Head,
    body: Payload,
    repeatable: bool,
}

/// The body of what is sent.
pub enum Payload {
    /// In memory.
    Held(Bytes),
    /// On disk, sealed.
    Waiting(Box<Spool>),
}

/// Not the bytes, as below.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held(_) => "Held(***)",
            Self::Waiting(_) => "Waiting(***)",
        })
    }
}

/// Not the body: it holds cards on the way out.
impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").field("head", &self.head).finish_non_exhaustive()
    }
}

/// What a route takes.
#[derive(Debug, Clone, Copy)]
pub struct Intake<'r> {
    /// Content types.
    pub content: &'r [Content],
    /// Bytes of body.
    pub max_body: u64,
}

/// Reads a request's body and undoes its content coding. `headers` are those that may go on.
///
/// # Errors
/// [`Fault::Unsupported`] and [`Fault::TooLarge`] before a byte is read where that can be known, else when it is;
/// [`Fault::TooSlow`] or [`Fault::Malformed`] for a body that does not arrive or is not of its coding.
pub async fn receive(
    parts: &request::Parts,
    mut headers: HeaderMap,
    incoming: &mut Incoming,
    intake: Intake<'_>,
) -> Result<Inbound, Fault> {
    let codings = Codings::of(&parts.headers)?;
    let format = if incoming.is_end_stream() {
        None
    } else {
        Some(media::of_request(&parts.headers, intake.content)?)
    };
    let limit = usize::try_from(intake.max_body).unwrap_or(usize::MAX);
    let mut bytes = read_body(incoming, limit, BODY_WITHIN).await?;
    if format.is_some() {
        bytes = codings.undo(bytes, limit)?;
    }
    headers.remove(CONTENT_ENCODING);
    let path_and_query = parts.uri.path_and_query().map_or("/", |both| both.as_str()).to_owned();
    let head = Head { method: parts.method.clone(), path_and_query, headers };
    Ok(Inbound { head, path_length: parts.uri.path().len(), format, bytes })
}

impl Inbound {
    /// What makes it this request and no other: method, target, content type, body.
    pub fn parts(&self) -> [&[u8]; 4] {
        let Self { head, bytes, .. } = self;
        let content = head.headers.get(CONTENT_TYPE).map_or(&[][..], |value| value.as_bytes());
        [head.method.as_str().as_bytes(), head.path_and_query.as_bytes(), content, bytes]
    }
}

/// The way in: finds and checks the fields that carry cards.
///
/// # Errors
/// [`Fault::Leak`], [`Fault::Malformed`], [`Fault::Field`] or [`Fault::TooManyCards`].
pub fn parse_ingress(
    inbound: Inbound,
    fields: &Fields<IngressOp>,
    watch: Watch,
) -> Result<Parsed<Cards>, Fault> {
    let Read { found, mut body, head, spared } = read(&inbound, fields, watch)?;
    let mut cards = Cards::collect(&found, fields, &mut body)?;
    let leak = head.found().or(body.found());
    let passes = match (leak, watch.on_leak) {
        (None, _) => true,
        (Some(_), OnLeak::Report(_)) => head.denied().or(body.denied()).is_none(),
        // What else there is, the outcome is read again for.
        (Some(place), OnLeak::Mask | OnLeak::Tokenize) => place == Place::Body,
        (Some(_), OnLeak::Deny) => false,
    };
    if let Some(place) = leak.filter(|_| !passes) {
        return Err(Fault::Leak(head.denied().or(body.denied()).unwrap_or(place)));
    }
    let noted = noted(fields, watch, leak, (head, body));
    if leak.is_some()
        && watch.on_leak == OnLeak::Tokenize
        && let Some(format) = &inbound.format
    {
        let loose = Loose::find(format, &inbound.bytes, &spared).map_err(|_across| LEAK)?;
        cards.take_loose(loose)?;
        let bytes = inbound.bytes.to_vec();
        let (tried, _) = cards.trial()?.apply(WipedBytes::from(bytes))?;
        let _clean = leak::reread(format, tried, noted.sight(&[])).map_err(|_left| LEAK)?;
    }
    Ok(Parsed { fields: cards, noted, inbound })
}

/// The way out: finds and checks the fields that carry tokens. A card number anywhere in the request is refused: the
/// caller should not have it.
///
/// # Errors
/// As [`parse_ingress`].
pub fn parse_egress(
    inbound: Inbound,
    fields: &Fields<EgressOp>,
    environment: Environment,
    (inside, today): (LookInside, Day),
) -> Result<Parsed<Tokens>, Fault> {
    let watch = Watch::strict(inside, today);
    let Read { found, body, head, .. } = read(&inbound, fields, watch)?;
    if let Some(place) = head.found().or(body.found()) {
        return Err(Fault::Leak(place));
    }
    let tokens = Tokens::collect(&found, fields, environment)?;
    let noted = noted(fields, watch, None, (head, body));
    Ok(Parsed { fields: tokens, noted, inbound })
}

impl<F> Parsed<F> {
    /// Asks the policy.
    ///
    /// # Errors
    /// [`Fault::Denied`] with the refusal's code.
    pub fn permit<A: Action>(self, bundle: &Bundle, ask: &Ask<'_>) -> Result<Permitted<F, A>, Fault> {
        let permit = bundle.decide::<A>(ask).map_err(|refusal| Fault::Denied(refusal.code()))?;
        Ok(Permitted { parsed: self, permit })
    }
}

impl<F, A: Action> Permitted<F, A> {
    /// What the vault is to be asked.
    pub const fn fields(&self) -> &F {
        &self.parsed.fields
    }

    /// Numbers about which the vault is to be asked whether it knows them.
    pub fn take_suspects(&mut self) -> Suspects {
        std::mem::take(&mut self.parsed.noted.suspects)
    }
}

impl Permitted<Cards, Forward> {
    /// Puts tokens in the place of card numbers, and takes security codes out.
    ///
    /// # Errors
    /// [`Fault::Vault`] when the vault's answer does not fit, [`Fault::Internal`] when the edits do not.
    pub fn rewrite(self, tokens: &[Tokenized]) -> Result<Rewritten<Forward>, Fault> {
        let edits = self.parsed.fields.edits(tokens)?;
        let mut rewritten = edited(self, edits)?;
        rewritten.cards_at = Vec::new();
        Ok(rewritten)
    }
}

impl Permitted<Tokens, Send> {
    /// Puts cards in the place of tokens, and gives what to look for in the answer.
    ///
    /// # Errors
    /// [`Fault::Vault`] when the vault's answer does not fit, [`Fault::Field`] when it lacks what a field needs.
    pub fn rewrite(self, cards: Vec<Revealed>) -> Result<(Rewritten<Send>, Echoes), Fault> {
        let (edits, echoes) = self.parsed.fields.edits(cards)?;
        Ok((edited(self, edits)?, echoes))
    }
}

impl Permitted<Tokens, Send> {
    /// Puts words in the place of tokens, and ends there: what comes of it cannot be sent.
    ///
    /// # Errors
    /// As [`Permitted::rewrite`] and [`scan`].
    pub fn preview(self) -> Result<Preview, Fault> {
        let words = self.parsed.fields.words();
        Ok(scan(edited(self, words)?, Verdict::AllCount)?.into_preview())
    }
}

/// A request that nobody sends: to be looked at.
#[derive(Debug)]
pub struct Preview {
    head: Head,
    body: WipedBytes,
}

impl Preview {
    /// The method.
    pub fn method(&self) -> &str {
        self.head.method.as_str()
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        &self.head.path_and_query
    }

    /// The caller's headers that would go on.
    pub const fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

fn edited<F, A: Action>(permitted: Permitted<F, A>, mut edits: Edits) -> Result<Rewritten<A>, Fault> {
    let Permitted { parsed: Parsed { inbound, noted, .. }, permit } = permitted;
    let Inbound { mut head, format, bytes, .. } = inbound;
    head_fields::apply(&mut head, edits.take_head())
        .map_err(|_misfit| Fault::Internal("internal.head-edits-do-not-fit"))?;
    let (bytes, cards_at) = edits.apply(bytes)?;
    Ok(Rewritten { head, format, bytes, cards_at, noted, permit })
}

/// Looks at the body as it will be sent. `verdict` says which numbers outside the fields count.
///
/// # Errors
/// [`Fault::Leak`] when a card number stands where none is declared and cannot be masked.
pub fn scan<A: Action>(rewritten: Rewritten<A>, verdict: Verdict) -> Result<Scanned<A>, Fault> {
    let Rewritten { head, format, bytes, cards_at, mut noted, permit } = rewritten;
    let body = match (&format, noted.in_body, noted.loose) {
        (Some(format), true, OnLeak::Mask) => {
            // It has to be possible for every number, or the refusal would tell which ones are known; and known ones
            // take the same work as others.
            let all = leak::mask(format, &bytes, noted.sight(&[])).map_err(|_left| LEAK)?;
            match &verdict {
                Verdict::AllCount => all,
                Verdict::Cleared(some) => leak::mask(format, &bytes, noted.sight(some)).unwrap_or(all),
            }
        }
        (Some(format), true, OnLeak::Tokenize) => {
            leak::reread(format, bytes, noted.sight(&[])).map_err(|_left| LEAK)?
        }
        (_, true, OnLeak::Report(_)) => Clean::but_reported(bytes),
        (Some(format), false, _) => {
            let mut spared = noted.excepted.spans(noted.today, format, &bytes).map_err(|_changed| LEAK)?;
            spared.extend(cards_at);
            spared.sort_by_key(|span| span.start);
            leak::outside(bytes, &spared).map_err(Fault::Leak)?
        }
        (None, _, _) | (Some(_), true, OnLeak::Deny) => {
            leak::outside(bytes, &cards_at).map_err(Fault::Leak)?
        }
    };
    let finding = noted.leak.map(|place| match (&verdict, noted.loose) {
        (Verdict::Cleared(cleared), _) if cleared.len() == noted.suspected => Finding::NOT_KNOWN,
        (_, OnLeak::Tokenize) => Finding::TOKENIZED,
        (_, OnLeak::Report(_)) => Finding::reported(place),
        (_, OnLeak::Mask | OnLeak::Deny) => Finding::MASKED,
    });
    noted.findings.extend(finding);
    Ok(Scanned { head, body, findings: noted.findings, permit })
}

impl<A: Action> Scanned<A> {
    /// The permit, for the audit line.
    pub const fn permit(&self) -> &Permit<A> {
        &self.permit
    }

    /// What was found and does not stop it.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Ends there, to be looked at: what comes of it cannot be sent.
    pub fn into_preview(self) -> Preview {
        Preview { head: self.head, body: self.body.into_inner() }
    }

    /// Releases the request, once: the permit and the proof that its line is durable are used up. `added` are headers
    /// of our own.
    pub fn release(self, receipt: Receipt, added: HeaderMap) -> Outbound {
        let Self { mut head, body, permit, .. } = self;
        drop((permit, receipt));
        head.headers.extend(added);
        let repeatable = is_idempotent(&head.method);
        Outbound { head, body: Payload::Held(Bytes::from_owner(body.into_inner())), repeatable }
    }
}

impl Outbound {
    /// The method.
    pub fn method(&self) -> &str {
        self.head.method.as_str()
    }

    /// Path and query as they are sent; the query without `?`.
    pub fn path_and_query(&self) -> (&str, &str) {
        self.head.path_and_query.split_once('?').unwrap_or((&self.head.path_and_query, ""))
    }

    /// The value of a header, empty if there is none.
    pub fn header(&self, name: &str) -> &[u8] {
        self.head.headers.get(name).map_or(&[], |value| value.as_bytes())
    }

    /// The body, cards and all. Nothing of one that waits on disk: on the way out there is none.
    pub fn body(&self) -> &[u8] {
        match &self.body {
            Payload::Held(bytes) => bytes,
            Payload::Waiting(_) => &[],
        }
    }

    /// Whether it may be sent once more when the connection broke before an answer.
    pub const fn is_repeatable(&self) -> bool {
        self.repeatable
    }

    /// It may: its destination tells a repeated request by its key.
    pub const fn may_be_repeated(&mut self) {
        self.repeatable = true;
    }

    /// Sets a header of our own.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.head.headers.insert(name, value);
    }

    /// For the tests of `upstream`, which have no policy to ask.
    #[cfg(test)]
    pub(crate) fn of(head: Head, body: Bytes) -> Self {
        let repeatable = is_idempotent(&head.method);
        Self { head, body: Payload::Held(body), repeatable }
    }

    /// Taken apart by `upstream` alone.
    pub(crate) fn into_parts(self) -> (Head, Payload) {
        (self.head, self.body)
    }
}

impl From<BodyError> for Fault {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::TooLarge,
            BodyError::TimedOut => Self::TooSlow,
            _ => Self::Malformed("body"),
        }
    }
}

const LEAK: Fault = Fault::Leak(Place::Body);
/// Time for a request's body to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
