//! `parlor bench`: many members, and every delivery checked.

mod crowd;
mod pace;
mod report;
mod room;
mod run;
mod tally;
mod target;
mod wire;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use parlor::protocol::limits::{BENCH_IN_FLIGHT, BENCH_RATE, BENCH_TIME};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::report::Report;
use self::target::{Address, OwnServer};
use super::files;

pub(super) const EXAMPLES: &str = "\
Examples:
  parlor bench --members 1000            a server of its own, 64 messages in flight
  parlor bench --rooms 100 --members 10 --rate 20 --duration 1m --ws
                                         20 messages a second in each room, over WebSockets
  parlor bench 127.0.0.1:7777 --json     a server that runs already; the result for programs

Each room has one publisher more than members. Latency counts from when a message was due. A
server elsewhere slows down who sends fast, unless it was started with --rate 0.

Exit codes: 0 every message came to everybody once, in order and unharmed, 1 not so, 2 wrong usage,
3 no server that lets the members in. After a second signal 130 or 143.";

/// The exit code where nothing could be measured.
const NO_SERVER: u8 = 3;

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// The server, HOST:PORT or ws://HOST:PORT/ws [default: one that is started for this]
    #[arg(value_name = "ADDR", value_parser = Address::parse)]
    address: Option<Address>,

    /// Rooms, each with a publisher
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    rooms: u32,

    /// Members of each room who listen
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    members: u32,

    /// Messages a second in each room, sent when they are due
    #[arg(long, value_name = "N", conflicts_with = "window")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=BENCH_RATE))]
    rate: Option<u64>,

    /// Messages of each room that are sent before everybody has the first of them [default: 64]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=BENCH_IN_FLIGHT as u64))]
    window: Option<u64>,

    /// How long to measure: seconds, or like 500ms or 2m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    duration: Duration,

    /// Over WebSockets; ADDR is the bridge's
    #[arg(long)]
    ws: bool,

    /// The server's process, to tell its CPU, where ADDR is on this machine
    #[arg(long, value_name = "PID", requires = "address")]
    pid: Option<u32>,

    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// Messages in flight in each room, where neither they nor a rate were given.
const WINDOW: usize = 64;

/// Why there is no result: an exit code, and a text for people.
type Failure = (ExitCode, String);

impl Bench {
    pub(crate) fn run(self) -> ExitCode {
        let result = self.check_files().and_then(|()| {
            // One thread: the other cores are the server's.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| failed(format!("cannot start: {error}")))?;
            runtime.block_on(tokio::task::LocalSet::new().run_until(self.until_signals()))
        });
        match result {
            Ok(report) => self.print(&report),
            Err((code, text)) => {
                eprintln!("parlor: {text}");
                code
            }
        }
    }

    fn web_socket(&self) -> bool {
        self.ws || self.address.as_ref().is_some_and(Address::is_web_socket)
    }

    /// Every connection is a file, here and in the server.
    fn check_files(&self) -> Result<(), Failure> {
        let connections = u64::from(self.rooms) * (u64::from(self.members) + 1);
        let wanted = connections + files::OTHERS;
        match files::take_all().filter(|files| *files < wanted) {
            None => Ok(()),
            Some(files) => Err((
                ExitCode::from(2),
                format!(
                    "{connections} connections are more than the {files} open files that a process \
                     may have here; take fewer --rooms or --members, or raise: ulimit -n {wanted}"
                ),
            )),
        }
    }

    /// The first signal ends the measuring, a second one all.
    async fn until_signals(&self) -> Result<Report, Failure> {
        let on = |kind| signal(kind).map_err(|error| failed(format!("cannot start: {error}")));
        let (mut int, mut term) = (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
        // Without this, a terminal that closes would leave the server behind.
        let mut hangup = on(SignalKind::hangup())?;
        let stop = CancellationToken::new();
        let signals = async {
            loop {
                let signal = tokio::select! {
                    _ = int.recv() => SignalKind::interrupt(),
                    _ = term.recv() => SignalKind::terminate(),
                    _ = hangup.recv() => SignalKind::hangup(),
                };
                if stop.is_cancelled() {
                    return signal;
                }
                stop.cancel();
            }
        };
        tokio::select! {
            biased;
            result = self.measure(&stop) => result,
            signal = signals => {
                let code = ExitCode::from(128 + signal.as_raw_value() as u8);
                Err((code, "stopped; nothing was counted".to_owned()))
            }
        }
    }

    async fn measure(&self, stop: &CancellationToken) -> Result<Report, Failure> {
        let no_server = |text| (ExitCode::from(NO_SERVER), text);
        let (rooms, members) = (self.rooms as usize, self.members as usize);
        let Some(address) = &self.address else {
            let started = OwnServer::start(rooms, members, self.ws).await;
            let (server, door) = started.map_err(no_server)?;
            let report = run::run(self, door, server.pid(), stop).await;
            server.end().await;
            return report;
        };
        let door = address.door(self.ws).await.map_err(no_server)?;
        run::run(self, door, self.pid, stop).await
    }

    fn print(&self, report: &Report) -> ExitCode {
        for fault in &report.faults {
            eprintln!("parlor: {fault}");
        }
        let text = match self.json {
            true => format!("{}\n", report.json()),
            false => report.to_string(),
        };
        match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) if report.is_exact() => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }
}

fn failed(text: String) -> Failure {
    (ExitCode::FAILURE, text)
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|secs| Duration::try_from_secs_f64(secs).ok());
    let time = seconds.or_else(|| humantime::parse_duration(text).ok());
    match time {
        Some(time) if !time.is_zero() && time <= BENCH_TIME => Ok(time),
        _ => Err("it is written like 10, 10s, 500ms or 2m, a day at most".to_owned()),
    }
}
