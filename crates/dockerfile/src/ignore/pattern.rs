//! One pattern of an ignore file.

use crate::glob::BadPattern;
use crate::wildcard::{Class, Stride, Token, matches, may_match_longer, push_empty, push_literal, shortest};

/// A pattern as tokens, and where it came from.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
    /// No shorter path matches; so a pattern costs no more than its path is long, however long it is itself.
    min_bytes: usize,
    /// `!` in front: what matches is kept.
    pub(super) is_exception: bool,
    pub(super) line: u32,
    /// As it was written, for messages.
    pub(super) text: Box<[u8]>,
}

impl Pattern {
    /// Reads a cleaned pattern without its `!`.
    pub(super) fn parse(text: &[u8], is_exception: bool, line: u32) -> Result<Self, BadPattern> {
        let mut tokens = Vec::new();
        let mut rest = text;
        while let [first, after @ ..] = rest {
            rest = match first {
                b'*' => parse_stars(after, &mut tokens),
                b'?' => {
                    tokens.push(Token::Any);
                    after
                }
                b'[' => parse_class(after, &mut tokens)?,
                b'\\' => {
                    let (escaped, after) = after.split_first().ok_or(BadPattern)?;
                    push_literal(&mut tokens, *escaped);
                    after
                }
                byte => {
                    push_literal(&mut tokens, *byte);
                    after
                }
            };
        }
        if text.starts_with(b"**") && is_plain(&text[2..]) && !text[2..].starts_with(b"/") {
            tokens[0] = Token::Everything;
        }
        Ok(Self { min_bytes: shortest(&tokens), tokens, is_exception, line, text: Box::default() })
    }

    /// The pattern as it was written.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }

    pub(super) fn matches(&self, path: &[u8]) -> bool {
        path.len() >= self.min_bytes && matches(&self.tokens, path, Stride::Characters)
    }

    /// Whether a path below the directory could match; `directory` ends with a slash.
    pub(super) fn may_match_below(&self, directory: &[u8]) -> bool {
        may_match_longer(&self.tokens, directory, Stride::Characters)
    }
}

/// No wildcard and no escape.
fn is_plain(text: &[u8]) -> bool {
    !text.iter().any(|byte| b"*?[]\\".contains(byte))
}

/// What follows a first `*`.
///
/// Two stars are any number of components, also when glued to text; only in front of plain text and at the end of the
/// pattern they stand for just anything.
fn parse_stars<'a>(rest: &'a [u8], tokens: &mut Vec<Token>) -> &'a [u8] {
    let Some(rest) = rest.strip_prefix(b"*") else {
        push_empty(tokens, Token::Run);
        return rest;
    };
    let rest = rest.strip_prefix(b"/").unwrap_or(rest);
    if !rest.is_empty() {
        push_empty(tokens, Token::Components);
    } else if tokens.last() != Some(&Token::Everything) {
        tokens.push(Token::Everything);
    }
    rest
}

fn parse_class<'a>(rest: &'a [u8], tokens: &mut Vec<Token>) -> Result<&'a [u8], BadPattern> {
    let (class, rest) = Class::parse(rest)?;
    if class.has_reversed_range() {
        return Err(BadPattern);
    }
    tokens.push(Token::Class(class));
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn stars_without_anything_between_are_few_tokens() {
        let count = |text: String| Pattern::parse(text.as_bytes(), false, 1).unwrap().tokens.len();
        assert_eq!(count("**/".repeat(10_000) + "x"), 2);
        assert_eq!(count("*".repeat(10_001)), count("*".repeat(3)));
    }

    #[test]
    fn no_shorter_path_is_compared() {
        let pattern = Pattern::parse("**/*?[a-z]b".repeat(5_000).as_bytes(), false, 1).unwrap();
        assert_eq!(pattern.min_bytes, 15_000);
        assert!(!pattern.matches(b"a/b"));
    }
}
