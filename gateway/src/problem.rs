//! Every way a request can be refused, and what the caller, the audit log and the metrics are told about it.
//!
//! Must never carry text of a request: details are names from the bundle and fixed words. The one place where a
//! refusal becomes an HTTP answer. Tests: here.

use crate::body::BodyError;
use crate::coding::CodingError;
use crate::leak::Place;
use crate::media::Uninspectable;
use crate::route::Ambiguous;
use cordon_audit::{Name, Outcome};
use cordon_client::ClientError;
use cordon_daemon::Body;
use cordon_daemon::body;
use cordon_wire::{ERROR, PROBLEM_JSON, Problem, ProblemCode, REQUEST_ID};
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

/// Why nothing was forwarded, or nothing of an answer passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The host, the target or the framing can be read in more than one way. Client.
    #[error("the request is not well formed")]
    Malformed(&'static str),
    /// No route is declared. Client.
    #[error("no route is declared for it")]
    UnknownRoute,
    /// The path is declared with these methods only. Client.
    #[error("the method is not declared for it")]
    MethodNotAllowed(Vec<String>),
    /// It expects something other than `100-continue`. Client.
    #[error("it expects what cannot be met")]
    Expectation,
    /// The content type, encoding or charset cannot be inspected. Client.
    #[error("it cannot be inspected")]
    Unsupported,
    /// The body is too large for the route. Client.
    #[error("the body is too large")]
    TooLarge,
    /// The body did not arrive in time. Client.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// More cards than one call to the vault takes. Client.
    #[error("too many cards")]
    TooManyCards,
    /// A declared field cannot be used, for this reason. Client.
    #[error("field {field} cannot be used: {}", code.as_str())]
    Field {
        /// The reason: ours, or the vault's for this item.
        code: ProblemCode,
        /// The field as the bundle names it.
        field: String,
    },
    /// A card number stands outside the declared fields. Client.
    #[error("a card number stands outside the declared fields")]
    Leak(Place),
    /// The caller's certificate names no service. Client.
    #[error("the caller is no known service")]
    Unauthenticated,
    /// The route is not for this service. Client.
    #[error("the route is not for this service")]
    NotYours,
    /// The service may not send cards there. Client.
    #[error("the destination is not listed for this service")]
    DestinationNotAllowed,
    /// The policy refused, with this code. Client.
    #[error("the policy refused: {0}")]
    Denied(&'static str),
    /// A request with this idempotency key is being carried out. Client.
    #[error("a request with this idempotency key is being carried out")]
    InFlight,
    /// The idempotency key was used for another request. Client.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// A request with this idempotency key was sent, and nobody knows what came of it. Client.
    #[error("nobody knows what came of the request with this idempotency key")]
    OutcomeUnknown,
    /// The service's room for outcomes is used up. Client.
    #[error("the room for outcomes is used up")]
    Busy,
    /// There is no room for it now, for this reason. Client.
    #[error("there is no room for it now: {0}")]
    Shed(&'static str),
    /// The upstream did not answer of late; these are the seconds until it is tried again. Operator.
    #[error("the upstream did not answer of late")]
    CircuitOpen(u64),
    /// An abuse rule stops it. Client.
    #[error("an abuse rule stops it")]
    TooManyAttempts {
        /// The rule.
        rule: Name,
        /// After how many quiet seconds the rule certainly lets it pass.
        wait_s: u64,
    },
    /// An abuse rule wants to see a proof first. Client.
    #[error("an abuse rule wants to see a proof first")]
    ChallengeRequired {
        /// The rule.
        rule: Name,
        /// What the proof must be bound to, in the bundle's words.
        bound_to: String,
    },
    /// The vault cannot serve, for this reason. Operator.
    #[error("the vault cannot serve: {0}")]
    Vault(&'static str),
    /// A limit of the vault is reached, for the gateway or for the service it acts for. Client.
    #[error("a limit of the vault is reached")]
    Limited,
    /// The upstream cannot be reached securely, for this reason. Operator.
    #[error("the upstream cannot be reached: {0}")]
    Unreachable(&'static str),
    /// The upstream did not answer in time. Operator.
    #[error("the upstream did not answer in time")]
    UpstreamTimeout,
    /// A card number stands in the upstream's answer. Upstream.
    #[error("a card number stands in the upstream's answer")]
    AnswerLeak,
    /// The upstream's answer may not be passed on, for this reason. Upstream.
    #[error("the upstream's answer may not be passed on: {0}")]
    UpstreamRefused(&'static str),
    /// The decision could not be made durable. Operator.
    #[error("the decision could not be recorded")]
    Audit,
    /// A defect of ours.
    #[error("internal: {0}")]
    Internal(&'static str),
}

impl Fault {
    /// The stable code of the problem document.
    #[must_use]
    pub const fn code(&self) -> ProblemCode {
        match self {
            Self::Malformed(_) | Self::TooSlow => ProblemCode::Malformed,
            Self::UnknownRoute => ProblemCode::UnknownRoute,
            Self::MethodNotAllowed(_) => ProblemCode::MethodNotAllowed,
            Self::Expectation => ProblemCode::ExpectationFailed,
            Self::Unsupported => ProblemCode::Unsupported,
            Self::TooLarge => ProblemCode::TooLarge,
            Self::TooManyCards => ProblemCode::TooManyItems,
            Self::Field { code, .. } => *code,
            Self::Leak(_) => ProblemCode::LeakBlocked,
            Self::Unauthenticated => ProblemCode::Unauthenticated,
            Self::NotYours | Self::Denied(_) => ProblemCode::Denied,
            Self::DestinationNotAllowed => ProblemCode::DestinationNotAllowed,
            Self::InFlight => ProblemCode::RequestInFlight,
            Self::KeyReused => ProblemCode::IdempotencyMismatch,
            Self::OutcomeUnknown => ProblemCode::OutcomeUnknown,
            Self::Busy | Self::Shed(_) => ProblemCode::Busy,
            Self::TooManyAttempts { .. } => ProblemCode::TooManyAttempts,
            Self::ChallengeRequired { .. } => ProblemCode::ChallengeRequired,
            Self::Vault(_) => ProblemCode::VaultUnavailable,
            Self::Limited => ProblemCode::LimitReached,
            Self::Unreachable(_) | Self::CircuitOpen(_) => ProblemCode::UpstreamUnavailable,
            Self::UpstreamTimeout => ProblemCode::UpstreamTimeout,
            Self::AnswerLeak | Self::UpstreamRefused(_) => ProblemCode::UpstreamRefused,
            Self::Audit => ProblemCode::AuditUnavailable,
            Self::Internal(_) => ProblemCode::Internal,
        }
    }

    /// Where it is or why, in words of the bundle or of this program.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Malformed(part) => Some(part),
            Self::Field { field, .. } => Some(field),
            Self::Leak(place) => Some(place.as_str()),
            Self::TooSlow => Some("body"),
            Self::ChallengeRequired { bound_to, .. } => Some(bound_to),
            Self::UnknownRoute
            | Self::MethodNotAllowed(_)
            | Self::Expectation
            | Self::Unsupported
            | Self::TooLarge
            | Self::TooManyCards
            | Self::Unauthenticated
            | Self::NotYours
            | Self::DestinationNotAllowed
            | Self::Denied(_)
            | Self::InFlight
            | Self::KeyReused
            | Self::OutcomeUnknown
            | Self::Busy
            | Self::Shed(_)
            | Self::CircuitOpen(_)
            | Self::TooManyAttempts { .. }
            | Self::Limited
            | Self::Vault(_)
            | Self::Unreachable(_)
            | Self::UpstreamTimeout
            | Self::AnswerLeak
            | Self::UpstreamRefused(_)
            | Self::Audit
            | Self::Internal(_) => None,
        }
    }

    /// The reason on the audit line: the problem's code, and after a point what only an operator may know.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Denied(reason)
            | Self::Shed(reason)
            | Self::Vault(reason)
            | Self::Unreachable(reason)
            | Self::UpstreamRefused(reason)
            | Self::Internal(reason) => reason,
            Self::CircuitOpen(_) => "upstream-unavailable.circuit-open",
            Self::NotYours => "denied.route-of-another-service",
            Self::TooSlow => "malformed.body-too-slow",
            Self::Leak(Place::Body) => "leak-blocked.body",
            Self::Leak(Place::Header) => "leak-blocked.header",
            Self::Leak(Place::Path) => "leak-blocked.path",
            Self::Leak(Place::Query) => "leak-blocked.query",
            Self::Leak(Place::Inside) => "leak-blocked.inside",
            Self::AnswerLeak => "upstream-refused.card-number",
            Self::Malformed(_)
            | Self::UnknownRoute
            | Self::MethodNotAllowed(_)
            | Self::Expectation
            | Self::Unsupported
            | Self::TooLarge
            | Self::TooManyCards
            | Self::Field { .. }
            | Self::Unauthenticated
            | Self::DestinationNotAllowed
            | Self::InFlight
            | Self::KeyReused
            | Self::OutcomeUnknown
            | Self::Busy
            | Self::TooManyAttempts { .. }
            | Self::ChallengeRequired { .. }
            | Self::Limited
            | Self::UpstreamTimeout
            | Self::Audit => self.code().as_str(),
        }
    }

    /// Whether it was refused, with nothing sent, or was sent and did not succeed.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Unreachable(_) | Self::UpstreamTimeout | Self::UpstreamRefused(_) => Outcome::Failed,
            Self::Malformed(_)
            | Self::UnknownRoute
            | Self::MethodNotAllowed(_)
            | Self::Expectation
            | Self::Unsupported
            | Self::TooLarge
            | Self::TooSlow
            | Self::TooManyCards
            | Self::Field { .. }
            | Self::Leak(_)
            | Self::AnswerLeak
            | Self::Unauthenticated
            | Self::NotYours
            | Self::DestinationNotAllowed
            | Self::Denied(_)
            | Self::InFlight
            | Self::KeyReused
            | Self::OutcomeUnknown
            | Self::Busy
            | Self::Shed(_)
            | Self::CircuitOpen(_)
            | Self::TooManyAttempts { .. }
            | Self::ChallengeRequired { .. }
            | Self::Limited
            | Self::Vault(_)
            | Self::Audit
            | Self::Internal(_) => Outcome::Denied,
        }
    }

    /// Where a card number was found, if that is why.
    #[must_use]
    pub fn leaked_at(&self) -> Option<&'static str> {
        match self {
            Self::Leak(place) => Some(place.as_str()),
            Self::AnswerLeak => Some("answer"),
            _ => None,
        }
    }

    /// Whether what follows on the connection may be of another protocol, or was meant for another reader (HTTP/1.1 only;
    /// HTTP/2 has its streams).
    const fn ends_connection(&self) -> bool {
        matches!(self, Self::Malformed(part) if !part.eq_ignore_ascii_case("body"))
    }

    /// The answer: a problem document (RFC 9457) that holds nothing of the request but its id.
    #[must_use]
    pub fn response(&self, request_id: &str) -> Response<Body> {
        let problem = Problem::new(self.code(), request_id, self.detail().map(str::to_owned));
        let text = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(body::full(text));
        *response.status_mut() =
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(ERROR, HeaderValue::from_static(self.code().as_str()));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(REQUEST_ID, id);
        }
        if let Self::MethodNotAllowed(methods) = self
            && let Ok(methods) = HeaderValue::from_str(&methods.join(", "))
        {
            headers.insert(ALLOW, methods);
        }
        if self.ends_connection() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let busy = matches!(self, Self::InFlight | Self::Busy | Self::Shed(_));
        if let Self::CircuitOpen(seconds) = self {
            headers.insert(RETRY_AFTER, HeaderValue::from(*seconds));
        } else if busy || problem.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Self::TooManyAttempts { wait_s, .. } = self {
            headers.insert(RETRY_AFTER, HeaderValue::from(*wait_s));
        }
        response
    }

    /// The abuse rule that refused, if that is why.
    #[must_use]
    pub const fn abuse_rule(&self) -> Option<&Name> {
        match self {
            Self::TooManyAttempts { rule, .. } | Self::ChallengeRequired { rule, .. } => Some(rule),
            _ => None,
        }
    }

    /// What a failed call to the vault means. Nothing of it is the vault's own text.
    #[must_use]
    pub fn of_vault(error: &ClientError) -> Self {
        match error {
            ClientError::Problem(problem) => Self::of_vault_code(problem.code),
            ClientError::Unreachable(_) => Self::Vault("vault-unavailable.unreachable"),
            ClientError::TimedOut => Self::Vault("vault-unavailable.timed-out"),
            ClientError::Malformed => Self::Vault("vault-unavailable.answer-not-understood"),
            ClientError::Configuration(_) => Self::Vault("vault-unavailable.client-configuration"),
            // The client's list may grow: what is not known yet is a vault that cannot serve.
            _ => Self::Vault("vault-unavailable.other"),
        }
    }

    const fn of_vault_code(code: ProblemCode) -> Self {
        match code {
            ProblemCode::Sealed | ProblemCode::NotInitialized => Self::Vault("vault-unavailable.sealed"),
            ProblemCode::RestoreNotAccepted => Self::Vault("vault-unavailable.restore-not-accepted"),
            ProblemCode::Denied | ProblemCode::Unauthenticated | ProblemCode::DestinationNotAllowed => {
                Self::Denied("denied.by-vault")
            }
            ProblemCode::UnknownCollection => Self::Vault("vault-unavailable.unknown-collection"),
            ProblemCode::LimitReached => Self::Limited,
            ProblemCode::Busy => Self::Vault("vault-unavailable.busy"),
            ProblemCode::StoreUnavailable => Self::Vault("vault-unavailable.store"),
            ProblemCode::AuditUnavailable => Self::Vault("vault-unavailable.audit"),
            _ => Self::Vault("vault-unavailable.refused"),
        }
    }
}

