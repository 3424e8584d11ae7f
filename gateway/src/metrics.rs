//! What the gateway counts.
//!
//! Must never take a label from a request: planes, outcomes and places are fixed words, routes are the bundle's.
//! Tests: here.

mod outcomes;

use crate::abuse::Guard;
use crate::proxy::ca::{Authorities, Authority};
use cordon_audit::SinkStatus;
use cordon_daemon::metrics::{LATENCY_BUCKETS, Metrics as Registry};
use jiff::Timestamp;
pub use outcomes::Outcomes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;
use std::fmt;
use std::time::Duration;

/// The side of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Plane {
    /// Public requests to services.
    Ingress,
    /// Services' requests to destinations.
    Egress,
}

impl Plane {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    plane: &'static str,
    route: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LeakLabels {
    plane: &'static str,
    place: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CaLabels {
    ca: String,
    signs: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabels {
    number: usize,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlaneLabels {
    plane: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AbuseLabels {
    route: String,
    rule: String,
    action: &'static str,
}

type Latencies = Family<PlaneLabels, Histogram, fn() -> Histogram>;

/// The counters; clones share their values.
#[derive(Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    latency: Latencies,
    leaks: Family<LeakLabels, Counter>,
    vault: Latencies,
    audit_degraded: Gauge,
    sinks_behind: Family<SinkLabels, Gauge>,
    settled: Family<OutcomeLabels, Counter>,
    reloads: Family<OutcomeLabels, Counter>,
    proxy_ca: Family<CaLabels, Gauge>,
    /// Requests that were sent a second time.
    pub repeated: Counter,
    abuse: Family<AbuseLabels, Counter>,
    abuse_keys: Gauge,
    abuse_forgotten: Gauge,
    /// What answers said.
    pub outcomes: Outcomes,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Makes all of them and registers them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(LATENCY_BUCKETS);
        let metrics = Self {
            requests: Family::default(),
            latency: Family::new_with_constructor(histogram),
            leaks: Family::default(),
            vault: Family::new_with_constructor(histogram),
            audit_degraded: Gauge::default(),
            sinks_behind: Family::default(),
            settled: Family::default(),
            reloads: Family::default(),
            proxy_ca: Family::default(),
            repeated: Counter::default(),
            abuse: Family::default(),
            abuse_keys: Gauge::default(),
            abuse_forgotten: Gauge::default(),
            outcomes: Outcomes::register(registry),
        };
        registry.register("requests", "Requests by plane, route and outcome", metrics.requests.clone());
        let help = "Time from a request's head to its answer";
        registry.register_with_unit("request_latency", help, Unit::Seconds, metrics.latency.clone());
        registry.register("leaks", "Card numbers found where none is declared", metrics.leaks.clone());
        let help = "Answers after which the vault was told to wipe held security codes";
        registry.register("settles", help, metrics.settled.clone());
        let help = "Policy bundles that were taken up, were the same, or were refused";
        registry.register("reloads", help, metrics.reloads.clone());
        let help = "Time until an authority of the forward proxy ends";
        registry.register_with_unit("proxy_ca_ends_in", help, Unit::Seconds, metrics.proxy_ca.clone());
        let help = "Requests sent once more after their connection broke";
        registry.register("repeats", help, metrics.repeated.clone());
        let help = "Time of a call to the vault";
        registry.register_with_unit("vault_latency", help, Unit::Seconds, metrics.vault.clone());
        let help = "1 when the audit log needs an operator";
        registry.register("audit_degraded", help, metrics.audit_degraded.clone());
        let help = "Audit lines that a copy of the log or a reader of events has not taken yet";
        registry.register("sink_behind_lines", help, metrics.sinks_behind.clone());
        registry.register("abuse", "Attempts beyond the limit of an abuse rule", metrics.abuse.clone());
        let help = "Clients, sessions, cards and ranges that abuse rules know";
        registry.register("abuse_keys", help, metrics.abuse_keys.clone());
        let help = "Of those, how many were forgotten before their time for want of room";
        registry.register("abuse_forgotten", help, metrics.abuse_forgotten.clone());
        metrics
    }

    /// A request has its answer. `route` is a name of the bundle.
    pub fn answered(&self, plane: Plane, route: &str, outcome: &'static str, took: Duration) {
        let labels = RequestLabels { plane: plane.as_str(), route: route.to_owned(), outcome };
        self.requests.get_or_create(&labels).inc();
        self.latency.get_or_create(&PlaneLabels { plane: plane.as_str() }).observe(took.as_secs_f64());
    }

    /// A card number was found.
    pub fn leaked(&self, plane: Plane, place: &'static str, outcome: &'static str) {
        self.leaks.get_or_create(&LeakLabels { plane: plane.as_str(), place, outcome }).inc();
    }

    /// An attempt is beyond the limit of a rule. Both names are the bundle's.
    pub fn abused(&self, route: &str, rule: &str, action: &'static str) {
        let labels = AbuseLabels { route: route.to_owned(), rule: rule.to_owned(), action };
        self.abuse.get_or_create(&labels).inc();
    }

    /// How much abuse rules know.
    pub fn abuse_stands(&self, guard: &Guard) {
        self.abuse_keys.set(i64::try_from(guard.keys()).unwrap_or(i64::MAX));
        self.abuse_forgotten.set(i64::try_from(guard.forgotten()).unwrap_or(i64::MAX));
    }

    /// Whether the audit log needs an operator, and how its copies stand.
    pub fn audit_stands(&self, degraded: bool, sinks: impl Iterator<Item = SinkStatus>) {
        self.audit_degraded.set(i64::from(degraded));
        for (number, sink) in sinks.enumerate() {
            let labels = SinkLabels { number, kind: sink.kind };
            let behind = i64::try_from(sink.behind).unwrap_or(i64::MAX);
            self.sinks_behind.get_or_create(&labels).set(behind);
        }
    }

    /// The vault was told that a destination answered, and did or did not confirm it.
    pub fn settled(&self, done: bool) {
        let outcome = if done { "done" } else { "failed" };
        self.settled.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// When the authorities of the forward proxy end, and which of them signs.
    pub fn proxy_stands(&self, authorities: &Authorities, now: Timestamp) {
        let signing = authorities.signing(now).map(Authority::name);
        self.proxy_ca.clear();
        for ca in authorities.all() {
            let signs = if signing == Some(ca.name()) { "yes" } else { "no" };
            let labels = CaLabels { ca: ca.name().to_owned(), signs };
            let left = ca.until().as_second().saturating_sub(now.as_second());
            self.proxy_ca.get_or_create(&labels).set(left);
        }
    }

    /// A bundle was read again.
    pub fn reloaded(&self, outcome: &'static str) {
        self.reloads.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// The vault was called.
    pub fn called_vault(&self, plane: Plane, took: Duration) {
        self.vault.get_or_create(&PlaneLabels { plane: plane.as_str() }).observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_counted_is_written_out() {
        let mut registry = Registry::new("cordon_gateway");
        let metrics = Metrics::register(&mut registry);
        metrics.answered(Plane::Ingress, "signup", "forwarded", Duration::from_millis(1));
        metrics.leaked(Plane::Egress, "answer", "denied");
        metrics.called_vault(Plane::Ingress, Duration::from_micros(80));
        metrics.settled(false);
        metrics.reloaded("refused");
        metrics.abused("signup", "declined", "denied");
        let text = registry.encode().unwrap();
        for line in [
            "cordon_gateway_requests_total{plane=\"ingress\",route=\"signup\",outcome=\"forwarded\"} 1",
            "cordon_gateway_leaks_total{plane=\"egress\",place=\"answer\",outcome=\"denied\"} 1",
            "cordon_gateway_settles_total{outcome=\"failed\"} 1",
            "cordon_gateway_reloads_total{outcome=\"refused\"} 1",
            "cordon_gateway_repeats_total 0",
            "cordon_gateway_abuse_total{route=\"signup\",rule=\"declined\",action=\"denied\"} 1",
            "cordon_gateway_vault_latency_seconds_count{plane=\"ingress\"} 1",
            "cordon_gateway_request_latency_seconds_count{plane=\"ingress\"} 1",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
