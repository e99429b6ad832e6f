use std::fmt;

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};
use unicode_security::skeleton;

/// The most characters (Unicode scalar values) of a name.
const MAX_CHARS: usize = 24;

/// The most marks in a row, as over or under one letter: Vietnamese and pointed Hebrew need two.
const MAX_MARKS: usize = 2;

/// Words with which the pages speak of people. Somebody of this name would put words into their mouth.
const WORDS_OF_THE_PAGES: [&str; 24] = [
    "admin",
    "administrator",
    "anonymous",
    "black",
    "bot",
    "chess",
    "computer",
    "draw",
    "everyone",
    "guest",
    "moderator",
    "nobody",
    "opponent",
    "player",
    "root",
    "server",
    "somebody",
    "someone",
    "spectator",
    "support",
    "system",
    "unknown",
    "white",
    "you",
];

/// A name that may be given to a user: trimmed, 1 to 24 characters, nothing unreadable in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    text: String,
    key: String,
    look: String,
}

/// Why a name is refused. Its text is meant for the person who chose it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing to read in it.
    #[error("Please enter a name.")]
    Empty,
    /// More than 24 characters.
    #[error("That is {0} characters long; a name has at most {MAX_CHARS}.")]
    TooLong(usize),
    /// A control or invisible character: it could hide in a name, or turn the text around it.
    #[error(
        "That name contains a character that can't be seen (U+{code:04X}). Please leave it out.",
        code = u32::from(*.0)
    )]
    Invisible(char),
    /// Marks piled up, which would reach into the lines above and below.
    #[error("That name has more than {MAX_MARKS} accents on one letter. Please take some off.")]
    Marks,
    /// A word of the pages.
    #[error("That name is one of the site's own words. Please choose another.")]
    Reserved,
}

impl Name {
    /// Takes what somebody typed. Runs of white space inside become one space.
    ///
    /// # Errors
    ///
    /// [`NameError`] if it is empty, too long, or has characters that nobody can see.
    pub fn parse(typed: &str) -> Result<Self, NameError> {
        let text = typed.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(unseen) = text.chars().find(|c| is_unseen(*c)) {
            return Err(NameError::Invisible(unseen));
        }
        let key = fold(&text);
        if key.is_empty() {
            return Err(NameError::Empty);
        }
        let chars = text.chars().count();
        if chars > MAX_CHARS {
            return Err(NameError::TooLong(chars));
        }
        if most_marks(&text) > MAX_MARKS {
            return Err(NameError::Marks);
        }
        let look = look(&text);
        if WORDS_OF_THE_PAGES.iter().map(|word| fold(word)).any(|word| word == key || word == look) {
            return Err(NameError::Reserved);
        }
        Ok(Self { text, key, look })
    }

    /// The name as it is shown.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A key that must be unique: equal for names that read the same, such as `Zoë` and `zoë`, or `paypal` and `раураl`.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A second key that must be unique: equal for names that look the same as they are written, such as `ANNA` in Latin and in
    /// Greek letters.
    pub fn look(&self) -> &str {
        &self.look
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Equal for names that read the same: the skeleton (UTS 39) of the name whose case and compatibility forms are folded,
/// without the joiners that leave no mark of their own.
///
/// Upper case first, then lower: so that `ß` meets `SS` and a final sigma meets the others.
fn fold(text: &str) -> String {
    look(&fold_case(text))
}

/// Equal for names that look the same as they are written: capitals may look like those of another script whose small
/// letters don't.
fn look(text: &str) -> String {
    // The prototype of a small letter may be a capital one; and `l` is that of `I`, `1` and `|`.
    fold_case(&skeleton(text).collect::<String>()).replace('l', "i")
}

fn fold_case(text: &str) -> String {
    text.nfkc()
        .filter(|c| !is_joiner(*c))
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .nfkc()
        .collect::<String>()
        .trim()
        .to_owned()
}

/// The most marks that stand in a row.
fn most_marks(text: &str) -> usize {
    let mut most = 0;
    let mut in_a_row = 0;
    for c in text.nfd() {
        in_a_row = if is_combining_mark(c) && !is_joiner(c) { in_a_row + 1 } else { 0 };
        most = most.max(in_a_row);
    }
    most
}

/// Characters without a shape that names need all the same: emoji are composed with them, and Persian and
/// Indic scripts are spelt with them.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200C}' | '\u{200D}' | '\u{FE00}'..='\u{FE0F}')
}

/// Controls, bidirectional overrides, blanks that are no white space, and the other characters that Unicode
/// says to show as nothing; also private use and noncharacters, which have no agreed shape.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}'
            | '\u{180B}'..='\u{180F}' | '\u{200B}' | '\u{200E}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{2800}' | '\u{3164}' | '\u{E000}'..='\u{F8FF}'
            | '\u{FDD0}'..='\u{FDEF}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}'
            | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{10FFFF}')
        || u32::from(c) & 0xFFFE == 0xFFFE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(typed: &str) -> String {
        Name::parse(typed).unwrap().key().to_owned()
    }

