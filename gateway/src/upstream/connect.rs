//! Connections to a target: resolve, check every address, connect to a checked one, verify the certificate.
//!
//! Must never let the name be resolved a second time between check and connect (DNS rebinding, threat B28).
//! Tests: `upstream/tests.rs`.

use super::{Address, Target};
use hyper::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.as_str())]
pub(super) enum ConnectError {
    /// The name has no address.
    NotResolved,
    /// An address it resolves to is not one that the destination admits.
    AddressNotAllowed,
    /// Nobody answers at its addresses.
    Refused,
    /// The certificate does not chain to the pinned roots, has expired, or names another host.
    CertificateNotTrusted,
    /// TLS failed otherwise.
    Tls,
    /// It took too long.
    TimedOut,
}

impl ConnectError {
    /// All of them: each ends before a byte of a request.
    pub(super) const ALL: [Self; 6] = [
        Self::NotResolved,
        Self::AddressNotAllowed,
        Self::Refused,
        Self::CertificateNotTrusted,
        Self::Tls,
        Self::TimedOut,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NotResolved => "upstream-unavailable.name-not-resolved",
            Self::AddressNotAllowed => "upstream-unavailable.address-not-allowed",
            Self::Refused => "upstream-unavailable.connection-refused",
            Self::CertificateNotTrusted => "upstream-unavailable.certificate-not-trusted",
            Self::Tls => "upstream-unavailable.tls-refused",
            Self::TimedOut => "upstream-unavailable.connect-timed-out",
        }
    }
}

/// Makes the connections of one target's pool. It does not keep the target: whoever sends a request does.
#[derive(Debug, Clone)]
pub(super) struct Connector(Weak<Target>);

impl Connector {
    pub(super) const fn new(target: Weak<Target>) -> Self {
        Self(target)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    /// The address is the target's; what the request's URI says is not looked at.
    fn call(&mut self, _: Uri) -> Self::Future {
        let target = self.0.upgrade();
        Box::pin(async move {
            let target = target.ok_or(ConnectError::Refused)?;
            let connected = tokio::time::timeout(CONNECT, open(&target)).await;
            connected.unwrap_or(Err(ConnectError::TimedOut)).map(TokioIo::new)
        })
    }
}

async fn open(target: &Target) -> Result<Stream, ConnectError> {
    let addresses = checked_addresses(target).await?;
    let socket = connect_any(&addresses).await?;
    socket.set_nodelay(true).map_err(|_socket_gone| ConnectError::Refused)?;
    let Some((name, config)) = &target.tls else { return Ok(Stream::Plain(socket)) };
    let stream = TlsConnector::from(Arc::clone(config)).connect(name.clone(), socket).await;
    stream.map(|stream| Stream::Tls(Box::new(stream))).map_err(|error| tls_error(&error))
}

/// The addresses to try; all of them are admitted, or none is used.
pub(super) async fn checked_addresses(target: &Target) -> Result<Vec<SocketAddr>, ConnectError> {
    let found: Vec<SocketAddr> = match &target.address {
        Address::Fixed(address) => vec![*address],
        Address::Resolved { host, port } => lookup_host((host.as_str(), *port))
            .await
            .map_err(|_no_address| ConnectError::NotResolved)?
            .collect(),
    };
    if found.is_empty() {
        return Err(ConnectError::NotResolved);
    }
    let admitted = |address: &SocketAddr| {
        target.destination.as_ref().is_none_or(|destination| destination.admits(address.ip()))
    };
    if found.iter().all(admitted) { Ok(found) } else { Err(ConnectError::AddressNotAllowed) }
}

async fn connect_any(addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
    for address in addresses {
        if let Ok(Ok(socket)) = tokio::time::timeout(ATTEMPT, TcpStream::connect(address)).await {
            return Ok(socket);
        }
    }
    Err(ConnectError::Refused)
}

fn tls_error(error: &io::Error) -> ConnectError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => ConnectError::CertificateNotTrusted,
        Some(_) | None => ConnectError::Tls,
    }
}

/// A connection with or without TLS.
#[derive(Debug)]
pub(super) enum Stream {
    /// Inside.
    Plain(TcpStream),
    /// Verified.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Plain(_) => Connected::new(),
            Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                Connected::new().negotiated_h2()
            }
            Self::Tls(_) => Connected::new(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

/// Time to resolve, connect and shake hands.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for one of several addresses.
const ATTEMPT: Duration = Duration::from_secs(2);
