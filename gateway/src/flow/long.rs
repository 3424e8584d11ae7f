//! The life of a request whose body is not held whole: `Long -> Inbound -> ... -> Scanned` for each piece, all of them into a
//! [`Gathering`], and that into an [`Outbound`] once the last one is in.
//!
//! Must never make an [`Outbound`] before every piece was scanned. Tests: `tests/tests/streaming.rs`.

use super::{BODY_WITHIN, Head, Inbound, Intake, LEAK, Outbound, Payload, Scanned, receive};
use crate::coding::Codings;
use crate::media;
use crate::problem::Fault;
use crate::stream::cutter::{Bounds, Cutter};
use crate::stream::piece::Piece;
use crate::stream::seam::Seams;
use crate::stream::source::Source;
use crate::stream::spool::Spool;
use cordon_audit::Receipt;
use cordon_daemon::body::WipedBytes;
use cordon_policy::{Forward, LookInside, Permit};
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, Method, request};
use hyper::body::{Body, Incoming};
use std::fmt;

/// What came in.
#[derive(Debug)]
pub enum Received<'i> {
    /// A request that is held whole.
    Whole(Inbound),
    /// One whose body is still coming.
    Long(Box<Long<'i>>),
}

/// A request that took a streamed route; its body comes in pieces.
pub struct Long<'i> {
    head: Head,
    path_length: usize,
    cutter: Option<Cutter>,
    source: Source<'i>,
}

/// Only what is shown of its head.
impl fmt::Debug for Long<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Long").field("head", &self.head).finish_non_exhaustive()
    }
}

/// Begins to read a request on a streamed route. One of at most a mebibyte is held whole, as on any other route, and so is
/// one of a type that cannot be cut.
///
/// # Errors
/// As [`receive`].
pub async fn receive_long<'i>(
    parts: &request::Parts,
    mut headers: HeaderMap,
    incoming: &'i mut Incoming,
    (intake, bounds): (Intake<'_>, Bounds),
) -> Result<Received<'i>, Fault> {
    let codings = Codings::of(&parts.headers)?;
    let announced = incoming.size_hint().exact();
    if incoming.is_end_stream() || codings.is_identity() && announced.is_some_and(|length| length <= HELD) {
        return receive(parts, headers, incoming, intake).await.map(Received::Whole);
    }
    let format = media::of_request(&parts.headers, intake.content)?;
    if announced.is_some_and(|length| length > intake.max_body) {
        return Err(Fault::TooLarge);
    }
    let Some(mut cutter) = Cutter::new(&format, bounds) else {
        return receive(parts, headers, incoming, intake).await.map(Received::Whole);
    };
    headers.remove(CONTENT_ENCODING);
    let path_and_query = parts.uri.path_and_query().map_or("/", |both| both.as_str()).to_owned();
    let head = Head { method: parts.method.clone(), path_and_query, headers };
    let path_length = parts.uri.path().len();
    let mut source = Source::new(incoming, codings, intake.max_body);
    let mut start = WipedBytes::default();
    while u64::try_from(start.len()).unwrap_or(u64::MAX) <= HELD {
        let Some(bytes) = within(source.next()).await? else {
            return Ok(Received::Whole(Inbound { head, path_length, format: Some(format), bytes: start }));
        };
        start.extend_from_slice(&bytes);
    }
    cutter.push(&start);
    Ok(Received::Long(Box::new(Long { head, path_length, cutter: Some(cutter), source })))
}

async fn within<T>(reading: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    tokio::time::timeout(BODY_WITHIN, reading).await.unwrap_or(Err(Fault::TooSlow))
}

