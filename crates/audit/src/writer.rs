//! The writer thread: takes what is queued, writes it at once, syncs once, then answers everyone.
//!
//! It must never answer before the sync that covers the line, and never go on after a failed write or sync: what the disk
//! holds is unknown then (PCI DSS 10.7: failing closed). Tests: `writer/tests.rs`, with a disk that fails on demand.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::chain;
use crate::checkpoint::Checkpoint;
use crate::directory::Medium;
use crate::log::Receipt;
use crate::merkle::TreeHash;
use crate::note::Signer;
use crate::publisher::Publisher;
use crate::walk::Walk;

/// Who waits for a line to be durable. Dropping it unanswered tells them that it is not.
#[derive(Debug)]
pub(crate) enum Waiter {
    Task(oneshot::Sender<Receipt>),
    Thread(SyncSender<Receipt>),
}

impl Waiter {
    fn answer(self, receipt: Receipt) {
        // A waiter that went away has no use for its receipt; the line stays.
        let _gone = match self {
            Waiter::Task(task) => task.send(receipt).is_err(),
            Waiter::Thread(thread) => thread.try_send(receipt).is_err(),
        };
    }
}

/// What the queue carries.
#[derive(Debug)]
pub(crate) enum Command {
    /// Write this event.
    Append(Vec<u8>, Waiter),
    /// Write what is queued, sign, and end.
    Close,
}

/// What the writer tells the handles.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) poisoned: AtomicBool,
    /// Durable lines.
    pub(crate) size: AtomicU64,
    /// Bytes of events that are queued.
    pub(crate) queued_bytes: AtomicUsize,
    pub(crate) groups: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) checkpoint: Mutex<Arc<Checkpoint>>,
}

impl Shared {
    pub(crate) fn new(size: u64, checkpoint: Checkpoint) -> Shared {
        Shared {
            poisoned: AtomicBool::new(false),
            size: AtomicU64::new(size),
            queued_bytes: AtomicUsize::new(0),
            groups: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            checkpoints: AtomicU64::new(0),
            checkpoint: Mutex::new(Arc::new(checkpoint)),
        }
    }

    pub(crate) fn latest(&self) -> Arc<Checkpoint> {
        Arc::clone(&self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The one thread that writes.
pub(crate) struct Writer<M> {
    medium: M,
    publisher: Publisher,
    walk: Walk,
    shared: Arc<Shared>,
    segment_limit: u64,
    /// When the last checkpoint was ordered, and how many lines it covers.
    published: Instant,
    signed: u64,
    /// Whether [`Command::Close`] was taken from the queue.
    closing: bool,
    /// The bytes of the group at hand, and who waits for its lines.
    group: Vec<u8>,
    waiting: Vec<Waiter>,
}

impl<M: Medium> Writer<M> {
    pub(crate) fn new(
        medium: M,
        signer: Signer,
        walk: Walk,
        shared: Arc<Shared>,
        segment_limit: u64,
    ) -> io::Result<Writer<M>> {
        let signed = walk.tree.size();
        let publisher = Publisher::start(signer, medium.publisher(), Arc::clone(&shared))?;
        Ok(Writer {
            medium,
            publisher,
            walk,
            shared,
            segment_limit,
            published: Instant::now(),
            signed,
            closing: false,
            group: Vec::with_capacity(GROUP_BYTES),
            waiting: Vec::new(),
        })
    }

    /// Serves the queue until it is closed or all handles are gone. The error is the one that poisoned the log.
    pub(crate) fn run(mut self, queue: &Receiver<Command>) -> io::Result<()> {
        let ended = self.serve(queue).and_then(|()| self.end());
        if ended.is_err() {
            self.shared.poisoned.store(true, Ordering::Release);
            self.waiting.clear();
            if !self.closing {
                refuse_all(queue);
            }
        }
        ended
    }

    fn serve(&mut self, queue: &Receiver<Command>) -> io::Result<()> {
        loop {
            let first = match self.wait(queue) {
                Ok(command) => command,
                Err(RecvTimeoutError::Timeout) => {
                    self.publish()?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            self.gather(first, queue);
            self.commit()?;
            if self.closing {
                return Ok(());
            }
            if self.published.elapsed() >= CHECKPOINT_EVERY {
                self.publish()?;
            }
        }
    }

    /// The next command; times out when a checkpoint is due.
    fn wait(&self, queue: &Receiver<Command>) -> Result<Command, RecvTimeoutError> {
        if self.is_signed() {
            return queue.recv().map_err(|_detail| RecvTimeoutError::Disconnected);
        }
        queue.recv_timeout(CHECKPOINT_EVERY.saturating_sub(self.published.elapsed()))
    }

    /// Takes all that is queued, or as much as one group may hold.
    fn gather(&mut self, first: Command, queue: &Receiver<Command>) {
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Append(rendered, waiter) => self.add(&rendered, waiter),
                Command::Close => {
                    self.closing = true;
                    return;
                }
            }
            if self.group.len() >= GROUP_BYTES {
                return;
            }
            next = queue.try_recv().ok();
        }
    }

    fn add(&mut self, rendered: &[u8], waiter: Waiter) {
        let start = self.group.len();
        self.walk.sum = chain::seal(&mut self.group, self.walk.tree.size(), rendered, self.walk.sum);
        self.walk.tree.push(TreeHash::of_leaf(self.group.get(start..).unwrap_or_default()));
        self.group.push(b'\n');
        self.waiting.push(waiter);
        self.shared.queued_bytes.fetch_sub(rendered.len(), Ordering::Relaxed);
    }

    /// Writes and syncs the group, then answers.
    fn commit(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let first = self.shared.size.load(Ordering::Relaxed);
        let bytes = u64::try_from(self.group.len()).unwrap_or(u64::MAX);
        let length = self.medium.length();
        if length > 0 && length.saturating_add(bytes) > self.segment_limit {
            self.medium.rotate(first)?;
        }
        self.medium.write(&self.group)?;
        self.medium.sync()?;
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        self.shared.groups.fetch_add(1, Ordering::Relaxed);
        self.shared.size.store(self.walk.tree.size(), Ordering::Release);
        for (index, waiter) in (first..).zip(self.waiting.drain(..)) {
            waiter.answer(Receipt::new(index));
        }
        self.group.clear();
        Ok(())
    }

    fn is_signed(&self) -> bool {
        self.signed == self.walk.tree.size()
    }

    /// Has the lines so far signed, unless the checkpoint before is still being written: then they are soon after.
    fn publish(&mut self) -> io::Result<()> {
        self.published = Instant::now();
        if !self.is_signed() && self.publisher.order(&self.walk.tree)? {
            self.signed = self.walk.tree.size();
        }
        Ok(())
    }

    /// Signs the last lines and leaves the segment without zeros.
    fn end(&mut self) -> io::Result<()> {
        self.publisher.finish(&self.walk.tree)?;
        self.medium.end()
    }
}

/// Drops every waiter, now and later, which refuses it, until the queue is closed.
fn refuse_all(queue: &Receiver<Command>) {
    while let Ok(Command::Append(..)) = queue.recv() {}
}

/// A group is written when it has grown to this.
const GROUP_BYTES: usize = 1024 * 1024;
/// How long lines stay unsigned, at most, while the disk works.
pub(crate) const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
