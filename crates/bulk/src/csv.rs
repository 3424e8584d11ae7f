//! CSV: records by csv-core over buffers that are wiped.
//!
//! Must never take two records for one or one for two because of where a read ended. Tests: `tests.rs`.

use crate::columns::{Columns, Mapping};
use crate::row::Builder;
use crate::window::{LONGEST_ROW, Window};
use crate::{RowError, RowsError};
use cordon_wire::ProblemCode;
use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Writer, WriterBuilder};
use std::io::Read;
use zeroize::Zeroizing;

pub(crate) struct Csv {
    reader: Reader,
    writer: Writer,
    delimiter: u8,
    end_of_line: &'static [u8],
    heading: Vec<u8>,
    fields: Zeroizing<Vec<u8>>,
    ends: Vec<usize>,
    columns: usize,
}

/// What was read: a record with so many fields, one that is too long to be kept, or the end.
enum Record {
    Whole(usize),
    TooLong,
    End,
}

impl Csv {
    pub(crate) fn open<R: Read>(
        window: &mut Window<R>,
        lines: &mut u64,
        delimiter: Option<u8>,
        header: bool,
        told: &Columns,
    ) -> Result<(Self, Mapping), RowsError> {
        let (found, end_of_line) = sniff(window.available());
        let delimiter = delimiter.unwrap_or(found);
        let mut csv = Self {
            reader: ReaderBuilder::new().delimiter(delimiter).build(),
            writer: WriterBuilder::new().delimiter(delimiter).build(),
            delimiter,
            end_of_line,
            heading: Vec::new(),
            fields: Zeroizing::new(vec![0; LONGEST_ROW]),
            ends: vec![0; MOST_COLUMNS],
            columns: 0,
        };
        if !header {
            csv.columns = count(window.available(), delimiter);
            let mapping = Mapping::by_number(csv.columns, told)?;
            return Ok((csv, mapping));
        }
        let Record::Whole(columns) = csv.record(window, lines)? else {
            return Err(RowsError::Columns("the file has no first line with names".to_owned()));
        };
        csv.columns = columns;
        let names = (0..columns).map(|place| match csv.field(place) {
            Ok(Some(name)) => Ok(name.trim().to_owned()),
            _ => Err(RowsError::Columns("the names in the first line are not UTF-8 text".to_owned())),
        });
        let mapping = Mapping::by_name(names.collect::<Result<Vec<_>, _>>()?, told)?;
        let mut heading = Vec::new();
        csv.write(&mut heading, &mapping, false)
            .map_err(|_code| RowsError::Columns("the first line can't be read".to_owned()))?;
        if cordon_scan::first(&heading).is_some() {
            return Err(RowsError::Columns("the first line holds a card number".to_owned()));
        }
        csv.heading = heading;
        Ok((csv, mapping))
    }

    pub(crate) fn heading(&self) -> &[u8] {
        &self.heading
    }

    /// Adds the next record to the batch. `false` at the end.
    pub(crate) fn next<R: Read>(
        &mut self,
        window: &mut Window<R>,
        lines: &mut u64,
        mapping: &Mapping,
        batch: &mut Builder,
    ) -> Result<bool, RowsError> {
        skip_blank_lines(window, lines)?;
        let line = lines.saturating_add(1);
        match self.record(window, lines)? {
            Record::End => return Ok(false),
            Record::TooLong => batch.refuse(line, ProblemCode::TooLarge),
            Record::Whole(columns) if columns != self.columns => batch.refuse(line, ProblemCode::Malformed),
            Record::Whole(_) => {
                batch.add(line, mapping, |place| self.field(place), |out| self.write(out, mapping, true));
            }
        }
        Ok(true)
    }

