//! The upstream's answer on its way back: scanned whole before the caller sees a byte of it.
//!
//! Must never pass on a card number that was just revealed, in any form, nor an answer that cannot be inspected
//! (threat B26). Tests: `answer/tests.rs`.

use crate::body::{self, Declared};
use crate::head;
use crate::leak::{self, echo::Echoes};
use crate::media::{self, Answer as Kind};
use crate::problem::Fault;
use crate::upstream::Answer;
use bytes::Bytes;
use cordon_daemon::Body;
use cordon_daemon::body::{WipedBytes, full};
use cordon_policy::{Content, OnLeak};
use cordon_wire::REQUEST_ID;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use std::fmt;

/// How an answer is judged.
#[derive(Debug)]
pub struct Rules<'r> {
    /// What to do with a card number that was not revealed by this request.
    pub on_leak: OnLeak,
    /// The numbers that were.
    pub echoes: &'r Echoes,
    /// Look into pictures and the like as well: the answer comes from somebody who was given card numbers.
    pub from_outside: bool,
}

/// An answer that may be passed on. A copy shares the body, which is wiped with the last of them.
#[derive(Clone)]
pub struct Screened {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    masked: bool,
}

impl fmt::Debug for Screened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screened").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Screened {
    /// Whether card numbers were masked in it.
    #[must_use]
    pub const fn masked(&self) -> bool {
        self.masked
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

/// Scans headers and body.
///
/// # Errors
/// [`Fault::AnswerLeak`] for a card number that is not masked, [`Fault::UpstreamRefused`] for an answer that cannot
/// be inspected.
pub fn screen(answer: Answer, rules: &Rules<'_>) -> Result<Screened, Fault> {
    let Answer { status, headers, body } = answer;
    let echoed = |bytes: &[u8]| rules.echoes.stands_in(bytes);
    if leak::in_headers(&headers) || headers.values().any(|value| echoed(value.as_bytes())) {
        return Err(Fault::AnswerLeak);
    }
    let pass = |body, masked| {
        let body = Bytes::from_owner::<WipedBytes>(body);
        Screened { status, headers: headers.clone(), body, masked }
    };
    let kind = media::of_answer(&headers).map_err(|_unknown| NOT_INSPECTABLE)?;
    if body.is_empty() {
        return Ok(pass(body, false));
    }
    if echoed(&body) {
        return Err(Fault::AnswerLeak);
    }
    let leaks = match kind {
        Kind::Structured(content) => in_structure(content, &body, rules.echoes)? || leak::in_bytes(&body),
        Kind::Text => leak::in_bytes(&body),
        Kind::Opaque => rules.from_outside && leak::in_bytes(&body),
    };
    match (leaks, kind, rules.on_leak) {
        (false, _, _) => Ok(pass(body, false)),
        (true, Kind::Structured(content), OnLeak::Mask) => {
            let masked = leak::mask(content, &body).map_err(|_left| Fault::AnswerLeak)?;
            Ok(pass(masked.into_inner(), true))
        }
        (true, Kind::Structured(_) | Kind::Text | Kind::Opaque, _) => Err(Fault::AnswerLeak),
    }
}

/// Whether a card number stands in the decoded keys and values.
fn in_structure(content: Content, bytes: &[u8], echoes: &Echoes) -> Result<bool, Fault> {
    let (mut leaks, mut echoed) = (false, false);
    let mut heard = |text: &str| {
        leaks = leaks || leak::in_text(text);
        echoed = echoed || echoes.stands_in(text.as_bytes());
    };
    body::locate(content, bytes, &Declared::default(), &mut heard).map_err(|_not_read| NOT_INSPECTABLE)?;
    if echoed { Err(Fault::AnswerLeak) } else { Ok(leaks) }
}

const NOT_INSPECTABLE: Fault = Fault::UpstreamRefused("upstream-refused.not-inspectable");

#[cfg(test)]
mod tests;
