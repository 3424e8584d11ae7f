//! What others hand us about an audit log, as any bytes: a proof, a submission to a witness, a witness's key.
//! Must never panic, and what reads must write the same. Corpus: `corpus/audit_proof`, of one log and one witness.
#![no_main]

use cordon_audit::{InclusionProof, Submission, VerifierKey, WitnessKey};
use libfuzzer_sys::fuzz_target;

/// The log and the witness of the corpus, so that notes are parsed up to and beyond their signatures.
const LOG: &str = include_str!("../corpus/audit_proof/log-key");
const WITNESS: &str = include_str!("../corpus/audit_proof/witness-key");

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let log = VerifierKey::parse(LOG.trim_end()).expect("the corpus has a key");
    let witness = WitnessKey::parse(WITNESS.trim_end()).expect("the corpus has a witness");
    if let Ok(proof) = InclusionProof::parse(text) {
        assert_eq!(proof.to_string(), text);
        for witnesses in [&[][..], &[witness]] {
            if let Ok(proven) = proof.check(&log, witnesses) {
                assert!(proven.line.index < proven.checkpoint.size());
                assert_eq!(proven.cosigned.len(), witnesses.len());
            }
        }
    }
    if let Ok(submission) = Submission::parse(text) {
        assert_eq!(submission.to_string(), text);
    }
    if let Ok(key) = WitnessKey::parse(text) {
        assert_eq!(key.to_string(), text.trim_end_matches('\n'));
    }
});
