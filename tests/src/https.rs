//! A plain HTTPS client for tests: one connection a request, pinned roots, optional client certificate.
//! Must never follow a redirect or retry. Tests: every end-to-end test stands on it.

use crate::pki::Files;
use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Whole body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// It is not JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| {
            format!("{} with a body that is not JSON: {}", self.status, String::from_utf8_lossy(&self.body))
        })
    }

    /// The problem code of an RFC 9457 answer.
    ///
    /// # Errors
    /// It is not a problem document.
    pub fn problem(&self) -> Result<String> {
        let kind = self.headers.get(http::header::CONTENT_TYPE).context("a content type")?;
        anyhow::ensure!(kind == "application/problem+json", "{kind:?} is no problem document");
        Ok(self.json()?.get("code").and_then(|code| code.as_str()).context("a code")?.to_owned())
    }
}

/// Client configuration with pinned roots.
///
/// # Errors
/// A file can't be used.
pub fn tls(roots: &Path, identity: Option<&Files>) -> Result<Arc<ClientConfig>> {
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(roots)? {
        store.add(root?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(store);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let chain = CertificateDer::pem_file_iter(&files.cert)?.collect::<Result<Vec<_>, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&files.key)?)?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Sends one request to `address` as `name` and reads the whole answer.
///
/// # Errors
/// The connection, TLS or HTTP failed.
pub async fn send(
    address: SocketAddr,
    name: &str,
    tls: &Arc<ClientConfig>,
    request: Request<Full<Bytes>>,
) -> Result<Answer> {
    over(TcpStream::connect(address).await?, name, tls, request).await
}

/// The same from another address of this machine.
///
/// # Errors
/// As [`send`], and for an address that is not this machine's.
pub async fn send_from(
    source: IpAddr,
    address: SocketAddr,
    name: &str,
    tls: &Arc<ClientConfig>,
    request: Request<Full<Bytes>>,
) -> Result<Answer> {
    let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(source, 0))?;
    over(socket.connect(address).await?, name, tls, request).await
}

async fn over(
    stream: TcpStream,
    name: &str,
    tls: &Arc<ClientConfig>,
    request: Request<Full<Bytes>>,
) -> Result<Answer> {
    stream.set_nodelay(true)?;
    let server = ServerName::try_from(name.to_owned())?;
    let stream = TlsConnector::from(Arc::clone(tls)).connect(server, stream).await?;
    exchange(TokioIo::new(stream), request).await
}

/// Sends one request in clear to a loopback listener (health, readiness, metrics).
///
/// # Errors
/// The connection or HTTP failed.
pub async fn send_plain(address: SocketAddr, path: &str) -> Result<Answer> {
    let stream = TcpStream::connect(address).await?;
    let request = Request::get(path).header("host", address.to_string()).body(Full::default())?;
    exchange(TokioIo::new(stream), request).await
}

async fn exchange<S>(stream: TokioIo<S>, request: Request<Full<Bytes>>) -> Result<Answer>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes().to_vec();
    drop(sender);
    driver.abort();
    Ok(Answer { status: parts.status, headers: parts.headers, body })
}
