//! Meaning: from a node to an instruction.

mod duration;
mod flags;
mod healthcheck;
mod run;
mod transfer;
mod unknown;

use std::fmt::Write;

use flags::{Flags, Known, Takes};
pub(crate) use unknown::is_no_word;

use crate::diagnostic::Failure;

use crate::quote::quote;
use crate::{
    ArgDefinition, Command, Instruction, InstructionKind, KeyValues, Node, Stage, keyword, odd_blank, suggest,
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

/// What a node means.
#[derive(Debug)]
pub(crate) enum Meaning {
    /// A `FROM`, the stage still without instructions.
    Stage(Stage),
    /// Anything else.
    Instruction(Instruction),
}

/// Finds out what `node` means. If it means something, its texts are taken out of it.
pub(crate) fn read(node: &mut Node) -> Result<Meaning> {
    let name = keyword::known(&node.keyword.text).map_or("", |(_, upper)| upper);
    let mut reading = Reading { node, name };
    if name == "FROM" {
        return reading.stage().map(Meaning::Stage);
    }
    Ok(Meaning::Instruction(Instruction {
        kind: reading.kind()?,
        location: node.location,
        text: trimmed(std::mem::take(&mut node.text)),
        keyword: std::mem::take(&mut node.keyword.text),
        comments: std::mem::take(&mut node.comments),
    }))
}

fn trimmed(text: String) -> String {
    match text.trim() {
        trimmed if trimmed.len() == text.len() => text,
        trimmed => trimmed.to_owned(),
    }
}

/// A node, and its keyword in upper case.
struct Reading<'a> {
    node: &'a mut Node,
    name: &'a str,
}

