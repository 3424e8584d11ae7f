//! The connections that a bundle needs, and no others: who opens one to where, and what it carries.
//!
//! Follows from listeners, routes, destinations and from what the statements allow. Firewall rules and the map of scope are
//! made of these. Must never hold a connection that nothing in the bundle asks for. Tests: `tests/tests/scope.rs`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crate::action::ActionKind;
use crate::bundle::Bundle;
use crate::grants::Grants;
use crate::segments::{Process, Role};

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Anybody.
    Anywhere,
    /// A segment of the bundle.
    Segment(String),
    /// A destination of the bundle.
    Destination(String),
    /// A host of a service that is no address of a segment.
    Host(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anywhere => f.write_str("anywhere"),
            Self::Segment(name) => write!(f, "segment {name}"),
            Self::Destination(name) => write!(f, "destination {name}"),
            Self::Host(name) => write!(f, "host {name}"),
        }
    }
}

/// What a connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carries {
    /// Card numbers.
    Cards,
    /// Tokens, and no card number.
    Tokens,
    /// Administration: seal, keys, audit.
    Administration,
}

impl Carries {
    /// In a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cards => "cards",
            Self::Tokens => "tokens",
            Self::Administration => "administration",
        }
    }
}

/// A connection over TCP.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Who opens it.
    pub from: End,
    /// To where.
    pub to: End,
    /// The address, where it is one of a segment.
    pub address: Option<IpAddr>,
    /// The port; a listener without one has none.
    pub port: Option<u16>,
    /// What goes over it.
    pub carries: Carries,
    /// What needs it: a listener, route or destination.
    pub need: String,
}

impl Bundle {
    /// Every connection.
    #[must_use]
    pub fn flows(&self, grants: &Grants) -> Vec<Flow> {
        let mut flows = BTreeSet::new();
        for listener in self.listeners() {
            let to = End::Segment(listener.segment.clone());
            let flow = |from, carries| Flow {
                from,
                to: to.clone(),
                address: None,
                port: listener.port,
                carries,
                need: format!("listener {}", listener.name),
            };
            match listener.process {
                Process::GatewayIngress => {
                    flows.insert(flow(End::Anywhere, Carries::Cards));
                }
                Process::GatewayEgress => {
                    let senders = self.egress().iter().flat_map(|route| &route.services);
                    flows.extend(self.segments_of(senders).map(|from| flow(from, Carries::Tokens)));
                }
                Process::VaultData => {
                    let callers = may(grants, &ON_DATA);
                    flows.extend(self.segments_of(callers).map(|from| flow(from, Carries::Cards)));
                }
                Process::VaultAdmin => {
                    let callers = may(grants, &ON_ADMINISTRATION);
                    flows.extend(self.segments_of(callers).map(|from| flow(from, Carries::Administration)));
                }
            }
        }
        flows.extend(self.to_services());
        flows.extend(self.to_destinations());
        flows.into_iter().collect()
    }

    fn segments_of<'b>(&'b self, services: impl Iterator<Item = &'b String>) -> impl Iterator<Item = End> {
        let segments = services.filter_map(|name| Some(self.service(name)?.segment.clone()));
        segments.collect::<BTreeSet<_>>().into_iter().map(End::Segment)
    }

    /// Where the process of a role is.
    fn home(&self, role: Role) -> Option<End> {
        let service = self.services().find(|service| service.role == role)?;
        Some(End::Segment(service.segment.clone()))
    }

    fn to_services(&self) -> Vec<Flow> {
        let Some(from) = self.home(Role::GatewayIngress) else { return Vec::new() };
        let flow = |route: &crate::routes::IngressRoute| {
            let address = route.upstream.host.parse().ok();
            let segment =
                address.and_then(|address| self.segments().find(|segment| segment.contains(address)));
            let to = segment.map(|segment| End::Segment(segment.name.clone()));
            Flow {
                from: from.clone(),
                address: address.filter(|_| to.is_some()),
                to: to.unwrap_or_else(|| End::Host(route.upstream.host.clone())),
                port: Some(route.upstream.port),
                carries: Carries::Tokens,
                need: format!("service {}", route.service),
            }
        };
        self.ingress().iter().map(flow).collect()
    }

    fn to_destinations(&self) -> Vec<Flow> {
        let Some(from) = self.home(Role::GatewayEgress) else { return Vec::new() };
        let used: BTreeSet<&String> = self.egress().iter().map(|route| &route.destination).collect();
        let flow = |destination: &crate::segments::Destination| Flow {
            from: from.clone(),
            to: End::Destination(destination.name.clone()),
            address: None,
            port: Some(destination.port),
            carries: Carries::Cards,
            need: format!("destination {}", destination.name),
        };
        self.destinations().filter(|destination| used.contains(&destination.name)).map(flow).collect()
    }
}

/// Who may do one of these.
fn may<'g>(grants: &'g Grants, actions: &'g [ActionKind]) -> impl Iterator<Item = &'g String> {
    grants.all.iter().filter(|grant| actions.contains(&grant.action)).map(|grant| &grant.principal)
}

/// Calls of the vault's data listener.
const ON_DATA: [ActionKind; 7] = [
    ActionKind::Tokenize,
    ActionKind::Detokenize,
    ActionKind::Settle,
    ActionKind::Lookup,
    ActionKind::Recognize,
    ActionKind::Inspect,
    ActionKind::Delete,
];
/// And of the one for administration.
const ON_ADMINISTRATION: [ActionKind; 4] =
    [ActionKind::Administer, ActionKind::Approve, ActionKind::Observe, ActionKind::Export];
