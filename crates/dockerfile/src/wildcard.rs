//! Patterns over paths, as a list of tokens that is matched without backtracking.

use crate::glob::BadPattern;

/// A piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// These bytes.
    Literal(Vec<u8>),
    /// One character, not a slash.
    Any,
    /// One character of a class.
    Class(Class),
    /// Any number of bytes without a slash.
    Run,
    /// Any number of whole components with their slashes, none included.
    Components,
    /// Anything.
    Everything,
}

/// `[a-z]` or `[^a-z]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Class {
    fn contains(&self, c: char) -> bool {
        self.ranges.iter().any(|&(low, high)| low <= c && c <= high) != self.negated
    }

    /// Whether a range has its ends the wrong way round, so that it holds nothing.
    pub(crate) fn has_reversed_range(&self) -> bool {
        self.ranges.iter().any(|(low, high)| low > high)
    }

    /// Reads a class behind its opening bracket; returns it and what follows.
    pub(crate) fn parse(pattern: &[u8]) -> Result<(Self, &[u8]), BadPattern> {
        let (negated, mut rest) = match pattern.strip_prefix(b"^") {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        let mut ranges = Vec::new();
        loop {
            if let (Some(after), false) = (rest.strip_prefix(b"]"), ranges.is_empty()) {
                return Ok((Self { negated, ranges }, after));
            }
            let (low, after) = class_end(rest)?;
            let (high, after) = match after.strip_prefix(b"-") {
                Some(after) => class_end(after)?,
                None => (low, after),
            };
            ranges.push((low, high));
            rest = after;
        }
    }
}

/// One end of a range; something must follow it.
fn class_end(pattern: &[u8]) -> Result<(char, &[u8]), BadPattern> {
    let pattern = match pattern {
        [b'-' | b']', ..] => return Err(BadPattern),
        [b'\\', rest @ ..] => rest,
        pattern => pattern,
    };
    let (c, width) = decode(pattern).ok_or(BadPattern)?;
    let rest = &pattern[width..];
    let is_broken = c == char::REPLACEMENT_CHARACTER && width == 1;
    if is_broken || rest.is_empty() { Err(BadPattern) } else { Ok((c, rest)) }
}

/// The first character and its width; a byte that is part of none counts as one of width 1.
fn decode(bytes: &[u8]) -> Option<(char, usize)> {
    let head = &bytes[..bytes.len().min(4)];
    let valid = match str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(c) => Some((c, c.len_utf8())),
        None => (!head.is_empty()).then_some((char::REPLACEMENT_CHARACTER, 1)),
    }
}

/// What a [`Token::Run`] counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stride {
    /// It may end inside a character.
    Bytes,
    /// It takes whole characters.
    Characters,
}

/// Adds a byte to the literal at the end of `tokens`.
pub(crate) fn push_literal(tokens: &mut Vec<Token>, byte: u8) {
    if let Some(Token::Literal(bytes)) = tokens.last_mut() {
        bytes.push(byte);
    } else {
        tokens.push(Token::Literal(vec![byte]));
    }
}

/// Adds a token that may match nothing, unless the one in front of it is the same.
pub(crate) fn push_empty(tokens: &mut Vec<Token>, token: Token) {
    if tokens.last() != Some(&token) {
        tokens.push(token);
    }
}

/// The bytes of the shortest name that could match.
pub(crate) fn shortest(tokens: &[Token]) -> usize {
    let bytes = |token: &Token| match token {
        Token::Literal(bytes) => bytes.len(),
        Token::Any | Token::Class(_) => 1,
        Token::Run | Token::Components | Token::Everything => 0,
    };
    tokens.iter().map(bytes).sum()
}

/// Whether `name` as a whole matches.
pub(crate) fn matches(tokens: &[Token], name: &[u8], stride: Stride) -> bool {
    // Most patterns of most files end here, without an allocation.
    match tokens {
        [Token::Literal(bytes)] => return name == bytes,
        [Token::Literal(bytes), ..] if !name.starts_with(bytes) => return false,
        [.., Token::Literal(bytes)] if !name.ends_with(bytes) => return false,
        _ => {}
    }
    let mut places = vec![0];
    for token in tokens {
        places = advance(token, name, &places, stride);
        if places.is_empty() {
            return false;
        }
    }
    places.last() == Some(&name.len())
}

/// Whether a name that begins with `start` and goes on could match.
pub(crate) fn may_match_longer(tokens: &[Token], start: &[u8], stride: Stride) -> bool {
    let mut places = vec![0];
    for token in tokens {
        if places.last() == Some(&start.len()) {
            return true;
        }
        match token {
            Token::Components | Token::Everything => return !places.is_empty(),
            Token::Literal(bytes) if places.iter().any(|&place| bytes.starts_with(&start[place..])) => {
                return true;
            }
            token => places = advance(token, start, &places, stride),
        }
    }
    false
}

/// Where in `name` one can be behind `token`, after having been at one of `places`; both in ascending order.
fn advance(token: &Token, name: &[u8], places: &[usize], stride: Stride) -> Vec<usize> {
    match token {
        Token::Literal(bytes) => places
            .iter()
            .filter(|&&place| name[place..].starts_with(bytes))
            .map(|place| place + bytes.len())
            .collect(),
        Token::Any => one_character(name, places, |c| c != '/'),
        Token::Class(class) => one_character(name, places, |c| class.contains(c)),
        Token::Run => runs(name, places, stride),
        Token::Components => components(name, places),
        Token::Everything => places.first().map_or_else(Vec::new, |&first| (first..=name.len()).collect()),
    }
}

fn one_character(name: &[u8], places: &[usize], accepts: impl Fn(char) -> bool) -> Vec<usize> {
    let step = |&place: &usize| {
        let (c, width) = decode(&name[place..])?;
        accepts(c).then_some(place + width)
    };
    let mut behind: Vec<usize> = places.iter().filter_map(step).collect();
    behind.sort_unstable();
    behind.dedup();
    behind
}

fn runs(name: &[u8], places: &[usize], stride: Stride) -> Vec<usize> {
    let mut behind: Vec<usize> = Vec::with_capacity(name.len() + 1 - places.first().unwrap_or(&name.len()));
    for &place in places {
        if behind.last().is_some_and(|&last| last >= place) {
            continue;
        }
        let mut end = place;
        behind.push(end);
        while let Some((_, width)) = decode(&name[end..]).filter(|(c, _)| *c != '/') {
            end += if stride == Stride::Bytes { 1 } else { width };
            behind.push(end);
        }
    }
    behind
}

fn components(name: &[u8], places: &[usize]) -> Vec<usize> {
    let Some(&first) = places.first() else { return Vec::new() };
    let behind_slash = (first + 1..=name.len()).filter(|&place| name[place - 1] == b'/');
    let mut behind: Vec<usize> = places.iter().copied().chain(behind_slash).collect();
    behind.sort_unstable();
    behind.dedup();
    behind
}
