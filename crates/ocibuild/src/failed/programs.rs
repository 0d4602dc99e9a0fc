//! Programs that a command names: what they are, and what is there instead of those that an image lacks.

use std::path::{Path, PathBuf};

use ocibuild_dockerfile::is_instruction;
use ocibuild_snapshot::NodeKind;
use ocibuild_spec::Platform;

use super::{FailedStep, SHELLS};
use crate::failure::StepFact;

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

    /// A program that does not exist.
    pub(super) fn absent(&self, program: &str) -> StepFact {
        if let Some(fact) = self.no_program_word(program).or_else(|| self.misread(program)) {
            return fact;
        }
        if program.contains('/') { self.absent_path(program) } else { self.absent_name(program) }
    }

    /// A program that exists, but not where it is looked for; a command of another shell; a word that the shell made.
    fn misread(&self, program: &str) -> Option<StepFact> {
        let command = self.step.args.last().map_or("", String::as_str);
        let owned = || program.to_owned();
        if self.is_exec() && OF_SHELLS.contains(&program) {
            return Some(StepFact::ShellCommand { program: owned(), command: self.step.args.join(" ") });
        }
        if matches!(program, "source" | "[[" | "shopt" | "declare" | "pushd" | "popd") {
            let shell = self.step.args.first().map_or("sh", String::as_str).to_owned();
            return Some(StepFact::BashCommand { program: owned(), shell });
        }
        if command.contains(&format!("{program} = ")) {
            return Some(StepFact::SpacedAssignment { name: owned() });
        }
        if command.contains('\\') && !command.contains(program) && command.replace('\\', "").contains(program)
        {
            return Some(StepFact::Backslashes { program: owned() });
        }
        if program.contains('/') {
            return None;
        }
        if let Some(place) = self.find_on(USUAL_PATH, program) {
            return Some(StepFact::NotOnPath { place, path: self.path().to_owned() });
        }
        let is_beside = self.tree.lookup(&Path::new(&self.step.cwd).join(program)).is_some();
        is_beside.then(|| StepFact::InDirectory { program: owned(), directory: self.step.cwd.clone() })
    }

    fn absent_path(&self, program: &str) -> StepFact {
        let path = Path::new(&self.step.cwd).join(program);
        let in_context = self.context_path(&path);
        let nearest = match in_context {
            Some(_) => None,
            None => self.near_path(&path).or_else(|| self.same_name(&path)),
        };
        let directory = (!program.starts_with('/')).then(|| self.step.cwd.clone());
        StepFact::ProgramPathMissing { program: program.to_owned(), directory, in_context, nearest }
    }

    fn absent_name(&self, program: &str) -> StepFact {
        let alternative = ALTERNATIVES.iter().find_map(|(one, other)| match program {
            _ if program == *one => Some(*other),
            _ if program == *other => Some(*one),
            _ => None,
        });
        let alternative = alternative.filter(|other| self.find_on(USUAL_PATH, other).is_some());
        // A name with a dot is one of a script more often than one of a program.
        let script = || {
            let path = program.contains('.').then(|| Path::new("/").join(program))?;
            self.same_name(&path).map(|path| path.display().to_string())
        };
        let nearest = match alternative {
            Some(_) => None,
            None => script().or_else(|| self.similar(program)),
        };
        StepFact::ProgramMissing {
            program: program.to_owned(),
            manager: self.manager(),
            alternative,
            nearest,
        }
    }

    /// What a word is that stands where a program should.
    fn no_program_word(&self, word: &str) -> Option<StepFact> {
        let owned = word.to_owned();
        if word == word.to_uppercase() && is_instruction(word) {
            let is_first =
                self.step.args.last().is_some_and(|command| command.trim_start().starts_with(word));
            return Some(StepFact::InstructionWord { word: owned, is_first });
        }
        if word.starts_with("--") {
            return Some(StepFact::FlagWord { word: owned });
        }
        if word.starts_with('[') && !matches!(word, "[" | "[[") {
            return Some(StepFact::BracketWord { word: owned });
        }
        if word.contains(char::is_whitespace) {
            let list = self.is_exec().then(|| self.step.args.join(" "));
            return Some(StepFact::CommandWord { word: owned, list });
        }
        None
    }

    /// What one of the files is that the command runs, where that alone is a reason to fail.
    pub(super) fn files(&self, first_line: &FirstLine<'_>) -> Option<StepFact> {
        self.programs().into_iter().find_map(|program| {
            let line = self.find(&program).and_then(|path| first_line(&path))?;
            if line.starts_with(b"\xef\xbb\xbf#!") {
                return Some(StepFact::ByteOrderMark { program });
            }
            if line.starts_with(b"#!") && line.ends_with(b"\r") {
                let interpreter = String::from_utf8_lossy(&line[2..]).trim_start().to_owned();
                return Some(StepFact::WindowsLineEnds { program, interpreter });
            }
            let host = Platform::host();
            let is_own = |other: &str| host.compatible().iter().any(|own| own.architecture == other);
            let architecture = elf_architecture(&line).filter(|other| self.code >= 126 && !is_own(other))?;
            Some(StepFact::OtherArchitecture { program, architecture, host: host.architecture })
        })
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
