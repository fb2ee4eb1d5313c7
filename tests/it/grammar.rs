//! The grammar of PROTOCOL.md, section 14, read by hand: nothing here asks the library what a
//! line is.

use unicode_normalization::is_nfc;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// Bytes of a line from the server, without its ending.
const SERVER_LINE: usize = 4096;
/// Bytes of a text.
const TEXT: usize = 1800;
/// Bytes of what `PING` may send back.
const ECHO: usize = 2043;

const BLANKS: [char; 2] = [' ', '\t'];

pub(crate) const VERBS: [&str; 23] = [
    "CREATE", "JOIN", "RESUME", "MSG", "TELL", "WHO", "HISTORY", "NICK", "HOLD", "LEAVE", "LOCK",
    "UNLOCK", "KICK", "MUTE", "UNMUTE", "CLOSE", "TALK", "STAY", "PING", "HELP", "OPER",
    "ANNOUNCE", "QUIT",
];

const LINE_CODES: [&str; 4] = ["unknown-command", "line-too-long", "not-utf8", "control-char"];

const VERB_CODES: [&str; 21] = [
    "bad-args",
    "bad-name",
    "bad-code",
    "no-such-room",
    "name-taken",
    "room-full",
    "room-locked",
    "already-in-room",
    "not-in-room",
    "no-such-user",
    "not-host",
    "muted",
    "empty-text",
    "text-too-long",
    "bad-token",
    "bad-id",
    "bad-secret",
    "slow-down",
    "busy",
    "storage",
    "shutting-down",
];

const BYES: [&str; 8] = ["quit", "eof", "replaced", "closed", "slow", "busy", "idle", "shutdown"];

/// What a line of the server's is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    Hello,
    /// `rest` is what follows the verb and one space.
    Ok {
        verb: &'a str,
        rest: &'a str,
    },
    Err {
        verb: &'a str,
        code: &'a str,
    },
    Msg {
        id: u64,
        text: &'a str,
    },
    Tell,
    Gap,
    User,
    Help,
    /// `JOINED`, `LEFT`, `RENAMED`.
    Presence,
    Notice {
        kind: &'a str,
    },
    Bye {
        reason: &'a str,
    },
}

/// A part of what a client receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    Line {
        kind: Kind<'a>,
        line: &'a str,
        crlf: bool,
    },
    /// An answer of telnet's: IAC WONT or IAC DONT and an option.
    Telnet([u8; 3]),
    /// The response to an HTTP request.
    Http,
}

/// Reads one line of the server's, without its ending.
pub(crate) fn server_line(bytes: &[u8]) -> Result<Kind<'_>, String> {
    if bytes.len() > SERVER_LINE {
        return Err(format!("a line of {} bytes", bytes.len()));
    }
    let line = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    if let Some(c) = find_forbidden(line) {
        return Err(format!("U+{:04X} is forbidden", u32::from(c)));
    }
    let (word, rest) = line.split_once(' ').ok_or("one word")?;
    // No line has more than 7 fields that must be counted.
    let fields: Vec<&str> = rest.splitn(8, ' ').collect();
    let kind = match (word, fields.as_slice()) {
        ("HELLO", ["parlor/1", params, ..]) => {
            (params.split(',').all(is_param) && is_prose(after(rest, 2))).then_some(Kind::Hello)
        }
        ("OK", _) => ok(rest),
        ("ERR", [verb, code, ..]) => {
            let fits = match *verb {
                "*" => LINE_CODES.contains(code),
                "HELP" if *code == "unknown-command" => true,
                verb => VERBS.contains(&verb) && VERB_CODES.contains(code),
            };
            (fits && is_prose(after(rest, 2))).then_some(Kind::Err { verb, code })
        }
        ("MSG", [id, time, name, ..]) => {
            let text = after(rest, 3);
            let fits = is_time(time) && is_name(name) && is_text(text);
            positive(id).filter(|_| fits).map(|id| Kind::Msg { id, text })
        }
        ("TELL", [time, name, ..]) => {
            (is_time(time) && is_name(name) && is_text(after(rest, 2))).then_some(Kind::Tell)
        }
        ("GAP", [n]) => count(n).map(|_| Kind::Gap),
        ("USER", [name, presence, marks @ ..]) => {
            let fits = matches!(*presence, "here" | "held")
                && matches!(marks, [] | ["host"] | ["muted"] | ["host", "muted"]);
            (fits && is_name(name)).then_some(Kind::User)
        }
        ("HELP", _) => is_prose(rest.trim_start_matches(BLANKS)).then_some(Kind::Help),
        ("JOINED", [name]) => is_name(name).then_some(Kind::Presence),
        ("LEFT", [name, "quit" | "eof" | "lost" | "kicked"]) => {
            is_name(name).then_some(Kind::Presence)
        }
        ("RENAMED", [old, new]) => (is_name(old) && is_name(new)).then_some(Kind::Presence),
        ("NOTICE", [kind, ..]) => {
            let text = after(rest, 1);
            let fits = match *kind {
                "announce" => is_text(text),
                "shutdown" | "locked" | "unlocked" | "muted" | "unmuted" | "host" | "here" => {
                    is_prose(text)
                }
                _ => false,
            };
            fits.then_some(Kind::Notice { kind })
        }
        ("BYE", [reason, ..]) => {
            let text = after(rest, 1);
            let fits = match *reason {
                "kicked" => is_text(text),
                reason => BYES.contains(&reason) && is_prose(text),
            };
            fits.then_some(Kind::Bye { reason })
        }
        _ => None,
    };
    kind.ok_or_else(|| "no line of the grammar's".to_owned())
}

