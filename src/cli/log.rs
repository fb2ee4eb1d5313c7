//! Logs, to stderr.

use std::env::VarError;
use std::io::IsTerminal;

use clap::ValueEnum;
use tracing::{Level, Metadata, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use parlor::protocol::limits::LOG_LINES;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One object a line, for programs.
    Json,
}

/// The log, which is written until this is dropped.
pub(crate) struct Log {
    lost: ErrorCounter,
    _writer: WorkerGuard,
}

impl Drop for Log {
    fn drop(&mut self) {
        match self.lost.dropped_lines() {
            0 => {}
            lines => warn!(lines, "lines of this log are lost: nobody read them in time"),
        }
    }
}

/// Installs the logger; `RUST_LOG` says what is logged, `NO_COLOR` takes the colours away.
///
/// Fails with a text for people if `RUST_LOG` can't be read.
pub(crate) fn install(format: LogFormat, trace_wire: bool) -> Result<Log, String> {
    let wanted = match std::env::var("RUST_LOG") {
        Err(VarError::NotUnicode(_)) => return Err("RUST_LOG is not UTF-8".to_owned()),
        wanted => wanted.unwrap_or_default(),
    };
    let wanted = if wanted.trim().is_empty() { "info".to_owned() } else { wanted };
    let wanted = if trace_wire { format!("{wanted},parlor::wire=info") } else { wanted };
    let filter = EnvFilter::try_new(&wanted)
        .map_err(|error| format!("RUST_LOG can't be read: {error}; try RUST_LOG=info"))?;
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let ansi = std::io::stderr().is_terminal() && !no_color;
    // Where nobody reads the logs any more, or for a while, the server goes on.
    let writer = NonBlockingBuilder::default().buffered_lines_limit(LOG_LINES);
    let (writer, guard) = writer.thread_name("parlor-log").finish(std::io::stderr());
    let lost = writer.error_counter();
    let log = tracing_subscriber::fmt().log_internal_errors(false);
    let log = log.with_env_filter(filter).with_writer(writer);
    let tells_no_secret = filter_fn(tells_no_secret);
    match format {
        LogFormat::Text => log.with_ansi(ansi).finish().with(tells_no_secret).init(),
        LogFormat::Json => {
            let log = log.json().with_current_span(true).with_span_list(false);
            log.finish().with(tells_no_secret).init();
        }
    }
    Ok(Log { lost, _writer: guard })
}

/// Whatever `RUST_LOG` says: other crates log what travels, the WebSocket's each frame. Of them
/// there is nothing below `info`.
fn tells_no_secret(record: &Metadata<'_>) -> bool {
    let is_ours = record.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"));
    is_ours || *record.level() <= Level::INFO
}
