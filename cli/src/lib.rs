//! Administration of Cordon, and the whole of it on one machine for development.
//!
//! Must never link key, seal, record or store code (that is the vault's), take a share or a card number from
//! the command line or the environment, or print one that nobody asked for. Tests: beside each module, and
//! `cli/tests` on the built binary.
//!
//! Used by: the `cordon` binary alone. Uses: `card`, `wire`, `client`, `policy`, `audit`, `daemon`.

mod approvals;
mod arguments;
mod audit;
mod backup;
mod cert;
mod collection;
mod configuration;
mod custody;
mod dev;
mod doctor;
mod download;
mod exit;
mod export;
mod gateway;
mod import;
mod keys;
mod layout;
mod output;
mod pki;
mod policy;
mod render;
mod restore;
mod retention;
mod sample;
mod scope;
mod status;
mod store;
mod token;

use arguments::Arguments;
use clap::Parser;
use output::Console;
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the command line `arguments` (with the program's name first) and gives its exit code:
/// 0 done, 1 refused or failed, 2 not understood, 75 waiting for custodians, 78 unusable configuration.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    // A command line that is not understood has no parsed flag yet, but its reader may still be a program.
    let json_wanted = arguments.iter().any(|argument| argument == "--json");
    let parsed = match Arguments::try_parse_from(arguments) {
        Ok(parsed) => parsed,
        Err(error) => return not_understood(&error, json_wanted),
    };
    let console = Console::new(parsed.json);
    match parsed.run(console) {
        Ok(exit::Verdict::Fine) => ExitCode::SUCCESS,
        Ok(exit::Verdict::Refused) => ExitCode::from(exit::Exit::Refused.number()),
        Ok(exit::Verdict::Waiting) => ExitCode::from(exit::Exit::Waiting.number()),
        Err(failure) if failure.reader_left() => ExitCode::SUCCESS,
        Err(failure) => {
            console.failure(&failure);
            ExitCode::from(failure.exit().number())
        }
    }
}

/// Help and version are answers; everything else is a usage failure.
fn not_understood(error: &clap::Error, json: bool) -> ExitCode {
    if !error.use_stderr() {
        return if error.print().is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(exit::Exit::Refused.number())
        };
    }
    // Only the first paragraph: what follows is clap's usage text, for humans.
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or("the command line is not understood");
    let message = first.trim_start_matches("error: ").trim();
    if holds_card_like_digits(&text) {
        let failure = exit::Failure::usage("an argument looks like a card number; it is not repeated here");
        Console::new(json).failure(&failure.next("remove it from your shell's history; see --help"));
    } else if json {
        Console::new(true).failure(&exit::Failure::usage(message).next("see --help"));
    } else {
        error.print().unwrap_or(());
    }
    ExitCode::from(exit::Exit::Usage.number())
}

/// Twelve or more digits with nothing but separators between them: clap would repeat them in its message.
fn holds_card_like_digits(text: &str) -> bool {
    let mut run = 0_u32;
    for letter in text.chars() {
        match letter {
            digit if digit.is_numeric() => run = run.saturating_add(1),
            ' ' | '-' | '.' | '_' | '\u{a0}' => {}
            _ => run = 0,
        }
        if run >= 12 {
            return true;
        }
    }
    false
}
