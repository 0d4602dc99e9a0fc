//! About commands that failed.

use ocibuild_executor::Exceeded;
use ocibuild_plan::quote;

use super::{Hint, Setting};
use crate::failure::{KeptStep, SearchedPlace, StepFact, StepFailure, Symptom, UnsetReason, VariableValue};

/// Programs that install packages: a step that misses one is on another system than its author thought.
const MANAGERS: [&str; 8] = ["apk", "apt-get", "microdnf", "dnf", "yum", "zypper", "pacman", "apt"];

/// Why the command failed, and what can be done.
pub(crate) fn step(failure: &StepFailure) -> (Vec<String>, Vec<Hint>) {
    let causes = failure.facts.iter().filter_map(cause).collect();
    let (first, others): (Vec<&StepFact>, Vec<&StepFact>) =
        failure.facts.iter().partition(|fact| comes_first(fact));
    let mut all: Vec<Hint> = Vec::new();
    for hint in first.into_iter().chain(others).flat_map(hints) {
        if !all.contains(&hint) {
            all.push(hint);
        }
    }
    (causes, all)
}

/// The same of one fact.
pub(crate) fn fact(fact: &StepFact) -> (Option<String>, Vec<Hint>) {
    (cause(fact), hints(fact))
}

/// Whether its hint comes before those of all other facts: a path that is known is better than a guess.
fn comes_first(fact: &StepFact) -> bool {
    matches!(fact, StepFact::ParentMissing { .. } | StepFact::PathMissing { .. })
}

fn cause(fact: &StepFact) -> Option<String> {
    Some(match fact {
        StepFact::ConfusableSpace { code } => {
            format!("the command contains {code}, which looks like a space but is not one")
        }
        StepFact::NoShell { word, .. } => {
            format!("no shell runs a JSON list: {word} is passed to the program as it is written")
        }
        StepFact::BrokenJson { fault } => {
            format!("the command looks like a JSON list but is not one, so a shell ran it: {fault}")
        }
        StepFact::ShellWithoutFlag { shell } => {
            format!("SHELL [{}] has no \"-c\", so the shell takes the command for a script", quote(shell))
        }
        StepFact::LeadingFlag { word } => {
            format!("the command begins with {word}, which the shell takes for a flag of its own")
        }
        StepFact::SecretAbsent { id, .. } => {
            format!("the secret {id} was not given to the build, so it is not mounted")
        }
        StepFact::NotRoot { user } => format!("the step runs as USER {user}, which is not root"),
        StepFact::Variables(all) => {
            let shown: Vec<String> =
                all.iter().map(|(name, value)| format!("{name}={}", shown(value))).collect();
            format!("the command ran with {}", shown.join(", "))
        }
        StepFact::Unset { name, .. } => format!("{name} has no value in this step"),
        StepFact::Exceeded(exceeded) => met(*exceeded)?,
        StepFact::LoaderMissing { program } => format!("{program} exists, but what it needs to run does not"),
        StepFact::InterpreterMissing { program, interpreter } => {
            format!("{program} asks for the interpreter {interpreter}, which the image does not have")
        }
        StepFact::ShellMissing { shell, .. } => format!("the image has no {shell}"),
        StepFact::InstructionWord { word, .. } => {
            format!("{word} is an instruction, but here it is part of the command of this RUN")
        }
        StepFact::FlagWord { word } | StepFact::BracketWord { word } => {
            format!("{word} is taken for a program")
        }
        StepFact::CommandWord { word, .. } => format!("{} is taken for the name of one program", quote(word)),
        StepFact::ShellCommand { program, .. } => {
            format!("{program} is a command of the shell, and no shell runs a JSON list")
        }
        StepFact::BashCommand { program, shell } => {
            format!("{program} is a command of bash, but the step is run by {shell}")
        }
        StepFact::SpacedAssignment { name } => format!("{name} is taken for a program"),
        StepFact::Backslashes { program } => {
            format!("the shell removes the backslashes, which leaves {program}")
        }
        StepFact::NotOnPath { place, path } => {
            format!("{} exists, but PATH is {}", place.display(), quote(path))
        }
        StepFact::InDirectory { program, directory } => {
            format!("{program} is in {directory}, which is not on the PATH")
        }
        StepFact::ProgramPathMissing { program, directory: Some(directory), .. } => {
            format!("{directory} has no program {program}")
        }
        StepFact::ProgramPathMissing { program, .. } | StepFact::ProgramMissing { program, .. } => {
            format!("the image has no program {program}")
        }
        StepFact::ProgramIsDirectory { program } => format!("{program} is a directory"),
        StepFact::NoExecuteBit { program, mode } => format!("{program} has mode {mode:04o}, without x"),
        StepFact::ByteOrderMark { program } => {
            format!("{program} begins with a byte order mark, which hides its first line")
        }
        StepFact::WindowsLineEnds { program, interpreter } => {
            format!("{program} has Windows line ends (CRLF): its first line asks for {}", quote(interpreter))
        }
        StepFact::OtherArchitecture { program, architecture, host } => {
            format!("{program} is a program for {architecture}, and this host is {host}")
        }
        StepFact::PathNotFound { path } => format!("the command does not find {path}"),
        StepFact::ParentMissing { path, parent } => {
            format!("{path} cannot be created: {} does not exist", parent.display())
        }
        StepFact::PathMissing { path, place, .. } => match place {
            SearchedPlace::Image => format!("the image has no {path}"),
            SearchedPlace::Elsewhere => format!("{path} does not exist where the command looks for it"),
            SearchedPlace::Directory(directory) => {
                format!("{path} does not exist in {directory}, where the command starts")
            }
        },
        StepFact::LastWords { line } => format!("the command says: {line}"),
        StepFact::Silent => "the command printed nothing".to_owned(),
        StepFact::Kept(KeptStep { left_out, .. }) if !left_out.is_empty() => {
            let all: Vec<String> = left_out.iter().map(ToString::to_string).collect();
            format!("the step is kept without {}", all.join(", "))
        }
        StepFact::NotEntered { reason } => format!("the step cannot be entered: {reason}"),
        StepFact::NotKept { reason } => format!("the files of the step cannot be kept: {reason}"),
        _ => return None,
    })
}

