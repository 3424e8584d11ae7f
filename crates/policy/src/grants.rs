//! Everything that a bundle allows: every action is asked for with every combination of declared names.
//!
//! The names are finite and a decision sees nothing else but the connection, so this is all of it. What it is not sure of is a
//! statement that looks at the address itself: of addresses, one is asked for from each segment and one from none. Where the
//! combinations are too many, ways out are asked for with what their routes declare, and with nothing else. Must never leave
//! out a combination without saying so. Tests: `tests/tests/policy_proof.rs`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::action::ActionKind;
use crate::bundle::Bundle;
use crate::decide::{Ask, Needs, Plane, RefusalKind};
use crate::routes::EgressRoute;
use crate::segments::Service;

/// Something that is allowed, with the conditions of the connection under which it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// What.
    pub action: ActionKind,
    /// To whom.
    pub principal: String,
    /// For whom it is done, where somebody does it for somebody else.
    pub acted_for: Option<String>,
    /// With cards of this collection.
    pub collection: Option<String>,
    /// Towards this destination.
    pub destination: Option<String>,
    /// On this route.
    pub route: Option<String>,
    /// Why.
    pub purpose: Option<String>,
    /// From addresses outside of the principal's own segment as well.
    pub from_anywhere: bool,
    /// Without a client certificate as well.
    pub uncertified: bool,
    /// By these statements, in one of the cases.
    pub statements: Vec<Arc<str>>,
}

/// Everything that is allowed, and how it was found out.
#[derive(Debug, Default)]
pub struct Grants {
    /// In the order of actions and names.
    pub all: Vec<Grant>,
    /// Asks in which a statement could not be evaluated, in words.
    pub errors: Vec<String>,
    /// How many were made.
    pub asked: usize,
    /// Whether every combination of names was among them.
    pub exhaustive: bool,
    /// Actions whose statements look at the address itself: others than those that were tried could be decided otherwise.
    pub by_address: Vec<ActionKind>,
}

impl Bundle {
    /// Asks for everything.
    #[must_use]
    pub fn grants(&self) -> Grants {
        let combinations: usize =
            ActionKind::ALL.into_iter().map(|kind| self.domain(kind, None).size()).sum();
        let mut grants = Grants { exhaustive: combinations <= MOST, ..Grants::default() };
        for kind in ActionKind::ALL {
            if self.looks_at_address(kind) {
                grants.by_address.push(kind);
            }
            let on_ways_out = Needs::of(kind).plane == Some(Plane::Egress) && !grants.exhaustive;
            if on_ways_out {
                for route in self.egress() {
                    self.domain(kind, Some(route)).each(&mut |names| self.ask_all(kind, names, &mut grants));
                }
            } else {
                self.domain(kind, None).each(&mut |names| self.ask_all(kind, names, &mut grants));
            }
        }
        grants.all.sort();
        grants
    }

    /// One combination, over every kind of connection.
    fn ask_all(&self, kind: ActionKind, names: Names<'_>, grants: &mut Grants) {
        let mut found: Option<Grant> = None;
        let own = self.service(names.principal).and_then(|service| self.first_address(service));
        let elsewhere = self.segments().filter(|segment| self.is_not_of(names.principal, &segment.name));
        let elsewhere = elsewhere.filter_map(|segment| segment.cidrs.first()?.hosts().next());
        let sources = own.map(|own| (own, true)).into_iter();
        for (source, is_own) in sources.chain(elsewhere.chain([NOBODY]).map(|source| (source, false))) {
            for mtls in [true, false] {
                grants.asked = grants.asked.saturating_add(1);
                let ask = Ask {
                    collection: names.collection,
                    destination: names.destination,
                    acting_for: names.acted_for,
                    route: names.route,
                    purpose: names.purpose,
                    ..Ask::new(names.principal, mtls, source)
                };
                match self.outcome(kind.as_str(), &ask) {
                    Ok(statements) => {
                        let grant = found.get_or_insert_with(|| names.grant(kind, &statements));
                        grant.from_anywhere |= !is_own;
                        grant.uncertified |= !mtls;
                    }
                    Err(refusal) => {
                        if let RefusalKind::EvaluationError { statements } = refusal.kind() {
                            let by = statements.join(", ");
                            grants.errors.push(format!("{}: {by}", names.grant(kind, &[])));
                        }
                    }
                }
            }
        }
        grants.all.extend(found);
    }

    fn is_not_of(&self, service: &str, segment: &str) -> bool {
        self.service(service).is_none_or(|service| service.segment != segment)
    }

