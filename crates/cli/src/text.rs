//! Text from elsewhere, made fit for a terminal.

use std::fmt::Write as _;

/// Whether a character could move the cursor, change colours, or show other characters in another order.
fn is_unsafe(c: char) -> bool {
    let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || reorders || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// Appends a character, as an escape if it is none that a terminal may get.
pub(crate) fn push_printable(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if is_unsafe(c) && u32::from(c) < 0x80 => {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\x{:02x}", u32::from(c));
        }
        c if is_unsafe(c) => {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
        c => out.push(c),
    }
}

/// One line: what a terminal may not get, line ends among it, becomes escapes.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| push_printable(&mut out, c));
    out
}

/// A line that a command printed, for a terminal: colours and cursor movements go, tabs stay, the rest is escaped.
pub(crate) fn calm(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => skip_sequence(&mut rest),
            '\t' => out.push('\t'),
            c => push_printable(&mut out, c),
        }
    }
    out
}

/// Skips what follows an escape: `[…letter`, `]…BEL` or `]…ESC \`, or a single character.
fn skip_sequence(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match rest.next() {
        Some('[') => {
            let _ = rest.find(|c| ('\u{40}'..='\u{7e}').contains(c));
        }
        Some(']' | 'P' | '_' | '^') => {
            while let Some(c) = rest.next() {
                if c == '\u{7}' || c == '\u{1b}' && rest.next_if_eq(&'\\').is_some() {
                    break;
                }
            }
        }
        _ => {}
    }
}

/// Columns of a character, never fewer than it takes.
fn columns(c: char) -> usize {
    match c {
        '\t' => 8,
        '\u{0}'..='\u{10ff}' => 1,
        _ => 2,
    }
}

/// As much of the beginning as fits into `width` columns.
pub(crate) fn clip(text: &str, width: usize) -> &str {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += columns(c);
        if used > width {
            return &text[..at];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_the_cursor_is_escaped() {
        assert_eq!(printable("a\u{1b}[2J\r\nb\u{202e}\u{7f}é"), "a\\x1b[2J\\r\\nb\\u{202e}\\x7fé");
        assert_eq!(calm("\u{1b}[31mred\u{1b}[0m \u{1b}]0;title\u{7}x\ty\u{8}"), "red x\ty\\x08");
        assert_eq!(calm("\u{1b}]8;;http://x\u{1b}\\link"), "link");
        assert_eq!(calm("\u{1b}["), "");
        assert_eq!(calm("\u{1b}"), "");
    }

    #[test]
    fn lines_are_clipped_by_columns() {
        assert_eq!(clip("abc", 2), "ab");
        assert_eq!(clip("日本", 3), "日");
        assert_eq!(clip("abc", 0), "");
        assert_eq!(clip("abc", 10), "abc");
    }
}
