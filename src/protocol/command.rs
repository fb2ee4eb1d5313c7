use super::limits::{HINT_BYTES, HOLD_MAX_SECS, TEXT_BYTES};
use super::text::is_blank;
use super::{BadText, ErrorCode, Name, Reject, Standing, Text, Verb};

/// What a client asks for: one line, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are those of the command table in PROTOCOL.md")]
pub enum Command<'a> {
    Create { name: Option<Name> },
    Join { code: &'a str, name: Name, messages: Option<u64> },
    Msg(Text<'a>),
    Tell { name: Name, text: Text<'a> },
    Who,
    History(HistoryRange),
    Nick(Name),
    Hold { seconds: Option<u64> },
    Resume { code: &'a str, token: &'a str, last_id: u64 },
    Leave,
    Talk { on: Option<bool> },
    Stay,
    Ping { text: &'a str },
    Help(Option<Verb>),
    Quit,
    Lock,
    Unlock,
    Kick { name: Name, reason: &'a str },
    Mute(Name),
    Unmute(Name),
    Close,
    Oper { secret: &'a str },
    Announce(Text<'a>),
}

/// Which messages `HISTORY` asks for; `None` is all that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the command table in PROTOCOL.md")]
pub enum HistoryRange {
    /// The newest n.
    Latest { n: Option<u64> },
    /// The newest n before an id.
    Before { id: u64, n: Option<u64> },
    /// The oldest n after an id.
    After { id: u64, n: Option<u64> },
}

impl<'a> Command<'a> {
    /// Reads a line of a client that is in a room (`seated`) or not, in talk mode or not.
    ///
    /// The line has no ending, no [`forbidden`](super::forbidden) character, and isn't blank.
    /// Mistakes are looked for in the order that PROTOCOL.md gives.
    pub fn parse(line: &'a str, seated: bool, talk: bool) -> Result<Command<'a>, Reject> {
        let (verb, rest) = match split_verb(line, talk)? {
            Some(command) => command,
            // A bare line in talk mode is a message; the first of two slashes says so.
            None => {
                check_standing(Verb::Msg, seated)?;
                let text = if line.starts_with("//") { &line[1..] } else { line };
                return Ok(Command::Msg(text_of(Verb::Msg, text)?));
            }
        };
        let names_no_seat = verb == Verb::Create && is_blank(rest);
        if !names_no_seat {
            check_standing(verb, seated)?;
        }
        parse_arguments(verb, rest)
    }

    /// Which command a line is, whatever else is wrong with it.
    pub(crate) fn verb_of(line: &str, talk: bool) -> Result<Verb, Reject> {
        Ok(split_verb(line, talk)?.map_or(Verb::Msg, |(verb, _)| verb))
    }

    /// Whether this is a message to the room: messages of one read are published together.
    pub fn as_message(&self) -> Option<Text<'a>> {
        match self {
            Command::Msg(text) => Some(*text),
            _ => None,
        }
    }
}

const BLANKS: [char; 2] = [' ', '\t'];

/// The verb of a line and what stands behind it; `None` for what talk mode says as it stands.
fn split_verb(line: &str, talk: bool) -> Result<Option<(Verb, &str)>, Reject> {
    let command = match line.strip_prefix('/') {
        _ if !talk => line,
        Some(command) if !command.starts_with('/') => command,
        _ => return Ok(None),
    };
    let command = command.trim_start_matches(BLANKS);
    let (word, rest) = split_word(command);
    let verb = Verb::parse(word).ok_or_else(|| unknown(command, talk))?;
    Ok(Some((verb, rest)))
}

fn check_standing(verb: Verb, seated: bool) -> Result<(), Reject> {
    match verb.standing() {
        Standing::Seated if !seated => {
            let text =
                "You are in no room. CREATE yourname makes one, JOIN code yourname enters one.";
            Err(Reject::new(verb, ErrorCode::NotInRoom, text))
        }
        Standing::Unseated if seated => {
            let text = "You are in a room. LEAVE it first.";
            Err(Reject::new(verb, ErrorCode::AlreadyInRoom, text))
        }
        _ => Ok(()),
    }
}

/// The answer to a line that starts with no verb. It may repeat what somebody meant to say.
fn unknown(line: &str, talk: bool) -> Reject {
    let hint = &line[..line.floor_char_boundary(HINT_BYTES)];
    let text = match talk {
        true => "There is no such command. Type /HELP for all of them.".to_owned(),
        false => format!("There is no such command. Type HELP for all, or to say it: MSG {hint}"),
    };
    Reject::of_line(ErrorCode::UnknownCommand, text)
}

fn parse_arguments(verb: Verb, rest: &str) -> Result<Command<'_>, Reject> {
    // Verbs that end in a text come first: only their text keeps its blanks.
    match verb {
        Verb::Msg => return Ok(Command::Msg(text_of(verb, after_blank(rest))?)),
        Verb::Announce => return Ok(Command::Announce(text_of(verb, after_blank(rest))?)),
        Verb::Ping => return Ok(Command::Ping { text: after_blank(rest) }),
        Verb::Tell => {
            let (name, text) = name_and_rest(verb, rest)?;
            return Ok(Command::Tell { name, text: text_of(verb, text)? });
        }
        Verb::Kick => {
            let (name, reason) = name_and_rest(verb, rest)?;
            // A reason that shows nothing is none.
            let reason = if is_blank(reason) { "" } else { short(verb, reason)? };
            return Ok(Command::Kick { name, reason });
        }
        Verb::Oper => {
            let secret = short(verb, after_blank(rest))?;
            let given = !secret.is_empty();
            return given.then_some(Command::Oper { secret }).ok_or_else(|| Reject::usage(verb));
        }
        _ => {}
    }
    let fields: Vec<&str> = rest.split(BLANKS).filter(|field| !field.is_empty()).collect();
    let name = |field| parse_name(verb, field);
    let number = |field| parse_number(verb, field);
    Ok(match (verb, fields.as_slice()) {
        (Verb::Create, []) => Command::Create { name: None },
        (Verb::Create, [field]) => Command::Create { name: Some(name(field)?) },
        (Verb::Join, [code, field]) => Command::Join { code, name: name(field)?, messages: None },
        (Verb::Join, [code, field, n]) => {
            let messages = Some(number(n)?);
            Command::Join { code, name: name(field)?, messages }
        }
        (Verb::Who, []) => Command::Who,
        (Verb::History, fields) => Command::History(history_range(fields)?),
        (Verb::Nick, [field]) => Command::Nick(name(field)?),
        (Verb::Hold, []) => Command::Hold { seconds: None },
        (Verb::Hold, [seconds]) => match number(seconds)? {
            seconds @ 1..=HOLD_MAX_SECS => Command::Hold { seconds: Some(seconds) },
            _ => return Err(Reject::usage(verb)),
        },
        (Verb::Resume, [code, token, id]) => Command::Resume { code, token, last_id: number(id)? },
        (Verb::Leave, []) => Command::Leave,
        (Verb::Talk, []) => Command::Talk { on: None },
        (Verb::Talk, [word]) if word.eq_ignore_ascii_case("on") => Command::Talk { on: Some(true) },
        (Verb::Talk, [word]) if word.eq_ignore_ascii_case("off") => {
            Command::Talk { on: Some(false) }
        }
        (Verb::Stay, []) => Command::Stay,
        (Verb::Help, []) => Command::Help(None),
        (Verb::Help, [word]) => {
            let text = "There is no such command. Type HELP for all of them.";
            let unknown = || Reject::new(verb, ErrorCode::UnknownCommand, text);
            Command::Help(Some(Verb::parse(word).ok_or_else(unknown)?))
        }
        (Verb::Quit, []) => Command::Quit,
        (Verb::Lock, []) => Command::Lock,
        (Verb::Unlock, []) => Command::Unlock,
        (Verb::Mute, [field]) => Command::Mute(name(field)?),
        (Verb::Unmute, [field]) => Command::Unmute(name(field)?),
        (Verb::Close, []) => Command::Close,
        _ => return Err(Reject::usage(verb)),
    })
}

fn history_range(fields: &[&str]) -> Result<HistoryRange, Reject> {
    let number = |field| parse_number(Verb::History, field);
    let way = |word: &str, way| word.eq_ignore_ascii_case(way);
    Ok(match *fields {
        [] => HistoryRange::Latest { n: None },
        [n] => HistoryRange::Latest { n: Some(number(n)?) },
        [word, id] if way(word, "before") => HistoryRange::Before { id: number(id)?, n: None },
        [word, id] if way(word, "after") => HistoryRange::After { id: number(id)?, n: None },
        [word, id, n] if way(word, "before") => {
            HistoryRange::Before { id: number(id)?, n: Some(number(n)?) }
        }
        [word, id, n] if way(word, "after") => {
            HistoryRange::After { id: number(id)?, n: Some(number(n)?) }
        }
        _ => return Err(Reject::usage(Verb::History)),
    })
}

/// A word and what stands behind it, blanks included.
fn split_word(line: &str) -> (&str, &str) {
    line.split_at(line.find(BLANKS).unwrap_or(line.len()))
}

/// A text is all that follows exactly one blank, as it stands.
fn after_blank(rest: &str) -> &str {
    rest.strip_prefix(BLANKS).unwrap_or(rest)
}

fn name_and_rest(verb: Verb, rest: &str) -> Result<(Name, &str), Reject> {
    match split_word(rest.trim_start_matches(BLANKS)) {
        ("", _) => Err(Reject::usage(verb)),
        (name, rest) => Ok((parse_name(verb, name)?, after_blank(rest))),
    }
}

fn parse_name(verb: Verb, field: &str) -> Result<Name, Reject> {
    Name::parse(field).map_err(|why| Reject::bad_name(verb, why))
}

/// 1 to 19 decimal digits: any such number fits 64 bits, signed or not, in every language.
fn parse_number(verb: Verb, field: &str) -> Result<u64, Reject> {
    let digits = field.len() <= 19 && field.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| field.parse().ok()).flatten();
    number.ok_or_else(|| Reject::usage(verb))
}

fn text_of(verb: Verb, text: &str) -> Result<Text<'_>, Reject> {
    Text::of_checked_line(text).map_err(|why| Reject::bad_text(verb, why))
}

/// A text that may be empty.
fn short(verb: Verb, text: &str) -> Result<&str, Reject> {
    if text.len() > TEXT_BYTES { Err(Reject::bad_text(verb, BadText::TooLong)) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str, seated: bool) -> ErrorCode {
        Command::parse(line, seated, false).unwrap_err().code
    }

    #[test]
    fn fields_are_separated_by_runs_of_blanks_and_texts_by_one() {
        let join = Command::parse("  join\tBKTW \t sam  ", false, false).unwrap();
        let name = Name::parse("sam").unwrap();
        assert_eq!(join, Command::Join { code: "BKTW", name, messages: None });
        let msg = Command::parse("MSG  two blanks ", true, false).unwrap();
        assert_eq!(msg.as_message().unwrap().as_str(), " two blanks ");
        let name = Name::parse("sam").unwrap();
        let text = Text::new(" hi").unwrap();
        assert_eq!(Command::parse("TELL   sam  hi", true, false), Ok(Command::Tell { name, text }));
        assert_eq!(Command::parse("PING ", true, false), Ok(Command::Ping { text: "" }));
    }

    #[test]
    fn mistakes_are_looked_for_in_order() {
        assert_eq!(error("NOPE", false), ErrorCode::UnknownCommand);
        assert_eq!(error("MSG", false), ErrorCode::NotInRoom);
        assert_eq!(error("WHO am i", false), ErrorCode::NotInRoom);
        assert_eq!(error("JOIN", true), ErrorCode::AlreadyInRoom);
        assert_eq!(error("CREATE a b", true), ErrorCode::AlreadyInRoom);
        assert_eq!(error("CREATE a b", false), ErrorCode::BadArgs);
        assert_eq!(error("JOIN !!!! b@d x", false), ErrorCode::BadArgs);
        assert_eq!(error("JOIN !!!! b@d", false), ErrorCode::BadName);
        assert_eq!(error("MSG", true), ErrorCode::EmptyText);
        assert_eq!(error("HOLD 601", true), ErrorCode::BadArgs);
        assert_eq!(error("HOLD +1", true), ErrorCode::BadArgs);
        assert_eq!(error("HISTORY 99999999999999999999", true), ErrorCode::BadArgs);
        assert!(Command::parse("CREATE  ", true, false).is_ok());
    }

    #[test]
    fn in_talk_mode_a_bare_line_is_a_message() {
        let text =
            |line| Command::parse(line, true, true).unwrap().as_message().map(|text| text.as_str());
        assert_eq!(text("hello all"), Some("hello all"));
        assert_eq!(text(" /who"), Some(" /who"));
        assert_eq!(text("//x"), Some("/x"));
        assert_eq!(text("/MSG x"), Some("x"));
        assert_eq!(text("/who"), None);
        let nothing = Command::parse("/", true, true).unwrap_err();
        assert_eq!(nothing.code, ErrorCode::UnknownCommand);
    }

    #[test]
    fn the_hint_is_cut_at_a_character() {
        let reject = Command::parse(&"é".repeat(100), false, false).unwrap_err();
        assert!(reject.text.ends_with(&format!("MSG {}", "é".repeat(30))), "{}", reject.text);
    }

    #[test]
    fn every_verb_is_read_in_any_case() {
        for verb in Verb::ALL {
            assert_eq!(Verb::parse(&verb.as_str().to_lowercase()), Some(*verb));
        }
        assert_eq!(Verb::parse("ﬁnd"), None);
    }
}