    #[test]
    fn trims_and_keeps_what_is_readable() {
        assert_eq!(Name::parse("  Anna \t Karenina\n").unwrap().as_str(), "Anna Karenina");
        for name in ["<script>alert(1)</script", "مريم", "👩‍🚀 Zoë", "王", "می‌خواهم", "O'Brien & \"Co\""]
        {
            assert_eq!(Name::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn counts_characters_not_bytes() {
        assert!(Name::parse(&"é".repeat(24)).is_ok());
        assert!(Name::parse(&"♞".repeat(24)).is_ok());
        assert_eq!(Name::parse(&"e".repeat(25)), Err(NameError::TooLong(25)));
        assert!(Name::parse(&format!("   {}   ", "e".repeat(24))).is_ok());
    }

    #[test]
    fn refuses_nothing_and_what_looks_like_nothing() {
        for name in ["", "   ", "\n\t", "\u{3000}", "\u{200D}", " \u{200D}\u{FE0F} "] {
            assert_eq!(Name::parse(name), Err(NameError::Empty), "{name:?}");
        }
    }

    #[test]
    fn refuses_what_nobody_can_see() {
        for c in
            ['\0', '\u{7}', '\u{1B}', '\u{200B}', '\u{202E}', '\u{2066}', '\u{3164}', '\u{FEFF}', '\u{E0041}']
        {
            assert_eq!(Name::parse(&format!("An{c}na")), Err(NameError::Invisible(c)));
        }
        let said = NameError::Invisible('\u{202E}').to_string();
        assert!(said.contains("U+202E"), "{said}");
    }

    #[test]
    fn names_that_read_the_same_share_a_key() {
        assert_eq!(key("Zoë"), key("ZOE\u{308}"));
        assert_eq!(key("Anna"), key("Ａｎｎａ"));
        assert_eq!(key("Anna"), key("An\u{200D}na"));
        assert_eq!(key("Strauß"), key("STRAUSS"));
        assert_eq!(key("ΟΔΟΣ"), key("οδος"));
        assert_ne!(key("Anna"), key("Anne"));
    }

    #[test]
    fn names_that_look_the_same_share_a_key() {
        // Cyrillic, Greek, digits, and letters that look like others.
        for (one, other) in [
            ("paypal", "раураl"),
            ("Anna", "Αnnа"),
            ("Bill", "BiII"),
            ("Bill", "bi11"),
            ("modern", "rnodern"),
        ] {
            assert_eq!(key(one), key(other), "{one} {other}");
        }
        assert_ne!(key("Иван"), key("Ivan"));
        let look = |typed: &str| Name::parse(typed).unwrap().look().to_owned();
        assert_eq!(look("ANNA"), look("ΑΝΝΑ"));
        assert_eq!(look("Ian"), look("lan"));
    }

    #[test]
    fn refuses_piles_of_marks_and_no_language() {
        assert_eq!(Name::parse("Z\u{300}\u{301}\u{302}oe"), Err(NameError::Marks));
        assert_eq!(Name::parse("ế\u{301}"), Err(NameError::Marks));
        for name in ["Nguyễn", "Thế Anh", "שָׁלוֹם", "नमस्ते", "ประเทศไทย", "👩‍🚀"]
        {
            assert!(Name::parse(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn refuses_the_words_of_the_pages() {
        for name in ["you", "You", "YΟU", "  White ", "Вlасk", "Spectator", "adm1n"] {
            assert_eq!(Name::parse(name), Err(NameError::Reserved), "{name}");
        }
        assert!(Name::parse("Blackburne").is_ok());
    }
}
