//! Quoting of text in messages.

use std::fmt::Write;

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// `text` in double quotes with everything escaped that could disturb a terminal.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0b' => quoted.push_str("\\v"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if is_unprintable(c) => push_escape(&mut quoted, c),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn push_escape(text: &mut String, c: char) {
    let code = u32::from(c);
    // Writing to a string cannot fail.
    let _ = match code {
        0..=0x7f => write!(text, "\\x{code:02x}"),
        0x80..=0xffff => write!(text, "\\u{code:04x}"),
        _ => write!(text, "\\U{code:08x}"),
    };
}

/// What is neither letter, mark, number, punctuation nor symbol: controls, blanks other than the plain one, and the
/// marks that reorder or hide what stands around them.
fn is_unprintable(c: char) -> bool {
    let group = c.general_category_group();
    c != ' ' && matches!(group, GeneralCategoryGroup::Separator | GeneralCategoryGroup::Other)
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn escapes_what_disturbs() {
        assert_eq!(quote("a\"b\\é\n"), r#""a\"b\\é\n""#);
        assert_eq!(quote("\u{a0}\x07\x0b"), r#""\u00a0\a\v""#);
        assert_eq!(quote("\x1b[0m\u{202e}\u{85}"), r#""\x1b[0m\u202e\u0085""#);
    }
}
