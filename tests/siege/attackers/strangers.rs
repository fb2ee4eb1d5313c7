//! Attackers who sit nowhere.

use std::io;
use std::time::Duration;

use tokio::time::sleep;

use super::enemy::Enemy;
use super::raw::{Gate, Raw, head};

/// From one byte to the next.
const DRIBBLE: Duration = Duration::from_secs(1);
/// Bytes of a line that is far too long.
const ENDLESS_BYTES: u64 = 500 << 20;
/// Bytes that are written at one time.
const CHUNK: usize = 64 << 10;
/// Guesses that are sent at one time.
const GUESSES: usize = 16;
/// Addresses that guessers by WebSocket come from.
const ADDRESSES: u64 = 4;

impl Enemy {
    /// Tries codes, tokens and operators' secrets.
    pub(super) async fn guess(&mut self) -> io::Result<()> {
        let gate = match self.number % 2 {
            0 => self.socket(ADDRESSES),
            _ => Gate::Line,
        };
        let mut raw = self.connect(gate).await?;
        loop {
            let mut lines = Vec::new();
            for _ in 0..GUESSES {
                let (code, token) = (self.dice.code(), self.dice.roll());
                lines.push(match self.dice.within(0..3) {
                    0 => format!("JOIN {code} guesser 0"),
                    1 => format!("RESUME LOBBY {token:032x} 0"),
                    _ => format!("OPER {token}"),
                });
            }
            raw.talk(&lines).await?;
        }
    }

    pub(super) async fn dribble_a_line(&mut self) -> io::Result<()> {
        let raw = self.connect(Gate::Line).await?;
        dribble(raw, "MSG I have all the time in the world. ").await
    }

    /// One head, or the head of a frame after it.
    pub(super) async fn dribble_a_head(&mut self) -> io::Result<()> {
        if self.number.is_multiple_of(2) {
            let raw = self.connect(Gate::Web).await?;
            return dribble(raw, "GET / HTTP/1.1\r\nHost: chat.example\r\nX: 1\r\nX: 2\r\n").await;
        }
        let gate = self.socket(1 << 16);
        let mut raw = self.connect(gate).await?;
        raw.write(&head(0x81, 1000)).await?;
        dribble(raw, "MSG I have all the time in the world. ").await
    }

    /// Bytes without a sense, on the line port, on the bridge, and in a WebSocket.
    pub(super) async fn babble(&mut self) -> io::Result<()> {
        let gate = match self.number % 4 {
            0 => Gate::Web,
            1 => self.socket(1 << 16),
            _ => Gate::Line,
        };
        let mut raw = self.connect(gate).await?;
        for _ in 0..100 {
            let mut bytes = self.dice.bytes(1 << 10);
            match self.dice.within(0..4) {
                // Telnet's commands, ends of lines, and what is almost UTF-8.
                0 => bytes.iter_mut().for_each(|byte| *byte |= 0xC0),
                1 => {
                    bytes.iter_mut().for_each(|byte| *byte = if *byte < 99 { b'\n' } else { *byte })
                }
                2 if matches!(gate, Gate::Socket { .. }) => {
                    // A ping, a fragment, a text that isn't UTF-8, a frame of a kind that isn't.
                    let first = [0x89, 0x01, 0x81, 0x83][self.dice.within(0..4) as usize];
                    bytes.truncate(100);
                    bytes = [head(first, 100), bytes].concat();
                }
                _ => {}
            }
            raw.exchange(&bytes).await?;
        }
        Ok(())
    }

    /// 500 MiB in a line, a frame, a message of many frames, or the head of a request.
    pub(super) async fn never_end_a_line(&mut self) -> io::Result<()> {
        let gate = match self.number % 5 {
            0 | 1 => self.socket(1 << 16),
            2 => Gate::Web,
            _ => Gate::Line,
        };
        let mut raw = self.connect(gate).await?;
        let mut chunk = vec![b'x'; CHUNK];
        match self.number % 5 {
            0 => raw.write(&head(0x81, ENDLESS_BYTES)).await?,
            1 => {
                let frame = [head(0x01, 1000), vec![b'x'; 1000]].concat();
                raw.write(&frame).await?;
                chunk = [head(0x00, 1000), vec![b'x'; 1000]].concat().repeat(CHUNK / 1000);
            }
            2 => raw.write(b"GET /").await?,
            _ => {}
        }
        for _ in 0..ENDLESS_BYTES / chunk.len() as u64 {
            raw.exchange(&chunk).await?;
        }
        raw.talk(&["", "PING"]).await
    }

    /// Is gone before anything is said, or in the midst of it.
    pub(super) async fn knock(&mut self) -> io::Result<()> {
        let gate = [Gate::Line, Gate::Web][self.number % 2];
        let mut raw = self.connect(gate).await?;
        match self.dice.within(0..4) {
            0 => drop(raw),
            1 => raw.reset()?,
            2 => {
                raw.write(b"JOIN LOBBY knock").await?;
                raw.reset()?;
            }
            _ => {
                raw.write(b"GET /ws HTTP/1.1\r\n\r\n").await?;
                drop(raw);
            }
        }
        Ok(())
    }

    /// Asks for one page after the other; every second never reads them.
    pub(super) async fn browse(&mut self) -> io::Result<()> {
        let mut raw = self.connect(Gate::Web).await?;
        let path = ["/", "/metrics", "/healthz", "/nowhere"][self.number / 2 % 4];
        let request = format!("GET {path} HTTP/1.1\r\nHost: chat.example\r\n\r\n");
        match self.round % 4 {
            0 => {
                raw.write(b"POST / HTTP/1.1\r\nHost: chat.example\r\nContent-Length: 9\r\n\r\n")
                    .await?;
                raw.hear_out().await
            }
            _ if self.number.is_multiple_of(2) => {
                for _ in 0..20 {
                    raw.exchange(request.as_bytes()).await?;
                    sleep(Duration::from_millis(50)).await;
                }
                Ok(())
            }
            _ => {
                for _ in 0..1000 {
                    raw.write(request.as_bytes()).await?;
                }
                Ok(())
            }
        }
    }
}

/// Writes a byte now and then, until nobody takes it any more.
async fn dribble(mut raw: Raw, text: &str) -> io::Result<()> {
    for byte in text.bytes().cycle() {
        raw.exchange(&[byte]).await?;
        sleep(DRIBBLE).await;
    }
    Ok(())
}
