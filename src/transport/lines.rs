//! From bytes to lines, however the bytes were cut.

use std::collections::VecDeque;

use bytes::BytesMut;
use tokio_util::codec::{Decoder, LinesCodec};

use super::telnet::{Answer, Key, Telnet};
use crate::protocol::limits::{LINE_BYTES, LINES_A_READ, PACE_BYTES};
use crate::protocol::{BadLine, Ending, forbidden, is_blank};

/// What came from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// A line to execute. `None` is the end of file, which ends a last line too.
    Line(String, Option<Ending>),
    /// A line of blanks, or of nothing.
    Blank(Option<Ending>),
    /// A line that is no text, why, and its bytes; none of one that is too long.
    Bad(BadLine, Vec<u8>, Option<Ending>),
    /// The first line is that of an HTTP request, however long; nothing follows.
    Http,
    /// The stream begins like a TLS handshake; nothing follows.
    Tls,
    /// The end of the client's input; nothing follows.
    Eof,
    /// The end of a WebSocket, both ways.
    Closed,
}

/// Frames lines: telnet's sequences and the keys that edit a line are taken out on the way, and
/// [`LinesCodec`] makes a line of what is left.
///
/// The codec gets whole lines of a checked length only. So a line that is too long or not UTF-8
/// is an item like any other here, and never an error that hides the lines after it.
#[derive(Debug)]
pub struct LineDecoder {
    /// `None`: editing keys are control characters, and telnet's bytes are not UTF-8.
    telnet: Option<Telnet>,
    /// The line so far, edited; empty while it is too long.
    line: BytesMut,
    /// Bytes of the line so far, before editing.
    counted: u32,
    /// After a CR: whether it is an ending shows later.
    after_cr: Option<Edits>,
    start: Start,
    /// Whether the first line is that of an HTTP request; `None` after it.
    request: Option<RequestLine>,
    ended: bool,
    /// Bytes received since the last line, telnet's included.
    raw: u32,
    surcharge: u32,
}

/// Telnet's edits between a CR and what follows it. If that makes an ending of the CR they edit the
/// line before it, else the CR is the first that they erase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Edits {
    characters: u32,
    line: bool,
}

/// What is still to be looked for at the start of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// Nothing has come.
    Nothing,
    /// The first byte of a TLS record.
    Tls,
    /// So many bytes of a byte order mark, which are held back.
    Bom(u8),
    Past,
}

/// How far a line matches `^[A-Z]+ \S+ HTTP/`. A browser's request must not be taken for commands
/// even where its first line is too long for one: what follows it may be written by a stranger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestLine {
    /// Nothing, or capitals.
    Method {
        begun: bool,
    },
    /// A blank, then bytes without one.
    Target {
        begun: bool,
    },
    /// A blank, then so many bytes of `HTTP/`.
    Version(u8),
    Yes,
    No,
}

impl RequestLine {
    const START: RequestLine = RequestLine::Method { begun: false };

    /// What is left of a line after editing counts; of one that is too long only the match of its
    /// bytes is left.
    fn is_http(self, is_too_long: bool, line: &[u8]) -> bool {
        let mut request = self;
        if !is_too_long {
            request = RequestLine::START;
            line.iter().for_each(|byte| request.take(*byte));
        }
        request == RequestLine::Yes
    }

    fn take(&mut self, byte: u8) {
        const VERSION: &[u8] = b"HTTP/";
        *self = match *self {
            RequestLine::Method { .. } if byte.is_ascii_uppercase() => {
                RequestLine::Method { begun: true }
            }
            RequestLine::Method { begun: true } if byte == b' ' => {
                RequestLine::Target { begun: false }
            }
            RequestLine::Target { .. } if !byte.is_ascii_whitespace() => {
                RequestLine::Target { begun: true }
            }
            RequestLine::Target { begun: true } if byte == b' ' => RequestLine::Version(0),
            RequestLine::Version(n) if byte == VERSION[usize::from(n)] => {
                match usize::from(n) + 1 == VERSION.len() {
                    true => RequestLine::Yes,
                    false => RequestLine::Version(n + 1),
                }
            }
            RequestLine::Yes => RequestLine::Yes,
            _ => RequestLine::No,
        };
    }
}

const BOM: [u8; 3] = [0xef, 0xbb, 0xbf];
/// The first two bytes of a TLS handshake: content type 22, major version 3 (RFC 8446, 5.1).
const TLS: [u8; 2] = [0x16, 0x03];

