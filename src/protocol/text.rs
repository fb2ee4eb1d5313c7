use std::fmt;

use super::limits::TEXT_BYTES;

/// What somebody says: 1 to 1800 bytes, not blank, free of [`forbidden`] characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<'a>(&'a str);

/// Why a string is not a [`Text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadText {
    /// Nothing but blanks.
    Empty,
    /// More than 1800 bytes.
    TooLong,
    /// It holds a [`forbidden`] character.
    Forbidden,
}

impl<'a> Text<'a> {
    /// Checks a string.
    pub fn new(text: &'a str) -> Result<Text<'a>, BadText> {
        if text.chars().any(forbidden) {
            Err(BadText::Forbidden)
        } else {
            Text::of_checked_line(text)
        }
    }

    /// Checks what is left to check of a text that stood in a line without forbidden characters.
    pub(crate) fn of_checked_line(text: &'a str) -> Result<Text<'a>, BadText> {
        if text.len() > TEXT_BYTES {
            Err(BadText::TooLong)
        } else if is_blank(text) {
            Err(BadText::Empty)
        } else {
            Ok(Text(text))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &'a str {
        self.0
    }
}

/// Whether a line holds nothing but spaces and tabs.
pub(crate) fn is_blank(line: &str) -> bool {
    line.bytes().all(|byte| byte == b' ' || byte == b'\t')
}

/// Whether a character may not stand in any line: a control character other than TAB, a line or
/// paragraph separator, or a control of the writing direction.
///
/// So a text can carry no escape sequence to other people's terminals, and no parser that splits
/// at "any line break" can be tricked by it.
pub fn forbidden(c: char) -> bool {
    match c {
        '\t' => false,
        // Most text ends here.
        ' '..='~' => false,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' => true,
        '\u{2028}' | '\u{2029}' => true,
        // UAX #9, table 4: the explicit directional controls.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        '\u{200e}' | '\u{200f}' | '\u{61c}' => true,
        _ => false,
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for BadText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadText::Empty => f.write_str("There is no text to send."),
            BadText::TooLong => {
                write!(f, "A text has at most {TEXT_BYTES} bytes; send it in parts.")
            }
            BadText::Forbidden => f.write_str("A text holds no control characters or line breaks."),
        }
    }
}

impl std::error::Error for BadText {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ErrorCode;

    #[test]
    fn every_control_separator_and_direction_mark_is_forbidden() {
        let listed = |c: char| {
            let n = c as u32;
            (n < 0x20 && n != 9)
                || (0x7f..=0x9f).contains(&n)
                || [0x2028, 0x2029, 0x200e, 0x200f, 0x61c].contains(&n)
                || (0x202a..=0x202e).contains(&n)
                || (0x2066..=0x2069).contains(&n)
        };
        for c in '\0'..=char::MAX {
            assert_eq!(forbidden(c), listed(c), "U+{:04X}", c as u32);
        }
    }

    #[test]
    fn what_is_wrong_with_a_text_is_said() {
        for (why, code, says) in [
            (BadText::Empty, ErrorCode::EmptyText, "no text"),
            (BadText::TooLong, ErrorCode::TextTooLong, "at most 1800 bytes"),
            (BadText::Forbidden, ErrorCode::ControlChar, "no control characters"),
        ] {
            assert_eq!(why.code(), code);
            assert!(why.to_string().contains(says), "{why}");
        }
    }

    #[test]
    fn texts_have_1_to_1800_bytes() {
        assert!(Text::new(&"x".repeat(1800)).is_ok());
        assert_eq!(Text::new(&"x".repeat(1801)), Err(BadText::TooLong));
        assert_eq!(Text::new(""), Err(BadText::Empty));
        assert_eq!(Text::new(" \t "), Err(BadText::Empty));
        assert_eq!(Text::new("a\x1b[2J"), Err(BadText::Forbidden));
        assert_eq!(Text::new(" as it stands ").unwrap().as_str(), " as it stands ");
        assert_eq!(Text::new(" as it stands ").unwrap().to_string(), " as it stands ");
    }
}
