//! Problem documents (RFC 9457) and the one list of stable codes that both daemons answer with.
//! Must never carry text that came from a request. Tests: `crates/wire/tests/golden.rs`.

use serde::{Deserialize, Serialize};

/// Every way a call or an item of it can be refused. The code is stable; the title may be reworded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ProblemCode {
    /// The body or a parameter is not what the call takes.
    Malformed,
    /// The body is larger than the call takes.
    TooLarge,
    /// More items than one call takes.
    TooManyItems,
    /// The content type, encoding or charset cannot be inspected on this route.
    Unsupported,
    /// No such call, or no such route: everything undeclared is refused.
    UnknownRoute,
    /// The method is not declared for this path.
    MethodNotAllowed,
    /// The request expects something other than `100-continue` (RFC 9110 section 10.1.1).
    ExpectationFailed,
    /// The caller showed no certificate that names a known service.
    Unauthenticated,
    /// The policy does not allow this.
    Denied,
    /// The destination is not listed for this service.
    DestinationNotAllowed,
    /// A card number stands where none is declared.
    LeakBlocked,
    /// A declared field is missing, repeated or unreadable.
    BadField,
    /// A card number that is not one (length, digits or check digit).
    BadPan,
    /// An expiry that is not a month of a year.
    BadExpiry,
    /// A security code that is not 3 or 4 digits.
    BadCvv,
    /// Text that is not a token of this environment.
    BadToken,
    /// No such token in this collection for this caller (unknown, foreign, expired and deleted look alike).
    TokenNotFound,
    /// The single-use token was already given out.
    Gone,
    /// No security code is held for the token: given out, wiped, expired and never held look alike.
    CodeGone,
    /// Too much metadata on one card.
    MetadataTooLarge,
    /// A metadata key that names sensitive authentication data (PCI DSS 3.3.1).
    MetadataForbidden,
    /// No such collection.
    UnknownCollection,
    /// The name is taken.
    Conflict,
    /// The vault has not been initialised.
    NotInitialized,
    /// The vault is sealed: custodians must unseal it.
    Sealed,
    /// A backup was put back that two custodians have to accept before anything is served from it.
    RestoreNotAccepted,
    /// Two custodians must approve this operation first.
    ApprovalRequired,
    /// The custodian has not acknowledged the duties.
    NotAcknowledged,
    /// The caller was a custodian of this vault, or never one, and is none now.
    NotACustodian,
    /// The share is not one of this vault's current shares.
    BadShare,
    /// The vault cannot be reached; nothing was forwarded.
    VaultUnavailable,
    /// The upstream or processor cannot be reached or its certificate is not trusted.
    UpstreamUnavailable,
    /// The upstream did not answer in time.
    UpstreamTimeout,
    /// What the upstream answered may not be passed on.
    UpstreamRefused,
    /// The decision could not be made durable in the audit log, so it was not carried out.
    AuditUnavailable,
    /// The store cannot take or give data.
    StoreUnavailable,
    /// The state or the cryptoperiod of a key does not allow it.
    KeyUnavailable,
    /// Too many requests; try again later.
    Busy,
    /// The same request, under this idempotency key, is being carried out.
    RequestInFlight,
    /// The idempotency key was used for another request.
    IdempotencyMismatch,
    /// The request was sent under this idempotency key, and nobody knows what came of it.
    OutcomeUnknown,
    /// Somebody tries too often: an abuse rule of the gateway stops it.
    TooManyAttempts,
    /// An abuse rule of the gateway wants a proof that a challenge was passed; the detail says what it is bound to.
    ChallengeRequired,
    /// The caller, or everybody for this range of card numbers, used up what a limit allows.
    LimitReached,
    /// A defect of ours: the request id finds it in the log.
    Internal,
}

