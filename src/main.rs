//! The program `parlor`: parse arguments, run one command, exit code.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
