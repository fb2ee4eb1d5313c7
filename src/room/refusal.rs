use std::fmt;

use crate::protocol::{BadCode, BadName, BadText, Bye, ErrorCode};

/// Why a hub or a room doesn't do what it was asked for. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Not a code's form.
    BadCode(BadCode),
    /// Not a name.
    BadName(BadName),
    /// Not a text.
    BadText(BadText),
    /// The code is of no room.
    NoSuchRoom,
    /// The room is locked by its host.
    RoomLocked,
    /// Somebody in the room has this name, or one that reads like it.
    NameTaken,
    /// The room has as many members as it may.
    RoomFull,
    /// The token opens no seat of this room.
    BadToken,
    /// The id is beyond the newest.
    BadId,
    /// Nobody in the room has this name.
    NoSuchUser,
    /// That is oneself.
    Yourself,
    /// Only the host may do this.
    NotHost,
    /// The host has muted this member.
    Muted,
    /// Too much waits for the one who is told something.
    SlowDown,
    /// There are as many rooms as there may be.
    Busy,
    /// The lobby always exists.
    Lobby,
    /// It could not be stored.
    Storage,
    /// The seat is gone, and why.
    Gone(Bye<'static>),
}

impl Refusal {
    /// The code of the protocol's `ERR` line.
    pub fn code(&self) -> ErrorCode {
        match self {
            Refusal::BadCode(_) => ErrorCode::BadCode,
            Refusal::BadName(_) => ErrorCode::BadName,
            Refusal::BadText(why) => why.code(),
            Refusal::NoSuchRoom => ErrorCode::NoSuchRoom,
            Refusal::RoomLocked => ErrorCode::RoomLocked,
            Refusal::NameTaken => ErrorCode::NameTaken,
            Refusal::RoomFull => ErrorCode::RoomFull,
            Refusal::BadToken => ErrorCode::BadToken,
            Refusal::BadId => ErrorCode::BadId,
            Refusal::NoSuchUser => ErrorCode::NoSuchUser,
            Refusal::Yourself | Refusal::Lobby => ErrorCode::BadArgs,
            Refusal::NotHost => ErrorCode::NotHost,
            Refusal::Muted => ErrorCode::Muted,
            Refusal::SlowDown => ErrorCode::SlowDown,
            Refusal::Busy => ErrorCode::Busy,
            Refusal::Storage => ErrorCode::Storage,
            Refusal::Gone(_) => ErrorCode::NotInRoom,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::BadCode(why) => return why.fmt(f),
            Refusal::BadName(why) => return why.fmt(f),
            Refusal::BadText(why) => return why.fmt(f),
            Refusal::Gone(bye) => return f.write_str(&bye.text),
            Refusal::NoSuchRoom => {
                "There is no such room. Check the code; rooms go with their last member."
            }
            Refusal::RoomLocked => "The host has locked the room. Ask to be let in.",
            Refusal::NameTaken => {
                "Somebody here has this name or one like it; take another. If that is a broken \
                 connection of yours, its name is free again within 90 s."
            }
            Refusal::RoomFull => "The room is full. Try again later.",
            Refusal::BadToken => {
                "This token opens no seat here; it may have expired. JOIN instead."
            }
            Refusal::BadId => "There is no message with this id yet.",
            Refusal::NoSuchUser => "Nobody here has this name. WHO lists all.",
            Refusal::Yourself => "That is you.",
            Refusal::NotHost => "Only the host of the room may do this.",
            Refusal::Muted => "The host has muted you; you may listen.",
            Refusal::SlowDown => "Too much waits for this member. Try again later.",
            Refusal::Busy => "There are too many rooms. Try again later.",
            Refusal::Lobby => "The lobby always exists.",
            Refusal::Storage => {
                "The server can't store it at the moment, so nobody has seen it. Send it again later."
            }
        })
    }
}

impl std::error::Error for Refusal {}

impl From<BadCode> for Refusal {
    fn from(why: BadCode) -> Refusal {
        Refusal::BadCode(why)
    }
}

impl From<BadName> for Refusal {
    fn from(why: BadName) -> Refusal {
        Refusal::BadName(why)
    }
}

impl From<BadText> for Refusal {
    fn from(why: BadText) -> Refusal {
        Refusal::BadText(why)
    }
}
