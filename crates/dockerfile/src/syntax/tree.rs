//! From the text of an instruction to its node.

use crate::Code;
use memchr::memchr;

use super::json::{self, Json};
use super::logical::LogicalLine;
use super::words::{flags, plain_words, quoted_words, split_first, split_type};
use crate::keyword::Keyword;
use crate::node::{BorrowedNode, BorrowedWord};
use crate::quote::quote;
use crate::{Location, Node, Span};

/// Why a text is not an instruction.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) id: Code,
    pub(super) message: String,
    pub(super) culprit: Span,
    pub(super) hint: String,
}

/// The arguments of an instruction.
#[derive(Debug, Default)]
struct Arguments<'a> {
    words: Vec<BorrowedWord<'a>>,
    json: bool,
    children: Vec<BorrowedNode<'a>>,
}

impl<'a> From<Vec<BorrowedWord<'a>>> for Arguments<'a> {
    fn from(words: Vec<BorrowedWord<'a>>) -> Self {
        Self { words, ..Self::default() }
    }
}

/// What to do about a word without an equals sign.
fn pair_hint(keyword: &str, word: &str) -> String {
    let keyword = keyword.to_ascii_uppercase();
    if word.starts_with('#') {
        return "a comment needs a line of its own: text after an instruction is not one".to_owned();
    }
    if word.contains(['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}']) {
        return format!(
            "typographic quotes mean nothing here: write straight double quotes, {keyword} NAME=\"VALUE\""
        );
    }
    format!(
        "write {keyword} NAME=VALUE without spaces around the \"=\", and put a value with spaces in double quotes: \
         {keyword} NAME=\"... {word}\""
    )
}

/// Triggers in triggers nest no deeper than this; an `ONBUILD ONBUILD` is refused later in any case.
const MAX_TRIGGERS: usize = 16;

/// Makes nodes from parts of one logical line.
pub(super) struct Builder<'a> {
    pub(super) line: &'a LogicalLine<'a>,
    pub(super) escape: char,
    pub(super) location: Location,
}

impl<'a> Builder<'a> {
    /// The node of the whole line, and its keyword.
    pub(super) fn node(&self) -> Result<(Option<Keyword>, BorrowedNode<'a>), SyntaxError> {
        self.node_of(self.line.text(), MAX_TRIGGERS)
    }

    fn node_of(
        &self,
        text: &'a str,
        triggers: usize,
    ) -> Result<(Option<Keyword>, BorrowedNode<'a>), SyntaxError> {
        let (word, rest) = split_first(text.trim());
        let keyword = Keyword::of(word);
        let (flags, rest) = flags(rest, self.escape);
        let arguments = match keyword {
            Some(keyword) if !rest.is_empty() => self.arguments(keyword, word, rest, triggers)?,
            _ => Arguments::default(),
        };
        let node = Node {
            keyword: self.line.word(word, word),
            flags: flags.into_iter().map(|(part, flag)| self.line.word(part, flag)).collect(),
            arguments: arguments.words,
            json: arguments.json,
            heredocs: Vec::new(),
            children: arguments.children,
            text: text.into(),
            comments: Vec::new(),
            location: self.location,
            empty_continuation: false,
        };
        Ok((keyword, node))
    }

