use std::borrow::Cow;
use std::fmt;

use super::Time;

/// What the server says without being asked.
///
/// [`Display`](fmt::Display) writes it as a line without ending, [`Event::parse`] reads one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are those of the event table in PROTOCOL.md")]
pub enum Event<'a> {
    /// Somebody said something to the room.
    Msg { id: u64, time: Time, name: Cow<'a, str>, text: Cow<'a, str> },
    /// Somebody said something to this member only.
    Tell { time: Time, name: Cow<'a, str>, text: Cow<'a, str> },
    /// Somebody entered.
    Joined { name: Cow<'a, str> },
    /// Somebody left.
    Left { name: Cow<'a, str>, reason: LeftReason },
    /// Somebody has a new name.
    Renamed { old: Cow<'a, str>, new: Cow<'a, str> },
    /// So many messages were skipped for this reader, and are no longer kept.
    Gap { messages: u64 },
    /// Something to know.
    Notice { kind: NoticeKind, text: Cow<'a, str> },
    /// The last line of the connection or of the seat.
    Bye(Bye<'a>),
}

/// Why a connection or a seat ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bye<'a> {
    /// For programs.
    pub reason: ByeReason,
    /// For people.
    pub text: Cow<'a, str>,
}

/// Why a line is not an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadEvent;

/// Declares an enum whose variants are words of the protocol.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$variant_about:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name { $($(#[$variant_about])* $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The word as it stands in a line.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }

            /// Reads the word.
            pub fn parse(word: &str) -> Option<$name> {
                match word { $($word => Some($name::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// How somebody left.
    LeftReason {
        /// By `LEAVE` or `QUIT`.
        Quit = "quit",
        /// At the end of his input.
        Eof = "eof",
        /// The connection broke or stalled, or its held seat expired.
        Lost = "lost",
        /// Sent away by a host.
        Kicked = "kicked",
    }
}

words! {
    /// What a notice is about.
    NoticeKind {
        /// The server is stopping.
        Shutdown = "shutdown",
        /// Nobody else can join now.
        Locked = "locked",
        /// People can join again.
        Unlocked = "unlocked",
        /// You may listen only.
        Muted = "muted",
        /// You may speak again.
        Unmuted = "unmuted",
        /// You are the host now.
        Host = "host",
        /// An operator speaks to all.
        Announce = "announce",
        /// The server is here (the answer to telnet's AYT).
        Here = "here",
    }
}

words! {
    /// Why a connection ends.
    ByeReason {
        /// Asked for by `QUIT`.
        Quit = "quit",
        /// The end of the client's input.
        Eof = "eof",
        /// The seat was resumed from another connection.
        Replaced = "replaced",
        /// Sent away by a host.
        Kicked = "kicked",
        /// The room was closed by its host.
        Closed = "closed",
        /// Nothing was read for too long.
        Slow = "slow",
        /// The server is full.
        Busy = "busy",
        /// Nothing was said for too long.
        Idle = "idle",
        /// The server is stopping.
        Shutdown = "shutdown",
    }
}

impl Bye<'_> {
    /// The text that says what `reason` means and what to do.
    pub fn new(reason: ByeReason) -> Bye<'static> {
        let text = match reason {
            ByeReason::Quit => "Goodbye.",
            ByeReason::Eof => "Your input has ended. Goodbye.",
            ByeReason::Replaced => "Your seat was taken over by another connection of yours.",
            ByeReason::Kicked => "The host sent you away.",
            ByeReason::Closed => "The host closed the room.",
            ByeReason::Slow => "You have read nothing for too long. Come back any time.",
            ByeReason::Busy => "The server is full. Try again later.",
            ByeReason::Idle => "Nothing came from you for too long. Come back any time.",
            ByeReason::Shutdown => "The server is stopping. Try again later.",
        };
        Bye { reason, text: text.into() }
    }
}

impl<'a> Event<'a> {
    /// Reads an event as the server writes it; replies and data lines are none.
    pub fn parse(line: &'a str) -> Result<Event<'a>, BadEvent> {
        Event::read(line).ok_or(BadEvent)
    }

    fn read(line: &'a str) -> Option<Event<'a>> {
        let (word, rest) = line.split_once(' ')?;
        let field = |text: &'a str| text.split_once(' ');
        let whole = |text: &'a str| {
            (!text.is_empty() && !text.contains(' ')).then_some(Cow::Borrowed(text))
        };
        Some(match word {
            "MSG" => {
                let (id, rest) = field(rest)?;
                let (time, rest) = field(rest)?;
                let (name, text) = field(rest)?;
                let (id, time) = (id.parse().ok()?, Time::parse(time)?);
                Event::Msg { id, time, name: name.into(), text: text.into() }
            }
            "TELL" => {
                let (time, rest) = field(rest)?;
                let (name, text) = field(rest)?;
                Event::Tell { time: Time::parse(time)?, name: name.into(), text: text.into() }
            }
            "JOINED" => Event::Joined { name: whole(rest)? },
            "LEFT" => {
                let (name, reason) = field(rest)?;
                Event::Left { name: name.into(), reason: LeftReason::parse(reason)? }
            }
            "RENAMED" => {
                let (old, new) = field(rest)?;
                Event::Renamed { old: old.into(), new: whole(new)? }
            }
            "GAP" => Event::Gap { messages: rest.parse().ok()? },
            "NOTICE" => {
                let (kind, text) = field(rest)?;
                Event::Notice { kind: NoticeKind::parse(kind)?, text: text.into() }
            }
            "BYE" => {
                let (reason, text) = field(rest)?;
                Event::Bye(Bye { reason: ByeReason::parse(reason)?, text: text.into() })
            }
            _ => return None,
        })
    }

    /// The event with its own copies of all texts.
    pub fn into_owned(self) -> Event<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        match self {
            Event::Msg { id, time, name, text } => {
                Event::Msg { id, time, name: own(name), text: own(text) }
            }
            Event::Tell { time, name, text } => {
                Event::Tell { time, name: own(name), text: own(text) }
            }
            Event::Joined { name } => Event::Joined { name: own(name) },
            Event::Left { name, reason } => Event::Left { name: own(name), reason },
            Event::Renamed { old, new } => Event::Renamed { old: own(old), new: own(new) },
            Event::Gap { messages } => Event::Gap { messages },
            Event::Notice { kind, text } => Event::Notice { kind, text: own(text) },
            Event::Bye(Bye { reason, text }) => Event::Bye(Bye { reason, text: own(text) }),
        }
    }
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Msg { id, time, name, text } => write!(f, "MSG {id} {time} {name} {text}"),
            Event::Tell { time, name, text } => write!(f, "TELL {time} {name} {text}"),
            Event::Joined { name } => write!(f, "JOINED {name}"),
            Event::Left { name, reason } => write!(f, "LEFT {name} {reason}"),
            Event::Renamed { old, new } => write!(f, "RENAMED {old} {new}"),
            Event::Gap { messages } => write!(f, "GAP {messages}"),
            Event::Notice { kind, text } => write!(f, "NOTICE {kind} {text}"),
            Event::Bye(Bye { reason, text }) => write!(f, "BYE {reason} {text}"),
        }
    }
}

impl fmt::Display for BadEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the line is not an event of parlor/1")
    }
}

