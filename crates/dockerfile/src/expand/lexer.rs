//! Reads a text character by character and expands it on the way.

use std::borrow::Cow;
use std::collections::HashSet;
use std::iter::Peekable;
use std::str::Chars;

use super::characters::{is_digit, is_heredoc_blank, is_letter, is_special, without_mark};
use super::pattern::{self, Pattern};
use super::words::{Words, check_size};
use super::{Environment, Expanded, ExpandedWords, MAX_NESTING, MAX_WORD_BYTES};

/// How a text is read.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(crate) struct Mode {
    /// The escape character.
    pub(crate) escape: char,
    /// Quotes group; otherwise they are ordinary characters.
    pub(crate) quotes: bool,
    /// Quotes stay in the result.
    pub(crate) keep_quotes: bool,
    /// Escape characters stay in the result.
    pub(crate) keep_escapes: bool,
    /// References to variables that are not set stay in the result.
    pub(crate) keep_unset: bool,
    /// How large a result or an intermediate value may be.
    pub(crate) max_bytes: usize,
}

impl Default for Mode {
    fn default() -> Self {
        Self {
            escape: '\\',
            quotes: true,
            keep_quotes: false,
            keep_escapes: false,
            keep_unset: false,
            max_bytes: MAX_WORD_BYTES,
        }
    }
}

/// Why a text cannot be expanded.
#[derive(Debug)]
pub(super) enum LexError {
    /// The text is malformed, or asks for the error.
    Word(String),
    /// It takes too much.
    Limit(String),
}

impl LexError {
    pub(super) fn word(message: impl Into<String>) -> Self {
        Self::Word(message.into())
    }

    pub(super) fn into_message(self) -> String {
        let (Self::Word(message) | Self::Limit(message)) = self;
        message
    }
}

/// How much work one word may be, however its pieces are put together: less than a tenth of a second's.
#[derive(Debug)]
pub(super) struct Effort {
    left: usize,
}

impl Default for Effort {
    fn default() -> Self {
        Self { left: 1 << 25 }
    }
}

impl Effort {
    /// Takes `steps`, comparisons or bytes, off what is left.
    pub(super) fn spend(&mut self, steps: usize) -> Result<(), LexError> {
        self.left = self
            .left
            .checked_sub(steps)
            .ok_or_else(|| LexError::Limit("the word takes too long to expand".to_owned()))?;
        Ok(())
    }
}

/// Names in order of first appearance.
#[derive(Debug, Default)]
struct Names {
    list: Vec<String>,
    known: HashSet<String>,
}

impl Names {
    fn add(&mut self, name: &str) {
        if self.known.insert(name.to_owned()) {
            self.list.push(name.to_owned());
        }
    }
}

/// A text that has been read to its end.
pub(super) struct Outcome {
    joined: String,
    words: Vec<String>,
    unset: Vec<String>,
    used: Vec<String>,
}

impl Outcome {
    pub(super) fn into_word(self) -> Expanded {
        Expanded { value: self.joined, unset: self.unset, used: self.used }
    }

    pub(super) fn into_words(self) -> ExpandedWords {
        ExpandedWords { words: self.words, unset: self.unset, used: self.used }
    }
}