/// Which limit was met.
fn met(exceeded: Exceeded) -> Option<String> {
    Some(match exceeded {
        Exceeded::Memory { bytes } => {
            format!("a process was killed for memory: the limit of the step is {}", size(bytes))
        }
        Exceeded::MemoryAround { bytes: Some(bytes) } => format!(
            "a process was killed for memory while the step ran: what runs here may use {} together",
            size(bytes)
        ),
        Exceeded::MemoryAround { bytes: None } => {
            "a process was killed for memory while the step ran".to_owned()
        }
        Exceeded::Processes { limit } => {
            format!("no process could be made: the limit of the step is {limit} processes and threads")
        }
        _ => return None,
    })
}

fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, shift)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    unit.map_or_else(|| format!("{bytes} bytes"), |(name, shift)| format!("{} {name}", bytes >> shift))
}

/// A word as a shell takes it.
fn shell_word(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,=".contains(&byte);
    if word.bytes().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

fn shown(value: &VariableValue) -> String {
    match value {
        VariableValue::Shown(value) => quote(value),
        VariableValue::Hidden => "(not shown)".to_owned(),
        VariableValue::Secret => "(secret)".to_owned(),
    }
}

fn hints(fact: &StepFact) -> Vec<Hint> {
    match fact {
        StepFact::Emulation { emulation, platform } => vec![emulation.advice(platform).into()],
        StepFact::SecretAbsent { id, nearest } => secret(id, nearest.as_deref()),
        StepFact::Kept(KeptStep { bundle, shell, .. }) => {
            let shell = shell.as_deref().unwrap_or_default();
            let command = format!("{} {shell}", shell_word(&bundle.display().to_string()));
            vec![
                Hint::from("the files that the step left are kept: enter them with ")
                    .setting(Setting::KeptStep, command.trim_end()),
            ]
        }
        StepFact::Exceeded(Exceeded::Memory { .. }) => {
            vec![Hint::from("give the step more memory with ").setting(Setting::Memory, "")]
        }
        StepFact::Exceeded(Exceeded::Processes { .. }) => {
            vec![Hint::from("let the step have more with ").setting(Setting::Processes, "")]
        }
        StepFact::Exceeded(_) => {
            vec!["give this container, pod or host more memory, or run fewer jobs in the step".into()]
        }
        StepFact::Unset { name, reason } => vec![unset(name, reason)],
        StepFact::ShellMissing { shell, other } => no_shell(shell, *other),
        StepFact::ProgramMissing { .. } => no_program(fact),
        StepFact::ProgramPathMissing { program, in_context: Some(own), .. } => vec![
            format!("{own} is in the build context: put COPY --chmod=755 {own} {program} before this RUN")
                .into(),
        ],
        StepFact::ProgramPathMissing { program, nearest, .. } => {
            let near = nearest.as_ref().map(|near| format!("did you mean {}?", near.display()));
            let otherwise = format!("COPY {program} in, install it in an earlier RUN, or check its path");
            near.into_iter().chain([otherwise]).map(Hint::from).collect()
        }
        StepFact::CommandWord { list: Some(command), .. } => vec![
            without_brackets(command).into(),
            "or make each word a string of its own: RUN [\"program\", \"argument\"]".into(),
        ],
        StepFact::PathMissing { in_context: Some(own), .. } => {
            vec![format!("{own} is in the build context: put COPY {own} ./ before this RUN").into()]
        }
        StepFact::PathMissing { nearest, .. } => {
            nearest.iter().map(|near| format!("did you mean {}?", near.display()).into()).collect()
        }
        StepFact::OtherArchitecture { .. } => vec![
            Hint::from("build or fetch the program for the platform of the image, or choose that with ")
                .setting(Setting::Platform, ""),
        ],
        StepFact::Said(symptom) => vec![said(*symptom)],
        StepFact::RootDenied { drops_capabilities: true } => {
            vec![
                "the step runs as root, but this build drops capabilities, and what failed may need one"
                    .into(),
            ]
        }
        StepFact::RootDenied { .. } => vec![
            Hint::from(
                "the step runs as root, but steps may not do that: it needs RUN --security=insecure, and ",
            )
            .setting(Setting::Allow, "security.insecure"),
        ],
        fact => plain(fact).map(Hint::from).into_iter().collect(),
    }
}

/// Hints of one text.
fn plain(fact: &StepFact) -> Option<String> {
    Some(match fact {
        StepFact::ConfusableSpace { .. } => "replace it with a plain space".to_owned(),
        StepFact::NoShell { command, .. } | StepFact::ShellCommand { command, .. } => without_brackets(command),
        StepFact::BrokenJson { .. } => {
            "write straight double quotes, with commas between the strings: [\"program\", \"argument\"]".to_owned()
        }
        StepFact::ShellWithoutFlag { shell } => format!("write SHELL [{}, \"-c\"]", quote(shell)),
        StepFact::LeadingFlag { .. } => {
            "the flags of RUN are --mount, --network, --security and --device; a command begins with a program"
                .to_owned()
        }
        StepFact::NotRoot { user } => format!(
            "put this RUN before USER {user}, or give that user the files: COPY --chown={user}, RUN chown {user}"
        ),
        StepFact::Killed => {
            "the process was killed (SIGKILL): is there enough memory? Give the host more, or run fewer jobs".to_owned()
        }
        StepFact::Crashed => {
            "the program crashed (SIGSEGV): is it for this architecture and this C library?".to_owned()
        }
        StepFact::Ended => "something outside ended the process".to_owned(),
        StepFact::LoaderMissing { .. } => {
            "it is linked to libraries or a loader that the image lacks: build it statically, or for this image"
                .to_owned()
        }
        StepFact::InterpreterMissing { program, interpreter } => format!(
            "install {interpreter} in an earlier RUN, or change the first line of {program}, for example to #!/bin/sh"
        ),
        StepFact::ProgramUnknown => {
            "the shell did not find a program: install it in an earlier RUN, or check its name".to_owned()
        }
        StepFact::InstructionWord { word, is_first: true } if word == "RUN" => "write RUN once".to_owned(),
        StepFact::InstructionWord { word, is_first: true } => format!("remove RUN before {word}"),
        StepFact::InstructionWord { word, .. } => {
            format!("put {word} on a line of its own, and end the line above without a backslash and `&&`")
        }
        StepFact::FlagWord { word } => {
            format!("flags of RUN come directly after RUN, before the command: RUN {word} COMMAND")
        }
        StepFact::BracketWord { .. } => {
            "put spaces after \"[\" and before \"]\": [ \"$A\" = \"x\" ]".to_owned()
        }
        StepFact::CommandWord { word, .. } => {
            format!("remove the quotes around the whole command: RUN {word}")
        }
        StepFact::BashCommand { .. } => {
            "write SHELL [\"/bin/bash\", \"-c\"] above if the image has bash; sh has `.` for source and `[` for [["
                .to_owned()
        }
        StepFact::SpacedAssignment { name } => {
            format!("a shell takes no spaces around the \"=\": {name}=VALUE")
        }
        StepFact::Backslashes { .. } => "write paths with slashes: ./dir/file".to_owned(),
        StepFact::NotOnPath { path, .. } => {
            format!("keep what PATH was: ENV PATH={}:$PATH", path.trim_matches(':'))
        }
        StepFact::InDirectory { program, .. } => format!("write ./{program}"),
        StepFact::NotExecutable { program: None } => {
            "the program cannot be executed: make it executable with RUN chmod +x or COPY --chmod=755".to_owned()
        }
        StepFact::NotExecutable { program: Some(program) } => {
            format!("check {program}: it cannot be executed; chmod +x, or COPY --chmod=755")
        }
        StepFact::ProgramIsDirectory { .. } => "name a program in it".to_owned(),
        StepFact::NoExecuteBit { program, .. } => {
            format!("make it executable: COPY --chmod=755, or RUN chmod +x {program} before")
        }
        StepFact::ExecutionDenied { program } => format!(
            "{program} is for another architecture, or the USER in effect may not execute it: check FROM --platform= and USER"
        ),
        StepFact::NoInterpreterLine { program } => {
            format!("{program} has no first line like #!/bin/sh: add one, or run it as `sh {program}`")
        }
        StepFact::ByteOrderMark { program } => {
            format!("save {program} as UTF-8 without a byte order mark (BOM)")
        }
        StepFact::WindowsLineEnds { program, .. } => format!(
            "save {program} with Unix line ends (LF): dos2unix, or `sed -i 's/\\r$//' {program}` in a RUN before"
        ),
        StepFact::NoNetwork => {
            "the step has no network (--network=none): remove that, or bring the files with COPY or ADD".to_owned()
        }
        StepFact::LoneCd => "`RUN cd DIR` lasts until the end of its own RUN only: use WORKDIR DIR".to_owned(),
        StepFact::ParentMissing { .. } => "create the directories above as well: mkdir -p".to_owned(),
        StepFact::Silent => "put `set -x;` before the command to see which part of it fails".to_owned(),
        _ => return None,
    })
}

fn without_brackets(command: &str) -> String {
    format!("remove the brackets, so that a shell runs it: RUN {command}")
}

fn secret(id: &str, nearest: Option<&str>) -> Vec<Hint> {
    let give = Hint::from("give it with ").setting(Setting::Secret, format!("id={id},src=FILE"));
    let near = nearest.map(|near| format!("did you mean id={near}? That secret is given").into());
    [give].into_iter().chain(near).collect()
}

fn unset(name: &str, reason: &UnsetReason) -> Hint {
    match reason {
        UnsetReason::Global => {
            format!("ARG {name} is declared before FROM: repeat `ARG {name}` in this stage to use it").into()
        }
        UnsetReason::Misspelt(known) => format!("did you mean ${known}?").into(),
        UnsetReason::NoDefault => Hint::from("give it a value: ")
            .setting(Setting::BuildArg, format!("{name}=VALUE"))
            .text(format!(", or a default in ARG {name}=VALUE")),
        UnsetReason::OtherStep => {
            format!("a variable set by a RUN lasts until the end of that RUN only: use ENV {name}=VALUE")
                .into()
        }
        UnsetReason::Undeclared => {
            format!("declare it in this stage: ARG {name}=VALUE or ENV {name}=VALUE").into()
        }
    }
}

fn no_shell(shell: &str, other: Option<&str>) -> Vec<Hint> {
    if let Some(other) = other {
        return vec![
            format!(
                "use the shell that it has, SHELL [\"{other}\", \"-c\"], or install {shell} in an earlier RUN"
            )
            .into(),
        ];
    }
    vec![
        "choose a base image with a shell, or COPY one in; FROM scratch is empty".into(),
        "without a shell write RUN [\"/program\", \"argument\"], or name another with SHELL [\"/busybox\", \"sh\", \"-c\"]"
            .into(),
    ]
}

/// What to do about a program that the image does not have.
fn no_program(fact: &StepFact) -> Vec<Hint> {
    let StepFact::ProgramMissing { program, manager, alternative, nearest } = fact else { return Vec::new() };
    if let Some(text) = instead(program, *manager) {
        return vec![text.into()];
    }
    let similar = alternative.map(|other| format!("this image has {other}"));
    let similar = similar.or_else(|| nearest.as_ref().map(|near| format!("did you mean {near}?")));
    let install = match manager {
        Some((_, install)) => {
            format!(
                "install {program} in an earlier RUN (`{install} PACKAGE`), COPY it in, or check its name"
            )
        }
        None => format!("install {program} in an earlier RUN, COPY it in, or check its name and path"),
    };
    similar.into_iter().chain([install]).map(Hint::from).collect()
}

/// What to do instead of calling a program that no build needs.
fn instead(program: &str, manager: Option<(&str, &str)>) -> Option<String> {
    if MANAGERS.contains(&program) {
        return Some(match manager {
            Some((name, install)) => format!("this image has {name}: use `{install} PACKAGE`"),
            None => {
                "this image has no package manager: choose a base image that has one, or COPY what is needed"
                    .to_owned()
            }
        });
    }
    match program {
        "sudo" => {
            Some("remove sudo: RUN is root unless USER says otherwise; put USER root before it".to_owned())
        }
        "systemctl" | "service" | "systemd" | "initctl" => Some(format!(
            "remove {program}: a build starts no services; name what the container is to run with CMD"
        )),
        "docker" | "podman" | "docker-compose" => Some(format!(
            "remove {program}: steps cannot build or run images; give each image a stage (FROM … AS …)"
        )),
        _ => None,
    }
}

fn said(symptom: Symptom) -> Hint {
    let text = match symptom {
        Symptom::NoNetwork => {
            return Hint::from(
                "there is no network, or no name server: check the host's network and /etc/resolv.conf, or give ",
            )
            .setting(Setting::Network, "host");
        }
        Symptom::NoSpace => {
            return Hint::from("the disk is full: free space with ")
                .setting(Setting::Prune, "")
                .text(", or choose another ")
                .setting(Setting::StateDirectory, "");
        }
        Symptom::NeedsBash => "the command needs bash: SHELL [\"/bin/bash\", \"-c\"], if the image has it",
        Symptom::Unreadable => {
            "the shell cannot read the command: check quotes, `&&` at line ends, and the backslashes that continue lines"
        }
        Symptom::NeedsRoot => "run it as root: put USER root before the RUN",
        Symptom::ExecFormat => {
            "the program is for another architecture, or a script without a first line like #!/bin/sh: \
         look at the platform (FROM --platform=) and at the script"
        }
        Symptom::PackageLists => {
            "put `apt-get update &&` in front of `apt-get install` in the same RUN, and check the package's name"
        }
        Symptom::PackageName => "check the package's name; apk add --no-cache fetches a new list",
        Symptom::Question => "nobody can answer the question: add -y to the install command",
        Symptom::Debconf => "set DEBIAN_FRONTEND=noninteractive in the RUN, and add -y",
        Symptom::ReadOnly => {
            "the path is on a mount that is read-only: add rw to the --mount, or write elsewhere"
        }
        Symptom::ManagedPython => {
            "make a virtual environment first: python3 -m venv /venv, and use /venv/bin/pip"
        }
        Symptom::Certificates => "install ca-certificates in an earlier RUN",
        Symptom::SshKey => "give the step a key: RUN --mount=type=ssh, or use https",
        Symptom::Makefile => "COPY the Makefile first, and choose its directory with WORKDIR",
        Symptom::PackageLock => {
            "COPY package-lock.json too, as with `COPY package*.json ./`: npm ci needs it, npm install does not"
        }
        Symptom::NpmScript => {
            "check the script's name: the scripts of the package are listed under \"scripts\" in package.json"
        }
        Symptom::BracketSpaces => "put spaces after \"[\" and before \"]\": [ \"$A\" = \"x\" ]",
        Symptom::TestOperands => {
            "put variables in double quotes: [ \"$A\" = \"x\" ]; an unquoted empty one disappears"
        }
        Symptom::PythonVersion => "check the name and the version of the package",
        Symptom::PythonModule => {
            "install the module in an earlier RUN (pip install), or COPY it first if it is your own"
        }
        Symptom::NodeModule => "COPY the module first, or install the packages in an earlier RUN (npm ci)",
        Symptom::Compiler => {
            "install a compiler in an earlier RUN: build-essential on Debian, build-base on Alpine"
        }
        Symptom::Exists => {
            "it exists already: remove the command, or tolerate what exists (mkdir -p, ln -sf)"
        }
        Symptom::NotFoundAtServer => "the server has nothing at this address: check it",
        Symptom::Credentials => {
            "the server wants credentials: give them with RUN --mount=type=secret,id=NAME"
        }
        Symptom::RepositoryKey => "install the key of the package repository in an earlier RUN",
        Symptom::Systemd => "a build starts no services: name what the container is to run with CMD",
        Symptom::Docker => "steps have no docker daemon: give each image a stage of its own",
        Symptom::ConnectionRefused => "nothing listens at this address: check host and port",
        Symptom::TimedOut => "the server did not answer: check the address and the network, and try again",
        Symptom::DamagedArchive => {
            "the archive is damaged, or not of the kind that its name says: check the file that is copied in"
        }
        Symptom::UnknownUser => {
            "add the user or group in an earlier RUN (adduser, useradd), or give numeric ids"
        }
        Symptom::IsDirectory => "a directory is named where a file is needed: name a file in it",
        Symptom::PackageJson => "COPY package.json first, and choose its directory with WORKDIR",
        Symptom::Requirements => "COPY requirements.txt first, and choose its directory with WORKDIR",
        Symptom::GoMod => "COPY go.mod first, and choose its directory with WORKDIR",
        Symptom::CargoToml => "COPY Cargo.toml first, and choose its directory with WORKDIR",
        Symptom::NoDirectory => {
            "the directory does not exist: create or COPY it first, and choose it with WORKDIR"
        }
        Symptom::PermissionDenied => {
            "check the mode and owner of the file (COPY --chmod=755, --chown=) and the USER in effect"
        }
        Symptom::OutOfMemory => {
            "it needs more memory than there is: give the host more, or run fewer jobs at once"
        }
        Symptom::NoSuchFile => {
            "check the path: COPY brings files in, and WORKDIR is where the command starts"
        }
        Symptom::Gone => "the address is gone: check it, or put `apt-get update &&` in front in the same RUN",
    };
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_as_a_shell_takes_it() {
        for (path, word) in [("/var/lib/x-1/kept/2", "/var/lib/x-1/kept/2"), ("/a b/it's", "'/a b/it'\\''s'")]
        {
            assert_eq!(shell_word(path), word);
        }
    }

    #[test]
    fn a_path_that_is_known_comes_before_what_the_output_suggests() {
        let mut failure = StepFailure::new("cat app.py", 1, String::new());
        failure.facts = vec![
            StepFact::Said(Symptom::NoSuchFile),
            StepFact::PathMissing {
                path: "app.py".to_owned(),
                place: SearchedPlace::Directory("/src".to_owned()),
                in_context: None,
                nearest: Some("/src/apps.py".into()),
            },
        ];
        let (causes, hints) = step(&failure);
        assert_eq!(causes, ["app.py does not exist in /src, where the command starts"]);
        assert_eq!(hints[0].to_string(), "did you mean /src/apps.py?");
        assert_eq!(hints.len(), 2);
    }

    #[test]
    fn values_of_secrets_are_not_told() {
        let values = vec![
            ("A".to_owned(), VariableValue::Shown("x".to_owned())),
            ("B_TOKEN".to_owned(), VariableValue::Hidden),
            ("C".to_owned(), VariableValue::Secret),
        ];
        let cause = cause(&StepFact::Variables(values)).unwrap();
        assert_eq!(cause, "the command ran with A=\"x\", B_TOKEN=(not shown), C=(secret)");
    }
}
