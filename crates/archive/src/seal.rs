//! Encryption of a stream to age recipients (<https://age-encryption.org/v1>), and its opening.
//!
//! Must never hold more than one chunk of the clear text, nor repeat a key in an error. Tests: at the end of the file.

use age::armor::ArmoredReader;
use age::stream::{StreamReader, StreamWriter};
use age::x25519;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The public keys that a file is encrypted to. Never empty.
#[derive(Clone)]
pub struct Recipients(Vec<x25519::Recipient>);

impl Recipients {
    /// Reads public keys: `age1...`.
    ///
    /// # Errors
    /// [`SealError::NoRecipient`]; [`SealError::Recipient`] with the position of the one that is none.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, SealError> {
        let keys = texts.iter().enumerate().map(|(index, text)| {
            text.as_ref().parse().map_err(|_detail: &str| SealError::Recipient(index.saturating_add(1)))
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(SealError::NoRecipient) } else { Ok(Self(keys)) }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Encrypts what is written to the result into `output`, for each of the recipients.
    ///
    /// # Errors
    /// [`SealError::Io`] if the head can't be written.
    pub fn seal<W: Write>(&self, output: W) -> Result<Sealing<W>, SealError> {
        let each = self.0.iter().map(|key| -> &dyn age::Recipient { key });
        let encryptor = age::Encryptor::with_recipients(each).map_err(|_detail| SealError::NoRecipient)?;
        Ok(Sealing(encryptor.wrap_output(output).map_err(SealError::Io)?))
    }
}

/// Only the number: the keys are public, and long.
impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipients({})", self.0.len())
    }
}

/// A stream that encrypts. Without [`Sealing::finish`] the file is cut short, and opening it says so.
pub struct Sealing<W: Write>(StreamWriter<W>);

impl<W: Write> Sealing<W> {
    /// Writes the last chunk and gives the output back.
    ///
    /// # Errors
    /// The output can't be written.
    pub fn finish(self) -> io::Result<W> {
        self.0.finish()
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write> fmt::Debug for Sealing<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealing").finish_non_exhaustive()
    }
}

/// The private keys that open files.
pub struct Identities {
    keys: Vec<Box<dyn age::Identity>>,
}

impl Identities {
    /// Reads an identity file as `age-keygen` writes it. Only its owner may be able to read it.
    ///
    /// # Errors
    /// [`SealError::File`], [`SealError::OpenToOthers`], [`SealError::NoIdentity`].
    pub fn load(path: &Path) -> Result<Self, SealError> {
        let at = |source| SealError::File { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(at)?;
        if file.metadata().map_err(at)?.mode() & 0o077 != 0 {
            return Err(SealError::OpenToOthers(path.to_owned()));
        }
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_IDENTITY_FILE));
        let read = Read::take(&mut file, MAX_IDENTITY_FILE as u64).read_to_end(&mut text).map_err(at)?;
        if read == MAX_IDENTITY_FILE {
            return Err(SealError::NoIdentity);
        }
        Self::parse(&text)
    }

    /// Reads the content of an identity file.
    ///
    /// # Errors
    /// [`SealError::NoIdentity`].
    pub fn parse(text: &[u8]) -> Result<Self, SealError> {
        let file = age::IdentityFile::from_buffer(text).map_err(|_detail| SealError::NoIdentity)?;
        let keys = file.into_identities().map_err(|_detail| SealError::NoIdentity)?;
        if keys.is_empty() { Err(SealError::NoIdentity) } else { Ok(Self { keys }) }
    }

    /// Opens an encrypted stream, binary or armored. What it gives is authentic chunk by chunk; that nothing is missing
    /// at the end is known only when it has been read to its end.
    ///
    /// # Errors
    /// [`SealError::NotEncrypted`], [`SealError::NoMatch`], [`SealError::Io`].
    pub fn open<R: Read>(&self, input: R) -> Result<Opened<R>, SealError> {
        let reader = ArmoredReader::new(input);
        let decryptor = age::Decryptor::new_buffered(reader).map_err(sort)?;
        let each = self.keys.iter().map(|identity| -> &dyn age::Identity { &**identity });
        Ok(Opened(decryptor.decrypt(each).map_err(sort)?))
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({})", self.keys.len())
    }
}

