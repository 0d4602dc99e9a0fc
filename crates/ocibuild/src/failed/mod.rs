//! Why a command failed, as far as its exit code, its output and its root file system tell: facts, of which
//! [`advice`](crate::advice) makes words.

mod paths;
mod programs;
mod texts;

use std::path::{Path, PathBuf};

use ocibuild_dockerfile::{
    Dockerfile, Instruction, InstructionKind, RunCommand, Text, confusable_space, json_fault, nearest,
};
use ocibuild_executor::Exceeded;
use ocibuild_plan::{MountKind, RunStep, StepNetwork};
use ocibuild_snapshot::Tree;

use crate::failure::{StepFact, Symptom, UnsetReason, VariableValue};
use programs::FirstLine;
use texts::TEXTS;

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
    /// Its programs are for another platform, and that may be the reason.
    /// What is known of it already.
    pub(crate) known: &'a [StepFact],
}

/// Whether a process was killed for memory.
fn lacks_memory(fact: &StepFact) -> bool {
    matches!(fact, StepFact::Exceeded(Exceeded::Memory { .. } | Exceeded::MemoryAround { .. }))
}

impl FailedStep<'_> {
    /// What the environment did to the command, what its files are, and what it said.
    pub(crate) fn facts(&self, first_line: &FirstLine<'_>) -> Vec<StepFact> {
        if let Some(fact) = self.wrong_form() {
            return vec![fact];
        }
        let mut facts = self.absent_secrets();
        facts.extend(self.environment());
        if let Some(fact) = self.files(first_line) {
            facts.push(fact);
            return facts;
        }
        let circumstances = facts.len();
        facts.extend(self.of_code(first_line));
        facts.extend(self.user());
        facts.extend(self.said());
        facts.extend(self.missing_path());
        if !facts[circumstances..].iter().any(StepFact::is_reason) {
            facts.extend(self.last_words());
        }
        let has_advice =
            !self.known.is_empty() || facts.iter().any(|fact| !matches!(fact, StepFact::Variables(_)));
        if self.output.trim().is_empty() && !self.not_started && !has_advice {
            facts.push(StepFact::Silent);
        }
        facts
    }

    /// The line of the output that tells most: one that is known to tell something, else the last one.
    fn last_words(&self) -> Option<StepFact> {
        let lines = || self.output.lines().map(str::trim).filter(|line| !line.is_empty());
        let is_telling = |line: &&str| {
            let lower = line.to_lowercase();
            TEXTS.iter().any(|(texts, _)| texts.iter().any(|text| lower.contains(text)))
        };
        let line = lines().rev().find(is_telling).or_else(|| lines().next_back())?;
        Some(StepFact::LastWords { line: line.chars().take(MAX_REPEATED).collect() })
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

    /// What is wrong with the way the command is written.
    fn wrong_form(&self) -> Option<StepFact> {
        let args = &self.step.args;
        let (program, last) = (args.first()?, args.last()?.trim_start());
        if let Some(code) = confusable_space(last).filter(|_| self.code == 127) {
            return Some(StepFact::ConfusableSpace { code });
        }
        let is_shell = SHELLS.iter().any(|shell| Path::new(program).ends_with(shell));
        if self.is_exec() {
            let is_for_shells = |arg: &&String| {
                let is_word = !arg.contains(char::is_whitespace);
                matches!(&arg[..], "&&" | "||" | "|" | ";" | ">" | ">>" | "<")
                    || (is_word && (arg.contains('*') || !names_in(arg).is_empty()))
            };
            let word = args[1..].iter().find(is_for_shells).filter(|_| !is_shell)?;
            return Some(StepFact::NoShell { word: word.clone(), command: args.join(" ") });
        }
        let is_list = last.starts_with('[') && !last.starts_with("[ ") && !last.starts_with("[[");
        if let Some(fault) = json_fault(last).filter(|_| is_list && args.len() > 1) {
            return Some(StepFact::BrokenJson { fault });
        }
        if args.len() == 2 && is_shell && !last.starts_with('-') {
            return Some(StepFact::ShellWithoutFlag { shell: program.clone() });
        }
        if args.len() > 2 && last.starts_with('-') && self.code != 127 {
            let word = last.split_whitespace().next().unwrap_or_default().to_owned();
            return Some(StepFact::LeadingFlag { word });
        }
        None
    }

    /// Secrets that the step asks for and nobody gives.
    fn absent_secrets(&self) -> Vec<StepFact> {
        let is_absent = |id: &&str| !self.given_secrets.contains(id);
        let mounts = self.step.mounts.iter().filter(|mount| mount.kind == MountKind::Secret);
        let absent = |id: &str| StepFact::SecretAbsent {
            id: id.to_owned(),
            nearest: nearest(id, self.given_secrets.iter().copied()).map(str::to_owned),
        };
        mounts.map(|mount| &mount.id[..]).filter(is_absent).map(absent).collect()
    }

    fn is_root(&self) -> bool {
        self.step.user.is_empty() || matches!(self.step.user.split(':').next(), Some("root" | "0"))
    }

    /// A step that is not root's may do less.
    fn user(&self) -> Option<StepFact> {
        let lower = self.output.to_lowercase();
        let texts =
            ["permission denied", "operation not permitted", "are you root", "must be root", "eacces"];
        let is_denied = !self.is_root() && texts.iter().any(|text| lower.contains(text));
        is_denied.then(|| StepFact::NotRoot { user: self.step.user.clone() })
    }

    /// Which variables of `ARG` and `ENV` the command names: those without a value, then the others with theirs.
    fn environment(&self) -> Vec<StepFact> {
        let (mut facts, mut shown) = (Vec::new(), Vec::new());
        for name in names_in(&self.step.command).into_iter().take(32) {
            let value = self.step.env.iter().rev().find(|(key, _)| *key == name);
            match value {
                Some((_, value)) => {
                    let value = self.visible(&name, value);
                    shown.push((name, value));
                }
                None if self.secret_names.contains(&&name[..]) => shown.push((name, VariableValue::Secret)),
                None if OF_THE_SHELL.contains(&&name[..]) || sets(&self.step.command, &name) => {}
                None => facts.push(StepFact::Unset { reason: self.reason_of_unset(&name), name }),
            }
        }
        shown.truncate(12);
        if !shown.is_empty() {
            facts.push(StepFact::Variables(shown));
        }
        facts
    }

    fn visible(&self, name: &str, value: &str) -> VariableValue {
        let lower = name.to_lowercase();
        if self.secret_names.contains(&name) || SECRETS.iter().any(|word| lower.contains(word)) {
            return VariableValue::Hidden;
        }
        VariableValue::Shown(value.chars().take(120).collect())
    }

    fn reason_of_unset(&self, name: &str) -> UnsetReason {
        let globals: Vec<&str> = self
            .dockerfile
            .global_args
            .iter()
            .flat_map(Instruction::declared)
            .map(|definition| &definition.name[..])
            .collect();
        if globals.contains(&name) {
            return UnsetReason::Global;
        }
        let known = self.step.env.iter().map(|(name, _)| &name[..]).chain(globals);
        match nearest(name, known) {
            Some(known) => UnsetReason::Misspelt(known.to_owned()),
            None if self.is_declared(name) => UnsetReason::NoDefault,
            None if self.is_exported(name) => UnsetReason::OtherStep,
            None => UnsetReason::Undeclared,
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

    fn of_code(&self, first_line: &FirstLine<'_>) -> Option<StepFact> {
        match self.code {
            126 => Some(self.not_executable(first_line)),
            127 => Some(self.no_program(first_line)),
            137 if !self.known.iter().any(lacks_memory) => Some(StepFact::Killed),
            139 => Some(StepFact::Crashed),
            130 | 143 => Some(StepFact::Ended),
            _ => None,
        }
    }

    fn no_program(&self, first_line: &FirstLine<'_>) -> StepFact {
        let missing =
            if self.not_started { self.step.args.first().cloned() } else { missing_program(self.output) };
        let Some(program) = missing else { return StepFact::ProgramUnknown };
        if self.find(&program).is_some() {
            return self.bad_interpreter(&program, first_line);
        }
        let is_shell = SHELLS.iter().any(|shell| Path::new(&program).ends_with(shell));
        if self.not_started && is_shell {
            let other = ["/bin/sh", "/bin/bash"].into_iter().find(|other| self.find(other).is_some());
            return StepFact::ShellMissing { shell: program, other };
        }
        self.absent(&program)
    }

    /// A script whose first line names what the image does not have.
    fn bad_interpreter(&self, program: &str, first_line: &FirstLine<'_>) -> StepFact {
        let line = self.find(program).and_then(|path| first_line(&path)).unwrap_or_default();
        let program = program.to_owned();
        let Some(interpreter) = line.strip_prefix(b"#!") else { return StepFact::LoaderMissing { program } };
        let text = String::from_utf8_lossy(interpreter).into_owned();
        let interpreter = text.split_whitespace().next().unwrap_or_default().to_owned();
        StepFact::InterpreterMissing { program, interpreter }
    }

    fn not_executable(&self, first_line: &FirstLine<'_>) -> StepFact {
        let named =
            if self.not_started { self.step.args.first().cloned() } else { refused_program(self.output) };
        let Some((program, path)) =
            named.clone().and_then(|program| Some((program.clone(), self.find(&program)?)))
        else {
            return StepFact::NotExecutable { program: named };
        };
        let mode = self.tree.lookup(&path).map_or(0, |id| self.tree.node(id).metadata.mode);
        if self.tree.lookup(&path).is_some_and(|id| self.tree.is_directory(id)) {
            return StepFact::ProgramIsDirectory { program };
        }
        if mode & 0o111 == 0 {
            return StepFact::NoExecuteBit { program, mode: mode & 0o7777 };
        }
        match first_line(&path) {
            Some(line) if line.starts_with(b"#!") || line.starts_with(b"\x7fELF") => {
                StepFact::ExecutionDenied { program }
            }
            _ => StepFact::NoInterpreterLine { program },
        }
    }

    fn said(&self) -> Vec<StepFact> {
        let lower = self.output.to_lowercase();
        let is_offline = self.step.network == StepNetwork::None;
        let fitting = TEXTS.iter().filter(|(texts, _)| texts.iter().any(|text| lower.contains(text)));
        let fitting: Vec<Symptom> = fitting.take(3).map(|(_, symptom)| *symptom).collect();
        // What one shell cannot read may be written for another one.
        let needs_bash = fitting.contains(&Symptom::NeedsBash);
        let told = fitting.into_iter().filter(|symptom| !(needs_bash && *symptom == Symptom::Unreadable));
        let fact = |symptom| match symptom {
            Symptom::NeedsRoot if self.is_root() => {
                StepFact::RootDenied { drops_capabilities: self.drops_capabilities }
            }
            Symptom::NoNetwork if is_offline => StepFact::NoNetwork,
            symptom => StepFact::Said(symptom),
        };
        let cd = has_lone_cd(self.dockerfile, &self.step.command).then_some(StepFact::LoneCd);
        told.map(fact).chain(cd).collect()
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
