//! Reading a request: its fields, and what is found outside of them.
//!
//! Must never leave a byte unlooked at but those of fields and of exceptions in force. Tests: `flow/tests.rs`.

use super::spots::Found;
use super::{Inbound, head_fields};
use crate::body;
use crate::leak::exception::Exceptions;
use crate::leak::finding::Finding;
use crate::leak::suspects::Suspects;
use crate::leak::{Place, Search, Sight};
use crate::plan::Fields;
use crate::problem::Fault;
use cordon_card::Pan;
use cordon_policy::{Day, LeakCheck, LookInside, OnLeak};
use std::ops::Range;
use std::sync::Arc;

/// What a route does with a card number outside its fields.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    /// Where it stands open, today.
    pub on_leak: OnLeak,
    /// Where an encoding hides it.
    pub inside: LookInside,
    /// Which numbers count.
    pub check: LeakCheck,
    /// The day.
    pub today: Day,
}

impl Watch {
    /// Refuses all.
    #[must_use]
    pub const fn strict(inside: LookInside, today: Day) -> Self {
        Self { on_leak: OnLeak::Deny, inside, check: LeakCheck::Plausible, today }
    }

    fn search(self) -> Search<'static> {
        let search = Search::new(self.inside);
        match (self.check, self.on_leak) {
            (LeakCheck::Exact, OnLeak::Mask | OnLeak::Report(_)) => search.suspecting(),
            (LeakCheck::Plausible, OnLeak::Report(_)) => search.suspecting(),
            (_, OnLeak::Deny | OnLeak::Mask | OnLeak::Tokenize) => search,
        }
    }
}

/// What was found in a request that does not stop it.
#[derive(Debug)]
pub(super) struct Noted {
    /// What is done about numbers outside the fields.
    pub(super) loose: OnLeak,
    /// Where there is one, if any: in the head, else in the body.
    pub(super) leak: Option<Place>,
    /// Whether there is one in the body.
    pub(super) in_body: bool,
    /// Those whose fate the vault decides.
    pub(super) suspects: Suspects,
    /// How many they were.
    pub(super) suspected: usize,
    /// What of it is recorded, whatever comes next.
    pub(super) findings: Vec<Finding>,
    /// What the route wants of numbers inside an encoding.
    pub(super) rule: LookInside,
    /// What is left alone, if something was.
    pub(super) excepted: Arc<Exceptions>,
    pub(super) today: Day,
}

impl Noted {
    pub(super) fn sight<'p>(&'p self, cleared: &'p [Pan]) -> Sight<'p> {
        Sight { inside: self.rule, exceptions: &self.excepted, today: self.today, cleared }
    }
}

/// What is kept of the two searches.
pub(super) fn noted<Op>(
    fields: &Fields<Op>,
    watch: Watch,
    leak: Option<Place>,
    (head, body): (Search<'_>, Search<'_>),
) -> Noted {
    let spared = [head.spared(), body.spared()];
    let mut findings: Vec<_> = spared.into_iter().flatten().map(Finding::excepted).collect();
    findings.extend((head.reports() || body.reports()).then_some(Finding::INSIDE));
    let excepted = if findings.is_empty() { Arc::default() } else { Arc::clone(&fields.exceptions) };
    let in_body = leak.is_some() && body.found().is_some();
    let suspects = match watch.check {
        LeakCheck::Exact => head.suspects().with(body.suspects()),
        LeakCheck::Plausible => Suspects::default(),
    };
    Noted {
        loose: watch.on_leak,
        leak,
        in_body,
        suspected: suspects.len(),
        suspects,
        findings,
        rule: watch.inside,
        excepted,
        today: watch.today,
    }
}

/// What a request was read into.
pub(super) struct Read<'b> {
    /// The declared fields.
    pub(super) found: Vec<Found<'b>>,
    /// What was found elsewhere in the body.
    pub(super) body: Search<'static>,
    /// And in the head.
    pub(super) head: Search<'static>,
    /// Where in the body the fields and what is left alone stand.
    pub(super) spared: Vec<Range<usize>>,
}

/// Finds the declared fields, and looks everywhere else for card numbers.
pub(super) fn read<'b, Op: Copy>(
    inbound: &'b Inbound,
    fields: &Fields<Op>,
    watch: Watch,
) -> Result<Read<'b>, Fault> {
    let Inbound { head, path_length, format, bytes } = inbound;
    let misread = |error| Fault::of_body(error, |field| fields.label(field));
    let (exceptions, today) = (&fields.exceptions, watch.today);
    let (mut in_head, mut in_body) = (watch.search(), watch.search());
    let aside = head_fields::locate(head, *path_length, &exceptions.head).map_err(misread)?;
    let mut outside = head_fields::locate(head, *path_length, &fields.head).map_err(misread)?;
    let declared = outside.len();
    outside.extend(exceptions.spared_heads(aside, today, *path_length, &mut in_head));
    head_fields::look_outside(&mut in_head, head, *path_length, &outside);
    outside.truncate(declared);
    if let Some(place) = in_head.found().filter(|_| !matches!(watch.on_leak, OnLeak::Report(_))) {
        return Err(Fault::Leak(place));
    }
    let mut found: Vec<_> = outside.into_iter().map(Found::from).collect();
    let mut spared = Vec::new();
    if let Some(format) = format {
        let mut heard = |text: &str| in_body.look(Place::Body, text.as_bytes());
        for leaf in body::locate(format, bytes, &fields.declared, &mut heard).map_err(misread)? {
            if !exceptions.include(leaf.field) {
                spared.push(leaf.span.clone());
                found.push(leaf.into());
            } else if exceptions.spare(leaf.field, today, (Place::Body, leaf.text.expose()), &mut in_body) {
                spared.push(leaf.span);
            }
        }
        in_body.look_outside(Place::Body, bytes, &spared);
    }
    Ok(Read { found, body: in_body, head: in_head, spared })
}
