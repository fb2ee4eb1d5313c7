//! Whatever comes to the bridge's port, every answer is a whole one with the headers that protect
//! browsers, only a request to this machine by name is let in, no other site's page is, and the
//! connection ends.
//!
//! The input: the lengths of the pieces, and words and bytes of a request.

#![no_main]

#[path = "../common/wire.rs"]
mod wire;

use std::net::IpAddr;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

/// What requests are made of.
const WORDS: [&str; 32] = [
    "GET ",
    "HEAD ",
    "POST ",
    "/",
    "/ws",
    "/parlor.js",
    "/metrics",
    "/qr.svg?",
    "%41",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    "GET / HTTP/1.1\r\nHost: localhost\r\n",
    "GET /ws HTTP/1.1\r\nHost: localhost:7778\r\n",
    "Host: ",
    "localhost",
    "127.0.0.1",
    "[::1]",
    ":7778",
    ".evil.example",
    "\r\n",
    "\r\n\r\n",
    "Connection: keep-alive, Upgrade\r\n",
    "Connection: close\r\n",
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "Sec-WebSocket-Version: 8\r\n",
    "Origin: http://",
    "Origin: https://localhost:7778",
    "Content-Length: 1\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Expect: 100-continue\r\n",
    "X-Forwarded-For: ",
];

#[derive(Debug, Arbitrary)]
enum Sent<'a> {
    Word(u8),
    Letters(u16),
    Bytes(&'a [u8]),
}

fuzz_target!(|input: (Vec<u8>, Vec<Sent>)| {
    let (lengths, parts) = input;
    let mut sent = Vec::new();
    for part in parts {
        match part {
            Sent::Word(which) => sent.extend(WORDS[usize::from(which) % WORDS.len()].bytes()),
            Sent::Letters(count) => sent.extend(vec![b'x'; usize::from(count) % 10_000]),
            Sent::Bytes(bytes) => sent.extend(bytes),
        }
    }

    let received = wire::talk(&sent, &lengths);
    let mut rest = &received[..];
    let mut is_first = true;
    while !rest.is_empty() && !is_cut_refusal(&sent, rest) {
        let answer = wire::Answer::read(rest);
        check(&answer);
        if is_first && matches!(answer.status, 101 | 200) {
            check_request(&sent, &answer);
        }
        if answer.status == 101 {
            break;
        }
        // What a HEAD is answered has a length and no body.
        rest = answer.rest(rest, sent.windows(4).any(|word| word == b"HEAD"));
        is_first = false;
    }
});

/// Whether this is the last answer, which refuses an upgrade, and not all of it. Hyper lets go of a
/// connection that asked for one without writing what its buffer still holds (1.12, where the client
/// had filled its own with the answers to requests before).
fn is_cut_refusal(sent: &[u8], rest: &[u8]) -> bool {
    let asks = String::from_utf8_lossy(sent).to_ascii_lowercase().contains("upgrade");
    let is_whole = rest.windows(4).any(|end| end == b"\r\n\r\n");
    asks && rest.starts_with(b"HTTP/1.1 4") && !is_whole
}

fn check(answer: &wire::Answer) {
    let statuses = [101, 200, 400, 403, 404, 405, 414, 421, 426, 431];
    assert!(statuses.contains(&answer.status), "{answer:?}");
    // An answer of hyper's own has a length of nothing and no type.
    let is_hyper =
        matches!(answer.status, 400 | 414 | 431) && answer.header("content-type").is_none();
    if is_hyper {
        assert_eq!(answer.header("content-length"), Some("0"), "{answer:?}");
        return;
    }
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{answer:?}");
    assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{answer:?}");
    let policy = answer.header("content-security-policy").unwrap_or_default();
    assert!(policy.starts_with("default-src 'none'; "), "{answer:?}");
}

/// What was answered as if it came from here has said so.
fn check_request(sent: &[u8], answer: &wire::Answer) {
    let sent = String::from_utf8_lossy(sent);
    let head: Vec<_> =
        sent.trim_start().split('\n').map(|line| line.trim_end_matches('\r')).collect();
    let end = head.iter().position(|line| line.is_empty()).unwrap_or(head.len());
    let values = |name: &str| {
        let fields = head[1..end].iter().filter_map(|line| line.split_once(':'));
        let named = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim().to_owned()).collect::<Vec<_>>()
    };
    let path = head[0].split(' ').nth(1).unwrap_or_default();
    let hosts = values("host");
    let [host] = &hosts[..] else { panic!("{hosts:?}: {answer:?}") };
    assert!(is_here(host), "{host}: {answer:?}");
    if answer.status == 101 {
        assert!(head[0].starts_with("GET ") && path.contains("/ws"), "{answer:?}");
        let keys = values("sec-websocket-key");
        assert!(matches!(&keys[..], [key] if key.len() == 24), "{keys:?}: {answer:?}");
        let own = |origin: &String| {
            origin.split_once("://").is_some_and(|(_, authority)| is_here(authority))
        };
        assert!(values("origin").first().is_none_or(own), "{:?}", values("origin"));
    }
}

/// Whether a host is a name of this machine, with a port or without.
fn is_here(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) && !port.contains(']') => {
            name
        }
        _ => host,
    };
    let bare = name.trim_matches(['[', ']']);
    bare.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}
