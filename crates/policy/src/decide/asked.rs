//! An ask with its names resolved: exactly the parts that its action looks at.
//!
//! Must never carry a part that the decision does not see, nor go on with a name the bundle does not declare.
//! Tests: `crates/policy/tests/bundle/decisions.rs`.

use std::net::IpAddr;
use std::sync::Arc;

use cedar_policy::EntityUid;

use super::cache::Key;
use super::engine::Parts;
use super::{Ask, AskPart, Grant, GrantedRoute, RefusalKind};
use crate::action::ActionKind;
use crate::known::{Entry, Known, Table};
use crate::routes::{EgressRoute, IngressRoute};
use crate::segments::{Collection, Destination, Service};

/// An ask as the bundle knows it.
pub(crate) struct Asked<'k> {
    pub(crate) kind: ActionKind,
    pub(crate) principal: &'k Entry<Service>,
    pub(crate) collection: Option<&'k Entry<Collection>>,
    pub(crate) destination: Option<&'k Entry<Destination>>,
    pub(crate) acted_for: Option<&'k Entry<Service>>,
    pub(crate) route: Option<Route<'k>>,
    pub(crate) purpose: Option<&'k (usize, Arc<str>)>,
    pub(crate) mtls: bool,
    pub(crate) from_own_segment: bool,
    source: IpAddr,
}

/// A route of either plane.
#[derive(Clone, Copy)]
pub(crate) enum Route<'k> {
    Ingress(&'k Entry<IngressRoute>),
    Egress(&'k Entry<EgressRoute>),
}

impl<'k> Asked<'k> {
    /// Finds every name that the action needs.
    pub(crate) fn resolve(kind: ActionKind, ask: &Ask<'_>, known: &'k Known) -> Result<Self, RefusalKind> {
        let principal = known.services.get(ask.principal).ok_or(RefusalKind::UnknownPrincipal)?;
        let needs = Needs::of(kind);
        let collection = part(needs.collection, AskPart::Collection, ask.collection, &known.collections)?;
        let destination =
            part(needs.destination, AskPart::Destination, ask.destination, &known.destinations)?;
        let acted_for = part(needs.acted_for, AskPart::ActedFor, ask.acting_for, &known.services)?;
        let ingress = part(needs.plane == Some(Plane::Ingress), AskPart::Route, ask.route, &known.ingress)?;
        let egress = part(needs.plane == Some(Plane::Egress), AskPart::Route, ask.route, &known.egress)?;
        let purpose = if needs.purpose {
            let text = ask.purpose.ok_or(RefusalKind::Missing(AskPart::Purpose))?;
            Some(known.purposes.get(text).ok_or(RefusalKind::UnknownName(AskPart::Purpose))?)
        } else {
            None
        };
        let own = known.segments.get(&principal.value.segment);
        Ok(Self {
            kind,
            principal,
            collection,
            destination,
            acted_for,
            route: ingress.map(Route::Ingress).or(egress.map(Route::Egress)),
            purpose,
            mtls: ask.mtls,
            from_own_segment: own.is_some_and(|segment| segment.contains(ask.source)),
            source: ask.source,
        })
    }

    /// What Cedar is told.
    pub(crate) fn parts<'a>(&'a self, system: &'a EntityUid) -> Parts<'a> {
        let route = self.route.map(Route::uid);
        let resource = match self.kind {
            ActionKind::Forward | ActionKind::Send => route,
            ActionKind::Administer | ActionKind::Approve | ActionKind::Observe => Some(system),
            ActionKind::Tokenize
            | ActionKind::Detokenize
            | ActionKind::Settle
            | ActionKind::Lookup
            | ActionKind::Recognize
            | ActionKind::Inspect
            | ActionKind::Delete
            | ActionKind::Export => self.collection.map(|found| &found.uid),
        };
        Parts {
            principal: &self.principal.uid,
            // INVARIANT(needs): `resolve` found the part that is the action's resource.
            resource: resource.unwrap_or(system),
            source: self.source,
            mtls: self.mtls,
            from_own_segment: self.from_own_segment,
            acted_for: self.acted_for.map(|found| &found.uid),
            destination: self.destination.map(|found| &found.uid),
            route: if matches!(self.kind, ActionKind::Detokenize | ActionKind::Settle) {
                route
            } else {
                None
            },
            purpose: self.purpose.map(|(_, text)| &**text),
        }
    }

    /// What a cached decision depends on.
    pub(crate) fn key(&self) -> Key {
        Key {
            kind: self.kind,
            principal: self.principal.position,
            collection: self.collection.map(|found| found.position),
            destination: self.destination.map(|found| found.position),
            acted_for: self.acted_for.map(|found| found.position),
            route: self.route.map(Route::position),
            purpose: self.purpose.map(|(position, _)| *position),
            mtls: self.mtls,
            from_own_segment: self.from_own_segment,
        }
    }

    /// What the permit will name.
    pub(super) fn grant(&self, statements: Arc<[Arc<str>]>) -> Grant {
        Grant {
            subject: Arc::clone(&self.principal.value),
            collection: self.collection.map(|found| Arc::clone(&found.value)),
            destination: self.destination.map(|found| Arc::clone(&found.value)),
            acted_for: self.acted_for.map(|found| Arc::clone(&found.value)),
            route: self.route.map(Route::granted),
            purpose: self.purpose.map(|(_, text)| Arc::clone(text)),
            statements,
        }
    }
}

impl<'k> Route<'k> {
    fn uid(self) -> &'k EntityUid {
        match self {
            Self::Ingress(route) => &route.uid,
            Self::Egress(route) => &route.uid,
        }
    }

    /// Positions of the two planes overlap; the action in the key tells them apart.
    const fn position(self) -> usize {
        match self {
            Self::Ingress(route) => route.position,
            Self::Egress(route) => route.position,
        }
    }

    fn granted(self) -> GrantedRoute {
        match self {
            Self::Ingress(route) => GrantedRoute::Ingress(Arc::clone(&route.value)),
            Self::Egress(route) => GrantedRoute::Egress(Arc::clone(&route.value)),
        }
    }
}

