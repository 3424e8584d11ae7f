//! `[[events]]` of `gateway.toml`: where events go.
//!
//! Must never send events over a network in plain text, nor take a key that others may read. Tests: `events/tests.rs`.

use super::nats::{Door, Nats};
use super::{Events, Kind};
use crate::config::IdentityConfig;
use cordon_audit::{Feed, FeedTo};
use cordon_daemon::tls::{self, Identity, Roots, TlsError};
use serde::Deserialize;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// One of them.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum EventsConfig {
    /// A file that is appended to, an event a line.
    File {
        /// The file.
        path: PathBuf,
        /// Only these types.
        #[serde(default)]
        types: Vec<Kind>,
        /// Audit lines it may be behind before the gateway says so.
        #[serde(default = "default_backlog")]
        backlog: u64,
    },
    /// Standard output, an event a line.
    Stdout {
        /// Only these types.
        #[serde(default)]
        types: Vec<Kind>,
        /// Audit lines it may be behind before the gateway says so.
        #[serde(default = "default_backlog")]
        backlog: u64,
    },
    /// A stream of NATS JetStream.
    Nats(Box<NatsConfig>),
}

/// `kind = "nats"`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatsConfig {
    /// `tls://host:port`, or `nats://` on this machine.
    pub server: String,
    /// Subjects begin with this: `cordon.events` makes `cordon.events.card.tokenized`.
    pub subject: String,
    /// The stream that takes them; an answer of another one does not count.
    pub stream: String,
    /// What the server's certificate must chain to, PEM.
    #[serde(default)]
    pub roots: Option<PathBuf>,
    /// Who we are to the server.
    #[serde(default)]
    pub identity: Option<IdentityConfig>,
    /// Only these types.
    #[serde(default)]
    pub types: Vec<Kind>,
    /// Audit lines it may be behind before the gateway says so.
    #[serde(default = "default_backlog")]
    pub backlog: u64,
}

/// What is wrong with `[[events]]`. Operator.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// A setting that cannot be.
    #[error("[[events]] {place}: {what}")]
    Setting {
        /// Which one.
        place: String,
        /// What is wrong, and what to write.
        what: &'static str,
    },
    /// Roots or identity.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl EventsConfig {
    /// Makes relative paths start at `folder`.
    pub fn resolve(&mut self, folder: &Path) {
        match self {
            Self::File { path, .. } => *path = folder.join(&*path),
            Self::Stdout { .. } => {}
            Self::Nats(nats) => {
                let identity = nats.identity.iter_mut().flat_map(|shown| [&mut shown.cert, &mut shown.key]);
                nats.roots.iter_mut().chain(identity).for_each(|path| *path = folder.join(&*path));
            }
        }
    }

    /// The folder that is written to.
    #[must_use]
    pub fn folder(&self) -> Option<PathBuf> {
        match self {
            Self::File { path, .. } => path.parent().map(Path::to_owned),
            Self::Stdout { .. } | Self::Nats(_) => None,
        }
    }

    /// The port that is connected to.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Nats(nats) => Address::parse(&nats.server).map(|address| address.port),
            Self::File { .. } | Self::Stdout { .. } => None,
        }
    }

    /// What is read when it connects: the folder of the roots, which are replaced and not rewritten, and the identity's files.
    #[must_use]
    pub fn read_later(&self) -> Vec<PathBuf> {
        let Self::Nats(nats) = self else { return Vec::new() };
        let folder = nats.roots.iter().filter_map(|roots| roots.parent().map(Path::to_owned));
        let files = nats.identity.iter().flat_map(|shown| [shown.cert.clone(), shown.key.clone()]);
        folder.chain(files).collect()
    }

    /// What distinguishes it from others.
    fn name(&self) -> String {
        match self {
            Self::File { path, .. } => format!("file {}", path.display()),
            Self::Stdout { .. } => "stdout".to_owned(),
            Self::Nats(nats) => format!("nats {} {}", nats.server, nats.stream),
        }
    }

    /// It as a feed of the audit log; what it needs is read now.
    ///
    /// # Errors
    /// [`EventsError`].
    pub fn feed(&self) -> Result<Feed, EventsError> {
        let (kind, types, backlog, to) = match self {
            Self::File { path, types, backlog } => {
                ("events-file", types, *backlog, FeedTo::File(path.clone()))
            }
            Self::Stdout { types, backlog } => ("events-stdout", types, *backlog, FeedTo::Stdout),
            Self::Nats(nats) => {
                ("events-nats", &nats.types, nats.backlog, FeedTo::Outlet(Box::new(Nats::new(nats.door()?))))
            }
        };
        if backlog == 0 {
            return Err(EventsError::Setting { place: self.name(), what: "`backlog` must be at least 1" });
        }
        Ok(Feed { kind, name: self.name(), backlog, form: Box::new(Events::of(types)), to })
    }
}

impl NatsConfig {
    fn door(&self) -> Result<Door, EventsError> {
        // Not the server: somebody may have put a password in it.
        let wrong = |what| EventsError::Setting { place: format!("stream {}", self.stream), what };
        let address = Address::parse(&self.server)
            .ok_or_else(|| wrong("`server` is written like tls://nats.example:4222, without a user"))?;
        match (&self.roots, address.tls) {
            // They are read again with each connection; what is wrong with them is to be known now.
            (Some(roots), true) => {
                let shown = self.identity.as_ref();
                let shown = shown.map(|shown| Identity::load(&shown.cert, &shown.key)).transpose()?;
                let _sound = tls::client_config(Roots::load(roots)?, shown)?;
            }
            (None, true) => {
                return Err(wrong("a tls:// server needs `roots`, the PEM file it must chain to"));
            }
            (Some(_), false) => return Err(wrong("roots are for tls:// servers")),
            (None, false) if !address.is_loopback() => {
                return Err(wrong("events leave this machine over tls:// only; nats:// is for 127.0.0.1"));
            }
            (None, false) if self.identity.is_some() => {
                return Err(wrong("an identity is for tls:// servers"));
            }
            (None, false) => {}
        }
        let plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        let tokens = self.subject.split('.').all(|token| !token.is_empty());
        if !plain(&self.subject) || !tokens {
            return Err(wrong("`subject` is words of letters, digits, - and _ with dots between them"));
        }
        if self.stream.is_empty() || !plain(&self.stream) || self.stream.contains('.') {
            return Err(wrong("`stream` is the name of a stream: letters, digits, - and _"));
        }
        Ok(Door {
            server: self.server.clone(),
            subject: self.subject.clone(),
            stream: self.stream.clone(),
            roots: self.roots.clone(),
            identity: self.identity.as_ref().map(|shown| (shown.cert.clone(), shown.key.clone())),
        })
    }
}

/// A server's address, taken apart.
struct Address<'a> {
    tls: bool,
    host: &'a str,
    port: u16,
}

impl<'a> Address<'a> {
    fn parse(server: &'a str) -> Option<Self> {
        let (scheme, rest) = server.split_once("://")?;
        let (host, port) = rest.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port > 0)?;
        let tls = match scheme {
            "tls" => true,
            "nats" => false,
            _ => return None,
        };
        let sound = !host.is_empty() && !host.contains(['@', '/', '?', '#', ' ']);
        sound.then_some(Self { tls, host, port })
    }

    fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

const fn default_backlog() -> u64 {
    100_000
}
