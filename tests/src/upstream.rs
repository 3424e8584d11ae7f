//! A service behind the gateway that can be slow, or hang up: for tests of what happens then.
//! Must never answer what it was not told to. Tests: those that use it.

use anyhow::Result;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What it does with the n-th request, from 0.
#[derive(Debug, Clone, Copy)]
pub enum Deed {
    /// Answers 201 with an empty object after this time.
    Answer(Duration),
    /// Closes the connection without a byte.
    HangUp,
}

/// A running service in clear text. It ends with this value.
#[derive(Debug)]
pub struct Moody {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Moody {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Moody {
    /// Listens on a loopback port of the system's choice.
    ///
    /// # Errors
    /// No port.
    pub async fn start(deed: impl Fn(usize) -> Deed + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (seen, deed) = (Arc::new(AtomicUsize::new(0)), Arc::new(deed));
        let count = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (count, deed) = (Arc::clone(&count), Arc::clone(&deed));
                tokio::spawn(async move { serve(stream, &count, deed.as_ref()).await });
            }
        });
        Ok(Self { address, seen, task })
    }

    /// Whole requests that it got.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }
}

/// One request a connection.
async fn serve(mut stream: TcpStream, seen: &AtomicUsize, deed: &(dyn Fn(usize) -> Deed + Send + Sync)) {
    let mut got = Vec::new();
    while !is_whole(&got) {
        match stream.read_buf(&mut got).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    match deed(seen.fetch_add(1, Ordering::SeqCst)) {
        Deed::HangUp => {}
        Deed::Answer(after) => {
            tokio::time::sleep(after).await;
            let answer = "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
            // Who asked may be gone.
            let _written = stream.write_all(answer.as_bytes()).await;
        }
    }
}

fn is_whole(got: &[u8]) -> bool {
    let text = String::from_utf8_lossy(got);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}
