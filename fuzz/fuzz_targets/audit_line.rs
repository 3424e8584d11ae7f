//! What is read back from an audit directory, as any bytes: a line, a verifier key, a checkpoint.
//! Must never panic, and what reads must write the same. Corpus: `corpus/audit_line`.
#![no_main]

use cordon_audit::{Checkpoint, Line, VerifierKey};
use libfuzzer_sys::fuzz_target;

/// A published key of the signed-note format, so that the envelope is parsed up to the signature.
const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

fuzz_target!(|bytes: &[u8]| {
    if let Ok(line) = Line::parse(bytes) {
        let json = line.to_json().expect("a line has a JSON form");
        assert_eq!(Line::parse(json.as_bytes()).expect("what was written reads"), line);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(key) = VerifierKey::parse(text) {
        assert_eq!(key.to_string(), text.trim_end_matches('\n'));
    }
    let key = VerifierKey::parse(KEY).expect("the published key reads");
    if let Ok(checkpoint) = Checkpoint::open(text, &key) {
        assert_eq!(checkpoint.note(), text);
    }
});
