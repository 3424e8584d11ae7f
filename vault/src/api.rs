//! The vault's API over HTTP: who calls, what is asked, may they, and the answer or a problem document.
//!
//! Must never answer without an audit line, read a body before the caller is known, or put request text into an
//! answer. Tests: `tests/tests/identity.rs`, `tests/tests/api.rs`.

use crate::error::VaultError;
use crate::store::Store;
use crate::vault::{Caller, Vault};
use cordon_audit::{Action, Name, Outcome};
use cordon_daemon::body::{self, Body, BodyError, WipedBytes, read_body};
use cordon_daemon::tls::Peer;
use cordon_policy::{Ask, Permit, RefusalKind, Service};
use cordon_wire::{PROBLEM_JSON, Problem, ProblemCode, REQUEST_ID};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::body::{Body as _, Incoming};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

pub mod admin;
pub mod data;
pub mod health;

/// A call that is authenticated but not yet decided.
#[derive(Debug)]
pub(crate) struct Call<'a, S> {
    vault: &'a Vault<S>,
    service: &'a Service,
    caller: Caller,
}

/// Why a call ended without an answer of its own: the action it was about, and the error.
pub(crate) struct Refused {
    action: Action,
    error: VaultError,
}

impl<'a, S: Store> Call<'a, S> {
    /// Resolves the peer's certificate to a service of the bundle.
    fn authenticate(
        vault: &'a Vault<S>,
        peer: &Peer,
        headers: &HeaderMap,
    ) -> Result<Self, (Caller, Refused)> {
        let uri = peer.uri.as_deref();
        let service = uri.and_then(|uri| vault.bundle().service_by_uri(uri));
        let who = service.map(|service| service.name.as_str()).or(uri).unwrap_or("no-identity");
        let caller = Caller {
            who: Name::parse_or_withhold(who),
            from: peer.address.ip(),
            request: request_id(headers),
        };
        match service {
            Some(service) => Ok(Self { vault, service, caller }),
            None => Err((caller, Refused::new(Action::Authenticate, ProblemCode::Unauthenticated))),
        }
    }

    /// Asks the policy. The ask starts with who calls from where; `narrow` adds what it is about.
    fn decide<A: cordon_policy::Action>(
        &self,
        action: Action,
        narrow: impl FnOnce(Ask<'a>) -> Ask<'a>,
    ) -> Result<Permit<A>, Refused> {
        let ask = narrow(Ask::new(&self.service.name, true, self.caller.from));
        self.vault.bundle().decide::<A>(&ask).map_err(|refusal| {
            tracing::info!(who = %self.caller.who, %refusal, "refused by policy");
            let code = match refusal.kind() {
                RefusalKind::UnknownName(cordon_policy::AskPart::Collection) => {
                    ProblemCode::UnknownCollection
                }
                _other => ProblemCode::Denied,
            };
            Refused::new(action, code)
        })
    }
}

impl Refused {
    pub(crate) fn new(action: Action, code: ProblemCode) -> Self {
        Self { action, error: VaultError::Refused(code) }
    }

