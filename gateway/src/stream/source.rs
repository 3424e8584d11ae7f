//! A request's body as it arrives, with its content coding undone.
//!
//! Decoders read and wait, so they have a thread of their own for as long as the body lasts. Must never take a body for
//! ended that only broke off, nor let more out than its coding's bounds (threat B35). Tests: `tests/tests/streaming.rs`.

use crate::coding::{Codings, most_of};
use crate::problem::Fault;
use bytes::{Buf, Bytes};
use cordon_daemon::body::WipedBytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::io::{self, BufRead, Read};
use tokio::sync::mpsc::{OwnedPermit, Receiver, Sender, channel};

/// The body of one request.
#[derive(Debug)]
pub struct Source<'i> {
    incoming: &'i mut Incoming,
    decoder: Option<Decoder>,
    /// What may still come out.
    left: u64,
    /// What came in.
    received: usize,
    /// What came out.
    given: usize,
}

/// A thread that undoes a coding.
#[derive(Debug)]
struct Decoder {
    /// Gone once the body has ended.
    coded: Option<Sender<Bytes>>,
    /// Received and not yet handed over.
    pending: Option<Bytes>,
    decoded: Receiver<Decoded>,
}

/// What a decoder has to say.
#[derive(Debug)]
enum Decoded {
    Piece(WipedBytes),
    Fault(Fault),
    End,
}

impl<'i> Source<'i> {
    /// A body of which at most `most` bytes are read.
    pub fn new(incoming: &'i mut Incoming, codings: Codings, most: u64) -> Self {
        let decoder = (!codings.is_identity()).then(|| Decoder::start(codings));
        Self { incoming, decoder, left: most, received: 0, given: 0 }
    }

    /// Gives what came next; nothing once the body has ended.
    ///
    /// # Errors
    /// [`Fault::TooLarge`], or [`Fault::Malformed`] for a body that broke off or is not of its coding.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        let piece = match &mut self.decoder {
            None => data(self.incoming).await?,
            Some(decoder) => decoder.next(self.incoming, &mut self.received).await?,
        };
        let Some(piece) = piece else { return Ok(None) };
        self.given = self.given.saturating_add(piece.len());
        let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(length).ok_or(Fault::TooLarge)?;
        if self.decoder.is_some() && self.given > most_of(self.received) {
            return Err(Fault::TooLarge);
        }
        Ok(Some(piece))
    }
}

/// The next bytes of a body. Trailers are read and dropped.
async fn data(incoming: &mut Incoming) -> Result<Option<Bytes>, Fault> {
    while let Some(frame) = incoming.frame().await {
        if let Ok(data) = frame.map_err(|_detail| BROKEN)?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

impl Decoder {
    fn start(codings: Codings) -> Self {
        let (coded, feed) = channel(AHEAD);
        let (given, decoded) = channel(AHEAD);
        drop(tokio::task::spawn_blocking(move || {
            let feed = Feed { chunks: feed, current: Bytes::new() };
            let ended = codings.decode(feed, &mut |piece| {
                let piece = Decoded::Piece(super::piece::copy(piece));
                // Nobody waits for it any more: any error ends it.
                given.blocking_send(piece).map_err(|_gone| crate::coding::CodingError::Malformed)
            });
            let last = ended.map_or_else(|error| Decoded::Fault(error.into()), |()| Decoded::End);
            let _nobody_waits = given.blocking_send(last).is_err();
        }));
        Self { coded: Some(coded), pending: None, decoded }
    }

    async fn next(&mut self, incoming: &mut Incoming, received: &mut usize) -> Result<Option<Bytes>, Fault> {
        loop {
            let Self { coded, pending, decoded } = self;
            tokio::select! {
                said = decoded.recv() => return match said {
                    Some(Decoded::Piece(piece)) => Ok(Some(Bytes::from_owner(piece))),
                    Some(Decoded::End) => Ok(None),
                    Some(Decoded::Fault(fault)) => Err(fault),
                    None => Err(Fault::Internal("internal.decoder-ended")),
                },
                place = hand_over(coded.clone()), if pending.is_some() => match (place, pending.take()) {
                    (Some(place), Some(bytes)) => drop(place.send(bytes)),
                    // It has ended, and says why.
                    (None, _) | (_, None) => *coded = None,
                },
                more = data(incoming), if pending.is_none() && coded.is_some() => match more {
                    Ok(Some(bytes)) => {
                        *received = received.saturating_add(bytes.len());
                        *pending = Some(bytes);
                    }
                    Ok(None) => *coded = None,
                    Err(fault) => return Err(fault),
                },
            }
        }
    }
}

/// Waits for a place in front of the decoder.
async fn hand_over(coded: Option<Sender<Bytes>>) -> Option<OwnedPermit<Bytes>> {
    coded?.reserve_owned().await.ok()
}

/// The coded bytes, for a thread that waits for them.
struct Feed {
    chunks: Receiver<Bytes>,
    current: Bytes,
}

impl BufRead for Feed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(bytes) => self.current = bytes,
                None => break,
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, used: usize) {
        self.current.advance(used);
    }
}

impl Read for Feed {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let mut bytes = self.fill_buf()?;
        let read = bytes.read(room)?;
        self.consume(read);
        Ok(read)
    }
}

const BROKEN: Fault = Fault::Malformed("body");
/// Chunks in front of a decoder, and behind it.
const AHEAD: usize = 2;
