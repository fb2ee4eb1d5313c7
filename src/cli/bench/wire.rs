//! A client's connection: lines over TCP, or frames over a WebSocket, read without a copy.

use std::io::{self, Cursor};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use parlor::protocol::limits::{
    BENCH_HEAD_BYTES, BENCH_PER_ADDRESS, BENCH_READ_BYTES, SERVER_LINE_BYTES,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

/// The beginning of a line whose rest has not come may be so long, with a frame's header.
const LEFT_BYTES: usize = SERVER_LINE_BYTES + 16;
// The beginning of a line and the next read share one buffer.
const _: () = assert!(LEFT_BYTES < BENCH_READ_BYTES);

/// Where to connect.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub(super) address: SocketAddr,
    pub(super) framing: Framing,
}

/// How lines travel.
#[derive(Debug, Clone)]
pub(super) enum Framing {
    /// Each with an LF, over TCP.
    Lines,
    /// Each in a text frame of a WebSocket.
    Frames { host: String, path: String },
}

pub(super) struct Connection {
    stream: TcpStream,
    is_framed: bool,
    /// The beginning of a line whose rest has not come.
    left: Vec<u8>,
    /// What is to be written.
    out: Vec<u8>,
}

/// What stands at the front of the bytes that came.
enum Piece<'a> {
    Line(&'a [u8]),
    Ping(&'a [u8]),
    Nothing,
}

impl Connection {
    /// Makes the `nth` connection of this run.
    pub(super) async fn open(door: &Door, nth: usize) -> io::Result<Connection> {
        let mut stream = connect(door.address, nth).await?;
        stream.set_nodelay(true)?;
        let is_framed = match &door.framing {
            Framing::Lines => false,
            Framing::Frames { host, path } => {
                shake_hands(&mut stream, host, path).await?;
                true
            }
        };
        Ok(Connection { stream, is_framed, left: Vec::new(), out: Vec::new() })
    }

    /// Puts a line behind what is to be written.
    pub(super) fn say(&mut self, line: &[u8]) {
        if self.is_framed {
            self.frame(OpCode::Data(Data::Text), line);
        } else {
            self.out.extend_from_slice(line);
            self.out.push(b'\n');
        }
    }

    /// Bytes that are to be written.
    pub(super) fn waiting(&self) -> usize {
        self.out.len()
    }

    fn frame(&mut self, code: OpCode, payload: &[u8]) {
        let mut frame = Frame::message(payload.to_vec(), code, true);
        frame.header_mut().mask = Some(getrandom::u32().unwrap_or_default().to_ne_bytes());
        // Writing to a Vec doesn't fail.
        let _ = frame.format(&mut self.out);
    }

    /// Writes what waits.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut written = 0;
        let result = loop {
            let rest = &self.out[written..];
            if rest.is_empty() {
                break Poll::Ready(Ok(()));
            }
            match Pin::new(&mut self.stream).poll_write(cx, rest) {
                Poll::Ready(Ok(bytes)) => written += bytes,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        self.out.drain(..written);
        result
    }

    /// Reads once, and hands over each whole line that came.
    pub(super) fn poll_lines(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        mut hear: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Poll<io::Result<()>> {
        let left = self.left.len();
        let mut read = ReadBuf::new(&mut buffer[left..]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        let came = read.filled().len();
        if came == 0 {
            return Poll::Ready(Err(io::Error::other("the server closed the connection")));
        }
        buffer[..left].copy_from_slice(&self.left);
        self.left.clear();
        let mut rest = &buffer[..left + came];
        while let Some((piece, bytes)) = first(self.is_framed, rest)? {
            rest = &rest[bytes..];
            match piece {
                Piece::Line(line) => hear(line)?,
                Piece::Ping(payload) => self.frame(OpCode::Control(Control::Pong), payload),
                Piece::Nothing => {}
            }
        }
        if rest.len() > LEFT_BYTES {
            return Poll::Ready(Err(io::Error::other("the server sends a line without an end")));
        }
        self.left.extend_from_slice(rest);
        Poll::Ready(Ok(()))
    }
}

/// What stands at the front, with its length, if all of it has come.
fn first(is_framed: bool, bytes: &[u8]) -> io::Result<Option<(Piece<'_>, usize)>> {
    if !is_framed {
        let end = memchr::memchr(b'\n', bytes);
        return Ok(end.map(|end| (Piece::Line(&bytes[..end]), end + 1)));
    }
    let mut cursor = Cursor::new(bytes);
    let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let begin = cursor.position() as usize;
    let end = begin + length.min(LEFT_BYTES as u64) as usize;
    let Some(payload) = bytes.get(begin..end) else { return Ok(None) };
    let piece = match header.opcode {
        OpCode::Data(Data::Text) if header.is_final && length <= SERVER_LINE_BYTES as u64 => {
            Piece::Line(payload)
        }
        OpCode::Control(Control::Ping) => Piece::Ping(payload),
        OpCode::Control(Control::Pong) => Piece::Nothing,
        OpCode::Control(Control::Close) => {
            return Err(io::Error::other("the server closed the WebSocket"));
        }
        _ => return Err(io::Error::other("the server sends a frame that is no line")),
    };
    Ok(Some((piece, end)))
}

/// On Linux all of 127.0.0.0/8 is this machine. There each run has addresses of its own, so that
/// neither many connections nor those of the last runs, which rest for a minute, use up the ports.
async fn connect(address: SocketAddr, nth: usize) -> io::Result<TcpStream> {
    match address {
        SocketAddr::V4(to) if to.ip().is_loopback() && cfg!(target_os = "linux") => {
            let [low, high, ..] = std::process::id().to_le_bytes();
            let fourth = 2 + (nth / BENCH_PER_ADDRESS) as u8 % 250;
            let socket = TcpSocket::new_v4()?;
            socket.bind((Ipv4Addr::new(127, high, low, fourth), 0).into())?;
            socket.connect(address).await
        }
        _ => TcpStream::connect(address).await,
    }
}

/// The opening handshake. It reads nothing that follows the head of the answer.
async fn shake_hands(stream: &mut TcpStream, host: &str, path: &str) -> io::Result<()> {
    let key = generate_key();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    let mut seen = [0; 1024];
    loop {
        let before = head.len();
        let bytes = stream.peek(&mut seen).await?;
        head.extend_from_slice(&seen[..bytes]);
        let end = memchr::memmem::find(&head, b"\r\n\r\n").map(|end| end + 4);
        let taken = end.unwrap_or(head.len()) - before;
        stream.read_exact(&mut seen[..taken]).await?;
        if let Some(end) = end {
            head.truncate(end);
            break;
        }
        if bytes == 0 || head.len() > BENCH_HEAD_BYTES {
            return Err(io::Error::other("no HTTP server answers there"));
        }
    }
    let head = String::from_utf8_lossy(&head);
    let accepts = |line: &str| {
        let field = line.split_once(':');
        field.is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("sec-websocket-accept")
                && value.trim() == derive_accept_key(key.as_bytes())
        })
    };
    if head.starts_with("HTTP/1.1 101 ") && head.lines().any(accepts) {
        return Ok(());
    }
    let status = head.lines().next().unwrap_or_default();
    Err(io::Error::other(format!("it opens no WebSocket: {status}")))
}
