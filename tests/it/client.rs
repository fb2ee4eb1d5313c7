//! A server for tests, and a client that speaks lines over TCP.

use std::net::SocketAddr;
use std::time::Duration;

use parlor::{Config, Server};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long a line may take before a test fails: long, for machines that are busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same numbers for the same seed (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A server on a free port. It ends when this is dropped.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) server: Server,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl TestServer {
    pub(crate) fn start(mut config: Config) -> TestServer {
        config.listen = vec!["127.0.0.1:0".parse().expect("an address")];
        TestServer::of(Server::bind(config).expect("a server"))
    }

    /// Serves what is bound.
    pub(crate) fn of(server: Server) -> TestServer {
        let address = server.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(server.clone().serve(async {
            stopped.await.ok();
        }));
        TestServer { address, server, stop, serving }
    }

    /// Stops it and waits until it has ended.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.serving.await.expect("the server ends");
    }
}

pub(crate) struct Client {
    lines: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        let (reader, writer) = stream.into_split();
        let mut client = Client { lines: BufReader::new(reader), writer };
        client.expect("HELLO parlor/1 ").await;
        client
    }

    /// Connects and enters a room.
    pub(crate) async fn join(address: SocketAddr, code: &str, name: &str) -> Client {
        let mut client = Client::connect(address).await;
        client.send(&format!("JOIN {code} {name} 0")).await;
        client.expect("OK JOIN ").await;
        client
    }

    pub(crate) async fn send(&mut self, line: &str) {
        self.writer.write_all(format!("{line}\n").as_bytes()).await.expect("a write");
    }

    /// The next line; the end of the connection fails the test.
    pub(crate) async fn line(&mut self) -> String {
        self.line_or_end().await.expect("the connection is closed")
    }

    pub(crate) async fn line_or_end(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, self.lines.read_line(&mut line)).await;
        let read = read.expect("a line in time").unwrap_or(0);
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
        (read > 0).then_some(line)
    }

    /// The next line must begin so; returns what follows.
    pub(crate) async fn expect(&mut self, beginning: &str) -> String {
        let line = self.line().await;
        let rest = line.strip_prefix(beginning);
        rest.unwrap_or_else(|| panic!("{line}\n  came instead of {beginning}")).to_owned()
    }

    /// Nothing has come until now: the answer to a `PING` is the next line.
    pub(crate) async fn expect_nothing(&mut self) {
        self.send("PING fence").await;
        self.expect("OK PING fence").await;
    }

    /// Sends `HOLD` and returns the token.
    pub(crate) async fn hold(&mut self, seconds: u64) -> String {
        self.send(&format!("HOLD {seconds}")).await;
        let rest = self.expect("OK HOLD ").await;
        rest.split(' ').next().expect("a token").to_owned()
    }
}
