//! Reads a text character by character and expands it on the way.

use std::borrow::Cow;
use std::collections::HashSet;
use std::iter::Peekable;
use std::str::Chars;

use super::characters::{is_digit, is_heredoc_blank, is_letter, is_special, without_mark};
use super::fault::ExpandFault;
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
    pub(super) fn spend(&mut self, steps: usize) -> Result<(), ExpandFault> {
        self.left = self.left.checked_sub(steps).ok_or(ExpandFault::TooSlow)?;
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
    /// What is being read, the innermost last. A file may nest as deep as it likes, and so this is no recursion.
    frames: Vec<Frame>,
    depth: usize,
    /// How many parts of the text have been read, nested ones included.
    parts: usize,
    effort: Effort,
}

/// Something that has begun and is not over.
enum Frame {
    Text(Text),
    /// Behind a double quote.
    Quoted(String),
    Waiting(Waiting),
}

/// A text up to `stop`, or to the end.
struct Text {
    words: Words,
    stop: Option<char>,
    /// Whether escape characters stay in what it is part of.
    outer_keeps_escapes: bool,
    /// How many parts had been read where what is read now begins.
    parts: usize,
}

/// A substitution that needs the text behind its operator.
enum Waiting {
    /// `${name-word}` and its relatives.
    Operation { name: String, operator: char, modifier: String },
    /// `${name/pattern/text}`, before the pattern; `all` with two slashes in front.
    Pattern { name: String, all: bool },
    /// The same before the text.
    Replacement { name: String, all: bool, pattern: String },
}

impl Waiting {
    /// Up to where its text goes, and whether escape characters stay in it.
    fn text(&self) -> (char, bool) {
        match self {
            Self::Operation { operator, .. } => ('}', matches!(operator, '#' | '%')),
            Self::Pattern { .. } => ('/', true),
            Self::Replacement { .. } => ('}', true),
        }
    }

    /// What is wrong when the text ends before it should.
    fn unfinished(&self) -> ExpandFault {
        match self {
            Self::Pattern { .. } => ExpandFault::MissingSlash,
            Self::Operation { .. } | Self::Replacement { .. } => ExpandFault::MissingBrace,
        }
    }
}

