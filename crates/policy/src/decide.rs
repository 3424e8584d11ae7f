//! Decisions: an ask goes in, a permit or a refusal comes out.
//!
//! Must never allow on an error, on an unknown name or on a missing part, and must never let a permit name
//! something that the decision did not look at. The only place that makes a [`Permit`].
//! Tests: `crates/policy/tests/bundle/decisions.rs` and the case files in `policies/cases`.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::sync::Arc;

use cordon_card::CollectionName;

use crate::action::{Action, ActionKind};
use crate::known::{EntityProblem, Known};
use crate::routes::{EgressRoute, IngressRoute};
use crate::segments::{Collection, Destination, Service};
use crate::statements::Statements;

mod asked;
mod cache;
mod engine;
mod refusal;

pub(crate) use asked::{Asked, Needs, Plane, Route as AskedRoute};
use cache::{Cache, Verdict};
pub(crate) use engine::{Engine, Evaluated};
pub use refusal::{AskPart, Refusal, RefusalKind};

/// Who asks for what. The action is the type that [`crate::Bundle::decide`] is called with; each looks at the parts it
/// needs and ignores the rest.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Name of the calling service, resolved from the URI of its certificate.
    pub principal: &'a str,
    /// True only when a client certificate was verified on this very connection.
    pub mtls: bool,
    /// The peer's address on this connection; never taken from a header (PCI DSS 1.4.3).
    pub source: IpAddr,
    /// The collection it is about.
    pub collection: Option<&'a str>,
    /// Where the card is to go.
    pub destination: Option<&'a str>,
    /// The service that the caller acts for.
    pub acting_for: Option<&'a str>,
    /// The gateway route.
    pub route: Option<&'a str>,
    /// Why, as the route declares it.
    pub purpose: Option<&'a str>,
}

impl<'a> Ask<'a> {
    /// An ask with nothing but the caller; the rest is added with struct update syntax.
    #[must_use]
    pub const fn new(principal: &'a str, mtls: bool, source: IpAddr) -> Self {
        Self {
            principal,
            mtls,
            source,
            collection: None,
            destination: None,
            acting_for: None,
            route: None,
            purpose: None,
        }
    }
}

/// Proof that the bundle allowed one action, once: made by [`crate::Bundle::decide`] alone, consumed by the effect.
///
/// It names what the decision looked at and nothing else, so an effect can be checked against it.
///
/// It cannot be made up:
/// ```compile_fail,E0451
/// use std::marker::PhantomData;
/// let permit: cordon_policy::Permit<cordon_policy::Detokenize> =
///     cordon_policy::Permit { grant: todo!(), action: PhantomData };
/// ```
/// It cannot be used twice:
/// ```compile_fail,E0382
/// use cordon_policy::{Detokenize, Permit};
/// fn open(_permit: Permit<Detokenize>) {}
/// fn twice(permit: Permit<Detokenize>) {
///     open(permit);
///     open(permit);
/// }
/// ```
/// It cannot be copied:
/// ```compile_fail,E0599
/// use cordon_policy::{Detokenize, Permit};
/// fn copy(permit: Permit<Detokenize>) -> (Permit<Detokenize>, Permit<Detokenize>) {
///     (Permit::clone(&permit), permit)
/// }
/// ```
/// A permit for one action is none for another:
/// ```compile_fail,E0308
/// use cordon_policy::{Detokenize, Permit, Tokenize};
/// fn confuse(permit: Permit<Tokenize>) -> Permit<Detokenize> {
///     permit
/// }
/// ```
#[must_use = "a permit is there to be handed to the effect it allows"]
pub struct Permit<A: Action> {
    grant: Grant,
    action: PhantomData<fn() -> A>,
}

struct Grant {
    subject: Arc<Service>,
    collection: Option<Arc<Collection>>,
    destination: Option<Arc<Destination>>,
    acted_for: Option<Arc<Service>>,
    route: Option<GrantedRoute>,
    purpose: Option<Arc<str>>,
    statements: Arc<[Arc<str>]>,
}

