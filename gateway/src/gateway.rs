//! What both planes and all workers share: the plan in force, the audit log, the counters; and how a request ends.
//!
//! Must never keep anything of a request. Tests: the workspace's `tests` crate.

use crate::abuse::Guard;
use crate::admission::{Admission, LimitsConfig};
use crate::answer::fields::Cuts;
use crate::idempotency::Outcomes;
use crate::leak::budget::Budget;
use crate::leak::finding::Finding;
use crate::ledger::{Exchange, Ledger, Way};
use crate::metrics::{Metrics, Plane};
use crate::plan::Plan;
use crate::problem::Fault;
use crate::stream::spool::Spools;
use crate::upstream::breaker::BreakerConfig;
use crate::upstream::{Answer, Target};
use cordon_card::{CollectionName, Environment};
use cordon_client::Tokenizer;
use cordon_daemon::Body;
use cordon_daemon::body::discard;
use cordon_daemon::clock::{Clock, SystemClock};
use cordon_policy::Day;
use cordon_wire::{Items, Tokenized};
use hyper::body::{Body as _, Incoming};
use hyper::header::EXPECT;
use hyper::{HeaderMap, Response};
use jiff::Timestamp;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// The shared state of a running gateway.
#[derive(Debug)]
pub struct Gateway {
    in_force: RwLock<InForce>,
    /// The audit log.
    pub ledger: Ledger,
    /// The counters.
    pub metrics: Metrics,
    /// The environment whose tokens are taken.
    pub environment: Environment,
    /// What came of requests that carry an idempotency key.
    pub outcomes: Arc<Outcomes>,
    /// How much is taken on at once.
    pub admission: Arc<Admission>,
    /// When a target that does not answer is left alone.
    breaker: BreakerConfig,
    /// How much each client may have the vault asked about.
    pub budget: Budget,
    /// How often who tried.
    pub abuse: Arc<Guard>,
    /// Where bodies wait that are not held whole.
    pub spools: Arc<Spools>,
    clock: SystemClock,
}

/// What bounds how much is kept and taken on.
#[derive(Debug)]
pub struct Bounds {
    /// Room for what came of requests that carry an idempotency key.
    pub outcomes: Arc<Outcomes>,
    /// How often who tried.
    pub abuse: Arc<Guard>,
    /// How much each client may have the vault asked about.
    pub budget: Budget,
    /// How much is taken on at once.
    pub limits: LimitsConfig,
    /// When a target that does not answer is left alone.
    pub breaker: BreakerConfig,
    /// Where bodies wait that are not held whole.
    pub spools: Arc<Spools>,
}

/// A plan and since when it is in force.
#[derive(Debug, Clone)]
struct InForce {
    plan: Arc<Plan>,
    since: Timestamp,
}

impl Gateway {
    /// A gateway that serves this plan.
    #[must_use]
    pub fn new(
        plan: Plan,
        ledger: Ledger,
        metrics: Metrics,
        environment: Environment,
        bounds: Bounds,
    ) -> Self {
        let clock = SystemClock::new();
        let in_force = RwLock::new(InForce { plan: Arc::new(plan), since: clock.now() });
        let Bounds { outcomes, abuse, budget, limits, breaker, spools } = bounds;
        let admission = Admission::new(limits);
        Self {
            in_force,
            ledger,
            metrics,
            environment,
            outcomes,
            abuse,
            budget,
            admission,
            breaker,
            spools,
            clock,
        }
    }

    /// The plan in force. A request keeps the one it began with.
    #[must_use]
    pub fn plan(&self) -> Arc<Plan> {
        self.in_force().plan
    }

