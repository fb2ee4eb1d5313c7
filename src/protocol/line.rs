use std::fmt::{self, Display, Write};
use std::sync::Arc;

use super::limits::SERVER_LINE_BYTES;

/// One line to a client, encoded once and shared by all who get it: its text and an LF.
#[derive(Clone, PartialEq, Eq)]
pub struct Line(Arc<[u8]>);

impl Line {
    /// Encodes an event or a reply.
    pub fn of(content: &impl Display) -> Line {
        Line::encode(content, &mut String::with_capacity(128))
    }

    /// The same in a buffer that is used again; a kept line takes as much memory as it has bytes.
    pub(crate) fn encode(content: &impl Display, buffer: &mut String) -> Line {
        buffer.clear();
        // Writing to a String grows it; it doesn't fail.
        let _ = writeln!(buffer, "{content}");
        debug_assert!(buffer.len() <= SERVER_LINE_BYTES + 1, "a line of {} bytes", buffer.len());
        Line(buffer.as_bytes().into())
    }

    /// The line without its ending.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.content()).unwrap_or_default()
    }

    /// The bytes of the line without its ending.
    pub(crate) fn content(&self) -> &[u8] {
        &self.0[..self.0.len() - 1]
    }

    /// The line with its LF.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Of its bytes as many as fall to each who has it.
    pub(crate) fn share(&self) -> usize {
        self.len() / Arc::strong_count(&self.0)
    }

    /// Whether it stands for one that a damaged store has lost: no line of a room is empty.
    pub(crate) fn is_lost(&self) -> bool {
        self.0.len() == 1
    }

    /// Bytes of the line with its LF: what it counts for in a room's bounds.
    #[allow(clippy::len_without_is_empty, reason = "a line has at least its LF")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// A line can hold a text or a token: only its length shows in logs.
impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_line_says_does_not_show_in_logs() {
        let line = Line::of(&"OK PING Zoë");
        assert_eq!((line.as_str(), line.len()), ("OK PING Zoë", 13));
        assert_eq!(format!("{line:?}"), "Line(13 bytes)");
    }
}
