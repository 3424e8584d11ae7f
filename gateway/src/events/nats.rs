//! Events to a stream of NATS JetStream.
//!
//! An event counts as delivered when the stream has said that it keeps it. Must never go on before that, nor speak with a
//! server that the configuration does not name. Tests: `tests/tests/events.rs`, with a real server.

use super::Heading;
use async_nats::ConnectOptions;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::{ContextBuilder, PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use cordon_audit::Outlet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// How a stream is reached.
pub struct Door {
    pub(super) server: String,
    pub(super) subject: String,
    pub(super) stream: String,
    pub(super) roots: Option<PathBuf>,
    /// Chain and key.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("server", &self.server).field("stream", &self.stream).finish()
    }
}

/// An outlet into a stream.
#[derive(Debug)]
pub struct Nats {
    door: Door,
    open: Option<Open>,
    /// Sent, and not yet acknowledged.
    pending: Vec<PublishAckFuture>,
    /// When something was last said about a failure.
    said: Option<Instant>,
}

/// A connection, which mends itself.
#[derive(Debug)]
struct Open {
    runtime: Handle,
    context: Context,
    /// Dropped, it ends the runtime's thread.
    _running: oneshot::Sender<()>,
}

impl Nats {
    /// An outlet that connects with its first event.
    #[must_use]
    pub const fn new(door: Door) -> Self {
        Self { door, open: None, pending: Vec::new(), said: None }
    }

    fn failed(&mut self, kind: PublishErrorKind, error: &dyn fmt::Display) -> io::Error {
        let now = Instant::now();
        let quiet = self.said.is_some_and(|said| now.saturating_duration_since(said) < SAY_EVERY);
        if !quiet {
            self.said = Some(now);
            let Door { server, subject, stream, .. } = &self.door;
            let next = if kind == PublishErrorKind::StreamNotFound {
                format!("make it with: nats stream add {stream} --subjects '{subject}.>' --storage file")
            } else {
                "they wait in the audit log".to_owned()
            };
            tracing::warn!(server, stream, %error, next, "events are not taken");
        }
        io::Error::other("not acknowledged")
    }
}

impl Open {
    fn new(door: &Door) -> io::Result<Self> {
        // On a thread of its own it answers the server while no event is sent.
        let driver = Builder::new_current_thread().enable_all().build()?;
        let runtime = driver.handle().clone();
        let (running, ended) = oneshot::channel();
        std::thread::Builder::new().name("events-nats".to_owned()).spawn(move || driver.block_on(ended))?;
        let mut options = ConnectOptions::new()
            .name("cordon-gateway")
            .connection_timeout(CONNECT)
            .retry_on_initial_connect()
            // Only the server of the configuration, whatever it says about others.
            .ignore_discovered_servers();
        // By their files: with a configuration of ours the client would ask for the system's roots as well, which a confined
        // process cannot read.
        if let Some(roots) = &door.roots {
            options = options.require_tls(true).add_root_certificates(roots.clone());
        }
        if let Some((chain, key)) = &door.identity {
            options = options.add_client_certificate(chain.clone(), key.clone());
        }
        let client = runtime.block_on(options.connect(door.server.as_str())).map_err(io::Error::other)?;
        let context = {
            let _inside = runtime.enter();
            ContextBuilder::new().ack_timeout(ACKNOWLEDGE).timeout(ACKNOWLEDGE).build(client)
        };
        Ok(Self { runtime, context, _running: running })
    }
}

impl Outlet for Nats {
    fn take(&mut self, _index: u64, event: &[u8]) -> io::Result<()> {
        let heading = Heading::of(event).ok_or(io::ErrorKind::InvalidData)?;
        let kind = heading.kind.as_str();
        let subject = format!("{}.{}", self.door.subject, kind.strip_prefix("cordon.").unwrap_or(kind));
        let message = PublishMessage::build()
            .payload(Bytes::copy_from_slice(event))
            .message_id(format!("{}:{}", heading.source, heading.id))
            .expected_stream(&self.door.stream)
            .header("Content-Type", "application/cloudevents+json");
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(Open::new(&self.door)?),
        };
        let sent = open.runtime.block_on(open.context.send_publish(subject, message));
        match sent {
            Ok(acknowledgement) => {
                self.pending.push(acknowledgement);
                Ok(())
            }
            Err(error) => Err(self.failed(error.kind(), &error)),
        }
    }

    fn settle(&mut self) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let Some(open) = &self.open else { return Ok(()) };
        for acknowledgement in pending {
            if let Err(error) = open.runtime.block_on(acknowledgement.into_future()) {
                return Err(self.failed(error.kind(), &error));
            }
        }
        self.said = None;
        Ok(())
    }
}

const CONNECT: Duration = Duration::from_secs(5);
const ACKNOWLEDGE: Duration = Duration::from_secs(2);
const SAY_EVERY: Duration = Duration::from_secs(60);
