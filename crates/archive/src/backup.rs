//! The layout of a backup inside its encryption: a head, rows as bytes in the order of their keys, and a tail that
//! proves that none is missing. Described in `docs/backup.md`.
//!
//! Must never trust a length before its bound, nor call a backup good before its tail was read and compared.
//! Tests: `backup/tests.rs`; fuzz target `fuzz/fuzz_targets/backup.rs`.

use cordon_card::Environment;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

/// What a backup says of itself before its first row, so that a restore can judge it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupHeader {
    /// Random name of this backup.
    pub id: String,
    /// The environment its keys and tokens belong to.
    pub environment: Environment,
    /// When it was taken (RFC 3339, UTC).
    pub created_at: String,
    /// Version of the vault that took it.
    pub version: String,
    /// The store's last commit in it.
    pub sequence: u64,
    /// The keyring's epoch in it; absent while the vault was sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring_epoch: Option<u64>,
    /// Shares that unseal it, of how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<(u8, u8)>,
    /// The audit log at that time.
    pub audit: AuditMark,
}

/// Where the audit log stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditMark {
    /// Durable lines.
    pub size: u64,
    /// The newest signed checkpoint, to compare with the log or a witness.
    pub checkpoint: String,
}

/// What a whole backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Rows of every kind.
    pub rows: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// A row's key and value, as the store has them.
pub type RawRow = (Vec<u8>, Vec<u8>);

/// Writes a backup.
pub struct BackupWriter<W: Write> {
    output: W,
    digest: Context,
    summary: Summary,
    last: Vec<u8>,
}

impl<W: Write> BackupWriter<W> {
    /// Writes the head.
    ///
    /// # Errors
    /// [`BackupError::Io`]; [`BackupError::Format`] if the head is too long.
    pub fn new(output: W, header: &BackupHeader) -> Result<Self, BackupError> {
        let text = serde_json::to_vec(header).map_err(|_json| BackupError::Format("the head"))?;
        let length = u32::try_from(text.len()).map_err(|_long| BackupError::Format("the head"))?;
        if text.len() > MAX_HEADER {
            return Err(BackupError::Format("the head"));
        }
        let summary = Summary { rows: 0, bytes: 0 };
        let mut writer = Self { output, digest: Context::new(&SHA256), summary, last: Vec::new() };
        writer.put(MAGIC)?;
        writer.put(&length.to_be_bytes())?;
        writer.put(&text)?;
        Ok(writer)
    }

    /// Writes a row. Keys must ascend.
    ///
    /// # Errors
    /// [`BackupError::Io`]; [`BackupError::Format`] for a row out of order or out of bounds.
    pub fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), BackupError> {
        check_row(&self.last, key, value.len())?;
        let key_length = u16::try_from(key.len()).map_err(|_long| BackupError::Format(ROW))?;
        let length = u32::try_from(value.len()).map_err(|_long| BackupError::Format(ROW))?;
        self.put(&[TAG_ROW])?;
        self.put(&key_length.to_be_bytes())?;
        self.put(&length.to_be_bytes())?;
        self.put(key)?;
        self.put(value)?;
        self.summary.add(key, value);
        self.last.clear();
        self.last.extend_from_slice(key);
        Ok(())
    }

    /// Writes the tail and gives the output back.
    ///
    /// # Errors
    /// [`BackupError::Io`].
    pub fn finish(mut self) -> Result<(W, Summary), BackupError> {
        let digest = self.digest.finish();
        let mut tail = vec![TAG_END];
        tail.extend_from_slice(&self.summary.rows.to_be_bytes());
        tail.extend_from_slice(digest.as_ref());
        self.output.write_all(&tail).map_err(BackupError::Io)?;
        Ok((self.output, self.summary))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.digest.update(bytes);
        self.output.write_all(bytes).map_err(BackupError::Io)
    }
}

/// Reads a backup, one row at a time.
pub struct BackupReader<R: Read> {
    input: R,
    digest: Context,
    header: BackupHeader,
    summary: Summary,
    last: Vec<u8>,
    ended: bool,
}

