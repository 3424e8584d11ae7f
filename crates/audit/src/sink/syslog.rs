//! The system log: RFC 5424 messages to a UNIX datagram socket.
//!
//! It must never wait for the socket's reader longer than a moment. The message format is one line of text, and the
//! crate for it knows no deadline for a send, so there is none here. Tests: `sink/tests.rs`.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use super::Outlet;
use crate::event::Outcome;
use crate::line::Line;

/// The socket, connected when it is first needed and again after an error.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    /// APP-NAME: the log's name in the characters the format takes.
    name: String,
    connected: Option<UnixDatagram>,
}

impl Socket {
    pub(super) fn new(path: PathBuf, origin: &str) -> Socket {
        let name = origin.chars().filter(char::is_ascii_graphic).take(48).collect();
        Socket { path, name, connected: None }
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let socket = match self.connected.take() {
            Some(socket) => socket,
            None => {
                let socket = UnixDatagram::unbound()?;
                socket.set_write_timeout(Some(PATIENCE))?;
                socket.connect(&self.path)?;
                socket
            }
        };
        let sent = socket.send(message);
        // After a timeout the connection is as good as before; after anything else its other end may be gone.
        let keep = sent.as_ref().map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |_| true);
        self.connected = Some(socket).filter(|_| keep);
        sent.map(drop)
    }

    /// Facility 13 (log audit), severity by outcome.
    fn message(&self, index: u64, line: &[u8]) -> Vec<u8> {
        let parsed = Line::parse(line).ok();
        let severity = match parsed.as_ref().map(|line| line.outcome) {
            Some(Outcome::Allowed) => 6,
            Some(Outcome::Denied) => 4,
            Some(Outcome::Failed) | None => 3,
        };
        let at = parsed.map_or_else(|| "-".to_owned(), |line| format!("{:.6}", line.at));
        let process = std::process::id();
        let priority = 13 * 8 + severity;
        let mut message = format!("<{priority}>1 {at} - {} {process} audit - ", self.name).into_bytes();
        if line.len() > LONGEST {
            message.extend_from_slice(format!("{{\"n\":{index},\"too_long\":true}}").as_bytes());
        } else {
            message.extend_from_slice(line);
        }
        message
    }
}

impl Outlet for Socket {
    fn take(&mut self, index: u64, line: &[u8]) -> io::Result<()> {
        let message = self.message(index, line);
        self.send(&message)
    }
}

/// How long a send waits for room in the socket.
const PATIENCE: Duration = Duration::from_millis(100);
/// A longer line does not surely fit a datagram: its index is sent instead.
const LONGEST: usize = 64 * 1024;
