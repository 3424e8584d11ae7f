//! A request whose body comes in pieces: each has the life of a request up to where it would be sent, and waits for the
//! others.
//!
//! Must never send a byte before the last piece was found good. Tests: `tests/tests/streaming.rs`.

use super::{Ingress, Ready, ask};
use crate::flow;
use crate::flow::long::{Gathering, Long};
use crate::leak::finding::Finding;
use crate::ledger::{Exchange, Way};
use crate::metrics::Plane;
use crate::outcome;
use crate::plan::{IngressPlan, Plan};
use crate::problem::Fault;
use crate::stream::piece::Piece;
use cordon_card::Iin;
use cordon_daemon::Body;
use cordon_policy::Forward;
use http::{HeaderMap, Response};
use std::collections::BTreeSet;
use std::time::Duration;

/// What is known of the pieces so far.
#[derive(Default)]
struct Known {
    cards: u64,
    iins: BTreeSet<Iin>,
    suspected: bool,
}

impl Ingress {
    pub(super) async fn pass_long(
        &self,
        (exchange, plan, way): (&Exchange, &Plan, &IngressPlan),
        mut long: Box<Long<'_>>,
        added: HeaderMap,
    ) -> Result<Response<Body>, Fault> {
        let asking = self.gateway.admits(&way.target)?;
        let mut gathering = Gathering::new(self.gateway.spools.spool()?, way.route.look_inside);
        let mut known = Known::default();
        while let Some(piece) = long.next_piece().await? {
            let mut waiting = vec![piece];
            while let Some(piece) = waiting.pop() {
                let inbound = long.inbound(&piece, gathering.is_empty());
                let parsed = flow::parse_ingress(inbound, &way.fields, self.watch(way));
                if parsed.as_ref().is_err_and(|fault| *fault == Fault::TooManyCards) {
                    let (first, second) = piece.halves().ok_or(Fault::TooManyCards)?;
                    waiting.extend([second, first]);
                    continue;
                }
                let permitted = parsed?.permit::<Forward>(&plan.bundle, &ask(plan, way, exchange.source))?;
                let ready = self.rewrite(exchange, way, permitted).await?;
                self.gather(exchange, way, (&piece, ready), (&mut gathering, &mut known)).await?;
            }
        }
        let gathered = gathering.finish()?;
        let permit = gathered.permit();
        let receipt = self.gateway.ledger.forwards_long(exchange, way, permit, known.cards).await?;
        let within = way.route.timeout.saturating_add(transfer(gathered.length()));
        let outbound = gathered.release(receipt, added);
        let answer = self.send(exchange, way, (asking, outbound), within).await?;
        let iins: Vec<_> = known.iins.into_iter().collect();
        let _nobody_counts = outcome::note(&self.gateway, exchange, Way::In(way), &answer, &iins);
        self.answer(exchange, way, answer, (long.method(), known.suspected)).await
    }

    async fn gather(
        &self,
        exchange: &Exchange,
        way: &IngressPlan,
        (piece, ready): (&Piece, Ready),
        (gathering, known): (&mut Gathering, &mut Known),
    ) -> Result<(), Fault> {
        let Ready { scanned, tokens, iins, suspected } = ready;
        if !tokens.is_empty() {
            let _recorded = self.gateway.ledger.tokenizes(exchange, way, &tokens).await?;
        }
        if gathering.add(piece, scanned).await? {
            self.gateway.note(Plane::Ingress, exchange, Way::In(way), &[Finding::INSIDE]).await?;
        }
        known.cards = known.cards.saturating_add(u64::try_from(tokens.len()).unwrap_or(u64::MAX));
        known.iins.extend(iins.into_iter().take(MOST_IINS.saturating_sub(known.iins.len())));
        known.suspected |= suspected;
        Ok(())
    }
}

/// Time for so many bytes, beside the route's time for an answer: a megabyte a second.
fn transfer(length: u64) -> Duration {
    Duration::from_secs(length.checked_div(1_000_000).unwrap_or_default())
}

/// An outcome of so many cards is nobody's in particular; memory does not grow with them.
const MOST_IINS: usize = 64;
