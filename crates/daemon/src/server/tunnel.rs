//! The first words of a connection to a forward proxy: `CONNECT host:port` (RFC 9110 section 9.3.6), and nothing else.
//!
//! It must never pass on a byte: whoever is let in speaks TLS with this process from then on. Tests: here, and
//! `tests/tests/proxy.rs`.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use http::uri::Authority;
use httparse::{EMPTY_HEADER, Request, Status};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::tls::{Peer, Via};

/// Decides which hosts a proxy pretends to be.
pub trait Gate: Send + Sync {
    /// How to speak TLS as `via`, or the answer for whoever asked; a refusal has been recorded then.
    fn open<'g>(&'g self, via: &'g Via, peer: &'g Peer) -> Opening<'g>;
}

/// What a [`Gate`] gives.
pub type Opening<'g> = Pin<Box<dyn Future<Output = Result<Arc<ServerConfig>, Closed>> + Send + 'g>>;

/// The answer of a gate that stays closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Status code.
    pub status: u16,
    /// A problem document (RFC 9457).
    pub problem: String,
}

/// Why there is no tunnel.
#[derive(Debug)]
pub(super) enum Unopened {
    /// It did not begin with the one request there is.
    Malformed,
    /// The gate is closed, and said so.
    Closed,
    /// It left.
    Gone,
}

impl From<io::Error> for Unopened {
    fn from(_: io::Error) -> Unopened {
        Unopened::Gone
    }
}

/// Reads the request, asks the gate, and answers.
pub(super) async fn open<S>(
    stream: &mut S,
    gate: &dyn Gate,
    peer: &Peer,
) -> Result<(Arc<ServerConfig>, Via), Unopened>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::with_capacity(LONGEST);
    while !head.ends_with(b"\r\n\r\n") {
        // What follows the head before the answer was meant for somebody who passes it on.
        if head.windows(4).any(|end| end == b"\r\n\r\n") || head.len() >= LONGEST {
            return refuse(stream, BAD_REQUEST).await;
        }
        let room = LONGEST.saturating_sub(head.len());
        if stream.take(u64::try_from(room).unwrap_or_default()).read_buf(&mut head).await? == 0 {
            return Err(Unopened::Gone);
        }
    }
    let via = match read(&head) {
        Ok(via) => via,
        Err(answer) => return refuse(stream, answer).await,
    };
    match gate.open(&via, peer).await {
        Ok(config) => {
            stream.write_all(ESTABLISHED.as_bytes()).await?;
            stream.flush().await?;
            Ok((config, via))
        }
        Err(Closed { status, problem }) => {
            let answer = format!(
                "HTTP/1.1 {status} Closed\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n{problem}",
                problem.len()
            );
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
            Err(Unopened::Closed)
        }
    }
}

async fn refuse<S, T>(stream: &mut S, answer: &str) -> Result<T, Unopened>
where
    S: AsyncWrite + Unpin,
{
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    Err(Unopened::Malformed)
}

/// Where a whole head leads, or how to answer it.
fn read(head: &[u8]) -> Result<Via, &'static str> {
    let lines = head.iter().zip(std::iter::once(&b' ').chain(head));
    if lines.into_iter().any(|(byte, before)| *byte == b'\n' && *before != b'\r') {
        return Err(BAD_REQUEST);
    }
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut request = Request::new(&mut headers);
    let Ok(Status::Complete(length)) = request.parse(head) else { return Err(BAD_REQUEST) };
    if request.method != Some("CONNECT") {
        return Err(NOT_ALLOWED);
    }
    let target = request.path.unwrap_or_default();
    let mut hosts = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host"));
    let same = |host: &httparse::Header<'_>| host.value.eq_ignore_ascii_case(target.as_bytes());
    let host_fits = hosts.next().is_none_or(same) && hosts.next().is_none();
    let has_body = request.headers.iter().any(|header| {
        ["content-length", "transfer-encoding"].iter().any(|name| header.name.eq_ignore_ascii_case(name))
    });
    if length != head.len() || !host_fits || has_body {
        return Err(BAD_REQUEST);
    }
    let authority: Authority = target.parse().map_err(|_not_one| BAD_REQUEST)?;
    let port = authority.port_u16().filter(|_| !target.contains('@')).ok_or(BAD_REQUEST)?;
    Ok(Via { host: authority.host().to_ascii_lowercase(), port })
}

const LONGEST: usize = 8 * 1024;
const MOST_HEADERS: usize = 32;
const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";
const BAD_REQUEST: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const NOT_ALLOWED: &str =
    "HTTP/1.1 405 Method Not Allowed\r\nallow: CONNECT\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leads(head: &str) -> Option<(String, u16)> {
        read(head.as_bytes()).ok().map(|via| (via.host, via.port))
    }

    #[test]
    fn what_clients_say_is_understood() {
        for head in [
            "CONNECT Api.Example:443 HTTP/1.1\r\nHost: api.example:443\r\nUser-Agent: curl/8\r\n\r\n",
            // Python before 3.12.
            "CONNECT api.example:443 HTTP/1.0\r\n\r\n",
            "CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\nProxy-Connection: keep-alive\r\n\r\n",
        ] {
            assert_eq!(leads(head), Some(("api.example".to_owned(), 443)), "{head:?}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for head in [
            "GET http://api.example/ HTTP/1.1\r\nHost: api.example\r\n\r\n",
            "connect api.example:443 HTTP/1.1\r\n\r\n",
            "CONNECT api.example HTTP/1.1\r\n\r\n",
            "CONNECT api.example:0x1bb HTTP/1.1\r\n\r\n",
            "CONNECT api.example:443@other:443 HTTP/1.1\r\n\r\n",
            "CONNECT https://api.example:443 HTTP/1.1\r\n\r\n",
            "CONNECT api.example:443 HTTP/1.1\r\nHost: other:443\r\n\r\n",
            "CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\nHost: api.example:443\r\n\r\n",
            "CONNECT api.example:443 HTTP/1.1\r\nContent-Length: 1\r\n\r\n",
            "CONNECT api.example:443 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "CONNECT api.example:443 HTTP/1.1\nX: y\r\n\r\n",
            "CONNECT api.example:443 HTTP/1.1\r\n\r\nX: y\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\n",
        ] {
            assert_eq!(leads(head), None, "{head:?}");
        }
        assert_eq!(read(b"GET / HTTP/1.1\r\n\r\n"), Err(NOT_ALLOWED));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let head = [b"CONNECT ", bytes.as_slice(), b"\r\n\r\n"].concat();
            if let Ok(via) = read(&head) {
                prop_assert!(!via.host.is_empty() && via.host == via.host.to_ascii_lowercase());
            }
        }
    }
}
