//! The upstream's answer on its way back: scanned whole before the caller sees a byte of it.
//!
//! Must never pass on a card number that was just revealed, in any form, nor an answer that cannot be inspected
//! (threat B26). Tests: `answer/tests.rs`.

pub mod fields;

use crate::body::Format;
use crate::coding::{CodingError, Codings};
use crate::flow::head_fields;
use crate::head;
use crate::leak::{self, Place, Search, Sight, echo::Echoes, exception::Exceptions, finding::Finding};
use crate::media::{self, Answer as Kind};
use crate::plan::Fields;
use crate::problem::Fault;
use crate::upstream::Answer;
use bytes::Bytes;
use cordon_daemon::Body;
use cordon_daemon::body::{WipedBytes, full};
use cordon_policy::{AnswerOp, Content, Day, Exception, Field, LookInside, OnLeak, Side};
use cordon_wire::REQUEST_ID;
use fields::Cuts;
use http::header::{ACCEPT_RANGES, CONTENT_ENCODING, ETAG, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use std::fmt;

/// How an answer is judged.
#[derive(Debug)]
pub struct Rules<'r> {
    /// What to do with a card number that was not revealed by this request, today.
    pub on_leak: OnLeak,
    /// And with one that an encoding hides.
    pub inside: LookInside,
    /// The numbers that were.
    pub echoes: &'r Echoes,
    /// Look into pictures and the like as well: the answer comes from somebody who was given card numbers.
    pub from_outside: bool,
    /// Types that the route's fields of answers are in.
    pub declared: &'r [Content],
    /// Where something like a card number may stand.
    pub exceptions: &'r Exceptions,
    /// The day.
    pub today: Day,
}

/// The types in which the fields and exceptions of an answer may stand.
#[must_use]
pub fn declared_types(fields: &[Field<AnswerOp>], exceptions: &[Exception]) -> Vec<Content> {
    let of_answers = exceptions.iter().filter(|exception| exception.side == Side::Answer);
    let places = fields.iter().map(|field| &field.places);
    let places: Vec<_> = places.chain(of_answers.map(|exception| &exception.places)).collect();
    let in_one = |content: &Content| places.iter().any(|places| places.stand_in(*content));
    Content::ALL.into_iter().filter(in_one).collect()
}

/// Undoes an answer's content coding; what it says of its bytes as they were goes with it.
///
/// # Errors
/// [`Fault::UpstreamRefused`] for a coding that cannot be undone within `limit` bytes.
pub fn decode(mut answer: Answer, limit: usize) -> Result<Answer, Fault> {
    if answer.body.is_empty() {
        return Ok(answer);
    }
    let codings = Codings::of(&answer.headers).map_err(|_unknown| NOT_INSPECTABLE)?;
    if !codings.is_identity() {
        answer.body = codings.undo(answer.body, limit).map_err(|error| match error {
            CodingError::TooLarge => Fault::UpstreamRefused("upstream-refused.too-large"),
            CodingError::Unknown | CodingError::Malformed => NOT_INSPECTABLE,
        })?;
        forget_bytes(&mut answer.headers);
    }
    answer.headers.remove(CONTENT_ENCODING);
    let is_json = matches!(media::of_answer(&answer.headers, &[]), Ok(Kind::Structured(Format::Json)));
    if let Some(text) = answer.body.strip_prefix(BYTE_ORDER_MARK).filter(|_| is_json) {
        let mut unmarked = WipedBytes::with_capacity(text.len());
        unmarked.extend_from_slice(text);
        answer.body = unmarked;
        forget_bytes(&mut answer.headers);
    }
    Ok(answer)
}

/// Some processors put one in front of their JSON, where readers differ in what it means (RFC 8259 section 8.1).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What the route's fields ask of an answer, and where card numbers outside of them become tokens, those as well; `None`
/// when there is nothing to ask.
///
/// # Errors
/// [`Fault::UpstreamRefused`] for one that cannot be read, [`Fault::AnswerLeak`] for a number that was just revealed.
pub fn cuts(answer: &Answer, fields: &Fields<AnswerOp>, rules: &Rules<'_>) -> Result<Option<Cuts>, Fault> {
    let loose = rules.on_leak == OnLeak::Tokenize;
    if fields.is_empty() && !loose {
        return Ok(None);
    }
    let kind = media::of_answer(&answer.headers, rules.declared).map_err(|_unknown| NOT_INSPECTABLE)?;
    let format = match kind {
        Kind::Structured(format) if !answer.body.is_empty() => Some(format),
        Kind::Structured(_) | Kind::Text | Kind::Opaque => None,
    };
    let mut cuts = Cuts::find(answer, format.as_ref(), fields).map_err(|_not_read| NOT_INSPECTABLE)?;
    if let (true, Some(format)) = (loose, &format) {
        let spared = rules.exceptions.spans(rules.today, format, &answer.body);
        let spared = spared.map_err(|_not_read| NOT_INSPECTABLE)?;
        cuts.take_loose((format, &answer.body), spared, rules.echoes)?;
    }
    Ok(Some(cuts))
}

