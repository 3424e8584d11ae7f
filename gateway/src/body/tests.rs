//! Tests of what holds for every type of body.

use super::*;
use proptest::prelude::*;

fn formats() -> Vec<Format> {
    let multipart = Format::Multipart(Boundary::parse("b").unwrap());
    vec![
        Format::Json,
        Format::Ndjson,
        Format::Form,
        multipart,
        Format::Xml,
        Format::Csv,
        Format::Fixed,
        Format::Text,
    ]
}

fn sample(format: &Format) -> &'static str {
    match format {
        Format::Json | Format::Ndjson => "{\"a\":\"4111\"}",
        Format::Form => "a=4111",
        Format::Multipart(_) => "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n4111\r\n--b--\r\n",
        Format::Xml => "<a>4111</a>",
        Format::Csv => "a\n4111\n",
        Format::Fixed | Format::Text => "4111",
    }
}

fn refused(format: &Format, body: &[u8]) -> bool {
    let located = locate(format, body, &Declared::default(), &mut |_| ()).is_err();
    // Values are asked of bodies that were located; those of plain text are always there.
    located && (values(format, body).is_err() || std::str::from_utf8(body).is_ok())
}

#[test]
fn only_utf8_without_a_mark_or_a_nul_is_read() {
    for format in formats() {
        let text = sample(&format);
        assert!(locate(&format, text.as_bytes(), &Declared::default(), &mut |_| ()).is_ok(), "{format:?}");
        let utf16 = |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        let utf32: Vec<u8> = text.chars().flat_map(|character| u32::from(character).to_le_bytes()).collect();
        // Digits of code page 037 are F0 to F9.
        let ebcdic: Vec<u8> =
            text.bytes().map(|byte| if byte.is_ascii_digit() { byte | 0xf0 } else { byte }).collect();
        for (name, body) in [
            ("UTF-16LE", utf16(u16::to_le_bytes)),
            ("UTF-16BE", utf16(u16::to_be_bytes)),
            ("UTF-16 with a mark", [&[0xff, 0xfe][..], &utf16(u16::to_le_bytes)].concat()),
            ("UTF-32", utf32),
            ("EBCDIC", ebcdic),
            ("a byte order mark", format!("\u{feff}{text}").into_bytes()),
            ("a NUL at the end", format!("{text}\0").into_bytes()),
            ("Latin-1", [text.as_bytes(), &[0xe9]].concat()),
            ("overlong", [text.as_bytes(), &[0xc0, 0xb4]].concat()),
        ] {
            assert!(refused(&format, &body), "{format:?}: {name}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..64)) {
        for format in formats() {
            if locate(&format, &body, &Declared::default(), &mut |_| ()).is_ok() {
                for leaf in values(&format, &body).unwrap() {
                    prop_assert!(body.get(leaf.span).is_some());
                }
            }
        }
    }
}
