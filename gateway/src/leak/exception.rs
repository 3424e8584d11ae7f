//! Places in which something that looks like a card number may stand, up to a day (`[[ingress.exception]]`).
//!
//! Must never spare more than the one value at its place, nor that after its day, nor what an encoding hides in it. A card
//! in a declared field and a number that was just revealed are judged elsewhere, before. Tests: `flow/tests.rs`,
//! `answer/tests.rs`, `tests/tests/exceptions.rs`.

use super::{Place, Search};
use crate::body::{self, BodyError, Declared, Format, Heard};
use crate::flow::head_fields::{self, HeadLeaf};
use cordon_policy::{Day, Exception};
use std::ops::Range;

/// The exceptions of one side of a route. Their numbers follow those of the fields.
#[derive(Debug, Default)]
pub struct Exceptions {
    body: Declared,
    /// Those outside of bodies.
    pub head: head_fields::Declared,
    first: usize,
    until: Vec<Day>,
}

impl Exceptions {
    /// Prepares exceptions, numbered from `first`.
    #[must_use]
    pub fn new(first: usize, list: &[&Exception]) -> Self {
        let nowhere = cordon_policy::Places::default();
        let places =
            std::iter::repeat_n(&nowhere, first).chain(list.iter().map(|exception| &exception.places));
        let head = (first..).zip(list).filter_map(|(number, one)| Some((number, one.places.head.clone()?)));
        Self {
            body: Declared::new(places).lenient(),
            head: head_fields::Declared(head.collect()),
            first,
            until: list.iter().map(|exception| exception.until).collect(),
        }
    }

    /// Whether this number is one of them.
    #[must_use]
    pub const fn include(&self, field: usize) -> bool {
        field >= self.first
    }

    fn in_force(&self, field: usize, today: Day) -> bool {
        let number = field.checked_sub(self.first).and_then(|number| self.until.get(number));
        number.is_some_and(|until| !until.is_over(today))
    }

    /// Whether the value of an exception is left alone. One that is not in force is looked at like any other.
    pub fn spare(
        &self,
        field: usize,
        today: Day,
        (place, text): (Place, &str),
        search: &mut Search<'_>,
    ) -> bool {
        let spared = self.in_force(field, today);
        if spared {
            search.spare(place, text.as_bytes());
        } else {
            search.look(place, text.as_bytes());
        }
        spared
    }

    /// Of fields found in a head, those that are left alone.
    #[must_use]
    pub fn spared_heads(
        &self,
        found: Vec<HeadLeaf>,
        today: Day,
        path_length: usize,
        search: &mut Search<'_>,
    ) -> Vec<HeadLeaf> {
        let mut spared = |leaf: &HeadLeaf| {
            self.spare(leaf.field, today, (leaf.place(path_length), leaf.text.expose()), search)
        };
        found.into_iter().filter(|leaf| spared(leaf)).collect()
    }

    /// Looks through a body, its decoded keys and values and its bytes, but at what is left alone. `also` hears every
    /// decoded text, that of exceptions too.
    ///
    /// # Errors
    /// [`BodyError`] for a body that cannot be read; it must not be passed on.
    pub fn look_through(
        &self,
        today: Day,
        search: &mut Search<'_>,
        (format, bytes): (&Format, &[u8]),
        also: Heard<'_>,
    ) -> Result<(), BodyError> {
        let mut heard = |text: &str| {
            also(text);
            search.look(Place::Body, text.as_bytes());
        };
        let leaves = body::locate(format, bytes, &self.body, &mut heard)?;
        let mut spans = Vec::new();
        for leaf in leaves {
            also(leaf.text.expose());
            if self.spare(leaf.field, today, (Place::Body, leaf.text.expose()), search) {
                spans.push(leaf.span);
            }
        }
        search.look_outside(Place::Body, bytes, &spans);
        Ok(())
    }

    /// What is left alone in a body, in order.
    ///
    /// # Errors
    /// [`BodyError`] for a body that cannot be read.
    pub fn spans(&self, today: Day, format: &Format, bytes: &[u8]) -> Result<Vec<Range<usize>>, BodyError> {
        if self.until.is_empty() {
            return Ok(Vec::new());
        }
        let leaves = body::locate(format, bytes, &self.body, &mut |_| ())?;
        let in_force = leaves.into_iter().filter(|leaf| self.in_force(leaf.field, today));
        Ok(in_force.map(|leaf| leaf.span).collect())
    }
}
