//! Patterns of `${x#…}`, `${x%…}` and `${x/…/…}`.

use super::MAX_WORD_BYTES;
use super::characters::{is_digit, is_letter, without_mark};
use super::fault::ExpandFault;
use super::lexer::Effort;
use super::words::check_size;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`: any character but a newline.
    Any,
    /// `*`: any number of them.
    Run,
}

impl Token {
    fn accepts(self, c: char) -> bool {
        match self {
            Self::Char(wanted) => wanted == c,
            Self::Any | Self::Run => c != '\n',
        }
    }
}

/// Which of several possible matches is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Shortest,
    Longest,
}

#[derive(Debug)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, ExpandFault> {
        let mut tokens = Vec::new();
        let mut chars = without_mark(text).chars();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Run,
                '?' => Token::Any,
                '\\' => match chars.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Token::Char(escaped),
                    other => return Err(ExpandFault::Pattern { pattern: text.to_owned(), escaped: other }),
                },
                c => Token::Char(c),
            });
        }
        tokens.dedup_by(|next, token| (*token, *next) == (Token::Run, Token::Run));
        Ok(Self { tokens })
    }

    pub(super) fn trim_start(
        &self,
        value: &str,
        extent: Extent,
        effort: &mut Effort,
    ) -> Result<String, ExpandFault> {
        let chars: Vec<char> = value.chars().collect();
        let end = Matcher::new(&self.tokens, effort).end(&chars, 0, extent)?.unwrap_or(0);
        Ok(chars[end..].iter().collect())
    }

    /// As [`Self::trim_start`], for a pattern that was parsed from its text [`backwards`].
    pub(super) fn trim_end(
        &self,
        value: &str,
        extent: Extent,
        effort: &mut Effort,
    ) -> Result<String, ExpandFault> {
        let chars: Vec<char> = value.chars().rev().collect();
        let end = Matcher::new(&self.tokens, effort).end(&chars, 0, extent)?.unwrap_or(0);
        Ok(chars[end..].iter().rev().collect())
    }

    pub(super) fn replace_first(
        &self,
        value: &str,
        text: &str,
        effort: &mut Effort,
    ) -> Result<String, ExpandFault> {
        let chars: Vec<char> = value.chars().collect();
        let Some((start, end)) = Matcher::new(&self.tokens, effort).find(&chars, 0)? else {
            return Ok(value.to_owned());
        };
        let mut result: String = chars[..start].iter().collect();
        result.push_str(text);
        result.extend(&chars[end..]);
        check_size(result.len(), MAX_WORD_BYTES).map(|()| result)
    }

    pub(super) fn replace_all(
        &self,
        value: &str,
        template: &str,
        effort: &mut Effort,
    ) -> Result<String, ExpandFault> {
        let chars: Vec<char> = value.chars().collect();
        let mut matcher = Matcher::new(&self.tokens, effort);
        let mut result = String::new();
        let (mut copied, mut from) = (0, 0);
        while from <= chars.len() {
            let Some((start, end)) = matcher.find(&chars, from)? else { break };
            result.extend(&chars[copied..start]);
            // An empty match right behind another match is none.
            if end > copied || start == 0 {
                fill_template(template, &chars[start..end], &mut result);
            }
            check_size(result.len(), MAX_WORD_BYTES)?;
            copied = end;
            from = end.max(from + 1);
        }
        result.extend(&chars[copied..]);
        check_size(result.len(), MAX_WORD_BYTES).map(|()| result)
    }
}

/// The text of a pattern from back to front, each escape still in front of its character. A lone one at the end comes
/// to stand in front of all others, as with BuildKit.
pub(super) fn backwards(text: &str) -> String {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let escaped = if c == '\\' { rest[1..].chars().next() } else { None };
        let (piece, after) = rest.split_at(c.len_utf8() + escaped.map_or(0, char::len_utf8));
        pieces.push(piece);
        rest = after;
    }
    pieces.into_iter().rev().collect()
}

/// Appends `template`, in which `$0` is what matched, `$$` a dollar, and any other reference nothing.
///
/// That `//` has templates and `/` has none is how BuildKit does it.
fn fill_template(template: &str, matched: &[char], result: &mut String) {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = reference(after) {
            if name == "0" {
                result.extend(matched);
            }
            rest = after;
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
}

/// The name of a reference, with or without braces, and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    let is_name = |c: char| is_letter(c) || is_digit(c) || c == '_';
    let (braced, text) = match text.strip_prefix('{') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let rest = if braced { rest.strip_prefix('}')? } else { rest };
    (!name.is_empty()).then_some((name, rest))
}

/// Runs a pattern over a text, all ways at once.
struct Matcher<'a> {
    tokens: &'a [Token],
    active: Vec<bool>,
    effort: &'a mut Effort,
}

impl<'a> Matcher<'a> {
    fn new(tokens: &'a [Token], effort: &'a mut Effort) -> Self {
        Self { tokens, active: vec![false; tokens.len() + 1], effort }
    }

    /// The first place at or behind `from` where the pattern matches, and where the longest match there ends.
    fn find(&mut self, text: &[char], from: usize) -> Result<Option<(usize, usize)>, ExpandFault> {
        for start in from..=text.len() {
            if let Some(end) = self.end(text, start, Extent::Longest)? {
                return Ok(Some((start, end)));
            }
        }
        Ok(None)
    }

    /// Where a match that begins at `start` ends.
    fn end(&mut self, text: &[char], start: usize, extent: Extent) -> Result<Option<usize>, ExpandFault> {
        self.active.fill(false);
        self.activate(0);
        let mut found = None;
        for position in start..=text.len() {
            if self.active[self.tokens.len()] {
                found = Some(position);
                if extent == Extent::Shortest {
                    break;
                }
            }
            let Some(&c) = text.get(position) else { break };
            if !self.step(c)? {
                break;
            }
        }
        Ok(found)
    }

    /// Makes a state active, and the one behind it if it is a run, which may be empty.
    fn activate(&mut self, state: usize) {
        self.active[state] = true;
        if self.tokens.get(state) == Some(&Token::Run) {
            self.active[state + 1] = true;
        }
    }

    /// Consumes one character; `false` if no way is left.
    fn step(&mut self, c: char) -> Result<bool, ExpandFault> {
        self.effort.spend(self.tokens.len() + 1)?;
        let mut alive = false;
        // From the back, so that a state is read before it is written.
        self.active[self.tokens.len()] = false;
        for state in (0..self.tokens.len()).rev() {
            if !std::mem::take(&mut self.active[state]) || !self.tokens[state].accepts(c) {
                continue;
            }
            alive = true;
            self.activate(if self.tokens[state] == Token::Run { state } else { state + 1 });
        }
        Ok(alive)
    }
}
