//! CSV (RFC 4180): fields by the names in the first row.
//!
//! csv-core reads; what two readers could read differently is refused besides: quotes within an unquoted cell, rows of
//! different length, blank rows, line ends of carriage returns alone. Must never take a row of names for data.
//! Tests: here; fuzz target `table_body`.

use super::edit::Writing;
use super::form::hear;
use super::{BodyError, Heard, Leaf, Text, UNDECLARED};
use csv_core::{ReadFieldResult, Reader};
use std::ops::Range;
use zeroize::Zeroizing;

/// Reads every row and gives the declared cells in the order in which they stand. An empty cell holds no field.
///
/// # Errors
/// [`BodyError::Malformed`], as above; [`BodyError::Field`] for a declared name that two columns have.
pub fn locate<'b>(
    body: &'b str,
    declared: &[(usize, String)],
    heard: Heard<'_>,
) -> Result<Vec<Leaf<'b>>, BodyError> {
    let mut columns = Vec::new();
    let mut leaves = Vec::new();
    walk(body, |row, column, span, text| {
        if row == 0 {
            hear(&text, heard);
            let field = declared.iter().find(|(_, name)| name == text.expose()).map(|(field, _)| *field);
            if let Some(field) = field.filter(|field| columns.contains(&Some(*field))) {
                return Err(BodyError::Field(field));
            }
            columns.push(field);
            return Ok(());
        }
        match columns.get(column).copied().flatten() {
            Some(field) if !text.expose().is_empty() => {
                leaves.push(Leaf { field, span, text, writing: Writing::Cell });
            }
            Some(_) | None => hear(&text, heard),
        }
        Ok(())
    })?;
    Ok(leaves)
}

/// The cells of a body that [`locate`] has accepted, with their places, without the row of names.
///
/// # Errors
/// [`BodyError::Malformed`] when it has not.
pub fn values(body: &str) -> Result<Vec<Leaf<'_>>, BodyError> {
    let mut all = Vec::new();
    walk(body, |row, _, span, text| {
        if row > 0 {
            all.push(Leaf { field: UNDECLARED, span, text, writing: Writing::Cell });
        }
        Ok(())
    })?;
    Ok(all)
}

/// Gives each cell with the numbers of its row and column, its place with its quotes, and its text.
fn walk<'b>(
    body: &'b str,
    mut cell: impl FnMut(usize, usize, Range<usize>, Text<'b>) -> Result<(), BodyError>,
) -> Result<(), BodyError> {
    let mut reader = Reader::new();
    let mut decoded = Zeroizing::new(vec![0; body.len()]);
    let (mut row, mut column, mut width) = (0_usize, 0_usize, None);
    let mut at = 0_usize;
    loop {
        let start = at;
        let (mut length, mut ended) = (0_usize, false);
        let record_end = loop {
            let input = body.as_bytes().get(at..).unwrap_or_default();
            let (result, used, written) =
                reader.read_field(input, decoded.get_mut(length..).unwrap_or_default());
            (at, length) = (at.saturating_add(used), length.saturating_add(written));
            match result {
                // Once more with nothing: that is how the reader is told of the end.
                ReadFieldResult::InputEmpty => ended = true,
                ReadFieldResult::OutputFull => return Err(BodyError::Malformed),
                ReadFieldResult::Field { record_end } => break record_end,
                ReadFieldResult::End => return end_of(body, start),
            }
        };
        let span = bare(body, start..at, (row, column), ended)?;
        let raw = body.get(span.clone()).ok_or(BodyError::Malformed)?;
        let text = decoded.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let text = text.filter(|_| is_strict(raw)).ok_or(BodyError::Malformed)?;
        let text =
            if text == raw { Text::Plain(raw) } else { Text::Decoded(Zeroizing::new(text.to_owned())) };
        cell(row, column, span, text)?;
        column = column.saturating_add(1);
        if record_end {
            if *width.get_or_insert(column) != column {
                return Err(BodyError::Malformed);
            }
            (row, column) = (row.saturating_add(1), 0);
        }
    }
}

/// A cell's place without the comma or line end after it and the rest of the line end before it.
fn bare(
    body: &str,
    used: Range<usize>,
    (row, column): (usize, usize),
    ended: bool,
) -> Result<Range<usize>, BodyError> {
    let bytes = body.as_bytes();
    let byte = |at: usize| bytes.get(at).copied();
    let mut start = used.start;
    // The reader ends a row at the carriage return; the line feed is left for the next.
    if row > 0 && column == 0 && start > 0 && byte(start.saturating_sub(1)) == Some(b'\r') {
        if byte(start) != Some(b'\n') {
            return Err(BodyError::Malformed);
        }
        start = start.saturating_add(1);
    }
    if column == 0 && start < used.end && matches!(byte(start), Some(b'\r' | b'\n')) {
        // A row without anything: one empty cell to some readers, no row to others.
        return Err(BodyError::Malformed);
    }
    let end = if ended { used.end } else { used.end.saturating_sub(1) };
    if !ended && byte(end) == Some(b'\r') && byte(used.end) != Some(b'\n') {
        return Err(BodyError::Malformed);
    }
    Ok(start..end)
}

/// What is left when no further row begins: the end of the last line at most.
fn end_of(body: &str, from: usize) -> Result<(), BodyError> {
    let after_return = from > 0 && body.as_bytes().get(from.saturating_sub(1)) == Some(&b'\r');
    match body.get(from..) {
        Some("") => Ok(()),
        Some("\n") if after_return => Ok(()),
        Some(_) | None => Err(BodyError::Malformed),
    }
}

