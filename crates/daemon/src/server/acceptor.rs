//! The acceptor: one thread that takes connections off all listeners and hands them round.
//!
//! It must never read from a connection. Tests: `tests/server.rs`, `tests/limits.rs`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::{Arrival, Arrivals, Place, ServeError, Shared};

/// Starts accepting. The thread ends, and the workers' queues with it, when the server is drained.
pub(super) fn start(
    sockets: Vec<std::net::TcpListener>,
    queues: Vec<Arrivals>,
    shared: &Arc<Shared>,
) -> Result<JoinHandle<()>, ServeError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Thread)?;
    let listeners = {
        let _inside = runtime.enter();
        sockets.into_iter().map(TcpListener::from_std).collect::<io::Result<Vec<_>>>()
    };
    let listeners = listeners.map_err(ServeError::Thread)?;
    let shared = Arc::clone(shared);
    std::thread::Builder::new()
        .name("cordon-acceptor".to_owned())
        .spawn(move || {
            let round = Arc::new(Round {
                queues,
                next: AtomicUsize::new(0),
                places: Arc::new(Semaphore::new(shared.limits.connections)),
                shared: Arc::clone(&shared),
            });
            runtime.block_on(async {
                for (service, listener) in listeners.into_iter().enumerate() {
                    tokio::spawn(accept(service, listener, Arc::clone(&round)));
                }
                shared.drain.triggered().await;
            });
            // Dropping the runtime ends the accept loops, closes the sockets and, with the round, the queues.
        })
        .map_err(ServeError::Thread)
}

struct Round {
    queues: Vec<Arrivals>,
    next: AtomicUsize,
    places: Arc<Semaphore>,
    shared: Arc<Shared>,
}

impl Round {
    /// Hands a connection to the next worker, or closes it when there are too many.
    fn hand_over(&self, service: usize, stream: TcpStream, address: SocketAddr) {
        let metrics = &self.shared.metrics;
        metrics.accepted.inc();
        let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() else {
            metrics.over_limit.inc();
            return;
        };
        metrics.open.inc();
        let place = Place { _permit: permit, open: metrics.open.clone() };
        // Nagle's delay would hold back small answers. Without it a connection still works.
        let _slower = stream.set_nodelay(true).is_err();
        let Ok(stream) = stream.into_std() else { return };
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let queue = turn.checked_rem(self.queues.len()).and_then(|index| self.queues.get(index));
        if let Some(queue) = queue {
            // A worker that ended takes nothing; its connection is closed.
            let _closed = queue.send(Arrival { service, stream, address, place }).is_err();
        }
    }
}

async fn accept(service: usize, listener: TcpListener, round: Arc<Round>) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => round.hand_over(service, stream, address),
            Err(error) => {
                tracing::warn!(kind = ?error.kind(), "cannot accept a connection");
                // Out of descriptors, most likely: it would fail again at once.
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

const PAUSE: Duration = Duration::from_millis(20);
