//! What a connection costs that waits for its next request: memory of the gateway, before and with so many of them.
//! Must never count a connection that did not have its request answered. Measured, not tested.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use cordon_tests::https;
use cordon_tests::stack::{Options, Stack};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::usage;

/// How many.
#[derive(clap::Args)]
pub(crate) struct Idle {
    /// Connections to the gateway's public side, each with one request behind it
    #[arg(long, default_value_t = 10_000)]
    connections: u32,
}

impl Idle {
    pub(crate) fn run(&self) -> Result<()> {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(self.measure())
    }

    async fn measure(&self) -> Result<()> {
        let gateway_tables = "[limits]\nconnections = 20000\n\n[breaker]\nfailures = 1000000\n";
        let stack = Stack::start(Options { gateway_tables, ..Options::default() }).await?;
        let address = stack.gateway_address("ingress")?;
        let tls = https::tls(&stack.authority.root(), None)?;
        let pid = stack.gateway.as_ref().context("a gateway")?.id();
        let before = usage::resident_mib(pid)?;
        let mut tasks = JoinSet::new();
        for task in 0..AT_ONCE {
            let (tls, most) = (Arc::clone(&tls), self.connections);
            tasks.spawn(async move {
                let mut open = Vec::new();
                for number in (task..most).step_by(usize::try_from(AT_ONCE)?) {
                    // Each from an address of its own of this machine.
                    let [_, _, high, low] = number.to_be_bytes();
                    open.push(connection(Ipv4Addr::new(127, 1, high, low), address, &tls).await?);
                }
                anyhow::Ok(open)
            });
        }
        let mut open = Vec::new();
        while let Some(done) = tasks.join_next().await {
            open.extend(done??);
        }
        // Those that the gateway has closed meanwhile are none.
        open.retain(|sender| !sender.is_closed());
        let with = usage::resident_mib(pid)?;
        let mut out = std::io::stdout();
        writeln!(out, "{} connections open: {before} MiB before, {with} MiB with them", open.len())?;
        Ok(())
    }
}

/// Quick enough that none is closed for being idle before the last is open.
const AT_ONCE: u32 = 64;

async fn connection(
    source: Ipv4Addr,
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
) -> Result<SendRequest<Full<Bytes>>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    let stream = socket.connect(address).await?;
    let name = ServerName::try_from("gateway.cordon.test")?;
    let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::post("/signup")
        .header("host", "signup.cordon.test")
        .header("content-type", "application/json")
        .body(Full::from(r#"{"a":1}"#))?;
    let answer = sender.send_request(request).await?;
    ensure!(answer.status() == 201, "{}", answer.status());
    let _whole = answer.into_body().collect().await?;
    Ok(sender)
}
