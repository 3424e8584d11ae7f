//! Counters and histograms of the vault. Labels come from fixed lists only.
//! Must never have a label whose value comes from a request. Tests: `tests/tests/api.rs`.

use crate::limits::Kind;
use cordon_daemon::metrics::LATENCY_BUCKETS;
use cordon_daemon::server::ConnectionMetrics;
use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use std::fmt;
use std::time::Duration;

/// What a data call is counted under.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabel {
    call: &'static str,
    status: &'static str,
}

/// What a latency is counted under.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LatencyLabel {
    call: &'static str,
}

/// What a refusal by a limit is counted under.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabel {
    limit: &'static str,
}

/// The vault's metrics.
#[derive(Debug)]
pub struct Metrics {
    calls: Family<CallLabel, Counter>,
    latency: Family<LatencyLabel, Histogram, fn() -> Histogram>,
    limited: Family<LimitLabel, Counter>,
    connections: ConnectionMetrics,
    integrity: Counter,
    gauges: Gauges,
    registry: cordon_daemon::metrics::Metrics,
}

/// Values that are read when somebody asks.
#[derive(Debug, Default)]
pub struct Gauges {
    /// 1 when unsealed.
    pub unsealed: Gauge,
    /// 1 while a restore waits for acceptance.
    pub awaiting_restore: Gauge,
    /// Lines in the audit log.
    pub audit_lines: Gauge,
    /// fsyncs of the audit log since start.
    pub audit_syncs: Gauge,
    /// 1 when the audit log needs an operator: failed, stuck, out of space, or a sink is behind.
    pub audit_degraded: Gauge,
    /// Lines that the slowest audit sink has not taken yet.
    pub audit_sink_behind: Gauge,
    /// Lines of the newest checkpoint that a witness cosigned.
    pub audit_cosigned_lines: Gauge,
    /// Seconds since it did.
    pub audit_cosigned_age: Gauge,
    /// Sequence of the last durable commit.
    pub store_sequence: Gauge,
    /// fsyncs of the store since start.
    pub store_syncs: Gauge,
    /// Security codes held now.
    pub held_codes: Gauge,
    /// Records moved to newer keys since start.
    pub rewrapped: Gauge,
    /// When the last backup since start was taken, in Unix seconds.
    pub last_backup: Gauge,
    /// Records erased because their time was over, since start.
    pub erased: Gauge,
    /// Active keys that are near or past a limit.
    pub keys_to_rotate: Gauge,
}

impl Gauges {
    fn register_audit(&self, registry: &mut cordon_daemon::metrics::Metrics) {
        for (name, help, gauge) in [
            ("audit_degraded", "1 when the audit log needs an operator", &self.audit_degraded),
            (
                "audit_sink_behind_lines",
                "Lines the slowest audit sink has not taken",
                &self.audit_sink_behind,
            ),
            ("audit_cosigned_lines", "Lines of the newest cosigned checkpoint", &self.audit_cosigned_lines),
            ("audit_cosigned_age_seconds", "Age of the newest cosignature", &self.audit_cosigned_age),
        ] {
            registry.register(name, help, gauge.clone());
        }
    }
}

impl Metrics {
    /// All of them, registered.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = cordon_daemon::metrics::Metrics::new("cordon_vault");
        let calls = Family::<CallLabel, Counter>::default();
        let latency = Family::<LatencyLabel, Histogram, fn() -> Histogram>::new_with_constructor(histogram);
        let limited = Family::<LimitLabel, Counter>::default();
        let connections = ConnectionMetrics::default();
        let integrity = Counter::default();
        let gauges = Gauges::default();
        registry.register("calls", "Data calls answered, by status class", calls.clone());
        registry.register("call_latency_seconds", "Time to answer a data call", latency.clone());
        registry.register("limited", "Calls and items refused by a limit", limited.clone());
        connections.register(&mut registry);
        registry.register("unsealed", "1 when keys are in memory", gauges.unsealed.clone());
        registry.register(
            "awaiting_restore",
            "1 while a restore waits for acceptance",
            gauges.awaiting_restore.clone(),
        );
        registry.register("audit_lines", "Lines in the audit log", gauges.audit_lines.clone());
        registry.register("audit_syncs", "fsyncs of the audit log since start", gauges.audit_syncs.clone());
        gauges.register_audit(&mut registry);
        registry.register(
            "store_sequence",
            "Last durable commit of the store",
            gauges.store_sequence.clone(),
        );
        registry.register("store_syncs", "fsyncs of the store since start", gauges.store_syncs.clone());
        registry.register("held_security_codes", "Security codes in memory", gauges.held_codes.clone());
        registry.register(
            "rewrapped_records",
            "Records moved to newer keys since start",
            gauges.rewrapped.clone(),
        );
        registry.register(
            "last_backup_timestamp_seconds",
            "When the last backup since start was taken; 0 if none was",
            gauges.last_backup.clone(),
        );
        registry.register(
            "erased_records",
            "Records erased since start because their time was over",
            gauges.erased.clone(),
        );
        registry.register(
            "keys_to_rotate",
            "Active keys past 80 % of their cryptoperiod or uses",
            gauges.keys_to_rotate.clone(),
        );
        registry.register(
            "integrity_failures",
            "Stored records and keyrings that did not open where they stand",
            integrity.clone(),
        );
        Self { calls, latency, limited, connections, integrity, gauges, registry }
    }

    /// Counts one answered data call.
    pub fn observe(&self, call: &'static str, status: StatusCode, took: Duration) {
        let class = match status.as_u16() {
            200..=299 => "2xx",
            400..=499 => "4xx",
            _other => "5xx",
        };
        self.calls.get_or_create(&CallLabel { call, status: class }).inc();
        self.latency.get_or_create(&LatencyLabel { call }).observe(took.as_secs_f64());
    }

    /// Counts stored records or keyrings that did not open where they stand (threat B12).
    pub fn integrity_failures(&self, found: u64) {
        self.integrity.inc_by(found);
    }

    /// Counts calls or items that a limit refused.
    pub fn limited(&self, kind: Kind, count: u64) {
        self.limited.get_or_create(&LimitLabel { limit: kind.as_str() }).inc_by(count);
    }

    /// Counters of the listeners.
    #[must_use]
    pub fn connections(&self) -> &ConnectionMetrics {
        &self.connections
    }

    /// Values to set before encoding.
    #[must_use]
    pub fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    /// `OpenMetrics` text.
    ///
    /// # Errors
    /// The formatter failed.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        self.registry.encode()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn histogram() -> Histogram {
    Histogram::new(LATENCY_BUCKETS)
}