enum GrantedRoute {
    Ingress(Arc<IngressRoute>),
    Egress(Arc<EgressRoute>),
}

impl<A: Action> Permit<A> {
    /// Name of the service that was allowed.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.grant.subject.name
    }

    /// The collection it was allowed for.
    #[must_use]
    pub fn collection(&self) -> Option<&CollectionName> {
        self.grant.collection.as_ref().map(|collection| &collection.name)
    }

    /// The destination it was allowed for.
    #[must_use]
    pub fn destination(&self) -> Option<&str> {
        self.grant.destination.as_ref().map(|destination| destination.name.as_str())
    }

    /// The service it acts for.
    #[must_use]
    pub fn acted_for(&self) -> Option<&str> {
        self.grant.acted_for.as_ref().map(|service| service.name.as_str())
    }

    /// The route it was allowed for.
    #[must_use]
    pub fn route(&self) -> Option<&str> {
        self.grant.route.as_ref().map(|route| match route {
            GrantedRoute::Ingress(route) => route.name.as_str(),
            GrantedRoute::Egress(route) => route.name.as_str(),
        })
    }

    /// The purpose it was allowed for.
    #[must_use]
    pub fn purpose(&self) -> Option<&str> {
        self.grant.purpose.as_deref()
    }

    /// The `@id`s of the statements that allowed it, sorted.
    #[must_use]
    pub fn statements(&self) -> &[Arc<str>] {
        &self.grant.statements
    }
}

impl<A: Action> fmt::Debug for Permit<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("action", &A::KIND)
            .field("subject", &self.subject())
            .field("collection", &self.collection().map(CollectionName::as_str))
            .field("destination", &self.destination())
            .field("acted_for", &self.acted_for())
            .field("route", &self.route())
            .field("purpose", &self.purpose())
            .field("statements", &self.statements())
            .finish()
    }
}

/// Schema, statements and entities of a bundle, with the decisions already taken.
#[derive(Debug)]
pub(crate) struct Decider {
    pub(crate) known: Known,
    pub(crate) engine: Engine,
    cache: Cache,
}

impl Decider {
    /// Ready to decide.
    pub(crate) fn new(known: Known, statements: Statements) -> Result<Self, EntityProblem> {
        Ok(Self { known, engine: Engine::new(statements)?, cache: Cache::default() })
    }

    /// Decides and, when it is allowed, makes the permit.
    pub(crate) fn decide<A: Action>(&self, ask: &Ask<'_>) -> Result<Permit<A>, Refusal> {
        let asked = self.resolve(A::KIND, ask)?;
        let statements = self.outcome(&asked)?;
        Ok(Permit { grant: asked.grant(statements), action: PhantomData })
    }

    /// The ask with its names found in the bundle.
    pub(crate) fn resolve(&self, kind: ActionKind, ask: &Ask<'_>) -> Result<Asked<'_>, Refusal> {
        Asked::resolve(kind, ask, &self.known).map_err(|refused| Refusal::new(Some(kind), refused))
    }

    /// The permitting statements, or the refusal; from the cache when nothing but names and booleans counts.
    pub(crate) fn outcome(&self, asked: &Asked<'_>) -> Result<Arc<[Arc<str>]>, Refusal> {
        match self.verdict(asked) {
            Verdict::Allowed(statements) => Ok(statements),
            Verdict::Refused(refused) => Err(Refusal::new(Some(asked.kind), refused)),
        }
    }

    fn verdict(&self, asked: &Asked<'_>) -> Verdict {
        if self.engine.looks_at_address(asked.kind) {
            return self.evaluate(asked).into();
        }
        let key = asked.key();
        if let Some(verdict) = self.cache.get(&key) {
            return verdict;
        }
        let verdict = Verdict::from(self.evaluate(asked));
        self.cache.insert(key, &verdict);
        verdict
    }

    /// Asks Cedar, whatever the cache holds.
    pub(crate) fn evaluate(&self, asked: &Asked<'_>) -> Evaluated {
        self.engine.evaluate(asked.kind, &asked.parts(&self.engine.system), &self.known.entities)
    }
}
