//! Files that hold a secret: where the configuration says they are, and what they must be to be read.
//!
//! Must never follow a symbolic link, read a file that others could have read or written, or take a secret from anywhere
//! but a file. Tests: at the end of this file and of `file.rs`.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::SealError;

/// Where a secret is. Never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretSource {
    /// A file of the daemon's user, 0600 or 0400.
    File(PathBuf),
    /// The name of a systemd credential, below `$CREDENTIALS_DIRECTORY`.
    Credential(PathBuf),
}

impl SecretSource {
    /// Makes a relative path absolute and refuses a credential's name that is a path.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn resolve(&mut self, base: &Path) -> Result<(), &'static str> {
        match self {
            SecretSource::File(path) => *path = base.join(&*path),
            SecretSource::Credential(name) => {
                let mut parts = name.components();
                if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                    return Err("a credential is named, without directories");
                }
            }
        }
        Ok(())
    }

    /// The file; none for a credential of a service that was given none.
    #[must_use]
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.path_in(std::env::var_os("CREDENTIALS_DIRECTORY"))
    }

    fn path_in(&self, credentials: Option<OsString>) -> Option<PathBuf> {
        match self {
            SecretSource::File(path) => Some(path.clone()),
            SecretSource::Credential(name) => credentials.map(|directory| Path::new(&directory).join(name)),
        }
    }

    /// The contents. `which` names the secret in errors.
    pub(super) fn read(&self, which: &'static str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let Some(path) = self.path() else {
            let what = "is a credential, and the service manager gave none (LoadCredentialEncrypted=)";
            return Err(SealError::File { which, what, source: None });
        };
        // systemd gives a service's user its credentials by an access list: its mask shows as the group's right to read.
        let forbidden = match self {
            SecretSource::File(_) => 0o077,
            SecretSource::Credential(_) => 0o037,
        };
        read(which, &path, MAX_SECRET, forbidden)
    }
}

/// Reads a file of at most `longest` bytes whose mode has none of the `forbidden` bits, and that belongs to this user or root.
pub(super) fn read(
    which: &'static str,
    path: &Path,
    longest: usize,
    forbidden: u32,
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let failed = |what, source| SealError::File { which, what, source };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let mut file = File::from(opened.map_err(|errno| failed("cannot be opened", Some(errno.into())))?);
    let metadata = file.metadata().map_err(|source| failed("cannot be read", Some(source)))?;
    if !metadata.is_file() {
        return Err(failed("is not a regular file", None));
    }
    if metadata.mode() & forbidden != 0 {
        return Err(failed("is open to others than its owner", None));
    }
    if metadata.uid() != 0 && metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(failed("belongs to another user", None));
    }
    if metadata.len() > longest as u64 {
        return Err(failed("is too long", None));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(longest.saturating_mul(2)));
    Read::by_ref(&mut file)
        .take(longest as u64)
        .read_to_end(&mut bytes)
        .map_err(|source| failed("cannot be read", Some(source)))?;
    Ok(bytes)
}

/// Longer than a key in base64 and than any PIN.
const MAX_SECRET: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_credential_is_a_name_below_the_directory_of_the_service() {
        let mut good = SecretSource::Credential("seal-key".into());
        good.resolve(Path::new("/etc/cordon")).unwrap();
        assert_eq!(
            good.path_in(Some("/run/credentials/x".into())),
            Some("/run/credentials/x/seal-key".into())
        );
        assert_eq!(good.path_in(None), None);
        for wrong in ["../key", "/etc/key", "a/b", "", "."] {
            let mut wrong = SecretSource::Credential(wrong.into());
            assert!(wrong.resolve(Path::new("/etc")).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_secret_is_read_from_a_private_file_only() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("secret");
        std::fs::write(&path, "x").unwrap();
        let set = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let source = SecretSource::File(path.clone());
        for (mode, good) in [(0o600, true), (0o400, true), (0o440, false), (0o604, false), (0o620, false)] {
            set(mode);
            assert_eq!(source.read("secret").is_ok(), good, "{mode:o}");
        }
        for (mode, good) in [(0o400, true), (0o440, true), (0o444, false), (0o460, false), (0o601, false)] {
            set(mode);
            assert_eq!(read("secret", &path, 10, 0o037).is_ok(), good, "{mode:o}");
        }
    }

    #[test]
    fn a_secret_is_never_inline() {
        #[derive(Debug, Deserialize)]
        struct Holder {
            #[expect(dead_code, reason = "only whether it is read counts")]
            key: SecretSource,
        }
        assert!(toml::from_str::<Holder>("key = \"AAAA\"").is_err());
        assert!(toml::from_str::<Holder>("key = { value = \"AAAA\" }").is_err());
        assert!(toml::from_str::<Holder>("key = { file = \"k\" }").is_ok());
    }
}
