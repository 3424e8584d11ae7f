//! Asks Cedar: builds the request, checks it against the schema, and reads the answer so that any error refuses.
//!
//! Must never read "allow" from an answer that has an error in it: Cedar skips a statement that errs, and the skipped
//! one may be the `forbid`.
//! Tests: here and `crates/policy/tests/bundle/decisions.rs`.

use std::net::IpAddr;
use std::sync::Arc;

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Entities, EntityUid, PolicyId, Request, Response,
    RestrictedExpression,
};

use crate::action::ActionKind;
use crate::known::{EntityProblem, Kind};
use crate::segments::canonical;
use crate::statements::Statements;

/// Statements and schema, ready to be asked.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) statements: Statements,
    pub(crate) system: EntityUid,
    authorizer: Authorizer,
}

/// What a request is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) principal: &'a EntityUid,
    pub(crate) resource: &'a EntityUid,
    pub(crate) source: IpAddr,
    pub(crate) mtls: bool,
    pub(crate) from_own_segment: bool,
    pub(crate) acted_for: Option<&'a EntityUid>,
    pub(crate) destination: Option<&'a EntityUid>,
    pub(crate) route: Option<&'a EntityUid>,
    pub(crate) purpose: Option<&'a str>,
}

/// Cedar's answer, read strictly. Ids are sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Evaluated {
    /// These permit and nothing forbids.
    Allowed(Vec<Arc<str>>),
    /// These forbid; none when nothing permits.
    Denied(Vec<Arc<str>>),
    /// These could not be evaluated; none when the request itself could not.
    Broken(Vec<Arc<str>>),
}

impl Engine {
    /// Ready to be asked: tries a request of every action, so that a schema that does not fit is found now.
    pub(crate) fn new(statements: Statements) -> Result<Self, EntityProblem> {
        let system = Kind::System.uid("cordon")?;
        let engine = Self { statements, system, authorizer: Authorizer::new() };
        for kind in ActionKind::ALL {
            engine.rehearse(kind)?;
        }
        Ok(engine)
    }

    /// True when a decision about this action may depend on the address itself.
    pub(crate) fn looks_at_address(&self, kind: ActionKind) -> bool {
        self.statements.slice(kind).is_none_or(|slice| slice.looks_at_address)
    }

    /// Asks, and reads the answer.
    pub(crate) fn evaluate(&self, kind: ActionKind, parts: &Parts<'_>, entities: &Entities) -> Evaluated {
        let broken = Evaluated::Broken(Vec::new());
        let Some(slice) = self.statements.slice(kind) else { return broken };
        match self.request(&slice.action, parts) {
            Ok(request) => Evaluated::of(&self.authorizer.is_authorized(&request, &slice.policies, entities)),
            Err(_unfit) => broken,
        }
    }

    fn rehearse(&self, kind: ActionKind) -> Result<(), EntityProblem> {
        let sample = |kind: Kind| kind.uid("sample");
        let (service, destination) = (sample(Kind::Service)?, sample(Kind::Destination)?);
        let (ingress, egress) = (sample(Kind::IngressRoute)?, sample(Kind::EgressRoute)?);
        let collection = sample(Kind::Collection)?;
        let plain = Parts {
            principal: &service,
            resource: &collection,
            source: IpAddr::from([127, 0, 0, 1]),
            mtls: true,
            from_own_segment: true,
            acted_for: None,
            destination: None,
            route: None,
            purpose: None,
        };
        let parts = match kind {
            ActionKind::Tokenize
            | ActionKind::Lookup
            | ActionKind::Recognize
            | ActionKind::Inspect
            | ActionKind::Delete
            | ActionKind::Export => plain,
            ActionKind::Detokenize | ActionKind::Settle => Parts {
                acted_for: Some(&service),
                destination: Some(&destination),
                route: Some(&egress),
                purpose: Some("sample"),
                ..plain
            },
            ActionKind::Administer | ActionKind::Approve | ActionKind::Observe => {
                Parts { resource: &self.system, ..plain }
            }
            ActionKind::Forward => Parts { resource: &ingress, acted_for: Some(&service), ..plain },
            ActionKind::Send => Parts { resource: &egress, destination: Some(&destination), ..plain },
        };
        let action = Kind::Action.uid(kind.as_str())?;
        self.request(&action, &parts).map(|_request| ()).map_err(|problem| {
            EntityProblem(format!("the schema does not fit the requests of \"{kind}\": {}", problem.0))
        })
    }

    fn request(&self, action: &EntityUid, parts: &Parts<'_>) -> Result<Request, EntityProblem> {
        let (principal, resource) = (parts.principal.clone(), parts.resource.clone());
        Request::new(principal, action.clone(), resource, parts.context()?, Some(&self.statements.schema))
            .map_err(|error| EntityProblem(error.to_string()))
    }
}

impl Parts<'_> {
    fn context(&self) -> Result<Context, EntityProblem> {
        let entity = |uid: &EntityUid| RestrictedExpression::new_entity_uid(uid.clone());
        let address = RestrictedExpression::new_ip(canonical(self.source).to_string());
        let parts = [
            ("source_ip", Some(address)),
            ("mtls", Some(RestrictedExpression::new_bool(self.mtls))),
            ("from_own_segment", Some(RestrictedExpression::new_bool(self.from_own_segment))),
            ("acted_for", self.acted_for.map(entity)),
            ("destination", self.destination.map(entity)),
            ("route", self.route.map(entity)),
            ("purpose", self.purpose.map(|text| RestrictedExpression::new_string(text.to_owned()))),
        ];
        let present = parts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Context::from_pairs(present).map_err(|error| EntityProblem(error.to_string()))
    }
}

impl Evaluated {
    fn of(response: &Response) -> Self {
        let diagnostics = response.diagnostics();
        let broken = ids(diagnostics.errors().map(|error| match error {
            AuthorizationError::PolicyEvaluationError(error) => error.policy_id(),
        }));
        if !broken.is_empty() {
            return Self::Broken(broken);
        }
        let reasons = ids(diagnostics.reason());
        match response.decision() {
            Decision::Allow if !reasons.is_empty() => Self::Allowed(reasons),
            // An allow that no statement accounts for cannot be audited.
            Decision::Allow => Self::Broken(Vec::new()),
            Decision::Deny => Self::Denied(reasons),
        }
    }
}

fn ids<'i>(ids: impl Iterator<Item = &'i PolicyId>) -> Vec<Arc<str>> {
    let mut ids: Vec<Arc<str>> = ids.map(|id| Arc::from(AsRef::<str>::as_ref(id))).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn an_error_in_any_statement_overrides_an_allow() {
        let policies = "permit(principal, action, resource); \
                        forbid(principal, action, resource) when { context.nothing };";
        let uid = |text: &str| text.parse::<EntityUid>().unwrap();
        let request =
            Request::new(uid("A::\"a\""), uid("Action::\"b\""), uid("C::\"c\""), Context::empty(), None)
                .unwrap();
        let response =
            Authorizer::new().is_authorized(&request, &policies.parse().unwrap(), &Entities::empty());
        assert_eq!(response.decision(), Decision::Allow, "Cedar skips the forbid");
        assert_eq!(Evaluated::of(&response), Evaluated::Broken(vec![Arc::from("policy1")]));
    }

    #[test]
    fn an_allow_without_a_reason_is_no_allow() {
        let response = Response::new(Decision::Allow, HashSet::new(), Vec::new());
        assert_eq!(Evaluated::of(&response), Evaluated::Broken(Vec::new()));
    }
}
