//! Tests of multipart forms.

use super::super::edit::{Edit, apply};
use super::*;
use proptest::prelude::*;

fn declared(names: &[&str]) -> Vec<(usize, String)> {
    names.iter().map(|name| (*name).to_owned()).enumerate().collect()
}

fn boundary() -> Boundary {
    Boundary::parse("x-Y'1").unwrap()
}

/// Parts with these header lines and contents, between proper delimiters.
fn form(parts: &[(&str, &str)]) -> String {
    let part = |(head, content): &(&str, &str)| format!("--x-Y'1\r\n{head}\r\n\r\n{content}\r\n");
    parts.iter().map(part).chain(["--x-Y'1--\r\n".to_owned()]).collect()
}

fn named(name: &str) -> String {
    format!("Content-Disposition: form-data; name=\"{name}\"")
}

fn found(body: &str, names: &[&str]) -> Result<Vec<(usize, String, String)>, BodyError> {
    let leaves = locate(body, &boundary(), &declared(names), &mut |_| ())?;
    let read = |leaf: &Leaf<'_>| {
        (leaf.field, body.get(leaf.span.clone()).unwrap().to_owned(), leaf.text.expose().to_owned())
    };
    Ok(leaves.iter().map(read).collect())
}

fn heard(body: &str) -> Vec<String> {
    let mut all = Vec::new();
    locate(body, &boundary(), &[], &mut |text| all.push(text.to_owned())).unwrap();
    all
}

#[test]
fn parts_are_found_by_name_with_what_they_hold_decoded() {
    let base64 = format!("{}\r\nContent-Transfer-Encoding: Base64", named("b"));
    let quoted = format!("{}\r\ncontent-transfer-encoding:quoted-printable", named("q"));
    let body = form(&[
        (&named("a"), "4111 1111"),
        (&base64, "NDEx\r\nMQ=="),
        (&quoted, "=3411=\r\n1"),
        (
            "Content-Disposition: form-data; name=file; filename=\"f.txt\"\r\nContent-Type: text/plain; charset=utf-8",
            "x\r\n\r\ny",
        ),
        (&named("e"), ""),
    ]);
    let wanted = [
        (2, "4111 1111", "4111 1111"),
        (0, "NDEx\r\nMQ==", "4111"),
        (1, "=3411=\r\n1", "4111"),
        (4, "x\r\n\r\ny", "x\r\n\r\ny"),
        (3, "", ""),
    ];
    let wanted = wanted.map(|(field, raw, text)| (field, raw.to_owned(), text.to_owned()));
    assert_eq!(found(&body, &["b", "q", "a", "e", "file"]).unwrap(), wanted);
    assert_eq!(heard(&body), ["4111", "4111"]);
    assert_eq!(found(body.strip_suffix("\r\n").unwrap(), &["a"]).unwrap().len(), 1);
}

#[test]
fn each_transfer_encoding_is_written_back_in_kind() {
    for encoding in ["8bit", "base64", "quoted-printable"] {
        let head = format!("{}\r\nContent-Transfer-Encoding: {encoding}", named("a"));
        let body = form(&[(&head, "NDEx"), (&named("z"), "last")]);
        let leaves = locate(&body, &boundary(), &declared(&["a"]), &mut |_| ()).unwrap();
        let text = Some(Zeroizing::new("tok_d_x=".to_owned()));
        let edit = Edit { span: leaves[0].span.clone(), text, writing: leaves[0].writing };
        let edited = apply(body.as_bytes(), &[edit]).unwrap();
        let after = String::from_utf8(edited.bytes.to_vec()).unwrap();
        assert_eq!(found(&after, &["a", "z"]).unwrap()[0].2, "tok_d_x=", "{encoding}");
        assert_eq!(found(&after, &["a", "z"]).unwrap()[1].2, "last");
    }
}

