//! The server on real sockets: who is let in, both versions of HTTP, drain.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cordon_daemon::body::{self, Body, WipedBytes, read_body};
use cordon_daemon::drain::Drain;
use cordon_daemon::server::{ConnectionMetrics, Limits, Listener, Refused, ServeError, Server, serve};
use cordon_daemon::tls::{ClientAuth, Peer, client_config, server_config};
use hyper::body::Incoming;
use hyper::{Request, Response, Version};

use crate::http::{over_http1, over_http2, post, run, text};
use crate::pki::Authority;

const ANYWHERE: &str = "127.0.0.1:0";
const LONG: Duration = Duration::from_secs(20);

/// Answers with what it was sent and who sent it.
async fn echo(worker: usize, request: Request<Incoming>, peer: Arc<Peer>) -> Response<Body> {
    let version = if request.version() == Version::HTTP_2 { "h2" } else { "h1" };
    let uri = peer.uri.as_deref().unwrap_or("nobody").to_owned();
    let said = match read_body(request.into_body(), 100, LONG).await {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => error.to_string(),
    };
    assert!(worker < 2);
    Response::new(body::wiped(WipedBytes::from(format!("{version} {uri} {said}").into_bytes())))
}

struct Running {
    server: Server,
    drain: Drain,
    metrics: ConnectionMetrics,
    refused: Receiver<Refused>,
}

impl Running {
    fn address(&self) -> SocketAddr {
        self.server.addresses().next().unwrap().1
    }

    fn stop(self) -> cordon_daemon::server::Drained {
        self.drain.trigger();
        self.server.wait()
    }
}

fn start(authority: &Authority) -> Running {
    let config = server_config(authority.server(), ClientAuth::Required(authority.roots())).unwrap();
    let (tell, refused) = channel();
    let listener = Listener::tls("data", ANYWHERE.parse().unwrap(), config, |worker| {
        move |request, peer| echo(worker, request, peer)
    })
    .on_refused(move |_, why| tell.send(why).unwrap());
    let (drain, metrics) = (Drain::new(LONG), ConnectionMetrics::default());
    let server = serve(vec![listener], 2, Limits::default(), &drain, &metrics).unwrap();
    Running { server, drain, metrics, refused }
}

/// Waits until a handshake was refused, and says why.
fn refusal(running: &Running) -> Refused {
    running.refused.recv_timeout(LONG).unwrap()
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let authority = Authority::new();
    let running = start(&authority);
    let config = client_config(authority.roots(), None).unwrap();
    run(async {
        assert!(over_http1(running.address(), &config, post("/", "x")).await.is_err());
        assert!(over_http2(running.address(), &config, post("/", "x")).await.is_err());
    });
    assert_eq!(refusal(&running), Refused::NoCertificate);
    running.stop();
}

#[test]
fn a_client_with_a_certificate_of_another_authority_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let running = start(&authority);
    let config =
        client_config(authority.roots(), Some(other.client(&["spiffe://cordon.test/signup"]))).unwrap();
    run(async { assert!(over_http1(running.address(), &config, post("/", "x")).await.is_err()) });
    assert_eq!(refusal(&running), Refused::BadCertificate);
    running.stop();
}

#[test]
fn a_client_with_a_server_certificate_is_refused() {
    let authority = Authority::new();
    let running = start(&authority);
    let config = client_config(authority.roots(), Some(authority.server())).unwrap();
    run(async { assert!(over_http1(running.address(), &config, post("/", "x")).await.is_err()) });
    assert_eq!(refusal(&running), Refused::BadCertificate);
    running.stop();
}

#[test]
fn a_client_does_not_trust_a_server_of_another_authority() {
    let (authority, other) = (Authority::new(), Authority::new());
    let running = start(&authority);
    let config =
        client_config(other.roots(), Some(authority.client(&["spiffe://cordon.test/signup"]))).unwrap();
    run(async { assert!(over_http1(running.address(), &config, post("/", "x")).await.is_err()) });
    running.stop();
}

#[test]
fn a_client_hello_of_an_older_version_is_refused() {
    let authority = Authority::new();
    let running = start(&authority);
    let got = run(async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(running.address()).await.unwrap();
        stream.write_all(&tls12_client_hello()).await.unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        got
    });
    // A fatal alert: content type 21, level 2, protocol_version (70).
    assert_eq!(got, [21, 3, 3, 0, 2, 2, 70]);
    assert_eq!(refusal(&running), Refused::Incompatible);
    running.stop();
}

