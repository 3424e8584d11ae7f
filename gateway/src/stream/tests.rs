use super::cutter::{Bounds, Cutter};
use super::piece::Piece;
use super::seam::Seams;
use crate::body::multipart::Boundary;
use crate::body::{self, Declared, Format, edit};
use crate::leak::Place;
use crate::problem::Fault;
use cordon_policy::{JsonSelector, LookInside, Places};
use proptest::prelude::*;
use zeroize::Zeroizing;

const SMALL: Bounds = Bounds { piece: 48, longest: 400, records: 3 };

fn cut(format: &Format, body: &str, chunk: usize, bounds: Bounds) -> Result<Vec<Piece>, Fault> {
    let mut cutter = Cutter::new(format, bounds).unwrap();
    let mut pieces = Vec::new();
    for bytes in body.as_bytes().chunks(chunk) {
        cutter.push(bytes);
        while let Some(piece) = cutter.next_piece()? {
            pieces.push(piece);
        }
    }
    pieces.extend(cutter.finish());
    Ok(pieces)
}

fn declared() -> Declared {
    let json = JsonSelector::parse("$.pan").unwrap();
    let name = Some("pan".to_owned());
    Declared::new(&[Places { json: Some(json), csv: name.clone(), form: name, ..Places::default() }])
}

/// The fields of a body, and the body with each in brackets.
fn bracketed(format: &Format, body: &[u8]) -> Option<(Vec<String>, Vec<u8>)> {
    let leaves = body::locate(format, body, &declared(), &mut |_| ()).ok()?;
    let texts: Vec<_> = leaves.iter().map(|leaf| leaf.text.expose().to_owned()).collect();
    let edits: Vec<_> = leaves
        .iter()
        .map(|leaf| edit::Edit {
            span: leaf.span.clone(),
            text: Some(Zeroizing::new(format!("[{}]", leaf.text.expose()))),
            writing: leaf.writing,
        })
        .collect();
    Some((texts, edit::apply(body, &edits).unwrap().bytes.to_vec()))
}

/// Whether the pieces, each read and rewritten, are the body, read and rewritten.
fn agree(format: &Format, body: &str, chunk: usize) -> Result<usize, TestCaseError> {
    let whole = bracketed(format, body.as_bytes());
    let pieces = cut(format, body, chunk, SMALL).unwrap();
    let (mut texts, mut sent, mut unread) = (Vec::new(), Vec::new(), false);
    let count = pieces.len();
    let mut waiting: Vec<_> = pieces.into_iter().rev().collect();
    while let Some(piece) = waiting.pop() {
        // Every other one is divided once more, as one with too many cards is.
        if waiting.len() % 2 == 1 && piece.ends.len() > 1 {
            let (first, second) = piece.halves().unwrap();
            waiting.push(second);
            waiting.push(first);
            continue;
        }
        let Some((found, rewritten)) = bracketed(piece.format(), &piece.body()) else {
            unread = true;
            break;
        };
        texts.extend(found);
        sent.extend_from_slice(&rewritten[piece.sent(&rewritten).unwrap()]);
    }
    match whole {
        Some((fields, rewritten)) => {
            prop_assert!(!unread, "{body:?}");
            prop_assert_eq!(texts, fields);
            prop_assert_eq!(String::from_utf8(sent).unwrap(), String::from_utf8(rewritten).unwrap());
        }
        None => prop_assert!(unread, "{body:?}"),
    }
    Ok(count)
}

