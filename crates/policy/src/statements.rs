//! The Cedar side of a bundle: schema and statements, validated strictly, each with its `@id` and place.
//!
//! Must never accept a statement with a validation error or warning: Cedar skips a statement that errs, so a broken
//! `forbid` would not forbid.
//! Tests: `statements/tests.rs` and `crates/policy/tests/bundle/faults.rs`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use cedar_policy::{
    ActionConstraint, Effect, Entities, EntityUid, Policy, PolicyId, PolicySet, Schema, ValidationMode,
    Validator,
};
use miette::Diagnostic;

use crate::action::ActionKind;
use crate::fault::{Faults, Source};
use crate::known::{EntityProblem, Kind};
use crate::segments::name_text;

/// Permit or forbid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementEffect {
    /// Allows when nothing forbids.
    Permit,
    /// Wins over every permit.
    Forbid,
}

/// A statement of the bundle: its `@id`, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The value of its `@id` annotation.
    pub id: Arc<str>,
    /// File name relative to the bundle.
    pub file: String,
    /// Line of its first character, from 1.
    pub line: usize,
    /// Column of its first character, from 1.
    pub column: usize,
    /// Permit or forbid.
    pub effect: StatementEffect,
    /// Actions it is about.
    pub actions: Vec<ActionKind>,
}

/// Schema and statements of a bundle, ready to be asked.
#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) schema: Schema,
    /// In file order.
    pub(crate) all: Vec<Statement>,
    slices: BTreeMap<ActionKind, Slice>,
}

/// The statements that can apply to one action: Cedar has no index, so fewer are faster.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) action: EntityUid,
    pub(crate) policies: PolicySet,
    /// True when a statement looks at the source address itself: its decision must not be cached.
    pub(crate) looks_at_address: bool,
}

impl Statements {
    /// The statements that can apply to an action.
    pub(crate) fn slice(&self, kind: ActionKind) -> Option<&Slice> {
        self.slices.get(&kind)
    }

    /// A statement by its id.
    pub(crate) fn get(&self, id: &str) -> Option<&Statement> {
        self.all.iter().find(|statement| &*statement.id == id)
    }
}

/// Reads schema and statements. `None` when either cannot be used; the faults say why.
pub(crate) fn read(schema: &Source<'_>, sources: &[Source<'_>], faults: &mut Faults) -> Option<Statements> {
    let parsed = read_schema(schema, faults)?;
    let actions = declared_actions(&parsed, schema, faults)?;
    let validator = Validator::new(parsed);
    let mut all = Vec::new();
    let mut policies: Vec<(Policy, Vec<ActionKind>)> = Vec::new();
    for source in sources {
        for policy in read_file(source, &validator, faults) {
            let actions = kinds(&policy, &actions);
            match identified(&policy, source, &all, faults) {
                Some((id, line, column)) => {
                    let effect = match policy.effect() {
                        Effect::Permit => StatementEffect::Permit,
                        Effect::Forbid => StatementEffect::Forbid,
                    };
                    policies.push((policy.new_id(PolicyId::new(&id)), actions.clone()));
                    let file = source.file.to_owned();
                    all.push(Statement { id: Arc::from(id), file, line, column, effect, actions });
                }
                None => continue,
            }
        }
    }
    let slices =
        slices(&policies, &actions).map_err(|problem| faults.of_file(schema.file, problem.0, None)).ok()?;
    Some(Statements { schema: validator.schema().clone(), all, slices })
}

fn read_schema(source: &Source<'_>, faults: &mut Faults) -> Option<Schema> {
    match Schema::from_cedarschema_str(source.text) {
        Ok((schema, warnings)) => {
            let mut clean = true;
            for warning in warnings {
                clean = false;
                diagnosed(&warning, source, faults);
            }
            clean.then_some(schema)
        }
        Err(error) => {
            diagnosed(&error, source, faults);
            None
        }
    }
}

/// Every action that the daemons ask about, which the schema must declare.
struct Actions {
    uids: Vec<(ActionKind, EntityUid)>,
    hierarchy: Entities,
}

fn declared_actions(schema: &Schema, source: &Source<'_>, faults: &mut Faults) -> Option<Actions> {
    let hierarchy = match schema.action_entities() {
        Ok(entities) => entities,
        Err(error) => {
            faults.of_file(source.file, format!("the actions cannot be read: {error}"), None);
            return None;
        }
    };
    let mut uids = Vec::new();
    let mut complete = true;
    for kind in ActionKind::ALL {
        match Kind::Action.uid(kind.as_str()) {
            Ok(uid) if hierarchy.get(&uid).is_some() => uids.push((kind, uid)),
            _ => {
                complete = false;
                let help = "copy the schema that ships with Cordon".to_owned();
                faults.of_file(source.file, format!("the schema lacks the action \"{kind}\""), Some(help));
            }
        }
    }
    complete.then_some(Actions { uids, hierarchy })
}

