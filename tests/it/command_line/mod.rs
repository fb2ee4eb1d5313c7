//! The program itself: its arguments, its environment, its exit codes, its signals and its logs.

mod logs;
mod start;
mod stop;
mod usage;
mod web;

use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::binary::{
    Daemon, Plain, Program, assert_lines, fits, gather, output, parlor, read_ports, signal, soon,
};
use crate::support::{Client, web_socket};

const ANY_PORT: &str = "127.0.0.1:0";

/// Runs the program, which must fail: its exit code and what it wrote to stderr.
async fn failure(command: Command) -> (Option<i32>, String) {
    let output = output(command).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "nothing belongs on stdout");
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(!stderr.contains("panicked"), "{stderr}");
    (output.status.code(), stderr)
}

/// Runs the program, which must only print something.
async fn printed(args: &[&str]) -> String {
    let output = output(parlor(args)).await;
    assert_eq!(output.status.code(), Some(0), "{args:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The addresses under which others on the network know this machine.
fn network_addresses() -> Vec<IpAddr> {
    let hostname = std::process::Command::new("hostname").arg("-I").output();
    let hostname = hostname.expect("hostname -I (Debian's package hostname)");
    let addresses = String::from_utf8(hostname.stdout).expect("UTF-8");
    let addresses = addresses.split_whitespace().map(|word| word.parse().expect("an address"));
    addresses.filter(|ip| !matches!(ip, IpAddr::V4(ip) if ip.is_link_local())).collect()
}

fn secret_file(folder: &TempDir, name: &str, content: &str) -> String {
    let file = folder.path().join(name);
    std::fs::write(&file, content).expect("written");
    file.display().to_string()
}

/// Checks what a connection got that had sent so many PINGs: all replies, one notice, BYE.
fn assert_farewell(rest: &str, pings: usize) {
    let replies: Vec<&str> = rest.lines().filter(|line| line.starts_with("OK PING ")).collect();
    let wanted: Vec<String> = (1..=pings).map(|n| format!("OK PING {n}")).collect();
    assert_eq!(replies, wanted);
    let notices = rest.lines().filter(|line| fits("NOTICE shutdown ...", line)).count();
    assert_eq!(notices, 1, "{rest}");
    let last = rest.lines().last().unwrap_or_default();
    assert!(fits("BYE shutdown ...", last), "{rest}");
    assert!(!rest.contains("LEFT "), "{rest}");
}
