//! Lines of fixed columns: fields by the columns in which they stand.
//!
//! Must never count characters where another reader counts bytes: only ASCII is taken. Tests: here.

use super::edit::Writing;
use super::text::in_order;
use super::{BodyError, Leaf, Text, UNDECLARED};
use cordon_policy::FixedColumns;
use std::ops::Range;

/// Reads every line and gives the declared fields in the order in which they stand. Columns of nothing but spaces
/// hold no field.
///
/// # Errors
/// [`BodyError::Malformed`] for what is not ASCII, for control characters, and for a carriage return without a line
/// feed; [`BodyError::Field`] for a line that ends within a field, and where two fields share a byte.
pub fn locate<'b>(body: &'b str, declared: &[(usize, FixedColumns)]) -> Result<Vec<Leaf<'b>>, BodyError> {
    let mut all = Vec::new();
    for (start, line) in lines(body) {
        if !line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            return Err(BodyError::Malformed);
        }
        let mut found: Vec<(usize, Range<usize>)> = declared
            .iter()
            .filter(|(_, columns)| columns.apply_to(line))
            .map(|(field, columns)| (*field, columns.columns()))
            .collect();
        found.sort_by_key(|(_, columns)| columns.start);
        in_order(&found)?;
        for (field, columns) in found {
            let text = line.get(columns.clone()).ok_or(BodyError::Field(field))?;
            // Columns are filled up with spaces, which are no part of what stands in them.
            let text = text.trim_ascii();
            if !text.is_empty() {
                let span = columns.start.saturating_add(start)..columns.end.saturating_add(start);
                let (text, writing) = (Text::Plain(text), Writing::Columns(columns.len()));
                all.push(Leaf { field, span, text, writing });
            }
        }
    }
    Ok(all)
}

/// The lines as values.
#[must_use]
pub fn values(body: &str) -> Vec<Leaf<'_>> {
    lines(body)
        .map(|(start, line)| {
            let span = start..start.saturating_add(line.len());
            Leaf { field: UNDECLARED, span, text: Text::Plain(line), writing: Writing::Columns(line.len()) }
        })
        .collect()
}

/// Each line with where it starts, without its end.
fn lines(body: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut start = 0_usize;
    body.split('\n').map(move |line| {
        let at = start;
        start = start.saturating_add(line.len()).saturating_add(1);
        (at, line.strip_suffix('\r').unwrap_or(line))
    })
}

#[cfg(test)]
mod tests {
    use super::super::edit::{Edit, EditError, apply};
    use super::super::{Declared, Format};
    use super::*;
    use zeroize::Zeroizing;

    fn columns(texts: &[&str]) -> Vec<(usize, FixedColumns)> {
        texts.iter().map(|text| FixedColumns::parse(text).unwrap()).enumerate().collect()
    }

    fn found(body: &str, texts: &[&str]) -> Result<Vec<(usize, Range<usize>, String)>, BodyError> {
        let leaves = locate(body, &columns(texts))?;
        Ok(leaves.into_iter().map(|leaf| (leaf.field, leaf.span, leaf.text.expose().to_owned())).collect())
    }

    const FILE: &str =
        "H20261126\r\nD00014111111111111111   1230\r\nD0002                   \r\nT0000000002\n";

    #[test]
    fn fields_are_found_in_lines_of_their_kind() {
        let all = found(FILE, &["D:6-24", "D:25-28"]).unwrap();
        assert_eq!(all, [(0, 16..35, "4111111111111111".to_owned()), (1, 35..39, "1230".to_owned())]);
        assert_eq!(found("\n\n", &["1-3"]).unwrap(), []);
    }

    #[test]
    fn another_text_is_filled_up_and_a_longer_one_refused() {
        let leaves = locate(FILE, &columns(&["D:6-24"])).unwrap();
        let edit = |text: &str| Edit {
            span: leaves[0].span.clone(),
            text: Some(Zeroizing::new(text.to_owned())),
            writing: leaves[0].writing,
        };
        let edited = apply(FILE.as_bytes(), &[edit("9999")]).unwrap();
        assert!(edited.bytes.starts_with(b"H20261126\r\nD00019999               1230\r\nD0002"));
        assert_eq!(
            apply(FILE.as_bytes(), &[edit("tok_d_aaaaaaaaaaaaaaaaaaaa")]).err(),
            Some(EditError::TooLong(0))
        );
    }

    #[test]
    fn what_others_could_count_differently_is_refused() {
        for body in ["\u{e9}4111", "\u{ff14}", "a\tb", "a\rb", "a\u{b}", "a\r\r\nb"] {
            assert_eq!(found(body, &["1-1"]), Err(BodyError::Malformed), "{body:?}");
        }
        assert_eq!(found("123", &["2-4"]), Err(BodyError::Field(0)));
        assert_eq!(found("12345", &["2-4", "4-5"]), Err(BodyError::Field(1)));
        let format = super::super::locate(&Format::Fixed, b"\xff", &Declared::default(), &mut |_| ());
        assert_eq!(format.err(), Some(BodyError::Malformed));
    }
}
