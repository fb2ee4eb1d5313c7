//! However bytes are cut, they are the same lines, and no line holds what none may hold. Without
//! telnet they are also the lines that a simple split gives.
//!
//! The input: whether telnet is on, the lengths of the pieces, and the bytes. There a BEL stands
//! for 512 letters, so that lines that are too long are soon found.

#![no_main]

use std::collections::VecDeque;

use libfuzzer_sys::fuzz_target;
use parlor::protocol::forbidden;
use parlor::protocol::limits::LINE_BYTES;
use parlor::{LineDecoder, Received};

fuzz_target!(|input: (bool, Vec<u8>, &[u8])| {
    let (telnet, lengths, bytes) = input;
    let letters = |byte: &u8| if *byte == 7 { vec![b'x'; 512] } else { vec![*byte] };
    let bytes: Vec<u8> = bytes.iter().flat_map(letters).collect();

    let whole = decode(telnet, &[&bytes]);
    assert_eq!(decode(telnet, &cut(&bytes, &lengths)), whole);
    let single: Vec<_> = bytes.chunks(1).collect();
    assert_eq!(decode(telnet, &single), whole);

    let (last, lines) = whole.0.split_last().expect("a stream has an end");
    assert!(matches!(last, Received::Eof | Received::Tls), "{last:?}");
    if !telnet && *last == Received::Eof {
        assert_eq!(lines.iter().map(show).collect::<Vec<_>>(), split(&bytes));
    }
    for line in lines {
        match line {
            Received::Line(text, _) => {
                assert!(text.len() <= LINE_BYTES && !text.contains(forbidden), "{text:?}");
                assert!(!is_blank(text), "{text:?}");
            }
            Received::Blank(_) | Received::Bad(..) => {}
            end => panic!("{end:?} before the end"),
        }
    }
});

/// What comes of the pieces, and what they cost.
fn decode(telnet: bool, pieces: &[&[u8]]) -> (Vec<Received>, u32) {
    let mut decoder = LineDecoder::new(telnet);
    let mut received = VecDeque::new();
    for piece in pieces {
        decoder.feed(piece, &mut received);
    }
    decoder.finish(&mut received);
    (received.into(), decoder.take_surcharge())
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

fn is_blank(line: &str) -> bool {
    line.trim_matches([' ', '\t']).is_empty()
}

/// The line; of a bad one its error code.
fn show(received: &Received) -> String {
    match received {
        Received::Line(text, _) => text.clone(),
        Received::Bad(why, ..) => format!("ERR {}", why.code()),
        _ => String::new(),
    }
}

/// The same lines, found in the simplest way.
fn split(bytes: &[u8]) -> Vec<String> {
    let mut rest = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut lines = Vec::new();
    while !rest.is_empty() {
        let is_end =
            |&at: &usize| matches!(&rest[at..], [b'\n', ..] | [b'\r', b'\n' | 0, ..] | b"\r");
        let end = (0..rest.len()).find(is_end).unwrap_or(rest.len());
        lines.push(match str::from_utf8(&rest[..end]) {
            _ if end > LINE_BYTES => "ERR line-too-long".to_owned(),
            Err(_) => "ERR not-utf8".to_owned(),
            Ok(line) if line.contains(forbidden) => "ERR control-char".to_owned(),
            Ok(line) if is_blank(line) => String::new(),
            Ok(line) => line.to_owned(),
        });
        let skip = if rest[end..].starts_with(b"\r") { 2 } else { 1 };
        rest = &rest[rest.len().min(end + skip)..];
    }
    lines
}
