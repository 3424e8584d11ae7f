//! A worker: one thread, one runtime, the connections it was handed.
//!
//! It must never outlive the drain's deadline. Tests: `tests/server.rs`.

use std::sync::{Arc, mpsc as sync};
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::connection::{self, Protocols};
use super::{Arrival, Arrivals, Call, ServeError, Shared};

/// Starts a worker and waits until its handlers are built. The thread gives the number of connections it cut off.
pub(super) fn start(
    number: usize,
    shared: &Arc<Shared>,
) -> Result<(JoinHandle<usize>, Arrivals), ServeError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Thread)?;
    let (queue, arrivals) = mpsc::unbounded_channel();
    let (up, is_up) = sync::sync_channel(1);
    let shared = Arc::clone(shared);
    let thread = std::thread::Builder::new()
        .name(format!("cordon-worker-{number}"))
        .spawn(move || {
            let cut_off = runtime.block_on(async {
                let handlers: Vec<Call> =
                    shared.services.iter().map(|service| (service.make)(number)).collect();
                // If the server gave up waiting, the queue is closed as well.
                let _gave_up = up.send(()).is_err();
                serve(arrivals, handlers, &shared).await
            });
            // What handlers spawned is stopped, not waited for.
            runtime.shutdown_background();
            cut_off
        })
        .map_err(ServeError::Thread)?;
    is_up.recv().map_err(|_detail| ServeError::Worker)?;
    Ok((thread, queue))
}

async fn serve(
    mut arrivals: mpsc::UnboundedReceiver<Arrival>,
    handlers: Vec<Call>,
    shared: &Arc<Shared>,
) -> usize {
    let mut connections = JoinSet::new();
    let protocols = Arc::new(Protocols::new(&shared.limits));
    loop {
        tokio::select! {
            arrival = arrivals.recv() => {
                let Some(arrival) = arrival else { break };
                if let Some(handler) = handlers.get(arrival.service) {
                    let (handler, shared) = (Arc::clone(handler), Arc::clone(shared));
                    connections.spawn(connection::run(arrival, handler, Arc::clone(&protocols), shared));
                }
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
    let finished = async { while connections.join_next().await.is_some() {} };
    let in_time = tokio::time::timeout(shared.drain.deadline(), finished).await;
    match in_time {
        Ok(()) => 0,
        Err(_) => connections.len(),
    }
}
