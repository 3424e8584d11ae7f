//! The references: hyper and rustls and nothing else. A server that answers every body with itself, and a proxy that passes
//! every request on. Must never do less than a real one must (TLS 1.3, HTTP parsing). Measured, not tested.

use anyhow::{Context, Result};
use http::header::HOST;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

/// Certificates, or none for clear text.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Certificate chain; without it the server speaks clear text
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    /// Private key
    #[arg(long)]
    key: Option<PathBuf>,
    /// Roots of client certificates; without them none is asked for
    #[arg(long)]
    client_roots: Option<PathBuf>,
    /// Send every request on to this server in clear text, in place of answering it
    #[arg(long)]
    upstream: Option<SocketAddr>,
    /// Threads
    #[arg(long, default_value_t = 2)]
    workers: usize,
}

/// Serves until it is killed.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let acceptor = acceptor(arguments)?;
    let mut workers = Vec::new();
    for _ in 0..arguments.workers {
        let (send, mut receive) = mpsc::unbounded_channel::<std::net::TcpStream>();
        let (acceptor, upstream) = (acceptor.clone(), arguments.upstream);
        std::thread::spawn(move || -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                let proxy = upstream.map(Proxy::new);
                while let Some(stream) = receive.recv().await {
                    tokio::spawn(connection(stream, acceptor.clone(), proxy.clone()));
                }
                Ok(())
            })
        });
        workers.push(send);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut out = std::io::stdout();
        writeln!(out, r#"{{"event":"listening","listener":"echo","address":"{address}"}}"#)?;
        writeln!(out, r#"{{"event":"ready"}}"#)?;
        out.flush()?;
        for worker in workers.iter().cycle() {
            let (stream, _) = listener.accept().await?;
            worker.send(stream.into_std()?).context("a worker ended")?;
        }
        Ok(())
    })
}

fn acceptor(arguments: &Arguments) -> Result<Option<TlsAcceptor>> {
    let (Some(cert), Some(key)) = (&arguments.cert, &arguments.key) else { return Ok(None) };
    let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<Vec<_>, _>>()?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = match &arguments.client_roots {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let mut store = RootCertStore::empty();
            for root in CertificateDer::pem_file_iter(roots)? {
                store.add(root?)?;
            }
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider).build()?,
            )
        }
    };
    let config = builder.with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

async fn connection(
    stream: std::net::TcpStream,
    acceptor: Option<TlsAcceptor>,
    proxy: Option<Proxy>,
) -> Result<()> {
    let stream = TcpStream::from_std(stream)?;
    stream.set_nodelay(true)?;
    match acceptor {
        None => serve(stream, proxy).await,
        Some(acceptor) => serve(acceptor.accept(stream).await?, proxy).await,
    }
}

async fn serve<S>(stream: S, proxy: Option<Proxy>) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let builder = hyper::server::conn::http1::Builder::new();
    let io = TokioIo::new(stream);
    match proxy {
        None => {
            let echo = |request: Request<Incoming>| async move {
                Ok::<_, Infallible>(Response::new(request.into_body()))
            };
            builder.serve_connection(io, service_fn(echo)).await?;
        }
        Some(proxy) => builder.serve_connection(io, service_fn(move |request| proxy.pass(request))).await?,
    }
    Ok(())
}

/// A proxy that does nothing but pass on, with the connections of one worker.
#[derive(Clone)]
struct Proxy {
    client: Client<HttpConnector, Incoming>,
    upstream: SocketAddr,
}

impl Proxy {
    fn new(upstream: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { client: Client::builder(TokioExecutor::new()).build(connector), upstream }
    }

    fn pass(
        &self,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Incoming>>> + use<> {
        let (client, upstream) = (self.client.clone(), self.upstream);
        async move {
            let path = request.uri().path_and_query().map_or("/", |both| both.as_str());
            *request.uri_mut() =
                Uri::builder().scheme("http").authority(upstream.to_string()).path_and_query(path).build()?;
            request.headers_mut().remove(HOST);
            Ok(client.request(request).await?)
        }
    }
}