#[test]
fn names_and_contents_that_the_raw_scan_would_miss_are_heard() {
    let json = format!("{}\r\nContent-Type: application/json", named("\u{e9}"));
    let file = "Content-Disposition: form-data; name=\"f\"; filename=\"\u{ff14}\"";
    let body = form(&[(&json, r#"{"a":"\u0034"}"#), (file, "\u{ff11}")]);
    assert_eq!(heard(&body), ["\u{e9}", "4", "\u{ff14}", "\u{ff11}"]);
}

#[test]
fn a_name_twice_is_refused_if_it_is_declared() {
    let body = form(&[(&named("a"), "1"), (&named("a"), "2")]);
    assert_eq!(found(&body, &["x", "a"]), Err(BodyError::Field(1)));
    assert_eq!(found(&body, &["x"]).unwrap(), []);
}

#[test]
fn delimiters_are_where_they_should_be_or_the_body_is_refused() {
    let good = form(&[(&named("a"), "1")]);
    assert!(found(&good, &[]).is_ok());
    for body in [
        String::new(),
        "--x-Y'1--\r\n".to_owned(),
        good.replace("\r\n", "\n"),
        good.replace("\r\n--x-Y'1--", "\n--x-Y'1--"),
        good.replace("--x-Y'1--\r\n", ""),
        good.replace("--x-Y'1--", "--x-Y'1"),
        good.replace("--x-Y'1--", "--x-Y'1-"),
        format!("preamble\r\n{good}"),
        format!("\r\n{good}"),
        format!("{good}epilogue"),
        format!("{good}{good}"),
        good.replace("--x-Y'1\r\n", "--x-Y'1 \r\n"),
        good.replace("1\r\n--x-Y'1--", "1--x-Y'1\r\n--x-Y'1--"),
        good.replace("1\r\n--x-Y'1--", "\r\n--x-Y'12\r\n--x-Y'1--"),
        good.replace("\r\n\r\n1", "\r\n"),
    ] {
        assert_eq!(found(&body, &["a"]), Err(BodyError::Malformed), "{body:?}");
    }
}

#[test]
fn odd_header_lines_are_refused() {
    for head in [
        "Content-Type: text/plain",
        "Content-Disposition: attachment; name=\"a\"",
        "Content-Disposition: form-data",
        "Content-Disposition: form-data; name=\"a\"; name=\"b\"",
        "Content-Disposition: form-data; name=\"a\\\"b\"",
        "Content-Disposition: form-data; name*=utf-8''a",
        "Content-Disposition: form-data; name=\"a\"; filename*=utf-8''4111",
        "Content-Disposition: form-data; name=\"=?utf-8?B?NDEx?=\"",
        "Content-Disposition: form-data; name=\"a\"\r\nContent-Disposition: form-data; name=\"b\"",
        "Content-Disposition: form-data;\r\n name=\"a\"",
        "Content-Disposition: form-data; name=\"a\"\r\nX-Other: 1",
        "Content-Disposition: form-data; name=\"a\"\nContent-Type: text/plain",
        "Content-Disposition : form-data; name=\"a\"",
        "",
    ] {
        assert_eq!(found(&form(&[(head, "1")]), &["a"]), Err(BodyError::Malformed), "{head:?}");
    }
}

#[test]
fn parts_that_cannot_be_inspected_are_refused() {
    for line in [
        "Content-Type: multipart/mixed; boundary=y",
        "Content-Type: multipart/form-data; boundary=y",
        "Content-Type: text/plain; charset=utf-16",
        "Content-Type: text/plain; charset=\"cp037\"",
        "Content-Type: application/json; charset=utf-7",
        "Content-Type: nonsense",
        "Content-Transfer-Encoding: x-uuencode",
        "Content-Transfer-Encoding: gzip",
    ] {
        let head = format!("{}\r\n{line}", named("a"));
        assert_eq!(found(&form(&[(&head, "1")]), &["x"]), Err(BodyError::Uninspectable), "{line}");
    }
    assert_eq!(found(&form(&[(&named("_charset_"), "iso-8859-1")]), &[]), Err(BodyError::Uninspectable));
    assert!(found(&form(&[(&named("_charset_"), "UTF-8")]), &[]).is_ok());
    for (line, content) in [
        ("Content-Transfer-Encoding: base64", "NDE"),
        ("Content-Transfer-Encoding: base64", "ND Ex"),
        ("Content-Transfer-Encoding: base64", "NAAx"),
        ("Content-Transfer-Encoding: base64", "/w=="),
        ("Content-Transfer-Encoding: quoted-printable", "=4"),
        ("Content-Transfer-Encoding: quoted-printable", "=FF"),
        ("Content-Type: application/json", "{"),
        ("Content-Type: application/xml", "<a>"),
    ] {
        let head = format!("{}\r\n{line}", named("a"));
        assert_eq!(found(&form(&[(&head, content)]), &["x"]), Err(BodyError::Malformed), "{line} {content}");
    }
}

#[test]
fn a_boundary_is_of_the_standard_s_characters() {
    for text in ["", "a ", "a\"b", "a;b", "\u{e9}", &"a".repeat(71)] {
        assert_eq!(Boundary::parse(text), None, "{text}");
    }
    for text in ["a", "----WebKitFormBoundary7MA4YWxkTrZu0gW", "a b", &"a".repeat(70)] {
        assert!(Boundary::parse(text).is_some(), "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_between_delimiters_is_read_or_refused(text in "[x\\-Y'1\r\n:;=a4 ]{0,60}") {
        let body = form(&[(&named("a"), &text)]);
        if let Ok(leaves) = locate(&body, &boundary(), &declared(&["a"]), &mut |_| ()) {
            for leaf in leaves {
                prop_assert_eq!(body.get(leaf.span).unwrap(), &text);
            }
        }
        if let Ok(leaves) = locate(&text, &boundary(), &declared(&["a"]), &mut |_| ()) {
            for leaf in leaves {
                prop_assert!(text.get(leaf.span).is_some());
            }
        }
    }
}
