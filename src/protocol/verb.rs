use std::fmt;

/// The first word of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "Verb::help tells each one")]
pub enum Verb {
    Create,
    Join,
    Msg,
    Tell,
    Who,
    History,
    Nick,
    Hold,
    Resume,
    Leave,
    Talk,
    Stay,
    Ping,
    Help,
    Quit,
    Lock,
    Unlock,
    Kick,
    Mute,
    Unmute,
    Close,
    Oper,
    Announce,
}

/// Where somebody must be for a command to make sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In a room or not.
    Anywhere,
    /// In a room: else `not-in-room`.
    Seated,
    /// In no room: else `already-in-room`.
    Unseated,
}

impl Verb {
    /// All verbs.
    pub const ALL: &'static [Verb] = &[
        Verb::Create,
        Verb::Join,
        Verb::Msg,
        Verb::Tell,
        Verb::Who,
        Verb::History,
        Verb::Nick,
        Verb::Leave,
        Verb::Quit,
        Verb::Talk,
        Verb::Hold,
        Verb::Resume,
        Verb::Stay,
        Verb::Ping,
        Verb::Help,
        Verb::Lock,
        Verb::Unlock,
        Verb::Kick,
        Verb::Mute,
        Verb::Unmute,
        Verb::Close,
        Verb::Oper,
        Verb::Announce,
    ];

    /// What `HELP` tells a newcomer: all verbs, on one screen.
    pub const OVERVIEW: &'static [&'static str] = &[
        "Type a command, then Enter. First CREATE or JOIN a room, then MSG or TALK.",
        "CREATE name             make a room; give its code to a friend",
        "JOIN code name          enter a room, after its latest messages",
        "MSG text                say something to everybody in the room",
        "TALK                    then a bare line is said, and /WHO is a command",
        "TELL name text          say something to one member only",
        "WHO                     who is here",
        "HISTORY [n]             what was said before",
        "NICK name               change your name",
        "LEAVE                   leave the room",
        "QUIT                    leave and close the connection",
        "HOLD [seconds]          keep your seat that long if your connection breaks",
        "RESUME code token id    take it again, and get what you missed",
        "STAY                    go on getting events after the end of your input",
        "PING [text]             answered after all that happened before it",
        "The host: LOCK, UNLOCK, KICK name [reason], MUTE name, UNMUTE name, CLOSE",
        "Operators: OPER secret, ANNOUNCE text",
        "HELP command tells more about one.",
    ];

    /// Reads a verb in any ASCII case.
    pub fn parse(word: &str) -> Option<Verb> {
        Verb::ALL.iter().copied().find(|verb| verb.as_str().eq_ignore_ascii_case(word))
    }

    /// The verb in capitals.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Create => "CREATE",
            Verb::Join => "JOIN",
            Verb::Msg => "MSG",
            Verb::Tell => "TELL",
            Verb::Who => "WHO",
            Verb::History => "HISTORY",
            Verb::Nick => "NICK",
            Verb::Hold => "HOLD",
            Verb::Resume => "RESUME",
            Verb::Leave => "LEAVE",
            Verb::Talk => "TALK",
            Verb::Stay => "STAY",
            Verb::Ping => "PING",
            Verb::Help => "HELP",
            Verb::Quit => "QUIT",
            Verb::Lock => "LOCK",
            Verb::Unlock => "UNLOCK",
            Verb::Kick => "KICK",
            Verb::Mute => "MUTE",
            Verb::Unmute => "UNMUTE",
            Verb::Close => "CLOSE",
            Verb::Oper => "OPER",
            Verb::Announce => "ANNOUNCE",
        }
    }

    /// How the command is written.
    pub fn usage(self) -> &'static str {
        match self {
            Verb::Create => "CREATE [name]",
            Verb::Join => "JOIN code name [messages]",
            Verb::Msg => "MSG text",
            Verb::Tell => "TELL name text",
            Verb::Who => "WHO",
            Verb::History => "HISTORY [n] | HISTORY before id [n] | HISTORY after id [n]",
            Verb::Nick => "NICK name",
            Verb::Hold => "HOLD [seconds, 1 to 600]",
            Verb::Resume => "RESUME code token last-id",
            Verb::Leave => "LEAVE",
            Verb::Talk => "TALK [on|off]",
            Verb::Stay => "STAY",
            Verb::Ping => "PING [text]",
            Verb::Help => "HELP [command]",
            Verb::Quit => "QUIT",
            Verb::Lock => "LOCK",
            Verb::Unlock => "UNLOCK",
            Verb::Kick => "KICK name [reason]",
            Verb::Mute => "MUTE name",
            Verb::Unmute => "UNMUTE name",
            Verb::Close => "CLOSE",
            Verb::Oper => "OPER secret",
            Verb::Announce => "ANNOUNCE text",
        }
    }

    /// What the command does, in a line.
    pub fn help(self) -> &'static str {
        match self {
            Verb::Create => "make a room and enter it; give its code to a friend",
            Verb::Join => "enter a room, after its latest messages (100, or as many as you say)",
            Verb::Msg => "say something to everybody in the room",
            Verb::Tell => "say something to one member only",
            Verb::Who => "who is here",
            Verb::History => "messages from before, oldest first",
            Verb::Nick => "change your name",
            Verb::Hold => "keep your seat that long when your connection breaks",
            Verb::Resume => "take your held seat again, after what you missed",
            Verb::Leave => "leave the room",
            Verb::Talk => "then what you type is said, and /WHO is a command",
            Verb::Stay => "go on getting events after the end of your input",
            Verb::Ping => "the answer comes after all that happened before it",
            Verb::Help => "this, or more about one command",
            Verb::Quit => "leave and close the connection",
            Verb::Lock => "let nobody else in (host)",
            Verb::Unlock => "let people in again (host)",
            Verb::Kick => "send a member away (host)",
            Verb::Mute => "let a member listen only (host)",
            Verb::Unmute => "let a member speak again (host)",
            Verb::Close => "send everybody away and end the room (host)",
            Verb::Oper => "act as host in every room",
            Verb::Announce => "tell everybody on the server (operators)",
        }
    }

    /// Where somebody must be for this command. `CREATE` without a name is free of it.
    pub fn standing(self) -> Standing {
        match self {
            Verb::Create | Verb::Join | Verb::Resume => Standing::Unseated,
            Verb::Talk | Verb::Stay | Verb::Ping | Verb::Help | Verb::Quit => Standing::Anywhere,
            Verb::Oper | Verb::Announce => Standing::Anywhere,
            Verb::Msg | Verb::Tell | Verb::Who | Verb::History | Verb::Nick => Standing::Seated,
            Verb::Hold | Verb::Leave | Verb::Lock | Verb::Unlock => Standing::Seated,
            Verb::Kick | Verb::Mute | Verb::Unmute | Verb::Close => Standing::Seated,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usage_begins_with_the_verb() {
        for verb in Verb::ALL {
            assert_eq!(verb.usage().split(' ').next(), Some(verb.as_str()));
        }
    }

    #[test]
    fn the_overview_has_every_verb_and_fits_a_terminal() {
        let words: Vec<_> = Verb::OVERVIEW.iter().flat_map(|line| line.split([' ', ','])).collect();
        for verb in Verb::ALL {
            assert!(words.contains(&verb.as_str()), "{verb}");
        }
        assert!(Verb::OVERVIEW.len() < 24);
        assert!(Verb::OVERVIEW.iter().all(|line| "HELP ".len() + line.len() < 80));
    }
}
