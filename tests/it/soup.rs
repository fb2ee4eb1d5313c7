//! Byte soup: whatever a client sends, its connection ends only as PROTOCOL.md says, the lines
//! after it are unharmed, and nobody receives a line that the grammar doesn't give.
//!
//! What the server must make of the bytes is computed here once more, in steps: telnet's keys,
//! then lines, then the verb that each line asks for. Each line must get its one reply, in order.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use parlor::{Clock, Config, Origin, Random, Server};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestRunner};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, yield_now};

use crate::grammar::{self, Item, Kind, VERBS};

/// Bytes of a client's line.
const LINE: usize = 2048;
const BOM: &[u8] = "\u{feff}".as_bytes();
const TLS: &[u8] = b"\x16\x03";

// What the server must make of the bytes.

/// What bytes come to above telnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Byte(u8),
    EraseCharacter,
    EraseLine,
    EndOfFile,
    /// Nothing, but IAC WONT or IAC DONT must come.
    Answer([u8; 3]),
    /// Nothing, but `NOTICE here` must come.
    Here,
}

/// Takes telnet out; tells as well whether nothing of telnet's is unfinished.
fn keys(bytes: &[u8], telnet: bool) -> (Vec<Key>, bool) {
    let mut keys = Vec::new();
    let mut rest = bytes.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != 0xff || !telnet {
            keys.push(Key::Byte(byte));
            continue;
        }
        match telnet_command(&mut rest) {
            Some(Some(key)) => keys.push(key),
            Some(None) => {}
            None => return (keys, false),
        }
    }
    (keys, true)
}

/// What follows IAC; `None` if it is not all there.
fn telnet_command(rest: &mut impl Iterator<Item = u8>) -> Option<Option<Key>> {
    Some(match rest.next()? {
        byte @ (0xff | b'\r' | b'\n') => Some(Key::Byte(byte)),
        0xec => Some(Key::EndOfFile),
        0xf4 | 0xf8 => Some(Key::EraseLine),
        0xf6 => Some(Key::Here),
        0xf7 => Some(Key::EraseCharacter),
        0xfa => {
            let mut iac = false;
            for _ in 0..512 {
                match rest.next()? {
                    0xf0 if iac => break,
                    byte => iac = byte == 0xff && !iac,
                }
            }
            None
        }
        0xfb => Some(Key::Answer([0xff, 0xfe, rest.next()?])),
        0xfd => Some(Key::Answer([0xff, 0xfc, rest.next()?])),
        0xfc | 0xfe => {
            rest.next()?;
            None
        }
        _ => None,
    })
}

/// A line being typed, and then as it is executed.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    /// The same without editing.
    typed: Vec<u8>,
    /// Before editing.
    counted: usize,
    /// Whether it ended with CR; `None` where the file ended.
    crlf: Option<bool>,
}

impl Line {
    fn push(&mut self, byte: u8) {
        self.counted += 1;
        self.bytes.push(byte);
        self.typed.push(byte);
    }

    fn is_too_long(&self) -> bool {
        self.counted > LINE
    }

    /// `^[A-Z]+ \S+ HTTP/`, whatever else is wrong with the line. Nobody edits one that is too
    /// long.
    fn is_http(&self) -> bool {
        let line = if self.is_too_long() { &self.typed } else { &self.bytes };
        let mut words = line.splitn(3, |byte| *byte == b' ');
        let method = words.next().unwrap_or_default();
        let target = words.next().unwrap_or_default();
        !method.is_empty()
            && method.iter().all(u8::is_ascii_uppercase)
            && !target.is_empty()
            && !target.iter().any(u8::is_ascii_whitespace)
            && words.next().is_some_and(|version| version.starts_with(b"HTTP/"))
    }

    fn edit(&mut self, key: Key) {
        match key {
            Key::EraseLine => self.bytes.clear(),
            // What is no character goes as a decoder would show it, as one.
            _ => {
                let last = self.bytes.utf8_chunks().last().map_or(0, |chunk| {
                    let character = chunk.valid().chars().next_back().map_or(0, char::len_utf8);
                    if chunk.invalid().is_empty() { character } else { chunk.invalid().len() }
                });
                self.bytes.truncate(self.bytes.len() - last);
            }
        }
    }
}

/// All that a client sends, up to the end of his file.
#[derive(Default)]
struct Typed {
    lines: Vec<Line>,
    /// The line that has not ended.
    line: Line,
    /// After a CR, the edits since: whether it is an ending shows later.
    after_cr: Option<Vec<Key>>,
    answers: Vec<[u8; 3]>,
    here: usize,
}

impl Typed {
    fn of(bytes: &[u8], telnet: bool) -> Typed {
        let (keys, _) = keys(bytes, telnet);
        let mut typed = Typed::default();
        let is_typed = |key: &&Key| !matches!(key, Key::Answer(_) | Key::Here);
        let bom = keys.iter().filter(is_typed).take(BOM.len());
        let bom = bom.copied().eq(BOM.iter().map(|byte| Key::Byte(*byte)));
        let mut ignored = if bom { BOM.len() } else { 0 };
        for key in keys {
            match key {
                Key::Byte(_) if ignored > 0 => ignored -= 1,
                Key::Byte(byte) => {
                    if typed.byte(byte, telnet) {
                        return typed;
                    }
                }
                Key::EndOfFile => break,
                Key::Answer(answer) => typed.answers.push(answer),
                Key::Here => typed.here += 1,
                key => match &mut typed.after_cr {
                    Some(edits) => edits.push(key),
                    None => typed.line.edit(key),
                },
            }
        }
        if typed.after_cr.is_some() {
            typed.byte(b'\n', telnet);
        } else if typed.line.counted > 0 {
            typed.end(None);
        }
        typed
    }