/// The parts an action looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs {
    pub(crate) collection: bool,
    pub(crate) destination: bool,
    pub(crate) acted_for: bool,
    /// Whose routes, if it is about one.
    pub(crate) plane: Option<Plane>,
    pub(crate) purpose: bool,
}

/// The side of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plane {
    Ingress,
    Egress,
}

impl Needs {
    // INVARIANT(needs): the part that is the resource of an action (see `Asked::parts`) is always needed.
    pub(crate) const fn of(kind: ActionKind) -> Self {
        let none =
            Self { collection: false, destination: false, acted_for: false, plane: None, purpose: false };
        match kind {
            ActionKind::Tokenize
            | ActionKind::Lookup
            | ActionKind::Recognize
            | ActionKind::Inspect
            | ActionKind::Delete
            | ActionKind::Export => Self { collection: true, ..none },
            ActionKind::Detokenize | ActionKind::Settle => Self {
                collection: true,
                destination: true,
                acted_for: true,
                plane: Some(Plane::Egress),
                purpose: true,
            },
            ActionKind::Administer | ActionKind::Approve | ActionKind::Observe => none,
            ActionKind::Forward => Self { acted_for: true, plane: Some(Plane::Ingress), ..none },
            ActionKind::Send => Self { destination: true, plane: Some(Plane::Egress), ..none },
        }
    }
}

fn part<'k, T>(
    needed: bool,
    part: AskPart,
    name: Option<&str>,
    table: &'k Table<T>,
) -> Result<Option<&'k Entry<T>>, RefusalKind> {
    if !needed {
        return Ok(None);
    }
    let name = name.ok_or(RefusalKind::Missing(part))?;
    table.get(name).map(Some).ok_or(RefusalKind::UnknownName(part))
}
