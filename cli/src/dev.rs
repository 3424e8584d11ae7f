//! `cordon dev`: the whole of Cordon on this machine, with a sample shop and a sample processor, nothing to configure.
//!
//! Must never leave a process or (without `--keep`) a file behind, listen beyond loopback, or put a card number in
//! an argument or the environment of a process. Tests: beside each module; the stack in the workspace's `tests` crate.

mod bodies;
mod bundle;
mod process;
mod report;
mod round;
mod site;
mod stack;
mod traces;

use crate::configuration::{Settings, block_on};
use crate::exit::{Failure, Verdict};
use crate::output::Console;
use clap::Args;
use round::Round;
use stack::Stack;
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// `cordon dev`.
#[derive(Debug, Args)]
#[command(
    after_help = "Starts cordon-vault, cordon-gateway, a sample sign-up service and a sample processor on loopback,
with throw-away keys. Signs up and charges with a published test card, shows what each of them
saw, and stays up with commands to try. Ctrl-C ends everything and removes it.

With --json each line of stdout is an event: `ready` (addresses, paths, process ids), one `hop` for
whoever saw something, `round` (the checks), and `stopped`.

Examples:
  cordon dev
  cordon dev --once                       exits 1 if anyone saw what it must not
  cordon dev --keep state                 keeps keys, store, audit logs and logs in ./state
  cordon dev --json | jq .                one event per line, for a program"
)]
pub(crate) struct Dev {
    /// Do the round, then end
    #[arg(long)]
    once: bool,
    /// Work in DIR, which must not exist yet, and keep it
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

impl Dev {
    /// Runs the stack until the round is done (`--once`) or a signal comes.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let console = settings.console();
        let programs = stack::Programs::find()?;
        let mut stack = Stack::new(programs, self.keep.as_deref())?;
        let result = block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut hang_up = signal(SignalKind::hangup())?;
            let mut round = None;
            let result = tokio::select! {
                result = self.live(&mut stack, &mut round, console) => result,
                _ = terminate.recv() => Ok(()),
                _ = interrupt.recv() => Ok(()),
                _ = hang_up.recv() => Ok(()),
            };
            stack.stop().await;
            result.and_then(|()| verdict(round.as_ref()))
        });
        let removed = stack.clear();
        if console.json() {
            console.line_of_json(&serde_json::json!({"event": "stopped"}))?;
        }
        let verdict = result?;
        removed?;
        Ok(verdict)
    }

    async fn live(
        &self,
        stack: &mut Stack,
        done: &mut Option<Round>,
        console: Console,
    ) -> Result<(), Failure> {
        let spinner = console.spinner("starting");
        let up = stack.start(|step| spinner.set_message(step)).await;
        spinner.finish_and_clear();
        let up = up?;
        if console.json() {
            console.line_of_json(&report::ready(&up, stack))?;
        } else {
            console.text(&report::heading(&up))?;
        }
        let round = round::run(&up).await?;
        for hop in &round.hops {
            if console.json() {
                console.line_of_json(&report::HopEvent::new(hop))?;
            }
        }
        console.answer(&report::RoundEvent::new(&round), |_| report::account(&round))?;
        let token = round.token.clone();
        *done = Some(round);
        if self.once {
            return Ok(());
        }
        if let Some(token) = token
            && !console.json()
        {
            console.text(&report::commands(&up, stack.program(), &token))?;
        }
        loop {
            tokio::time::sleep(WATCH_EVERY).await;
            stack.watch()?;
        }
    }
}

fn verdict(round: Option<&Round>) -> Result<Verdict, Failure> {
    match round {
        None => Err(Failure::refused("interrupted", "interrupted before the round was done")),
        Some(round) if round.passed() => Ok(Verdict::Fine),
        Some(_) => Ok(Verdict::Refused),
    }
}

/// How often the stack's processes are looked at.
const WATCH_EVERY: Duration = Duration::from_millis(250);
