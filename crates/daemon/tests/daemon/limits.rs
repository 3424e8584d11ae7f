//! Limits on connections that do nothing, or too much.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::time::Duration;

use cordon_daemon::body;
use cordon_daemon::drain::Drain;
use cordon_daemon::server::{ConnectionMetrics, Limits, Listener, Refused, Server, serve};
use cordon_daemon::tls::{ClientAuth, client_config, server_config};
use hyper::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::{PATIENCE, http2_connection, post, run};
use crate::pki::Authority;

const SHORT: Duration = Duration::from_millis(50);

fn plain(limits: Limits) -> (Server, Drain, ConnectionMetrics) {
    let listener = Listener::plain("health", "127.0.0.1:0".parse().unwrap(), |_| {
        |_, _| async { Response::new(body::full("ok")) }
    });
    let (drain, metrics) = (Drain::default(), ConnectionMetrics::default());
    (serve(vec![listener], 1, limits, &drain, &metrics).unwrap(), drain, metrics)
}

fn address(server: &Server) -> SocketAddr {
    server.addresses().next().unwrap().1
}

/// Reads until the server closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut got = Vec::new();
    // A reset is a close as well.
    drop(stream.read_to_end(&mut got).await);
    String::from_utf8(got).unwrap()
}

#[test]
fn a_connection_beyond_the_limit_is_closed_and_the_place_is_free_again_later() {
    let mut limits = Limits::default();
    limits.connections = 1;
    let (server, drain, metrics) = plain(limits);
    run(async {
        let mut first = TcpStream::connect(address(&server)).await.unwrap();
        first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        first.read_u8().await.unwrap();
        let mut second = TcpStream::connect(address(&server)).await.unwrap();
        assert_eq!(rest(&mut second).await, "");
        assert_eq!((metrics.over_limit.get(), metrics.open.get()), (1, 1));
        drop(first);
        loop {
            let mut next = TcpStream::connect(address(&server)).await.unwrap();
            // The server may have closed it already.
            let sent = next.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
            if sent.is_ok() && rest(&mut next).await.starts_with("HTTP/1.1 200 OK") {
                break;
            }
        }
    });
    drain.trigger();
    server.wait();
}

#[test]
fn a_head_that_does_not_end_is_given_up() {
    let mut limits = Limits::default();
    limits.header_read = SHORT;
    let (server, drain, _) = plain(limits);
    run(async {
        let mut stream = TcpStream::connect(address(&server)).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n").await.unwrap();
        assert!(!rest(&mut stream).await.starts_with("HTTP/1.1 200"));
    });
    drain.trigger();
    server.wait();
}

#[test]
fn a_head_with_too_many_fields_or_bytes_is_refused() {
    let (server, drain, _) = plain(Limits::default());
    let many = "a: b\r\n".repeat(100);
    let long = format!("a: {}\r\n", "b".repeat(64 * 1024));
    for fields in [many, long] {
        run(async {
            let mut stream = TcpStream::connect(address(&server)).await.unwrap();
            // The server may close before all is sent.
            drop(stream.write_all(format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n").as_bytes()).await);
            assert!(!rest(&mut stream).await.starts_with("HTTP/1.1 200"));
        });
    }
    drain.trigger();
    server.wait();
}

#[test]
fn a_handshake_that_does_not_begin_is_given_up() {
    let authority = Authority::new();
    let config = server_config(authority.server(), ClientAuth::Required(authority.roots())).unwrap();
    let (tell, told) = channel();
    let listener = Listener::tls("data", "127.0.0.1:0".parse().unwrap(), config, |_| {
        |_, _| async { Response::new(body::empty()) }
    })
    .on_refused(move |_, why| tell.send(why).unwrap());
    let mut limits = Limits::default();
    limits.handshake = SHORT;
    let (drain, metrics) = (Drain::default(), ConnectionMetrics::default());
    let server = serve(vec![listener], 1, limits, &drain, &metrics).unwrap();
    run(async {
        let mut stream = TcpStream::connect(address(&server)).await.unwrap();
        assert_eq!(rest(&mut stream).await, "");
    });
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Refused::TimedOut);
    drain.trigger();
    server.wait();
}

#[test]
fn an_http2_connection_without_requests_is_closed() {
    let authority = Authority::new();
    let config = server_config(authority.server(), ClientAuth::None).unwrap();
    let listener = Listener::tls("data", "127.0.0.1:0".parse().unwrap(), config, |_| {
        |_, _| async { Response::new(body::empty()) }
    });
    let mut limits = Limits::default();
    limits.idle = SHORT;
    let (drain, metrics) = (Drain::default(), ConnectionMetrics::default());
    let server = serve(vec![listener], 1, limits, &drain, &metrics).unwrap();
    let client = client_config(authority.roots(), None).unwrap();
    run(async {
        let mut sender = http2_connection(address(&server), &client).await.unwrap();
        assert!(sender.send_request(post("/", "")).await.unwrap().status().is_success());
        while !sender.is_closed() {
            tokio::task::yield_now().await;
        }
    });
    drain.trigger();
    server.wait();
}