    /// True if it ends the file: ^D in an empty line.
    fn byte(&mut self, byte: u8, telnet: bool) -> bool {
        if let Some(edits) = self.after_cr.take() {
            let is_ending = matches!(byte, b'\n' | 0);
            if !is_ending {
                self.line.push(b'\r');
            }
            edits.into_iter().for_each(|key| self.line.edit(key));
            if is_ending {
                self.end(Some(true));
                return false;
            }
        }
        match byte {
            b'\n' => self.end(Some(false)),
            b'\r' => self.after_cr = Some(Vec::new()),
            4 if telnet && self.line.bytes.is_empty() => return !self.line.is_too_long(),
            0x08 | 0x7f | 0x15 if telnet => {
                self.line.counted += 1;
                self.line.edit(if byte == 0x15 { Key::EraseLine } else { Key::EraseCharacter });
            }
            byte => self.line.push(byte),
        }
        false
    }

    fn end(&mut self, crlf: Option<bool>) {
        let line = std::mem::take(&mut self.line);
        self.lines.push(Line { crlf, ..line });
    }
}

/// What a line asks for, and so the beginning of its reply.
struct Asked {
    /// `*` for a line that is no command.
    verb: &'static str,
    /// The code of the error, where the line alone says so much.
    code: Option<&'static str>,
    /// What follows the verb.
    rest: String,
    /// How the reply ends.
    crlf: bool,
}

/// Why the server closes, unless somebody else causes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Tls,
    Http,
    Quit,
    Eof,
}

/// What must come of all that a client sends.
struct Plan {
    asked: Vec<Asked>,
    answers: Vec<[u8; 3]>,
    here: usize,
    talk: bool,
    stay: bool,
    end: End,
}

impl Plan {
    fn of(bytes: &[u8], telnet: bool) -> Plan {
        let (asked, talk, stay) = (Vec::new(), false, false);
        let Typed { lines, answers, here, .. } = Typed::of(bytes, telnet);
        let mut plan = Plan { asked, answers, here, talk, stay, end: End::Eof };
        if bytes.starts_with(TLS) {
            return Plan { end: End::Tls, answers: Vec::new(), here: 0, ..plan };
        }
        let mut crlf = false;
        for line in lines {
            crlf = line.crlf.unwrap_or(crlf);
            let refused = |code| Asked { verb: "*", code: Some(code), rest: String::new(), crlf };
            if plan.asked.is_empty() && line.is_http() {
                return Plan { end: End::Http, ..plan };
            }
            let asked = match std::str::from_utf8(&line.bytes) {
                _ if line.is_too_long() => refused("line-too-long"),
                Err(_) => refused("not-utf8"),
                Ok(text) if grammar::find_forbidden(text).is_some() => refused("control-char"),
                Ok(text) if is_blank(text) => continue,
                Ok(text) => match command(text, plan.talk) {
                    Some((verb, rest)) => Asked { verb, code: None, rest, crlf },
                    None => refused("unknown-command"),
                },
            };
            plan.add(asked);
            if plan.end == End::Quit {
                break;
            }
        }
        plan
    }

    fn add(&mut self, asked: Asked) {
        if grammar::is_command(asked.verb, &asked.rest) {
            match asked.verb {
                "TALK" => {
                    self.talk = match asked.rest.trim_matches(is_blank_char) {
                        "" => !self.talk,
                        mode => mode.eq_ignore_ascii_case("on"),
                    };
                }
                "STAY" => self.stay = true,
                "QUIT" => self.end = End::Quit,
                _ => {}
            }
        }
        self.asked.push(asked);
    }
}

/// The verb of a line, and what follows it.
fn command(line: &str, talk: bool) -> Option<(&'static str, String)> {
    let line = match line.strip_prefix('/') {
        _ if !talk => line,
        Some(message) if message.starts_with('/') => {
            return Some(("MSG", format!(" {message}")));
        }
        Some(command) => command,
        None => return Some(("MSG", format!(" {line}"))),
    };
    let line = line.trim_start_matches(is_blank_char);
    let (word, rest) = line.split_at(line.find(is_blank_char).unwrap_or(line.len()));
    let verb = VERBS.iter().find(|verb| verb.eq_ignore_ascii_case(word))?;
    Some((verb, rest.to_owned()))
}

fn is_blank_char(c: char) -> bool {
    c == ' ' || c == '\t'
}

fn is_blank(text: &str) -> bool {
    text.chars().all(is_blank_char)
}

// What came, held against it.

/// What one client received.
struct Received {
    bytes: Vec<u8>,
    closed: bool,
}

/// What one client's replies say that it did.
#[derive(Default)]
struct Deeds {
    /// The messages in the lobby that were accepted.
    said: Vec<(u64, String)>,
    kicked: usize,
    closed: usize,
    resumed: usize,
    operated: usize,
    /// Somebody else ended the connection, and how.
    ended: Option<String>,
}

