//! Recognises a card number that was just revealed, in an answer and in every form in which it might come back.
//!
//! Must never keep a number longer than the answer it is looked for in. Finds what the general scan has no reason to
//! look for: hexadecimal, base64, percent-encoding, odd separators (threat B26). Tests: `leak/tests.rs`.

use cordon_card::Pan;
use data_encoding::BASE64;
use memchr::memmem;
use zeroize::Zeroizing;

/// The forms of all numbers revealed for one request.
#[derive(Default)]
pub struct Echoes(Vec<Zeroizing<Vec<u8>>>);

impl std::fmt::Debug for Echoes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Echoes({} forms)", self.0.len())
    }
}

impl Echoes {
    /// Remembers a number.
    pub fn add(&mut self, pan: &Pan) {
        let digits = pan.expose().as_bytes();
        self.0.push(Zeroizing::new(digits.to_vec()));
        self.0.push(Zeroizing::new(digits.iter().flat_map(|digit| [b'3', *digit]).collect()));
        self.0.push(Zeroizing::new(digits.iter().flat_map(|digit| [b'%', b'3', *digit]).collect()));
        // What base64 makes of the number depends on how many bytes stand before it: three alignments, and of each
        // the part that no neighbour changes. Digits never become `+` or `/`, so base64url is the same.
        for skipped in 0..3 {
            let whole = digits.get(skipped..).unwrap_or_default();
            let aligned = whole.get(..whole.len().saturating_sub(whole.len() % 3)).unwrap_or_default();
            self.0.push(Zeroizing::new(BASE64.encode(aligned).into_bytes()));
        }
    }

    /// True when one of the numbers stands in the bytes in one of its forms.
    #[must_use]
    pub fn stands_in(&self, bytes: &[u8]) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let squeezed = squeezed(bytes);
        let finds = |haystack: &[u8]| self.0.iter().any(|form| memmem::find(haystack, form).is_some());
        finds(bytes) || finds(&squeezed)
    }
}

/// The bytes without what may stand between digits: blanks, dashes, points and all that is not ASCII.
fn squeezed(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let kept = |byte: &u8| byte.is_ascii() && !byte.is_ascii_whitespace() && !SEPARATORS.contains(byte);
    Zeroizing::new(bytes.iter().copied().filter(kept).collect())
}

const SEPARATORS: &[u8] = b"-._/*|:";
