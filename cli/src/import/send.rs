//! Sends batches, several at once, and hands the answers on in the order of the file.
//!
//! Must never hold more batches than are in flight, nor give up at the first broken connection: asking again for the
//! same card gives the same token. Tests: `tests/tests/import.rs`.

use super::output::Outputs;
use crate::exit::Failure;
use cordon_bulk::{Batch, Rows, RowsError};
use cordon_card::CollectionName;
use cordon_client::{ClientError, Tokenizer};
use cordon_wire::{Items, ProblemCode, Tokenized};
use indicatif::ProgressBar;
use std::collections::VecDeque;
use std::io::Read;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub(super) struct Job {
    pub(super) clients: Vec<Tokenizer>,
    pub(super) collection: CollectionName,
    pub(super) parallel: usize,
}

type Flight = JoinHandle<Result<(Batch, Items<Tokenized>), Failure>>;

/// Sends all rows. On a failure, what was answered before it has been written.
pub(super) async fn all<R: Read + Send + 'static>(
    job: Job,
    rows: Rows<R>,
    outputs: &mut Outputs,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let (sender, mut batches) = mpsc::channel(job.parallel);
    let reader = std::thread::Builder::new().name("rows".to_owned()).spawn(move || read(rows, &sender));
    let reader = reader.map_err(|error| Failure::refused("runtime", format!("no thread: {error}")))?;
    let mut flights: VecDeque<Flight> = VecDeque::with_capacity(job.parallel);
    let mut clients = job.clients.iter().cycle();
    let (started, before) = (Instant::now(), outputs.counts().rows);
    let mut stopped = None;
    let mut more = true;
    loop {
        if more && flights.len() < job.parallel {
            match batches.recv().await {
                Some(Ok(batch)) => {
                    let client =
                        clients.next().cloned().ok_or_else(|| Failure::refused("runtime", "no client"))?;
                    flights.push_back(tokio::spawn(send(client, job.collection.clone(), batch)));
                }
                Some(Err(error)) => {
                    stopped = Some(Failure::refused("file", error.to_string()));
                    more = false;
                }
                None => more = false,
            }
            continue;
        }
        let Some(flight) = flights.pop_front() else { break };
        let landed = flight.await.map_err(|_panic| Failure::refused("runtime", "a call was cut off"))?;
        let (batch, answer) = landed?;
        outputs.write(&batch, answer)?;
        show(bar, started, before, outputs);
    }
    // The thread has dropped its sender, so it has ended or panicked.
    drop(batches);
    if reader.join().is_err() {
        return Err(Failure::refused("runtime", "reading the rows was cut off"));
    }
    stopped.map_or(Ok(()), Err)
}

fn read<R: Read>(mut rows: Rows<R>, batches: &mpsc::Sender<Result<Batch, RowsError>>) {
    while let Some(batch) = rows.next_batch().transpose() {
        let failed = batch.is_err();
        if batches.blocking_send(batch).is_err() || failed {
            return;
        }
    }
}

async fn send(
    client: Tokenizer,
    collection: CollectionName,
    batch: Batch,
) -> Result<(Batch, Items<Tokenized>), Failure> {
    if batch.request.items.is_empty() {
        return Ok((batch, Items { items: Vec::new() }));
    }
    let mut wait = FIRST_WAIT;
    loop {
        match client.tokenize(&collection, &batch.request).await {
            Ok(answer) if answer.items.len() == batch.request.items.len() => return Ok((batch, answer)),
            Ok(_) => return Err(ClientError::Malformed.into()),
            Err(error) if wait <= LAST_WAIT && passes(&error) => {
                tokio::time::sleep(wait).await;
                wait = wait.saturating_mul(2);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether an error may be gone the next time.
fn passes(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable(_) | ClientError::TimedOut => true,
        ClientError::Problem(problem) => {
            matches!(problem.code, ProblemCode::Busy | ProblemCode::LimitReached)
        }
        _ => false,
    }
}

fn show(bar: &ProgressBar, started: Instant, before: u64, outputs: &Outputs) {
    let rows = outputs.counts().rows;
    let rate = rows.saturating_sub(before) / started.elapsed().as_secs().max(1);
    bar.set_position(outputs.position().offset);
    bar.set_message(format!("{rows} rows, {rate}/s"));
}

const FIRST_WAIT: Duration = Duration::from_millis(200);
/// The waits add up to twelve seconds.
const LAST_WAIT: Duration = Duration::from_millis(6_400);
