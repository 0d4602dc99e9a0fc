//! Splits the text of an instruction: keyword, flags, arguments.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_till, take_while, take_while1};
use nom::character::complete::{anychar, char, none_of};
use nom::combinator::{consumed, eof, fail, not, opt, peek, recognize, value};
use nom::multi::{fold_many1, many0, many1_count};
use nom::sequence::{pair, preceded, terminated};
use nom::{AsChar, IResult, Parser};

/// A piece of text as it stands there, and what it means.
pub(super) type Piece<'a, T = String> = (&'a str, T);

/// Ends keywords and separates plain words.
fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

/// Ends flags. A newline cannot occur.
fn is_quote(c: char) -> bool {
    matches!(c, '\'' | '"')
}

/// The first word of `text` and what is behind the blanks that follow it.
pub(super) fn split_first(text: &str) -> (&str, &str) {
    let mut parser = pair(take_till(is_blank), take_while(is_blank));
    let parsed: IResult<&str, (&str, &str)> = parser.parse(text);
    parsed.map_or((text, ""), |(rest, (word, _))| (word, rest))
}

/// Splits at blanks, whatever the words hold.
pub(super) fn plain_words(text: &str) -> Vec<&str> {
    text.split(is_blank).filter(|word| !word.is_empty()).collect()
}

/// The flags at the beginning of `text`, and what comes behind them and an optional `--`.
pub(super) fn flags(text: &str, escape: char) -> (Vec<Piece<'_>>, &str) {
    let blanks = || take_while::<_, &str, nom::error::Error<&str>>(is_blank);
    let word = |input| {
        preceded((blanks(), peek(tag("--"))), consumed(|input| flag_word(input, escape))).parse(input)
    };
    let end = preceded(pair(blanks(), tag("--")), alt((eof, peek(take_while1(is_blank)))));
    let flag = preceded(not(peek(preceded(blanks(), bare_dashes))), word);
    let mut parser = pair(many0(flag), opt(end));
    match parser.parse(text) {
        Ok((rest, (flags, _))) => (flags, rest.trim()),
        Err(_) => (Vec::new(), text.trim()),
    }
}

/// The word `--` alone.
fn bare_dashes(input: &str) -> IResult<&str, &str> {
    terminated(tag("--"), alt((eof, take_while1(is_blank)))).parse(input)
}

/// One flag: quotes group and vanish, the escape character takes the next one as it is.
fn flag_word(input: &str, escape: char) -> IResult<&str, String> {
    let plain = move |c: char| !is_blank(c) && !is_quote(c) && c != escape;
    let piece = alt((
        take_while1(plain).map(str::to_owned),
        (|input| flag_escape(input, escape)).map(|c| c.map_or_else(String::new, String::from)),
        |input| flag_quoted(input, escape),
    ));
    fold_many1(piece, String::new, |mut word, piece| {
        word.push_str(&piece);
        word
    })
    .parse(input)
}

/// An escape character and what it escapes; nothing at the end of the text.
fn flag_escape(input: &str, escape: char) -> IResult<&str, Option<char>> {
    preceded(char(escape), opt(anychar)).parse(input)
}

fn flag_quoted(input: &str, escape: char) -> IResult<&str, String> {
    let (mut rest, quote) = anychar.parse(input)?;
    if !is_quote(quote) {
        return fail().parse(input);
    }
    let mut text = String::new();
    while let Ok((after, c)) = none_of::<_, _, nom::error::Error<&str>>(&[quote][..]).parse(rest) {
        if c == escape {
            let (after, escaped) = flag_escape(rest, escape)?;
            text.extend(escaped);
            rest = after;
        } else {
            text.push(c);
            rest = after;
        }
    }
    let (rest, _) = opt(char(quote)).parse(rest)?;
    Ok((rest, text))
}

/// The words of `ENV`, `LABEL` and `ARG`: quotes and escapes group, and stay in the word.
pub(super) fn quoted_words(text: &str, escape: char) -> Vec<&str> {
    let blanks = || take_while::<_, &str, nom::error::Error<&str>>(char::is_whitespace);
    let dangling = || opt(terminated(char(escape), eof));
    let word = terminated(|input| quoted_word(input, escape), dangling());
    let mut parser = many0(preceded(blanks(), word));
    parser.parse(text).map_or_else(|_| Vec::new(), |(_, words)| words)
}

fn quoted_word(input: &str, escape: char) -> IResult<&str, &str> {
    let plain = move |c: char| !c.is_whitespace() && !is_quote(c) && c != escape;
    let piece = alt((
        value((), take_while1(plain)),
        value((), pair(char(escape), anychar)),
        value((), |input| single_quoted(input)),
        value((), |input| double_quoted(input, escape)),
    ));
    recognize(many1_count(piece)).parse(input)
}

/// Up to the second quote, or to the end.
fn single_quoted(input: &str) -> IResult<&str, &str> {
    recognize((char('\''), take_till(|c| c == '\''), opt(char('\'')))).parse(input)
}

/// As [`single_quoted`], but escapes count. An escape at the very end is left.
fn double_quoted(input: &str, escape: char) -> IResult<&str, &str> {
    let plain = move |c: char| c != '"' && c != escape;
    let inside = alt((value((), take_while1(plain)), value((), pair(char(escape), anychar))));
    recognize((char('"'), many0(inside).map(drop), opt(char('"')))).parse(input)
}

/// The type word of a `HEALTHCHECK` and the command behind it.
pub(super) fn split_type(text: &str) -> (&str, &str) {
    let is_space = |c: char| c == '\n' || is_blank(c);
    let (word, rest) = text.split_at(text.find(is_space).unwrap_or(text.len()));
    (word, rest.trim_start_matches(is_space))
}

/// Whether a directive's name may hold `c`.
pub(super) fn is_name(c: char) -> bool {
    AsChar::is_alphanum(c)
}

#[cfg(test)]
mod tests {
    use super::{flags, quoted_words};

    #[test]
    fn flags_end_at_a_plain_word_or_dashes() {
        let texts = |text| {
            let (flags, rest) = flags(text, '\\');
            (flags.into_iter().map(|(_, flag)| flag).collect::<Vec<_>>(), rest.to_owned())
        };
        assert_eq!(texts("--a --b=c d --e"), (vec!["--a".into(), "--b=c".into()], "d --e".into()));
        assert_eq!(texts("--a -- --b c"), (vec!["--a".into()], "--b c".into()));
        assert_eq!(texts("--"), (vec![], String::new()));
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
