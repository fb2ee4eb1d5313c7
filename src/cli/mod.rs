//! The command line: one file a subcommand.

mod bench;
mod files;
mod log;
#[cfg(feature = "mkcert")]
mod mkcert;
mod next_steps;
mod serve;
mod systemd;
#[cfg(feature = "tls")]
mod tls;
mod variables;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Chat rooms over TCP that any netcat can use.
///
/// Without a command, parlor serves: no configuration is needed.
#[derive(Debug, Parser)]
#[command(name = "parlor", version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve chat rooms (this is what parlor does without a command).
    #[command(after_help = EXAMPLES)]
    Serve(Box<serve::Serve>),
    /// Measure a server, and check every delivery.
    #[command(after_help = bench::EXAMPLES)]
    Bench(bench::Bench),
    /// Make a self-signed certificate and its key, for TLS in a lab.
    ///
    /// They are good for localhost, the names and addresses that this machine has now, and every
    /// HOST. Clients must trust the certificate, or not check it. On a public address use one of a
    /// certificate authority.
    #[cfg(feature = "mkcert")]
    Mkcert(mkcert::Mkcert),
}

const EXAMPLES: &str = "\
Examples:
  parlor                              people on this machine: nc 127.0.0.1 7777
  parlor --public                     people on the network as well
  parlor --listen 127.0.0.1:0 --ports-file ports.json
                                      any free port, written to a file
  parlor --public --lobby CLASS --history 500
                                      a class that meets in one room
  parlor --public --tls-cert cert.pem --tls-key key.pem
                                      TLS on both ports: ncat --ssl HOST 7777
  parlor --store sqlite:rooms.db      rooms and messages survive a restart
  RUST_LOG=debug parlor --log-format json
                                      more logs, for programs

Every option can be set by a variable of the same name: --max-rooms 9 is PARLOR_MAX_ROOMS=9.
An empty variable counts as not set.

Exit codes: 0 stopped as asked, 1 failed, 2 wrong usage, 3 a port is in use.";

/// The exit code for a port that somebody else listens on.
const PORT_IN_USE: u8 = 3;

pub(crate) fn run() -> ExitCode {
    let cli: Cli = variables::parse();
    match cli.command {
        None => cli.serve.run(),
        Some(Command::Serve(serve)) => serve.run(),
        Some(Command::Bench(bench)) => bench.run(),
        #[cfg(feature = "mkcert")]
        Some(Command::Mkcert(mkcert)) => mkcert.run(),
    }
}
