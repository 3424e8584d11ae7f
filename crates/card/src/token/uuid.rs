//! The UUID shape: version 4, lower case, hyphenated.
//!
//! About one random UUID in a thousand holds digits that look like a card; those are not used. Must never accept
//! one of those either. Tests: `token/tests.rs`.

use uuid::{Builder, Uuid, Variant};

use crate::{MAX_LENGTH, MIN_LENGTH, plausible};

pub(super) fn draw(entropy: &[u8; 16]) -> Option<String> {
    let text = Builder::from_random_bytes(*entropy).into_uuid().hyphenated().to_string();
    (!looks_like_a_card(&text)).then_some(text)
}

pub(super) fn is_token(text: &str) -> bool {
    let Ok(uuid) = Uuid::try_parse(text) else { return false };
    uuid.get_version_num() == 4
        && uuid.get_variant() == Variant::RFC4122
        && uuid.hyphenated().to_string() == text
        && !looks_like_a_card(text)
}

/// Any window of digits, hyphens left out, is looked at: also scanners without word boundaries stay quiet.
fn looks_like_a_card(text: &str) -> bool {
    let bare: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    (MIN_LENGTH..=MAX_LENGTH).any(|length| bare.windows(length).any(|window| plausible(window).is_some()))
}
