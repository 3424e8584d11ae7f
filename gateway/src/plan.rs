//! A policy bundle made ready to serve: routes with their selectors, targets with their pinned roots.
//!
//! Must never be half loaded: every file a route or destination names is read here, before the first request.
//! Tests: here; whole bundles in the workspace's `tests` crate.

use crate::abuse;
use crate::answer::declared_types;
use crate::body::Declared;
use crate::config::IdentityConfig;
use crate::flow::head_fields;
use crate::leak::exception::Exceptions;
use crate::outcome::Outcome;
use crate::problem::Fault;
use crate::route::Matched;
use crate::sign::{KeyConfig, KeyError, Signer};
use crate::upstream::{Address, Target};
use cordon_audit::Name;
use cordon_card::Environment;
use cordon_daemon::tls::{self, Identity, Roots, TlsError};
use cordon_policy::{
    AnswerOp, Bundle, Content, Destination, EgressOp, EgressRoute, Exception, Faults, Field, IngressOp,
    IngressRoute, PathPattern, Places, Role, Side,
};
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything that a request is judged and routed by. Replaced as a whole.
#[derive(Debug)]
pub struct Plan {
    /// The bundle, for decisions.
    pub bundle: Bundle,
    /// The service that this gateway's ingress is.
    pub forwarder: Name,
    /// The ways in, in the bundle's order.
    pub ingress: Vec<IngressPlan>,
    /// The ways out, in the bundle's order.
    pub egress: Vec<EgressPlan>,
}

/// A way in, ready to match and parse.
#[derive(Debug)]
pub struct IngressPlan {
    /// As declared.
    pub route: IngressRoute,
    /// Its fields.
    pub fields: Fields<IngressOp>,
    /// The fields of its answers.
    pub answer: Fields<AnswerOp>,
    /// The types that these may be in.
    pub answer_types: Vec<Content>,
    /// What its answers say.
    pub outcome: Option<Outcome>,
    /// Its name for the audit log.
    pub name: Name,
    /// The receiving service's name for the audit log.
    pub service: Name,
    /// Where it leads.
    pub target: Arc<Target>,
    /// How often who may try.
    pub abuse: abuse::Rules,
}

/// A way out, ready to match and parse.
#[derive(Debug)]
pub struct EgressPlan {
    /// As declared.
    pub route: EgressRoute,
    /// Its fields.
    pub fields: Fields<EgressOp>,
    /// The fields of its answers.
    pub answer: Fields<AnswerOp>,
    /// The types that these may be in.
    pub answer_types: Vec<Content>,
    /// What its answers say.
    pub outcome: Option<Outcome>,
    /// Its name for the audit log.
    pub name: Name,
    /// Its destination's name for the audit log.
    pub destination: Name,
    /// Its purpose for the audit log.
    pub purpose: Name,
    /// Where it leads.
    pub target: Arc<Target>,
    /// Signs what is sent.
    pub signer: Signer,
}

/// What the gateway alone has: keys that sign, and certificates to show. Both by the names that a bundle uses.
#[derive(Debug, Clone, Copy)]
pub struct Secrets<'c> {
    /// `[signing]`
    pub signing: &'c HashMap<String, KeyConfig>,
    /// `[client_certificates]`
    pub certificates: &'c HashMap<String, IdentityConfig>,
}

/// The fields of a route: how they are found, what happens to them, and what they are called in a refusal.
#[derive(Debug)]
pub struct Fields<Op> {
    /// For the parsers of bodies.
    pub declared: Declared,
    /// Those outside of bodies.
    pub head: head_fields::Declared,
    /// Places beside them in which something like a card number may stand; numbered behind them.
    pub exceptions: Arc<Exceptions>,
    ops: Vec<Op>,
    labels: Vec<String>,
}

impl<Op: Copy> Fields<Op> {
    /// Prepares the fields of a route's requests.
    pub fn new(fields: &[Field<Op>], exceptions: &[Exception]) -> Self {
        let exceptions = of_side(exceptions, Side::Request);
        let places = || fields.iter().map(|field| &field.places);
        let excepted = || exceptions.iter().map(|exception| &exception.places);
        let head = fields.iter().enumerate();
        let head = head.filter_map(|(number, field)| Some((number, field.places.head.clone()?))).collect();
        Self {
            // Looked for together: a value that is both is contested, and refused.
            declared: Declared::new(places().chain(excepted())),
            head: head_fields::Declared(head),
            ops: fields.iter().map(|field| field.op).collect(),
            labels: places().chain(excepted()).map(Places::label).collect(),
            exceptions: Arc::new(Exceptions::new(fields.len(), &exceptions)),
        }
    }

