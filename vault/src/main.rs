//! The vault daemon: arguments in, exit code out. Everything else is in the library.

use clap::{Parser, Subcommand};
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
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  cordon-vault --config /etc/cordon/vault.toml\n  cordon-vault --config vault.toml --check\n  \
                  cordon-vault restore --config vault.toml --from cards.backup --identity custodian.key\n\n\
                  Exit codes: 0 ended on request, 1 failed, 78 the configuration is faulty."
)]
struct Arguments {
    /// Configuration file; docs/configuration.md lists its keys
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// Check the configuration, certificates and policy bundle, then exit
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Put a backup into the empty data directory; docs/backup.md says what it checks
    Restore {
        /// Configuration file of the vault to be
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The backup
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// age identity file of a custodian that the backup is encrypted to
        #[arg(long, value_name = "FILE")]
        identity: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match (arguments.command, arguments.config) {
        (Some(Command::Restore { config, from, identity }), _) => {
            let request = cordon_vault::restore::Request { from: &from, identity: &identity };
            cordon_vault::run::restore(&config, &request)
        }
        (None, Some(config)) => cordon_vault::run::main(&config, arguments.check),
        (None, None) => ExitCode::from(2),
    }
}