impl Reading<'_> {
    fn kind(&mut self) -> Result<InstructionKind> {
        match self.name {
            "ADD" => transfer::add(self),
            "ARG" => self.arg(),
            "CMD" => self.exec_or_shell().map(InstructionKind::Cmd),
            "COPY" => transfer::copy(self),
            "ENTRYPOINT" => self.exec_or_shell().map(InstructionKind::Entrypoint),
            "ENV" => self.pairs().map(InstructionKind::Env),
            "EXPOSE" => self.list().map(InstructionKind::Expose),
            "HEALTHCHECK" => healthcheck::healthcheck(self),
            "LABEL" => self.pairs().map(InstructionKind::Label),
            "MAINTAINER" => self.single().map(InstructionKind::Maintainer),
            "ONBUILD" => self.onbuild(),
            "RUN" => run::run(self),
            "SHELL" => self.shell(),
            "STOPSIGNAL" => self.only_argument().map(InstructionKind::Stopsignal),
            "USER" => self.single().map(InstructionKind::User),
            "VOLUME" => self.volume(),
            "WORKDIR" => self.single().map(InstructionKind::Workdir),
            _ => Err(self.unknown()),
        }
    }

    /// An error about the instruction, with its keyword to blame.
    fn error(&self, id: &'static str, message: impl Into<String>) -> Failure {
        Failure::new(id, message, Some(self.node.location)).label(self.node.keyword.span)
    }

    /// An error about the flag `name`.
    fn flag_error(&self, id: &'static str, message: String, name: &str) -> Failure {
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
        let mut error = self.error("unknown-instruction", message);
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

    fn flags(&self, known: Known) -> Result<Flags> {
        Flags::parse(self.node, known)
    }

    /// Takes the arguments out.
    fn words(&mut self) -> impl Iterator<Item = String> + use<> {
        std::mem::take(&mut self.node.arguments).into_iter().map(|word| word.text)
    }

    fn at_least_one(&self) -> Failure {
        let hint = format!("write {}", example(self.name));
        self.error("missing-argument", format!("{} requires at least one argument", self.name)).hint(hint)
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
                let error = self.error("missing-destination", message);
                let error = match odd_blank(given) {
                    Some(code) => error.hint(format!(
                        "{} holds the character {code}, which looks like a blank and is none: write a plain blank",
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
                    Some(word) => error.cause(format!("{} is all that is given", quote(&word.text))),
                    None => error,
                })
            }
        }
    }

    fn only_argument(&mut self) -> Result<String> {
        if let [word] = &mut self.node.arguments[..] {
            return Ok(std::mem::take(&mut word.text));
        }
        let message = format!("{} requires exactly one argument", self.name);
        Err(self.error("argument-count", message).hint(format!("write {}", example(self.name))))
    }

    fn single(&mut self) -> Result<String> {
        let word = self.only_argument()?;
        self.flags(&[]).map(|_| word)
    }

    fn list(&mut self) -> Result<Vec<String>> {
        self.require_arguments()?;
        self.flags(&[])?;
        Ok(self.words().collect())
    }

    fn exec_or_shell(&mut self) -> Result<Command> {
        self.flags(&[])?;
        Ok(self.command())
    }

    fn command(&mut self) -> Command {
        if self.node.json {
            return Command::Exec(self.words().collect());
        }
        Command::Shell(self.words().next().unwrap_or_default())
    }

    fn shell(&mut self) -> Result<InstructionKind> {
        self.flags(&[])?;
        self.require_arguments()?;
        if !self.node.json {
            let message = "SHELL requires the arguments to be in JSON form";
            let error = self.error("shell-not-json", message).hint("write SHELL [\"/bin/sh\", \"-c\"]");
            let error = error.hint("JSON takes double quotes, with commas between the strings");
            return Err(match crate::json_fault(&self.rest()) {
                Some(fault) => error.cause(fault),
                None => error.cause(format!("{} is no JSON list", quote(&self.rest()))),
            });
        }
        Ok(InstructionKind::Shell(self.words().collect()))
    }

    fn volume(&mut self) -> Result<InstructionKind> {
        self.require_arguments()?;
        self.flags(&[])?;
        if let Some(word) = self.node.arguments.iter().find(|word| word.text.trim().is_empty()) {
            let message = "VOLUME specified can not be an empty string";
            return Err(self
                .error("empty-volume", message)
                .label(word.span)
                .hint("name a path, as in VOLUME /data, or drop the instruction"));
        }
        Ok(InstructionKind::Volume(self.words().map(trimmed).collect()))
    }

    fn blank_name(&self, word: &crate::Word) -> Failure {
        let hint = format!("put a name in front of the \"=\": {}", example(self.name));
        self.error("blank-name", format!("{} names can not be blank", self.name)).label(word.span).hint(hint)
    }

    fn pairs(&mut self) -> Result<KeyValues> {
        self.flags(&[])?;
        self.require_arguments()?;
        let mut triples = self.node.arguments.chunks_exact(3);
        if let Some([_, _, sign]) = triples.find(|triple| triple[0].text.is_empty()) {
            return Err(self.blank_name(sign));
        }
        let mut pairs = Vec::with_capacity(self.node.arguments.len() / 3);
        let mut legacy = false;
        let mut words = self.words();
        while let (Some(key), Some(value), Some(sign)) = (words.next(), words.next(), words.next()) {
            legacy |= sign.is_empty();
            pairs.push((key, value));
        }
        Ok(KeyValues { pairs, legacy })
    }

    fn arg(&mut self) -> Result<InstructionKind> {
        self.require_arguments()?;
        let is_blank = |word: &&crate::Word| word.text.is_empty() || word.text.starts_with('=');
        if let Some(at) = self.node.arguments.iter().position(|word| is_blank(&word)) {
            let error = self.blank_name(&self.node.arguments[at]);
            let Some(before) = at.checked_sub(1).map(|before| &self.node.arguments[before].text) else {
                return Err(error);
            };
            let value =
                self.node.arguments[at..].iter().take(2).map(|word| &word.text[..]).collect::<String>();
            return Err(error.hint(format!("no blanks stand around the \"=\": ARG {before}{value}")));
        }
        let definition = |mut name: String| {
            let default = name.find('=').map(|sign| {
                let default = name[sign + 1..].to_owned();
                name.truncate(sign);
                default
            });
            ArgDefinition { name, default }
        };
        Ok(InstructionKind::Arg(self.words().map(definition).collect()))
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
                "write ONBUILD once, in front of the instruction that is to run later: ONBUILD RUN make",
            ),
            "FROM" | "MAINTAINER" => (
                format!("{keyword} isn't allowed as an ONBUILD trigger"),
                "remove the instruction, or write it without ONBUILD; a trigger may be RUN, COPY, ENV and the like",
            ),
            _ => return Ok(InstructionKind::Onbuild(self.trigger_text())),
        };
        Err(self.error("forbidden-trigger", message).label(trigger.keyword.span).hint(hint))
    }

    /// The line without `ONBUILD`, and the heredocs below it.
    fn trigger_text(&self) -> String {
        let line = self.node.text.trim_start();
        let line = line.get(self.node.keyword.text.len()..).unwrap_or_default();
        let mut text = line.trim_start().to_owned();
        for body in &self.node.heredocs {
            text.extend(["\n", &body.content, &body.name]);
        }
        text
    }

    fn stage(&mut self) -> Result<Stage> {
        let (as_keyword, name) = self.stage_name()?;
        let flags = self.flags(&[("platform", Takes::Text)])?;
        Ok(Stage {
            base: self.words().next().unwrap_or_default(),
            platform: flags.text("platform"),
            name: name.as_ref().map(|name| name.to_lowercase()),
            name_as_written: name,
            location: self.node.location,
            keyword: std::mem::take(&mut self.node.keyword.text),
            as_keyword,
            text: trimmed(std::mem::take(&mut self.node.text)),
            comments: std::mem::take(&mut self.node.comments),
            instructions: Vec::new(),
        })
    }

    /// `AS` and the name behind it, as written.
    fn stage_name(&self) -> Result<(Option<String>, Option<String>)> {
        match &self.node.arguments[..] {
            [_] => Ok((None, None)),
            [_, keyword, name] if keyword.text.eq_ignore_ascii_case("as") => {
                if !is_stage_name(&name.text.to_lowercase()) {
                    let message = format!(
                        "invalid name for build stage: {}, name can't start with a number or contain symbols",
                        quote(&name.text)
                    );
                    return Err(self
                        .error("invalid-stage-name", message)
                        .label(name.span)
                        .hint("begin the stage's name with a letter, and use letters, digits, '-', '_' and '.' only"));
                }
                Ok((Some(keyword.text.clone()), Some(name.text.clone())))
            }
            words => {
                let message = "FROM requires either one or three arguments";
                let error = self.error("from-arguments", message);
                let bare = self.node.flags.iter().find(|flag| !flag.text.contains('='));
                if let (Some(flag), Some(value)) = (bare, words.first()) {
                    let written = format!("{}={}", flag.text, value.text);
                    return Err(error
                        .label(flag.span)
                        .cause(format!("{} is taken for the base image", quote(&value.text)))
                        .hint(format!("write the value behind an equals sign, without blanks: {written}")));
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
                        .cause(format!("{} is not expected behind {}", quote(&more.text), quote(&name.text)))
                        .hint(format!(
                            "the name of a stage is one word: FROM {} AS {}",
                            image.text, name.text
                        )),
                    [image, second, ..] if second.text.eq_ignore_ascii_case("as") => error
                        .label(second.span)
                        .hint(format!("put the stage's name behind AS: FROM {} AS build", image.text)),
                    [image, second, ..] => error
                        .cause(format!(
                            "{} is not expected behind {}",
                            quote(&second.text),
                            quote(&image.text)
                        ))
                        .hint(format!(
                            "write FROM IMAGE or FROM IMAGE AS NAME: FROM {} AS {}",
                            image.text, second.text
                        ))
                        .hint("a tag is joined to the image by a colon without blanks: alpine:3.20"),
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
        _ => "the instruction with what it needs behind it",
    }
}

fn is_stage_name(name: &str) -> bool {
    let is_rest = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.');
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(is_rest)
}