    /// Prepares those of a route's answers.
    pub fn of_answers(fields: &[Field<Op>], exceptions: &[Exception]) -> Self {
        let strict = Self::new(fields, &[]);
        let exceptions = Exceptions::new(fields.len(), &of_side(exceptions, Side::Answer));
        Self { declared: strict.declared.lenient(), exceptions: Arc::new(exceptions), ..strict }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// What happens to a field.
    ///
    /// # Errors
    /// [`Fault::Internal`] for a number that is not one of this route's.
    pub fn op(&self, field: usize) -> Result<Op, Fault> {
        self.ops.get(field).copied().ok_or(Fault::Internal("internal.field-number"))
    }

    /// The field's name as the bundle writes it.
    pub fn label(&self, field: usize) -> String {
        self.labels.get(field).cloned().unwrap_or_default()
    }
}

fn of_side(exceptions: &[Exception], side: Side) -> Vec<&Exception> {
    exceptions.iter().filter(|exception| exception.side == side).collect()
}

impl Plan {
    /// Loads a bundle. `forwarder` names the service that this gateway's ingress is, where several could be.
    ///
    /// # Errors
    /// [`PlanError`] with everything that is wrong with it.
    pub fn load(
        policies: &Path,
        environment: Environment,
        forwarder: Option<&str>,
        secrets: Secrets<'_>,
    ) -> Result<Self, PlanError> {
        Self::of(Bundle::load(policies).map_err(PlanError::Bundle)?, environment, forwarder, secrets)
    }

    fn of(
        bundle: Bundle,
        environment: Environment,
        forwarder: Option<&str>,
        secrets: Secrets<'_>,
    ) -> Result<Self, PlanError> {
        if bundle.development() && environment == Environment::Live {
            return Err(PlanError::DevelopmentBundle);
        }
        let forwarder = choose_forwarder(&bundle, forwarder)?;
        let ingress = bundle
            .ingress()
            .iter()
            .map(|route| ingress_plan(route, secrets.signing))
            .collect::<Result<_, _>>()?;
        let mut targets = HashMap::new();
        for destination in bundle.destinations() {
            let roots = Roots::load(&destination.roots).map_err(PlanError::Tls)?;
            let address = destination.connect.map_or_else(
                || Address::Resolved { host: destination.host.clone(), port: destination.port },
                Address::Fixed,
            );
            let shown = secrets.certificates.get(&destination.name);
            let shown = shown.map(|files| Identity::load(&files.cert, &files.key)).transpose();
            let config = tls::client_config(roots, shown.map_err(PlanError::Tls)?).map_err(PlanError::Tls)?;
            let authority = authority(&destination.host, destination.port, HTTPS);
            let target = Target::tls(authority, &destination.host, address, config)
                .ok_or_else(|| PlanError::Host(destination.host.clone()))?
                .admitting(destination.clone());
            targets.insert(destination.name.clone(), Arc::new(target));
        }
        if let Some(name) = secrets.certificates.keys().find(|name| !targets.contains_key(*name)) {
            return Err(PlanError::Certificate(name.clone()));
        }
        let egress = bundle
            .egress()
            .iter()
            .map(|route| egress_plan(route, &targets, secrets.signing))
            .collect::<Result<_, _>>()?;
        Ok(Self { forwarder, ingress, egress, bundle })
    }
}

impl Plan {
    /// A plan to rehearse with: its routes read and rewrite as they do in service, but what is behind them is nowhere, and
    /// nothing is read that a bundle only names: roots, keys, abuse rules and signatures stay out.
    ///
    /// # Errors
    /// [`PlanError::Forwarder`] for a bundle without an ingress.
    pub fn unconnected(bundle: Bundle) -> Result<Self, PlanError> {
        let first = bundle.services().find(|service| service.role == Role::GatewayIngress);
        let first = first.map(|service| service.name.clone());
        let forwarder = choose_forwarder(&bundle, first.as_deref())?;
        let nowhere = Arc::new(Target::plain("nowhere.invalid".to_owned(), Address::Fixed(NOWHERE)));
        let keys = HashMap::new();
        let ingress = bundle
            .ingress()
            .iter()
            .map(|route| ingress_parts(route, Arc::clone(&nowhere), abuse::Rules::default()));
        let ingress = ingress.collect();
        let targets = bundle.destinations().map(|to| (to.name.clone(), Arc::clone(&nowhere))).collect();
        let unsigned =
            bundle.egress().iter().map(|route| EgressRoute { signatures: Vec::new(), ..route.clone() });
        let egress = unsigned.map(|route| egress_plan(&route, &targets, &keys)).collect::<Result<_, _>>()?;
        Ok(Self { forwarder, ingress, egress, bundle })
    }

