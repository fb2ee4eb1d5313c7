//! A connection of an attacker: bytes, and no more sense than it needs to come in.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::dice::Dice;
use super::{Deeds, Field, Kind};

/// How long a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a reader's system holds for him. The less, the sooner the server has to hold it.
const RECEIVE_BYTES: u32 = 4 << 10;

/// Where an attacker goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Line,
    /// Bytes of HTTP.
    Web,
    /// A WebSocket, already open, of an address that the proxy tells.
    Socket {
        forwarded_for: Ipv4Addr,
    },
}

pub(super) struct Raw {
    stream: TcpStream,
    is_framed: bool,
    field: Arc<Field>,
    kind: Kind,
}

impl Raw {
    pub(super) async fn connect(
        gate: Gate,
        field: &Arc<Field>,
        kind: Kind,
        dice: &mut Dice,
    ) -> io::Result<Raw> {
        let socket = TcpSocket::new_v4()?;
        // From everywhere: one address has not ports enough.
        let [a, b, c, _] = (dice.roll() as u32).to_be_bytes();
        let from = Ipv4Addr::new(127, a % 200 + 1, b, c % 200 + 1);
        socket.bind(SocketAddr::V4(SocketAddrV4::new(from, 0)))?;
        socket.set_recv_buffer_size(RECEIVE_BYTES)?;
        let to = if gate == Gate::Line { field.line } else { field.web };
        let stream = timeout(PATIENCE, socket.connect(to)).await??;
        let field = field.clone();
        let mut raw = Raw { stream, is_framed: false, field, kind };
        raw.deeds().connections.fetch_add(1, Ordering::Relaxed);
        if let Gate::Socket { forwarded_for } = gate {
            timeout(PATIENCE, raw.open_web_socket(forwarded_for)).await??;
        }
        Ok(raw)
    }

    async fn open_web_socket(&mut self, forwarded_for: Ipv4Addr) -> io::Result<()> {
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: chat.example\r\nX-Forwarded-For: {forwarded_for}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.write(request.as_bytes()).await?;
        let head = self.read_until("\r\n\r\n").await?;
        if !head.starts_with("HTTP/1.1 101 ") {
            return Err(io::Error::other(head));
        }
        self.is_framed = true;
        Ok(())
    }

    fn deeds(&self) -> &Deeds {
        self.field.deeds(self.kind)
    }

    /// Reads until this has come; what follows it may be lost.
    pub(super) async fn read_until(&mut self, end: &str) -> io::Result<String> {
        let mut all = Vec::new();
        loop {
            self.stream.readable().await?;
            match self.stream.try_read_buf(&mut all) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
            let text = String::from_utf8_lossy(&all);
            if text.contains(end) {
                return Ok(text.into_owned());
            }
        }
    }

    /// Writes all, and reads nothing.
    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.writable().await?;
            bytes = &bytes[self.try_write(bytes)?..];
        }
        Ok(())
    }

    /// Writes all, and throws away what comes meanwhile.
    pub(super) async fn exchange(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            tokio::select! {
                ready = self.stream.readable() => {
                    ready?;
                    self.throw_away()?;
                }
                ready = self.stream.writable() => {
                    ready?;
                    bytes = &bytes[self.try_write(bytes)?..];
                }
            }
        }
        Ok(())
    }

    /// Reads to the end, and throws it away.
    pub(super) async fn hear_out(&mut self) -> io::Result<()> {
        loop {
            self.stream.readable().await?;
            self.throw_away()?;
        }
    }

    fn throw_away(&mut self) -> io::Result<()> {
        let mut trash = [0; 16 << 10];
        match self.stream.try_read(&mut trash) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
            Ok(written) => {
                self.deeds().bytes.fetch_add(written as u64, Ordering::Relaxed);
                Ok(written)
            }
        }
    }

    /// Lines as they travel here.
    pub(super) fn encode<L: AsRef<str>>(&self, lines: impl IntoIterator<Item = L>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in lines {
            let line = line.as_ref().as_bytes();
            if self.is_framed {
                bytes.extend(head(0x81, line.len() as u64));
            }
            bytes.extend_from_slice(line);
            if !self.is_framed {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    /// Sends lines, and reads nothing.
    pub(super) async fn tell<L: AsRef<str>>(&mut self, lines: &[L]) -> io::Result<()> {
        let bytes = self.encode(lines);
        self.write(&bytes).await?;
        self.deeds().lines.fetch_add(lines.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Sends lines, and throws away what comes meanwhile.
    pub(super) async fn talk<L: AsRef<str>>(&mut self, lines: &[L]) -> io::Result<()> {
        let bytes = self.encode(lines);
        self.exchange(&bytes).await?;
        self.deeds().lines.fetch_add(lines.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// The end comes without a word, and what is on its way is lost.
    pub(super) fn reset(self) -> io::Result<()> {
        self.stream.set_zero_linger()
    }
}

/// The head of a frame whose mask changes nothing.
pub(super) fn head(first: u8, length: u64) -> Vec<u8> {
    let mut head = vec![first];
    match length {
        0..126 => head.push(0x80 | length as u8),
        126..0x1_0000 => {
            head.push(0x80 | 126);
            head.extend((length as u16).to_be_bytes());
        }
        _ => {
            head.push(0x80 | 127);
            head.extend(length.to_be_bytes());
        }
    }
    head.extend([0; 4]);
    head
}
