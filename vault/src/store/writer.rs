//! The one thread that writes: it takes what is queued, decides it in order, commits it as one batch with one
//! sync, and only then answers.
//!
//! Must never acknowledge before the commit returned, never write after a failed commit, and never wait for
//! more work to come. Tests: `embedded/tests.rs`, `vault/tests/store_suite/durability.rs`.
//!
//! Under load groups form by themselves: while one commit waits for the disk, the next one's work queues up.
//! The answers are plain futures that any runtime can poll.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::book::Book;
use super::embedded::Engine;
use super::resolve::Group;
use super::{Committed, StoreError, StoreStatistics};

/// The handle of a writer thread. Dropping it writes what was submitted and ends the thread.
pub(super) struct Writer<E: Engine> {
    /// `None` only while it is dropped. Unbounded, because `room` bounds it by items instead of calls.
    queue: Option<mpsc::UnboundedSender<Submission<E>>>,
    room: Arc<Semaphore>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

impl<E: Engine> Writer<E> {
    /// Starts the thread behind the last durable commit.
    pub(super) fn start(engine: Arc<E>, sequence: u64, book: Book) -> Result<Self, StoreError> {
        let (queue, submissions) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(QUEUE_ITEMS));
        let counters = Arc::new(Counters { sequence: AtomicU64::new(sequence), ..Counters::default() });
        let guard = CloseOnExit(Arc::clone(&room));
        let counted = Arc::clone(&counters);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                let _guard = guard;
                write(&engine, book, submissions, &counted);
            })
            .map_err(|error| StoreError::from_io("starting the writer", error))?;
        Ok(Self { queue: Some(queue), room, counters, thread: Some(thread) })
    }

    /// Queues one piece of work and waits until the commit it is in is durable. Work is decided in the order
    /// in which it got room in the queue, which is the order of the calls.
    pub(super) async fn submit<T: Send + 'static>(
        &self,
        items: usize,
        work: impl FnOnce(&mut Group<E>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<Committed<T>, StoreError> {
        let size = u32::try_from(items.clamp(1, QUEUE_ITEMS)).unwrap_or(u32::MAX);
        let room =
            Arc::clone(&self.room).acquire_many_owned(size).await.map_err(|_ended| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let work: Work<E> = Box::new(move |group| {
            let outcome = group.attempt(work);
            Box::new(move |committed| {
                let answer = match committed {
                    Ok(sequence) => outcome.map(|value| Committed { value, sequence: *sequence }),
                    Err(error) => Err(error.clone()),
                };
                // The caller may have stopped waiting; its work is done all the same.
                drop(reply.send(answer));
            })
        });
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        queue.send(Submission { work, items, room }).map_err(|_ended| StoreError::Closed)?;
        answer.await.map_err(|_ended| StoreError::Closed)?
    }

    /// The last durable commit.
    pub(super) fn sequence(&self) -> u64 {
        self.counters.sequence.load(Ordering::Acquire)
    }

    /// What the writer counted; nothing about the engine.
    pub(super) fn statistics(&self) -> StoreStatistics {
        let free = self.room.available_permits();
        StoreStatistics {
            commits: self.counters.commits.load(Ordering::Relaxed),
            operations: self.counters.operations.load(Ordering::Relaxed),
            items: self.counters.items.load(Ordering::Relaxed),
            largest_group: self.counters.largest_group.load(Ordering::Relaxed),
            queued: u64::try_from(QUEUE_ITEMS.saturating_sub(free)).unwrap_or(u64::MAX),
            ..StoreStatistics::default()
        }
    }
}

impl<E: Engine> Drop for Writer<E> {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has closed the store already and was reported where it happened.
            drop(thread.join());
        }
    }
}

impl<E: Engine> fmt::Debug for Writer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("sequence", &self.sequence()).finish_non_exhaustive()
    }
}

/// Most items that wait: bounds the memory of the queue. A larger call waits for an empty queue.
const QUEUE_ITEMS: usize = 32_768;

/// A commit takes no more work once it holds so many items. The last piece of work may exceed it.
const GROUP_ITEMS: usize = 4_096;

struct Submission<E> {
    work: Work<E>,
    items: usize,
    room: OwnedSemaphorePermit,
}

/// Decides a submission and hands back how to answer it once the commit has ended.
type Work<E> = Box<dyn FnOnce(&mut Group<E>) -> Answer + Send>;
type Answer = Box<dyn FnOnce(&Result<u64, StoreError>)>;

#[derive(Default)]
struct Counters {
    sequence: AtomicU64,
    commits: AtomicU64,
    operations: AtomicU64,
    items: AtomicU64,
    largest_group: AtomicU64,
}

/// Turns callers away when the thread ends, also by a panic.
struct CloseOnExit(Arc<Semaphore>);

impl Drop for CloseOnExit {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The thread. It ends when the handle is gone and all work is done, or after a failed commit; what is queued
/// then is dropped with the queue, which its callers see as a closed store.
fn write<E: Engine>(
    engine: &Arc<E>,
    mut book: Book,
    mut queue: mpsc::UnboundedReceiver<Submission<E>>,
    counters: &Counters,
) {
    while let Some(submissions) = next_group(&mut queue) {
        let mut group = Group::new(Arc::clone(engine), book);
        let mut answers = Vec::with_capacity(submissions.len());
        let mut items = 0_usize;
        for submission in submissions {
            items = items.saturating_add(submission.items);
            answers.push(((submission.work)(&mut group), submission.room));
        }
        let (committed, after) = commit(engine.as_ref(), group, counters);
        book = after;
        counters.count(answers.len(), items);
        for (answer, room) in answers {
            drop(room);
            answer(&committed);
        }
        if committed.is_err() {
            return;
        }
    }
}

/// Waits for work, then takes what else is there.
fn next_group<E>(queue: &mut mpsc::UnboundedReceiver<Submission<E>>) -> Option<Vec<Submission<E>>> {
    let first = queue.blocking_recv()?;
    let mut items = first.items;
    let mut group = vec![first];
    while items < GROUP_ITEMS
        && let Ok(next) = queue.try_recv()
    {
        items = items.saturating_add(next.items);
        group.push(next);
    }
    Some(group)
}

/// Makes a group durable and answers its number. A group that changes nothing needs no commit.
fn commit<E: Engine>(engine: &E, group: Group<E>, counters: &Counters) -> (Result<u64, StoreError>, Book) {
    let last = counters.sequence.load(Ordering::Acquire);
    if group.is_empty() {
        return (Ok(last), group.into_book());
    }
    let sequence = last.saturating_add(1);
    let (changes, book) = group.into_changes(sequence);
    let committed = engine.commit(changes).map(|()| {
        counters.sequence.store(sequence, Ordering::Release);
        counters.commits.fetch_add(1, Ordering::Relaxed);
        sequence
    });
    (committed, book)
}

impl Counters {
    fn count(&self, operations: usize, items: usize) {
        let items = u64::try_from(items).unwrap_or(u64::MAX);
        self.operations.fetch_add(u64::try_from(operations).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.items.fetch_add(items, Ordering::Relaxed);
        self.largest_group.fetch_max(items, Ordering::Relaxed);
    }
}