impl std::error::Error for BadEvent {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_read_back_as_they_are_written() {
        let time = Time::parse("2026-11-21T19:06:00.123Z").unwrap();
        for event in [
            Event::Msg { id: 7, time, name: "sam".into(), text: " two  blanks ".into() },
            Event::Tell { time, name: "sam".into(), text: "BYE quit".into() },
            Event::Joined { name: "sam".into() },
            Event::Left { name: "sam".into(), reason: LeftReason::Lost },
            Event::Renamed { old: "sam".into(), new: "kim".into() },
            Event::Gap { messages: 0 },
            Event::Notice { kind: NoticeKind::Host, text: "You are.".into() },
            Event::Bye(Bye::new(ByeReason::Busy)),
        ] {
            assert_eq!(Event::parse(&event.to_string()), Ok(event.clone()));
            assert_eq!(event.clone().into_owned(), event);
        }
    }

    #[test]
    fn every_bye_says_why_and_reads_back() {
        for word in
            ["quit", "eof", "replaced", "kicked", "closed", "slow", "busy", "idle", "shutdown"]
        {
            let bye = Event::Bye(Bye::new(ByeReason::parse(word).unwrap()));
            assert_eq!(Event::parse(&bye.to_string()), Ok(bye.clone()));
            assert!(bye.to_string().starts_with(&format!("BYE {word} ")), "{bye}");
        }
    }

    #[test]
    fn replies_and_rubbish_are_no_events() {
        for line in ["OK MSG 1 2026-11-21T19:06:00.123Z", "MSG", "MSG 1 now sam x", "LEFT sam", ""]
        {
            assert_eq!(Event::parse(line), Err(BadEvent), "{line}");
        }
        assert_eq!(BadEvent.to_string(), "the line is not an event of parlor/1");
    }
}