impl LineDecoder {
    /// A decoder for a fresh stream; `telnet` turns on telnet's sequences and line editing.
    pub fn new(telnet: bool) -> LineDecoder {
        LineDecoder {
            telnet: telnet.then_some(Telnet::default()),
            line: BytesMut::new(),
            counted: 0,
            after_cr: None,
            start: Start::Nothing,
            request: Some(RequestLine::START),
            ended: false,
            raw: 0,
            surcharge: 0,
        }
    }

    /// Takes the bytes of one read and adds to `out` what they complete.
    pub fn feed(&mut self, mut bytes: &[u8], out: &mut VecDeque<Received>) {
        while !bytes.is_empty() {
            bytes = &bytes[self.feed_some(bytes, out, &mut Vec::new())..];
        }
    }

    /// The same for [`LINES_A_READ`] lines and answers at most: what telnet wants to hear at once is
    /// added to `answers`. Returns how many bytes were taken; what is left is to be fed again.
    pub(crate) fn feed_some(
        &mut self,
        all: &[u8],
        out: &mut VecDeque<Received>,
        answers: &mut Vec<Answer>,
    ) -> usize {
        let most = out.len() + answers.len() + LINES_A_READ;
        let mut bytes = &all[self.take_whole_lines(all, out)..];
        while !self.ended && !bytes.is_empty() && out.len() + answers.len() < most {
            let plain = self.plain_prefix(bytes);
            if plain > 0 {
                self.charge(plain);
                self.push(&bytes[..plain]);
                bytes = &bytes[plain..];
            } else {
                self.charge(1);
                self.take(bytes[0], out, answers);
                bytes = &bytes[1..];
            }
        }
        // Nothing follows an end.
        if self.ended { all.len() } else { all.len() - bytes.len() }
    }

    /// Whether a line has begun and not ended; telnet's sequences alone are none.
    pub(crate) fn has_begun_line(&self) -> bool {
        self.counted > 0 || self.after_cr.is_some()
    }

    /// The stream has ended: a last line without an ending counts.
    pub fn finish(&mut self, out: &mut VecDeque<Received>) {
        if self.ended {
            return;
        }
        self.release_bom();
        if let Some(edits) = self.after_cr.take() {
            self.apply(edits);
            self.end_line(Some(Ending::CrLf), out);
        } else if self.counted > 0 {
            self.end_line(None, out);
        }
        self.end(Received::Eof, out);
    }

    /// What the bytes since the last call cost beyond one for each line: one for each 2048
    /// further bytes of a line, one for each telnet command that is answered.
    pub fn take_surcharge(&mut self) -> u32 {
        std::mem::take(&mut self.surcharge)
    }

    /// The whole lines at the front of a read that hold no byte to look at more closely: as a rule
    /// all, and [`LINES_A_READ`] at most. Returns how many bytes they are.
    fn take_whole_lines(&mut self, bytes: &[u8], out: &mut VecDeque<Received>) -> usize {
        let is_between_lines = self.raw == 0 && self.plain_prefix(b" ") > 0;
        if self.ended || !is_between_lines || self.request.is_some() {
            return 0;
        }
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let lines = &bytes[..end];
        let is_plain =
            !lines.iter().fold(false, |any, byte| any | is_special(*byte) & (*byte != b'\n'));
        let is_short =
            end <= LINE_BYTES || lines.split(|b| *b == b'\n').all(|l| l.len() <= LINE_BYTES);
        if end == 0 || !is_plain || !is_short || str::from_utf8(lines).is_err() {
            return 0;
        }
        let (mut codec, mut lines) = (codec(), BytesMut::from(lines));
        for _ in 0..LINES_A_READ {
            let Ok(Some(line)) = codec.decode(&mut lines) else { break };
            out.push_back(checked(line, Some(Ending::Lf)));
        }
        end - lines.len()
    }

    /// How many bytes at the front are text for certain, whatever the state.
    fn plain_prefix(&self, bytes: &[u8]) -> usize {
        let in_text = self.telnet.is_none_or(Telnet::is_text);
        if self.after_cr.is_some() || self.start != Start::Past || !in_text {
            return 0;
        }
        bytes.iter().position(|byte| is_special(*byte)).unwrap_or(bytes.len())
    }

