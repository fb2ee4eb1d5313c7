//! Why a conversation ends, and what is said of it.

use crate::metrics::Limit;
use crate::protocol::{Bye, ByeReason};
use crate::room::Refusal;

/// Why a conversation ends.
#[derive(Debug)]
pub(crate) enum End {
    Quit,
    Eof,
    /// The seat is gone: replaced, kicked or closed.
    Gone(Bye<'static>),
    /// The client doesn't read, and has reached this limit.
    Slow(Limit),
    /// The first line has begun and never ended.
    Idle,
    /// A frame of a WebSocket is too long.
    Frame,
    Broken,
    Shutdown,
    Http,
    Tls,
}

impl End {
    pub(super) fn bye(&self) -> Option<Bye<'static>> {
        let reason = match self {
            End::Gone(bye) => return Some(bye.clone()),
            End::Quit => ByeReason::Quit,
            End::Eof => ByeReason::Eof,
            End::Slow(_) => ByeReason::Slow,
            End::Idle => {
                let text = "You began a line and didn't end it. Come back any time.";
                return Some(Bye { reason: ByeReason::Idle, text: text.into() });
            }
            End::Shutdown => ByeReason::Shutdown,
            End::Frame | End::Broken | End::Http | End::Tls => return None,
        };
        Some(Bye::new(reason))
    }

    /// The limit that was reached, if one was.
    pub(crate) fn limit(&self) -> Option<Limit> {
        match self {
            End::Slow(limit) => Some(*limit),
            End::Idle => Some(Limit::FirstCommand),
            End::Frame => Some(Limit::Frame),
            _ => None,
        }
    }

    /// The word that the log has for it.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            End::Frame => "frame",
            End::Broken => "broken",
            End::Http => "http",
            End::Tls => "tls",
            End::Gone(bye) => bye.reason.as_str(),
            End::Quit => "quit",
            End::Eof => "eof",
            End::Slow(_) => "slow",
            End::Idle => "idle",
            End::Shutdown => "shutdown",
        }
    }
}

/// A seat operation that is refused because the seat is gone ends the conversation.
impl From<Refusal> for End {
    fn from(refusal: Refusal) -> End {
        match refusal {
            Refusal::Gone(bye) => End::Gone(bye),
            _ => End::Broken,
        }
    }
}