fn form(parts: &[(&str, String)]) -> String {
    let part = |(name, content): &(&str, String)| {
        format!("--xx\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
    };
    format!("{}--xx--\r\n", parts.iter().map(part).collect::<String>())
}

fn multipart() -> Format {
    Format::Multipart(Boundary::parse("xx").unwrap())
}

#[test]
fn rows_are_cut_at_their_ends_and_read_below_their_names() {
    let rows: String = (0..40).map(|row| format!("{row},\"a \"\"b\"\"\nc\",41{row}\r\n")).collect();
    let body = format!("id,note,pan\r\n{rows}");
    for chunk in [1, 7, 64, 4096] {
        assert!(agree(&Format::Csv, &body, chunk).unwrap() > 12);
    }
    let pieces = cut(&Format::Csv, &body, 64, SMALL).unwrap();
    assert!(pieces[1].body().starts_with(b"id,note,pan\r\n2,"));
    assert!(!pieces[1].leads && pieces[0].leads);
}

#[test]
fn a_part_is_cut_at_its_lines_and_a_form_between_its_parts() {
    let lines: String = (0..60).map(|line| format!("line {line} of a file\r\n")).collect();
    let body = form(&[("pan", "41".into()), ("file", lines.clone()), ("more", lines), ("last", "x".into())]);
    for chunk in [1, 5, 33, 64, 8192] {
        let count = agree(&multipart(), &body, chunk).unwrap();
        assert!(chunk > 64 || count > 20, "{count}");
    }
}

#[test]
fn what_cannot_be_cut_is_refused() {
    let long = "x".repeat(1_000);
    assert_eq!(cut(&Format::Ndjson, &long, 64, SMALL).err(), Some(Fault::TooLarge));
    assert_eq!(
        cut(&Format::Csv, &format!("a\n\"{}", "x\n".repeat(500)), 64, SMALL).err(),
        Some(Fault::TooLarge)
    );
    assert_eq!(cut(&multipart(), &form(&[("file", long)]), 64, SMALL).err(), Some(Fault::TooLarge));
    let lines = "QUJDREVGR0g=\r\n".repeat(100);
    let head =
        "--xx\r\nContent-Disposition: form-data; name=\"f\"\r\nContent-Transfer-Encoding: BASE64\r\n\r\n";
    let coded = format!("{head}{lines}\r\n--xx--\r\n");
    assert_eq!(cut(&multipart(), &coded, 64, SMALL).err(), Some(Fault::TooLarge));
    assert!(Cutter::new(&Format::Json, SMALL).is_none());
}

#[test]
fn an_edit_outside_of_what_is_sent_is_noticed() {
    let body = format!("pan\n{}", "1\n".repeat(12));
    let piece = cut(&Format::Csv, &body, 64, SMALL).unwrap().remove(1);
    assert_eq!(piece.sent(&piece.body()), Some(4..10));
    assert_eq!(piece.sent(b"pin\n1\n1\n1\n"), None);
    assert_eq!(piece.sent(b"pa"), None);
}

const NUMBER: &str = "4111111111111111";

fn joined(parts: &[&str], rule: LookInside) -> Result<bool, Fault> {
    let mut seams = Seams::new(rule);
    let mut reports = false;
    for part in parts {
        reports |= seams.join(part.as_bytes())?;
    }
    seams.finish()?;
    Ok(reports)
}

#[test]
fn a_number_across_a_cut_is_found_and_one_beside_it_is_the_pieces_own() {
    let leak = Err(Fault::Leak(Place::Body));
    for parts in [
        &["a 41111111", "11111111 b"][..],
        &["x 4111", "1111", "1111", "1111 y"],
        &["%34%31%31%31%31%31%31%31", "%31%31%31%31%31%31%31%31"],
    ] {
        assert_eq!(joined(parts, LookInside::Off), leak, "{parts:?}");
    }
    for parts in [&[NUMBER, "\n"][..], &["\n", NUMBER], &["a\n", "b\n"], &["12 ", "34"], &[]] {
        assert_eq!(joined(parts, LookInside::Deny), Ok(false), "{parts:?}");
    }
    let coded = data_encoding::BASE64.encode(format!("a card is {NUMBER} and more of it").as_bytes());
    let (before, after) = coded.split_at(20);
    let parts = [&format!("text\n{before}\n"), after];
    assert_eq!(joined(&parts, LookInside::Deny), leak);
    assert_eq!(joined(&parts, LookInside::Report), Ok(true));
    assert_eq!(joined(&parts, LookInside::Off), Ok(false));
}

proptest! {
    #[test]
    fn lines_agree_with_the_whole(
        lines in prop::collection::vec("(\\{\"pan\":\"[0-9]{1,6}\"\\}|\\{\"a\":\"\\\\\\\\n\"\\}|\\{\\}| |\\{)", 0..30),
        chunk in 1_usize..80,
    ) {
        agree(&Format::Ndjson, &lines.join("\n"), chunk)?;
    }

    #[test]
    fn rows_agree_with_the_whole(
        rows in prop::collection::vec(("[a-c]{0,3}", "\"[a-c\n\r,]{0,4}\""), 1..30),
        chunk in 1_usize..80,
        ended in any::<bool>(),
    ) {
        let rows: Vec<_> = rows.iter().map(|(first, second)| format!("{first},{second}")).collect();
        let end = if ended { "\n" } else { "" };
        agree(&Format::Csv, &format!("pan,x\n{}{end}", rows.join("\n")), chunk)?;
    }

    #[test]
    fn forms_agree_with_the_whole(
        contents in prop::collection::vec("([a-z-]{0,9}\r?\n){0,12}", 1..6),
        chunk in 1_usize..80,
    ) {
        let names = ["a", "b", "c", "d", "e", "f"];
        let parts: Vec<_> = names.into_iter().zip(contents).collect();
        agree(&multipart(), &form(&parts), chunk)?;
    }
}
