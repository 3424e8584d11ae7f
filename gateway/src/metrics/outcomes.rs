//! Approved and declined by processor and issuer: their ratio is the approval rate.
//!
//! Must never grow without bound: a caller chooses the cards, so issuers beyond a number are counted together.
//! Tests: here.

use cordon_card::Iin;
use cordon_daemon::metrics::Metrics as Registry;
use cordon_policy::Decision;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    destination: String,
    iin: String,
    outcome: &'static str,
}

/// The counters of outcomes; clones share their values.
#[derive(Debug, Clone, Default)]
pub struct Outcomes {
    counted: Family<Labels, Counter>,
    /// Issuers that are counted by themselves, of each party.
    named: Arc<Mutex<HashMap<String, HashSet<Iin>>>>,
}

impl Outcomes {
    /// Makes and registers them.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let outcomes = Self::default();
        let help = "Answers by who gave them, issuer and outcome";
        registry.register("outcomes", help, outcomes.counted.clone());
        outcomes
    }

    /// An answer came from `party`, a name of the bundle; `None` when it said nothing that is declared.
    pub fn count(&self, party: &str, iins: &[Iin], decision: Option<Decision>) {
        let outcome = decision.map_or("unknown", Decision::as_str);
        let count = |iin: &str| {
            let labels = Labels { destination: party.to_owned(), iin: iin.to_owned(), outcome };
            self.counted.get_or_create(&labels).inc();
        };
        if iins.is_empty() {
            count("none");
        }
        for iin in iins {
            if self.is_named(party, *iin) { count(iin.as_str()) } else { count("other") }
        }
    }

    fn is_named(&self, party: &str, iin: Iin) -> bool {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let of_party = named.entry(party.to_owned()).or_default();
        of_party.contains(&iin) || (of_party.len() < NAMED && of_party.insert(iin))
    }
}

/// Issuers that have a label of their own, of each party.
const NAMED: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn iin(number: usize) -> Iin {
        Iin::parse(&format!("{number:06}")).unwrap()
    }

    #[test]
    fn the_rate_of_each_issuer_is_the_ratio_of_its_counters() {
        let mut registry = Registry::new("cordon_gateway");
        let outcomes = Outcomes::register(&mut registry);
        outcomes.count("processor", &[iin(411_111)], Some(Decision::Approved));
        outcomes.count("processor", &[iin(411_111), iin(555_555)], Some(Decision::Declined));
        outcomes.count("processor", &[], None);
        let text = registry.encode().unwrap();
        for line in [
            r#"outcomes_total{destination="processor",iin="411111",outcome="approved"} 1"#,
            r#"outcomes_total{destination="processor",iin="411111",outcome="declined"} 1"#,
            r#"outcomes_total{destination="processor",iin="555555",outcome="declined"} 1"#,
            r#"outcomes_total{destination="processor",iin="none",outcome="unknown"} 1"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn issuers_beyond_the_bound_are_counted_together() {
        let mut registry = Registry::new("cordon_gateway");
        let outcomes = Outcomes::register(&mut registry);
        for number in 0..NAMED * 2 {
            outcomes.count("one", &[iin(number)], Some(Decision::Approved));
        }
        outcomes.count("two", &[iin(NAMED + 1)], Some(Decision::Approved));
        let text = registry.encode().unwrap();
        let lines = text.lines().filter(|line| line.contains("destination=\"one\"")).count();
        assert_eq!(lines, NAMED + 1);
        assert!(
            text.contains(&format!(r#"destination="one",iin="other",outcome="approved"}} {NAMED}"#)),
            "{text}"
        );
        assert!(text.contains(&format!(r#"destination="two",iin="{:06}""#, NAMED + 1)), "{text}");
    }
}
