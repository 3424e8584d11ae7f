//! The keeper: what an open log needs beside its writer, done a few times a second on a thread of its own.
//!
//! It must never be in the way of a line: it reads what is durable and watches. Tests: `tests/proofs.rs` for the tiles,
//! `flood.rs` and `gate.rs` for what it watches.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::flood::Flood;
use crate::follow::Follower;
use crate::gate::{Gate, Progress};
use crate::inlet::Inlet;
use crate::merkle::TreeHash;
use crate::sink::View;
use crate::tiles::Builder;

/// The running keeper. Dropped, its thread ends.
#[derive(Debug)]
pub(crate) struct Keeper {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

/// What it works on.
pub(crate) struct Duties {
    pub(crate) directory: PathBuf,
    /// The tiles of the lines that were found when the log was opened.
    pub(crate) tiles: Builder,
    pub(crate) inlet: Inlet,
    pub(crate) gate: Arc<Gate>,
    pub(crate) flood: Arc<Flood>,
    pub(crate) sinks: Arc<[View]>,
    /// Free bytes below which data calls are refused.
    pub(crate) reserve: u64,
}

impl Keeper {
    pub(crate) fn start(duties: Duties) -> io::Result<Keeper> {
        let (stop, stopped) = sync_channel(1);
        let size = duties.tiles.size();
        duties.measure_space();
        duties.look_at_sinks();
        let work = Work {
            follower: Follower::new(duties.directory.clone(), size),
            progress: Progress::new(size, Instant::now()),
            measured: Instant::now(),
            unsaid: Vec::new(),
            behind: false,
            duties,
        };
        work.settle_tiles();
        let thread =
            std::thread::Builder::new().name("audit-keeper".to_owned()).spawn(move || work.run(&stopped))?;
        Ok(Keeper { stop, thread })
    }

    /// Brings the tiles up to the last checkpoint and ends.
    pub(crate) fn close(self) {
        // Full means that it was told already.
        let _told = self.stop.try_send(()).is_err();
        let _panicked = self.thread.join().is_err();
    }
}

struct Work {
    duties: Duties,
    follower: Follower,
    progress: Progress,
    measured: Instant,
    /// Counts of refusals that the queue had no room for.
    unsaid: Vec<Event>,
    /// Whether signed lines are left that can be added to the tiles at once.
    behind: bool,
}

impl Work {
    fn run(mut self, stop: &Receiver<()>) {
        let mut due = Instant::now() + EVERY;
        loop {
            let left = due.saturating_duration_since(Instant::now());
            match stop.recv_timeout(if self.behind { left.min(PAUSE) } else { left }) {
                Err(RecvTimeoutError::Timeout) => {
                    let now = Instant::now();
                    if now >= due {
                        due = now + EVERY;
                        self.tick(now);
                    } else {
                        self.grow_tiles();
                    }
                }
                Ok(()) => return self.finish(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn finish(mut self) {
        self.grow_tiles();
        while self.behind {
            self.grow_tiles();
        }
    }

    fn tick(&mut self, now: Instant) {
        let gate = &self.duties.gate;
        let submitted = gate.submitted.load(Ordering::Acquire);
        let stuck = self.progress.is_stuck(submitted, self.duties.inlet.size(), now);
        gate.stalled.store(stuck, Ordering::Relaxed);
        if now.saturating_duration_since(self.measured) >= MEASURE_EVERY {
            self.measured = now;
            self.duties.measure_space();
        }
        self.duties.look_at_sinks();
        self.unsaid.extend(self.duties.flood.due(now));
        let inlet = &self.duties.inlet;
        self.unsaid.retain_mut(|event| inlet.put(event).is_err());
        self.grow_tiles();
    }

    /// Adds some of the lines up to the newest checkpoint, whose tiles must be there for whoever has it. Not all at once:
    /// a second's lines take a processor for longer than a request may wait for one.
    fn grow_tiles(&mut self) {
        let signed = self.duties.inlet.signed();
        let size = self.duties.tiles.size();
        self.behind = false;
        if signed <= size {
            return;
        }
        let until = signed.min(size.saturating_add(LINES_AT_ONCE));
        let Duties { directory, tiles, gate, .. } = &mut self.duties;
        let mut failed = false;
        let read = self.follower.read(until, &mut |_, line| {
            tiles.push(TreeHash::of_leaf(line), &mut |tile| failed |= tile.store(directory).is_err());
            Ok(())
        });
        failed |= read.is_err();
        gate.tiles_failed.store(failed, Ordering::Relaxed);
        self.behind = until < signed && !failed;
        if !self.behind {
            self.settle_tiles();
        }
    }

    fn settle_tiles(&self) {
        let Duties { directory, tiles, gate, .. } = &self.duties;
        if tiles.partial().any(|tile| tile.store(directory).is_err()) {
            gate.tiles_failed.store(true, Ordering::Relaxed);
        }
    }
}

impl Duties {
    fn look_at_sinks(&self) {
        let size = self.inlet.size();
        let behind = self.sinks.iter().map(|sink| sink.status(size)).any(|sink| sink.required && sink.late);
        self.gate.sink_behind.store(behind, Ordering::Relaxed);
    }

    /// A disk that cannot be asked counts as it did before: a failing one shows at the next write.
    fn measure_space(&self) {
        if let Ok(free) = free_bytes(&self.directory) {
            self.gate.low_on_space.store(free < self.reserve, Ordering::Relaxed);
        }
    }
}

/// What an unprivileged process may still write.
fn free_bytes(directory: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(directory)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

const EVERY: Duration = Duration::from_millis(100);
/// Lines that are hashed without a pause, a tile's worth: a fraction of a millisecond.
const LINES_AT_ONCE: u64 = 256;
/// The pause between them, so that what waits for a processor gets it.
const PAUSE: Duration = Duration::from_millis(2);
const MEASURE_EVERY: Duration = Duration::from_secs(1);