impl ProblemCode {
    /// The stable code as it stands in the last part of the `type` URI.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// HTTP status the code is answered with.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.row().1
    }

    /// What happened, and what to do about it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.row().2
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one table of all codes: the compiler sees that none is missing"
    )]
    const fn row(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::Malformed => ("malformed", 400, "The request is not well formed for this call."),
            Self::TooLarge => ("too-large", 413, "The body is larger than this route takes."),
            Self::TooManyItems => ("too-many-items", 413, "Send at most 1,000 items in one call."),
            Self::Unsupported => {
                ("unsupported", 415, "This content type, encoding or charset can't be inspected here.")
            }
            Self::UnknownRoute => ("unknown-route", 404, "No route is declared for this request."),
            Self::MethodNotAllowed => {
                ("method-not-allowed", 405, "The method is not declared for this path.")
            }
            Self::ExpectationFailed => {
                ("expectation-failed", 417, "No expectation but `100-continue` can be met.")
            }
            Self::Unauthenticated => (
                "unauthenticated",
                401,
                "Show a client certificate that names a service of the policy bundle.",
            ),
            Self::Denied => ("denied", 403, "The policy does not allow this."),
            Self::DestinationNotAllowed => {
                ("destination-not-allowed", 403, "This service may not send cards to this destination.")
            }
            Self::LeakBlocked => (
                "leak-blocked",
                422,
                "A card number stands outside the declared fields; nothing was forwarded.",
            ),
            Self::BadField => ("bad-field", 422, "A declared field is missing, repeated or unreadable."),
            Self::BadPan => ("bad-pan", 422, "The card number is not valid."),
            Self::BadExpiry => ("bad-expiry", 422, "The expiry is not a month of a year."),
            Self::BadCvv => ("bad-cvv", 422, "The security code is not 3 or 4 digits."),
            Self::BadToken => ("bad-token", 422, "The token is not one of this environment."),
            Self::TokenNotFound => ("token-not-found", 404, "No such token for this caller."),
            Self::Gone => ("gone", 410, "It was given out once and is gone."),
            Self::CodeGone => (
                "code-gone",
                410,
                "No security code is held for this token: ask the cardholder for it again.",
            ),
            Self::MetadataTooLarge => ("metadata-too-large", 422, "The metadata exceeds 1 KiB."),
            Self::MetadataForbidden => (
                "metadata-forbidden",
                422,
                "Metadata can't hold a security code, track data or a PIN: send the code as `cvv`.",
            ),
            Self::UnknownCollection => ("unknown-collection", 404, "No such collection for this caller."),
            Self::Conflict => ("conflict", 409, "It exists already or was changed meanwhile."),
            Self::NotInitialized => {
                ("not-initialized", 503, "The vault is not initialised: run `cordon init`.")
            }
            Self::Sealed => ("sealed", 503, "The vault is sealed: custodians must run `cordon unseal`."),
            Self::RestoreNotAccepted => (
                "restore-not-accepted",
                503,
                "A backup was put back that is not known to be the newest: custodians must accept it first.",
            ),
            Self::ApprovalRequired => {
                ("approval-required", 403, "Two custodians must approve this first: see `cordon approvals`.")
            }
            Self::NotAcknowledged => (
                "not-acknowledged",
                403,
                "The custodian has not acknowledged the duties: `cordon custodians ack`.",
            ),
            Self::NotACustodian => {
                ("not-a-custodian", 403, "Only a present custodian of this vault may do this.")
            }
            Self::BadShare => ("bad-share", 422, "This is not a current share of this vault."),
            Self::VaultUnavailable => {
                ("vault-unavailable", 503, "The vault can't be reached; nothing was forwarded. Try again.")
            }
            Self::UpstreamUnavailable => {
                ("upstream-unavailable", 502, "The upstream can't be reached securely.")
            }
            Self::UpstreamTimeout => ("upstream-timeout", 504, "The upstream did not answer in time."),
            Self::UpstreamRefused => ("upstream-refused", 502, "The upstream's answer may not be passed on."),
            Self::TooManyAttempts => ("too-many-attempts", 429, "Too many attempts: try again later."),
            Self::ChallengeRequired => {
                ("challenge-required", 403, "Pass the challenge, then send the request again with its proof.")
            }
            Self::AuditUnavailable => {
                ("audit-unavailable", 503, "The decision can't be recorded, so it was not carried out.")
            }
            Self::StoreUnavailable => ("store-unavailable", 503, "The store can't serve this now."),
            Self::KeyUnavailable => (
                "key-unavailable",
                503,
                "A key is suspended, compromised or past its cryptoperiod; see `cordon keys list`.",
            ),
            Self::Busy => ("busy", 429, "Too many requests; try again later."),
            Self::RequestInFlight => (
                "request-in-flight",
                409,
                "A request with this idempotency key is being carried out; try again.",
            ),
            Self::IdempotencyMismatch => {
                ("idempotency-mismatch", 422, "This idempotency key was used for another request.")
            }
            Self::OutcomeUnknown => (
                "outcome-unknown",
                409,
                "It was sent, and no answer came: ask the destination what became of it.",
            ),
            Self::LimitReached => ("limit-reached", 429, "A limit is reached; try again when it is over."),
            Self::Internal => ("internal", 500, "An internal error; the request id finds it in the log."),
        }
    }
}

/// A problem document (RFC 9457): stable `type`, fixed `title`, and the request id as `instance`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `https://cordon.invalid/problems/<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Fixed text of the code.
    pub title: String,
    /// HTTP status, repeated.
    pub status: u16,
    /// The stable code alone, for programs.
    pub code: ProblemCode,
    /// Where in the request it is: a name from the policy bundle or the API, never a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// `urn:cordon:request:<id>`.
    pub instance: String,
}

impl Problem {
    /// The document for `code`. `detail` must come from the bundle or the API's own names, not from a request.
    #[must_use]
    pub fn new(code: ProblemCode, request_id: &str, detail: Option<String>) -> Self {
        Self {
            kind: format!("https://cordon.invalid/problems/{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            code,
            detail,
            instance: format!("urn:cordon:request:{request_id}"),
        }
    }
}

/// Why one item of a batch was refused; its neighbours are not affected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemProblem {
    /// The stable code.
    pub code: ProblemCode,
    /// HTTP status that a call with this item alone would have.
    pub status: u16,
    /// Fixed text of the code.
    pub title: String,
}

impl From<ProblemCode> for ItemProblem {
    fn from(code: ProblemCode) -> Self {
        Self { code, status: code.status(), title: code.title().to_owned() }
    }
}
