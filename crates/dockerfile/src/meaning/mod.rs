//! Meaning: from a node to an instruction.

mod duration;
mod flags;
mod healthcheck;
mod run;
mod transfer;
mod unknown;

use std::borrow::Cow;
use std::fmt::Write;

use crate::Code;
use flags::{Flags, Known, Takes};
pub(crate) use unknown::is_no_word;

use crate::diagnostic::Failure;
use crate::keyword::Keyword;
use crate::node::{BorrowedNode, BorrowedWord, Parsed};
use crate::quote::quote;
use crate::{
    ArgDefinition, Command, Instruction, InstructionKind, KeyValues, Stage, Text, confusable_space, suggest,
};

type Result<T> = std::result::Result<T, Failure>;

/// The keywords there are.
pub(crate) const KEYWORDS: [&str; 18] = [
    "add",
    "arg",
    "cmd",
    "copy",
    "entrypoint",
    "env",
    "expose",
    "from",
    "healthcheck",
    "label",
    "maintainer",
    "onbuild",
    "run",
    "shell",
    "stopsignal",
    "user",
    "volume",
    "workdir",
];

/// Whether a word that is not a keyword was probably meant for one.
pub(crate) fn is_near_a_keyword(word: &str) -> bool {
    suggest(&word.to_lowercase(), KEYWORDS).is_some()
}

/// The stage that a `FROM` opens, still without instructions.
pub(crate) fn stage(parsed: Parsed<'_>) -> Result<Stage> {
    Reading::new(parsed).stage()
}

/// The instruction that a node means, if it is no `FROM`.
pub(crate) fn instruction(parsed: Parsed<'_>) -> Result<Instruction> {
    let reading = Reading::new(parsed);
    let kind = match parsed.keyword {
        None | Some(Keyword::From) => Err(reading.unknown()),
        Some(Keyword::Add) => transfer::add(&reading),
        Some(Keyword::Arg) => reading.arg(),
        Some(Keyword::Cmd) => reading.exec_or_shell().map(InstructionKind::Cmd),
        Some(Keyword::Copy) => transfer::copy(&reading),
        Some(Keyword::Entrypoint) => reading.exec_or_shell().map(InstructionKind::Entrypoint),
        Some(Keyword::Env) => reading.pairs().map(InstructionKind::Env),
        Some(Keyword::Expose) => reading.list().map(InstructionKind::Expose),
        Some(Keyword::Healthcheck) => healthcheck::healthcheck(&reading),
        Some(Keyword::Label) => reading.pairs().map(InstructionKind::Label),
        Some(Keyword::Maintainer) => reading.single().map(InstructionKind::Maintainer),
        Some(Keyword::Onbuild) => reading.onbuild(),
        Some(Keyword::Run) => run::run(&reading),
        Some(Keyword::Shell) => reading.shell(),
        Some(Keyword::Stopsignal) => reading.only_argument().map(InstructionKind::Stopsignal),
        Some(Keyword::User) => reading.single().map(InstructionKind::User),
        Some(Keyword::Volume) => reading.volume(),
        Some(Keyword::Workdir) => reading.single().map(InstructionKind::Workdir),
    }?;
    Ok(Instruction {
        kind,
        location: parsed.node.location,
        text: parsed.text(parsed.node.text.trim()),
        keyword: reading.keyword(),
        comments: reading.comments(),
    })
}

/// A node, and its keyword in upper case.
struct Reading<'a> {
    parsed: Parsed<'a>,
    node: &'a BorrowedNode<'a>,
    name: &'static str,
}

impl<'a> Reading<'a> {
    fn new(parsed: Parsed<'a>) -> Self {
        Self { parsed, node: parsed.node, name: parsed.keyword.map_or("", Keyword::upper) }
    }

    /// A text of the node to be kept.
    fn text(&self, text: &str) -> Text {
        self.parsed.text(text)
    }

    fn word(&self, word: &BorrowedWord<'_>) -> Text {
        self.text(&word.text)
    }