    /// Since when it is in force.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.in_force().since
    }

    fn in_force(&self) -> InForce {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another plan in force, whole, for requests that begin from now on.
    pub fn replace_plan(&self, plan: Plan) {
        let next = InForce { plan: Arc::new(plan), since: self.clock.now() };
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// Whether a target is asked: before the vault is, since nobody would get what it gives.
    ///
    /// # Errors
    /// [`Fault::CircuitOpen`].
    pub fn admits(&self, target: &Arc<Target>) -> Result<Asking<'_>, Fault> {
        let wait = |left: Duration| Fault::CircuitOpen(left.as_secs().saturating_add(1));
        target.breaker().admit(self.monotonic(), self.breaker).map_err(wait)?;
        Ok(Asking { gateway: self, target: Some(Arc::clone(target)) })
    }

    /// Time for measuring.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Wall time, in seconds since 1970, for who is told when something was sent.
    #[must_use]
    pub fn seconds(&self) -> i64 {
        self.clock.now().as_second()
    }

    /// The day, by which what is allowed for a time only is judged.
    #[must_use]
    pub fn today(&self) -> Day {
        Day::at(self.seconds())
    }

    /// Records what was found in a message and does not stop it.
    ///
    /// # Errors
    /// [`Fault::Audit`]: the message must not be passed on.
    pub async fn note(
        &self,
        plane: Plane,
        exchange: &Exchange,
        way: Way<'_>,
        findings: &[Finding],
    ) -> Result<(), Fault> {
        for finding in findings {
            self.metrics.leaked(plane, finding.place, finding.outcome);
            let _recorded = self.ledger.finds(exchange, way, finding.reason).await?;
        }
        Ok(())
    }

    /// Counts a call to the vault that began then.
    pub fn called_vault(&self, plane: Plane, exchange: &Exchange, began: Duration) {
        let took = self.monotonic().saturating_sub(began);
        self.metrics.called_vault(plane, took);
        exchange.told.vault_took(took);
    }

    /// One call to the vault for all card numbers of an answer, or none.
    ///
    /// # Errors
    /// As the vault's refusal, or more cards than it takes in one call.
    pub async fn tokenize(
        &self,
        plane: Plane,
        exchange: &Exchange,
        cuts: &Cuts,
        (vault, collection): (&Tokenizer, &CollectionName),
    ) -> Result<Option<Items<Tokenized>>, Fault> {
        let Some(request) = cuts.request()? else { return Ok(None) };
        let _turn = self.admission.turn().await?;
        let began = self.monotonic();
        let vault = vault.for_request(&exchange.id, &exchange.trace);
        let answer = vault.tokenize(collection, request).await;
        self.called_vault(plane, exchange, began);
        answer.map(Some).map_err(|error| Fault::of_vault(&error))
    }

    /// Ends a request: counts it, and turns a fault into its recorded refusal.
    pub async fn conclude(
        &self,
        request: Ending<'_>,
        incoming: &mut Incoming,
        result: Result<Response<Body>, Fault>,
    ) -> Response<Body> {
        let Ending { plane, exchange, way, headers, started } = request;
        let (mut response, outcome) = match result {
            Ok(response) => (response, "passed"),
            Err(fault) => {
                if let Some(place) = fault.leaked_at() {
                    self.metrics.leaked(plane, place, "denied");
                }
                // A refusal that cannot be recorded is answered as that.
                let fault = self.ledger.refuses(exchange, way, &fault).await.err().unwrap_or(fault);
                // Whoever waits for `100 Continue` has sent nothing yet.
                if !incoming.is_end_stream() && !headers.contains_key(EXPECT) {
                    discard(incoming).await;
                }
                tracing::info!(request = exchange.id, reason = fault.reason(), "refused");
                (fault.response(&exchange.id), fault.code().as_str())
            }
        };
        let took = self.monotonic().saturating_sub(started);
        self.metrics.answered(plane, way.route_name(), outcome, took);
        exchange.told.tell(way, took, response.headers_mut());
        response
    }
}

/// Leave to ask a target; one that is not used goes to the next request.
#[derive(Debug)]
pub struct Asking<'g> {
    gateway: &'g Gateway,
    target: Option<Arc<Target>>,
}

impl Asking<'_> {
    /// It was asked, and this came of it.
    pub fn learns(mut self, answer: &Result<Answer, Fault>) {
        let silent = matches!(answer, Err(Fault::Unreachable(_) | Fault::UpstreamTimeout));
        if let Some(target) = self.target.take() {
            target.breaker().ended(self.gateway.monotonic(), !silent, self.gateway.breaker);
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(target) = &self.target {
            target.breaker().unsent(self.gateway.monotonic());
        }
    }
}

/// A request that is about to end.
#[derive(Debug)]
pub struct Ending<'r> {
    /// Which side it came to.
    pub plane: Plane,
    /// As audit lines name it.
    pub exchange: &'r Exchange,
    /// Its route, if one was found.
    pub way: Way<'r>,
    /// Its headers as received.
    pub headers: &'r HeaderMap,
    /// When it began, by [`Gateway::monotonic`].
    pub started: Duration,
}