/// Holds what came against what must come.
fn check(plan: &Plan, items: &[Item<'_>], closed: bool) -> Result<Deeds, String> {
    let mut replies = grammar::lines(items)
        .filter(|(kind, ..)| matches!(kind, Kind::Ok { .. } | Kind::Err { .. }));
    let bye = grammar::lines(items).find_map(|(kind, ..)| match kind {
        Kind::Bye { reason } => Some(reason),
        _ => None,
    });
    let mut deeds = Deeds::default();
    // What somebody else does, or what comes of CLOSE, may come between any two lines.
    if let Some(reason @ ("kicked" | "closed" | "replaced")) = bye {
        deeds.ended = Some(reason.to_owned());
    }
    let mut room = None;
    for (number, asked) in plan.asked.iter().enumerate() {
        let Some((kind, line, crlf)) = replies.next() else {
            if deeds.ended.is_some() {
                break;
            }
            return Err(format!("no reply to line {number}: {}{}", asked.verb, asked.rest));
        };
        let fits = answers(asked, kind, room.is_some()) && crlf == asked.crlf;
        if !fits {
            let (verb, rest) = (asked.verb, &asked.rest);
            return Err(format!(
                "{:?} answers {verb}{rest} {:?}, ending {:?}",
                (line, crlf),
                asked.code,
                asked.crlf
            ));
        }
        deeds.add(asked, kind, &mut room);
    }
    if let Some((_, line, _)) = replies.next() {
        return Err(format!("one reply too many: {line}"));
    }
    let ends = |end| plan.end == end && closed;
    let as_planned = match bye {
        Some(reason) if deeds.ended.as_deref() == Some(reason) => closed,
        Some("quit") => ends(End::Quit),
        Some("eof") => ends(End::Eof) && !plan.stay,
        Some(_) => false,
        None if items.contains(&Item::Http) => ends(End::Http),
        None => ends(End::Tls) || (plan.end == End::Eof && plan.stay && !closed),
    };
    if !as_planned {
        return Err(format!("{bye:?}, closed: {closed}, not {:?}", plan.end));
    }
    check_telnet(plan, items, &deeds)?;
    Ok(deeds)
}

/// Telnet's answers are complete, unless the connection ended before the bytes did.
fn check_telnet(plan: &Plan, items: &[Item<'_>], deeds: &Deeds) -> Result<(), String> {
    let answers = items.iter().filter_map(|item| match item {
        Item::Telnet(answer) => Some(*answer),
        _ => None,
    });
    let answers: Vec<_> = answers.collect();
    let here = grammar::lines(items).filter(|(kind, ..)| *kind == Kind::Notice { kind: "here" });
    let here = here.count();
    let all = plan.end == End::Eof && deeds.ended.is_none();
    let fits = match all {
        true => answers == plan.answers && here == plan.here,
        false => plan.answers.starts_with(&answers) && here <= plan.here,
    };
    if fits { Ok(()) } else { Err(format!("telnet got {answers:?} and {here} notices")) }
}

/// Whether a line is a reply to what was asked, by somebody who has a seat or not.
fn answers(asked: &Asked, reply: Kind<'_>, seated: bool) -> bool {
    let must_sit = !matches!(
        asked.verb,
        "CREATE"
            | "JOIN"
            | "RESUME"
            | "TALK"
            | "STAY"
            | "PING"
            | "HELP"
            | "OPER"
            | "ANNOUNCE"
            | "QUIT"
            | "*"
    );
    let must_stand = match asked.verb {
        "CREATE" => !is_blank(&asked.rest),
        verb => matches!(verb, "JOIN" | "RESUME"),
    };
    let code = match () {
        () if must_sit && !seated => Some("not-in-room"),
        () if must_stand && seated => Some("already-in-room"),
        () => asked.code,
    };
    let is_command = grammar::is_command(asked.verb, &asked.rest);
    match reply {
        Kind::Err { verb, code: came } => {
            let never_fails = matches!(
                asked.verb,
                "TALK" | "STAY" | "PING" | "HELP" | "QUIT" | "WHO" | "HISTORY" | "LEAVE" | "HOLD"
            );
            let fits = match code {
                Some(code) => came == code,
                None => {
                    let is_of_standing = matches!(came, "not-in-room" | "already-in-room");
                    !(is_of_standing || is_command && never_fails)
                }
            };
            verb == asked.verb && fits
        }
        Kind::Ok { verb: "PING", rest } => {
            asked.verb == "PING" && rest == asked.rest.get(1..).unwrap_or_default()
        }
        Kind::Ok { verb, .. } => verb == asked.verb && code.is_none() && is_command,
        _ => false,
    }
}

impl Deeds {
    /// Notes what a reply says was done. `room` is where the client sits.
    fn add(&mut self, asked: &Asked, reply: Kind<'_>, room: &mut Option<String>) {
        let Kind::Ok { verb, rest } = reply else { return };
        let mut fields = rest.split(' ');
        let first = fields.next().unwrap_or_default();
        match verb {
            "JOIN" | "RESUME" => *room = Some(first.to_owned()),
            "CREATE" if fields.next().is_some() => *room = Some(first.to_owned()),
            "LEAVE" => *room = None,
            "MSG" if room.as_deref() == Some("LOBBY") => {
                let text = asked.rest.get(1..).unwrap_or_default();
                self.said.push((first.parse().unwrap_or_default(), text.to_owned()));
            }
            _ => {}
        }
        self.kicked += usize::from(verb == "KICK");
        self.closed += usize::from(verb == "CLOSE");
        self.resumed += usize::from(verb == "RESUME");
        self.operated += usize::from(verb == "OPER");
    }
}

/// The witness sits in the lobby and hears all that is said there, as it was said. He asks nothing.
fn check_witness(received: &Received, mut said: Vec<(u64, String)>) -> Result<Deeds, String> {
    let items = grammar::stream(&received.bytes)?;
    let (mut deeds, mut heard) = (Deeds::default(), Vec::new());
    for (kind, line, _) in grammar::lines(&items) {
        match kind {
            Kind::Msg { id, text } => heard.push((id, text.to_owned())),
            Kind::Bye { reason } => deeds.ended = Some(reason.to_owned()),
            Kind::Ok { .. } | Kind::Err { .. } => return Err(format!("he asked nothing: {line}")),
            _ => {}
        }
    }
    said.sort();
    let fits = match deeds.ended.as_deref() {
        None => heard == said && !received.closed,
        Some(reason) => said.starts_with(&heard) && received.closed && reason == "kicked",
    };
    if fits { Ok(deeds) } else { Err(format!("the witness heard {heard:?}, not {said:?}")) }
}

/// Nobody was sent away unless somebody did it.
fn check_ends(all: &[Deeds]) -> Result<(), String> {
    let ended = |how: &str| all.iter().filter(|deeds| deeds.ended.as_deref() == Some(how)).count();
    let sum = |count: fn(&Deeds) -> usize| all.iter().map(count).sum::<usize>();
    let fits = ended("kicked") <= sum(|deeds| deeds.kicked)
        && ended("replaced") <= sum(|deeds| deeds.resumed)
        && (ended("closed") == 0 || sum(|deeds| deeds.closed) > 0);
    if fits { Ok(()) } else { Err("somebody was sent away, and nobody did it".to_owned()) }
}

// The kitchen.

/// What one client sends.
#[derive(Clone)]
struct Soup {
    pieces: Vec<Vec<u8>>,
    /// Lengths of the first writes.
    cuts: Vec<usize>,
    /// Whether the line after it begins with so much that no state of telnet's outlasts it.
    long_end: bool,
}

impl fmt::Debug for Soup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.pieces.concat();
        write!(f, "b\"{}\" cut {:?}", bytes.escape_ascii(), self.cuts)
    }
}

