//! Tests of sending, against sockets that answer with prepared bytes.

use super::*;
use crate::flow::Head;
use cordon_daemon::tls::{Roots, client_config};
use http::Method;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn outbound() -> Outbound {
    let head =
        Head { method: Method::POST, path_and_query: "/v1/x?y=1".to_owned(), headers: HeaderMap::new() };
    Outbound::of(head, Bytes::from_static(b"body"))
}

fn destination(addresses: &[&str]) -> Destination {
    Destination {
        name: "p".to_owned(),
        host: "p.test".to_owned(),
        port: 443,
        roots: "ca.pem".into(),
        addresses: addresses.iter().map(|range| range.parse().unwrap()).collect(),
        connect: None,
        owner: "o".to_owned(),
        need: "n".to_owned(),
    }
}

/// Answers every connection with these bytes once a whole request was read; gives what it read.
async fn canned<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, answer: &[u8]) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"body") {
        let mut part = [0; 1024];
        let count = stream.read(&mut part).await.unwrap();
        assert!(count > 0, "the request is whole");
        read.extend_from_slice(&part[..count]);
    }
    stream.write_all(answer).await.unwrap();
    stream.shutdown().await.unwrap();
    String::from_utf8(read).unwrap()
}

/// Sends one request in plain text to a server with this answer.
fn exchanged(answer: &'static [u8], limit: usize) -> (Result<Answer, Fault>, String) {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { canned(listener.accept().await.unwrap().0, answer).await });
        let target = Arc::new(Target::plain("signup.test:7001".to_owned(), Address::Fixed(address)));
        let result = Upstreams::default().send(&target, outbound(), limit, Duration::from_secs(5)).await;
        (result, server.await.unwrap())
    })
}

#[test]
fn a_redirect_is_given_back_and_not_followed() {
    let (answer, _) =
        exchanged(b"HTTP/1.1 307 x\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", 10);
    assert_eq!(answer.unwrap().status, 307);
}

#[test]
fn an_answer_beyond_the_limit_a_switch_and_a_broken_one_are_refused() {
    for (answer, fault) in [
        (
            &b"HTTP/1.1 200 x\r\ncontent-length: 11\r\n\r\n12345678901"[..],
            Fault::UpstreamRefused("upstream-refused.too-large"),
        ),
        (
            b"HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n",
            Fault::UpstreamRefused("upstream-refused.too-large"),
        ),
        (
            b"HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            Fault::UpstreamRefused("upstream-refused.protocol-switch"),
        ),
        (
            b"HTTP/1.1 200 x\r\ncontent-length: 9\r\n\r\n123",
            Fault::Unreachable("upstream-unavailable.answer-broke-off"),
        ),
        (b"not http at all\r\n\r\n", Fault::Unreachable("upstream-unavailable.connection-broke")),
    ] {
        assert_eq!(exchanged(answer, 10).0.unwrap_err(), fault);
    }
}

#[test]
fn the_request_goes_out_whole_under_the_target_s_host() {
    let (answer, request) = exchanged(b"HTTP/1.1 200 x\r\ncontent-length: 2\r\n\r\nok", 10);
    assert_eq!(answer.unwrap().body.as_slice(), b"ok");
    let request = request.to_ascii_lowercase();
    assert!(request.starts_with("post /v1/x?y=1 http/1.1\r\n"), "{request}");
    assert!(
        request.contains("\r\nhost: signup.test:7001\r\n") && request.contains("\r\ncontent-length: 4\r\n"),
        "{request}"
    );
}

#[test]
fn a_server_that_does_not_answer_times_out_and_one_that_is_not_there_is_unreachable() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent =
            Arc::new(Target::plain("s.test".to_owned(), Address::Fixed(listener.local_addr().unwrap())));
        let upstreams = Upstreams::default();
        let result = upstreams.send(&silent, outbound(), 10, Duration::from_millis(20)).await;
        assert_eq!(result.unwrap_err(), Fault::UpstreamTimeout);
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let gone = Arc::new(Target::plain("g.test".to_owned(), Address::Fixed(gone)));
        let result = upstreams.send(&gone, outbound(), 10, Duration::from_secs(5)).await;
        assert_eq!(result.unwrap_err(), Fault::Unreachable("upstream-unavailable.connection-refused"));
    });
}

/// What the connector says of an address for a destination with this list.
fn checked(address: &str, listed: &[&str]) -> Result<Vec<SocketAddr>, ConnectError> {
    let address: IpAddr = address.parse().unwrap();
    let target = Target::plain("p.test".to_owned(), Address::Fixed((address, 443).into()));
    run(connect::checked_addresses(&target.admitting(destination(listed))))
}

