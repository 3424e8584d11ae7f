//! Load driver: starts the real vault and gateway with mutual TLS and measures them next to a bare echo server.
//!
//! Must never judge: it prints what it measured, as ratios in one run. How to read it: docs/performance.md.
//!
//! Used by: nobody. Uses: `tests` (the harness), `card`, `wire`, `client`.

mod bulk;
mod echo;
mod gateway;
mod idle;
mod load;
mod scenario;
mod usage;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures tokenize, detokenize, batches and the gateway next to a bare hyper + rustls echo server.
#[derive(Parser)]
#[command(
    name = "cordon-load",
    after_help = "Example:\n  cargo build --release --workspace --bins && target/release/cordon-load --seconds 5"
)]
struct Arguments {
    /// Seconds for each scenario, after one of warm-up
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Connections, each with one request in flight
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Worker threads of each server and of the client
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Measure only the scenarios whose name contains this
    #[arg(long)]
    only: Option<String>,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// The reference server or proxy, as a process of its own
    #[command(hide = true)]
    Echo(echo::Arguments),
    /// Write card numbers that no issuer has to stdout, as CSV for `cordon import`
    Cards(bulk::Cards),
    /// Open connections that wait, and print what they cost the gateway
    Idle(idle::Idle),
    /// Import, back up and restore with the real commands, and print how long it takes
    Import(bulk::Import),
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.role {
        Some(Role::Echo(echo)) => echo::run(&echo),
        Some(Role::Cards(cards)) => cards.run(),
        Some(Role::Import(import)) => import.run(),
        Some(Role::Idle(idle)) => idle.run(),
        None => {
            let plan = scenario::Plan {
                time: Duration::from_secs(arguments.seconds),
                connections: arguments.connections,
                workers: arguments.workers,
                only: arguments.only,
            };
            scenario::run(&plan, arguments.json)
        }
    }
}
