//! Metrics: a registry and its text form (OpenMetrics 1.0).
//!
//! It must never take a label value that came from a request: daemons declare labels as enums. Tests: at the end of this file.

use std::fmt;

use prometheus_client::encoding::text;
use prometheus_client::registry::{Metric, Registry, Unit};

/// The metrics of one daemon. Register all of them at start, then share it.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// An empty registry whose metrics all begin with `prefix` and an underscore.
    pub fn new(prefix: &'static str) -> Metrics {
        Metrics { registry: Registry::with_prefix(prefix) }
    }

    /// Registers a counter, gauge, histogram or family. Keep a clone of it to count with.
    pub fn register(&mut self, name: &'static str, help: &'static str, metric: impl Metric) {
        self.registry.register(name, help, metric);
    }

    /// [`Metrics::register`] for a value with a unit, which becomes part of its name.
    pub fn register_with_unit(
        &mut self,
        name: &'static str,
        help: &'static str,
        unit: Unit,
        metric: impl Metric,
    ) {
        self.registry.register_with_unit(name, help, unit, metric);
    }

    /// All metrics as text of [`CONTENT_TYPE`].
    ///
    /// # Errors
    /// Only if a metric's own encoding fails.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::with_capacity(16 * 1024);
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

/// Content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Bucket bounds for latencies, in seconds: 50 microseconds to 10 seconds.
pub const LATENCY_BUCKETS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5,
    10.0,
];

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::histogram::Histogram;

    use super::*;

    #[test]
    fn metrics_are_written_as_open_metrics() {
        let mut metrics = Metrics::new("cordon");
        let served = Counter::<u64>::default();
        let latency = Histogram::new(LATENCY_BUCKETS);
        metrics.register("requests", "Requests served", served.clone());
        metrics.register_with_unit("latency", "Time to answer", Unit::Seconds, latency.clone());
        served.inc_by(3);
        latency.observe(0.0004);
        let text = metrics.encode().unwrap();
        assert!(text.contains("cordon_requests_total 3\n"), "{text}");
        assert!(text.contains("cordon_latency_seconds_bucket{le=\"0.0005\"} 1\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
