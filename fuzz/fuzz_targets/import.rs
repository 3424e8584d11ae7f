//! An import file from any bytes, as CSV and as JSON lines: no panic, no card number in the echo of a row, and the same
//! rows whether it is read at once or resumed after each batch.
#![no_main]

use cordon_bulk::{Columns, Format, Row, Rows};
use libfuzzer_sys::fuzz_target;

fn rows(data: &[u8], format: Format, columns: &Columns) -> Option<usize> {
    let mut rows = Rows::open(data, format, columns).ok()?;
    let mut count = 0;
    while let Some(batch) = rows.next_batch().expect("bytes in memory can be read") {
        count += batch.rows.len();
        for row in &batch.rows {
            if let Row::Sent { echo, .. } = row {
                let (before, after) = batch.echo(*echo);
                assert!(cordon_scan::first(before).is_none() && cordon_scan::first(after).is_none());
            }
        }
        let mut resumed = Rows::open(data, format, columns).expect("it was opened before");
        resumed.resume(&batch.end).expect("the bytes are the same");
        assert_eq!(resumed.position(), batch.end);
    }
    Some(count)
}

fuzz_target!(|data: &[u8]| {
    let named = Columns::default();
    rows(data, Format::Csv { delimiter: None, header: true }, &named);
    rows(data, Format::JsonLines, &named);
    let first = Columns { pan: Some("1".to_owned()), ..Columns::default() };
    rows(data, Format::Csv { delimiter: None, header: false }, &first);
});
