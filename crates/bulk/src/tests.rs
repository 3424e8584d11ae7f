//! Mapping, echo and refusals on both formats; nothing depends on where a read ends.

use super::*;
use proptest::prelude::*;

const VISA: &str = "4111111111111111";
const AMEX: &str = "378282246310005";
const CSV: Format = Format::Csv { delimiter: None, header: true };

/// Gives `step` bytes per read.
struct Slow<'b>(&'b [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.1.min(into.len()).min(self.0.len());
        into[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }
}

#[derive(Debug, PartialEq, Eq, Default)]
struct Seen {
    result: String,
    refused: Vec<(u64, &'static str)>,
    sent: Vec<String>,
}

fn take(rows: &mut Rows<Slow<'_>>) -> Seen {
    let mut read = Seen { result: String::from_utf8(rows.heading().to_vec()).unwrap(), ..Seen::default() };
    while let Some(batch) = rows.next_batch().unwrap() {
        for item in &batch.request.items {
            read.sent.push(serde_json::to_string(item).unwrap());
        }
        for row in &batch.rows {
            match row {
                Row::Refused { line, code } => read.refused.push((*line, code.as_str())),
                Row::Sent { echo, .. } => {
                    let (before, after) = batch.echo(*echo);
                    read.result.push_str(std::str::from_utf8(before).unwrap());
                    read.result.push_str("TOKEN");
                    read.result.push_str(std::str::from_utf8(after).unwrap());
                }
            }
        }
    }
    read
}

fn read(text: &str, format: Format, columns: &Columns) -> Result<Seen, RowsError> {
    Ok(take(&mut Rows::open(Slow(text.as_bytes(), 7), format, columns)?))
}

fn fault(text: &str, columns: &Columns) -> String {
    let error = read(text, CSV, columns).unwrap_err().to_string();
    assert!(!error.contains("4111"), "{error}");
    error
}

fn named(pan: &str) -> Columns {
    Columns { pan: Some(pan.to_owned()), ..Columns::default() }
}

#[test]
fn columns_are_found_by_name_and_all_else_is_echoed() {
    let text = format!(
        "id,first_name,card_number,expiration_month,expiration_year\n1,Ann,{VISA},3,2031\n2,\"O, B\",{AMEX},12,30\n"
    );
    let read = read(&text, CSV, &Columns::default()).unwrap();
    assert_eq!(
        read.result,
        "id,first_name,card_number,expiration_month,expiration_year\n1,Ann,TOKEN,3,2031\n2,\"O, B\",TOKEN,12,30\n"
    );
    assert_eq!(read.sent[0], format!(r#"{{"pan":"{VISA}","expiry":"2031-03"}}"#));
    assert_eq!(read.sent[1], format!(r#"{{"pan":"{AMEX}","expiry":"2030-12"}}"#));
    assert!(read.refused.is_empty());
}

#[test]
fn line_ends_quotes_and_delimiters_are_kept() {
    let text = format!("a;PAN\r\n\"x\"\"y\";{VISA}\r\n\r\n\" \n\";{AMEX}\r\n");
    let read = read(&text, CSV, &Columns::default()).unwrap();
    assert_eq!(read.result, "a;PAN\r\n\"x\"\"y\";TOKEN\r\n\" \n\";TOKEN\r\n");
}

#[test]
fn bad_rows_are_named_by_line_and_code() {
    let text = format!(
        "pan,exp,memo\n{VISA},01/30,\n\n4111111111111112,01/30,\n{VISA},13/30,\n{VISA},01/30,{AMEX}\n{VISA},01/30\n,,\n"
    );
    let read = read(&text, CSV, &Columns::default()).unwrap();
    assert_eq!(read.sent.len(), 1);
    let expected = [(4, "bad-pan"), (5, "bad-expiry"), (6, "leak-blocked"), (7, "malformed"), (8, "bad-pan")];
    assert_eq!(read.refused, expected);
}

#[test]
fn a_row_that_is_too_long_is_refused_alone() {
    let long = "x".repeat(100_000);
    let text = format!("pan,memo\n{VISA},{long}\n{AMEX},\n");
    let csv = read(&text, CSV, &Columns::default()).unwrap();
    assert_eq!((csv.refused, csv.sent.len()), (vec![(2, "too-large")], 1));
    let text =
        format!("{{\"pan\":\"{VISA}\"}}\n{{\"pan\":\"{VISA}\",\"m\":\"{long}\"}}\n{{\"pan\":\"{AMEX}\"}}\n");
    let json = read(&text, Format::JsonLines, &Columns::default()).unwrap();
    assert_eq!((json.refused, json.sent.len()), (vec![(2, "too-large")], 2));
}

#[test]
fn a_security_code_has_to_be_left_out() {
    let text = format!("pan,cvv,id\n{VISA},123,7\n");
    assert!(fault(&text, &Columns::default()).contains("--omit-column"));
    let omit = Columns { omit: vec!["cvv".to_owned()], ..Columns::default() };
    let csv = read(&text, CSV, &omit).unwrap();
    assert_eq!(csv.result, "pan,id\nTOKEN,7\n");
    assert!(!csv.sent[0].contains("123"));
    let text = format!(r#"{{"pan":"{VISA}","cvv":"123","id":7}}"#);
    let json = read(&text, Format::JsonLines, &omit).unwrap();
    assert_eq!(json.result, "{\"pan\":\"TOKEN\",\"cvv\":null,\"id\":7}\n");
}

#[test]
fn nothing_is_guessed_between_two_columns() {
    assert!(fault("pan,card_number\n1,2\n", &Columns::default()).contains("several"));
    assert!(fault("a,b\n1,2\n", &Columns::default()).contains("--pan-column"));
    assert!(fault("a,a\n1,2\n", &named("a")).contains("twice"));
    assert!(fault(&format!("{VISA},x\n"), &Columns::default()).contains("--no-header"));
    assert!(
        fault("pan,id\n", &Columns { omit: vec!["pan".to_owned()], ..Columns::default() }).contains("second")
    );
}

#[test]
fn without_names_columns_are_numbers() {
    let text = format!("7\t{VISA}\t0131\n");
    let format = Format::Csv { delimiter: None, header: false };
    let columns = Columns { expiry: Some("3".to_owned()), ..named("2") };
    let rows = read(&text, format, &columns).unwrap();
    assert_eq!(rows.result, "7\tTOKEN\t0131\n");
    assert!(read(&text, format, &named("4")).is_err());
    assert!(read(&text, format, &Columns::default()).is_err());
}

#[test]
fn json_lines_keep_every_byte_but_the_number() {
    let text = format!(
        "{{ \"id\" : 1.0, \"pan\":\"{VISA}\",\"n\":{{\"a\":[1]}} }}\n{{\"pan\":{AMEX},\"id\":\"\\u00e9\"}}\n\n\
         {{\"pan\":\"\\u0034111111111111111\"}}\n{{\"id\":1}}\n{{\"pan\":[]}}\nnope\n{{\"pan\":1,\"pan\":2}}\n\
         {{\"pan\":\"{VISA}\",\"id\":\"\\u0034111111111111111\"}}\n"
    );
    let columns = Columns { metadata: vec![("id".to_owned(), "ref".to_owned())], ..Columns::default() };
    let rows = read(&text, Format::JsonLines, &columns).unwrap();
    assert_eq!(
        rows.result,
        "{ \"id\" : 1.0, \"pan\":\"TOKEN\",\"n\":{\"a\":[1]} }\n{\"pan\":\"TOKEN\",\"id\":\"\\u00e9\"}\n{\"pan\":\"TOKEN\"}\n"
    );
    assert_eq!(rows.sent[0], format!(r#"{{"pan":"{VISA}","metadata":{{"ref":"1.0"}}}}"#));
    let expected =
        [(5, "bad-pan"), (6, "malformed"), (7, "malformed"), (8, "malformed"), (9, "leak-blocked")];
    assert_eq!(rows.refused, expected);
}

#[test]
fn a_file_that_changed_is_not_resumed() {
    let text = format!("pan\n{VISA}\n{AMEX}\n");
    let mut rows = Rows::open(Slow(text.as_bytes(), 9), CSV, &Columns::default()).unwrap();
    rows.next_batch().unwrap();
    let end = rows.position();
    assert_eq!((end.offset, end.line), (text.len() as u64, 3));
    let other = text.replace('3', "4");
    for changed in [&*other, text.get(..text.len() - 1).unwrap()] {
        let mut rows = Rows::open(Slow(changed.as_bytes(), 9), CSV, &Columns::default()).unwrap();
        assert!(matches!(rows.resume(&end), Err(RowsError::Changed)));
    }
}

fn files() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let field = prop_oneof![
        Just(VISA.to_owned()),
        Just(AMEX.to_owned()),
        Just("12/30".to_owned()),
        Just("\"q,\n\"\"\"".to_owned()),
        "[ -~]{0,6}",
        Just("\r\n".to_owned())
    ];
    let line = proptest::collection::vec(field, 0..4).prop_map(|fields| fields.join(","));
    let csv = proptest::collection::vec(line, 0..40)
        .prop_map(|lines| (format!("pan,exp\n{}", lines.join("\n")).into_bytes(), false));
    let object = prop_oneof![
        Just(format!("{{\"pan\":\"{VISA}\"}}")),
        Just(format!("{{\"x\":1,\"pan\":{AMEX}}}")),
        "[ -~]{0,20}"
    ];
    let json = proptest::collection::vec(object, 0..40)
        .prop_map(|lines| (format!("{{\"pan\":0}}\n{}", lines.join("\n")).into_bytes(), true));
    prop_oneof![csv, json]
}

proptest! {
    #[test]
    fn nothing_depends_on_where_a_read_ends((text, json) in files(), step in 1_usize..50) {
        let format = if json { Format::JsonLines } else { CSV };
        let whole = Rows::open(Slow(&text, usize::MAX), format, &Columns::default()).map(|mut rows| take(&mut rows));
        let parts = Rows::open(Slow(&text, step), format, &Columns::default()).map(|mut rows| take(&mut rows));
        prop_assert_eq!(whole.ok(), parts.ok());
    }

    #[test]
    fn no_result_row_holds_a_card((text, json) in files()) {
        let format = if json { Format::JsonLines } else { CSV };
        if let Ok(mut rows) = Rows::open(Slow(&text, usize::MAX), format, &Columns::default()) {
            let read = take(&mut rows);
            prop_assert!(cordon_scan::first(read.result.as_bytes()).is_none(), "{}", read.result);
            prop_assert!(!read.result.contains(VISA) && !read.result.contains(AMEX));
        }
    }

    #[test]
    fn a_resumed_file_reads_as_the_whole_one(count in 0_usize..3000, refuse in any::<u8>()) {
        let mut text = "pan\n".to_owned();
        for row in 0..count {
            text.push_str(if row % 256 == usize::from(refuse) { "4\n" } else { "4111111111111111\n" });
        }
        let mut whole = Rows::open(Slow(text.as_bytes(), usize::MAX), CSV, &Columns::default()).unwrap();
        let mut at = whole.position();
        let (mut rows, mut lines) = (0, Vec::new());
        loop {
            let mut again = Rows::open(Slow(text.as_bytes(), 1000), CSV, &Columns::default()).unwrap();
            again.resume(&at).unwrap();
            let Some(batch) = again.next_batch().unwrap() else { break };
            rows += batch.rows.len();
            lines.extend(batch.rows.iter().map(|row| match row {
                Row::Sent { line, .. } | Row::Refused { line, .. } => *line,
            }));
            at = batch.end;
        }
        prop_assert_eq!(rows, count);
        prop_assert!(lines.iter().copied().eq(2..count as u64 + 2));
        prop_assert_eq!(take(&mut whole).sent.len() + lines.len(), rows + take_count(&text));
    }
}

fn take_count(text: &str) -> usize {
    text.lines().filter(|line| *line == VISA).count()
}