fn ok(line: &str) -> Option<Kind<'_>> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let fields: Vec<&str> = line.splitn(8, ' ').skip(1).collect();
    let fits = match (verb, fields.as_slice()) {
        ("CREATE", [code]) => is_code(code),
        ("CREATE", [code, name]) => is_code(code) && is_name(name),
        ("JOIN", [code, name, counts @ ..]) => {
            is_code(code) && is_name(name) && are_counts(counts, 3)
        }
        ("RESUME", [code, name, counts @ ..]) => {
            is_code(code) && is_name(name) && are_counts(counts, 4)
        }
        ("MSG", [id, time]) => positive(id).is_some() && is_time(time),
        ("TELL" | "NICK" | "KICK" | "MUTE" | "UNMUTE", [name]) => is_name(name),
        ("WHO" | "HISTORY" | "HELP" | "ANNOUNCE", [lines]) => count(lines).is_some(),
        ("HOLD", [token, seconds]) => is_token(token) && positive(seconds).is_some(),
        ("LEAVE", [code]) => is_code(code),
        ("TALK", [mode]) => matches!(*mode, "on" | "off"),
        ("PING", []) => true,
        ("PING", _) => (1..=ECHO).contains(&rest.len()),
        ("LOCK" | "UNLOCK" | "CLOSE" | "STAY" | "OPER" | "QUIT", []) => true,
        _ => false,
    };
    fits.then_some(Kind::Ok { verb, rest })
}

/// Last id, members (of whom there is one at least), lines, and perhaps more.
fn are_counts(fields: &[&str], how_many: usize) -> bool {
    fields.len() == how_many
        && fields.iter().all(|field| count(field).is_some())
        && positive(fields[1]).is_some()
}

/// What follows so many fields, each ended by one space.
fn after(rest: &str, fields: usize) -> &str {
    rest.splitn(fields + 1, ' ').nth(fields).unwrap_or_default()
}

/// All that a client received until the server closed, or until it was looked at between two
/// lines.
pub(crate) fn stream(bytes: &[u8]) -> Result<Vec<Item<'_>>, String> {
    let mut items = Vec::new();
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        let said_bye = matches!(items.last(), Some(Item::Line { kind: Kind::Bye { .. }, .. }));
        if said_bye {
            return Err(format!("{} after the BYE", rest.escape_ascii()));
        }
        if *first == 0xff {
            let answer = *rest.first_chunk::<3>().ok_or("half an answer of telnet's")?;
            if !matches!(answer[1], 0xfc | 0xfe) {
                return Err(format!("{} is no answer of telnet's", answer.escape_ascii()));
            }
            items.push(Item::Telnet(answer));
            rest = &rest[3..];
            continue;
        }
        if rest.starts_with(b"HTTP/") {
            http_response(rest)?;
            items.push(Item::Http);
            break;
        }
        let end = rest.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| format!("{} is half a line", rest.escape_ascii()))?;
        let (line, crlf) = match rest[..end].strip_suffix(b"\r") {
            Some(line) => (line, true),
            None => (&rest[..end], false),
        };
        let kind = server_line(line).map_err(|why| format!("{why}: {}", line.escape_ascii()))?;
        let line = std::str::from_utf8(line).map_err(|error| error.to_string())?;
        items.push(Item::Line { kind, line, crlf });
        rest = &rest[end + 1..];
    }
    greeting(&items)?;
    data_lines(&items)?;
    Ok(items)
}

