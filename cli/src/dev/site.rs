//! An HTTP/1.1 client for one address: the browser, the charging service and the look behind the scenes.
//!
//! Must never speak to anything but the address it was given, whatever the name says. Tests: through `cordon dev`.

use crate::exit::{Failure, with_causes};
use bytes::Bytes;
use cordon_daemon::tls::{self, Identity, Roots};
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Where to ask, under which name, and as whom.
pub(super) struct Site {
    pub(super) address: SocketAddr,
    pub(super) name: &'static str,
    /// Absent for plain HTTP.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

/// An answer, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: String,
    pub(super) body: Bytes,
}

/// TLS towards the stack: its CA, and a client certificate if one is given.
pub(super) fn client_tls(pki: &Path, identity: Option<&str>) -> Result<Arc<ClientConfig>, Failure> {
    let unusable = |error: tls::TlsError| Failure::configuration(with_causes(&error));
    let roots = Roots::load(&pki.join(crate::pki::CA_CERTIFICATE)).map_err(unusable)?;
    let identity = match identity {
        None => None,
        Some(name) => {
            let (cert, key) = (pki.join(format!("{name}.pem")), pki.join(format!("{name}-key.pem")));
            Some(Identity::load(&cert, &key).map_err(unusable)?)
        }
    };
    let config = tls::client_config(roots, identity).map_err(unusable)?;
    let mut config = Arc::unwrap_or_clone(config);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl Site {
    /// Sends a body.
    pub(super) async fn post(&self, path: &str, media_type: &str, body: &str) -> Result<Answer, Failure> {
        self.ask(Method::POST, path, Some(media_type), Bytes::copy_from_slice(body.as_bytes())).await
    }

    /// Fetches JSON.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let answer = self.ask(Method::GET, path, None, Bytes::new()).await?;
        serde_json::from_slice(&answer.body).map_err(|error| self.broken(&error))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        media_type: Option<&str>,
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(http::header::HOST, format!("{}:{}", self.name, self.address.port()));
        if let Some(media_type) = media_type {
            request = request.header(http::header::CONTENT_TYPE, media_type);
        }
        let request = request.body(Full::new(body)).map_err(|error| self.broken(&error))?;
        let answer = async {
            let stream = TcpStream::connect(self.address).await.map_err(|error| self.broken(&error))?;
            match &self.tls {
                None => self.speak(stream, request).await,
                Some(config) => {
                    let name = ServerName::try_from(self.name).map_err(|error| self.broken(&error))?;
                    let connector = TlsConnector::from(Arc::clone(config));
                    let stream =
                        connector.connect(name, stream).await.map_err(|error| self.broken(&error))?;
                    self.speak(stream, request).await
                }
            }
        };
        tokio::time::timeout(TIME, answer).await.map_err(|_error| {
            Failure::refused("dev-request", format!("{} did not answer in time", self.name))
        })?
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, Failure> {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
        let (parts, body) = response.into_parts();
        let body =
            Limited::new(body, LARGEST).collect().await.map_err(|error| self.broken(&*error))?.to_bytes();
        connection.abort();
        let headers = parts
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
        Ok(Answer { status: parts.status.as_u16(), headers: headers.collect(), body })
    }

    fn broken(&self, error: &dyn std::error::Error) -> Failure {
        Failure::refused("dev-request", format!("{} at {}: {}", self.name, self.address, with_causes(error)))
            .next("run again with --keep DIR, and read DIR/logs")
    }
}

impl Answer {
    /// The body as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The stable code of a problem document, if it is one.
    pub(super) fn problem_code(&self) -> Option<String> {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        problem.get("code")?.as_str().map(str::to_owned)
    }

    /// Headers and body, for a search.
    pub(super) fn everything(&self) -> Vec<u8> {
        let mut all = self.headers.clone().into_bytes();
        all.extend_from_slice(&self.body);
        all
    }
}

/// Time for one request of the round.
const TIME: Duration = Duration::from_secs(20);
/// Bytes of an answer.
const LARGEST: usize = 4 * 1024 * 1024;
