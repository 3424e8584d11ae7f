//! Follows the selectors of a route through a JSON or XML document that streams past: which declared field is this?
//!
//! Must never hold the document, look ahead, or let a selector's cost grow with the depth of a body.
//! Tests: here (against a tree evaluator in `body/json/tests.rs`).

use cordon_policy::{Pick, Step};
use std::ops::Range;

/// The selectors of a route, each with the number of the field it belongs to.
#[derive(Debug, Clone, Default)]
pub struct Selectors {
    list: Vec<(usize, Vec<Step>)>,
    lenient: bool,
}

impl Selectors {
    /// Collects the selectors of a route's fields; `field` is what [`Hit::Field`] will say.
    pub fn new(declared: impl IntoIterator<Item = (usize, Vec<Step>)>) -> Self {
        Self { list: declared.into_iter().collect(), lenient: false }
    }

    /// The same, but a field that is no text is passed over as undeclared: for messages that are not ours to correct.
    #[must_use]
    pub fn lenient(self) -> Self {
        Self { lenient: true, ..self }
    }

    /// Whether a field that is no text is passed over.
    #[must_use]
    pub const fn is_lenient(&self) -> bool {
        self.lenient
    }
}

/// What the selectors say of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hit {
    /// No selector names it.
    Undeclared,
    /// It is the field of this number.
    Field(usize),
    /// Several fields claim it, this one among them: the route contradicts itself for this body.
    Contested(usize),
}

/// A value's place in the document, as the selectors see it: positions that may still be reached inside it.
#[derive(Debug, Clone)]
pub struct Place(Range<usize>);

/// A child of a value, as its parent names it.
#[derive(Debug, Clone, Copy)]
pub enum Child<'k> {
    /// The member of this name.
    Member(&'k str),
    /// The element at this position.
    Element(u64),
}

/// Follows all selectors at once; the positions of all open values stand on one stack.
#[derive(Debug)]
pub struct Follower<'s> {
    selectors: &'s Selectors,
    stack: Vec<Position>,
}

/// Selector `selector` waits for its segment number `segment` to match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    selector: usize,
    segment: usize,
}

impl<'s> Follower<'s> {
    /// Starts at the document; gives its place.
    #[must_use]
    pub fn new(selectors: &'s Selectors) -> (Self, Place) {
        let stack: Vec<_> =
            (0..selectors.list.len()).map(|selector| Position { selector, segment: 0 }).collect();
        let root = Place(0..stack.len());
        (Self { selectors, stack }, root)
    }

    /// Whether a field that is no text is passed over.
    #[must_use]
    pub const fn is_lenient(&self) -> bool {
        self.selectors.is_lenient()
    }

    /// Steps from `parent` into one of its children; [`Follower::back_to`] the parent undoes it.
    pub fn enter(&mut self, parent: &Place, child: Child<'_>) -> (Hit, Place) {
        let start = self.stack.len();
        let mut hit = Hit::Undeclared;
        for index in parent.0.clone() {
            let Some(&at) = self.stack.get(index) else { continue };
            let Some((field, steps)) = self.selectors.list.get(at.selector) else { continue };
            let Some(step) = steps.get(at.segment) else { continue };
            let (picks, stays) = match step {
                Step::Child(picks) => (picks, false),
                Step::Descendant(picks) => (picks, true),
            };
            if stays {
                self.push(start, at);
            }
            if picks.iter().any(|pick| child.is(pick)) {
                let next = Position { segment: at.segment.saturating_add(1), ..at };
                if next.segment == steps.len() {
                    hit = hit.and(*field);
                } else {
                    self.push(start, next);
                }
            }
        }
        (hit, Place(start..self.stack.len()))
    }

    /// Steps back to `place` from anywhere inside it.
    pub fn back_to(&mut self, place: &Place) {
        self.stack.truncate(place.0.end);
    }

    /// Adds a position to the frame that begins at `start`, once: `$..a..a` must not double with every level.
    fn push(&mut self, start: usize, position: Position) {
        if !self.stack.iter().skip(start).any(|known| *known == position) {
            self.stack.push(position);
        }
    }
}

