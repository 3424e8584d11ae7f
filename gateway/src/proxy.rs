//! The forward proxy: applications set `HTTPS_PROXY`, and reach the destinations of the bundle, as themselves and nobody else.
//!
//! Must never open what no route leads to, nor pass on a byte of a tunnel: the gateway is the host that was asked for, and
//! what it is told there takes the same way as any request to the egress (threat B27 to B30). Tests: `tests/tests/proxy.rs`.

pub mod ca;

use crate::gateway::Gateway;
use crate::ledger::{Exchange, Way};
use crate::plan::Plan;
use crate::problem::Fault;
use crate::trace::Trace;
use ca::Authorities;
use cordon_audit::Name;
use cordon_daemon::server::tunnel::{Closed, Gate, Opening};
use cordon_daemon::telemetry::RequestId;
use cordon_daemon::tls::{Peer, Via};
use cordon_wire::Problem;
use http::HeaderMap;
use jiff::Timestamp;
use serde::Deserialize;
use std::net::SocketAddr;
use std::sync::Arc;

/// `[proxy]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyConfig {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Let clients ask in plain text, and show their certificate inside. Else they speak TLS with the proxy as with the
    /// egress listener, and show it there.
    #[serde(default)]
    pub plain: bool,
    /// The authorities that sign for the hosts.
    pub ca: Vec<ca::CaConfig>,
}

/// Opens the hosts that the bundle in force leads to.
#[derive(Debug)]
pub struct Door {
    gateway: Arc<Gateway>,
    authorities: Arc<Authorities>,
}

impl Door {
    /// For a gateway and its authorities.
    #[must_use]
    pub const fn new(gateway: Arc<Gateway>, authorities: Arc<Authorities>) -> Self {
        Self { gateway, authorities }
    }

    async fn refuse(&self, peer: &Peer, fault: Fault) -> Closed {
        let plan = self.gateway.plan();
        let service = peer.uri.as_deref().and_then(|uri| plan.bundle.service_by_uri(uri));
        let who = service.map_or("unknown", |service| &service.name);
        let id = RequestId::next().to_string();
        // There is no request yet that could name a trace.
        let trace = Trace::begin(&HeaderMap::new());
        let source = peer.address.ip().to_canonical();
        let exchange = Exchange::new(id, Name::parse_or_withhold(who), source, trace);
        // A refusal that cannot be recorded is answered as that.
        let recorded = self.gateway.ledger.refuses(&exchange, Way::UnknownOut, &fault).await;
        let fault = recorded.err().unwrap_or(fault);
        let problem = Problem::new(fault.code(), &exchange.id, None);
        Closed { status: problem.status, problem: serde_json::to_string(&problem).unwrap_or_default() }
    }
}

impl Gate for Door {
    fn open<'g>(&'g self, via: &'g Via, peer: &'g Peer) -> Opening<'g> {
        Box::pin(async move {
            if !leads_to(&self.gateway.plan(), via) {
                return Err(self.refuse(peer, Fault::DestinationNotAllowed).await);
            }
            match self.authorities.config(&via.host, peer.uri.is_some(), Timestamp::now()) {
                Ok(config) => Ok(config),
                Err(error) => {
                    tracing::error!(%error, "the forward proxy cannot sign");
                    Err(self.refuse(peer, Fault::Internal("internal.proxy-ca")).await)
                }
            }
        })
    }
}

/// Whether a route of the bundle leads to this host and port.
fn leads_to(plan: &Plan, via: &Via) -> bool {
    plan.egress.iter().any(|way| is_at(plan, &way.route.destination, via))
}

/// Whether a destination of the bundle is this host and port.
#[must_use]
pub fn is_at(plan: &Plan, destination: &str, via: &Via) -> bool {
    plan.bundle
        .destination(destination)
        .is_some_and(|known| known.port == via.port && known.host.eq_ignore_ascii_case(&via.host))
}