/// Some clients at one server.
#[derive(Debug, Clone)]
struct Case {
    telnet: bool,
    /// From an address that is paced, and whose guesses are counted.
    stranger: bool,
    /// Bytes that a pipe holds.
    pipe: usize,
    soups: Vec<Soup>,
}

/// One of these is answered `OK PING`, the other as the mode is that the soup left behind.
const FENCE: &[u8] = b"/PING fence\nPING fence\n";

impl Soup {
    /// The soup, the end of its last line, and the fence.
    fn bytes(&self, telnet: bool) -> Vec<u8> {
        let mut bytes = self.pieces.concat();
        let is_open = telnet && bytes.contains(&0xff) && !keys(&bytes, telnet).1;
        if self.long_end || is_open {
            bytes.extend([b'x'; 600]);
        }
        bytes.push(b'\n');
        bytes.extend(FENCE);
        bytes
    }
}

/// Verbs in odd case, wrong arguments, lines that nearly are commands.
const FIELDS: &[&str] = &[
    "LOBBY",
    "lobby",
    "BBBB",
    "cccc",
    "DDDD",
    "B0B0",
    "ann",
    "ANN",
    "bob",
    "kim",
    "wit",
    "b@d",
    "zoe\u{308}",
    "李雷",
    "a\u{301}\u{302}\u{303}",
    "a\u{fe0f}",
    "\u{3164}",
    "xxxxxxxxxxxxxxxxxxxxx",
    "0",
    "1",
    "007",
    "600",
    "601",
    "9999999999999999999",
    "99999999999999999999",
    "-1",
    "٣",
    "on",
    "OFF",
    "Before",
    "after",
    "secret",
    "/",
    "*",
    "MSG",
    "00000000000000000000000000000000",
    "01010101010101010101010101010101",
    "02020202020202020202020202020202",
];

const COMMANDS: &[&str] = &[
    "CREATE",
    "CREATE ann",
    "JOIN LOBBY ann",
    "JOIN LOBBY bob 3",
    "JOIN BBBB bob",
    "JOIN CCCC kim 0",
    "RESUME LOBBY 00000000000000000000000000000000 0",
    "RESUME BBBB 01010101010101010101010101010101 0",
    "RESUME BBBB 02020202020202020202020202020202 1",
    "MSG hello all",
    "MSG   two  blanks ",
    "MSG\tOK MSG 1 2026-11-21T19:06:00.123Z",
    "MSG \u{301}\u{feff}\u{200b}\u{1f468}\u{200d}\u{1f469}",
    "MSG bidi \u{202e}",
    "MSG ls \u{2028}",
    "TELL wit psst",
    "TELL ann   hi",
    "TELL bob BYE quit",
    "WHO",
    "HISTORY",
    "HISTORY 2",
    "HISTORY before 3 1",
    "HISTORY after 0",
    "NICK kim",
    "NICK a\u{fe0f}",
    "NICK Zoe\u{308}",
    "HOLD",
    "HOLD 600",
    "LEAVE",
    "LOCK",
    "UNLOCK",
    "KICK bob",
    "KICK bob Bye.\nLEAVE",
    "KICK kim  \t ",
    "KICK wit  out you go ",
    "MUTE bob",
    "UNMUTE bob",
    "MUTE ann",
    "CLOSE",
    "TALK",
    "TALK on",
    "talk OFF",
    "STAY",
    "PING",
    "PING  echo\t ",
    "HELP",
    "HELP ping",
    "HELP me",
    "OPER secret",
    "OPER sesame",
    "ANNOUNCE  to all",
    "QUIT",
    "QUIT now",
    "GET / HTTP/1.1",
    "hello all",
    "/WHO",
    "//who",
    "/ ping x",
];

