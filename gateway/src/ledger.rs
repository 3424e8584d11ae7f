//! The gateway's lines in the audit log: one for each decision, durable before its effect.
//!
//! Must never let a request pass whose line was refused. Tests: the workspace's `tests` crate.

use crate::abuse::{Did, Fired};
use crate::outcome::Outcome as Declared;
use crate::plan::{EgressPlan, IngressPlan};
use crate::problem::Fault;
use crate::told::Told;
use crate::trace::Trace;
use cordon_audit::{Action, AuditError, Event, Log, Name, Outcome, Receipt, SinkStatus};
use cordon_card::{Iin, Token};
use cordon_policy::{Decision, Forward, Permit, Send};
use cordon_wire::Tokenized;
use std::net::IpAddr;

/// One request, as its audit lines name it.
#[derive(Debug)]
pub struct Exchange {
    /// Its id, as text.
    pub id: String,
    /// Its id, for the log.
    pub name: Name,
    /// Who asked.
    pub who: Name,
    /// From where.
    pub source: IpAddr,
    /// The trace it is part of, as a `traceparent`.
    pub trace: String,
    /// What its caller is told beside the answer.
    pub told: Told,
}

impl Exchange {
    /// A request that just arrived.
    #[must_use]
    pub fn new(id: String, who: Name, source: IpAddr, trace: Trace) -> Self {
        let name = Name::parse_or_withhold(&id);
        Self { id, name, who, source, trace: trace.to_string(), told: Told::default() }
    }

    fn event(&self, what: Action, outcome: Outcome) -> Event {
        Event::new(what, outcome).who(&self.who).from(self.source).request_id(&self.name)
    }
}

/// A route as its audit lines name it.
#[derive(Debug, Clone, Copy)]
pub enum Way<'p> {
    /// No route was found on the way in.
    UnknownIn,
    /// No route was found on the way out.
    UnknownOut,
    /// This way in.
    In(&'p IngressPlan),
    /// This way out.
    Out(&'p EgressPlan),
}

impl<'p> Way<'p> {
    /// The route's name in the bundle, or `none`.
    #[must_use]
    pub fn route_name(self) -> &'p str {
        match self {
            Self::UnknownIn | Self::UnknownOut => "none",
            Self::In(plan) => &plan.route.name,
            Self::Out(plan) => &plan.route.name,
        }
    }

    /// What its answers say, where it declares that.
    #[must_use]
    pub fn outcome(self) -> Option<&'p Declared> {
        match self {
            Self::UnknownIn | Self::UnknownOut => None,
            Self::In(plan) => plan.outcome.as_ref(),
            Self::Out(plan) => plan.outcome.as_ref(),
        }
    }

    /// Who answers: a service's or a destination's name in the bundle.
    #[must_use]
    pub fn party(self) -> &'p str {
        match self {
            Self::UnknownIn | Self::UnknownOut => "none",
            Self::In(plan) => &plan.route.service,
            Self::Out(plan) => &plan.route.destination,
        }
    }

    const fn action(self) -> Action {
        match self {
            Self::UnknownIn | Self::In(_) => Action::Forward,
            Self::UnknownOut | Self::Out(_) => Action::Send,
        }
    }

    fn on(self, event: Event) -> Event {
        match self {
            Self::UnknownIn | Self::UnknownOut => event,
            Self::In(plan) => {
                event.route(&plan.name).acting_for(&plan.service).collection(&plan.route.collection)
            }
            Self::Out(plan) => event
                .route(&plan.name)
                .destination(&plan.destination)
                .purpose(&plan.purpose)
                .collection(&plan.route.collection),
        }
    }
}

/// Writes the lines.
#[derive(Debug, Clone)]
pub struct Ledger(Log);

impl Ledger {
    /// Writes to this log.
    #[must_use]
    pub const fn new(log: Log) -> Self {
        Self(log)
    }

