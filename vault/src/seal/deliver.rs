//! Handing a share over: encrypted to the custodian's own key, so that nobody on the way holds it.
//!
//! Must never return a share in clear. The encryption is the age format's, by the crate `age`. Tests: below.

use std::str::FromStr;

use age::x25519::Recipient;

use super::{SealError, ShareText};

/// Whether a text is an age recipient (X25519).
pub(super) fn is_recipient(text: &str) -> bool {
    Recipient::from_str(text).is_ok()
}

/// The share as an armored age file that only the recipient's identity opens.
///
/// # Errors
/// [`SealError::Delivery`].
pub(crate) fn encrypt(share: &ShareText, recipient: &str) -> Result<String, SealError> {
    let recipient = Recipient::from_str(recipient).map_err(|_text| SealError::Delivery)?;
    age::encrypt_and_armor(&recipient, share.expose().as_bytes()).map_err(|_age| SealError::Delivery)
}

#[cfg(test)]
mod tests {
    use cordon_card::Environment;

    use super::*;
    use crate::seal::share::Ceremony;

    #[test]
    fn only_the_recipient_opens_it() {
        let secret = Box::new(zeroize::Zeroizing::new([9; 32]));
        let share = ShareText::new(Environment::Dev, Ceremony([1; 8]), 3, secret);
        let (mine, other) = (age::x25519::Identity::generate(), age::x25519::Identity::generate());
        let file = encrypt(&share, &mine.to_public().to_string()).unwrap();
        assert!(file.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));
        assert!(!file.contains(&**share.expose()));
        assert_eq!(age::decrypt(&mine, file.as_bytes()).unwrap(), share.expose().as_bytes());
        assert!(age::decrypt(&other, file.as_bytes()).is_err());
        assert!(encrypt(&share, "age1nonsense").is_err());
    }
}
