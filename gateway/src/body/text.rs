//! Plain text: what the expressions of the bundle find in it.
//!
//! Must never let two fields share a byte. Expressions run in time linear in the text. Tests: here.

use super::edit::Writing;
use super::{BodyError, Leaf, Text, UNDECLARED};
use cordon_policy::TextSelector;
use std::ops::Range;

/// Finds the fields in the order in which they stand. A field that is found empty is none.
///
/// # Errors
/// [`BodyError::Field`] where two of them share a byte.
pub fn locate<'b>(body: &'b str, declared: &[(usize, TextSelector)]) -> Result<Vec<Leaf<'b>>, BodyError> {
    let mut found: Vec<(usize, Range<usize>)> = declared
        .iter()
        .flat_map(|(field, selector)| selector.find(body).map(move |span| (*field, span)))
        .filter(|(_, span)| !span.is_empty())
        .collect();
    found.sort_by_key(|(_, span)| span.start);
    in_order(&found)?;
    let leaf = |(field, span): (usize, Range<usize>)| {
        let text = Text::Plain(body.get(span.clone()).ok_or(BodyError::Malformed)?);
        Ok(Leaf { field, span, text, writing: Writing::Plain })
    };
    found.into_iter().map(leaf).collect()
}

/// Refuses places that share a byte; they are sorted by where they start.
pub(super) fn in_order(found: &[(usize, Range<usize>)]) -> Result<(), BodyError> {
    let overlap =
        found.iter().zip(found.iter().skip(1)).find(|((_, first), (_, next))| next.start < first.end);
    overlap.map_or(Ok(()), |(_, (field, _))| Err(BodyError::Field(*field)))
}

/// The text as one value.
#[must_use]
pub fn values(body: &str) -> Vec<Leaf<'_>> {
    vec![Leaf { field: UNDECLARED, span: 0..body.len(), text: Text::Plain(body), writing: Writing::Plain }]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selectors(expressions: &[&str]) -> Vec<(usize, TextSelector)> {
        expressions.iter().map(|text| TextSelector::parse(text).unwrap()).enumerate().collect()
    }

    fn found(body: &str, expressions: &[&str]) -> Result<Vec<(usize, String)>, BodyError> {
        let leaves = locate(body, &selectors(expressions))?;
        Ok(leaves.into_iter().map(|leaf| (leaf.field, leaf.text.expose().to_owned())).collect())
    }

    #[test]
    fn every_match_is_a_field_in_order() {
        let body = "PAN: 4111 1111\nCVC: 12\nPAN: \nPAN: 5";
        let all = found(body, &["(?m)^CVC: (?<c>.*)$", "(?m)^PAN: (?<p>.*)$"]).unwrap();
        assert_eq!(all, [(1, "4111 1111".to_owned()), (0, "12".to_owned()), (1, "5".to_owned())]);
        assert_eq!(found("", &["(?<p>.*)"]).unwrap(), []);
    }

    #[test]
    fn digits_of_every_script_are_digits_to_an_expression() {
        let all = found("x \u{661}\u{662}\u{663} y", &[r"(?<d>\d+)"]).unwrap();
        assert_eq!(all, [(0, "\u{661}\u{662}\u{663}".to_owned())]);
    }

    #[test]
    fn two_fields_that_share_a_byte_are_refused() {
        assert_eq!(found("a12b", &["a(?<x>[0-9]+)", "(?<y>[0-9]b)"]), Err(BodyError::Field(1)));
        assert_eq!(found("12", &["(?<x>1)", "(?<y>2)"]).unwrap().len(), 2);
    }
}