    fn record<R: Read>(&mut self, window: &mut Window<R>, lines: &mut u64) -> Result<Record, RowsError> {
        let (mut filled, mut ended, mut too_long) = (0_usize, 0_usize, false);
        loop {
            let input = window.available();
            let fields = self.fields.get_mut(filled..).unwrap_or_default();
            let ends = self.ends.get_mut(ended..).unwrap_or_default();
            let (result, used, written, closed) = self.reader.read_record(input, fields, ends);
            let breaks = memchr::memchr_iter(b'\n', input.get(..used).unwrap_or_default()).count();
            *lines = lines.saturating_add(u64::try_from(breaks).unwrap_or(u64::MAX));
            window.consume(used);
            filled = filled.saturating_add(written);
            ended = ended.saturating_add(closed);
            match result {
                ReadRecordResult::InputEmpty => {
                    // At the end of the input the next turn gives the reader nothing, and it closes the record.
                    let _more = window.fill()?;
                }
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    too_long = true;
                    (filled, ended) = (0, 0);
                }
                ReadRecordResult::Record if too_long => return Ok(Record::TooLong),
                ReadRecordResult::Record => return Ok(Record::Whole(ended)),
                ReadRecordResult::End => return Ok(Record::End),
            }
        }
    }

    fn field(&self, place: usize) -> Result<Option<&str>, RowError> {
        let bytes = self.bytes(place).ok_or(ProblemCode::Malformed)?;
        std::str::from_utf8(bytes).map(Some).map_err(|_not_text| ProblemCode::Malformed)
    }

    fn bytes(&self, place: usize) -> Option<&[u8]> {
        let start = match place.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.fields.get(start..*self.ends.get(place)?)
    }

    /// Writes the record without what is left out and, if `spare` says so, without the card number. Gives the place
    /// of the token.
    fn write(&self, out: &mut Vec<u8>, mapping: &Mapping, spare: bool) -> Result<usize, RowError> {
        let mut token = out.len();
        let mut first = true;
        for place in (0..self.columns).filter(|place| !mapping.omit.contains(place)) {
            if !first {
                out.push(self.delimiter);
            }
            first = false;
            if spare && place == mapping.pan {
                token = out.len();
                continue;
            }
            let field = self.bytes(place).ok_or(ProblemCode::Malformed)?;
            if self.writer.should_quote(field) {
                out.push(b'"');
                let mut quoted = vec![0; field.len().saturating_mul(2)];
                let (_done, _read, length) = csv_core::quote(field, &mut quoted, b'"', b'"', true);
                out.extend_from_slice(quoted.get(..length).unwrap_or_default());
                out.push(b'"');
            } else {
                out.extend_from_slice(field);
            }
        }
        out.extend_from_slice(self.end_of_line);
        Ok(token)
    }
}

fn skip_blank_lines<R: Read>(window: &mut Window<R>, lines: &mut u64) -> Result<(), RowsError> {
    loop {
        match window.available().first().copied() {
            Some(b'\n') => *lines = lines.saturating_add(1),
            Some(b'\r') => {}
            Some(_) => return Ok(()),
            None if window.fill()? => continue,
            None => return Ok(()),
        }
        window.consume(1);
    }
}

/// The delimiter that stands most often in the first line, and how lines end.
fn sniff(start: &[u8]) -> (u8, &'static [u8]) {
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let often = |delimiter: &u8| line.iter().filter(|byte| *byte == delimiter).count();
    // Of equals the last one wins, so the comma stands last.
    let delimiter = [b'|', b'\t', b';', b','].into_iter().max_by_key(often).unwrap_or(b',');
    (delimiter, if line.ends_with(b"\r") { b"\r\n" } else { b"\n" })
}

/// How many columns the first record has. It is read a second time as a row.
fn count(start: &[u8], delimiter: u8) -> usize {
    let mut reader = ReaderBuilder::new().delimiter(delimiter).build();
    let mut fields = Zeroizing::new(vec![0; LONGEST_ROW]);
    let mut ends = vec![0; MOST_COLUMNS];
    let (result, _, written, ended) = reader.read_record(start, &mut fields, &mut ends);
    if matches!(result, ReadRecordResult::InputEmpty) {
        let rest = fields.get_mut(written..).unwrap_or_default();
        let (_, _, _, last) = reader.read_record(&[], rest, ends.get_mut(ended..).unwrap_or_default());
        return ended.saturating_add(last);
    }
    ended
}

const MOST_COLUMNS: usize = 1024;
