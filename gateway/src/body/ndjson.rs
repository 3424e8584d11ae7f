//! JSON lines: one JSON document a line, each found in as `body/json.rs` does.
//!
//! Must never take two lines for one document, nor pass over a line that is none. Lines of blanks are.
//! Tests: here.

use super::path::Selectors;
use super::{BodyError, Heard, Leaf, json};

/// Reads every line and gives the declared fields in the order in which they stand.
///
/// # Errors
/// As [`json::locate`], for any line.
pub fn locate<'b>(body: &'b str, declared: &Selectors, heard: Heard<'_>) -> Result<Vec<Leaf<'b>>, BodyError> {
    in_lines(body, |line| json::locate(line, declared, heard))
}

/// The string values of a body that [`locate`] has accepted, with their places.
///
/// # Errors
/// [`BodyError::Malformed`] when it has not.
pub fn values(body: &str) -> Result<Vec<Leaf<'_>>, BodyError> {
    in_lines(body, json::values)
}

fn in_lines<'b>(
    body: &'b str,
    mut read: impl FnMut(&'b str) -> Result<Vec<Leaf<'b>>, BodyError>,
) -> Result<Vec<Leaf<'b>>, BodyError> {
    let mut all = Vec::new();
    let mut start = 0_usize;
    for line in body.split('\n') {
        if !line.trim_ascii().is_empty() {
            let leaves = read(line)?.into_iter().map(|leaf| Leaf {
                span: leaf.span.start.saturating_add(start)..leaf.span.end.saturating_add(start),
                ..leaf
            });
            all.extend(leaves);
        }
        start = start.saturating_add(line.len()).saturating_add(1);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_policy::JsonSelector;

    fn found(body: &str) -> Result<Vec<(usize, String)>, BodyError> {
        let steps = JsonSelector::parse("$.pan").unwrap().segments().to_vec();
        let leaves = locate(body, &Selectors::new([(0, steps)]), &mut |_| ())?;
        Ok(leaves.into_iter().map(|leaf| (leaf.span.start, leaf.text.expose().to_owned())).collect())
    }

    #[test]
    fn fields_of_every_line_have_their_places_in_the_body() {
        let body = "{\"pan\":\"1\"}\r\n\n {\"x\":1}\n{\"pan\": \"\\u0032\"}";
        assert_eq!(found(body).unwrap(), [(7, "1".to_owned()), (31, "2".to_owned())]);
        assert_eq!(body.get(31..39).unwrap(), "\"\\u0032\"");
        assert_eq!(found("").unwrap(), []);
        let values: Vec<_> = values(body).unwrap().into_iter().map(|leaf| leaf.span).collect();
        assert_eq!(values, [7..10, 31..39]);
    }

    #[test]
    fn a_line_that_is_no_document_is_refused() {
        for body in [
            "{}\n{",
            "{\n}",
            "{}{}",
            "{} {}",
            "{\"pan\":\"1\",\"pan\":\"2\"}",
            "{}\r{}",
            "\u{1e}{}",
            "{},\n{}",
        ] {
            assert_eq!(found(body), Err(BodyError::Malformed), "{body:?}");
        }
        assert_eq!(found("{}\n{\"pan\":null}"), Err(BodyError::Field(0)));
    }
}
