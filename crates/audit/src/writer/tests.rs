//! Tests of the writer against a disk in memory that blocks and fails on demand.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{self, Sender};
use std::task::{Context, Poll, Waker};

use super::*;
use crate::directory::Publish;
use crate::error::AuditError;
use crate::event::{Action, Event, Outcome};
use crate::log::Log;
use crate::name::Name;

/// What the disk in memory was asked for, and how it is to answer.
#[derive(Default)]
struct State {
    written: Vec<u8>,
    durable_lines: u64,
    fail_write: bool,
    fail_sync: bool,
    fail_publish: bool,
    /// Told when a sync begins; the sync then waits for the other end.
    gate: Option<(Sender<()>, Receiver<()>)>,
}

#[derive(Clone, Default)]
struct Disk(Arc<Mutex<State>>);

impl Medium for Disk {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if state.fail_write {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.written.extend_from_slice(lines);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let gate = self.0.lock().unwrap().gate.take();
        if let Some((entered, open)) = gate {
            entered.send(()).unwrap();
            open.recv().unwrap();
        }
        let mut state = self.0.lock().unwrap();
        if state.fail_sync {
            return Err(io::ErrorKind::Other.into());
        }
        state.durable_lines = state.written.iter().filter(|byte| **byte == b'\n').count() as u64;
        Ok(())
    }

    fn length(&self) -> u64 {
        0
    }

