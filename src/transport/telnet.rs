//! Telnet below the line layer: its sequences are taken out and answered, keys that edit a line
//! become [`Key`]s. The command bytes are those of RFC 854; EOF is RFC 1184's.

use crate::protocol::limits::SUBNEGOTIATION_BYTES;

const END_OF_FILE: u8 = 236;
const SE: u8 = 240;
const INTERRUPT: u8 = 244;
const ARE_YOU_THERE: u8 = 246;
const ERASE_CHARACTER: u8 = 247;
const ERASE_LINE: u8 = 248;
const SB: u8 = 250;
const WILL: u8 = 251;
const WONT: u8 = 252;
const DO: u8 = 253;
const DONT: u8 = 254;
const IAC: u8 = 255;

/// What a byte of a client comes to, once telnet is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// A byte of text.
    Byte(u8),
    EraseCharacter,
    EraseLine,
    EndOfFile,
}

/// What telnet wants to hear at once, between two lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// `IAC WONT option` or `IAC DONT option`.
    Option([u8; 3]),
    /// A line that shows that somebody is here.
    Here,
}

/// The state between two bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Telnet {
    #[default]
    Text,
    /// After IAC.
    Command,
    /// After IAC and WILL, WONT, DO or DONT.
    Option(u8),
    /// In a subnegotiation, so many bytes long.
    Subnegotiation(u16),
    /// In a subnegotiation, after IAC.
    SubnegotiationCommand(u16),
}

impl Telnet {
    /// Whether the next byte is text unless it is IAC.
    pub(crate) fn is_text(self) -> bool {
        self == Telnet::Text
    }

    /// Takes one byte; what telnet wants to hear is added to `answers`.
    ///
    /// Every DO is answered WONT and every WILL DONT, and nothing is ever offered: so no
    /// negotiation can loop. DO TIMING-MARK is one of them (RFC 860): a telnet that sent it hides
    /// all output until the answer comes.
    pub(crate) fn take(&mut self, byte: u8, answers: &mut Vec<Answer>) -> Option<Key> {
        let state = std::mem::take(self);
        match (state, byte) {
            (Telnet::Text, IAC) => *self = Telnet::Command,
            (Telnet::Text, byte) => return Some(Key::Byte(byte)),

            (Telnet::Command, IAC) => return Some(Key::Byte(IAC)),
            (Telnet::Command, WILL | WONT | DO | DONT) => *self = Telnet::Option(byte),
            (Telnet::Command, SB) => *self = Telnet::Subnegotiation(0),
            (Telnet::Command, END_OF_FILE) => return Some(Key::EndOfFile),
            (Telnet::Command, INTERRUPT | ERASE_LINE) => return Some(Key::EraseLine),
            (Telnet::Command, ERASE_CHARACTER) => return Some(Key::EraseCharacter),
            (Telnet::Command, ARE_YOU_THERE) => answers.push(Answer::Here),
            // No command at all: a line's end still counts.
            (Telnet::Command, b'\r' | b'\n') => return Some(Key::Byte(byte)),
            (Telnet::Command, _) => {}

            (Telnet::Option(DO), option) => answers.push(Answer::Option([IAC, WONT, option])),
            (Telnet::Option(WILL), option) => answers.push(Answer::Option([IAC, DONT, option])),
            (Telnet::Option(_), _) => {}

            (Telnet::SubnegotiationCommand(_), SE) => {}
            (Telnet::Subnegotiation(n) | Telnet::SubnegotiationCommand(n), _)
                if usize::from(n) + 1 >= SUBNEGOTIATION_BYTES => {}
            (Telnet::Subnegotiation(n), IAC) => *self = Telnet::SubnegotiationCommand(n + 1),
            (Telnet::Subnegotiation(n) | Telnet::SubnegotiationCommand(n), _) => {
                *self = Telnet::Subnegotiation(n + 1);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(bytes: &[u8]) -> (Vec<Key>, Vec<Answer>) {
        let mut telnet = Telnet::default();
        let mut answers = Vec::new();
        let keys = bytes.iter().filter_map(|byte| telnet.take(*byte, &mut answers)).collect();
        (keys, answers)
    }

    fn text(keys: &[Key]) -> Vec<u8> {
        keys.iter().map(|key| if let Key::Byte(byte) = key { *byte } else { b'?' }).collect()
    }

    #[test]
    fn do_is_answered_wont_and_will_dont() {
        let (keys, answers) = run(b"a\xff\xfd\x06b\xff\xfb\x1fc\xff\xfc\x01\xff\xfe\x01d");
        assert_eq!(text(&keys), b"abcd");
        let wont = Answer::Option([255, 252, 6]);
        assert_eq!(answers, [wont, Answer::Option([255, 254, 31])]);
    }

    #[test]
    fn commands_become_keys_or_nothing() {
        use Key::{Byte, EndOfFile, EraseCharacter, EraseLine};
        let (keys, answers) = run(b"\xff\xf4\xff\xf7\xff\xf8\xff\xec\xff\xff\xff\xf1\xff\xf6");
        assert_eq!(keys, [EraseLine, EraseCharacter, EraseLine, EndOfFile, Byte(0xff)]);
        assert_eq!(answers, [Answer::Here]);
    }

    #[test]
    fn an_unknown_command_goes_but_a_line_end_behind_iac_stays() {
        assert_eq!(text(&run(b"a\xffxb\xff\nc\xff\rd").0), b"ab\nc\rd");
    }

    #[test]
    fn a_subnegotiation_ends_at_its_end_or_after_512_bytes() {
        assert_eq!(text(&run(b"a\xff\xfa\x18\x00xterm\xff\xff\xff\xf0b").0), b"ab");
        let mut endless = b"\xff\xfa".to_vec();
        endless.extend([b'x'; SUBNEGOTIATION_BYTES]);
        endless.push(b'b');
        assert_eq!(text(&run(&endless).0), b"b");
    }
}
