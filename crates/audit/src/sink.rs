//! Copies of the log elsewhere: each durable line goes, in order, to every sink, from a thread of its own.
//!
//! It must never make the log wait for a sink: what a sink has not taken yet stays in the log and is counted. Tests:
//! `sink/tests.rs` and `tests/tests/sinks.rs`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use data_encoding::BASE32_NOPAD;
use ring::digest::{SHA256, digest};

use crate::follow::Follower;
use crate::settings::{SinkKind, SinkSettings};
use crate::writer::Shared;

mod file;
mod stdout;
mod syslog;

/// Where lines are taken.
trait Outlet: Send {
    /// Takes a line, without its newline. After an error it is offered again.
    fn take(&mut self, index: u64, line: &[u8]) -> io::Result<()>;
}

/// How a sink stands.
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct SinkStatus {
    /// `file`, `syslog` or `stdout`.
    pub kind: &'static str,
    /// Lines it has not taken yet.
    pub behind: u64,
    /// Whether that is more than its backlog.
    pub late: bool,
    /// Whether calls are refused because of it when it is late.
    pub required: bool,
}

/// How far a sink is, for whoever asks.
#[derive(Debug)]
pub(crate) struct View {
    settings: SinkSettings,
    taken: Arc<AtomicU64>,
}

impl View {
    pub(crate) fn status(&self, size: u64) -> SinkStatus {
        let behind = size.saturating_sub(self.taken.load(Ordering::Acquire));
        SinkStatus {
            kind: self.settings.kind.as_str(),
            behind,
            late: behind > self.settings.backlog,
            required: self.settings.required,
        }
    }
}

