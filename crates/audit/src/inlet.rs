//! The way into the writer's queue, bounded by lines and by bytes.
//!
//! It must never wait: what finds no room is refused. Tests: `writer/tests.rs`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError};

use tokio::sync::oneshot;

use crate::error::AuditError;
use crate::event::{Action, Event};
use crate::gate::Gate;
use crate::name::Name;
use crate::receipt::Kind;
use crate::walk::LONGEST_EVENT;
use crate::writer::{Command, Shared, Waiter};

/// The way into the queue.
#[derive(Debug, Clone)]
pub(crate) struct Inlet {
    pub(crate) origin: Name,
    pub(crate) queue: SyncSender<Command>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) gate: Arc<Gate>,
}

impl Inlet {
    /// Durable lines.
    pub(crate) fn size(&self) -> u64 {
        self.shared.size.load(Ordering::Acquire)
    }

    /// Lines that the newest checkpoint covers.
    pub(crate) fn signed(&self) -> u64 {
        self.shared.latest().size()
    }

    /// Queues an event that nobody waits for.
    pub(crate) fn put(&self, event: &mut Event) -> Result<(), AuditError> {
        let (answer, _nobody) = oneshot::channel();
        self.submit(event, Waiter::Task(answer))
    }

    /// Whether an event of this action is taken now.
    pub(crate) fn admits(&self, action: Action) -> Result<(), AuditError> {
        if self.shared.poisoned.load(Ordering::Acquire) {
            return Err(AuditError::Poisoned);
        }
        self.gate.admits(action)
    }

    /// Queues an event for `waiter`.
    pub(crate) fn submit<K: Kind>(&self, event: &mut Event<K>, waiter: Waiter) -> Result<(), AuditError> {
        self.admits(event.action())?;
        let rendered = event.render(&self.origin).map_err(AuditError::Render)?;
        let length = rendered.len();
        if length > LONGEST_EVENT {
            return Err(AuditError::TooLong);
        }
        let queued = &self.shared.queued_bytes;
        if queued.fetch_add(length, Ordering::Relaxed).saturating_add(length) > QUEUE_BYTES {
            queued.fetch_sub(length, Ordering::Relaxed);
            return Err(AuditError::Full);
        }
        self.queue.try_send(Command::Append(rendered, waiter)).map_err(|error| {
            queued.fetch_sub(length, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => AuditError::Full,
                TrySendError::Disconnected(_) => AuditError::Closed,
            }
        })?;
        self.gate.submitted.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

/// Lines that wait to be written, at most.
pub(crate) const QUEUE_LINES: usize = 65_536;
/// Bytes that wait to be written, at most: a queue of long lines must not eat the memory.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;
