//! What a bundle must hold whatever is written in it, checked over everything that it allows.
//!
//! Statements are asked through the authorizer that decides in service, so that a counter-example is an ask that it allows.
//! Routes and destinations are looked at as they are declared. Must never call a claim proved that was not looked at in full.
//! Tests: `tests/tests/policy_proof.rs`.

use crate::action::ActionKind;
use crate::bundle::Bundle;
use crate::grants::{Grant, Grants};
use crate::routes::{Content, IngressOp, OnLeak};
use crate::segments::{Role, Scope};

/// A claim, and whether it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What it says, as a sentence.
    pub says: &'static str,
    /// What it was judged by.
    pub judged_by: Basis,
    /// What speaks against it; it holds if nothing does.
    pub against: Vec<String>,
    /// Why it could not be judged in full.
    pub unsure: Vec<String>,
}

/// What a claim was judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// All that the statements allow.
    Statements,
    /// Routes, destinations and networks as they are declared.
    Declarations,
}

impl Claim {
    /// True if it was judged in full and nothing speaks against it.
    #[must_use]
    pub const fn is_proved(&self) -> bool {
        self.against.is_empty() && self.unsure.is_empty()
    }
}

impl Bundle {
    /// Judges every claim over what the bundle allows.
    #[must_use]
    pub fn prove(&self, grants: &Grants) -> Vec<Claim> {
        let by_statements = [
            (OUT_OF_SCOPE, self.out_of_scope_may(grants)),
            (LISTED, self.beyond_the_lists(grants)),
            (ONE_WAY_OUT, self.revealed_elsewhere(grants)),
            (NO_ERRORS, grants.errors.clone()),
        ];
        let declared = [
            (NO_WAY_BACK, self.destinations_of_ours()),
            (HELD_EVERYWHERE, self.codes_not_held()),
            (LOOKED_AT, self.let_through()),
        ];
        let unsure = unsure(grants);
        let statements = by_statements.into_iter().map(|(says, against)| Claim {
            says,
            judged_by: Basis::Statements,
            against,
            unsure: unsure.clone(),
        });
        let declared = declared.into_iter().map(|(says, against)| Claim {
            says,
            judged_by: Basis::Declarations,
            against,
            unsure: Vec::new(),
        });
        statements.chain(declared).collect()
    }

    fn is_out(&self, service: &str) -> bool {
        self.service(service).is_none_or(|service| service.out_of_scope())
    }

    fn out_of_scope_may(&self, grants: &Grants) -> Vec<String> {
        let touches = |grant: &&Grant| !matches!(grant.action, ActionKind::Send | ActionKind::Observe);
        grants.all.iter().filter(touches).filter(|grant| self.is_out(&grant.principal)).map(shown).collect()
    }

    fn beyond_the_lists(&self, grants: &Grants) -> Vec<String> {
        let reveals = |grant: &&Grant| grant.action == ActionKind::Detokenize;
        grants.all.iter().filter(reveals).filter(|grant| !self.is_listed(grant)).map(shown).collect()
    }

    /// Whether lists and routes declare what is allowed.
    fn is_listed(&self, grant: &Grant) -> bool {
        let service = grant.acted_for.as_deref().and_then(|name| self.service(name));
        let route = self.egress().iter().find(|route| Some(&route.name) == grant.route.as_ref());
        let (Some(service), Some(route), Some(to)) = (service, route, &grant.destination) else {
            return false;
        };
        let collection = |name: &str| Some(name) == grant.collection.as_deref();
        service.destinations.contains(to)
            && service.collections.iter().any(|name| collection(name.as_str()))
            && route.services.contains(&service.name)
            && route.destination == *to
            && collection(route.collection.as_str())
            && Some(&route.purpose) == grant.purpose.as_ref()
            && route.reveals()
    }