/// A TLS 1.2 ClientHello without the supported_versions extension (RFC 5246 section 7.4.1.2).
fn tls12_client_hello() -> Vec<u8> {
    let groups = [0, 10, 0, 4, 0, 2, 0, 29];
    let signatures = [0, 13, 0, 4, 0, 2, 4, 3];
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0, 0, 16]);
    hello.extend(groups);
    hello.extend(signatures);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    record
}

#[test]
fn both_versions_of_http_are_served_and_the_peer_is_named() {
    let authority = Authority::new();
    let running = start(&authority);
    let config =
        client_config(authority.roots(), Some(authority.client(&["spiffe://cordon.test/signup"]))).unwrap();
    run(async {
        let first = over_http1(running.address(), &config, post("/", "hello")).await.unwrap();
        assert_eq!(text(first).await, "h1 spiffe://cordon.test/signup hello");
        let second = over_http2(running.address(), &config, post("/", "hello")).await.unwrap();
        assert_eq!(text(second).await, "h2 spiffe://cordon.test/signup hello");
    });
    assert_eq!(running.metrics.accepted.get(), 2);
    assert_eq!(running.stop(), cordon_daemon::server::Drained::default());
}

#[test]
fn a_resumed_session_names_the_same_peer() {
    let authority = Authority::new();
    let running = start(&authority);
    let config =
        client_config(authority.roots(), Some(authority.client(&["spiffe://cordon.test/signup"]))).unwrap();
    run(async {
        for round in 0..3 {
            let stream = crate::http::connect(running.address(), &config).await.unwrap();
            let (mut sender, connection) = hyper::client::conn::http2::handshake(
                hyper_util::rt::TokioExecutor::new(),
                hyper_util::rt::TokioIo::new(stream),
            )
            .await
            .unwrap();
            tokio::spawn(connection);
            let answer = sender.send_request(post("/", "hello")).await.unwrap();
            assert_eq!(text(answer).await, "h2 spiffe://cordon.test/signup hello", "round {round}");
        }
        let stream = crate::http::connect(running.address(), &config).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
    });
    running.stop();
}

#[test]
fn a_certificate_without_exactly_one_uri_names_nobody() {
    let authority = Authority::new();
    let running = start(&authority);
    for uris in [&[][..], &["spiffe://cordon.test/a", "spiffe://cordon.test/b"][..]] {
        let config = client_config(authority.roots(), Some(authority.client(uris))).unwrap();
        run(async {
            let answer = over_http2(running.address(), &config, post("/", "x")).await.unwrap();
            assert_eq!(text(answer).await, "h2 nobody x");
        });
    }
    running.stop();
}

#[test]
fn a_body_beyond_its_limit_is_refused_to_the_handler() {
    let authority = Authority::new();
    let running = start(&authority);
    let config =
        client_config(authority.roots(), Some(authority.client(&["spiffe://cordon.test/signup"]))).unwrap();
    let long: &'static str = "x".repeat(101).leak();
    run(async {
        let answer = over_http1(running.address(), &config, post("/", long)).await.unwrap();
        assert!(text(answer).await.ends_with("the body is larger than allowed"));
    });
    running.stop();
}

#[test]
fn a_handler_that_panics_loses_its_own_request_only() {
    let authority = Authority::new();
    let config = server_config(authority.server(), ClientAuth::None).unwrap();
    let listener = Listener::tls("data", ANYWHERE.parse().unwrap(), config, |_| {
        |request: Request<Incoming>, _| async move {
            assert_ne!(request.uri().path(), "/boom");
            Response::new(body::full("fine"))
        }
    });
    let drain = Drain::new(LONG);
    let server = serve(vec![listener], 1, Limits::default(), &drain, &ConnectionMetrics::default()).unwrap();
    let address = server.addresses().next().unwrap().1;
    let config = client_config(authority.roots(), None).unwrap();
    run(async {
        let mut sender = crate::http::http2_connection(address, &config).await.unwrap();
        assert!(sender.send_request(post("/boom", "")).await.is_err());
        assert_eq!(text(sender.send_request(post("/", "")).await.unwrap()).await, "fine");
        assert!(over_http1(address, &config, post("/boom", "")).await.is_err());
        assert_eq!(text(over_http1(address, &config, post("/", "")).await.unwrap()).await, "fine");
    });
    drain.trigger();
    assert_eq!(server.wait(), cordon_daemon::server::Drained::default());
}

#[test]
fn plain_text_beyond_the_machine_is_refused() {
    let listener = Listener::plain("health", "0.0.0.0:0".parse().unwrap(), |worker| {
        move |request, peer| echo(worker, request, peer)
    });
    let error = serve(vec![listener], 1, Limits::default(), &Drain::default(), &ConnectionMetrics::default())
        .unwrap_err();
    assert!(matches!(error, ServeError::PlainBeyondLoopback { name: "health", .. }), "{error}");
}

