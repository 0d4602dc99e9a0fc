//! The JSON form of arguments.

use std::borrow::Cow;

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while_m_n};
use nom::character::complete::{char, one_of};
use nom::combinator::{map_res, opt, value};
use nom::sequence::preceded;
use nom::{IResult, Parser};
use serde::de::IgnoredAny;

use super::words::Piece as Written;

/// What the rest of a line is, seen as JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Json<'a> {
    /// A list of strings, each with the text it was written as.
    Strings(Vec<Written<'a>>),
    /// A list with something else in it.
    Others,
    /// Not one JSON list.
    None,
}

/// Reads `text` as a JSON list.
pub(super) fn parse(text: &str) -> Json<'_> {
    if !text.starts_with('[') {
        return Json::None;
    }
    if let Some(strings) = list(text) {
        return Json::Strings(strings);
    }
    // This reads any depth without recursion.
    match serde_json::from_str::<Vec<IgnoredAny>>(text) {
        Ok(_) if is_within_limits(text) => Json::Others,
        _ => Json::None,
    }
}

/// How deep a document may nest to be one.
const MAX_DEPTH: usize = 10_000;

/// Whether a well-formed document is one for BuildKit too, whose reader has a greatest depth and a greatest number.
fn is_within_limits(document: &str) -> bool {
    let mut depth = 0;
    let mut rest = document;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '"' => 1 + string_length(&rest[1..]),
            '-' | '0'..='9' => {
                let end = |c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E');
                let number = &rest[..rest.find(end).unwrap_or(rest.len())];
                if !number.parse::<f64>().is_ok_and(f64::is_finite) {
                    return false;
                }
                number.len()
            }
            c => {
                depth += usize::from(matches!(c, '[' | '{'));
                depth -= usize::from(matches!(c, ']' | '}'));
                c.len_utf8()
            }
        };
        if depth > MAX_DEPTH {
            return false;
        }
        rest = &rest[length..];
    }
    true
}

/// How long a string is behind its first quote, the last one included.
fn string_length(text: &str) -> usize {
    let mut bytes = text.bytes().enumerate();
    while let Some((position, byte)) = bytes.next() {
        match byte {
            b'"' => return position + 1,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    text.len()
}

/// The blanks of JSON.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// A list of strings and nothing behind it.
fn list(text: &str) -> Option<Vec<Written<'_>>> {
    let mut strings = Vec::new();
    let mut rest = text.strip_prefix('[')?.trim_start_matches(is_blank);
    if !rest.starts_with(']') {
        loop {
            let (after, value) = string(rest)?;
            strings.push((&rest[..rest.len() - after.len()], value));
            rest = after.trim_start_matches(is_blank);
            let Some(after) = rest.strip_prefix(',') else { break };
            rest = after.trim_start_matches(is_blank);
        }
    }
    rest.strip_prefix(']')?.trim_start_matches(is_blank).is_empty().then_some(strings)
}

/// A string, and what follows it.
fn string(text: &str) -> Option<(&str, Cow<'_, str>)> {
    let mut rest = text.strip_prefix('"')?;
    let mut value = Cow::default();
    loop {
        let (plain, after) = rest.split_at(rest.find(|c| c < ' ' || c == '"' || c == '\\')?);
        // Borrowed, if there is nothing before.
        value += plain;
        if let Some(after) = after.strip_prefix('"') {
            return Some((after, value));
        }
        let (after, c) = escape(after).ok()?;
        value.to_mut().push(c);
        rest = after;
    }
}

fn escape(input: &str) -> IResult<&str, char> {
    let simple = alt((
        one_of("\"\\/"),
        value('\x08', char('b')),
        value('\x0c', char('f')),
        value('\n', char('n')),
        value('\r', char('r')),
        value('\t', char('t')),
    ));
    preceded(char('\\'), alt((simple, unicode))).parse(input)
}

/// `uXXXX`, or two of them that make one character; a half pair stands for the replacement character.
fn unicode(input: &str) -> IResult<&str, char> {
    let (rest, first) = preceded(char('u'), hex4).parse(input)?;
    if (0xd800..0xdc00).contains(&first) {
        let (after, second) = opt(preceded(tag("\\u"), hex4)).parse(rest)?;
        let low = second.filter(|low| (0xdc00..0xe000).contains(low));
        if let Some(c) =
            low.and_then(|low| char::from_u32(0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00)))
        {
            return Ok((after, c));
        }
    }
    Ok((rest, char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER)))
}

fn hex4(input: &str) -> IResult<&str, u32> {
    let digits = take_while_m_n(4, 4, |c: char| c.is_ascii_hexdigit());
    map_res(digits, |digits: &str| u32::from_str_radix(digits, 16)).parse(input)
}

#[cfg(test)]
mod tests {
    use super::{Json, parse};

    fn strings(text: &str) -> Option<Vec<String>> {
        match parse(text) {
            Json::Strings(strings) => Some(strings.into_iter().map(|(_, text)| text.into_owned()).collect()),
            _ => None,
        }
    }

    #[test]
    fn lists_of_strings() {
        assert_eq!(strings("[]"), Some(vec![]));
        assert_eq!(
            strings(r#"[ "a" ,"b\n\u00e9\ud83d\ude00\ud83d" ] "#),
            Some(vec!["a".into(), "b\né😀\u{fffd}".into()])
        );
        assert_eq!(strings(r#"["a",]"#), None);
        assert_eq!(strings(r#"["a"] b"#), None);
        assert_eq!(strings("['a']"), None);
        assert_eq!(strings("[\"a\tb\"]"), None, "controls must be escaped");
    }

    #[test]
    fn lists_of_others() {
        for text in ["[1]", r#"["a", null]"#, "[[]]", "[{\"a\": [true]}]"] {
            assert_eq!(parse(text), Json::Others, "{text}");
        }
        let deep = |depth| parse(&("[".repeat(depth) + &"]".repeat(depth))) == Json::Others;
        assert!(deep(10_000) && !deep(10_001) && !deep(100_000));
        assert_eq!(parse("[1e308, \"\\\"[\"]"), Json::Others);
        assert_eq!(parse("[1e309]"), Json::None, "no number of Go's");
        assert_eq!(parse("[1"), Json::None);
    }
}