    fn rotate(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn publisher(&self) -> Publish {
        let disk = self.clone();
        Box::new(move |_| {
            if disk.0.lock().unwrap().fail_publish { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    }
}

fn start() -> (Disk, Log) {
    let disk = Disk::default();
    let signer =
        Signer::from_pkcs8(Name::parse("cordon.test/vault").unwrap(), &Signer::generate().unwrap()).unwrap();
    let walk = Walk::default();
    let checkpoint = Checkpoint::sign(&signer, &walk.tree);
    (disk.clone(), Log::start(disk, signer, walk, checkpoint, u64::MAX).unwrap())
}

fn event() -> Event {
    Event::new(Action::Tokenize, Outcome::Allowed)
}

/// Blocks the next sync. The receiver tells that it has begun, the sender lets it go on.
fn close_gate(disk: &Disk) -> (Receiver<()>, Sender<()>) {
    let (entered, has_entered) = mpsc::channel();
    let (open, opened) = mpsc::channel();
    disk.0.lock().unwrap().gate = Some((entered, opened));
    (has_entered, open)
}

#[test]
fn no_receipt_comes_before_its_sync() {
    let (disk, log) = start();
    let (has_entered, open) = close_gate(&disk);
    let (answer, answered) = mpsc::channel();
    let appending = log.clone();
    let thread = std::thread::spawn(move || answer.send(appending.append_blocking(event())).unwrap());
    has_entered.recv().unwrap();
    // The line is written, its sync has begun and not returned.
    assert!(!disk.0.lock().unwrap().written.is_empty());
    assert!(answered.try_recv().is_err());
    assert_eq!(log.size(), 0);
    open.send(()).unwrap();
    assert_eq!(answered.recv().unwrap().unwrap().index(), 0);
    assert_eq!(log.size(), 1);
    thread.join().unwrap();
}

#[test]
fn concurrent_appends_share_syncs_and_each_receipt_follows_its_own() {
    let (disk, log) = start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut indexes: Vec<u64> = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let (log, disk) = (log.clone(), disk.clone());
            tasks.spawn(async move {
                let mut indexes = Vec::new();
                for _ in 0..50 {
                    let index = log.append(event()).await.unwrap().index();
                    assert!(index < disk.0.lock().unwrap().durable_lines);
                    indexes.push(index);
                }
                assert!(indexes.is_sorted());
                indexes
            });
        }
        tasks.join_all().await.concat()
    });
    indexes.sort_unstable();
    assert_eq!(indexes, (0..3200).collect::<Vec<_>>());
    let statistics = log.statistics();
    assert_eq!((statistics.size, statistics.queued_bytes), (3200, 0));
    assert!(statistics.syncs < 3200 / 4, "{statistics:?}");
    log.close().unwrap();
}

#[test]
fn lines_that_wait_for_a_slow_sync_go_out_in_one_group() {
    let (disk, log) = start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _within = runtime.enter();
    let (has_entered, open) = close_gate(&disk);
    let mut waiting: Vec<_> = (0..1000).map(|_| Box::pin(log.append(event()))).collect();
    let mut context = Context::from_waker(Waker::noop());
    assert!(waiting[0].as_mut().poll(&mut context).is_pending());
    has_entered.recv().unwrap();
    for future in &mut waiting[1..] {
        assert!(future.as_mut().poll(&mut context).is_pending());
    }
    open.send(()).unwrap();
    for future in waiting {
        runtime.block_on(future).unwrap();
    }
    assert_eq!(log.statistics().syncs, 2);
}

fn refused_now_and_later(break_disk: fn(&mut State), mend_disk: fn(&mut State)) {
    let (disk, log) = start();
    log.append_blocking(event()).unwrap();
    break_disk(&mut disk.0.lock().unwrap());
    assert!(matches!(log.append_blocking(event()), Err(AuditError::Poisoned)));
    mend_disk(&mut disk.0.lock().unwrap());
    assert!(matches!(log.append_blocking(event()), Err(AuditError::Poisoned)));
    assert!(log.statistics().poisoned);
    assert_eq!(log.size(), 1);
    assert!(matches!(log.clone().close(), Err(AuditError::Poisoned)));
    assert!(log.append_blocking(event()).is_err());
}

#[test]
fn a_full_disk_refuses_that_line_and_all_later_ones() {
    refused_now_and_later(|disk| disk.fail_write = true, |disk| disk.fail_write = false);
}

#[test]
fn a_failed_sync_refuses_that_line_and_all_later_ones() {
    refused_now_and_later(|disk| disk.fail_sync = true, |disk| disk.fail_sync = false);
}

#[test]
fn a_checkpoint_that_cannot_be_written_ends_the_log() {
    let (disk, log) = start();
    disk.0.lock().unwrap().fail_publish = true;
    log.append_blocking(event()).unwrap();
    assert!(matches!(log.close(), Err(AuditError::Poisoned)));
}

#[test]
fn a_checkpoint_that_cannot_be_written_refuses_later_lines() {
    let (disk, log) = start();
    disk.0.lock().unwrap().fail_publish = true;
    let deadline = Instant::now() + CHECKPOINT_EVERY * 30;
    while log.append_blocking(event()).is_ok() {
        assert!(Instant::now() < deadline, "lines are still taken");
        std::thread::yield_now();
    }
    assert!(log.statistics().poisoned);
}

#[test]
fn all_who_wait_when_the_disk_fails_are_refused() {
    let (disk, log) = start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _within = runtime.enter();
    let (has_entered, open) = close_gate(&disk);
    let mut waiting: Vec<_> = (0..100).map(|_| Box::pin(log.append(event()))).collect();
    let mut context = Context::from_waker(Waker::noop());
    assert!(waiting[0].as_mut().poll(&mut context).is_pending());
    has_entered.recv().unwrap();
    for future in &mut waiting[1..] {
        assert!(future.as_mut().poll(&mut context).is_pending());
    }
    disk.0.lock().unwrap().fail_sync = true;
    open.send(()).unwrap();
    for future in waiting {
        assert!(matches!(runtime.block_on(future), Err(AuditError::Poisoned)));
    }
}

#[test]
fn a_stuck_sync_refuses_in_time_and_its_line_stays() {
    let (disk, log) = start();
    let (has_entered, open) = close_gate(&disk);
    let began = Instant::now();
    let blocking = log.clone();
    let thread = std::thread::spawn(move || blocking.append_blocking(event()).map(|receipt| receipt.index()));
    has_entered.recv().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    assert!(matches!(runtime.block_on(log.append(event())), Err(AuditError::Stalled)));
    assert!(matches!(thread.join().unwrap(), Err(AuditError::Stalled)));
    assert!(began.elapsed() < crate::gate::PATIENCE * 6, "nobody waits without end");
    assert_eq!(log.size(), 0);
    // The disk comes back: the lines of the refused calls are there, and new ones are taken.
    open.send(()).unwrap();
    assert_eq!(log.append_blocking(event()).unwrap().index(), 2);
    assert_eq!(disk.0.lock().unwrap().durable_lines, 3);
}

#[test]
fn a_queue_that_is_full_refuses_and_recovers() {
    let (disk, log) = start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _within = runtime.enter();
    let (has_entered, open) = close_gate(&disk);
    let mut context = Context::from_waker(Waker::noop());
    let mut waiting: Vec<Pin<Box<dyn Future<Output = _>>>> = vec![Box::pin(log.append(event()))];
    assert!(waiting[0].as_mut().poll(&mut context).is_pending());
    has_entered.recv().unwrap();
    let refused = loop {
        let mut next = Box::pin(log.append(event()));
        match next.as_mut().poll(&mut context) {
            Poll::Pending => waiting.push(next),
            Poll::Ready(answer) => break answer,
        }
    };
    assert!(matches!(refused, Err(AuditError::Full)));
    assert_eq!(waiting.len(), 65_537);
    open.send(()).unwrap();
    log.append_blocking_when_free();
    assert_eq!(log.statistics().queued_bytes, 0);
}

impl Log {
    /// Appends once the queue has room again.
    fn append_blocking_when_free(&self) {
        while matches!(self.append_blocking(event()), Err(AuditError::Full)) {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_closed_log_refuses_other_handles() {
    let (_disk, log) = start();
    let other = log.clone();
    log.close().unwrap();
    assert!(matches!(other.append_blocking(event()), Err(AuditError::Closed)));
    assert!(matches!(other.close(), Err(AuditError::Closed)));
}

#[test]
fn an_event_longer_than_a_line_is_refused_before_it_is_queued() {
    let (_disk, log) = start();
    let cards = (0..10_000_u128).map(|number| cordon_card::CardId::from_bytes(number.to_be_bytes()));
    assert!(matches!(log.append_blocking(event().cards(cards)), Err(AuditError::TooLong)));
    log.append_blocking(event()).unwrap();
}