const ENDINGS: &[&[u8]] =
    &[b"\n", b"\n", b"\n", b"\r\n", b"\r\n", b"\r\0", b"\r", b"\0", b"\n\r", b"\r\r\n", b""];

/// Telnet's commands, whole and in halves, and the keys that edit.
const KEYS: &[&[u8]] = &[
    b"\xff\xf1",
    b"\xff\xf4",
    b"\xff\xf4\xff\xfd\x06",
    b"\xff\xf6",
    b"\xff\xf7",
    b"\xff\xf8",
    b"\xff\xec",
    b"\xff\xfd\x06",
    b"\xff\xfd\xff",
    b"\xff\xfb\x1f",
    b"\xff\xfb\n",
    b"\xff\xfc\x01",
    b"\xff\xfe\x03",
    b"\xff\xfa\x18\x00xterm\nMSG x\xff\xf0",
    b"\xff\xfa\xff\xff\xf0\xff\xf0",
    b"\xff\xfa",
    b"\xff\xf0",
    b"\xff\xff",
    b"\xffx",
    b"\xff\r",
    b"\xff\n",
    b"\xff\xfd",
    b"\xff",
    b"\x08",
    b"\x08\x08\x08",
    b"\x7f",
    b"\x15",
    b"\x15",
    b"\x04",
    b"\r",
    b"\xc3",
    b"\xe2\x82",
    b"\x80",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
    b"\xf4\x90\x80\x80",
];

const STRANGERS: &[&[u8]] = &[
    b"",
    b"",
    b"",
    BOM,
    b"\xef\xbb",
    b"\n",
    b"\x16\x03\x01\x02\x00\x01\n",
    b"\x16\xff\xf1\x03",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /x HTTP/1.0\nMSG x\n",
    b"\xff\xfd\x03\xff\xfb\x18\xff\xfb\x1f",
    b"\x04",
];

/// Around the bounds of texts, lines and subnegotiations.
const LENGTHS: &[usize] =
    &[60, 61, 511, 512, 513, 1795, 1799, 1800, 1801, 2042, 2043, 2047, 2048, 2049, 4097, 9000];

fn mangled(word: &str, odd: u16) -> Vec<u8> {
    let flip = |(at, byte): (usize, u8)| match byte {
        byte if byte.is_ascii_alphabetic() && odd >> (at % 16) & 1 == 1 => byte ^ 0x20,
        byte => byte,
    };
    word.bytes().enumerate().map(flip).collect()
}

fn bytes_of(list: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    select(list).prop_map(<[u8]>::to_vec)
}

/// A command; in talk mode half of them have the slash that makes them one.
fn command_line(talk: bool) -> impl Strategy<Value = Vec<u8>> {
    let odd = prop_oneof![3 => Just(0), 1 => any::<u16>()];
    (select(COMMANDS), odd, any::<bool>(), select(ENDINGS)).prop_map(
        move |(line, odd, slash, ending)| {
            let verb = line.find(' ').unwrap_or(line.len());
            let slash: &[u8] = if talk && slash { b"/" } else { b"" };
            [slash, &mangled(&line[..verb], odd), &line.as_bytes()[verb..], ending].concat()
        },
    )
}

fn half_valid_line() -> impl Strategy<Value = Vec<u8>> {
    let fields = vec((select(&[" ", "\t", "  ", " \t"][..]), select(FIELDS)), 0..4);
    (select(&["", " ", "/", "\t /"][..]), select(&VERBS[..]), fields, select(ENDINGS)).prop_map(
        |(before, verb, fields, ending)| {
            let fields = fields.into_iter().flat_map(|(blank, field)| [blank, field]);
            let line: String = [before, verb].into_iter().chain(fields).collect();
            [line.as_bytes(), ending].concat()
        },
    )
}

fn long_piece() -> impl Strategy<Value = Vec<u8>> {
    let fillers = select(&["x", " ", "é", "\u{10ffff}", "\0", "\u{200f}"][..]);
    let begins = select(&["", "MSG ", "PING ", "/", "KICK bob ", "TELL wit "][..]);
    (begins, fillers, select(LENGTHS)).prop_map(|(begin, filler, length)| {
        let mut bytes = begin.as_bytes().to_vec();
        bytes.extend(filler.bytes().cycle().take(length / filler.len() * filler.len()));
        bytes
    })
}

fn characters() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<char>(), 1..6).prop_map(|chars| chars.into_iter().collect::<String>().into_bytes())
}

fn piece(talk: bool) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        16 => command_line(talk),
        8 => half_valid_line(),
        8 => bytes_of(KEYS),
        4 => bytes_of(ENDINGS),
        3 => characters(),
        2 => vec(any::<u8>(), 0..12),
        1 => (0..0x20u8).prop_map(|control| vec![control]),
        1 => long_piece(),
    ]
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![2 => 1..4usize, 1 => 1..200usize], 0..8)
}

fn soup(first: &'static [&'static [u8]], pieces: usize, talk: bool) -> impl Strategy<Value = Soup> {
    (bytes_of(first), vec(piece(talk), 0..pieces), cuts(), prop::bool::weighted(0.2)).prop_map(
        |(first, mut pieces, cuts, long_end)| {
            pieces.insert(0, first);
            Soup { pieces, cuts, long_end }
        },
    )
}

fn pipe() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(1 << 20), 1 => 1..300usize]
}

