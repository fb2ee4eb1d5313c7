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

    /// What two names share that read alike, one to four keys; one common key is enough.
    ///
    /// All fold letter case and the look-alikes of other scripts (the skeleton of UTS #39). They
    /// differ in which comes first: small letters first finds `IAN` = `ian`, look-alikes first
    /// finds `Ian` = `lan`. Two are of the name with full-width forms and the like folded (NFKC),
    /// which finds `ſam` = `sam`; two of the name as it stands, which finds `ſam` = `fam`.
    pub fn keys(&self) -> impl Iterator<Item = Box<str>> + use<> {
        let compatible: String = match self.0.is_ascii() {
            true => (*self.0).into(),
            false => self.0.nfkc().collect(),
        };
        let as_it_stands = Some(&*self.0).filter(|name| *name != compatible);
        // As a rule all are the same.
        let mut keys: Vec<Box<str>> = Vec::with_capacity(1);
        for name in [&*compatible].into_iter().chain(as_it_stands) {
            let small: String = fold_case(name).collect();
            for shape in [skeleton_of(&small), skeleton_of(name)] {
                let key = without_second_dots(fold_case(&shape));
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        keys.into_iter()
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

/// A dot above a letter that has one (Unicode's Soft_Dotted) takes the place of its own, so it is
/// not seen. Most of those letters have become `i` or `j` here.
fn without_second_dots(text: impl Iterator<Item = char>) -> Box<str> {
    const DOT_ABOVE: char = '\u{307}';
    let mut is_dotted = false;
    let is_seen = |c: &char| {
        if c.general_category_group() != GeneralCategoryGroup::Mark {
            is_dotted = matches!(c, 'i' | 'j' | 'ʝ' | 'ᶖ' | '\u{1df1a}');
        }
        !(is_dotted && *c == DOT_ABOVE)
    };
    text.filter(is_seen).collect::<String>().into()
}

/// A letter or mark that shows nothing, like U+3164 HANGUL FILLER or U+FE0F VARIATION SELECTOR-16:
/// no skeleton is left of it, or its name says so (blank hieroglyphs, Khitan's filler).
fn is_invisible(c: char) -> bool {
    let is_blank = || matches!(c, '\u{13441}' | '\u{13442}' | '\u{16fe4}');
    !c.is_ascii() && (is_blank() || skeleton(c.encode_utf8(&mut [0; 4])).next().is_none())
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
            "a\u{13441}",
            "\u{13442}a",
            "a\u{16fe4}",
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
            ("ϲoϲo", "coco"),
            ("ϲIϲ", "cic"),
            ("ſam", "sam"),
            ("ſam", "fam"),
            ("si\u{307}m", "sim"),
            ("si\u{323}\u{307}m", "sịm"),
            ("SİM", "sim"),
        ] {
            assert!(alike(one, other), "{one} {other}");
        }
        for (one, other) in [("sam", "pam"), ("ian", "lan"), ("zoe", "zoë"), ("a.b", "a-b")] {
            assert!(!alike(one, other), "{one} {other}");
        }
        assert!(!alike("ȯn", "on"), "a dot that is seen");
    }

    /// All of Unicode's confusables of one character, each beside what it looks like.
    #[test]
    fn no_letter_passes_for_another_by_unicodes_table() {
        let mut pairs = 0;
        for letter in '\0'..=char::MAX {
            let shape: String = skeleton(letter.encode_utf8(&mut [0; 4])).collect();
            let (one, other) = (format!("x{letter}x"), format!("x{shape}x"));
            if one != other && Name::parse(&one).is_ok() && Name::parse(&other).is_ok() {
                assert!(alike(&one, &other), "{one} {other} {letter:?}");
                pairs += 1;
            }
        }
        assert!(pairs > 3000, "{pairs} pairs");
    }

    #[test]
    fn a_dot_above_a_letter_that_has_one_is_not_seen() {
        // Unicode's Soft_Dotted, but for the mathematical ones of other fonts.
        for dotted in "ijįɉɨʝʲϳіјᵢᶖᶤᶨḭịⁱⅈⅉⱼ𝐢𝐣𝒊𝒋𝓲𝓳𝔦𝔧𝕚𝕛𝗂𝗃\u{1df1a}\u{1e04c}\u{1e04d}\u{1e068}".chars()
        {
            let (one, other) = (format!("s{dotted}\u{307}m"), format!("s{dotted}m"));
            assert!(alike(&one, &other), "{one} {other} {dotted:?}");
        }
    }
}