impl<R: Read> BackupReader<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// [`BackupError::Io`], [`BackupError::Format`], [`BackupError::Short`].
    pub fn new(mut input: R) -> Result<Self, BackupError> {
        let mut digest = Context::new(&SHA256);
        let magic: [u8; MAGIC.len()] = array(&mut input, &mut digest)?;
        if magic != *MAGIC {
            return Err(BackupError::Format("the first bytes are another format's or version's"));
        }
        let length = u32::from_be_bytes(array(&mut input, &mut digest)?);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MAX_HEADER {
            return Err(BackupError::Format("the head"));
        }
        let text = bytes(&mut input, &mut digest, length)?;
        let header = serde_json::from_slice(&text).map_err(|_json| BackupError::Format("the head"))?;
        let summary = Summary { rows: 0, bytes: 0 };
        Ok(Self { input, digest, header, summary, last: Vec::new(), ended: false })
    }

    /// What it says of itself.
    #[must_use]
    pub fn header(&self) -> &BackupHeader {
        &self.header
    }

    /// The next row's key and value; `None` once the tail was read and is right.
    ///
    /// # Errors
    /// [`BackupError::Io`], [`BackupError::Format`], [`BackupError::Short`], [`BackupError::Digest`]. What was read
    /// before must then not be used.
    pub fn next_row(&mut self) -> Result<Option<RawRow>, BackupError> {
        if self.ended {
            return Ok(None);
        }
        let mut tag = [0];
        self.input.read_exact(&mut tag).map_err(sort)?;
        match tag {
            [TAG_ROW] => self.digest.update(&tag),
            [TAG_END] => {
                self.end()?;
                return Ok(None);
            }
            _ => return Err(BackupError::Format("a row's kind")),
        }
        let key_length = u16::from_be_bytes(array(&mut self.input, &mut self.digest)?);
        let length = u32::from_be_bytes(array(&mut self.input, &mut self.digest)?);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MAX_ROW_VALUE || usize::from(key_length) > MAX_ROW_KEY {
            return Err(BackupError::Format(ROW));
        }
        let key = bytes(&mut self.input, &mut self.digest, usize::from(key_length))?;
        let value = bytes(&mut self.input, &mut self.digest, length)?;
        check_row(&self.last, &key, value.len())?;
        self.last.clone_from(&key);
        self.summary.add(&key, &value);
        Ok(Some((key, value)))
    }

    /// What was read so far; all of it, once [`BackupReader::next_row`] gave `None`.
    #[must_use]
    pub const fn summary(&self) -> Summary {
        self.summary
    }

    fn end(&mut self) -> Result<(), BackupError> {
        let mut rows = [0; 8];
        self.input.read_exact(&mut rows).map_err(sort)?;
        let mut digest = [0; 32];
        self.input.read_exact(&mut digest).map_err(sort)?;
        if u64::from_be_bytes(rows) != self.summary.rows || self.digest.clone().finish().as_ref() != digest {
            return Err(BackupError::Digest);
        }
        if self.input.read(&mut [0]).map_err(BackupError::Io)? != 0 {
            return Err(BackupError::Format("something stands behind the tail"));
        }
        self.ended = true;
        Ok(())
    }
}

impl Summary {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        let length = u64::try_from(key.len().saturating_add(value.len())).unwrap_or(u64::MAX);
        self.rows = self.rows.saturating_add(1);
        self.bytes = self.bytes.saturating_add(length);
    }
}

impl<W: Write> std::fmt::Debug for BackupWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackupWriter").field("summary", &self.summary).finish_non_exhaustive()
    }
}

impl<R: Read> std::fmt::Debug for BackupReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackupReader").field("header", &self.header).finish_non_exhaustive()
    }
}

/// Why a backup can't be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The file below, or its decryption.
    #[error("{0}")]
    Io(#[source] io::Error),
    /// It ends too early.
    #[error("the backup is cut short")]
    Short,
    /// It is not what this version writes.
    #[error("not a backup of this version: {0}")]
    Format(&'static str),
    /// The tail's count or digest is not that of the rows before it.
    #[error("rows of the backup are missing or changed: its count or digest does not fit")]
    Digest,
}

fn check_row(last: &[u8], key: &[u8], value: usize) -> Result<(), BackupError> {
    if key.is_empty() || key.len() > MAX_ROW_KEY || value > MAX_ROW_VALUE {
        return Err(BackupError::Format(ROW));
    }
    if key <= last { Err(BackupError::Format("rows out of order")) } else { Ok(()) }
}

fn array<const N: usize>(input: &mut impl Read, digest: &mut Context) -> Result<[u8; N], BackupError> {
    let mut read = [0; N];
    input.read_exact(&mut read).map_err(sort)?;
    digest.update(&read);
    Ok(read)
}

/// Reads by and by: a length is a claim until its bytes are there.
fn bytes(input: &mut impl Read, digest: &mut Context, length: usize) -> Result<Vec<u8>, BackupError> {
    let mut read = Vec::with_capacity(length.min(FIRST_ROOM));
    let limit = u64::try_from(length).unwrap_or(u64::MAX);
    if Read::take(input, limit).read_to_end(&mut read).map_err(sort)? != length {
        return Err(BackupError::Short);
    }
    digest.update(&read);
    Ok(read)
}

fn sort(error: io::Error) -> BackupError {
    if error.kind() == io::ErrorKind::UnexpectedEof { BackupError::Short } else { BackupError::Io(error) }
}

/// Longest key of a row.
pub const MAX_ROW_KEY: usize = 1024;
/// Longest value of a row: a document and its frame.
pub const MAX_ROW_VALUE: usize = 16 * 1024 * 1024 + 64;
const MAX_HEADER: usize = 64 * 1024;
const FIRST_ROOM: usize = 64 * 1024;
/// Format and version.
const MAGIC: &[u8; 16] = b"cordon-backup-1\n";
const TAG_ROW: u8 = 1;
const TAG_END: u8 = 2;
const ROW: &str = "the lengths of a row";

#[cfg(test)]
mod tests;
