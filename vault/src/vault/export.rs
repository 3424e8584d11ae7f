//! Exporting a collection's cards: with two custodians' approval, encrypted to one recipient, page by page into the audit
//! log before a card of the page is opened.
//!
//! Must never open a card that no durable line names, nor send one that is not encrypted: who asks never sees a card.
//! Tests: `tests/tests/export.rs`.

use super::approve::Approved;
use super::stream::{CHUNK, CHUNKS, Chunks};
use super::{Caller, Vault, statements};
use crate::collections::Collection;
use crate::error::VaultError;
use crate::keyring::Unlocked;
use crate::record::{self, OpenProof};
use crate::store::{Row, Snapshot, Store, StoreError};
use bytes::Bytes;
use cordon_archive::{Recipients, SealError, Sealing};
use cordon_audit::{Action, AuditError, Event, Log, Name, Outcome};
use cordon_card::Environment;
use cordon_daemon::body::{Body, BoxError, streamed};
use cordon_policy::{Export, Permit};
use cordon_wire::{ExportRequest, Operation, ProblemCode};
use serde::Serialize;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use tokio::sync::mpsc::{Sender, channel};
use zeroize::Zeroizing;

impl<S: Store> Vault<S> {
    /// Streams all cards of a collection as of this moment, as JSON lines encrypted to the recipient.
    ///
    /// # Errors
    /// [`ProblemCode::ApprovalRequired`] without the approval of exactly this collection and recipient;
    /// [`ProblemCode::UnknownCollection`]; [`ProblemCode::BadField`] for a recipient that is no age public key.
    pub async fn export(
        &self,
        caller: &Caller,
        permit: Permit<Export>,
        request: ExportRequest,
    ) -> Result<Body, VaultError> {
        let _one_change = self.changing.lock().await;
        let _served = self.keys()?;
        let collection = self.collection(permit.collection())?;
        let recipients = Recipients::parse(&[request.recipient.as_str()])
            .map_err(|error| VaultError::Explained(ProblemCode::BadField, error.to_string()))?;
        let operation =
            Operation::Export { collection: collection.name.clone(), recipient: request.recipient };
        let approved = self.approve_use(caller, &operation).await?;
        let keys = self.keys()?;
        let snapshot = self.store.snapshot()?;
        let event = |outcome: Outcome| {
            caller
                .event(Action::Export, outcome)
                .collection(&collection.name)
                .statements(statements(permit.statements()))
        };
        let recipient = recipient_of(approved);
        self.note(event(Outcome::Allowed).on(&recipient).reason("begun")).await?;
        let (sender, body) = channel(CHUNKS);
        let work = Work {
            snapshot,
            recipients,
            keys,
            audit: self.audit.clone(),
            environment: self.environment,
            collection,
            now: self.now(),
            caller: caller.clone(),
            recipient,
            permit,
        };
        let thread = std::thread::Builder::new().name("export".to_owned());
        thread.spawn(move || work.run(sender)).map_err(|_error| VaultError::Refused(ProblemCode::Busy))?;
        Ok(streamed(body))
    }
}

/// The approved recipient, as the audit log names it.
fn recipient_of(approved: Approved) -> Name {
    match approved.into_operation() {
        Operation::Export { recipient, .. } => Name::parse_or_withhold(&recipient),
        _other => Name::parse_or_withhold("not-an-export"),
    }
}

/// What the thread of an export needs.
struct Work {
    snapshot: Snapshot,
    recipients: Recipients,
    keys: Arc<Unlocked>,
    audit: Log,
    environment: Environment,
    collection: Collection,
    now: u64,
    caller: Caller,
    recipient: Name,
    permit: Permit<Export>,
}

/// One exported card.
#[derive(Serialize)]
struct Card<'a> {
    token: &'a str,
    pan: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiry: Option<cordon_card::Expiry>,
}

