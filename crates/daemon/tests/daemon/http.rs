//! A small HTTP client over TLS or plain TCP, and a runtime to drive it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cordon_daemon::BoxError;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Runs `future`; fails if it takes longer than any test should.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("in time") })
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, BoxError> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost")?;
    Ok(TlsConnector::from(Arc::clone(config)).connect(name, stream).await?)
}

pub(crate) fn post(path: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::post(format!("https://localhost{path}"))
        .header("host", "localhost")
        .body(Full::from(body))
        .unwrap()
}

/// One request over HTTP/1.1 on a new TLS connection.
pub(crate) async fn over_http1(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, BoxError> {
    let mut config = ClientConfig::clone(config);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = connect(address, &Arc::new(config)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// A connection that speaks HTTP/2.
pub(crate) async fn http2_connection(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> Result<http2::SendRequest<Full<Bytes>>, BoxError> {
    let stream = connect(address, config).await?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// One request over HTTP/2 on a new TLS connection.
pub(crate) async fn over_http2(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, BoxError> {
    Ok(http2_connection(address, config).await?.send_request(request).await?)
}

pub(crate) async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}