    fn take(&mut self, byte: u8, out: &mut VecDeque<Received>, answers: &mut Vec<Answer>) {
        match self.start {
            Start::Nothing if byte == TLS[0] => self.start = Start::Tls,
            Start::Nothing => self.start = Start::Bom(0),
            Start::Tls if byte == TLS[1] => return self.end(Received::Tls, out),
            Start::Tls => self.start = Start::Past,
            Start::Bom(_) | Start::Past => {}
        }
        let key = match &mut self.telnet {
            None => Some(Key::Byte(byte)),
            Some(telnet) => {
                let answered = answers.len();
                let key = telnet.take(byte, answers);
                self.surcharge += (answers.len() - answered) as u32;
                key
            }
        };
        match key {
            Some(Key::Byte(byte)) => self.take_byte(byte, out),
            Some(Key::EraseCharacter) => match &mut self.after_cr {
                Some(edits) => edits.characters = edits.characters.saturating_add(1),
                None => self.erase_character(),
            },
            Some(Key::EraseLine) => match &mut self.after_cr {
                Some(edits) => edits.line = true,
                None => self.erase_line(),
            },
            Some(Key::EndOfFile) => self.finish(out),
            None => {}
        }
    }

    fn take_byte(&mut self, byte: u8, out: &mut VecDeque<Received>) {
        if let Start::Bom(seen) = self.start {
            if byte == BOM[usize::from(seen)] {
                let is_whole = usize::from(seen) + 1 == BOM.len();
                self.start = if is_whole { Start::Past } else { Start::Bom(seen + 1) };
                return;
            }
            self.release_bom();
        }
        if let Some(edits) = self.after_cr.take() {
            if matches!(byte, b'\n' | 0) {
                self.apply(edits);
                return self.end_line(Some(Ending::CrLf), out);
            }
            self.push(b"\r");
            self.apply(edits);
        }
        match byte {
            b'\n' => self.end_line(Some(Ending::Lf), out),
            b'\r' => self.after_cr = Some(Edits::default()),
            _ if self.telnet.is_none() => self.push(&[byte]),
            0x08 | 0x7f => self.edit(LineDecoder::erase_character),
            0x15 => self.edit(LineDecoder::erase_line),
            0x04 if self.line.is_empty() && !self.is_too_long() => {
                self.end(Received::Eof, out);
            }
            _ => self.push(&[byte]),
        }
    }

    /// An editing key counts as a byte of the line that it edits.
    fn edit(&mut self, how: fn(&mut LineDecoder)) {
        self.count(1);
        how(self);
    }

    fn push(&mut self, bytes: &[u8]) {
        if let Some(request) = &mut self.request {
            bytes.iter().for_each(|byte| request.take(*byte));
        }
        self.count(bytes.len());
        if !self.is_too_long() {
            self.line.extend_from_slice(bytes);
        }
    }

    fn is_too_long(&self) -> bool {
        self.counted as usize > LINE_BYTES
    }

    fn count(&mut self, bytes: usize) {
        self.counted = self.counted.saturating_add(bytes as u32);
        if self.is_too_long() {
            self.line = BytesMut::new();
        }
    }

    fn release_bom(&mut self) {
        if let Start::Bom(seen) = std::mem::replace(&mut self.start, Start::Past) {
            self.push(&BOM[..usize::from(seen)]);
        }
    }

    fn erase_character(&mut self) {
        self.release_bom();
        self.line.truncate(self.line.len() - last_character(&self.line));
    }

    fn apply(&mut self, edits: Edits) {
        (0..(edits.characters as usize).min(self.line.len())).for_each(|_| self.erase_character());
        if edits.line {
            self.erase_line();
        }
    }

    fn erase_line(&mut self) {
        self.release_bom();
        self.line.clear();
    }

