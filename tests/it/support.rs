//! Clients over pipes of any size, over TCP, and from addresses that are made up.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures_util::{SinkExt, StreamExt};
use parlor::{Origin, Seat};
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream,
    ReadHalf, WriteHalf,
};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::client::TestServer;

/// How long a line may take before a test fails: longer than any stall that a test waits for.
const PATIENCE: Duration = Duration::from_secs(100);

/// Bytes of one read.
const CHUNK: usize = 4096;

/// All verbs of the protocol.
pub(crate) const VERBS: [&str; 23] = [
    "CREATE", "JOIN", "RESUME", "MSG", "TELL", "WHO", "HISTORY", "NICK", "HOLD", "LEAVE", "LOCK",
    "UNLOCK", "KICK", "MUTE", "UNMUTE", "CLOSE", "TALK", "STAY", "PING", "HELP", "OPER",
    "ANNOUNCE", "QUIT",
];

/// Room in a pipe for all that a test says at once.
pub(crate) const WIDE: usize = 1 << 20;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A client of the line protocol. Dropping it breaks the connection.
pub(crate) struct Client {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
}

/// What a client gets.
pub(crate) struct Reader {
    stream: ReadHalf<Box<dyn Stream>>,
    received: BytesMut,
    /// `None` where a timer of the client's own would move a paused clock.
    patience: Option<Duration>,
}

/// What a client sends.
pub(crate) struct Writer(WriteHalf<Box<dyn Stream>>);

/// The server's end and the client's end of a pipe, which holds so many bytes each way.
pub(crate) fn attach(server: &TestServer, address: Option<&str>, bytes: usize) -> DuplexStream {
    let (here, there) = tokio::io::duplex(bytes);
    let mut origin = Origin::default();
    origin.telnet = true;
    origin.address = address.map(|address| address.parse::<SocketAddr>().expect("an address"));
    server.server.attach_from(there, origin);
    here
}

/// A seat in the lobby that needs no connection.
pub(crate) fn seat(server: &TestServer, name: &str) -> Seat {
    server.server.hub().join("LOBBY", name).expect("a seat")
}

pub(crate) async fn say(seat: &Seat, count: usize, text: &str) {
    for _ in 0..count {
        seat.say(text).await.expect("a message");
    }
}

/// Lets so much time of a paused clock pass. It stops at every moment at which something is due.
pub(crate) async fn pass(time: Duration) {
    tokio::time::timeout(time, std::future::pending::<()>()).await.ok();
}

/// Lets the server do all that it can do now: a paused clock goes on, by its smallest step, when
/// nothing else can run.
pub(crate) async fn settle() {
    pass(Duration::from_millis(1)).await;
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Client {
    /// A client that has read nothing, not even the greeting.
    pub(crate) fn over(stream: impl Stream + 'static) -> Client {
        let (reader, writer) = tokio::io::split(Box::new(stream) as Box<dyn Stream>);
        let reader = Reader { stream: reader, received: BytesMut::new(), patience: Some(PATIENCE) };
        Client { reader, writer: Writer(writer) }
    }

    /// Connects by a pipe that holds so many bytes each way.
    pub(crate) async fn pipe(server: &TestServer, bytes: usize) -> Client {
        Client::over(attach(server, None, bytes)).greeted().await
    }

    /// The same, as if from an address.
    pub(crate) async fn from(server: &TestServer, address: &str) -> Client {
        Client::over(attach(server, Some(address), WIDE)).greeted().await
    }

    /// Connects over TCP.
    pub(crate) async fn tcp(server: &TestServer) -> Client {
        let stream = TcpStream::connect(server.address).await.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        Client::over(stream).greeted().await
    }

    pub(crate) async fn greeted(mut self) -> Client {
        self.expect("HELLO parlor/1 ").await;
        self
    }

    /// The same client, who waits for ever.
    pub(crate) fn patient(mut self) -> Client {
        self.reader.patience = None;
        self
    }

    /// Enters a room without its history, and reads up to the reply.
    pub(crate) async fn join(mut self, code: &str, name: &str) -> Client {
        self.send(&format!("JOIN {code} {name} 0")).await;
        self.expect("OK JOIN ").await;
        self
    }

    /// Makes a room, enters it, and returns its code.
    pub(crate) async fn create(&mut self, name: &str) -> String {
        self.send(&format!("CREATE {name}")).await;
        first_field(&self.expect("OK CREATE ").await).to_owned()
    }

    /// Arms the seat and returns its token.
    pub(crate) async fn hold(&mut self, seconds: u64) -> String {
        self.send(&format!("HOLD {seconds}")).await;
        first_field(&self.expect("OK HOLD ").await).to_owned()
    }

    pub(crate) async fn send(&mut self, line: &str) {
        self.writer.bytes(format!("{line}\n").as_bytes()).await;
    }

    pub(crate) async fn line(&mut self) -> String {
        self.reader.line().await.expect("the connection is closed")
    }

    /// The next line must begin so; returns what follows.
    pub(crate) async fn expect(&mut self, beginning: &str) -> String {
        self.reader.expect(beginning).await
    }

    /// The lines up to the next `OK` or `ERR`, that one included.
    pub(crate) async fn reply(&mut self) -> Vec<String> {
        self.reader.reply().await
    }

    /// Sends a line, and returns what comes up to the reply.
    pub(crate) async fn ask(&mut self, line: &str) -> Vec<String> {
        self.send(line).await;
        self.reply().await
    }

    /// All that has come until now: the lines before the answer to a `PING`.
    pub(crate) async fn fence(&mut self) -> Vec<String> {
        self.send("PING fence").await;
        let mut lines = Vec::new();
        loop {
            match self.line().await {
                line if line == "OK PING fence" => return lines,
                line => lines.push(line),
            }
        }
    }

    /// All lines up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.reader.line().await {
            lines.push(line);
        }
        lines
    }
}