pub(super) struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
    mode: Mode,
    environment: &'a dyn Environment,
    unset: Names,
    used: Names,
    depth: usize,
    /// How many parts of the text have been read, nested ones included.
    parts: usize,
    effort: Effort,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, mode: Mode, environment: &'a dyn Environment) -> Self {
        Self {
            rest: without_mark(text).chars().peekable(),
            mode,
            environment,
            unset: Names::default(),
            used: Names::default(),
            depth: 0,
            parts: 0,
            effort: Effort::default(),
        }
    }

    pub(super) fn run(mut self) -> Result<Outcome, LexError> {
        let (joined, words) = self.read(None, self.mode.keep_escapes)?;
        Ok(Outcome { joined, words, unset: self.unset.list, used: self.used.list })
    }

    fn peek(&mut self) -> Option<char> {
        self.rest.peek().copied()
    }

    fn at_end(&mut self) -> bool {
        self.rest.peek().is_none()
    }

    /// Reads up to `stop`, which is consumed, or to the end.
    fn read(&mut self, stop: Option<char>, keep_escapes: bool) -> Result<(String, Vec<String>), LexError> {
        let outer = std::mem::replace(&mut self.mode.keep_escapes, keep_escapes);
        let result = self.read_until(stop);
        self.mode.keep_escapes = outer;
        result
    }

    fn read_until(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), LexError> {
        self.parts += 1;
        let mut words = Words::new(self.mode.max_bytes);
        while let Some(c) = self.peek() {
            if stop == Some(c) {
                self.rest.next();
                return Ok(words.finish());
            }
            match c {
                '$' => {
                    let value = self.with_parts(&mut words, Self::dollar)?;
                    words.push_value(&value)?;
                }
                '\'' if self.mode.quotes => words.push_whole(&self.single_quoted()?)?,
                '"' if self.mode.quotes => {
                    let text = self.with_parts(&mut words, Self::double_quoted)?;
                    words.push_whole(&text)?;
                }
                '<' => self.chevrons(&mut words)?,
                c if c == self.mode.escape => self.escaped(&mut words)?,
                c => {
                    self.rest.next();
                    words.push(c)?;
                }
            }
        }
        match stop {
            None => Ok(words.finish()),
            Some(stop) => {
                Err(LexError::Word(format!("unexpected end of statement while looking for matching {stop}")))
            }
        }
    }

    /// Reads something that may have parts of its own, as `${x:-part}` has. The beginning of the word is lost then if
    /// words are wanted: `8${X:-0}` is the word `0`. BuildKit has it so, and finds heredocs with it.
    fn with_parts(
        &mut self,
        words: &mut Words,
        read: impl FnOnce(&mut Self) -> Result<String, LexError>,
    ) -> Result<String, LexError> {
        let parts = self.parts;
        let text = read(self)?;
        if self.parts != parts {
            words.forget_current();
        }
        Ok(text)
    }

    fn escaped(&mut self, words: &mut Words) -> Result<(), LexError> {
        self.rest.next();
        if self.mode.keep_escapes {
            words.push_whole_char(self.mode.escape)?;
        }
        self.rest.next().map_or(Ok(()), |c| words.push_whole_char(c))
    }

    /// Blanks behind two `<` do not end the word: a heredoc's delimiter may follow them.
    fn chevrons(&mut self, words: &mut Words) -> Result<(), LexError> {
        self.rest.next();
        words.push_whole_char('<')?;
        if self.rest.next_if_eq(&'<').is_some() {
            words.push_whole_char('<')?;
            while let Some(blank) = self.rest.next_if(|c| is_heredoc_blank(*c)) {
                words.push_whole_char(blank)?;
            }
        }
        Ok(())
    }

    fn single_quoted(&mut self) -> Result<String, LexError> {
        self.rest.next();
        let mut text = String::new();
        if self.mode.keep_quotes {
            text.push('\'');
        }
        loop {
            match self.rest.next() {
                Some('\'') => break,
                Some(c) => text.push(c),
                None => return Err(unpaired("single")),
            }
        }
        if self.mode.keep_quotes {
            text.push('\'');
        }
        Ok(text)
    }

    fn double_quoted(&mut self) -> Result<String, LexError> {
        self.rest.next();
        let mut text = String::new();
        if self.mode.keep_quotes {
            text.push('"');
        }
        loop {
            match self.peek() {
                None => return Err(unpaired("double")),
                Some('"') => break,
                Some('$') => text.push_str(&self.dollar()?),
                Some(c) if c == self.mode.escape => self.escaped_in_quotes(&mut text),
                Some(c) => {
                    self.rest.next();
                    text.push(c);
                }
            }
            check_size(text.len(), self.mode.max_bytes)?;
        }
        self.rest.next();
        if self.mode.keep_quotes {
            text.push('"');
        }
        Ok(text)
    }

    /// Before most characters the escape character is an ordinary one here.
    fn escaped_in_quotes(&mut self, text: &mut String) {
        self.rest.next();
        let escape = self.mode.escape;
        if self.mode.keep_escapes {
            text.push(escape);
        }
        match self.peek() {
            None => {}
            Some(c) if c == '"' || c == '$' || c == escape => {
                self.rest.next();
                text.push(c);
            }
            Some(_) => text.push(escape),
        }
    }

    fn dollar(&mut self) -> Result<String, LexError> {
        self.rest.next();
        if self.peek() == Some('{') {
            self.rest.next();
            return self.nested(Self::braces);
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        Ok(match self.look_up(&name)? {
            Some(value) => value.into_owned(),
            None if self.mode.keep_unset => format!("${name}"),
            None => String::new(),
        })
    }

    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, LexError>) -> Result<T, LexError> {
        if self.depth == MAX_NESTING {
            return Err(LexError::Limit(format!(
                "substitutions are nested deeper than {MAX_NESTING} levels"
            )));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// The rest of a substitution, behind `${`.
    fn braces(&mut self) -> Result<String, LexError> {
        match self.peek() {
            None => return Err(missing_brace()),
            Some('{' | '}' | ':') => return Err(LexError::word("syntax error: bad substitution")),
            Some(_) => {}
        }
        let name = self.name();
        match self.rest.next() {
            None => Err(missing_brace()),
            Some('}') => Ok(match self.look_up(&name)? {
                Some(value) => value.into_owned(),
                None if self.mode.keep_unset => format!("${{{name}}}"),
                None => String::new(),
            }),
            Some(':') => {
                let operator = self.rest.next();
                self.operation(&name, operator, true)
            }
            Some(operator @ ('+' | '-' | '?' | '#' | '%')) => self.operation(&name, Some(operator), false),
            Some('/') => self.replacement(&name),
            Some(other) => Err(unsupported(&other.to_string())),
        }
    }

    /// `${name-word}` and its relatives; `colon` makes an empty value count as unset.
    fn operation(&mut self, name: &str, operator: Option<char>, colon: bool) -> Result<String, LexError> {
        let Some(operator) = operator else { return Err(missing_brace()) };
        let modifier = if colon { format!(":{operator}") } else { operator.to_string() };
        let trims = matches!(operator, '#' | '%');
        if colon && trims {
            return Err(unsupported(&modifier));
        }
        let (word, _) = self.read(Some('}'), trims).map_err(|error| self.at_end_or(error, missing_brace))?;
        let keep_unset = self.mode.keep_unset;
        let value = self.look_up(name)?;
        if value.is_none() && keep_unset {
            return Ok(format!("${{{name}{modifier}{word}}}"));
        }
        let absent = value.as_deref().is_none_or(|value| colon && value.is_empty());
        match operator {
            '-' if absent => Ok(word),
            '+' if absent => Ok(String::new()),
            '+' => Ok(word),
            '?' if absent => Err(required(name, &word, value.is_some())),
            '-' | '?' => Ok(value.unwrap_or_default().into_owned()),
            '#' | '%' => trim(&value.unwrap_or_default(), operator, &word, &mut self.effort),
            _ => Err(unsupported(&modifier)),
        }
    }

    /// `${name/pattern/text}` and `${name//pattern/text}`, behind the first slash.
    fn replacement(&mut self, name: &str) -> Result<String, LexError> {
        let all = self.rest.next_if_eq(&'/').is_some();
        let missing_slash = || LexError::word("syntax error: missing '/' in ${}");
        let (pattern, _) =
            self.read(Some('/'), true).map_err(|error| self.at_end_or(error, missing_slash))?;
        let (text, _) = self.read(Some('}'), true).map_err(|error| self.at_end_or(error, missing_brace))?;
        let keep_unset = self.mode.keep_unset;
        let value = self.look_up(name)?;
        if value.is_none() && keep_unset {
            return Ok(format!("${{{name}/{pattern}/{text}}}"));
        }
        let value = value.unwrap_or_default();
        let compiled = Pattern::parse(&pattern)?;
        if all {
            compiled.replace_all(&value, &text, &mut self.effort)
        } else {
            compiled.replace_first(&value, &text, &mut self.effort)
        }
    }

    /// An error that comes from the end of the text is told from the view of the outermost construct.
    fn at_end_or(&mut self, error: LexError, instead: impl Fn() -> LexError) -> LexError {
        match error {
            LexError::Word(_) if self.at_end() => instead(),
            error => error,
        }
    }

    /// A variable's name, a number, or one of the special characters of the shell; empty if none follows.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.peek() {
            Some(c) if is_digit(c) => {
                while let Some(digit) = self.rest.next_if(|c| is_digit(*c)) {
                    name.push(digit);
                }
            }
            Some(c) if is_special(c) => {
                self.rest.next();
                name.push(c);
            }
            _ => {
                while let Some(c) = self.rest.next_if(|&c| is_letter(c) || is_digit(c) || c == '_') {
                    name.push(c);
                }
            }
        }
        name
    }

    fn look_up(&mut self, name: &str) -> Result<Option<Cow<'a, str>>, LexError> {
        let value = self.environment.get(name);
        let names = if value.is_some() { &mut self.used } else { &mut self.unset };
        names.add(name);
        self.effort.spend(value.as_deref().map_or(0, str::len))?;
        Ok(value)
    }
}

fn trim(value: &str, operator: char, word: &str, effort: &mut Effort) -> Result<String, LexError> {
    let longest = word.starts_with(operator);
    let word = if longest { &word[1..] } else { word };
    let extent = if longest { pattern::Extent::Longest } else { pattern::Extent::Shortest };
    if operator == '#' {
        Pattern::parse(word)?.trim_start(value, extent, effort)
    } else {
        Pattern::parse(&pattern::backwards(word))?.trim_end(value, extent, effort)
    }
}

fn missing_brace() -> LexError {
    LexError::word("syntax error: missing '}'")
}

fn unsupported(modifier: &str) -> LexError {
    LexError::Word(format!("unsupported modifier ({modifier}) in substitution"))
}

fn unpaired(quote: &str) -> LexError {
    LexError::Word(format!("unexpected end of statement while looking for matching {quote}-quote"))
}

fn required(name: &str, word: &str, set: bool) -> LexError {
    let reason = match (word, set) {
        ("", false) => "is not allowed to be unset",
        ("", true) => "is not allowed to be empty",
        (word, _) => word,
    };
    LexError::Word(format!("{name}: {reason}"))
}
