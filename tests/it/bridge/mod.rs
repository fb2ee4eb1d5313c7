//! The bridge over real TCP: what it serves, whom it lets in, and the protocol in WebSocket frames.
//!
//! Requests and frames are written byte by byte here, so that wrong ones can be.

mod ends;
mod frames;
mod handshake;
mod hosts;
mod lines;
mod pages;

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use parlor::Config;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Client, Random, TestServer};

/// How long anything may take: long, for machines that are busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// A connection that the bridge closes by itself is closed by then; one that is only idle is not.
const AT_ONCE: Duration = Duration::from_secs(4);
/// Bytes of the longest line.
const LINE_BYTES: usize = 2048;
/// Bytes of the largest frame.
const FRAME_BYTES: usize = 8192;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' \
                      data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types \
                      'none'";

/// The key of RFC 6455's example, and its answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// First bytes of frames.
const TEXT: u8 = 0x81;
const TEXT_BEGINS: u8 = 0x01;
const BINARY: u8 = 0x82;
const CONTINUES: u8 = 0x00;
const CONTINUES_AND_ENDS: u8 = 0x80;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// A server with a bridge, and the bridge's address.
fn bridge(mut config: Config) -> (TestServer, SocketAddr) {
    if config.web.is_empty() {
        config.web = vec!["127.0.0.1:0".parse().expect("an address")];
    }
    let server = TestServer::start(config);
    let address = server.server.web_addrs()[0];
    (server, SocketAddr::from(([127, 0, 0, 1], address.port())))
}

fn usual_bridge() -> (TestServer, SocketAddr) {
    bridge(Config::default())
}

async fn soon<F: Future>(what: &str, happens: F) -> F::Output {
    let happened = tokio::time::timeout(PATIENCE, happens).await;
    happened.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}

/// What the bridge answers to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    /// A header's only value.
    fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(header, _)| header == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} comes twice");
        value
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    #[track_caller]
    fn assert_protected(&self) {
        assert_eq!(self.header("content-security-policy"), Some(POLICY));
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(self.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(self.header("x-frame-options"), Some("DENY"));
    }
}

/// An HTTP connection.
struct Http(BufReader<TcpStream>);

impl Http {
    async fn reach(address: SocketAddr) -> Http {
        let stream = soon("a connection", TcpStream::connect(address)).await.expect("connected");
        stream.set_nodelay(true).expect("no delay");
        Http(BufReader::new(stream))
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon("room to write", self.0.write_all(bytes.as_ref())).await.expect("written");
    }

    /// The next answer; one to `HEAD` has no body.
    async fn answer(&mut self, is_head: bool) -> Answer {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = soon("a line of the head", self.0.read_line(&mut line)).await;
            assert!(read.expect("read") > 0, "the connection ends in the head: {lines:?}");
            let line = line.strip_suffix("\r\n").expect("CR LF").to_owned();
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let status = lines[0].strip_prefix("HTTP/1.1 ").or(lines[0].strip_prefix("HTTP/1.0 "));
        let status = status.expect("HTTP")[..3].parse().expect("a status");
        let header = |line: &String| {
            let (name, value) = line.split_once(": ").expect("a header");
            (name.to_ascii_lowercase(), value.to_owned())
        };
        let headers = lines[1..].iter().map(header).collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        if !is_head && status != 101 {
            let length = answer.header("content-length").expect("a length");
            answer.body = vec![0; length.parse().expect("a number")];
            soon("the body", self.0.read_exact(&mut answer.body)).await.expect("read");
        }
        answer
    }

    /// The bridge closes the connection, properly, and by itself.
    async fn assert_closed(mut self) {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(AT_ONCE, self.0.read_to_end(&mut rest)).await;
        ended.expect("it is closed at once").expect("it is closed, and not reset");
        assert_eq!(rest, b"");
    }

    /// Nothing beyond the last answer has come, and the connection can be used again.
    async fn assert_open(mut self) {
        self.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert_eq!(self.answer(false).await.status, 200);
    }
}

/// A limit was reached so often, as the metrics tell a moment after a connection has ended.
async fn limit_shows(server: &TestServer, limit: &str, times: usize) {
    let line = format!("parlor_limit_reached_total{{limit=\"{limit}\"}} {times}\n");
    let shows = async {
        while !server.server.metrics().contains(&line) {
            tokio::task::yield_now().await;
        }
    };
    soon(&line, shows).await;
}

/// Sends one request of one's own.
async fn request(address: SocketAddr, request: &str) -> Answer {
    let mut http = Http::reach(address).await;
    http.send(request).await;
    http.answer(request.starts_with("HEAD ")).await
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
}

/// A handshake's request, with more headers.
fn handshake(host: &str, more: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: \
         websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{more}\r\n"
    )
}