fn read_file(source: &Source<'_>, validator: &Validator, faults: &mut Faults) -> Vec<Policy> {
    let set: PolicySet = match source.text.parse() {
        Ok(set) => set,
        Err(errors) => {
            for error in cedar_policy::ParseErrors::iter(&errors) {
                diagnosed(error, source, faults);
            }
            return Vec::new();
        }
    };
    if set.num_of_templates() > 0 {
        let help = "write the entity in place of ?principal or ?resource".to_owned();
        faults.of_file(source.file, "templates are not used in a bundle", Some(help));
    }
    let checked = validator.validate(&set, ValidationMode::Strict);
    for error in checked.validation_errors() {
        diagnosed(error, source, faults);
    }
    if checked.validation_passed() {
        // With errors, the warnings are mostly their echo ("can never hold").
        for warning in checked.validation_warnings() {
            diagnosed(warning, source, faults);
        }
    }
    let mut policies: Vec<Policy> = set.policies().cloned().collect();
    policies.sort_by_key(|policy| span(policy).start);
    policies
}

/// The id a statement may keep, with its place; a missing, odd or doubled one is a fault.
fn identified(
    policy: &Policy,
    source: &Source<'_>,
    earlier: &[Statement],
    faults: &mut Faults,
) -> Option<(String, usize, usize)> {
    let span = span(policy);
    let (line, column) = source.position(span.start);
    let Some(id) = policy.annotation("id") else {
        let help = "put @id(\"what-it-does\") before it: decisions and the audit log name it so".to_owned();
        faults.at(source, &span, "this statement has no @id", Some(help));
        return None;
    };
    if let Err(mistake) = name_text(id) {
        faults.at(source, &span, format!("as an @id, {}", mistake.message), mistake.help);
        return None;
    }
    if let Some(first) = earlier.iter().find(|statement| &*statement.id == id) {
        let message = format!("the @id \"{id}\" is taken by the statement at {}:{}", first.file, first.line);
        faults.at(source, &span, message, Some("ids are unique in a bundle".to_owned()));
        return None;
    }
    Some((id.to_owned(), line, column))
}

fn span(policy: &Policy) -> Range<usize> {
    let place = policy.as_ref().loc();
    place.map_or(0..0, |place| place.start()..place.end())
}

/// The actions that a statement's scope can match.
fn kinds(policy: &Policy, actions: &Actions) -> Vec<ActionKind> {
    let matches =
        |uid: &EntityUid, wanted: &EntityUid| uid == wanted || actions.hierarchy.is_ancestor_of(wanted, uid);
    let constraint = policy.action_constraint();
    let applies = |uid: &EntityUid| match &constraint {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(wanted) => uid == wanted,
        ActionConstraint::In(wanted) => wanted.iter().any(|wanted| matches(uid, wanted)),
    };
    actions.uids.iter().filter(|(_, uid)| applies(uid)).map(|(kind, _)| *kind).collect()
}

fn slices(
    policies: &[(Policy, Vec<ActionKind>)],
    actions: &Actions,
) -> Result<BTreeMap<ActionKind, Slice>, EntityProblem> {
    let mut slices = BTreeMap::new();
    for (kind, action) in &actions.uids {
        let matching = policies.iter().filter(|(_, kinds)| kinds.contains(kind)).map(|(policy, _)| policy);
        let looks_at_address = matching.clone().any(looks_at_address);
        let policies = PolicySet::from_policies(matching.cloned())
            .map_err(|error| EntityProblem(format!("the statements cannot be combined: {error}")))?;
        slices.insert(*kind, Slice { action: action.clone(), policies, looks_at_address });
    }
    Ok(slices)
}

/// True unless every use of `context` in the statement reads an attribute other than the source address.
fn looks_at_address(policy: &Policy) -> bool {
    // A statement whose syntax tree cannot be had is treated as one that looks.
    policy.to_json().map_or(true, |tree| uses_address(&tree))
}

fn uses_address(tree: &serde_json::Value) -> bool {
    match tree {
        serde_json::Value::Object(map) => {
            if map.get("Var").and_then(serde_json::Value::as_str) == Some("context") {
                return true;
            }
            if map.get("attr").and_then(serde_json::Value::as_str) == Some(SOURCE_IP) {
                return true;
            }
            let plain_read = map.contains_key("attr")
                && map.get("left").and_then(|left| left.get("Var")).and_then(serde_json::Value::as_str)
                    == Some("context");
            !plain_read && map.values().any(uses_address)
        }
        serde_json::Value::Array(values) => values.iter().any(uses_address),
        _ => false,
    }
}

/// Notes what Cedar says, where Cedar says it.
fn diagnosed(diagnostic: &dyn Diagnostic, source: &Source<'_>, faults: &mut Faults) {
    let offset = diagnostic.labels().and_then(|mut labels| labels.next()).map(|label| label.offset());
    let message = diagnostic.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    // Cedar names the statement by its number in the file; the place says it better.
    let message = match message.strip_prefix("for policy `").and_then(|rest| rest.split_once('`')) {
        Some((_number, rest)) => rest.trim_start_matches([',', ':', ' ']).to_owned(),
        None => message,
    };
    let help = diagnostic.help().map(|help| help.to_string());
    match offset {
        Some(offset) => faults.at(source, &(offset..offset), message, help),
        None => faults.of_file(source.file, message, help),
    }
}

/// The context attribute that makes a decision depend on the address.
const SOURCE_IP: &str = "source_ip";

#[cfg(test)]
mod tests;
