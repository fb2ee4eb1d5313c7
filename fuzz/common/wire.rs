//! One connection to the bridge, in memory and under a clock that waits for nobody.

#![allow(dead_code, reason = "each target needs a part of it")]

use std::time::Duration;

use parlor::fuzzing::Bridge;
use parlor::{Clock, Config, Random};
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};

/// When a connection must have ended whose client has said all. No time passes for it.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes on their way, in each direction.
const BUFFER_BYTES: usize = 4096;
/// Bytes that may be answered to one connection here.
const MOST_BYTES: u64 = 16 << 20;

/// Sends the bytes to a fresh bridge in pieces of these lengths, then the rest and the end of file.
/// Returns all that was answered until the bridge closed.
pub fn talk(bytes: &[u8], lengths: &[u8]) -> Vec<u8> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let mut config = Config::default();
        config.listen.clear();
        config.clock = Clock::new(|| std::time::UNIX_EPOCH + Duration::from_secs(1_795_000_000));
        config.random = Random::new(|bytes| bytes.fill(0x5a));
        let bridge = Bridge::new(config);
        let (here, there) = tokio::io::duplex(BUFFER_BYTES);
        let serving = bridge.open(here);
        let (mut reader, mut writer) = split(there);
        let sending = async {
            let mut rest = bytes;
            for &length in lengths {
                let (piece, left) = rest.split_at(usize::from(length).min(rest.len()));
                // The bridge may have closed: what it has said counts all the same.
                if writer.write_all(piece).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
                rest = left;
            }
            let _ = writer.write_all(rest).await;
            let _ = writer.shutdown().await;
        };
        let mut received = Vec::new();
        let receiving = async {
            let read = (&mut reader).take(MOST_BYTES).read_to_end(&mut received).await;
            read.expect("an end");
        };
        let both = async { tokio::join!(sending, receiving) };
        tokio::time::timeout(PATIENCE, both).await.expect("the connection ends");
        assert!((received.len() as u64) < MOST_BYTES, "it never stops answering");
        serving.await.expect("no panic");
        received
    })
}

/// The head of an answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// Bytes of the head.
    bytes: usize,
}

impl Answer {
    pub fn read(bytes: &[u8]) -> Answer {
        let end = bytes.windows(4).position(|end| end == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("half a head: {}", bytes.escape_ascii()));
        let head = str::from_utf8(&bytes[..end]).expect("a head of text");
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or_default();
        let status = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "));
        let status = status.and_then(|rest| rest.get(..3)?.parse().ok());
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").expect("a header");
            (name.to_ascii_lowercase(), value.to_owned())
        };
        Answer {
            status: status.unwrap_or_else(|| panic!("no status: {line}")),
            headers: lines.map(field).collect(),
            bytes: end + 4,
        }
    }

    /// A header's only value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(header, _)| header == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} comes twice: {self:?}");
        value
    }

    /// What follows the answer. `may_be_bare`: it may have no body, whatever its length says.
    pub fn rest<'a>(&self, bytes: &'a [u8], may_be_bare: bool) -> &'a [u8] {
        let length = self.header("content-length").expect("a length");
        let length: usize = length.parse().expect("a number");
        let rest = &bytes[self.bytes..];
        if may_be_bare && (rest.is_empty() || rest.starts_with(b"HTTP/1.")) {
            return rest;
        }
        assert!(rest.len() >= length, "{} of {length} bytes of a body", rest.len());
        &rest[length..]
    }

    /// Where the answer ends that switches to the WebSocket.
    pub fn end(&self) -> usize {
        self.bytes
    }
}
