use std::fmt;

use super::limits::{CODE_MAX_CHARS, CODE_MIN_CHARS};

/// A room's code: what a friend needs to join.
///
/// 4 to 16 characters of [`RoomCode::ALPHABET`], or the name of the lobby. Small letters are
/// taken for capitals.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomCode {
    chars: [u8; CODE_MAX_CHARS],
    len: u8,
}

/// Why a field is not a room code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadCode;

impl RoomCode {
    /// The 28 characters of codes: no vowels, so no words; nothing that reads alike.
    pub const ALPHABET: &'static [u8; 28] = b"BCDFGHJKMNPQRSTVWXYZ23456789";

    /// Reads a code as somebody typed it.
    pub fn parse(field: &str) -> Result<RoomCode, BadCode> {
        let code = RoomCode::from_ascii(field)?;
        let long_enough = usize::from(code.len) >= CODE_MIN_CHARS;
        let of_alphabet = code.as_str().bytes().all(|byte| RoomCode::ALPHABET.contains(&byte));
        if long_enough && of_alphabet { Ok(code) } else { Err(BadCode) }
    }

    /// The lobby's name: 1 to 16 ASCII letters and digits, which need not be of the alphabet.
    pub fn lobby(name: &str) -> Result<RoomCode, BadCode> {
        RoomCode::from_ascii(name)
    }

    /// A code of `len` characters (4 to 16) from `random`, which fills a slice with random bytes.
    pub fn random(len: usize, random: impl Fn(&mut [u8])) -> RoomCode {
        let len = len.clamp(CODE_MIN_CHARS, CODE_MAX_CHARS);
        let mut code = RoomCode { chars: [0; CODE_MAX_CHARS], len: len as u8 };
        let mut filled = 0;
        while filled < len {
            let mut bytes = [0; CODE_MAX_CHARS];
            random(&mut bytes);
            // 252 is the largest multiple of 28 in a byte: beyond it some characters would come
            // more often than others.
            for byte in bytes.into_iter().filter(|byte| *byte < 252).take(len - filled) {
                code.chars[filled] = RoomCode::ALPHABET[usize::from(byte) % 28];
                filled += 1;
            }
        }
        code
    }

    /// How many codes of `len` characters there are.
    pub fn count(len: usize) -> usize {
        28usize.saturating_pow(len as u32)
    }

    /// The code in capitals.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.chars[..usize::from(self.len)]).unwrap_or_default()
    }

    fn from_ascii(field: &str) -> Result<RoomCode, BadCode> {
        let alphanumeric = field.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if field.is_empty() || field.len() > CODE_MAX_CHARS || !alphanumeric {
            return Err(BadCode);
        }
        let mut code = RoomCode { chars: [0; CODE_MAX_CHARS], len: field.len() as u8 };
        code.chars[..field.len()].copy_from_slice(field.to_ascii_uppercase().as_bytes());
        Ok(code)
    }
}

impl fmt::Display for RoomCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A code is a secret: it doesn't show in logs.
impl fmt::Debug for RoomCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomCode(..)")
    }
}

impl fmt::Display for BadCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("A code has 4 or more of the characters BCDFGHJKMNPQRSTVWXYZ23456789.")
    }
}

impl std::error::Error for BadCode {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_case_comes_in_and_capitals_go_out() {
        assert_eq!(RoomCode::parse("bktw").unwrap().as_str(), "BKTW");
    }

    #[test]
    fn what_reads_alike_is_no_code() {
        for field in ["", "BKT", "BKT0", "BKTO", "BKTA", "BKT-", "BKTÄ", "BCDFGHJKMNPQRSTVW"] {
            assert_eq!(RoomCode::parse(field), Err(BadCode), "{field}");
        }
    }

    #[test]
    fn random_codes_use_every_character_and_parse() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            let code = RoomCode::random(4, |bytes| getrandom::fill(bytes).unwrap());
            assert_eq!(RoomCode::parse(code.as_str()), Ok(code));
            seen.extend(code.as_str().bytes());
        }
        assert_eq!(seen.len(), 28);
        assert_eq!(RoomCode::count(4), 614_656);
    }

    #[test]
    fn debug_does_not_tell_the_code() {
        let code = RoomCode::parse("BKTW").unwrap();
        assert!(!format!("{code:?}").contains("BKTW"));
    }
}