#[test]
fn addresses_inside_are_refused_unless_listed() {
    for inside in [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "169.254.169.254",
        "169.254.170.2",
        "100.64.0.1",
        "100.100.100.200",
        "192.0.0.192",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2001:0:0:1::1",
    ] {
        assert_eq!(checked(inside, &[]), Err(ConnectError::AddressNotAllowed), "{inside}");
    }
    for public in ["1.1.1.1", "::ffff:1.1.1.1", "2606:4700::1111"] {
        assert!(checked(public, &[]).is_ok(), "{public}");
    }
    for (address, listed) in [("127.0.0.1", "127.0.0.1/32"), ("::ffff:10.1.2.3", "10.0.0.0/8")] {
        assert!(checked(address, &[listed]).is_ok(), "{address}");
    }
    for (address, listed) in [("127.0.0.2", "127.0.0.1/32"), ("1.1.1.1", "10.0.0.0/8")] {
        assert_eq!(checked(address, &[listed]), Err(ConnectError::AddressNotAllowed), "{address}");
    }
}

#[test]
fn a_name_that_resolves_inside_is_refused_after_resolution() {
    let address = Address::Resolved { host: "localhost".to_owned(), port: 443 };
    let target = Target::plain("localhost".to_owned(), address);
    let result = run(connect::checked_addresses(&target.admitting(destination(&[]))));
    assert_eq!(result, Err(ConnectError::AddressNotAllowed));
    let nowhere = Address::Resolved { host: "nowhere.invalid".to_owned(), port: 443 };
    let result = run(connect::checked_addresses(&Target::plain("x".to_owned(), nowhere)));
    assert_eq!(result, Err(ConnectError::NotResolved));
}

struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), pem)
    }

    /// A client that trusts this authority alone.
    fn trusted(&self) -> Arc<ClientConfig> {
        let dir = tempfile::tempdir().unwrap();
        let roots = dir.path().join("roots.pem");
        std::fs::write(&roots, &self.1).unwrap();
        client_config(Roots::load(&roots).unwrap(), None).unwrap()
    }

    fn acceptor(&self, name: &str, alpn: &[u8]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config =
            rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
                .unwrap();
        config.alpn_protocols = vec![alpn.to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Sends one request to a TLS server with a certificate of `signer` for `name`, pinned to `trusted` and `p.test`.
fn tls_exchange(signer: &Authority, name: &str, trusted: &Authority) -> Result<StatusCode, Fault> {
    let (acceptor, config) = (signer.acceptor(name, b"http/1.1"), trusted.trusted());
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fixed = Address::Fixed(listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let stream = acceptor.accept(listener.accept().await.unwrap().0).await;
            if let Ok(stream) = stream {
                canned(stream, b"HTTP/1.1 204 x\r\n\r\n").await;
            }
        });
        let target = Target::tls("p.test".to_owned(), "p.test", fixed, config).unwrap();
        let target = Arc::new(target.admitting(destination(&["127.0.0.1/32"])));
        let result = Upstreams::default().send(&target, outbound(), 10, Duration::from_secs(5)).await;
        server.await.unwrap();
        result.map(|answer| answer.status)
    })
}

#[test]
fn a_certificate_of_other_roots_or_for_another_name_is_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let refused = Err(Fault::Unreachable("upstream-unavailable.certificate-not-trusted"));
    assert_eq!(tls_exchange(&theirs, "p.test", &ours), refused);
    assert_eq!(tls_exchange(&ours, "evil.test", &ours), refused);
    assert_eq!(tls_exchange(&ours, "p.test", &ours), Ok(StatusCode::NO_CONTENT));
}

#[test]
fn http_2_is_spoken_where_it_is_negotiated() {
    use http_body_util::BodyExt;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;

    let authority = Authority::new();
    let (acceptor, config) = (authority.acceptor("p.test", b"h2"), authority.trusted());
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fixed = Address::Fixed(listener.local_addr().unwrap());
        tokio::spawn(async move {
            let stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
                let seen = format!("{:?} {}", request.version(), request.uri());
                let body = request.into_body().collect().await?.to_bytes();
                Ok::<_, hyper::Error>(http::Response::new(Full::new(Bytes::from(
                    [seen.as_bytes(), &body].concat(),
                ))))
            });
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await
        });
        let target = Target::tls("p.test".to_owned(), "p.test", fixed, config).unwrap();
        let target = Arc::new(target.admitting(destination(&["127.0.0.1/32"])));
        let answer =
            Upstreams::default().send(&target, outbound(), 100, Duration::from_secs(5)).await.unwrap();
        assert_eq!(answer.body.as_slice(), b"HTTP/2.0 https://p.test/v1/x?y=1body");
    });
}
