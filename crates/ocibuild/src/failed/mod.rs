//! Why a command failed, as far as its exit code, its output and its root file system tell.

mod paths;
mod programs;
mod texts;

use std::path::{Path, PathBuf};

use ocibuild_dockerfile::{
    Dockerfile, Instruction, InstructionKind, RunCommand, Text, confusable_space, json_fault, nearest,
};
use ocibuild_plan::{MountKind, RunStep, StepNetwork, quote};
use ocibuild_snapshot::Tree;

use crate::advice::{Hint, Setting};
use crate::error::{Code, Error};
use programs::FirstLine;
use texts::{Remedy, TEXTS};

/// Names whose values are not shown.
const SECRETS: [&str; 9] =
    ["password", "passwd", "secret", "token", "apikey", "api_key", "private", "credential", "auth"];

/// As much of a line of output as a cause repeats.
const MAX_REPEATED: usize = 240;

/// Shells by the names of their programs.
const SHELLS: [&str; 4] = ["sh", "bash", "ash", "dash"];

/// Variables that a shell or the executor sets.
const OF_THE_SHELL: [&str; 16] = [
    "HOME", "PATH", "PWD", "OLDPWD", "SHELL", "USER", "RANDOM", "HOSTNAME", "IFS", "PS1", "UID", "EUID",
    "PPID", "LINENO", "OPTARG", "OPTIND",
];

/// What is known of a step that failed.
pub(crate) struct FailedStep<'a> {
    pub(crate) step: &'a RunStep,
    pub(crate) dockerfile: &'a Dockerfile,
    /// The root file system it began with.
    pub(crate) tree: &'a Tree,
    /// Names of variables that hold secrets.
    pub(crate) secret_names: Vec<&'a str>,
    /// Ids of the secrets that the build was given.
    pub(crate) given_secrets: Vec<&'a str>,
    /// Whether the build takes capabilities from its steps.
    pub(crate) drops_capabilities: bool,
    pub(crate) code: i32,
    /// The end of its output.
    pub(crate) output: &'a str,
    /// Whether the build context has a file of this path.
    pub(crate) in_context: &'a dyn Fn(&Path) -> bool,
    /// The program itself could not be started.
    pub(crate) not_started: bool,
}

