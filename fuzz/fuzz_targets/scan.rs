//! The scanner: the same findings however the bytes are cut, and each finding is a number that `Pan` reads.
#![no_main]

use cordon_card::{Pan, Truncation, plausible};
use cordon_scan::{Finding, Scanner, first, scan};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The first bytes say how to cut the rest.
    let (cuts, bytes) = data.split_at(data.len().min(4));
    let whole = scan(bytes);
    assert_eq!(first(bytes).as_ref(), whole.first());
    assert_eq!(in_chunks(bytes, cuts), whole);

    let mut last_end = 0;
    for finding in &whole {
        assert!(last_end <= finding.start && finding.start < finding.end);
        last_end = finding.end;
        check(bytes, finding);
    }
});

fn check(bytes: &[u8], finding: &Finding) {
    let range = usize::try_from(finding.start).unwrap()..usize::try_from(finding.end).unwrap();
    let written = std::str::from_utf8(&bytes[range]).expect("a finding covers whole characters");
    let pan = Pan::parse(written).expect("the scanner and the parser read the same spellings");
    assert_eq!(pan.truncated(Truncation::LastFour), finding.masked);
    assert_eq!(plausible(pan.expose().as_bytes()), Some(finding.brand));
}

fn in_chunks(bytes: &[u8], cuts: &[u8]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut scanner = Scanner::default();
    let mut rest = bytes;
    for step in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        // Squares reach beyond what the scanner holds.
        let size = (usize::from(*step) * usize::from(*step)).clamp(1, rest.len());
        let (chunk, after) = rest.split_at(size);
        scanner.feed(chunk, &mut |finding| found.push(finding));
        rest = after;
    }
    scanner.finish(&mut |finding| found.push(finding));
    found
}
