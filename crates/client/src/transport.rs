//! One HTTP/2 connection, made on first use, shared by all clones and made again when it is lost.
//! Must never send a request twice once a byte of it may have been read. Tests: `tests/tests/refusals.rs`, `crash.rs`.

use crate::{ClientError, Endpoint};
use bytes::Bytes;
use cordon_wire::{Problem, REQUEST_ID};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

#[derive(Debug, Clone)]
pub(crate) struct Transport {
    endpoint: Endpoint,
    connection: Arc<Mutex<Option<SendRequest<Full<Bytes>>>>>,
    /// Headers that say which request of somebody else's a call is made for.
    cause: HeaderMap,
}

impl Transport {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, connection: Arc::default(), cause: HeaderMap::new() }
    }

    /// The same connection, for calls that are made for the request of this id in this trace. What is no header is left out.
    pub(crate) fn for_request(&self, id: &str, trace: &str) -> Self {
        let mut transport = self.clone();
        for (name, value) in [(REQUEST_ID, id), (TRACE, trace)] {
            if let Ok(value) = HeaderValue::from_str(value) {
                transport.cause.insert(HeaderName::from_static(name), value);
            }
        }
        transport
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, ClientError> {
        // Measured first, so that the buffer never grows: growing would leave unwiped copies of PANs behind.
        let mut length = Length(0);
        serde_json::to_writer(&mut length, body).map_err(|_source| ClientError::Malformed)?;
        let mut text = Zeroizing::new(Vec::with_capacity(length.0));
        serde_json::to_writer(&mut *text, body).map_err(|_source| ClientError::Malformed)?;
        self.call(Method::POST, path, Bytes::from_owner(Wiped(text))).await
    }

    /// Posts, and hands the answer on as it comes: it may be larger than memory.
    pub(crate) async fn download(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<u64, ClientError> {
        let text = serde_json::to_vec(body).map_err(|_source| ClientError::Malformed)?;
        let opening = self.open(Method::POST, path, Bytes::from(text));
        let response = timeout(CALL_TIMEOUT, opening).await.map_err(|_elapsed| ClientError::TimedOut)??;
        if response.status() != StatusCode::OK {
            return read_answer::<()>(response).await.map(|()| 0);
        }
        let (mut body, mut length) = (response.into_body(), 0_u64);
        loop {
            let frame =
                timeout(STALL_TIMEOUT, body.frame()).await.map_err(|_elapsed| ClientError::TimedOut)?;
            let Some(frame) = frame else { return Ok(length) };
            let frame = frame.map_err(|_source| ClientError::Unreachable("the answer broke off"))?;
            if let Ok(chunk) = frame.into_data() {
                take(&chunk).map_err(ClientError::Local)?;
                length = length.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
            }
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        match timeout(CALL_TIMEOUT, self.exchange(method, path, body)).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::TimedOut),
        }
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        read_answer(self.open(method, path, body).await?).await
    }

    /// Sends a request and waits for the head of its answer.
    async fn open(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, ClientError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut sender = self.sender().await?;
            match sender.send_request(self.request(&method, path, body.clone())?).await {
                Ok(response) => return Ok(response),
                // Cancelled means hyper gave the request back unsent: a fresh connection may take it.
                Err(error) if error.is_canceled() && attempts < MAX_ATTEMPTS => self.forget().await,
                Err(_) => {
                    self.forget().await;
                    return Err(ClientError::Unreachable("the connection broke"));
                }
            }
        }
    }

    fn request(&self, method: &Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut builder =
            Request::builder().method(method).uri(format!("https://{}{path}", self.endpoint.authority));
        if *method == Method::POST {
            builder = builder.header(header::CONTENT_TYPE, "application/json");
        }
        let request = builder.body(Full::new(body));
        let mut request = request.map_err(|_source| ClientError::Configuration("not a path".to_owned()))?;
        request.headers_mut().extend(self.cause.clone());
        Ok(request)
    }

    async fn sender(&self) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        let mut slot = self.connection.lock().await;
        if let Some(sender) = slot.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let sender = timeout(CONNECT_TIMEOUT, connect(&self.endpoint))
            .await
            .map_err(|_source| ClientError::Unreachable("connecting took too long"))??;
        *slot = Some(sender.clone());
        Ok(sender)
    }

    async fn forget(&self) {
        let mut slot = self.connection.lock().await;
        if slot.as_ref().is_some_and(SendRequest::is_closed) {
            *slot = None;
        }
    }
}

async fn read_answer<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, ClientError> {
    let status = response.status();
    let limit = Limited::new(response.into_body(), MAX_ANSWER);
    let answer = limit.collect().await.map_err(|_source| ClientError::Unreachable("the answer broke off"))?;
    let text = Zeroizing::new(Vec::from(answer.to_bytes()));
    if status == StatusCode::OK {
        return serde_json::from_slice(&text).map_err(|_source| ClientError::Malformed);
    }
    let problem: Problem = serde_json::from_slice(&text).map_err(|_source| ClientError::Malformed)?;
    Err(ClientError::Problem(Box::new(problem)))
}

async fn connect(endpoint: &Endpoint) -> Result<SendRequest<Full<Bytes>>, ClientError> {
    let stream = TcpStream::connect(&*endpoint.address)
        .await
        .map_err(|_source| ClientError::Unreachable("no connection to its address"))?;
    stream.set_nodelay(true).map_err(|_source| ClientError::Unreachable("the socket failed"))?;
    let tls = TlsConnector::from(Arc::clone(&endpoint.tls))
        .connect(endpoint.name.clone(), stream)
        .await
        .map_err(|_source| ClientError::Unreachable("TLS was refused; check roots, name and certificate"))?;
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .keep_alive_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(TokioIo::new(tls))
        .await
        .map_err(|_source| ClientError::Unreachable("HTTP/2 was refused"))?;
    tokio::spawn(async move {
        if connection.await.is_err() {
            tracing::debug!("the connection to the vault ended");
        }
    });
    Ok(sender)
}

/// Counts the bytes that a body will take.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// W3C Trace Context.
const TRACE: &str = "traceparent";
const MAX_ATTEMPTS: u32 = 2;
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a stream may pause.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Flow-control window: a full batch answer never waits for an update.
const WINDOW: u32 = 4 * 1024 * 1024;
const MAX_ANSWER: usize = 4 * 1024 * 1024;