impl FailedStep<'_> {
    /// Adds to `error` what the environment did to the command, and what can be done.
    pub(crate) fn explain(&self, error: Error, first_line: &FirstLine<'_>) -> Error {
        let error = error.id(Code::StepFailed);
        if let Some((cause, hints)) = self.wrong_form() {
            return hints.into_iter().fold(error.cause(cause), Error::hint);
        }
        let error = self.with_secrets(self.with_environment(error));
        let causes = error.reports()[0].causes.len();
        let error = match self.with_files(error, first_line) {
            Ok(explained) => return explained,
            Err(error) => self.with_code(error, first_line),
        };
        let error = self.with_missing_path(self.with_output(self.with_user(error)));
        let error =
            if error.reports()[0].causes.len() == causes { self.with_last_words(error) } else { error };
        if self.output.trim().is_empty() && !self.not_started && error.reports()[0].hints.is_empty() {
            return error
                .cause("the command printed nothing")
                .hint("put `set -x;` in front of the command to see which part of it fails");
        }
        error
    }

    /// Repeats the line of the output that tells most: one that a hint is about, else the last one.
    fn with_last_words(&self, error: Error) -> Error {
        let lines = || self.output.lines().map(str::trim).filter(|line| !line.is_empty());
        let is_telling = |line: &&str| {
            let lower = line.to_lowercase();
            TEXTS.iter().any(|(texts, _)| texts.iter().any(|text| lower.contains(text)))
        };
        match lines().rev().find(is_telling).or_else(|| lines().next_back()) {
            Some(line) => {
                let short: String = line.chars().take(MAX_REPEATED).collect();
                error.cause(format!("the command says: {short}"))
            }
            None => error,
        }
    }

    /// Whether the command is a JSON list in the file.
    fn is_exec(&self) -> bool {
        let mut runs = self.dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
        runs.any(|instruction| match &instruction.kind {
            InstructionKind::Run(run) => {
                matches!(&run.command, RunCommand::Exec(args) if args.iter().map(Text::as_str).eq(&self.step.args))
            }
            _ => false,
        })
    }

    /// What is wrong with the way the command is written, and what to do about it.
    fn wrong_form(&self) -> Option<(String, Vec<String>)> {
        let args = &self.step.args;
        let (program, last) = (args.first()?, args.last()?.trim_start());
        if let Some(code) = confusable_space(last).filter(|_| self.code == 127) {
            return Some((
                format!("the command holds the character {code}, which looks like a blank and is none"),
                vec!["write plain blanks in its place".to_owned()],
            ));
        }
        if self.is_exec() {
            let is_shell = SHELLS.iter().any(|shell| Path::new(program).ends_with(shell));
            let is_for_shells = |arg: &&String| {
                let is_word = !arg.contains(char::is_whitespace);
                matches!(&arg[..], "&&" | "||" | "|" | ";" | ">" | ">>" | "<")
                    || (is_word && (arg.contains('*') || !names_in(arg).is_empty()))
            };
            let arg = args[1..].iter().find(is_for_shells).filter(|_| !is_shell)?;
            return Some((
                format!("there is no shell behind a JSON list: {arg} stays as it is written"),
                vec![format!("leave the brackets out, so that a shell runs it: RUN {}", args.join(" "))],
            ));
        }
        let is_list = last.starts_with('[') && !last.starts_with("[ ") && !last.starts_with("[[");
        if let Some(fault) = json_fault(last).filter(|_| is_list && args.len() > 1) {
            return Some((
                format!("the command looks like a JSON list, but is none, so that a shell ran it: {fault}"),
                vec![
                    "write straight double quotes, with commas between the strings: [\"program\", \"argument\"]"
                        .to_owned(),
                ],
            ));
        }
        let is_shell = SHELLS.iter().any(|shell| Path::new(program).ends_with(shell));
        if args.len() == 2 && is_shell && !last.starts_with('-') {
            return Some((
                format!(
                    "SHELL [{}] has no \"-c\", so that the shell takes the command for a script",
                    quote(program)
                ),
                vec![format!("write SHELL [{}, \"-c\"]", quote(program))],
            ));
        }
        if args.len() > 2 && last.starts_with('-') && self.code != 127 {
            let word = last.split_whitespace().next().unwrap_or_default();
            return Some((
                format!("the command begins with {word}, which the shell takes for a flag of its own"),
                vec!["the flags of RUN are --mount, --network, --security and --device; a command begins with a program"
                    .to_owned()],
            ));
        }
        None
    }

    /// Secrets that the step asks for and nobody gives.
    fn with_secrets(&self, mut error: Error) -> Error {
        let is_absent = |id: &&str| !self.given_secrets.contains(id);
        let mounts = self.step.mounts.iter().filter(|mount| mount.kind == MountKind::Secret);
        for id in mounts.map(|mount| &mount.id[..]).filter(is_absent) {
            let hint = Hint::from("give it with ").setting(Setting::Secret, format!("id={id},src=FILE"));
            error = error.cause(format!("no secret {id} is given, so that it is not there")).hint(hint);
            if let Some(near) = nearest(id, self.given_secrets.iter().copied()) {
                error = error.hint(format!("did you mean id={near}? That secret is given"));
            }
        }
        error
    }

    fn is_root(&self) -> bool {
        self.step.user.is_empty() || matches!(self.step.user.split(':').next(), Some("root" | "0"))
    }

    /// A step that is not root's may do less.
    fn with_user(&self, error: Error) -> Error {
        let user = &self.step.user;
        let lower = self.output.to_lowercase();
        let texts =
            ["permission denied", "operation not permitted", "are you root", "must be root", "eacces"];
        if self.is_root() || !texts.iter().any(|text| lower.contains(text)) {
            return error;
        }
        error.cause(format!("the step runs as USER {user}, which is not root")).hint(format!(
            "put this RUN in front of USER {user}, or give that user the files: COPY --chown={user}, RUN chown {user}"
        ))
    }

    /// Which variables of `ARG` and `ENV` the command names, and their values.
    fn with_environment(&self, mut error: Error) -> Error {
        let mut shown = Vec::new();
        for name in names_in(&self.step.command).into_iter().take(32) {
            let value = self.step.env.iter().rev().find(|(key, _)| *key == name);
            match value {
                Some((_, value)) => shown.push(format!("{name}={}", self.visible(&name, value))),
                None if self.secret_names.contains(&&name[..]) => shown.push(format!("{name}=(secret)")),
                None if OF_THE_SHELL.contains(&&name[..]) || sets(&self.step.command, &name) => {}
                None => error = self.without_value(error, &name),
            }
        }
        if shown.is_empty() {
            return error;
        }
        shown.truncate(12);
        error.cause(format!("the command ran with {}", shown.join(", ")))
    }

    fn visible(&self, name: &str, value: &str) -> String {
        let lower = name.to_lowercase();
        if self.secret_names.contains(&name) || SECRETS.iter().any(|word| lower.contains(word)) {
            return "(not shown)".to_owned();
        }
        let short: String = value.chars().take(120).collect();
        quote(&short)
    }

    fn without_value(&self, error: Error, name: &str) -> Error {
        let error = error.cause(format!("{name} has no value in this step"));
        let globals: Vec<&str> = self
            .dockerfile
            .global_args
            .iter()
            .flat_map(Instruction::declared)
            .map(|definition| &definition.name[..])
            .collect();
        if globals.contains(&name) {
            return error
                .hint(format!("ARG {name} stands before FROM: repeat `ARG {name}` in this stage to use it"));
        }
        let known = self.step.env.iter().map(|(name, _)| &name[..]).chain(globals);
        match nearest(name, known) {
            Some(known) => error.hint(format!("did you mean ${known}?")),
            None if self.is_declared(name) => error.hint(
                Hint::from("give it a value: ")
                    .setting(Setting::BuildArg, format!("{name}=VALUE"))
                    .text(format!(", or a default in ARG {name}=VALUE")),
            ),
            None if self.is_exported(name) => error.hint(format!(
                "a variable that a RUN sets lasts to the end of that RUN only: use ENV {name}=VALUE"
            )),
            None => error.hint(format!("declare it in this stage: ARG {name}=VALUE or ENV {name}=VALUE")),
        }
    }

    /// Whether some other `RUN` gives the variable a value.
    fn is_exported(&self, name: &str) -> bool {
        let mut all = self.dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
        let sign = format!("{name}=");
        all.any(|instruction| match &instruction.kind {
            InstructionKind::Run(run) => {
                matches!(&run.command, RunCommand::Shell(text) if text.contains(&sign))
            }
            _ => false,
        })
    }

    /// Whether some stage has an `ARG` of this name.
    fn is_declared(&self, name: &str) -> bool {
        let mut all = self.dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
        all.any(|instruction| instruction.declared().iter().any(|definition| definition.name == name))
    }

    fn with_code(&self, error: Error, first_line: &FirstLine<'_>) -> Error {
        match self.code {
            126 => self.not_executable(error, first_line),
            127 => self.no_program(error, first_line),
            137 => error.hint("the process was killed (SIGKILL): is there enough memory? Give the host more, or run fewer jobs"),
            139 => error.hint("the program crashed (SIGSEGV): is it for this architecture and this C library?"),
            130 | 143 => error.hint("something outside ended the process"),
            _ => error,
        }
    }

    fn no_program(&self, error: Error, first_line: &FirstLine<'_>) -> Error {
        if self.not_started {
            let program = self.step.args.first().map_or("", |program| &program[..]);
            if self.find(program).is_some() {
                return self.bad_interpreter(error, program, first_line);
            }
            let is_shell = SHELLS.iter().any(|shell| Path::new(program).ends_with(shell));
            let other = ["/bin/sh", "/bin/bash"].into_iter().find(|other| self.find(other).is_some());
            return if let Some(other) = other.filter(|_| is_shell) {
                error.cause(format!("the image has no {program}")).hint(format!(
                    "use the shell there is, SHELL [\"{other}\", \"-c\"], or install {program} in an earlier RUN"
                ))
            } else if is_shell {
                error
                    .cause(format!("the image has no {program}"))
                    .hint("choose a base image with a shell, or COPY one in; FROM scratch has nothing in it")
                    .hint("without a shell write RUN [\"/program\", \"argument\"], or name another with SHELL [\"/busybox\", \"sh\", \"-c\"]")
            } else {
                self.absent(error, program)
            };
        }
        match missing_program(self.output) {
            Some(program) if self.find(&program).is_some() => {
                self.bad_interpreter(error, &program, first_line)
            }
            Some(program) => self.absent(error, &program),
            None => error
                .hint("the shell did not find a program: install it in an earlier RUN, or check its name"),
        }
    }

    /// A script whose first line names what the image does not have.
    fn bad_interpreter(&self, error: Error, program: &str, first_line: &FirstLine<'_>) -> Error {
        let line = self.find(program).and_then(|path| first_line(&path)).unwrap_or_default();
        let Some(interpreter) = line.strip_prefix(b"#!") else {
            return error
                .cause(format!("{program} is there, but what it needs to run is not"))
                .hint("it is linked to libraries or a loader that the image lacks: build it statically, or for this image");
        };
        let text = String::from_utf8_lossy(interpreter).into_owned();
        let wanted = text.split_whitespace().next().unwrap_or_default().to_owned();
        error
            .cause(format!("{program} asks for the interpreter {wanted}, which the image does not have"))
            .hint(format!(
                "install {wanted} in an earlier RUN, or change the first line of {program}, as to #!/bin/sh"
            ))
    }

    fn not_executable(&self, error: Error, first_line: &FirstLine<'_>) -> Error {
        let named =
            if self.not_started { self.step.args.first().cloned() } else { refused_program(self.output) };
        let Some(program) = named else {
            return error.hint("the program cannot be executed: give it the mode for it with RUN chmod +x or COPY --chmod=755");
        };
        let Some(path) = self.find(&program) else {
            return error
                .hint(format!("check {program}: it cannot be executed; chmod +x, or COPY --chmod=755"));
        };
        let mode = self.tree.lookup(&path).map_or(0, |id| self.tree.node(id).metadata.mode);
        if self.tree.lookup(&path).is_some_and(|id| self.tree.is_directory(id)) {
            return error.cause(format!("{program} is a directory")).hint("name a program in it");
        }
        if mode & 0o111 == 0 {
            return error
                .cause(format!("{program} has mode {:04o}, without x", mode & 0o7777))
                .hint(format!("make it executable: COPY --chmod=755, or RUN chmod +x {program} before"));
        }
        match first_line(&path) {
            Some(line) if line.starts_with(b"#!") || line.starts_with(b"\x7fELF") => error.hint(format!(
                "{program} is for another architecture, or the USER in effect may not execute it: look at FROM --platform= and USER"
            )),
            _ => error.hint(format!("{program} has no first line like #!/bin/sh: add one, or run it as `sh {program}`")),
        }
    }

    fn with_output(&self, mut error: Error) -> Error {
        let lower = self.output.to_lowercase();
        let is_offline = self.step.network == StepNetwork::None;
        let fitting = TEXTS.iter().filter(|(texts, _)| texts.iter().any(|text| lower.contains(text)));
        let fitting: Vec<Remedy> = fitting.take(3).map(|(_, remedy)| *remedy).collect();
        // What one shell cannot read may be written for another one.
        let needs_bash = fitting.contains(&Remedy::Bash);
        for remedy in fitting.into_iter().filter(|remedy| !(needs_bash && *remedy == Remedy::Readable)) {
            error = error.hint(match remedy {
                Remedy::Root if self.is_root() && self.drops_capabilities => "the step is root's, but this build drops capabilities of its steps, and what failed may take one of them".into(),
                Remedy::Root if self.is_root() => Hint::from(
                    "the step is root's, but may not do that: it takes RUN --security=insecure, and ",
                )
                .setting(Setting::Allow, "security.insecure"),
                Remedy::Network if is_offline => "the step has no network (--network=none): drop that, or bring the files with COPY or ADD".into(),
                remedy => remedy.hint(),
            });
        }
        if has_lone_cd(self.dockerfile, &self.step.command) {
            error = error.hint("`RUN cd DIR` lasts to the end of its own RUN only: use WORKDIR DIR");
        }
        error
    }

    /// The program there is whose name is nearest.
    fn similar(&self, program: &str) -> Option<String> {
        let (directories, name): (Vec<PathBuf>, &str) =
            if let Some((directory, name)) = program.rsplit_once('/') {
                (vec![Path::new(&self.step.cwd).join(directory)], name)
            } else {
                (self.path().split(':').map(PathBuf::from).collect(), program)
            };
        let mut names: Vec<String> = Vec::new();
        for directory in directories {
            let Some(id) = self.tree.resolve(&directory, true).ok().and_then(|resolved| resolved.node) else {
                continue;
            };
            if self.tree.is_directory(id) {
                names.extend(self.tree.children(id).filter_map(|(name, _)| Some(name.to_str()?.to_owned())));
            }
        }
        // Programs have short names, and many of them: one that begins with another letter was hardly meant.
        let begin = name.chars().next();
        let names = names.iter().map(String::as_str).filter(|other| other.chars().next() == begin);
        nearest(name, names).map(str::to_owned)
    }
}

