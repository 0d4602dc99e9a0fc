//! Splits the text of an instruction: keyword, flags, arguments.

use std::borrow::Cow;

use nom::AsChar;

/// A piece of text as it stands there, and what it means.
pub(super) type Piece<'a> = (&'a str, Cow<'a, str>);

/// Ends keywords and separates plain words.
fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

/// Ends flags. A newline cannot occur.
fn is_quote(c: char) -> bool {
    matches!(c, '\'' | '"')
}

/// Where the first of those characters stands that `is_it` means, which are ASCII all, or the end.
fn find(text: &str, is_it: impl Fn(char) -> bool) -> usize {
    text.bytes().position(|byte| byte.is_ascii() && is_it(char::from(byte))).unwrap_or(text.len())
}

/// The first word of `text` and what is behind the blanks that follow it.
pub(super) fn split_first(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_at(find(text, is_blank));
    (word, rest.trim_start_matches(is_blank))
}

/// Splits at blanks, whatever the words hold.
pub(super) fn plain_words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (word, after) = split_first(rest.trim_start_matches(is_blank));
        rest = after;
        (!word.is_empty()).then_some(word)
    })
}

/// The flags at the beginning of `text`, and what comes behind them and an optional `--`.
pub(super) fn flags(text: &str, escape: char) -> (Vec<Piece<'_>>, &str) {
    let mut flags = Vec::new();
    let mut rest = text.trim_start_matches(is_blank);
    while rest.starts_with("--") {
        let (after, flag) = flag_word(rest, escape);
        let part = &rest[..rest.len() - after.len()];
        rest = after;
        // However it is quoted.
        if flag == "--" {
            break;
        }
        flags.push((part, flag));
        rest = rest.trim_start_matches(is_blank);
    }
    (flags, rest.trim())
}

/// One flag: quotes group and vanish, the escape character takes the next one as it is.
fn flag_word(input: &str, escape: char) -> (&str, Cow<'_, str>) {
    let (word, rest) = input.split_at(find(input, |c| is_blank(c) || is_quote(c) || c == escape));
    if !rest.starts_with(|c| is_quote(c) || c == escape) {
        return (rest, word.into());
    }
    let mut word = String::new();
    let mut quote = None;
    let mut chars = input.chars();
    loop {
        let rest = chars.as_str();
        let Some(c) = chars.next() else { return (rest, word.into()) };
        match quote {
            None if is_blank(c) => return (rest, word.into()),
            None if is_quote(c) => quote = Some(c),
            Some(open) if open == c => quote = None,
            // At the very end it stands for nothing.
            _ if c == escape => word.extend(chars.next()),
            _ => word.push(c),
        }
    }
}

/// The words of `ENV`, `LABEL` and `ARG`: quotes and escapes group, and stay in the word.
pub(super) fn quoted_words(text: &str, escape: char) -> impl Iterator<Item = &str> {
    let mut rest = text.trim_start();
    let words = std::iter::from_fn(move || {
        let (word, after) = quoted_word(rest, escape);
        let is_end = rest.is_empty();
        rest = after.trim_start();
        (!is_end).then_some(word)
    });
    words.filter(|word| !word.is_empty())
}

/// The first word, and what follows it. An escape character at the very end is dropped, an open quote goes on to there.
fn quoted_word(text: &str, escape: char) -> (&str, &str) {
    let is_special = |c: char| !c.is_ascii_graphic() || is_quote(c) || c == escape;
    let mut quote = None;
    let mut position = 0;
    loop {
        let rest = &text[position..];
        position += rest.bytes().position(|byte| is_special(char::from(byte))).unwrap_or(rest.len());
        let mut chars = text[position..].chars();
        let Some(c) = chars.next() else { return (text, "") };
        match quote {
            None if c.is_whitespace() => return text.split_at(position),
            None if is_quote(c) => quote = Some(c),
            Some(open) if open == c => quote = None,
            Some('\'') => {}
            _ if c == escape && chars.next().is_none() => return (&text[..position], ""),
            _ => {}
        }
        position = text.len() - chars.as_str().len();
    }
}

/// The type word of a `HEALTHCHECK` and the command behind it.
pub(super) fn split_type(text: &str) -> (&str, &str) {
    let is_space = |c: char| c == '\n' || is_blank(c);
    let (word, rest) = text.split_at(find(text, is_space));
    (word, rest.trim_start_matches(is_space))
}

/// Whether a directive's name may hold `c`.
pub(super) fn is_name(c: char) -> bool {
    AsChar::is_alphanum(c)
}

#[cfg(test)]
mod tests {
    use super::flags;

    fn quoted_words(text: &str, escape: char) -> Vec<&str> {
        super::quoted_words(text, escape).collect()
    }

    #[test]
    fn flags_end_at_a_plain_word_or_dashes() {
        let texts = |text| {
            let (flags, rest) = flags(text, '\\');
            (flags.into_iter().map(|(_, flag)| flag.into_owned()).collect::<Vec<_>>(), rest.to_owned())
        };
        assert_eq!(texts("--a --b=c d --e"), (vec!["--a".into(), "--b=c".into()], "d --e".into()));
        assert_eq!(texts("--a -- --b c"), (vec!["--a".into()], "--b c".into()));
        assert_eq!(texts("--"), (vec![], String::new()));
        assert_eq!(texts("--a --\'\' --b"), (vec!["--a".into()], "--b".into()));
        assert_eq!(texts("---x y"), (vec!["---x".into()], "y".into()));
        assert_eq!(texts(r#"--a="b 'c" --d='e "f' --g=h\ i j"#).0, ["--a=b 'c", "--d=e \"f", "--g=h i"]);
        assert_eq!(texts(r"--a='b\' c' d"), (vec!["--a=b' c".into()], "d".into()));
        assert_eq!(texts("--é=à b"), (vec!["--é=à".into()], "b".into()));
        assert_eq!(texts("--a=\"b c\\"), (vec!["--a=b c".into()], String::new()));
    }

    #[test]
    fn quotes_and_escapes_group() {
        assert_eq!(
            quoted_words(r#"a=1 b="x y"  c='d e' f=g\ h"#, '\\'),
            ["a=1", "b=\"x y\"", "c='d e'", r"f=g\ h"]
        );
        assert_eq!(quoted_words("a=\"b c", '\\'), ["a=\"b c"]);
        assert_eq!(quoted_words(r#"a="b\" c" d"#, '\\'), [r#"a="b\" c""#, "d"]);
        assert_eq!(quoted_words(r"a='b\' c", '\\'), [r"a='b\'", "c"]);
        assert_eq!(quoted_words("a=b\\", '\\'), ["a=b"]);
        assert_eq!(quoted_words("a=\"b\\", '\\'), ["a=\"b"]);
        assert_eq!(quoted_words("  ", '\\'), [""; 0]);
    }
}
