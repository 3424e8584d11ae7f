//! A store engine in memory for tests: it can be held inside a commit and made to fail.
//!
//! Must never be reachable outside tests.

use super::StoreError;
use super::embedded::{Change, Engine, Pair, View};
use super::rows::KeyRange;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// The engine. Clones share everything, so that a test can look behind the store and open it again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) content: Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>,
    /// The next commit fails in this way.
    pub(crate) failure: Arc<Mutex<Option<Failure>>>,
    /// Lengths of the values that were written.
    pub(crate) writes: Arc<Mutex<Vec<usize>>>,
    gate: Arc<Mutex<Option<Gate>>>,
    syncs: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    Error(io::ErrorKind),
    Panic,
}

#[derive(Debug)]
struct Gate {
    entered: Sender<()>,
    release: Receiver<()>,
}

impl Memory {
    /// Holds the next commit: answers when it has begun, lets go when told to.
    pub(crate) fn hold(&self) -> (Receiver<()>, Sender<()>) {
        let (entered, has_entered) = channel();
        let (let_go, release) = channel();
        *self.gate.lock().unwrap() = Some(Gate { entered, release });
        (has_entered, let_go)
    }
}

impl Engine for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.content.lock().unwrap().get(key).cloned())
    }

    fn range(&self, range: KeyRange, limit: usize) -> Result<Vec<Pair>, StoreError> {
        let content = self.content.lock().unwrap();
        Ok(content.range(range).take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn view(&self) -> View {
        let content = self.content.lock().unwrap().clone();
        let copy = content.clone();
        View {
            pairs: Box::new(content.into_iter().map(Ok)),
            lookup: Box::new(move |key| Ok(copy.get(key).cloned())),
        }
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let gate = self.gate.lock().unwrap().take();
        if let Some(gate) = gate {
            gate.entered.send(()).unwrap();
            gate.release.recv().unwrap();
        }
        let failure = self.failure.lock().unwrap().take();
        match failure {
            Some(Failure::Error(kind)) => return Err(StoreError::from_io("writing", kind.into())),
            Some(Failure::Panic) => panic!("the engine was told to panic"),
            None => {}
        }
        let mut content = self.content.lock().unwrap();
        for change in changes {
            self.writes.lock().unwrap().push(change.value.as_ref().map_or(0, Vec::len));
            match change.value {
                Some(value) => content.insert(change.key, value),
                None => content.remove(&change.key),
            };
        }
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    fn bytes_on_disk(&self) -> u64 {
        0
    }
}