impl From<Ambiguous> for Fault {
    fn from(_: Ambiguous) -> Self {
        Self::Malformed("target")
    }
}

impl From<Uninspectable> for Fault {
    fn from(_: Uninspectable) -> Self {
        Self::Unsupported
    }
}

impl From<CodingError> for Fault {
    fn from(error: CodingError) -> Self {
        match error {
            CodingError::Unknown => Self::Unsupported,
            CodingError::Malformed => Self::Malformed("content-encoding"),
            CodingError::TooLarge => Self::TooLarge,
        }
    }
}

impl Fault {
    /// A body that was not understood; `label` names a field of the route.
    pub(crate) fn of_body(error: BodyError, label: impl FnOnce(usize) -> String) -> Self {
        match error {
            BodyError::Malformed => Self::Malformed("body"),
            BodyError::Uninspectable => Self::Unsupported,
            BodyError::Field(field) => Self::Field { code: ProblemCode::BadField, field: label(field) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    fn read(response: Response<Body>) -> (http::response::Parts, Problem) {
        let (parts, body) = response.into_parts();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bytes = runtime.block_on(body.collect()).unwrap().to_bytes();
        (parts, serde_json::from_slice(&bytes).unwrap())
    }

    #[test]
    fn a_refusal_is_a_problem_document_with_the_request_id() {
        let (parts, problem) = read(Fault::Leak(Place::Query).response("req_X"));
        assert_eq!(parts.status, 422);
        assert_eq!(parts.headers.get("content-type").unwrap(), "application/problem+json");
        assert_eq!(parts.headers.get("cordon-request-id").unwrap(), "req_X");
        assert_eq!(parts.headers.get("cordon-error").unwrap(), "leak-blocked");
        assert_eq!(problem.kind, "https://cordon.invalid/problems/leak-blocked");
        assert_eq!(
            (problem.detail.as_deref(), problem.instance.as_str()),
            (Some("query"), "urn:cordon:request:req_X")
        );
    }

    #[test]
    fn a_method_refusal_says_which_methods_there_are() {
        let (parts, _) =
            read(Fault::MethodNotAllowed(vec!["GET".to_owned(), "POST".to_owned()]).response("r"));
        assert_eq!(
            (parts.status.as_u16(), parts.headers.get("allow").unwrap().to_str().unwrap()),
            (405, "GET, POST")
        );
    }

    #[test]
    fn a_head_that_reads_in_two_ways_ends_the_connection_and_a_bad_body_does_not() {
        for (part, ends) in [("target", true), ("upgrade", true), ("length", true), ("body", false)] {
            let (parts, _) = read(Fault::Malformed(part).response("r"));
            assert_eq!(parts.headers.get("connection").is_some(), ends, "{part}");
        }
    }

    #[test]
    fn every_vault_failure_is_503_and_may_be_retried() {
        let sealed = ClientError::Problem(Box::new(Problem::new(ProblemCode::Sealed, "theirs", None)));
        for error in [ClientError::Unreachable("x"), ClientError::TimedOut, ClientError::Malformed, sealed] {
            let (parts, problem) = read(Fault::of_vault(&error).response("ours"));
            assert_eq!(parts.status, 503);
            assert_eq!(problem.code, ProblemCode::VaultUnavailable);
            assert!(parts.headers.contains_key("retry-after") && !problem.instance.contains("theirs"));
        }
    }

    #[test]
    fn a_limit_of_the_vault_is_the_callers_and_429() {
        let limit = ClientError::Problem(Box::new(Problem::new(ProblemCode::LimitReached, "theirs", None)));
        let (parts, problem) = read(Fault::of_vault(&limit).response("ours"));
        assert_eq!((parts.status.as_u16(), problem.code), (429, ProblemCode::LimitReached));
    }

    #[test]
    fn what_an_operator_may_know_stays_out_of_the_answer() {
        let (_, problem) =
            read(Fault::Unreachable("upstream-unavailable.certificate-not-trusted").response("r"));
        assert_eq!((problem.code, problem.detail), (ProblemCode::UpstreamUnavailable, None));
    }
}
