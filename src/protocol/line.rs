use std::fmt::{self, Display};
use std::io::Write;

use bytes::Bytes;

use super::limits::SERVER_LINE_BYTES;

/// One line to a client, encoded once and shared by all who get it: its text and an LF.
#[derive(Clone, PartialEq, Eq)]
pub struct Line(Bytes);

impl Line {
    /// Encodes an event or a reply.
    pub fn of(content: &impl Display) -> Line {
        let mut bytes = Vec::with_capacity(128);
        // Writing to a Vec grows it; it doesn't fail.
        let _ = writeln!(bytes, "{content}");
        debug_assert!(bytes.len() <= SERVER_LINE_BYTES + 1, "a line of {} bytes", bytes.len());
        // It may be kept for long: as much memory as bytes.
        bytes.shrink_to_fit();
        Line(bytes.into())
    }

    /// The line without its ending.
    pub fn as_str(&self) -> &str {
        let text = &self.0[..self.0.len() - 1];
        std::str::from_utf8(text).unwrap_or_default()
    }

    /// The line with its LF.
    pub fn bytes(&self) -> &Bytes {
        &self.0
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