    /// An address of the service's own segment.
    fn first_address(&self, service: &Service) -> Option<IpAddr> {
        self.segment(&service.segment)?.cidrs.first()?.hosts().next()
    }

    /// Every name that may stand in an ask for an action; of one way out, those that it declares.
    fn domain<'b>(&'b self, kind: ActionKind, only: Option<&'b EgressRoute>) -> Domain<'b> {
        let needs = Needs::of(kind);
        let services = || self.services().map(|service| service.name.as_str()).collect::<Vec<_>>();
        let some = |needed: bool, names: Vec<&'b str>| {
            if needed { names.into_iter().map(Some).collect() } else { vec![None] }
        };
        let mut purposes: Vec<_> = self.egress().iter().map(|route| route.purpose.as_str()).collect();
        purposes.sort_unstable();
        purposes.dedup();
        let routes = match needs.plane {
            None => Vec::new(),
            Some(Plane::Ingress) => self.ingress().iter().map(|route| route.name.as_str()).collect(),
            Some(Plane::Egress) => self.egress().iter().map(|route| route.name.as_str()).collect(),
        };
        let collections = self.collections().map(|collection| collection.name.as_str()).collect();
        let destinations = self.destinations().map(|destination| destination.name.as_str()).collect();
        let declared =
            |all: Vec<&'b str>, one: fn(&EgressRoute) -> &str| only.map_or(all, |route| vec![one(route)]);
        Domain {
            principals: services(),
            collections: some(needs.collection, declared(collections, |route| route.collection.as_str())),
            destinations: some(needs.destination, declared(destinations, |route| &route.destination)),
            acted_for: some(needs.acted_for, services()),
            routes: some(needs.plane.is_some(), declared(routes, |route| &route.name)),
            purposes: some(needs.purpose, declared(purposes, |route| &route.purpose)),
        }
    }
}

/// The names of an ask.
#[derive(Clone, Copy)]
struct Names<'b> {
    principal: &'b str,
    collection: Option<&'b str>,
    destination: Option<&'b str>,
    acted_for: Option<&'b str>,
    route: Option<&'b str>,
    purpose: Option<&'b str>,
}

impl Names<'_> {
    fn grant(&self, action: ActionKind, statements: &[Arc<str>]) -> Grant {
        let owned = |name: Option<&str>| name.map(str::to_owned);
        Grant {
            action,
            principal: self.principal.to_owned(),
            acted_for: owned(self.acted_for),
            collection: owned(self.collection),
            destination: owned(self.destination),
            route: owned(self.route),
            purpose: owned(self.purpose),
            from_anywhere: false,
            uncertified: false,
            statements: statements.to_vec(),
        }
    }
}

/// The names that each part of an ask may have.
struct Domain<'b> {
    principals: Vec<&'b str>,
    collections: Vec<Option<&'b str>>,
    destinations: Vec<Option<&'b str>>,
    acted_for: Vec<Option<&'b str>>,
    routes: Vec<Option<&'b str>>,
    purposes: Vec<Option<&'b str>>,
}

impl<'b> Domain<'b> {
    fn size(&self) -> usize {
        let parts = [&self.collections, &self.destinations, &self.acted_for, &self.routes, &self.purposes];
        parts.into_iter().fold(self.principals.len(), |size, part| size.saturating_mul(part.len()))
    }

    fn each(&self, ask: &mut dyn FnMut(Names<'b>)) {
        for principal in self.principals.iter().copied() {
            for collection in self.collections.iter().copied() {
                for destination in self.destinations.iter().copied() {
                    for acted_for in self.acted_for.iter().copied() {
                        for route in self.routes.iter().copied() {
                            for purpose in self.purposes.iter().copied() {
                                ask(Names { principal, collection, destination, acted_for, route, purpose });
                            }
                        }
                    }
                }
            }
        }
    }
}

impl std::fmt::Display for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} may {}", self.principal, self.action)?;
        let parts = [
            (" for ", &self.acted_for),
            (" with ", &self.collection),
            (" to ", &self.destination),
            (" on route ", &self.route),
            (" because of ", &self.purpose),
        ];
        for (word, part) in parts {
            if let Some(part) = part {
                write!(f, "{word}{part}")?;
            }
        }
        let conditions = match (self.from_anywhere, self.uncertified) {
            (false, false) => "",
            (true, false) => ", from any address",
            (false, true) => ", without a certificate",
            (true, true) => ", from any address and without a certificate",
        };
        f.write_str(conditions)
    }
}

/// Some ten seconds of asking.
const MOST: usize = 200_000;
/// An address for documentation (RFC 5737) that no segment should have.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
