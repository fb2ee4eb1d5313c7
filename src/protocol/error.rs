use std::borrow::Cow;
use std::fmt;

use super::limits::LINE_BYTES;
use super::{BadName, BadText, Verb};

/// The codes of `ERR` lines, for programs; the text after them is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "PROTOCOL.md says when each one is sent")]
pub enum ErrorCode {
    UnknownCommand,
    BadArgs,
    BadName,
    BadCode,
    NoSuchRoom,
    NameTaken,
    RoomFull,
    RoomLocked,
    AlreadyInRoom,
    NotInRoom,
    NoSuchUser,
    NotHost,
    Muted,
    EmptyText,
    TextTooLong,
    LineTooLong,
    NotUtf8,
    ControlChar,
    BadToken,
    BadId,
    BadSecret,
    SlowDown,
    Busy,
    Storage,
    ShuttingDown,
}

impl ErrorCode {
    /// The code as it stands in a line.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::UnknownCommand => "unknown-command",
            ErrorCode::BadArgs => "bad-args",
            ErrorCode::BadName => "bad-name",
            ErrorCode::BadCode => "bad-code",
            ErrorCode::NoSuchRoom => "no-such-room",
            ErrorCode::NameTaken => "name-taken",
            ErrorCode::RoomFull => "room-full",
            ErrorCode::RoomLocked => "room-locked",
            ErrorCode::AlreadyInRoom => "already-in-room",
            ErrorCode::NotInRoom => "not-in-room",
            ErrorCode::NoSuchUser => "no-such-user",
            ErrorCode::NotHost => "not-host",
            ErrorCode::Muted => "muted",
            ErrorCode::EmptyText => "empty-text",
            ErrorCode::TextTooLong => "text-too-long",
            ErrorCode::LineTooLong => "line-too-long",
            ErrorCode::NotUtf8 => "not-utf8",
            ErrorCode::ControlChar => "control-char",
            ErrorCode::BadToken => "bad-token",
            ErrorCode::BadId => "bad-id",
            ErrorCode::BadSecret => "bad-secret",
            ErrorCode::SlowDown => "slow-down",
            ErrorCode::Busy => "busy",
            ErrorCode::Storage => "storage",
            ErrorCode::ShuttingDown => "shutting-down",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A line that is answered with `ERR`. It is a value, not a failure: the connection goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The command it answers; `None` is written `*`.
    pub verb: Option<Verb>,
    /// For programs.
    pub code: ErrorCode,
    /// For people: what to do.
    pub text: Cow<'static, str>,
}

impl Reject {
    /// The answer to a command that can't be done.
    pub fn new(verb: Verb, code: ErrorCode, text: impl Into<Cow<'static, str>>) -> Reject {
        Reject { verb: Some(verb), code, text: text.into() }
    }

    /// The answer to a line that is no command at all.
    pub fn of_line(code: ErrorCode, text: impl Into<Cow<'static, str>>) -> Reject {
        Reject { verb: None, code, text: text.into() }
    }

    /// `bad-args`, with the way the command is written.
    pub fn usage(verb: Verb) -> Reject {
        Reject::new(verb, ErrorCode::BadArgs, format!("Usage: {}", verb.usage()))
    }

    pub(crate) fn shutting_down(verb: Verb) -> Reject {
        let text = "The server is stopping; this was not done.";
        Reject::new(verb, ErrorCode::ShuttingDown, text)
    }

    pub(crate) fn bad_name(verb: Verb, why: BadName) -> Reject {
        Reject::new(verb, ErrorCode::BadName, why.to_string())
    }

    pub(crate) fn bad_text(verb: Verb, why: BadText) -> Reject {
        Reject::new(verb, why.code(), why.to_string())
    }
}

/// Why a client's line is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadLine {
    /// More than 2048 bytes.
    TooLong,
    /// Its bytes are no UTF-8.
    NotUtf8,
    /// It holds a [`forbidden`](super::forbidden) character.
    Forbidden,
}

impl BadLine {
    /// The code of the `ERR` line.
    pub fn code(self) -> ErrorCode {
        match self {
            BadLine::TooLong => ErrorCode::LineTooLong,
            BadLine::NotUtf8 => ErrorCode::NotUtf8,
            BadLine::Forbidden => ErrorCode::ControlChar,
        }
    }
}

impl From<BadLine> for Reject {
    fn from(why: BadLine) -> Reject {
        let text = match why {
            BadLine::TooLong => {
                format!("A line has at most {LINE_BYTES} bytes; send it in parts.").into()
            }
            BadLine::NotUtf8 => Cow::from("Lines are UTF-8 text; set your terminal to UTF-8."),
            BadLine::Forbidden => {
                "Lines hold no control characters; arrow keys and function keys send them.".into()
            }
        };
        Reject::of_line(why.code(), text)
    }
}

impl BadText {
    /// The code of the `ERR` line.
    pub fn code(self) -> ErrorCode {
        match self {
            BadText::Empty => ErrorCode::EmptyText,
            BadText::TooLong => ErrorCode::TextTooLong,
            BadText::Forbidden => ErrorCode::ControlChar,
        }
    }
}

/// The reply as a line.
impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = self.verb.map_or("*", Verb::as_str);
        write!(f, "ERR {verb} {} {}", self.code, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_written_with_its_verb_its_code_and_what_to_do() {
        let reject = Reject::new(Verb::Msg, ErrorCode::Storage, "Send it again later.");
        assert_eq!(reject.to_string(), "ERR MSG storage Send it again later.");
        let reject = Reject::from(BadLine::NotUtf8);
        assert!(reject.to_string().starts_with("ERR * not-utf8 Lines are UTF-8"), "{reject}");
    }
}
