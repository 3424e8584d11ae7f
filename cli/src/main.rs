//! The `cordon` command. Must never hold logic: everything is in the library.
//! Tests: `cli/tests`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cordon_cli::run(std::env::args_os().collect())
}