/// The clear text of an encrypted stream.
pub struct Opened<R: Read>(StreamReader<ArmoredReader<BufReader<R>>>);

impl<R: Read> Read for Opened<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl<R: Read> fmt::Debug for Opened<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

/// Why a file can't be encrypted or opened. The operator's; none holds a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Nobody could ever open it.
    #[error("no recipient is named: nobody could open the file")]
    NoRecipient,
    /// Text that is no public key.
    #[error("recipient {0} is not an age public key (age1...)")]
    Recipient(usize),
    /// A file that holds no private key.
    #[error("the identity file holds no age private key (AGE-SECRET-KEY-...)")]
    NoIdentity,
    /// A private key that others can read.
    #[error("{} may be read by others than its owner; run: chmod 600 {}", .0.display(), .0.display())]
    OpenToOthers(PathBuf),
    /// A file that can't be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not an age file.
    #[error("the file is not encrypted with age, or its head is damaged")]
    NotEncrypted,
    /// Encrypted to somebody else.
    #[error("the file is not encrypted to this identity")]
    NoMatch,
    /// Reading or writing.
    #[error("{0}")]
    Io(#[source] io::Error),
}

fn sort(error: age::DecryptError) -> SealError {
    match error {
        age::DecryptError::NoMatchingKeys | age::DecryptError::DecryptionFailed => SealError::NoMatch,
        age::DecryptError::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => SealError::Io(error),
        _ => SealError::NotEncrypted,
    }
}

/// Longest identity file: many keys with comments.
const MAX_IDENTITY_FILE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use age::secrecy::ExposeSecret;

    fn pair() -> (String, Identities) {
        let identity = x25519::Identity::generate();
        let text = identity.to_string().expose_secret().to_owned();
        let identities = Identities::parse(text.as_bytes()).unwrap();
        (identity.to_public().to_string(), identities)
    }

    fn sealed(recipients: &[&str], text: &[u8]) -> Vec<u8> {
        let mut sealing = Recipients::parse(recipients).unwrap().seal(Vec::new()).unwrap();
        sealing.write_all(text).unwrap();
        sealing.finish().unwrap()
    }

    #[test]
    fn each_recipient_opens_and_nobody_else() {
        let ((one, open_one), (two, open_two), (_, stranger)) = (pair(), pair(), pair());
        let file = sealed(&[&one, &two], b"4111111111111111");
        assert!(!file.windows(6).any(|window| window == b"411111"));
        for identities in [open_one, open_two] {
            let mut text = Vec::new();
            identities.open(&*file).unwrap().read_to_end(&mut text).unwrap();
            assert_eq!(text, b"4111111111111111");
        }
        assert!(matches!(stranger.open(&*file), Err(SealError::NoMatch)));
    }

    #[test]
    fn a_file_that_was_cut_is_noticed() {
        let (one, identities) = pair();
        let file = sealed(&[&one], &[7; 200_000]);
        for cut in [1, 17, 70_000, 150_000] {
            let mut text = Vec::new();
            let short = &file[..file.len() - cut];
            assert!(identities.open(short).unwrap().read_to_end(&mut text).is_err(), "{cut}");
        }
    }

    #[test]
    fn no_recipient_and_no_key_are_refused_by_name() {
        assert!(matches!(Recipients::parse::<&str>(&[]), Err(SealError::NoRecipient)));
        assert!(matches!(Recipients::parse(&["age1x"]), Err(SealError::Recipient(1))));
        assert!(matches!(Identities::parse(b"# nothing\n"), Err(SealError::NoIdentity)));
        let (_, identities) = pair();
        assert!(matches!(identities.open(&b"pan,name\n"[..]), Err(SealError::NotEncrypted)));
    }

    #[test]
    fn an_identity_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.txt");
        std::fs::write(&path, x25519::Identity::generate().to_string().expose_secret()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Identities::load(&path), Err(SealError::OpenToOthers(_))));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Identities::load(&path).is_ok());
    }
}
