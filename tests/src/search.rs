//! Finds a card number in bytes, in every encoding a leak could take.
//! Must never miss the positive control. Tests: `tests/tests/harness.rs`.

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use std::fs;
use std::path::{Path, PathBuf};

/// The forms in which a leaked number is looked for.
#[must_use]
pub fn encodings(pan: &str) -> Vec<(&'static str, Vec<u8>)> {
    let digits = pan.as_bytes();
    let utf16le: Vec<u8> = pan.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let utf16be: Vec<u8> = pan.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let reversed: Vec<u8> = digits.iter().rev().copied().collect();
    let binary = pan.parse::<u64>().unwrap_or_default();
    let mut forms = vec![
        ("ascii", digits.to_vec()),
        ("grouped by spaces", grouped(pan, ' ')),
        ("grouped by hyphens", grouped(pan, '-')),
        ("utf-16le", utf16le),
        ("utf-16be", utf16be),
        ("hex lower", HEXLOWER.encode(digits).into_bytes()),
        ("hex upper", HEXUPPER.encode(digits).into_bytes()),
        ("reversed", reversed),
        ("bcd", bcd(pan)),
        ("u64 little endian", binary.to_le_bytes().to_vec()),
        ("u64 big endian", binary.to_be_bytes().to_vec()),
        ("percent-encoded", pan.bytes().flat_map(|byte| format!("%{byte:02X}").into_bytes()).collect()),
        ("json escapes", pan.bytes().flat_map(|byte| format!("\\u{byte:04x}").into_bytes()).collect()),
    ];
    // Base64 depends on where the number starts: three alignments, the shared middle of each.
    for lead in 0..3_usize {
        let mut padded = vec![b'x'; lead];
        padded.extend_from_slice(digits);
        let text = BASE64.encode(&padded);
        let skip = [0, 2, 3].get(lead).copied().unwrap_or(0);
        let keep: Vec<u8> = text.bytes().skip(skip).take(18).collect();
        forms.push(("base64", keep));
        let url = BASE64URL_NOPAD.encode(&padded);
        forms.push(("base64url", url.bytes().skip(skip).take(18).collect()));
    }
    forms
}

fn grouped(pan: &str, separator: char) -> Vec<u8> {
    let mut out = String::new();
    for (index, digit) in pan.chars().enumerate() {
        if index > 0 && index % 4 == 0 {
            out.push(separator);
        }
        out.push(digit);
    }
    out.into_bytes()
}

fn bcd(pan: &str) -> Vec<u8> {
    let nibbles: Vec<u8> = pan.bytes().map(|digit| digit - b'0').collect();
    nibbles.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, nibble| (byte << 4) | nibble)).collect()
}

/// The first encoding of `pan` that stands in `bytes`.
#[must_use]
pub fn find(pan: &str, bytes: &[u8]) -> Option<&'static str> {
    encodings(pan).into_iter().find(|(_, form)| contains(bytes, form)).map(|(name, _)| name)
}

/// Whether `form` stands in `bytes`.
#[must_use]
pub fn contains(bytes: &[u8], form: &[u8]) -> bool {
    !form.is_empty() && memchr::memmem::find(bytes, form).is_some()
}

/// Every file below `dir` in which `pan` stands in some encoding, as `path: encoding`.
#[must_use]
pub fn find_in_files(pan: &str, dir: &Path) -> Vec<String> {
    let hit = |(path, bytes): (PathBuf, Vec<u8>)| Some(format!("{}: {}", path.display(), find(pan, &bytes)?));
    files(dir).into_iter().filter_map(hit).collect()
}

/// How often `form` stands in `bytes`.
#[must_use]
pub fn count(bytes: &[u8], form: &[u8]) -> usize {
    memchr::memmem::find_iter(bytes, form).count()
}

/// Every file below `dir` with its content.
#[must_use]
pub fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut queue = vec![dir.to_owned()];
    while let Some(next) = queue.pop() {
        let Ok(entries) = fs::read_dir(&next) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                queue.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                files.push((path, bytes));
            }
        }
    }
    files
}
