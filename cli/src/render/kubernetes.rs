//! Kubernetes NetworkPolicies, written as JSON documents, which are YAML as well. Tests: `tests/tests/render.rs`.

use super::{Subject, is_v6};
use cordon_policy::{End, Flow};
use serde_json::{Value, json};

/// A policy for each segment: all of its pods, what they take and open, and nothing else.
pub(super) fn policies(subject: &Subject) -> String {
    let mut text = format!("# By bundle {}.\n", subject.bundle.digest());
    for segment in subject.bundle.segments() {
        let ingress: Vec<Value> = subject
            .taken(&segment.name)
            .map(|(flow, ranges)| rule("from", flow, &flow.from, &ranges))
            .collect();
        let mut egress: Vec<Value> =
            subject.opened(&segment.name).map(|(flow, ranges)| rule("to", flow, &flow.to, &ranges)).collect();
        if !subject.dns.is_empty() {
            let servers: Vec<String> = subject.dns.iter().map(ToString::to_string).collect();
            let ports = json!([{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]);
            egress.push(json!({"to": blocks(&servers), "ports": ports}));
        }
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": format!("cordon-{}", segment.name)},
            "spec": {
                "podSelector": {"matchLabels": {"cordon.segment": segment.name}},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": ingress,
                "egress": egress,
            },
        });
        text.push_str("---\n");
        text.push_str(&serde_json::to_string_pretty(&policy).unwrap_or_default());
        text.push('\n');
    }
    text
}

fn rule(side: &str, flow: &Flow, end: &End, ranges: &[String]) -> Value {
    let ports = json!([{"protocol": "TCP", "port": flow.port}]);
    match end {
        // A rule without peers is about all of them.
        End::Anywhere => json!({"ports": ports}),
        // Its pods, or a host of it outside of the cluster.
        End::Segment(name) => {
            let mut peers = vec![json!({"podSelector": {"matchLabels": {"cordon.segment": name}}})];
            peers.extend(blocks(ranges));
            json!({side: peers, "ports": ports})
        }
        End::Destination(_) | End::Host(_) if ranges.is_empty() => json!({"ports": ports}),
        End::Destination(_) | End::Host(_) => json!({side: blocks(ranges), "ports": ports}),
    }
}

fn blocks(ranges: &[String]) -> Vec<Value> {
    let whole = |range: &String| match (range.contains('/'), is_v6(range)) {
        (true, _) => range.clone(),
        (false, true) => format!("{range}/128"),
        (false, false) => format!("{range}/32"),
    };
    ranges.iter().map(|range| json!({"ipBlock": {"cidr": whole(range)}})).collect()
}