/// Who comes in with this Host and these headers: the status.
async fn knock(address: SocketAddr, host: &str, more: &str) -> u16 {
    request(address, &handshake(host, more)).await.status
}

/// A frame as a client must send it.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = header(first, 0x80, payload.len());
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn header(first: u8, mask: u8, length: usize) -> Vec<u8> {
    match u16::try_from(length) {
        Ok(short @ 0..126) => vec![first, mask | short as u8],
        Ok(medium) => [&[first, mask | 126], &medium.to_be_bytes()[..]].concat(),
        Err(_) => [&[first, mask | 127], &(length as u64).to_be_bytes()[..]].concat(),
    }
}

fn masked_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    lines.into_iter().flat_map(|line| masked(TEXT, line.as_bytes())).collect()
}

/// A WebSocket of a client.
pub(crate) struct Ws(BufReader<TcpStream>);

impl Ws {
    /// Opens one, and has read the greeting.
    pub(crate) async fn open(address: SocketAddr) -> Ws {
        Ws::over(Http::reach(address).await, "").await
    }

    /// Its connection, for frames and an end of one's own; all that came has been read.
    pub(crate) fn into_stream(self) -> TcpStream {
        assert_eq!(self.0.buffer(), b"");
        self.0.into_inner()
    }

    async fn open_with(address: SocketAddr, headers: &str) -> Ws {
        Ws::over(Http::reach(address).await, headers).await
    }

    /// One whose kernel takes only little before it is read.
    async fn open_narrow(address: SocketAddr) -> Ws {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let stream = soon("a connection", socket.connect(address)).await.expect("connected");
        Ws::over(Http(BufReader::with_capacity(512, stream)), "").await
    }

    async fn over(mut http: Http, headers: &str) -> Ws {
        http.send(handshake("localhost", headers)).await;
        assert_eq!(http.answer(false).await.status, 101);
        let mut ws = Ws(http.0);
        ws.expect("HELLO parlor/1 ").await;
        ws
    }

    pub(crate) async fn join(address: SocketAddr, name: &str) -> Ws {
        Ws::open(address).await.joined(name).await
    }

    async fn joined(mut self, name: &str) -> Ws {
        self.send(&format!("JOIN LOBBY {name} 0")).await;
        self.expect(&format!("OK JOIN LOBBY {name} ")).await;
        self
    }

    async fn bytes(&mut self, bytes: impl AsRef<[u8]>) {
        soon("room to write", self.0.write_all(bytes.as_ref())).await.expect("written");
    }

    pub(crate) async fn send(&mut self, line: &str) {
        self.bytes(masked(TEXT, line.as_bytes())).await;
    }

    /// The next frame: its first byte and its payload. `None` at the end of file.
    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        soon("a frame", self.next_frame()).await
    }

    /// The same, for as long as it takes.
    async fn next_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        if self.0.fill_buf().await.expect("the connection is not reset").is_empty() {
            return None;
        }
        let first = self.0.read_u8().await.expect("a frame");
        let length = match self.0.read_u8().await.expect("a length") {
            126 => self.0.read_u16().await.expect("a length").into(),
            short @ 0..126 => usize::from(short),
            long => panic!("{long:#x} begins no length of a server's line, after {first:#x}"),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await.expect("a payload");
        Some((first, payload))
    }

    /// The next line. Pings before it are answered, as by any client.
    async fn line(&mut self) -> String {
        let (first, payload) = loop {
            match self.frame().await.expect("the connection is closed") {
                (PING, payload) => self.bytes(masked(PONG, &payload)).await,
                frame => break frame,
            }
        };
        assert_eq!(first, TEXT, "a frame of text: {}", payload.escape_ascii());
        String::from_utf8(payload).expect("UTF-8")
    }

    /// The next line must begin so; returns what follows.
    pub(crate) async fn expect(&mut self, beginning: &str) -> String {
        let line = self.line().await;
        let rest = line.strip_prefix(beginning);
        rest.unwrap_or_else(|| panic!("{line}\n  came instead of {beginning}")).to_owned()
    }

    async fn expect_pong(&mut self, payload: &[u8]) {
        assert_eq!(self.frame().await, Some((PONG, payload.to_vec())));
    }

    async fn expect_nothing(&mut self) {
        self.send("PING fence").await;
        self.expect("OK PING fence").await;
    }

    /// The bridge closes with this status, and then the connection, properly.
    async fn expect_close(mut self, status: u16) {
        let (first, payload) = self.frame().await.expect("a close frame");
        assert_eq!(first, CLOSE, "{}", payload.escape_ascii());
        assert_eq!(payload.get(..2), Some(&status.to_be_bytes()[..]), "{status}");
        // As RFC 6455 wants it; where the bridge has closed already it is not read.
        let _ = self.0.write_all(&masked(CLOSE, &status.to_be_bytes())).await;
        assert_eq!(self.frame().await, None);
    }
}
