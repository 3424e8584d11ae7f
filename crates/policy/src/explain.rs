//! Says why: which statements decided, where they stand, and what an ask was short of.
//!
//! Must never decide: it shows the decision that `decide` takes from the same parts.
//! Tests: `crates/policy/tests/bundle/explain.rs`.

use std::fmt;
use std::sync::Arc;

use crate::action::ActionKind;
use crate::decide::{Ask, Asked, Decider, Evaluated, Refusal, RefusalKind};
use crate::statements::{Statement, StatementEffect};

/// A decision with its reasons. Holds names of the bundle only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What was asked for.
    pub action: ActionKind,
    /// Who asked.
    pub principal: String,
    /// True when it is allowed.
    pub allowed: bool,
    /// True when it is denied because a statement, or the request itself, could not be evaluated.
    pub broken: bool,
    /// The statements that decided: the permits of an allow, the forbids (or the broken ones) of a deny.
    pub deciding: Vec<Statement>,
    /// For a deny: permits for the same action, whose conditions did not hold or were overridden.
    pub near: Vec<Statement>,
    /// What is known of the ask that usually stands in the way, in words.
    pub observations: Vec<String>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = if self.allowed { "allowed" } else { "denied" };
        writeln!(f, "{outcome}: {} by \"{}\"", self.action, self.principal)?;
        for statement in &self.deciding {
            let verb = match statement.effect {
                _ if self.broken => "not to be evaluated:",
                StatementEffect::Permit => "permitted by",
                StatementEffect::Forbid => "forbidden by",
            };
            writeln!(f, "  {verb} {statement}")?;
        }
        if self.broken {
            writeln!(f, "  an evaluation error refuses, whatever other statements say")?;
        } else if !self.allowed && self.deciding.is_empty() {
            writeln!(f, "  no statement permits it")?;
        }
        for statement in &self.near {
            writeln!(f, "  could be permitted by {statement}")?;
        }
        for observation in &self.observations {
            writeln!(f, "  note: {observation}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@id(\"{}\") at {}:{}", self.id, self.file, self.line)
    }
}

/// Decides anew and tells why.
pub(crate) fn explain(decider: &Decider, action: &str, ask: &Ask<'_>) -> Result<Explanation, Refusal> {
    let kind: ActionKind =
        action.parse().map_err(|_unknown| Refusal::new(None, RefusalKind::UnknownAction))?;
    let asked = decider.resolve(kind, ask)?;
    let statements = &decider.engine.statements;
    let (allowed, ids, broken) = match decider.evaluate(&asked) {
        Evaluated::Allowed(ids) => (true, ids, false),
        Evaluated::Denied(ids) => (false, ids, false),
        Evaluated::Broken(ids) => (false, ids, true),
    };
    let find = |id: &Arc<str>| statements.get(id).cloned();
    let near = |statement: &&Statement| {
        statement.effect == StatementEffect::Permit && statement.actions.contains(&kind)
    };
    Ok(Explanation {
        action: kind,
        principal: asked.principal.value.name.clone(),
        allowed,
        broken,
        deciding: ids.iter().filter_map(find).collect(),
        near: if allowed { Vec::new() } else { statements.all.iter().filter(near).cloned().collect() },
        observations: if allowed { Vec::new() } else { observations(&asked) },
    })
}

/// Facts that usually explain a deny, whatever the statements say exactly.
fn observations(asked: &Asked<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let caller = &asked.principal.value;
    notes.push(format!("\"{}\" has the role {}", caller.name, caller.role.as_str()));
    if caller.out_of_scope() {
        notes.push(format!("\"{}\" is out of PCI scope: its segment is \"{}\"", caller.name, caller.segment));
    }
    // `forward` is about a public client: it has neither certificate nor a segment.
    if asked.kind != ActionKind::Forward {
        if !asked.mtls {
            notes.push("the connection has no verified client certificate".to_owned());
        }
        if !asked.from_own_segment {
            notes.push(format!("the address is in no range of the caller's segment \"{}\"", caller.segment));
        }
    }
    if asked.kind == ActionKind::Lookup && !caller.may_lookup {
        notes.push(format!("\"{}\" has no `may_lookup`", caller.name));
    }
    if asked.kind == ActionKind::Recognize {
        notes.push("only a route with leak_check = \"exact\" lets its gateway ask this".to_owned());
    }
    let holder = asked.acted_for.map_or(caller, |service| &service.value);
    if let Some(collection) = asked.collection
        && !holder.collections.contains(&collection.value.name)
    {
        notes.push(format!("\"{}\" does not list collection \"{}\"", holder.name, collection.value.name));
    }
    if let Some(destination) = asked.destination
        && !holder.destinations.contains(&destination.value.name)
    {
        notes.push(format!("\"{}\" does not list destination \"{}\"", holder.name, destination.value.name));
    }
    notes.extend(route_observations(asked));
    notes
}

/// Where the ask differs from the route it names.
fn route_observations(asked: &Asked<'_>) -> Vec<String> {
    use crate::decide::AskedRoute;
    let mut notes = Vec::new();
    match asked.route {
        None => {}
        Some(AskedRoute::Ingress(route)) => {
            let route = &route.value;
            if asked.acted_for.is_some_and(|service| service.value.name != route.service) {
                notes.push(format!("route \"{}\" leads to \"{}\"", route.name, route.service));
            }
        }
        Some(AskedRoute::Egress(route)) => {
            let route = &route.value;
            let user = asked.acted_for.unwrap_or(asked.principal);
            if !route.services.contains(&user.value.name) {
                notes.push(format!("route \"{}\" is not declared for \"{}\"", route.name, user.value.name));
            }
            if asked.destination.is_some_and(|destination| destination.value.name != route.destination) {
                notes.push(format!("route \"{}\" leads to \"{}\"", route.name, route.destination));
            }
            if asked.collection.is_some_and(|collection| collection.value.name != route.collection) {
                notes.push(format!("route \"{}\" is for collection \"{}\"", route.name, route.collection));
            }
            if asked.purpose.is_some_and(|(_, purpose)| **purpose != *route.purpose) {
                notes.push(format!("route \"{}\" is for purpose \"{}\"", route.name, route.purpose));
            }
            if asked.kind == ActionKind::Detokenize && !route.reveals() {
                notes.push(format!("route \"{}\" has no field that reveals a card", route.name));
            }
        }
    }
    notes
}
