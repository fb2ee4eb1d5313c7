//! The language of parlor/1: commands from lines, events and replies to lines.
//!
//! Pure: no input or output, no clock, no lock. `PROTOCOL.md` is its specification.

mod code;
mod command;
mod error;
mod event;
mod framing;
pub mod limits;
mod line;
mod name;
mod reply;
mod text;
mod time;
mod token;
mod verb;

pub use code::{BadCode, RoomCode};
pub use command::{Command, HistoryRange};
pub use error::{BadLine, ErrorCode, Reject};
pub use event::{BadEvent, Bye, ByeReason, Event, LeftReason, NoticeKind};
pub use framing::Ending;
pub(crate) use framing::{Framing, Header};
pub use line::Line;
pub use name::{BadName, Name};
pub use reply::Reply;
pub(crate) use reply::User;
pub(crate) use text::is_blank;
pub use text::{BadText, Text, forbidden};
pub use time::Time;
pub use token::{Token, TokenHash};
pub use verb::{Standing, Verb};