    /// Binds an error to the action it stopped.
    pub(crate) fn of(action: Action) -> impl Fn(VaultError) -> Self {
        move |error| Self { action, error }
    }
}

/// Ends a refused call: one audit line, then the problem document. If the line cannot be made durable, that is the
/// problem the caller gets.
async fn refuse<S: Store>(vault: &Vault<S>, caller: &Caller, refused: Refused) -> Response<Body> {
    let code = refused.error.code();
    let outcome = match &refused.error {
        VaultError::Limited(reached) => {
            tracing::warn!(who = %caller.who, limit = reached.kind.as_str(), "a limit is reached");
            vault.metrics().limited(reached.kind, 1);
            Outcome::Denied
        }
        VaultError::Refused(_) | VaultError::Explained(..) | VaultError::NotUnsealed(_) => Outcome::Denied,
        other => {
            tracing::error!(error = %other, request = %caller.request, "a call failed");
            Outcome::Failed
        }
    };
    let event = caller.event(refused.action, outcome).reason(refused.error.reason());
    let recorded =
        if may_be_a_flood(code) { vault.note_refusal(event).await } else { vault.note(event).await };
    match recorded {
        Ok(()) => {
            let mut response = problem(code, refused.error.detail(), caller);
            if let Some(seconds) = refused.error.retry_after() {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            response
        }
        Err(error) => problem(error.code(), None, caller),
    }
}

/// Whether anybody can provoke this refusal as often as they like, without having been allowed anything.
const fn may_be_a_flood(code: ProblemCode) -> bool {
    matches!(code, ProblemCode::Unauthenticated | ProblemCode::UnknownRoute | ProblemCode::MethodNotAllowed)
}

fn problem(code: ProblemCode, detail: Option<&str>, caller: &Caller) -> Response<Body> {
    let document = Problem::new(code, caller.request.as_str(), detail.map(str::to_owned));
    let text = serde_json::to_vec(&document).unwrap_or_default();
    let mut response = Response::new(body::full(text));
    *response.status_mut() = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    finish(&mut response, PROBLEM_JSON, caller);
    response
}

/// A JSON answer without a card number.
fn answer(value: &impl Serialize, caller: &Caller) -> Response<Body> {
    let mut text = WipedBytes::with_capacity(ANSWER_CAPACITY);
    if serde_json::to_writer(&mut text, value).is_err() {
        return problem(ProblemCode::Internal, None, caller);
    }
    let mut response = Response::new(body::wiped(text));
    finish(&mut response, "application/json", caller);
    response
}

/// An encrypted stream as answer.
fn stream(body: Body, caller: &Caller) -> Response<Body> {
    let mut response = Response::new(body);
    finish(&mut response, "application/octet-stream", caller);
    response
}

/// A JSON answer with card numbers in it. The HTTP library copies the first bytes of what it sends into a buffer that it keeps
/// while the connection is open: those are spaces (RFC 8259 section 2 allows them). The rest is sent as it is, and wiped.
fn card_answer(value: &impl Serialize, caller: &Caller) -> Response<Body> {
    let mut text = WipedBytes::with_capacity(COPIED + ANSWER_CAPACITY);
    text.extend_from_slice(&[b' '; COPIED]);
    if serde_json::to_writer(&mut text, value).is_err() {
        return problem(ProblemCode::Internal, None, caller);
    }
    let mut response = Response::new(body::wiped(text));
    finish(&mut response, "application/json", caller);
    response
}

fn finish(response: &mut Response<Body>, content: &'static str, caller: &Caller) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(caller.request.as_str()) {
        headers.insert(REQUEST_ID, value);
    }
}

/// The caller's request id if it is one, else a new one.
fn request_id(headers: &HeaderMap) -> Name {
    headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|text| text.len() <= LONGEST_REQUEST_ID)
        .and_then(|text| Name::parse(text).ok())
        .unwrap_or_else(|| Name::parse_or_withhold(&cordon_daemon::telemetry::RequestId::next().to_string()))
}

/// Takes what a refused request still sends, so that the refusal arrives. Who waits for `100 Continue` sends nothing.
async fn take_leave(body: &mut Incoming, headers: &HeaderMap) {
    if !body.is_end_stream() && !headers.contains_key(header::EXPECT) {
        body::discard(body).await;
    }
}

/// Reads and parses a JSON body within its limits.
async fn read_json<T: DeserializeOwned>(body: &mut Incoming, limit: usize) -> Result<T, ProblemCode> {
    let bytes = read_body(body, limit, BODY_DEADLINE).await.map_err(|error| match error {
        BodyError::TooLarge => ProblemCode::TooLarge,
        _timed_out_or_broken => ProblemCode::Malformed,
    })?;
    serde_json::from_slice(&bytes).map_err(|_json| ProblemCode::Malformed)
}

const BODY_DEADLINE: Duration = Duration::from_secs(10);
const ANSWER_CAPACITY: usize = 512;
/// The most that h2 copies: 256 bytes, or 1024 where writes are not vectored.
const COPIED: usize = 1024;
const LONGEST_REQUEST_ID: usize = 64;