/// Quotes around the whole cell, each within it doubled; or none.
fn is_strict(raw: &str) -> bool {
    if !raw.contains('"') {
        return true;
    }
    let inner = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.is_some_and(|inner| !inner.replace("\"\"", "").contains('"'))
}

#[cfg(test)]
mod tests {
    use super::super::edit::{Edit, apply};
    use super::*;
    use proptest::prelude::*;

    fn declared(names: &[&str]) -> Vec<(usize, String)> {
        names.iter().map(|name| (*name).to_owned()).enumerate().collect()
    }

    fn found(body: &str, names: &[&str]) -> Result<Vec<(usize, String, String)>, BodyError> {
        let leaves = locate(body, &declared(names), &mut |_| ())?;
        let read = |leaf: &Leaf<'_>| {
            (leaf.field, body.get(leaf.span.clone()).unwrap().to_owned(), leaf.text.expose().to_owned())
        };
        Ok(leaves.iter().map(read).collect())
    }

    #[test]
    fn cells_are_found_by_the_name_of_their_column() {
        for end in ["\n", "\r\n"] {
            for last in ["", end] {
                let body = format!(
                    "id,\"card \"\"no\"\"\",note{end}1,4111 1111,a{end}2,\"41\"\"11\",\"b{end},\"{end}3,,\"\"{last}"
                );
                let all = found(&body, &["note", "card \"no\""]).unwrap();
                let wanted = [
                    (1, "4111 1111".to_owned(), "4111 1111".to_owned()),
                    (0, "a".to_owned(), "a".to_owned()),
                    (1, "\"41\"\"11\"".to_owned(), "41\"11".to_owned()),
                    (0, format!("\"b{end},\""), format!("b{end},")),
                ];
                assert_eq!(all, wanted, "{body:?}");
            }
        }
        assert_eq!(found("", &["a"]).unwrap(), []);
        assert_eq!(found("a,b\n", &["a"]).unwrap(), []);
        assert_eq!(found("b\n1\n", &["a"]).unwrap(), []);
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for body in [
            "a,b\n1\n",
            "a\n1,2\n",
            "a\n\n1\n",
            "\na\n1",
            "a\n1\n\n",
            "a\r1\r",
            "a\r\n1\r2\r\n",
            "a\n\"1\"2\n",
            "a\n1\"2\n",
            "a\n \"1\"\n",
            "a\n\"1\" \n",
            "a\n\"1",
            "a\n\"1\"\"",
            "a\r\r\n1",
            "a\n1\r",
        ] {
            assert_eq!(found(body, &["a"]), Err(BodyError::Malformed), "{body:?}");
        }
        assert_eq!(found("a,b,a\n1,2,3\n", &["x", "a"]), Err(BodyError::Field(1)));
        assert_eq!(found("a,b,b\n1,2,3\n", &["a"]).unwrap().len(), 1);
    }

    #[test]
    fn what_the_raw_scan_would_miss_is_heard() {
        let mut all = Vec::new();
        let body = "a,\"\u{ff14}\",p\n\"4\"\"1\",41,\"4\"\n";
        locate(body, &declared(&["p"]), &mut |text| all.push(text.to_owned())).unwrap();
        assert_eq!(all, ["\u{ff14}", "4\"1"]);
        assert_eq!(values(body).unwrap().len(), 3);
    }

    proptest! {
        #[test]
        fn a_written_table_is_read_back_and_edited_in_place(
            rows in prop::collection::vec(prop::collection::vec("[a-c4 \",\n\r\u{e9}]{0,6}", 3), 1..5),
            chosen in any::<prop::sample::Index>(),
        ) {
            let quoted = |cell: &String| format!("\"{}\"", cell.replace('"', "\"\""));
            let line = |row: &Vec<String>| row.iter().map(quoted).collect::<Vec<_>>().join(",");
            let lines: Vec<_> = rows.iter().map(line).collect();
            let body = format!("x,y,z\r\n{}", lines.join("\r\n"));
            let column = chosen.index(3);
            let leaves = locate(&body, &declared(&[["x", "y", "z"][column]]), &mut |_| ()).unwrap();
            let wanted: Vec<_> = rows.iter().map(|row| &row[column]).filter(|cell| !cell.is_empty()).collect();
            prop_assert_eq!(leaves.iter().map(|leaf| leaf.text.expose()).collect::<Vec<_>>(), wanted);
            let edits: Vec<_> = leaves
                .iter()
                .map(|leaf| Edit {
                    span: leaf.span.clone(),
                    text: Some(Zeroizing::new("t,\"k".to_owned())),
                    writing: leaf.writing,
                })
                .collect();
            let edited = apply(body.as_bytes(), &edits).unwrap();
            let after = std::str::from_utf8(&edited.bytes).unwrap();
            let again = locate(after, &declared(&[["x", "y", "z"][column]]), &mut |_| ()).unwrap();
            prop_assert_eq!(again.len(), leaves.len());
            prop_assert!(again.iter().all(|leaf| leaf.text.expose() == "t,\"k"));
        }

        #[test]
        fn any_text_is_read_or_refused(body in "[a4,\"\n\r ]{0,24}") {
            if let Ok(leaves) = locate(&body, &declared(&["a", "4"]), &mut |_| ()) {
                for leaf in leaves {
                    prop_assert!(body.get(leaf.span).is_some());
                }
            }
        }
    }
}
