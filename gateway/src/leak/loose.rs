//! Card numbers outside the declared fields, cut out of the values in which they stand.
//!
//! Must never cut where it cannot say exactly which bytes the number is: such a message is refused. Names, keys, JSON
//! numbers and what an encoding hides are not looked at here, so whoever cuts reads the outcome again from the start.
//! Tests: here, and `leak/tests.rs`.

use super::Unmaskable;
use crate::body::edit::{Edit, Writing};
use crate::body::{self, Format, Leaf};
use cordon_card::{Pan, Truncation};
use std::ops::Range;
use zeroize::Zeroizing;

/// A number within a value.
#[derive(Debug)]
pub struct Number {
    at: Range<usize>,
    /// Its last four digits behind stars.
    pub masked: Zeroizing<String>,
    /// The number, unless it is one of no brand.
    pub pan: Option<Pan>,
}

/// A value, or what of one lies outside the spans that are left alone, with the numbers in it.
struct Piece {
    span: Range<usize>,
    writing: Writing,
    text: Zeroizing<String>,
    numbers: Vec<Number>,
}

/// All loose numbers of a body, in order.
pub struct Loose(Vec<Piece>);

impl std::fmt::Debug for Loose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Loose({} values)", self.0.len())
    }
}

impl Loose {
    /// Finds them in the values of a body that was understood, outside of `spared`, a list of spans in order.
    ///
    /// # Errors
    /// [`Unmaskable`] where a span lies across a value.
    pub fn find(format: &Format, bytes: &[u8], spared: &[Range<usize>]) -> Result<Self, Unmaskable> {
        let mut pieces = Vec::new();
        for leaf in body::values(format, bytes).map_err(|_not_read| Unmaskable)? {
            for (span, text, writing) in outside(&leaf, bytes, spared)? {
                let numbers = numbers(text).ok_or(Unmaskable)?;
                if !numbers.is_empty() {
                    pieces.push(Piece { span, writing, text: Zeroizing::new(text.to_owned()), numbers });
                }
            }
        }
        Ok(Self(pieces))
    }

    /// None at all.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// The numbers.
    pub fn numbers(&self) -> impl Iterator<Item = &Number> {
        self.0.iter().flat_map(|piece| &piece.numbers)
    }

    /// The values in which they stand.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|piece| piece.text.as_str())
    }

    /// The edits that put other texts in their places; a number for which there is none stays.
    ///
    /// # Errors
    /// [`Unmaskable`] where a number does not lie in its value.
    pub fn edits(
        &self,
        mut text_for: impl FnMut(&Number) -> Option<Zeroizing<String>>,
    ) -> Result<Vec<Edit>, Unmaskable> {
        let mut edits = Vec::with_capacity(self.0.len());
        for Piece { span, writing, text, numbers } in &self.0 {
            let texts: Vec<_> = numbers.iter().map(|number| (&number.at, text_for(number))).collect();
            if texts.iter().all(|(_, text)| text.is_none()) {
                continue;
            }
            let longer: usize = texts.iter().filter_map(|(_, text)| Some(text.as_ref()?.len())).sum();
            // With room for all of it, so that no copy is left behind by growing.
            let mut edited = Zeroizing::new(String::with_capacity(text.len().saturating_add(longer)));
            let mut copied = 0;
            for (at, new) in texts {
                let Some(new) = new else { continue };
                edited.push_str(text.get(copied..at.start).ok_or(Unmaskable)?);
                edited.push_str(&new);
                copied = at.end;
            }
            edited.push_str(text.get(copied..).ok_or(Unmaskable)?);
            edits.push(Edit { span: span.clone(), text: Some(edited), writing: *writing });
        }
        Ok(edits)
    }
}

/// The card numbers of a text, in order. A text that is one as a whole is taken whole, with what stands around it.
fn numbers(text: &str) -> Option<Vec<Number>> {
    if let Ok(whole) = Pan::parse(text) {
        let masked = Zeroizing::new(whole.truncated(Truncation::LastFour).to_string());
        return Some(vec![Number { at: 0..text.len(), masked, pan: Some(whole) }]);
    }
    let mut findings = cordon_scan::scan(text.as_bytes());
    findings.sort_by_key(|finding| finding.start);
    let number = |finding: cordon_scan::Finding| {
        let at = usize::try_from(finding.start).ok()?..usize::try_from(finding.end).ok()?;
        let pan = Pan::parse(text.get(at.clone())?).ok();
        Some(Number { at, masked: Zeroizing::new(finding.masked.to_string()), pan })
    };
    findings.into_iter().map(number).collect()
}