/// Drops the headers that describe bytes which are not those any more.
pub fn forget_bytes(headers: &mut HeaderMap) {
    for name in [ETAG, ACCEPT_RANGES] {
        headers.remove(name);
    }
    for name in OF_BYTES {
        headers.remove(HeaderName::from_static(name));
    }
}

const OF_BYTES: [&str; 4] = ["content-md5", "digest", "content-digest", "repr-digest"];

/// An answer that may be passed on. A copy shares the body, which is wiped with the last of them.
#[derive(Clone)]
pub struct Screened {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    findings: Vec<Finding>,
}

impl fmt::Debug for Screened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screened").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Screened {
    /// The upstream's status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// What was found and does not stop it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// What it takes to keep it, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let header =
            |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len().saturating_add(value.len());
        self.headers.iter().map(header).fold(self.body.len(), usize::saturating_add)
    }

    /// The response for the caller. `to_head` is true when it answers a HEAD request.
    #[must_use]
    pub fn respond(self, to_head: bool, request_id: &str) -> Response<Body> {
        let bodiless = to_head || self.status == StatusCode::NOT_MODIFIED;
        let mut response = Response::new(full(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = head::of_answer(&self.headers, bodiless);
        if let Ok(id) = HeaderValue::from_str(request_id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    }
}

/// Scans headers and body of an answer that has been decoded.
///
/// # Errors
/// [`Fault::AnswerLeak`] for a card number that is not masked, [`Fault::UpstreamRefused`] for an answer that cannot
/// be inspected.
pub fn screen(answer: Answer, rules: &Rules<'_>) -> Result<Screened, Fault> {
    let Answer { status, mut headers, body } = answer;
    let echoed = |bytes: &[u8]| rules.echoes.stands_in(bytes);
    let reports = matches!(rules.on_leak, OnLeak::Report(_));
    let search = Search::new(rules.inside);
    let mut search = if reports { search.suspecting() } else { search };
    let aside = head_fields::locate_in_headers(&headers, &rules.exceptions.head);
    let aside = aside.map_err(|_not_read| NOT_INSPECTABLE)?;
    let aside = rules.exceptions.spared_heads(aside, rules.today, 0, &mut search);
    search.look_at_headers(&headers, &aside);
    let found = if reports { search.denied() } else { search.found() };
    if found.is_some() || headers.values().any(|value| echoed(value.as_bytes())) {
        return Err(Fault::AnswerLeak);
    }
    let kind = media::of_answer(&headers, rules.declared).map_err(|_unknown| NOT_INSPECTABLE)?;
    if echoed(&body) {
        return Err(Fault::AnswerLeak);
    }
    match &kind {
        _ if body.is_empty() => {}
        Kind::Structured(format) => look_through(&mut search, (format, &body), rules)?,
        Kind::Text => search.look(Place::Body, &body),
        Kind::Opaque if rules.from_outside => search.look(Place::Body, &body),
        Kind::Opaque => {}
    }
    let mut findings = Vec::new();
    findings.extend(search.spared().map(|_place| Finding::EXCEPTED_ANSWER));
    findings.extend(search.reports().then_some(Finding::INSIDE_ANSWER));
    let body = match (search.found(), kind, rules.on_leak) {
        (None, _, _) => body,
        (Some(Place::Body), Kind::Structured(format), OnLeak::Mask) => {
            let Rules { inside, exceptions, today, .. } = *rules;
            let sight = Sight { inside, exceptions, today, cleared: &[] };
            let body = leak::mask(&format, &body, sight).map_err(|_left| Fault::AnswerLeak)?;
            forget_bytes(&mut headers);
            findings.push(Finding::MASKED_ANSWER);
            body.into_inner()
        }
        (Some(_), _, OnLeak::Report(_)) if search.denied().is_none() => {
            findings.push(Finding::REPORTED_ANSWER);
            body
        }
        (Some(_), Kind::Structured(_) | Kind::Text | Kind::Opaque, _) => return Err(Fault::AnswerLeak),
    };
    Ok(Screened { status, headers, body: shared(body), findings })
}

/// Wiped with its last copy.
fn shared(body: WipedBytes) -> Bytes {
    Bytes::from_owner(body)
}

/// Looks at the decoded keys and values as well as at the bytes. No exception is one for a number that was just revealed.
fn look_through(search: &mut Search<'_>, body: (&Format, &[u8]), rules: &Rules<'_>) -> Result<(), Fault> {
    let mut echoed = false;
    let mut heard = |text: &str| echoed = echoed || rules.echoes.stands_in(text.as_bytes());
    let read = rules.exceptions.look_through(rules.today, search, body, &mut heard);
    read.map_err(|_not_read| NOT_INSPECTABLE)?;
    if echoed { Err(Fault::AnswerLeak) } else { Ok(()) }
}

const NOT_INSPECTABLE: Fault = Fault::UpstreamRefused("upstream-refused.not-inspectable");

#[cfg(test)]
mod tests;
