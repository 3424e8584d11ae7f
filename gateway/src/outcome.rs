//! What an answer says became of its request: approved or declined, as the route declares it.
//!
//! Must never change an answer, nor refuse one: what cannot be read has no outcome, and is judged by the leak scan like any
//! other. Tests: `outcome/tests.rs`, and the workspace's `tests` crate.

use crate::body::{self, Declared};
use crate::flow::head_fields;
use crate::gateway::Gateway;
use crate::ledger::{Exchange, Way};
use crate::media::{self, Answer as Kind};
use crate::upstream::Answer;
use cordon_card::{Iin, Pan};
use cordon_policy::{Content, Decision, Outcome as Declaration, OutcomePlace};
use cordon_wire::Submitted;

/// A route's outcome, ready to be read from its answers.
#[derive(Debug)]
pub struct Outcome {
    declaration: Declaration,
    body: Declared,
    head: head_fields::Declared,
    types: Vec<Content>,
}

impl Outcome {
    /// Prepares what a route declares.
    #[must_use]
    pub fn prepare(declaration: &Declaration) -> Self {
        let places = match &declaration.at {
            OutcomePlace::Status => None,
            OutcomePlace::Field(places) => Some(places.as_ref()),
        };
        let head = places.and_then(|places| places.head.clone());
        let stands_in = |content: &Content| places.is_some_and(|places| places.stand_in(*content));
        Self {
            declaration: declaration.clone(),
            body: Declared::new(places).lenient(),
            head: head_fields::Declared(head.into_iter().map(|place| (0, place)).collect()),
            types: Content::ALL.into_iter().filter(stands_in).collect(),
        }
    }

    /// What a decoded answer says. One that says several things says nothing.
    #[must_use]
    pub fn read(&self, answer: &Answer) -> Option<Decision> {
        if self.declaration.at == OutcomePlace::Status {
            return self.declaration.decide(answer.status.as_str());
        }
        let decide = |text: &str| self.declaration.decide(text.trim());
        let in_head = head_fields::locate_in_headers(&answer.headers, &self.head).ok()?;
        let in_head = in_head.iter().map(|leaf| decide(leaf.text.expose()));
        let in_body = self.in_body(answer, &decide);
        let mut found = in_head.chain(in_body);
        let first = found.next()?;
        first.filter(|_| found.all(|other| other == first))
    }

    fn in_body(&self, answer: &Answer, decide: &dyn Fn(&str) -> Option<Decision>) -> Vec<Option<Decision>> {
        if self.types.is_empty() || answer.body.is_empty() {
            return Vec::new();
        }
        let Ok(Kind::Structured(format)) = media::of_answer(&answer.headers, &self.types) else {
            return Vec::new();
        };
        let leaves = body::locate(&format, &answer.body, &self.body, &mut |_| ()).unwrap_or_default();
        leaves.iter().map(|leaf| decide(leaf.text.expose())).collect()
    }
}

/// The issuers of card numbers, each once.
pub fn issuers<'p>(numbers: impl IntoIterator<Item = &'p Submitted<Pan>>) -> Vec<Iin> {
    let mut iins: Vec<Iin> = numbers
        .into_iter()
        .filter_map(|number| match number {
            Submitted::Valid(pan) => Some(pan.iin()),
            Submitted::Invalid(_) => None,
        })
        .collect();
    iins.sort_unstable();
    iins.dedup();
    iins
}

/// Counts and records what an answer says, where its route declares that it says something.
pub fn note(
    gateway: &Gateway,
    exchange: &Exchange,
    way: Way<'_>,
    answer: &Answer,
    iins: &[Iin],
) -> Option<Decision> {
    let decision = way.outcome()?.read(answer);
    gateway.metrics.outcomes.count(way.party(), iins, decision);
    if let Some(decision) = decision {
        gateway.ledger.decides(exchange, way, decision, iins);
    }
    decision
}

#[cfg(test)]
mod tests;