type Part<'l> = (Range<usize>, &'l str, Writing);

/// What of a value lies outside the spans: all of it, nothing, or, where the value is written as it reads, the gaps.
fn outside<'l>(
    leaf: &'l Leaf<'_>,
    bytes: &[u8],
    spared: &[Range<usize>],
) -> Result<Vec<Part<'l>>, Unmaskable> {
    let (span, text) = (&leaf.span, leaf.text.expose());
    let touching: Vec<_> =
        spared.iter().filter(|spared| spared.start < span.end && span.start < spared.end).collect();
    if touching.is_empty() {
        return Ok(vec![(span.clone(), text, leaf.writing)]);
    }
    if touching.iter().any(|spared| spared.start <= span.start && span.end <= spared.end) {
        return Ok(Vec::new());
    }
    let plain = matches!(leaf.writing, Writing::Plain | Writing::Columns(_));
    if !plain || bytes.get(span.clone()) != Some(text.as_bytes()) {
        return Err(Unmaskable);
    }
    let mut parts = Vec::new();
    let starts = std::iter::once(span.start).chain(touching.iter().map(|spared| spared.end));
    let ends = touching.iter().map(|spared| spared.start).chain(std::iter::once(span.end));
    for (start, end) in starts.zip(ends).filter(|(start, end)| start < end) {
        let within = start.saturating_sub(span.start)..end.saturating_sub(span.start);
        let part = text.get(within).ok_or(Unmaskable)?;
        let writing = match leaf.writing {
            Writing::Columns(_) => Writing::Columns(part.len()),
            other => other,
        };
        parts.push((start..end, part, writing));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::edit::apply;

    const PAN: &str = "4111111111111111";

    fn cut(format: &Format, body: &str, spared: Option<Range<usize>>) -> Result<String, Unmaskable> {
        let loose = Loose::find(format, body.as_bytes(), spared.as_slice())?;
        let mut count = 0;
        let edits = loose.edits(|_| {
            count += 1;
            (count != 2).then(|| Zeroizing::new(format!("<{count}>")))
        })?;
        let edited = apply(body.as_bytes(), &edits).map_err(|_misfit| Unmaskable)?;
        Ok(String::from_utf8(edited.bytes.to_vec()).unwrap())
    }

    #[test]
    fn each_number_is_cut_out_of_its_value_alone() {
        let body =
            r#"{"a":"x 4111 1111 1111 1111, \u00e9 5555555555554444 y","b":"4242-4242-4242-4242","c":1}"#;
        let wanted = "{\"a\":\"x <1>, \u{e9} 5555555555554444 y\",\"b\":\"<3>\",\"c\":1}";
        assert_eq!(cut(&Format::Json, body, None).unwrap(), wanted);
        assert_eq!(cut(&Format::Json, r#"{"a":"b"}"#, None).unwrap(), r#"{"a":"b"}"#);
    }

    #[test]
    fn what_is_left_alone_is_not_cut() {
        let body = format!("{{\"a\":\"{PAN}\",\"b\":\"{PAN}\"}}");
        assert_eq!(
            cut(&Format::Json, &body, Some(5..23)).unwrap(),
            format!("{{\"a\":\"{PAN}\",\"b\":\"<1>\"}}")
        );
        let text = format!("a {PAN} b {PAN}");
        assert_eq!(cut(&Format::Text, &text, Some(2..18)).unwrap(), format!("a {PAN} b <1>"));
        let line = format!("{PAN}AB{PAN}");
        assert_eq!(cut(&Format::Fixed, &line, Some(0..16)).unwrap(), format!("{PAN}AB<1>{}", " ".repeat(13)));
    }

    #[test]
    fn a_span_across_a_value_that_is_not_written_as_it_reads_is_refused() {
        let body = format!("{{\"a\":\"\\u0078 {PAN}\"}}");
        assert_eq!(cut(&Format::Json, &body, Some(7..9)), Err(Unmaskable));
    }
}