    /// The arguments of `keyword`, which is written as `word`.
    fn arguments(
        &self,
        keyword: Keyword,
        word: &str,
        rest: &'a str,
        triggers: usize,
    ) -> Result<Arguments<'a>, SyntaxError> {
        match keyword {
            Keyword::Run | Keyword::Cmd | Keyword::Entrypoint | Keyword::Shell => {
                Ok(self.json(rest)?.unwrap_or_else(|| self.words([rest])))
            }
            Keyword::Add | Keyword::Copy | Keyword::Volume => {
                Ok(self.json(rest)?.unwrap_or_else(|| self.words(plain_words(rest))))
            }
            Keyword::Healthcheck => self.healthcheck(rest),
            Keyword::Env | Keyword::Label => self.pairs(word, rest).map(Arguments::from),
            Keyword::Arg => Ok(self.words(quoted_words(rest, self.escape))),
            Keyword::Expose | Keyword::From => Ok(self.words(plain_words(rest))),
            Keyword::Maintainer | Keyword::Stopsignal | Keyword::User | Keyword::Workdir => {
                Ok(self.words([rest]))
            }
            Keyword::Onbuild => self.trigger(rest, triggers),
        }
    }

    fn word(&self, part: &'a str) -> BorrowedWord<'a> {
        self.line.word(part, part)
    }

    fn words(&self, parts: impl IntoIterator<Item = &'a str>) -> Arguments<'a> {
        parts.into_iter().map(|part| self.word(part)).collect::<Vec<_>>().into()
    }

    /// The arguments in the JSON form, if `rest` is that.
    fn json(&self, rest: &'a str) -> Result<Option<Arguments<'a>>, SyntaxError> {
        match json::parse(rest) {
            Json::Strings(strings) => {
                let words = strings.into_iter().map(|(part, text)| self.line.word(part, text)).collect();
                Ok(Some(Arguments { words, json: true, ..Arguments::default() }))
            }
            Json::Others => Err(SyntaxError {
                id: Code::JsonNotStrings,
                message: "when using JSON array syntax, arrays must be comprised of strings only".to_owned(),
                culprit: self.line.span(rest),
                hint: "put every element in double quotes: [\"a\", \"1\"]".to_owned(),
            }),
            Json::None => Ok(None),
        }
    }

    fn healthcheck(&self, rest: &'a str) -> Result<Arguments<'a>, SyntaxError> {
        let (kind, command) = split_type(rest);
        if command.is_empty() {
            return Ok(self.words([kind]));
        }
        let Some(mut arguments) = self.json(command)? else { return Ok(self.words([kind, command])) };
        arguments.words.insert(0, self.word(kind));
        Ok(arguments)
    }

    /// Key, value, and the sign between them; the legacy form has none.
    fn pairs(&self, keyword: &str, rest: &'a str) -> Result<Vec<BorrowedWord<'a>>, SyntaxError> {
        let mut words = quoted_words(rest, self.escape).peekable();
        if words.peek().is_some_and(|word| !word.contains('=')) {
            return self.legacy_pair(keyword, rest);
        }
        // None of them, if there is but an escape character.
        let mut pairs = Vec::with_capacity(6);
        for word in words {
            let Some(position) = memchr(b'=', word.as_bytes()) else {
                return Err(SyntaxError {
                    id: Code::PairWithoutEquals,
                    message: format!(
                        "Syntax error - can't find = in {}. Must be of the form: name=value",
                        quote(word)
                    ),
                    culprit: self.line.span(word),
                    hint: pair_hint(keyword, word),
                });
            };
            let (key, value) = word.split_at(position);
            let (sign, value) = value.split_at(1);
            pairs.extend([self.word(key), self.word(value), self.word(sign)]);
        }
        Ok(pairs)
    }

    fn legacy_pair(&self, keyword: &str, rest: &'a str) -> Result<Vec<BorrowedWord<'a>>, SyntaxError> {
        let (key, value) = split_first(rest);
        if value.is_empty() {
            return Err(SyntaxError {
                id: Code::PairWithoutValue,
                message: format!("{} must have two arguments", keyword.to_ascii_uppercase()),
                culprit: self.line.span(key),
                hint: format!("give a value: {} {key}=value", keyword.to_ascii_uppercase()),
            });
        }
        let sign = &value[..0];
        Ok(vec![self.word(key), self.word(value), self.word(sign)])
    }

    fn trigger(&self, rest: &'a str, triggers: usize) -> Result<Arguments<'a>, SyntaxError> {
        let Some(triggers) = triggers.checked_sub(1) else {
            return Ok(Arguments::default());
        };
        let children = vec![self.node_of(rest, triggers)?.1];
        Ok(Arguments { children, ..Arguments::default() })
    }
}