/// The greeting comes first and never again.
fn greeting(items: &[Item<'_>]) -> Result<(), String> {
    let mut lines = lines(items);
    match lines.next() {
        Some((Kind::Hello, _, false)) => {}
        // A connection that is refused.
        Some((Kind::Bye { reason: "busy" }, ..)) => {}
        first => return Err(format!("{first:?} comes first")),
    }
    match lines.find(|(kind, ..)| *kind == Kind::Hello) {
        Some((_, line, _)) => Err(format!("a second greeting: {line}")),
        None => Ok(()),
    }
}

/// The lines among the items, with whether they end with CR LF.
pub(crate) fn lines<'a>(
    items: &[Item<'a>],
) -> impl Iterator<Item = (Kind<'a>, &'a str, bool)> + Clone {
    items.iter().filter_map(|item| match *item {
        Item::Line { kind, line, crlf } => Some((kind, line, crlf)),
        _ => None,
    })
}

/// The data lines of a reply stand directly before its `OK`, as many as that says.
fn data_lines(items: &[Item<'_>]) -> Result<(), String> {
    let mut before: Vec<Kind<'_>> = Vec::new();
    for (kind, line, _) in lines(items) {
        let answers = match kind {
            Kind::Ok { verb: "WHO", .. } => Kind::User,
            Kind::Ok { verb: "HELP", .. } => Kind::Help,
            _ => kind,
        };
        // USER and HELP are nothing but data: they lead to their OK, and to nothing else.
        let open = before.iter().rev().take_while(|kind| matches!(kind, Kind::User | Kind::Help));
        if open.clone().any(|data| *data != answers) {
            return Err(format!("between data lines and their OK: {line}"));
        }
        if let Kind::Ok { verb, rest } = kind {
            let place = match verb {
                "WHO" | "HELP" | "HISTORY" => 0,
                "JOIN" | "RESUME" => 4,
                _ => usize::MAX,
            };
            if let Some(lines) = rest.split(' ').nth(place) {
                let lines: usize = lines.parse().map_err(|_| format!("no count: {line}"))?;
                let from = before.len().checked_sub(lines);
                let data = from.map(|from| &before[from..]);
                if !data.is_some_and(|data| is_data_of(verb, data)) {
                    return Err(format!("these are not its data lines: {before:?}: {line}"));
                }
                if matches!(verb, "WHO" | "HELP") && open.count() != lines {
                    return Err(format!("it counts wrong: {line}"));
                }
            }
        }
        match kind {
            Kind::Ok { .. } | Kind::Err { .. } => before.clear(),
            kind => before.push(kind),
        }
    }
    match before.last() {
        Some(Kind::User | Kind::Help) => Err("data lines without an OK".to_owned()),
        _ => Ok(()),
    }
}

fn is_data_of(verb: &str, data: &[Kind<'_>]) -> bool {
    let only = |fits: fn(&Kind<'_>) -> bool| data.iter().all(fits);
    match verb {
        "WHO" => !data.is_empty() && only(|kind| *kind == Kind::User),
        "HELP" => !data.is_empty() && only(|kind| *kind == Kind::Help),
        "RESUME" => {
            let data = data.strip_prefix(&[Kind::Gap]).unwrap_or(data);
            let messages = data.iter().position(|kind| *kind == Kind::Tell).unwrap_or(data.len());
            let (messages, tells) = data.split_at(messages);
            are_consecutive(messages) && tells.iter().all(|kind| *kind == Kind::Tell)
        }
        _ => are_consecutive(data),
    }
}

/// Messages, each with the id after the one before.
fn are_consecutive(data: &[Kind<'_>]) -> bool {
    let ids: Option<Vec<u64>> = data
        .iter()
        .map(|kind| if let Kind::Msg { id, .. } = kind { Some(*id) } else { None })
        .collect();
    ids.is_some_and(|ids| ids.windows(2).all(|pair| pair[0] + 1 == pair[1]))
}

/// A whole response of status 400, and nothing behind it.
fn http_response(bytes: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "HTTP that is not UTF-8")?;
    let fail = || format!("no HTTP response: {text:?}");
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(fail)?;
    let mut head = head.split("\r\n");
    let status = head.next().unwrap_or_default();
    let headers: Option<Vec<_>> = head.map(|line| line.split_once(": ")).collect();
    let headers = headers.ok_or_else(fail)?;
    let header = |name: &str| {
        let found = headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| *value)
    };
    let fits = status.starts_with("HTTP/1.1 400 ")
        && header("content-length").and_then(|n| n.parse().ok()) == Some(body.len())
        && header("connection") == Some("close")
        && header("content-type").is_some_and(|value| value.starts_with("text/"));
    if fits { Ok(()) } else { Err(fail()) }
}

/// Whether section 14.1 gives a command: its verb, and all that follows the verb.
pub(crate) fn is_command(verb: &str, rest: &str) -> bool {
    let fields: Vec<&str> = rest.split(BLANKS).filter(|field| !field.is_empty()).collect();
    let text = rest.get(1..).unwrap_or_default();
    match (verb, fields.as_slice()) {
        ("CREATE", []) => true,
        ("CREATE" | "NICK" | "MUTE" | "UNMUTE", [name]) => is_name_in(name),
        ("JOIN", [code, name]) => is_code_in(code) && is_name_in(name),
        ("JOIN", [code, name, n]) => is_code_in(code) && is_name_in(name) && is_number(n),
        ("RESUME", [code, token, id]) => is_code_in(code) && is_token(token) && is_number(id),
        ("MSG" | "OPER" | "ANNOUNCE", _) => is_text(text),
        ("TELL" | "KICK", [name, ..]) => {
            let text = rest.trim_start_matches(BLANKS)[name.len()..].get(1..).unwrap_or_default();
            let says_nothing = verb == "KICK" && text.trim_matches(BLANKS).is_empty();
            is_name_in(name) && (is_text(text) || says_nothing)
        }
        ("HISTORY", numbers) => {
            let ways = ["before", "after"];
            let (way, numbers) = match numbers {
                [word, numbers @ ..] if ways.iter().any(|way| way.eq_ignore_ascii_case(word)) => {
                    (1, numbers)
                }
                numbers => (0, numbers),
            };
            (way..=way + 1).contains(&numbers.len()) && numbers.iter().all(|n| is_number(n))
        }
        ("HOLD", []) => true,
        ("HOLD", [n]) => is_number(n) && n.parse().is_ok_and(|n: u64| (1..=600).contains(&n)),
        ("TALK", []) => true,
        ("TALK", [mode]) => ["on", "off"].iter().any(|word| word.eq_ignore_ascii_case(mode)),
        ("PING", _) => text.len() <= ECHO,
        ("HELP", []) => true,
        ("HELP", [word]) => VERBS.iter().any(|verb| verb.eq_ignore_ascii_case(word)),
        ("WHO" | "LEAVE" | "LOCK" | "UNLOCK" | "CLOSE" | "STAY" | "QUIT", []) => true,
        _ => false,
    }
}

/// A character that no line may hold, of either side.
pub(crate) fn find_forbidden(line: &str) -> Option<char> {
    // Most lines are of these alone.
    if line.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return None;
    }
    line.chars().find(|c| is_forbidden(*c))
}

pub(crate) fn is_forbidden(c: char) -> bool {
    match u32::from(c) {
        // `blank-free` and WSP, as the grammar writes them.
        0x09 | 0x20 | 0x21..=0x7e => false,
        0xa0..=0x61b | 0x61d..=0x200d | 0x2010..=0x2027 => false,
        0x202f..=0x2065 | 0x206a..=0xd7ff | 0xe000..=0x10_ffff => false,
        _ => true,
    }
}

fn is_text(text: &str) -> bool {
    text.len() <= TEXT && !text.trim_matches(BLANKS).is_empty()
}

fn is_prose(text: &str) -> bool {
    text.chars().next().is_some_and(|first| !BLANKS.contains(&first))
}

fn is_param(param: &str) -> bool {
    let lower = |c: char| c.is_ascii_lowercase() || c == '-';
    param.split_once('=').is_some_and(|(key, value)| {
        let is_value = |c: char| lower(c) || c.is_ascii_digit() || c == '.';
        !key.is_empty()
            && key.chars().all(lower)
            && !value.is_empty()
            && value.chars().all(is_value)
    })
}

fn is_name(name: &str) -> bool {
    is_name_in(name) && (name.is_ascii() || is_nfc(name))
}

/// A name when it is put into form C.
fn is_name_in(field: &str) -> bool {
    if field.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)) {
        return (1..=20).contains(&field.len());
    }
    let name: Vec<char> = unicode_normalization::UnicodeNormalization::nfc(field).collect();
    let mut marks = 2;
    let fits = name.iter().all(|c| match c.general_category() {
        GeneralCategory::UppercaseLetter
        | GeneralCategory::LowercaseLetter
        | GeneralCategory::TitlecaseLetter
        | GeneralCategory::ModifierLetter
        | GeneralCategory::OtherLetter => {
            marks = 0;
            !is_invisible(*c)
        }
        GeneralCategory::NonspacingMark
        | GeneralCategory::SpacingMark
        | GeneralCategory::EnclosingMark => {
            marks += 1;
            marks <= 2 && !is_invisible(*c)
        }
        category => {
            marks = 2;
            category == GeneralCategory::DecimalNumber || matches!(c, '_' | '-' | '.')
        }
    });
    fits && (1..=20).contains(&name.len())
}

/// Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties.txt, and what is blank besides.
fn is_invisible(c: char) -> bool {
    matches!(
        u32::from(c),
        0xad | 0x34f
            | 0x61c
            | 0x115f..=0x1160
            | 0x17b4..=0x17b5
            | 0x180b..=0x180f
            | 0x200b..=0x200f
            | 0x202a..=0x202e
            | 0x2060..=0x206f
            | 0x3164
            | 0xfe00..=0xfe0f
            | 0xfeff
            | 0xffa0
            | 0xfff0..=0xfff8
            | 0x13441..=0x13442
            | 0x16fe4
            | 0x1bca0..=0x1bca3
            | 0x1d173..=0x1d17a
            | 0xe0000..=0xe0fff
    )
}

/// A room's code, or a lobby's name: that may be any capitals and digits.
fn is_code(code: &str) -> bool {
    (1..=16).contains(&code.len())
        && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

fn is_code_in(code: &str) -> bool {
    is_code(&code.to_ascii_uppercase())
}

fn is_token(token: &str) -> bool {
    (22..=256).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_number(field: &str) -> bool {
    (1..=19).contains(&field.len()) && field.bytes().all(|byte| byte.is_ascii_digit())
}

fn count(field: &str) -> Option<u64> {
    let shortest = field == "0" || !field.starts_with('0');
    if is_number(field) && shortest { field.parse().ok() } else { None }
}

fn positive(field: &str) -> Option<u64> {
    count(field).filter(|n| *n > 0)
}

/// `2026-11-21T19:06:00.123Z`.
fn is_time(field: &str) -> bool {
    let shape = field.bytes().map(|byte| if byte.is_ascii_digit() { b'0' } else { byte });
    if !shape.eq(b"0000-00-00T00:00:00.000Z".iter().copied()) {
        return false;
    }
    let number = |at: usize| field[at..at + 2].parse().unwrap_or(99);
    (1..=12).contains(&number(5))
        && (1..=31).contains(&number(8))
        && number(11) < 24
        && number(14) < 60
        && number(17) < 60
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_grammar_are_read() {
        for line in [
            "HELLO parlor/1 line=2048,text=1800,hold=30 Type HELP",
            "OK CREATE K7QM",
            "OK CREATE K7QM alice",
            "OK JOIN LOBBY bob 0 2 0",
            "OK RESUME K7QM bob 3 2 2 1",
            "OK MSG 1 2026-11-21T19:06:00.123Z",
            "OK PING",
            "OK PING  ",
            "OK PING \ttext ",
            "OK HOLD 0123456789abcdef012345 30",
            "OK TALK off",
            "ERR * unknown-command There is none. ",
            "ERR HELP unknown-command There is none.",
            "ERR JOIN no-such-room Gone.",
            "MSG 12 2026-11-21T19:06:00.123Z Zoë  two blanks",
            "TELL 2026-11-21T19:06:00.123Z हिन्दी psst",
            "GAP 0",
            "USER bob held host muted",
            "HELP   indented",
            "LEFT bob lost",
            "NOTICE announce  all",
            "BYE kicked \t!",
            "BYE busy Later.",
        ] {
            assert!(server_line(line.as_bytes()).is_ok(), "{line}");
        }
    }

    #[test]
    fn other_lines_are_not() {
        let long = format!("OK PING {}", "x".repeat(ECHO + 1));
        let name = format!("JOINED {}", "x".repeat(21));
        for line in [
            "",
            "OK",
            " OK PING",
            "OK PING ",
            "OK QUIT now",
            "OK JOIN LOBBY bob 0 0 0",
            "OK JOIN lobby bob 0 1 0",
            "OK WHO 01",
            "OK MSG 0 2026-11-21T19:06:00.123Z",
            "OK MSG 1 2026-13-21T19:06:00.123Z",
            "OK MSG 1 2026-11-21T19:06:00Z",
            "OK HOLD short 30",
            "ok PING",
            "ERR * bad-args Why?",
            "ERR NOPE bad-args Why?",
            "ERR PING unknown-command Why?",
            "ERR PING bad-args",
            "ERR PING bad-args ",
            "ERR PING bad-args  two blanks",
            "MSG 1 2026-11-21T19:06:00.123Z bob ",
            "MSG 1 2026-11-21T19:06:00.123Z bob \t ",
            "MSG 1 2026-11-21T19:06:00.123Z b@b hi",
            "JOINED a\u{fe0f}",
            "JOINED \u{3164}",
            "JOINED Zoe\u{308}",
            "JOINED bob ",
            "LEFT bob",
            "USER bob here muted host",
            "NOTICE news Read.",
            "BYE kicked  ",
            "BYE eof",
            "OK PING \u{202e}",
            "OK PING \u{9b}2J",
            &long,
            &name,
        ] {
            assert!(server_line(line.as_bytes()).is_err(), "{line}");
        }
        assert!(server_line(b"OK PING \xc3").is_err());
    }

    #[test]
    fn data_lines_stand_before_their_ok_and_are_counted() {
        let check = |text: &str| {
            let text = format!("HELLO parlor/1 a=b Hi\n{text}");
            stream(text.as_bytes()).map(|items| items.len())
        };
        let message = |id: u64| format!("MSG {id} 2026-11-21T19:06:00.123Z bob hi\n");
        let (two, three) = (message(2), message(3));
        for good in [
            "USER bob here\r\nOK WHO 1\r\nBYE quit Bye.\r\n",
            "JOINED bob\nHELP x\nHELP y\nOK HELP 2\nOK PING\n",
            &format!("{two}{three}OK HISTORY 1\n"),
            &format!("GAP 4\n{two}{three}OK RESUME BBBB bob 3 1 3 0\n"),
            &format!("{two}JOINED x\n{three}OK JOIN BBBB bob 3 1 1\n"),
        ] {
            assert!(check(good).is_ok(), "{good}: {:?}", check(good));
        }
        for bad in [
            "USER bob here\nOK WHO 2\n",
            "USER bob here\nUSER kim here\nOK WHO 1\n",
            "USER bob here\nJOINED kim\nOK WHO 1\n",
            "JOINED kim\nOK WHO 1\n",
            "USER bob here\nOK PING\n",
            "HELP x\n",
            "OK HELP 0\n",
            "OK WHO",
            "OK PING\nHELLO parlor/1 a=b Hi\n",
            "BYE quit Bye.\nOK PING\n",
            &format!("{three}{two}OK HISTORY 2\n"),
            &format!("{two}JOINED x\n{three}OK HISTORY 2\n"),
            &format!("{two}OK PING\n{three}OK HISTORY 2\n"),
            "\u{7f}\n",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(stream(b"OK PING\n").is_err());
        assert!(stream(b"HELLO parlor/1 a=b Hi\r\n").is_err());
        assert!(stream(b"HELLO parlor/1 a=b Hi\n\xff\xfc\x06OK PING\n").is_ok());
        assert!(stream(b"HELLO parlor/1 a=b Hi\n\xff\xfd\x06OK PING\n").is_err());
    }

    #[test]
    fn commands_of_the_grammar_are_read() {
        for (verb, rest) in [
            ("CREATE", ""),
            ("CREATE", "  zoe\u{308} "),
            ("JOIN", " lobby\tbob 0001"),
            ("KICK", " bob  "),
            ("TELL", "  bob \thi"),
            ("HISTORY", " BEFORE 3 9999999999999999999"),
            ("PING", "  "),
        ] {
            assert!(is_command(verb, rest), "{verb}{rest}");
        }
        for (verb, rest) in [
            ("CREATE", " a b"),
            ("JOIN", " LOBBY bob 1 2"),
            ("MSG", "  \t"),
            ("TELL", " bob "),
            ("HISTORY", " before"),
            ("HISTORY", " 1 2"),
            ("HOLD", " 0"),
            ("HOLD", " 601"),
            ("QUIT", " now"),
            ("NICK", " a\u{301}\u{302}\u{303}\u{323}"),
        ] {
            assert!(!is_command(verb, rest), "{verb}{rest}");
        }
    }
}
