use std::fmt;
use std::sync::{Arc, LazyLock};

use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};
use unicode_security::skeleton;

use super::limits::{NAME_CHARS, NAME_MARKS};

/// A name others see: 1 to 20 letters, decimal digits, `_`, `-`, `.` of any script, in NFC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(Arc<str>);

/// Why a field is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadName {
    /// No character, or more than 20.
    Length,
    /// A character that names don't have.
    Character(char),
    /// More than two combining marks on a letter, or one without a letter.
    Marks,
}

impl Name {
    /// Reads a name as somebody typed it.
    pub fn parse(field: &str) -> Result<Name, BadName> {
        // NFC makes at most three code points of one and never fewer than one of four, so a
        // field this long cannot become a name: it isn't worth the work.
        if field.len() > 16 * NAME_CHARS {
            return Err(BadName::Length);
        }
        if field.is_ascii() {
            return Name::parse_ascii(field);
        }
        let name: String = field.nfc().collect();
        let mut room_for_marks = 0;
        for c in name.chars() {
            match c.general_category_group() {
                _ if is_invisible(c) => return Err(BadName::Character(c)),
                GeneralCategoryGroup::Letter => room_for_marks = NAME_MARKS,
                GeneralCategoryGroup::Mark if room_for_marks > 0 => room_for_marks -= 1,
                GeneralCategoryGroup::Mark => return Err(BadName::Marks),
                _ if is_decimal_digit(c) || matches!(c, '_' | '-' | '.') => room_for_marks = 0,
                _ => return Err(BadName::Character(c)),
            }
        }
        match name.chars().count() {
            1..=NAME_CHARS => Ok(Name(name.into())),
            _ => Err(BadName::Length),
        }
    }

    /// Most names need no table of Unicode.
    fn parse_ascii(field: &str) -> Result<Name, BadName> {
        let is_of_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        match field.chars().find(|c| !is_of_names(*c)) {
            Some(c) => Err(BadName::Character(c)),
            None if (1..=NAME_CHARS).contains(&field.len()) => Ok(Name(field.into())),
            None => Err(BadName::Length),
        }
    }

    /// The name as its owner writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What two names share that read alike, one or two keys; one common key is enough.
    ///
    /// Both fold full-width forms (NFKC), letter case and the look-alikes of other scripts
    /// (the skeleton of UTS #39). They differ in which comes first: small letters first finds
    /// `IAN` = `ian`, look-alikes first finds `Ian` = `lan`.
    pub fn keys(&self) -> impl Iterator<Item = Box<str>> + use<> {
        let compatible: String = match self.0.is_ascii() {
            true => (*self.0).into(),
            false => self.0.nfkc().collect(),
        };
        let skeleton_first = skeleton_of(&compatible);
        let case_first: String = fold_case(&compatible).collect();
        let case_first = skeleton_of(&case_first);
        let case_first: Box<str> = fold_case(&case_first).collect();
        let skeleton_first: Box<str> = fold_case(&skeleton_first).collect();
        // As a rule they are the same.
        let skeleton_first = Some(skeleton_first).filter(|key| *key != case_first);
        [Some(case_first), skeleton_first].into_iter().flatten()
    }
}

/// What a text looks like (UTS #39). That of an ASCII character is looked up once.
fn skeleton_of(text: &str) -> String {
    static ASCII: LazyLock<Vec<String>> = LazyLock::new(|| {
        (0..=0x7f_u8).map(|c| skeleton(&char::from(c).to_string()).collect()).collect()
    });
    if text.is_ascii() {
        text.bytes().map(|c| ASCII[usize::from(c)].as_str()).collect()
    } else {
        skeleton(text).collect()
    }
}

/// Letter case away, with the letters that only capitals tell apart (`ß`, `ς`, `ſ`) made one.
fn fold_case(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase)
}

/// A letter or mark that shows nothing, like U+3164 HANGUL FILLER or U+FE0F VARIATION SELECTOR-16:
/// no skeleton is left of it.
fn is_invisible(c: char) -> bool {
    !c.is_ascii() && skeleton(c.encode_utf8(&mut [0; 4])).next().is_none()
}

fn is_decimal_digit(c: char) -> bool {
    c.general_category() == unicode_properties::GeneralCategory::DecimalNumber
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadName::Length => write!(f, "A name has 1 to {NAME_CHARS} characters."),
            BadName::Character(_) => {
                f.write_str("A name has letters, digits, _ - . and nothing else; try: sam")
            }
            BadName::Marks => {
                write!(f, "A letter of a name has at most {NAME_MARKS} marks; try it without.")
            }
        }
    }
}

impl std::error::Error for BadName {}

#[cfg(test)]
mod tests {
    use super::*;

    fn alike(one: &str, other: &str) -> bool {
        let keys = |name| Name::parse(name).unwrap().keys();
        keys(one).any(|key| keys(other).any(|other| key == other))
    }

    #[test]
    fn names_of_any_script_are_names() {
        for name in ["sam", "Zoë", "李雷", "Дмитрий", "محمد", "हिन्दी", "x", "r2-d2", "a.b_c", "٣"]
        {
            assert!(Name::parse(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn what_is_no_letter_is_no_name() {
        let too_long = "x".repeat(21);
        let marks = "a\u{308}\u{323}\u{331}\u{330}";
        for name in [
            "",
            "a b",
            "a,b",
            "<b>",
            "*",
            "😀",
            "\u{301}a",
            "½",
            "Ⅷ",
            "\u{3164}",
            "\u{115f}",
            "a\u{200b}",
            "a\u{fe0f}",
            &too_long,
            marks,
        ] {
            assert!(Name::parse(name).is_err(), "{name}");
        }
    }

    #[test]
    fn names_in_ascii_have_the_same_rules() {
        for c in (0..=0x7f_u8).map(char::from) {
            // With a letter before it that isn't ASCII the long way is taken.
            let (short, long) = (Name::parse(&format!("a{c}")), Name::parse(&format!("é{c}")));
            assert_eq!(short.is_ok(), long.is_ok(), "{c:?}");
        }
        let text: String = (0x21..0x7f_u8).map(char::from).collect();
        assert_eq!(skeleton_of(&text), skeleton(&text).collect::<String>());
    }

    #[test]
    fn names_are_put_into_nfc() {
        assert_eq!(Name::parse("Zoe\u{308}").unwrap().as_str(), "Zo\u{eb}");
        assert!(Name::parse(&"e\u{308}".repeat(20)).is_ok());
    }

    #[test]
    fn names_that_read_alike_collide() {
        for (one, other) in [
            ("sam", "SAM"),
            ("sam", "ｓａｍ"),
            ("paypal", "pаypаl"),
            ("Ian", "lan"),
            ("IAN", "ian"),
            ("r0b", "rob"),
            ("R0B", "rob"),
            ("modern", "rnodern"),
            ("straße", "STRASSE"),
            ("Σίσυφος", "σίσυφοσ"),
            ("𝐬𝐚𝐦", "sam"),
        ] {
            assert!(alike(one, other), "{one} {other}");
        }
        for (one, other) in [("sam", "pam"), ("ian", "lan"), ("zoe", "zoë"), ("a.b", "a-b")] {
            assert!(!alike(one, other), "{one} {other}");
        }
    }
}