    /// A request is about to be forwarded to a service.
    ///
    /// # Errors
    /// [`Fault::Audit`]: it must not be.
    pub async fn forwards(
        &self,
        exchange: &Exchange,
        plan: &IngressPlan,
        permit: &Permit<Forward>,
        tokens: &[Tokenized],
    ) -> Result<Receipt, Fault> {
        let event = Way::In(plan).on(exchange.event(Action::Forward, Outcome::Allowed));
        let event = event.tokens(tokens.iter().map(|tokenized| tokenized.token.clone()));
        self.append(event.statements(names(permit.statements()))).await
    }

    /// Cards of a body that is not held whole became tokens; nothing of it was forwarded so far.
    ///
    /// # Errors
    /// [`Fault::Audit`]: it must not be.
    pub async fn tokenizes(
        &self,
        exchange: &Exchange,
        plan: &IngressPlan,
        tokens: &[Tokenized],
    ) -> Result<Receipt, Fault> {
        let event = Way::In(plan).on(exchange.event(Action::Tokenize, Outcome::Allowed)).reason("piece");
        self.append(event.tokens(tokens.iter().map(|tokenized| tokenized.token.clone()))).await
    }

    /// Such a request is about to be forwarded; lines before name the tokens of its `cards`.
    ///
    /// # Errors
    /// [`Fault::Audit`]: it must not be.
    pub async fn forwards_long(
        &self,
        exchange: &Exchange,
        plan: &IngressPlan,
        permit: &Permit<Forward>,
        cards: u64,
    ) -> Result<Receipt, Fault> {
        let event = Way::In(plan).on(exchange.event(Action::Forward, Outcome::Allowed)).count(cards);
        self.append(event.statements(names(permit.statements()))).await
    }

    /// A request is about to be sent to a destination.
    ///
    /// # Errors
    /// [`Fault::Audit`]: it must not be.
    pub async fn sends(
        &self,
        exchange: &Exchange,
        plan: &EgressPlan,
        permit: &Permit<Send>,
        tokens: &[Token],
    ) -> Result<Receipt, Fault> {
        let event =
            Way::Out(plan).on(exchange.event(Action::Send, Outcome::Allowed)).tokens(tokens.iter().cloned());
        self.append(event.statements(names(permit.statements()))).await
    }

    /// A request is about to be shown to its caller in place of being sent.
    ///
    /// # Errors
    /// [`Fault::Audit`]: it must not be.
    pub async fn previews(
        &self,
        exchange: &Exchange,
        plan: &EgressPlan,
        tokens: &[Token],
    ) -> Result<Receipt, Fault> {
        let event = Way::Out(plan).on(exchange.event(Action::Send, Outcome::Allowed)).reason(DRY_RUN);
        self.append(event.tokens(tokens.iter().cloned())).await
    }

    /// A request was carried out before, under the same idempotency key, and its answer is about to be given again.
    ///
    /// # Errors
    /// [`Fault::Audit`]: it must not be.
    pub async fn replays(&self, exchange: &Exchange, plan: &EgressPlan) -> Result<Receipt, Fault> {
        self.append(Way::Out(plan).on(exchange.event(Action::Send, Outcome::Allowed)).reason(REPLAYED)).await
    }

    /// A request is about to be refused, or its answer is. What anybody can provoke as often as they like is counted in
    /// one line when it comes in numbers.
    ///
    /// # Errors
    /// [`Fault::Audit`]: that is then the refusal.
    pub async fn refuses(&self, exchange: &Exchange, way: Way<'_>, fault: &Fault) -> Result<(), Fault> {
        let action = match fault {
            Fault::Unauthenticated => Action::Authenticate,
            Fault::Leak(_) | Fault::AnswerLeak => Action::LeakFound,
            _ => way.action(),
        };
        let event = way.on(exchange.event(action, fault.outcome())).reason(fault.reason());
        let event = event.statements(fault.abuse_rule().cloned());
        match fault {
            Fault::Unauthenticated
            | Fault::UnknownRoute
            | Fault::MethodNotAllowed(_)
            | Fault::Expectation
            | Fault::Malformed(_)
            | Fault::Unsupported
            | Fault::TooLarge
            | Fault::TooSlow
            | Fault::TooManyAttempts { .. }
            | Fault::ChallengeRequired { .. } => {
                self.0.append_refusal(event).await.map(drop).map_err(unrecorded)
            }
            _ => self.append(event).await.map(drop),
        }
    }

