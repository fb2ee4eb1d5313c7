//! What telnet sends comes to the same lines, answers and cost as in a filter that has all bytes
//! before it, however they are cut.
//!
//! The input: the lengths of the pieces, and what a telnet sends.

#![no_main]

use std::collections::VecDeque;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use parlor::fuzzing::feed_telnet;
use parlor::protocol::limits::{LINE_BYTES, PACE_BYTES, SUBNEGOTIATION_BYTES};
use parlor::protocol::{BadLine, forbidden};
use parlor::{Ending, LineDecoder, Received};

const IAC: u8 = 255;
const BOM: [Key; 3] = [Key::Byte(0xef), Key::Byte(0xbb), Key::Byte(0xbf)];

#[derive(Debug, Arbitrary)]
enum Sent<'a> {
    Bytes(&'a [u8]),
    Letters(u16),
    Command(u8),
    Key(u8),
    Option(u8, u8),
    Subnegotiation(&'a [u8], bool),
    Line(Line),
}

#[derive(Debug, Arbitrary)]
enum Line {
    Request,
    Bom,
    Tls,
    Message,
}

fuzz_target!(|input: (Vec<u8>, Vec<Sent>)| {
    let (lengths, sent) = input;
    let mut bytes = Vec::new();
    sent.iter().for_each(|sent| write(sent, &mut bytes));

    let expected = filter(&bytes);
    assert_eq!(decode(&[&bytes]), expected);
    assert_eq!(decode(&cut(&bytes, &lengths)), expected);
    assert_eq!(decode(&bytes.chunks(1).collect::<Vec<_>>()), expected);
});

fn write(sent: &Sent, bytes: &mut Vec<u8>) {
    const KEYS: [u8; 8] = [b'\r', b'\n', 0, 0x08, 0x7f, 0x15, 0x04, b' '];
    match sent {
        Sent::Bytes(text) => bytes.extend(*text),
        Sent::Letters(count) => bytes.extend(vec![b'x'; usize::from(*count % 4096)]),
        Sent::Command(command) => bytes.extend([IAC, 236 + command % 20]),
        Sent::Key(key) => bytes.push(KEYS[usize::from(*key) % KEYS.len()]),
        Sent::Option(command, option) => bytes.extend([IAC, 251 + command % 4, *option]),
        Sent::Subnegotiation(content, is_whole) => {
            bytes.extend([IAC, 250]);
            bytes.extend(*content);
            bytes.extend(if *is_whole { &[IAC, 240][..] } else { &[] });
        }
        Sent::Line(Line::Request) => bytes.extend(b"GET / HTTP/1.1\r\n"),
        Sent::Line(Line::Bom) => bytes.extend([0xef, 0xbb, 0xbf]),
        Sent::Line(Line::Tls) => bytes.extend([0x16, 0x03]),
        Sent::Line(Line::Message) => bytes.extend("MSG Grüße, Zoë\r\n".bytes()),
    }
}

type Answers = Vec<Option<[u8; 3]>>;

/// What comes of the pieces, what telnet is answered, and what they cost.
fn decode(pieces: &[&[u8]]) -> (Vec<Received>, Answers, u32) {
    let mut decoder = LineDecoder::new(true);
    let mut received = VecDeque::new();
    let mut answers = Answers::new();
    for piece in pieces {
        answers.extend(feed_telnet(&mut decoder, piece, &mut received));
    }
    decoder.finish(&mut received);
    (received.into(), answers, decoder.take_surcharge())
}

/// Pieces of these lengths, empty ones too, and then the rest.
fn cut<'a>(mut bytes: &'a [u8], lengths: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for &length in lengths {
        let (piece, rest) = bytes.split_at(usize::from(length).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces.push(bytes);
    pieces
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Byte(u8),
    EraseCharacter,
    EraseLine,
    EndOfFile,
    /// Nothing for a line; it is answered.
    Answered(Option<[u8; 3]>),
}

/// Takes what telnet means off the front: how many bytes it is, and what it comes to.
fn take_key(bytes: &[u8]) -> (usize, Option<Key>) {
    match bytes {
        [IAC] | [IAC, 251..=254] => (bytes.len(), None),
        [IAC, IAC, ..] => (2, Some(Key::Byte(IAC))),
        [IAC, 251, option, ..] => (3, Some(Key::Answered(Some([IAC, 254, *option])))),
        [IAC, 253, option, ..] => (3, Some(Key::Answered(Some([IAC, 252, *option])))),
        [IAC, 252 | 254, ..] => (3, None),
        [IAC, 250, content @ ..] => (2 + subnegotiation(content), None),
        [IAC, 236, ..] => (2, Some(Key::EndOfFile)),
        [IAC, 244 | 248, ..] => (2, Some(Key::EraseLine)),
        [IAC, 247, ..] => (2, Some(Key::EraseCharacter)),
        [IAC, 246, ..] => (2, Some(Key::Answered(None))),
        [IAC, end @ (b'\r' | b'\n'), ..] => (2, Some(Key::Byte(*end))),
        [IAC, _, ..] => (2, None),
        [byte, ..] => (1, Some(Key::Byte(*byte))),
        [] => (0, None),
    }
}

/// How many bytes belong to a subnegotiation, its end included.
fn subnegotiation(content: &[u8]) -> usize {
    let mut at = 0;
    while at < content.len().min(SUBNEGOTIATION_BYTES) {
        let is_command = content[at] == IAC && at + 1 < SUBNEGOTIATION_BYTES;
        match content.get(at + 1) {
            Some(240) if is_command => return at + 2,
            Some(_) if is_command => at += 2,
            _ => at += 1,
        }
    }
    at
}

/// A line as it grows.
#[derive(Default)]
struct Draft {
    edited: Vec<u8>,
    /// All that was typed, but for the keys that edit.
    typed: Vec<u8>,
    /// Editing keys that are bytes of the line.
    edits: usize,
}

impl Draft {
    fn counted(&self) -> usize {
        self.typed.len() + self.edits
    }

    fn is_too_long(&self) -> bool {
        self.counted() > LINE_BYTES
    }

    fn edit(&mut self, key: Key) {
        match key {
            Key::Byte(0x08 | 0x7f | 0x15) => self.edits += 1,
            Key::Byte(byte) => self.push(&[byte]),
            _ => {}
        }
        match key {
            Key::Byte(0x08 | 0x7f) | Key::EraseCharacter => self.erase_character(),
            Key::Byte(0x15) | Key::EraseLine => self.edited.clear(),
            _ => {}
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.edited.extend(bytes);
        self.typed.extend(bytes);
    }

    /// Takes off what a decoder shows as the last character.
    fn erase_character(&mut self) {
        let mut shown: Vec<char> = String::from_utf8_lossy(&self.edited).chars().collect();
        shown.pop();
        let shown = String::from_iter(shown);
        let is_left = |&end: &usize| String::from_utf8_lossy(&self.edited[..end]) == shown;
        let end = (0..self.edited.len()).rev().take(4).find(is_left).unwrap_or(0);
        self.edited.truncate(end);
    }

    fn received(&self, ending: Option<Ending>) -> Received {
        let bad = |why, bytes: &[u8]| Received::Bad(why, bytes.to_vec(), ending);
        match str::from_utf8(&self.edited) {
            _ if self.is_too_long() => bad(BadLine::TooLong, b""),
            Err(_) => bad(BadLine::NotUtf8, &self.edited),
            Ok(line) if line.trim_matches([' ', '\t']).is_empty() => Received::Blank(ending),
            Ok(line) if line.contains(forbidden) => bad(BadLine::Forbidden, &self.edited),
            Ok(line) => Received::Line(line.to_owned(), ending),
        }
    }

    fn is_http(&self) -> bool {
        let bytes = if self.is_too_long() { &self.typed } else { &self.edited };
        let mut words = bytes.splitn(3, |byte| *byte == b' ');
        let (method, target) = (words.next(), words.next());
        let version = words.next().unwrap_or_default();
        let is_method = |word: &[u8]| !word.is_empty() && word.iter().all(u8::is_ascii_uppercase);
        let is_target = |word: &[u8]| !word.is_empty() && !word.iter().any(u8::is_ascii_whitespace);
        method.is_some_and(is_method)
            && target.is_some_and(is_target)
            && version.starts_with(b"HTTP/")
    }
}

/// The same as the decoder, found in the simplest way.
fn filter(bytes: &[u8]) -> (Vec<Received>, Answers, u32) {
    if bytes.starts_with(&[0x16, 0x03]) {
        return (vec![Received::Tls], Answers::new(), 0);
    }
    let mut keys = without_bom(keys(bytes));
    keys.push((Key::EndOfFile, bytes.len()));
    let mut filter = Filter::default();
    for (key, at) in keys {
        filter.take(key, at);
        if filter.has_ended {
            break;
        }
    }
    let cost = filter.cost + filter.answers.len() as u32;
    (filter.received, filter.answers, cost)
}

/// The keys, each with the place behind it.
fn keys(bytes: &[u8]) -> Vec<(Key, usize)> {
    let (mut keys, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let (length, key) = take_key(&bytes[at..]);
        at += length;
        keys.extend(key.map(|key| (key, at)));
    }
    keys
}

fn without_bom(mut keys: Vec<(Key, usize)>) -> Vec<(Key, usize)> {
    let is_answer = |key: Key| matches!(key, Key::Answered(_));
    let typed = keys.iter().map(|(key, _)| *key).filter(|key| !is_answer(*key));
    if typed.take(BOM.len()).eq(BOM) {
        let mut left = BOM.len();
        keys.retain(|(key, _)| {
            let stays = left == 0 || is_answer(*key);
            left -= usize::from(!stays);
            stays
        });
    }
    keys
}

#[derive(Default)]
struct Filter {
    received: Vec<Received>,
    answers: Answers,
    cost: u32,
    draft: Draft,
    /// After a CR: what was edited since.
    after_cr: Option<Vec<Key>>,
    /// Where the line begins in the bytes.
    begin: usize,
    is_past_first: bool,
    has_ended: bool,
}

impl Filter {
    fn take(&mut self, key: Key, at: usize) {
        if let Key::Answered(answer) = key {
            return self.answers.push(answer);
        }
        if let (Some(edits), Key::EraseCharacter | Key::EraseLine) = (&mut self.after_cr, key) {
            return edits.push(key);
        }
        let edits = self.after_cr.take();
        let ending = match key {
            Key::Byte(b'\n' | 0) | Key::EndOfFile if edits.is_some() => Some(Ending::CrLf),
            Key::Byte(b'\n') => Some(Ending::Lf),
            _ => None,
        };
        if edits.is_some() && ending.is_none() {
            self.draft.push(b"\r");
        }
        edits.into_iter().flatten().for_each(|edit| self.draft.edit(edit));
        match key {
            Key::EndOfFile => {
                if ending.is_some() || self.draft.counted() > 0 {
                    self.end_line(ending, at);
                }
                self.end(Received::Eof, at);
            }
            _ if ending.is_some() => self.end_line(ending, at),
            Key::Byte(b'\r') => self.after_cr = Some(Vec::new()),
            Key::Byte(0x04) if self.draft.edited.is_empty() && !self.draft.is_too_long() => {
                self.end(Received::Eof, at);
            }
            key => self.draft.edit(key),
        }
    }

    fn end_line(&mut self, ending: Option<Ending>, at: usize) {
        let draft = std::mem::take(&mut self.draft);
        if !self.is_past_first && draft.is_http() {
            return self.end(Received::Http, at);
        }
        self.charge(at);
        let received = draft.received(ending);
        self.is_past_first |= !matches!(received, Received::Blank(_));
        self.received.push(received);
    }

    fn end(&mut self, how: Received, at: usize) {
        if !self.has_ended {
            self.charge(at);
            self.received.push(how);
        }
        self.has_ended = true;
    }

    fn charge(&mut self, at: usize) {
        self.cost += ((at - self.begin).saturating_sub(3) / PACE_BYTES) as u32;
        self.begin = at;
    }
}