    fn end_line(&mut self, ending: Option<Ending>, out: &mut VecDeque<Received>) {
        self.raw = 0;
        let is_too_long = self.is_too_long();
        self.counted = 0;
        let request = self.request.take();
        if request.is_some_and(|bytes| bytes.is_http(is_too_long, &self.line)) {
            return self.end(Received::Http, out);
        }
        if is_too_long {
            return out.push_back(Received::Bad(BadLine::TooLong, Vec::new(), ending));
        }
        // The codec would throw these away.
        if str::from_utf8(&self.line).is_err() {
            let bytes = std::mem::take(&mut self.line).into();
            return out.push_back(Received::Bad(BadLine::NotUtf8, bytes, ending));
        }
        // The codec takes one CR off: that one must not be a CR of the line's own.
        self.line.extend_from_slice(b"\r\n");
        // A whole line of text whose length is checked is never refused.
        let line = codec().decode(&mut self.line).ok().flatten().unwrap_or_default();
        let received = checked(line, ending);
        if matches!(received, Received::Blank(_)) {
            // The first line is the first that is not empty.
            self.request = request.map(|_| RequestLine::START);
        }
        // The buffer goes with its line: an idle connection has none.
        self.line = BytesMut::new();
        out.push_back(received);
    }

    fn end(&mut self, how: Received, out: &mut VecDeque<Received>) {
        self.ended = true;
        self.line = BytesMut::new();
        out.push_back(how);
    }

    /// A line with its ending may have two bytes more than its limit before it costs more.
    fn charge(&mut self, bytes: usize) {
        let steps = |raw: u32| raw.saturating_sub(3) / PACE_BYTES as u32;
        let before = steps(self.raw);
        self.raw = self.raw.saturating_add(bytes as u32);
        self.surcharge += steps(self.raw) - before;
    }
}

/// Bytes of the last code point of a line. Bytes that are none go together as a decoder shows them.
fn last_character(line: &[u8]) -> usize {
    tail(line).utf8_chunks().last().map_or(0, |chunk| match chunk.invalid() {
        [] => chunk.valid().chars().next_back().map_or(0, char::len_utf8),
        invalid => invalid.len(),
    })
}

/// The bytes at the end of a line that tell what its last code point is: who erases a whole line
/// must not have all of it looked at for each. From a byte on that continues none a decoder begins
/// anew, and so it does for the last of four that do.
fn tail(line: &[u8]) -> &[u8] {
    const LONGEST: usize = 4;
    let is_first = |byte: &u8| !matches!(byte, 0x80..0xc0);
    let end = &line[line.len().saturating_sub(LONGEST)..];
    &end[end.iter().rposition(is_first).unwrap_or(end.len().saturating_sub(1))..]
}

fn codec() -> LinesCodec {
    // The codec counts the CR as well.
    LinesCodec::new_with_max_length(LINE_BYTES + 1)
}

/// Whether a byte may be more than text: a control character, or telnet's IAC.
fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f || byte == 0xff
}

/// Whether a line is ASCII text, as most are: then it needs no look at each character.
fn is_plain_text(line: &str) -> bool {
    line.bytes().fold(true, |plain, byte| plain & matches!(byte, b'\t' | b' '..=b'~'))
}

