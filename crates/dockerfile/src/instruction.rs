//! Instructions with their meaning: what the syntax tree says once keywords, flags and counts are checked.
//!
//! Nothing here is expanded: words are as they stand in the file, quotes and all, so that the same instruction
//! can be carried out against different environments. Expansion is [`crate::expand`]'s.

use std::borrow::Cow;

use crate::{Location, Text};

/// One instruction of a stage, or an `ARG` before the first `FROM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// What it asks for.
    pub kind: InstructionKind,
    /// Where it stands, heredoc bodies included.
    pub location: Location,
    /// The keyword as written (`run`, `RUN`, `Run`).
    pub keyword: Cow<'static, str>,
    /// The instruction's text with continuation lines joined, without heredoc bodies: what progress shows.
    pub text: Text,
    /// The comment block directly above, one line each, without `#` and the blanks around.
    pub comments: Vec<Text>,
}

impl Instruction {
    /// What an `ARG` declares; nothing for any other instruction.
    pub fn declared(&self) -> &[ArgDefinition] {
        match &self.kind {
            InstructionKind::Arg(definitions) => definitions,
            _ => &[],
        }
    }
}

/// The instructions of the Dockerfile language, `FROM` aside, which opens a [`Stage`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InstructionKind {
    /// `ARG name[=default]…`
    Arg(Vec<ArgDefinition>),
    /// `ENV key=value…`
    Env(KeyValues),
    /// `LABEL key=value…`
    Label(KeyValues),
    /// `RUN`
    Run(Box<Run>),
    /// `COPY`
    Copy(Box<Copy>),
    /// `ADD`
    Add(Box<Add>),
    /// `CMD`
    Cmd(Command),
    /// `ENTRYPOINT`
    Entrypoint(Command),
    /// `SHELL ["…"]`
    Shell(Vec<Text>),
    /// `EXPOSE port…`, words as written.
    Expose(Vec<Text>),
    /// `VOLUME path…`
    Volume(Vec<Text>),
    /// `USER name`
    User(Text),
    /// `WORKDIR path`
    Workdir(Text),
    /// `STOPSIGNAL signal`
    Stopsignal(Text),
    /// `MAINTAINER name`
    Maintainer(Text),
    /// `HEALTHCHECK`
    Healthcheck(Box<Healthcheck>),
    /// `ONBUILD`, with the trigger's text as it is stored in an image.
    Onbuild(Text),
}

/// One name of an `ARG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDefinition {
    /// The name, never expanded and never unquoted.
    pub name: Text,
    /// The default as written; `None` without `=`.
    pub default: Option<Text>,
}

/// Pairs of `ENV` and `LABEL`, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValues {
    /// Key and value as written.
    pub pairs: Vec<(Text, Text)>,
    /// Written in the legacy form `ENV key value`.
    pub legacy: bool,
}

/// A command line in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The rest of the line, handed to the shell in effect.
    Shell(Text),
    /// A JSON list: the argument vector itself.
    Exec(Vec<Text>),
}

/// `RUN` with its flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What runs.
    pub command: RunCommand,
    /// Values of `--mount`, as written after the quotes of the flag are gone.
    pub mounts: Vec<Text>,
    /// Value of `--network`.
    pub network: Option<RunNetwork>,
    /// Value of `--security`.
    pub security: Option<RunSecurity>,
    /// Values of `--device`.
    pub devices: Vec<Text>,
}

/// The command of a `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunCommand {
    /// Shell form; heredocs other than a script are already rebuilt into the text.
    Shell(Text),
    /// Exec form.
    Exec(Vec<Text>),
    /// A heredoc that begins with `#!`: a file of this name and content, run by the shell as `/dev/pipes/NAME`.
    Script {
        /// The delimiter, which names the file.
        name: Text,
        /// The file's content.
        content: Text,
    },
}

/// `RUN --network=…`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunNetwork {
    /// The mode of the whole build.
    Default,
    /// Loopback only.
    None,
    /// The host's.
    Host,
}

/// `RUN --security=…`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunSecurity {
    /// The default confinement.
    Sandbox,
    /// All capabilities, no filter.
    Insecure,
}

/// What `COPY` and `ADD` share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Sources as written, without heredocs.
    pub sources: Vec<Text>,
    /// Heredoc sources, in order; they come after all others.
    pub heredocs: Vec<Heredoc>,
    /// Destination as written.
    pub destination: Text,
    /// Value of `--chown`.
    pub chown: Option<Text>,
    /// Value of `--chmod`.
    pub chmod: Option<Text>,
    /// `--link`
    pub link: bool,
    /// Values of `--exclude`.
    pub excludes: Vec<Text>,
}

/// `COPY`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Sources, destination and the flags `ADD` has too.
    pub transfer: Transfer,
    /// Value of `--from`; an empty one is `None`.
    pub from: Option<Text>,
    /// `--parents`
    pub parents: bool,
}

/// `ADD`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Add {
    /// Sources, destination and the flags `COPY` has too.
    pub transfer: Transfer,
    /// Value of `--checksum`.
    pub checksum: Option<Text>,
    /// `--keep-git-dir`
    pub keep_git_dir: Option<bool>,
    /// `--unpack`
    pub unpack: Option<bool>,
}

/// A heredoc and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without quotes: the end line, and a file's name in `COPY`.
    pub name: Text,
    /// Body as data, leading tabs removed already where `chomp` asks for it.
    pub content: Text,
    /// Whether the body is expanded (the delimiter has no quotes).
    pub expand: bool,
    /// `<<-`
    pub chomp: bool,
    /// Digits before `<<`, 0 without.
    pub file_descriptor: u64,
}

/// `HEALTHCHECK`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`
    None,
    /// `HEALTHCHECK [options] CMD …`
    Command {
        /// The command.
        command: Command,
        /// `--interval` in nanoseconds, 0 when not given.
        interval: i64,
        /// `--timeout` in nanoseconds.
        timeout: i64,
        /// `--start-period` in nanoseconds.
        start_period: i64,
        /// `--start-interval` in nanoseconds.
        start_interval: i64,
        /// `--retries`
        retries: i64,
    },
}

/// A `FROM` and the instructions below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Image name or stage name as written, not expanded.
    pub base: Text,
    /// Value of `--platform` as written.
    pub platform: Option<Text>,
    /// The name after `AS`, in lower case.
    pub name: Option<String>,
    /// The name after `AS` as written.
    pub name_as_written: Option<Text>,
    /// The `FROM` line.
    pub location: Location,
    /// The keyword `FROM` as written.
    pub keyword: Cow<'static, str>,
    /// The keyword `AS` as written.
    pub as_keyword: Option<Text>,
    /// The `FROM` line's text with continuation lines joined.
    pub text: Text,
    /// The comment block above `FROM`.
    pub comments: Vec<Text>,
    /// What follows, up to the next `FROM`.
    pub instructions: Vec<Instruction>,
}