#[test]
fn an_address_that_is_taken_is_refused_and_nothing_is_left_running() {
    let taken = std::net::TcpListener::bind(ANYWHERE).unwrap();
    let listeners = [ANYWHERE.parse().unwrap(), taken.local_addr().unwrap()].map(|address| {
        Listener::plain("health", address, |worker| move |request, peer| echo(worker, request, peer))
    });
    let error =
        serve(listeners.into(), 1, Limits::default(), &Drain::default(), &ConnectionMetrics::default())
            .unwrap_err();
    assert!(matches!(error, ServeError::Bind { .. }), "{error}");
}

#[test]
fn listeners_announce_their_real_ports_and_then_that_all_are_up() {
    let listeners = ["health", "metrics"].map(|name| {
        Listener::plain(name, ANYWHERE.parse().unwrap(), |worker| {
            move |request, peer| echo(worker, request, peer)
        })
    });
    let drain = Drain::default();
    let server =
        serve(listeners.into(), 1, Limits::default(), &drain, &ConnectionMetrics::default()).unwrap();
    let mut out = Vec::new();
    server.announce(&mut out).unwrap();
    let lines: Vec<serde_json::Value> =
        String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    for (line, (name, address)) in lines.iter().zip(server.addresses()) {
        assert_ne!(address.port(), 0);
        assert_eq!(
            *line,
            serde_json::json!({"event": "listening", "listener": name, "address": address.to_string()})
        );
    }
    assert_eq!(lines[2], serde_json::json!({"event": "ready"}));
    drain.trigger();
    server.wait();
}

/// A server whose handler tells when it has begun, then waits to be let go.
fn held(deadline: Duration) -> (Server, Drain, Receiver<()>, Sender<()>) {
    let (begun, has_begun) = channel();
    let (go, may_go) = channel::<()>();
    let may_go = Arc::new(Mutex::new(may_go));
    let listener = Listener::plain("health", ANYWHERE.parse().unwrap(), move |_| {
        let (begun, may_go) = (begun.clone(), Arc::clone(&may_go));
        move |_: Request<Incoming>, _| {
            let (begun, may_go) = (begun.clone(), Arc::clone(&may_go));
            async move {
                begun.send(()).unwrap();
                tokio::task::spawn_blocking(move || may_go.lock().unwrap().recv().is_ok()).await.unwrap();
                Response::new(body::full("finished"))
            }
        }
    });
    let drain = Drain::new(deadline);
    let server = serve(vec![listener], 1, Limits::default(), &drain, &ConnectionMetrics::default()).unwrap();
    (server, drain, has_begun, go)
}

async fn get(address: SocketAddr) -> Result<String, hyper::Error> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(text(sender.send_request(post("/", "")).await?).await)
}

#[test]
fn a_drain_finishes_what_is_in_flight_and_accepts_no_more() {
    let (server, drain, has_begun, go) = held(LONG);
    let address = server.addresses().next().unwrap().1;
    let asking = std::thread::spawn(move || run(get(address)));
    has_begun.recv().unwrap();
    drain.trigger();
    let deadline = std::time::Instant::now() + LONG;
    while std::net::TcpStream::connect(address).is_ok() {
        assert!(std::time::Instant::now() < deadline, "still accepting");
    }
    go.send(()).unwrap();
    assert_eq!(server.wait(), cordon_daemon::server::Drained::default());
    assert_eq!(asking.join().unwrap().unwrap(), "finished");
}

#[test]
fn a_drain_closes_a_connection_that_never_asked_for_anything() {
    let (server, drain, _has_begun, _go) = held(LONG);
    let stream = std::net::TcpStream::connect(server.addresses().next().unwrap().1).unwrap();
    drain.trigger();
    let begun = std::time::Instant::now();
    assert_eq!(server.wait(), cordon_daemon::server::Drained::default());
    assert!(begun.elapsed() < Limits::default().header_read);
    drop(stream);
}

#[test]
fn a_drain_cuts_off_what_does_not_finish_in_time() {
    let (server, drain, has_begun, go) = held(Duration::from_millis(100));
    let address = server.addresses().next().unwrap().1;
    let asking = std::thread::spawn(move || run(get(address)));
    has_begun.recv().unwrap();
    drain.trigger();
    assert_eq!(server.wait().cut_off, 1);
    assert!(asking.join().unwrap().is_err());
    drop(go);
}