/// What a `$` turned out to be.
enum Dollar {
    Value(String),
    Substitution(Waiting),
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, mode: Mode, environment: &'a dyn Environment) -> Self {
        Self {
            rest: without_mark(text).chars().peekable(),
            mode,
            environment,
            unset: Names::default(),
            used: Names::default(),
            frames: Vec::new(),
            depth: 0,
            parts: 0,
            effort: Effort::default(),
        }
    }

    pub(super) fn run(mut self) -> Result<Outcome, ExpandFault> {
        let text = self.text(None, self.mode.keep_escapes);
        self.frames.push(Frame::Text(text));
        let (joined, words) = self.read().map_err(|error| self.seen_from_outside(error))?;
        Ok(Outcome { joined, words, unset: self.unset.list, used: self.used.list })
    }

    fn peek(&mut self) -> Option<char> {
        self.rest.peek().copied()
    }

    fn at_end(&mut self) -> bool {
        self.rest.peek().is_none()
    }

    /// A text that begins here.
    fn text(&mut self, stop: Option<char>, keep_escapes: bool) -> Text {
        self.parts += 1;
        let outer_keeps_escapes = std::mem::replace(&mut self.mode.keep_escapes, keep_escapes);
        Text { words: Words::new(self.mode.max_bytes), stop, outer_keeps_escapes, parts: self.parts }
    }

    /// Reads everything: what is on top of the stack goes on until something in it begins, or it is over.
    fn read(&mut self) -> Result<(String, Vec<String>), ExpandFault> {
        while let Some(frame) = self.frames.pop() {
            match frame {
                Frame::Text(mut text) => {
                    if let Some(inner) = self.read_text(&mut text)? {
                        self.open(Frame::Text(text), inner);
                        continue;
                    }
                    self.mode.keep_escapes = text.outer_keeps_escapes;
                    let (joined, words) = text.words.finish();
                    match self.frames.pop() {
                        Some(Frame::Waiting(waiting)) => self.substitute(waiting, joined)?,
                        _ => return Ok((joined, words)),
                    }
                }
                Frame::Quoted(mut text) => match self.read_quoted(&mut text)? {
                    Some(inner) => self.open(Frame::Quoted(text), inner),
                    None => self.take(&text, true)?,
                },
                Frame::Waiting(waiting) => self.open_text_of(waiting),
            }
        }
        Ok((String::new(), Vec::new()))
    }

    fn open(&mut self, outer: Frame, inner: Frame) {
        self.frames.push(outer);
        match inner {
            Frame::Waiting(waiting) => {
                self.depth += 1;
                self.open_text_of(waiting);
            }
            inner => self.frames.push(inner),
        }
    }

    fn open_text_of(&mut self, waiting: Waiting) {
        let (stop, keep_escapes) = waiting.text();
        self.frames.push(Frame::Waiting(waiting));
        let text = self.text(Some(stop), keep_escapes);
        self.frames.push(Frame::Text(text));
    }

    /// Gives a substitution the text behind its operator.
    fn substitute(&mut self, waiting: Waiting, text: String) -> Result<(), ExpandFault> {
        let value = match waiting {
            Waiting::Pattern { name, all } => {
                self.open_text_of(Waiting::Replacement { name, all, pattern: text });
                return Ok(());
            }
            Waiting::Operation { name, operator, modifier } => {
                self.operation(&name, operator, &modifier, text)?
            }
            Waiting::Replacement { name, all, pattern } => self.replacement(&name, all, &pattern, &text)?,
        };
        self.depth -= 1;
        self.take(&value, false)
    }

    /// Adds a value, or what stood in quotes, to what it is part of.
    ///
    /// The beginning of a word is lost if what follows has parts of its own, as `${x:-part}` has, and words are wanted:
    /// `8${X:-0}` is the word `0`. BuildKit has it so, and finds heredocs with it.
    fn take(&mut self, value: &str, is_whole: bool) -> Result<(), ExpandFault> {
        match self.frames.last_mut() {
            Some(Frame::Text(text)) => {
                if self.parts != text.parts {
                    text.words.forget_current();
                }
                if is_whole { text.words.push_whole(value) } else { text.words.push_value(value) }
            }
            Some(Frame::Quoted(text)) => {
                text.push_str(value);
                check_size(text.len(), self.mode.max_bytes)
            }
            _ => Ok(()),
        }
    }

    /// Reads a text until something in it begins, which is given back, or to its end.
    fn read_text(&mut self, text: &mut Text) -> Result<Option<Frame>, ExpandFault> {
        let words = &mut text.words;
        while let Some(c) = self.peek() {
            if text.stop == Some(c) {
                self.rest.next();
                return Ok(None);
            }
            match c {
                '$' => {
                    text.parts = self.parts;
                    match self.dollar()? {
                        Dollar::Value(value) => words.push_value(&value)?,
                        Dollar::Substitution(waiting) => return Ok(Some(Frame::Waiting(waiting))),
                    }
                }
                '\'' if self.mode.quotes => words.push_whole(&self.single_quoted()?)?,
                '"' if self.mode.quotes => {
                    text.parts = self.parts;
                    self.rest.next();
                    let quote = if self.mode.keep_quotes { "\"" } else { "" };
                    return Ok(Some(Frame::Quoted(quote.to_owned())));
                }
                '<' => self.chevrons(words)?,
                c if c == self.mode.escape => self.escaped(words)?,
                c => {
                    self.rest.next();
                    words.push(c)?;
                }
            }
        }
        match text.stop {
            None => Ok(None),
            Some('/') => Err(ExpandFault::MissingSlash),
            Some(_) => Err(ExpandFault::MissingBrace),
        }
    }

    fn escaped(&mut self, words: &mut Words) -> Result<(), ExpandFault> {
        self.rest.next();
        if self.mode.keep_escapes {
            words.push_whole_char(self.mode.escape)?;
        }
        self.rest.next().map_or(Ok(()), |c| words.push_whole_char(c))
    }

    /// Blanks behind two `<` do not end the word: a heredoc's delimiter may follow them.
    fn chevrons(&mut self, words: &mut Words) -> Result<(), ExpandFault> {
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

    fn single_quoted(&mut self) -> Result<String, ExpandFault> {
        self.rest.next();
        let mut text = String::new();
        if self.mode.keep_quotes {
            text.push('\'');
        }
        loop {
            match self.rest.next() {
                Some('\'') => break,
                Some(c) => text.push(c),
                None => return Err(ExpandFault::OpenQuote { double: false }),
            }
        }
        if self.mode.keep_quotes {
            text.push('\'');
        }
        Ok(text)
    }

    /// Reads on between double quotes until a substitution begins, which is given back, or to the second of them.
    fn read_quoted(&mut self, text: &mut String) -> Result<Option<Frame>, ExpandFault> {
        loop {
            match self.peek() {
                None => return Err(ExpandFault::OpenQuote { double: true }),
                Some('"') => break,
                Some('$') => match self.dollar()? {
                    Dollar::Value(value) => text.push_str(&value),
                    Dollar::Substitution(waiting) => return Ok(Some(Frame::Waiting(waiting))),
                },
                Some(c) if c == self.mode.escape => self.escaped_in_quotes(text),
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
        Ok(None)
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

    fn dollar(&mut self) -> Result<Dollar, ExpandFault> {
        self.rest.next();
        if self.rest.next_if_eq(&'{').is_some() {
            if self.depth == MAX_NESTING {
                return Err(ExpandFault::TooDeep { limit: MAX_NESTING });
            }
            return self.braces();
        }
        let name = self.name();
        if name.is_empty() {
            return Ok(Dollar::Value("$".to_owned()));
        }
        Ok(Dollar::Value(match self.look_up(&name)? {
            Some(value) => value.into_owned(),
            None if self.mode.keep_unset => format!("${name}"),
            None => String::new(),
        }))
    }

    /// The rest of a substitution, behind `${`.
    fn braces(&mut self) -> Result<Dollar, ExpandFault> {
        match self.peek() {
            None => return Err(ExpandFault::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandFault::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.rest.next() {
            None => Err(ExpandFault::MissingBrace),
            Some('}') => Ok(Dollar::Value(match self.look_up(&name)? {
                Some(value) => value.into_owned(),
                None if self.mode.keep_unset => format!("${{{name}}}"),
                None => String::new(),
            })),
            Some(':') => match self.rest.next() {
                None => Err(ExpandFault::MissingBrace),
                Some(operator @ ('#' | '%')) => Err(unsupported(&format!(":{operator}"))),
                Some(operator) => Ok(Dollar::Substitution(Waiting::Operation {
                    name,
                    operator,
                    modifier: format!(":{operator}"),
                })),
            },
            Some(operator @ ('+' | '-' | '?' | '#' | '%')) => {
                let modifier = operator.to_string();
                Ok(Dollar::Substitution(Waiting::Operation { name, operator, modifier }))
            }
            Some('/') => {
                let all = self.rest.next_if_eq(&'/').is_some();
                Ok(Dollar::Substitution(Waiting::Pattern { name, all }))
            }
            Some(other) => Err(unsupported(&other.to_string())),
        }
    }

    /// `${name-word}` and its relatives; a colon makes an empty value count as unset.
    fn operation(
        &mut self,
        name: &str,
        operator: char,
        modifier: &str,
        word: String,
    ) -> Result<String, ExpandFault> {
        let keep_unset = self.mode.keep_unset;
        let value = self.look_up(name)?;
        if value.is_none() && keep_unset {
            return Ok(format!("${{{name}{modifier}{word}}}"));
        }
        let colon = modifier.starts_with(':');
        let absent = value.as_deref().is_none_or(|value| colon && value.is_empty());
        match operator {
            '-' if absent => Ok(word),
            '+' if absent => Ok(String::new()),
            '+' => Ok(word),
            '?' if absent => Err(required(name, &word, value.is_some())),
            '-' | '?' => Ok(value.unwrap_or_default().into_owned()),
            '#' | '%' => trim(&value.unwrap_or_default(), operator, &word, &mut self.effort),
            _ => Err(unsupported(modifier)),
        }
    }

    /// `${name/pattern/text}` and `${name//pattern/text}`.
    fn replacement(
        &mut self,
        name: &str,
        all: bool,
        pattern: &str,
        text: &str,
    ) -> Result<String, ExpandFault> {
        let keep_unset = self.mode.keep_unset;
        let value = self.look_up(name)?;
        if value.is_none() && keep_unset {
            return Ok(format!("${{{name}/{pattern}/{text}}}"));
        }
        let value = value.unwrap_or_default();
        let compiled = Pattern::parse(pattern)?;
        if all {
            compiled.replace_all(&value, text, &mut self.effort)
        } else {
            compiled.replace_first(&value, text, &mut self.effort)
        }
    }

    /// An error that comes from the end of the text is told from the view of the outermost construct.
    fn seen_from_outside(&mut self, error: ExpandFault) -> ExpandFault {
        let outermost = self.frames.iter().find_map(|frame| match frame {
            Frame::Waiting(waiting) => Some(waiting.unfinished()),
            Frame::Text(_) | Frame::Quoted(_) => None,
        });
        match (error, outermost) {
            (error, Some(unfinished)) if !error.is_limit() && self.at_end() => unfinished,
            (error, _) => error,
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

    fn look_up(&mut self, name: &str) -> Result<Option<Cow<'a, str>>, ExpandFault> {
        let value = self.environment.get(name);
        let names = if value.is_some() { &mut self.used } else { &mut self.unset };
        names.add(name);
        self.effort.spend(value.as_deref().map_or(0, str::len))?;
        Ok(value)
    }
}

fn trim(value: &str, operator: char, word: &str, effort: &mut Effort) -> Result<String, ExpandFault> {
    let longest = word.starts_with(operator);
    let word = if longest { &word[1..] } else { word };
    let extent = if longest { pattern::Extent::Longest } else { pattern::Extent::Shortest };
    if operator == '#' {
        Pattern::parse(word)?.trim_start(value, extent, effort)
    } else {
        Pattern::parse(&pattern::backwards(word))?.trim_end(value, extent, effort)
    }
}

fn unsupported(modifier: &str) -> ExpandFault {
    ExpandFault::Modifier(modifier.to_owned())
}

fn required(name: &str, word: &str, set: bool) -> ExpandFault {
    let reason = match (word, set) {
        ("", false) => "is not allowed to be unset",
        ("", true) => "is not allowed to be empty",
        (word, _) => word,
    };
    ExpandFault::Required { name: name.to_owned(), reason: reason.to_owned() }
}
