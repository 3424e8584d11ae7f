//! The two outside parties of a test: a signup service and a processor that record every byte they read.
//! Must never judge what they get; tests do. Tests: `tests/tests/harness.rs`.

use crate::pki::Files;
use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// One request as the stub understood it.
#[derive(Debug, Clone)]
pub struct Received {
    /// Method and path with query.
    pub line: String,
    /// Headers as `name: value`.
    pub headers: Vec<String>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// How a stub answers.
pub type Respond = dyn Fn(&Received) -> Response<Full<Bytes>> + Send + Sync;

#[derive(Debug, Default)]
struct Record {
    bytes: Mutex<Vec<u8>>,
    requests: Mutex<Vec<Received>>,
}

/// A running stub; it ends with this value.
#[derive(Debug)]
pub struct Stub {
    /// Where it listens.
    pub address: SocketAddr,
    record: Arc<Record>,
    task: JoinHandle<()>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stub {
    /// Listens on a loopback port of the system's choice; with `identity` it speaks TLS 1.3.
    ///
    /// # Errors
    /// No port, or the identity can't be used.
    pub async fn start(identity: Option<&Files>, respond: Arc<Respond>) -> Result<Self> {
        Self::listen(identity.map(|files| acceptor(files, None)).transpose()?, respond).await
    }

    /// The same with TLS, for clients that show a certificate under these roots.
    ///
    /// # Errors
    /// No port, or the files can't be used.
    pub async fn start_for(identity: &Files, clients: &Path, respond: Arc<Respond>) -> Result<Self> {
        Self::listen(Some(acceptor(identity, Some(clients))?), respond).await
    }

    async fn listen(acceptor: Option<TlsAcceptor>, respond: Arc<Respond>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let record = Arc::new(Record::default());
        let kept = Arc::clone(&record);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (record, respond, acceptor) = (Arc::clone(&kept), Arc::clone(&respond), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(Tee { stream, record: Arc::clone(&record) }, record, respond).await,
                        Some(acceptor) => {
                            let Ok(stream) = acceptor.accept(stream).await else { return };
                            serve(Tee { stream, record: Arc::clone(&record) }, record, respond).await;
                        }
                    }
                });
            }
        });
        Ok(Self { address, record, task })
    }

    /// Every byte read so far, TLS removed.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.record.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every whole request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.record.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn acceptor(files: &Files, clients: Option<&Path>) -> Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(&files.cert)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&files.key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let mut store = RootCertStore::empty();
            for root in CertificateDer::pem_file_iter(roots)? {
                store.add(root?)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve<S>(stream: Tee<S>, record: Arc<Record>, respond: Arc<Respond>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (record, respond) = (Arc::clone(&record), Arc::clone(&respond));
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
            let headers = parts
                .headers
                .iter()
                .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
                .collect();
            let received = Received { line: format!("{} {}", parts.method, parts.uri), headers, body };
            record.requests.lock().unwrap_or_else(PoisonError::into_inner).push(received.clone());
            Ok::<_, Infallible>(respond(&received))
        }
    });
    // A connection that the peer drops is no event for a stub.
    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

/// Records what is read through it.
struct Tee<S> {
    stream: S,
    record: Arc<Record>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Tee<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let fresh = buffer.filled().get(before..).unwrap_or_default();
        self.record.bytes.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(fresh);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tee<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A JSON answer.
#[must_use]
pub fn json(status: u16, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::OK);
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
