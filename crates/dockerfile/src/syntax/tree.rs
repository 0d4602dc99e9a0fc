//! From the text of an instruction to its node.

use super::json::{self, Json};
use super::logical::LogicalLine;
use super::words::{flags, plain_words, quoted_words, split_first, split_type};
use crate::quote::quote;
use crate::{Location, Node, Span, Word, keyword};

/// Why a text is no instruction.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) id: &'static str,
    pub(super) message: String,
    pub(super) culprit: Span,
    pub(super) hint: String,
}

/// The arguments of an instruction.
#[derive(Debug, Default)]
struct Arguments {
    words: Vec<Word>,
    json: bool,
    children: Vec<Node>,
}

impl From<Vec<Word>> for Arguments {
    fn from(words: Vec<Word>) -> Self {
        Self { words, ..Self::default() }
    }
}

/// What to do about a word without an equals sign.
fn pair_hint(keyword: &str, word: &str) -> String {
    let keyword = keyword.to_ascii_uppercase();
    if word.starts_with('#') {
        return "a comment needs a line of its own: nothing behind an instruction is one".to_owned();
    }
    if word.contains(['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}']) {
        return format!(
            "typographic quotes mean nothing here: write straight double quotes, {keyword} NAME=\"VALUE\""
        );
    }
    format!(
        "write {keyword} NAME=VALUE without blanks around the \"=\", and put a value with blanks in double quotes: \
         {keyword} NAME=\"... {word}\""
    )
}

/// Triggers in triggers nest no deeper than this; an `ONBUILD ONBUILD` is refused later in any case.
const MAX_TRIGGERS: usize = 16;

/// Makes nodes from parts of one logical line.
pub(super) struct Builder<'a> {
    pub(super) line: &'a LogicalLine,
    pub(super) escape: char,
    pub(super) location: Location,
}

impl Builder<'_> {
    /// The node of the whole line, but for its text.
    pub(super) fn node(&self) -> Result<Node, SyntaxError> {
        self.node_of(self.line.text(), MAX_TRIGGERS)
    }

    fn node_of(&self, text: &str, triggers: usize) -> Result<Node, SyntaxError> {
        let (keyword, rest) = split_first(text.trim());
        let (flags, rest) = flags(rest, self.escape);
        let arguments = self.arguments(keyword, rest, triggers)?;
        Ok(Node {
            keyword: self.line.word(keyword, keyword),
            flags: flags.into_iter().map(|(part, flag)| self.line.word(part, flag)).collect(),
            arguments: arguments.words,
            json: arguments.json,
            heredocs: Vec::new(),
            children: arguments.children,
            text: String::new(),
            comments: Vec::new(),
            location: self.location,
            empty_continuation: false,
        })
    }

    fn arguments(&self, keyword: &str, rest: &str, triggers: usize) -> Result<Arguments, SyntaxError> {
        if rest.is_empty() {
            return Ok(Arguments::default());
        }
        match keyword::known(keyword).map_or("", |(lower, _)| lower) {
            "run" | "cmd" | "entrypoint" | "shell" => self.json_or(rest, |rest| vec![rest]),
            "add" | "copy" | "volume" => self.json_or(rest, |rest| plain_words(rest).collect()),
            "healthcheck" => self.healthcheck(rest),
            "env" | "label" => self.pairs(keyword, rest).map(Arguments::from),
            "arg" => Ok(self.words(quoted_words(rest, self.escape))),
            "expose" | "from" => Ok(self.words(plain_words(rest))),
            "maintainer" | "stopsignal" | "user" | "workdir" => Ok(self.words([rest])),
            "onbuild" => self.trigger(rest, triggers),
            _ => Ok(Arguments::default()),
        }
    }

    fn word(&self, part: &str) -> Word {
        self.line.word(part, part)
    }

    fn words<'t>(&self, parts: impl IntoIterator<Item = &'t str>) -> Arguments {
        parts.into_iter().map(|part| self.word(part)).collect::<Vec<_>>().into()
    }

    fn json_or<'t>(
        &self,
        rest: &'t str,
        split: impl Fn(&'t str) -> Vec<&'t str>,
    ) -> Result<Arguments, SyntaxError> {
        match json::parse(rest) {
            Json::Strings(strings) => {
                let words = strings.into_iter().map(|(part, text)| self.line.word(part, text)).collect();
                Ok(Arguments { words, json: true, ..Arguments::default() })
            }
            Json::Others => Err(SyntaxError {
                id: "json-not-strings",
                message: "when using JSON array syntax, arrays must be comprised of strings only".to_owned(),
                culprit: self.line.span(rest),
                hint: "put every element in double quotes: [\"a\", \"1\"]".to_owned(),
            }),
            Json::None => Ok(self.words(split(rest))),
        }
    }

    fn healthcheck(&self, rest: &str) -> Result<Arguments, SyntaxError> {
        let (kind, command) = split_type(rest);
        let mut arguments =
            if command.is_empty() { Arguments::default() } else { self.json_or(command, |rest| vec![rest])? };
        arguments.words.insert(0, self.word(kind));
        Ok(arguments)
    }

    /// Key, value, and the sign between them; the legacy form has none.
    fn pairs(&self, keyword: &str, rest: &str) -> Result<Vec<Word>, SyntaxError> {
        let words = quoted_words(rest, self.escape);
        if words.is_empty() {
            // A lone escape character.
            return Ok(Vec::new());
        }
        if !words.first().is_some_and(|word| word.contains('=')) {
            return self.legacy_pair(keyword, rest);
        }
        let mut pairs = Vec::with_capacity(words.len() * 3);
        for word in words {
            let Some(position) = word.find('=') else {
                return Err(SyntaxError {
                    id: "pair-without-equals",
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

    fn legacy_pair(&self, keyword: &str, rest: &str) -> Result<Vec<Word>, SyntaxError> {
        let (key, value) = split_first(rest);
        if value.is_empty() {
            return Err(SyntaxError {
                id: "pair-without-value",
                message: format!("{} must have two arguments", keyword.to_ascii_uppercase()),
                culprit: self.line.span(key),
                hint: format!("give a value: {} {key}=value", keyword.to_ascii_uppercase()),
            });
        }
        let sign = &value[..0];
        Ok(vec![self.word(key), self.word(value), self.word(sign)])
    }

    fn trigger(&self, rest: &str, triggers: usize) -> Result<Arguments, SyntaxError> {
        let Some(triggers) = triggers.checked_sub(1) else {
            return Ok(Arguments::default());
        };
        let mut child = self.node_of(rest, triggers)?;
        rest.clone_into(&mut child.text);
        let children = vec![child];
        Ok(Arguments { children, ..Arguments::default() })
    }
}
