//! Finds card numbers in a stream of bytes: bodies, headers, logs, files.
//!
//! Works on decoded text (UTF-8 or ASCII); undoing escapes, percent signs, base64 and compression is the caller's
//! work, before. Never keeps a digit longer than it has to: what is held between two chunks is wiped on drop.
//! Tests: beside each module, and `tests/*.rs`. Measurements: `bench/benches/scan.rs`.
//!
//! # What is found
//!
//! A *group* is a run of decimal digits of any script. A *gap* is one to three separators of one family (spaces;
//! one dash with or without a space on either side; one dot likewise) between two groups. Up to 16 invisible
//! characters may stand anywhere between two digits. A line break, a tab, a comma and any other punctuation part.
//!
//! A *candidate* is a whole group, or some groups in a row whose gaps are of one family and whose sizes are a way
//! of writing cards: fours with a last group of one to four; 4-6-5; 4-6-4; 4-5-6; 4-3-3-3; 6-13; or single digits
//! (with spaces or dashes only). Groups are never cut: there is no sliding inside a longer row of digits. A
//! candidate of twelve digits in groups, and one of single digits, has to be the whole row.
//!
//! A candidate is a finding when [`cordon_card::plausible`] says so (brand by prefix, length, Luhn digit), unless
//! what is around it shows that it is something else:
//!
//! * it lies in a UUID (8-4-4-4-12 hexadecimal digits);
//! * it is part of a word of 24, 32, 40, 48, 56, 64, 96 or 128 hexadecimal digits in one case (object ids, UUIDs
//!   without hyphens, digests), unless it starts the word and is followed by `D` and a year and month, which is
//!   how track 2 of a card is written;
//! * it is the 16-digit half of a trace context (32 and 16 hexadecimal digits with a hyphen between);
//! * it is the fraction of a decimal number that a double could have printed (at most 17 significant digits);
//! * it lies in an IBAN: country, length and check digits fit;
//! * it lies in an opaque token of ours with a right checksum.
//!
//! Other letters next to a candidate do not hide it: `pan4111111111111111` and `4111111111111111USD` are findings.
//! There is no rule for base64: 13 digits in a row happen about once in 10^11 random characters.
//!
//! Of candidates that overlap, the one that starts first is reported, and the longest of those.
//!
//! # What is not told apart
//!
//! A number of card length with a card's prefix and a right Luhn digit is a finding, whatever it was meant to be.
//! Clocks in milliseconds, microseconds and nanoseconds have no card's prefix until May 2033.
//!
//! Dependency line: `daemon`, `gateway`, `vault` and `cli` may use this crate; it uses `card` only.

mod candidate;
mod chain;
mod context;
mod finding;
mod marks;
mod skip;
mod stream;

pub use finding::Finding;
pub use stream::Scanner;

/// All findings in one piece of text, in order.
#[must_use]
pub fn scan(bytes: &[u8]) -> Vec<Finding> {
    let mut all = Vec::new();
    let mut from = 0;
    while let Some(hit) = candidate::next_in(bytes, from, bytes.len()) {
        from = hit.end;
        all.push(hit.into_finding(0));
    }
    all
}

/// The first finding in one piece of text; what follows it is not looked at.
#[must_use]
pub fn first(bytes: &[u8]) -> Option<Finding> {
    candidate::next_in(bytes, 0, bytes.len()).map(|hit| hit.into_finding(0))
}
