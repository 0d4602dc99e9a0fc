//! Where heredocs begin.

use nom::bytes::complete::{tag, take_till, take_while};
use nom::character::complete::{char, digit0};
use nom::combinator::{all_consuming, opt};
use nom::{IResult, Parser};

use crate::ExpandError;
use crate::expand::{Mode, lex_words};

/// A word that begins a heredoc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeredocStart {
    /// The delimiter without quotes and escapes.
    pub(crate) name: String,
    /// No part of the delimiter is quoted.
    pub(crate) expand: bool,
    /// `<<-`
    pub(crate) chomp: bool,
    pub(crate) file_descriptor: u64,
}

/// The heredocs that begin on a line, in order. A line that is malformed as words has none.
pub(super) fn starts(line: &str) -> Result<Vec<HeredocStart>, ExpandError> {
    let mode = Mode { keep_quotes: true, keep_escapes: true, keep_unset: true, ..Mode::default() };
    let words = lex_words(line, mode)?.unwrap_or_default();
    Ok(words.iter().filter_map(|word| start(word)).collect())
}

/// What `word` begins, if it is all one start of a heredoc.
pub(crate) fn start(word: &str) -> Option<HeredocStart> {
    // Most words are none, which is seen at once.
    if !word.starts_with(|c: char| c == '<' || c.is_ascii_digit()) {
        return None;
    }
    let (_, (digits, chomp, delimiter)) = all_consuming(pieces).parse(word).ok()?;
    let (name, expand) = name(delimiter)?;
    Some(HeredocStart {
        name,
        expand,
        chomp,
        file_descriptor: if digits.is_empty() { 0 } else { digits.parse().unwrap_or(u64::MAX) },
    })
}

/// The name that a delimiter stands for, and whether no part of it is quoted.
fn name(delimiter: &str) -> Option<(String, bool)> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !delimiter.is_empty() && delimiter.bytes().all(is_plain) {
        return Some((delimiter.to_owned(), true));
    }
    let plain = Mode { keep_unset: true, ..Mode::default() };
    let name = single_word(delimiter, plain)?;
    let with_quotes = single_word(delimiter, Mode { keep_quotes: true, ..plain })?;
    let expand = name == with_quotes;
    Some((name, expand))
}

fn pieces(input: &str) -> IResult<&str, (&str, bool, &str)> {
    let is_blank = |c| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c');
    let dash = opt(char('-')).map(|dash| dash.is_some());
    let (rest, (digits, _, chomp, _, delimiter)) =
        (digit0, tag("<<"), dash, take_while(is_blank), take_till(|c| c == '<')).parse(input)?;
    Ok((rest, (digits, chomp, delimiter)))
}

fn single_word(text: &str, mode: Mode) -> Option<String> {
    let mut words = lex_words(text, mode).ok()??;
    if words.len() == 1 { words.pop() } else { None }
}

#[cfg(test)]
mod tests {
    use super::{start, starts};

    fn names(line: &str) -> Vec<String> {
        starts(line).unwrap().into_iter().map(|start| start.name).collect()
    }

    #[test]
    fn words_that_begin_heredocs() {
        assert_eq!(names("RUN cat <<A 3<<B <<-C <<  D"), ["A", "B", "C", "D"]);
        assert_eq!(names("RUN cat <<EOF; <<EOF) <<E|sh <<F>f"), ["EOF;", "EOF)", "E|sh", "F>f"]);
        assert_eq!(names("RUN <<\"A B\" <<$C <<\\D"), ["A B", "$C", "D"]);
    }

    #[test]
    fn words_that_do_not() {
        for line in [
            "RUN <<<x",
            "RUN \"<<A\"",
            "RUN \\<<A",
            "RUN a<<b",
            "RUN it's <<A",
            "RUN <<- A",
            "RUN <<",
            "RUN <<''",
            "RUN <<${a:-E}",
            "RUN <<<< <<A",
        ] {
            assert_eq!(names(line), [""; 0], "{line}");
        }
    }

    #[test]
    fn quotes_turn_expansion_off() {
        assert!(start("<<A").unwrap().expand);
        assert!(start("<<\\A").unwrap().expand);
        assert!(!start("<<'A'").unwrap().expand);
        assert!(!start("<<E'O'F").unwrap().expand);
        assert_eq!(start("99999999999<<A").unwrap().file_descriptor, 99_999_999_999);
        assert_eq!(start("99999999999999999999<<A").unwrap().file_descriptor, u64::MAX);
        assert_eq!(start("<<A # note"), None);
    }
}
