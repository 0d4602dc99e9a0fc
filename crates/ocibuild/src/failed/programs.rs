//! Programs that a command names: what they are, and what to do about those that an image lacks.

use std::path::{Path, PathBuf};

use ocibuild_dockerfile::is_instruction;
use ocibuild_plan::quote;
use ocibuild_snapshot::NodeKind;
use ocibuild_spec::Platform;

use super::{FailedStep, SHELLS};
use crate::advice::{Hint, Setting};
use crate::error::Error;

/// Package managers, and how each installs something.
const MANAGERS: [(&str, &str); 8] = [
    ("apk", "apk add --no-cache"),
    ("apt-get", "apt-get update && apt-get install -y"),
    ("microdnf", "microdnf install -y"),
    ("dnf", "dnf install -y"),
    ("yum", "yum install -y"),
    ("zypper", "zypper install -y"),
    ("pacman", "pacman -Sy --noconfirm"),
    ("apt", "apt-get update && apt-get install -y"),
];

/// Programs of which an image often has the other one.
const ALTERNATIVES: [(&str, &str); 9] = [
    ("useradd", "adduser"),
    ("groupadd", "addgroup"),
    ("python", "python3"),
    ("pip", "pip3"),
    ("curl", "wget"),
    ("vim", "vi"),
    ("node", "nodejs"),
    ("gcc", "cc"),
    ("bash", "sh"),
];

/// Commands that a shell carries out itself.
const OF_SHELLS: [&str; 10] =
    ["cd", "export", "source", "set", "alias", "umask", "ulimit", "eval", "exit", "."];

/// Where programs usually are.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Reads the first line of a file of the image.
pub(super) type FirstLine<'a> = dyn Fn(&Path) -> Option<Vec<u8>> + 'a;

