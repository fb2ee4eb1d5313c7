//! A client's connection: bytes both ways, cut anyhow.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use turmoil::net::TcpStream;
use turmoil::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

pub(crate) struct Wire {
    reading: OwnedReadHalf,
    writing: OwnedWriteHalf,
    input: Vec<u8>,
    output: Vec<u8>,
    /// The most bytes of one write.
    cut: usize,
    /// A line is written in part.
    is_mid_line: bool,
}

/// What a wait has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    Something,
    /// The time is over.
    Nothing,
    End,
}

impl Wire {
    /// Connects, if that can be done in time. One write takes at most `cut` bytes.
    pub(crate) async fn connect(patience: Duration, cut: usize) -> Option<Wire> {
        let connecting = TcpStream::connect(("server", crate::PORT));
        let stream = tokio::time::timeout(patience, connecting).await.ok()?.ok()?;
        let (reading, writing) = stream.into_split();
        let (input, output) = (Vec::new(), Vec::new());
        Some(Wire { reading, writing, input, output, cut, is_mid_line: false })
    }

    pub(crate) fn send(&mut self, line: &str) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.push(b'\n');
    }

    /// The next whole line that has come.
    pub(crate) fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.input.iter().position(|byte| *byte == b'\n')?;
        let mut line: Vec<u8> = self.input.drain(..=end).collect();
        line.pop();
        Some(line)
    }

    /// Writes what waits, and reads, unless the client has stalled, until something comes.
    pub(crate) async fn exchange(&mut self, time: Duration, stalls: bool) -> Came {
        let over = tokio::time::sleep(time);
        tokio::pin!(over);
        loop {
            let Wire { reading, writing, input, output, cut, .. } = self;
            let part = &output[..output.len().min(*cut)];
            tokio::select! {
                biased;
                read = reading.read_buf(input), if !stalls => {
                    return match read {
                        Ok(0) | Err(_) => Came::End,
                        Ok(_) => Came::Something,
                    };
                }
                written = writing.write(part), if !part.is_empty() => {
                    match written {
                        Ok(bytes) => self.has_written(bytes),
                        // What was read before is read to its end all the same.
                        Err(_) if !stalls => output.clear(),
                        Err(_) => return Came::End,
                    }
                }
                () = &mut over => return Came::Nothing,
            }
        }
    }

    /// Writes what waits, then ends the sending side.
    pub(crate) async fn half_close(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            let bytes = self.writing.write(&self.output).await?;
            self.has_written(bytes);
        }
        self.writing.shutdown().await
    }

    fn has_written(&mut self, bytes: usize) {
        self.is_mid_line = self.output.drain(..bytes).next_back() != Some(b'\n');
    }

    /// Whether closing now would be an end of file in the middle of a line, which ends the line.
    pub(crate) fn is_mid_line(&self) -> bool {
        self.is_mid_line
    }
}