impl Long<'_> {
    /// Waits for the next piece; nothing once the body has ended.
    ///
    /// # Errors
    /// As [`receive`]; [`Fault::TooLarge`] for a record that is too large as well.
    pub async fn next_piece(&mut self) -> Result<Option<Piece>, Fault> {
        within(async {
            loop {
                let Some(cutter) = &mut self.cutter else { return Ok(None) };
                if let Some(piece) = cutter.next_piece()? {
                    return Ok(Some(piece));
                }
                match self.source.next().await? {
                    Some(bytes) => cutter.push(&bytes),
                    None => return Ok(self.cutter.take().and_then(Cutter::finish)),
                }
            }
        })
        .await
    }

    /// A piece as a request of its own. The `first` one has the head.
    pub fn inbound(&self, piece: &Piece, first: bool) -> Inbound {
        let Head { method, path_and_query, headers } = &self.head;
        let method = method.clone();
        let (head, path_length) = if first {
            let path_and_query = path_and_query.clone();
            (Head { method, path_and_query, headers: headers.clone() }, self.path_length)
        } else {
            (Head { method, path_and_query: "/".to_owned(), headers: HeaderMap::new() }, 1)
        };
        Inbound { head, path_length, format: Some(piece.format().clone()), bytes: piece.body() }
    }

    /// The method.
    pub const fn method(&self) -> &Method {
        &self.head.method
    }
}

/// The pieces so far, scanned; they wait on disk.
#[derive(Debug)]
pub struct Gathering {
    first: Option<(Head, Permit<Forward>)>,
    seams: Seams,
    spool: Option<Spool>,
}

/// All pieces.
#[derive(Debug)]
pub struct Gathered {
    head: Head,
    permit: Permit<Forward>,
    spool: Spool,
}

impl Gathering {
    /// None so far.
    pub fn new(spool: Spool, rule: LookInside) -> Self {
        Self { first: None, seams: Seams::new(rule), spool: Some(spool) }
    }

    /// Whether there is none so far.
    pub const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Takes the next piece, and looks at where it was cut off. True for a number there that is only to be reported.
    ///
    /// # Errors
    /// [`Fault::Leak`]; [`Fault::Shed`] when it finds no room.
    pub async fn add(&mut self, piece: &Piece, scanned: Scanned<Forward>) -> Result<bool, Fault> {
        let Scanned { head, body, permit, .. } = scanned;
        let rewritten = body.into_inner();
        let sent = piece.sent(&rewritten).ok_or(LEAK)?;
        let reports = self.seams.join(rewritten.get(sent.clone()).ok_or(LEAK)?)?;
        self.first.get_or_insert((head, permit));
        let mut spool = self.spool.take().ok_or(LOST)?;
        let written = tokio::task::spawn_blocking(move || {
            let written = spool.append(rewritten.get(sent).unwrap_or_default());
            written.map(|()| spool)
        });
        self.spool = Some(written.await.map_err(|_panicked| LOST)??);
        Ok(reports)
    }

    /// Ends it.
    ///
    /// # Errors
    /// [`Fault::Leak`] for a card number across the last cut.
    pub fn finish(self) -> Result<Gathered, Fault> {
        self.seams.finish()?;
        let ((head, permit), spool) = self.first.zip(self.spool).ok_or(LOST)?;
        Ok(Gathered { head, permit, spool })
    }
}

impl Gathered {
    /// The permit, for the audit line.
    pub const fn permit(&self) -> &Permit<Forward> {
        &self.permit
    }

    /// Bytes of body.
    pub const fn length(&self) -> u64 {
        self.spool.len()
    }

    /// Releases the request, as [`Scanned::release`] does. It is sent once: what waited is gone then.
    pub fn release(self, receipt: Receipt, added: HeaderMap) -> Outbound {
        let Self { mut head, permit, spool } = self;
        drop((permit, receipt));
        head.headers.extend(added);
        Outbound { head, body: Payload::Waiting(Box::new(spool)), repeatable: false }
    }
}

/// Most bytes of a body that is held whole on a streamed route.
const HELD: u64 = 1024 * 1024;
const LOST: Fault = Fault::Internal("internal.pieces-lost");
