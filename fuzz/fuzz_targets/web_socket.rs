//! Whatever a client sends through its WebSocket, what it gets are whole frames, their texts are
//! what PROTOCOL.md says a client may receive, each line is answered once, and the connection ends
//! with the close code that its mistake has.
//!
//! The input: the lengths of the pieces, and what the client sends.

#![no_main]
#![allow(dead_code, reason = "of the grammar only the reading of lines is needed")]

#[path = "../../tests/it/grammar.rs"]
mod grammar;
#[path = "../common/wire.rs"]
mod wire;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use parlor::protocol::limits::FRAME_BYTES;

use grammar::Kind;

const REQUEST: &[u8] = b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Whatever else is wrong with a frame that is too long may be seen before that.
const TOO_LONG: &[u16] = &[1009, 1002];

#[derive(Debug, Arbitrary)]
enum Sent<'a> {
    /// A frame that is as it should be but for its first byte.
    Frame(u8, [u8; 4], &'a [u8]),
    /// A whole line.
    Line(&'a str),
    /// One of what is said most.
    Usual(u8),
    /// A part of a line; whether it is the first, and the last.
    Part(bool, bool, &'a [u8]),
    Ping(&'a [u8]),
    Letters(u16),
    Close(u16, &'a str),
    Bytes(&'a [u8]),
}

const USUAL: [&str; 10] = [
    "JOIN LOBBY zoe",
    "CREATE zoe",
    "MSG hello",
    "TALK",
    "HOLD 30",
    "WHO",
    "HISTORY",
    "NICK ann",
    "HELP",
    "QUIT",
];

fuzz_target!(|input: (Vec<u8>, Vec<Sent>)| {
    let (lengths, sent) = input;
    let mut frames = Vec::new();
    sent.iter().for_each(|sent| write(sent, &mut frames));
    let bytes = [REQUEST, &frames].concat();

    let received = wire::talk(&bytes, &lengths);
    let answer = wire::Answer::read(&received);
    assert_eq!(answer.status, 101, "{answer:?}");
    let said = read_server(&received[answer.end()..]);
    check(&said, &read_client(&frames));
});

fn write(sent: &Sent, bytes: &mut Vec<u8>) {
    let mut frame =
        |first, payload: &[u8]| write_frame(first, [0x11, 0x22, 0x33, 0x44], payload, bytes);
    match sent {
        Sent::Frame(first, mask, payload) => write_frame(*first, *mask, payload, bytes),
        Sent::Line(line) => frame(0x80 | TEXT, line.as_bytes()),
        Sent::Usual(which) => {
            frame(0x80 | TEXT, USUAL[usize::from(*which) % USUAL.len()].as_bytes())
        }
        Sent::Part(is_first, is_last, part) => {
            frame(u8::from(*is_first) * TEXT | u8::from(*is_last) << 7, part);
        }
        Sent::Ping(payload) => frame(0x80 | PING, payload),
        Sent::Letters(count) => frame(0x80 | TEXT, &vec![b'x'; usize::from(*count % 9000)]),
        Sent::Close(code, why) => {
            frame(0x80 | CLOSE, &[&code.to_be_bytes(), why.as_bytes()].concat());
        }
        Sent::Bytes(raw) => bytes.extend(*raw),
    }
}

fn write_frame(first: u8, mask: [u8; 4], payload: &[u8], bytes: &mut Vec<u8>) {
    bytes.push(first);
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => bytes.push(0x80 | length as u8),
        Ok(length) => bytes.extend([&[0x80 | 126][..], &length.to_be_bytes()].concat()),
        Err(_) => bytes.extend([&[0x80 | 127][..], &payload.len().to_be_bytes()].concat()),
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// A frame, and how many bytes it has; `None` if it is not whole.
struct Frame<'a> {
    first: u8,
    is_masked: bool,
    mask: [u8; 4],
    payload: &'a [u8],
    bytes: usize,
}

/// The length in a header is not even looked at where the header is half.
fn read_frame(bytes: &[u8]) -> Result<Frame<'_>, Option<u64>> {
    let [first, second, ..] = *bytes else { return Err(None) };
    let (length, mut at) = match second & 0x7f {
        126 => match bytes.get(2..4) {
            Some(length) => (u64::from(length[0]) << 8 | u64::from(length[1]), 4),
            None => return Err(None),
        },
        127 => match bytes.get(2..10) {
            Some(length) => (length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)), 10),
            None => return Err(None),
        },
        length => (length.into(), 2),
    };
    let is_masked = second & 0x80 != 0;
    let mut mask = [0; 4];
    if is_masked {
        mask.copy_from_slice(bytes.get(at..at + 4).ok_or(None)?);
        at += 4;
    }
    let end = usize::try_from(length).ok().and_then(|length| at.checked_add(length));
    let payload = end.and_then(|end| bytes.get(at..end)).ok_or(Some(length))?;
    Ok(Frame { first, is_masked, mask, payload, bytes: at + payload.len() })
}

/// What the server has said.
#[derive(Debug, Default)]
struct Said {
    lines: Vec<u8>,
    pongs: Vec<Vec<u8>>,
    close_code: Option<u16>,
    has_closed: bool,
}

fn read_server(mut bytes: &[u8]) -> Said {
    let mut said = Said::default();
    while !bytes.is_empty() {
        let shown = || bytes.escape_ascii().to_string();
        assert!(!said.has_closed, "behind the close frame: {}", shown());
        let Ok(frame) = read_frame(bytes) else { panic!("half a frame: {}", shown()) };
        assert!(!frame.is_masked && frame.first & 0xf0 == 0x80, "{}", shown());
        match frame.first & 0x0f {
            TEXT => {
                assert!(!frame.payload.contains(&b'\n'), "{}", shown());
                said.lines.extend(frame.payload);
                said.lines.push(b'\n');
            }
            PING => assert!(frame.payload.is_empty(), "{}", shown()),
            PONG => said.pongs.push(frame.payload.to_vec()),
            CLOSE => {
                said.has_closed = true;
                said.close_code = frame.payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            }
            _ => panic!("{}", shown()),
        }
        bytes = &bytes[frame.bytes..];
    }
    said
}

/// What a client has asked for, until its first mistake.
#[derive(Debug, Default)]
struct Asked {
    /// Lines that are not blank.
    lines: Vec<String>,
    pings: Vec<Vec<u8>>,
    end: End,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The bytes end, perhaps in a frame.
    #[default]
    Cut,
    Closed,
    /// A mistake, and the close codes that it may have.
    Mistake(&'static [u16]),
}

/// A message whose end is still to come, and whether it is a text.
type Parts = Option<(bool, Vec<u8>)>;

fn read_client(mut bytes: &[u8]) -> Asked {
    let mut asked = Asked::default();
    let mut parts = None;
    while asked.end == End::Cut {
        let frame = match read_frame(bytes) {
            Ok(frame) => frame,
            Err(length) => {
                if length.is_some_and(|length| length > FRAME_BYTES as u64) {
                    asked.end = End::Mistake(TOO_LONG);
                }
                return asked;
            }
        };
        bytes = &bytes[frame.bytes..];
        asked.end = take(&frame, &mut parts, &mut asked);
    }
    asked
}

fn take(frame: &Frame, parts: &mut Parts, asked: &mut Asked) -> End {
    let unmask = |(byte, mask): (&u8, &u8)| byte ^ mask;
    let payload: Vec<u8> =
        frame.payload.iter().zip(frame.mask.iter().cycle()).map(unmask).collect();
    let (opcode, is_last) = (frame.first & 0x0f, frame.first & 0x80 != 0);
    let is_control = opcode >= 8;
    if payload.len() > FRAME_BYTES {
        return End::Mistake(TOO_LONG);
    }
    if frame.first & 0x70 != 0
        || !frame.is_masked
        || is_control && (!is_last || payload.len() > 125)
    {
        return End::Mistake(&[1002]);
    }
    match opcode {
        PING => asked.pings.push(payload),
        PONG => {}
        CLOSE => return End::Closed,
        0 | TEXT | BINARY if (opcode == 0) == parts.is_some() => {
            let (is_text, mut message) = parts.take().unwrap_or((opcode == TEXT, Vec::new()));
            message.extend(payload);
            return take_part(is_text, is_last, message, parts, asked);
        }
        _ => return End::Mistake(&[1002]),
    }
    End::Cut
}

/// Takes a message as far as it has come.
fn take_part(
    is_text: bool,
    is_last: bool,
    message: Vec<u8>,
    parts: &mut Parts,
    asked: &mut Asked,
) -> End {
    if message.len() > FRAME_BYTES {
        return End::Mistake(TOO_LONG);
    }
    match str::from_utf8(&message) {
        Err(error) if is_text && (is_last || error.error_len().is_some()) => {
            return End::Mistake(&[1007]);
        }
        _ if !is_last => *parts = Some((is_text, message)),
        Ok(line) if is_text => asked.lines.extend(is_asked(line).then(|| line.to_owned())),
        _ => return End::Mistake(&[1003]),
    }
    End::Cut
}

fn is_asked(line: &str) -> bool {
    !line.trim_matches([' ', '\t']).is_empty()
}

fn check(said: &Said, asked: &Asked) {
    let shown = || format!("{asked:?}\n{}", said.lines.escape_ascii());
    let items = grammar::stream(&said.lines).unwrap_or_else(|why| panic!("{why}: {}", shown()));
    let kinds: Vec<_> = grammar::lines(&items).map(|(kind, ..)| kind).collect();
    let replies = kinds.iter().filter(|kind| matches!(kind, Kind::Ok { .. } | Kind::Err { .. }));
    let replies = replies.count();
    let has_quit = matches!(kinds.last(), Some(Kind::Bye { reason: "quit" }));
    assert!(replies <= asked.lines.len(), "{replies} replies: {}", shown());
    assert!(replies == asked.lines.len() || has_quit, "{replies} replies: {}", shown());
    if has_quit {
        return;
    }
    assert_eq!(said.pongs, asked.pings, "{}", shown());
    if let End::Mistake(codes) = asked.end {
        let code = said.close_code.expect("a close code");
        assert!(codes.contains(&code), "{code}: {}", shown());
    }
}
