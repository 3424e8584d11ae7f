//! The upstream's answer on its way back: scanned whole before the caller sees a byte of it.
//!
//! Must never pass on a card number that was just revealed, in any form, nor an answer that cannot be inspected
//! (threat B26). Tests: `answer/tests.rs`.

pub mod fields;

use crate::body::{self, Format};
use crate::coding::{CodingError, Codings};
use crate::head;
use crate::leak::{self, Place, Search, echo::Echoes};
use crate::media::{self, Answer as Kind};
use crate::plan::Fields;
use crate::problem::Fault;
use crate::upstream::Answer;
use bytes::Bytes;
use cordon_daemon::Body;
use cordon_daemon::body::{WipedBytes, full};
use cordon_policy::{AnswerOp, Content, Field, LookInside, OnLeak};
use cordon_wire::REQUEST_ID;
use fields::Cuts;
use http::header::{ACCEPT_RANGES, CONTENT_ENCODING, ETAG, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use std::fmt;

/// How an answer is judged.
#[derive(Debug)]
pub struct Rules<'r> {
    /// What to do with a card number that was not revealed by this request.
    pub on_leak: OnLeak,
    /// And with one that an encoding hides.
    pub inside: LookInside,
    /// The numbers that were.
    pub echoes: &'r Echoes,
    /// Look into pictures and the like as well: the answer comes from somebody who was given card numbers.
    pub from_outside: bool,
    /// Types that the route's fields of answers are in.
    pub declared: &'r [Content],
}

/// The types in which the fields of an answer may stand.
#[must_use]
pub fn declared_types(fields: &[Field<AnswerOp>]) -> Vec<Content> {
    let in_one = |content: &Content| fields.iter().any(|field| field.places.stand_in(*content));
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
    Ok(answer)
}

/// What the route's fields ask of an answer; `None` when it has none.
///
/// # Errors
/// [`Fault::UpstreamRefused`] for one that cannot be read.
pub fn cuts(answer: &Answer, fields: &Fields<AnswerOp>, declared: &[Content]) -> Result<Option<Cuts>, Fault> {
    if fields.is_empty() {
        return Ok(None);
    }
    let kind = media::of_answer(&answer.headers, declared).map_err(|_unknown| NOT_INSPECTABLE)?;
    let format = match kind {
        Kind::Structured(format) if !answer.body.is_empty() => Some(format),
        Kind::Structured(_) | Kind::Text | Kind::Opaque => None,
    };
    Cuts::find(answer, format.as_ref(), fields).map(Some).map_err(|_not_read| NOT_INSPECTABLE)
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
    masked: bool,
    inside: bool,
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

    /// Whether card numbers were masked in it.
    #[must_use]
    pub const fn masked(&self) -> bool {
        self.masked
    }

    /// Whether a card number inside an encoding is to be reported.
    #[must_use]
    pub const fn reports(&self) -> bool {
        self.inside
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
    let mut search = Search::new(rules.inside);
    search.look_at_headers(&headers);
    if search.found().is_some() || headers.values().any(|value| echoed(value.as_bytes())) {
        return Err(Fault::AnswerLeak);
    }
    let kind = media::of_answer(&headers, rules.declared).map_err(|_unknown| NOT_INSPECTABLE)?;
    if echoed(&body) {
        return Err(Fault::AnswerLeak);
    }
    match &kind {
        _ if body.is_empty() => {}
        Kind::Structured(format) => look_through(&mut search, format, &body, rules.echoes)?,
        Kind::Text => search.look(Place::Body, &body),
        Kind::Opaque if rules.from_outside => search.look(Place::Body, &body),
        Kind::Opaque => {}
    }
    let inside = search.reports();
    match (search.found(), kind, rules.on_leak) {
        (None, _, _) => Ok(Screened { status, headers, body: shared(body), masked: false, inside }),
        (Some(Place::Body), Kind::Structured(format), OnLeak::Mask) => {
            let body = leak::mask(&format, &body, rules.inside).map_err(|_left| Fault::AnswerLeak)?;
            forget_bytes(&mut headers);
            Ok(Screened { status, headers, body: shared(body.into_inner()), masked: true, inside })
        }
        (Some(_), Kind::Structured(_) | Kind::Text | Kind::Opaque, _) => Err(Fault::AnswerLeak),
    }
}

/// Wiped with its last copy.
fn shared(body: WipedBytes) -> Bytes {
    Bytes::from_owner(body)
}

/// Looks at the decoded keys and values as well as at the bytes.
fn look_through(search: &mut Search, format: &Format, body: &[u8], echoes: &Echoes) -> Result<(), Fault> {
    let mut echoed = false;
    let mut heard = |text: &str| {
        search.look(Place::Body, text.as_bytes());
        echoed = echoed || echoes.stands_in(text.as_bytes());
    };
    let declared = body::Declared::default();
    body::locate(format, body, &declared, &mut heard).map_err(|_not_read| NOT_INSPECTABLE)?;
    search.look(Place::Body, body);
    if echoed { Err(Fault::AnswerLeak) } else { Ok(()) }
}

const NOT_INSPECTABLE: Fault = Fault::UpstreamRefused("upstream-refused.not-inspectable");

#[cfg(test)]
mod tests;
