//! `cordon-gateway`: arguments, hardening, logging, configuration, then [`cordon_gateway::serve`].
//! Must never hold logic. Tests: the workspace's `tests` crate.

use clap::Parser;
use cordon_daemon::config::EX_CONFIG;
use cordon_daemon::process;
use cordon_daemon::telemetry::{self, Format};
use cordon_gateway::config::Config;
use cordon_gateway::rehearse;
use cordon_gateway::reload::with_causes;
use cordon_gateway::serve::{Prepared, StartError};
use mimalloc::MiMalloc;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use zeroizing_alloc::ZeroAlloc;

/// The Cordon gateway: card numbers become tokens on the way in, and cards again on the way to listed destinations.
#[derive(Debug, Parser)]
#[command(name = "cordon-gateway", version, after_help = EXAMPLES)]
struct Arguments {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/cordon/gateway.toml")]
    config: PathBuf,
    /// Check configuration, policy bundle, certificates and keys, then end: with 0, or with 78 if something is wrong
    #[arg(long)]
    check: bool,
    /// Serve nothing: read policy bundles with route cases from standard input and say what becomes of them, as
    /// `cordon policy test` asks
    #[arg(long, conflicts_with = "check")]
    rehearse: bool,
    /// Write log lines for people instead of JSON
    #[arg(long)]
    log_text: bool,
    /// What to log, as `level` or `module=level`, separated by commas
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
}

const EXAMPLES: &str = "Examples:
  cordon-gateway --config /etc/cordon/gateway.toml
  cordon-gateway --config gateway.toml --check
  cordon-gateway --config gateway.toml --log-text --log info,cordon_gateway=debug

Listeners are announced on standard output, one JSON object a line; logs go to standard error.";

/// Hardened, and every block is wiped when it is freed, as in the vault.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

fn main() -> ExitCode {
    let hardening = process::harden();
    let arguments = Arguments::parse();
    let format = if arguments.log_text { Format::Text } else { Format::Json };
    if let Err(error) = telemetry::init(format, &arguments.log) {
        return refuse(&[&error]);
    }
    if arguments.rehearse {
        return match rehearse::run(io::stdin().lock(), &mut io::stdout()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&[&error]),
        };
    }
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => return refuse(&[&error]),
    };
    let prepared = match Prepared::new(config) {
        Ok(prepared) => prepared,
        Err(errors) => return refuse(&errors.iter().map(|error| error as &dyn Error).collect::<Vec<_>>()),
    };
    if arguments.check {
        return ExitCode::SUCCESS;
    }
    match prepared.run(hardening, &mut io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ StartError::NotHardened(_)) => refuse(&[&error]),
        Err(error) => {
            tracing::error!(error = with_causes(&error), "cannot serve");
            ExitCode::FAILURE
        }
    }
}

/// Says everything that is wrong, and ends with the code for it.
fn refuse(errors: &[&dyn Error]) -> ExitCode {
    for error in errors {
        tracing::error!(error = with_causes(*error), "configuration");
    }
    ExitCode::from(EX_CONFIG)
}