/// The names of variables that a command refers to, each once.
fn names_in(command: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut rest = command;
    while let Some(at) = rest.find('$') {
        let is_escaped = rest[..at].ends_with('\\');
        rest = &rest[at + 1..];
        let text = rest.strip_prefix('{').unwrap_or(rest);
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        let name = &text[..end];
        if !is_escaped
            && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && !names.iter().any(|known| known == name)
        {
            names.push(name.to_owned());
        }
    }
    names
}

/// Whether a command may give the variable a value itself, or names what to take without one.
fn sets(command: &str, name: &str) -> bool {
    let forms = [
        format!("{name}="),
        format!("for {name} "),
        format!("read {name}"),
        format!("{{{name}:"),
        format!("read -r {name}"),
    ];
    forms.iter().any(|form| command.contains(form.as_str()))
}

/// The program that a shell says it did not find.
fn missing_program(output: &str) -> Option<String> {
    output.lines().rev().find_map(|line| {
        let line = line.trim_end();
        let before = line
            .strip_suffix(": not found")
            .or_else(|| line.strip_suffix(": command not found"))
            .or_else(|| line.strip_suffix(": No such file or directory"))
            .or_else(|| line.strip_suffix(": inaccessible or not found"))?;
        let program = before.rsplit(": ").next()?.trim();
        (!program.is_empty()).then(|| program.to_owned())
    })
}

