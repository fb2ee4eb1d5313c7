//! No line makes the parser panic, and every mistake is answered with a line that may be sent.
//!
//! The input: a byte whose two lowest bits say whether the client is seated and in talk mode and
//! whose other bits choose a verb, or none; then, in UTF-8, the rest of the line. There a BEL
//! stands for 450 letters, so that texts that are too long are soon found.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use parlor::protocol::limits::{LINE_BYTES, SERVER_LINE_BYTES, TEXT_BYTES};
use parlor::protocol::{Command, Verb, forbidden};

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((&first, rest)) = input.split_first() else { return Corpus::Reject };
    let Ok(rest) = str::from_utf8(rest) else { return Corpus::Reject };
    let (seated, talk) = (first & 1 != 0, first & 2 != 0);
    let slash = if talk { "/" } else { "" };
    let line = match Verb::ALL.get(usize::from(first >> 2)) {
        Some(verb) => format!("{slash}{verb}{rest}"),
        None => rest.to_owned(),
    };
    let line = line.replace('\x07', &"x".repeat(450));
    if is_blank(&line) || line.len() > LINE_BYTES || line.contains(forbidden) {
        return Corpus::Reject;
    }
    match Command::parse(&line, seated, talk) {
        Ok(command) => {
            if let Some(text) = command.as_message() {
                let text = text.as_str();
                assert!(seated && line.ends_with(text), "{line:?}");
                assert!(text.len() <= TEXT_BYTES && !is_blank(text), "{line:?}");
            }
        }
        Err(reject) => {
            let reply = reject.to_string();
            assert!(reply.starts_with("ERR ") && reply.len() <= SERVER_LINE_BYTES, "{reply:?}");
            assert!(!reply.contains(forbidden) && !reject.text.is_empty(), "{reply:?}");
        }
    }
    Corpus::Keep
});

fn is_blank(text: &str) -> bool {
    text.trim_matches([' ', '\t']).is_empty()
}
