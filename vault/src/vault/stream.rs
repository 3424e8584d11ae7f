//! From a thread that writes to a connection that sends.
//!
//! Must never hold more than a few chunks of what waits to be sent. Tests: `tests/tests/backup.rs`.

use bytes::Bytes;
use cordon_daemon::body::BoxError;
use std::io::{self, Write};
use tokio::sync::mpsc::Sender;

/// Hands chunks to the connection and waits while it is behind. Written bytes are sent as they are.
pub(super) struct Chunks(pub(super) Sender<Result<Bytes, BoxError>>);

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = Ok(Bytes::copy_from_slice(bytes));
        self.0.blocking_send(chunk).map_err(|_gone| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes of one chunk.
pub(super) const CHUNK: usize = 128 * 1024;
/// Chunks that wait for the connection, at most.
pub(super) const CHUNKS: usize = 8;