    /// The ports that its upstreams and destinations are on.
    #[must_use]
    pub fn ports(&self) -> BTreeSet<u16> {
        let upstreams = self.bundle.ingress().iter().map(|route| route.upstream.port);
        let port = |destination: &Destination| {
            destination.connect.map_or(destination.port, |address| address.port())
        };
        upstreams.chain(self.bundle.destinations().map(port)).collect()
    }

    /// The folders of the roots that it names: those are replaced, not rewritten, so that leave to read the file alone would
    /// end with the file.
    #[must_use]
    pub fn folders(&self) -> BTreeSet<PathBuf> {
        let upstreams = self.bundle.ingress().iter().filter_map(|route| route.upstream.roots.as_deref());
        let destinations = self.bundle.destinations().map(|destination| destination.roots.as_path());
        upstreams.chain(destinations).filter_map(|roots| roots.parent().map(Path::to_owned)).collect()
    }
}

/// Why a bundle cannot be served. All are the operator's to mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The bundle has faults.
    #[error("the policy bundle cannot be used:\n{0}")]
    Bundle(Faults),
    /// A bundle for development in a live environment.
    #[error("the policy bundle says `development = true`; a live environment refuses it")]
    DevelopmentBundle,
    /// No service has the role, or several have.
    #[error(
        "the bundle needs one service of role \"gateway-ingress\"; if it has several, name ours as [ingress] service"
    )]
    Forwarder,
    /// Roots that cannot be used.
    #[error(transparent)]
    Tls(TlsError),
    /// A host that no certificate can name.
    #[error("`{0}` is not a host name")]
    Host(String),
    /// A key that signs.
    #[error(transparent)]
    Signing(#[from] KeyError),
    /// A certificate for nobody.
    #[error("[client_certificates.{0}]: the bundle declares no destination of this name")]
    Certificate(String),
    /// A route names a destination that is not there; the bundle's own checks should have found it.
    #[error("route `{0}` leads to an undeclared destination")]
    Destination(String),
}

fn choose_forwarder(bundle: &Bundle, named: Option<&str>) -> Result<Name, PlanError> {
    let mut candidates = bundle.services().filter(|service| {
        service.role == Role::GatewayIngress && named.is_none_or(|name| service.name == name)
    });
    match (candidates.next(), candidates.next()) {
        (Some(only), None) => Name::parse(&only.name).map_err(|_not_a_name| PlanError::Forwarder),
        (None | Some(_), _) => Err(PlanError::Forwarder),
    }
}

fn ingress_plan(route: &IngressRoute, keys: &HashMap<String, KeyConfig>) -> Result<IngressPlan, PlanError> {
    let upstream = &route.upstream;
    let address = Address::Resolved { host: upstream.host.clone(), port: upstream.port };
    let target = match &upstream.roots {
        Some(roots) if upstream.tls => {
            let config = tls::client_config(Roots::load(roots).map_err(PlanError::Tls)?, None)
                .map_err(PlanError::Tls)?;
            let authority = authority(&upstream.host, upstream.port, HTTPS);
            Target::tls(authority, &upstream.host, address, config)
                .ok_or_else(|| PlanError::Host(upstream.host.clone()))?
        }
        Some(_) | None if !upstream.tls => {
            Target::plain(authority(&upstream.host, upstream.port, HTTP), address)
        }
        // The bundle requires roots with TLS; without them nothing can be trusted.
        Some(_) | None => return Err(PlanError::Host(upstream.host.clone())),
    };
    let abuse = abuse::Rules::load(&route.name, &route.abuse, keys)?;
    Ok(ingress_parts(route, Arc::new(target), abuse))
}