    fn revealed_elsewhere(&self, grants: &Grants) -> Vec<String> {
        let reveals = |grant: &&Grant| grant.action == ActionKind::Detokenize;
        let is_gateway = |grant: &Grant| {
            let role = self.service(&grant.principal).map(|service| service.role);
            role == Some(Role::GatewayEgress) && !grant.from_anywhere && !grant.uncertified
        };
        grants.all.iter().filter(reveals).filter(|grant| !is_gateway(grant)).map(shown).collect()
    }

    /// A destination inside a network of ours that must see no card would be a way to give it cards.
    fn destinations_of_ours(&self) -> Vec<String> {
        let mut against = Vec::new();
        for destination in self.destinations() {
            for segment in self.segments().filter(|segment| segment.scope == Scope::Out) {
                let ours = |range: &ipnet::IpNet| {
                    segment.cidrs.iter().any(|own| own.contains(range) || range.contains(own))
                };
                if destination.addresses.iter().any(ours) {
                    let (to, name) = (&destination.name, &segment.name);
                    against.push(format!("destination {to} lies in segment {name}, which is out of scope"));
                }
            }
        }
        against
    }

    /// A security code cannot be found by its looks: in a type in which its field has no place, it would pass.
    fn codes_not_held(&self) -> Vec<String> {
        let mut against = Vec::new();
        for route in self.ingress() {
            let holds = route.fields.iter().filter(|field| field.op == IngressOp::Hold);
            for field in holds.filter(|field| field.places.head.is_none()) {
                for content in route.content.iter().filter(|content| !field.places.stand_in(**content)) {
                    let (name, label, kind) = (&route.name, field.places.label(), content.as_str());
                    against.push(format!(
                        "route {name}: {label} has no place in {kind}, where a code would pass"
                    ));
                }
            }
        }
        against
    }

    fn let_through(&self) -> Vec<String> {
        let reports = |on_leak: OnLeak| matches!(on_leak, OnLeak::Report(_));
        let ingress =
            self.ingress().iter().filter(|route| reports(route.on_leak) && self.is_out(&route.service));
        let ingress = ingress.map(|route| (&route.name, &route.service));
        let egress = self.egress().iter().filter(|route| reports(route.on_leak));
        let egress = egress.flat_map(|route| route.services.iter().map(|service| (&route.name, service)));
        let egress = egress.filter(|(_, service)| self.is_out(service));
        let says = |(route, service)| {
            format!("route {route}: on_leak = \"report\" passes card numbers on to {service}")
        };
        ingress.chain(egress).map(says).collect()
    }
}

fn shown(grant: &Grant) -> String {
    let statements: Vec<&str> = grant.statements.iter().map(|id| &**id).collect();
    format!("{grant}, by {}", statements.join(", "))
}

fn unsure(grants: &Grants) -> Vec<String> {
    let mut unsure: Vec<_> = grants
        .by_address
        .iter()
        .map(|kind| {
            format!("a statement about {kind} looks at the address, and not every address was asked from")
        })
        .collect();
    if !grants.exhaustive {
        unsure
            .push("there are too many names to combine: ways out were asked for as declared only".to_owned());
    }
    unsure
}

impl Content {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Form => "form",
            Self::Multipart => "multipart",
            Self::Xml => "xml",
            Self::Csv => "csv",
            Self::Fixed => "fixed",
            Self::Text => "text",
        }
    }
}

const OUT_OF_SCOPE: &str = "no service out of scope may have a card number, or touch what protects them";
const LISTED: &str =
    "a card number leaves only to a destination, from a collection and on a route listed for the service";
const ONE_WAY_OUT: &str =
    "card numbers are revealed to the egress gateway alone, from its own network and with its certificate";
const NO_ERRORS: &str = "no statement can fail to be evaluated";
const NO_WAY_BACK: &str = "no destination lies in a network that is out of scope";
const HELD_EVERYWHERE: &str = "security codes are held in every type that their route takes";
const LOOKED_AT: &str = "no route passes a card number outside its fields on to a service out of scope";