impl FailedStep<'_> {
    /// Whether the file system has a program, and where: by its path, or on the `PATH`.
    pub(super) fn find(&self, program: &str) -> Option<PathBuf> {
        if program.contains('/') {
            let resolved = self.tree.resolve(&Path::new(&self.step.cwd).join(program), true).ok()?;
            return resolved.node.map(|_| resolved.path);
        }
        self.find_on(self.path(), program)
    }

    pub(super) fn path(&self) -> &str {
        self.step.env.iter().rev().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value)
    }

    fn find_on(&self, path: &str, program: &str) -> Option<PathBuf> {
        path.split(':').find_map(|directory| {
            let resolved = self.tree.resolve(&Path::new(directory).join(program), true).ok()?;
            let is_file = matches!(self.tree.node(resolved.node?).kind, NodeKind::File { .. });
            is_file.then(|| Path::new("/").join(resolved.path))
        })
    }

    /// The package manager of the image, and how it installs.
    fn manager(&self) -> Option<(&'static str, &'static str)> {
        MANAGERS.into_iter().find(|(name, _)| self.find_on(USUAL_PATH, name).is_some())
    }

    /// A program that is not there.
    pub(super) fn absent(&self, error: Error, program: &str) -> Error {
        if let Some((cause, hints)) = self.no_program_word(program).or_else(|| self.misread(program)) {
            return hints.into_iter().fold(error.cause(cause), Error::hint);
        }
        if program.contains('/') {
            self.absent_path(error, program)
        } else {
            self.absent_name(error, program)
        }
    }

    /// A program that is there, but not where it is looked for; a command of another shell; a word that the shell made.
    fn misread(&self, program: &str) -> Option<(String, Vec<String>)> {
        let command = self.step.args.last().map_or("", String::as_str);
        if self.is_exec() && OF_SHELLS.contains(&program) {
            return Some((
                format!("{program} is a command of the shell, and a JSON list has none"),
                vec![format!(
                    "leave the brackets out, so that a shell runs it: RUN {}",
                    self.step.args.join(" ")
                )],
            ));
        }
        if matches!(program, "source" | "[[" | "shopt" | "declare" | "pushd" | "popd") {
            let shell = self.step.args.first().map_or("sh", String::as_str);
            return Some((
                format!("{program} is a command of bash, and the step is run by {shell}"),
                vec!["write SHELL [\"/bin/bash\", \"-c\"] in front if the image has bash; sh has `.` for source and `[` for [["
                    .to_owned()],
            ));
        }
        if command.contains(&format!("{program} = ")) {
            return Some((
                format!("{program} is taken for a program"),
                vec![format!("no blanks stand around the \"=\" in a shell: {program}=VALUE")],
            ));
        }
        if command.contains('\\') && !command.contains(program) && command.replace('\\', "").contains(program)
        {
            return Some((
                format!("the shell takes the backslashes away, so that {program} is left"),
                vec!["write paths with slashes: ./dir/file".to_owned()],
            ));
        }
        if program.contains('/') {
            return None;
        }
        if let Some(place) = self.find_on(USUAL_PATH, program) {
            return Some((
                format!("{} is there, but PATH is {}", place.display(), quote(self.path())),
                vec![format!("keep what PATH was: ENV PATH={}:$PATH", self.path().trim_matches(':'))],
            ));
        }
        let is_beside = self.tree.lookup(&Path::new(&self.step.cwd).join(program)).is_some();
        is_beside.then(|| {
            (
                format!("{program} is in {}, which is not on the PATH", self.step.cwd),
                vec![format!("write ./{program}")],
            )
        })
    }

    fn absent_path(&self, error: Error, program: &str) -> Error {
        let error = error.cause(if program.starts_with('/') {
            format!("the image has no program {program}")
        } else {
            format!("there is no program {program} in {}", self.step.cwd)
        });
        let path = Path::new(&self.step.cwd).join(program);
        if let Some(own) = self.context_path(&path) {
            return error.hint(format!(
                "{own} is in the build context: put COPY --chmod=755 {own} {program} in front of this RUN"
            ));
        }
        let error = match self.near_path(&path).or_else(|| self.same_name(&path)) {
            Some(other) => error.hint(format!("did you mean {}?", other.display())),
            None => error,
        };
        error.hint(format!("COPY {program} in, install it in an earlier RUN, or check its path"))
    }

    fn absent_name(&self, error: Error, program: &str) -> Error {
        let error = error.cause(format!("the image has no program {program}"));
        if let Some(hint) = self.instead(program) {
            return error.hint(hint);
        }
        let other = ALTERNATIVES.iter().find_map(|(one, other)| match program {
            _ if program == *one => Some(*other),
            _ if program == *other => Some(*one),
            _ => None,
        });
        let error = if let Some(other) = other.filter(|other| self.find_on(USUAL_PATH, other).is_some()) {
            error.hint(format!("this image has {other}"))
        } else {
            // A name with a dot is one of a script more often than one of a program.
            let script = program.contains('.').then(|| Path::new("/").join(program));
            let script = script.and_then(|path| self.same_name(&path));
            match script.map(|path| path.display().to_string()).or_else(|| self.similar(program)) {
                Some(near) => error.hint(format!("did you mean {near}?")),
                None => error,
            }
        };
        error.hint(match self.manager() {
            Some((_, install)) => format!(
                "install {program} in an earlier RUN (`{install} PACKAGE`), COPY it in, or check its name"
            ),
            None => format!("install {program} in an earlier RUN, COPY it in, or check its name and path"),
        })
    }

    /// What to do in place of a program that no build needs.
    fn instead(&self, program: &str) -> Option<String> {
        if MANAGERS.iter().any(|(name, _)| *name == program) {
            return Some(match self.manager() {
                Some((name, install)) => format!("this image has {name}: use `{install} PACKAGE`"),
                None => "this image has no package manager: choose a base image that has one, or COPY what is needed"
                    .to_owned(),
            });
        }
        match program {
            "sudo" => Some(
                "leave sudo out: RUN is root unless USER says otherwise; put USER root in front of it"
                    .to_owned(),
            ),
            "systemctl" | "service" | "systemd" | "initctl" => Some(format!(
                "leave {program} out: a build starts no services; name what the container is to run with CMD"
            )),
            "docker" | "podman" | "docker-compose" => Some(format!(
                "leave {program} out: steps cannot build or run images; give each image a stage (FROM … AS …)"
            )),
            _ => None,
        }
    }

    /// What a word is that stands where a program should, and what to do about it.
    pub(super) fn no_program_word(&self, word: &str) -> Option<(String, Vec<String>)> {
        if word == word.to_uppercase() && is_instruction(word) {
            return Some((
                format!("{word} is an instruction, and here a part of the command of this RUN"),
                vec![
                    if self.step.args.last().is_some_and(|command| command.trim_start().starts_with(word)) {
                        match word {
                            "RUN" => "write RUN once".to_owned(),
                            _ => format!("leave RUN out in front of {word}"),
                        }
                    } else {
                        format!(
                            "put {word} on a line of its own, and end the line above without a backslash and `&&`"
                        )
                    },
                ],
            ));
        }
        if word.starts_with("--") {
            return Some((
                format!("{word} is taken for a program"),
                vec![format!(
                    "flags of RUN stand right behind RUN, in front of the command: RUN {word} COMMAND"
                )],
            ));
        }
        if word.starts_with('[') && !matches!(word, "[" | "[[") {
            return Some((
                format!("{word} is taken for a program"),
                vec!["put blanks behind \"[\" and in front of \"]\": [ \"$A\" = \"x\" ]".to_owned()],
            ));
        }
        if word.contains(char::is_whitespace) {
            return Some((
                format!("{} is taken for the name of one program", quote(word)),
                if self.is_exec() {
                    vec![
                        format!(
                            "leave the brackets out, so that a shell runs it: RUN {}",
                            self.step.args.join(" ")
                        ),
                        "or make each word a string of its own: RUN [\"program\", \"argument\"]".to_owned(),
                    ]
                } else {
                    vec![format!("leave the quotes around the whole command out: RUN {word}")]
                },
            ));
        }
        None
    }

    /// What the files that the command runs are, where that alone is a reason to fail.
    pub(super) fn with_files(&self, error: Error, first_line: &FirstLine<'_>) -> Result<Error, Error> {
        for program in self.programs() {
            let Some(line) = self.find(&program).and_then(|path| first_line(&path)) else { continue };
            if line.starts_with(b"\xef\xbb\xbf#!") {
                return Ok(error
                    .cause(format!(
                        "{program} begins with a byte order mark, so that its first line is not seen"
                    ))
                    .hint(format!("save {program} as UTF-8 without a byte order mark (BOM)")));
            }
            if line.starts_with(b"#!") && line.ends_with(b"\r") {
                let text = String::from_utf8_lossy(&line[2..]).into_owned();
                return Ok(error
                    .cause(format!(
                        "{program} has Windows line ends (CRLF): its first line asks for {}",
                        quote(text.trim_start())
                    ))
                    .hint(format!(
                        "save {program} with Unix line ends (LF): dos2unix, or `sed -i 's/\\r$//' {program}` in a RUN before"
                    )));
            }
            let host = Platform::host();
            let is_own = |other: &str| host.compatible().iter().any(|own| own.architecture == other);
            if let Some(other) = elf_architecture(&line).filter(|other| self.code >= 126 && !is_own(other)) {
                return Ok(error
                    .cause(format!(
                        "{program} is a program for {other}, and this host is {}",
                        host.architecture
                    ))
                    .hint(
                        Hint::from(
                            "build or fetch the program for the platform of the image, or choose that with ",
                        )
                        .setting(Setting::Platform, ""),
                    ));
            }
        }
        Err(error)
    }

    /// What the command calls, as far as its text tells without a shell's knowledge: the first word of each part, and
    /// the script that a shell is given.
    fn programs(&self) -> Vec<String> {
        let parts: Vec<Vec<String>> = if self.is_exec() {
            vec![self.step.args.clone()]
        } else {
            let text = self.step.args.last().map_or("", String::as_str);
            let words = |part: &str| part.split_whitespace().map(str::to_owned).collect();
            text.split(['&', ';', '|', '\n']).map(words).collect()
        };
        let mut programs = Vec::new();
        for words in parts {
            let mut words = words.iter().filter(|word| !word.contains('='));
            let Some(first) = words.next() else { continue };
            let is_shell = SHELLS.iter().any(|shell| Path::new(first).ends_with(shell));
            let script = if is_shell { words.find(|word| !word.starts_with('-')) } else { None };
            programs.extend([Some(first), script].into_iter().flatten().cloned());
        }
        programs
    }
}

/// The architecture of an ELF file that begins so.
fn elf_architecture(begin: &[u8]) -> Option<&'static str> {
    let rest = begin.strip_prefix(b"\x7fELF")?;
    let (order, machine) = (*rest.get(1)?, rest.get(14..16)?);
    let machine: [u8; 2] = machine.try_into().ok()?;
    let machine = if order == 1 { u16::from_le_bytes(machine) } else { u16::from_be_bytes(machine) };
    Some(match machine {
        3 => "386",
        21 => "ppc64le",
        22 => "s390x",
        40 => "arm",
        62 => "amd64",
        183 => "arm64",
        243 => "riscv64",
        _ => return None,
    })
}
