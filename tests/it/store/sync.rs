//! What is acknowledged is on the disk, as the system calls of the real program tell.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use super::{Place, connect, kill};
use crate::binary::{Daemon, run_by, signal};

/// A system call that matters here.
#[derive(Debug, PartialEq, Eq)]
enum Call {
    LogWritten,
    LogSynced,
    /// The message with that id was sent to somebody.
    Sent(u64),
}

/// The calls of a trace: a write when it begins, a sync when it is done.
fn calls(trace: &str) -> Vec<Call> {
    let mut found = Vec::new();
    let mut unfinished = BTreeMap::new();
    for line in trace.lines() {
        let (thread, call) = line.split_once(' ').expect("a thread");
        let call = call.trim_start();
        let is_sync = call.starts_with("fdatasync(") || call.starts_with("fsync(");
        if call.contains("-wal>") && call.starts_with("pwrite64(") {
            found.push(Call::LogWritten);
        } else if call.contains("-wal>") && is_sync {
            if call.ends_with("<unfinished ...>") {
                unfinished.insert(thread, ());
            } else if call.ends_with("= 0") {
                found.push(Call::LogSynced);
            }
        } else if call.contains("sync resumed>") && call.ends_with("= 0") {
            found.extend(unfinished.remove(thread).map(|()| Call::LogSynced));
        } else if call.contains("<TCP") || call.contains("<socket:") {
            let ids =
                call.split("MSG ").skip(1).filter_map(|rest| rest.split(' ').next()?.parse().ok());
            found.extend(ids.map(Call::Sent));
        }
    }
    found
}

/// How long a hanging disk takes for each sync, in microseconds.
const HANGS: u64 = 12_000_000;

/// Makes every sync of a running daemon fail, or take its time; the tracer, and what it says.
async fn inject(daemon: &Daemon, what: &str) -> (Child, Lines<BufReader<ChildStderr>>) {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=fdatasync,fsync", "-e"]);
    strace.arg(format!("inject=fdatasync,fsync:{what}"));
    strace.args(["-p", &daemon.process().to_string()]).stderr(Stdio::piped()).kill_on_drop(true);
    let mut strace = strace.spawn().expect("strace starts");
    let mut said = BufReader::new(strace.stderr.take().expect("a pipe")).lines();
    let attached = said.next_line().await.expect("a line").expect("a line");
    assert!(attached.contains("attached"), "{attached}");
    (strace, said)
}

// clause: STORE-2
#[tokio::test]
async fn what_could_not_be_synced_has_not_happened_after_a_kill_either() {
    let place = Place::new();
    let daemon = place.daemon().await;
    let mut ann = connect(&daemon).await.join("LOBBY", "ann").await;
    let token = ann.hold(60).await;
    ann.ask("MSG before").await;
    let (strace, mut said) = inject(&daemon, "error=EIO").await;
    tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
    // All of it has been written to the log, each time less of it.
    for times in [20, 5, 1] {
        let text = "x".repeat(times * 90);
        let reply = ann.ask(&format!("MSG {text}")).await.remove(0);
        assert!(reply.starts_with("ERR MSG storage "), "{reply}");
    }
    daemon.signal("KILL");
    drop(strace);
    daemon.wait().await;
    let daemon = place.daemon().await;
    let resumed = connect(&daemon).await.ask(&format!("RESUME LOBBY {token} 0")).await;
    assert!(resumed[0].ends_with(" ann before"), "{resumed:?}");
    assert_eq!(resumed[1], "OK RESUME LOBBY ann 1 1 1 1");
    kill(daemon).await;
}

#[tokio::test]
async fn a_disk_that_hangs_keeps_the_server_from_ending_for_10_seconds_at_most() {
    let place = Place::new();
    let daemon = place.daemon().await;
    let mut ann = connect(&daemon).await.join("LOBBY", "ann").await;
    let mut ben = connect(&daemon).await.join("LOBBY", "ben").await;
    ann.expect("JOINED ben").await;
    let (_strace, mut said) = inject(&daemon, &format!("delay_enter={HANGS}")).await;
    ann.send("MSG Is it on the disk?").await;
    // The server has it, and its disk is busy with it.
    let call = said.next_line().await.expect("a line").expect("a line");
    assert!(call.contains("sync("), "{call}");
    let began = Instant::now();
    daemon.terminate();
    let lines = ben.rest().await;
    assert!(lines.last().is_some_and(|line| line.starts_with("BYE shutdown ")), "{lines:?}");
    // Then it is the tracer who keeps the process.
    daemon.stderr_shows("the store takes too long to close").await;
    daemon.stderr_shows("parlor::cli::serve: stopped").await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// The program that a tracer runs.
fn traced(tracer: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{tracer}/task/{tracer}/children"));
    let children = children.expect("its children");
    children.split_whitespace().next().and_then(|child| child.parse().ok()).expect("a child")
}

// clause: STORE-1
#[tokio::test]
async fn a_message_is_synced_to_the_disk_before_anybody_is_told_of_it() {
    let place = Place::new();
    let trace = place.folder.path().join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-s", "100", "-e"]);
    command.arg("trace=pwrite64,fsync,fdatasync,write,writev,sendto,sendmsg").arg("-o").arg(&trace);
    // Where this test fails, its program ends with the tracer.
    command.args(["setpriv", "--pdeathsig", "KILL"]);
    let daemon = Daemon::spawn(run_by(command, &place.command())).await;
    let mut ann = connect(&daemon).await.join("LOBBY", "ann").await;
    let mut ben = connect(&daemon).await.join("LOBBY", "ben").await;
    // Comings may still be shown.
    ann.fence().await;
    ben.fence().await;
    for id in 1..=20 {
        ann.send("MSG Is it on the disk?").await;
        ann.expect(&format!("OK MSG {id} ")).await;
        ben.expect(&format!("MSG {id} ")).await;
    }
    signal("TERM", traced(daemon.process()));
    let (status, stderr) = daemon.wait().await;
    assert!(status.success(), "{stderr}");
    let calls = calls(&fs::read_to_string(trace).expect("a trace"));
    for id in 1..=20 {
        let sent = |id: u64| calls.iter().position(|call| *call == Call::Sent(id));
        let end = sent(id).expect("it was sent");
        let begin = if id == 1 { 0 } else { sent(id - 1).expect("it was sent") };
        let between = &calls[begin..end];
        let written = between.iter().rposition(|call| *call == Call::LogWritten);
        let synced = between.iter().rposition(|call| *call == Call::LogSynced);
        assert!(written.is_some() && written < synced, "message {id}: {between:?}");
        let told = calls.iter().filter(|call| **call == Call::Sent(id)).count();
        assert_eq!(told, 2, "message {id}");
    }
}
