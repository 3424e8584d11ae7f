//! The vault daemon: arguments in, exit code out. Everything else is in the library.

use clap::Parser;
use mimalloc::MiMalloc;
use std::path::PathBuf;
use std::process::ExitCode;
use zeroizing_alloc::ZeroAlloc;

/// Hardened allocator: guard pages, encoded free lists, and every block is wiped when it is freed, those of the HTTP and
/// TLS libraries included (docs/hardening.md).
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

/// The vault: keeps card numbers encrypted and answers the gateway and operators over mutual TLS.
#[derive(Parser)]
#[command(
    name = "cordon-vault",
    version,
    after_help = "Examples:\n  cordon-vault --config /etc/cordon/vault.toml\n  cordon-vault --config vault.toml --check\n\n\
                  Exit codes: 0 ended on request, 1 failed, 78 the configuration is faulty."
)]
struct Arguments {
    /// Configuration file; docs/configuration.md lists its keys
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the configuration, certificates and policy bundle, then exit
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    cordon_vault::run::main(&arguments.config, arguments.check)
}
