//! The thread that signs checkpoints and replaces the checkpoint file, so that no line waits for that.
//!
//! It must never publish a smaller tree after a larger one: trees come in order, from one writer. Tests: `writer/tests.rs`.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use crate::checkpoint::Checkpoint;
use crate::directory::Publish;
use crate::merkle::Frontier;
use crate::note::Signer;
use crate::writer::Shared;

/// The handle of the thread.
pub(crate) struct Publisher {
    /// Both are gone once it was told to finish.
    orders: Option<SyncSender<Frontier>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Publisher {
    pub(crate) fn start(signer: Signer, mut publish: Publish, shared: Arc<Shared>) -> io::Result<Publisher> {
        let (orders, trees) = sync_channel::<Frontier>(1);
        let thread = std::thread::Builder::new().name("audit-publish".to_owned()).spawn(move || {
            trees.into_iter().try_for_each(|tree| sign(&signer, &tree, publish.as_mut(), &shared))
        })?;
        Ok(Publisher { orders: Some(orders), thread: Some(thread) })
    }

    /// Orders a checkpoint over `tree`. `false`: the one before is still waiting.
    ///
    /// # Errors
    /// An earlier one could not be written.
    pub(crate) fn order(&self, tree: &Frontier) -> io::Result<bool> {
        match self.orders.as_ref().map(|orders| orders.try_send(tree.clone())) {
            Some(Ok(())) => Ok(true),
            Some(Err(TrySendError::Full(_))) => Ok(false),
            Some(Err(TrySendError::Disconnected(_))) | None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Waits until a checkpoint over `tree` is written, and ends the thread.
    ///
    /// # Errors
    /// Why this or an earlier one could not be written.
    pub(crate) fn finish(&mut self, tree: &Frontier) -> io::Result<()> {
        if let Some(orders) = self.orders.take() {
            // A thread that has already ended says why below.
            let _ended = orders.send(tree.clone()).is_err();
        }
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            Some(Err(_panic)) => Err(io::ErrorKind::Other.into()),
            None => Ok(()),
        }
    }
}

fn sign(
    signer: &Signer,
    tree: &Frontier,
    publish: &mut dyn FnMut(&str) -> io::Result<()>,
    shared: &Shared,
) -> io::Result<()> {
    if shared.latest().size() == tree.size() {
        return Ok(());
    }
    let checkpoint = Checkpoint::sign(signer, tree);
    publish(checkpoint.note()).inspect_err(|_error| shared.poisoned.store(true, Ordering::Release))?;
    shared.checkpoints.fetch_add(1, Ordering::Relaxed);
    *shared.checkpoint.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(checkpoint);
    Ok(())
}