impl Work {
    fn run(mut self, sender: Sender<Result<Bytes, BoxError>>) {
        let output = BufWriter::with_capacity(CHUNK, Chunks(sender.clone()));
        let ended = self.write(output);
        let outcome = if ended.is_ok() { Outcome::Allowed } else { Outcome::Failed };
        let count = ended.as_ref().map_or(0, |(_, count)| *count);
        let reason = if ended.is_ok() { "complete" } else { "cut-short" };
        let line = self.event(outcome).on(&self.recipient).count(count).reason(reason);
        let recorded = self.audit.append_blocking(line);
        // The last chunk goes out only when the log says that the export is whole.
        match (ended, recorded) {
            (Ok((mut rest, _)), Ok(_line)) => {
                if rest.flush().is_err() {
                    drop(rest.into_parts());
                }
            }
            (Ok((rest, _)), Err(error)) => {
                drop(rest.into_parts());
                cut(&sender, &error);
            }
            (Err(error), _) => cut(&sender, &error),
        }
    }

    fn write<W: Write>(&mut self, output: BufWriter<W>) -> Result<(BufWriter<W>, u64), CutShort> {
        let mut sealing = self.recipients.seal(output)?;
        let mut count = 0_u64;
        let (number, now) = (self.collection.number(), self.now);
        loop {
            let mut page = Vec::with_capacity(PAGE);
            while page.len() < PAGE
                && let Some(row) = self.snapshot.next_row(number)?
            {
                if row.used {
                    continue;
                }
                if !self.collection.is_over(&row, now) {
                    page.push(row);
                } else if record::confirm(&self.keys, &row.binding(self.environment), &row.sealed).is_err() {
                    // It only looks over: an export without it would not be whole.
                    return Err(CutShort::Broken);
                }
            }
            if page.is_empty() {
                return Ok((sealing.finish()?, count));
            }
            count = count.saturating_add(u64::try_from(page.len()).unwrap_or(u64::MAX));
            self.page(&mut sealing, &page)?;
        }
    }

    /// Records a page, and then opens it.
    fn page<W: Write>(&self, sealing: &mut Sealing<W>, page: &[Row]) -> Result<(), CutShort> {
        let line = self
            .caller
            .sign(Event::export(Outcome::Allowed, &self.collection.name))
            .statements(statements(self.permit.statements()))
            .tokens(page.iter().map(|row| row.token.clone()))
            .cards(page.iter().map(|row| row.card_id))
            .count(u64::try_from(page.len()).unwrap_or(u64::MAX));
        let receipt = self.audit.append_blocking(line)?;
        let proof = OpenProof::for_export(&self.permit, &receipt, &self.collection)
            .map_err(|_other| CutShort::Broken)?;
        for row in page {
            let card = record::open(&self.keys, &row.binding(self.environment), &row.sealed, &proof)
                .map_err(|_refused| CutShort::Broken)?;
            let mut text = Zeroizing::new(Vec::with_capacity(LINE));
            let line = Card { token: row.token.as_str(), pan: card.pan.expose(), expiry: card.expiry };
            serde_json::to_writer(&mut *text, &line).map_err(io::Error::from)?;
            text.push(b'\n');
            sealing.write_all(&text)?;
        }
        Ok(())
    }

    fn event(&self, outcome: Outcome) -> Event {
        self.caller
            .event(Action::Export, outcome)
            .collection(&self.collection.name)
            .statements(statements(self.permit.statements()))
    }
}

fn cut(sender: &Sender<Result<Bytes, BoxError>>, error: &dyn std::fmt::Display) {
    tracing::error!(%error, "an export was cut short");
    drop(sender.blocking_send(Err("the export was cut short".into())));
}

#[derive(Debug, thiserror::Error)]
enum CutShort {
    #[error("encrypting: {0}")]
    Seal(#[from] SealError),
    #[error("reading the store: {0}")]
    Store(#[from] StoreError),
    #[error("a record does not open")]
    Broken,
    #[error("recording: {0}")]
    Audit(#[from] AuditError),
    #[error("sending: {0}")]
    Send(#[from] io::Error),
}

/// Cards that one audit line names.
const PAGE: usize = 500;
/// Room for one line: it never grows, so no copy of a card is left behind.
const LINE: usize = 512;
