//! The input of an import: a file or stdin, as it is or decrypted.
//!
//! Must never keep clear text in memory that is not wiped. Tests: `tests/tests/import.rs`.

use crate::exit::Failure;
use cordon_archive::{Identities, SealError};
use ring::digest::{Context, SHA256};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use zeroize::Zeroizing;

/// Bytes of an import, with the first ones at hand.
pub(super) struct Input {
    reader: Box<dyn Read + Send>,
    first: Zeroizing<Vec<u8>>,
    given: usize,
    length: Option<u64>,
    named_json: bool,
    warnings: Vec<String>,
}

impl Input {
    /// Opens the file (`-` is stdin), checks its digest, and decrypts it if there is an identity.
    pub(super) fn open(path: &Path, identity: Option<&Path>, digest: Option<&str>) -> Result<Self, Failure> {
        let identities = identity.map(Identities::load).transpose().map_err(|error| sealed(&error))?;
        let mut warnings = Vec::new();
        let (raw, length): (Box<dyn Read + Send>, _) = if path == Path::new("-") {
            if digest.is_some() {
                return Err(Failure::usage("--expect-sha256 needs a file: stdin can't be read twice"));
            }
            (Box::new(io::stdin()) as Box<dyn Read + Send>, None)
        } else {
            let at = |error: io::Error| Failure::file(path, &error);
            let mut file = File::open(path).map_err(at)?;
            let metadata = file.metadata().map_err(at)?;
            if !metadata.is_file() {
                return Err(Failure::usage(format!("{}: not a file", path.display())));
            }
            if identities.is_none() && metadata.mode() & 0o077 != 0 {
                warnings.push(format!(
                    "{} holds card numbers and others than its owner may read it; have such files encrypted with age \
                     (--identity), and erase this one when the import is done",
                    path.display()
                ));
            }
            if let Some(expected) = digest {
                check(&mut file, expected, path)?;
            }
            (Box::new(file) as Box<dyn Read + Send>, Some(metadata.len()))
        };
        let reader = match identities {
            None => raw,
            Some(identities) => Box::new(identities.open(raw).map_err(|error| sealed(&error))?),
        };
        let mut input = Self {
            reader,
            first: Zeroizing::new(Vec::with_capacity(FIRST)),
            given: 0,
            length,
            named_json: named_json(path),
            warnings,
        };
        input.peek().map_err(|error| Failure::file(path, &error))?;
        if input.first.starts_with(b"age-encryption.org/") || input.first.starts_with(b"-----BEGIN AGE") {
            return Err(Failure::usage("the file is encrypted with age: name the key with --identity FILE"));
        }
        if input.first.starts_with(b"-----BEGIN PGP")
            || matches!(input.first.first(), Some(0x84..=0x86 | 0x8c..=0x8e | 0xc1))
        {
            return Err(Failure::usage("the file looks encrypted with OpenPGP")
                .next("decrypt it into the import: gpg --decrypt FILE | cordon import - ..."));
        }
        Ok(input)
    }

    /// Bytes of the file as it lies on the disk.
    pub(super) const fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether the rows look like JSON objects.
    pub(super) fn is_json(&self) -> bool {
        self.named_json || self.first.trim_ascii_start().starts_with(b"{")
    }

    /// What the operator should know about the file.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn peek(&mut self) -> io::Result<()> {
        Read::take(&mut self.reader, FIRST as u64).read_to_end(&mut self.first).map(drop)
    }
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let rest = self.first.get(self.given..).unwrap_or_default();
        if rest.is_empty() {
            return self.reader.read(into);
        }
        let read = (&*rest).read(into)?;
        self.given = self.given.saturating_add(read);
        Ok(read)
    }
}

fn named_json(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let name = name.strip_suffix(".age").unwrap_or(&name);
    [".jsonl", ".ndjson", ".json"].iter().any(|end| name.ends_with(end))
}

/// A poisoned file is refused before the first of its rows is sent (threat B52).
fn check(file: &mut File, expected: &str, path: &Path) -> Result<(), Failure> {
    let wanted = data_encoding::HEXLOWER_PERMISSIVE.decode(expected.trim().as_bytes());
    let Ok(wanted) = wanted.map_err(drop).and_then(|bytes| <[u8; 32]>::try_from(bytes).map_err(drop)) else {
        return Err(Failure::usage("--expect-sha256 takes 64 hexadecimal digits"));
    };
    let at = |error: io::Error| Failure::file(path, &error);
    let mut digest = Context::new(&SHA256);
    let mut buffer = Zeroizing::new(vec![0; 1024 * 1024]);
    loop {
        let read = file.read(&mut buffer).map_err(at)?;
        if read == 0 {
            break;
        }
        digest.update(buffer.get(..read).unwrap_or_default());
    }
    if digest.finish().as_ref() != wanted {
        return Err(Failure::refused(
            "digest",
            format!("{}: its SHA-256 is another one; nothing was sent", path.display()),
        )
        .next("have the file sent again, and ask its sender for the digest on another way"));
    }
    file.rewind().map_err(at)
}

fn sealed(error: &SealError) -> Failure {
    match error {
        SealError::NotEncrypted => {
            Failure::usage(error.to_string()).next("leave --identity away if the file is not encrypted")
        }
        _ => Failure::refused("encryption", error.to_string()),
    }
}

const FIRST: usize = 1024;