/// The sinks of an open log.
#[derive(Debug)]
pub(crate) struct Sinks {
    pub(crate) views: Arc<[View]>,
    threads: Vec<Running>,
    /// Whether standard output is ours: not before the daemon has announced its listeners there.
    pub(crate) announced: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Running {
    /// Dropped, or sent to, the thread ends.
    stop: SyncSender<()>,
    ended: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Sinks {
    /// Opens all sinks and starts their threads. `size` is the number of lines in the log.
    pub(crate) fn start(
        directory: &Path,
        origin: &str,
        size: u64,
        shared: &Arc<Shared>,
        settings: &[SinkSettings],
    ) -> Result<Sinks, SinkError> {
        let announced = Arc::new(AtomicBool::new(false));
        let (mut views, mut threads) = (Vec::new(), Vec::new());
        for settings in settings {
            let (outlet, next) = open(directory, origin, size, settings, &announced)?;
            let taken = Arc::new(AtomicU64::new(next));
            let work = Work {
                outlet,
                follower: Follower::new(directory.to_owned(), next),
                shared: Arc::clone(shared),
                taken: Arc::clone(&taken),
                position: position_file(directory, settings),
            };
            views.push(View { settings: settings.clone(), taken });
            threads.push(Running::start(settings.kind, work).map_err(SinkError::Thread)?);
        }
        Ok(Sinks { views: views.into(), threads, announced })
    }

    /// Lets them take what is left, for a while, and ends them. One that is stuck is left behind.
    pub(crate) fn close(self) {
        for running in &self.threads {
            // Full means that it was told already.
            let _told = running.stop.try_send(()).is_err();
        }
        let deadline = Instant::now().checked_add(LAST_CHANCE);
        for running in self.threads {
            let left = deadline.map_or(Duration::ZERO, |end| end.saturating_duration_since(Instant::now()));
            if running.ended.recv_timeout(left).is_ok() {
                // It has said that it is about to end.
                let _panicked = running.thread.join().is_err();
            }
        }
    }
}

impl Running {
    fn start(kind: SinkKind, work: Work) -> io::Result<Running> {
        let (stop, stopped) = sync_channel(1);
        let (end, ended) = sync_channel(1);
        let thread =
            std::thread::Builder::new().name(format!("audit-{}", kind.as_str())).spawn(move || {
                work.run(&stopped);
                // Nobody waits for it after the deadline of `close`.
                let _left = end.try_send(()).is_err();
            })?;
        Ok(Running { stop, ended, thread })
    }
}

/// What a sink's thread does.
struct Work {
    outlet: Box<dyn Outlet>,
    follower: Follower,
    shared: Arc<Shared>,
    taken: Arc<AtomicU64>,
    /// Where the index of the next line is kept, for a sink that cannot say itself what it has.
    position: Option<PathBuf>,
}

impl Work {
    fn run(mut self, stop: &Receiver<()>) {
        let mut kept = self.follower.next();
        let mut stopping: Option<Instant> = None;
        loop {
            let done = self.pass().is_ok();
            if let Some(position) = self.position.as_ref().filter(|_| kept != self.follower.next()) {
                // Lost, it costs lines sent twice, never one not sent.
                if fs::write(position, self.follower.next().to_string()).is_ok() {
                    kept = self.follower.next();
                }
            }
            if stopping.is_some_and(|end| done || Instant::now() >= end) {
                return;
            }
            match stop.recv_timeout(EVERY) {
                Ok(()) => stopping = Instant::now().checked_add(LAST_CHANCE),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) if stopping.is_some() => std::thread::sleep(EVERY),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn pass(&mut self) -> io::Result<()> {
        let until = self.shared.size.load(Ordering::Acquire);
        let Work { outlet, follower, taken, .. } = self;
        follower.read(until, &mut |index, line| {
            outlet.take(index, line)?;
            taken.store(index.saturating_add(1), Ordering::Release);
            Ok(())
        })
    }
}

/// Opens a sink; also says which line it takes next.
fn open(
    directory: &Path,
    origin: &str,
    size: u64,
    settings: &SinkSettings,
    announced: &Arc<AtomicBool>,
) -> Result<(Box<dyn Outlet>, u64), SinkError> {
    let next = position(directory, settings).unwrap_or(size);
    let (outlet, next): (Box<dyn Outlet>, u64) = match (settings.kind, &settings.path) {
        (SinkKind::File, Some(path)) => {
            let (file, next) = file::Copy::open(path)?;
            (Box::new(file), next)
        }
        (SinkKind::File, None) => return Err(SinkError::NoPath),
        (SinkKind::Syslog, path) => {
            let path = path.clone().unwrap_or_else(|| PathBuf::from(SYSTEM_LOG));
            (Box::new(syslog::Socket::new(path, origin)), next)
        }
        (SinkKind::Stdout, _) => (Box::new(stdout::Stdout::new(Arc::clone(announced))), next),
    };
    if next > size {
        return Err(SinkError::Ahead { kind: settings.kind.as_str(), next, size });
    }
    Ok((outlet, next))
}

fn position_file(directory: &Path, settings: &SinkSettings) -> Option<PathBuf> {
    if settings.kind == SinkKind::File {
        return None;
    }
    let path = settings.path.as_ref().map(|path| path.to_string_lossy()).unwrap_or_default();
    let hash = digest(&SHA256, path.as_bytes());
    let short = BASE32_NOPAD.encode(hash.as_ref().get(..10).unwrap_or_default());
    Some(directory.join(format!("sink-{}-{short}", settings.kind.as_str())))
}

fn position(directory: &Path, settings: &SinkSettings) -> Option<u64> {
    fs::read_to_string(position_file(directory, settings)?).ok()?.parse().ok()
}

/// Why a sink cannot be used. Operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// A file sink without a file.
    #[error("a file sink needs a path")]
    NoPath,
    /// The file cannot be used.
    #[error("sink {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file ends with something that is not an audit line.
    #[error("sink {} does not end with an audit line: is it the right file?", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It has taken lines that the log does not have: the log was cut or put back, or it is of another log.
    #[error("the {kind} sink has taken lines up to {next}, but the log has {size}: was the log cut?")]
    Ahead {
        /// Its kind.
        kind: &'static str,
        /// The line after the last it has taken.
        next: u64,
        /// Lines of the log.
        size: u64,
    },
    /// Its thread cannot be started.
    #[error("the thread of a sink cannot be started")]
    Thread(#[source] io::Error),
}

/// How long a durable line waits before it is sent on, at most, while the sink takes lines.
const EVERY: Duration = Duration::from_millis(20);
/// How long a sink may take for the rest when the log is closed.
const LAST_CHANCE: Duration = Duration::from_secs(2);
const SYSTEM_LOG: &str = "/dev/log";

#[cfg(test)]
mod tests;
