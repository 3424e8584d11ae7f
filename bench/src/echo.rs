//! The reference: hyper and rustls with client certificates and nothing else; answers every body with itself.
//! Must never do less than a real server must (TLS 1.3, mutual, HTTP parsing). Measured, not tested.

use anyhow::{Context, Result};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::convert::Infallible;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
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
        let acceptor = acceptor.clone();
        std::thread::spawn(move || -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                while let Some(stream) = receive.recv().await {
                    tokio::spawn(connection(stream, acceptor.clone()));
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

async fn connection(stream: std::net::TcpStream, acceptor: Option<TlsAcceptor>) -> Result<()> {
    let stream = TcpStream::from_std(stream)?;
    stream.set_nodelay(true)?;
    let service = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(Response::new(request.into_body()))
    });
    let builder = hyper::server::conn::http1::Builder::new();
    match acceptor {
        None => builder.serve_connection(TokioIo::new(stream), service).await?,
        Some(acceptor) => {
            let stream = acceptor.accept(stream).await?;
            builder.serve_connection(TokioIo::new(stream), service).await?;
        }
    }
    Ok(())
}
