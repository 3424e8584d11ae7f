//! Looks for a card number in bytes, in the encodings that software turns digits into.
//!
//! Must never share code with the gateway's scanner: it checks its work. Tests: below.

use data_encoding::{BASE32, BASE64, Encoding, HEXLOWER, HEXUPPER};
use memchr::memmem;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

/// The forms of one card number, ready to search for.
pub(crate) struct Traces {
    digits: String,
    needles: Vec<(&'static str, Vec<u8>)>,
}

/// What a search of files covered.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Searched {
    /// Files read.
    pub(crate) files: u64,
    /// Bytes in them.
    pub(crate) bytes: u64,
}

/// Where a card number was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trace {
    /// The encoding it stood in.
    pub(crate) encoding: &'static str,
    /// The file, relative to the directory searched.
    pub(crate) file: String,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} holds it as {}", self.file, self.encoding)
    }
}

impl Traces {
    /// The forms of a card number given as digits.
    pub(crate) fn of(digits: &str) -> Self {
        let mut needles = vec![
            ("digits", digits.as_bytes().to_vec()),
            ("digits reversed", digits.bytes().rev().collect()),
            ("hex", HEXLOWER.encode(digits.as_bytes()).into_bytes()),
            ("hex", HEXUPPER.encode(digits.as_bytes()).into_bytes()),
            ("percent encoding", each(digits, |digit| format!("%{:02x}", u32::from(digit)))),
            ("double percent encoding", each(digits, |digit| format!("%25{:02x}", u32::from(digit)))),
            ("JSON escapes", each(digits, |digit| format!("\\u{:04x}", u32::from(digit)))),
            ("hex escapes", each(digits, |digit| format!("\\x{:02x}", u32::from(digit)))),
            ("decimal references", each(digits, |digit| format!("&#{};", u32::from(digit)))),
            ("hex references", each(digits, |digit| format!("&#x{:x};", u32::from(digit)))),
            ("digits as a list", listed(digits)),
            ("UTF-16LE", digits.encode_utf16().flat_map(u16::to_le_bytes).collect()),
            ("UTF-16BE", digits.encode_utf16().flat_map(u16::to_be_bytes).collect()),
            ("EBCDIC", digits.bytes().map(|digit| digit.wrapping_add(0xC0)).collect()),
        ];
        if let Ok(packed) = HEXLOWER.decode(digits.as_bytes()) {
            needles.push(("packed decimal", packed));
        }
        if let Ok(number) = digits.parse::<u64>() {
            needles.push(("little-endian integer", number.to_le_bytes().to_vec()));
            needles.push(("big-endian integer", number.to_be_bytes().to_vec()));
        }
        needles.extend(within(&BASE64, digits, 3).map(|needle| ("base64", needle)));
        needles.extend(within(&BASE32, digits, 5).map(|needle| ("base32", needle)));
        Self { digits: digits.to_owned(), needles }
    }

    /// How many encodings are looked for.
    pub(crate) fn encodings(&self) -> usize {
        let mut names: Vec<_> = self.needles.iter().map(|(name, _)| *name).collect();
        names.dedup();
        // Separators and digits of other scripts are taken out before the search.
        names.len().saturating_add(2)
    }

    /// The encoding in which the card number stands in `bytes`, if it does.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<&'static str> {
        let lower = bytes.to_ascii_lowercase();
        for (name, needle) in &self.needles {
            if contains(bytes, needle) || contains(&lower, needle) {
                return Some(name);
            }
        }
        let text = String::from_utf8_lossy(bytes);
        if contains(&folded(&text, false), self.digits.as_bytes()) {
            return Some("digits of another script");
        }
        contains(&folded(&text, true), self.digits.as_bytes()).then_some("digits with separators")
    }

    /// Searches every file below a directory.
    pub(crate) fn find_below(&self, directory: &Path) -> io::Result<(Searched, Option<Trace>)> {
        let mut searched = Searched::default();
        let mut left = vec![directory.to_owned()];
        while let Some(next) = left.pop() {
            for entry in fs::read_dir(&next)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    left.push(entry.path());
                }
                if !kind.is_file() {
                    continue;
                }
                // A store may drop a file between the listing and the reading.
                let Ok(bytes) = fs::read(entry.path()) else { continue };
                searched.files = searched.files.saturating_add(1);
                searched.bytes =
                    searched.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                if let Some(encoding) = self.find(&without_empty_blocks(&bytes)) {
                    let path = entry.path();
                    let file = path.strip_prefix(directory).unwrap_or(&path).display().to_string();
                    return Ok((searched, Some(Trace { encoding, file })));
                }
            }
        }
        Ok((searched, None))
    }
}

/// A file without its blocks of zeros: stores and logs reserve far more than they fill.
fn without_empty_blocks(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for block in bytes.chunks(EMPTY.len()) {
        if EMPTY.get(..block.len()) == Some(block) {
            // Keeps apart what the block kept apart.
            out.extend_from_slice(&[0; 64]);
        } else {
            out.extend_from_slice(block);
        }
    }
    out
}

