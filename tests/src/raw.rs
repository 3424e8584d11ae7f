//! Connections whose bytes a test writes by hand, HTTP/1.1 and frames of HTTP/2.
//! Must never put right what a test got wrong on purpose. Tests: `tests/tests/framing.rs`, whose controls pass.

use crate::patience;
use anyhow::{Context, Result, bail};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// An open connection.
#[derive(Debug)]
pub struct Raw(TlsStream<TcpStream>);

impl Raw {
    /// Connects with TLS and offers this one protocol.
    ///
    /// # Errors
    /// TCP or TLS failed.
    pub async fn connect(address: SocketAddr, tls: &ClientConfig, protocol: &[u8]) -> Result<Self> {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("gateway.cordon.test")?;
        Ok(Self(TlsConnector::from(Arc::new(tls)).connect(name, stream).await?))
    }

    /// Sends these bytes, in a segment of their own.
    ///
    /// # Errors
    /// The peer has closed.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await?;
        self.0.flush().await
    }

    /// Everything that comes until the peer closes.
    ///
    /// # Errors
    /// It does not close within the patience of the run.
    pub async fn rest(&mut self) -> Result<Vec<u8>> {
        let mut got = Vec::new();
        let read = timeout(patience(), async {
            let mut buffer = [0; 4096];
            // A reset, or an end without TLS's own, closes as well.
            while let Ok(count @ 1..) = self.0.read(&mut buffer).await {
                got.extend_from_slice(buffer.get(..count).unwrap_or_default());
            }
        });
        if read.await.is_err() {
            bail!("the connection is still open after {}", String::from_utf8_lossy(&got));
        }
        Ok(got)
    }

    /// What comes up to and with `end`.
    ///
    /// # Errors
    /// The peer closes, or is silent for the patience of the run.
    pub async fn until(&mut self, end: &[u8]) -> Result<Vec<u8>> {
        let mut got = Vec::new();
        while !got.ends_with(end) {
            let byte = timeout(patience(), self.0.read_u8()).await.context("silence")?;
            got.push(byte.with_context(|| format!("closed after {}", String::from_utf8_lossy(&got)))?);
        }
        Ok(got)
    }

    /// The next frame of HTTP/2.
    ///
    /// # Errors
    /// The peer closes, or is silent for the patience of the run.
    pub async fn frame(&mut self) -> Result<Frame> {
        let read = async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await?;
            let [a, b, c, kind, flags, stream @ ..] = head;
            let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c]))?];
            self.0.read_exact(&mut payload).await?;
            Ok(Frame { kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff, payload })
        };
        timeout(patience(), read).await.context("silence")?
    }
}

/// A frame of HTTP/2 (RFC 9113 section 4.1).
#[derive(Debug, Clone)]
pub struct Frame {
    /// Type.
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// Stream.
    pub stream: u32,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The frame on the wire.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX).to_be_bytes();
        let mut bytes = length.get(1..).unwrap_or_default().to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// A HEADERS frame with these fields as they are, without compression (RFC 7541 section 6.2.3).
    #[must_use]
    pub fn headers(stream: u32, flags: u8, fields: &[(&[u8], &[u8])]) -> Self {
        let mut payload = Vec::new();
        for (name, value) in fields {
            payload.push(0x10);
            for text in [name, value] {
                put_length(&mut payload, text.len());
                payload.extend(*text);
            }
        }
        Self { kind: HEADERS, flags, stream, payload }
    }

    /// A DATA frame.
    #[must_use]
    pub fn data(stream: u32, flags: u8, payload: &[u8]) -> Self {
        Self { kind: DATA, flags, stream, payload: payload.to_vec() }
    }

    /// The error code of a RST_STREAM or GOAWAY frame.
    #[must_use]
    pub fn code(&self) -> Option<u32> {
        let at = match self.kind {
            RST_STREAM => 0,
            GOAWAY => 4,
            _ => return None,
        };
        Some(u32::from_be_bytes(*self.payload.get(at..)?.first_chunk()?))
    }
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn put_length(into: &mut Vec<u8>, length: usize) {
    let mut rest = match length.checked_sub(127) {
        None => return into.extend(u8::try_from(length)),
        Some(rest) => rest,
    };
    into.push(127);
    while rest >= 128 {
        into.extend(u8::try_from(rest % 128 + 128));
        rest /= 128;
    }
    into.extend(u8::try_from(rest));
}

/// What a client says first: the preface and settings of its own, which are none.
#[must_use]
pub fn http2_preface() -> Vec<u8> {
    let settings = Frame { kind: SETTINGS, flags: 0, stream: 0, payload: Vec::new() };
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), settings.bytes()].concat()
}

/// Frame type.
pub const DATA: u8 = 0;
/// Frame type.
pub const HEADERS: u8 = 1;
/// Frame type.
pub const RST_STREAM: u8 = 3;
/// Frame type.
pub const SETTINGS: u8 = 4;
/// Frame type.
pub const GOAWAY: u8 = 7;
/// Frame type.
pub const CONTINUATION: u8 = 9;
/// Flag of DATA and HEADERS.
pub const END_STREAM: u8 = 1;
/// Flag of HEADERS.
pub const END_HEADERS: u8 = 4;
