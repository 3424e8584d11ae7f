//! What both planes and all workers share: the plan in force, the audit log, the counters; and how a request ends.
//!
//! Must never keep anything of a request. Tests: the workspace's `tests` crate.

use crate::abuse::Guard;
use crate::idempotency::Outcomes;
use crate::ledger::{Exchange, Ledger, Way};
use crate::metrics::{Metrics, Plane};
use crate::plan::Plan;
use crate::problem::Fault;
use cordon_card::Environment;
use cordon_daemon::Body;
use cordon_daemon::body::discard;
use cordon_daemon::clock::{Clock, SystemClock};
use hyper::body::{Body as _, Incoming};
use hyper::header::EXPECT;
use hyper::{HeaderMap, Response};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// The shared state of a running gateway.
#[derive(Debug)]
pub struct Gateway {
    plan: RwLock<Arc<Plan>>,
    /// The audit log.
    pub ledger: Ledger,
    /// The counters.
    pub metrics: Metrics,
    /// The environment whose tokens are taken.
    pub environment: Environment,
    /// What came of requests that carry an idempotency key.
    pub outcomes: Arc<Outcomes>,
    /// How often who tried.
    pub abuse: Arc<Guard>,
    clock: SystemClock,
}

impl Gateway {
    /// A gateway that serves this plan.
    #[must_use]
    pub fn new(
        plan: Plan,
        ledger: Ledger,
        metrics: Metrics,
        environment: Environment,
        (outcomes, abuse): (Arc<Outcomes>, Arc<Guard>),
    ) -> Self {
        let clock = SystemClock::new();
        Self { plan: RwLock::new(Arc::new(plan)), ledger, metrics, environment, outcomes, abuse, clock }
    }

    /// The plan in force. A request keeps the one it began with.
    #[must_use]
    pub fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another plan in force, whole, for requests that begin from now on.
    pub fn replace_plan(&self, plan: Plan) {
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(plan);
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

    /// Ends a request: counts it, and turns a fault into its recorded refusal.
    pub async fn conclude(
        &self,
        request: Ending<'_>,
        incoming: &mut Incoming,
        result: Result<Response<Body>, Fault>,
    ) -> Response<Body> {
        let Ending { plane, exchange, way, headers, started } = request;
        let (response, outcome) = match result {
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
        response
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