/// One client at a terminal or a pipe.
fn alone(first: &'static [&'static [u8]], talk: bool) -> impl Strategy<Value = Case> {
    (soup(first, 10, talk), pipe()).prop_map(|(soup, pipe)| Case {
        telnet: true,
        stranger: false,
        pipe,
        soups: vec![soup],
    })
}

fn strangers() -> impl Strategy<Value = Case> {
    (soup(STRANGERS, 10, false), pipe(), any::<bool>(), any::<bool>()).prop_map(
        |(soup, pipe, telnet, stranger)| Case { telnet, stranger, pipe, soups: vec![soup] },
    )
}

/// Two or three who may do something to each other.
fn together() -> impl Strategy<Value = Case> {
    let host = soup(&[b"CREATE ann\n", b"CREATE ann\r\nHOLD\r\n", b"OPER secret\n"], 7, false);
    let guest: &[&[u8]] =
        &[b"JOIN BBBB bob\n", b"JOIN BBBB bob\nHOLD\nMSG hi\n", b"JOIN LOBBY bob\n"];
    let guest = soup(guest, 6, false);
    let third = prop::option::weighted(0.2, soup(&[b"JOIN BBBB kim\nTALK\n", b""], 5, true));
    (host, guest, third, pipe()).prop_map(|(host, guest, third, pipe)| Case {
        telnet: true,
        stranger: false,
        pipe,
        soups: [Some(host), Some(guest), third].into_iter().flatten().collect(),
    })
}

// The table.

struct Client {
    stream: DuplexStream,
    to_send: Vec<u8>,
    received: Received,
}

impl Client {
    fn new(stream: DuplexStream) -> Client {
        Client {
            stream,
            to_send: Vec::new(),
            received: Received { bytes: Vec::new(), closed: false },
        }
    }

    /// Reads and writes as far as that goes.
    fn poll(&mut self, cx: &mut Context<'_>) {
        let mut buffer = [0; 512];
        while !self.received.closed {
            let mut read = ReadBuf::new(&mut buffer);
            match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                    self.received.bytes.extend_from_slice(read.filled());
                }
                Poll::Ready(_) => self.received.closed = true,
                Poll::Pending => break,
            }
        }
        while !self.to_send.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.to_send) {
                Poll::Ready(Ok(written)) => drop(self.to_send.drain(..written)),
                // The server has closed.
                Poll::Ready(Err(_)) => self.to_send.clear(),
                Poll::Pending => break,
            }
        }
    }
}

/// A server with known codes and tokens and a clock that stands, and its clients: first the
/// witness, who stays, then those of a case.
struct Table {
    server: Server,
    clients: Vec<Client>,
    sessions: Vec<JoinHandle<()>>,
    /// How often the server has asked for random bytes.
    draws: Arc<AtomicU64>,
    /// The first line that the witness got.
    greeting: Vec<u8>,
}

impl Table {
    async fn lay() -> Table {
        let mut config = Config::default();
        config.listen = Vec::new();
        config.burst = 3;
        config.history = 4;
        config.oper_secret = Some("secret".to_owned());
        config.clock =
            Clock::new(|| SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_287_960_123));
        let draws = Arc::new(AtomicU64::new(0));
        let drawn = draws.clone();
        config.random = Random::new(move |bytes| {
            let draw = drawn.fetch_add(1, Ordering::Relaxed);
            // First BBBB, CCCC, ... and 0000..., 0101..., which the soup knows; then others.
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = if draw < 4 { draw } else { (draw >> (4 * at)) & 15 } as u8;
            }
        });
        let server = Server::bind(config).expect("a server without a port");
        let (clients, sessions, greeting) = (Vec::new(), Vec::new(), Vec::new());
        let mut table = Table { server, clients, sessions, draws, greeting };
        table.seat(true, false, 1 << 24);
        table.clients[0].to_send = b"JOIN LOBBY wit\n".to_vec();
        table.settle().await;
        let received = std::mem::take(&mut table.clients[0].received.bytes);
        let joined = b"\nOK JOIN LOBBY wit 0 1 0\n";
        let greeting = received.strip_suffix(joined).expect("the witness is in the lobby");
        table.greeting = [greeting, b"\n"].concat();
        table
    }

    fn seat(&mut self, telnet: bool, stranger: bool, pipe: usize) {
        let (here, there) = tokio::io::duplex(pipe);
        let mut origin = Origin::default();
        origin.telnet = telnet;
        origin.address = stranger.then_some(SocketAddr::from(([203, 0, 113, 7], 7)));
        self.sessions.push(self.server.attach_from(there, origin));
        self.clients.push(Client::new(here));
    }

    /// Writes what the pipes take and reads what they hold; then it is the server's turn.
    async fn pump(&mut self) {
        poll_fn(|cx| {
            self.clients.iter_mut().for_each(|client| client.poll(cx));
            Poll::Ready(())
        })
        .await;
        // On one thread it has read what was written before more comes.
        yield_now().await;
        yield_now().await;
    }

    /// Lets the server do all that it can: the clock goes on when nothing else does.
    async fn settle(&mut self) {
        let reading = poll_fn(|cx| {
            self.clients.iter_mut().for_each(|client| client.poll(cx));
            Poll::<()>::Pending
        });
        tokio::time::timeout(Duration::from_secs(3600), reading).await.ok();
    }

    /// Sends the writes of all but the witness, in turn.
    async fn send(&mut self, writes: &[Vec<&[u8]>]) {
        let rounds = writes.iter().map(Vec::len).max().unwrap_or(0);
        for round in 0..rounds {
            for (who, writes) in writes.iter().enumerate() {
                if let Some(write) = writes.get(round) {
                    self.clients[1 + who].to_send.extend_from_slice(write);
                    self.pump().await;
                }
            }
        }
        self.settle().await;
    }

    /// Serves a case; returns what the witness received, and then what each client did.
    async fn serve(&mut self, case: &Case, bytes: &[Vec<u8>]) -> Result<Vec<Received>, String> {
        for _ in bytes {
            self.seat(case.telnet, case.stranger, case.pipe);
        }
        let writes = bytes.iter().zip(&case.soups).map(|(bytes, soup)| cut(bytes, &soup.cuts));
        self.send(&writes.collect::<Vec<_>>()).await;
        for client in &mut self.clients[1..] {
            client.stream.shutdown().await.ok();
        }
        self.settle().await;
        self.clear().await
    }

    /// Ends all sessions but the witness's. None has panicked, and of what they made nothing is
    /// left, but what operators did and what was said in the lobby.
    async fn clear(&mut self) -> Result<Vec<Received>, String> {
        let witness = &mut self.clients[0].received;
        let heard = std::mem::take(&mut witness.bytes);
        let bytes = [self.greeting.as_slice(), &heard].concat();
        let mut received = vec![Received { bytes, closed: witness.closed }];
        received.extend(self.clients.drain(1..).map(|client| client.received));
        for session in self.sessions.drain(1..) {
            session.abort();
            if session.await.is_err_and(|error| error.is_panic()) {
                return Err("the server panicked".to_owned());
            }
        }
        // Held seats and empty rooms expire, and the codes have rested.
        tokio::time::advance(Duration::from_secs(25 * 3600)).await;
        self.draws.store(0, Ordering::Relaxed);
        Ok(received)
    }
}

fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut writes = Vec::new();
    for cut in cuts.iter().filter(|cut| **cut > 0) {
        let (write, after) = rest.split_at(rest.len().min(*cut));
        writes.push(write);
        rest = after;
    }
    writes.push(rest);
    writes
}

/// Serves cases, at one table as long as nothing on it is changed for good.
struct Kitchen {
    runtime: Runtime,
    table: RefCell<Option<Table>>,
}

impl Kitchen {
    fn new() -> Kitchen {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
        Kitchen { runtime, table: RefCell::new(None) }
    }

    /// Serves a case and holds all that came against what must come.
    fn try_case(&self, case: &Case) -> Result<(), String> {
        self.runtime.block_on(async {
            let table = self.table.take();
            let mut table = match table {
                Some(table) => table,
                None => Table::lay().await,
            };
            let bytes: Vec<_> = case.soups.iter().map(|soup| soup.bytes(case.telnet)).collect();
            let received = table.serve(case, &bytes).await?;
            let all = check_all(case, &bytes, &received)?;
            let is_clean = all.iter().all(|deeds| deeds.operated == 0);
            self.table.replace(is_clean.then_some(table));
            Ok(())
        })
    }

    /// Serves a case at a table of its own.
    fn serve(&self, case: &Case, bytes: &[Vec<u8>]) -> Result<Vec<Received>, String> {
        self.runtime.block_on(async { Table::lay().await.serve(case, bytes).await })
    }
}

/// What the witness and each client received.
fn check_all(case: &Case, bytes: &[Vec<u8>], received: &[Received]) -> Result<Vec<Deeds>, String> {
    let (witness, received) = received.split_first().ok_or("no witness")?;
    let mut all = Vec::new();
    for (bytes, received) in bytes.iter().zip(received) {
        let plan = Plan::of(bytes, case.telnet);
        let items = grammar::stream(&received.bytes);
        let deeds = items.and_then(|items| check(&plan, &items, received.closed));
        let fail = |why| format!("{why}\n  {}", received.bytes.escape_ascii());
        all.push(deeds.map_err(fail)?);
    }
    let said = all.iter().flat_map(|deeds| deeds.said.clone()).collect();
    let fail = |why| format!("{why}\n  witness: {}", witness.bytes.escape_ascii());
    all.push(check_witness(witness, said).map_err(fail)?);
    check_ends(&all)?;
    Ok(all)
}

