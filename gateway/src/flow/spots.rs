//! Where the fields of a message stand, in its head or its body, and what takes their place.
//!
//! Must never make edits that are not of one message. Tests: `flow/tests.rs`.

use super::head_fields::{self, HeadEdit, HeadLeaf};
use crate::body::edit::{self, Edit, EditError, Writing};
use crate::body::{Leaf, Text};
use crate::leak::Place;
use crate::problem::Fault;
use cordon_daemon::body::WipedBytes;
use cordon_wire::ProblemCode;
use std::ops::Range;
use zeroize::Zeroizing;

/// Where a field stands.
#[derive(Debug, Clone)]
pub enum At {
    /// In the body, at these bytes, written in this way.
    Body(Range<usize>, Writing),
    /// Outside of it.
    Head(head_fields::Spot),
}

/// A field that was found.
#[derive(Debug)]
pub struct Found<'b> {
    /// Its number in the route.
    pub field: usize,
    /// Where.
    pub at: At,
    /// Its text.
    pub text: Text<'b>,
}

impl<'b> From<Leaf<'b>> for Found<'b> {
    fn from(leaf: Leaf<'b>) -> Self {
        Self { field: leaf.field, at: At::Body(leaf.span, leaf.writing), text: leaf.text }
    }
}

impl From<HeadLeaf> for Found<'_> {
    fn from(leaf: HeadLeaf) -> Self {
        Self { field: leaf.field, at: At::Head(leaf.spot), text: leaf.text }
    }
}

/// Where a field stands, and its name.
#[derive(Debug, Clone)]
pub struct Spot {
    /// Where.
    pub at: At,
    /// As the bundle names it.
    pub label: String,
}

/// What takes the place of the fields of one message.
#[derive(Debug, Default)]
pub struct Edits {
    body: Vec<(Edit, String)>,
    head: Vec<HeadEdit>,
}

impl Edits {
    /// Puts a text in the place of a field; `None` takes it out.
    pub fn put(&mut self, spot: &Spot, text: Option<Zeroizing<String>>) {
        match &spot.at {
            At::Body(span, writing) => {
                self.body.push((Edit { span: span.clone(), text, writing: *writing }, spot.label.clone()));
            }
            At::Head(at) => self.head.push(HeadEdit { spot: at.clone(), text }),
        }
    }

    /// Puts digits in the place of a field: in JSON as a number.
    pub fn put_number(&mut self, spot: &Spot, digits: Zeroizing<String>) {
        let at = match &spot.at {
            At::Body(span, Writing::Json) => At::Body(span.clone(), Writing::Number),
            other => other.clone(),
        };
        self.put(&Spot { at, label: spot.label.clone() }, Some(digits));
    }

    /// Puts words about a text in the place of a field, as much of them as its columns hold.
    pub fn put_words(&mut self, spot: &Spot, words: &str) {
        let room = match &spot.at {
            At::Body(_, Writing::Columns(width)) => words.len().min(*width),
            At::Body(..) | At::Head(_) => words.len(),
        };
        self.put(spot, Some(Zeroizing::new(words.get(..room).unwrap_or_default().to_owned())));
    }

    /// Edits of the body outside of declared fields.
    pub fn put_loose(&mut self, edits: Vec<Edit>) {
        self.body.extend(edits.into_iter().map(|edit| (edit, LOOSE.to_owned())));
    }

    /// The edits of the head.
    pub fn take_head(&mut self) -> Vec<HeadEdit> {
        std::mem::take(&mut self.head)
    }

    /// Edits a body; gives the places of the new texts, in order. One without edits is given back as it is.
    ///
    /// # Errors
    /// [`Fault::Field`] for a text that its columns cannot hold, [`Fault::Leak`] where no field is declared in them,
    /// [`Fault::Internal`] for edits of another body.
    pub fn apply(mut self, body: WipedBytes) -> Result<(WipedBytes, Vec<Range<usize>>), Fault> {
        if self.body.is_empty() {
            return Ok((body, Vec::new()));
        }
        self.body.sort_by_key(|(edit, _)| edit.span.start);
        let (edits, mut labels): (Vec<_>, Vec<_>) = self.body.into_iter().unzip();
        let edited = edit::apply(&body, &edits).map_err(|error| match error {
            EditError::TooLong(number) if labels.get(number).is_some_and(|label| label == LOOSE) => {
                Fault::Leak(Place::Body)
            }
            EditError::TooLong(number) if number < labels.len() => {
                Fault::Field { code: ProblemCode::BadField, field: labels.swap_remove(number) }
            }
            EditError::TooLong(_) | EditError::Misfit => Fault::Internal("internal.edits-do-not-fit"),
        })?;
        Ok((edited.bytes, edited.spans))
    }
}

/// No field has an empty name.
const LOOSE: &str = "";
