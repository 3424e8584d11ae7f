//! Proofs that a client passed a challenge, as whoever set it writes them down (`docs/abuse.md`).
//!
//! Must never take a proof for another client, one that is over, or one that is good for longer than an hour. Tests: here.

use data_encoding::BASE64URL_NOPAD;
use ring::hmac;

/// What a challenge rule checks proofs with.
pub(super) struct Verifier {
    key: hmac::Key,
    /// What a proof is bound to, as the rule names it: `address`, `header:x-session-id`.
    label: String,
}

/// Not the key.
impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("label", &self.label).finish_non_exhaustive()
    }
}

impl Verifier {
    pub(super) const fn new(key: hmac::Key, label: String) -> Self {
        Self { key, label }
    }

    /// What a proof must be bound to.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// Whether `proof` says that this subject passed the challenge. `now` is in seconds since 1970.
    pub(super) fn verifies(&self, proof: &[u8], subject: &[u8], now: i64) -> bool {
        let Some((expiry, code)) = read(proof) else { return false };
        let in_time = expiry > now && expiry <= now.saturating_add(LONGEST_S);
        in_time && hmac::verify(&self.key, &input(&self.label, subject, expiry), &code).is_ok()
    }
}

/// What the code is over. Values of headers have no line ends of their own, and the label is the bundle's.
fn input(label: &str, subject: &[u8], expiry: i64) -> Vec<u8> {
    let expiry = expiry.to_string();
    [VERSION.as_bytes(), label.as_bytes(), subject, expiry.as_bytes()].join(&b'\n')
}

/// `exp=SECONDS;mac=BASE64URL`, in this one spelling.
fn read(proof: &[u8]) -> Option<(i64, Vec<u8>)> {
    let (expiry, code) = std::str::from_utf8(proof).ok()?.strip_prefix("exp=")?.split_once(";mac=")?;
    let plain =
        (1..=LONGEST_EXPIRY).contains(&expiry.len()) && expiry.bytes().all(|byte| byte.is_ascii_digit());
    let code = BASE64URL_NOPAD.decode(code.as_bytes()).ok()?;
    Some((expiry.parse().ok().filter(|_| plain)?, code))
}

const VERSION: &str = "cordon-challenge-v1";
/// How long a proof may be good for, in seconds.
const LONGEST_S: i64 = 3_600;
/// Digits of an expiry until the year 2286; twelve could be a card number.
const LONGEST_EXPIRY: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_795_694_400;
    /// The vector of docs/abuse.md, made with OpenSSL.
    const PROOF: &str = "exp=1795695000;mac=dnvF47b9wLtfWmgEMXqX42DHhBblf8IFRoiTMgY6DZ0";

    fn verifier(label: &str) -> Verifier {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef0123456789abcdef");
        Verifier::new(key, label.to_owned())
    }

    #[test]
    fn the_documented_proof_is_good_for_its_client_until_it_is_over() {
        let address = verifier("address");
        assert!(address.verifies(PROOF.as_bytes(), b"203.0.113.9", NOW));
        assert!(address.verifies(PROOF.as_bytes(), b"203.0.113.9", NOW + 599));
        for (proof, subject, now) in [
            (PROOF.to_owned(), "203.0.113.9", NOW + 600),
            (PROOF.to_owned(), "203.0.113.9", NOW - 3_001),
            (PROOF.to_owned(), "203.0.113.8", NOW),
            (PROOF.replace("695000", "695001"), "203.0.113.9", NOW),
            (PROOF.replace("exp=", "exp=0"), "203.0.113.9", NOW),
            (PROOF.replace("exp=", "exp=+"), "203.0.113.9", NOW),
            (format!("{PROOF}="), "203.0.113.9", NOW),
            (format!(" {PROOF}"), "203.0.113.9", NOW),
            (PROOF.replace("mac=", "MAC="), "203.0.113.9", NOW),
            (String::new(), "203.0.113.9", NOW),
        ] {
            assert!(!address.verifies(proof.as_bytes(), subject.as_bytes(), now), "{proof} {subject} {now}");
        }
        assert!(!verifier("cookie:sid").verifies(PROOF.as_bytes(), b"203.0.113.9", NOW));
    }

    proptest! {
        #[test]
        fn no_other_text_is_a_proof(text in "(exp=)?[0-9]{0,12}(;mac=)?[A-Za-z0-9_-]{0,50}") {
            prop_assume!(text != PROOF);
            prop_assert!(!verifier("address").verifies(text.as_bytes(), b"203.0.113.9", NOW));
        }

        #[test]
        fn anything_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(!verifier("address").verifies(&bytes, b"203.0.113.9", NOW));
        }
    }
}
