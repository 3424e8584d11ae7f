//! The command line: what can be typed, and which part of the CLI does it.
//!
//! Must never take a secret as an argument. Tests: below, and `cli/tests/transcripts.rs`.

use crate::configuration::Settings;
use crate::exit::{Failure, Verdict};
use crate::output::Console;
use crate::{
    approvals, audit, backup, cert, collection, custody, dev, doctor, export, gateway, import, keys, policy,
    render, restore, retention, sample, scope, status, store, token,
};
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use serde::Serialize;
use std::path::PathBuf;

/// Cordon keeps card numbers out of your services: administration, and the whole of it on one machine.
#[derive(Debug, Parser)]
#[command(name = "cordon", version, max_term_width = 100, arg_required_else_help = true)]
#[command(subcommand_required = true, after_help = TOP_HELP)]
pub(crate) struct Arguments {
    /// Answer in JSON on stdout (one document, or one per line for a stream)
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Configuration file [default: $CORDON_CONFIG, then ./cordon.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole of Cordon on this machine with a sample shop and processor
    Dev(dev::Dev),
    /// Initialise a new vault: make its keys and its custodians' shares
    Init(custody::Init),
    /// Unseal the vault with a custodian's share
    Unseal(custody::Unseal),
    /// Seal the vault: its keys leave memory and it serves nobody
    Seal(custody::Seal),
    /// List custodians, and acknowledge a custodian's duties
    #[command(visible_alias = "custodian")]
    Custodians(custody::register::Custodians),
    /// Make new shares for new custodians, by a quorum of the present ones
    Rekey(custody::rekey::Rekey),
    /// List what waits for two custodians, approve it or reject it
    Approvals(approvals::Approvals),
    /// Show how the vault stands
    Status(status::Show),
    /// Check vault, gateway, certificates and host, and say what to do
    Doctor(doctor::Doctor),
    /// Make and list collections of cards
    #[command(subcommand)]
    Collection(collection::Collections),
    /// List and rotate keys
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Say how long cards are kept, and verify it
    #[command(subcommand)]
    Retention(retention::Retentions),
    /// Verify that the store has the records that were committed to it
    #[command(subcommand)]
    Store(store::Stores),
    /// Inspect and delete tokens
    #[command(subcommand)]
    Token(token::Tokens),
    /// Turn the cards of a file into tokens
    Import(import::Import),
    /// Have all cards of a collection encrypted to somebody; two custodians must approve
    Export(export::Export),
    /// Take and verify backups of the vault
    #[command(subcommand)]
    Backup(backup::Backups),
    /// Accept a restored backup that is not known to be the newest; two custodians must approve
    #[command(subcommand)]
    Restore(restore::Restores),
    /// Check a policy bundle and explain its decisions
    #[command(subcommand)]
    Policy(policy::Policies),
    /// Map segments, connections, and what each service can claim about PCI scope
    Scope(scope::ScopeMap),
    /// Write the rules of firewalls, clusters and units that the bundle asks for
    #[command(subcommand)]
    Render(render::Renders),
    /// Look after a running gateway: its routes, its bundle, its end
    #[command(subcommand)]
    Gateway(gateway::Gateways),
    /// Issue certificates of a development PKI, and make the authority of a forward proxy
    #[command(subcommand)]
    Cert(cert::Certificates),
    /// Read and verify the audit log
    #[command(subcommand)]
    Audit(audit::Audits),
    /// Print the completion script of a shell
    Completions(Completions),
    /// The sample services of `cordon dev`
    #[command(subcommand, hide = true)]
    Sample(sample::Samples),
}

/// `cordon completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cordon completions bash > ~/.local/share/bash-completion/completions/cordon
  cordon completions zsh > ~/.zfunc/_cordon
  cordon completions fish > ~/.config/fish/completions/cordon.fish")]
struct Completions {
    /// The shell
    shell: Shell,
}

#[derive(Serialize)]
struct Script {
    shell: String,
    script: String,
}

impl Arguments {
    /// Does what was asked.
    pub(crate) fn run(self, console: Console) -> Result<Verdict, Failure> {
        let settings = Settings::new(console, self.config);
        match self.command {
            Command::Dev(dev) => dev.run(&settings),
            Command::Init(init) => init.run(&settings),
            Command::Unseal(unseal) => unseal.run(&settings),
            Command::Seal(seal) => seal.run(&settings),
            Command::Custodians(custodians) => custodians.run(&settings),
            Command::Rekey(rekey) => rekey.run(&settings),
            Command::Approvals(approvals) => approvals.run(&settings),
            Command::Status(show) => show.run(&settings),
            Command::Doctor(doctor) => doctor.run(&settings),
            Command::Collection(collections) => collections.run(&settings),
            Command::Keys(keys) => keys.run(&settings),
            Command::Retention(retentions) => retentions.run(&settings),
            Command::Store(stores) => stores.run(&settings),
            Command::Gateway(gateways) => gateways.run(&settings),
            Command::Token(tokens) => tokens.run(&settings),
            Command::Import(import) => import.run(&settings),
            Command::Export(export) => export.run(&settings),
            Command::Backup(backups) => backups.run(&settings),
            Command::Restore(restores) => restores.run(&settings),
            Command::Policy(policies) => policies.run(&settings),
            Command::Render(renders) => renders.run(&settings),
            Command::Scope(map) => map.run(&settings),
            Command::Cert(certificates) => certificates.run(&settings),
            Command::Audit(audits) => audits.run(&settings),
            Command::Completions(completions) => completions.run(console),
            Command::Sample(samples) => samples.run(&settings),
        }
    }
}

impl Completions {
    fn run(&self, console: Console) -> Result<Verdict, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "cordon", &mut script);
        let answer =
            Script { shell: self.shell.to_string(), script: String::from_utf8_lossy(&script).into_owned() };
        console.answer(&answer, |answer| answer.script.clone())?;
        Ok(Verdict::Fine)
    }
}

