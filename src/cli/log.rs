//! Logs, to stderr.

use std::env::VarError;
use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One object a line, for programs.
    Json,
}

/// Installs the logger; `RUST_LOG` says what is logged, `NO_COLOR` takes the colours away.
///
/// Fails with a text for people if `RUST_LOG` can't be read.
pub(crate) fn install(format: LogFormat, trace_wire: bool) -> Result<(), String> {
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
    // Where nobody reads the logs any more, the server goes on.
    let log = tracing_subscriber::fmt().log_internal_errors(false);
    let log = log.with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(ansi).init(),
        LogFormat::Json => log.json().with_current_span(true).with_span_list(false).init(),
    }
    Ok(())
}
