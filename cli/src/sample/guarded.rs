//! Runs a program that the kernel stops when `cordon dev` ends, however it ends: no vault is left behind.
//!
//! Must never fork: the program takes this process over, with its id. Tests: `cli/tests/guarded.rs`.

use crate::exit::{Failure, Verdict};
use clap::Args;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// `cordon sample guarded`.
#[derive(Debug, Args)]
pub(crate) struct Guarded {
    /// Process that must be alive and our parent
    #[arg(long)]
    parent: i32,
    /// Program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

impl Guarded {
    /// The command line, after the name of this binary, that guards `program` for the calling process.
    pub(crate) fn arguments(program: OsString, arguments: Vec<OsString>) -> Vec<OsString> {
        let parent = std::process::id().to_string();
        let mut line: Vec<OsString> =
            ["sample", "guarded", "--parent", &parent, "--"].into_iter().map(OsString::from).collect();
        line.push(program);
        line.extend(arguments);
        line
    }

    /// Becomes the program.
    pub(crate) fn run(self) -> Result<Verdict, Failure> {
        set_parent_process_death_signal(Some(Signal::TERM)).map_err(|error| {
            Failure::refused("guard", format!("the kernel refused to watch the parent: {error}"))
        })?;
        // The parent may have ended before the line above: then no signal will ever come.
        if getppid().map(Pid::as_raw_nonzero).map(i32::from) != Some(self.parent) {
            return Err(Failure::refused("guard", "the process that started this one is gone"));
        }
        let mut words = self.command.into_iter();
        let program = words.next().ok_or_else(|| Failure::usage("no program was given"))?;
        let error = Command::new(&program).args(words).exec();
        Err(Failure::refused("guard", format!("{}: {error}", program.display())))
    }
}