const TOP_HELP: &str = "Examples:
  cordon dev                                  the whole of Cordon, with a sample shop to try it on
  cordon init --threshold 2 --custodian ...   make a vault's keys; hands each custodian a share
  cordon unseal                               give one custodian's share
  cordon status --json                        how the vault stands, for a program
  cordon policy check policies/               every fault of a bundle, with its position

Exit codes:
  0   done, allowed, valid
  1   refused or failed
  2   the command line is not understood
  75  two custodians must approve it first; run it again then
  78  the configuration file or a file it names can't be used

Shares and card numbers are never taken from the command line or the environment.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_visible_command_shows_an_example() {
        fn walk(command: &mut clap::Command, without: &mut Vec<String>) {
            if command.is_hide_set() {
                return;
            }
            if !command.has_subcommands() && !command.render_long_help().to_string().contains("Examples:") {
                without.push(command.get_name().to_owned());
            }
            for sub in command.get_subcommands_mut() {
                walk(sub, without);
            }
        }
        let mut without = Vec::new();
        walk(&mut Arguments::command(), &mut without);
        assert_eq!(without, Vec::<String>::new());
    }

    /// Longer lines are broken by the terminal's width, in the middle of what was laid out.
    #[test]
    fn what_stands_below_a_help_fits_in_100_columns() {
        fn walk(command: &clap::Command, wide: &mut Vec<String>) {
            for text in [command.get_after_help(), command.get_after_long_help()].into_iter().flatten() {
                let too_wide = |line: &&str| line.chars().count() > 100;
                wide.extend(text.to_string().lines().filter(too_wide).map(str::to_owned));
            }
            command.get_subcommands().for_each(|sub| walk(sub, wide));
        }
        let mut wide = Vec::new();
        walk(&Arguments::command(), &mut wide);
        assert_eq!(wide, Vec::<String>::new());
    }

    #[test]
    fn no_command_takes_a_share_as_an_argument() {
        for line in [&["cordon", "unseal", "cordon-share-v1-abc"][..], &["cordon", "unseal", "--share", "x"]]
        {
            assert!(Arguments::try_parse_from(line).is_err());
        }
    }

    #[test]
    fn json_and_config_are_accepted_anywhere() {
        let parsed = Arguments::try_parse_from(["cordon", "status", "--json", "--config", "x.toml"]).unwrap();
        assert!(parsed.json);
        assert_eq!(parsed.config, Some(PathBuf::from("x.toml")));
    }
}
