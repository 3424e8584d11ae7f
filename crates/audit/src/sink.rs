//! Copies of the log elsewhere: each durable line goes, in order, to every sink, from a thread of its own.
//!
//! It must never make the log wait for a sink: what a sink has not taken yet stays in the log and is counted. Tests:
//! `sink/tests.rs` and `tests/tests/sinks.rs`.

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
use crate::line::Outline;
use crate::note::VerifierKey;
use crate::settings::{SinkKind, SinkSettings};
use crate::writer::Shared;

mod feed;
mod file;
mod position;
mod stdout;
mod syslog;

use feed::Formed;
pub use feed::{Feed, FeedTo, Form, Outlet};
use position::Position;

/// How a sink stands.
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct SinkStatus {
    /// `file`, `syslog` or `stdout`; of a feed what its daemon calls it.
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
    kind: &'static str,
    backlog: u64,
    required: bool,
    taken: Arc<AtomicU64>,
}

impl View {
    pub(crate) fn status(&self, size: u64) -> SinkStatus {
        let behind = size.saturating_sub(self.taken.load(Ordering::Acquire));
        SinkStatus { kind: self.kind, behind, late: behind > self.backlog, required: self.required }
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
    /// Opens all sinks and feeds and starts their threads. `size` is the number of lines in the log.
    pub(crate) fn start(
        directory: &Path,
        log: &VerifierKey,
        size: u64,
        shared: &Arc<Shared>,
        (settings, feeds): (&[SinkSettings], Vec<Feed>),
    ) -> Result<Sinks, SinkError> {
        let announced = Arc::new(AtomicBool::new(false));
        let place = Place { directory, log, size, announced: &announced };
        let mut opened = Vec::new();
        for settings in settings {
            let SinkSettings { kind, backlog, required, .. } = *settings;
            opened.push((kind.as_str(), backlog, required, open(place, settings)?));
        }
        for feed in feeds {
            opened.push((feed.kind, feed.backlog, false, open_feed(place, feed)?));
        }
        let (mut views, mut threads) = (Vec::new(), Vec::new());
        for (kind, backlog, required, Opened { outlet, next, position }) in opened {
            if next > size {
                return Err(SinkError::Ahead { kind, next, size });
            }
            let taken = Arc::new(AtomicU64::new(next));
            let work = Work {
                outlet,
                directory: directory.to_owned(),
                follower: Follower::new(directory.to_owned(), next),
                shared: Arc::clone(shared),
                taken: Arc::clone(&taken),
                position,
            };
            views.push(View { kind, backlog, required, taken });
            threads.push(Running::start(kind, work).map_err(SinkError::Thread)?);
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
    fn start(kind: &str, work: Work) -> io::Result<Running> {
        let (stop, stopped) = sync_channel(1);
        let (end, ended) = sync_channel(1);
        let thread = std::thread::Builder::new().name(format!("audit-{kind}")).spawn(move || {
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
    directory: PathBuf,
    follower: Follower,
    shared: Arc<Shared>,
    taken: Arc<AtomicU64>,
    /// Where the index of the next line is kept, for a sink that cannot say itself what it has.
    position: Option<Position>,
}

impl Work {
    fn run(mut self, stop: &Receiver<()>) {
        let mut stopping: Option<Instant> = None;
        loop {
            let done = self.pass().is_ok();
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

    /// Takes all that is durable, some lines at a time.
    fn pass(&mut self) -> io::Result<()> {
        let until = self.shared.size.load(Ordering::Acquire);
        while self.follower.next() < until {
            let start = self.follower.next();
            let Work { outlet, follower, .. } = self;
            let batch = until.min(start.saturating_add(BATCH));
            let read = follower.read(batch, &mut |index, line| outlet.take(index, line));
            if let Err(uncertain) = outlet.settle() {
                self.follower = Follower::new(self.directory.clone(), start);
                return Err(uncertain);
            }
            let next = self.follower.next();
            self.taken.store(next, Ordering::Release);
            if let Some(position) = self.position.as_mut().filter(|position| position.next() != next) {
                position.keep(next)?;
            }
            read?;
        }
        Ok(())
    }
}

/// What a sink is opened for.
#[derive(Clone, Copy)]
struct Place<'p> {
    directory: &'p Path,
    log: &'p VerifierKey,
    size: u64,
    announced: &'p Arc<AtomicBool>,
}

/// A sink, the line it takes next, and where that is kept.
struct Opened {
    outlet: Box<dyn Outlet>,
    next: u64,
    position: Option<Position>,
}

impl Opened {
    /// One that says itself what it has.
    fn knowing(outlet: impl Outlet + 'static, next: u64) -> Opened {
        Opened { outlet: Box::new(outlet), next, position: None }
    }

    /// One whose place in the log is kept beside it, under this name.
    fn keeping(place: Place<'_>, name: &str, outlet: Box<dyn Outlet>) -> Result<Opened, SinkError> {
        let path = place.directory.join(name);
        let position = Position::open(&path, place.size).map_err(|source| SinkError::Io { path, source })?;
        Ok(Opened { outlet, next: position.next(), position: Some(position) })
    }
}

fn open(place: Place<'_>, settings: &SinkSettings) -> Result<Opened, SinkError> {
    let kind = settings.kind;
    let path = settings.path.as_ref().map(|path| path.to_string_lossy()).unwrap_or_default();
    let name = format!("sink-{}-{}", kind.as_str(), short(&path));
    match (kind, &settings.path) {
        (SinkKind::File, Some(path)) => {
            let (copy, next) = file::Copy::open(path, &index_of_line)?;
            Ok(Opened::knowing(copy, next))
        }
        (SinkKind::File, None) => Err(SinkError::NoPath),
        (SinkKind::Syslog, path) => {
            let path = path.clone().unwrap_or_else(|| PathBuf::from(SYSTEM_LOG));
            Opened::keeping(place, &name, Box::new(syslog::Socket::new(path, place.log.name().as_str())))
        }
        (SinkKind::Stdout, _) => {
            Opened::keeping(place, &name, Box::new(stdout::Stdout::new(Arc::clone(place.announced))))
        }
    }
}

fn open_feed(place: Place<'_>, feed: Feed) -> Result<Opened, SinkError> {
    let Feed { name, form, to, .. } = feed;
    let (name, log) = (format!("feed-{}", short(&name)), place.log.clone());
    match to {
        FeedTo::File(path) => {
            let (copy, next) = file::Copy::open(&path, &|last| form.index(last))?;
            Ok(Opened::knowing(Formed { log, form, outlet: Box::new(copy) }, next))
        }
        FeedTo::Stdout => {
            let outlet = Box::new(stdout::Stdout::new(Arc::clone(place.announced)));
            Opened::keeping(place, &name, Box::new(Formed { log, form, outlet }))
        }
        FeedTo::Outlet(outlet) => Opened::keeping(place, &name, Box::new(Formed { log, form, outlet })),
    }
}

fn index_of_line(line: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Outline<'_>>(line).ok().map(|outline| outline.index)
}

/// A text as part of a file's name.
fn short(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    BASE32_NOPAD.encode(hash.as_ref().get(..10).unwrap_or_default())
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
    /// The file ends with something that is not of this log.
    #[error("sink {} does not end with what is written there: is it the right file?", path.display())]
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
/// Lines between two times that they are made certain.
const BATCH: u64 = 512;
const SYSTEM_LOG: &str = "/dev/log";

#[cfg(test)]
mod tests;
