//! The development seal: the root key in a file, for machines where there is nothing to protect.
//!
//! Must never be used in a live environment, follow a symbolic link, or read a file that others could have
//! read or written. Tests: at the end of this file and `seal/tests.rs`.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use cordon_card::Environment;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{SealError, private_file};
use crate::keys::{KEY_LENGTH, RootKey};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile<'a> {
    kind: &'a str,
    environment: Environment,
    root_key: &'a str,
}

/// Writes a root key into a new file that only its owner may read, and makes it durable.
pub(super) fn create(path: &Path, environment: Environment, root: &RootKey) -> Result<(), SealError> {
    if environment == Environment::Live {
        return Err(SealError::DevelopmentInLive);
    }
    let mut encoded = Zeroizing::new([0; ENCODED_LENGTH]);
    BASE64.encode_mut(root.expose_for_crypto(), &mut *encoded);
    let root_key = std::str::from_utf8(&*encoded).unwrap_or_default();
    let stored = KeyFile { kind: KIND, environment, root_key };
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SIZE));
    serde_json::to_writer(&mut *bytes, &stored).map_err(|_json| failed("cannot be written", None))?;
    bytes.push(b'\n');

    let written = |source| failed("cannot be written", Some(source));
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(written)?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(written)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(written)
}

/// Reads a root key back.
pub(super) fn read(path: &Path, environment: Environment) -> Result<RootKey, SealError> {
    if environment == Environment::Live {
        return Err(SealError::DevelopmentInLive);
    }
    parse(&private_file::read(WHICH, path, MAX_SIZE, 0o077)?, environment)
}

fn parse(bytes: &[u8], environment: Environment) -> Result<RootKey, SealError> {
    let malformed = || failed("is not a key file", None);
    let stored: KeyFile<'_> = serde_json::from_slice(bytes).map_err(|_json| malformed())?;
    if stored.kind != KIND {
        return Err(malformed());
    }
    if stored.environment != environment {
        return Err(SealError::WrongEnvironment { found: stored.environment, expected: environment });
    }
    let mut decoded = Zeroizing::new([0; DECODED_ROOM]);
    if BASE64.decode_len(stored.root_key.len()) != Ok(DECODED_ROOM)
        || BASE64.decode_mut(stored.root_key.as_bytes(), &mut *decoded) != Ok(KEY_LENGTH)
    {
        return Err(malformed());
    }
    RootKey::fill_with(|out| {
        *out = *decoded.first_chunk().ok_or_else(malformed)?;
        Ok(())
    })
}

fn failed(what: &'static str, source: Option<std::io::Error>) -> SealError {
    SealError::File { which: WHICH, what, source }
}

const WHICH: &str = "development key file";
const KIND: &str = "development";
const MAX_SIZE: usize = 512;
/// Length of the base64 of a key, and the room its decoder asks for before it meets the padding.
const ENCODED_LENGTH: usize = 44;
const DECODED_ROOM: usize = 33;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::{fs, path::PathBuf};

    use cordon_card::Environment;

    use super::{SealError, create, parse, read};
    use crate::keys::RootKey;

    fn made() -> (tempfile::TempDir, PathBuf, RootKey) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.json");
        let root = RootKey::generate().unwrap();
        create(&path, Environment::Dev, &root).unwrap();
        (directory, path, root)
    }

    fn refusal(path: &std::path::Path) -> &'static str {
        match read(path, Environment::Dev) {
            Err(SealError::File { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_live_environment_neither_writes_nor_reads_one() {
        let (directory, path, root) = made();
        let other = directory.path().join("other.json");
        assert!(matches!(create(&other, Environment::Live, &root), Err(SealError::DevelopmentInLive)));
        assert!(!other.exists());
        assert!(matches!(read(&path, Environment::Live), Err(SealError::DevelopmentInLive)));
    }

    #[test]
    fn the_stamp_must_name_the_environment() {
        let (_directory, path, _root) = made();
        assert!(matches!(read(&path, Environment::Test), Err(SealError::WrongEnvironment { .. })));
    }

    #[test]
    fn a_file_open_to_others_is_refused() {
        let (_directory, path, _root) = made();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o620, 0o602, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(refusal(&path), "is open to others than its owner");
        }
    }

    #[test]
    fn links_directories_absent_and_long_files_are_refused() {
        let (directory, path, root) = made();
        let link = directory.path().join("link.json");
        symlink(&path, &link).unwrap();
        assert_eq!(refusal(&link), "cannot be opened");
        assert!(matches!(create(&link, Environment::Dev, &root), Err(SealError::File { .. })));
        let folder = directory.path().join("folder");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(refusal(&folder), "is not a regular file");
        assert_eq!(refusal(&directory.path().join("absent")), "cannot be opened");
        fs::write(&path, vec![b' '; 513]).unwrap();
        assert_eq!(refusal(&path), "is too long");
    }

    #[test]
    fn an_existing_file_is_never_overwritten() {
        let (_directory, path, root) = made();
        let other = RootKey::generate().unwrap();
        assert!(matches!(create(&path, Environment::Dev, &other), Err(SealError::File { .. })));
        assert_eq!(read(&path, Environment::Dev).unwrap().expose_for_crypto(), root.expose_for_crypto());
    }

    #[test]
    fn other_contents_are_refused() {
        let key = "A".repeat(43) + "=";
        let good = format!(r#"{{"kind":"development","environment":"dev","root_key":"{key}"}}"#);
        assert!(parse(good.as_bytes(), Environment::Dev).is_ok());
        for wrong in [
            String::new(),
            good.replace("development", "production"),
            good.replace("dev\"", "prod\""),
            good.replace("AAAA=", "AA=="),
            good.replace("AAAA=", "AAAAA"),
            good.replace("AAAA=", "AAA*="),
            good.replace('{', r#"{"more":1,"#),
        ] {
            assert!(
                matches!(parse(wrong.as_bytes(), Environment::Dev), Err(SealError::File { .. })),
                "{wrong}"
            );
        }
    }
}
