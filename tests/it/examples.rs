//! The examples, run as programs: each does what its first lines say, and ends with its input.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use super::client::Client;

/// How long one step may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running example. It is killed when this is dropped.
struct Example {
    program: Child,
    output: BufReader<ChildStdout>,
}

impl Example {
    /// Starts an example, which cargo has built beside the program itself.
    fn start(name: &str, arguments: &[&Path]) -> Example {
        let directory = Path::new(env!("CARGO_BIN_EXE_parlor")).with_file_name("examples");
        let path = directory.join(name);
        let mut command = Command::new(&path);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let program = command.spawn();
        let mut program = program
            .unwrap_or_else(|error| panic!("{error}: {path:?}; run: cargo build --examples"));
        let output = BufReader::new(program.stdout.take().expect("its output"));
        Example { program, output }
    }

    /// The next line it prints. The first tells how to come in.
    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = timeout(PATIENCE, self.output.read_line(&mut line)).await;
        read.expect("a line in time").expect("a line of text");
        line.trim_end().to_owned()
    }

    /// The address in its first line, `nc <host> <port>`.
    async fn address(&mut self) -> SocketAddr {
        let line = self.line().await;
        let address = line.strip_prefix("nc ").map(|address| address.replace(' ', ":"));
        let address = address.unwrap_or_else(|| panic!("no nc in {line:?}"));
        address.parse().unwrap_or_else(|_| panic!("no address in {line:?}"))
    }

    async fn type_in(&mut self, line: &str) {
        let input = self.program.stdin.as_mut().expect("its input");
        input.write_all(format!("{line}\n").as_bytes()).await.expect("a write");
    }

    /// Ends its input; it must end by itself, and well.
    async fn end(mut self) {
        drop(self.program.stdin.take());
        let status = timeout(PATIENCE, self.program.wait()).await;
        let status = status.expect("it ends in time").expect("its status");
        assert!(status.success(), "{status}");
    }
}

/// Sends lines over a Unix socket and returns all that comes until it is closed.
async fn converse(path: &Path, lines: &str) -> Vec<String> {
    let mut stream = UnixStream::connect(path).await.expect("a connection");
    stream.write_all(lines.as_bytes()).await.expect("a write");
    let mut all = String::new();
    let read = timeout(PATIENCE, stream.read_to_string(&mut all)).await;
    read.expect("an end in time").expect("lines of text");
    all.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn embed_says_what_it_reads_prints_what_it_hears_and_takes_leave() {
    let mut embed = Example::start("embed", &[]);
    let mut ann = Client::join(embed.address().await, "LOBBY", "ann").await;
    embed.type_in("it works").await;
    assert!(ann.expect("MSG 1 ").await.ends_with(" program it works"));
    ann.send("MSG So it does.").await;
    let time = ann.expect("OK MSG 2 ").await;
    assert_eq!(embed.line().await, "JOINED ann");
    assert_eq!(embed.line().await, format!("MSG 2 {time} ann So it does."));
    embed.end().await;
    ann.expect("NOTICE shutdown ").await;
    ann.expect("BYE shutdown ").await;
    assert_eq!(ann.line_or_end().await, None);
}

#[tokio::test]
async fn the_bot_welcomes_and_rolls_and_does_not_answer_itself() {
    let mut bot = Example::start("bot", &[]);
    let mut ann = Client::join(bot.address().await, "LOBBY", "ann").await;
    assert!(ann.expect("MSG 1 ").await.ends_with(" dice Welcome, ann. Say !roll, or !roll 20."));
    // A die with one side leaves nothing to chance.
    ann.send("MSG !roll 1").await;
    ann.expect("OK MSG 2 ").await;
    assert!(ann.expect("MSG 3 ").await.ends_with(" dice ann rolls 1."));
    ann.send("MSG !roll").await;
    ann.expect("OK MSG 4 ").await;
    let rolled = ann.expect("MSG 5 ").await;
    assert!((1..=6).any(|n| rolled.ends_with(&format!(" dice ann rolls {n}."))), "{rolled}");
    // What is no roll gets no answer, and the bot's own messages got none: the ids go on.
    ann.send("MSG !roll 0\nMSG hello\nMSG !roll 1").await;
    for id in 6..=8 {
        ann.expect(&format!("OK MSG {id} ")).await;
    }
    assert!(ann.expect("MSG 9 ").await.ends_with(" dice ann rolls 1."));
    bot.end().await;
}

#[tokio::test]
async fn people_talk_over_a_unix_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("parlor.sock");
    let mut unix_socket = Example::start("unix_socket", &[&path]);
    assert_eq!(unix_socket.line().await, format!("nc -U {}", path.display()));
    let ann = converse(&path, "JOIN LOBBY ann\nMSG Hello, bob.\nQUIT\n").await;
    assert_eq!(ann[1], "OK JOIN LOBBY ann 0 1 0");
    assert_eq!(ann[3..], ["OK QUIT", "BYE quit Goodbye."]);
    let bob = converse(&path, "JOIN LOBBY bob\nQUIT\n").await;
    let time = ann[2].strip_prefix("OK MSG 1 ").expect("a time");
    assert_eq!(bob[1], format!("MSG 1 {time} ann Hello, bob."));
    assert_eq!(bob[2], "OK JOIN LOBBY bob 1 1 1");
    unix_socket.end().await;
    assert!(!path.exists(), "the socket's file stays behind");
}
