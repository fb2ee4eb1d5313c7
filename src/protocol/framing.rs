/// How a line ended; the server's lines then end the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ending {
    /// LF.
    #[default]
    Lf,
    /// CR LF, or telnet's CR NUL.
    CrLf,
}

impl Ending {
    /// The bytes of the ending as the server writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Lf => "\n",
            Ending::CrLf => "\r\n",
        }
    }
}

/// What is put around a line on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Lines(Ending),
    /// Each line is an unmasked text frame of a WebSocket (RFC 6455, 5.2).
    #[cfg_attr(not(feature = "web"), allow(dead_code, reason = "the bridge's framing"))]
    Frames,
}

impl Framing {
    /// How many framings there are, and which one this is.
    pub(crate) const COUNT: usize = 3;

    pub(crate) fn index(self) -> usize {
        match self {
            Framing::Lines(Ending::Lf) => 0,
            Framing::Lines(Ending::CrLf) => 1,
            Framing::Frames => 2,
        }
    }

    /// What stands before a line of so many bytes, and what behind it.
    pub(crate) fn around(self, line: usize) -> (Header, &'static str) {
        match self {
            Framing::Lines(ending) => (Header::NONE, ending.as_str()),
            Framing::Frames => (Header::of_text(line), ""),
        }
    }
}

/// The header of a text frame: 2 bytes, or 4 from 126 bytes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    bytes: [u8; 4],
    len: u8,
}

impl Header {
    const NONE: Header = Header { bytes: [0; 4], len: 0 };

    /// Lines are shorter than the 64 KiB that need a longer header.
    fn of_text(bytes: usize) -> Header {
        const FINAL_TEXT: u8 = 0x81;
        const TWO_MORE_BYTES: u8 = 126;
        let [high, low] = (bytes as u16).to_be_bytes();
        match bytes {
            0..126 => Header { bytes: [FINAL_TEXT, low, 0, 0], len: 2 },
            _ => Header { bytes: [FINAL_TEXT, TWO_MORE_BYTES, high, low], len: 4 },
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}