fn ingress_parts(route: &IngressRoute, target: Arc<Target>, abuse: abuse::Rules) -> IngressPlan {
    IngressPlan {
        fields: Fields::new(&route.fields, &route.exceptions),
        answer: Fields::of_answers(&route.answer, &route.exceptions),
        answer_types: declared_types(&route.answer, &route.exceptions),
        outcome: route.outcome.as_ref().map(Outcome::prepare),
        name: Name::parse_or_withhold(&route.name),
        service: Name::parse_or_withhold(&route.service),
        target,
        abuse,
        route: route.clone(),
    }
}

fn egress_plan(
    route: &EgressRoute,
    targets: &HashMap<String, Arc<Target>>,
    keys: &HashMap<String, KeyConfig>,
) -> Result<EgressPlan, PlanError> {
    let target = targets.get(&route.destination).ok_or_else(|| PlanError::Destination(route.name.clone()))?;
    Ok(EgressPlan {
        fields: Fields::new(&route.fields, &route.exceptions),
        answer: Fields::of_answers(&route.answer, &route.exceptions),
        answer_types: declared_types(&route.answer, &route.exceptions),
        outcome: route.outcome.as_ref().map(Outcome::prepare),
        name: Name::parse_or_withhold(&route.name),
        destination: Name::parse_or_withhold(&route.destination),
        purpose: Name::parse_or_withhold(&route.purpose),
        target: Arc::clone(target),
        signer: Signer::load(&route.name, &route.signatures, keys)?,
        route: route.clone(),
    })
}

/// `host` or `host:port`, as a `Host` header says it.
fn authority(host: &str, port: u16, default: u16) -> String {
    let bare = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == default { bare } else { format!("{bare}:{port}") }
}

impl Matched for IngressPlan {
    fn hosts(&self) -> Option<&[String]> {
        Some(&self.route.hosts)
    }
    fn methods(&self) -> &[String] {
        &self.route.methods
    }
    fn path(&self) -> &PathPattern {
        &self.route.path
    }
}

impl Matched for EgressPlan {
    fn hosts(&self) -> Option<&[String]> {
        None
    }
    fn methods(&self) -> &[String] {
        &self.route.methods
    }
    fn path(&self) -> &PathPattern {
        &self.route.path
    }
}

/// Nobody listens on port 0.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const HTTP: u16 = 80;
const HTTPS: u16 = 443;

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_policy::shipped;

    #[test]
    fn an_authority_is_written_as_a_host_header_says_it() {
        assert_eq!(authority("a.test", 443, HTTPS), "a.test");
        assert_eq!(authority("a.test", 8443, HTTPS), "a.test:8443");
        assert_eq!(authority("::1", 80, HTTP), "[::1]");
    }

    fn bundle(services: &[&str]) -> Bundle {
        let mut segments = String::from(
            "development = true\n[[segment]]\nname = \"cde\"\ncidrs = [\"127.0.0.0/8\"]\nscope = \"cde\"\n",
        );
        for name in services {
            segments.push_str(&format!(
                "[[service]]\nname = \"{name}\"\nuri = \"spiffe://cordon.test/{name}\"\nsegment = \"cde\"\n\
                 role = \"gateway-ingress\"\nowner = \"o\"\nneed = \"n\"\n"
            ));
        }
        let mut files =
            vec![("schema.cedarschema", shipped::SCHEMA), ("segments.toml", &segments), ("routes.toml", "")];
        files.extend(shipped::POLICIES);
        Bundle::parse(&files, Path::new("/nonexistent")).unwrap_or_else(|faults| panic!("{faults}"))
    }

    #[test]
    fn a_development_bundle_is_refused_by_a_live_environment() {
        let (signing, certificates) = (HashMap::new(), HashMap::new());
        let none = Secrets { signing: &signing, certificates: &certificates };
        let refused = Plan::of(bundle(&["in"]), Environment::Live, None, none);
        assert!(matches!(refused, Err(PlanError::DevelopmentBundle)));
    }

    #[test]
    fn the_ingress_s_own_service_must_be_clear() {
        for (services, named) in [(&[][..], None), (&["one", "two"], None), (&["one"], Some("other"))] {
            assert!(
                matches!(choose_forwarder(&bundle(services), named), Err(PlanError::Forwarder)),
                "{services:?}"
            );
        }
        assert_eq!(choose_forwarder(&bundle(&["one"]), None).unwrap().as_str(), "one");
        assert_eq!(choose_forwarder(&bundle(&["one", "two"]), Some("two")).unwrap().as_str(), "two");
    }
}