/// Tries so many cases; a failure shows the smallest that was found.
fn try_all(
    cases: u32,
    strategy: impl Strategy<Value = Case>,
    test: impl Fn(&Case) -> Result<(), String>,
) {
    let config = ProptestConfig {
        cases,
        // Any will do, and this one is quick.
        rng_algorithm: RngAlgorithm::XorShift,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let result =
        TestRunner::new(config).run(&strategy, |case| test(&case).map_err(TestCaseError::fail));
    if let Err(error) = result {
        panic!("{error}");
    }
}

fn is_harmless(cases: u32, strategy: impl Strategy<Value = Case>) {
    let kitchen = Kitchen::new();
    try_all(cases, strategy, |case| kitchen.try_case(case));
}

/// Of each of the four kinds of soup: 100,000 in all.
const CASES: u32 = 25_000;

// clause: LINE-1, LINE-2, LINE-3, LINE-4, LINE-5, LINE-6, LINE-7, LINE-8, LINE-9, LINE-10, LINE-11
// clause: ARG-1, ARG-2, ARG-3, EDIT-1, EDIT-2, EDIT-3, EDIT-4, ERROR-2
// clause: TELNET-1, TELNET-2, TELNET-3, TELNET-4, TELNET-5, TELNET-6, TELNET-7, TELNET-8, TELNET-9
// clause: REPLY-1, REPLY-2, REPLY-3, REPLY-4, REPLY-5, HELLO-1, BYE-1, BYE-2, MSG-1, PING-1
#[test]
fn soup_of_a_member_harms_nobody() {
    is_harmless(CASES, alone(&[b"JOIN LOBBY ann\n", b"CREATE ann\r\n", b"TALK off\n"], false));
}

// clause: TALK-1, TALK-2, TALK-3, LINE-11
#[test]
fn soup_in_talk_mode_harms_nobody() {
    is_harmless(CASES, alone(&[b"TALK\nJOIN LOBBY ann\n", b"JOIN LOBBY ann\r\nTALK ON\r\n"], true));
}

// clause: PORT-1, PORT-2, LINE-2, PACE-1, LINE-11
#[test]
fn soup_of_strangers_harms_nobody() {
    is_harmless(CASES, strangers());
}

// clause: REPLY-5, HOST-6, LINE-11
#[test]
fn soup_of_several_members_harms_nobody_but_as_they_may() {
    is_harmless(CASES, together());
}

/// The lines that each client gets, but for those of which it depends on when bytes come where they
/// are, or, before a `BYE` that somebody else causes, whether they are there (BYE-3).
fn lines_of(received: &[Received]) -> Result<Vec<Vec<(String, bool)>>, String> {
    let lines = |received: &Received| {
        let items = grammar::stream(&received.bytes)?;
        let is_ended_by_others = grammar::lines(&items).any(|(kind, ..)| {
            matches!(kind, Kind::Bye { reason: "kicked" | "closed" | "replaced" })
        });
        let lines = grammar::lines(&items)
            .filter(|(kind, ..)| *kind != Kind::Notice { kind: "here" })
            .filter(|(kind, ..)| !is_ended_by_others || is_owed(kind))
            .map(|(_, line, crlf)| (line.to_owned(), crlf));
        Ok(lines.collect())
    };
    received.iter().map(lines).collect()
}

/// Whether no `BYE` comes instead of it.
fn is_owed(kind: &Kind<'_>) -> bool {
    matches!(kind, Kind::Hello | Kind::Ok { .. } | Kind::Err { .. } | Kind::Bye { .. })
}

// clause: LINE-5, LINE-10
#[test]
fn soup_comes_to_the_same_however_it_is_cut() {
    let lobby = alone(&[b"JOIN LOBBY ann\n", b"CREATE ann\r\n"], false);
    let talk = alone(&[b"JOIN LOBBY ann\nTALK\n"], true);
    let cuts = vec(prop_oneof![3 => 1..4usize, 1 => 1..60usize], 1..40);
    let cases = (prop_oneof![lobby, talk, strangers()], cuts).prop_map(|(mut case, cuts)| {
        case.soups[0].cuts = cuts;
        case
    });
    let kitchen = Kitchen::new();
    try_all(3_000, cases, |case| {
        let mut whole = case.clone();
        whole.soups[0].cuts.clear();
        let bytes = [case.soups[0].bytes(case.telnet)];
        let cut = lines_of(&kitchen.serve(case, &bytes)?)?;
        let whole = lines_of(&kitchen.serve(&whole, &bytes)?)?;
        if cut == whole { Ok(()) } else { Err(format!("cut: {cut:?}\n  whole: {whole:?}")) }
    });
}

// clause: LINE-7, LINE-8, MSG-1
#[test]
fn every_character_is_refused_or_delivered_as_it_is() {
    // As many as fit a text, even of four bytes each.
    let together = 400;
    let (mut texts, mut refused) = (vec![String::new()], String::new());
    for c in '\0'..=char::MAX {
        match texts.last_mut() {
            // It can't be in a line.
            _ if c == '\n' => {}
            _ if grammar::is_forbidden(c) => refused.push(c),
            Some(text) if text.chars().count() < together => text.push(c),
            _ => texts.push(c.to_string()),
        }
    }
    for telnet in [false, true] {
        // ^H, ^U and DEL edit a line there, instead of standing in it.
        let is_key = |c: char| telnet && matches!(c, '\x08' | '\x15' | '\x7f');
        let refused: Vec<char> = refused.chars().filter(|c| !is_key(*c)).collect();
        let mut bytes = b"JOIN LOBBY ann\n".to_vec();
        for text in &texts {
            bytes.extend(format!("MSG {text}\n").bytes());
        }
        for c in &refused {
            bytes.extend(format!("MSG a{c}b\n").bytes());
        }
        let soup = Soup { pieces: vec![bytes], cuts: Vec::new(), long_end: false };
        let case = Case { telnet, stranger: false, pipe: 1 << 24, soups: vec![soup] };
        let bytes = case.soups[0].pieces.clone();
        let received = Kitchen::new().serve(&case, &bytes).expect("no panic");
        let (witness, sender) = (&received[0], &received[1]);
        let items = grammar::stream(&witness.bytes).expect("the witness gets lines");
        let heard: Vec<&str> = grammar::lines(&items)
            .filter_map(
                |(kind, ..)| if let Kind::Msg { text, .. } = kind { Some(text) } else { None },
            )
            .collect();
        let lost = texts.iter().zip(&heard).find(|(text, heard)| text != heard);
        assert_eq!(lost, None, "a text has changed on its way");
        assert_eq!(heard.len(), texts.len());
        let items = grammar::stream(&sender.bytes).expect("the sender gets lines");
        let errors: Vec<_> = grammar::lines(&items)
            .filter_map(
                |(kind, ..)| if let Kind::Err { code, .. } = kind { Some(code) } else { None },
            )
            .collect();
        assert_eq!(errors, vec!["control-char"; refused.len()], "{refused:?}");
    }
}
