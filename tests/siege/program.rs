//! The program that is besieged: the real one, in a process of its own.

use std::collections::HashMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cage::Cage;

/// How long the server may take to start, to settle and to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long memory must stay as it is to have settled.
const STEADY: Duration = Duration::from_secs(2);

/// Bytes that a process has, all of them resident.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    /// What it shares with others counts by its part.
    pub(crate) proportional: u64,
}

/// A running server. It is killed with the value.
pub(crate) struct Program {
    child: Child,
    pub(crate) line: SocketAddr,
    pub(crate) web: SocketAddr,
    /// Holds the ports and the log.
    folder: TempDir,
    // After the child, which must have left it.
    pub(crate) cage: Option<Cage>,
}

impl Program {
    pub(crate) async fn start(cage: Option<Cage>, flags: &[&str]) -> Program {
        let folder = TempDir::new().expect("a temporary folder");
        let ports = folder.path().join("ports.json");
        let program = env!("CARGO_BIN_EXE_parlor");
        let mut command = match &cage {
            Some(cage) => {
                let mut shell = Command::new("sh");
                let enter = "echo $$ >\"$0\" && exec \"$@\"";
                shell.args(["-c", enter]).arg(cage.entrance()).arg(program);
                shell
            }
            None => Command::new(program),
        };
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        for name in names.filter(|name| name.starts_with("PARLOR_") || name == "RUST_LOG") {
            command.env_remove(name);
        }
        let log = File::create(folder.path().join("log")).expect("a log");
        command.args(flags).arg("--ports-file").arg(&ports);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().expect("the server starts");
        let since = Instant::now();
        while !ports.exists() {
            let ended = child.try_wait().expect("the server's state");
            assert!(ended.is_none() && since.elapsed() < PATIENCE, "the server doesn't start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let ports = fs::read(ports).expect("the ports");
        let ports: serde_json::Value = serde_json::from_slice(&ports).expect("JSON");
        let address = |of: &str| {
            ports[of][0].as_str().and_then(|text| text.parse().ok()).expect("an address")
        };
        Program { line: address("line"), web: address("web"), child, folder, cage }
    }

    /// A number of the process, in bytes: `VmRSS`, or `VmHWM` for the highest that was.
    pub(crate) fn memory(&self, name: &str) -> u64 {
        self.field("status", name)
    }

    fn field(&self, file: &str, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/{file}", self.child.id()));
        let status = status.expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        // A process that has ended and is not waited for has none.
        kib.expect("the server runs") << 10
    }

    /// Waits until the memory stays as it is, and returns how much that is.
    pub(crate) async fn settled(&self) -> Memory {
        let began = Instant::now();
        let (mut lowest, mut since) = (self.memory("VmRSS"), Instant::now());
        while since.elapsed() < STEADY && began.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = self.memory("VmRSS");
            if now < lowest - lowest / 200 {
                (lowest, since) = (now, Instant::now());
            }
        }
        let resident = self.memory("VmRSS");
        Memory { resident, proportional: self.field("smaps_rollup", "Pss") }
    }

    /// Bytes that were logged.
    pub(crate) fn log_bytes(&self) -> u64 {
        fs::metadata(self.folder.path().join("log")).map_or(0, |log| log.len())
    }

    /// The end of the log, for who looks for what went wrong.
    pub(crate) fn log_end(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// What `/metrics` tells, by name, with the label where there is one.
    pub(crate) async fn metrics(&self) -> HashMap<String, u64> {
        let mut stream = TcpStream::connect(self.web).await.expect("the bridge");
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.web);
        stream.write_all(request.as_bytes()).await.expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:.200}");
        let lines = answer.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.filter_map(|line| line.rsplit_once(' '));
        pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    }

    /// Ends it as an operator does.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        let process = Pid::from_child(&self.child);
        kill_process(process, Signal::TERM).expect("a signal");
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the server's state") {
                return status;
            }
            assert!(since.elapsed() < PATIENCE, "the server doesn't end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