impl Reader {
    /// The next line without its LF; `None` at the end of the connection.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.received[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.received.split_to(searched + end);
                self.received.advance(1);
                return Some(String::from_utf8(line.to_vec()).expect("a line is UTF-8"));
            }
            searched = self.received.len();
            if !self.more(CHUNK).await {
                assert!(self.received.is_empty(), "cut off: {:?}", self.received);
                return None;
            }
        }
    }

    /// So many bytes as they come.
    pub(crate) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() < count {
            let missing = count - self.received.len();
            assert!(self.more(missing).await, "the connection is closed");
        }
        self.received.split_to(count).to_vec()
    }

    /// Everything up to the end of the connection, as it comes.
    pub(crate) async fn all(&mut self) -> Vec<u8> {
        while self.more(CHUNK).await {}
        self.received.split().to_vec()
    }

    pub(crate) async fn expect(&mut self, beginning: &str) -> String {
        let line = self.line().await.unwrap_or_else(|| panic!("the end, not {beginning}"));
        let rest = line.strip_prefix(beginning);
        rest.unwrap_or_else(|| panic!("{line:.200}\n  came instead of {beginning}")).to_owned()
    }

    pub(crate) async fn reply(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await.expect("the connection is closed");
            let is_reply = line.starts_with("OK ") || line.starts_with("ERR ");
            lines.push(line);
            if is_reply {
                return lines;
            }
        }
    }

    /// Reads once. False at the end of the connection.
    async fn more(&mut self, at_most: usize) -> bool {
        let mut bytes = [0; CHUNK];
        let read = self.stream.read(&mut bytes[..at_most.min(CHUNK)]);
        let read = match self.patience {
            Some(patience) => tokio::time::timeout(patience, read).await.expect("a line in time"),
            None => read.await,
        };
        let read = read.unwrap_or(0);
        self.received.extend_from_slice(&bytes[..read]);
        read > 0
    }
}

impl Writer {
    /// Sends bytes; waits while the server takes none. That it has closed is no failure here.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) {
        if self.0.write_all(bytes).await.is_ok() {
            self.0.flush().await.ok();
        }
    }

    /// Sends what the server takes now, and returns how many bytes that was.
    pub(crate) async fn as_much_as_fits(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            let write = self.0.write(&bytes[sent..]);
            match tokio::time::timeout(Duration::from_millis(1), write).await {
                Ok(written) => sent += written.expect("a write"),
                Err(_) => break,
            }
        }
        sent
    }

    /// Ends the client's input.
    pub(crate) async fn end(&mut self) {
        self.0.shutdown().await.ok();
    }
}

/// A WebSocket that can be used like a stream of lines.
pub(crate) async fn web_socket(address: SocketAddr) -> DuplexStream {
    let url = format!("ws://{address}/ws");
    let (socket, _) = tokio_tungstenite::connect_async(url).await.expect("a WebSocket");
    let (here, there) = tokio::io::duplex(1 << 16);
    tokio::spawn(frames_as_lines(socket, there));
    here
}

async fn frames_as_lines(
    mut socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    lines: DuplexStream,
) {
    let (reader, mut writer) = tokio::io::split(lines);
    let mut reader = BufReader::new(reader).lines();
    loop {
        tokio::select! {
            line = reader.next_line() => match line {
                Ok(Some(line)) if socket.send(Message::text(line.clone())).await.is_ok() => {}
                _ => return,
            },
            frame = socket.next() => match frame {
                Some(Ok(Message::Text(line))) => {
                    let line = format!("{}\n", line.as_str());
                    if writer.write_all(line.as_bytes()).await.is_err() {
                        return;
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return,
            },
        }
    }
}

pub(crate) fn first_field(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

/// The number in a field of a line, counted from 0.
pub(crate) fn number(line: &str, field: usize) -> u64 {
    let number = line.split(' ').nth(field).and_then(|field| field.parse().ok());
    number.unwrap_or_else(|| panic!("no number in field {field}: {line:.200}"))
}

/// The id and the text of `MSG id time name text`.
pub(crate) fn message(line: &str) -> (u64, &str) {
    let fields: Vec<_> = line.splitn(5, ' ').collect();
    assert_eq!((fields[0], fields.len()), ("MSG", 5), "{line:.200}");
    (number(line, 1), fields[4])
}