/// The program that a shell says it may not execute.
fn refused_program(output: &str) -> Option<String> {
    output.lines().rev().find_map(|line| {
        let lower = line.to_lowercase();
        let end = lower.find(": permission denied").or_else(|| lower.find(": exec format error"))?;
        let program = line.get(..end)?.rsplit(": ").next()?.trim();
        (!program.is_empty() && !program.contains(char::is_whitespace)).then(|| program.to_owned())
    })
}

/// Whether a `RUN` above the one with `command` does nothing but change its directory.
fn has_lone_cd(dockerfile: &Dockerfile, command: &str) -> bool {
    let text = |instruction: &ocibuild_dockerfile::Instruction| match &instruction.kind {
        InstructionKind::Run(run) => match &run.command {
            RunCommand::Shell(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    };
    dockerfile.stages.iter().any(|stage| {
        let runs: Vec<Text> = stage.instructions.iter().filter_map(text).collect();
        let is_this = |run: &Text| !run.is_empty() && command.ends_with(run.as_str());
        let cd = runs
            .iter()
            .position(|run| run.trim_start().starts_with("cd ") && !run.contains(['&', ';', '\n']));
        cd.is_some_and(|cd| runs.iter().skip(cd + 1).any(is_this))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_command() {
        assert_eq!(names_in("echo $A ${B} ${C:-x} \\$D $1 $$ $(cmd) $A"), ["A", "B", "C"]);
        assert!(
            sets("A=1; echo $A", "A") && sets("for f in *; do echo $f; done", "f") && !sets("echo $A", "A")
        );
    }

    #[test]
    fn programs_in_outputs() {
        for (output, program) in [
            ("/bin/sh: 1: sudo: not found\n", Some("sudo")),
            ("/bin/sh: foo: not found", Some("foo")),
            ("bash: line 1: bar: command not found\n", Some("bar")),
            ("sh: ./x.sh: not found", Some("./x.sh")),
            ("all is well", None),
        ] {
            assert_eq!(missing_program(output).as_deref(), program, "{output}");
        }
        assert_eq!(refused_program("/bin/sh: ./x.sh: Permission denied").as_deref(), Some("./x.sh"));
    }
}
