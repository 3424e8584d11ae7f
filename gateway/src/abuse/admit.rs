//! Lets an attempt in or not: the judgement, its line in the audit log, the wait.
//!
//! Must never let an attempt pass whose line could not be written. Tests: `tests/tests/abuse.rs`.

use super::{Attempt, Client, Verdict};
use crate::flow::cards::Cards;
use crate::gateway::Gateway;
use crate::ledger::Exchange;
use crate::plan::IngressPlan;
use crate::problem::Fault;
use http::HeaderMap;

/// Counts an attempt and judges it.
///
/// # Errors
/// [`Fault::TooManyAttempts`], [`Fault::ChallengeRequired`]; [`Fault::Audit`].
pub async fn admit(
    gateway: &Gateway,
    exchange: &Exchange,
    way: &IngressPlan,
    headers: &HeaderMap,
    cards: &Cards,
) -> Result<Attempt, Fault> {
    let client = Client { source: exchange.source, headers };
    let mut judged = gateway.abuse.judge(&way.abuse, client, cards.pans(), gateway.seconds());
    let mut result = Ok(());
    for fired in &judged.fired {
        gateway.metrics.abused(&way.route.name, fired.rule.name(), fired.did.as_str());
        if fired.first && result.is_ok() {
            result = gateway.ledger.abuses(exchange, way, fired).await;
        }
    }
    if result.is_ok() {
        result = carry_out(gateway, judged.verdict).await;
    }
    match result {
        Ok(()) => Ok(judged.attempt),
        Err(fault) => {
            judged.attempt.settle(None);
            Err(fault)
        }
    }
}

async fn carry_out(gateway: &Gateway, verdict: Verdict) -> Result<(), Fault> {
    match verdict {
        Verdict::Pass => Ok(()),
        Verdict::Delay(time, fault) => {
            let _slot = gateway.abuse.delays.try_acquire().map_err(|_all_taken| fault)?;
            tokio::time::sleep(time).await;
            Ok(())
        }
        Verdict::Refuse(fault) => Err(fault),
    }
}
