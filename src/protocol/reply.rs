use std::fmt;

use super::{Name, RoomCode, Time, Token, Verb};

/// The `OK` line that answers a command. The other answer is a [`Reject`](super::Reject).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are those of the command table in PROTOCOL.md")]
pub enum Reply<'a> {
    Created {
        code: RoomCode,
        name: Option<&'a Name>,
    },
    Joined {
        code: RoomCode,
        name: &'a Name,
        last_id: u64,
        members: usize,
        lines: usize,
    },
    Said {
        id: u64,
        time: Time,
    },
    Told {
        name: &'a Name,
    },
    /// `OK WHO`, `OK HISTORY` and `OK HELP` count the data lines before them.
    Lines {
        verb: Verb,
        lines: usize,
    },
    Named {
        name: &'a Name,
    },
    Holding {
        token: Token,
        seconds: u64,
    },
    Resumed {
        code: RoomCode,
        name: &'a Name,
        last_id: u64,
        members: usize,
        lines: usize,
        said: u64,
    },
    Left {
        code: RoomCode,
    },
    Talking {
        on: bool,
    },
    Pong {
        text: &'a str,
    },
    /// `OK KICK`, `OK MUTE` and `OK UNMUTE` name whom they concern.
    Did {
        verb: Verb,
        name: &'a Name,
    },
    /// A command with nothing more to say.
    Done(Verb),
    Announced {
        connections: usize,
    },
}

/// A data line of `WHO`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: Name,
    pub(crate) held: bool,
    pub(crate) host: bool,
    pub(crate) muted: bool,
}

impl fmt::Display for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Created { code, name: None } => write!(f, "OK CREATE {code}"),
            Reply::Created { code, name: Some(name) } => write!(f, "OK CREATE {code} {name}"),
            Reply::Joined { code, name, last_id, members, lines } => {
                write!(f, "OK JOIN {code} {name} {last_id} {members} {lines}")
            }
            Reply::Said { id, time } => write!(f, "OK MSG {id} {time}"),
            Reply::Told { name } => write!(f, "OK TELL {name}"),
            Reply::Lines { verb, lines } => write!(f, "OK {verb} {lines}"),
            Reply::Named { name } => write!(f, "OK NICK {name}"),
            Reply::Holding { token, seconds } => write!(f, "OK HOLD {token} {seconds}"),
            Reply::Resumed { code, name, last_id, members, lines, said } => {
                write!(f, "OK RESUME {code} {name} {last_id} {members} {lines} {said}")
            }
            Reply::Left { code } => write!(f, "OK LEAVE {code}"),
            Reply::Talking { on: true } => f.write_str("OK TALK on"),
            Reply::Talking { on: false } => f.write_str("OK TALK off"),
            Reply::Pong { text: "" } => f.write_str("OK PING"),
            Reply::Pong { text } => write!(f, "OK PING {text}"),
            Reply::Did { verb, name } => write!(f, "OK {verb} {name}"),
            Reply::Done(verb) => write!(f, "OK {verb}"),
            Reply::Announced { connections } => write!(f, "OK ANNOUNCE {connections}"),
        }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let here = if self.held { "held" } else { "here" };
        write!(f, "USER {} {here}", self.name)?;
        if self.host {
            f.write_str(" host")?;
        }
        if self.muted {
            f.write_str(" muted")?;
        }
        Ok(())
    }
}