/// Looks for what no line may hold.
pub(super) fn checked(line: String, ending: Option<Ending>) -> Received {
    if line.len() > LINE_BYTES {
        Received::Bad(BadLine::TooLong, Vec::new(), ending)
    } else if is_blank(&line) {
        Received::Blank(ending)
    } else if !is_plain_text(&line) && line.chars().any(forbidden) {
        Received::Bad(BadLine::Forbidden, line.into_bytes(), ending)
    } else {
        Received::Line(line, ending)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::ErrorCode;

    fn run(chunks: &[&[u8]], telnet: bool) -> Vec<Received> {
        let mut decoder = LineDecoder::new(telnet);
        let mut out = VecDeque::new();
        for chunk in chunks {
            decoder.feed(chunk, &mut out);
        }
        decoder.finish(&mut out);
        out.into()
    }

    /// The lines, with the error codes of bad ones.
    fn lines(bytes: &[u8]) -> Vec<String> {
        let whole = run(&[bytes], true);
        let cut: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(run(&cut, true), whole, "cut into bytes");
        let show = |received| match received {
            Received::Line(line, _) => Some(line),
            Received::Bad(why, ..) => Some(format!("!{}", why.code())),
            Received::Blank(_) => Some(String::new()),
            Received::Http => Some("!http".to_owned()),
            Received::Tls => Some("!tls".to_owned()),
            Received::Eof | Received::Closed => None,
        };
        whole.into_iter().filter_map(show).collect()
    }

    #[test]
    fn lf_crlf_and_cr_nul_end_a_line() {
        assert_eq!(lines(b"a\nb\r\nc\r\0d"), ["a", "b", "c", "d"]);
        assert_eq!(lines(b"a\r"), ["a"]);
        assert_eq!(lines(b"a\r\xff\xf1\nb\n"), ["a", "b"]);
    }

    /// However many lines a read holds, memory for a few is taken at a time, and nothing is lost.
    #[test]
    fn a_read_is_taken_in_parts_of_so_many_lines_and_answers() {
        let hello = [&b"PING hello\n"[..], b"PING \xc3\xa9\n"].concat();
        for line in [b"\n", &hello[..], b"\r\n", b"a\x08\n", b"\xff\xf6", b"\xff\xfd\x01x\n"] {
            let bytes = line.repeat(1000);
            let (mut decoder, mut left) = (LineDecoder::new(true), &bytes[..]);
            let (mut parts, mut answered) = (Vec::new(), 0);
            while !left.is_empty() {
                let (mut out, mut answers) = (VecDeque::new(), Vec::new());
                left = &left[decoder.feed_some(left, &mut out, &mut answers)..];
                assert!(out.len() + answers.len() <= LINES_A_READ, "{line:?}: {}", out.len());
                answered += answers.len();
                parts.extend(out);
            }
            let whole = run(&[&bytes], true);
            assert_eq!(parts, whole[..whole.len() - 1], "{line:?}");
            assert_eq!(answered, if line[0] == 0xff { 1000 } else { 0 });
        }
    }

    #[test]
    fn lines_of_blanks_are_blank() {
        assert_eq!(lines(b"\n \t\r\nab\x08\x08\n a \n"), ["", "", "", " a "]);
    }

    #[test]
    fn a_lone_cr_or_nul_is_a_control_character() {
        assert_eq!(
            lines(b"a\rb\nc\0\nd\r\r\ne\n"),
            ["!control-char", "!control-char", "!control-char", "e"]
        );
    }

    #[test]
    fn the_ending_is_told_with_the_line() {
        let (lf, crlf) = (Some(Ending::Lf), Some(Ending::CrLf));
        let line = |text: &str, ending| Received::Line(text.to_owned(), ending);
        let expected =
            [line("a", lf), line("b", crlf), Received::Blank(crlf), line("c", None), Received::Eof];
        assert_eq!(run(&[b"a\nb\r\n \r\0c"], true), expected);
    }

    #[test]
    fn a_bom_before_the_first_line_is_ignored() {
        assert_eq!(lines(b"\xef\xbb\xbfa\n"), ["a"]);
        assert_eq!(lines(b"\xef\xbb\n"), ["!not-utf8"]);
        assert_eq!(lines(b"a\n\xef\xbb\xbfb\n"), ["a", "\u{feff}b"]);
        let mut longest = BOM.to_vec();
        longest.extend([b'x'; LINE_BYTES]);
        assert_eq!(lines(&longest)[0].len(), LINE_BYTES);
    }

    #[test]
    fn an_overlong_line_is_one_error_and_the_next_is_unharmed() {
        for ending in ["\n", "\r\n", "\r\0"] {
            let mut bytes = vec![b'x'; LINE_BYTES];
            bytes.extend(ending.bytes());
            bytes.extend([b'y'; LINE_BYTES + 1]);
            bytes.extend(ending.bytes());
            bytes.extend(b"next\n");
            let lines = lines(&bytes);
            assert_eq!(lines[0].len(), LINE_BYTES);
            assert_eq!(lines[1..], ["!line-too-long", "next"]);
        }
    }

    #[test]
    fn bytes_are_counted_before_editing() {
        let mut bytes = vec![b'x'; LINE_BYTES];
        bytes.extend(b"\x08\nok\n");
        assert_eq!(lines(&bytes), ["!line-too-long", "ok"]);
    }

    #[test]
    fn too_long_comes_before_not_utf8_and_that_before_control_char() {
        let mut bytes = vec![0xfe; LINE_BYTES + 1];
        bytes.extend(b"\n\xfe\x1b\n\x1b\n");
        assert_eq!(lines(&bytes), ["!line-too-long", "!not-utf8", "!control-char"]);
    }

    #[test]
    fn editing_keys_edit() {
        assert_eq!(
            lines("ab\x08c\né\x7fe\nxyz\x15w\n\x08\x08a\n".as_bytes()),
            ["ac", "e", "w", "a"]
        );
        assert_eq!(lines(b"\xff\xfb\x01ab\xff\xf7c\xff\xf4d\n"), ["d"]);
        assert_eq!(lines(b"\xfe\x08ok\n"), ["ok"]);
        // Behind a CR it shows late what they edit.
        assert_eq!(lines(b"ab\r\xff\xf7\nc\r\xff\xf4d\ne\r\xff\xf7f\n"), ["a", "d", "ef"]);
    }

    /// Bytes of every kind that UTF-8 tells apart, and characters of each length.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let kinds: &[&[u8]] = &[
            b"a",
            b"\x7f",
            b"\x80",
            b"\x8f",
            b"\x90",
            b"\x9f",
            b"\xa0",
            b"\xbf",
            b"\xc0",
            b"\xc2",
            b"\xdf",
            b"\xe0",
            b"\xe2",
            b"\xed",
            b"\xef",
            b"\xf0",
            b"\xf1",
            b"\xf4",
            b"\xf5",
            b"\xff",
            b"\xc3\xa9",
            b"\xe2\x82\xac",
            b"\xf0\x9f\x98\x80",
        ];
        let some = prop::collection::vec(prop::sample::select(kinds), 0..12);
        some.prop_map(|some| some.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// However a line begins, its end tells what its last character is.
        // clause: EDIT-1
        #[test]
        fn the_last_character_is_that_of_the_whole_line(line in bytes()) {
            let whole = line.utf8_chunks().last().map_or(0, |chunk| match chunk.invalid() {
                [] => chunk.valid().chars().next_back().map_or(0, char::len_utf8),
                invalid => invalid.len(),
            });
            prop_assert_eq!(last_character(&line), whole);
            // Four bytes at most are looked at, however long the line is.
            prop_assert!(tail(&line).len() <= 4);
        }
    }

    #[test]
    fn eot_at_the_start_of_a_line_is_the_end() {
        assert_eq!(lines(b"a\n\x04b\n"), ["a"]);
        assert_eq!(lines(b"a\x04\nb\n"), ["!control-char", "b"]);
        assert_eq!(lines(b"a\x08\x04b\n"), Vec::<String>::new());
        assert_eq!(lines(b"PING\xff\xecb\n"), ["PING"]);
    }

    #[test]
    fn without_telnet_its_keys_are_control_characters() {
        let codes: Vec<_> = run(&[b"a\x08\n\x04\n\xff\xf4\n"], false)
            .into_iter()
            .filter_map(|received| match received {
                Received::Bad(why, ..) => Some(why.code()),
                _ => None,
            })
            .collect();
        assert_eq!(codes, [ErrorCode::ControlChar, ErrorCode::ControlChar, ErrorCode::NotUtf8]);
    }

    #[test]
    fn a_tls_hello_is_seen_in_its_first_two_bytes() {
        assert_eq!(lines(b"\x16\x03\x01\x02\x00\nPING\n"), ["!tls"]);
        assert_eq!(lines(b"\x16\n\x03\n"), ["!control-char", "!control-char"]);
    }

    #[test]
    fn only_a_request_line_at_the_start_is_http() {
        let long = format!("POST /{} HTTP/1.1\r\nPING\n", "a".repeat(LINE_BYTES));
        for request in ["GET / HTTP/1.1\r\nPING\n", "PRI * HTTP/2.0\n", "POST /x?y HTTP/1.0", &long]
        {
            assert_eq!(lines(request.as_bytes()), ["!http"], "{request:.40}");
        }
        for line in ["get / HTTP/1.1", "GET  HTTP/1.1", "MSG I like HTTP/2", "GET /", "GET / HTTP"]
        {
            assert_eq!(lines(line.as_bytes()), [line]);
        }
        assert_eq!(lines(b"PING\nGET / HTTP/1.1\n"), ["PING", "GET / HTTP/1.1"]);
    }

    #[test]
    fn long_lines_and_answered_telnet_cost_more() {
        let cost = |bytes: &[u8]| {
            let mut decoder = LineDecoder::new(true);
            let mut out = VecDeque::new();
            bytes.chunks(100).for_each(|chunk| decoder.feed(chunk, &mut out));
            decoder.take_surcharge()
        };
        assert_eq!(cost(&[b'x'; LINE_BYTES]), 0);
        assert_eq!(cost(&[b'x'; 10 * LINE_BYTES]), 9);
        assert_eq!(cost(b"\xff\xfd\x06\xff\xfd\x06\xff\xf1"), 2);
    }
}