    /// The keyword as written.
    fn keyword(&self) -> Cow<'static, str> {
        match &self.node.keyword.text[..] {
            text if text == self.name => self.name.into(),
            text => text.to_owned().into(),
        }
    }

    fn comments(&self) -> Vec<Text> {
        self.node.comments.iter().map(|comment| self.text(comment)).collect()
    }

    /// An error about the instruction, with its keyword to blame.
    fn error(&self, id: Code, message: impl Into<String>) -> Failure {
        Failure::new(id, message, Some(self.node.location)).label(self.node.keyword.span)
    }

    /// An error about the flag `name`.
    fn flag_error(&self, id: Code, message: String, name: &str) -> Failure {
        let is_it =
            |text: &str| text.strip_prefix("--").and_then(|text| text.split('=').next()) == Some(name);
        let word = self.node.flags.iter().find(|word| is_it(&word.text));
        self.error(id, message).label(word.map_or(self.node.keyword.span, |word| word.span))
    }

    fn unknown(&self) -> Failure {
        let word = &self.node.keyword.text;
        let mut message = format!("unknown instruction: {word}");
        if let Some(nearest) = suggest(&word.to_lowercase(), KEYWORDS) {
            let nearest =
                if *word == word.to_uppercase() { nearest.to_uppercase() } else { nearest.to_owned() };
            // Writing to a string cannot fail.
            let _ = write!(message, " (did you mean {nearest}?)");
        }
        let mut error = self.error(Code::UnknownInstruction, message);
        for hint in unknown::hints(self.node) {
            error = error.hint(hint);
        }
        error
    }

    /// What is behind the keyword, on one line and not too long.
    fn rest(&self) -> String {
        let text = self.node.arguments.iter().map(|word| &word.text[..]).collect::<Vec<_>>().join(" ");
        text.lines().next().unwrap_or_default().chars().take(80).collect()
    }

    fn flags(&self, known: Known) -> Result<Flags<'a>> {
        Flags::parse(self.node, known)
    }

    fn texts(&self, words: &[BorrowedWord<'_>]) -> Vec<Text> {
        words.iter().map(|word| self.word(word)).collect()
    }

    /// The texts of all arguments.
    fn words(&self) -> Vec<Text> {
        self.texts(&self.node.arguments)
    }

    /// The value of a flag; an empty one is as good as none.
    fn value(&self, flags: &Flags<'_>, name: &str) -> Option<Text> {
        flags.text(name).map(|value| self.text(value))
    }

    fn values(&self, flags: &Flags<'_>, name: &str) -> Vec<Text> {
        flags.values(name).map(|value| self.text(value)).collect()
    }

    fn at_least_one(&self) -> Failure {
        let hint = format!("write {}", example(self.name));
        self.error(Code::MissingArgument, format!("{} requires at least one argument", self.name)).hint(hint)
    }

    fn require_arguments(&self) -> Result<()> {
        if self.node.arguments.is_empty() { Err(self.at_least_one()) } else { Ok(()) }
    }

    /// Destination and sources; at least one source is there.
    fn require_destination(&self) -> Result<()> {
        match self.node.arguments.split_last() {
            Some((_, sources)) if !sources.is_empty() => Ok(()),
            _ => {
                let message = format!(
                    "{} requires at least two arguments, but only one was provided. \
                     Destination could not be determined",
                    self.name
                );
                let given = self.node.arguments.first().map_or("SOURCE", |word| &word.text[..]);
                let hint = format!(
                    "give the destination in the image as the last argument: {} {given} /path/in/the/image",
                    self.name
                );
                let error = self.error(Code::MissingDestination, message);
                let error = match confusable_space(given) {
                    Some(code) => error.hint(format!(
                        "{} holds the character {code}, which looks like a space but is not one: type a plain space",
                        quote(given)
                    )),
                    None if self.node.json => error.hint(format!(
                        "give the destination in the image as the last string: {} [{}, \"/path/in/the/image\"]",
                        self.name,
                        quote(given)
                    )),
                    None => error.hint(hint),
                };
                Err(match self.node.arguments.first() {
                    Some(word) => error.cause(format!("{} is the only argument", quote(&word.text))),
                    None => error,
                })
            }
        }
    }

    fn only_argument(&self) -> Result<Text> {
        if let [word] = &self.node.arguments[..] {
            return Ok(self.word(word));
        }
        let message = format!("{} requires exactly one argument", self.name);
        Err(self.error(Code::ArgumentCount, message).hint(format!("write {}", example(self.name))))
    }

    fn single(&self) -> Result<Text> {
        let word = self.only_argument()?;
        self.flags(&[]).map(|_| word)
    }

    fn list(&self) -> Result<Vec<Text>> {
        self.require_arguments()?;
        self.flags(&[])?;
        Ok(self.words())
    }

    fn exec_or_shell(&self) -> Result<Command> {
        self.flags(&[])?;
        Ok(self.command(&self.node.arguments))
    }

    /// The command that `words` are.
    fn command(&self, words: &[BorrowedWord<'_>]) -> Command {
        if self.node.json {
            return Command::Exec(self.texts(words));
        }
        Command::Shell(words.first().map(|word| self.word(word)).unwrap_or_default())
    }

    fn shell(&self) -> Result<InstructionKind> {
        self.flags(&[])?;
        self.require_arguments()?;
        if !self.node.json {
            let message = "SHELL requires the arguments to be in JSON form";
            let error = self.error(Code::ShellNotJson, message).hint("write SHELL [\"/bin/sh\", \"-c\"]");
            let error = error.hint("JSON takes double quotes, with commas between the strings");
            return Err(match crate::json_fault(&self.rest()) {
                Some(fault) => error.cause(fault),
                None => error.cause(format!("{} is not a JSON list", quote(&self.rest()))),
            });
        }
        Ok(InstructionKind::Shell(self.words()))
    }

    fn volume(&self) -> Result<InstructionKind> {
        self.require_arguments()?;
        self.flags(&[])?;
        if let Some(word) = self.node.arguments.iter().find(|word| word.text.trim().is_empty()) {
            let message = "VOLUME specified can not be an empty string";
            return Err(self
                .error(Code::EmptyVolume, message)
                .label(word.span)
                .hint("name a path, as in VOLUME /data, or remove the instruction"));
        }
        let paths = self.node.arguments.iter().map(|word| self.text(word.text.trim()));
        Ok(InstructionKind::Volume(paths.collect()))
    }

    fn blank_name(&self, word: &BorrowedWord<'_>) -> Failure {
        let hint = format!("put a name before the \"=\": {}", example(self.name));
        self.error(Code::BlankName, format!("{} names can not be blank", self.name))
            .label(word.span)
            .hint(hint)
    }

    fn pairs(&self) -> Result<KeyValues> {
        self.flags(&[])?;
        self.require_arguments()?;
        let (triples, _) = self.node.arguments.as_chunks::<3>();
        if let Some([_, _, sign]) = triples.iter().find(|[key, ..]| key.text.is_empty()) {
            return Err(self.blank_name(sign));
        }
        let pairs = triples.iter().map(|[key, value, _]| (self.word(key), self.word(value))).collect();
        let legacy = triples.iter().any(|[.., sign]| sign.text.is_empty());
        Ok(KeyValues { pairs, legacy })
    }

    fn arg(&self) -> Result<InstructionKind> {
        self.require_arguments()?;
        let is_blank = |word: &&BorrowedWord<'_>| word.text.is_empty() || word.text.starts_with('=');
        if let Some(at) = self.node.arguments.iter().position(|word| is_blank(&word)) {
            let error = self.blank_name(&self.node.arguments[at]);
            let Some(before) = at.checked_sub(1).map(|before| &self.node.arguments[before].text) else {
                return Err(error);
            };
            let value =
                self.node.arguments[at..].iter().take(2).map(|word| &word.text[..]).collect::<String>();
            return Err(error.hint(format!("write no spaces around the \"=\": ARG {before}{value}")));
        }
        let definition = |word: &BorrowedWord<'_>| match word.text.split_once('=') {
            Some((name, default)) => {
                ArgDefinition { name: self.text(name), default: Some(self.text(default)) }
            }
            None => ArgDefinition { name: self.word(word), default: None },
        };
        Ok(InstructionKind::Arg(self.node.arguments.iter().map(definition).collect()))
    }

    fn onbuild(&self) -> Result<InstructionKind> {
        let Some(trigger) = self.node.children.first() else {
            return Err(self.at_least_one());
        };
        self.flags(&[])?;
        let keyword = trigger.keyword.text.to_uppercase();
        let (message, hint) = match &keyword[..] {
            "ONBUILD" => (
                "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned(),
                "write ONBUILD once, before the instruction that should run later: ONBUILD RUN make",
            ),
            "FROM" | "MAINTAINER" => (
                format!("{keyword} isn't allowed as an ONBUILD trigger"),
                "remove the instruction, or write it without ONBUILD; a trigger may be RUN, COPY, ENV and the like",
            ),
            _ => return Ok(InstructionKind::Onbuild(self.trigger_text())),
        };
        Err(self.error(Code::ForbiddenTrigger, message).label(trigger.keyword.span).hint(hint))
    }

    /// The line without `ONBUILD`, and the heredocs below it.
    fn trigger_text(&self) -> Text {
        let line = self.node.text.trim_start();
        let line = line.get(self.node.keyword.text.len()..).unwrap_or_default();
        self.with_bodies(line.trim_start())
    }

    /// A text with the heredocs below it.
    fn with_bodies(&self, text: &str) -> Text {
        if self.node.heredocs.is_empty() {
            return self.text(text);
        }
        let bodies = self.node.heredocs.iter().flat_map(|body| ["\n", &body.content, &body.name]);
        std::iter::once(text).chain(bodies).collect::<String>().into()
    }

    fn stage(&self) -> Result<Stage> {
        let (base, as_keyword, name) = self.stage_name()?;
        let flags = self.flags(&[("platform", Takes::Text)])?;
        Ok(Stage {
            base,
            platform: self.value(&flags, "platform"),
            name: name.as_ref().map(|name| name.to_lowercase()),
            name_as_written: name,
            location: self.node.location,
            keyword: self.keyword(),
            as_keyword,
            text: self.text(self.node.text.trim()),
            comments: self.comments(),
            instructions: Vec::new(),
        })
    }

    /// The base, `AS` and the name behind it, as written.
    fn stage_name(&self) -> Result<(Text, Option<Text>, Option<Text>)> {
        match &self.node.arguments[..] {
            [base] => Ok((self.word(base), None, None)),
            [base, keyword, name] if keyword.text.eq_ignore_ascii_case("as") => {
                if !is_stage_name(&name.text.to_lowercase()) {
                    let message = format!(
                        "invalid name for build stage: {}, name can't start with a number or contain symbols",
                        quote(&name.text)
                    );
                    return Err(self
                        .error(Code::InvalidStageName, message)
                        .label(name.span)
                        .hint("begin the stage's name with a letter, and use letters, digits, '-', '_' and '.' only"));
                }
                Ok((self.word(base), Some(self.word(keyword)), Some(self.word(name))))
            }
            words => {
                let message = "FROM requires either one or three arguments";
                let error = self.error(Code::FromArguments, message);
                let bare = self.node.flags.iter().find(|flag| !flag.text.contains('='));
                if let (Some(flag), Some(value)) = (bare, words.first()) {
                    let written = format!("{}={}", flag.text, value.text);
                    return Err(error
                        .label(flag.span)
                        .cause(format!("{} is read as the base image", quote(&value.text)))
                        .hint(format!("write the value after an equals sign, without spaces: {written}")));
                }
                Err(match words {
                    [] => {
                        error.hint("name the base image: FROM alpine:3.20, or FROM scratch for an empty one")
                    }
                    [_, second, ..] if second.text.starts_with('#') => {
                        error.label(second.span).hint("a comment needs a line of its own")
                    }
                    [image, second, name, more, ..] if second.text.eq_ignore_ascii_case("as") => error
                        .label(more.span)
                        .cause(format!("{} is not expected after {}", quote(&more.text), quote(&name.text)))
                        .hint(format!(
                            "the name of a stage is one word: FROM {} AS {}",
                            image.text, name.text
                        )),
                    [image, second, ..] if second.text.eq_ignore_ascii_case("as") => error
                        .label(second.span)
                        .hint(format!("put the stage's name after AS: FROM {} AS build", image.text)),
                    [image, second, ..] => error
                        .cause(format!(
                            "{} is not expected after {}",
                            quote(&second.text),
                            quote(&image.text)
                        ))
                        .hint(format!(
                            "write FROM IMAGE or FROM IMAGE AS NAME: FROM {} AS {}",
                            image.text, second.text
                        ))
                        .hint("a tag follows the image after a colon, without spaces: alpine:3.20"),
                    [_] => error,
                })
            }
        }
    }
}

/// How an instruction is written.
fn example(name: &str) -> &'static str {
    match name {
        "ARG" => "ARG VERSION=1.0",
        "ENV" => "ENV NAME=value",
        "EXPOSE" => "EXPOSE 8080",
        "HEALTHCHECK" => "HEALTHCHECK CMD command, or HEALTHCHECK NONE",
        "LABEL" => "LABEL name=value",
        "MAINTAINER" => "LABEL org.opencontainers.image.authors=\"name\"",
        "ONBUILD" => "ONBUILD RUN command",
        "SHELL" => "SHELL [\"/bin/sh\", \"-c\"]",
        "STOPSIGNAL" => "STOPSIGNAL SIGTERM",
        "USER" => "USER name, with the name or id of one user",
        "VOLUME" => "VOLUME /data",
        "WORKDIR" => "WORKDIR /app, with the path of one directory",
        _ => "the instruction followed by what it needs",
    }
}

fn is_stage_name(name: &str) -> bool {
    let is_rest = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.');
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(is_rest)
}