impl Child<'_> {
    fn is(self, pick: &Pick) -> bool {
        match (pick, self) {
            (Pick::Any, _) => true,
            (Pick::Name(name), Self::Member(key)) => name == key,
            (Pick::Index(wanted), Self::Element(index)) => *wanted == index,
            (Pick::Name(_), Self::Element(_)) | (Pick::Index(_), Self::Member(_)) => false,
        }
    }
}

impl Hit {
    const fn and(self, field: usize) -> Self {
        match self {
            Self::Undeclared => Self::Field(field),
            Self::Field(known) if known == field => self,
            Self::Field(known) | Self::Contested(known) => Self::Contested(known),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_policy::JsonSelector;

    fn selectors(texts: &[&str]) -> Selectors {
        let parsed = texts.iter().map(|text| JsonSelector::parse(text).unwrap().segments().to_vec());
        Selectors::new(parsed.enumerate())
    }

    /// Walks one path from the document and gives what the selectors say of its end.
    fn at(selectors: &Selectors, path: &[Child<'_>]) -> Hit {
        let (mut follower, mut place) = Follower::new(selectors);
        let mut hit = Hit::Undeclared;
        for step in path {
            (hit, place) = follower.enter(&place, *step);
        }
        hit
    }

    use Child::{Element, Member};

    #[test]
    fn a_name_matches_at_its_depth_only() {
        let declared = selectors(&["$.card.number"]);
        assert_eq!(at(&declared, &[Member("card"), Member("number")]), Hit::Field(0));
        assert_eq!(at(&declared, &[Member("number")]), Hit::Undeclared);
        assert_eq!(at(&declared, &[Member("card")]), Hit::Undeclared);
        assert_eq!(at(&declared, &[Member("card"), Member("Number")]), Hit::Undeclared);
        assert_eq!(at(&declared, &[Member("x"), Member("card"), Member("number")]), Hit::Undeclared);
    }

    #[test]
    fn a_descendant_matches_at_every_depth() {
        let declared = selectors(&["$..number"]);
        assert_eq!(at(&declared, &[Member("number")]), Hit::Field(0));
        assert_eq!(at(&declared, &[Member("a"), Element(3), Member("number")]), Hit::Field(0));
        assert_eq!(at(&declared, &[Member("a"), Element(3)]), Hit::Undeclared);
    }

    #[test]
    fn wildcards_and_indices_keep_arrays_and_objects_apart() {
        let declared = selectors(&["$.cards[*].pan", "$.spare[1]"]);
        assert_eq!(at(&declared, &[Member("cards"), Element(7), Member("pan")]), Hit::Field(0));
        assert_eq!(at(&declared, &[Member("cards"), Member("x"), Member("pan")]), Hit::Field(0));
        assert_eq!(at(&declared, &[Member("spare"), Element(1)]), Hit::Field(1));
        assert_eq!(at(&declared, &[Member("spare"), Element(0)]), Hit::Undeclared);
        assert_eq!(at(&declared, &[Member("spare"), Member("1")]), Hit::Undeclared);
    }

    #[test]
    fn two_fields_for_one_value_are_contested() {
        let declared = selectors(&["$.card.number", "$..number"]);
        assert_eq!(at(&declared, &[Member("card"), Member("number")]), Hit::Contested(0));
        assert_eq!(at(&declared, &[Member("other"), Member("number")]), Hit::Field(1));
    }

    #[test]
    fn one_field_reached_twice_is_not_contested() {
        let declared = selectors(&["$..a..a"]);
        assert_eq!(at(&declared, &[Member("a"), Member("a"), Member("a")]), Hit::Field(0));
    }

    #[test]
    fn positions_do_not_grow_with_depth() {
        let declared = selectors(&["$..a..a..a..b"]);
        let (mut follower, mut place) = Follower::new(&declared);
        for _ in 0..60 {
            (_, place) = follower.enter(&place, Member("a"));
            assert!(place.0.len() <= 4);
        }
        follower.back_to(&Place(0..1));
        assert_eq!(follower.stack.len(), 1);
    }
}
