//! The server that is measured: one that runs already, or one of our own.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};

use super::wire::{Door, Framing};

/// Where a server is said to be.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    host: String,
    /// The path of its WebSockets, if that is what was given.
    path: Option<String>,
}

/// A server in a process of its own. It ends when this is dropped.
pub(super) struct OwnServer(Child);

impl Address {
    pub(super) fn parse(text: &str) -> Result<Address, String> {
        let (host, path) = match text.strip_prefix("ws://") {
            Some(rest) => {
                let (host, path) = rest.split_once('/').unwrap_or((rest, "ws"));
                (host, Some(format!("/{path}")))
            }
            None => (text, None),
        };
        let port = host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        match port {
            Some(_) if !host.contains(['/', ' ']) => Ok(Address { host: host.to_owned(), path }),
            _ => Err("it is written HOST:PORT, like 127.0.0.1:7777, or ws://HOST:PORT/ws, like \
                      ws://127.0.0.1:7778/ws"
                .to_owned()),
        }
    }

    pub(super) fn is_web_socket(&self) -> bool {
        self.path.is_some()
    }

    /// Looks its name up.
    pub(super) async fn door(&self, web_socket: bool) -> Result<Door, String> {
        let host = self.host.clone();
        let found = tokio::net::lookup_host(&host).await;
        let address = found
            .map_err(|error| format!("{host} is not found: {error}"))?
            .next()
            .ok_or_else(|| format!("{host} has no address"))?;
        let framing = match &self.path {
            Some(path) => Framing::Frames { host, path: path.clone() },
            None if web_socket => Framing::Frames { host, path: "/ws".to_owned() },
            None => Framing::Lines,
        };
        Ok(Door { address, framing })
    }
}

impl OwnServer {
    /// Starts this program once more, as a server on free ports of this machine, and returns the
    /// way to it.
    pub(super) async fn start(
        rooms: usize,
        members: usize,
        web_socket: bool,
    ) -> Result<(OwnServer, Door), String> {
        let program = std::env::current_exe()
            .map_err(|error| format!("cannot find this program to start a server: {error}"))?;
        let mut command = Command::new(program);
        let settings = std::env::vars_os().map(|(name, _)| name);
        for name in settings.filter(|name| name.to_string_lossy().starts_with("PARLOR_")) {
            command.env_remove(name);
        }
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        match web_socket {
            true => command.args(["--web", "127.0.0.1:0"]),
            false => command.arg("--no-web"),
        };
        for (flag, number) in [
            ("--max-connections", rooms * (members + 1) + 1),
            ("--max-rooms", rooms + 1),
            ("--max-members", members + 1),
        ] {
            command.arg(flag).arg(number.to_string());
        }
        command.env("RUST_LOG", "warn").env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Ctrl-C is for this process alone: it ends the server once all is counted.
        command.kill_on_drop(true).process_group(0);
        let mut child =
            command.spawn().map_err(|error| format!("cannot start a server: {error}"))?;
        let stderr = child.stderr.take().ok_or("the server has no stderr")?;
        let address = told_address(stderr, web_socket).await?;
        let framing = match web_socket {
            true => Framing::Frames { host: address.to_string(), path: "/ws".to_owned() },
            false => Framing::Lines,
        };
        Ok((OwnServer(child), Door { address, framing }))
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.0.id()
    }

    /// Ends it, and waits until it has ended.
    pub(super) async fn end(mut self) {
        // It may have ended by itself.
        let _ = self.0.kill().await;
    }
}

/// Reads where the server listens from what it tells people. What it says later is passed on.
async fn told_address(stderr: ChildStderr, web_socket: bool) -> Result<SocketAddr, String> {
    let mut lines = BufReader::new(stderr).lines();
    let mut said = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        let words: Vec<_> = line.split_whitespace().collect();
        let address = match words[..] {
            [.., "nc", host, port] if !web_socket => format!("{host}:{port}").parse().ok(),
            [.., url] if web_socket => {
                let host = url.strip_prefix("http://");
                host.and_then(|host| host.strip_suffix('/')?.parse().ok())
            }
            _ => None,
        };
        if let Some(address) = address {
            tokio::task::spawn_local(async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    if !line.starts_with("  ") {
                        eprintln!("server: {line}");
                    }
                }
            });
            return Ok(address);
        }
        said.push_str(&line);
        said.push('\n');
    }
    Err(format!("the server ended at once: {}", said.trim()))
}

/// The time that all threads of a process have run; known on Linux.
pub(super) fn cpu_time(pid: u32) -> Option<Duration> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let nanoseconds = tasks.map(|task| {
        let times = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        times.split(' ').next()?.parse::<u64>().ok()
    });
    // A thread may end meanwhile.
    let nanoseconds: u64 = nanoseconds.flatten().sum();
    (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds))
}