/// Digits in ASCII, those of full width among them; with `join`, digits next to each other but for separators.
fn folded(text: &str, join: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '0'..='9' => out.push(letter as u8),
            '\u{ff10}'..='\u{ff19}' => {
                let value = u32::from(letter).saturating_sub(0xff10);
                out.push(b'0'.saturating_add(u8::try_from(value).unwrap_or_default()));
            }
            ' ' | '-' | '.' | '+' | '_' | '\u{a0}' | '\u{2010}'..='\u{2015}' | '\u{200b}' | '\u{ad}'
                if join => {}
            _ => out.push(b' '),
        }
    }
    out
}

fn each(digits: &str, form: impl Fn(char) -> String) -> Vec<u8> {
    digits.chars().map(form).collect::<String>().into_bytes()
}

/// `4,1,1,1`: a string that was written as a list.
fn listed(digits: &str) -> Vec<u8> {
    let each: Vec<String> = digits.chars().map(String::from).collect();
    each.join(",").into_bytes()
}

/// The part of an encoding that is the same whatever stands before and after, for each alignment of `block` bytes.
fn within(encoding: &Encoding, digits: &str, block: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..block).map(move |shift| {
        let mut shifted = vec![0_u8; shift];
        shifted.extend_from_slice(digits.as_bytes());
        shifted.truncate(shifted.len() / block * block);
        let whole = encoding.encode(&shifted);
        let symbols = whole.len().checked_div(shifted.len() / block).unwrap_or_default();
        let skip = if shift == 0 { 0 } else { symbols };
        whole.into_bytes().into_iter().skip(skip).collect()
    })
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    memmem::find(bytes, needle).is_some()
}

const EMPTY: [u8; 4096] = [0; 4096];

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::BASE64URL_NOPAD;

    const PAN: &str = "4111111111111111";

    fn found(bytes: &[u8]) -> Option<&'static str> {
        Traces::of(PAN).find(bytes)
    }

    #[test]
    fn plain_and_separated_digits_are_found() {
        for text in
            ["x4111111111111111y", "4111 1111 1111 1111", "4111-1111-1111-1111", "4.1.1.1 1111 1111 1111"]
        {
            assert!(found(text.as_bytes()).is_some(), "{text}");
        }
        assert!(found("4111\u{a0}1111\u{2010}1111 1111".as_bytes()).is_some());
    }

    #[test]
    fn full_width_digits_are_found() {
        let wide: String =
            PAN.chars().filter_map(|digit| char::from_u32(u32::from(digit) + 0xff10 - 0x30)).collect();
        assert!(found(wide.as_bytes()).is_some());
    }

    #[test]
    fn base64_is_found_at_every_alignment_and_in_both_alphabets() {
        for before in 0..6 {
            for after in 0..6 {
                let text = format!("{}{PAN}{}", "q".repeat(before), "z".repeat(after));
                assert!(found(BASE64.encode(text.as_bytes()).as_bytes()).is_some(), "{before} {after}");
                assert!(
                    found(BASE64URL_NOPAD.encode(text.as_bytes()).as_bytes()).is_some(),
                    "{before} {after}"
                );
                assert!(found(BASE32.encode(text.as_bytes()).as_bytes()).is_some(), "{before} {after}");
            }
        }
    }

    #[test]
    fn escapes_are_found_in_either_case() {
        let hex = HEXUPPER.encode(PAN.as_bytes());
        let percent: String = PAN.bytes().map(|digit| format!("%{digit:02X}")).collect();
        let json: String = PAN.bytes().map(|digit| format!("\\u{digit:04X}")).collect();
        let list = "[4,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]".to_owned();
        for text in [hex, percent, json, list] {
            assert!(found(text.as_bytes()).is_some(), "{text}");
        }
        assert!(found(&4_111_111_111_111_111_u64.to_le_bytes()).is_some());
        assert!(found(&PAN.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>()).is_some());
    }

    #[test]
    fn what_is_no_trace_is_not_found() {
        for text in [
            "",
            "************1111",
            "411111******1111",
            "tok_dev_4111aaaa",
            "4111111111111112",
            "4111x1111x1111x1111",
        ] {
            assert_eq!(found(text.as_bytes()), None, "{text}");
        }
        assert_eq!(found("411111111111\n1111".as_bytes()), None);
    }

    #[test]
    fn a_directory_is_searched_to_its_leaves() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("a")).unwrap();
        fs::write(scratch.path().join("a/clean"), "nothing").unwrap();
        let traces = Traces::of(PAN);
        assert_eq!(traces.find_below(scratch.path()).unwrap(), (Searched { files: 1, bytes: 7 }, None));
        fs::write(scratch.path().join("a/dirty"), format!("x{PAN}")).unwrap();
        let mut reserved = vec![0; 10_000];
        reserved.extend_from_slice(PAN.as_bytes());
        fs::write(scratch.path().join("b"), [&reserved[..], &[0; 10_000]].concat()).unwrap();
        assert_eq!(traces.find_below(&scratch.path().join("a")).unwrap().0.files, 2);
        fs::remove_file(scratch.path().join("a/dirty")).unwrap();
        assert!(traces.find_below(scratch.path()).unwrap().1.is_some_and(|trace| trace.file == "b"));
        fs::remove_file(scratch.path().join("b")).unwrap();
        fs::write(scratch.path().join("a/dirty"), format!("x{PAN}")).unwrap();
        let (_, trace) = traces.find_below(scratch.path()).unwrap();
        assert_eq!(trace.unwrap(), Trace { encoding: "digits", file: "a/dirty".into() });
    }
}
