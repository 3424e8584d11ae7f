//! Where a custodian's share comes from: a terminal that does not echo, a pipe, or an encrypted file.
//!
//! Must never take a share from an argument or the environment, or write one. Tests: below.

use crate::exit::Failure;
use age::x25519::Identity;
use clap::Args;
use cordon_wire::ShareText;
use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where the share is.
#[derive(Debug, Default, Args)]
pub(crate) struct ShareSource {
    /// The share, encrypted: the NAME.age that came of the ceremony
    #[arg(long, value_name = "FILE", requires = "identity")]
    share_file: Option<PathBuf>,
    /// The age identity that opens it (a file that only you can read)
    #[arg(long, value_name = "FILE", requires = "share_file")]
    identity: Option<PathBuf>,
}

impl ShareSource {
    /// Reads one share; `prompt` is for a terminal.
    pub(crate) fn read(&self, prompt: &str) -> Result<ShareText, Failure> {
        let share = match (&self.share_file, &self.identity) {
            (Some(file), Some(identity)) => Some(decrypted(file, identity)?),
            _ if io::stdin().is_terminal() => {
                let text = Zeroizing::new(rpassword::prompt_password(prompt)?);
                share(&text)
            }
            _ => first_line(&mut io::stdin().lock())?,
        };
        share.ok_or_else(|| {
            Failure::usage("no share was given")
                .next("type it, pipe it in, or name --share-file and --identity")
        })
    }
}

/// Opens an encrypted share with the identity in a file.
fn decrypted(file: &Path, identity: &Path) -> Result<ShareText, Failure> {
    let key = identity_in(identity)?;
    let sealed = bounded(file)?;
    let opened = age::decrypt(&key, &sealed).map_err(|_error| {
        Failure::refused("bad-share", format!("{}: this identity does not open it", file.display()))
            .next("use the identity of the recipient that the share was made for")
    })?;
    let opened = Zeroizing::new(opened);
    let text = std::str::from_utf8(&opened).ok().and_then(share);
    text.ok_or_else(|| Failure::refused("bad-share", format!("{}: there is no share in it", file.display())))
}

/// The first X25519 identity of an age identity file. A file that others can read is refused.
fn identity_in(path: &Path) -> Result<Identity, Failure> {
    let file = File::open(path).map_err(|error| Failure::file(path, &error))?;
    let mode = file.metadata().map_err(|error| Failure::file(path, &error))?.mode();
    if mode & 0o077 != 0 {
        return Err(Failure::refused("file", format!("{}: others can read this identity", path.display()))
            .next("chmod 600 it, and make a new one if somebody else could have read it"));
    }
    let text = Zeroizing::new(bounded(path)?);
    let lines = text.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let mut keys = lines.filter_map(|line| line.trim().parse::<Identity>().ok());
    keys.next().ok_or_else(|| {
        Failure::refused("file", format!("{}: there is no X25519 age identity in it", path.display()))
    })
}

fn bounded(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::with_capacity(LONGEST_FILE);
    let limit = u64::try_from(LONGEST_FILE).unwrap_or(u64::MAX);
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    read.map_err(|error| Failure::file(path, &error))?;
    Ok(bytes)
}

/// The first line of a pipe that is not blank.
fn first_line(from: &mut impl BufRead) -> Result<Option<ShareText>, Failure> {
    loop {
        let mut line = Zeroizing::new(String::with_capacity(LONGEST_SHARE_LINE));
        let read = Read::take(&mut *from, LONGEST_SHARE_LINE as u64).read_line(&mut line)?;
        if read == 0 {
            return Ok(None);
        }
        if read == LONGEST_SHARE_LINE && !line.ends_with('\n') {
            return Err(Failure::usage("a line is too long to be a share"));
        }
        if let Some(share) = share(&line) {
            return Ok(Some(share));
        }
    }
}

fn share(text: &str) -> Option<ShareText> {
    let text = text.trim();
    (!text.is_empty()).then(|| ShareText::new(Zeroizing::new(text.to_owned())))
}

/// Bytes in one line of a share stream; shares are far shorter.
const LONGEST_SHARE_LINE: usize = 1024;
/// Bytes of an encrypted share or an identity file; both are far shorter.
const LONGEST_FILE: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_piped_share_is_the_first_line_that_is_not_blank() {
        let mut input = io::Cursor::new("\n  share-one  \r\n\nshare-two");
        assert_eq!(first_line(&mut input).unwrap().unwrap().expose(), "share-one");
        assert!(first_line(&mut io::Cursor::new("\n \n")).unwrap().is_none());
    }

    #[test]
    fn an_endless_line_is_refused_without_being_read_whole() {
        let mut input = io::BufReader::new(io::repeat(b'a'));
        assert!(first_line(&mut input).is_err());
    }

    #[test]
    fn an_encrypted_share_opens_with_its_identity_alone() {
        use age::secrecy::ExposeSecret;
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        let (mine, other) = (Identity::generate(), Identity::generate());
        for (name, identity) in [("mine", &mine), ("other", &other)] {
            let text = format!("# made for a test\n{}\n", identity.to_string().expose_secret());
            fs::write(path(name), text).unwrap();
            fs::set_permissions(path(name), Permissions::from_mode(0o600)).unwrap();
        }
        let sealed = age::encrypt_and_armor(&mine.to_public(), b"cordon-share-x\n").unwrap();
        fs::write(path("share.age"), sealed).unwrap();
        assert_eq!(decrypted(&path("share.age"), &path("mine")).unwrap().expose(), "cordon-share-x");
        assert!(decrypted(&path("share.age"), &path("other")).is_err());
        assert!(decrypted(&path("mine"), &path("mine")).is_err(), "not an age file");
        assert!(decrypted(&path("share.age"), &path("share.age")).is_err());
        fs::set_permissions(path("mine"), Permissions::from_mode(0o640)).unwrap();
        let refused = decrypted(&path("share.age"), &path("mine")).unwrap_err();
        assert!(refused.to_string().contains("others can read"), "{refused}");
    }
}