    /// Attempts are beyond the limit of a rule, for the first time in its window.
    ///
    /// # Errors
    /// [`Fault::Audit`]: the attempt must not be passed on.
    pub async fn abuses(
        &self,
        exchange: &Exchange,
        way: &IngressPlan,
        fired: &Fired<'_>,
    ) -> Result<(), Fault> {
        let outcome = if fired.did.stops() { Outcome::Denied } else { Outcome::Allowed };
        let reason = match fired.did {
            Did::Reported => "abuse.reported",
            Did::Delayed => "abuse.delayed",
            Did::Proved => "abuse.proved",
            Did::Challenged => "abuse.challenged",
            Did::Denied => "abuse.denied",
        };
        let event = Way::In(way).on(exchange.event(Action::Abuse, outcome)).reason(reason);
        let event = event.statements([fired.rule.audit_name().clone()]);
        // Who comes from many places makes many such lines.
        match outcome {
            Outcome::Denied => self.0.append_refusal(event).await.map(drop).map_err(unrecorded),
            Outcome::Allowed | Outcome::Failed => self.append(event).await.map(drop),
        }
    }

    /// Card numbers were found outside the declared fields, and masked or only reported.
    ///
    /// # Errors
    /// [`Fault::Audit`]: the message must not be passed on.
    pub async fn finds(
        &self,
        exchange: &Exchange,
        way: Way<'_>,
        reason: &'static str,
    ) -> Result<Receipt, Fault> {
        self.append(way.on(exchange.event(Action::LeakFound, Outcome::Allowed)).reason(reason)).await
    }

    /// Card numbers in a destination's answer became tokens.
    ///
    /// # Errors
    /// [`Fault::Audit`]: the answer must not be passed on.
    pub async fn answers(
        &self,
        exchange: &Exchange,
        way: Way<'_>,
        tokens: &[Tokenized],
    ) -> Result<Receipt, Fault> {
        let event = way.on(exchange.event(Action::Tokenize, Outcome::Allowed)).reason("answer");
        self.append(event.tokens(tokens.iter().map(|tokenized| tokenized.token.clone()))).await
    }

    /// An answer said what became of a request. Nobody waits for the line: it reports what was done elsewhere, and keeps
    /// nothing from being done here.
    pub fn decides(&self, exchange: &Exchange, way: Way<'_>, decision: Decision, iins: &[Iin]) {
        let event = way.on(exchange.event(Action::Outcome, Outcome::Allowed)).iins(iins.iter().copied());
        let event = event.reason(decision.as_str());
        let log = self.0.clone();
        drop(tokio::spawn(async move {
            if let Err(error) = log.append(event).await {
                tracing::error!(%error, "an outcome could not be recorded");
            }
        }));
    }

    /// A connection did not get past its handshake (PCI DSS 10.2.1.4), or what it sent is no well-framed HTTP. There is
    /// nothing left to refuse, so a line that cannot be written is only logged.
    pub async fn refuses_connection(&self, what: Action, source: IpAddr, reason: &'static str) {
        let event = Event::new(what, Outcome::Denied).from(source).reason(reason);
        if self.0.append_refusal(event).await.is_err() {
            tracing::error!(reason, "a refused connection could not be recorded");
        }
    }

    /// Whether lines can be written.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        !self.0.is_refusing()
    }

    /// How copies of the log and events stand.
    pub fn sinks(&self) -> impl Iterator<Item = SinkStatus> {
        self.0.sinks().into_iter()
    }

    /// Whether an operator should look at the log.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        !self.0.degraded().is_empty()
    }

    async fn append(&self, event: Event) -> Result<Receipt, Fault> {
        self.0.append(event).await.map_err(unrecorded)
    }
}

/// Why a line of action `send` stands for nothing sent.
const DRY_RUN: &str = "dry-run";
/// The same.
const REPLAYED: &str = "replayed";

fn unrecorded(error: AuditError) -> Fault {
    tracing::error!(%error, "the audit log refused a line");
    Fault::Audit
}

fn names(statements: &[std::sync::Arc<str>]) -> impl Iterator<Item = Name> {
    statements.iter().map(|id| Name::parse_or_withhold(id))
}
