//! Drain: how a daemon is told to stop, how long it says so beforehand, and how long it may take.
//!
//! It must never stop a request that can still finish in time. Tests: at the end of this file, and `tests/server.rs`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A switch that is turned once. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Drain {
    switch: Arc<watch::Sender<bool>>,
    leaving: Arc<watch::Sender<bool>>,
    deadline: Duration,
}

impl Drain {
    /// A switch that only [`Drain::trigger`] turns.
    pub fn new(deadline: Duration) -> Drain {
        let off = || Arc::new(watch::Sender::new(false));
        Drain { switch: off(), leaving: off(), deadline }
    }

    /// A switch that SIGTERM, SIGINT and [`Drain::leave`] turn as well, `notice` after they came; a second signal does not
    /// wait. Starts one thread that waits for them.
    ///
    /// # Errors
    /// If the signals or the thread cannot be had.
    pub fn on_signals(deadline: Duration, notice: Duration) -> io::Result<Drain> {
        let drain = Drain::new(deadline);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut terminate, mut interrupt) = {
            let _inside = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        let turned = drain.clone();
        std::thread::Builder::new().name("cordon-signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    () = turned.left() => {}
                    () = turned.triggered() => {}
                }
                turned.leave();
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    () = tokio::time::sleep(notice) => {}
                    () = turned.triggered() => {}
                }
            });
            turned.trigger();
        })?;
        Ok(drain)
    }

    /// Says that the switch will be turned, so that no more work is sent here.
    pub fn leave(&self) {
        self.leaving.send_replace(true);
    }

    /// Whether it was said, or done.
    pub fn is_leaving(&self) -> bool {
        *self.leaving.borrow() || self.is_triggered()
    }

    async fn left(&self) {
        // The sender lives in self, so waiting cannot fail.
        let _closed = self.leaving.subscribe().wait_for(|leaving| *leaving).await.is_err();
    }

    /// Turns the switch.
    pub fn trigger(&self) {
        self.switch.send_replace(true);
    }

    /// Whether it was turned.
    pub fn is_triggered(&self) -> bool {
        *self.switch.borrow()
    }

    /// Waits until it is turned.
    pub async fn triggered(&self) {
        // The sender lives in self, so waiting cannot fail.
        let _closed = self.switch.subscribe().wait_for(|turned| *turned).await.is_err();
    }

    /// How long requests in flight may take from then on.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }
}

impl Default for Drain {
    fn default() -> Drain {
        Drain::new(DEADLINE)
    }
}

/// Time to finish what is in flight.
pub const DEADLINE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triggering_wakes_all_who_wait_and_stays() {
        let drain = Drain::default();
        let waiting = drain.clone();
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(waiting.triggered());
        });
        assert!(!drain.is_triggered());
        drain.trigger();
        thread.join().unwrap();
        assert!(drain.is_triggered());
    }
}
