//! Classes of characters as the Dockerfile language has them.

use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// A letter of a variable's name. Marks and letter-like numbers are none.
pub(super) fn is_letter(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphabetic();
    }
    c.general_category_group() == GeneralCategoryGroup::Letter
}

/// A decimal digit of any script.
pub(super) fn is_digit(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_digit();
    }
    c.general_category() == GeneralCategory::DecimalNumber
}

/// A name of one character, as the shell has them; `$0` is a digit already.
pub(super) fn is_special(c: char) -> bool {
    matches!(c, '@' | '*' | '#' | '?' | '-' | '$' | '!')
}

/// What may stand between `<<` and a delimiter.
pub(super) fn is_heredoc_blank(c: char) -> bool {
    matches!(c, '\t' | '\r' | ' ')
}

/// The text without the byte order mark that words and patterns may begin with.
pub(super) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}
